//! `[rollout]` in fleet.toml or a group: when which share of the devices may begin a revision.
//!
//! The whole section of the later document wins (fleet.toml, then the groups by file name), as with `[agent]`: an id, a start
//! and its waves belong together. `halt = true` is the exception: it stops wherever it is written, so that nothing which a
//! group says can outrun a halt for the whole fleet.

use std::time::Duration;

use toml::value::{Datetime, Offset};

use crate::diagnostic::Diagnostics;
use crate::document::{self, Place};
use crate::node::{Node, Value};
use crate::service::keys::{Key, Shape, key};
use crate::{decode, duration};

/// The key that fleet.toml and a group have.
pub(crate) const ROLLOUT: Key = key(
    "rollout",
    Shape::Table(KEYS),
    "When which share of the devices may begin this revision; the whole section of a later document wins, but for `halt`",
);

/// The keys of `[rollout]`.
pub(crate) const KEYS: &[Key] = &[
    key(
        "id",
        Shape::Text,
        "Draws the slots: a device's slot is a hash of its id and this. While it stays, so do the slots and the clock",
    ),
    key(
        "start",
        Shape::AnyOf(&[Shape::Pattern(
            r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$",
        )]),
        "When it begins, as RFC 3339 writes it: 2026-03-01T08:00:00Z",
    ),
    key(
        "duration",
        Shape::Duration,
        "How long it takes from the first device to the last, evenly; or `waves`",
    ),
    key(
        "waves",
        Shape::List(&Shape::Number),
        "The shares of the devices in per cent, rising to 100: [5, 25, 100]",
    ),
    key(
        "pause",
        Shape::Duration,
        "From the beginning of one wave to the beginning of the next",
    ),
    key(
        "halt",
        Shape::Bool,
        "Nothing begins on a device that has not begun; false",
    ),
];

/// The most waves: more say less than a `duration`.
const MOST_WAVES: usize = 100;
/// The longest id in bytes.
const LONGEST_ID: usize = 128;

/// `[rollout]` as a device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Who comes when. `None`: the section says nothing but `halt`.
    pub turns: Option<Turns>,
    /// Where a halt is written.
    pub halt: Option<Place>,
}

/// Who comes when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turns {
    /// Draws the slots.
    pub id: String,
    /// When it begins, in seconds since 1970.
    pub start: i64,
    /// How it goes on.
    pub pace: Pace,
}

/// How a rollout goes on from its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pace {
    /// Evenly, one device after the other.
    Ramp(Duration),
    /// In waves.
    Waves {
        /// The shares of the devices, rising to all.
        shares: Vec<Share>,
        /// From the beginning of one wave to the beginning of the next.
        pause: Duration,
    },
}

/// A share of the devices, in millionths: more than none, at most all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// All devices.
    pub const ALL: Self = Self(1_000_000);

    /// A share in per cent, to the fourth digit after the point.
    fn of_percent(percent: f64) -> Option<Self> {
        if !(percent > 0.0 && percent <= 100.0) {
            return None;
        }
        // At least one millionth, and at most all: no cast goes wrong.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a million"
        )]
        let millionths = (percent * 10_000.0).round() as u32;
        Some(Self(millionths.max(1)))
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

impl Rollout {
    /// This section over the one of an earlier document.
    #[must_use]
    pub fn over(self, earlier: Option<Self>) -> Self {
        let halted = earlier.and_then(|earlier| earlier.halt);
        Self {
            turns: self.turns,
            halt: self.halt.or(halted),
        }
    }
}

/// Reads the section.
pub(crate) fn rollout(node: &Node, out: &mut Diagnostics) -> Option<Rollout> {
    const WHAT: &str = "`[rollout]`";
    document::check_keys(node, KEYS, WHAT, out);
    let halt = decode::field(node, "halt").and_then(|halt| {
        decode::boolean(halt, out)
            .unwrap_or_default()
            .then(|| Place::of(halt))
    });
    let id = decode::optional(node, "id", out, id);
    let start = decode::optional(node, "start", out, start);
    let pace = pace(node, out);
    let given = |key: &str| decode::field(node, key).is_some();
    let has_pace = given("duration") || given("waves");
    if halt.is_none() || given("start") || has_pace || given("pause") {
        // With a halt and nothing of when, it is a halt and nothing else.
        for (key, example) in [
            ("id", "`id = \"2026-03-firmware\"`"),
            ("start", "`start = 2026-03-01T08:00:00Z`"),
        ] {
            if !given(key) {
                node.error_with_help(
                    out,
                    format!("{WHAT} needs `{key}`"),
                    format!("write {example}"),
                );
            }
        }
        if !has_pace {
            node.error_with_help(
                out,
                format!("{WHAT} needs `duration` or `waves`"),
                "write `duration = \"6h\"`, or `waves = [5, 25, 100]` with `pause = \"1h\"`",
            );
        }
    }
    let turns = match (id, start, pace) {
        (Some(id), Some(start), Some(pace)) => Some(Turns { id, start, pace }),
        (_, _, _) => None,
    };
    Some(Rollout { turns, halt })
}

