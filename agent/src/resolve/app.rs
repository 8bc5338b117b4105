//! One app of a device: its documents, rendered and decoded, its files with their contents.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::{self, Check, FileEntry, FileSource, OnChange, Probe};
use evenkeel_schema::diagnostic::{Diagnostics, Position};
use evenkeel_schema::document::{Place, Placed};
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::node::{Node, Value};
use evenkeel_schema::path::RepoPath;
use evenkeel_schema::service::{
    self, Compose, FileKind, check_references, decode_files, decode_networks, decode_services,
    decode_volumes,
};
use evenkeel_schema::toml_document;

use super::Selection;
use super::conflicts::Claims;
use super::documents::{self, Found};
use super::merge::{self, Variables};
use super::order;
use super::project::Project;
use super::template::{TemplateError, Templates};
use super::{mounted, replicas};
use crate::domain::desired::{Contents, DesiredApp, DesiredFile};
use crate::domain::revision::ContentId;
use crate::domain::tree::Tree;

/// What all apps of a device share.
pub(super) struct Context<'s> {
    selection: &'s Selection,
    variables: Variables,
}

impl<'s> Context<'s> {
    pub(super) fn new(selection: &'s Selection) -> Self {
        Self {
            selection,
            variables: merge::variables(
                selection.device.as_str(),
                &selection.labels,
                &selection.values,
            ),
        }
    }

    /// The app's Compose files.
    pub(super) fn project<'p>(
        &'p self,
        app: &'p AppName,
        folder: &'p str,
        tree: &'p Tree,
    ) -> Project<'p> {
        let values = &self.selection.values;
        Project::new(tree, folder, app.as_str(), &self.variables, values)
    }

    fn templates(&self, app: &AppName) -> Templates {
        Templates::new(
            &self.selection.values,
            self.selection.device.as_str(),
            &self.selection.labels,
            app.as_str(),
        )
    }
}

/// Resolves one app. `named_at`: the places that name it.
pub(super) fn resolve(
    context: &Context<'_>,
    name: &AppName,
    named_at: &[Place],
    tree: &Tree,
    contents: &mut Contents,
    claims: &mut Claims,
    out: &mut Diagnostics,
) -> Option<(DesiredApp, Vec<Placed<AppName>>)> {
    let folder = format!("apps/{name}");
    let (app_path, compose_path) = (
        format!("{folder}/app.toml"),
        format!("{folder}/compose.yaml"),
    );
    let app_bytes = documents::optional(tree, &app_path, out);
    let compose_bytes = documents::optional(tree, &compose_path, out);
    if app_bytes.is_none() && compose_bytes.is_none() {
        missing(tree, &folder, name, named_at, out);
        return None;
    }
    let templates = context.templates(name);
    let project = context.project(name, &folder, tree);
    let mut document = None;
    if let Some(bytes) = app_bytes
        && let Some(mut node) = toml_document::parse(&app_path, bytes, out)
    {
        let failed = render_strings(&mut node, &templates, out);
        document = Some(without_echo(&failed, out, |out| {
            let mut app = app::decode(&node, out);
            let parts = own_parts(&mut app, &project, out);
            (app, parts)
        }));
    }
    let mut compose = None;
    if let Some(bytes) = compose_bytes {
        refuse_clashes(context, &compose_path, out);
        if let Some(node) = project.compose(&compose_path, bytes, out) {
            let failed = project.failed.borrow().clone();
            let read = without_echo(&failed, out, |out| service::decode_compose(&node, out));
            compose = Some((node, read));
        }
    }
    let (app, own) = match document {
        Some((app, own)) => (Some(app), own),
        None => (None, Compose::default()),
    };
    if compose_bytes.is_some()
        && let Some(app) = &app
    {
        refuse_two_sources(app, &compose_path, out);
    }
    let services_node = match &compose {
        Some((node, _)) => node.get("services").cloned(),
        None => app.as_ref().and_then(|app| app.services.clone()),
    };
    let mut read = compose.map_or(own, |(_, read)| read);
    if let Some(node) = &services_node {
        replicas::apply(node, &mut read, out);
    }
    if let Some(node) = &services_node {
        judge_images(context, node, &read, out);
        claims.services(name, node, &read);
    }
    let whole = Place {
        file: services_node
            .as_ref()
            .map_or_else(|| app_path.as_str().into(), |node| node.file.clone()),
        at: services_node
            .as_ref()
            .map_or_else(Position::default, |node| node.at),
    };
    claims.engine_names(name, &whole, &read);
    let files = mounted::files(&project, name, &read, contents, out);
    let mut desired = DesiredApp {
        files,
        services: read.services,
        networks: read.networks,
        volumes: read.volumes,
        ..DesiredApp::default()
    };
    let mut requires = Vec::new();
    if let Some(app) = app {
        for entry in app.files {
            mounted::refuse_place(&entry.path, out);
            claims.path(name, &entry.path);
            judge_changes(&entry, &desired.services, out);
            if let Some(bytes) = content(&entry.source, &folder, tree, &templates, out) {
                add_file(&mut desired, entry, bytes, contents);
            }
        }
        desired.checks = app
            .checks
            .into_iter()
            .map(|check| {
                judge_check(&check, &desired.services, out);
                check.value
            })
            .collect();
        desired.gate = app.gate;
        desired.lock = app.lock;
        desired.max_hold = app.max_hold;
        desired.requires = app.requires.iter().map(|app| app.value.clone()).collect();
        requires = app.requires;
        order::hooks(&mut desired, &app.hooks, out);
    }
    Some((desired, requires))
}

