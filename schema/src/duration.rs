//! Durations as the Compose Specification writes them: `1m30s`, `500ms`, `2h`.
//!
//! Owns reading and printing. Beside Compose's units (`us`, `ms`, `s`, `m`, `h`) it takes `d` and `w`, which agent.toml
//! needs (`max_age = "14d"`), and a bare number, which counts seconds. Negative durations are refused.

use std::fmt;
use std::time::Duration;

/// Why a text is not a duration. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a duration: write it like `1m30s`, `500ms` or `2h`",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for DurationError {}

/// Ten years: longer than any wait that makes sense here, and far from the end of every clock's arithmetic.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Nanoseconds of a unit; longer names first, so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 9] = [
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads `1m30s`, `1.5s`, `500ms`, `14d`, or a bare number of seconds.
///
/// # Errors
/// Anything else, and anything longer than ten years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.chars().take(80).collect());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(error());
    }
    let mut total = Duration::ZERO;
    let mut parts = 0_u32;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let (unit, after) = if after.is_empty() && parts == 0 {
            (1_000_000_000, after)
        } else {
            UNITS
                .iter()
                .find_map(|(name, unit)| {
                    let after = after.strip_prefix(name)?;
                    after
                        .chars()
                        .next()
                        .is_none_or(|next| next.is_ascii_digit() || next == '.')
                        .then_some((*unit, after))
                })
                .ok_or_else(error)?
        };
        let part = multiply(number, unit).ok_or_else(error)?;
        total = total.checked_add(part).ok_or_else(error)?;
        if total > LONGEST {
            return Err(error());
        }
        rest = after;
        parts += 1;
    }
    Ok(total)
}

/// `number` (digits with at most one point) times `unit` nanoseconds, exactly, rounded down.
fn multiply(number: &str, unit: u64) -> Option<Duration> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut nanos = u128::from(whole) * u128::from(unit);
    let mut scale = u128::from(unit);
    for digit in fraction.bytes().take(18) {
        scale /= 10;
        nanos += scale * u128::from(digit - b'0');
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// Prints a duration as `docker compose config` does, which is Go's form: `1h0m30s`, `1m30s`, `500ms`, `0s`.
#[must_use]
pub fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanos = duration.subsec_nanos();
    if seconds == 0 {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => with_fraction(u64::from(nanos / 1_000), nanos % 1_000, 3, "µs"),
            _ => with_fraction(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6, "ms"),
        };
    }
    let last = with_fraction(seconds % 60, nanos, 9, "s");
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => last,
        (0, minutes) => format!("{minutes}m{last}"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}"),
    }
}

fn with_fraction(whole: u64, fraction: u32, digits: usize, unit: &str) -> String {
    if fraction == 0 {
        return format!("{whole}{unit}");
    }
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn compose_durations_are_read() {
        for (input, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h5m30s20ms", 3_930_020),
            ("2h", 7_200_000),
            ("14d", 14 * 86_400_000),
            ("1w", 7 * 86_400_000),
            ("10", 10_000),
            ("0", 0),
            ("1.5s", 1500),
            (" 5s ", 5000),
            (".5s", 500),
        ] {
            assert_eq!(parse(input), Ok(Duration::from_millis(millis)), "{input}");
        }
        assert_eq!(parse("20us"), Ok(Duration::from_micros(20)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for input in [
            "",
            "s",
            "5x",
            "-5s",
            "5s10",
            "1 m",
            "1.2.3s",
            ".",
            ".s",
            "5 s",
            "99999999999999999999s",
            "4000d",
            "five",
            "1mm",
            "5s\u{0}",
        ] {
            assert!(parse(input).is_err(), "{input}");
        }
    }

    #[test]
    fn durations_are_printed_as_compose_prints_them() {
        for (millis, output) in [
            (0, "0s"),
            (500, "500ms"),
            (1500, "1.5s"),
            (90_000, "1m30s"),
            (120_000, "2m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(text(Duration::from_millis(millis)), output);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos in 0_u64..300_000_000_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            proptest::prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(input in ".{0,40}") {
            let _ = parse(&input);
        }
    }
}
