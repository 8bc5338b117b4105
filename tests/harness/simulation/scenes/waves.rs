//! A rollout in waves.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::board::Heard;
use super::super::meter::Each;
use super::super::stage::Release;
use super::{Play, sleep_until};

/// The waves, in per cent.
const WAVES: [u32; 3] = [5, 25, 100];

impl Play {
    pub(super) fn waves(&mut self) {
        let interval = self.interval.as_secs_f64();
        // Everybody has time for a wave before the next one.
        let pause = (interval * 1.3).ceil() + 3.0;
        // And has heard of it before it begins: half as long again as the last promotion took.
        let start = interval + 1.5 * self.promoting.as_secs_f64();
        let pause = Duration::from_secs_f64(pause);
        // In whole seconds, as the repository says it.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let starts = Duration::from_secs_f64((now.as_secs_f64() + start).ceil());
        self.stage.in_waves(UNIX_EPOCH + starts, &WAVES, pause);
        let start = Instant::now() + (starts - now);
        let released = self.stage.release(Release::Good);
        let promoted = self.stage.promote();
        let stable = self.stage.stable();
        let began = |heard: &Heard| heard.applied.contains_key(&promoted.commit);
        sleep_until(start - Duration::from_millis(100));
        let heard = self.fleet.board().count(stable.clone(), |heard| {
            heard.tips.contains_key(&promoted.commit)
        });
        assert_eq!(
            heard,
            stable.len(),
            "devices that know of it before it begins"
        );
        let early = self.fleet.board().count(stable.clone(), began);
        assert_eq!(early, 0, "devices that began before the first wave");
        let mark = self.mark();
        let mut shares = Vec::new();
        for (wave, percent) in (1..).zip(WAVES) {
            if percent < 100 {
                sleep_until(start + pause * wave - Duration::from_millis(100));
                let begun = self.fleet.board().count(stable.clone(), began);
                // Slots are drawn by a hash: as far from the share as four times what chance makes usual.
                let (all, share) = (stable.len() as f64, f64::from(percent) / 100.0);
                let usual = (all * share * (1.0 - share)).sqrt();
                assert!(
                    (begun as f64 - all * share).abs() <= 4.0 * usual,
                    "{begun} of {all} began by the end of the wave of {percent} %"
                );
                shares.push(format!("{:.1} %", begun as f64 * 100.0 / all));
            }
        }
        let last = start + pause * (WAVES.len() as u32 - 1);
        self.good(&promoted.commit, stable, |_| last);
        let took = last.elapsed();
        let seen = self.since(&mark);
        self.good(&released.commit, self.stage.canary(), |_| start);
        self.is_within_capacity(&seen, "a rollout");
        shares.push(format!("100 % after {:.1} s", took.as_secs_f64()));
        self.table.row(
            format!("waves of {WAVES:?} %, each {} s", pause.as_secs()),
            format!("begun by the end of each: {}", shares.join(", ")),
        );
        let fullest = Each::of(|kind| self.fullest(&seen, kind));
        self.both("  fullest second of it", |kind| fullest.get(kind).clone());
    }
}
