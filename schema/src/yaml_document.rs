//! YAML 1.2 into [`Node`]s.
//!
//! Owns anchors, aliases and `<<` merge keys, the core schema's plain scalars, and the refusal of what has no place in
//! a declaration: duplicate keys, keys that are not text, unknown tags, a second document. Limits: a document of at
//! most [`LONGEST_DOCUMENT`](crate::source_text::LONGEST_DOCUMENT) bytes, nested at most [`DEEPEST`] levels, and at most
//! [`MOST_NODES`] values after its aliases are expanded. A number with leading zeros (`0640`) stays text: YAML 1.1
//! reads it in base 8, YAML 1.2 in base 10. The parser stops at its first syntax error.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::diagnostic::{Diagnostics, Position};
use crate::node::{Entry, Node, Value};
use crate::source_text::SourceText;

/// How deep lists and maps may nest, aliases expanded.
pub const DEEPEST: usize = 64;
/// How many values a document may hold once its aliases are expanded: ten aliases of ten aliases of ten ... is a bomb.
pub const MOST_NODES: usize = 100_000;
/// How much text a document may hold once its aliases are expanded.
const MOST_TEXT: usize = 8 * 1024 * 1024;

/// Parses a document; an empty one is null. `None` where it cannot be used; the reasons are in `out`.
#[must_use]
pub fn parse(file: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Node> {
    let source = SourceText::new(file, bytes, out)?;
    let before = out.len();
    let mut builder = Builder {
        file: Rc::clone(&source.file),
        open: Vec::new(),
        anchors: BTreeMap::new(),
        done: None,
        nodes: 0,
        text: 0,
    };
    for event in Parser::new_from_str(source.text) {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span, out) {
                    return None;
                }
            }
            Err(error) => {
                out.error(file, position(error.marker()), error.info().to_owned());
                return None;
            }
        }
    }
    if out.len() > before {
        return None;
    }
    Some(builder.done.unwrap_or(Node {
        file: source.file,
        at: Position { line: 1, column: 1 },
        value: Value::Null,
    }))
}

fn position(marker: &saphyr_parser::Marker) -> Position {
    Position {
        line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
        column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
    }
}

/// A finished value with what it weighs once expanded, and how deep it is.
#[derive(Clone)]
struct Built {
    node: Node,
    nodes: usize,
    text: usize,
    depth: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    kind: OpenKind,
    nodes: usize,
    text: usize,
    depth: usize,
}

enum OpenKind {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<Key>,
        merges: Vec<Node>,
    },
}

struct Key {
    text: String,
    at: Position,
    merge: bool,
}

struct Builder {
    file: Rc<str>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Built>,
    done: Option<Node>,
    nodes: usize,
    text: usize,
}

impl Builder {
    /// Takes one event; `false` where going on makes no sense.
    fn event(&mut self, event: Event<'_>, span: Span, out: &mut Diagnostics) -> bool {
        let at = position(&span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => true,
            Event::DocumentStart(_) => {
                if self.done.is_some() {
                    out.error(
                        &self.file,
                        at,
                        "a second document: one file holds one document",
                    );
                    return false;
                }
                true
            }
            Event::Alias(id) => match self.anchors.get(&id) {
                Some(built) => {
                    let mut built = built.clone();
                    // A problem with the value is a problem where it stands; the alias is only its shadow.
                    built.node.file = Rc::clone(&self.file);
                    self.add(built, at, out)
                }
                None => {
                    out.error(
                        &self.file,
                        at,
                        "this alias stands inside the value it names",
                    );
                    false
                }
            },
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = text == "<<" && style == ScalarStyle::Plain;
                if self.awaits_key() {
                    return self.key(text.into_owned(), at, is_merge, tag.as_deref(), anchor, out);
                }
                let weight = text.len();
                let value = match scalar(&text, style, tag.as_deref()) {
                    Ok(value) => value,
                    Err(message) => {
                        out.error(&self.file, at, message);
                        Value::Null
                    }
                };
                let built = Built {
                    node: Node {
                        file: Rc::clone(&self.file),
                        at,
                        value,
                    },
                    nodes: 1,
                    text: weight,
                    depth: 0,
                };
                if anchor > 0 {
                    self.anchors.insert(anchor, built.clone());
                }
                self.add(built, at, out)
            }
            Event::SequenceStart(anchor, tag) => {
                self.known_tag(tag.as_deref(), "seq", at, out);
                self.begin(at, anchor, OpenKind::List(Vec::new()), out)
            }
            Event::MappingStart(anchor, tag) => {
                self.known_tag(tag.as_deref(), "map", at, out);
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.begin(at, anchor, kind, out)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(out),
        }
    }

