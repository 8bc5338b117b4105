//! The count of unclean starts, in memory. It outlives the agent; what the agent does is its own.

use std::cell::Cell;
use std::rc::Rc;

use super::Faults;
use crate::port::starts::Starts;
use crate::schedule::starts::{Level, Unclean};

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryStarts {
    faults: Rc<Faults>,
    unclean: Cell<Unclean>,
    level: Cell<Level>,
    /// How often the count was written.
    pub(crate) writes: Cell<u32>,
}

impl MemoryStarts {
    pub(crate) const fn new(faults: Rc<Faults>) -> Self {
        Self {
            faults,
            unclean: Cell::new(Unclean {
                whole: 0,
                at_last_good: 0,
            }),
            level: Cell::new(Level::Whole),
            writes: Cell::new(0),
        }
    }

    /// Another agent begins.
    pub(crate) fn begin(&self) -> Level {
        let level = self.unclean.get().level();
        self.level.set(level);
        self.put(self.unclean.get().begun(level));
        level
    }

    fn put(&self, unclean: Unclean) {
        if self.unclean.get() == unclean {
            return;
        }
        let write = || -> Result<(), ()> {
            self.unclean.set(unclean);
            self.writes.set(self.writes.get() + 1);
            Ok(())
        };
        // One that fails hinders nothing.
        let _ = self.faults.effect("count a start", write, |_| ());
    }
}

impl Starts for MemoryStarts {
    fn unclean(&self) -> Unclean {
        self.unclean.get()
    }

    fn level(&self) -> Level {
        self.level.get()
    }

    fn set(&self, unclean: Unclean, level: Level) {
        self.level.set(level);
        self.put(unclean);
    }
}
