//! Judging a whole repository, as CI does before a device sees it.
//!
//! A device judges fleet.toml, the groups, its own document and its own apps; this judges the rest too: every declared
//! device, a made-up one for each group that no declared device is in, and the apps that nobody runs, as far as they
//! can be judged without a device's values.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::decode;
use evenkeel_schema::device::{Device, MachineId};
use evenkeel_schema::diagnostic::{Diagnostic, Diagnostics, Position};
use evenkeel_schema::document::{Place, Placed};
use evenkeel_schema::fleet::Fleet;
use evenkeel_schema::group::{Group, Selector};
use evenkeel_schema::name::{AppName, DeviceId, GroupName};
use evenkeel_schema::{app as app_document, service, toml_document, yaml_document};

use super::{app, documents, read_devices, read_fleet, read_groups, resolve, select, trust_folder};
use crate::domain::tree::Tree;

/// What was judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// Devices with a document.
    pub devices: usize,
    /// Groups.
    pub groups: usize,
    /// Apps.
    pub apps: usize,
}

/// Every problem of a repository, sorted by place, each once; and what was judged.
#[must_use]
pub fn lint(tree: &Tree) -> (Judged, Vec<Diagnostic>) {
    let mut out = Diagnostics::new();
    let mut judged = Judged::default();
    let Some(fleet) = read_fleet(tree, &mut out) else {
        return (judged, out.sorted());
    };
    trust_folder::judge(tree, &fleet.name, &mut out);
    let groups = read_groups(tree, &mut out);
    let devices = read_devices(tree, &mut out);
    judge_machines(&devices, &mut out);
    let apps = app_folders(tree, &mut out);
    let lists = groups
        .values()
        .flat_map(|group| [&group.apps, &group.without_apps])
        .chain(
            devices
                .values()
                .flat_map(|device| [&device.apps, &device.without_apps]),
        );
    for list in lists {
        judge_names(list, &apps, &mut out);
    }
    let used = judge_devices(tree, &fleet, &groups, &devices, &apps, &mut out);
    for name in apps.difference(&used) {
        judge_unused(tree, name, &mut out);
    }
    judged.devices = devices.len();
    judged.groups = groups.len();
    judged.apps = apps.len();
    (judged, out.sorted())
}

/// The folders below `apps/`.
fn app_folders(tree: &Tree, out: &mut Diagnostics) -> BTreeSet<AppName> {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for path in documents::below(tree, "apps") {
        let below = &path["apps/".len()..];
        let Some((name, _)) = below.split_once('/') else {
            continue;
        };
        if !seen.insert(name) {
            continue;
        }
        match name.parse() {
            Ok(name) => {
                names.insert(name);
            }
            Err(error) => out.error(
                &format!("apps/{name}"),
                Position::default(),
                format!("{error}"),
            ),
        }
    }
    names
}

/// One machine is one device.
fn judge_machines(devices: &BTreeMap<DeviceId, Device>, out: &mut Diagnostics) {
    let mut owners: BTreeMap<&MachineId, (&DeviceId, &Place)> = BTreeMap::new();
    for (id, device) in devices {
        let Some(machine) = &device.machine_id else {
            continue;
        };
        match owners.get(&machine.value) {
            Some((first, place)) => machine.place.error_with_help(
                out,
                format!("`{id}` has the machine id of `{first}` ({place})",),
                "one machine is one device: write what /etc/machine-id says on this one",
            ),
            None => {
                owners.insert(&machine.value, (id, &machine.place));
            }
        }
    }
}

fn judge_names(list: &[Placed<AppName>], apps: &BTreeSet<AppName>, out: &mut Diagnostics) {
    for app in list {
        if apps.contains(&app.value) {
            continue;
        }
        let known = apps.iter().map(AppName::as_str);
        let help = match decode::nearest(app.value.as_str(), known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the apps are {}", decode::listed(known)),
        };
        app.place
            .error_with_help(out, format!("there is no app `{}`", app.value), help);
    }
}

