//! A YAML stream as a tree whose nodes know their place in the text, so that an edit can splice
//! the text instead of writing it anew.

mod error;
mod render;
mod splice;
mod tree;

pub use error::YamlError;
pub use render::{Value, plain_or_quoted};
pub use splice::{
    insert_comments, insert_item, insert_pair, insert_pair_before, remove_item, remove_pair,
    rename_key, replace_raw, root_pairs, start_block_list, value_raw,
};
pub use tree::{Kind, Node, Stream, comments, parts, same};

/// A value as JSON on one line, which is YAML's flow style too.
#[must_use]
pub fn json(value: &Value) -> String {
    render::json(value, render::Layout::Line)
}
