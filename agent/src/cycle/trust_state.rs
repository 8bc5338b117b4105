//! The trust state as a person sees it: the set in force, and the floor with its copies. Changes nothing.

use evenkeel_schema::agent_config::{FloorPolicy, StalePolicy};
use serde::{Deserialize, Serialize};

use super::Agent;
use super::session::chain;
use crate::domain::history::Floor;
use crate::domain::revision::Timestamp;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::source::Source as _;
use crate::select::floor::{Copy, FloorVerdict, reconcile};
use crate::trust::overview::{Overview, warnings};

/// What `trust status` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustState {
    /// What is trusted; `None` where that cannot be told.
    pub trust: Option<Overview>,
    /// Why it cannot, and so nothing is trusted.
    pub problem: Option<String>,
    /// Why the adopted trust sets are lost, where they are.
    pub lost: Option<String>,
    /// The anti-rollback floor.
    pub floor: FloorState,
    /// A tip older than this many seconds is stale.
    pub max_age: Option<u64>,
    /// `report` or `hold`: what becomes of changes then.
    pub stale: String,
}

/// The floor and its copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloorState {
    /// `good` or `seen`: which commits move it.
    pub policy: String,
    /// The floor; `None` where there is none, or the copies contradict each other.
    pub at: Option<Floor>,
    /// Each copy, and what it says.
    pub copies: Vec<CopyState>,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// One copy of the floor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// Which: "the floor file", "the ref in the git store", "the journal".
    pub copy: String,
    /// What it says.
    pub floor: Option<Floor>,
    /// How it compares: `agrees`, `older`, `missing`, `unreadable`, `contradicts`.
    pub state: String,
}

impl<W: World> Agent<W> {
    /// The trust state now.
    pub fn trust_state(&self) -> TrustState {
        let ledger = self.world.journal().ledger();
        let floor = self.floor_state();
        let now = self.known_time(floor.at.as_ref());
        let (trust, problem) = match self.world.policy() {
            Ok(policy) => (Some(Overview::of(&policy, &ledger.adopted, now)), None),
            Err(why) => (None, Some(why)),
        };
        TrustState {
            trust,
            problem,
            lost: ledger.trust_lost,
            floor,
            max_age: self.settings.max_age.map(|age| age.as_secs()),
            stale: match self.settings.stale {
                StalePolicy::Report => "report",
                StalePolicy::Hold => "hold",
            }
            .to_owned(),
        }
    }

    /// What a person should know of the keys before it is too late.
    pub(super) fn trust_warnings(&self) -> Vec<String> {
        let ledger = self.world.journal().ledger();
        let now = self.known_time(ledger.floor.as_ref());
        self.world
            .policy()
            .map(|policy| warnings(&policy, &ledger.adopted, now))
            .unwrap_or_default()
    }

    /// For telling what ends when: the clock may be behind, and what is known to have passed has.
    fn known_time(&self, floor: Option<&Floor>) -> Timestamp {
        self.world.clock().now().max(self.time_floor(floor))
    }

    fn floor_state(&self) -> FloorState {
        let journal = self.world.journal();
        let copies = [
            (
                Copy::File,
                journal.floor_file().map_err(|error| chain(&error)),
            ),
            (
                Copy::GitRef,
                self.world
                    .source()
                    .floor_ref()
                    .map_err(|error| chain(&error)),
            ),
            (Copy::Journal, Ok(journal.ledger().floor)),
        ];
        let [file, git_ref, own] = &copies;
        let read = |copy: &(Copy, Result<Option<Floor>, String>)| copy.1.clone().ok().flatten();
        let verdict = reconcile(read(file), read(git_ref), read(own));
        let (at, mut problem) = match verdict {
            FloorVerdict::None => (None, None),
            FloorVerdict::At(floor) => (Some(floor), None),
            FloorVerdict::Conflict { one, other } => (
                None,
                Some(format!(
                    "{} and {} contradict each other; `evenkeel trust reset --to <commit>` sets the floor again",
                    one.0, other.0
                )),
            ),
        };
        let states = copies
            .into_iter()
            .map(|(copy, read)| {
                let (floor, state) = match read {
                    Err(why) => {
                        problem.get_or_insert_with(|| format!("{copy}: {why}"));
                        (None, "unreadable")
                    }
                    Ok(None) => (None, "missing"),
                    Ok(Some(floor)) => {
                        let state = match &at {
                            Some(at) if at.generation > floor.generation => "older",
                            Some(_) => "agrees",
                            None => "contradicts",
                        };
                        (Some(floor), state)
                    }
                };
                CopyState {
                    copy: copy.to_string(),
                    floor,
                    state: state.to_owned(),
                }
            })
            .collect();
        FloorState {
            policy: match self.settings.floor {
                FloorPolicy::Good => "good",
                FloorPolicy::Seen => "seen",
            }
            .to_owned(),
            at,
            copies: states,
            problem,
        }
    }
}
