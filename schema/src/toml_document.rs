//! TOML into [`Node`]s.
//!
//! Owns the reading of TOML 1.0 text; every syntax error comes out at once with its place. Limits: a document of at
//! most [`LONGEST_DOCUMENT`](crate::source_text::LONGEST_DOCUMENT) bytes, nested at most [`DEEPEST`] levels.

use std::ops::Range;
use std::rc::Rc;

use toml::de::{DeTable, DeValue};
use toml_parser::lexer::TokenKind;

use crate::diagnostic::{Diagnostics, Position};
use crate::node::{Entry, Node, Value};
use crate::source_text::SourceText;

/// How deep tables and lists may nest. No document of ours comes near; a hostile one must not exhaust the stack.
pub const DEEPEST: usize = 64;

/// Parses a document. `None` where it cannot be used; the reasons are in `out`.
#[must_use]
pub fn parse(file: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Node> {
    let source = SourceText::new(file, bytes, out)?;
    if let Some(at) = deep_key(source.text) {
        out.error(
            file,
            source.position(at),
            format!("this key has more than {DEEPEST} parts"),
        );
        return None;
    }
    let (table, errors) = DeTable::parse_recoverable(source.text);
    if !errors.is_empty() {
        for error in errors {
            let at = error
                .span()
                .map_or(Position { line: 1, column: 1 }, |span| {
                    source.position(span.start)
                });
            out.error(file, at, error.message().to_owned());
        }
        return None;
    }
    let reader = Reader { source: &source };
    let before = out.len();
    let node = Node {
        file: Rc::clone(&source.file),
        at: Position { line: 1, column: 1 },
        value: reader.table(table.get_ref(), DEEPEST, out),
    };
    (out.len() == before).then_some(node)
}

/// Where a dotted key of more than [`DEEPEST`] parts begins: the parser builds one table a part, so that such a key
/// nests without any bracket, deep enough to exhaust the stack when it is dropped.
fn deep_key(text: &str) -> Option<usize> {
    let mut dots = 0;
    let mut start = None;
    for token in toml_parser::Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Whitespace => {}
            TokenKind::Atom
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString => {
                start.get_or_insert(token.span().start());
            }
            TokenKind::Equals
            | TokenKind::Comma
            | TokenKind::LeftSquareBracket
            | TokenKind::RightSquareBracket
            | TokenKind::LeftCurlyBracket
            | TokenKind::RightCurlyBracket
            | TokenKind::Comment
            | TokenKind::Newline
            | TokenKind::Eof => {
                dots = 0;
                start = None;
            }
        }
        if dots >= DEEPEST {
            return Some(start.unwrap_or_default());
        }
    }
    None
}

struct Reader<'s, 't> {
    source: &'s SourceText<'t>,
}

impl Reader<'_, '_> {
    fn table(&self, table: &DeTable<'_>, depth: usize, out: &mut Diagnostics) -> Value {
        let mut entries: Vec<(usize, Entry)> = table
            .iter()
            .map(|(key, value)| {
                let key_span = key.span();
                let entry = Entry {
                    key: key.get_ref().clone().into_owned(),
                    key_at: self.source.position(key_span.start),
                    value: self.node(value.get_ref(), &value.span(), &key_span, depth, out),
                };
                (key_span.start, entry)
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
    }

    /// `key` is where the value's key stands: the place of tables that no text of their own opens (`[a.b]` opens `a`).
    fn node(
        &self,
        value: &DeValue<'_>,
        span: &Range<usize>,
        key: &Range<usize>,
        depth: usize,
        out: &mut Diagnostics,
    ) -> Node {
        let start = if span.is_empty() {
            key.start
        } else {
            span.start
        };
        let at = self.source.position(start);
        let wrong = |out: &mut Diagnostics, message: String| {
            out.error(&self.source.file, at, message);
            Value::Null
        };
        let value = if depth == 0 {
            wrong(
                out,
                format!("this is nested more than {DEEPEST} levels deep"),
            )
        } else {
            match value {
                DeValue::String(text) => Value::String(text.clone().into_owned()),
                DeValue::Integer(integer) => {
                    match i64::from_str_radix(integer.as_str(), integer.radix()) {
                        Ok(number) => Value::Integer(number),
                        Err(_) => wrong(out, format!("`{integer}` does not fit a 64-bit integer")),
                    }
                }
                DeValue::Float(float) => match float.as_str().parse() {
                    Ok(number) => Value::Float(number),
                    Err(_) => wrong(out, format!("`{float}` is not a number")),
                },
                DeValue::Boolean(value) => Value::Bool(*value),
                DeValue::Datetime(time) => Value::String(time.to_string()),
                DeValue::Array(items) => Value::List(
                    items
                        .iter()
                        .map(|item| self.node(item.get_ref(), &item.span(), key, depth - 1, out))
                        .collect(),
                ),
                DeValue::Table(table) => self.table(table, depth - 1, out),
            }
        };
        Node {
            file: Rc::clone(&self.source.file),
            at,
            value,
        }
    }
}

#[cfg(test)]
mod tests;
