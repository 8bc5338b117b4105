//! A device of real parts below one directory (files, journal, git store), and of twins for the rest (checks, units,
//! engine, clock). Where it is told to, it says in the trace what it acknowledged.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use evenkeel_schema::agent_config::SourceSection;
use tokio::time::Instant;

use super::record::mark;
use crate::adapter::files::RootedFiles;
use crate::adapter::git::GitSource;
use crate::adapter::journal::Store;
use crate::adapter::state_dir::StateDir;
use crate::cycle::tests::{MOST_AT_ONCE, settings};
use crate::cycle::{Again, Agent, Interrupt, Passed, Session, Settings};
use crate::domain::desired::{Contents, DesiredState, Resolved};
use crate::domain::history::{
    AdoptedSet, Deferral, Deployment, Floor, GoodRevision, Inventory, Ledger, Pin, Refusal, Trial,
};
use crate::domain::outcome::{Outcome, Report};
use crate::domain::revision::{CommitId, ContentId, Timestamp, TreeId};
use crate::gate::Healthy;
use crate::port::World;
use crate::port::clock::Clock;
use crate::port::journal::{Journal, JournalError, Paused};
use crate::port::memory::{MemoryEngine, MemoryWorld};
use crate::select::Urgency;
use crate::trust::policy::TrustPolicy;

type Units = <Rc<MemoryWorld> as World>::Units;
type Probes = <Rc<MemoryWorld> as World>::Probes;
type Reporter = <Rc<MemoryWorld> as World>::Reporter;

/// When the first start is.
const BEGAN: i64 = 1_795_000_000;
/// From one start to the next: longer than any revision is put off.
const BETWEEN: i64 = 7 * 24 * 3600;

/// Below the recorded directory.
pub(super) const STATE: &str = "state";
pub(super) const FILES: &str = "root";

/// Where what was acknowledged is written down, beside the trace; nowhere in a replay.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Nowhere,
    /// A file for each, numbered.
    In(PathBuf, Rc<Cell<u32>>),
}

impl Told {
    /// Something is about to become durable.
    fn intend(&self) {
        if let Self::In(_, next) = self {
            mark(&format!("intend-{}", next.get()));
        }
    }

    /// It is.
    fn acknowledge(&self, journal: &Store) {
        if let Self::In(dir, next) = self {
            let text = remembered(journal);
            std::fs::write(dir.join(next.get().to_string()), text).unwrap();
            mark(&format!("acknowledged-{}", next.get()));
            next.set(next.get() + 1);
        }
    }
}

/// All that a journal remembers and must not lose, in words.
pub(super) fn remembered(journal: &Store) -> String {
    let ledger = Ledger {
        // Told again by the next pass.
        report: None,
        ..journal.ledger()
    };
    let floor = journal.floor_file();
    let history = journal.history();
    format!("{ledger:#?}\nfloor file: {floor:#?}\nhistory: {history:#?}\n")
}

/// The journal, telling what it acknowledged.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) store: Store,
    told: Told,
}

impl Witness {
    fn done<T>(
        &self,
        change: impl FnOnce(&Store) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        self.told.intend();
        let done = change(&self.store)?;
        self.told.acknowledge(&self.store);
        Ok(done)
    }
}

