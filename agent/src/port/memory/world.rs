//! The twins together, with a source, a clock and a listener.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::time::Instant;

use super::{
    Faults, MemoryEngine, MemoryFiles, MemoryJournal, MemoryProbes, MemorySource, MemoryUnits,
};
use crate::domain::metered::Link;
use crate::domain::revision::Timestamp;
use crate::port::World;
use crate::port::clock::Clock;
use crate::port::reporter::{Event, Reporter};
use crate::trust::fixture;
use crate::trust::policy::TrustPolicy;

/// The id of the device in memory.
pub(crate) const DEVICE: &str = "gw-1";
/// When its clock began.
const BEGAN: i64 = 1_795_000_000;

/// See the module of all twins. What is here outlives the agent.
#[derive(Debug)]
pub(crate) struct MemoryWorld {
    pub(crate) faults: Rc<Faults>,
    pub(crate) source: MemorySource,
    pub(crate) engine: MemoryEngine,
    pub(crate) files: MemoryFiles,
    pub(crate) journal: MemoryJournal,
    pub(crate) units: MemoryUnits,
    pub(crate) probes: MemoryProbes,
    pub(crate) listener: Listener,
    /// What the owner trusts.
    pub(crate) policy: RefCell<TrustPolicy>,
    pub(crate) clock: MemoryClock,
    /// What something on the device knows of its link.
    pub(crate) link: Cell<Link>,
}

impl MemoryWorld {
    /// A device that nothing has happened to yet. Wants a runtime whose time is paused.
    pub(crate) fn new() -> Rc<Self> {
        let faults = Rc::new(Faults::default());
        let cut = Rc::new(Cell::new(false));
        let engine = MemoryEngine::new(Rc::clone(&faults), Rc::clone(&cut));
        let world = Self {
            source: MemorySource::new(Rc::clone(&faults), cut),
            units: MemoryUnits::new(Rc::clone(&faults), &engine),
            engine,
            files: MemoryFiles::new(Rc::clone(&faults)),
            journal: MemoryJournal::new(Rc::clone(&faults)),
            probes: MemoryProbes::new(Rc::clone(&faults)),
            listener: Listener::default(),
            policy: RefCell::new(fixture::policy()),
            clock: MemoryClock {
                began: Instant::now(),
                boots: Cell::new(1),
                ahead: Cell::new(0),
                synchronised: Cell::new(true),
                awaits_time: Cell::new(false),
            },
            link: Cell::default(),
            faults,
        };
        world.files.by_hand("/etc/hosts", "127.0.0.1 localhost\n");
        Rc::new(world)
    }

    /// The same device, to be broken in another way: what is done to one of the two does not show in the other.
    pub(crate) fn copy(&self) -> Rc<Self> {
        let faults = Rc::new(Faults::default());
        let cut = Rc::new(Cell::new(false));
        let engine = self.engine.copy(Rc::clone(&faults), Rc::clone(&cut));
        Rc::new(Self {
            source: self.source.copy(Rc::clone(&faults), cut),
            units: MemoryUnits::new(Rc::clone(&faults), &engine),
            engine,
            files: self.files.copy(Rc::clone(&faults)),
            journal: self.journal.copy(Rc::clone(&faults)),
            probes: self.probes.copy(Rc::clone(&faults)),
            listener: Listener::default(),
            policy: self.policy.clone(),
            clock: self.clock.clone(),
            link: self.link.clone(),
            faults,
        })
    }

    /// The machine lost its power and is on again.
    pub(crate) fn lose_power(&self) {
        self.clock.boots.set(self.clock.boots.get() + 1);
        self.engine.lose_power();
    }

    /// The same, and the engine had not brought to disk what it did in so many seconds before.
    pub(crate) fn lose_power_and(&self, seconds: u64) {
        self.engine.forget(std::time::Duration::from_secs(seconds));
        self.lose_power();
    }
}

/// A clock that goes with tokio's, and can be set wrong.
#[derive(Debug, Clone)]
pub(crate) struct MemoryClock {
    began: Instant,
    boots: Cell<u64>,
    /// How many seconds it shows too much.
    ahead: Cell<i64>,
    synchronised: Cell<bool>,
    /// Whether a time service runs that has not set it yet.
    pub(crate) awaits_time: Cell<bool>,
}

impl MemoryClock {
    /// Steps by so many seconds.
    pub(crate) fn step(&self, seconds: i64) {
        self.ahead.set(self.ahead.get() + seconds);
    }

    /// Begins at 1970 and is told by nobody: no battery, no network. Returns by how much it is wrong.
    pub(crate) fn begin_at_zero(&self) -> i64 {
        let right = self.now().0;
        self.step(-right);
        self.synchronised.set(false);
        right
    }

    /// Somebody says that it is right, or nobody does.
    pub(crate) fn set_synchronised(&self, is: bool) {
        self.synchronised.set(is);
    }
}

impl Clock for MemoryClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_secs()).unwrap();
        Timestamp(BEGAN + passed + self.ahead.get())
    }

    fn is_synchronised(&self) -> bool {
        self.synchronised.get()
    }

    fn awaits_time(&self) -> bool {
        self.awaits_time.get()
    }

    fn build_time(&self) -> Timestamp {
        Timestamp(BEGAN - 1_000_000)
    }

    fn boot_id(&self) -> String {
        self.boots.get().to_string()
    }
}

/// A real reporter that hears everything, too.
pub(crate) trait Heard: Reporter + std::fmt::Debug {}

impl<R: Reporter + std::fmt::Debug> Heard for R {}

/// Remembers what was told to people.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    pub(crate) notices: RefCell<Vec<String>>,
    /// Steps that were begun.
    pub(crate) steps: RefCell<Vec<String>>,
    /// The real one, to which all is told, too.
    pub(crate) also: RefCell<Option<Rc<dyn Heard>>>,
}

impl Reporter for Listener {
    fn tell(&self, event: &Event) {
        if let Some(also) = &*self.also.borrow() {
            also.tell(event);
        }
        match event {
            Event::Notice(text) => self.notices.borrow_mut().push(text.clone()),
            Event::Step(text) => self.steps.borrow_mut().push(text.clone()),
            Event::Report(_) | Event::Pull { .. } | Event::Outcome(_) => {}
            Event::Alive | Event::Rests(_) => {}
        }
    }
}

impl World for Rc<MemoryWorld> {
    type Source = MemorySource;
    type Engine = MemoryEngine;
    type Files = MemoryFiles;
    type Units = MemoryUnits;
    type Journal = MemoryJournal;
    type Reporter = Listener;
    type Clock = MemoryClock;
    type Probes = MemoryProbes;

    fn source(&self) -> &Self::Source {
        &self.source
    }
    fn engine(&self) -> &Self::Engine {
        &self.engine
    }
    fn files(&self) -> &Self::Files {
        &self.files
    }
    fn units(&self) -> &Self::Units {
        &self.units
    }
    fn journal(&self) -> &Self::Journal {
        &self.journal
    }
    fn reporter(&self) -> &Self::Reporter {
        &self.listener
    }
    fn clock(&self) -> &Self::Clock {
        &self.clock
    }
    fn probes(&self) -> &Self::Probes {
        &self.probes
    }

    async fn link(&self) -> Link {
        self.link.get()
    }
    fn policy(&self) -> Result<TrustPolicy, String> {
        Ok(self.policy.borrow().clone())
    }
}
