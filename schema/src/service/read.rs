//! Reading single values out of a node, each with its own clear problem.

use std::collections::BTreeMap;

use super::keys::Key;
use crate::diagnostic::Diagnostics;
use crate::node::{Entry, Node, Value};

/// A known key with its value.
pub(super) struct Field<'a> {
    /// The key.
    pub(super) name: &'static str,
    /// What stands there; never null.
    pub(super) node: &'a Node,
}

/// The known, supported keys of a table. Reports the others. A key without a value is left out, as Compose does.
pub(super) fn fields<'a>(
    node: &'a Node,
    keys: &'static [Key],
    what: &str,
    out: &mut Diagnostics,
) -> Vec<Field<'a>> {
    let Some(entries) = table(node, what, out) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        if entry.key.starts_with("x-") {
            continue;
        }
        let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
            unknown(entry, node, keys, what, out);
            continue;
        };
        if let Some(instead) = key.refused {
            out.error_with_help(
                &node.file,
                entry.key_at,
                format!("`{}` in {what} is not supported by this version", key.name),
                instead,
            );
        } else if entry.value.value != Value::Null {
            found.push(Field {
                name: key.name,
                node: &entry.value,
            });
        }
    }
    found
}

/// Whether a table has known, supported keys alone. Reports the others.
pub fn check_keys(node: &Node, keys: &'static [Key], what: &str, out: &mut Diagnostics) -> bool {
    let before = out.len();
    fields(node, keys, what, out);
    out.len() == before
}

fn unknown(entry: &Entry, node: &Node, keys: &'static [Key], what: &str, out: &mut Diagnostics) {
    let message = format!("unknown key `{}` in {what}", entry.key.escape_debug());
    let nearest = keys
        .iter()
        .map(|key| (distance(&entry.key, key.name), key.name))
        .min();
    match nearest {
        Some((steps, name)) if steps <= 1 + name.len() / 4 => out.error_with_help(
            &node.file,
            entry.key_at,
            message,
            format!("did you mean `{name}`?"),
        ),
        _ => {
            let known: Vec<&str> = keys
                .iter()
                .filter(|key| key.refused.is_none())
                .map(|key| key.name)
                .collect();
            let help = format!("known keys: {}", known.join(", "));
            out.error_with_help(&node.file, entry.key_at, message, help);
        }
    }
}

/// How many letters have to be changed, added or taken away.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// The entries of a table.
pub(super) fn table<'a>(node: &'a Node, what: &str, out: &mut Diagnostics) -> Option<&'a [Entry]> {
    match &node.value {
        Value::Table(entries) => Some(entries),
        Value::Null => Some(&[]),
        Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::List(_) => {
            node.error(out, format!("{what} must be a table, not {}", node.kind()));
            None
        }
    }
}

/// The items of a list.
pub(super) fn list<'a>(node: &'a Node, what: &str, out: &mut Diagnostics) -> &'a [Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => {
            node.error(out, format!("`{what}` must be a list, not {}", node.kind()));
            &[]
        }
    }
}

/// Text; a whole number is read as text, anything else wants quotes.
pub(super) fn text(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::String(text) => plain(node, text, what, out),
        Value::Integer(number) => Some(number.to_string()),
        Value::Bool(_) | Value::Float(_) => {
            node.error_with_help(
                out,
                format!("`{what}` must be text, not {}", node.kind()),
                "put quotes around it",
            );
            None
        }
        Value::Null | Value::List(_) | Value::Table(_) => {
            node.error(out, format!("`{what}` must be text, not {}", node.kind()));
            None
        }
    }
}

/// Text that says something.
pub(super) fn filled(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    let text = text(node, what, out)?;
    if text.is_empty() {
        node.error(out, format!("`{what}` is empty"));
        return None;
    }
    Some(text)
}

/// Text, a number or a boolean, as text.
pub(super) fn scalar(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::String(text) => plain(node, text, what, out),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::List(_) | Value::Table(_) => {
            node.error(out, format!("`{what}` must be text, not {}", node.kind()));
            None
        }
    }
}

fn plain(node: &Node, text: &str, what: &str, out: &mut Diagnostics) -> Option<String> {
    if text.contains('\0') {
        node.error(out, format!("`{what}` has a NUL character in it"));
        return None;
    }
    Some(text.to_owned())
}

/// `true` or `false`; as text too, because a template renders to text.
pub(super) fn boolean(node: &Node, what: &str, out: &mut Diagnostics) -> Option<bool> {
    let flag = match &node.value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
            None
        }
    };
    if flag.is_none() {
        node.error(out, format!("`{what}` must be true or false"));
    }
    flag
}

