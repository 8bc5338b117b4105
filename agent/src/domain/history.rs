//! What the device remembers: the floor, what was good, what was refused, what was tried, what is ours.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::OnRemove;
use evenkeel_schema::name::AppName;
use evenkeel_schema::path::AbsPath;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::desired::DesiredState;
use super::outcome::Report;
use super::resource::ServiceId;
use super::revision::{CommitId, ContentId, Timestamp, TreeId};

/// The anti-rollback mark: a tip must descend from this commit. Kept in three copies, each with this generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Rises with each change, resets too.
    pub generation: u64,
    /// The newest commit that became good here (or the newest verified, as policy says).
    pub commit: CommitId,
    /// The latest time this device knows to have passed: judged with signature windows.
    pub time: Timestamp,
}

/// A revision that became good here: the only thing `Keep` accepts. Made by the journal alone, when it commits (which
/// takes the gate's proof) and when it reads back a record that carries its own device-local authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodRevision {
    commit: CommitId,
    tree: TreeId,
    content: ContentId,
    at: Timestamp,
}

impl GoodRevision {
    /// For the journal alone: see the type.
    pub(crate) const fn authenticated(
        commit: CommitId,
        tree: TreeId,
        content: ContentId,
        at: Timestamp,
    ) -> Self {
        Self {
            commit,
            tree,
            content,
            at,
        }
    }

    /// The commit.
    #[must_use]
    pub const fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// Its tree.
    #[must_use]
    pub const fn tree(&self) -> &TreeId {
        &self.tree
    }

    /// What it resolved to.
    #[must_use]
    pub const fn content(&self) -> &ContentId {
        &self.content
    }

    /// When it became good.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }
}

/// A revision that is being tried: written before the first step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The commit.
    pub commit: CommitId,
    /// What it resolved to.
    pub content: ContentId,
    /// How many tries were spent, this one included, that no clean stop gave back.
    pub tries: u32,
    /// When this try began.
    pub since: Timestamp,
    /// The paths this try may leave staging files beside.
    pub paths: BTreeSet<AbsPath>,
    /// Whether its change is on the device.
    #[serde(default)]
    pub stage: Stage,
    /// What was not well before its first step; `None`: not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// Where the change of a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Stage {
    /// On the device, or on its way.
    #[default]
    Underway,
    /// Taken back for a reason that says nothing about it: only its tries are remembered.
    PutBack,
}

/// A revision that the gate (or three unclean ends) refused. Remembered by commit and by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The commit.
    pub commit: CommitId,
    /// What it resolved to.
    pub content: ContentId,
    /// Why, in one sentence.
    pub why: String,
    /// When.
    pub at: Timestamp,
}

/// A revision put off for a reason that is not its fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// The commit.
    pub commit: CommitId,
    /// Why.
    pub why: String,
    /// How often in a row.
    pub times: u32,
    /// How often among these the engine could not make or start a container, and answered otherwise.
    #[serde(default)]
    pub unstarted: u32,
    /// Set where the remote did not answer after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<CutOff>,
    /// Not before, by the wall clock: what a later start goes by, with a bound (the clock may have jumped).
    pub until: Timestamp,
}

/// Whose fault it is that the remote did not answer after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutOff {
    /// Not known: it has not answered since the change was taken back, and not for long.
    Unclear,
    /// Not the change's: it did not answer without it either.
    NotByChange,
    /// The change's, as it seems: the remote answered once it was taken back.
    ByChange,
}

/// A person's `rollback`: holds the device at this good revision until `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The good revision's commit.
    pub commit: CommitId,
    /// When it was asked for.
    pub at: Timestamp,
}

/// What we put on the device and may take away again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Inventory {
    /// Files that we wrote.
    pub files: BTreeMap<AbsPath, OwnedFile>,
    /// Services that we run (their containers carry our labels; this is what `history` and pruning speak of).
    pub services: BTreeSet<ServiceId>,
    /// Containers that a person had us adopt, by the engine's id: an engine changes no labels of one that is there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub adopted: BTreeMap<String, Adopted>,
    /// The services in the order in which they begin: what is no longer declared goes in the reverse of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<ServiceId>,
    /// Volumes, by their names in the engine, that were declared to go once they are declared no more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Jobs that ended well, with the hash of what they were made from: not run again where their container is removed.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        with = "by_service"
    )]
    pub done: BTreeMap<ServiceId, String>,
    /// Apps that a revision changed which is not good yet, and that have a hook for the way back.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unproven: BTreeSet<AppName>,
}

/// A container that was here before, and is ours because a person said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Which service it is.
    pub service: ServiceId,
    /// The hash of the declaration that it was found to be as, at a good revision; `None`: not yet. Until then it is neither
    /// made anew nor removed.
    pub config: Option<String>,
}

impl Inventory {
    /// The adopted containers that count as ours on the way to `desired`: those that it declares; and where what is no
    /// longer declared goes away, those that have been found to be as declared before.
    #[must_use]
    pub fn adopted_for(
        &self,
        desired: &DesiredState,
        undeclared: Undeclared,
    ) -> BTreeMap<String, ServiceId> {
        let is_declared = |id: &ServiceId| {
            desired
                .apps
                .get(&id.app)
                .is_some_and(|app| app.services.contains_key(&id.service))
        };
        self.adopted
            .iter()
            .filter(|(_, one)| match undeclared {
                Undeclared::Goes if one.config.is_some() => true,
                Undeclared::Goes | Undeclared::Stays => is_declared(&one.service),
            })
            .map(|(engine_id, one)| (engine_id.clone(), one.service.clone()))
            .collect()
    }

