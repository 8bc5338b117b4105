//! Typed readers over [`Node`].
//!
//! Each reader takes a node and a [`Diagnostics`], and either gives the value or reports at the node what would be
//! right and gives `None`: the caller goes on with the next key, so that all problems of a document come out at once.
//! Strings are rendered after parsing, so a number, boolean, duration or size may always come as its text.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::diagnostic::Diagnostics;
use crate::node::{Entry, Node, Value};
use crate::{duration, size};

/// The entries of a table whose keys must be among `known`. `what` names the table in messages (`[gate]`, "a check").
/// Unknown keys are reported, each with the nearest known one, and skipped. Null counts as an empty table.
#[must_use]
pub fn table<'n>(
    node: &'n Node,
    what: &str,
    known: &[&str],
    out: &mut Diagnostics,
) -> Option<Vec<&'n Entry>> {
    let entries = entries(node, what, out)?;
    Some(
        entries
            .iter()
            .filter(|entry| {
                let found = known.contains(&entry.key.as_str());
                if !found {
                    unknown_key(node, entry, what, known, out);
                }
                found
            })
            .collect(),
    )
}

/// The entries of a table with any keys. Null counts as an empty table.
#[must_use]
pub fn entries<'n>(node: &'n Node, what: &str, out: &mut Diagnostics) -> Option<&'n [Entry]> {
    match &node.value {
        Value::Table(entries) => Some(entries),
        Value::Null => Some(&[]),
        Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::List(_) => {
            node.error(
                out,
                format!("{what} must be a table, and this is {}", node.kind()),
            );
            None
        }
    }
}

/// Reports a key that `what` does not have, with the nearest one it has.
pub fn unknown_key(node: &Node, entry: &Entry, what: &str, known: &[&str], out: &mut Diagnostics) {
    let message = format!("unknown key `{}` in {what}", entry.key.escape_debug());
    let help = match nearest(&entry.key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known keys: {}", listed(known.iter().copied())),
    };
    out.error_with_help(&node.file, entry.key_at, message, help);
}

/// The value of a key; a key that stands there as YAML's null counts as absent, as in Compose.
#[must_use]
pub fn field<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    node.get(key).filter(|value| value.value != Value::Null)
}

/// The value of a key that must be there.
#[must_use]
pub fn required<'n>(
    node: &'n Node,
    key: &str,
    what: &str,
    out: &mut Diagnostics,
) -> Option<&'n Node> {
    let found = field(node, key);
    if found.is_none() {
        node.error(out, format!("{what} needs `{key}`"));
    }
    found
}

/// Reads a key where it is present: `None` both where it is absent and where it was reported as wrong.
pub fn optional<T>(
    node: &Node,
    key: &str,
    out: &mut Diagnostics,
    read: impl FnOnce(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<T> {
    field(node, key).and_then(|value| read(value, out))
}

fn expected<T>(node: &Node, what: &str, out: &mut Diagnostics) -> Option<T> {
    node.error(out, format!("expected {what}, found {}", node.kind()));
    None
}

/// A string.
pub fn text(node: &Node, out: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::List(_)
        | Value::Table(_) => expected(node, "a string", out),
    }
}

/// A string that is not empty.
pub fn filled_text(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = text(node, out)?;
    if text.is_empty() {
        node.error(out, "this must not be empty");
        return None;
    }
    Some(text)
}

/// A string, number or boolean, as its text: what Compose takes in `environment` and `labels`.
pub fn scalar_text(node: &Node, out: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Null | Value::List(_) | Value::Table(_) => {
            expected(node, "a string, number or boolean", out)
        }
    }
}

/// A boolean, or its text `true` or `false`.
pub fn boolean(node: &Node, out: &mut Diagnostics) -> Option<bool> {
    match &node.value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.trim() == "true" => Some(true),
        Value::String(text) if text.trim() == "false" => Some(false),
        Value::String(text) => {
            node.error(
                out,
                format!(
                    "expected `true` or `false`, found `{}`",
                    text.escape_debug()
                ),
            );
            None
        }
        Value::Null | Value::Integer(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
            expected(node, "a boolean", out)
        }
    }
}

/// A whole number, or its text.
pub fn integer(node: &Node, out: &mut Diagnostics) -> Option<i64> {
    match &node.value {
        Value::Integer(value) => Some(*value),
        Value::String(text) => {
            let parsed = text.trim().parse().ok();
            if parsed.is_none() {
                node.error(
                    out,
                    format!("expected an integer, found `{}`", text.escape_debug()),
                );
            }
            parsed
        }
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => {
            expected(node, "an integer", out)
        }
    }
}

/// A whole number, or its text, between `least` and `most`.
pub fn integer_between<T>(node: &Node, least: T, most: T, out: &mut Diagnostics) -> Option<T>
where
    T: TryFrom<i64> + PartialOrd + fmt::Display,
{
    let value = integer(node, out)?;
    match T::try_from(value) {
        Ok(number) if number >= least && number <= most => Some(number),
        Ok(_) | Err(_) => {
            node.error(out, format!("{value} is out of range: {least} to {most}"));
            None
        }
    }
}

