//! `extends`: a service that goes on from another one of the same file.

use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;
use crate::yaml::{Key, Kind, Node};

/// Keys whose list or text is taken as a whole, not added to.
const WHOLE: &[&str] = &["command", "entrypoint", "test"];

/// Keys that are a mapping or a list of `KEY=VALUE`.
const ASSIGNMENTS: &[&str] = &["environment", "labels", "annotations", "sysctls", "args"];

/// Keys that are a mapping or a list of its keys.
const NAMES: &[&str] = &["depends_on", "networks"];

/// Keys that are a list or its only item.
const LISTS: &[&str] = &["env_file", "dns", "dns_search", "tmpfs"];

/// The services with what they extend put into them.
///
/// # Errors
/// [`Fault::Invalid`](crate::fault::Fault) where a service extends one that is not there, or itself.
pub(crate) fn resolve(services: &At<'_>, report: &mut Report) -> Result<Node> {
    let mut pairs = Vec::new();
    for (name, _) in services.entries()? {
        let Some((key, _)) = services.node.pair(name) else {
            continue;
        };
        let node = whole(services, name, &mut Vec::new(), report)?;
        pairs.push((key.clone(), node));
    }
    Ok(Node::new(services.node.line, Kind::Mapping(pairs)))
}

fn whole<'n>(
    services: &At<'n>,
    name: &'n str,
    asked: &mut Vec<&'n str>,
    report: &mut Report,
) -> Result<Node> {
    let Some(service) = services.pair(name) else {
        return Err(services.fault(format!("there is no service {name}")));
    };
    let Some(extends) = service.get("extends") else {
        return Ok(service.node.clone());
    };
    let base = match extends.node.kind {
        Kind::Mapping(_) => {
            keys::check(&extends, keys::EXTENDS, report)?;
            if let Some(file) = extends.get("file") {
                return Err(file.fault(
                    "other files are not read: `docker compose config` writes all of them as one, \
                     which can be converted",
                ));
            }
            let service = extends.get("service");
            service.ok_or_else(|| extends.expected("a mapping with `service`"))?
        }
        _ => extends.clone(),
    };
    let base_name = base.text()?;
    asked.push(name);
    if asked.contains(&base_name) {
        return Err(base.fault(format!("{name} extends itself by way of {base_name}")));
    }
    if services.pair(base_name).is_none() {
        return Err(base.fault(format!("there is no service {base_name} to extend")));
    }
    let mut merged = merge(
        whole(services, base_name, asked, report)?,
        service.node.clone(),
        "",
    );
    if let Kind::Mapping(pairs) = &mut merged.kind {
        pairs.retain(|(key, _)| key.text != "extends");
    }
    Ok(merged)
}

/// A command that runs before `service` does: what it does not say itself is the service's.
pub(crate) fn before(service: &Node, command: &Node) -> Node {
    let has_image = command.pair("image").is_some();
    let mut base = service.clone();
    if let Kind::Mapping(pairs) = &mut base.kind {
        // Of another image, only what it is to be run with.
        pairs.retain(|(key, _)| !(has_image && key.text == "build"));
    }
    merge(base, command.clone(), "")
}

/// `own` with what it does not say taken from `base`, both being the value of `key`.
fn merge(base: Node, own: Node, key: &str) -> Node {
    if own.whole {
        return own;
    }
    let (base, own) = (common_form(base, key), common_form(own, key));
    let line = own.line;
    let kind = match (base.kind, own.kind) {
        (Kind::Mapping(base), Kind::Mapping(own)) => Kind::Mapping(merge_pairs(base, own)),
        (Kind::Sequence(base), Kind::Sequence(own)) if !WHOLE.contains(&key) => {
            let mut items = base;
            for item in own {
                if !items.iter().any(|known| same(known, &item)) {
                    items.push(item);
                }
            }
            Kind::Sequence(items)
        }
        (base, Kind::Null) if key.is_empty() => base,
        (_, own) => own,
    };
    Node::new(line, kind)
}

fn merge_pairs(base: Vec<(Key, Node)>, own: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
    let mut pairs = base;
    for (key, value) in own {
        match pairs.iter_mut().find(|(known, _)| known.text == key.text) {
            Some(pair) => {
                let below = std::mem::replace(&mut pair.1, Node::text(0, ""));
                *pair = (key.clone(), merge(below, value, &key.text));
            }
            None => pairs.push((key, value)),
        }
    }
    pairs
}