fn missing(tree: &Tree, folder: &str, name: &AppName, named_at: &[Place], out: &mut Diagnostics) {
    match documents::find(tree, folder) {
        Found::Folder => {
            // A link in a document's place was reported there.
            let linked = ["app.toml", "compose.yaml"].iter().any(|file| {
                !matches!(
                    documents::find(tree, &format!("{folder}/{file}")),
                    Found::Missing
                )
            });
            if !linked {
                out.error_with_help(
                    folder,
                    Position::default(),
                    "this app has neither `app.toml` nor `compose.yaml`",
                    "one of them says what the app is",
                );
            }
        }
        // Reported where it stands.
        Found::NotFollowed(_) => {}
        Found::Missing | Found::File(_) => {
            for place in named_at {
                place.error_with_help(
                    out,
                    format!("there is no app `{name}`"),
                    format!("an app is a folder: make `{folder}/app.toml`, or correct the name"),
                );
            }
        }
    }
}

/// Renders every string of app.toml; gives the places of those that could not be.
fn render_strings(
    node: &mut Node,
    templates: &Templates,
    out: &mut Diagnostics,
) -> BTreeSet<Position> {
    let mut failed = BTreeSet::new();
    node.rewrite_strings(&mut |text, file, at| match templates.render(text) {
        Ok(rendered) => Some(rendered),
        Err(error) => {
            failed.insert(at);
            let where_in_it = if error.line > 1 {
                format!(" (in line {} of this text)", error.line)
            } else {
                String::new()
            };
            out.error(file, at, format!("{}{where_in_it}", error.message));
            None
        }
    });
    failed
}

/// Runs a decoder, and leaves out what it says about strings that were reported already: their text is not what it
/// will be.
fn without_echo<T>(
    failed: &BTreeSet<Position>,
    out: &mut Diagnostics,
    decode: impl FnOnce(&mut Diagnostics) -> T,
) -> T {
    if failed.is_empty() {
        return decode(out);
    }
    let mut scratch = Diagnostics::new();
    let value = decode(&mut scratch);
    for diagnostic in scratch.sorted() {
        if !failed.contains(&diagnostic.at) {
            out.push(diagnostic);
        }
    }
    value
}

/// The services and what stands beside them, as app.toml itself declares them.
fn own_parts(app: &mut app::App, project: &Project<'_>, out: &mut Diagnostics) -> Compose {
    let mut parts = Compose::default();
    if let Some(node) = &app.networks {
        parts.networks = decode_networks(node, out);
    }
    if let Some(node) = &app.volumes {
        parts.volumes = decode_volumes(node, out);
    }
    if let Some(node) = &app.configs {
        parts.configs = decode_files(FileKind::Config, node, out);
    }
    if let Some(node) = &app.secrets {
        parts.secrets = decode_files(FileKind::Secret, node, out);
    }
    if let Some(node) = app.services.take() {
        let node = project.own(node, out);
        parts.services = decode_services(&node, out);
        check_references(&node, &parts, out);
        app.services = Some(node);
    }
    parts
}

fn refuse_two_sources(app: &app::App, compose_path: &str, out: &mut Diagnostics) {
    for (name, node) in [
        ("services", &app.services),
        ("networks", &app.networks),
        ("volumes", &app.volumes),
        ("configs", &app.configs),
        ("secrets", &app.secrets),
    ] {
        if let Some(node) = node {
            node.error_with_help(
                out,
                format!("`[{name}]` stands here, and there is `{compose_path}` too"),
                "declare services and what stands beside them in one of the two",
            );
        }
    }
}

fn refuse_clashes(context: &Context<'_>, compose_path: &str, out: &mut Diagnostics) {
    for clash in &context.variables.clashes {
        let message = format!(
            "{} and {} would both be `${{{}}}` in `{compose_path}`",
            clash.first, clash.second, clash.name
        );
        match &clash.place {
            Some(node) => node.error_with_help(out, message, "rename one of them"),
            None => out.error_with_help(
                compose_path,
                Position::default(),
                message,
                "rename one of them",
            ),
        }
    }
}

