//! Taking a context's entries out of one text, and bringing back what they replaced.

use super::check::{Edit, foreign_kept};
use super::entries::checked_root;
use super::set::{after_edit, places_of, without_item};
use super::{CURRENT_CONTEXT, EditError};
use crate::entry::List;
use crate::former::{FormerFile, FormerValue};
use coracle_yaml::{Kind, Node, Stream, remove_pair, replace_raw};

/// Tells whether a context of this name is there, in any of the files.
pub(crate) type CurrentContextExists<'run> = &'run dyn Fn(&str) -> bool;

/// Gives `text` without the items named `name`. `record` tells what stood there before they were
/// set. Where the current context is `name`, the former one comes back, unless it existed then
/// and `exists` says that it is gone.
///
/// # Errors
/// [`EditError`] when `text` is not a kubeconfig or cannot be edited without loss.
pub(crate) fn remove(
    before: &str,
    name: &str,
    record: Option<&FormerFile>,
    exists: CurrentContextExists<'_>,
) -> Result<String, EditError> {
    let stream = Stream::parse(before)?;
    if checked_root(before, &stream)?.is_none() {
        return Ok(before.to_owned());
    }
    edit(before, name, record, exists).map_err(after_edit)
}

fn edit(
    before: &str,
    name: &str,
    record: Option<&FormerFile>,
    exists: CurrentContextExists<'_>,
) -> Result<String, EditError> {
    let mut text = before.to_owned();
    for list in List::ALL {
        let places = places_of(&text, list, name)?;
        for index in places.iter().rev() {
            text = without_item(&text, list, *index)?;
        }
        text = restore_list(&text, list, !places.is_empty(), record)?;
    }
    text = restore_current(&text, name, record, exists)?;
    if let Some(record) = record {
        text = remove_frame(text, record)?;
    }
    foreign_kept(before, &text, name, record, Edit::Remove)?;
    check_gone(&text, name)?;
    Ok(text)
}

/// Brings an empty list back to what it was: missing, null, or empty.
fn restore_list(
    text: &str,
    list: List,
    removed: bool,
    record: Option<&FormerFile>,
) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    let Some(root) = stream.root() else {
        return Ok(text.to_owned());
    };
    let Some((index, pair)) = find(root, list.key()) else {
        return Ok(text.to_owned());
    };
    let value = &pair.1;
    let empty = matches!(value.kind, Kind::Sequence { .. }) && value.items().is_empty();
    if !empty && !value.is_null() {
        return Ok(text.to_owned());
    }
    match record.and_then(|record| record.keys.get(list.key())) {
        Some(FormerValue::Absent) => Ok(remove_pair(text, root, index)?),
        Some(FormerValue::Raw(raw)) => Ok(replace_raw(text, pair, raw)?),
        None if removed && value.is_absent() => Ok(replace_raw(text, pair, " []")?),
        None => Ok(text.to_owned()),
    }
}

/// Brings the former current context back where the current one is `name`.
fn restore_current(
    text: &str,
    name: &str,
    record: Option<&FormerFile>,
    exists: CurrentContextExists<'_>,
) -> Result<String, EditError> {
    let stream = Stream::parse(text)?;
    let Some((root, (index, pair))) = stream
        .root()
        .and_then(|root| Some((root, find(root, CURRENT_CONTEXT)?)))
    else {
        return Ok(text.to_owned());
    };
    if pair.1.text() != Some(name) {
        return Ok(text.to_owned());
    }
    let former = record.and_then(|record| Some((record, record.keys.get(CURRENT_CONTEXT)?)));
    match former {
        Some((_, FormerValue::Absent)) => Ok(remove_pair(text, root, index)?),
        Some((record, FormerValue::Raw(raw))) => {
            let gone =
                record.current_existed && former_name(raw).is_some_and(|name| !exists(&name));
            Ok(replace_raw(text, pair, if gone { " \"\"" } else { raw })?)
        }
        None => Ok(replace_raw(text, pair, " \"\"")?),
    }
}

/// The context that the text behind `current-context:` names.
fn former_name(raw: &str) -> Option<String> {
    let stream = Stream::parse(raw).ok()?;
    Some(stream.root()?.text()?.to_owned())
}

/// Takes `apiVersion` and `kind` away again when they were added and nothing else is left.
fn remove_frame(mut text: String, record: &FormerFile) -> Result<String, EditError> {
    const FRAME: [&str; 2] = ["apiVersion", "kind"];
    let ours = |key: &Node| {
        key.text()
            .is_some_and(|key| FRAME.contains(&key) && record.was_absent(key))
    };
    loop {
        let stream = Stream::parse(&text)?;
        let Some(root) = stream.root() else {
            return Ok(text);
        };
        let pairs = root.pairs();
        if pairs.is_empty() || !pairs.iter().all(|(key, _)| ours(key)) {
            return Ok(text);
        }
        text = remove_pair(&text, root, pairs.len() - 1)?;
    }
}

fn find<'node>(root: &'node Node, key: &str) -> Option<(usize, &'node (Node, Node))> {
    let mut pairs = root.pairs().iter().enumerate();
    pairs.find(|(_, (node, _))| node.text() == Some(key))
}

/// Checks that nothing of `name` is left.
fn check_gone(text: &str, name: &str) -> Result<(), EditError> {
    for list in List::ALL {
        if !places_of(text, list, name)?.is_empty() {
            return Err(EditError::NotLossless {
                what: format!("`{name}` is still in {}", list.key()),
            });
        }
    }
    Ok(())
}
