//! Starting a container, and the one thing that only a restart of the engine mends.
//!
//! dockerd that is cut off from power while it starts a container may come back with the container's port taken by nobody: it
//! has written the port down, and not yet whose it is. No container starts on that port until dockerd is restarted. So it is,
//! where no container of anybody else's runs in it, at most once an hour.

use std::time::Duration;

use tokio::time::Instant;

use super::Agent;
use super::session::chain;
use crate::port::World;
use crate::port::engine::{Engine as _, EngineError};
use crate::port::units::Units as _;

/// What a restart did not mend, another one at once does not either.
const AGAIN: Duration = Duration::from_secs(60 * 60);

/// A container that has just ended gives its port back within this.
const GIVES_BACK: Duration = Duration::from_secs(3);

/// What follows a restart of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Further {
    /// The container is started at once.
    TryAgain,
    /// The step has failed; the next pass begins anew.
    TryLater,
}

impl<W: World> Agent<W> {
    /// Starts a container. Restarts the engine first where that is what it takes.
    pub(super) async fn begin(&self, engine_id: &str, further: Further) -> Result<(), EngineError> {
        let engine = self.world.engine();
        match engine.start(engine_id).await {
            Err(EngineError::PortKept { .. }) => tokio::time::sleep(GIVES_BACK).await,
            other => return other,
        }
        let kept = engine.start(engine_id).await;
        let Err(EngineError::PortKept {
            port, others, unit, ..
        }) = &kept
        else {
            return kept;
        };
        let now = Instant::now();
        let lately = self
            .session
            .restarted_engine
            .get()
            .is_some_and(|at| now.duration_since(at) < AGAIN);
        let Some(unit) = unit.filter(|_| others.is_empty() && !lately) else {
            return kept;
        };
        self.session.restarted_engine.set(Some(now));
        self.session.notice(
            &self.world,
            &format!(
                "the engine keeps port {port} for a container that is gone, as after a power cut: {unit} is restarted"
            ),
        );
        if let Err(failed) = self.world.units().restart(unit).await {
            self.session.notice(&self.world, &chain(&failed));
            return kept;
        }
        match further {
            Further::TryAgain => engine.start(engine_id).await,
            Further::TryLater => kept,
        }
    }
}
