//! The options column of a line: names, some with a value in double quotes, between commas.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::{Role, Touch};
use crate::domain::revision::Timestamp;

/// The options of one line.
#[derive(Default)]
pub(super) struct Options {
    pub(super) role: Option<Role>,
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) valid_after: Option<Timestamp>,
    pub(super) valid_before: Option<Timestamp>,
    pub(super) touch: Option<Touch>,
}

impl Options {
    pub(super) fn parse(text: &str, zone: &TimeZone) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = text;
        loop {
            let end = rest.find(['=', ',']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let (value, after) = match after.strip_prefix('=') {
                Some(after) => dequote(after).map(|(value, after)| (Some(value), after))?,
                None => (None, after),
            };
            options.set(&name.to_ascii_lowercase(), value, zone)?;
            if after.is_empty() {
                break;
            }
            rest = after
                .strip_prefix(',')
                .filter(|rest| !rest.is_empty())
                .ok_or("its options are not separated by single commas")?;
        }
        match (options.valid_after, options.valid_before) {
            (Some(after), Some(before)) if before <= after => {
                Err("its valid-before is not later than its valid-after".to_owned())
            }
            _ => Ok(options),
        }
    }

    fn set(&mut self, name: &str, value: Option<String>, zone: &TimeZone) -> Result<(), String> {
        let once = |set: bool| {
            if set {
                Ok(())
            } else {
                Err(format!("option `{name}` is there twice"))
            }
        };
        match (name, value) {
            ("cert-authority", None) => self.role = Some(Role::CertAuthority),
            ("no-touch-required", None) => self.touch = Some(Touch::NotRequired),
            ("namespaces", Some(value)) => {
                let patterns = value.split(',').map(str::to_owned).collect();
                once(self.namespaces.replace(patterns).is_none())?;
            }
            ("valid-after", Some(value)) => {
                let time = absolute_time(&value, zone)?;
                once(self.valid_after.replace(time).is_none())?;
            }
            ("valid-before", Some(value)) => {
                let time = absolute_time(&value, zone)?;
                once(self.valid_before.replace(time).is_none())?;
            }
            (_, value) => {
                let form = if value.is_some() { " with a value" } else { "" };
                return Err(format!("option `{name}`{form} is not understood"));
            }
        }
        Ok(())
    }
}

/// A value in double quotes, in which `\"` is a quote, and what follows it.
fn dequote(text: &str) -> Result<(String, &str), String> {
    let body = text
        .strip_prefix('"')
        .ok_or("an option's value is not in double quotes")?;
    let mut value = String::new();
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &body[at + 1..])),
            '\\' if chars.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            other => value.push(other),
        }
    }
    Err("a quote in its options is not closed".to_owned())
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`; in UTC with `Z` (or `UTC`) behind it, else in `zone`.
pub(super) fn absolute_time(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let wrong = || {
        format!("`{text}` is not a time: YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z for UTC")
    };
    let upper = text.to_ascii_uppercase();
    let (digits, utc) = match upper
        .strip_suffix('Z')
        .or_else(|| upper.strip_suffix("UTC"))
    {
        Some(digits) => (digits, Some(TimeZone::UTC)),
        None => (upper.as_str(), None),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| {
        digits
            .get(from..to)
            .map_or(Ok(0), |part| part.parse::<i8>().map_err(|_| wrong()))
    };
    let year = digits[..4].parse::<i16>().map_err(|_| wrong())?;
    let date = Date::new(year, part(4, 6)?, part(6, 8)?).map_err(|_| wrong())?;
    let time = Time::new(part(8, 10)?, part(10, 12)?, part(12, 14)?, 0).map_err(|_| wrong())?;
    let zone = utc.as_ref().unwrap_or(zone);
    // The calendar's last hours, as in `99991231`, are beyond what can be told of all zones, and as good as for ever.
    let seconds = zone
        .to_timestamp(DateTime::from_parts(date, time))
        .unwrap_or(jiff::Timestamp::MAX)
        .as_second();
    if seconds > 0 {
        Ok(Timestamp(seconds))
    } else {
        Err(format!("`{text}` is before 1970"))
    }
}