impl Journal for Witness {
    fn ledger(&self) -> Ledger {
        self.store.ledger()
    }
    fn kept(&self, good: &GoodRevision) -> Result<Resolved, JournalError> {
        self.store.kept(good)
    }
    fn kept_state(&self, content: &ContentId) -> Result<DesiredState, JournalError> {
        self.store.kept_state(content)
    }
    fn contents(&self, ids: &[ContentId]) -> Result<Contents, JournalError> {
        self.store.contents(ids)
    }
    fn incomplete(&self) -> Result<Vec<GoodRevision>, JournalError> {
        self.store.incomplete()
    }
    fn keep_again(&self, good: &GoodRevision, resolved: &Resolved) -> Result<(), JournalError> {
        self.done(|store| store.keep_again(good, resolved))
    }
    fn drop_good(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.done(|store| store.drop_good(commit))
    }
    fn has_run_before(&self, says: &str) -> Result<(), JournalError> {
        self.done(|store| store.has_run_before(says))
    }
    fn hold_room(&self, contents: u64) -> Result<(), JournalError> {
        self.store.hold_room(contents)
    }
    fn give_room(&self) -> bool {
        self.store.give_room()
    }
    fn trouble(&self) -> Option<JournalError> {
        self.store.trouble()
    }
    fn spend_try(&self, trial: &Trial) -> Result<(), JournalError> {
        self.done(|store| store.spend_try(trial))
    }
    fn end_trial(&self, keep: Option<&Trial>) -> Result<(), JournalError> {
        self.done(|store| store.end_trial(keep))
    }
    fn commit(
        &self,
        commit: &CommitId,
        tree: &TreeId,
        resolved: &Resolved,
        at: Timestamp,
        proof: Healthy,
    ) -> Result<GoodRevision, JournalError> {
        self.done(|store| store.commit(commit, tree, resolved, at, proof))
    }
    fn refuse(&self, refusal: &Refusal) -> Result<(), JournalError> {
        self.done(|store| store.refuse(refusal))
    }
    fn forgive(&self, commit: &CommitId) -> Result<(), JournalError> {
        self.done(|store| store.forgive(commit))
    }
    fn defer(&self, deferral: Option<&Deferral>) -> Result<(), JournalError> {
        self.done(|store| store.defer(deferral))
    }
    fn set_pin(&self, pin: Option<&Pin>) -> Result<(), JournalError> {
        self.done(|store| store.set_pin(pin))
    }
    fn set_paused(&self, paused: Paused) -> Result<(), JournalError> {
        self.done(|store| store.set_paused(paused))
    }
    fn set_inventory(&self, inventory: &Inventory) -> Result<(), JournalError> {
        self.done(|store| store.set_inventory(inventory))
    }
    fn append(&self, deployment: &Deployment) -> Result<(), JournalError> {
        self.done(|store| store.append(deployment))
    }
    fn history(&self) -> Result<Vec<Deployment>, JournalError> {
        self.store.history()
    }
    fn save_report(&self, report: &Report) -> Result<(), JournalError> {
        // No acknowledgement: what is told is told again.
        self.store.save_report(report)
    }
    fn floor_file(&self) -> Result<Option<Floor>, JournalError> {
        self.store.floor_file()
    }
    fn set_floor_file(&self, floor: &Floor) -> Result<(), JournalError> {
        self.done(|store| store.set_floor_file(floor))
    }
    fn adopt(&self, sets: &[AdoptedSet]) -> Result<(), JournalError> {
        self.done(|store| store.adopt(sets))
    }
    fn set_floor(&self, floor: &Floor) -> Result<(), JournalError> {
        self.done(|store| store.set_floor(floor))
    }
}

/// A clock that goes on from start to start.
#[derive(Debug)]
pub(super) struct BootClock {
    began: Instant,
    boot: i64,
}

