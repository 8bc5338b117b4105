//! The Compose files of an app, put together: variables, `include`, `extends`, `env_file`, `label_file`, profiles.
//!
//! What comes out is one tree without any of these, for the same decoder that reads a single file. Every file that is
//! named lies in the app's folder of the verified commit: nothing is read from the device, nothing outside the folder,
//! and no link is followed. Limits: [`MOST_FILES`] files, and includes and bases at most [`DEEPEST`] deep.

mod env_file;
mod extends;
mod include;
mod profiles;
mod variables;

pub(super) use profiles::every as every_profile;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::diagnostic::{Diagnostics, Position};
use evenkeel_schema::node::{Entry, Node, Value};
use evenkeel_schema::yaml_document;

use super::documents::{self, Found};
use super::interpolate::{self, Lookup};
use super::merge::Variables;
use crate::domain::tree::Tree;

/// How many files an app may be put together of.
const MOST_FILES: usize = 64;
/// How deep files may include one another, and services extend one another.
const DEEPEST: usize = 16;
/// What runs.
const SERVICES: &str = "services";
/// The tables beside `services`, and it.
const SECTIONS: [&str; 5] = [SERVICES, "networks", "volumes", "configs", "secrets"];

/// One app's files.
pub(super) struct Project<'p> {
    tree: &'p Tree,
    /// `apps/NAME`.
    folder: &'p str,
    app: &'p str,
    variables: &'p Variables,
    /// Profiles that are active, where a list names them.
    profiles: Option<Vec<String>>,
    /// Places of strings that could not be filled in.
    pub(super) failed: RefCell<BTreeSet<Position>>,
    read: Cell<usize>,
}

/// Variables of files, under the device's own.
type Defaults = BTreeMap<String, String>;

impl<'p> Project<'p> {
    pub(super) fn new(
        tree: &'p Tree,
        folder: &'p str,
        app: &'p str,
        variables: &'p Variables,
        values: &Node,
    ) -> Self {
        Self {
            tree,
            folder,
            app,
            variables,
            profiles: profiles::listed(values),
            failed: RefCell::new(BTreeSet::new()),
            read: Cell::new(0),
        }
    }

    /// What a `${NAME}` stands for; a device's values win over a file's.
    pub(super) fn lookup(&self, name: &str, defaults: &Defaults) -> Lookup {
        match self.variables.by_name.get(name) {
            Some(variable) => match &variable.text {
                Some(text) => Lookup::Set(text.clone()),
                None => Lookup::Wrong(format!(
                    "`${{{name}}}` is {}, which is a list and has no text",
                    variable.origin
                )),
            },
            None => match defaults.get(name) {
                Some(text) => Lookup::Set(text.clone()),
                // Compose's own: the project's name, which is the app's.
                None if name == "COMPOSE_PROJECT_NAME" => Lookup::Set(self.app.to_owned()),
                None => Lookup::Unset,
            },
        }
    }

    /// What a variable says in the app's own folder.
    pub(super) fn variable(&self, name: &str, out: &mut Diagnostics) -> Lookup {
        let defaults = self.defaults(self.folder, out);
        self.lookup(name, &defaults)
    }

    /// The variables of a folder's `.env`.
    pub(super) fn defaults(&self, folder: &str, out: &mut Diagnostics) -> Defaults {
        let path = format!("{folder}/.env");
        let mut defaults = Defaults::new();
        if let Some(bytes) = documents::optional(self.tree, &path, out) {
            self.add_variables(&path, bytes, &mut defaults, out);
        }
        defaults
    }

    /// Adds a file's variables below those that are there.
    fn add_variables(
        &self,
        path: &str,
        bytes: &[u8],
        defaults: &mut Defaults,
        out: &mut Diagnostics,
    ) {
        let format = env_file::Format::Usual;
        let lines = self.lines(path, bytes, format, defaults, out);
        for (name, value) in lines.into_iter().flatten() {
            if let Some(value) = value {
                defaults.entry(name).or_insert(value);
            }
        }
    }

