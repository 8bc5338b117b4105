//! The file `trust/allowed_signers` of a repository: OpenSSH's format behind two comments of our own.
//!
//! ```text
//! # Fleet: acme-gateways
//! # Serial: 7
//! alice@acme.example namespaces="git" ssh-ed25519 AAAA...
//! ```
//! Refuses what the local file would only skip: root signed the whole of it, and half a set is not what they signed.

use jiff::tz::TimeZone;

use super::super::allowed_signers::{AllowedSigners, AllowedSignersError, SkippedLine};

/// Where it stands in a repository.
pub const FILE: &str = "trust/allowed_signers";

/// The largest set taken: well over a thousand signers. Each device keeps some of them.
const MAX_SET: usize = 256 * 1024;

/// Why a file is no trust set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Too large.
    #[error("{FILE} has more than {MAX_SET} bytes")]
    TooLarge,
    /// Not text.
    #[error("{FILE} is not UTF-8")]
    NotText,
    /// One of the two comments that make it a trust set.
    #[error(
        "{FILE}{}: {why}; a trust set begins with `# Fleet: <fleet name>` and `# Serial: <number>`",
        .line.map(|line| format!(":{line}")).unwrap_or_default()
    )]
    Header {
        /// Counted from 1, where it is about one line.
        line: Option<usize>,
        /// Why.
        why: String,
    },
    /// A line that cannot be read.
    #[error("{0}; the whole set is refused for it")]
    Line(SkippedLine),
    /// No trust set at all.
    #[error(transparent)]
    Signers(#[from] AllowedSignersError),
}

/// A trust set as the repository carries it. Nothing here is trusted yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The fleet it is for.
    pub fleet: String,
    /// Rises from set to set; at least 1.
    pub serial: u64,
    /// Its lines. A time without `Z` is in UTC, so that it means the same on every device.
    pub signers: AllowedSigners,
    /// The file, as it was signed.
    pub content: String,
}

impl Document {
    /// Reads the file's bytes.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_SET {
            return Err(DocumentError::TooLarge);
        }
        let content = std::str::from_utf8(bytes).map_err(|_| DocumentError::NotText)?;
        let Headers { fleet, serial } = Headers::read(content)?;
        let name = format!("{FILE} (serial {serial})");
        let signers = AllowedSigners::parse(&name, bytes, &TimeZone::UTC)?;
        if let Some(line) = signers.skipped().first() {
            return Err(DocumentError::Line(line.clone()));
        }
        Ok(Self {
            fleet,
            serial,
            signers,
            content: content.to_owned(),
        })
    }
}

/// The two comments of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The fleet it is for.
    pub fleet: String,
    /// Rises from set to set; at least 1.
    pub serial: u64,
}

impl Headers {
    /// Reads them: each once in the whole file, before its first line that is neither a comment nor blank.
    ///
    /// # Errors
    /// [`DocumentError::Header`].
    pub fn read(content: &str) -> Result<Self, DocumentError> {
        let mut fleet = None;
        let mut serial = None;
        let mut in_head = true;
        for (index, line) in content.split('\n').enumerate() {
            let line = line.trim();
            let bad = |why: String| DocumentError::Header {
                line: Some(index + 1),
                why,
            };
            let Some((name, value)) = header(line) else {
                in_head &= line.is_empty() || line.starts_with('#');
                continue;
            };
            if !in_head {
                return Err(bad(format!("`# {name}:` stands behind the first signer")));
            }
            let twice = match name {
                FLEET if value.is_empty() => return Err(bad("the fleet has no name".to_owned())),
                FLEET => fleet.replace(value.to_owned()).is_some(),
                _ => {
                    let number = number(value).ok_or_else(|| {
                        bad(format!(
                            "`{}` is not a serial: a whole number from 1 on",
                            value.escape_debug()
                        ))
                    })?;
                    serial.replace(number).is_some()
                }
            };
            if twice {
                return Err(bad(format!("`# {name}:` is there twice")));
            }
        }
        let missing = |name: &str| DocumentError::Header {
            line: None,
            why: format!("it has no line `# {name}: ...`"),
        };
        Ok(Self {
            fleet: fleet.ok_or_else(|| missing(FLEET))?,
            serial: serial.ok_or_else(|| missing(SERIAL))?,
        })
    }
}

/// Whether it has any of the two comments.
#[must_use]
pub fn has_headers(content: &str) -> bool {
    content
        .split('\n')
        .any(|line| header(line.trim()).is_some())
}

/// The file with this fleet's name, and the serial after its own (0 where it has none) and after `used`, at its top; the
/// rest as it is.
///
/// # Errors
/// [`DocumentError::Header`] where its own serial cannot be read.
pub fn with_headers(content: &str, fleet: &str, used: u64) -> Result<String, DocumentError> {
    let has = |name| {
        content
            .split('\n')
            .any(|line| header(line.trim()).is_some_and(|(found, _)| found == name))
    };
    let before = match (has(FLEET), has(SERIAL)) {
        (true, true) => Headers::read(content)?.serial,
        (false, true) => Headers::read(&format!("# {FLEET}: {fleet}\n{content}"))?.serial,
        (_, false) => 0,
    };
    let serial = before
        .max(used)
        .checked_add(1)
        .ok_or_else(|| DocumentError::Header {
            line: None,
            why: "its serial is the highest there is".to_owned(),
        })?;
    let mut text = format!("# {FLEET}: {fleet}\n# {SERIAL}: {serial}\n");
    for line in content.split_inclusive('\n') {
        if header(line.trim()).is_none() {
            text.push_str(line);
        }
    }
    Ok(text)
}

/// The serial that a line says, where it is that comment.
#[must_use]
pub fn serial_of(line: &str) -> Option<u64> {
    let (name, value) = header(line.trim())?;
    number(value).filter(|_| name == SERIAL)
}

const FLEET: &str = "Fleet";
const SERIAL: &str = "Serial";

/// One of our comments: its name and its value.
fn header(line: &str) -> Option<(&'static str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once(':')?;
    let name = [FLEET, SERIAL]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name.trim()))?;
    Some((name, value.trim()))
}

/// One number has one spelling.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| digits)
}
