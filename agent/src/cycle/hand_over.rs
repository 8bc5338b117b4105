//! Taking over what stands on the device, and handing it back: what was begun is ended tidily, and the containers stay.

use std::collections::BTreeSet;

use super::{Agent, CycleError};
use crate::domain::history::Adopted;
use crate::domain::observed::Seen;
use crate::domain::resource::ServiceId;
use crate::plan::container;
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::files::Files as _;
use crate::port::journal::{Journal as _, JournalError};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::DEFAULT_STOP_GRACE;

/// Why a device could not be handed back whole.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// Its memory cannot be read.
    #[error("what is good here cannot be read")]
    Memory(#[from] CycleError),
    /// The engine does not answer, or refuses.
    #[error("{0}")]
    Engine(String),
    /// A step at the engine failed.
    #[error("the containers could not be handed over")]
    Step(#[from] EngineError),
}

impl<W: World> Agent<W> {
    /// Takes a container that stood here before as ours, from the next look on. Nothing is done to it.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    pub fn adopt(&self, engine_id: String, service: ServiceId) -> Result<(), JournalError> {
        let journal = self.world.journal();
        let mut inventory = journal.ledger().inventory;
        let adopted = Adopted {
            service,
            config: None,
        };
        if inventory.adopted.get(&engine_id) == Some(&adopted) {
            return Ok(());
        }
        inventory.adopted.insert(engine_id, adopted);
        journal.set_inventory(&inventory)
    }

    /// Sweeps what is staged, ends half-made replacements, and gives each container the restart policy that it is declared
    /// with. Starts, stops and changes nothing else. What it did, in words.
    ///
    /// # Errors
    /// See [`HandOverError`].
    pub async fn hand_over(&self) -> Result<Vec<String>, HandOverError> {
        let journal = self.world.journal();
        let ledger = journal.ledger();
        let staged: BTreeSet<AbsPath> = ledger
            .inventory
            .files
            .keys()
            .chain(ledger.trial.iter().flat_map(|trial| &trial.paths))
            .cloned()
            .collect();
        self.world.files().sweep(&staged);
        let mut done = Vec::new();
        let Some(good) = ledger.last_good() else {
            return Ok(done);
        };
        let state = journal
            .kept_state(good.content())
            .map_err(CycleError::from)?;
        let view = match self.observe(&state, &ledger.inventory).await.engine {
            Seen::Present(view) => view,
            Seen::Absent => return Ok(done),
            Seen::Unknown(why) => return Err(HandOverError::Engine(why)),
        };
        let engine = self.world.engine();
        for (id, containers) in &view.containers {
            let Some(spec) = container::spec(&state, id) else {
                continue;
            };
            let is_beside = |name: &str| {
                name.strip_prefix(&spec.name)
                    .is_some_and(|rest| rest == ".next" || rest.starts_with(".next-"))
            };
            let stands = containers.iter().any(|one| !is_beside(&one.name));
            let policy = container::restart_policy(&spec.service);
            let mut kept = false;
            for one in containers {
                if is_beside(&one.name) && (stands || kept) {
                    engine.stop(&one.engine_id, DEFAULT_STOP_GRACE).await?;
                    engine.remove(&one.engine_id).await?;
                    done.push(format!(
                        "removed {}, a replacement that was not finished",
                        one.name
                    ));
                    continue;
                }
                if is_beside(&one.name) {
                    // The old one is gone: this is the service.
                    engine.rename(&one.engine_id, &spec.name).await?;
                }
                kept = true;
                if one.restart != policy {
                    engine.set_restart(&one.engine_id, &policy).await?;
                    done.push(format!("{}: restart policy {policy}", spec.name));
                }
            }
        }
        Ok(done)
    }
}
