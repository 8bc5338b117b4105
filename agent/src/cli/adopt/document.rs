//! The app.toml that would declare what stands on a device: written from what the engine tells, and judged by the resolver
//! and the planner themselves.

use std::collections::BTreeMap;

use evenkeel_schema::name::{AppName, DeviceId, ServiceName};
use serde_json::{Map, Value, json};

use crate::adapter::engine::Stranger;
use crate::domain::resource::ServiceId;
use crate::domain::tree::{Document, Tree};
use crate::plan::container::{differences, spec};
use crate::resolve;

/// One file to take over.
#[derive(Debug, Clone)]
pub(super) struct TakenFile {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) owner: String,
    pub(super) group: String,
    pub(super) content: Vec<u8>,
}

impl TakenFile {
    /// Its copy in the app's folder.
    fn source(&self) -> String {
        format!("files{}", self.path)
    }
}

/// One container as a service.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) service: ServiceName,
    pub(super) stranger: Stranger,
    /// What a container that is made of the declaration would have otherwise.
    pub(super) differs: Vec<String>,
}

/// An app that would be the same as what stands there.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub(super) name: AppName,
    /// The Compose project that it was.
    pub(super) project: Option<String>,
    pub(super) members: Vec<Member>,
    pub(super) files: Vec<TakenFile>,
    pub(super) text: String,
    /// Why the resolver does not take it.
    pub(super) problem: Option<String>,
}

/// A name as the documents take it.
fn sanitized(text: &str) -> String {
    let plain: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    plain.trim_start_matches(['-', '_']).to_owned()
}

pub(super) fn app_name(text: &str) -> AppName {
    sanitized(text)
        .parse()
        .unwrap_or_else(|_| "adopted".parse().expect("`adopted` is an app's name"))
}

fn key_of(project: Option<&str>, name: &str) -> String {
    let short = project
        .and_then(|project| name.strip_prefix(&format!("{project}_")))
        .unwrap_or(name);
    let key = sanitized(short);
    if key.is_empty() {
        "adopted".to_owned()
    } else {
        key
    }
}

/// The apps of these containers: one for each Compose project, one for each other container.
pub(super) fn apps_of(strangers: &[Stranger]) -> Vec<App> {
    let mut apps: BTreeMap<AppName, App> = BTreeMap::new();
    for stranger in strangers {
        let (project, service) = match &stranger.compose {
            Some((project, service)) => (Some(project.clone()), service.clone()),
            None => (None, stranger.observed.name.clone()),
        };
        let mut name = app_name(project.as_deref().unwrap_or(&stranger.observed.name));
        if apps
            .get(&name)
            .is_some_and(|app| app.project != project || project.is_none())
        {
            name = app_name(&format!("{name}-adopted"));
        }
        let app = apps
            .entry(name.clone())
            .or_insert_with(|| App::empty(name, project));
        let is_taken = |wanted: &str, members: &[Member]| {
            members
                .iter()
                .any(|member| member.service.as_str() == wanted)
        };
        let mut wanted = service.clone();
        let mut number = 2;
        while is_taken(&wanted, &app.members) {
            wanted = format!("{service}-{number}");
            number += 1;
        }
        let service: ServiceName = wanted
            .parse()
            .or_else(|_| sanitized(&wanted).parse())
            .unwrap_or_else(|_| "main".parse().expect("`main` is a service's name"));
        app.members.push(Member {
            service,
            stranger: stranger.clone(),
            differs: Vec::new(),
        });
    }
    apps.into_values().collect()
}

impl App {
    pub(super) fn empty(name: AppName, project: Option<String>) -> Self {
        Self {
            name,
            project,
            members: Vec::new(),
            files: Vec::new(),
            text: String::new(),
            problem: None,
        }
    }

    /// The files of its folder.
    pub(super) fn folder(&self) -> BTreeMap<String, Vec<u8>> {
        let mut folder: BTreeMap<String, Vec<u8>> = self
            .files
            .iter()
            .map(|file| (file.source(), file.content.clone()))
            .collect();
        folder.insert("app.toml".to_owned(), self.text.clone().into_bytes());
        folder
    }

