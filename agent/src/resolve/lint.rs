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

use super::merge::Variables;
use super::project::{self, Project};
use super::{
    app, device_path, documents, read_devices, read_fleet, read_groups, resolve, select,
    trust_folder,
};
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
    /// The documents of devices, and of groups without any, for which nothing at all is declared.
    pub idle: BTreeSet<String>,
}

/// What one part of the devices showed.
#[derive(Debug, Default)]
pub struct Part {
    judged: Judged,
    problems: Vec<Diagnostic>,
    used: BTreeSet<AppName>,
    covered: BTreeSet<GroupName>,
    /// fleet.toml is so wrong that nothing else should be judged.
    ends: bool,
}

/// Every problem of a repository, sorted by place, each once; and what was judged.
#[must_use]
pub fn lint(tree: &Tree) -> (Judged, Vec<Diagnostic>) {
    whole(tree, vec![part(tree, 0, 1)])
}

/// Judges each `of`-th device from the `part`-th on; the first part judges the documents themselves, too.
#[must_use]
pub fn part(tree: &Tree, part: usize, of: usize) -> Part {
    let mut out = Diagnostics::new();
    let mut unheard = Diagnostics::new();
    // Each part reads all of them, and one of them tells what is wrong with them.
    let heard = if part == 0 { &mut out } else { &mut unheard };
    let mut found = Part::default();
    let Some(fleet) = read_fleet(tree, heard) else {
        found.problems = out.sorted();
        found.ends = true;
        return found;
    };
    let groups = read_groups(tree, heard);
    let devices = read_devices(tree, heard);
    let apps = app_folders(tree, heard);
    if part == 0 {
        trust_folder::judge(tree, &fleet.name, &mut out);
        judge_machines(&devices, &mut out);
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
    }
    let judge = Judge {
        tree,
        fleet: &fleet,
        groups: &groups,
        apps: &apps,
    };
    for (id, device) in devices.iter().skip(part).step_by(of.max(1)) {
        let document = device_path(id);
        judge.device(
            &document,
            id,
            &BTreeMap::new(),
            device,
            &mut found,
            &mut out,
        );
    }
    found.judged = Judged {
        devices: devices.len(),
        groups: groups.len(),
        apps: apps.len(),
        idle: found.judged.idle,
    };
    found.problems = out.sorted();
    found
}

/// Puts the parts together, and judges what no device showed: groups without any, apps that nobody runs.
#[must_use]
pub fn whole(tree: &Tree, parts: Vec<Part>) -> (Judged, Vec<Diagnostic>) {
    let mut all = Part::default();
    for part in parts {
        all.ends |= part.ends;
        let idle = std::mem::take(&mut all.judged.idle);
        if part.judged.devices > 0 || part.judged.groups > 0 || part.judged.apps > 0 {
            all.judged = part.judged;
        }
        all.judged.idle.extend(idle);
        all.problems.extend(part.problems);
        all.used.extend(part.used);
        all.covered.extend(part.covered);
    }
    let mut out = Diagnostics::new();
    let mut unheard = Diagnostics::new();
    if !all.ends
        && let Some(fleet) = read_fleet(tree, &mut unheard)
    {
        let groups = read_groups(tree, &mut unheard);
        let devices = read_devices(tree, &mut unheard);
        let apps = app_folders(tree, &mut unheard);
        let judge = Judge {
            tree,
            fleet: &fleet,
            groups: &groups,
            apps: &apps,
        };
        for (name, group) in &groups {
            if all.covered.contains(name) {
                continue;
            }
            if let Some(id) = example(name, &devices) {
                judge.device(
                    &format!("groups/{name}.toml"),
                    &id,
                    &labels_of(group),
                    &Device::default(),
                    &mut all,
                    &mut out,
                );
            }
        }
        for name in apps.difference(&all.used) {
            judge_unused(tree, name, &mut out);
        }
    }
    for problem in all.problems {
        out.push(problem);
    }
    (all.judged, out.sorted())
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

/// What a device is judged by.
struct Judge<'a> {
    tree: &'a Tree,
    fleet: &'a Fleet,
    groups: &'a BTreeMap<GroupName, Group>,
    apps: &'a BTreeSet<AppName>,
}

impl Judge<'_> {
    /// Resolves for a device that this document stands for.
    fn device(
        &self,
        document: &str,
        id: &DeviceId,
        labels: &BTreeMap<String, String>,
        device: &Device,
        found: &mut Part,
        out: &mut Diagnostics,
    ) {
        let mut selection = select(id, labels, self.fleet.clone(), self.groups, device);
        // Unknown apps were reported where they are named.
        selection.apps.retain(|app, _| self.apps.contains(app));
        found.used.extend(selection.apps.keys().cloned());
        match resolve(&selection, self.tree) {
            Ok(resolved) if resolved.state.is_empty() => {
                found.judged.idle.insert(document.to_owned());
            }
            Ok(_) => {}
            Err(problems) => out.extend(problems),
        }
        found.covered.extend(selection.groups);
    }
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
    // No device's values are known; every service is judged, whatever its profiles.
    let variables = Variables::default();
    let values = project::every_profile(&folder);
    let project = Project::new(tree, &folder, name.as_str(), &variables, &values);
    if let Some(bytes) = app_bytes
        && let Some(node) = toml_document::parse(&app_path, bytes, out)
    {
        let mut problems = Diagnostics::new();
        let read = app_document::decode(&node, &mut problems);
        if let Some(services) = read.services {
            let services = project.own(services, &mut problems);
            service::decode_services(&services, &mut problems);
        }
        keep(&node, problems, out);
    }
    if let Some(bytes) = compose_bytes
        && let Some(node) = yaml_document::parse(&compose_path, bytes, out)
    {
        let mut problems = Diagnostics::new();
        if let Some(node) = project.compose(&compose_path, bytes, &mut problems) {
            service::decode_compose(&node, &mut problems);
        }
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
