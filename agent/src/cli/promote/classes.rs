//! What a promotion does to the fleet: the devices that change, put together by what changes on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::name::DeviceId;
use serde_json::{Value, json};

use crate::cli::everyone::{self, BATCH, Subject};
use crate::domain::desired::DesiredState;
use crate::domain::tree::Tree;
use crate::plan::{Plan, imagined};
use crate::resolve::fleet_wide::FleetWide;

/// How many devices of a class are named to people; a program gets all.
const NAMED: usize = 5;
/// What happens to a device, in the planner's words: a verb and a resource each.
type Changes = Vec<(String, String)>;

/// What a promotion does to the fleet.
#[derive(Debug, Default)]
pub(super) struct Classes {
    /// Devices by what changes on them; a made-up one stands for a group, by the group's name.
    pub(super) changed: BTreeMap<Changes, BTreeSet<String>>,
    /// How many devices do not change.
    pub(super) unchanged: usize,
    /// Devices of which the branch's present tree cannot be resolved, so that only what is new is known.
    pub(super) unknown: BTreeSet<String>,
}

/// How a device is told of.
fn shown(subject: &Subject) -> String {
    match &subject.example {
        None => subject.id.to_string(),
        Some(group) => format!("any device of group {group}"),
    }
}

/// Judges every device of both trees. `before` is `None` where the branch is new.
///
/// # Errors
/// What the new tree has wrong.
pub(super) fn classes(before: Option<&Tree>, after: &Tree) -> Result<Classes, Diagnostics> {
    let subjects = subjects(before, after)?;
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Ok(Classes::default()));
    std::thread::scope(|scope| {
        for _ in 0..everyone::threads(subjects.len()) {
            scope.spawn(|| {
                let mut mine = Classes::default();
                let judged = mine.judge(before, after, || {
                    let first = next.fetch_add(BATCH, Ordering::Relaxed);
                    subjects.get(first..subjects.len().min(first + BATCH))
                });
                let mut found = found.lock().expect("no thread panics while it holds it");
                match (judged, &mut *found) {
                    (Ok(()), Ok(all)) => all.add(mine),
                    (Err(problems), Ok(_)) => *found = Err(problems),
                    (_, Err(_)) => {}
                }
            });
        }
    });
    found
        .into_inner()
        .expect("no thread panics while it holds it")
}

fn subjects(before: Option<&Tree>, after: &Tree) -> Result<Vec<Subject>, Diagnostics> {
    let new = FleetWide::read(after)?;
    let mut subjects = everyone::of_tree(&new);
    if let Some(Ok(old)) = before.map(FleetWide::read) {
        let known: BTreeSet<&DeviceId> = new.declared().collect();
        let gone = old.declared().filter(|id| !known.contains(id));
        subjects.extend(gone.cloned().map(|id| Subject { id, example: None }));
    }
    Ok(subjects)
}

impl Classes {
    fn judge<'s>(
        &mut self,
        before: Option<&Tree>,
        after: &Tree,
        mut batch: impl FnMut() -> Option<&'s [Subject]>,
    ) -> Result<(), Diagnostics> {
        let new = FleetWide::read(after)?;
        // A tree that this version cannot read is what devices may stand at all the same.
        let old = before.and_then(|tree| FleetWide::read(tree).ok());
        while let Some(subjects) = batch() {
            if subjects.is_empty() {
                break;
            }
            for subject in subjects {
                let after = subject.resolve(&new)?.state;
                let nothing = DesiredState {
                    device: subject.id.clone(),
                    fleet: String::new(),
                    apps: BTreeMap::new(),
                };
                let known = match &old {
                    Some(old) => subject.resolve(old).ok(),
                    None => None,
                };
                if known.is_none() && before.is_some() {
                    self.unknown.insert(shown(subject));
                }
                let before = known.map_or(nothing, |resolved| resolved.state);
                let changes = changes(&imagined::between(&before, &after));
                if changes.is_empty() {
                    self.unchanged += 1;
                } else {
                    self.changed
                        .entry(changes)
                        .or_default()
                        .insert(shown(subject));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        for (changes, devices) in other.changed {
            self.changed.entry(changes).or_default().extend(devices);
        }
        self.unchanged += other.unchanged;
        self.unknown.extend(other.unknown);
    }

    /// For people, on stderr.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (changes, devices) in &self.changed {
            let mut names: Vec<&str> = devices.iter().take(NAMED).map(String::as_str).collect();
            if devices.len() > NAMED {
                names.push("...");
            }
            let _ = writeln!(text, " {} ({}):", counted(devices.len()), names.join(", "));
            for (verb, resource) in changes {
                let _ = writeln!(text, "   {verb} {resource}");
            }
        }
        if !self.unknown.is_empty() {
            let _ = writeln!(
                text,
                " what {} have now cannot be told: the branch's present tree does not resolve for them",
                counted(self.unknown.len())
            );
        }
        let _ = writeln!(text, " {}: no change", counted(self.unchanged));
        text
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        self.changed
            .iter()
            .map(|(changes, devices)| {
                let steps: Vec<Value> = changes
                    .iter()
                    .map(|(action, resource)| json!({ "action": action, "resource": resource }))
                    .collect();
                json!({ "devices": devices, "steps": steps })
            })
            .collect()
    }
}

fn changes(plan: &Plan) -> Changes {
    let steps = plan
        .steps
        .iter()
        .map(|step| (step.action.verb().to_owned(), step.resource.to_string()));
    let blocked = plan
        .blocked
        .iter()
        .map(|blocked| ("blocked".to_owned(), blocked.resource.to_string()));
    steps.chain(blocked).collect()
}

fn counted(number: usize) -> String {
    if number == 1 {
        "1 device".to_owned()
    } else {
        format!("{number} devices")
    }
}
