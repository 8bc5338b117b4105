//! The ledger's records: how each change is spelt, what it drops, and what stays needed.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::spare::Body;
use super::trust_file::JournalCopy;
use super::vault::{Change, Vault, VaultError};
use crate::domain::desired::{DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, KEPT, Ledger, Pin, Refusal,
    Trial,
};
use crate::domain::outcome::Report;
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::port::journal::Paused;

/// How many refusals are remembered: a branch that fails more often in a row has long been looked at.
const REFUSED: usize = 64;
/// How many deployments the history shows.
const HISTORY: usize = 200;
/// How many steps of one deployment the history keeps.
const STEPS: usize = 256;

const GOOD: &str = "good";
const TRIAL: &str = "trial";
const REFUSALS: &str = "refused";
const DEFERRED: &str = "deferred";
const PIN: &str = "pin";
const PAUSED: &str = "paused";
const INVENTORY: &str = "inventory";
const REPORT: &str = "report";
const FLOOR: &str = "floor";
const ADOPTED: &str = "adopted";
const SEQUENCE: &str = "sequence";
const HISTORY_PREFIX: &str = "history/";

/// A good revision as it is stored; the type itself cannot be deserialised by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GoodRecord {
    commit: CommitId,
    tree: TreeId,
    content: ContentId,
    at: Timestamp,
}

impl From<&GoodRevision> for GoodRecord {
    fn from(good: &GoodRevision) -> Self {
        Self {
            commit: good.commit().clone(),
            tree: good.tree().clone(),
            content: good.content().clone(),
            at: good.at(),
        }
    }
}

impl From<GoodRecord> for GoodRevision {
    /// Of a record that was authenticated when it was read.
    fn from(record: GoodRecord) -> Self {
        Self::authenticated(record.commit, record.tree, record.content, record.at)
    }
}

/// What was read at open, and is kept in step since.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) ledger: Ledger,
    /// The report as it is on disk: the one in the ledger may have newer poll times.
    pub(super) saved_report: Option<Report>,
    /// Rises with each change.
    pub(super) sequence: u64,
    /// Numbers of the history's entries, oldest first.
    history: Vec<u64>,
    /// Contents that long records stand in, by the record's name.
    by_id: BTreeMap<String, ContentId>,
    /// Records that are there and cannot be used.
    damaged: BTreeSet<String>,
    /// What was found and not used.
    pub(super) warnings: Vec<String>,
}

impl Loaded {
    pub(super) fn load(vault: &Vault) -> Result<Self, VaultError> {
        let mut loaded = Self::default();
        for record in vault.records()? {
            let name = record.name;
            if let Some(id) = record.by_id {
                loaded.by_id.insert(name.clone(), id);
            }
            if let Some(number) = history_number(&name) {
                loaded.history.push(number);
            }
            match record.payload {
                Ok(payload) => {
                    if loaded.place(&name, &payload).is_none() {
                        loaded.warnings.push(format!(
                            "the journal's record `{name}` cannot be understood: it is not used"
                        ));
                        loaded.damaged.insert(name);
                    }
                }
                Err(error) => {
                    loaded
                        .warnings
                        .push(format!("the journal's record {error}: it is not used"));
                    loaded.damaged.insert(name);
                }
            }
        }
        loaded.history.sort_unstable();
        Ok(loaded)
    }

    /// How the journal's own copy of the trust sets was read.
    pub(super) fn adopted_copy(&self) -> JournalCopy {
        if self.damaged.contains(ADOPTED) {
            JournalCopy::Damaged
        } else {
            JournalCopy::Read
        }
    }

    /// Whether a record is there and cannot be used.
    pub(super) fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// Whether one of the ledger itself is.
    pub(super) fn is_ledger_damaged(&self) -> bool {
        let other = [ADOPTED, REPORT];
        self.damaged
            .iter()
            .any(|name| !other.contains(&name.as_str()) && history_number(name).is_none())
    }

