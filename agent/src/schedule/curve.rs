//! What a rollout does to a number of devices: the same draw as theirs, counted. Pure.

use evenkeel_schema::name::DeviceId;
use evenkeel_schema::rollout::{Pace, Share, Turns};

use super::rollout::{Slot, end, turn};
use crate::domain::revision::Timestamp;

/// How many steps of a ramp are told.
const STEPS: u64 = 10;

/// A moment of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The wave that begins then, from 1, and its declared share; none in a ramp.
    pub wave: Option<(usize, Share)>,
    /// How many devices have had their turn by then, this moment included.
    pub begun: usize,
}

/// When each of these devices has its turn, the earliest first.
#[must_use]
pub fn turns_of<'d>(
    turns: &Turns,
    devices: impl IntoIterator<Item = &'d DeviceId>,
) -> Vec<Timestamp> {
    let at = |device: &DeviceId| turn(turns, Slot::of(&turns.id, device)).at;
    let mut all: Vec<Timestamp> = devices.into_iter().map(at).collect();
    all.sort_unstable();
    all
}

/// How many of these sorted turns have come by then.
#[must_use]
pub fn begun(turns: &[Timestamp], by: Timestamp) -> usize {
    turns.partition_point(|at| *at <= by)
}

/// The curve: each wave, or a ramp in tenths.
#[must_use]
pub fn curve(turns: &Turns, sorted: &[Timestamp]) -> Vec<Point> {
    let point = |at: Timestamp, wave| Point {
        at,
        wave,
        begun: begun(sorted, at),
    };
    match &turns.pace {
        Pace::Waves { shares, pause } => {
            let mut at = Timestamp(turns.start);
            let mut points = Vec::with_capacity(shares.len());
            for (index, share) in shares.iter().enumerate() {
                points.push(point(at, Some((index + 1, *share))));
                at = Timestamp(at.0.saturating_add_unsigned(pause.as_secs()));
            }
            points
        }
        Pace::Ramp(duration) if duration.as_secs() < STEPS => vec![point(end(turns), None)],
        Pace::Ramp(duration) => (0..=STEPS)
            .map(|step| {
                let after =
                    duration.as_secs() / STEPS * step + duration.as_secs() % STEPS * step / STEPS;
                point(Timestamp(turns.start.saturating_add_unsigned(after)), None)
            })
            .collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use std::time::Duration;

    use super::*;

    fn devices(count: u32) -> Vec<DeviceId> {
        (0..count)
            .map(|number| format!("gw-{number}").parse().unwrap())
            .collect()
    }

    #[test]
    fn a_ramp_is_told_in_tenths_and_ends_with_all() {
        let turns = Turns {
            id: "one".to_owned(),
            start: 1_000_000,
            pace: Pace::Ramp(Duration::from_secs(3605)),
        };
        let sorted = turns_of(&turns, &devices(500));
        let curve = curve(&turns, &sorted);
        assert_eq!(curve.len(), 11);
        assert_eq!(curve[0].at, Timestamp(1_000_000));
        assert_eq!(curve[10].at, Timestamp(1_003_605));
        assert_eq!(curve[10].begun, 500);
        assert!(
            curve
                .windows(2)
                .all(|two| two[0].at < two[1].at && two[0].begun <= two[1].begun)
        );
        // A device a second before its turn has not begun.
        assert_eq!(begun(&sorted, Timestamp(sorted[3].0 - 1)), 3);
    }

    #[test]
    fn what_the_curve_counts_is_what_each_device_finds_for_itself() {
        let section = "format = 1\nname = 'a'\n[rollout]\nid = 'one'\nstart = 2026-03-01T08:00:00Z\nwaves = [10, 50, 100]\npause = '1h'\n";
        let mut out = evenkeel_schema::diagnostic::Diagnostics::new();
        let fleet = evenkeel_schema::fleet::parse("f", section.as_bytes(), "0.1.0", &mut out);
        let turns = fleet.unwrap().unwrap().rollout.unwrap().turns.unwrap();
        let devices = devices(300);
        for point in curve(&turns, &turns_of(&turns, &devices)) {
            let now = super::super::rollout::Now::Known(point.at);
            let open = devices
                .iter()
                .filter(|one| super::super::rollout::holds(&turns, one, &now).is_none());
            assert_eq!(open.count(), point.begun, "{point:?}");
        }
    }
}
