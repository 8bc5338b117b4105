//! Budgets of a metered link: what is left, when it is renewed, and how often a remote may be asked for it. Pure.
//!
//! Days and months are the calendar's, by UTC. The clock may be wrong: one that goes back renews nothing and blocks nothing,
//! what was spent counts for the period that it shows now; one that goes forward renews a budget, but, while the agent runs,
//! a day's no sooner than 12 hours after it was renewed last and a month's no sooner than 14 days.

use std::time::Duration;

use evenkeel_schema::agent_config::{Allowance, Per};

use crate::domain::metered::{Budget, Period, Spent};
use crate::domain::revision::Timestamp;

const DAY: i64 = 86_400;
/// No remote is asked less often, however little is left: for some kilobytes a fix arrives the same day.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 60 * 60);
/// A poll's bytes where none was counted yet: a TLS handshake, and two small answers.
pub const POLL: u64 = 8 * 1024;

/// How long ago each budget was renewed by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewed {
    /// A day's.
    pub day: Option<Duration>,
    /// A month's.
    pub month: Option<Duration>,
}

/// What was renewed just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Anew {
    /// A day's.
    pub day: bool,
    /// A month's.
    pub month: bool,
}

/// Year and month of a day since 1970, by the civil calendar.
fn month_of(days: i64) -> i64 {
    let date = jiff::Timestamp::from_second(days.saturating_mul(DAY))
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date();
    (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1
}

fn first_of(month: i64) -> i64 {
    let year = i16::try_from(1970 + month.div_euclid(12)).unwrap_or(i16::MAX);
    let number = i8::try_from(month.rem_euclid(12) + 1).unwrap_or(1);
    jiff::civil::Date::new(year, number, 1)
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC))
        .map_or(i64::MAX, |zoned| zoned.timestamp().as_second())
}

/// Where a period ends that this moment is in.
#[must_use]
pub fn end(now: Timestamp, per: Per) -> Timestamp {
    let days = now.0.div_euclid(DAY);
    Timestamp(match per {
        Per::Day => (days + 1).saturating_mul(DAY),
        Per::Month => first_of(month_of(days) + 1),
    })
}

/// Brings what was spent to the present period.
pub fn roll(spent: &mut Spent, now: Timestamp, renewed: Renewed) -> Anew {
    let days = now.0.div_euclid(DAY);
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    Anew {
        day: roll_one(&mut spent.day, days, renewed.day, hours(12)),
        month: roll_one(
            &mut spent.month,
            month_of(days),
            renewed.month,
            hours(14 * 24),
        ),
    }
}

fn roll_one(
    period: &mut Period,
    number: i64,
    renewed: Option<Duration>,
    soonest: Duration,
) -> bool {
    if number < period.number {
        period.number = number;
    }
    if number <= period.number || renewed.is_some_and(|since| since < soonest) {
        return false;
    }
    *period = Period { number, bytes: 0 };
    true
}

/// Counts bytes.
pub fn spend(spent: &mut Spent, bytes: u64) {
    for period in [&mut spent.day, &mut spent.month] {
        period.bytes = period.bytes.saturating_add(bytes);
    }
}

fn left_of(allowance: &Allowance, spent: &Spent) -> u64 {
    let used = match allowance.per {
        Per::Day => spent.day.bytes,
        Per::Month => spent.month.bytes,
    };
    allowance.bytes.saturating_sub(used)
}

/// The budget of which least is left, and how much; `None` where there is no budget.
#[must_use]
pub fn tightest<'a>(allowances: &'a [Allowance], spent: &Spent) -> Option<(&'a Allowance, u64)> {
    allowances
        .iter()
        .map(|allowance| (allowance, left_of(allowance, spent)))
        .min_by_key(|(_, left)| *left)
}

/// The time until the next poll: so that polls alone use up half of any budget at most, and less where other things have used
/// it; between the interval and [`LONGEST_PAUSE`].
#[must_use]
pub fn pace(
    interval: Duration,
    allowances: &[Allowance],
    spent: &Spent,
    cost: u64,
    now: Timestamp,
) -> Duration {
    let longest = LONGEST_PAUSE.max(interval);
    allowances
        .iter()
        .map(|allowance| {
            let whole = match allowance.per {
                Per::Day => DAY,
                Per::Month => 31 * DAY,
            };
            let rest = end(now, allowance.per).0.saturating_sub(now.0);
            let spread = |seconds: i64, bytes: u64| match bytes / 2 / cost.max(1) {
                0 => longest,
                polls => Duration::from_secs(u64::try_from(seconds).unwrap_or_default() / polls),
            };
            spread(whole, allowance.bytes).max(spread(rest, left_of(allowance, spent)))
        })
        .max()
        .unwrap_or(interval)
        .clamp(interval, longest)
}

