//! The owner's windows: when a change may begin, and when images may be downloaded. Pure: the zone is an argument.
//!
//! The rule is one: a window is open while a wall clock in its zone shows a time within it. So when clocks go forward, the hour
//! that they leave out is in no window (a window that lies within it does not open that day, one that reaches over it is an
//! hour shorter); when they go back, the hour that comes twice is in its windows twice. Whatever the clocks do, a window of a
//! night opens and closes when the people beside the device read it so.

use std::time::Duration;

use evenkeel_schema::agent_config::{NowPolicy, Span};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};

use super::rollout::Now;
use crate::domain::hold::{HeldBy, Hold};
use crate::domain::revision::Timestamp;

/// How many days are looked ahead: a week, and another one for a window that a change of clocks leaves out.
const AHEAD: i32 = 16;

/// What the owner says of when.
#[derive(Debug, Clone)]
pub struct Windows {
    /// When changes may begin; `None`: any time.
    pub apply: Option<Vec<Span>>,
    /// When images may be fetched; `None`: any time.
    pub download: Option<Vec<Span>>,
    /// The zone of these hours.
    pub zone: TimeZone,
    /// How long after the end of `apply` a change may still begin that was being prepared before it.
    pub grace: Duration,
    /// Whether a person at the device may go ahead.
    pub now: NowPolicy,
}

impl Default for Windows {
    /// Always open.
    fn default() -> Self {
        Self {
            apply: None,
            download: None,
            zone: TimeZone::UTC,
            grace: Duration::ZERO,
            now: NowPolicy::Refuse,
        }
    }
}

impl Windows {
    /// What keeps a change from beginning.
    #[must_use]
    pub fn holds_change(&self, now: &Now) -> Option<Hold> {
        self.holds(self.apply.as_deref(), HeldBy::Window, now)
    }

    /// What keeps images from being fetched.
    #[must_use]
    pub fn holds_download(&self, now: &Now) -> Option<Hold> {
        self.holds(self.download.as_deref(), HeldBy::Download, now)
    }

    /// Until when a change that is being prepared may begin, where there is a window and it is open.
    #[must_use]
    pub fn lasts_until(&self, now: &Now) -> Option<Timestamp> {
        let (Some(spans), Now::Known(now)) = (&self.apply, now) else {
            return None;
        };
        if !is_open(spans, &self.zone, *now) {
            return None;
        }
        let close = next(spans, &self.zone, *now, Is::Closed)?;
        Some(Timestamp(
            close.0.saturating_add_unsigned(self.grace.as_secs()),
        ))
    }

    fn holds(&self, spans: Option<&[Span]>, by: HeldBy, now: &Now) -> Option<Hold> {
        let spans = spans?;
        let (what, key) = match by {
            HeldBy::Download => ("images are downloaded", "download"),
            _ => ("changes are applied", "apply"),
        };
        let written: Vec<String> = spans.iter().map(ToString::to_string).collect();
        let written = written.join(", ");
        let zone = self.zone.iana_name().unwrap_or("this device's own zone");
        match now {
            Now::AtLeast(_, why) => {
                let message = format!(
                    "{why}, so it cannot tell when {what} (window.{key}: {written}, {zone})"
                );
                Some(Hold::open(by, message))
            }
            Now::Known(now) if is_open(spans, &self.zone, *now) => None,
            Now::Known(now) => {
                let rule = format!("{what} within window.{key} ({written}, {zone})");
                Some(match next(spans, &self.zone, *now, Is::Open) {
                    Some(open) => {
                        let message = format!("{rule}, which opens at {}", self.local(open));
                        Hold::until(by, message, open)
                    }
                    None => Hold::open(by, format!("{rule}, which does not open")),
                })
            }
        }
    }

    /// A time as the window's own zone writes it.
    fn local(&self, at: Timestamp) -> String {
        match jiff::Timestamp::from_second(at.0) {
            Ok(time) => time
                .display_with_offset(self.zone.to_offset(time))
                .to_string(),
            Err(_) => at.to_string(),
        }
    }
}

/// What a window is at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Open,
    Closed,
}

/// Whether a wall clock in that zone shows a time within one of the spans.
fn is_open(spans: &[Span], zone: &TimeZone, at: Timestamp) -> bool {
    let Ok(time) = jiff::Timestamp::from_second(at.0) else {
        return false;
    };
    let wall = zone.to_datetime(time);
    let minute = i32::from(wall.hour()) * 60 + i32::from(wall.minute());
    // From 0 for Monday; a span of yesterday may reach into today.
    let today = wall.weekday().to_monday_zero_offset().unsigned_abs();
    spans.iter().any(|span| {
        let within = |minute: i32| (i32::from(span.from())..i32::from(span.to())).contains(&minute);
        (span.begins_on(today) && within(minute))
            || (span.begins_on(today + 6) && within(minute + 24 * 60))
    })
}

/// The first time after `at` at which the window is so. It changes only where a span begins or ends, or where the clocks do.
fn next(spans: &[Span], zone: &TimeZone, at: Timestamp, wanted: Is) -> Option<Timestamp> {
    let now = jiff::Timestamp::from_second(at.0).ok()?;
    let horizon = now
        .checked_add(SignedDuration::from_hours(i64::from(AHEAD) * 24))
        .ok()?;
    let changes = zone.following(now).map(|change| change.timestamp());
    let mut moments: Vec<Timestamp> = changes
        .take_while(|change| *change <= horizon)
        .map(|change| Timestamp(change.as_second()))
        .collect();
    let today = zone.to_datetime(now).date();
    for day in -1..=AHEAD {
        let Ok(date) = today.checked_add(day.days()) else {
            continue;
        };
        let weekday = date.weekday().to_monday_zero_offset().unsigned_abs();
        for span in spans.iter().filter(|span| span.begins_on(weekday)) {
            for minute in [span.from(), span.to()] {
                moments.extend(instants(zone, date.at(0, 0, 0, 0), minute));
            }
        }
    }
    let is_wanted = |moment: Timestamp| is_open(spans, zone, moment) == (wanted == Is::Open);
    moments
        .into_iter()
        .filter(|moment| *moment > at && is_wanted(*moment))
        .min()
}

/// When a wall clock shows that minute after a midnight: once, twice, or (where it is left out) about then.
fn instants(zone: &TimeZone, midnight: DateTime, minute: u16) -> Vec<Timestamp> {
    let Ok(wall) = midnight.checked_add(i64::from(minute).minutes()) else {
        return Vec::new();
    };
    let found = zone.to_ambiguous_timestamp(wall);
    [found.earlier(), found.later()]
        .into_iter()
        .flatten()
        .map(|time| Timestamp(time.as_second()))
        .collect()
}

#[cfg(test)]
#[path = "window/tests.rs"]
mod tests;
