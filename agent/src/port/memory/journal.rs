//! What is remembered, in memory: the journal, and the floor file beside it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::Faults;
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, KEPT, Ledger, Pin, Refusal,
    Trial,
};
use crate::domain::outcome::Report;
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::gate::Healthy;
use crate::port::journal::{Journal, JournalError, Paused};

/// See the module.
#[derive(Debug)]
pub struct MemoryJournal {
    faults: Rc<Faults>,
    ledger: RefCell<Ledger>,
    kept: RefCell<BTreeMap<ContentId, Resolved>>,
    history: RefCell<Vec<Deployment>>,
    floor_file: RefCell<Option<Floor>>,
    /// The try that is under way, and what the ledger said before it: known to the harness alone.
    underway: RefCell<Option<(CommitId, Option<Trial>)>>,
    /// How often each commit's try ended uncleanly, whatever the ledger remembers.
    unclean: RefCell<BTreeMap<CommitId, u32>>,
    began: Notify,
    /// Planted on purpose: the next start knows nothing of a try that ended uncleanly.
    pub(crate) forgets_tries: Cell<bool>,
}

impl MemoryJournal {
    pub(crate) fn new(faults: Rc<Faults>) -> Self {
        Self {
            faults,
            ledger: RefCell::default(),
            kept: RefCell::default(),
            history: RefCell::default(),
            floor_file: RefCell::default(),
            underway: RefCell::default(),
            unclean: RefCell::default(),
            began: Notify::new(),
            forgets_tries: Cell::new(false),
        }
    }

    /// The same memory, over other faults.
    pub(crate) fn copy(&self, faults: Rc<Faults>) -> Self {
        Self {
            faults,
            ledger: self.ledger.clone(),
            kept: self.kept.clone(),
            history: self.history.clone(),
            floor_file: self.floor_file.clone(),
            underway: self.underway.clone(),
            unclean: self.unclean.clone(),
            began: Notify::new(),
            forgets_tries: self.forgets_tries.clone(),
        }
    }

    /// Another agent begins: a try that was under way has ended uncleanly.
    pub(crate) fn opened_again(&self) {
        if let Some((commit, before)) = self.underway.take() {
            *self.unclean.borrow_mut().entry(commit).or_default() += 1;
            if self.forgets_tries.get() {
                self.ledger.borrow_mut().trial = before;
            }
        }
    }

    /// Waits until a try begins.
    pub(crate) async fn try_began(&self) {
        while self.underway.borrow().is_none() {
            self.began.notified().await;
        }
    }

    /// How often each commit's try ended uncleanly, as it really was.
    pub(crate) fn unclean(&self) -> BTreeMap<CommitId, u32> {
        self.unclean.borrow().clone()
    }

    /// The floor file is lost.
    pub(crate) fn lose_floor_file(&self) {
        *self.floor_file.borrow_mut() = None;
    }

    /// What a change of the ledger's trial means for the try that is under way.
    fn ended(&self, done: Result<(), JournalError>) -> Result<(), JournalError> {
        if !self.faults.is_dead() && self.ledger.borrow().trial.is_none() {
            *self.underway.borrow_mut() = None;
        }
        done
    }

    /// Everything that was remembered is lost.
    pub(crate) fn lose(&self) {
        *self.ledger.borrow_mut() = Ledger::default();
        self.kept.borrow_mut().clear();
        self.history.borrow_mut().clear();
        *self.floor_file.borrow_mut() = None;
    }

    /// Changes the ledger in one durable step. One that changes nothing writes nothing.
    fn change(&self, what: &str, act: impl FnOnce(&mut Ledger)) -> Result<(), JournalError> {
        let mut next = self.ledger.borrow().clone();
        act(&mut next);
        if next == *self.ledger.borrow() {
            return Ok(());
        }
        let write = || {
            *self.ledger.borrow_mut() = next;
            Ok(())
        };
        self.faults.effect(what, write, |cause| failed(what, cause))
    }
}

fn failed(what: &str, cause: std::io::Error) -> JournalError {
    JournalError {
        what: what.to_owned(),
        cause: Some(Box::new(cause)),
    }
}

fn missing(what: &str) -> JournalError {
    JournalError {
        what: format!("give {what}: it is not kept"),
        cause: None,
    }
}

