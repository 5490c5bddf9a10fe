//! YAML with lines: parsing, aliases and merges resolved.

mod merge;
mod parse;
mod tree;

pub(crate) use parse::parse;
pub(crate) use tree::{Key, Kind, Node};
