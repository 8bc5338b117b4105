//! Durations and sizes as the Compose Specification writes them.

use std::time::Duration;

/// Units of a duration, longest first so that `ms` is not read as `m`.
const UNITS: [(&str, u128); 7] = [
    ("h", 3_600_000_000_000),
    ("ms", 1_000_000),
    ("m", 60_000_000_000),
    ("us", 1_000),
    ("µs", 1_000),
    ("ns", 1),
    ("s", 1_000_000_000),
];

/// Reads `1h30m`, `90s`, `2.5s`, `500ms`. Negative and bare numbers are refused.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{}` is not a duration: write it as `90s`, `1m30s` or `500ms`",
            text.escape_debug()
        )
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let (unit, scale) = UNITS
            .iter()
            .filter(|(unit, _)| tail.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len())
            .ok_or_else(wrong)?;
        total = decimal(number, *scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = &tail[unit.len()..];
    }
    u64::try_from(total)
        .ok()
        // Engines keep durations in a signed 64-bit number of nanoseconds.
        .filter(|nanos| i64::try_from(*nanos).is_ok())
        .map(Duration::from_nanos)
        .ok_or_else(wrong)
}

/// `number` (digits with at most one point) times `scale`, without floats.
fn decimal(number: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || whole.len() > 20
        || fraction.len() > 12
    {
        return None;
    }
    let mut value = if whole.is_empty() {
        0
    } else {
        whole.parse::<u128>().ok()?.checked_mul(scale)?
    };
    if !fraction.is_empty() {
        let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        value = value.checked_add(fraction.parse::<u128>().ok()?.checked_mul(scale)? / divisor)?;
    }
    Some(value)
}

/// Prints a duration as Go does: `1h0m0s`, `1m30s`, `2.5s`, `500ms`.
pub(super) fn print_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (scale, unit) = if nanos < 1_000 {
            (1, "ns")
        } else if nanos < 1_000_000 {
            (1_000, "µs")
        } else {
            (1_000_000, "ms")
        };
        return format!("{}{unit}", with_fraction(nanos, scale));
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = with_fraction(nanos % 60_000_000_000, 1_000_000_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    if hours > 0 {
        format!("{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{minutes}m{seconds}s")
    } else {
        format!("{seconds}s")
    }
}

fn with_fraction(value: u128, scale: u128) -> String {
    let whole = value / scale;
    let rest = value % scale;
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.to_string().len() - 1;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// Reads `512m`, `1.5g`, `64kb`, `1GiB` or a number of bytes; units are powers of 1024, as in Docker.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "`{}` is not a size: write it as `512m`, `1g`, `64k` or a number of bytes",
            text.escape_debug()
        )
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let scale: u128 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        "t" | "tb" | "ti" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    decimal(number, scale)
        .and_then(|bytes| i64::try_from(bytes).ok())
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(wrong)
}

/// Reads `0.5`, `2`, `1.25` CPUs into billionths.
pub(super) fn nano_cpus(text: &str) -> Result<u64, String> {
    decimal(text.trim(), 1_000_000_000)
        .and_then(|nano| u64::try_from(nano).ok())
        // Far above any machine, and exact as a float.
        .filter(|nano| *nano < 1 << 50)
        .ok_or_else(|| {
            format!(
                "`{}` is not a number of CPUs: write it as `0.5` or `2`",
                text.escape_debug()
            )
        })
}

/// Reads a size, or -1 for no limit.
pub(super) fn swap(text: &str) -> Result<i64, String> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    size(text).and_then(|bytes| i64::try_from(bytes).map_err(|problem| problem.to_string()))
}

/// Checks a list of CPUs: `0-3`, `0,2`.
pub(super) fn cpu_set(text: &str) -> Result<String, String> {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let good = text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        is_number(first) && is_number(last)
    });
    good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "`{}` is not a set of CPUs: write it as `0-1` or `0,2`",
            text.escape_debug()
        )
    })
}
