//! `[window]`: when changes may be applied, and when images may be downloaded.
//!
//! A span of a window is written as days and hours, `Mon-Fri 01:00-05:00`, in the time that a wall clock in the window's zone
//! shows. One whose end is not after its beginning goes on past midnight, and belongs to the day on which it began.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::decode;
use crate::diagnostic::Diagnostics;
use crate::document;
use crate::node::{Node, Value};
use crate::service::keys::{Key, Shape, key};

const SPANS: Shape = Shape::AnyOf(&[Shape::Text, Shape::List(&Shape::Text)]);

pub(super) const KEYS: &[Key] = &[
    key(
        "apply",
        SPANS,
        "When changes may begin, such as [\"Mon-Fri 01:00-05:00\"]; healing and rollback do not wait for it. Any time",
    ),
    key(
        "download",
        SPANS,
        "When images of a new revision may be fetched, such as [\"* 22:00-06:00\"]. Any time",
    ),
    key(
        "timezone",
        Shape::Text,
        "The zone of these hours, such as Europe/Vienna; the device's own",
    ),
    key(
        "grace",
        Shape::Duration,
        "How long after the end of `apply` a change may still begin that was being prepared before it; 0s",
    ),
    key(
        "now",
        Shape::Words(&["refuse", "allow"]),
        "Whether `evenkeel sync --now` goes ahead outside the windows and before this device's turn; refuse",
    ),
];

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// A longer grace is another window.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// From Monday on.
const NAMES: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// `[window]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowSection {
    /// When changes may begin; `None`: any time.
    pub apply: Option<Vec<Span>>,
    /// When images may be fetched; `None`: any time.
    pub download: Option<Vec<Span>>,
    /// The zone of these hours; `None`: the device's own.
    pub timezone: Option<String>,
    /// How long after the end of `apply` a change may still begin that was being prepared before it.
    pub grace: Duration,
    /// What `evenkeel sync --now` does.
    pub now: NowPolicy,
}

/// `window.now`: whether a person at the device may go ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NowPolicy {
    /// No (the default).
    #[default]
    Refuse,
    /// Outside the windows, and before this device's turn in a rollout; not past a halt.
    Allow,
}

/// Days of the week and hours of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Bit 0 is Monday.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    /// Minutes after that same midnight, more than `from`: past 24 hours on the next day.
    to: u16,
    text: String,
}

impl Span {
    /// Whether it begins on this day; 0 is Monday.
    #[must_use]
    pub const fn begins_on(&self, day: u8) -> bool {
        self.days & (1 << (day % 7)) != 0
    }

    /// When it begins, in minutes after midnight.
    #[must_use]
    pub const fn from(&self) -> u16 {
        self.from
    }

    /// When it ends, in minutes after the midnight before it began.
    #[must_use]
    pub const fn to(&self) -> u16 {
        self.to
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is not a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotASpan(String);

impl fmt::Display for NotASpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words.as_slice() {
            [hours] => ("*", *hours),
            [days, hours] => (*days, *hours),
            _ => return Err(wrong(text, "it is not days and hours")),
        };
        let days_of = days;
        let days = all_days(days)
            .ok_or_else(|| wrong(text, &format!("`{}` are no days", days_of.escape_debug())))?;
        let (from, to) = hours
            .split_once('-')
            .ok_or_else(|| wrong(text, "its hours have no end"))?;
        let minutes = |time: &str| {
            minutes(time).ok_or_else(|| {
                wrong(
                    text,
                    &format!("`{}` is not a time of day", time.escape_debug()),
                )
            })
        };
        let (from, to) = (minutes(from)?, minutes(to)?);
        if from == DAY {
            return Err(wrong(text, "no day begins at 24:00"));
        }
        if from == to {
            return Err(wrong(
                text,
                "it ends when it begins; a whole day is 00:00-24:00",
            ));
        }
        Ok(Self {
            days,
            from,
            to: if to > from { to } else { to + DAY },
            text: text.trim().to_owned(),
        })
    }
}

fn wrong(text: &str, why: &str) -> NotASpan {
    let text: String = text.chars().take(80).collect();
    NotASpan(format!("`{}` is not a window: {why}", text.escape_debug()))
}

