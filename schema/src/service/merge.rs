//! One service over another, by the Compose Specification's rules: for `extends`, and for several files of one `include`.
//!
//! Tables merge key by key, lists are put behind one another, single values are replaced. A command, an entrypoint and a
//! test are single values; what names something (a variable, a mount's target) replaces what named it before.

use crate::node::{Entry, Node, Value};

/// Keys that may be a table or a list of `name=value`.
const PAIRS: [&str; 6] = [
    "annotations",
    "environment",
    "extra_hosts",
    "labels",
    "storage_opt",
    "sysctls",
];
/// Keys that may be a table or a list of names.
const NAMES: [&str; 2] = ["depends_on", "networks"];
/// Lists that are one value.
const WHOLE: [&str; 2] = ["command", "entrypoint"];
/// Keys that may be one text or a list of them.
const TEXTS: [&str; 5] = ["dns", "dns_search", "env_file", "label_file", "tmpfs"];
/// Lists of which a target in the container can have one.
const BY_TARGET: [&str; 4] = ["configs", "devices", "secrets", "volumes"];

/// `over` on top of `base`, both services.
#[must_use]
pub fn service(base: Node, over: Node) -> Node {
    let Node { file, at, value } = over;
    let over = match value {
        Value::Table(entries) => entries,
        other => {
            return Node {
                file,
                at,
                value: other,
            };
        }
    };
    let Value::Table(entries) = base.value else {
        return Node {
            file,
            at,
            value: Value::Table(over),
        };
    };
    Node {
        file,
        at,
        value: Value::Table(tables(entries, over, In::Service)),
    }
}

/// In what a key stands: a variable that is called `dns` is not a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    /// In the service itself.
    Service,
    /// In a table of names with single values.
    Pairs,
    /// In any other.
    Other,
}

fn tables(mut entries: Vec<Entry>, over: Vec<Entry>, place: In) -> Vec<Entry> {
    for entry in over {
        let present = entries.iter().position(|present| present.key == entry.key);
        match present {
            None => entries.push(entry),
            Some(index) => {
                let Entry { key, value, .. } = entries.remove(index);
                let merged = match place {
                    In::Service => one(&key, value, entry.value),
                    In::Pairs => entry.value,
                    In::Other => other(&key, value, entry.value),
                };
                entries.insert(
                    index,
                    Entry {
                        key,
                        key_at: entry.key_at,
                        value: merged,
                    },
                );
            }
        }
    }
    entries
}

fn one(key: &str, base: Node, over: Node) -> Node {
    // A key without a value says nothing.
    if over.value == Value::Null {
        return base;
    }
    if WHOLE.contains(&key) {
        return over;
    }
    if key == "logging" && driver(&base) != driver(&over) && driver(&over).is_some() {
        return over;
    }
    let (base, over) = if PAIRS.contains(&key) {
        (as_pairs(base), as_pairs(over))
    } else if NAMES.contains(&key) {
        (as_names(base), as_names(over))
    } else if TEXTS.contains(&key) {
        (as_list(base), as_list(over))
    } else {
        (base, over)
    };
    let place = if PAIRS.contains(&key) {
        In::Pairs
    } else {
        In::Other
    };
    both(base, over, place, BY_TARGET.contains(&key))
}

fn other(key: &str, base: Node, over: Node) -> Node {
    if key == "test" {
        return over;
    }
    both(base, over, In::Other, false)
}

fn both(base: Node, over: Node, place: In, by_target: bool) -> Node {
    let Node { file, at, value } = over;
    let value = match (base.value, value) {
        (Value::Table(entries), Value::Table(more)) => Value::Table(tables(entries, more, place)),
        (Value::List(mut items), Value::List(more)) => {
            for item in more {
                let mine = target(&item).filter(|_| by_target);
                let replaced = items
                    .iter()
                    .position(|present| mine.is_some() && target(present) == mine);
                match replaced {
                    Some(index) => items[index] = item,
                    None if items.iter().any(|present| same(present, &item)) => {}
                    None => items.push(item),
                }
            }
            Value::List(items)
        }
        // A key without a value says nothing.
        (base, Value::Null) => base,
        (_, value) => value,
    };
    Node { file, at, value }
}

fn driver(logging: &Node) -> Option<&Value> {
    logging.get("driver").map(|driver| &driver.value)
}

/// Whether two items say the same, wherever they stand.
#[must_use]
pub fn same(left: &Node, right: &Node) -> bool {
    match (&left.value, &right.value) {
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| same(left, right))
        }
        (Value::Table(left), Value::Table(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(left, right)| left.key == right.key && same(&left.value, &right.value))
        }
        (left, right) => left == right,
    }
}

/// Where an item of these lists is seen in the container.
fn target(item: &Node) -> Option<String> {
    let text = match &item.value {
        Value::String(text) => {
            let mut parts = text.split(':');
            let (first, second) = (parts.next()?, parts.next());
            second.filter(|part| part.starts_with('/')).unwrap_or(first)
        }
        Value::Table(_) => match (item.get("target"), item.get("source")) {
            (Some(named), _) | (None, Some(named)) => match &named.value {
                Value::String(text) => text,
                _ => return None,
            },
            (None, None) => return None,
        },
        _ => return None,
    };
    Some(text.trim_end_matches('/').to_owned())
}

fn as_list(node: Node) -> Node {
    let Node { file, at, value } = node;
    let value = match value {
        Value::List(items) => Value::List(items),
        single => Value::List(vec![Node {
            file: file.clone(),
            at,
            value: single,
        }]),
    };
    Node { file, at, value }
}

/// A list of `name=value` as a table; what is neither stays as it is, and is told where it is read.
#[must_use]
pub fn as_pairs(node: Node) -> Node {
    split(node, |text| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), None),
    })
}

fn as_names(node: Node) -> Node {
    split(node, |text| (text.to_owned(), None))
}

fn split(node: Node, parts: impl Fn(&str) -> (String, Option<String>)) -> Node {
    let Value::List(items) = &node.value else {
        return node;
    };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Value::String(text) = &item.value else {
            return node;
        };
        let (key, value) = parts(text);
        entries.retain(|entry| entry.key != key);
        entries.push(Entry {
            key,
            key_at: item.at,
            value: Node {
                file: item.file.clone(),
                at: item.at,
                value: value.map_or(Value::Null, Value::String),
            },
        });
    }
    Node {
        value: Value::Table(entries),
        ..node
    }
}
