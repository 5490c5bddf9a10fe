//! Names that Kubernetes takes.

/// The most letters of a name of ours, so that a suffix still fits into 63.
const LONGEST: usize = 52;

/// `name` as a label of DNS, by which Kubernetes names Services: small letters, digits and hyphens, a
/// letter first.
pub(crate) fn label(name: &str) -> String {
    let letters = name.chars().map(|sign| match sign.to_ascii_lowercase() {
        sign if sign.is_ascii_alphanumeric() => sign,
        _ => '-',
    });
    let mut label: String = letters.collect();
    label = label.trim_matches('-').to_owned();
    if !label.starts_with(|first: char| first.is_ascii_alphabetic()) {
        label = match label.as_str() {
            "" => "x".to_owned(),
            label => format!("x-{label}"),
        };
    }
    label.truncate(LONGEST);
    label.trim_end_matches('-').to_owned()
}

/// The name of a Compose project as Compose makes it of the name of a folder.
pub(crate) fn project(name: &str) -> String {
    let kept = name
        .chars()
        .map(|sign| sign.to_ascii_lowercase())
        .filter(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_'));
    let kept: String = kept.collect();
    let kept = kept.trim_start_matches(['-', '_']);
    match kept {
        "" => "compose".to_owned(),
        kept => kept.chars().take(LONGEST).collect(),
    }
}

/// A project's name as the value of a label, which may not end with a sign.
pub(crate) fn label_value(project: &str) -> String {
    project.trim_end_matches(['-', '_']).to_owned()
}

/// Whether `key` may be the key of an annotation: `[DOMAIN/]NAME`.
pub(crate) fn is_annotation(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    let ends_well = |text: &str| {
        text.starts_with(|sign: char| sign.is_ascii_alphanumeric())
            && text.ends_with(|sign: char| sign.is_ascii_alphanumeric())
    };
    let is_name = name.len() <= 63
        && ends_well(name)
        && name
            .chars()
            .all(|sign| sign.is_ascii_alphanumeric() || matches!(sign, '-' | '_' | '.'));
    let is_domain = |domain: &str| {
        domain.len() <= 253
            && domain.split('.').all(|part| {
                ends_well(part)
                    && part.chars().all(|sign| {
                        sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-'
                    })
            })
    };
    is_name && domain.is_none_or(is_domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_label_of_dns() {
        for (name, expected) in [
            ("web", "web"),
            ("my_app", "my-app"),
            ("My.App", "my-app"),
            ("2fa", "x-2fa"),
            ("_", "x"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
        assert_eq!(label(&"a".repeat(80)).len(), LONGEST);
    }

    #[test]
    fn a_folder_names_its_project() {
        assert_eq!(project("My App.v2"), "myappv2");
        assert_eq!(project("_x_"), "x_");
        assert_eq!(project("..."), "compose");
        assert_eq!(label_value("x_"), "x");
    }

    #[test]
    fn only_qualified_names_are_annotations() {
        for key in ["com.example.x", "traefik.enable", "a.b/c", "x"] {
            assert!(is_annotation(key), "{key}");
        }
        for key in [
            "",
            "a b",
            "a/b/c",
            "A/b",
            "x.",
            "rule[0].x",
            &"x".repeat(64),
        ] {
            assert!(!is_annotation(key), "{key}");
        }
    }
}
