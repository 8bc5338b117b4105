//! `extends`: a service on top of another one, here or in another file of the app's folder.

use std::collections::BTreeMap;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::node::{Node, Value};
use evenkeel_schema::service::keys::EXTENDS;
use evenkeel_schema::service::{check_keys, merge};

use super::{DEEPEST, Defaults, Project, services_mut, take};

/// What one document's services extend.
struct Bases<'p, 'd> {
    project: &'d Project<'p>,
    defaults: &'d Defaults,
    /// Other files' services, by path.
    files: BTreeMap<String, Option<Node>>,
}

impl Project<'_> {
    /// A document whose services extend nothing any more.
    pub(super) fn extended(
        &self,
        mut node: Node,
        defaults: &Defaults,
        out: &mut Diagnostics,
    ) -> Node {
        let Some(services) = node.get("services").cloned() else {
            return node;
        };
        let mut bases = Bases {
            project: self,
            defaults,
            files: BTreeMap::new(),
        };
        let Some(entries) = services_mut(&mut node) else {
            return node;
        };
        for entry in entries {
            if entry.value.get("extends").is_some() {
                let mut above = vec![(entry.value.file.to_string(), entry.key.clone())];
                entry.value = bases.service(entry.value.clone(), &services, &mut above, out);
            }
        }
        node
    }
}

impl Bases<'_, '_> {
    /// `service`, one of `siblings`, with all that it extends below it. `above`: the services that lead here.
    fn service(
        &mut self,
        mut service: Node,
        siblings: &Node,
        above: &mut Vec<(String, String)>,
        out: &mut Diagnostics,
    ) -> Node {
        let Some(extends) = take(&mut service, "extends") else {
            return service;
        };
        let (name, file) = match &extends.value {
            Value::String(name) => (name.as_str(), None),
            Value::Table(_) => {
                if !check_keys(&extends, EXTENDS, "`extends`", out) {
                    return service;
                }
                let text = |key| match extends.get(key).map(|node| (&node.value, node)) {
                    Some((Value::String(text), node)) => Some((text.as_str(), node)),
                    Some(_) | None => None,
                };
                match text("service") {
                    Some((name, _)) => (name, text("file")),
                    None => {
                        extends.error(out, "`extends` needs a `service`");
                        return service;
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
                extends.error(
                    out,
                    "`extends` is a service's name, or a table with `service` and `file`",
                );
                return service;
            }
        };
        let others = match file {
            None => siblings.clone(),
            Some((file, at)) => match self.file(file, at, out) {
                Some(others) => others,
                None => return service,
            },
        };
        let Some(base) = others.get(name) else {
            extends.error(
                out,
                format!(
                    "`extends` names the service `{}`, and {} has none",
                    name.escape_debug(),
                    others.file
                ),
            );
            return service;
        };
        let here = (base.file.to_string(), name.to_owned());
        if above.contains(&here) || above.len() > DEEPEST {
            extends.error(
                out,
                format!("`{}` extends itself, or too deep", name.escape_debug()),
            );
            return service;
        }
        above.push(here);
        let base = self.service(base.clone(), &others, above, out);
        above.pop();
        merge::service(base, service)
    }

    fn file(&mut self, name: &str, at: &Node, out: &mut Diagnostics) -> Option<Node> {
        let (path, bytes) = self.project.file(name, at, out)?;
        if let Some(known) = self.files.get(&path) {
            return known.clone();
        }
        let node = self.project.filled(&path, bytes, self.defaults, out);
        let services = node.and_then(|node| {
            let services = node.get("services").cloned();
            if services.is_none() {
                at.error(out, format!("`{path}` has no `services`"));
            }
            services
        });
        self.files.insert(path, services.clone());
        services
    }
}
