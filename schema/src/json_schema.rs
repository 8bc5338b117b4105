//! JSON Schema for editors, made from the very tables that the readers check keys against.

use serde_json::{Value, json};

use crate::service::keys::{Key, table_schema};
use crate::{agent_config, app, device, fleet, group};

/// The documents that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `fleet.toml`.
    Fleet,
    /// `groups/<group>.toml`.
    Group,
    /// `devices/<id>.toml`.
    Device,
    /// `apps/<app>/app.toml`.
    App,
    /// `apps/<app>/compose.yaml`.
    Compose,
    /// `/etc/evenkeel/agent.toml`.
    Agent,
}

impl Document {
    /// Every document.
    pub const ALL: [Self; 6] = [
        Self::Fleet,
        Self::Group,
        Self::Device,
        Self::App,
        Self::Compose,
        Self::Agent,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Group => "group",
            Self::Device => "device",
            Self::App => "app",
            Self::Compose => "compose",
            Self::Agent => "agent",
        }
    }

    const fn keys(self) -> &'static [Key] {
        match self {
            Self::Fleet => fleet::KEYS,
            Self::Group => group::KEYS,
            Self::Device => device::KEYS,
            Self::App => app::KEYS,
            Self::Compose => crate::service::keys::COMPOSE,
            Self::Agent => agent_config::KEYS,
        }
    }

    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Fleet => &["format", "name"],
            Self::Group => &["match"],
            Self::Agent => &["source"],
            Self::Device | Self::App | Self::Compose => &[],
        }
    }
}

/// Parts of app.toml that are the Compose Specification's, where `x-` keys are free.
const COMPOSE_PARTS: [&str; 5] = ["services", "networks", "volumes", "configs", "secrets"];

/// The JSON Schema of a document.
#[must_use]
pub fn json_schema(document: Document) -> Value {
    let mut schema = table_schema(document.keys());
    if document != Document::Compose {
        strict(&mut schema);
    }
    if let Value::Object(fields) = &mut schema {
        fields.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        fields.insert(
            "title".to_owned(),
            json!(format!("evenkeel {}", document.name())),
        );
        if !document.required().is_empty() {
            fields.insert("required".to_owned(), json!(document.required()));
        }
    }
    schema
}

/// Takes Compose's free `x-` keys out of the tables that do not have them.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("patternProperties");
            for (name, value) in fields {
                if !COMPOSE_PARTS.contains(&name.as_str()) {
                    strict(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_has_a_schema_with_exactly_the_keys_that_its_reader_takes() {
        for document in Document::ALL {
            let schema = json_schema(document);
            let mut keys: Vec<&str> = schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(|properties| properties.keys().map(String::as_str))
                .collect();
            let mut known: Vec<&str> = document
                .keys()
                .iter()
                .filter(|key| key.refused.is_none())
                .map(|key| key.name)
                .collect();
            keys.sort_unstable();
            known.sort_unstable();
            assert_eq!(keys, known);
            assert_eq!(schema["additionalProperties"], json!(false));
            let free = schema.get("patternProperties").is_some();
            assert_eq!(free, document == Document::Compose);
        }
        let app = json_schema(Document::App);
        assert!(
            app["properties"]["services"]["additionalProperties"]["properties"]["image"]
                .is_object()
        );
    }
}
