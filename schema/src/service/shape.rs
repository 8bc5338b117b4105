//! What a key may hold, and how that looks in JSON Schema.

use serde_json::{Value, json};

/// One key of a table.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The key.
    pub name: &'static str,
    /// What may stand there.
    pub shape: Shape,
    /// What it does, for editors.
    pub about: &'static str,
    /// Set where Compose knows the key and this version does not support it: what to do instead.
    pub refused: Option<&'static str>,
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Text, or a number that is read as text.
    Text,
    /// Text that fits a regular expression of JSON Schema's. Only for keys that take no template.
    Pattern(&'static str),
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `1m30s`.
    Duration,
    /// `512m`, or a number of bytes.
    Size,
    /// Any scalar, read as text.
    Scalar,
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list.
    List(&'static Shape),
    /// A table with free keys.
    Map(&'static Shape),
    /// A table with these keys.
    Table(&'static [Key]),
    /// Any of these.
    AnyOf(&'static [Shape]),
    /// Nothing, as in YAML's `default:`.
    Null,
    /// Anything.
    Any,
}

impl Shape {
    /// The shape as JSON Schema.
    #[must_use]
    pub fn json_schema(&self) -> Value {
        match self {
            Self::Text => json!({"type": ["string", "integer"]}),
            Self::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
            // A template renders to text, so text is allowed wherever a number or a boolean is.
            Self::Bool => json!({"type": ["boolean", "string"]}),
            Self::Integer => json!({"type": ["integer", "string"]}),
            Self::Number => json!({"type": ["number", "string"]}),
            Self::Duration => json!({"type": "string"}),
            Self::Size => json!({"type": ["string", "integer"]}),
            Self::Scalar => json!({"type": ["string", "number", "boolean"]}),
            Self::Words(words) => json!({"anyOf": [{"enum": words}, {"type": "string"}]}),
            Self::List(item) => json!({"type": "array", "items": item.json_schema()}),
            Self::Map(value) => {
                json!({"type": "object", "additionalProperties": value.json_schema()})
            }
            Self::Table(keys) => table_schema(keys),
            Self::AnyOf(shapes) => {
                let all: Vec<Value> = shapes.iter().map(Self::json_schema).collect();
                json!({"anyOf": all})
            }
            Self::Null => json!({"type": "null"}),
            Self::Any => json!({}),
        }
    }
}

/// A table with these keys as JSON Schema: refused keys are left out, `x-` keys are free.
#[must_use]
pub fn table_schema(keys: &[Key]) -> Value {
    let properties: serde_json::Map<String, Value> = keys
        .iter()
        .filter(|key| key.refused.is_none())
        .map(|key| {
            let mut schema = key.shape.json_schema();
            if let Value::Object(fields) = &mut schema {
                fields.insert("description".to_owned(), json!(key.about));
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    })
}

pub(crate) const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        shape,
        about,
        refused: None,
    }
}

pub(crate) const fn refused(name: &'static str, instead: &'static str) -> Key {
    Key {
        name,
        shape: Shape::Scalar,
        about: "",
        refused: Some(instead),
    }
}