/// A floor is only ever replaced by one of a higher generation, or by the same commit's.
fn check_rises(before: Option<&Floor>, after: &Floor) -> Result<(), JournalError> {
    let rises = before.is_none_or(|before| {
        after.generation > before.generation
            || (after.generation == before.generation && after.commit == before.commit)
    });
    if rises {
        return Ok(());
    }
    Err(JournalError {
        what: "let the floor go back".to_owned(),
        cause: None,
    })
}

impl Journal for MemoryJournal {
    fn ledger(&self) -> Ledger {
        self.ledger.borrow().clone()
    }

    fn kept(&self, good: &GoodRevision) -> Result<Resolved, JournalError> {
        let kept = self.kept.borrow();
        let resolved = kept
            .get(good.content())
            .ok_or_else(|| missing("a revision"))?;
        Ok(resolved.clone())
    }

    fn kept_state(&self, content: &ContentId) -> Result<DesiredState, JournalError> {
        let kept = self.kept.borrow();
        let resolved = kept.get(content).ok_or_else(|| missing("a state"))?;
        Ok(resolved.state.clone())
    }

    fn incomplete(&self) -> Result<Vec<GoodRevision>, JournalError> {
        let kept = self.kept.borrow();
        let ledger = self.ledger.borrow();
        let lost = ledger
            .good
            .iter()
            .filter(|good| !kept.contains_key(good.content()));
        Ok(lost.cloned().collect())
    }

    fn keep_again(&self, good: &GoodRevision, resolved: &Resolved) -> Result<(), JournalError> {
        if resolved.state.content_id() != *good.content() {
            return Err(missing("the same revision again"));
        }
        let what = "keep a revision again";
        let write = || {
            let mut kept = self.kept.borrow_mut();
            kept.insert(good.content().clone(), resolved.clone());
            Ok(())
        };
        self.faults.effect(what, write, |cause| failed(what, cause))
    }

    fn drop_good(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.change("drop a lost revision", |ledger| {
            ledger.good.retain(|good| good.commit() != commit);
        })
    }

    fn has_run_before(&self, says: &str) -> Result<(), JournalError> {
        let ledger = self.ledger.borrow().clone();
        if !ledger.adopted.is_empty() || ledger.trust_lost.is_some() {
            return Ok(());
        }
        self.change("note that the trust sets are lost", |ledger| {
            ledger.trust_lost = Some(says.to_owned());
        })
    }

    fn contents(&self, ids: &[ContentId]) -> Result<Contents, JournalError> {
        let kept = self.kept.borrow();
        ids.iter()
            .map(|id| {
                let content = kept.values().find_map(|kept| kept.contents.get(id));
                let content = content.ok_or_else(|| missing("a content"))?;
                Ok((id.clone(), content.clone()))
            })
            .collect()
    }

    fn spend_try(&self, trial: &Trial) -> Result<(), JournalError> {
        let what = format!("spend try {} of {}", trial.tries, trial.commit.short());
        let before = self.ledger.borrow().trial.clone();
        self.change(&what, |ledger| ledger.trial = Some(trial.clone()))?;
        *self.underway.borrow_mut() = Some((trial.commit.clone(), before));
        self.began.notify_waiters();
        Ok(())
    }

    fn end_trial(&self, keep: Option<&Trial>) -> Result<(), JournalError> {
        self.change("end the trial", |ledger| ledger.trial = keep.cloned())?;
        *self.underway.borrow_mut() = None;
        Ok(())
    }

    fn commit(
        &self,
        commit: &CommitId,
        tree: &TreeId,
        resolved: &Resolved,
        at: Timestamp,
        _proof: Healthy,
    ) -> Result<GoodRevision, JournalError> {
        let content = resolved.state.content_id();
        let good = GoodRevision::authenticated(commit.clone(), tree.clone(), content.clone(), at);
        let mut next = self.ledger.borrow().clone();
        if let Some(pin) = &mut next.pin
            && next
                .good
                .iter()
                .any(|known| known.commit() == &pin.commit && *known.content() == content)
        {
            pin.commit = commit.clone();
        }
        next.good
            .retain(|known| *known.content() != content && known.commit() != commit);
        next.good.insert(0, good.clone());
        let pinned = next.pin.as_ref().map(|pin| &pin.commit);
        let mut place = 0;
        next.good.retain(|known| {
            place += 1;
            place <= KEPT || Some(known.commit()) == pinned
        });
        next.trial = None;
        next.deferred = None;
        next.refused
            .retain(|known| known.content != content && known.commit != *commit);
        let write = || {
            let mut kept = self.kept.borrow_mut();
            kept.insert(content.clone(), resolved.clone());
            kept.retain(|id, _| next.good.iter().any(|good| good.content() == id));
            *self.ledger.borrow_mut() = next;
            Ok(())
        };
        let what = "make it last-good";
        let done = self.faults.effect(what, write, |cause| failed(what, cause));
        self.ended(done)?;
        Ok(good)
    }

