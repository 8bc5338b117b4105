//! Words for people, and bytes as words.

use std::error::Error;

/// An error with everything behind it, in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Some crates repeat their source in their own words: say it once.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// Whether bytes have this text somewhere in them.
#[must_use]
pub fn holds(bytes: &[u8], text: &str) -> bool {
    text.is_empty()
        || bytes
            .windows(text.len())
            .any(|piece| piece == text.as_bytes())
}

/// A number of bytes as the configuration may write it: `1.4 MB`, by powers of 1024.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [("GB", 1_u64 << 30), ("MB", 1 << 20), ("kB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole} {name}"),
                (whole, tenth) => format!("{whole}.{tenth} {name}"),
            }
        }
        None => format!("{bytes} bytes"),
    }
}

/// How much of what a failing check says is told: a line on a screen, and its last words are worth more than its first.
const MOST_SAID: usize = 200;
/// How much of a check's output has to be kept so that its last words can be told, blanks at the end left out.
pub const TAIL: usize = 4 * MOST_SAID;

/// The last words of a program, in one line that is safe to show: what does not print is escaped, and what is long
/// begins with an ellipsis. `None` where it said nothing.
#[must_use]
pub fn last_words(output: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(output);
    let mut line = String::new();
    for letter in text.trim().chars() {
        match letter {
            '"' | '\'' => line.push(letter),
            other => line.extend(other.escape_debug()),
        }
    }
    if line.len() > MOST_SAID {
        let mut from = line.len() - MOST_SAID;
        while !line.is_char_boundary(from) {
            from += 1;
        }
        line.replace_range(..from, "…");
    }
    (!line.is_empty()).then_some(line)
}

/// How a check ended that did not pass, and what it said.
#[must_use]
pub fn ended(code: i64, output: &[u8]) -> String {
    let how = if code < 0 {
        // What engines answer where the test was cut off at its timeout.
        "did not end".to_owned()
    } else {
        format!("ended with {code}")
    };
    match last_words(output) {
        Some(words) => format!("{how}: {words}"),
        None => how,
    }
}

/// Bytes in base64 (RFC 4648, section 4), in one line.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain(std::iter::repeat(&0))
            .take(3)
            .fold(0_u32, |group, byte| (group << 8) | u32::from(*byte));
        for digit in 0..4 {
            if digit <= chunk.len() {
                let index = (group >> (18 - 6 * digit)) & 63;
                text.push(char::from(DIGITS[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

/// Strict base64 (RFC 4648, section 4): padding demanded, unused bits zero, nothing else among the digits.
#[must_use]
pub fn decode_base64(digits: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut held, mut digits_seen, mut padding) = (0_u32, 0_u32, 0_usize, 0_usize);
    for digit in digits {
        digits_seen += 1;
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if padding < 2 => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    let whole = digits_seen % 4 == 0 && digits_seen > 0;
    (whole && bits == 0 && held == [0, 2, 4][padding]).then_some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{MOST_SAID, base64, decode_base64, ended, last_words};

    #[test]
    fn what_a_check_says_is_told_in_one_safe_line() {
        assert_eq!(ended(3, b""), "ended with 3");
        assert_eq!(ended(3, b" \n\t"), "ended with 3");
        assert_eq!(
            ended(1, b"no\nroute \x1b[31mto\x07 'host' \"a\" \xff\n"),
            "ended with 1: no\\nroute \\u{1b}[31mto\\u{7} 'host' \"a\" \u{fffd}"
        );
        // An override of the direction would turn the rest of a line round.
        assert_eq!(last_words("a\u{202e}b".as_bytes()).unwrap(), "a\\u{202e}b");
        assert_eq!(
            ended(-1, b"Health check exceeded timeout (1s)"),
            "did not end: Health check exceeded timeout (1s)"
        );
    }

    #[test]
    fn of_a_long_output_the_end_is_told() {
        for filling in ["x", "\u{1b}", "ü", "\u{10348}", "\n-"] {
            let said = format!("{}the cause", filling.repeat(1000));
            let told = last_words(said.as_bytes()).unwrap();
            assert!(
                told.starts_with('…') && told.ends_with("the cause"),
                "{told}"
            );
            assert!(told.len() <= MOST_SAID + '…'.len_utf8(), "{told}");
            assert!(!told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }

    #[test]
    fn base64_takes_one_spelling_of_each_value() {
        let decode = |text: &str| decode_base64(text.bytes());
        assert_eq!(decode("aGVsbG8="), Some(b"hello".to_vec()));
        assert_eq!(decode("aGVsbG8h"), Some(b"hello!".to_vec()));
        assert_eq!(decode("aA=="), Some(b"h".to_vec()));
        for bad in [
            "aGVsbG8",
            "aGVsbG9=",
            "aA=",
            "aA===",
            "a===",
            "=aaa",
            "aG VsbG8=",
            "aB==",
            "aA==aA==",
            "",
            "a-_a",
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
