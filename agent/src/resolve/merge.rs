//! Values: merging them, and handing them to templates and to `${VAR}`.

use std::collections::BTreeMap;

use evenkeel_schema::node::{Node, Value};

/// Merges deeply: tables key by key, everything else (lists too) is replaced.
pub(super) fn merge(base: &mut Node, over: &Node) {
    match (&mut base.value, &over.value) {
        (Value::Table(entries), Value::Table(more)) => {
            for entry in more {
                match entries.iter_mut().find(|present| present.key == entry.key) {
                    Some(present) => merge(&mut present.value, &entry.value),
                    None => entries.push(entry.clone()),
                }
            }
        }
        _ => *base = over.clone(),
    }
}

/// A value as templates see it.
pub(super) fn for_templates(node: &Node) -> minijinja::Value {
    match &node.value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(value) => minijinja::Value::from(*value),
        Value::Integer(value) => minijinja::Value::from(*value),
        Value::Float(value) => minijinja::Value::from(*value),
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::List(items) => items.iter().map(for_templates).collect(),
        Value::Table(entries) => entries
            .iter()
            .map(|entry| (entry.key.clone(), for_templates(&entry.value)))
            .collect::<BTreeMap<String, minijinja::Value>>()
            .into(),
    }
}

/// What a `${NAME}` stands for, and what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Variable {
    /// The dotted name of the value, or the label, for messages.
    pub(super) origin: String,
    /// Its text; `None` for a list, which has none.
    pub(super) text: Option<String>,
}

/// Variables by name, with every pair that would share one.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// By name.
    pub(super) by_name: BTreeMap<String, Variable>,
    /// A name, and the two things that would both have it.
    pub(super) clashes: Vec<Clash>,
}

/// Two things that would share one name.
#[derive(Debug, Clone)]
pub(super) struct Clash {
    /// The name.
    pub(super) name: String,
    /// What has it.
    pub(super) first: String,
    /// What would have it too.
    pub(super) second: String,
    /// Where the second stands, where it is a value.
    pub(super) place: Option<Node>,
}

impl Variables {
    fn add(&mut self, name: String, variable: Variable, place: Option<&Node>) {
        match self.by_name.get(&name) {
            Some(present) => self.clashes.push(Clash {
                name,
                first: present.origin.clone(),
                second: variable.origin,
                place: place.cloned(),
            }),
            None => {
                self.by_name.insert(name, variable);
            }
        }
    }
}

/// A name in capitals; whatever cannot stand in a variable's name becomes `_`.
fn capitals(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// The variables of a device: `DEVICE_ID`, `LABEL_*`, and every value by its capitals (`mqtt.port` is `MQTT_PORT`).
pub(super) fn variables(
    device: &str,
    labels: &BTreeMap<String, String>,
    values: &Node,
) -> Variables {
    let mut variables = Variables::default();
    let known = |origin: &str, text: &str| Variable {
        origin: origin.to_owned(),
        text: Some(text.to_owned()),
    };
    variables.add(
        "DEVICE_ID".to_owned(),
        known("the device's id", device),
        None,
    );
    for (label, value) in labels {
        let origin = format!("the label `{label}`");
        variables.add(
            format!("LABEL_{}", capitals(label)),
            known(&origin, value),
            None,
        );
    }
    flatten(values, "", &mut variables);
    variables
}

fn flatten(node: &Node, name: &str, variables: &mut Variables) {
    let text = match &node.value {
        Value::Table(entries) => {
            for entry in entries {
                let below = if name.is_empty() {
                    entry.key.clone()
                } else {
                    format!("{name}.{}", entry.key)
                };
                flatten(&entry.value, &below, variables);
            }
            return;
        }
        Value::Null | Value::List(_) => None,
        Value::Bool(value) => Some(value.to_string()),
        Value::Integer(value) => Some(value.to_string()),
        Value::Float(value) => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
    };
    let variable = Variable {
        origin: format!("the value `{name}`"),
        text,
    };
    variables.add(capitals(name), variable, Some(node));
}
