//! Edits of a text at the places that its nodes name. Every function takes the text and nodes
//! parsed from it and gives the new text; each pair of insertion and removal is exact: removing
//! what was inserted gives the former text, byte for byte.

use std::ops::Range;

use super::render::{Layout, Value, block_item, block_pair, json};
use super::tree::{Kind, Node, Stream, line_start, next_line};
use crate::YamlError;

/// The byte order mark that some editors on Windows put first.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Adds pairs to the end of the first document's mapping, or makes one in an empty document.
pub fn root_pairs(text: &str, pairs: &[(&str, Value)]) -> Result<String, YamlError> {
    let stream = Stream::parse(text)?;
    if stream.root().is_some() {
        let mut text = text.to_owned();
        for (key, value) in pairs {
            let stream = Stream::parse(&text)?;
            if let Some(root) = stream.root() {
                text = insert_pair(&text, root, root, key, value)?;
            }
        }
        return Ok(text);
    }
    let marker_end = stream.documents.first().and_then(|first| first.marker_end);
    let position = marker_end.map_or(text.len(), |end| next_line(text, end));
    let mut lines = Vec::new();
    for (key, value) in pairs {
        block_pair(key, value, "", 0, &mut lines);
    }
    Ok(insert_lines(text, position, &lines))
}

/// Adds a pair after the last one of `mapping`. `root` is the document's own mapping, whose style
/// a new value takes up.
pub fn insert_pair(
    text: &str,
    root: &Node,
    mapping: &Node,
    key: &str,
    value: &Value,
) -> Result<String, YamlError> {
    let Kind::Mapping { flow, pairs } = &mapping.kind else {
        return Err(unsupported(text, mapping, "it is not a mapping"));
    };
    if *flow {
        let pair = Value::map([(key, value.clone())]);
        let last = match pairs.last() {
            Some(last) => Some(last.0.start..value_range(text, last)?.end),
            None => None,
        };
        return Ok(insert_flow(text, root, mapping, last, |layout| {
            let rendered = json(&pair, layout_of_member(layout));
            rendered[1..rendered.len() - 1].trim().to_owned()
        }));
    }
    let Some((first_key, _)) = pairs.first() else {
        return Err(unsupported(text, mapping, "its layout is unusual"));
    };
    let column = indent_of(text, first_key.start).len();
    let position = skip_inner_comments(text, mapping.lines_end, column);
    Ok(insert_block_pair(
        text, root, first_key, position, key, value,
    ))
}

/// Adds a pair to `mapping` before the one at `index`, above the comments that stand over that; in braces, at the
/// end as [`insert_pair`].
///
/// # Errors
/// The mapping is written in a way that cannot be edited.
pub fn insert_pair_before(
    text: &str,
    root: &Node,
    mapping: &Node,
    index: usize,
    key: &str,
    value: &Value,
) -> Result<String, YamlError> {
    if mapping.is_flow() {
        return insert_pair(text, root, mapping, key, value);
    }
    let Some((before, before_value)) = mapping.pairs().get(index) else {
        return Err(unsupported(text, mapping, "it has no such key"));
    };
    let line = line_start_after_mark(text, before.start);
    let position = match text[line..before.start].trim().is_empty() {
        true => skip_comments_above(text, line, indent_of(text, before.start).len()),
        // It stands behind a dash, above which is no line of the mapping.
        false => before_value.lines_end,
    };
    Ok(insert_block_pair(text, root, before, position, key, value))
}

/// Adds a pair in block style at a line's start, indented as `beside`, a key of the same mapping.
fn insert_block_pair(
    text: &str,
    root: &Node,
    beside: &Node,
    position: usize,
    key: &str,
    value: &Value,
) -> String {
    let indent = indent_of(text, beside.start);
    let mut lines = Vec::new();
    block_pair(key, value, &indent, list_offset(text, root), &mut lines);
    insert_lines(text, position, &lines)
}

