//! Who answers for this device: its daemon, or this process under the same lock.

use std::time::{Duration, Instant};

use super::control::{Line, Request};
use super::{ConfigArgs, device, here};

/// A daemon that is starting holds the lock before it listens, and a verb that works without one holds it for a moment:
/// so long are they waited for before it is an error.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Who answers.
#[derive(Debug)]
pub(super) enum Reached {
    /// The daemon did: this is what it said.
    Answered(Line),
    /// None runs; the device is open here.
    Opened(Box<device::Device>),
}

/// Asks the daemon, or opens the device here where none runs.
pub(super) fn reach(
    args: &ConfigArgs,
    request: &Request,
    need: device::Need,
) -> Result<Reached, device::Failure> {
    let begun = Instant::now();
    loop {
        if let Some(line) = here::ask(args, request)? {
            return Ok(Reached::Answered(line));
        }
        match device::open(args, need) {
            Ok(device) => return Ok(Reached::Opened(Box::new(device))),
            Err(failure) if failure.is_busy() && begun.elapsed() < BUSY_FOR => pause(),
            Err(failure) => return Err(failure),
        }
    }
}

/// Takes the device's lock for the daemon. Another daemon is refused at once; a verb that holds the lock for a moment is
/// waited for.
pub(super) fn enter_as_daemon(args: &ConfigArgs) -> Result<device::Entered, device::Failure> {
    past_verbs(args, || device::enter(args, device::Need::Trust))
}

/// Tries for as long as somebody holds the lock who is no daemon.
fn past_verbs<T>(
    args: &ConfigArgs,
    take: impl Fn() -> Result<T, device::Failure>,
) -> Result<T, device::Failure> {
    let begun = Instant::now();
    loop {
        match take() {
            Err(failure)
                if failure.is_busy()
                    && begun.elapsed() < BUSY_FOR
                    && here::ask(args, &Request::Status)?.is_none() =>
            {
                pause();
            }
            taken => return taken,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "no runtime runs here meanwhile")]
fn pause() {
    std::thread::sleep(PAUSE);
}