impl Clock for BootClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_secs()).unwrap();
        Timestamp(BEGAN + self.boot * BETWEEN + passed)
    }
    fn is_synchronised(&self) -> bool {
        true
    }
    fn awaits_time(&self) -> bool {
        false
    }
    fn build_time(&self) -> Timestamp {
        Timestamp(BEGAN - 1_000_000)
    }
    fn boot_id(&self) -> String {
        self.boot.to_string()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct DiskWorld {
    twins: Rc<MemoryWorld>,
    files: RootedFiles,
    source: GitSource,
    pub(super) journal: Witness,
    clock: BootClock,
}

impl World for DiskWorld {
    type Source = GitSource;
    type Engine = MemoryEngine;
    type Files = RootedFiles;
    type Units = Units;
    type Journal = Witness;
    type Reporter = Reporter;
    type Clock = BootClock;
    type Probes = Probes;

    fn source(&self) -> &GitSource {
        &self.source
    }
    fn engine(&self) -> &MemoryEngine {
        &self.twins.engine
    }
    fn files(&self) -> &RootedFiles {
        &self.files
    }
    fn units(&self) -> &Units {
        &self.twins.units
    }
    fn journal(&self) -> &Witness {
        &self.journal
    }
    fn reporter(&self) -> &Reporter {
        &self.twins.listener
    }
    fn clock(&self) -> &BootClock {
        &self.clock
    }
    async fn link(&self) -> crate::domain::metered::Link {
        crate::domain::metered::Link::Unknown
    }
    fn probes(&self) -> &Probes {
        &self.twins.probes
    }
    fn policy(&self) -> Result<TrustPolicy, String> {
        Ok(self.twins.policy.borrow().clone())
    }
}

/// How a device is opened.
#[derive(Debug, Clone)]
pub(super) struct Opening<'a> {
    /// Its state directory and the root of its files are below it.
    pub(super) dir: &'a Path,
    /// The bare repository that it follows.
    pub(super) remote: &'a Path,
    /// How often it was started before.
    pub(super) boot: i64,
    pub(super) told: Told,
}

/// A device that runs.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) agent: Agent<DiskWorld>,
    /// What its memory said of itself when it was opened.
    pub(super) said: Vec<String>,
    boot: i64,
    _state: StateDir,
}

impl Device {
    /// What `evenkeel run` does before its loop.
    pub(super) fn open(
        twins: &Rc<MemoryWorld>,
        opening: Opening<'_>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let Opening {
            dir,
            remote,
            boot,
            told,
        } = opening;
        let settings = Settings {
            metered: Default::default(),
            remote: crate::port::source::Reach::Local,
            ..settings()
        };
        let mut state = StateDir::open(&dir.join(STATE))?;
        state.bind_device(&settings.device)?;
        let opened = Store::open(&state)?;
        told.acknowledge(&opened.journal);
        let url = format!("file://{}", remote.display());
        let section = SourceSection::at(url, &settings.branch);
        let source = GitSource::new(&section, dir.join(STATE).join("git"))?;
        let mut said = state.warnings().to_vec();
        said.extend(opened.damaged);
        said.extend(opened.warnings);
        let report = opened.journal.ledger().report.unwrap_or_default();
        let world = DiskWorld {
            twins: Rc::clone(twins),
            files: RootedFiles::new(&dir.join(FILES), &state),
            source,
            journal: Witness {
                store: opened.journal,
                told,
            },
            clock: BootClock {
                began: Instant::now(),
                boot,
            },
        };
        let agent = Agent {
            world,
            settings,
            session: Session::from_report(report),
            interrupt: Rc::new(Interrupt::default()),
        };
        Ok(Self {
            agent,
            said,
            boot,
            _state: state,
        })
    }

    pub(super) fn boot(&self) -> i64 {
        self.boot
    }

    /// Passes until none is due at once; the last outcome.
    pub(super) async fn settle(&self, urgency: Urgency) -> Outcome {
        let mut urgency = urgency;
        for _ in 0..MOST_AT_ONCE {
            let Passed { outcome, again } = self.agent.cycle(urgency).await;
            if again == Again::Later {
                return outcome;
            }
            urgency = Urgency::Scheduled;
        }
        panic!("the passes do not end");
    }

    /// What the loop does at a start: first without the network, then with it.
    pub(super) async fn begin(&self) -> Outcome {
        self.settle(Urgency::Boot).await;
        self.settle(Urgency::Scheduled).await
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.agent.world.journal.ledger()
    }

    pub(super) fn report(&self) -> Report {
        self.agent.session.report()
    }
}