/// A number with or without a fraction, or its text. Never infinite, never NaN.
pub fn number(node: &Node, out: &mut Diagnostics) -> Option<f64> {
    let value = match &node.value {
        Value::Float(value) => Some(*value),
        // Exact below 2^53, which is more than any setting needs.
        Value::Integer(value) => Some(*value as f64),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Table(_) => None,
    };
    let value = value.filter(|value: &f64| value.is_finite());
    if value.is_none() {
        node.error(out, format!("expected a number, found {}", shown(node)));
    }
    value
}

/// A duration in Compose's form; a number counts seconds.
pub fn duration(node: &Node, out: &mut Diagnostics) -> Option<Duration> {
    match scalar(node, "a duration such as `30s`", out)? {
        text if text.is_empty() => expected(node, "a duration such as `30s`", out),
        text => report(node, duration::parse(&text), out),
    }
}

/// A size in bytes in Compose's form (`64m`); a number counts bytes.
pub fn size(node: &Node, out: &mut Diagnostics) -> Option<u64> {
    let text = scalar(node, "a size such as `64m`", out)?;
    report(node, size::parse(&text), out)
}

fn scalar(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
            expected(node, what, out)
        }
    }
}

/// A string that `T` parses: its error becomes the message.
pub fn parsed<T>(node: &Node, out: &mut Diagnostics) -> Option<T>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = text(node, out)?;
    report(node, text.parse(), out)
}

/// The value, or its error reported at the node.
pub fn report<T, E: fmt::Display>(
    node: &Node,
    result: Result<T, E>,
    out: &mut Diagnostics,
) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            node.error(out, error.to_string());
            None
        }
    }
}

/// One of a few words.
pub fn one_of<T: Clone>(node: &Node, choices: &[(&str, T)], out: &mut Diagnostics) -> Option<T> {
    let text = text(node, out)?;
    let found = choices.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let words = || choices.iter().map(|(word, _)| *word);
        let message = format!(
            "`{}` is not one of {}",
            text.escape_debug(),
            listed(words())
        );
        match nearest(&text, words()) {
            Some(near) => node.error_with_help(out, message, format!("did you mean `{near}`?")),
            None => node.error(out, message),
        }
    }
    found.map(|(_, value)| value.clone())
}

/// A list; items that are wrong are reported and left out.
pub fn list<T>(
    node: &Node,
    out: &mut Diagnostics,
    mut item: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) => Some(items.iter().filter_map(|node| item(node, out)).collect()),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => expected(node, "a list", out),
    }
}

/// A list, or one item alone.
pub fn list_or_one<T>(
    node: &Node,
    out: &mut Diagnostics,
    mut item: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(_) => list(node, out, item),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => item(node, out).map(|one| vec![one]),
    }
}

/// A table with free keys; entries that are wrong are reported and left out. `what` names the table in messages.
pub fn map<T>(
    node: &Node,
    what: &str,
    out: &mut Diagnostics,
    mut value: impl FnMut(&Entry, &mut Diagnostics) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let entries = entries(node, what, out)?;
    Some(
        entries
            .iter()
            .filter_map(|entry| Some((entry.key.clone(), value(entry, out)?)))
            .collect(),
    )
}

/// A table whose keys are names (`ServiceName`, ...); entries that are wrong are reported and left out.
pub fn named<K, T>(
    node: &Node,
    what: &str,
    out: &mut Diagnostics,
    mut value: impl FnMut(&K, &Entry, &mut Diagnostics) -> Option<T>,
) -> Option<BTreeMap<K, T>>
where
    K: FromStr + Ord,
    K::Err: fmt::Display,
{
    let entries = entries(node, what, out)?;
    let mut read = BTreeMap::new();
    for entry in entries {
        match entry.key.parse::<K>() {
            Ok(key) => {
                if let Some(value) = value(&key, entry, out) {
                    read.insert(key, value);
                }
            }
            Err(error) => out.error(&node.file, entry.key_at, error.to_string()),
        }
    }
    Some(read)
}

/// The value as a message shows it: scalars by their text, others by their kind.
#[must_use]
pub fn shown(node: &Node) -> String {
    match &node.value {
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            format!("`{}`", short.escape_debug())
        }
        Value::Bool(value) => format!("`{value}`"),
        Value::Integer(value) => format!("`{value}`"),
        Value::Float(value) => format!("`{value}`"),
        Value::Null | Value::List(_) | Value::Table(_) => node.kind().to_owned(),
    }
}

/// "`a`, `b` and `c`".
#[must_use]
pub fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The known word that a wrong one most likely stood for: at most a third of its letters differ.
#[must_use]
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let length = word.chars().count();
    // A word that long is not a slip of the finger, and the distance is quadratic.
    if length > 64 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    known
        .into_iter()
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= (length / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, deleted, replaced or swapped with their neighbour (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests;
