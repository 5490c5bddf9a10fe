//! Names of images as people write them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` (the grammar of the
//! distribution project's references).

/// The tag of a name that has neither tag nor digest.
const LATEST: &str = "latest";

/// A name and its parts. What is no name has parts all the same: who is asked for it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageName<'a> {
    text: &'a str,
    registry: Option<&'a str>,
    repository: &'a str,
    version: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    /// Takes a name apart.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            // The colon of a registry's port comes before a slash.
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (rest, None),
        };
        let first = text.split_once('/').map(|(first, _)| first);
        let is_host = |first: &&str| first.contains(['.', ':']) || *first == "localhost";
        Self {
            text,
            registry: first.filter(is_host),
            repository,
            version: digest.or(tag),
        }
    }

    /// The host, with its port, that it comes from; None for Docker's own registry, unless that is named.
    #[must_use]
    pub fn registry(&self) -> Option<&'a str> {
        self.registry
    }

    /// All before tag and digest.
    #[must_use]
    pub fn repository(&self) -> &'a str {
        self.repository
    }

    /// Its digest, or else its tag, which is `latest` where it has none.
    #[must_use]
    pub fn version(&self) -> &'a str {
        self.version.unwrap_or(LATEST)
    }

    /// As it is written, with a tag where it has neither that nor a digest.
    #[must_use]
    pub fn tagged(&self) -> String {
        match self.version {
            Some(_) => self.text.to_owned(),
            None => format!("{}:{LATEST}", self.text),
        }
    }

    /// As containerd has it: with registry and tag.
    #[must_use]
    pub fn whole(&self) -> String {
        let tagged = self.tagged();
        match (self.registry, self.text.contains('/')) {
            (Some(_), _) => tagged,
            (None, true) => format!("docker.io/{tagged}"),
            (None, false) => format!("docker.io/library/{tagged}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_as_containerd_has_them() {
        for (name, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("me/app:1", "docker.io/me/app:1"),
            ("docker.io/library/app", "docker.io/library/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("a.example:5000/app", "a.example:5000/app:latest"),
            ("a.example/b/c@sha256:d", "a.example/b/c@sha256:d"),
        ] {
            assert_eq!(ImageName::of(name).whole(), whole, "{name}");
        }
    }

    #[test]
    fn names_end_where_tags_and_digests_begin() {
        for (image, parts) in [
            ("app", ("app", "latest")),
            ("app:1", ("app", "1")),
            ("a.example:5000/app", ("a.example:5000/app", "latest")),
            ("a.example:5000/app:2", ("a.example:5000/app", "2")),
            ("app@sha256:ab", ("app", "sha256:ab")),
            ("app:1@sha256:ab", ("app", "sha256:ab")),
        ] {
            let name = ImageName::of(image);
            assert_eq!((name.repository(), name.version()), parts, "{image}");
        }
    }
}