/// Puts comments on lines of their own above that of the pair at `index` of `mapping`; in braces nowhere.
///
/// # Errors
/// The mapping has no such pair.
pub fn insert_comments(
    text: &str,
    mapping: &Node,
    index: usize,
    comments: &[String],
) -> Result<String, YamlError> {
    let Some((key, _)) = mapping.pairs().get(index) else {
        return Err(unsupported(text, mapping, "it has no such key"));
    };
    let line = line_start_after_mark(text, key.start);
    if comments.is_empty() || mapping.is_flow() || !text[line..key.start].trim().is_empty() {
        return Ok(text.to_owned());
    }
    let indent = indent_of(text, key.start);
    let lines: Vec<String> = comments
        .iter()
        .map(|comment| format!("{indent}{comment}"))
        .collect();
    Ok(insert_lines(text, line, &lines))
}

/// Gives the key of `pair` another name, with the quotes that it has.
///
/// # Errors
/// The key is written in a rare form.
pub fn rename_key(text: &str, pair: &(Node, Node), name: &str) -> Result<String, YamlError> {
    let (key, _) = pair;
    let Kind::Scalar { plain, .. } = key.kind else {
        return Err(unsupported(text, key, "its key is written in a rare form"));
    };
    let written = match plain {
        true => super::plain_or_quoted(name),
        false => format!("\"{name}\""),
    };
    Ok(spliced(text, key.start..key.end, &written))
}

/// Adds an item after the last one of `sequence`.
pub fn insert_item(
    text: &str,
    root: &Node,
    sequence: &Node,
    value: &Value,
) -> Result<String, YamlError> {
    let Kind::Sequence { flow, items } = &sequence.kind else {
        return Err(unsupported(text, sequence, "it is not a list"));
    };
    if *flow {
        let last = items.last().map(|last| last.start..last.end);
        return Ok(insert_flow(text, root, sequence, last, |layout| {
            json(value, layout)
        }));
    }
    let dash = dash(text, sequence, 0)?;
    let indent = indent_of(text, dash);
    let mut lines = Vec::new();
    block_item(value, &indent, list_offset(text, root), &mut lines);
    let position = skip_inner_comments(text, sequence.lines_end, indent.len());
    Ok(insert_lines(text, position, &lines))
}

/// Makes `item` the first of a list in block style, in place of the null or `[]` that stands
/// behind the key of `pair`.
pub fn start_block_list(
    text: &str,
    root: &Node,
    pair: &(Node, Node),
    item: &Value,
) -> Result<String, YamlError> {
    let raw = value_range(text, pair)?;
    let indent = format!(
        "{}{}",
        indent_of(text, pair.0.start),
        " ".repeat(list_offset(text, root))
    );
    let mut lines = Vec::new();
    block_item(item, &indent, list_offset(text, root), &mut lines);
    let colon_end = raw.start;
    let text = spliced(text, raw, "");
    Ok(insert_lines(&text, next_line(&text, colon_end), &lines))
}

/// Removes the item at `index` of `sequence`.
pub fn remove_item(text: &str, sequence: &Node, index: usize) -> Result<String, YamlError> {
    let items = sequence.items();
    let Some(item) = items.get(index) else {
        return Err(unsupported(text, sequence, "it has no such item"));
    };
    if sequence.is_flow() {
        let before = index.checked_sub(1).and_then(|before| items.get(before));
        let after = items.get(index + 1);
        return Ok(remove_flow(
            text,
            before.map(|before| before.end),
            item.start..item.end,
            after.map(|after| after.start),
        ));
    }
    let start = line_start_after_mark(text, dash(text, sequence, index)?);
    Ok(remove_lines(text, start..item.lines_end))
}

/// Removes the pair at `index` of `mapping`.
pub fn remove_pair(text: &str, mapping: &Node, index: usize) -> Result<String, YamlError> {
    let pairs = mapping.pairs();
    let Some(pair) = pairs.get(index) else {
        return Err(unsupported(text, mapping, "it has no such key"));
    };
    if mapping.is_flow() {
        let before = match index.checked_sub(1).and_then(|before| pairs.get(before)) {
            Some(before) => Some(value_range(text, before)?.end),
            None => None,
        };
        let range = pair.0.start..value_range(text, pair)?.end;
        let after = pairs.get(index + 1).map(|after| after.0.start);
        return Ok(remove_flow(text, before, range, after));
    }
    let start = line_start_after_mark(text, pair.0.start);
    if !text[start..pair.0.start].trim().is_empty() {
        return Err(unsupported(
            text,
            &pair.0,
            "something stands before it on its line",
        ));
    }
    Ok(remove_lines(text, start..pair.1.lines_end))
}