    fn refuse(&self, refusal: &Refusal) -> Result<(), JournalError> {
        let done = self.change("refuse", |ledger| {
            ledger
                .refused
                .retain(|known| known.commit != refusal.commit);
            ledger.refused.insert(0, refusal.clone());
            ledger.trial = None;
        });
        self.ended(done)
    }

    fn forgive(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.change("forgive", |ledger| {
            ledger.refused.retain(|known| known.commit != *commit);
        })
    }

    fn defer(&self, deferral: Option<&Deferral>) -> Result<(), JournalError> {
        let done = self.change("defer", |ledger| {
            ledger.deferred = deferral.cloned();
            ledger.trial = None;
        });
        self.ended(done)
    }

    fn set_pin(&self, pin: Option<&Pin>) -> Result<(), JournalError> {
        self.change("pin", |ledger| ledger.pin = pin.cloned())
    }

    fn set_paused(&self, paused: Paused) -> Result<(), JournalError> {
        self.change("pause", |ledger| ledger.paused = paused == Paused::Yes)
    }

    fn set_inventory(&self, inventory: &Inventory) -> Result<(), JournalError> {
        self.change("write the inventory", |ledger| {
            ledger.inventory = inventory.clone();
        })
    }

    fn append(&self, deployment: &Deployment) -> Result<(), JournalError> {
        let what = "append to the history";
        let write = || {
            self.history.borrow_mut().insert(0, deployment.clone());
            Ok(())
        };
        self.faults.effect(what, write, |cause| failed(what, cause))
    }

    fn history(&self) -> Result<Vec<Deployment>, JournalError> {
        Ok(self.history.borrow().clone())
    }

    fn save_report(&self, report: &Report) -> Result<(), JournalError> {
        let same =
            self.ledger.borrow().report.as_ref().map(Report::lasting) == Some(report.lasting());
        if same {
            return Ok(());
        }
        self.change("save the report", |ledger| {
            ledger.report = Some(report.clone());
        })
    }

    fn floor_file(&self) -> Result<Option<Floor>, JournalError> {
        Ok(self.floor_file.borrow().clone())
    }

    fn adopt(&self, sets: &[AdoptedSet]) -> Result<(), JournalError> {
        let serial = |sets: &[AdoptedSet]| sets.last().map_or(0, |set| set.serial);
        if serial(sets) < serial(&self.ledger.borrow().adopted) {
            return Err(JournalError {
                what: "let the trust set go back".to_owned(),
                cause: None,
            });
        }
        self.change("adopt a trust set", |ledger| {
            ledger.adopted = sets.to_vec();
            ledger.trust_lost = None;
        })
    }

    fn set_floor_file(&self, floor: &Floor) -> Result<(), JournalError> {
        check_rises(self.floor_file.borrow().as_ref(), floor)?;
        if self.floor_file.borrow().as_ref() == Some(floor) {
            return Ok(());
        }
        let what = "write the floor file";
        let write = || {
            *self.floor_file.borrow_mut() = Some(floor.clone());
            Ok(())
        };
        self.faults.effect(what, write, |cause| failed(what, cause))
    }

    fn hold_room(&self, _contents: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn give_room(&self) -> bool {
        false
    }

    fn trouble(&self) -> Option<JournalError> {
        None
    }

    fn set_floor(&self, floor: &Floor) -> Result<(), JournalError> {
        check_rises(self.ledger.borrow().floor.as_ref(), floor)?;
        self.change("write the journal's floor", |ledger| {
            ledger.floor = Some(floor.clone());
        })
    }
}