    fn lines(
        &self,
        path: &str,
        bytes: &[u8],
        format: env_file::Format,
        defaults: &Defaults,
        out: &mut Diagnostics,
    ) -> Option<Vec<(String, Option<String>)>> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            out.error(path, Position::default(), "this is not UTF-8 text");
            return None;
        };
        env_file::parse(text, format, &|name| self.lookup(name, defaults))
            .map_err(|wrong| {
                let at = Position {
                    line: wrong.line,
                    column: 1,
                };
                out.error(path, at, wrong.message);
            })
            .ok()
    }

    /// A whole compose.yaml: parsed, filled in, with what it includes and what its services extend.
    pub(super) fn compose(&self, path: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Node> {
        let defaults = self.defaults(self.folder, out);
        let node = self.document(path, bytes, &defaults, &mut vec![path.to_owned()], out)?;
        Some(self.finished(node, &defaults, out))
    }

    /// The services of app.toml, whose strings are rendered: what they extend, and the rest of it.
    pub(super) fn own(&self, services: Node, out: &mut Diagnostics) -> Node {
        let defaults = self.defaults(self.folder, out);
        let whole = Node {
            file: services.file.clone(),
            at: services.at,
            value: Value::Table(vec![Entry {
                key: SERVICES.to_owned(),
                key_at: services.at,
                value: services.clone(),
            }]),
        };
        let whole = self.extended(whole, &defaults, out);
        let mut whole = self.finished(whole, &defaults, out);
        take(&mut whole, SERVICES).unwrap_or(services)
    }

    fn finished(&self, mut node: Node, defaults: &Defaults, out: &mut Diagnostics) -> Node {
        // First what is not run: its files need not be there.
        self.choose(&mut node, defaults, out);
        self.fill_services(&mut node, defaults, out);
        node
    }

    /// One file with its includes and bases. `above`: the files that lead here.
    fn document(
        &self,
        path: &str,
        bytes: &[u8],
        defaults: &Defaults,
        above: &mut Vec<String>,
        out: &mut Diagnostics,
    ) -> Option<Node> {
        let node = self.filled(path, bytes, defaults, out)?;
        let node = self.included(node, defaults, above, out);
        Some(self.extended(node, defaults, out))
    }

    /// One file, parsed and with its variables filled in.
    fn filled(
        &self,
        path: &str,
        bytes: &[u8],
        defaults: &Defaults,
        out: &mut Diagnostics,
    ) -> Option<Node> {
        self.read.set(self.read.get() + 1);
        if self.read.get() > MOST_FILES {
            out.error(
                path,
                Position::default(),
                format!("this app is put together of more than {MOST_FILES} files"),
            );
            return None;
        }
        let mut node = yaml_document::parse(path, bytes, out)?;
        let lookup = |name: &str| self.lookup(name, defaults);
        node.rewrite_strings(
            &mut |text, file, at| match interpolate::interpolate(text, &lookup) {
                Ok(text) => Some(text),
                Err(message) => {
                    self.failed.borrow_mut().insert(at);
                    out.error(file, at, message);
                    None
                }
            },
        );
        Some(node)
    }

    /// A file that is named in a document, by its path in the repository. Reports what keeps it from being read.
    pub(super) fn file(
        &self,
        named: &str,
        at: &Node,
        out: &mut Diagnostics,
    ) -> Option<(String, &'p [u8])> {
        let path = self.path(named, at, out)?;
        match documents::find(self.tree, &path) {
            Found::File(bytes) => return Some((path, bytes)),
            Found::Missing => {
                let names: Vec<&str> = documents::below(self.tree, self.folder)
                    .map(|below| &below[self.folder.len() + 1..])
                    .collect();
                let help = match evenkeel_schema::decode::nearest(named, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "files are read from the commit, not from the device".to_owned(),
                };
                at.error_with_help(out, format!("there is no file `{path}`"), help);
            }
            Found::Folder => at.error(out, format!("`{path}` is a folder")),
            Found::NotFollowed(why) => {
                let help = format!("put the file itself into `{}/`", self.folder);
                at.error_with_help(out, why, help);
            }
        }
        None
    }

    /// Whether a file that is named in a document is there.
    fn has(&self, named: &str, at: &Node) -> bool {
        let path = self.path(named, at, &mut Diagnostics::new());
        path.is_some_and(|path| !matches!(documents::find(self.tree, &path), Found::Missing))
    }

    /// Where a name leads that stands in a document: below that document's folder, and never out of the app's.
    fn path(&self, named: &str, at: &Node, out: &mut Diagnostics) -> Option<String> {
        let own = at.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = own.strip_prefix(self.folder).unwrap_or_default();
        let mut parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
        let mut inside = !named.starts_with('/') && !named.contains('\0');
        for part in named.split('/') {
            match part {
                "" | "." => {}
                ".." => inside &= parts.pop().is_some(),
                part => parts.push(part),
            }
        }
        if !inside || parts.is_empty() {
            at.error_with_help(
                out,
                format!("`{}` is not in the app's folder", named.escape_debug()),
                format!("only files in `{}/` are read", self.folder),
            );
            return None;
        }
        Some(format!("{}/{}", self.folder, parts.join("/")))
    }
}

/// The entries of a table, to change them.
fn entries_mut(node: &mut Node) -> Option<&mut Vec<Entry>> {
    match &mut node.value {
        Value::Table(entries) => Some(entries),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::List(_) => None,
    }
}

/// The services of a document, to change them.
fn services_mut(node: &mut Node) -> Option<&mut Vec<Entry>> {
    let entries = entries_mut(node)?;
    let services = entries.iter_mut().find(|entry| entry.key == SERVICES)?;
    entries_mut(&mut services.value)
}

/// Takes a key out of a table.
fn take(node: &mut Node, key: &str) -> Option<Node> {
    let entries = entries_mut(node)?;
    let index = entries.iter().position(|entry| entry.key == key)?;
    Some(entries.remove(index).value)
}

/// Text, or a list of it; reports anything else.
fn texts<'n>(node: &'n Node, what: &str, out: &mut Diagnostics) -> Vec<(&'n str, &'n Node)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Table(_) => std::slice::from_ref(node),
    };
    let mut found = Vec::new();
    for item in items {
        match &item.value {
            Value::String(text) if !text.is_empty() => found.push((text.as_str(), item)),
            _ => item.error(out, format!("`{what}` names files: text, or a list of it")),
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests;
