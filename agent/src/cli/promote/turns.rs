//! When the devices that a promotion changes have their turn: what the promoted tree's own `[rollout]`s say of them now.

use std::fmt::Write as _;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::name::DeviceId;
use evenkeel_schema::rollout::Turns;
use serde_json::{Value, json};

use super::classes::Classes;
use crate::cli::rollout::{Staged, by_rollout, noun, pace};
use crate::domain::revision::Timestamp;
use crate::domain::tree::Tree;
use crate::resolve::fleet_wide::FleetWide;
use crate::schedule::curve::{begun, curve, turns_of};
use crate::schedule::rollout::end;

/// The rollouts of the devices that change, as they stand at a moment.
#[derive(Default)]
pub(super) struct Rollouts(Vec<Standing>);

/// One of them.
struct Standing {
    staged: Staged,
    /// How many of its devices have had their turn, and the next moment at which some have theirs.
    progress: Option<(usize, Option<Timestamp>)>,
    at: Timestamp,
}

impl Rollouts {
    /// Of this tree.
    ///
    /// # Errors
    /// What the tree has wrong.
    pub(super) fn of(after: &Tree, classes: &Classes, at: Timestamp) -> Result<Self, Diagnostics> {
        let fleet = FleetWide::read(after)?;
        let changes = |id: &&DeviceId| {
            classes
                .changed
                .values()
                .any(|ids| ids.contains(id.as_str()))
        };
        let devices: Vec<DeviceId> = fleet.declared().filter(changes).cloned().collect();
        let (staged, _) = by_rollout(&fleet, devices, None);
        let standing = |staged: Staged| {
            let progress = staged.rollout.turns.as_ref().map(|turns| {
                let sorted = turns_of(turns, &staged.devices);
                let next = curve(turns, &sorted).into_iter().map(|point| point.at);
                (begun(&sorted, at), next.into_iter().find(|next| *next > at))
            });
            Standing {
                staged,
                progress,
                at,
            }
        };
        Ok(Self(staged.into_iter().map(standing).collect()))
    }

    /// For people: a line or two for each, and nothing where there is none.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for one in &self.0 {
            let count = one.staged.devices.len();
            if let Some(place) = &one.staged.rollout.halt {
                let _ = writeln!(
                    text,
                    "halted ({place}): of {count} {} that would change, those that have not begun do not begin",
                    noun(count)
                );
            }
            if let (Some(turns), Some((begun, next))) = (&one.staged.rollout.turns, one.progress) {
                let _ = writeln!(text, "{}", one.turns(turns, begun, next));
            }
        }
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let told = |one: &Standing| {
            let turns = one.staged.rollout.turns.as_ref();
            json!({
                "id": turns.map(|turns| &turns.id),
                "halted": one.staged.rollout.halt.is_some(),
                "start": turns.map(|turns| Timestamp(turns.start)),
                "end": turns.map(end),
                "next": one.progress.and_then(|(_, next)| next),
                "devices": one.staged.devices.len(),
                "begun": one.progress.map(|(begun, _)| begun),
            })
        };
        self.0.iter().map(told).collect()
    }
}

impl Standing {
    fn turns(&self, turns: &Turns, begun: usize, next: Option<Timestamp>) -> String {
        let (id, start, end) = (&turns.id, Timestamp(turns.start), end(turns));
        let count = self.staged.devices.len();
        let who = format!("{count} {} that would change", noun(count));
        if self.at < start {
            return format!("rollout {id}: {who}, {} from {start} to {end}", pace(turns));
        }
        if self.at >= end {
            return format!(
                "rollout {id} was over at {end}: {who}, all at once\nhint: a `[rollout]` with a new id and a start to come is one that \
                 holds them"
            );
        }
        let next = next.map_or_else(String::new, |next| format!(", more at {next}"));
        format!(
            "rollout {id} is in force, {} from {start} to {end}: {who}, {begun} of them at once{next}",
            pace(turns)
        )
    }
}
