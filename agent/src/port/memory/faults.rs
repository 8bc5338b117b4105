//! Effects, counted; and what goes wrong at one of them.

use std::cell::{Cell, RefCell};
use std::io;

use tokio::sync::Notify;

/// What happens at an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and an error is returned.
    Fail,
    /// It is done, and an error is returned all the same.
    Lie,
    /// It is not done, and neither is anything after it: the agent has ended.
    Crash,
}

/// Counts effects and breaks one of them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    taken: Cell<u64>,
    armed: Cell<Option<(u64, Fault)>>,
    /// Effects whose names begin with one of these fail until they are taken off the list.
    refused: RefCell<Vec<&'static str>>,
    dead: Cell<bool>,
    died: Notify,
    log: RefCell<Vec<String>>,
    looks: Cell<u64>,
    blind: Cell<Option<u64>>,
    /// The agent ends at every look whose name begins so.
    deadly: Cell<Option<&'static str>>,
}

impl Faults {
    /// Breaks the effect that comes as number `nth` from now, the first being 1.
    pub(crate) fn arm(&self, nth: u64, fault: Fault) {
        self.armed.set(Some((self.taken.get() + nth, fault)));
    }

    /// Lets the look that comes as number `nth` from now see nothing, the first being 1.
    pub(crate) fn blind(&self, nth: u64) {
        self.blind.set(Some(self.looks.get() + nth));
    }

    /// The agent ends at every look whose name begins so, in every life.
    pub(crate) fn set_deadly(&self, name: Option<&'static str>) {
        self.deadly.set(name);
    }

    /// How many looks there were.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.get()
    }

    /// Takes a look at something: it changes nothing, but it may fail.
    pub(crate) fn look<E>(&self, what: &str, broken: impl FnOnce(io::Error) -> E) -> Result<(), E> {
        self.looks.set(self.looks.get() + 1);
        if self.deadly.get().is_some_and(|name| what.starts_with(name)) {
            self.dead.set(true);
            self.died.notify_one();
        }
        if self.dead.get() || self.blind.get() == Some(self.looks.get()) {
            return Err(broken(io::Error::other(format!("injected at `{what}`"))));
        }
        Ok(())
    }

    /// Lets every effect whose name begins so fail, until [`Faults::mend`].
    pub(crate) fn refuse(&self, name: &'static str) {
        self.refused.borrow_mut().push(name);
    }

    /// All is well again, and a dead agent may be followed by another one.
    pub(crate) fn mend(&self) {
        self.armed.set(None);
        self.blind.set(None);
        self.refused.borrow_mut().clear();
        self.dead.set(false);
    }

    /// How many effects there were.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// What they were.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Whether the agent has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Waits for the agent's end.
    pub(crate) async fn died(&self) {
        while !self.dead.get() {
            self.died.notified().await;
        }
    }

    /// Takes an effect, or breaks it.
    pub(crate) fn effect<T, E>(
        &self,
        what: impl Into<String>,
        act: impl FnOnce() -> Result<T, E>,
        broken: impl FnOnce(io::Error) -> E,
    ) -> Result<T, E> {
        let what = what.into();
        let error = || io::Error::other(format!("injected at `{what}`"));
        if self.dead.get() {
            return Err(broken(error()));
        }
        self.taken.set(self.taken.get() + 1);
        self.log.borrow_mut().push(what.clone());
        if self
            .refused
            .borrow()
            .iter()
            .any(|name| what.starts_with(name))
        {
            return Err(broken(error()));
        }
        match self.armed.get() {
            Some((at, fault)) if at == self.taken.get() => match fault {
                Fault::Fail => Err(broken(error())),
                Fault::Lie => {
                    let _done = act()?;
                    Err(broken(error()))
                }
                Fault::Crash => {
                    self.dead.set(true);
                    self.died.notify_one();
                    Err(broken(error()))
                }
            },
            Some(_) | None => act(),
        }
    }
}
