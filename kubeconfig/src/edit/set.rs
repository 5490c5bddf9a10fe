//! Writing a context's entries, and the current context, into one text.

use super::check::{Edit, foreign_kept};
use super::entries::{checked_root, line_of, name_of, says};
use super::{CURRENT_CONTEXT, EditError};
use crate::entry::{ContextEntry, List, Wanted, extension_item};
use crate::former::{FormerFile, FormerValue};
use coracle_yaml::{
    Kind, Node, Stream, Value, insert_item, insert_pair, plain_or_quoted, remove_item, remove_pair,
    replace_raw, root_pairs, start_block_list, value_raw,
};

/// What of a context goes into one file.
pub(crate) struct Parts<'entry> {
    /// The context.
    pub(crate) entry: &'entry ContextEntry,
    /// The lists whose item goes there.
    pub(crate) lists: Vec<List>,
    /// Whether the current context is set there.
    pub(crate) current: bool,
}

/// Gives `text` with `parts` in it, and notes in `record` what stood there.
///
/// # Errors
/// [`EditError`] when `text` is not a kubeconfig or cannot be edited without loss.
pub(crate) fn set(
    before: &str,
    parts: &Parts<'_>,
    record: &mut FormerFile,
) -> Result<String, EditError> {
    let stream = Stream::parse(before)?;
    let empty = checked_root(before, &stream)?.is_none();
    edit(before, empty, parts, record).map_err(after_edit)
}

fn edit(
    before: &str,
    empty: bool,
    parts: &Parts<'_>,
    record: &mut FormerFile,
) -> Result<String, EditError> {
    let mut text = before.to_owned();
    if empty {
        let pairs = whole_file(parts);
        for (key, _) in &pairs {
            record.keys.insert((*key).to_owned(), FormerValue::Absent);
        }
        text = root_pairs(before, &pairs)?;
    } else {
        for list in &parts.lists {
            text = set_item(text, *list, parts.entry, record)?;
        }
        if parts.current {
            text = set_current(&text, &parts.entry.name, record)?;
        }
    }
    let name = &parts.entry.name;
    foreign_kept(before, &text, name, Some(record), Edit::Set)?;
    check_own(&text, parts)?;
    Ok(text)
}

/// All pairs of a file that was empty, in the order of kubectl.
fn whole_file(parts: &Parts<'_>) -> Vec<(&'static str, Value)> {
    let mut pairs = vec![
        ("apiVersion", Value::text("v1")),
        ("kind", Value::text("Config")),
    ];
    for list in &parts.lists {
        let item = parts.entry.wanted(*list).item(*list, &parts.entry.name);
        pairs.push((list.key(), Value::List(vec![item])));
    }
    if parts.current {
        pairs.push((CURRENT_CONTEXT, Value::text(&parts.entry.name)));
    }
    pairs.sort_by_key(|(key, _)| *key);
    pairs
}

/// Writes the item of `list`: changes the fields of the one that is there, or adds one.
fn set_item(
    mut text: String,
    list: List,
    entry: &ContextEntry,
    record: &mut FormerFile,
) -> Result<String, EditError> {
    let name = &entry.name;
    let wanted = entry.wanted(list);
    let mut places = places_of(&text, list, name)?;
    let fresh = places.is_empty();
    while places.len() > 1 {
        if let Some(index) = places.pop() {
            text = without_item(&text, list, index)?;
        }
    }
    if let Some(index) = places.first().copied() {
        let updated = update_item(&text, list, index, &wanted);
        if let Ok(updated) = updated
            && is_as_wanted(&updated, list, name, &wanted).unwrap_or(false)
        {
            return Ok(updated);
        }
        text = without_item(&text, list, index)?;
    }
    add_item(&text, list, &wanted.item(list, name), fresh, record)
}