/// `*`, or days and ranges of days: `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn all_days(text: &str) -> Option<u8> {
    if text == "*" {
        return Some(0b111_1111);
    }
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (day(first)?, day(last)?);
        days |= 1 << day;
        while day != last {
            day = (day + 1) % 7;
            days |= 1 << day;
        }
    }
    Some(days)
}

fn day(text: &str) -> Option<u8> {
    let text = text.to_ascii_lowercase();
    let index = NAMES
        .iter()
        .position(|name| text == *name || text == name[..3])?;
    u8::try_from(index).ok()
}

/// `HH:MM`, up to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| -> Option<u16> {
        let plain = digits.contains(&text.len()) && text.bytes().all(|one| one.is_ascii_digit());
        plain.then(|| text.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours, 1..=2)?, number(minutes, 2..=2)?);
    let of_day = hours * 60 + minutes;
    (minutes < 60 && of_day <= DAY).then_some(of_day)
}

/// Reads `[window]`.
pub(super) fn window(node: &Node, out: &mut Diagnostics) -> Option<WindowSection> {
    document::check_keys(node, KEYS, "`[window]`", out);
    let mut spans = |name: &str| {
        decode::optional(node, name, out, |node, out| {
            if matches!(&node.value, Value::List(items) if items.is_empty()) {
                node.error_with_help(
                    out,
                    format!("an empty `{name}` would never open"),
                    "remove it where any time will do",
                );
                return None;
            }
            decode::list_or_one(node, out, span)
        })
    };
    let (apply, download) = (spans("apply"), spans("download"));
    let timezone = decode::optional(node, "timezone", out, decode::filled_text);
    let grace = decode::optional(node, "grace", out, |node, out| {
        let grace = decode::duration(node, out)?;
        if grace > LONGEST_GRACE {
            node.error(out, "a grace of more than a day is a window of its own");
            return None;
        }
        Some(grace)
    });
    if let (Some(grace), None) = (decode::field(node, "grace"), decode::field(node, "apply")) {
        grace.error(
            out,
            "`grace` counts from the end of `apply`, and there is none",
        );
    }
    let now = decode::optional(node, "now", out, |node, out| {
        let words = [("refuse", NowPolicy::Refuse), ("allow", NowPolicy::Allow)];
        decode::one_of(node, &words, out)
    });
    Some(WindowSection {
        apply,
        download,
        timezone,
        grace: grace.unwrap_or_default(),
        now: now.unwrap_or_default(),
    })
}

fn span(node: &Node, out: &mut Diagnostics) -> Option<Span> {
    let text = decode::filled_text(node, out)?;
    match text.parse::<Span>() {
        Ok(span) => Some(span),
        Err(error) => {
            node.error_with_help(
                out,
                error.to_string(),
                "write it like `Mon-Fri 01:00-05:00`, `Sat,Sun 00:00-24:00` or `* 22:00-06:00`",
            );
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    fn read(text: &str) -> (u8, u16, u16) {
        let span: Span = text.parse().unwrap();
        (span.days, span.from, span.to)
    }

    #[test]
    fn days_and_hours_are_read() {
        for (text, expected) in [
            ("Mon-Fri 01:00-05:00", (0b001_1111, 60, 300)),
            ("* 22:00-06:00", (0b111_1111, 1320, 1800)),
            ("22:00-6:30", (0b111_1111, 1320, 1830)),
            ("sat,SUN 00:00-24:00", (0b110_0000, 0, 1440)),
            ("Fri-Mon 23:59-00:00", (0b111_0001, 1439, 1440)),
            ("Monday,Wed-thursday  12:00-12:01", (0b000_1101, 720, 721)),
            ("Sun 00:30-00:15", (0b100_0000, 30, 1455)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_span_is_told_with_what_is_wrong() {
        for (text, why) in [
            ("", "days and hours"),
            ("Mon Tue 01:00-02:00", "days and hours"),
            ("Mo 01:00-02:00", "`Mo` are no days"),
            ("Mon- 01:00-02:00", "no days"),
            ("Mon 01:00", "no end"),
            ("Mon 1-2", "`1` is not a time of day"),
            ("Mon 01:60-02:00", "`01:60`"),
            ("Mon 01:00-24:01", "`24:01`"),
            ("Mon +1:00-02:00", "`+1:00`"),
            ("Mon 24:00-02:00", "no day begins"),
            ("Mon 02:00-02:00", "ends when it begins"),
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = text.parse::<Span>();
        }
    }
}
