//! A verified tree and a device, into what the device should be.
//!
//! Two phases, so that a device reads only what concerns it: [`apps_of`] reads fleet.toml, the groups and the device's
//! document and says which apps and values it has; [`resolve`] reads those apps' folders and gives the desired state.
//! Both give every problem at once, with file, line and column. Pure: a tree in memory in, data out.
//!
//! Refuses what it does not understand: unknown keys and apps, unpinned images, undefined values, two owners of one
//! path, port or name. Limits: secrets are not supported by this version; templates have a budget of work.

mod app;
mod conflicts;
pub mod declared_agent;
mod documents;
pub mod fleet_wide;
pub mod guard;
mod interpolate;
pub mod lint;
mod merge;
mod mounted;
mod order;
mod project;
pub mod render;
mod replicas;
mod template;
pub mod trust_folder;

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::device::{self, Device, MachineId};
use evenkeel_schema::diagnostic::{Diagnostics, Position};
use evenkeel_schema::document::{Place, Placed};
use evenkeel_schema::fleet::{self, Fleet};
use evenkeel_schema::group::{self, Group};
use evenkeel_schema::name::{AppName, DeviceId, GroupName};
use evenkeel_schema::node::{Node, Value};
use evenkeel_schema::promotion::Promotion;
use evenkeel_schema::rollout::Rollout;

use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::tree::Tree;

/// The version that `requires_agent` is judged against.
const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

const FLEET: &str = "fleet.toml";

/// Which apps a device runs, and with which values: what [`resolve`] needs beside the apps' folders.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The device.
    pub device: DeviceId,
    /// The fleet's name, as fleet.toml says it.
    pub fleet: String,
    /// The machine that the device must be, where its document pins one.
    pub machine_id: Option<MachineId>,
    /// Whether the fleet allows images that are named by a tag.
    pub allow_tags: bool,
    /// The device's labels: its own, under those that are signed.
    pub labels: BTreeMap<String, String>,
    /// The groups that the device is in.
    pub groups: Vec<GroupName>,
    /// Its apps, each with the places that name it.
    pub apps: BTreeMap<AppName, Vec<Place>>,
    /// Its values, merged.
    pub values: Node,
    /// When it may begin.
    pub rollout: Option<Rollout>,
}

impl Selection {
    /// The folders that [`resolve`] needs.
    #[must_use]
    pub fn documents(&self) -> Vec<String> {
        self.apps.keys().map(|app| format!("apps/{app}")).collect()
    }
}

/// The documents that [`apps_of`] needs.
#[must_use]
pub fn first_documents(device: &DeviceId) -> Vec<String> {
    vec![FLEET.to_owned(), "groups".to_owned(), device_path(device)]
}

fn device_path(device: &DeviceId) -> String {
    format!("devices/{device}.toml")
}

/// The first phase: which apps the device runs, and with which values.
///
/// # Errors
/// Every problem of fleet.toml, the groups and the device's document.
pub fn apps_of(
    device: &DeviceId,
    own_labels: &BTreeMap<String, String>,
    tree: &Tree,
) -> Result<Selection, Diagnostics> {
    let mut out = Diagnostics::new();
    let Some(fleet) = read_fleet(tree, &mut out) else {
        return Err(out);
    };
    let groups = read_groups(tree, &mut out);
    let document = read_device(tree, device, &mut out);
    let selection = select(
        device,
        own_labels,
        fleet,
        &groups,
        &document.unwrap_or_default(),
    );
    out.into_result(selection)
}

/// The second phase: what the device should be.
///
/// # Errors
/// Every problem of the device's apps, and of all of them together.
pub fn resolve(selection: &Selection, tree: &Tree) -> Result<Resolved, Diagnostics> {
    let mut out = Diagnostics::new();
    let mut contents = Contents::new();
    let mut claims = conflicts::Claims::default();
    let context = app::Context::new(selection);
    let mut apps = BTreeMap::new();
    let mut requires = BTreeMap::new();
    for (name, places) in &selection.apps {
        if let Some((app, required)) = app::resolve(
            &context,
            name,
            places,
            tree,
            &mut contents,
            &mut claims,
            &mut out,
        ) {
            apps.insert(name.clone(), app);
            requires.insert(name.clone(), required);
        }
    }
    order::judge(&selection.apps, &requires, &mut out);
    claims.judge(&mut out);
    out.into_result(Resolved {
        state: DesiredState {
            device: selection.device.clone(),
            fleet: selection.fleet.clone(),
            apps,
        },
        contents,
        rollout: selection.rollout.clone(),
    })
}

