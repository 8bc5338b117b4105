//! What is remembered: durable, authenticated, bounded. Nothing is written while nothing changes.

use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, Ledger, Pin, Refusal, Trial,
};
use crate::domain::outcome::Report;
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::gate::Healthy;

/// Why the journal did not take or give something.
#[derive(Debug, thiserror::Error)]
#[error("the journal cannot {what}")]
pub struct JournalError {
    /// What was tried.
    pub what: String,
    /// Why.
    #[source]
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What the device remembers. Every method that changes something returns only once it is on disk.
pub trait Journal {
    /// Everything the deciders need, from memory.
    fn ledger(&self) -> Ledger;

    /// The complete state of a good revision: what it resolved to, with every content.
    ///
    /// # Errors
    /// Where it is not kept any more, or damaged.
    fn kept(&self, good: &GoodRevision) -> Result<Resolved, JournalError>;

    /// The desired state of a good revision without contents.
    ///
    /// # Errors
    /// As [`Journal::kept`].
    fn kept_state(&self, content: &ContentId) -> Result<DesiredState, JournalError>;

    /// The good revisions of which something is lost: their state, or a content.
    ///
    /// # Errors
    /// Where it cannot be read at all.
    fn incomplete(&self) -> Result<Vec<GoodRevision>, JournalError>;

    /// Keeps a good revision complete again, from what it was made from. It takes no other place among the good ones.
    ///
    /// # Errors
    /// Where this is not what the revision was, or cannot be made durable.
    fn keep_again(&self, good: &GoodRevision, resolved: &Resolved) -> Result<(), JournalError>;

    /// Takes a revision that is lost out of the good ones.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn drop_good(&self, commit: &CommitId) -> Result<(), JournalError>;

    /// Something outside the journal says that this device has run before, and the journal began anew: trust sets that are
    /// not found in any of their places are lost. Where they are found, this changes nothing.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn has_run_before(&self, says: &str) -> Result<(), JournalError>;

    /// Contents by id, of any kept revision.
    ///
    /// # Errors
    /// As [`Journal::kept`].
    fn contents(&self, ids: &[ContentId]) -> Result<Contents, JournalError>;

    /// Writes down that a try begins.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn spend_try(&self, trial: &Trial) -> Result<(), JournalError>;

    /// Ends the trial: `Some` gives the try back (a clean stop) and keeps the trial's memory; `None` forgets it.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn end_trial(&self, keep: Option<&Trial>) -> Result<(), JournalError>;

    /// Makes a revision last-good, keeps it complete, drops what is beyond [`crate::domain::history::KEPT`] distinct
    /// contents, clears the trial, the deferral and a refusal of the same content, all in one durable step.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn commit(
        &self,
        commit: &CommitId,
        tree: &TreeId,
        resolved: &Resolved,
        at: Timestamp,
        proof: Healthy,
    ) -> Result<GoodRevision, JournalError>;

    /// Refuses a revision and clears its trial.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn refuse(&self, refusal: &Refusal) -> Result<(), JournalError>;

    /// Forgets the refusal of a commit (a signed `Retry:` trailer).
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn forgive(&self, commit: &CommitId) -> Result<(), JournalError>;

    /// Puts a revision off (`None`: nothing is put off any more) and clears its trial.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn defer(&self, deferral: Option<&Deferral>) -> Result<(), JournalError>;

    /// Sets or clears a person's rollback.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn set_pin(&self, pin: Option<&Pin>) -> Result<(), JournalError>;

    /// Sets or clears a person's pause.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn set_paused(&self, paused: Paused) -> Result<(), JournalError>;

    /// Replaces the inventory; written before a thing becomes ours and after it stops being so.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn set_inventory(&self, inventory: &Inventory) -> Result<(), JournalError>;

    /// Adds a deployment to the history (bounded).
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn append(&self, deployment: &Deployment) -> Result<(), JournalError>;

    /// The history, newest first.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn history(&self) -> Result<Vec<Deployment>, JournalError>;

    /// Keeps what `status` tells. Writes nothing where only the poll's times changed.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn save_report(&self, report: &Report) -> Result<(), JournalError>;

    /// The floor file's copy of the floor.
    ///
    /// # Errors
    /// Where it exists and neither of its slots can be read.
    fn floor_file(&self) -> Result<Option<Floor>, JournalError>;

    /// Writes the floor file.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn set_floor_file(&self, floor: &Floor) -> Result<(), JournalError>;

    /// Remembers the adopted trust sets (the one in force last), in all their copies. The serial of the last one never
    /// goes back.
    ///
    /// # Errors
    /// Where they cannot be made durable, or would go back.
    fn adopt(&self, sets: &[AdoptedSet]) -> Result<(), JournalError>;

    /// Makes sure that room is held back for going back to last-good, whose files weigh `contents`. Writes nothing where
    /// that is so already.
    ///
    /// # Errors
    /// Where there is no room to hold back.
    fn hold_room(&self, contents: u64) -> Result<(), JournalError>;

    /// Lets go of the room that is held back, for something on the way back that finds none. Whether there was some.
    fn give_room(&self) -> bool;

    /// What is wrong with the disk that all this is on, as far as a look tells. Writes nothing.
    fn trouble(&self) -> Option<JournalError>;

    /// Writes the journal's own copy of the floor.
    ///
    /// # Errors
    /// Where it cannot be made durable.
    fn set_floor(&self, floor: &Floor) -> Result<(), JournalError>;
}

/// Whether a person paused the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paused {
    /// Paused.
    Yes,
    /// Going on.
    No,
}
