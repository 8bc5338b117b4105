//! What is remembered, in sled: authenticated, durable, bounded; and beside it the ledger's second copy, the floor file
//! and the trust file.
//!
//! Owns `journal/` (with `journal.new`, `journal.old` and `journal.damaged-<n>/` beside it), `journal.opening`,
//! `journal.copy`, `floor`,
//! `trust-set` and `reserve/` in the state directory. The ledger is kept in memory and loaded at open; every change is on
//! disk before it shows there. Refuses what does not carry this device's own authentication: it counts as not there, and
//! is reported.
//!
//! Before sled is given anything to write the disk is looked at: one that is full, read-only or failing gets no write,
//! and the journal is never set aside for it. Meanwhile what is good is read, from a copy in memory if need be. What
//! goes back to last-good may use the reserve; the status may not.
//!
//! A journal that does not open is set aside (the last two are kept) and started empty. sled can also panic, which ends
//! the process in a release: an open that did not end is counted beside the journal, and after three in a row the
//! journal is set aside too, so that the agent never loops.
//!
//! A flipped byte can take sled back in time without a word. That is noticed by the second copy, from which the ledger is
//! written again; the history and the contents of revisions that went with it are told to be lost, and the contents are
//! made again by the loop.
//!
//! Limits: one user at a time (the state directory's lock).

mod beside;
mod floor_file;
mod ledger;
mod opening;
mod place;
mod spare;
mod trust_file;
mod vault;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;

use crate::adapter::room::{self, Reserve};
use crate::adapter::state_dir::DeviceKey;
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, Ledger, Pin, Refusal, Trial,
};
use crate::domain::outcome::Report;
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::domain::storage::Storage;
use crate::gate::Healthy;
use crate::port::journal::{Journal, JournalError, Paused};
use floor_file::{FloorFile, Reading};
use ledger::{Loaded, Step};
use opening::{open_copy, open_home};
use spare::{Body, Spare};
use trust_file::{TrustFile, serial};
use vault::{Vault, VaultError};

/// An opened journal, and what had to be done for it.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Store,
    /// Why the one before was set aside, and where it is now.
    pub damaged: Option<String>,
    /// What was found and not used, or is older than it should be.
    pub warnings: Vec<String>,
}

