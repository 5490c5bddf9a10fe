//! The look at an edited text before it may be written: what others wrote is still there.

use super::entries::name_of;
use super::{CURRENT_CONTEXT, EditError, second_reader};
use crate::entry::List;
use crate::former::FormerFile;
use coracle_yaml::{Node, Stream, same};

/// What was done to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edit {
    /// Entries were written.
    Set,
    /// Entries were taken out, and what they replaced brought back.
    Remove,
}

/// Checks that `after` says all that `before` said, but for the items named `name`, the current
/// context and the keys that `record` says were added.
///
/// # Errors
/// [`EditError::NotLossless`] with the first thing that differs.
pub(super) fn foreign_kept(
    before: &str,
    after: &str,
    name: &str,
    record: Option<&FormerFile>,
    edit: Edit,
) -> Result<(), EditError> {
    let opinion = |text: &str| second_reader::foreign(text, name, record);
    let second_differs = match (opinion(before), opinion(after)) {
        (Some(before), Some(after)) => before != after,
        // What a removal brings back may be what that reader could never read.
        (Some(_), None) => edit == Edit::Set,
        (None, _) => false,
    };
    let (before, after) = (Stream::parse(before)?, Stream::parse(after)?);
    let differs = |what: &str| EditError::NotLossless {
        what: what.to_owned(),
    };
    if second_differs {
        return Err(differs("a reader of YAML 1.1 takes it otherwise"));
    }
    let rest = |stream: &Stream| stream.documents.iter().skip(1).cloned().collect::<Vec<_>>();
    let (rest_before, rest_after) = (rest(&before), rest(&after));
    let equal = rest_before.len() == rest_after.len()
        && (rest_before.iter().zip(&rest_after)).all(|(one, other)| same(&one.root, &other.root));
    if !equal {
        return Err(differs("a further document of the file"));
    }
    let (root_before, root_after) = (before.root(), after.root());
    let keys_before = foreign_pairs(root_before, record);
    let keys_after = foreign_pairs(root_after, record);
    if keys_before.len() != keys_after.len() {
        return Err(differs("a key at the top"));
    }
    for ((key, value), (other_key, other_value)) in keys_before.into_iter().zip(keys_after) {
        if !same(key, other_key) || !same(value, other_value) {
            return Err(differs(key.text().unwrap_or("a key at the top")));
        }
    }
    for list in List::ALL {
        let items = |root: Option<&Node>| {
            let value = root.and_then(|root| root.get(list.key()));
            let items = value.map(Node::items).unwrap_or_default().iter();
            let foreign = items.filter(|item| name_of(item) != Some(name));
            foreign.cloned().collect::<Vec<_>>()
        };
        let (items_before, items_after) = (items(root_before), items(root_after));
        let equal = items_before.len() == items_after.len()
            && (items_before.iter().zip(&items_after)).all(|(one, other)| same(one, other));
        if !equal {
            return Err(differs(list.key()));
        }
    }
    Ok(())
}

/// The pairs at the top that an edit has no business with.
fn foreign_pairs<'node>(
    root: Option<&'node Node>,
    record: Option<&FormerFile>,
) -> Vec<&'node (Node, Node)> {
    let pairs = root.map(Node::pairs).unwrap_or_default().iter();
    let own = |key: &str| {
        List::of_key(key).is_some()
            || key == CURRENT_CONTEXT
            || record.is_some_and(|record| record.was_absent(key))
    };
    pairs
        .filter(|(key, _)| !key.text().is_some_and(own))
        .collect()
}