/// Resolves for every declared device and for one made-up device a group without any; gives the apps that were judged.
fn judge_devices(
    tree: &Tree,
    fleet: &Fleet,
    groups: &BTreeMap<GroupName, Group>,
    devices: &BTreeMap<DeviceId, Device>,
    apps: &BTreeSet<AppName>,
    out: &mut Diagnostics,
) -> BTreeSet<AppName> {
    let mut used = BTreeSet::new();
    let mut covered: BTreeSet<GroupName> = BTreeSet::new();
    let mut judge = |id: &DeviceId, labels: &BTreeMap<String, String>, device: &Device| {
        let mut selection = select(id, labels, fleet.clone(), groups, device);
        // Unknown apps were reported where they are named.
        selection.apps.retain(|app, _| apps.contains(app));
        used.extend(selection.apps.keys().cloned());
        if let Err(problems) = resolve(&selection, tree) {
            out.extend(problems);
        }
        selection.groups
    };
    for (id, device) in devices {
        covered.extend(judge(id, &BTreeMap::new(), device));
    }
    for (name, group) in groups {
        if covered.contains(name) {
            continue;
        }
        let id = example(name, devices);
        let labels = labels_of(group);
        if let Some(id) = id {
            covered.extend(judge(&id, &labels, &Device::default()));
        }
    }
    used
}

/// The id of a made-up device of a group; `None` where it is taken, or would not be one.
pub(super) fn example(group: &GroupName, devices: &BTreeMap<DeviceId, Device>) -> Option<DeviceId> {
    let id: DeviceId = format!("example-{group}").parse().ok()?;
    (!devices.contains_key(&id)).then_some(id)
}

/// The fewest labels that a device of a group has.
pub(super) fn labels_of(group: &Group) -> BTreeMap<String, String> {
    match &group.selector {
        Selector::All => BTreeMap::new(),
        Selector::Labels(wanted) => wanted
            .iter()
            .filter_map(|(label, any)| Some((label.clone(), any.first()?.clone())))
            .collect(),
    }
}

/// Judges an app that nobody runs: its syntax, its keys, and, where nothing in it is a template, all it declares.
fn judge_unused(tree: &Tree, name: &AppName, out: &mut Diagnostics) {
    let folder = format!("apps/{name}");
    let (app_path, compose_path) = (
        format!("{folder}/app.toml"),
        format!("{folder}/compose.yaml"),
    );
    let app_bytes = documents::optional(tree, &app_path, out);
    let compose_bytes = documents::optional(tree, &compose_path, out);
    if app_bytes.is_none() && compose_bytes.is_none() {
        out.error_with_help(
            &folder,
            Position::default(),
            "this app has neither `app.toml` nor `compose.yaml`",
            "one of them says what the app is",
        );
        return;
    }
    if let Some(bytes) = app_bytes
        && let Some(node) = toml_document::parse(&app_path, bytes, out)
    {
        let mut problems = Diagnostics::new();
        let read = app_document::decode(&node, &mut problems);
        if let Some(services) = &read.services {
            service::decode_services(services, &mut problems);
        }
        keep(&node, problems, out);
    }
    if let Some(bytes) = compose_bytes
        && let Some(node) = yaml_document::parse(&compose_path, bytes, out)
    {
        let mut problems = Diagnostics::new();
        service::decode_compose(&node, &mut problems);
        keep(&node, problems, out);
    }
}

/// Where a document has templates, only what holds whatever they render to: its keys.
fn keep(node: &evenkeel_schema::node::Node, problems: Diagnostics, out: &mut Diagnostics) {
    if !app::has_templates(node) {
        out.extend(problems);
        return;
    }
    for problem in problems.sorted() {
        if problem.message.starts_with("unknown key") {
            out.push(problem);
        }
    }
}