fn id(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = decode::filled_text(node, out)?;
    if text.len() > LONGEST_ID || text.chars().any(char::is_control) {
        node.error(
            out,
            format!("an id of a rollout is a line of at most {LONGEST_ID} bytes"),
        );
        return None;
    }
    Some(text)
}

fn start(node: &Node, out: &mut Diagnostics) -> Option<i64> {
    const HELP: &str = "write it as RFC 3339 does, with its offset: 2026-03-01T08:00:00Z, or 2026-03-01T09:00:00+01:00";
    let mut wrong = |what: &str| {
        node.error_with_help(out, format!("{} {what}", decode::shown(node)), HELP);
        None
    };
    let Value::String(text) = &node.value else {
        return wrong("is not a time");
    };
    let Ok(read) = text.trim().parse::<Datetime>() else {
        return wrong("is not a time");
    };
    let (Some(date), Some(time)) = (read.date, read.time) else {
        return wrong("is not a whole point in time");
    };
    let offset = match read.offset {
        Some(Offset::Z) => 0,
        Some(Offset::Custom { minutes }) => i64::from(minutes) * 60,
        None => return wrong("does not say which time it is elsewhere"),
    };
    let days = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    );
    let of_day = i64::from(time.hour) * 3600
        + i64::from(time.minute) * 60
        + i64::from(time.second.unwrap_or_default());
    Some(days * 86_400 + of_day - offset)
}

/// The days from 1970-01-01 to a date of the Gregorian calendar, whose years begin in March here.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn pace(node: &Node, out: &mut Diagnostics) -> Option<Pace> {
    let (ramp, waves) = (
        decode::field(node, "duration"),
        decode::field(node, "waves"),
    );
    let pause = decode::field(node, "pause");
    let paused = pause.and_then(|pause| {
        let length = decode::duration(pause, out)?;
        if length.as_secs() == 0 {
            pause.error(
                out,
                format!("a pause of `{}` is none", duration::text(length)),
            );
            return None;
        }
        Some(length)
    });
    match (ramp, waves) {
        (None, None) => {
            if let Some(pause) = pause {
                pause.error(
                    out,
                    "`pause` is the time between `waves`, and there are none",
                );
            }
            None
        }
        (Some(_), Some(waves)) => {
            waves.error_with_help(
                out,
                "a rollout has either `duration` or `waves`, and this has both",
                "remove one of them",
            );
            None
        }
        (Some(ramp), None) => {
            if let Some(pause) = pause {
                pause.error_with_help(
                    out,
                    "`pause` is the time between `waves`, and `duration` has none",
                    "remove it, or write `waves` instead of `duration`",
                );
            }
            decode::duration(ramp, out).map(Pace::Ramp)
        }
        (None, Some(waves)) => {
            let shares = shares(waves, out)?;
            if shares.len() > 1 && pause.is_none() {
                waves.error_with_help(
                    out,
                    "`waves` need a `pause` between them",
                    "write `pause = \"1h\"`",
                );
            }
            let pause = match (paused, shares.len()) {
                (Some(pause), _) => pause,
                (None, 1) => Duration::ZERO,
                (None, _) => return None,
            };
            Some(Pace::Waves { shares, pause })
        }
    }
}

fn shares(node: &Node, out: &mut Diagnostics) -> Option<Vec<Share>> {
    let before = out.len();
    let shares = decode::list(node, out, |node, out| {
        let percent = decode::number(node, out)?;
        let share = Share::of_percent(percent);
        if share.is_none() {
            node.error_with_help(
                out,
                format!("{percent} is not a share of the devices"),
                "write per cent: more than 0, at most 100",
            );
        }
        share.map(|share| (share, Place::of(node)))
    })?;
    for pair in shares.windows(2) {
        if let [(one, _), (next, place)] = pair
            && next <= one
        {
            place.error_with_help(
                out,
                format!("a wave of {next} after one of {one} adds no device"),
                "a wave's share counts the waves before it, too: let them rise, as in [5, 25, 100]",
            );
        }
    }
    match shares.last() {
        Some((Share::ALL, _)) => {}
        Some((last, place)) => place.error_with_help(
            out,
            format!("the last wave is {last}, so the rest of the devices would never have a turn"),
            "let the last wave be 100",
        ),
        None => node.error_with_help(
            out,
            "there is no wave in it",
            "write `waves = [5, 25, 100]`",
        ),
    }
    if shares.len() > MOST_WAVES {
        node.error_with_help(
            out,
            format!("these are more than {MOST_WAVES} waves"),
            "write `duration` for a rollout that goes on evenly",
        );
    }
    (out.len() == before).then(|| shares.into_iter().map(|(share, _)| share).collect())
}

#[cfg(test)]
#[path = "rollout/tests.rs"]
mod tests;