/// A whole number; as text too, because a template renders to text.
pub(super) fn integer(node: &Node, what: &str, out: &mut Diagnostics) -> Option<i64> {
    let number = match &node.value {
        Value::Integer(number) => Some(*number),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
    };
    if number.is_none() {
        node.error(out, format!("`{what}` must be a whole number"));
    }
    number
}

/// A whole number in a range.
pub(super) fn number<T: TryFrom<i64>>(node: &Node, what: &str, out: &mut Diagnostics) -> Option<T> {
    let wide = integer(node, what, out)?;
    let narrow = T::try_from(wide).ok();
    if narrow.is_none() {
        node.error(out, format!("`{what}` is out of range: {wide}"));
    }
    narrow
}

/// Anything that is parsed from text.
pub(super) fn parsed<T>(
    node: &Node,
    what: &str,
    out: &mut Diagnostics,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = scalar(node, what, out)?;
    parse(&text)
        .map_err(|problem| node.error(out, format!("`{what}`: {problem}")))
        .ok()
}

/// One of these words.
pub(super) fn word(
    node: &Node,
    what: &str,
    words: &[&str],
    out: &mut Diagnostics,
) -> Option<String> {
    let found = text(node, what, out)?;
    if words.contains(&found.as_str()) {
        return Some(found);
    }
    node.error_with_help(
        out,
        format!("`{what}` cannot be `{}`", found.escape_debug()),
        format!("one of: {}", words.join(", ")),
    );
    None
}

/// A list of texts.
pub(super) fn texts(node: &Node, what: &str, out: &mut Diagnostics) -> Vec<String> {
    list(node, what, out)
        .iter()
        .filter_map(|item| filled(item, what, out))
        .collect()
}

/// One text or a list of texts.
pub(super) fn text_or_texts(node: &Node, what: &str, out: &mut Diagnostics) -> Vec<String> {
    match &node.value {
        Value::List(_) => texts(node, what, out),
        Value::String(_) | Value::Integer(_) => filled(node, what, out).into_iter().collect(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::Table(_) => {
            node.error(
                out,
                format!("`{what}` must be text or a list, not {}", node.kind()),
            );
            Vec::new()
        }
    }
}

/// A map of scalars.
pub(super) fn scalars(node: &Node, what: &str, out: &mut Diagnostics) -> BTreeMap<String, String> {
    let entries = table(node, &format!("`{what}`"), out).unwrap_or_default();
    let mut map = BTreeMap::new();
    for entry in entries {
        if let Some(value) = scalar(&entry.value, &format!("{what}.{}", entry.key), out) {
            map.insert(entry.key.clone(), value);
        }
    }
    map
}

/// What a list entry without `=` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bare {
    /// An empty value (labels).
    Empty,
    /// An error with this help (environment).
    Refused(&'static str),
}

/// A map of scalars, or a list of `key=value`.
pub(super) fn pairs(
    node: &Node,
    what: &str,
    bare: Bare,
    out: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    match &node.value {
        Value::List(items) => {
            for item in items {
                let Some(line) = text(item, what, out) else {
                    continue;
                };
                let (key, value) = match (line.split_once('='), bare) {
                    (Some((key, value)), _) => (key.to_owned(), value.to_owned()),
                    (None, Bare::Empty) => (line, String::new()),
                    (None, Bare::Refused(help)) => {
                        item.error_with_help(
                            out,
                            format!("`{what}`: `{}` has no value", line.escape_debug()),
                            help,
                        );
                        continue;
                    }
                };
                if key.is_empty() {
                    item.error(out, format!("`{what}`: a value without a name"));
                } else if map.insert(key.clone(), value).is_some() {
                    item.error(out, format!("`{what}`: `{key}` stands there twice"));
                }
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                    out.error(
                        &node.file,
                        entry.key_at,
                        format!("`{what}`: `{}` is not a name", entry.key.escape_debug()),
                    );
                    continue;
                }
                let value = match (&entry.value.value, bare) {
                    (Value::Null, Bare::Empty) => Some(String::new()),
                    (Value::Null, Bare::Refused(help)) => {
                        out.error_with_help(
                            &node.file,
                            entry.key_at,
                            format!("`{what}`: `{}` has no value", entry.key),
                            help,
                        );
                        None
                    }
                    _ => scalar(&entry.value, &format!("{what}.{}", entry.key), out),
                };
                map.extend(value.map(|value| (entry.key.clone(), value)));
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {
            node.error(
                out,
                format!(
                    "`{what}` must be a table or a list of `name=value`, not {}",
                    node.kind()
                ),
            );
        }
    }
    map
}

/// A key that the table knows and its decoder does not: a mistake of ours, told rather than ignored.
pub(super) fn unread(field: &Field<'_>, out: &mut Diagnostics) {
    field.node.error(
        out,
        format!("`{}` is not supported by this version", field.name),
    );
}