fn judge_images(context: &Context<'_>, node: &Node, read: &Compose, out: &mut Diagnostics) {
    if context.selection.allow_tags {
        return;
    }
    for (name, service) in &read.services {
        if service.image.is_pinned() {
            continue;
        }
        let here = node.get(name.as_str()).unwrap_or(node);
        here.get("image").unwrap_or(here).error_with_help(
            out,
            format!(
                "`{}` is not pinned: what it names can change without a commit",
                service.image
            ),
            format!(
                "write `{}@sha256:...`, or `allow_tags = true` in fleet.toml",
                service.image.name()
            ),
        );
    }
}

fn judge_changes(
    entry: &FileEntry,
    services: &BTreeMap<ServiceName, service::Service>,
    out: &mut Diagnostics,
) {
    for change in &entry.on_change {
        let service = match &change.value {
            OnChange::RestartService(service) | OnChange::SignalService { service, .. } => service,
            OnChange::RestartUnit(_) | OnChange::ReloadUnit(_) => continue,
        };
        judge_service(service, &change.place, services, out);
    }
}

fn judge_check(
    check: &Placed<Check>,
    services: &BTreeMap<ServiceName, service::Service>,
    out: &mut Diagnostics,
) {
    match &check.value.probe {
        Probe::Exec(service, _) => judge_service(service, &check.place, services, out),
        Probe::Tcp(_) | Probe::Http(_) | Probe::Command(_) | Probe::Unit(_) | Probe::File(_) => {}
    }
}

fn judge_service(
    service: &ServiceName,
    place: &Place,
    services: &BTreeMap<ServiceName, service::Service>,
    out: &mut Diagnostics,
) {
    if !services.contains_key(service) {
        let known: Vec<&str> = services.keys().map(ServiceName::as_str).collect();
        place.error_with_help(
            out,
            format!("this app has no service `{service}`"),
            format!("its services: {}", evenkeel_schema::decode::listed(known)),
        );
    }
}

/// The bytes of a file.
fn content(
    source: &FileSource,
    folder: &str,
    tree: &Tree,
    templates: &Templates,
    out: &mut Diagnostics,
) -> Option<Vec<u8>> {
    match source {
        FileSource::Content(text) => Some(text.clone().into_bytes()),
        FileSource::Plain(source) => {
            read(source, folder, tree, out).map(|(_, bytes)| bytes.to_vec())
        }
        FileSource::Template(source) => {
            let (path, bytes) = read(source, folder, tree, out)?;
            let Ok(text) = std::str::from_utf8(bytes) else {
                source.place.error_with_help(
                    out,
                    format!("`{path}` is not UTF-8 text, so it cannot be a template"),
                    "remove `template = true`",
                );
                return None;
            };
            match templates.render(text) {
                Ok(rendered) => Some(rendered.into_bytes()),
                Err(TemplateError {
                    line,
                    column,
                    message,
                }) => {
                    out.error(&path, Position { line, column }, message);
                    None
                }
            }
        }
    }
}

fn read<'t>(
    source: &Placed<RepoPath>,
    folder: &str,
    tree: &'t Tree,
    out: &mut Diagnostics,
) -> Option<(String, &'t [u8])> {
    let path = format!("{folder}/{}", source.value);
    match documents::find(tree, &path) {
        Found::File(bytes) => return Some((path, bytes)),
        Found::Missing => {
            let names: Vec<&str> = documents::below(tree, folder)
                .map(|below| &below[folder.len() + 1..])
                .collect();
            let help = match evenkeel_schema::decode::nearest(source.value.as_str(), names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("`source` is relative to `{folder}/`"),
            };
            source
                .place
                .error_with_help(out, format!("there is no file `{path}`"), help);
        }
        Found::Folder => source.place.error_with_help(
            out,
            format!("`{path}` is a folder"),
            "name each file under a `[[files]]` of its own",
        ),
        Found::NotFollowed(why) => {
            source
                .place
                .error_with_help(out, why, format!("put the file itself into `{folder}/`"));
        }
    }
    None
}

fn add_file(desired: &mut DesiredApp, entry: FileEntry, bytes: Vec<u8>, contents: &mut Contents) {
    let id = ContentId::of(&bytes);
    let mut on_change: Vec<OnChange> = Vec::new();
    for change in entry.on_change {
        if !on_change.contains(&change.value) {
            on_change.push(change.value);
        }
    }
    desired.files.insert(
        entry.path.value,
        DesiredFile {
            content: id.clone(),
            size: bytes.len() as u64,
            mode: entry.mode,
            owner: entry.owner,
            group: entry.group,
            on_change,
            on_remove: entry.on_remove,
            secret: false,
        },
    );
    contents.insert(id, bytes);
}

/// Whether any string of a document is a template: then what it decodes to is not known before it is rendered.
pub(super) fn has_templates(node: &Node) -> bool {
    match &node.value {
        Value::String(text) => Templates::has_template(text) || text.contains('$'),
        Value::List(items) => items.iter().any(has_templates),
        Value::Table(entries) => entries.iter().any(|entry| has_templates(&entry.value)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => false,
    }
}
