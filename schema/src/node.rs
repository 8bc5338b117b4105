//! A document as a tree in which every value knows its place.
//!
//! TOML and YAML both become this tree, so that `[services]` in app.toml and compose.yaml are read by the same code
//! and a problem can always name file, line and column. Strings may be rewritten in place (templates,
//! interpolation) before anything is decoded: no value can change the structure.

use std::rc::Rc;

use crate::diagnostic::{Diagnostics, Position};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The document.
    pub file: Rc<str>,
    /// Where the value begins.
    pub at: Position,
    /// What stands there.
    pub value: Value,
}

/// What a document can hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// YAML's null; TOML has none.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text. Dates and times of TOML arrive as their text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A table, in the document's order.
    Table(Vec<Entry>),
}

/// One key of a table with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key begins.
    pub key_at: Position,
    /// Its value.
    pub value: Node,
}

/// What [`Node::rewrite_strings`] asks about each string: its text, its document and its place.
pub type Rewrite<'f> = dyn FnMut(&str, &Rc<str>, Position) -> Option<String> + 'f;

impl Node {
    /// The value of a key, where this is a table that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// The entries, where this is a table; else none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::List(_) => &[],
        }
    }

    /// What kind of value this is, as messages name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Reports a problem at this value.
    pub fn error(&self, out: &mut Diagnostics, message: impl Into<String>) {
        out.error(&self.file, self.at, message);
    }

    /// Reports a problem at this value, with what would be right.
    pub fn error_with_help(
        &self,
        out: &mut Diagnostics,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        out.error_with_help(&self.file, self.at, message, help);
    }

    /// Rewrites every string value (keys stay as they are), depth first, in document order. Used for templates in
    /// app.toml and for `${VAR}` in compose.yaml; `rewrite` reports its own problems and returns `None` to leave
    /// the string alone.
    pub fn rewrite_strings(&mut self, rewrite: &mut Rewrite<'_>) {
        match &mut self.value {
            Value::String(text) => {
                if let Some(new) = rewrite(text, &self.file, self.at) {
                    *text = new;
                }
            }
            Value::List(items) => {
                for item in items {
                    item.rewrite_strings(rewrite);
                }
            }
            Value::Table(entries) => {
                for entry in entries {
                    entry.value.rewrite_strings(rewrite);
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }
}