/// Reads fleet.toml. `None` where nothing else should be judged.
pub(crate) fn read_fleet(tree: &Tree, out: &mut Diagnostics) -> Option<Fleet> {
    let bytes = documents::required(
        tree,
        FLEET,
        "every fleet repository has one: `format = 1` and a `name`",
        out,
    )?;
    match fleet::parse(FLEET, bytes, AGENT_VERSION, out) {
        Err(fleet::Unreadable) => None,
        // The groups are judged all the same, so that every problem is told at once.
        Ok(fleet) => Some(fleet.unwrap_or_else(|| Fleet {
            name: String::new(),
            allow_tags: false,
            values: None,
            rollout: None,
            promotion: Promotion::default(),
        })),
    }
}

/// Reads every group, by name.
fn read_groups(tree: &Tree, out: &mut Diagnostics) -> BTreeMap<GroupName, Group> {
    let mut groups = BTreeMap::new();
    for (path, name) in documents::named::<GroupName>(tree, "groups", out) {
        if let Some(bytes) = documents::file(tree, &path, out)
            && let Some(group) = group::parse(&path, bytes, out)
        {
            groups.insert(name, group);
        }
    }
    groups
}

/// Reads every device's document, by id.
pub(crate) fn read_devices(tree: &Tree, out: &mut Diagnostics) -> BTreeMap<DeviceId, Device> {
    let mut devices = BTreeMap::new();
    for (path, id) in documents::named::<DeviceId>(tree, "devices", out) {
        if let Some(bytes) = documents::file(tree, &path, out)
            && let Some(device) = device::parse(&path, bytes, out)
        {
            devices.insert(id, device);
        }
    }
    devices
}

/// Reads a device's document; a device need not have one.
fn read_device(tree: &Tree, device: &DeviceId, out: &mut Diagnostics) -> Option<Device> {
    let path = device_path(device);
    let bytes = documents::optional(tree, &path, out)?;
    device::parse(&path, bytes, out)
}

fn select(
    device: &DeviceId,
    own_labels: &BTreeMap<String, String>,
    fleet: Fleet,
    groups: &BTreeMap<GroupName, Group>,
    document: &Device,
) -> Selection {
    let mut labels = own_labels.clone();
    labels.extend(document.labels.clone());
    let mut values = Node {
        file: FLEET.into(),
        at: Position::default(),
        value: Value::Table(Vec::new()),
    };
    let mut apps: BTreeMap<AppName, Vec<Place>> = BTreeMap::new();
    let mut without: BTreeSet<AppName> = BTreeSet::new();
    let mut add = |added: &[Placed<AppName>], taken: &[Placed<AppName>], more: Option<&Node>| {
        for app in added {
            apps.entry(app.value.clone())
                .or_default()
                .push(app.place.clone());
        }
        without.extend(taken.iter().map(|app| app.value.clone()));
        if let Some(more) = more {
            merge::merge(&mut values, more);
        }
    };
    add(&[], &[], fleet.values.as_ref());
    let mut member_of = Vec::new();
    let rollout = rollout_of(&fleet, groups, &labels);
    for (name, group) in groups {
        if group.selector.matches(&labels) {
            member_of.push(name.clone());
            add(&group.apps, &group.without_apps, group.values.as_ref());
        }
    }
    add(
        &document.apps,
        &document.without_apps,
        document.values.as_ref(),
    );
    apps.retain(|app, _| !without.contains(app));
    Selection {
        device: device.clone(),
        fleet: fleet.name,
        machine_id: document.machine_id.as_ref().map(|id| id.value.clone()),
        allow_tags: fleet.allow_tags,
        labels,
        groups: member_of,
        apps,
        values,
        rollout,
    }
}

/// The rollout that concerns a device with these labels: the section of the last of its groups that has one, else of
/// fleet.toml.
fn rollout_of(
    fleet: &Fleet,
    groups: &BTreeMap<GroupName, Group>,
    labels: &BTreeMap<String, String>,
) -> Option<Rollout> {
    let sections = groups
        .values()
        .filter(|group| group.rollout.is_some() && group.selector.matches(labels))
        .filter_map(|group| group.rollout.as_ref());
    let first = fleet.rollout.clone();
    sections.fold(first, |earlier, later| Some(later.clone().over(earlier)))
}

#[cfg(test)]
pub(crate) mod tests;
