//! `include`: other Compose files of the app's folder, each with what it includes itself.

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::node::{Entry, Node, Value};
use evenkeel_schema::service::keys::INCLUDE;
use evenkeel_schema::service::{check_keys, merge};

use super::{DEEPEST, Defaults, Project, SECTIONS, entries_mut, take, texts};

impl Project<'_> {
    /// A document with what it includes. What two declare differently is an error, as it is in Compose.
    pub(super) fn included(
        &self,
        mut node: Node,
        defaults: &Defaults,
        above: &mut Vec<String>,
        out: &mut Diagnostics,
    ) -> Node {
        let Some(list) = take(&mut node, "include") else {
            return node;
        };
        let items = match &list.value {
            Value::List(items) => items.as_slice(),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::Table(_) => {
                list.error(out, "`include` is a list of files");
                &[]
            }
        };
        for item in items {
            if let Some(part) = self.one_include(item, defaults, above, out) {
                add(&mut node, part, item, out);
            }
        }
        node
    }

    fn one_include(
        &self,
        item: &Node,
        defaults: &Defaults,
        above: &mut Vec<String>,
        out: &mut Diagnostics,
    ) -> Option<Node> {
        let (paths, env_files) = match &item.value {
            Value::Table(_) => {
                if !check_keys(item, INCLUDE, "`include`", out) {
                    return None;
                }
                let Some(path) = item.get("path") else {
                    item.error(out, "an entry of `include` needs a `path`");
                    return None;
                };
                let env_files = item.get("env_file");
                (
                    texts(path, "include.path", out),
                    env_files.map(|node| texts(node, "include.env_file", out)),
                )
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::List(_) => (texts(item, "include", out), None),
        };
        let mut whole: Option<Node> = None;
        let mut layered = defaults.clone();
        for (name, at) in env_files.unwrap_or_default() {
            if let Some((path, bytes)) = self.file(name, at, out) {
                self.add_variables(&path, bytes, &mut layered, out);
            }
        }
        for (name, at) in paths {
            let (path, bytes) = self.file(name, at, out)?;
            if above.contains(&path) || above.len() > DEEPEST {
                at.error(out, format!("`{path}` is included by itself, or too deep"));
                return None;
            }
            if let Some((folder, _)) = path.rsplit_once('/')
                && folder != self.folder
            {
                for (name, value) in self.defaults(folder, out) {
                    layered.entry(name).or_insert(value);
                }
            }
            above.push(path.clone());
            let part = self.document(&path, bytes, &layered, above, out);
            above.pop();
            let part = part?;
            whole = Some(match whole {
                None => part,
                Some(base) => over(base, part),
            });
        }
        whole
    }
}

/// A later file of the same entry on top of an earlier one.
fn over(mut base: Node, later: Node) -> Node {
    let Value::Table(entries) = later.value else {
        return base;
    };
    for entry in entries {
        let Some(present) = entries_mut(&mut base) else {
            return base;
        };
        match present.iter_mut().find(|one| one.key == entry.key) {
            Some(section) if SECTIONS.contains(&section.key.as_str()) => {
                let placeholder = Node {
                    value: Value::Null,
                    ..section.value.clone()
                };
                let earlier = std::mem::replace(&mut section.value, placeholder);
                section.value = sections(earlier, entry.value);
            }
            Some(other) => other.value = entry.value,
            None => present.push(entry),
        }
    }
    base
}

fn sections(mut earlier: Node, later: Node) -> Node {
    let (Some(entries), Value::Table(more)) = (entries_mut(&mut earlier), later.value) else {
        return earlier;
    };
    for entry in more {
        match entries.iter().position(|one| one.key == entry.key) {
            Some(index) => {
                let Entry { key, key_at, value } = entries.remove(index);
                let value = merge::service(value, entry.value);
                entries.insert(index, Entry { key, key_at, value });
            }
            None => entries.push(entry),
        }
    }
    earlier
}

/// Adds an included document's sections to the one that includes it.
fn add(node: &mut Node, part: Node, at: &Node, out: &mut Diagnostics) {
    let Value::Table(sections) = part.value else {
        at.error(out, "what is included is no Compose file");
        return;
    };
    for section in sections {
        if !SECTIONS.contains(&section.key.as_str()) {
            // A name, a version and what is free belong to the file; a key that nobody knows is told.
            if !matches!(section.key.as_str(), "name" | "version") && !section.key.starts_with("x-")
            {
                let message = format!(
                    "unknown key `{}` in an included file",
                    section.key.escape_debug()
                );
                out.error(&section.value.file, section.key_at, message);
            }
            continue;
        }
        let Some(entries) = entries_mut(node) else {
            return;
        };
        let Some(present) = entries.iter_mut().find(|one| one.key == section.key) else {
            entries.push(section);
            continue;
        };
        if present.value.value == Value::Null {
            present.value = section.value;
            continue;
        }
        let (Some(known), Value::Table(more)) =
            (entries_mut(&mut present.value), section.value.value)
        else {
            continue;
        };
        for entry in more {
            match known.iter().find(|one| one.key == entry.key) {
                None => known.push(entry),
                Some(first) if merge::same(&first.value, &entry.value) => {}
                Some(first) => out.error_with_help(
                    &entry.value.file,
                    entry.key_at,
                    format!(
                        "`{}` of `{}` stands in {}:{} too, and says something else",
                        entry.key, section.key, first.value.file, first.key_at.line
                    ),
                    "rename one of them: what is included cannot be changed where it is included",
                ),
            }
        }
    }
}
