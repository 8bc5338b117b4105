//! `env_file`, `label_file`, and names in `environment` that have no value of their own.

use std::collections::BTreeMap;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::node::{Entry, Node, Value};
use evenkeel_schema::service::keys::ENV_FILE;
use evenkeel_schema::service::{check_keys, merge};

use super::env_file::Format;
use super::{Defaults, Lookup, Project, entries_mut, services_mut, take};

impl Project<'_> {
    /// Puts what files say into the services' own keys.
    pub(super) fn fill_services(
        &self,
        node: &mut Node,
        defaults: &Defaults,
        out: &mut Diagnostics,
    ) {
        for entry in services_mut(node).into_iter().flatten() {
            let service = &mut entry.value;
            for (files, into) in [("env_file", "environment"), ("label_file", "labels")] {
                if let Some(files) = take(service, files) {
                    let found = self.of_files(&files, defaults, out);
                    add(service, into, found, &files);
                }
            }
            self.bare(service, defaults);
        }
    }

    /// The variables of files, the later winning.
    fn of_files(
        &self,
        files: &Node,
        defaults: &Defaults,
        out: &mut Diagnostics,
    ) -> BTreeMap<String, Node> {
        let mut found = BTreeMap::new();
        let items = match &files.value {
            Value::List(items) => items.as_slice(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Table(_) => std::slice::from_ref(files),
        };
        for item in items {
            let Some((name, at, required, format)) = entry(item, out) else {
                continue;
            };
            if !required && !self.has(name, at) {
                continue;
            }
            let Some((path, bytes)) = self.file(name, at, out) else {
                continue;
            };
            let lines = self.lines(&path, bytes, format, defaults, out);
            for (name, value) in lines.into_iter().flatten() {
                // A name alone takes the value of the device's own, and is none where that has none.
                let value = value.or_else(|| match self.lookup(&name, defaults) {
                    Lookup::Set(text) => Some(text),
                    Lookup::Unset | Lookup::Wrong(_) => None,
                });
                if let Some(value) = value {
                    let node = Node {
                        value: Value::String(value),
                        ..at.clone()
                    };
                    found.insert(name, node);
                }
            }
        }
        found
    }

    /// Gives names without a value the value that the device has under that name; one that has none stays, and is told where
    /// it is read.
    fn bare(&self, service: &mut Node, defaults: &Defaults) {
        let Some(environment) = entries_mut(service)
            .into_iter()
            .flatten()
            .find(|entry| entry.key == "environment")
        else {
            return;
        };
        let known = |name: &str| match self.lookup(name, defaults) {
            Lookup::Set(text) => Some(text),
            Lookup::Unset | Lookup::Wrong(_) => None,
        };
        match &mut environment.value.value {
            Value::List(items) => {
                for item in items {
                    if let Value::String(text) = &mut item.value
                        && !text.contains('=')
                        && let Some(value) = known(text)
                    {
                        *text = format!("{text}={value}");
                    }
                }
            }
            Value::Table(entries) => {
                for entry in entries {
                    if entry.value.value == Value::Null
                        && let Some(value) = known(&entry.key)
                    {
                        entry.value.value = Value::String(value);
                    }
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_) => {}
        }
    }
}

/// The name of one entry, where it stands, whether it must be there, and how it is read.
fn entry<'n>(item: &'n Node, out: &mut Diagnostics) -> Option<(&'n str, &'n Node, bool, Format)> {
    let wrong = |node: &Node, out: &mut Diagnostics| {
        node.error(
            out,
            "a file of variables is named by its path, or by a table with `path`",
        );
    };
    match &item.value {
        Value::String(path) => Some((path, item, true, Format::Usual)),
        Value::Table(_) => {
            if !check_keys(item, ENV_FILE, "`env_file`", out) {
                return None;
            }
            let path = item.get("path");
            let Some((path, Value::String(name))) = path.map(|node| (node, &node.value)) else {
                wrong(item, out);
                return None;
            };
            let required = match item.get("required").map(|node| &node.value) {
                Some(Value::Bool(required)) => *required,
                Some(Value::String(text)) => text != "false",
                Some(_) | None => true,
            };
            let format = match item.get("format").map(|node| (&node.value, node)) {
                None => Format::Usual,
                Some((Value::String(text), _)) if text == "raw" => Format::Raw,
                Some((_, node)) => {
                    node.error(out, "`env_file.format` can only be `raw`");
                    return None;
                }
            };
            Some((name, path, required, format))
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
            wrong(item, out);
            None
        }
    }
}

/// Puts pairs below those that the service has under a key.
fn add(service: &mut Node, key: &str, found: BTreeMap<String, Node>, at: &Node) {
    let own = take(service, key).map(merge::as_pairs);
    let entries = found
        .into_iter()
        .map(|(key, value)| Entry {
            key,
            key_at: value.at,
            value,
        })
        .collect();
    let below = Node {
        value: Value::Table(entries),
        ..at.clone()
    };
    let value = match own {
        Some(own) if matches!(own.value, Value::Table(_)) => merge::service(below, own),
        // What is wrong with it is told where it is read.
        Some(own) if own.value != Value::Null => own,
        Some(_) | None => below,
    };
    if let Some(entries) = entries_mut(service) {
        entries.push(Entry {
            key: key.to_owned(),
            key_at: at.at,
            value,
        });
    }
}