/// Adds an item to a list. `fresh` says that no item of this name was there before.
fn add_item(
    text: &str,
    list: List,
    item: &Value,
    fresh: bool,
    record: &mut FormerFile,
) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    let list_value = || Value::List(vec![item.clone()]);
    let mut remember = |value: FormerValue| {
        let key = list.key().to_owned();
        if fresh {
            record.keys.insert(key, value);
        } else {
            record.keys.entry(key).or_insert(value);
        }
    };
    let Some(root) = checked_root(text, &stream)? else {
        remember(FormerValue::Absent);
        return Ok(root_pairs(text, &[(list.key(), list_value())])?);
    };
    let Some(pair) = root.pair(list.key()) else {
        remember(FormerValue::Absent);
        return Ok(insert_pair(text, root, root, list.key(), &list_value())?);
    };
    let raw = value_raw(text, pair)?;
    match &pair.1.kind {
        Kind::Alias(_) => Err(EditError::unsupported(
            format!("`{}` is an alias", list.key()),
            line_of(text, &pair.1),
        )),
        Kind::Sequence { flow, items }
            if !*flow || !items.is_empty() || root.is_flow() || raw.contains('\n') =>
        {
            Ok(insert_item(text, root, &pair.1, item)?)
        }
        _ => {
            remember(FormerValue::Raw(raw.to_owned()));
            if root.is_flow() || raw.contains('\n') {
                let list = coracle_yaml::json(&list_value());
                Ok(replace_raw(text, pair, &format!(" {list}"))?)
            } else {
                Ok(start_block_list(text, root, pair, item)?)
            }
        }
    }
}

/// Names the current context, and notes what named it before unless that was ours too.
fn set_current(text: &str, name: &str, record: &mut FormerFile) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    let key = CURRENT_CONTEXT.to_owned();
    let Some(root) = checked_root(text, &stream)? else {
        record.keys.insert(key, FormerValue::Absent);
        return Ok(root_pairs(text, &[(CURRENT_CONTEXT, Value::text(name))])?);
    };
    let Some(pair) = root.pair(CURRENT_CONTEXT) else {
        record.keys.insert(key, FormerValue::Absent);
        return Ok(insert_pair(
            text,
            root,
            root,
            CURRENT_CONTEXT,
            &Value::text(name),
        )?);
    };
    if pair.1.text() == Some(name) {
        return Ok(text.to_owned());
    }
    let raw = value_raw(text, pair)?.to_owned();
    let edited = replace_text(text, root.is_flow(), pair, name)?;
    record.keys.insert(key, FormerValue::Raw(raw));
    Ok(edited)
}

/// Puts text in the place of a pair's value.
fn replace_text(
    text: &str,
    flow: bool,
    pair: &(Node, Node),
    value: &str,
) -> Result<String, EditError> {
    let raw = value_raw(text, pair)?;
    let space = &raw[..raw.len() - raw.trim_start_matches([' ', '\t']).len()];
    let quoted_key = matches!(pair.0.kind, Kind::Scalar { plain: false, .. });
    let space = if space.is_empty() && !(flow && quoted_key) {
        " "
    } else {
        space
    };
    let value = if flow {
        coracle_yaml::json(&Value::text(value))
    } else {
        plain_or_quoted(value)
    };
    Ok(replace_raw(text, pair, &format!("{space}{value}"))?)
}

/// The places of the items named `name`.
pub(super) fn places_of(text: &str, list: List, name: &str) -> Result<Vec<usize>, EditError> {
    let stream = Stream::parse(text)?;
    let value = stream.root().and_then(|root| root.get(list.key()));
    let items = value
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate();
    Ok(items
        .filter(|(_, item)| name_of(item) == Some(name))
        .map(|(index, _)| index)
        .collect())
}

/// The text without the item at `index` of `list`.
pub(super) fn without_item(text: &str, list: List, index: usize) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    match stream.root().and_then(|root| root.get(list.key())) {
        Some(value) => Ok(remove_item(text, value, index)?),
        None => Ok(text.to_owned()),
    }
}

/// Changes the fields of an item in place, so that what its user added to it stays.
fn update_item(text: &str, list: List, index: usize, wanted: &Wanted) -> Result<String, EditError> {
    let mut text = text.to_owned();
    for (key, value) in &wanted.fields {
        text = change(&text, list, index, |text, root, content| {
            set_field(text, root, content, key, value)
        })?;
    }
    for key in wanted.unwanted {
        text = change(&text, list, index, |text, _, content| {
            match position(content, key) {
                Some(place) => Ok(remove_pair(text, content, place)?),
                None => Ok(text.to_owned()),
            }
        })?;
    }
    for (name, value) in &wanted.extensions {
        text = change(&text, list, index, |text, root, content| {
            set_extension(text, root, content, name, value)
        })?;
        text = change(&text, list, index, |text, _, content| {
            drop_extensions(text, content, name, value)
        })?;
    }
    Ok(text)
}