    /// Writes its app.toml, and judges it: what the resolver says of it, and where each container differs from it.
    pub(super) fn write(&mut self, device: &DeviceId) {
        self.text = self.app_toml();
        let mut tree = Tree::default();
        let mut add = |path: String, bytes: Vec<u8>| {
            tree.documents.insert(path, Document::File(bytes));
        };
        add(
            "fleet.toml".to_owned(),
            b"format = 1\nname = \"adopt\"\n".to_vec(),
        );
        add(
            format!("devices/{device}.toml"),
            format!("apps = [\"{}\"]\n", self.name).into_bytes(),
        );
        for (path, bytes) in self.folder() {
            add(format!("apps/{}/{path}", self.name), bytes);
        }
        let resolved = resolve::apps_of(device, &BTreeMap::new(), &tree)
            .and_then(|selection| resolve::resolve(&selection, &tree));
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(problems) => {
                self.problem = Some(problems.to_string());
                return;
            }
        };
        for member in &mut self.members {
            let id = ServiceId {
                app: self.name.clone(),
                service: member.service.clone(),
            };
            let Some(spec) = spec(&resolved.state, &id) else {
                continue;
            };
            member.differs = match &member.stranger.image {
                None => vec!["its image is not on the device any more".to_owned()],
                Some(image) => differences(&spec, image, &member.stranger.observed)
                    .into_iter()
                    .map(|found| format!("{} {} -> {}", found.key, found.from, found.to))
                    .collect(),
            };
        }
    }

    fn app_toml(&self) -> String {
        let mut text = String::new();
        let from = match &self.project {
            Some(project) => format!("the Compose project {project}"),
            None => "what stood on the device".to_owned(),
        };
        text.push_str(&format!(
            "# Written by `evenkeel adopt` from {from}. Networks and volumes are external: their data stays.\n"
        ));
        let project = self.project.as_deref();
        let (mut networks, mut volumes) = (BTreeMap::new(), BTreeMap::new());
        for member in &self.members {
            let service = self.service(member, &mut networks, &mut volumes);
            text.push_str(&format!(
                "\n[services.{}]\n",
                quoted_key(member.service.as_str())
            ));
            for (key, value) in &service {
                text.push_str(&format!("{} = {}\n", quoted_key(key), toml_of(value)));
            }
        }
        for (kind, all) in [("networks", networks), ("volumes", volumes)] {
            for (name, key) in all {
                debug_assert_eq!(key, key_of(project, &name));
                text.push_str(&format!(
                    "\n[{kind}.{}]\nexternal = true\nname = {}\n",
                    quoted_key(&key),
                    toml_of(&json!(name))
                ));
            }
        }
        for file in &self.files {
            text.push_str("\n[[files]]\n");
            for (key, value) in [
                ("path", file.path.clone()),
                ("source", file.source()),
                ("mode", format!("{:04o}", file.mode)),
                ("owner", file.owner.clone()),
                ("group", file.group.clone()),
            ] {
                text.push_str(&format!("{key} = {}\n", toml_of(&json!(value))));
            }
            text.push_str("on_remove = \"keep\"\n");
        }
        text
    }

    fn service(
        &self,
        member: &Member,
        networks: &mut BTreeMap<String, String>,
        volumes: &mut BTreeMap<String, String>,
    ) -> Map<String, Value> {
        let project = self.project.as_deref();
        let stranger = &member.stranger;
        let mut service = stranger.service.clone();
        if stranger.observed.name != format!("{}-{}-1", self.name, member.service) {
            service.insert("container_name".to_owned(), json!(stranger.observed.name));
        }
        let mut joined = Map::new();
        for (name, aliases) in &stranger.networks {
            let key = key_of(project, name);
            networks.insert(name.clone(), key.clone());
            let entry = if aliases.is_empty() {
                json!({})
            } else {
                json!({ "aliases": aliases })
            };
            joined.insert(key, entry);
        }
        if !joined.is_empty() {
            service.insert("networks".to_owned(), Value::Object(joined));
        }
        let mut mounts = match service.remove("volumes") {
            Some(Value::Array(mounts)) => mounts,
            Some(_) | None => Vec::new(),
        };
        for (name, target, read_only) in &stranger.volumes {
            let key = key_of(project, name);
            volumes.insert(name.clone(), key.clone());
            let end = if *read_only { ":ro" } else { "" };
            mounts.push(json!(format!("{key}:{target}{end}")));
        }
        if !mounts.is_empty() {
            service.insert("volumes".to_owned(), Value::Array(mounts));
        }
        let waits: Map<String, Value> = stranger
            .depends_on
            .iter()
            .filter(|(needed, _)| {
                self.members
                    .iter()
                    .any(|member| member.service.as_str() == needed.as_str())
            })
            .map(|(needed, condition)| (needed.clone(), json!({ "condition": condition })))
            .collect();
        if !waits.is_empty() {
            service.insert("depends_on".to_owned(), Value::Object(waits));
        }
        service
    }
}

fn quoted_key(key: &str) -> String {
    let bare = key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if bare && !key.is_empty() {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    }
}

/// A value as TOML. Strings in app.toml are templates: what looks like one here is none.
fn toml_of(value: &Value) -> String {
    match value {
        Value::String(text) => toml::Value::from(plain(text)).to_string(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null => "\"\"".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(toml_of).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(key, value)| format!("{} = {}", quoted_key(key), toml_of(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('{', Some(second @ ('{' | '%' | '#'))) => {
                out.push_str(&format!("{{{{ '{{{second}' }}}}"));
                chars.next();
            }
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_template_is_written_so_that_it_is_none() {
        assert_eq!(plain("a { b } c"), "a { b } c");
        assert_eq!(plain("{{x}} {% y"), "{{ '{{' }}x}} {{ '{%' }} y");
    }

    #[test]
    fn any_name_becomes_one_that_the_documents_take() {
        for text in ["Shop", "_a b", "9", "", "--", &"x".repeat(99)] {
            let name = app_name(text);
            assert_eq!(name.as_str().parse::<AppName>().as_ref(), Ok(&name));
        }
    }
}