    /// Whether this container is adopted, and not yet found to be as declared.
    #[must_use]
    pub fn is_pending(&self, engine_id: &str) -> bool {
        self.adopted
            .get(engine_id)
            .is_some_and(|one| one.config.is_none())
    }
}

/// What becomes of an adopted container that is not declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undeclared {
    /// It goes, as any container of ours: a new revision dropped it.
    Goes,
    /// It runs on and is a stranger's again: a revision from before its adoption is back.
    Stays,
}

/// A file that we wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedFile {
    /// What we wrote last.
    pub content: ContentId,
    /// What happens when it is no longer declared.
    pub on_remove: OnRemove,
    /// Whether something of a person's stood there before our first write; a copy is kept.
    pub replaced: bool,
}

/// One deployment in the history, as `evenkeel history` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The commit it moved to.
    pub commit: CommitId,
    /// What it resolved to, where it came that far.
    pub content: Option<ContentId>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How it ended.
    pub result: DeploymentResult,
    /// Why, in one sentence.
    pub why: String,
    /// The steps that were taken, each with its reason.
    pub steps: Vec<String>,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentResult {
    /// Applied, healthy through its soak: last-good now.
    Good,
    /// Applied, found unhealthy.
    Refused,
    /// Put off; last-good came back.
    Deferred,
    /// Put back to a good revision, by a person or after a refusal.
    RolledBack,
    /// Drift was put right.
    Healed,
    /// Stopped before its end (power, a newer commit, a stop).
    Interrupted,
    /// Not a deployment: the agent itself became another version, or did not.
    Agent,
}

/// Everything that the journal holds, as read: what deciders look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Good revisions, newest first. At most [`KEPT`] with distinct content are complete.
    pub good: Vec<GoodRevision>,
    /// What is being tried, or was when the agent ended uncleanly.
    pub trial: Option<Trial>,
    /// Refused revisions, newest first, bounded.
    pub refused: Vec<Refusal>,
    /// The deferral in force.
    pub deferred: Option<Deferral>,
    /// A person's rollback.
    pub pin: Option<Pin>,
    /// A person's pause.
    pub paused: bool,
    /// What is ours.
    pub inventory: Inventory,
    /// What `status` last told, for a look without a daemon.
    pub report: Option<Report>,
    /// The journal's own copy of the floor.
    pub floor: Option<Floor>,
    /// Trust sets of the repository that were adopted here, the one in force last; at most [`KEPT_SETS`].
    pub adopted: Vec<AdoptedSet>,
    /// Why the adopted trust sets are lost, where every copy of them is: the device holds until a person decides.
    pub trust_lost: Option<String>,
}

/// A trust set of the repository that this device has adopted: signed by root, and never gone back from. What is read
/// back of it carries the device's own authentication, so that a root key that expires later takes nothing away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedSet {
    /// Rises from set to set; the file on the device counts as 0.
    pub serial: u64,
    /// `trust/allowed_signers`, as it was signed.
    pub content: String,
    /// The commit that brought it, as far as it is known: that commit itself is judged by the set before it.
    pub by: Option<CommitId>,
    /// When it was adopted.
    pub at: Timestamp,
}

/// How many adopted trust sets are remembered: the one in force, and those that commits since the floor may need.
pub const KEPT_SETS: usize = 8;
/// How many good revisions with distinct content stay complete on the device.
pub const KEPT: usize = 3;
/// How many unclean ends in a row refuse a revision.
pub const TRIES: u32 = 3;

impl Ledger {
    /// The newest good revision.
    #[must_use]
    pub fn last_good(&self) -> Option<&GoodRevision> {
        self.good.first()
    }

    /// What is being tried, with its change on the device or on its way.
    #[must_use]
    pub fn underway(&self) -> Option<&Trial> {
        self.trial
            .as_ref()
            .filter(|trial| trial.stage == Stage::Underway)
    }

    /// The refusal of this commit or this content, if there is one.
    #[must_use]
    pub fn refusal(&self, commit: &CommitId, content: Option<&ContentId>) -> Option<&Refusal> {
        self.refused
            .iter()
            .find(|refusal| refusal.commit == *commit || Some(&refusal.content) == content)
    }
}

/// What is kept by service, as a list: JSON's keys are text.
mod by_service {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::ServiceId;

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<ServiceId, String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<ServiceId, String>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_is_read_back_as_it_was_written() {
        let id = ServiceId {
            app: "shop".parse().expect("a name"),
            service: "job".parse().expect("a name"),
        };
        let inventory = Inventory {
            services: BTreeSet::from([id.clone()]),
            order: vec![id.clone()],
            volumes: BTreeSet::from(["shop_data".to_owned()]),
            done: BTreeMap::from([(id.clone(), "abc".to_owned())]),
            unproven: BTreeSet::from([id.app.clone()]),
            ..Inventory::default()
        };
        let text = serde_json::to_string(&inventory).expect("JSON can express it");
        assert_eq!(
            serde_json::from_str::<Inventory>(&text).expect("it was written so"),
            inventory
        );
        // What an older agent wrote.
        let older = r#"{"files":{},"services":[]}"#;
        assert_eq!(
            serde_json::from_str::<Inventory>(older).expect("it is read"),
            Inventory::default()
        );
    }
}
