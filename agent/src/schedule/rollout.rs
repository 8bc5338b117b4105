//! When a device's turn in a `[rollout]` comes. Pure: the same on every device and in the simulation.
//!
//! A device's slot is a hash of the rollout's id and its own, as a fraction of all that could be. So no device needs to know of
//! another, and a later commit under the same id finds every device where it was. Limits: shares are of what a fair hash draws,
//! not counted, so that of few devices a wave may take some more or some less, or none.

use evenkeel_schema::name::DeviceId;
use evenkeel_schema::rollout::{Pace, Share, Turns};
use sha2::Digest as _;

use crate::domain::hold::{HeldBy, Hold};
use crate::domain::revision::Timestamp;

/// Keeps this hash apart from every other one.
const DOMAIN: &[u8] = b"evenkeel rollout slot v1\0";

/// A device's place among all of them: a fraction of 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u64);

impl Slot {
    /// The slot of a device in a rollout.
    #[must_use]
    pub fn of(rollout: &str, device: &DeviceId) -> Self {
        let mut hash = sha2::Sha256::new();
        hash.update(DOMAIN);
        hash.update(rollout.as_bytes());
        hash.update([0]);
        hash.update(device.as_str().as_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self(u64::from_be_bytes(first))
    }

    /// Whether it is within a share of all.
    #[must_use]
    pub fn is_within(self, share: Share) -> bool {
        let all = u128::from(Share::ALL.millionths());
        u128::from(self.0) * all < u128::from(share.millionths()) << 64
    }
}

/// A device's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// When it comes.
    pub at: Timestamp,
    /// Which wave it is, counted from 1, of how many, and its share; none in a ramp.
    pub wave: Option<(usize, usize, Share)>,
}

/// When the turn of this slot comes.
#[must_use]
pub fn turn(turns: &Turns, slot: Slot) -> Turn {
    match &turns.pace {
        Pace::Ramp(duration) => {
            let after = (u128::from(slot.0) * u128::from(duration.as_secs())) >> 64;
            Turn {
                at: later(turns.start, u64::try_from(after).unwrap_or(u64::MAX)),
                wave: None,
            }
        }
        Pace::Waves { shares, pause } => {
            let before = shares.iter().take_while(|share| !slot.is_within(**share));
            // The last one is all: no slot is beyond it.
            let index = before.count().min(shares.len().saturating_sub(1));
            Turn {
                at: begin(turns.start, pause.as_secs(), index),
                wave: shares
                    .get(index)
                    .map(|share| (index + 1, shares.len(), *share)),
            }
        }
    }
}

/// When every device with a clock has had its turn: a ramp has ended, or the last wave has had its pause, too.
#[must_use]
pub fn end(turns: &Turns) -> Timestamp {
    match &turns.pace {
        Pace::Ramp(duration) => later(turns.start, duration.as_secs()),
        Pace::Waves { shares, pause } => begin(turns.start, pause.as_secs(), shares.len()),
    }
}

fn begin(start: i64, pause: u64, wave: usize) -> Timestamp {
    let wave = u64::try_from(wave).unwrap_or(u64::MAX);
    later(start, pause.saturating_mul(wave))
}

fn later(start: i64, seconds: u64) -> Timestamp {
    Timestamp(start.saturating_add_unsigned(seconds))
}

/// What a device knows of the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// Its clock is right, as far as can be told.
    Known(Timestamp),
    /// It is not; so late it is at least, and this is wrong with the clock.
    AtLeast(Timestamp, String),
}

/// What keeps this device from beginning now; `None`: it is its turn.
#[must_use]
pub fn holds(turns: &Turns, device: &DeviceId, now: &Now) -> Option<Hold> {
    let id = &turns.id;
    match now {
        Now::Known(now) => {
            let turn = turn(turns, Slot::of(id, device));
            (*now < turn.at).then(|| {
                let which = match turn.wave {
                    Some((number, of, share)) => {
                        format!("with wave {number} of {of} (up to {share})")
                    }
                    None => "by its slot".to_owned(),
                };
                let message = format!(
                    "this device's turn in the rollout `{id}` comes at {}, {which}",
                    turn.at
                );
                Hold::until(HeldBy::Wave, message, turn.at)
            })
        }
        Now::AtLeast(now, why) => {
            let end = end(turns);
            (*now < end).then(|| {
                let message = format!(
                    "{why}, so this device comes last in the rollout `{id}`: once its clock is right, or once its uptime alone \
                     shows that {end} has passed"
                );
                Hold::open(HeldBy::Wave, message)
            })
        }
    }
}

#[cfg(test)]
#[path = "rollout/tests.rs"]
mod tests;