/// Runs one edit on the content of an item.
fn change(
    text: &str,
    list: List,
    index: usize,
    edit: impl FnOnce(&str, &Node, &Node) -> Result<String, EditError>,
) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    let root = stream.root();
    let item = root
        .and_then(|root| root.get(list.key()))
        .and_then(|value| value.items().get(index));
    match (root, item.and_then(|item| item.get(list.item_key()))) {
        (Some(root), Some(content)) => edit(text, root, content),
        _ => Err(EditError::unsupported("the entry has no content", 0)),
    }
}

fn position(mapping: &Node, key: &str) -> Option<usize> {
    let mut keys = mapping.pairs().iter();
    keys.position(|(node, _)| node.text() == Some(key))
}

fn set_field(
    text: &str,
    root: &Node,
    content: &Node,
    key: &str,
    value: &Value,
) -> Result<String, EditError> {
    match (content.pair(key), value) {
        (Some((_, node)), value) if says(node, value) => Ok(text.to_owned()),
        (Some(pair), Value::Text(value)) => replace_text(text, content.is_flow(), pair, value),
        (Some(pair), _) => Err(EditError::unsupported(
            format!("`{key}` is no text"),
            line_of(text, &pair.0),
        )),
        (None, value) => Ok(insert_pair(text, root, content, key, value)?),
    }
}

fn set_extension(
    text: &str,
    root: &Node,
    content: &Node,
    name: &str,
    value: &Value,
) -> Result<String, EditError> {
    let item = extension_item(name, value);
    let Some((_, extensions)) = content.pair("extensions") else {
        return Ok(insert_pair(
            text,
            root,
            content,
            "extensions",
            &Value::List(vec![item]),
        )?);
    };
    let mut items = extensions.items().iter();
    if items.any(|node| says(node, &item)) {
        return Ok(text.to_owned());
    }
    Ok(insert_item(text, root, extensions, &item)?)
}

/// Removes the extensions of this name that say something else.
fn drop_extensions(
    text: &str,
    content: &Node,
    name: &str,
    value: &Value,
) -> Result<String, EditError> {
    let item = extension_item(name, value);
    let Some(extensions) = content.get("extensions") else {
        return Ok(text.to_owned());
    };
    let mut items = extensions.items().iter();
    match items.position(|node| name_of(node) == Some(name) && !says(node, &item)) {
        Some(index) => Ok(remove_item(text, extensions, index)?),
        None => Ok(text.to_owned()),
    }
}

/// Whether `list` holds exactly one item named `name`, and that as wanted.
fn is_as_wanted(text: &str, list: List, name: &str, wanted: &Wanted) -> Result<bool, EditError> {
    let stream = Stream::parse(text)?;
    let value = stream.root().and_then(|root| root.get(list.key()));
    let items = value.map(Node::items).unwrap_or_default().iter();
    let items: Vec<_> = items.filter(|item| name_of(item) == Some(name)).collect();
    let [item] = items.as_slice() else {
        return Ok(false);
    };
    let Some(content) = item.get(list.item_key()) else {
        return Ok(false);
    };
    let mut fields = wanted.fields.iter();
    let mut unwanted = wanted.unwanted.iter();
    let mut extensions = wanted.extensions.iter();
    let held = content
        .get("extensions")
        .map(Node::items)
        .unwrap_or_default();
    Ok(
        fields.all(|(key, value)| content.get(key).is_some_and(|node| says(node, value)))
            && unwanted.all(|key| content.get(key).is_none())
            && extensions.all(|(name, value)| {
                let item = extension_item(name, value);
                held.iter().filter(|node| says(node, &item)).count() == 1
            }),
    )
}

/// Checks that `text` now holds `parts`.
fn check_own(text: &str, parts: &Parts<'_>) -> Result<(), EditError> {
    let name = &parts.entry.name;
    for list in &parts.lists {
        if !is_as_wanted(text, *list, name, &parts.entry.wanted(*list))? {
            return Err(EditError::NotLossless {
                what: format!("`{name}` in {}", list.key()),
            });
        }
    }
    let stream = Stream::parse(text)?;
    let current = stream.root().and_then(|root| root.get(CURRENT_CONTEXT));
    if parts.current && current.and_then(Node::text) != Some(name) {
        return Err(EditError::NotLossless {
            what: CURRENT_CONTEXT.to_owned(),
        });
    }
    Ok(())
}

/// An edited text that does not parse is the edit's fault, not the file's.
pub(super) fn after_edit(error: EditError) -> EditError {
    match error {
        EditError::Syntax { line, reason, .. } => EditError::NotLossless {
            what: format!("line {line} would no longer be YAML: {reason}"),
        },
        other => other,
    }
}
