//! What a web server says of the requests that it answered, one a line.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// How nginx writes a line: in the order of [`Answered`].
pub const FORMAT: &str = "$msec $request_time $status $request_length $bytes_sent $uri";

/// A request that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// When the last byte of the answer was sent: seconds since 1970.
    pub at: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// The status.
    pub status: u16,
    /// Bytes of the request as HTTP has them, its head included.
    pub up: u64,
    /// Bytes of the answer, its head included.
    pub down: u64,
    /// The path, with no query.
    pub path: String,
}

/// The requests that a log tells of from a place on, and the place after them.
///
/// # Panics
/// Where a line is not as [`FORMAT`] has it.
pub fn since(log: &Path, from: u64) -> (Vec<Answered>, u64) {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(log) {
        file.seek(SeekFrom::Start(from)).expect("a place in a file");
        file.read_to_string(&mut text).expect("read a log of ours");
    }
    // The last line may be half written.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text.truncate(whole);
    let read = |line: &str| -> Option<Answered> {
        let mut words = line.split(' ');
        Some(Answered {
            at: words.next()?.parse().ok()?,
            took: words.next()?.parse().ok()?,
            status: words.next()?.parse().ok()?,
            up: words.next()?.parse().ok()?,
            down: words.next()?.parse().ok()?,
            path: words.next()?.to_owned(),
        })
    };
    let all = text
        .lines()
        .map(|line| read(line).unwrap_or_else(|| panic!("not a line of our log: {line}")))
        .collect();
    (all, from + whole as u64)
}
