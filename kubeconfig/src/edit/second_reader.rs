//! A second opinion on an edited text. The parser that edits follows YAML 1.2; kubectl's is of
//! libyaml's line, which differs in rare places (it takes U+2028 for a line end, for one). What
//! that line could read before an edit it must read in the same way afterwards.

use serde::Deserialize as _;
use serde_yaml::{Mapping, Value};

use super::CURRENT_CONTEXT;
use crate::entry::List;
use crate::former::FormerFile;

/// What the first document says apart from the items named `name`, the current context, empty
/// lists, and the keys that `record` says were added; `None` when it cannot be read.
pub(super) fn foreign(text: &str, name: &str, record: Option<&FormerFile>) -> Option<Value> {
    // This reader takes a byte order mark for a column of the first line.
    let text = text.trim_start_matches('\u{feff}');
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let mut root = match documents.next() {
        Some(document) => Value::deserialize(document).ok()?,
        None => Value::Null,
    };
    if root.is_null() {
        root = Value::Mapping(Mapping::new());
    }
    let mapping = root.as_mapping_mut()?;
    mapping.remove(CURRENT_CONTEXT);
    mapping.retain(|key, _| {
        let added = key.as_str().zip(record);
        !added.is_some_and(|(key, record)| List::of_key(key).is_none() && record.was_absent(key))
    });
    for list in List::ALL {
        let Some(value) = mapping.get_mut(list.key()) else {
            continue;
        };
        if let Some(items) = value.as_sequence_mut() {
            items.retain(|item| item.get("name").and_then(Value::as_str) != Some(name));
        }
        if value.is_null() || value.as_sequence().is_some_and(Vec::is_empty) {
            mapping.remove(list.key());
        }
    }
    Some(root)
}