/// What stands behind the colon of `pair`, up to the end of its value: ` null`, ` "name"`, or
/// nothing.
pub fn value_raw<'text>(text: &'text str, pair: &(Node, Node)) -> Result<&'text str, YamlError> {
    Ok(&text[value_range(text, pair)?])
}

/// Puts `raw` in the place of what [`value_raw`] gives.
pub fn replace_raw(text: &str, pair: &(Node, Node), raw: &str) -> Result<String, YamlError> {
    Ok(spliced(text, value_range(text, pair)?, raw))
}

/// From behind the colon of `pair` to the end of its value.
fn value_range(text: &str, pair: &(Node, Node)) -> Result<Range<usize>, YamlError> {
    let (key, value) = pair;
    let between = &text[key.end..];
    let colon = key.end + (between.len() - between.trim_start_matches([' ', '\t']).len());
    if !text[colon..].starts_with(':') {
        return Err(unsupported(text, key, "its key is written in a rare form"));
    }
    let start = colon + 1;
    let end = if value.is_absent() { start } else { value.end };
    if end < start {
        return Err(unsupported(text, key, "its value stands at a rare place"));
    }
    Ok(start..end)
}

/// Adds a member to a collection in brackets, behind its `last` one.
fn insert_flow(
    text: &str,
    root: &Node,
    collection: &Node,
    last: Option<Range<usize>>,
    render: impl Fn(Layout<'_>) -> String,
) -> String {
    let Some(last) = last else {
        let position = collection.end.saturating_sub(1);
        return spliced(text, position..position, &render(Layout::Line));
    };
    let before = &text[..last.start];
    let space = &before[before.trim_end_matches([' ', '\t', '\r', '\n']).len()..];
    let member = match space.rsplit_once('\n') {
        Some((_, indent)) => {
            let newline = if space.contains("\r\n") { "\r\n" } else { "\n" };
            render(Layout::Lines {
                newline,
                indent,
                unit: &flow_unit(text, root),
            })
        }
        None => render(Layout::Line),
    };
    let alone = before.ends_with(['[', '{']);
    let space = if alone { " " } else { space };
    // Readers of libyaml's line take `key:,` for one word.
    let guard = if text[..last.end].ends_with(':') {
        " "
    } else {
        ""
    };
    spliced(
        text,
        last.end..last.end,
        &format!("{guard},{space}{member}"),
    )
}

/// The layout inside a member's own braces, so that the member without them stands at the
/// collection's own depth.
fn layout_of_member(layout: Layout<'_>) -> Layout<'_> {
    match layout {
        Layout::Lines {
            newline,
            indent,
            unit,
        } => Layout::Lines {
            newline,
            indent: indent.strip_suffix(unit).unwrap_or(indent),
            unit,
        },
        Layout::Line => Layout::Line,
    }
}

/// Removes a member of a collection in brackets with the comma that goes with it.
fn remove_flow(
    text: &str,
    before: Option<usize>,
    member: Range<usize>,
    after: Option<usize>,
) -> String {
    let range = match (before, after) {
        (Some(before), _) => before..member.end,
        (None, Some(after)) => member.start..after,
        (None, None) => member,
    };
    spliced(text, range, "")
}

/// One step of indentation in a document written in braces.
fn flow_unit(text: &str, root: &Node) -> String {
    let key = root.pairs().first().map(|(key, _)| key.start);
    let indent = key.map(|key| indent_of(text, key)).unwrap_or_default();
    if root.is_flow() && !indent.is_empty() && indent.len() <= 8 {
        indent
    } else {
        "  ".to_owned()
    }
}

/// How far lists stand to the right of their key in this document.
fn list_offset(text: &str, root: &Node) -> usize {
    let lists = root.pairs().iter().filter(|(_, value)| {
        matches!(&value.kind, Kind::Sequence { flow: false, items } if !items.is_empty())
    });
    for (key, list) in lists {
        if let Ok(dash) = dash(text, list, 0) {
            let (dash, key) = (
                indent_of(text, dash).len(),
                indent_of(text, key.start).len(),
            );
            return dash.saturating_sub(key).min(8);
        }
    }
    0
}

/// Where the dash of the item at `index` stands.
fn dash(text: &str, sequence: &Node, index: usize) -> Result<usize, YamlError> {
    let items = sequence.items();
    let item = items.get(index).map_or(sequence.start, |item| item.start);
    let after = index.checked_sub(1).and_then(|before| items.get(before));
    let after = after.map_or(0, |before| before.lines_end);
    let mut end = next_line(text, item);
    loop {
        let start = line_start_after_mark(text, end.saturating_sub(1));
        let line = &text[start..end];
        let column = line.len() - line.trim_start_matches(' ').len();
        let rest = &line[column..];
        let spaced = rest[1.min(rest.len())..].starts_with([' ', '\t', '\r', '\n']);
        if start + column <= item && rest.starts_with('-') && (spaced || rest.len() == 1) {
            return Ok(start + column);
        }
        if start <= after || start == 0 {
            return Err(unsupported(text, sequence, "its layout is unusual"));
        }
        end = start;
    }
}

/// The start of the line that holds `position`, behind a byte order mark.
fn line_start_after_mark(text: &str, position: usize) -> usize {
    match line_start(text, position) {
        0 if text.starts_with(BYTE_ORDER_MARK) && position >= BYTE_ORDER_MARK.len() => {
            BYTE_ORDER_MARK.len()
        }
        start => start,
    }
}

/// The indentation of what stands at `position`: the white space before it, or as many spaces as
/// there are columns. The `?` of a key's long form belongs to the key.
fn indent_of(text: &str, position: usize) -> String {
    let before = &text[line_start_after_mark(text, position)..position];
    let before = before.trim_end().strip_suffix('?').unwrap_or(before);
    if before
        .chars()
        .all(|character| character == ' ' || character == '\t')
    {
        before.to_owned()
    } else {
        " ".repeat(before.chars().count())
    }
}

/// Goes from `position`, a line's start, over comment lines that are indented deeper than
/// `column`: they belong to what stands above them.
fn skip_inner_comments(text: &str, position: usize, column: usize) -> usize {
    let mut position = position;
    loop {
        let line = &text[position..next_line(text, position)];
        let content = line.trim_start_matches(' ');
        if !content.starts_with('#') || line.len() - content.len() <= column {
            return position;
        }
        position += line.len();
    }
}

/// Goes from `position`, a line's start, up over comment lines that are indented by `column`: they belong to
/// what stands below them.
fn skip_comments_above(text: &str, position: usize, column: usize) -> usize {
    let mut position = position;
    while position > 0 {
        let start = line_start_after_mark(text, position - 1);
        let line = &text[start..position];
        let content = line.trim_start_matches(' ');
        if !content.starts_with('#') || line.len() - content.len() != column {
            break;
        }
        position = start;
    }
    position
}

/// Inserts lines at the start of a line or at the end of the text, with the text's own line ends;
/// a text without a final line end gets none.
fn insert_lines(text: &str, position: usize, lines: &[String]) -> String {
    let newline = match text.find('\n') {
        Some(first) if text[..first].ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let block = lines.join(newline);
    let bare = text.is_empty() || text == BYTE_ORDER_MARK;
    if position == text.len() && !bare && !text.ends_with('\n') {
        format!("{text}{newline}{block}")
    } else {
        spliced(text, position..position, &format!("{block}{newline}"))
    }
}

/// Removes whole lines; at the end of a text without a final line end, with the one before them.
fn remove_lines(text: &str, range: Range<usize>) -> String {
    let mut start = range.start;
    if range.end == text.len() && !text.ends_with('\n') {
        let before = &text[..start];
        let before = before.strip_suffix('\n').unwrap_or(before);
        start = before.strip_suffix('\r').unwrap_or(before).len();
    }
    spliced(text, start..range.end, "")
}

fn spliced(text: &str, range: Range<usize>, replacement: &str) -> String {
    let mut out = String::with_capacity(text.len() + replacement.len());
    out.push_str(&text[..range.start]);
    out.push_str(replacement);
    out.push_str(&text[range.end..]);
    out
}

/// The error for a node that cannot be edited in place.
fn unsupported(text: &str, node: &Node, what: &str) -> YamlError {
    let line = text[..node.start].matches('\n').count() + 1;
    YamlError::unsupported(what, line)
}