/// What `status` tells of the budgets.
#[must_use]
pub fn told(allowances: &[Allowance], spent: &Spent) -> Vec<Budget> {
    allowances
        .iter()
        .map(|allowance| Budget {
            per: allowance.per.word().to_owned(),
            allowed: allowance.bytes,
            spent: match allowance.per {
                Per::Day => spent.day.bytes,
                Per::Month => spent.month.bytes,
            },
            left: left_of(allowance, spent),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23 12:00 UTC.
    const NOON: i64 = 1_795_435_200;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds)
    }

    fn spent(now: i64, bytes: u64) -> Spent {
        let mut spent = Spent::default();
        roll(&mut spent, at(now), Renewed::default());
        spend(&mut spent, bytes);
        spent
    }

    const A_DAY: Allowance = Allowance {
        bytes: 1000,
        per: Per::Day,
    };
    const A_MONTH: Allowance = Allowance {
        bytes: 10_000,
        per: Per::Month,
    };

    #[test]
    fn a_day_ends_at_midnight_and_a_month_on_its_first() {
        assert_eq!(end(at(NOON), Per::Day), at(NOON + DAY / 2));
        // Seven days and a half to December.
        assert_eq!(end(at(NOON), Per::Month), at(NOON + DAY / 2 + 7 * DAY));
        assert_eq!(end(at(-1), Per::Day), at(0));
        assert_eq!(end(at(-1), Per::Month), at(0));
    }

    #[test]
    fn what_is_spent_counts_for_day_and_month_and_is_renewed_with_them() {
        let mut one = spent(NOON, 700);
        assert_eq!(tightest(&[A_DAY, A_MONTH], &one), Some((&A_DAY, 300)));
        roll(&mut one, at(NOON + DAY), Renewed::default());
        assert_eq!(tightest(&[A_DAY], &one), Some((&A_DAY, 1000)));
        assert_eq!(tightest(&[A_MONTH], &one), Some((&A_MONTH, 9300)));
        roll(&mut one, at(NOON + 8 * DAY), Renewed::default());
        assert_eq!(tightest(&[A_MONTH], &one), Some((&A_MONTH, 10_000)));
    }

    #[test]
    fn a_clock_that_goes_back_renews_nothing_and_blocks_nothing() {
        let mut one = spent(NOON + 4000 * DAY, 900);
        assert_eq!(
            roll(&mut one, at(NOON), Renewed::default()),
            Anew::default()
        );
        assert_eq!(tightest(&[A_DAY], &one), Some((&A_DAY, 100)));
        let later = Renewed {
            day: Some(Duration::from_secs(86_400)),
            month: None,
        };
        assert!(roll(&mut one, at(NOON + DAY), later).day);
        assert_eq!(tightest(&[A_DAY], &one), Some((&A_DAY, 1000)));
    }

    #[test]
    fn polls_are_spread_over_what_is_left() {
        let minute = Duration::from_secs(60);
        let pace =
            |allowances: &[Allowance], spent: &Spent| pace(minute, allowances, spent, 10, at(NOON));
        assert_eq!(pace(&[], &spent(NOON, 0)), minute);
        // 50 polls for half of it.
        assert_eq!(pace(&[A_DAY], &spent(NOON, 0)).as_secs(), 86_400 / 50);
        // 12 hours, and 10 polls for half of what is left.
        assert_eq!(pace(&[A_DAY], &spent(NOON, 800)).as_secs(), 43_200 / 10);
        assert_eq!(pace(&[A_DAY], &spent(NOON, 999)), LONGEST_PAUSE);
        let plenty = Allowance {
            bytes: 1 << 30,
            per: Per::Day,
        };
        assert_eq!(pace(&[plenty], &spent(NOON, 0)), minute);
    }

    proptest! {
        #[test]
        fn however_the_clock_jumps_a_running_agent_renews_no_faster_than_time_passes(
            jumps in proptest::collection::vec((-4_000_i64..4_000, 1_u64..20), 1..60),
        ) {
            let (mut spent, mut uptime, mut last, mut renewals) = (spent(NOON, 0), 0_u64, None, 0_u64);
            for (days, hours) in jumps {
                uptime += hours * 3600;
                let renewed = Renewed {
                    day: last.map(|last| Duration::from_secs(uptime - last)),
                    month: Some(Duration::ZERO),
                };
                if roll(&mut spent, at(NOON + days * DAY), renewed).day {
                    last = Some(uptime);
                    renewals += 1;
                }
            }
            prop_assert!(renewals <= 1 + uptime / (12 * 3600));
        }

        #[test]
        fn a_budget_is_renewed_after_a_day_whatever_was_shown_before(before in -4_000_i64..4_000, after in -4_000_i64..4_000) {
            let mut one = spent(NOON + before * DAY, 1000);
            let now = NOON + after * DAY;
            roll(&mut one, at(now), Renewed::default());
            let day = Renewed { day: Some(Duration::from_secs(86_400)), month: None };
            roll(&mut one, at(now + DAY), day);
            prop_assert_eq!(tightest(&[A_DAY], &one), Some((&A_DAY, 1000)));
        }

        #[test]
        fn the_pace_never_leaves_its_bounds(bytes in 0_u64..100_000, cost in 0_u64..5_000, now in 0_i64..4_000_000_000) {
            let minute = Duration::from_secs(60);
            let wait = pace(minute, &[A_DAY, A_MONTH], &spent(now, bytes), cost, at(now));
            prop_assert!(wait >= minute && wait <= LONGEST_PAUSE);
        }
    }
}