    fn known_tag(&self, tag: Option<&Tag>, fitting: &str, at: Position, out: &mut Diagnostics) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == fitting)
        {
            out.error(&self.file, at, format!("the tag `{tag}` is not supported"));
        }
    }

    fn awaits_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                kind: OpenKind::Map { key: None, .. },
                ..
            })
        )
    }

    fn begin(
        &mut self,
        at: Position,
        anchor: usize,
        kind: OpenKind,
        out: &mut Diagnostics,
    ) -> bool {
        if self.awaits_key() {
            out.error(&self.file, at, "a key must be plain text");
            return false;
        }
        if self.open.len() >= DEEPEST {
            return self.too_deep(at, out);
        }
        self.open.push(Open {
            at,
            anchor,
            kind,
            nodes: 1,
            text: 0,
            depth: 0,
        });
        true
    }

    fn too_deep(&self, at: Position, out: &mut Diagnostics) -> bool {
        out.error(
            &self.file,
            at,
            format!("this is nested more than {DEEPEST} levels deep"),
        );
        false
    }

    fn key(
        &mut self,
        text: String,
        at: Position,
        merge: bool,
        tag: Option<&Tag>,
        anchor: usize,
        out: &mut Diagnostics,
    ) -> bool {
        self.known_tag(tag, "str", at, out);
        if anchor > 0 {
            let node = Node {
                file: Rc::clone(&self.file),
                at,
                value: Value::String(text.clone()),
            };
            let weight = text.len();
            self.anchors.insert(
                anchor,
                Built {
                    node,
                    nodes: 1,
                    text: weight,
                    depth: 0,
                },
            );
        }
        if let Some(Open {
            kind: OpenKind::Map { entries, key, .. },
            ..
        }) = self.open.last_mut()
        {
            if !merge && entries.iter().any(|entry| entry.key == text) {
                out.error(
                    &self.file,
                    at,
                    format!("duplicate key `{}`", text.escape_debug()),
                );
            }
            *key = Some(Key { text, at, merge });
        }
        true
    }

    fn end(&mut self, out: &mut Diagnostics) -> bool {
        let Some(open) = self.open.pop() else {
            return true;
        };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map {
                mut entries,
                merges,
                ..
            } => {
                for merge in merges {
                    self.merge(&mut entries, merge, out);
                }
                Value::Table(entries)
            }
        };
        let built = Built {
            node: Node {
                file: Rc::clone(&self.file),
                at: open.at,
                value,
            },
            nodes: open.nodes,
            text: open.text,
            depth: open.depth + 1,
        };
        if open.anchor > 0 {
            self.anchors.insert(open.anchor, built.clone());
        }
        self.put(built, open.at, out)
    }

    /// `<<`: keys of the map itself win, then those of earlier maps in a list.
    fn merge(&self, entries: &mut Vec<Entry>, merged: Node, out: &mut Diagnostics) {
        match merged.value {
            Value::Table(more) => {
                for entry in more {
                    if entries.iter().all(|present| present.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Value::List(maps) => {
                for map in maps {
                    if matches!(map.value, Value::Table(_)) {
                        self.merge(entries, map, out);
                    } else {
                        map.error(out, "`<<` merges maps, and this is not one");
                    }
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_) => out.error(
                &self.file,
                merged.at,
                "`<<` merges a map or a list of maps, and this is neither",
            ),
        }
    }

    /// Adds a scalar or an expanded alias, within the caps.
    fn add(&mut self, built: Built, at: Position, out: &mut Diagnostics) -> bool {
        if self.open.len() + built.depth > DEEPEST {
            return self.too_deep(at, out);
        }
        self.nodes += built.nodes;
        self.text += built.text;
        if self.nodes > MOST_NODES || self.text > MOST_TEXT {
            out.error(
                &self.file,
                at,
                format!("the document is too large once its aliases are expanded (at most {MOST_NODES} values)"),
            );
            return false;
        }
        self.put(built, at, out)
    }

    fn put(&mut self, built: Built, at: Position, out: &mut Diagnostics) -> bool {
        let Some(parent) = self.open.last_mut() else {
            self.done = Some(built.node);
            return true;
        };
        parent.nodes += built.nodes;
        parent.text += built.text;
        parent.depth = parent.depth.max(built.depth);
        match &mut parent.kind {
            OpenKind::List(items) => items.push(built.node),
            OpenKind::Map {
                entries,
                key,
                merges,
            } => match key.take() {
                Some(key) if key.merge => merges.push(built.node),
                Some(key) => entries.push(Entry {
                    key: key.text,
                    key_at: key.at,
                    value: built.node,
                }),
                // An alias where a key should stand.
                None => match built.node.value {
                    Value::String(text) => {
                        return self.key(text, at, false, None, 0, out);
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Integer(_)
                    | Value::Float(_)
                    | Value::List(_)
                    | Value::Table(_) => {
                        out.error(&self.file, at, "a key must be plain text");
                        return false;
                    }
                },
            },
        }
        true
    }
}

/// A scalar by the core schema, or by its tag.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Cow<'static, str>> {
    let string = || Value::String(text.to_owned());
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => plain(text),
            ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => string(),
        });
    };
    let named = tag.is_yaml_core_schema();
    let value = match (named, tag.suffix.as_str()) {
        (true, "str") => return Ok(string()),
        (false, "") if tag.handle == "!" => return Ok(string()),
        (true, "null" | "bool" | "int" | "float") => plain(text),
        _ => return Err(format!("the tag `{tag}` is not supported").into()),
    };
    let fits = match tag.suffix.as_str() {
        "null" => matches!(value, Value::Null),
        "bool" => matches!(value, Value::Bool(_)),
        "int" => matches!(value, Value::Integer(_)),
        _ => matches!(value, Value::Integer(_) | Value::Float(_)),
    };
    if fits {
        Ok(value)
    } else {
        Err(format!("`{}` does not fit its tag `{tag}`", text.escape_debug()).into())
    }
}

/// A plain scalar by YAML 1.2's core schema.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Value::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    let based = |digits: &str, radix| {
        // `from_str_radix` takes a sign, which the core schema does not allow here.
        (!digits.starts_with(['+', '-']))
            .then(|| i64::from_str_radix(digits, radix).ok())
            .flatten()
            .map(Value::Integer)
    };
    if let Some(digits) = text.strip_prefix("0o") {
        return based(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return based(digits, 16);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if unsigned.len() > 1 && unsigned.starts_with('0') && digits(unsigned) {
        return None;
    }
    if !unsigned.is_empty() && digits(unsigned) {
        return text.parse().ok().map(Value::Integer);
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good_exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let some_digit = !whole.is_empty() || !fraction.is_empty();
    if some_digit && digits(whole) && digits(fraction) && good_exponent {
        return text.parse().ok().map(Value::Float);
    }
    None
}

#[cfg(test)]
mod tests;
