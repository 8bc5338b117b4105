//! What a device is to its agent, in memory: the twins beside each other, and the small ones of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use evenkeel_schema::app::Check;

use super::engine::Behaviour;
use super::{Faults, MemoryEngine, MemoryFiles, MemoryJournal};
use crate::port::probes::{Probes, Script};
use crate::port::units::{Units, UnitsError};

/// A device that nothing has happened to yet: all but where revisions come from, who is told, and what time it is.
#[derive(Debug)]
pub struct MemoryPorts {
    /// Where containers run.
    pub engine: MemoryEngine,
    /// Where files live.
    pub files: MemoryFiles,
    /// The service manager.
    pub units: MemoryUnits,
    /// What is remembered.
    pub journal: MemoryJournal,
    /// Who runs checks.
    pub probes: MemoryProbes,
}

impl MemoryPorts {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let faults = Rc::new(Faults::default());
        let engine = MemoryEngine::new(Rc::clone(&faults), Rc::default());
        Self {
            files: MemoryFiles::new(Rc::clone(&faults)),
            units: MemoryUnits::new(Rc::clone(&faults), &engine),
            journal: MemoryJournal::new(Rc::clone(&faults)),
            probes: MemoryProbes::new(faults),
            engine,
        }
    }

    /// Containers of this image run, and their health check fails.
    #[must_use]
    pub fn with_unhealthy(self, image: &str) -> Self {
        self.engine.behave(image, Behaviour::Unhealthy);
        self
    }
}

impl Default for MemoryPorts {
    fn default() -> Self {
        Self::new()
    }
}

/// A service manager in which every unit is active.
#[derive(Debug)]
pub struct MemoryUnits {
    faults: Rc<Faults>,
    /// The engine's: `docker.service` gives back what it keeps.
    kept: Rc<Cell<bool>>,
}

impl MemoryUnits {
    pub(crate) fn new(faults: Rc<Faults>, engine: &MemoryEngine) -> Self {
        Self {
            faults,
            kept: Rc::clone(&engine.kept),
        }
    }

    fn act(&self, verb: &'static str, unit: &str) -> Result<(), UnitsError> {
        let broken = |cause: std::io::Error| UnitsError {
            verb,
            unit: unit.to_owned(),
            why: cause.to_string(),
        };
        let act = || {
            if unit == "docker.service" {
                self.kept.set(false);
            }
            Ok(())
        };
        self.faults.effect(format!("{verb} {unit}"), act, broken)
    }
}

impl Units for MemoryUnits {
    async fn restart(&self, unit: &str) -> Result<(), UnitsError> {
        self.act("restart", unit)
    }

    async fn reload(&self, unit: &str) -> Result<(), UnitsError> {
        self.act("reload", unit)
    }

    async fn is_active(&self, unit: &str) -> Result<bool, UnitsError> {
        self.faults.look("ask about a unit", |cause| UnitsError {
            verb: "ask about",
            unit: unit.to_owned(),
            why: cause.to_string(),
        })?;
        Ok(true)
    }
}

/// Checks that pass but for those that were told to fail.
#[derive(Debug)]
pub struct MemoryProbes {
    faults: Rc<Faults>,
    /// Checks whose probe's text holds one of these fail.
    pub(crate) failing: RefCell<BTreeSet<String>>,
    /// The owner's scripts.
    pub(crate) scripts: RefCell<Vec<Script>>,
}

impl MemoryProbes {
    pub(crate) fn new(faults: Rc<Faults>) -> Self {
        Self {
            faults,
            failing: RefCell::default(),
            scripts: RefCell::default(),
        }
    }

    /// The same checks, over other faults.
    pub(crate) fn copy(&self, faults: Rc<Faults>) -> Self {
        Self {
            faults,
            failing: self.failing.clone(),
            scripts: self.scripts.clone(),
        }
    }
}

impl Probes for MemoryProbes {
    async fn run(&self, check: &Check) -> Result<(), String> {
        self.faults.look("probe", |cause| cause.to_string())?;
        let text = format!("{:?}", check.probe);
        match self.failing.borrow().iter().find(|one| text.contains(*one)) {
            Some(one) => Err(format!("{one} does not answer")),
            None => Ok(()),
        }
    }

    fn scripts(&self) -> Vec<Script> {
        self.scripts.borrow().clone()
    }

    async fn run_script(&self, script: &Script) -> Result<(), String> {
        self.faults
            .look("run a script", |cause| cause.to_string())?;
        if self.failing.borrow().contains(&script.path) {
            Err("ended with 1".to_owned())
        } else {
            Ok(())
        }
    }
}