/// The journal and the floor file.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    key: DeviceKey,
    floor_file: FloorFile,
    trust_file: TrustFile,
    reserve: Reserve,
    spare: Spare,
    /// What the second copy holds, as far as it is known.
    spared: RefCell<Option<Body>>,
    /// Nothing of ours was there, so the trust file is not written before the first floor is: until then something else may
    /// say that this device has run before.
    trust_unwritten: Cell<bool>,
    inner: RefCell<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` after an error: sled stops for good at its first one, so the next use opens it again.
    vault: Option<Vault>,
    place: Place,
    loaded: Loaded,
}

/// Where the open database lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// In the state directory.
    Home,
    /// In memory, for reading.
    Copy(PathBuf),
}

impl Store {
    /// Ends with the process: all is durable, and nothing is left to close that could fail.
    pub fn leave(&self) {
        let mut inner = self.inner.borrow_mut();
        if let Some(vault) = inner.vault.take() {
            vault.leave();
        }
        inner.leave_copy();
    }

    /// Runs `use_it` on the database, opening it again where an error closed it.
    fn with<T>(
        &self,
        use_it: impl FnOnce(&Vault, &Place, &mut Loaded) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let inner = &mut *self.inner.borrow_mut();
        let vault = match inner.vault.take() {
            Some(vault) => vault,
            None => self.open_again(inner)?,
        };
        let result = use_it(&vault, &inner.place, &mut inner.loaded);
        match &result {
            Ok(_)
            | Err(
                VaultError::Missing(_)
                | VaultError::Damaged(_)
                | VaultError::Room(_)
                | VaultError::Copy,
            ) => inner.vault = Some(vault),
            Err(VaultError::Sled(_) | VaultError::Io(_)) => {}
            // What a failed sync leaves on disk nobody knows, and a second one would say that all is well: the next use
            // writes all of it anew, from what this handle has written to the system.
            Err(VaultError::Sync(_)) => vault.leave(),
        }
        result
    }

    /// Opens the database again, or a copy of it while the disk takes no write.
    fn open_again(&self, inner: &mut Inner) -> Result<Vault, VaultError> {
        let home = room::probe(&self.dir, room::ONE_CHANGE)
            .map_err(VaultError::Room)
            .and_then(|()| open_home(&self.dir, &self.key));
        let (vault, mut loaded, place) = match home {
            Ok((vault, loaded)) => (vault, loaded, Place::Home),
            Err(error) if Storage::behind(&error).is_some() => open_copy(&self.dir, &self.key)
                .map_err(|again| {
                    tracing::debug!(error = chain(&again), "no copy of the journal opens either");
                    error
                })?,
            Err(error) => return Err(error),
        };
        loaded.ledger.report = inner.loaded.ledger.report.take();
        loaded.saved_report = None;
        loaded.sequence = loaded.sequence.max(inner.loaded.sequence);
        let before = &mut inner.loaded.ledger;
        loaded.ledger.trust_lost = before.trust_lost.take();
        if serial(&before.adopted) > serial(&loaded.ledger.adopted) {
            loaded.ledger.adopted = std::mem::take(&mut before.adopted);
        }
        inner.loaded = loaded;
        inner.leave_copy();
        inner.place = place;
        Ok(vault)
    }

    /// One durable change: contents first, then all records together, then memory.
    fn change(&self, what: &str, step: Step<'_>) -> Result<(), JournalError> {
        let mut done = self.try_change(step);
        if matches!(done, Err(VaultError::Copy)) {
            // The disk takes writes again.
            self.inner.borrow_mut().close();
            done = self.try_change(step);
        }
        done.map_err(|cause| failed(what, cause))?;
        self.copy();
        Ok(())
    }

    fn try_change(&self, step: Step<'_>) -> Result<(), VaultError> {
        self.with(|vault, place, loaded| {
            ledger::take(vault, loaded, step, |contents| {
                self.look_for_room(step, contents)?;
                match place {
                    Place::Home => Ok(()),
                    Place::Copy(_) => Err(VaultError::Copy),
                }
            })
        })
    }

    /// Looks for room for one change. All but the status may use what is held back.
    fn look_for_room(&self, step: Step<'_>, contents: u64) -> Result<(), VaultError> {
        // A quarter for what sled and the seals add to them.
        let bytes = room::ONE_CHANGE + contents + contents / 4;
        let mut found = room::look(&self.dir, bytes);
        if let Err(error) = &found
            && Storage::of(error) == Some(Storage::Full)
            && !matches!(step, Step::Report(_))
            && self.reserve.release()
        {
            found = room::look(&self.dir, bytes);
        }
        found.map_err(VaultError::Room)
    }

    /// Writes a file of ours, with what is held back where there is no other room.
    fn with_room(&self, write: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
        match write() {
            Err(error) if Storage::of(&error) == Some(Storage::Full) && self.reserve.release() => {
                write()
            }
            done => done,
        }
    }

    /// Writes the database anew where it has outgrown what is in it. A failure costs nothing: the old one stays.
    fn shrink(&self) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(vault) = inner
            .vault
            .take_if(|vault| inner.place == Place::Home && vault.is_overgrown())
        else {
            return;
        };
        let done = place::write_fresh(&self.dir, &vault);
        match done {
            Ok(()) => {
                drop(vault);
                if let Err(error) = place::swap(&self.dir) {
                    tracing::warn!(%error, "the journal's fresh database is not in place yet");
                }
            }
            Err(error) => {
                tracing::debug!(
                    error = chain(&error),
                    "the journal could not be written anew"
                );
                inner.vault = Some(vault);
            }
        }
    }

    /// Brings the second copy to where the database is. The change is durable without it, so a copy that cannot be written
    /// stops nothing: the next change tries again.
    fn copy(&self) {
        let body = {
            let loaded = &self.inner.borrow().loaded;
            Body::of(&loaded.ledger, loaded.sequence)
        };
        let mut spared = self.spared.borrow_mut();
        if body.sequence == 0 || spared.as_ref() == Some(&body) {
            return;
        }
        *spared = match self.spare.write(&body) {
            Ok(()) => Some(body),
            Err(error) => {
                tracing::warn!(%error, "the journal's second copy cannot be written");
                None
            }
        };
    }

    fn sweep(&self) -> Result<(), VaultError> {
        self.with(|vault, _, loaded| match ledger::needed(vault, loaded)? {
            Some(needed) => vault.sweep(&needed),
            // A state that cannot be read may need anything: nothing is dropped.
            None => Ok(()),
        })
    }
}

impl Inner {
    /// The next use opens it again.
    fn close(&mut self) {
        self.vault = None;
        self.leave_copy();
    }

    fn leave_copy(&mut self) {
        if let Place::Copy(copy) = std::mem::replace(&mut self.place, Place::Home) {
            place::forget(&copy);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.borrow_mut().close();
    }
}

fn failed(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> JournalError {
    JournalError {
        what: what.to_owned(),
        cause: Some(Box::new(cause)),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl Journal for Store {
    fn ledger(&self) -> Ledger {
        self.inner.borrow().loaded.ledger.clone()
    }

    fn kept(&self, good: &GoodRevision) -> Result<Resolved, JournalError> {
        let state = self.kept_state(good.content())?;
        let ids: Vec<ContentId> = state
            .files()
            .map(|(_, _, file)| file.content.clone())
            .collect();
        let contents = self.contents(&ids)?;
        Ok(Resolved {
            state,
            contents,
            rollout: None,
        })
    }

    fn kept_state(&self, content: &ContentId) -> Result<DesiredState, JournalError> {
        self.with(|vault, _, _| ledger::state(vault, content))
            .map_err(|cause| failed("give a kept revision", cause))
    }

    fn incomplete(&self) -> Result<Vec<GoodRevision>, JournalError> {
        let good = self.inner.borrow().loaded.ledger.good.clone();
        self.with(|vault, _, _| {
            let mut lost = Vec::new();
            for good in good {
                match ledger::check_kept(vault, good.content()) {
                    Ok(()) => {}
                    Err(VaultError::Damaged(_) | VaultError::Missing(_)) => lost.push(good),
                    Err(
                        error @ (VaultError::Sled(_)
                        | VaultError::Io(_)
                        | VaultError::Sync(_)
                        | VaultError::Room(_)
                        | VaultError::Copy),
                    ) => return Err(error),
                }
            }
            Ok(lost)
        })
        .map_err(|cause| failed("look at what it keeps", cause))
    }

    fn keep_again(&self, good: &GoodRevision, resolved: &Resolved) -> Result<(), JournalError> {
        check_complete(resolved)?;
        if resolved.state.content_id() != *good.content() {
            return Err(JournalError {
                what: format!("keep something else as {}", good.commit().short()),
                cause: None,
            });
        }
        self.change("keep a revision again", Step::KeepAgain(good, resolved))
    }

    fn drop_good(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.change("drop a revision that is lost", Step::DropGood(commit))
    }

    fn has_run_before(&self, says: &str) -> Result<(), JournalError> {
        {
            let inner = &mut *self.inner.borrow_mut();
            let ledger = &mut inner.loaded.ledger;
            if !self.trust_unwritten.get()
                || !ledger.adopted.is_empty()
                || ledger.trust_lost.is_some()
            {
                return Ok(());
            }
            ledger.trust_lost = Some(says.to_owned());
        }
        self.trust_file
            .mark_lost()
            .map_err(|cause| failed("write down that the trust sets are lost", cause))?;
        self.trust_unwritten.set(false);
        Ok(())
    }

    fn contents(&self, ids: &[ContentId]) -> Result<Contents, JournalError> {
        self.with(|vault, _, _| {
            let mut contents = Contents::new();
            for id in ids {
                if !contents.contains_key(id) {
                    contents.insert(id.clone(), vault.content(id)?);
                }
            }
            Ok(contents)
        })
        .map_err(|cause| failed("give a kept content", cause))
    }

    fn spend_try(&self, trial: &Trial) -> Result<(), JournalError> {
        self.change("write down that a try begins", Step::Trial(Some(trial)))
    }

    fn end_trial(&self, keep: Option<&Trial>) -> Result<(), JournalError> {
        self.change("write down that a try ended", Step::Trial(keep))
    }

    fn commit(
        &self,
        commit: &CommitId,
        tree: &TreeId,
        resolved: &Resolved,
        at: Timestamp,
        _proof: Healthy,
    ) -> Result<GoodRevision, JournalError> {
        check_complete(resolved)?;
        let good = GoodRevision::authenticated(
            commit.clone(),
            tree.clone(),
            resolved.state.content_id(),
            at,
        );
        self.change("make a revision last-good", Step::Good(&good, resolved))?;
        if let Err(error) = self.sweep() {
            // The revision is good and kept; what is left over goes at the next sweep.
            tracing::warn!(%error, "cannot drop contents that are not needed any more");
        }
        self.shrink();
        Ok(good)
    }

    fn refuse(&self, refusal: &Refusal) -> Result<(), JournalError> {
        self.change("refuse a revision", Step::Refuse(refusal))
    }

    fn forgive(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.change("forget a refusal", Step::Forgive(commit))
    }

    fn defer(&self, deferral: Option<&Deferral>) -> Result<(), JournalError> {
        self.change("put a revision off", Step::Defer(deferral))
    }

    fn set_pin(&self, pin: Option<&Pin>) -> Result<(), JournalError> {
        self.change("remember a rollback", Step::Pin(pin))
    }

    fn set_paused(&self, paused: Paused) -> Result<(), JournalError> {
        self.change("remember a pause", Step::Pause(paused))
    }

    fn set_inventory(&self, inventory: &Inventory) -> Result<(), JournalError> {
        self.change("remember what is ours", Step::Inventory(inventory))
    }

    fn append(&self, deployment: &Deployment) -> Result<(), JournalError> {
        self.change("add to the history", Step::History(deployment))
    }

    fn history(&self) -> Result<Vec<Deployment>, JournalError> {
        self.with(|vault, _, _| ledger::history(vault))
            .map_err(|cause| failed("give its history", cause))
    }

    fn save_report(&self, report: &Report) -> Result<(), JournalError> {
        self.change("keep the status", Step::Report(report))
    }

    fn floor_file(&self) -> Result<Option<Floor>, JournalError> {
        match self.floor_file.read() {
            Ok(Reading::Absent) => Ok(None),
            Ok(Reading::Whole(record) | Reading::Half(record)) => Ok(Some(record.floor)),
            Ok(Reading::Damaged) => Err(JournalError {
                what: "read the floor file: both of its slots are damaged".to_owned(),
                cause: None,
            }),
            Err(cause) => Err(failed("read the floor file", cause)),
        }
    }

    fn adopt(&self, sets: &[AdoptedSet]) -> Result<(), JournalError> {
        let (before, whole) = {
            let ledger = &self.inner.borrow().loaded.ledger;
            let whole = ledger.trust_lost.is_none() && ledger.adopted == sets;
            (serial(&ledger.adopted), whole)
        };
        if whole {
            return Ok(());
        }
        if serial(sets) < before {
            return Err(JournalError {
                what: format!(
                    "replace the trust set of serial {before} by one of serial {}: it would go back",
                    serial(sets)
                ),
                cause: None,
            });
        }
        self.with_room(|| self.trust_file.write(sets))
            .map_err(|cause| failed("write the trust file", cause))?;
        self.trust_unwritten.set(false);
        self.change("adopt a trust set", Step::Adopt(sets))
    }

    fn set_floor_file(&self, floor: &Floor) -> Result<(), JournalError> {
        let sequence = self.inner.borrow().loaded.sequence;
        if let Ok(Reading::Whole(record) | Reading::Half(record)) = self.floor_file.read() {
            check_rises(&record.floor, floor)?;
            if record.floor == *floor && record.sequence == sequence {
                return Ok(());
            }
        }
        if self.trust_unwritten.get() {
            let adopted = self.inner.borrow().loaded.ledger.adopted.clone();
            self.with_room(|| self.trust_file.write(&adopted))
                .map_err(|cause| failed("write the trust file", cause))?;
            self.trust_unwritten.set(false);
        }
        self.with_room(|| self.floor_file.write(floor, sequence))
            .map_err(|cause| failed("write the floor file", cause))
    }

    fn hold_room(&self, contents: u64) -> Result<(), JournalError> {
        self.reserve
            .hold(contents)
            .map_err(|cause| failed("hold back room for a rollback", cause))
    }

    fn give_room(&self) -> bool {
        self.reserve.release()
    }

    fn trouble(&self) -> Option<JournalError> {
        let cause = room::look(&self.dir, room::ONE_CHANGE).err()?;
        Storage::of(&cause).map(|_| failed("be written", cause))
    }

    fn set_floor(&self, floor: &Floor) -> Result<(), JournalError> {
        if let Some(before) = &self.inner.borrow().loaded.ledger.floor {
            check_rises(before, floor)?;
        }
        self.change("write its copy of the floor", Step::Floor(floor))
    }
}

/// A revision is kept with every content, or not at all.
fn check_complete(resolved: &Resolved) -> Result<(), JournalError> {
    for (_, path, file) in resolved.state.files() {
        let whole = resolved
            .contents
            .get(&file.content)
            .is_some_and(|bytes| ContentId::of(bytes) == file.content);
        if !whole {
            return Err(JournalError {
                what: format!("keep a revision without the content of {path}"),
                cause: None,
            });
        }
    }
    Ok(())
}

/// A floor is only ever replaced by one of a higher generation, or by the same commit's.
fn check_rises(before: &Floor, after: &Floor) -> Result<(), JournalError> {
    let fits = after.generation > before.generation
        || (after.generation == before.generation && after.commit == before.commit);
    if fits {
        return Ok(());
    }
    Err(JournalError {
        what: format!(
            "replace the floor of generation {} by one of generation {}: it would go back",
            before.generation, after.generation
        ),
        cause: None,
    })
}

#[cfg(test)]
mod tests;