/// Of the forms that Compose has for the value of `key`, the one that can be merged.
fn common_form(node: Node, key: &str) -> Node {
    let line = node.line;
    let kind = match node.kind {
        Kind::Sequence(items) if ASSIGNMENTS.contains(&key) => {
            let pairs = items.into_iter().map(|item| assignment(&item));
            Kind::Mapping(last_of_each(pairs.collect()))
        }
        Kind::Sequence(items) if NAMES.contains(&key) => {
            let pairs = items
                .into_iter()
                .map(|item| (as_key(&item), null(item.line)));
            Kind::Mapping(last_of_each(pairs.collect()))
        }
        kind @ Kind::Scalar { .. } if LISTS.contains(&key) => {
            Kind::Sequence(vec![Node::new(line, kind)])
        }
        kind => kind,
    };
    Node::new(line, kind)
}

fn null(line: usize) -> Node {
    Node::new(line, Kind::Null)
}

fn as_key(item: &Node) -> Key {
    let text = match &item.kind {
        Kind::Scalar { text, .. } => text.clone(),
        _ => String::new(),
    };
    let line = item.line;
    Key { line, text }
}

fn assignment(item: &Node) -> (Key, Node) {
    let mut key = as_key(item);
    match key.text.split_once('=') {
        Some((name, value)) => {
            let value = Node::text(item.line, value);
            key.text = name.to_owned();
            (key, value)
        }
        None => (key, null(item.line)),
    }
}

fn last_of_each(pairs: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
    let mut kept: Vec<(Key, Node)> = Vec::new();
    for pair in pairs {
        match kept.iter_mut().find(|(known, _)| known.text == pair.0.text) {
            Some(known) => *known = pair,
            None => kept.push(pair),
        }
    }
    kept
}

/// Whether two nodes say the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.kind, &other.kind) {
        (Kind::Scalar { text, .. }, Kind::Scalar { text: other, .. }) => text == other,
        (Kind::Sequence(items), Kind::Sequence(others)) => {
            items.len() == others.len()
                && items
                    .iter()
                    .zip(others)
                    .all(|(one, other)| same(one, other))
        }
        (Kind::Mapping(pairs), Kind::Mapping(others)) => {
            pairs.len() == others.len()
                && pairs
                    .iter()
                    .zip(others)
                    .all(|((key, one), (other_key, other))| {
                        key.text == other_key.text && same(one, other)
                    })
        }
        (Kind::Null, Kind::Null) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn resolved(text: &str) -> Result<Node> {
        let root = parse(text).expect("YAML").root;
        resolve(&At::root(&root), &mut Report::default())
    }

    fn service(text: &str, name: &str) -> String {
        let services = resolved(text).expect("services");
        let (_, node) = services.pair(name).expect(name);
        written(node)
    }

    fn written(node: &Node) -> String {
        match &node.kind {
            Kind::Null => "~".to_owned(),
            Kind::Scalar { text, .. } => text.clone(),
            Kind::Sequence(items) => {
                let items: Vec<_> = items.iter().map(written).collect();
                format!("[{}]", items.join(" "))
            }
            Kind::Mapping(pairs) => {
                let pairs = pairs.iter();
                let pairs: Vec<_> = pairs
                    .map(|(key, value)| format!("{}:{}", key.text, written(value)))
                    .collect();
                format!("{{{}}}", pairs.join(" "))
            }
        }
    }

    #[test]
    fn a_service_goes_on_from_the_one_it_extends() {
        let text = "base: {image: a, command: [x], ports: ['1', '2']}\n\
                    web: {extends: {service: base}, command: [y], ports: ['2', '3']}\n";
        assert_eq!(service(text, "web"), "{image:a command:[y] ports:[1 2 3]}");
    }

    #[test]
    fn forms_of_an_environment_are_merged_by_name() {
        let text = "base: {environment: [A=1, B=2]}\n\
                    web: {extends: base, environment: {B: 3, C: }}\n";
        assert_eq!(service(text, "web"), "{environment:{A:1 B:3 C:~}}");
    }

    #[test]
    fn lists_and_single_items_are_put_together() {
        let text = "base: {env_file: a.env}\nweb: {extends: base, env_file: [b.env]}\n";
        assert_eq!(service(text, "web"), "{env_file:[a.env b.env]}");
    }

    #[test]
    fn an_extended_service_may_extend() {
        let text = "a: {image: x}\nb: {extends: a, user: '1'}\nc: {extends: b, tty: true}\n";
        assert_eq!(service(text, "c"), "{image:x user:1 tty:true}");
    }

    #[test]
    fn circles_strangers_and_other_files_are_refused_with_their_line() {
        for (text, line, says) in [
            ("a: {extends: b}\nb: {extends: a}\n", 2, "extends itself"),
            ("a: {extends: a}\n", 1, "extends itself"),
            ("x: {image: y}\na: {extends: none}\n", 2, "no service none"),
            (
                "a:\n  extends:\n    file: b.yaml\n",
                3,
                "docker compose config",
            ),
        ] {
            let error = resolved(text).expect_err(text);
            assert_eq!(error.line(), line, "{text}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
