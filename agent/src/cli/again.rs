//! A start that fails as the one before it did, under a service manager that starts the agent again at once.
//!
//! The first is told, and ends at once: a person who starts the service sees why. The same once more is not told again,
//! and ends later and later, so that a configuration that stays wrong does not fill the journal. A stop ends the wait.
//!
//! The mark lies in memory, in `$RUNTIME_DIRECTORY`; `RuntimeDirectoryPreserve=restart` keeps it from one start to the
//! next. Limits: without a service manager, or without that directory, nothing waits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::device::Failure;
use crate::adapter::durable;
use crate::domain::revision::ContentId;

const NAME: &str = "failed-start";
/// The first wait; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(5);
/// What a person has to change: below TimeoutStartSec= of the unit, which would end the wait.
const LONGEST_FOR_A_PERSON: Duration = Duration::from_secs(240);
/// What may be well again by itself.
const LONGEST: Duration = Duration::from_secs(60);

/// Tells a failed start, or waits where it was told; gives back the exit code.
pub(super) fn tell(failure: &Failure) -> u8 {
    let Some(dir) = directory() else {
        return failure.tell();
    };
    let why = ContentId::of(failure.to_string().as_bytes());
    let times = match read(&dir) {
        Some((times, before)) if before == why.as_str() => times.saturating_add(1),
        Some(_) | None => 0,
    };
    // Whoever stops this start, and starts it again, is to read why: it is marked only when it has come to its own end.
    forget();
    if times == 0 {
        failure.tell();
    } else if ended_by_a_stop(wait_with_status(times, failure)) {
        return failure.code();
    }
    let line = format!("{times} {}\n", why.as_str());
    // Where it cannot be written nothing waits, and that is all.
    let _ = durable::write(&dir, NAME, line.as_bytes(), 0o600);
    failure.code()
}

/// How long, told to who asks for the service's status.
fn wait_with_status(times: u32, failure: &Failure) -> Duration {
    let wait = wait_after(times, failure);
    let said = failure.to_string();
    let status = format!(
        "does not start: {}; tries again in {} s",
        said.lines().next().unwrap_or_default(),
        wait.as_secs()
    );
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(&status)]);
    wait
}

/// It started.
pub(super) fn forget() {
    if let Some(dir) = directory() {
        let _ = std::fs::remove_file(dir.join(NAME));
    }
}

fn wait_after(times: u32, failure: &Failure) -> Duration {
    let longest = if failure.is_usage() {
        LONGEST_FOR_A_PERSON
    } else {
        LONGEST
    };
    let doubled = 1_u32
        .checked_shl(times.saturating_sub(1))
        .unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(longest)
}

/// The directory of the service, where a service manager starts this process.
fn directory() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let dir = PathBuf::from(std::env::var_os("RUNTIME_DIRECTORY")?);
    dir.is_dir().then_some(dir)
}

fn read(dir: &Path) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(dir.join(NAME)).ok()?;
    let (times, why) = text.trim_end().split_once(' ')?;
    Some((times.parse().ok()?, why.to_owned()))
}

fn ended_by_a_stop(wait: Duration) -> bool {
    let Ok(runtime) = super::runtime() else {
        return false;
    };
    runtime.block_on(async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return false;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_limit_that_systemd_bears() {
        let wrong = Failure::usage("wrong");
        let waits: Vec<u64> = [1, 2, 3, 6, 7, 40, u32::MAX]
            .map(|times| wait_after(times, &wrong).as_secs())
            .into();
        assert_eq!(waits, [5, 10, 20, 160, 240, 240, 240]);
        assert_eq!(wait_after(9, &Failure::failed("disk")), LONGEST);
    }
}
