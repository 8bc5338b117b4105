//! What is read off the servers and the devices between two moments, and what a server has room for.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use evenkeel::adapter::git::GitSource;
use evenkeel::port::source::Source as _;

use super::Board;
use super::costs::{self, Traffic};
use super::stage::{Host, Kind, Stage};
use crate::control_group::Group;

/// Who asks at once while capacity is measured: more than git's server has programs for.
const ASKING: usize = 12;

/// One of something for each server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Each<T> {
    git: T,
    tree: T,
}

impl<T> Each<T> {
    /// Asks for both.
    pub(super) fn of(mut ask: impl FnMut(Kind) -> T) -> Self {
        Self {
            git: ask(Kind::Git),
            tree: ask(Kind::Tree),
        }
    }

    /// The one of a server.
    pub(super) const fn get(&self, kind: Kind) -> &T {
        match kind {
            Kind::Git => &self.git,
            Kind::Tree => &self.tree,
        }
    }
}

/// A moment at a server.
#[derive(Debug, Clone, Copy)]
struct Place {
    log: u64,
    passes: u64,
    spent: Option<Duration>,
}

/// A moment from which figures are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    servers: Each<Place>,
    own: Duration,
    at: Instant,
}

/// What was seen at a server between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) traffic: Traffic,
    /// Passes of the devices that ask it.
    pub(super) passes: u64,
    /// Its processor time, with all that it started.
    pub(super) spent: Option<Duration>,
}

/// Figures between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) servers: Each<Share>,
    /// The devices' processor time, all of them together.
    pub(super) own: Duration,
    pub(super) lasted: Duration,
}

impl Window {
    /// Passes of all devices.
    pub(super) const fn passes(&self) -> u64 {
        self.servers.git.passes + self.servers.tree.passes
    }
}

impl Mark {
    pub(super) fn now(stage: &Stage, board: &Board) -> Self {
        Self {
            servers: Each::of(|kind| Place {
                log: stage.host(kind).server.answered(0).1,
                passes: passes(stage, board, kind),
                spent: spent(stage.host(kind)),
            }),
            own: costs::own(),
            at: Instant::now(),
        }
    }

    /// What came since.
    pub(super) fn since(&self, stage: &Stage, board: &Board) -> Window {
        Window {
            servers: Each::of(|kind| {
                let before = self.servers.get(kind);
                let (answered, _) = stage.host(kind).server.answered(before.log);
                let spent = spent(stage.host(kind)).zip(before.spent);
                Share {
                    traffic: Traffic::of(&answered),
                    passes: passes(stage, board, kind) - before.passes,
                    spent: spent.map(|(now, then)| now - then),
                }
            }),
            own: costs::own() - self.own,
            lasted: self.at.elapsed(),
        }
    }
}

fn spent(host: &Host) -> Option<Duration> {
    host.group.as_ref().map(Group::spent)
}

fn passes(stage: &Stage, board: &Board, kind: Kind) -> u64 {
    let all = board.each(stage.asking(kind), |heard| heard.passes);
    all.into_iter().sum()
}

/// How many requests of polls a second a server answers at most, with nobody else on the machine.
pub(super) fn capacity(stage: &Stage, kind: Kind, trial: Duration) -> f64 {
    let ready = Arc::new(Barrier::new(ASKING + 1));
    let device = stage.asking(kind).next().expect("somebody asks it");
    let asking: Vec<_> = (0..ASKING)
        .map(|index| {
            let ready = Arc::clone(&ready);
            let section = stage.source(device, Duration::from_secs(60));
            let store = stage.store(&format!("trial-{}-{index}", kind.name()));
            let source = GitSource::new(&section, store).expect("a source that can be right");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let first = source.fetch(None).await;
                    // Whatever came of it: the others wait here.
                    ready.wait();
                    first.expect("a first fetch");
                    let end = Instant::now() + trial;
                    while Instant::now() < end {
                        source.fetch(None).await.expect("a poll");
                    }
                });
            })
        })
        .collect();
    ready.wait();
    let (_, from) = stage.host(kind).server.answered(0);
    let begun = Instant::now();
    std::thread::sleep(trial);
    let lasted = begun.elapsed();
    let (answered, _) = stage.host(kind).server.answered(from);
    for one in asking {
        one.join().expect("polls go well");
    }
    answered.len() as f64 / lasted.as_secs_f64()
}
