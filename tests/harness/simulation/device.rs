//! A simulated device: the real loop and its cycle over a real source, and a device in memory beside it.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use evenkeel::adapter::clock::SystemClock;
use evenkeel::adapter::git::GitSource;
use evenkeel::cycle::{Agent, Interrupt, Session, Settings};
use evenkeel::daemon::{Daemon, Run, Signal};
use evenkeel::domain::metered::Link;
use evenkeel::domain::outcome::Report;
use evenkeel::domain::revision::Timestamp;
use evenkeel::port::World;
use evenkeel::port::clock::Clock;
use evenkeel::port::memory::{
    MemoryEngine, MemoryFiles, MemoryJournal, MemoryPorts, MemoryProbes, MemoryUnits,
};
use evenkeel::port::source::{Reach, Source};
use evenkeel::trust::policy::{NamedBytes, TrustPolicy};
use evenkeel_schema::agent_config::{SourceSection, TrustSection};
use tokio::sync::mpsc;

use super::board::{Board, Ear};

/// What a device is made from.
#[derive(Debug, Clone)]
pub struct Blueprint {
    /// Its id.
    pub id: String,
    /// `[source]` of its agent.toml.
    pub source: SourceSection,
    /// `[trust]` of its agent.toml.
    pub trust: TrustSection,
    /// Where its source keeps what it fetched.
    pub store: PathBuf,
    /// How long after the others' beginning it is switched on.
    pub after: Duration,
    /// An image whose containers never get healthy.
    pub bad_image: String,
}

/// The machine's own clock, which somebody has set.
#[derive(Debug)]
struct SetClock(SystemClock);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn is_synchronised(&self) -> bool {
        true
    }

    fn awaits_time(&self) -> bool {
        false
    }

    fn build_time(&self) -> Timestamp {
        self.0.build_time()
    }

    fn boot_id(&self) -> String {
        self.0.boot_id()
    }
}

struct Outside<S> {
    source: S,
    ports: MemoryPorts,
    ear: Ear,
    clock: SetClock,
    trust: TrustSection,
    branch: String,
}

impl<S: Source> World for Outside<S> {
    type Source = S;
    type Engine = MemoryEngine;
    type Files = MemoryFiles;
    type Units = MemoryUnits;
    type Journal = MemoryJournal;
    type Reporter = Ear;
    type Clock = SetClock;
    type Probes = MemoryProbes;

    fn source(&self) -> &Self::Source {
        &self.source
    }
    fn engine(&self) -> &Self::Engine {
        &self.ports.engine
    }
    fn files(&self) -> &Self::Files {
        &self.ports.files
    }
    fn units(&self) -> &Self::Units {
        &self.ports.units
    }
    fn journal(&self) -> &Self::Journal {
        &self.ports.journal
    }
    fn reporter(&self) -> &Self::Reporter {
        &self.ear
    }
    fn clock(&self) -> &Self::Clock {
        &self.clock
    }
    fn probes(&self) -> &Self::Probes {
        &self.ports.probes
    }

    async fn link(&self) -> Link {
        Link::Unmetered
    }

    /// Read afresh for each pass, as the daemon does.
    fn policy(&self) -> Result<TrustPolicy, String> {
        let file = &self.trust.allowed_signers;
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        let name = file.display().to_string();
        TrustPolicy::load(
            &self.trust,
            &self.branch,
            NamedBytes {
                name: &name,
                bytes: &bytes,
            },
            None,
            &jiff::tz::TimeZone::system(),
        )
        .map_err(|error| error.to_string())
    }
}

/// Lives until it is told to stop.
pub(super) async fn live(
    blueprint: Blueprint,
    board: Arc<Board>,
    index: usize,
    mut signals: mpsc::Receiver<Signal>,
) {
    tokio::select! {
        () = tokio::time::sleep(blueprint.after) => {}
        _ = signals.recv() => return,
    }
    let source =
        GitSource::new(&blueprint.source, &blueprint.store).expect("a source that can be right");
    let agent = agent(blueprint, source, Ear::new(board, index), index);
    // Kept, so that nobody asking is not the end of all asking.
    let (_asks, mut requests) = mpsc::channel(1);
    Daemon::new(&agent)
        .run(Run::Forever, &mut requests, &mut signals)
        .await;
}

fn agent<S: Source>(blueprint: Blueprint, source: S, ear: Ear, index: usize) -> Agent<Outside<S>> {
    let Blueprint {
        id,
        source: section,
        trust,
        bad_image,
        ..
    } = blueprint;
    let report = Report {
        device: id.clone(),
        branch: section.branch.clone(),
        ..Report::default()
    };
    Agent {
        settings: Settings {
            device: id.parse().expect("a device's id"),
            renamed: None,
            labels: std::collections::BTreeMap::new(),
            branch: section.branch.clone(),
            limits: evenkeel::resolve::guard::Limits::default(),
            fleet: trust.fleet.clone(),
            machine: Ok(format!("{:032x}", index + 1)
                .parse()
                .expect("32 digits, not all zero")),
            floor: trust.floor,
            pin: None,
            interval: section.interval,
            confirm: evenkeel_schema::agent_config::DEFAULT_CONFIRM,
            max_age: trust.max_age,
            stale: trust.stale,
            remote: Reach::Network,
            metered: evenkeel_schema::agent_config::MeteredSection::default(),
            windows: evenkeel::schedule::window::Windows::default(),
        },
        world: Outside {
            source,
            ports: MemoryPorts::new().with_unhealthy(&bad_image),
            ear,
            clock: SetClock(SystemClock::new()),
            branch: section.branch,
            trust,
        },
        session: Session::from_report(report),
        interrupt: Rc::new(Interrupt::default()),
    }
}
