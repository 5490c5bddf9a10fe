//! What a request to the Docker API asks of images, told from its method, path and query.

use super::images::each;
use hyper::{Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

/// A request about images that dockerd alone would not answer right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To list them; the path with its query, and whether to leave out those with names, or without.
    List {
        path: String,
        dangling: Option<bool>,
    },
    /// What is known of one.
    Inspect,
    /// To remove one, by name or id, as it stands in the path.
    Remove(String),
    /// To remove all that nothing uses, of those that the filters let through.
    Prune { path: String, dangling: bool },
    /// The same with filters that are not understood.
    PruneUnclear,
}

impl Asked {
    /// What a request asks of images, if it does.
    pub(super) fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let path = uri.path();
        let rest = unversioned(path).strip_prefix("/images/")?;
        let query = uri.query().unwrap_or_default();
        match (method, rest) {
            (&Method::GET, "json") => {
                let (query, dangling) = without_dangling(query)?;
                let path = format!("{path}?{query}");
                Some(Self::List { path, dangling })
            }
            (&Method::GET, rest) if rest.ends_with("/json") => Some(Self::Inspect),
            (&Method::POST, "prune") => {
                let Some((query, dangling)) = without_dangling(query) else {
                    return Some(Self::PruneUnclear);
                };
                let path = path.replace("/prune", "/json");
                Some(Self::Prune {
                    path: format!("{path}?{query}"),
                    dangling: dangling.unwrap_or(true),
                })
            }
            (&Method::DELETE, name) => Some(Self::Remove(name.to_owned())),
            _ => None,
        }
    }
}

/// The path of a request without its version, `/v1.44`.
pub(super) fn unversioned(path: &str) -> &str {
    let after = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let is_version = rest[..end].bytes().all(|c| c.is_ascii_digit() || c == b'.');
        is_version.then_some(&rest[end..])
    });
    after.unwrap_or(path)
}

/// A query whose filters do not say whether images have names, and what they said of it. None where the
/// filters cannot be read: dockerd says why.
fn without_dangling(query: &str) -> Option<(String, Option<bool>)> {
    let mut dangling = None;
    let mut parts = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let Some(filters) = part.strip_prefix("filters=") else {
            // Another spelling of the same, which dockerd would go by.
            if decoded(part).starts_with("filters=") {
                return None;
            }
            parts.push(part.to_owned());
            continue;
        };
        let filters = decoded(&filters.replace('+', "%20"));
        let mut filters: Map<String, Value> = match filters.as_str() {
            "" => Map::new(),
            text => serde_json::from_str(text).ok()?,
        };
        // Both forms that clients write: {"dangling": ["false"]} and {"dangling": {"false": true}}.
        if let Some(values) = filters.shift_remove("dangling") {
            let says = |words: [&str; 2]| {
                words.iter().any(|word| {
                    each(&values).any(|value| value == word)
                        || values.get(word).is_some_and(|value| value == true)
                })
            };
            dangling = match (says(["true", "1"]), says(["false", "0"])) {
                (true, false) => Some(true),
                (false, true) => Some(false),
                // Nothing that is understood: dockerd says so.
                _ => return None,
            };
        }
        parts.push(format!(
            "filters={}",
            encoded(&Value::Object(filters).to_string())
        ));
    }
    Some((parts.join("&"), dangling))
}

/// A path's or query's text without its escapes.
pub(super) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, uri: &str) -> Option<Asked> {
        Asked::of(method, &uri.parse().unwrap())
    }

    #[test]
    fn requests_about_images_are_told_from_others() {
        let remove = |name: &str| Some(Asked::Remove(name.to_owned()));
        assert_eq!(
            asked(&Method::DELETE, "/v1.51/images/app:1"),
            remove("app:1")
        );
        assert_eq!(
            asked(&Method::DELETE, "/images/a.example:5000/b/c:1?force=1"),
            remove("a.example:5000/b/c:1")
        );
        let uri = "/v1.51/images/a%2Fb/json";
        assert_eq!(asked(&Method::GET, uri), Some(Asked::Inspect));
        for (method, uri) in [
            (Method::GET, "/v1.44/images/search"),
            (Method::GET, "/v1.44/images/app/history"),
            (Method::POST, "/v1.44/images/app/tag"),
            (Method::DELETE, "/v1.44/containers/images"),
            (Method::DELETE, "/version/images/x"),
        ] {
            assert_eq!(asked(&method, uri), None, "{uri}");
        }
    }

    #[test]
    fn whether_images_have_names_is_not_asked_of_dockerd() {
        let list = |query: &str| match asked(&Method::GET, &format!("/v1.44/images/json?{query}")) {
            Some(Asked::List { path, dangling }) => Some((decoded(&path), dangling)),
            other => panic!("{other:?}"),
        };
        let path = |query: &str| format!("/v1.44/images/json?{query}");
        assert_eq!(list("all=1"), Some((path("all=1"), None)));
        let filters = encoded(r#"{"dangling":{"true":true},"label":["a=b c"]}"#);
        let listed = list(&format!("filters={filters}&all=0"));
        let rest = path(r#"filters={"label":["a=b c"]}&all=0"#);
        assert_eq!(listed, Some((rest, Some(true))));
        let prune = "/images/prune?%66ilters=%7B%7D";
        assert_eq!(asked(&Method::POST, prune), Some(Asked::PruneUnclear));
        let wrong = format!("/images/json?filters={}", encoded(r#"{"dangling":["x"]}"#));
        assert_eq!(asked(&Method::GET, &wrong), None);
        assert_eq!(asked(&Method::GET, "/images/json?filters=%7B"), None);
    }

    #[test]
    fn a_prune_is_about_images_without_names_unless_it_says_otherwise() {
        let of = |filters: &str| {
            let uri = format!("/v1.44/images/prune?filters={}", encoded(filters));
            match asked(&Method::POST, &uri) {
                Some(Asked::Prune { path, dangling }) => (decoded(&path), dangling),
                other => panic!("{other:?}"),
            }
        };
        let path = |filters: &str| format!("/v1.44/images/json?filters={filters}");
        for filters in [
            "{}",
            r#"{"dangling":["true"]}"#,
            r#"{"dangling":{"1":true}}"#,
        ] {
            assert_eq!(of(filters), (path("{}"), true), "{filters}");
        }
        for filters in [r#"{"dangling":["false"]}"#, r#"{"dangling":{"0":true}}"#] {
            assert_eq!(of(filters), (path("{}"), false), "{filters}");
        }
        let until = r#"{"dangling":{"false":true},"until":{"24h":true}}"#;
        assert_eq!(of(until), (path(r#"{"until":{"24h":true}}"#), false));
    }
}