    /// Puts a record where it belongs; `None` where it is not understood.
    fn place(&mut self, name: &str, payload: &[u8]) -> Option<()> {
        fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
            serde_json::from_slice(payload).ok()
        }
        let ledger = &mut self.ledger;
        match name {
            GOOD => {
                ledger.good = read::<Vec<GoodRecord>>(payload)?
                    .into_iter()
                    .map(GoodRevision::from)
                    .collect();
            }
            TRIAL => ledger.trial = Some(read(payload)?),
            REFUSALS => ledger.refused = read(payload)?,
            DEFERRED => ledger.deferred = Some(read(payload)?),
            PIN => ledger.pin = Some(read(payload)?),
            PAUSED => ledger.paused = read(payload)?,
            INVENTORY => ledger.inventory = read(payload)?,
            REPORT => {
                let report: Report = read(payload)?;
                self.saved_report = Some(report.clone());
                ledger.report = Some(report);
            }
            FLOOR => ledger.floor = Some(read(payload)?),
            ADOPTED => ledger.adopted = read(payload)?,
            SEQUENCE => self.sequence = read(payload)?,
            // Read when asked for; only its place matters here.
            _ if history_number(name).is_some() => {}
            _ => return None,
        }
        Some(())
    }
}

/// One durable change.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Trial(Option<&'a Trial>),
    Good(&'a GoodRevision, &'a Resolved),
    Refuse(&'a Refusal),
    Forgive(&'a CommitId),
    Defer(Option<&'a Deferral>),
    Pin(Option<&'a Pin>),
    Pause(Paused),
    Inventory(&'a Inventory),
    History(&'a Deployment),
    Report(&'a Report),
    Floor(&'a Floor),
    Adopt(&'a [AdoptedSet]),
    /// Records that cannot be used are dropped; what the second copy says counts, where there is one to take.
    Mend(Option<&'a Body>),
    /// A good revision whose contents were lost, made again.
    KeepAgain(&'a GoodRevision, &'a Resolved),
    /// A good revision that is lost.
    DropGood(&'a CommitId),
}

/// Takes one step: on disk first, then in memory. A step that changes nothing writes nothing, and asks for no room.
/// `room` is asked with the bytes of the contents that come.
pub(super) fn take(
    vault: &Vault,
    loaded: &mut Loaded,
    step: Step<'_>,
    room: impl FnOnce(u64) -> Result<(), VaultError>,
) -> Result<(), VaultError> {
    let mut next = loaded.ledger.clone();
    let mut contents: Vec<(&ContentId, &[u8])> = Vec::new();
    let mut state: Option<(ContentId, Vec<u8>)> = None;
    let mut changes = Vec::new();
    let mut history = None;
    let mut sequence = loaded.sequence + 1;
    let mut is_older = false;
    let mut mended = Vec::new();
    match step {
        Step::Trial(trial) => next.trial = trial.cloned(),
        Step::Good(good, resolved) => {
            become_good(&mut next, good);
            contents = contents_of(resolved);
            state = Some((good.content().clone(), spell(&resolved.state)));
        }
        Step::KeepAgain(good, resolved) => {
            contents = contents_of(resolved);
            state = Some((good.content().clone(), spell(&resolved.state)));
        }
        Step::DropGood(commit) => next.good.retain(|known| known.commit() != commit),
        Step::Mend(body) => {
            // Its loss is told for as long as it is one: see the trust file.
            mended.extend(
                loaded
                    .damaged
                    .iter()
                    .filter(|name| *name != ADOPTED)
                    .cloned(),
            );
            changes.extend(mended.iter().map(|name| Change {
                name: name.clone(),
                payload: None,
            }));
            if let Some(body) = body {
                sequence = sequence.max(body.sequence + 1);
                next = body.clone().over(&next);
                is_older = true;
            }
        }
        Step::Refuse(refusal) => {
            next.refused.retain(|known| known.commit != refusal.commit);
            next.refused.insert(0, refusal.clone());
            next.refused.truncate(REFUSED);
            next.trial = None;
        }
        Step::Forgive(commit) => next.refused.retain(|known| known.commit != *commit),
        Step::Defer(deferral) => {
            next.deferred = deferral.cloned();
            next.trial = None;
        }
        Step::Pin(pin) => next.pin = pin.cloned(),
        Step::Pause(paused) => next.paused = paused == Paused::Yes,
        Step::Inventory(inventory) => next.inventory = inventory.clone(),
        Step::History(deployment) => {
            history = Some(append(&loaded.history, deployment, &mut changes));
        }
        Step::Report(report) => {
            let told = loaded.saved_report.as_ref().map(Report::lasting);
            if told.as_ref() == Some(&report.lasting()) {
                loaded.ledger.report = Some(report.clone());
                return Ok(());
            }
            next.report = Some(report.clone());
        }
        Step::Floor(floor) => next.floor = Some(floor.clone()),
        Step::Adopt(sets) => {
            next.adopted = sets.to_vec();
            next.trust_lost = None;
            if loaded.damaged.contains(ADOPTED) {
                changes.push(put(ADOPTED, &next.adopted));
                mended.push(ADOPTED.to_owned());
            }
        }
    }
    compare(&loaded.ledger, &next, &mut changes);
    let report_changes = changes.iter().any(|change| change.name == REPORT);
    if changes.is_empty() && state.is_none() && !is_older {
        return Ok(());
    }
    if let Some((id, bytes)) = &state {
        contents.push((id, bytes));
    }
    changes.push(put(SEQUENCE, &sequence));
    room(contents.iter().map(|(_, bytes)| bytes.len() as u64).sum())?;
    let places = vault.apply(&contents, &changes)?;

    loaded.sequence = sequence;
    loaded.ledger = next;
    loaded.damaged.retain(|name| !mended.contains(name));
    if report_changes {
        loaded.saved_report.clone_from(&loaded.ledger.report);
    }
    if let Some(history) = history {
        loaded.history = history;
    }
    let mut left = Vec::new();
    for (name, by_id) in places {
        left.extend(match by_id {
            Some(id) => loaded.by_id.insert(name, id),
            None => loaded.by_id.remove(&name),
        });
    }
    left.retain(|id| !loaded.by_id.values().any(|used| used == id));
    if !left.is_empty()
        && let Some(needed) = needed(vault, loaded)?
    {
        for id in left.iter().filter(|id| !needed.contains(id)) {
            vault.remove_content(id)?;
        }
    }
    Ok(())
}

fn contents_of(resolved: &Resolved) -> Vec<(&ContentId, &[u8])> {
    let mut contents: Vec<_> = resolved
        .state
        .files()
        .filter_map(|(_, _, file)| resolved.contents.get_key_value(&file.content))
        .map(|(id, bytes)| (id, bytes.as_slice()))
        .collect();
    contents.sort_unstable();
    contents.dedup();
    contents
}

/// Puts a revision in front of the good ones: a revision with the same content gives up its place, and what is beyond
/// [`KEPT`] goes, unless a person holds the device at it.
fn become_good(ledger: &mut Ledger, good: &GoodRevision) {
    let replaced: Vec<CommitId> = ledger
        .good
        .iter()
        .filter(|known| known.content() == good.content())
        .map(|known| known.commit().clone())
        .collect();
    if let Some(pin) = &mut ledger.pin
        && replaced.contains(&pin.commit)
    {
        pin.commit = good.commit().clone();
    }
    // A commit is good as one thing only: what it resolves to now.
    ledger
        .good
        .retain(|known| known.content() != good.content() && known.commit() != good.commit());
    ledger.good.insert(0, good.clone());
    let pinned = ledger.pin.as_ref().map(|pin| &pin.commit);
    let mut place = 0;
    ledger.good.retain(|known| {
        place += 1;
        place <= KEPT || Some(known.commit()) == pinned
    });
    ledger.trial = None;
    ledger.deferred = None;
    ledger
        .refused
        .retain(|known| known.content != *good.content() && known.commit != *good.commit());
}

/// The history with one more entry; the oldest beyond [`HISTORY`] go in the same batch.
fn append(known: &[u64], deployment: &Deployment, changes: &mut Vec<Change>) -> Vec<u64> {
    let mut deployment = deployment.clone();
    if deployment.steps.len() > STEPS {
        let more = deployment.steps.len() - STEPS;
        deployment.steps.truncate(STEPS);
        deployment.steps.push(format!("... and {more} more"));
    }
    let number = known.last().map_or(1, |last| last + 1);
    changes.push(put(&history_name(number), &deployment));
    let mut history = known.to_vec();
    history.push(number);
    let too_many = history.len().saturating_sub(HISTORY);
    for old in history.drain(..too_many) {
        changes.push(Change {
            name: history_name(old),
            payload: None,
        });
    }
    history
}

/// The records in which two ledgers differ.
fn compare(before: &Ledger, after: &Ledger, changes: &mut Vec<Change>) {
    if before.good != after.good {
        let records: Vec<GoodRecord> = after.good.iter().map(GoodRecord::from).collect();
        changes.push(put(GOOD, &records));
    }
    if before.refused != after.refused {
        changes.push(put(REFUSALS, &after.refused));
    }
    if before.paused != after.paused {
        changes.push(put(PAUSED, &after.paused));
    }
    if before.inventory != after.inventory {
        changes.push(put(INVENTORY, &after.inventory));
    }
    optional(TRIAL, before.trial.as_ref(), after.trial.as_ref(), changes);
    optional(
        DEFERRED,
        before.deferred.as_ref(),
        after.deferred.as_ref(),
        changes,
    );
    optional(PIN, before.pin.as_ref(), after.pin.as_ref(), changes);
    optional(
        REPORT,
        before.report.as_ref(),
        after.report.as_ref(),
        changes,
    );
    optional(FLOOR, before.floor.as_ref(), after.floor.as_ref(), changes);
    if before.adopted != after.adopted || before.trust_lost != after.trust_lost {
        changes.push(put(ADOPTED, &after.adopted));
    }
}

fn optional<T: PartialEq + Serialize>(
    name: &str,
    before: Option<&T>,
    after: Option<&T>,
    changes: &mut Vec<Change>,
) {
    if before == after {
        return;
    }
    changes.push(match after {
        Some(value) => put(name, value),
        None => Change {
            name: name.to_owned(),
            payload: None,
        },
    });
}

fn put<T: Serialize>(name: &str, value: &T) -> Change {
    Change {
        name: name.to_owned(),
        payload: Some(spell(value)),
    }
}

fn spell<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("our records have string keys, so JSON can express them")
}

fn history_name(number: u64) -> String {
    format!("{HISTORY_PREFIX}{number:020}")
}

fn history_number(name: &str) -> Option<u64> {
    name.strip_prefix(HISTORY_PREFIX)?.parse().ok()
}

/// The history, newest first; damaged entries are left out (they were reported at open).
pub(super) fn history(vault: &Vault) -> Result<Vec<Deployment>, VaultError> {
    let mut entries: Vec<Deployment> = vault
        .records()?
        .into_iter()
        .filter(|record| history_number(&record.name).is_some())
        .filter_map(|record| serde_json::from_slice(&record.payload.ok()?).ok())
        .collect();
    entries.reverse();
    Ok(entries)
}

/// A kept state.
pub(super) fn state(vault: &Vault, content: &ContentId) -> Result<DesiredState, VaultError> {
    let bytes = vault.content(content)?;
    serde_json::from_slice(&bytes).map_err(|_| VaultError::Damaged(content.to_string()))
}

/// Whether a kept state and each of its contents can be read.
pub(super) fn check_kept(vault: &Vault, content: &ContentId) -> Result<(), VaultError> {
    let state = state(vault, content)?;
    let ids: BTreeSet<&ContentId> = state.files().map(|(_, _, file)| &file.content).collect();
    for id in ids {
        vault.content(id)?;
    }
    Ok(())
}

/// Every content that something kept needs; `None` where a kept state cannot be read, and may need anything.
pub(super) fn needed(
    vault: &Vault,
    loaded: &Loaded,
) -> Result<Option<BTreeSet<ContentId>>, VaultError> {
    let mut needed: BTreeSet<ContentId> = loaded.by_id.values().cloned().collect();
    let trial = loaded.ledger.trial.as_ref().map(|trial| &trial.content);
    let good = loaded.ledger.good.iter().map(GoodRevision::content);
    let trials_own =
        trial.is_some_and(|trial| !loaded.ledger.good.iter().any(|g| g.content() == trial));
    for content in good.chain(trial) {
        match state(vault, content) {
            Ok(state) => needed.extend(state.files().map(|(_, _, file)| file.content.clone())),
            // What is tried was never kept here, or not any more.
            Err(VaultError::Missing(_)) if trials_own && Some(content) == trial => {}
            Err(VaultError::Missing(_) | VaultError::Damaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        needed.insert(content.clone());
    }
    Ok(Some(needed))
}
