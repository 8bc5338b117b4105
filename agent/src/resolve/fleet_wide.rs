//! Every device of a fleet at once: for verbs that tell what a tree means to all of them.
//!
//! Devices are those with a document, and one made up for each group that none of them is in: what is known of devices whose
//! labels stand in their own agent.toml alone.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::device::Device;
use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::fleet::Fleet;
use evenkeel_schema::group::Group;
use evenkeel_schema::name::{DeviceId, GroupName};
use evenkeel_schema::rollout::Rollout;

use super::{lint, read_devices, read_fleet, read_groups, resolve, rollout_of, select};
use crate::domain::desired::Resolved;
use crate::domain::tree::Tree;

/// A tree, read as far as all devices need it.
#[derive(Debug)]
pub struct FleetWide<'t> {
    tree: &'t Tree,
    fleet: Fleet,
    groups: BTreeMap<GroupName, Group>,
    devices: BTreeMap<DeviceId, Device>,
}

impl<'t> FleetWide<'t> {
    /// Reads fleet.toml, the groups and the devices' documents.
    ///
    /// # Errors
    /// Every problem of those.
    pub fn read(tree: &'t Tree) -> Result<Self, Diagnostics> {
        let mut out = Diagnostics::new();
        let Some(fleet) = read_fleet(tree, &mut out) else {
            return Err(out);
        };
        let groups = read_groups(tree, &mut out);
        let devices = read_devices(tree, &mut out);
        out.into_result(Self {
            tree,
            fleet,
            groups,
            devices,
        })
    }

    /// The devices with a document.
    pub fn declared(&self) -> impl Iterator<Item = &DeviceId> {
        self.devices.keys()
    }

    /// The groups that no device with a document is in, each with the id of its made-up device.
    #[must_use]
    pub fn examples(&self) -> BTreeMap<DeviceId, GroupName> {
        let mut covered: BTreeSet<&GroupName> = BTreeSet::new();
        for device in self.devices.values() {
            for (name, group) in &self.groups {
                if !covered.contains(name) && group.selector.matches(&device.labels) {
                    covered.insert(name);
                }
            }
        }
        self.groups
            .keys()
            .filter(|name| !covered.contains(name))
            .filter_map(|name| Some((lint::example(name, &self.devices)?, name.clone())))
            .collect()
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn has_group(&self, group: &GroupName) -> bool {
        self.groups.contains_key(group)
    }

    /// Whether a device with a document is in a group.
    #[must_use]
    pub fn is_in(&self, id: &DeviceId, group: &GroupName) -> bool {
        match (self.devices.get(id), self.groups.get(group)) {
            (Some(device), Some(group)) => group.selector.matches(&device.labels),
            (_, _) => false,
        }
    }

    /// The rollout that concerns a device: one with a document, or one made up for a group.
    #[must_use]
    pub fn rollout(&self, id: &DeviceId, example: Option<&GroupName>) -> Option<Rollout> {
        let labels = match (self.devices.get(id), example) {
            (Some(device), _) => device.labels.clone(),
            (None, Some(group)) => self.groups.get(group).map(lint::labels_of)?,
            (None, None) => BTreeMap::new(),
        };
        rollout_of(&self.fleet, &self.groups, &labels)
    }

    /// What a device should be: one with a document, one made up for a group, or one that the tree does not know.
    ///
    /// # Errors
    /// Every problem of its apps.
    pub fn resolve(
        &self,
        id: &DeviceId,
        example: Option<&GroupName>,
    ) -> Result<Resolved, Diagnostics> {
        let labels = example
            .and_then(|name| self.groups.get(name))
            .map(lint::labels_of)
            .unwrap_or_default();
        let unknown = Device::default();
        let device = self.devices.get(id).unwrap_or(&unknown);
        let selection = select(id, &labels, self.fleet.clone(), &self.groups, device);
        resolve(&selection, self.tree)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;
    use crate::domain::tree::Document;

    fn tree(documents: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| {
            let bytes = text.as_bytes().to_vec();
            ((*path).to_owned(), Document::File(bytes))
        };
        Tree {
            documents: documents.iter().map(file).collect(),
        }
    }

    fn section(id: &str) -> String {
        format!("[rollout]\nid = '{id}'\nstart = 2026-03-01T08:00:00Z\nwaves = [100]\n")
    }

    /// The id of the rollout that concerns each device, and whether it is halted.
    fn rollouts(documents: &[(&str, &str)]) -> Vec<(Option<String>, bool)> {
        let tree = tree(documents);
        let fleet = FleetWide::read(&tree).unwrap();
        let rollout = |id: &DeviceId| match fleet.rollout(id, None) {
            Some(one) => (one.turns.map(|turns| turns.id), one.halt.is_some()),
            None => (None, false),
        };
        fleet.declared().map(rollout).collect()
    }

    #[test]
    fn the_last_groups_rollout_counts_whole_and_a_halt_wherever_it_is_written() {
        let fleet = format!("format = 1\nname = 'a'\n{}", section("fleet"));
        let (early, late) = (section("early"), section("late"));
        let a = format!("match = {{ a = 'yes' }}\n{early}");
        let b = format!("match = {{ b = 'yes' }}\n{late}");
        let id = |id: &str| Some(id.to_owned());
        let mut documents = vec![
            ("fleet.toml", fleet.as_str()),
            ("groups/1.toml", &a),
            ("groups/2.toml", &b),
            ("devices/a.toml", "labels = { a = 'yes' }\n"),
            ("devices/b.toml", "labels = { a = 'yes', b = 'yes' }\n"),
            ("devices/c.toml", ""),
        ];
        let found = [id("early"), id("late"), id("fleet")].map(|id| (id, false));
        assert_eq!(rollouts(&documents), found);
        // A group that says nothing of it changes nothing.
        documents.push(("groups/3.toml", "match = 'all'\n"));
        assert_eq!(rollouts(&documents), found);
        let halted = format!("{fleet}halt = true\n");
        documents[0].1 = &halted;
        assert_eq!(rollouts(&documents), found.map(|(id, _)| (id, true)));
        // A halt in one group is no other group's.
        let one = format!("{a}halt = true\n");
        documents[0].1 = &fleet;
        documents[1].1 = &one;
        let expected = [
            (id("early"), true),
            (id("late"), true),
            (id("fleet"), false),
        ];
        assert_eq!(rollouts(&documents), expected);
        // Without any, all go at once.
        assert_eq!(
            rollouts(&[
                ("fleet.toml", "format = 1\nname = 'a'\n"),
                ("devices/a.toml", "")
            ]),
            [(None, false)]
        );
    }
}
