//! A commit object's bytes, read strictly.
//!
//! Owns the shape of a commit: `tree`, `parent`*, `author`, `committer`, `encoding`?, further headers, one signature
//! header, a blank line, the message. Refuses whatever git itself would not write there: what two programs can read in
//! two ways is how a signature comes to cover something else than what is used. Limits: [`MAX_COMMIT`], [`MAX_PARENTS`].

use std::ops::Range;

use sha2::Digest as _;

use crate::domain::commit::RawCommit;
use crate::domain::revision::{CommitId, Timestamp, TreeId};

/// The largest commit object taken. A long message with a merged signed tag has some kilobytes.
pub const MAX_COMMIT: usize = 1024 * 1024;

/// The most parents taken: each of them is a walk through history on the device.
pub const MAX_PARENTS: usize = 128;

/// Times from here on are not taken: 9999-12-31 in UTC. Past that year `ssh-keygen`, and so git, reads no date.
const END_OF_TIME: i64 = 253_402_214_400;

/// Why bytes are not a commit that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The bytes are not those of the id.
    #[error("the object's content does not have the id {id}: it hashes to {found}")]
    WrongId {
        /// The id it came under.
        id: CommitId,
        /// The hash of the bytes.
        found: String,
    },
    /// The bytes were made to collide.
    #[error("the object carries the marks of a SHA-1 collision attack")]
    Collision,
    /// Over a limit.
    #[error("the commit object has {found} {what}; at most {limit} are taken")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many are taken.
        limit: usize,
    },
    /// Not shaped as git writes commits.
    #[error("the commit object is malformed: {0}")]
    Malformed(&'static str),
    /// More than one signature, or one where none belongs.
    #[error("the commit object's signature header is {0}")]
    Signature(&'static str),
}

/// A commit object, taken apart. Nothing here is trusted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: TreeId,
    /// Its parents, the first first.
    pub parents: Vec<CommitId>,
    /// Its committer's time.
    pub time: Timestamp,
    /// The armored signature, unfolded; `None` where there is no signature header for this object format.
    pub signature: Option<Vec<u8>>,
    /// What the signature covers: the object without its signature header.
    pub payload: Vec<u8>,
    /// `Key: value` lines of the message's last paragraph, in their order.
    pub trailers: Vec<(String, String)>,
}

impl Commit {
    /// Takes a commit apart, after checking that its bytes are those of its id.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn parse(raw: &RawCommit) -> Result<Self, CommitError> {
        let bytes = raw.bytes.as_slice();
        limit("bytes", bytes.len(), MAX_COMMIT)?;
        check_id(&raw.id, bytes)?;
        if bytes.contains(&0) {
            return Err(CommitError::Malformed("it contains a NUL byte"));
        }
        let format = Format::of(&raw.id);
        let mut headers = Headers { bytes, at: 0 };

        let tree = headers.next()?.plain("tree")?;
        let tree: TreeId = format.id(tree).ok_or(CommitError::Malformed(
            "its first line is not `tree` and an id",
        ))?;
        let mut parents = Vec::new();
        let mut header = headers.next()?;
        while header.name == b"parent" {
            let id = format
                .id(header.plain("parent")?)
                .ok_or(CommitError::Malformed("a `parent` line has no proper id"))?;
            parents.push(id);
            limit("parents", parents.len(), MAX_PARENTS)?;
            header = headers.next()?;
        }
        signed_time(header.plain("author")?).ok_or(CommitError::Malformed(
            "its `author` line is not a name, an address and a time",
        ))?;
        // A zero is no time to git: it would judge such a commit at the present.
        let time = signed_time(headers.next()?.plain("committer")?)
            .filter(|time| time.0 > 0)
            .ok_or(CommitError::Malformed(
                "its `committer` line is not a name, an address and a time",
            ))?;

        let (signature, range) = rest_of_headers(&mut headers, format)?;
        let mut payload = bytes[..range.start].to_vec();
        payload.extend_from_slice(&bytes[range.end..]);
        Ok(Self {
            tree,
            parents,
            time,
            signature,
            payload,
            trailers: trailers(&bytes[headers.at..]),
        })
    }
}

/// The headers after `committer`: the signature and the bytes it occupies (empty where there is none).
fn rest_of_headers(
    headers: &mut Headers<'_>,
    format: Format,
) -> Result<(Option<Vec<u8>>, Range<usize>), CommitError> {
    let mut signature = None;
    let mut range = 0..0;
    let mut first = true;
    while !headers.at_blank_line()? {
        let start = headers.at;
        let header = headers.next()?;
        if header.name.starts_with(b"gpgsig") {
            // git leaves every header that begins with these letters out of what is signed.
            if signature.is_some() {
                return Err(CommitError::Signature("there more than once"));
            }
            if header.name != format.signature_header() {
                return Err(CommitError::Signature("not the one of this object format"));
            }
            signature = Some(header.unfolded());
            range = start..headers.at;
        } else if signature.is_some() {
            return Err(CommitError::Signature("not the last header"));
        } else {
            match header.name {
                b"tree" | b"parent" | b"author" | b"committer" => {
                    return Err(CommitError::Malformed("its headers are not in git's order"));
                }
                b"encoding" if !first => {
                    return Err(CommitError::Malformed("its headers are not in git's order"));
                }
                b"encoding" => {
                    header.plain("encoding")?;
                }
                // `mergetag`, and what jj and others add: inside the signed bytes, and of no meaning here.
                _ => {}
            }
        }
        first = false;
    }
    Ok((signature, range))
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), CommitError> {
    if found > limit {
        Err(CommitError::TooLarge { what, found, limit })
    } else {
        Ok(())
    }
}

