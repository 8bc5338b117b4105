//! What the documents of a repository have in common: tables with known keys, values, names that know their place.

use std::rc::Rc;

use crate::decode;
use crate::diagnostic::{Diagnostics, Position};
use crate::name::ValueName;
use crate::node::{Node, Value};
use crate::service::keys::Key;

/// A place in a document, kept beside what was read there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The document.
    pub file: Rc<str>,
    /// Where in it.
    pub at: Position,
}

impl Place {
    /// The place of a value.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self {
            file: Rc::clone(&node.file),
            at: node.at,
        }
    }

    /// Reports a problem here.
    pub fn error(&self, out: &mut Diagnostics, message: impl Into<String>) {
        out.error(&self.file, self.at, message);
    }

    /// Reports a problem here, with what would be right.
    pub fn error_with_help(
        &self,
        out: &mut Diagnostics,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        out.error_with_help(&self.file, self.at, message, help);
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.at.line, self.at.column)
    }
}

/// Something that was read, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// What was read.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// Checks a table's keys: reports those that are unknown, and those that this version does not support.
pub(crate) fn check_keys(node: &Node, keys: &[Key], what: &str, out: &mut Diagnostics) -> bool {
    let known: Vec<&str> = keys
        .iter()
        .filter(|key| key.refused.is_none())
        .map(|key| key.name)
        .collect();
    let Some(entries) = decode::entries(node, what, out) else {
        return false;
    };
    for entry in entries {
        match keys.iter().find(|key| key.name == entry.key) {
            Some(key) => {
                if let Some(instead) = key.refused {
                    unsupported(&node.file, entry.key_at, key.name, instead, out);
                }
            }
            None => decode::unknown_key(node, entry, what, &known, out),
        }
    }
    true
}

/// Reports something that this version knows of and cannot do. Never ignored: a device that leaves out a limit it was
/// told to keep would be worse than one that stops.
pub(crate) fn unsupported(
    file: &str,
    at: Position,
    name: &str,
    instead: &str,
    out: &mut Diagnostics,
) {
    out.error_with_help(
        file,
        at,
        format!("`{name}` is not supported by this version of evenkeel"),
        instead,
    );
}

/// Checks that every name in a table of values is one, at every depth, and that nothing is null.
pub(crate) fn values(node: &Node, out: &mut Diagnostics) -> Option<Node> {
    decode::entries(node, "`values`", out)?;
    let before = out.len();
    value_names(node, out);
    (out.len() == before).then(|| node.clone())
}

fn value_names(node: &Node, out: &mut Diagnostics) {
    match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                if let Err(error) = entry.key.parse::<ValueName>() {
                    out.error(&node.file, entry.key_at, error.to_string());
                }
                value_names(&entry.value, out);
            }
        }
        Value::List(items) => {
            for item in items {
                value_names(item, out);
            }
        }
        Value::Float(number) if !number.is_finite() => {
            node.error(out, "a value must be a finite number");
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {}
    }
}

/// A list of names, each with its place; the same name twice is an error.
pub(crate) fn names<T>(node: &Node, out: &mut Diagnostics) -> Vec<Placed<T>>
where
    T: std::str::FromStr + PartialEq + std::fmt::Display,
    T::Err: std::fmt::Display,
{
    let mut read: Vec<Placed<T>> = Vec::new();
    let items = decode::list(node, out, |item, out| {
        Some((item.clone(), decode::parsed::<T>(item, out)?))
    });
    for (item, value) in items.unwrap_or_default() {
        if read.iter().any(|present| present.value == value) {
            item.error(out, format!("`{value}` is named twice"));
            continue;
        }
        read.push(Placed {
            value,
            place: Place::of(&item),
        });
    }
    read
}

/// Labels: text by text. A label's name has letters, digits, `.`, `-`, `_` and `/`.
pub(crate) fn labels(
    node: &Node,
    out: &mut Diagnostics,
) -> std::collections::BTreeMap<String, String> {
    decode::map(node, "`labels`", out, |entry, out| {
        label_name(&node.file, entry.key_at, &entry.key, out)?;
        decode::scalar_text(&entry.value, out)
    })
    .unwrap_or_default()
}

/// Checks a label's name.
pub(crate) fn label_name(
    file: &str,
    at: Position,
    name: &str,
    out: &mut Diagnostics,
) -> Option<()> {
    let good = !name.is_empty()
        && name.len() <= 128
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'));
    if !good {
        out.error(
            file,
            at,
            format!(
                "`{}` is not a label's name: letters, digits, `.`, `-`, `_` and `/`",
                name.escape_debug()
            ),
        );
    }
    good.then_some(())
}
