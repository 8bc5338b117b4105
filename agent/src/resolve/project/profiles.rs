//! Which services run: those without profiles, and those of which a profile is active.
//!
//! The active ones are the value `compose_profiles`, a list or a text with commas: what Compose calls `COMPOSE_PROFILES`.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::diagnostic::{Diagnostics, Position};
use evenkeel_schema::node::{Entry, Node, Value};

use super::{Defaults, Lookup, Project, entries_mut, services_mut};

/// The variable that names the active profiles.
const VARIABLE: &str = "COMPOSE_PROFILES";
/// The value that is a list of them.
const VALUE: &str = "compose_profiles";
/// What stands for every profile.
const ALL: &str = "*";

/// The active profiles, where they are a list.
pub(super) fn listed(values: &Node) -> Option<Vec<String>> {
    match &values.get(VALUE)?.value {
        Value::List(items) => Some(strings(items)),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => None,
    }
}

/// Values with which every service runs.
pub(in crate::resolve) fn every(file: &str) -> Node {
    let node = |value| Node {
        file: file.into(),
        at: Position::default(),
        value,
    };
    node(Value::Table(vec![Entry {
        key: VALUE.to_owned(),
        key_at: Position::default(),
        value: node(Value::List(vec![node(Value::String(ALL.to_owned()))])),
    }]))
}

fn strings(items: &[Node]) -> Vec<String> {
    let text = |item: &Node| match &item.value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

impl Project<'_> {
    fn active(&self, defaults: &Defaults) -> BTreeSet<String> {
        if let Some(listed) = &self.profiles {
            return listed.iter().cloned().collect();
        }
        let text = match self.lookup(VARIABLE, defaults) {
            Lookup::Set(text) => text,
            Lookup::Unset | Lookup::Wrong(_) => String::new(),
        };
        text.split(',').map(|one| one.trim().to_owned()).collect()
    }

    /// Takes out the services that do not run. One that runs, and needs one of these, is an error.
    pub(super) fn choose(&self, node: &mut Node, defaults: &Defaults, out: &mut Diagnostics) {
        let active = self.active(defaults);
        if active.contains(ALL) {
            return;
        }
        let Some(services) = services_mut(node) else {
            return;
        };
        let mut off: BTreeMap<String, Vec<String>> = BTreeMap::new();
        services.retain(|entry| {
            let profiles = match entry.value.get("profiles").map(|node| &node.value) {
                Some(Value::List(items)) => strings(items),
                Some(_) | None => return true,
            };
            let runs = profiles.is_empty() || profiles.iter().any(|one| active.contains(one));
            if !runs {
                off.insert(entry.key.clone(), profiles);
            }
            runs
        });
        for entry in services {
            drop_off(&mut entry.value, &entry.key, &off, out);
        }
    }
}

/// Takes what does not run out of a service's dependencies.
fn drop_off(
    service: &mut Node,
    name: &str,
    off: &BTreeMap<String, Vec<String>>,
    out: &mut Diagnostics,
) {
    let Some(depends_on) = entries_mut(service)
        .into_iter()
        .flatten()
        .find(|entry| entry.key == "depends_on")
    else {
        return;
    };
    let mut tell = |at: &Node, other: &str, profiles: &[String]| {
        at.error_with_help(
            out,
            format!(
                "`{name}` depends on `{other}`, which runs with the profile {} alone",
                profiles.join(" or ")
            ),
            format!("add it to the value `{VALUE}`, or say `required: false`"),
        );
    };
    match &mut depends_on.value.value {
        Value::List(items) => items.retain(|item| match &item.value {
            Value::String(other) => match off.get(other) {
                Some(profiles) => {
                    tell(item, other, profiles);
                    false
                }
                None => true,
            },
            _ => true,
        }),
        Value::Table(entries) => entries.retain(|entry| match off.get(&entry.key) {
            Some(profiles) => {
                let optional = entry.value.get("required").is_some_and(|node| {
                    node.value == Value::Bool(false)
                        || node.value == Value::String("false".to_owned())
                });
                if !optional {
                    tell(&entry.value, &entry.key, profiles);
                }
                false
            }
            None => true,
        }),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::String(_) => {}
    }
}