fn check_id(id: &CommitId, bytes: &[u8]) -> Result<(), CommitError> {
    let header = format!("commit {}\0", bytes.len());
    let digest: Vec<u8> = match Format::of(id) {
        Format::Sha1 => {
            let mut hasher = sha1_checked::Sha1::new();
            hasher.update(header.as_bytes());
            hasher.update(bytes);
            let result = hasher.try_finalize();
            if result.has_collision() {
                return Err(CommitError::Collision);
            }
            result.hash().to_vec()
        }
        Format::Sha256 => sha2::Sha256::new_with_prefix(header)
            .chain_update(bytes)
            .finalize()
            .to_vec(),
    };
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if found == id.as_str() {
        Ok(())
    } else {
        Err(CommitError::WrongId {
            id: id.clone(),
            found,
        })
    }
}

/// git's object formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Sha1,
    Sha256,
}

impl Format {
    fn of(id: &CommitId) -> Self {
        if id.as_str().len() == 40 {
            Self::Sha1
        } else {
            Self::Sha256
        }
    }

    fn id<T: std::str::FromStr>(self, text: &[u8]) -> Option<T> {
        let digits = match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        };
        let text = std::str::from_utf8(text).ok()?;
        (text.len() == digits).then(|| text.parse().ok())?
    }

    const fn signature_header(self) -> &'static [u8] {
        match self {
            Self::Sha1 => b"gpgsig",
            Self::Sha256 => b"gpgsig-sha256",
        }
    }
}

/// One header: its name and its value, folded as it stands (continuation lines begin with a space).
struct Header<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Header<'a> {
    /// The value of a header that has this name and one line.
    fn plain(&self, name: &'static str) -> Result<&'a [u8], CommitError> {
        if self.name != name.as_bytes() {
            return Err(CommitError::Malformed("its headers are not in git's order"));
        }
        if self.value.contains(&b'\n') {
            return Err(CommitError::Malformed(
                "a header of one line goes on in a second one",
            ));
        }
        Ok(self.value)
    }

    /// The value with each line's folding space taken away and a newline at its end, as git hands it to a verifier.
    fn unfolded(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.value.len() + 1);
        for (number, line) in self.value.split(|byte| *byte == b'\n').enumerate() {
            out.extend_from_slice(if number == 0 { line } else { &line[1..] });
            out.push(b'\n');
        }
        out
    }
}

struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Headers<'a> {
    /// Whether the headers end here; then the blank line is consumed.
    fn at_blank_line(&mut self) -> Result<bool, CommitError> {
        match self.bytes.get(self.at) {
            Some(b'\n') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(CommitError::Malformed("no blank line ends its headers")),
        }
    }

    fn line_end(&self, from: usize) -> Result<usize, CommitError> {
        self.bytes[from..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|length| from + length)
            .ok_or(CommitError::Malformed("a header line does not end"))
    }

    fn next(&mut self) -> Result<Header<'a>, CommitError> {
        let start = self.at;
        let mut end = self.line_end(start)?;
        while self.bytes.get(end + 1) == Some(&b' ') {
            end = self.line_end(end + 1)?;
        }
        self.at = end + 1;
        let line = &self.bytes[start..end];
        let space = line
            .iter()
            .position(|byte| !matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b':' | b'_' | b'.'))
            .filter(|at| *at > 0 && line[*at] == b' ')
            .ok_or(CommitError::Malformed("a header line is not a name, a space and a value"))?;
        Ok(Header {
            name: &line[..space],
            value: &line[space + 1..],
        })
    }
}

/// The time in `Name <address> 1700000000 +0100`.
fn signed_time(line: &[u8]) -> Option<Timestamp> {
    let open = line.iter().position(|byte| *byte == b'<')?;
    let close = line.iter().position(|byte| *byte == b'>')?;
    let single = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count() == 1;
    if close < open || !single(b'<') || !single(b'>') || (open > 0 && line[open - 1] != b' ') {
        return None;
    }
    let rest = std::str::from_utf8(&line[close + 1..]).ok()?;
    let (seconds, zone) = rest.strip_prefix(' ')?.split_once(' ')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let zone_digits = zone.strip_prefix(['+', '-'])?;
    let one_spelling = seconds == "0" || !seconds.starts_with('0');
    if !digits(seconds) || !one_spelling || !digits(zone_digits) || zone_digits.len() != 4 {
        return None;
    }
    let seconds = seconds.parse().ok().filter(|at| *at < END_OF_TIME)?;
    Some(Timestamp(seconds))
}

/// The trailers of a message: its last paragraph, where that is not its first and every line of it is a trailer, the
/// continuation of one, or git's own `(cherry picked from commit ...)`. Fewer than git-interpret-trailers(1) finds, so
/// that no prose is taken for a trailer.
fn trailers(message: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(message);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    let Some(blank) = lines.iter().rposition(|line| line.trim().is_empty()) else {
        return Vec::new();
    };
    if lines[..blank].iter().all(|line| line.trim().is_empty()) {
        return Vec::new();
    }
    let mut found: Vec<(String, String)> = Vec::new();
    for line in &lines[blank + 1..] {
        if line.starts_with("(cherry picked from commit ") && line.ends_with(')') {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let Some((_, value)) = found.last_mut() else {
                return Vec::new();
            };
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let key = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match line
            .split_once(':')
            .map(|(name, value)| (name.trim_end(), value))
        {
            Some((name, value)) if key(&name) => {
                found.push((name.to_owned(), value.trim().to_owned()))
            }
            Some(_) | None => return Vec::new(),
        }
    }
    found
}

#[cfg(test)]
#[path = "commit/tests.rs"]
mod tests;
