//! The lines of `/etc/hosts` that a machine cannot do without.

use std::net::Ipv4Addr;

/// The text with a line for each address whose names are not all there; None when they are. What
/// somebody wrote themselves stays, also where it leads a name elsewhere.
pub(super) fn completed(text: &str, wanted: &[(Ipv4Addr, Vec<String>)]) -> Option<String> {
    let is_named = |name: &String| {
        let lines = text.lines().map(|line| match line.split_once('#') {
            Some((line, _)) => line,
            None => line,
        });
        let mut names = lines.flat_map(|line| line.split_whitespace().skip(1));
        names.any(|one| one == name)
    };
    let mut added = String::new();
    for (address, names) in wanted {
        let missing: Vec<&str> = names
            .iter()
            .filter(|name| !is_named(name))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            added.push_str(&format!("{address} {}\n", missing.join(" ")));
        }
    }
    if added.is_empty() {
        return None;
    }
    let text = text.trim_end();
    let end = if text.is_empty() { "" } else { "\n" };
    Some(format!("{text}{end}{added}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let wanted = [
            (Ipv4Addr::new(10, 0, 2, 15), vec!["me".to_owned()]),
            (
                Ipv4Addr::new(10, 0, 2, 2),
                vec!["a.b".to_owned(), "c.d".to_owned()],
            ),
        ];
        let text = "127.0.0.1 localhost # not me\n1.2.3.4\tx a.b\n\n";
        let completed = |text: &str| completed(text, &wanted);
        assert_eq!(
            completed(text).unwrap(),
            "127.0.0.1 localhost # not me\n1.2.3.4\tx a.b\n10.0.2.15 me\n10.0.2.2 c.d\n"
        );
        assert_eq!(completed("").unwrap(), "10.0.2.15 me\n10.0.2.2 a.b c.d\n");
        assert_eq!(completed("1.1.1.1 me a.b c.d"), None);
    }
}
