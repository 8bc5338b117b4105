//! Sizes in bytes as the Compose Specification writes them: `64m`, `1gb`, `2048k`.
//!
//! Units are powers of 1024, as Docker counts them, in either case: `b`, `k`, `kb`, `kib`, `m`, ..., `p`. A bare number
//! counts bytes.

use std::fmt;

/// Why a text is not a size. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizeError(String);

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a size: write it like `64m`, `1gb` or a number of bytes",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for SizeError {}

/// Reads `64m`, `1.5gb`, `512`, in bytes.
///
/// # Errors
/// Anything else, and anything past what an engine can take (2^63 - 1 bytes).
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let error = || SizeError(text.chars().take(80).collect());
    let trimmed = text.trim();
    let digits = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(error()),
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let whole: u128 = whole.parse().map_err(|_| error())?;
    let mut bytes = whole
        .checked_shl(shift)
        .filter(|bytes| bytes >> shift == whole)
        .ok_or_else(error)?;
    if let Some(fraction) = fraction {
        // Twelve digits are finer than one byte of any unit that a device has.
        if fraction.is_empty()
            || fraction.len() > 12
            || fraction.bytes().any(|byte| !byte.is_ascii_digit())
        {
            return Err(error());
        }
        let numerator: u128 = fraction.parse().map_err(|_| error())?;
        let exponent = u32::try_from(fraction.len()).map_err(|_| error())?;
        bytes += (numerator << shift) / 10_u128.pow(exponent);
    }
    u64::try_from(bytes)
        .ok()
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compose_sizes_are_read() {
        for (input, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("2048k", 2048 << 10),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1gb", 1 << 30),
            ("1.5g", 3 << 29),
            ("1 g", 1 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(parse(input), Ok(bytes), "{input}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for input in [
            "",
            "m",
            "-1",
            "1x",
            "1.m",
            "1.2.3",
            "9999999999999999p",
            "99999999999999999999999999999999999999g",
            "1e3",
            "64 m b",
        ] {
            assert!(parse(input).is_err(), "{input}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(input in "[0-9.]{0,50}[a-zA-Z ]{0,4}") {
            let _ = parse(&input);
        }
    }
}
