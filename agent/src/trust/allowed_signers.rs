//! allowed_signers, as ssh-keygen(1) ALLOWED SIGNERS defines the file.
//!
//! `principals [options] key-type base64 [comment]`, one signer a line. A line that cannot be read is skipped and
//! reported by file and line, and the others go on; a file without any usable line is an error. A `cert-authority` line
//! admits certificates that its key signed, for those of their principals that it names; that key itself signs nothing.
//! An option of our own: `no-touch-required` takes a security key's signatures that were made without a touch.

mod options;

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::certificate::Certificate;
use super::key::{Key, KeyError};
use super::pattern;
use super::sshsig::{ArmoredSignature, Touch};
use crate::domain::revision::Timestamp;
use options::Options;

/// The largest file taken: some thousand signers.
const MAX_FILE: usize = 1024 * 1024;

/// Why a file gives no trust set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllowedSignersError {
    /// Too large.
    #[error("{file} has more than {MAX_FILE} bytes")]
    TooLarge {
        /// The file's name.
        file: String,
    },
    /// No line names a signer.
    #[error("{file} names no signer that can be used{}", listed(.skipped))]
    Empty {
        /// The file's name.
        file: String,
        /// The lines that were skipped.
        skipped: Vec<SkippedLine>,
    },
}

fn listed(skipped: &[SkippedLine]) -> String {
    skipped.iter().map(|line| format!("; {line}")).collect()
}

/// A line that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedLine {
    /// The file's name.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for SkippedLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.why)
    }
}

/// Who a line's key speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// For its principals.
    Signer,
    /// For nobody: it only certifies others' keys.
    CertAuthority,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerLine {
    /// The name of the file it is from.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
    /// Names and patterns of names.
    pub principals: Vec<String>,
    /// Signer or certificate authority.
    pub role: Role,
    /// Patterns of namespaces; `None`: any.
    pub namespaces: Option<Vec<String>>,
    /// Signatures count from here on.
    pub valid_after: Option<Timestamp>,
    /// Signatures count up to here, this second included.
    pub valid_before: Option<Timestamp>,
    /// Whether a security key must have been touched.
    pub touch: Touch,
    /// The key.
    pub key: Key,
}

impl SignerLine {
    /// Where it stands: `/etc/evenkeel/allowed_signers:3`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// Whether this key may sign in that namespace.
    #[must_use]
    pub fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|patterns| {
            pattern::matches_list(namespace, patterns.iter().map(String::as_str))
        })
    }

    fn speaks_for(&self, name: &str) -> bool {
        pattern::matches_list(name, self.principals.iter().map(String::as_str))
    }

    /// The first of its names that the line as a whole lets it speak for, as `ssh-keygen -Y find-principals` and
    /// `-Y verify` agree on one. `None`: the line takes away all it gives.
    #[must_use]
    pub fn principal(&self) -> Option<&str> {
        self.principals
            .iter()
            .map(String::as_str)
            .find(|name| !name.starts_with('!') && self.speaks_for(name))
    }

    /// Whether one of its plain names (or the very same pattern) is among `signers`. A line of a pattern alone is not meant
    /// by a name that it happens to match.
    #[must_use]
    pub fn names_one_of(&self, signers: &[String]) -> bool {
        self.principals.iter().any(|name| {
            if pattern::is_pattern(name) {
                signers.contains(name)
            } else {
                pattern::matches_list(name, signers.iter().map(String::as_str))
            }
        })
    }

    /// The first of a certificate's principals that its authority, on this line, may certify. The certificate's names are
    /// names, whatever is in them; the line's are patterns.
    #[must_use]
    pub fn certified<'a>(&self, certificate: &'a Certificate) -> Option<&'a str> {
        certificate
            .principals()
            .iter()
            .map(String::as_str)
            .find(|name| self.speaks_for(name))
    }

    /// The first of them that `signers` (patterns) has too.
    #[must_use]
    pub fn certified_among<'a>(
        &self,
        certificate: &'a Certificate,
        signers: &[String],
    ) -> Option<&'a str> {
        certificate
            .principals()
            .iter()
            .map(String::as_str)
            .find(|name| {
                self.speaks_for(name)
                    && pattern::matches_list(name, signers.iter().map(String::as_str))
            })
    }

    /// As whom this key may sign where only `signers` (patterns) may. A line that gives a pattern speaks for a plain
    /// name in `signers` that it matches, and for the very same pattern; not for other patterns, which it might exceed.
    #[must_use]
    pub fn principal_among<'a>(&'a self, signers: &'a [String]) -> Option<&'a str> {
        let admitted = |name: &str| pattern::matches_list(name, signers.iter().map(String::as_str));
        let negates = signers.iter().any(|signer| signer.starts_with('!'));
        let own = self.principals.iter().find(|name| {
            if pattern::is_pattern(name) {
                !negates && signers.contains(name)
            } else {
                admitted(name)
            }
        });
        let covered = signers
            .iter()
            .filter(|name| !pattern::is_pattern(name) && admitted(name));
        own.into_iter()
            .chain(covered)
            .map(String::as_str)
            .find(|name| !name.starts_with('!') && self.speaks_for(name))
    }

    /// Whether it speaks for nobody but `signers` (patterns). One that gives a pattern does where they have the very same.
    #[must_use]
    pub fn speaks_only_for(&self, signers: &[String]) -> bool {
        let mut given = self.principals.iter().filter(|name| !name.starts_with('!'));
        given.all(|name| {
            if pattern::is_pattern(name) {
                signers.contains(name)
            } else {
                pattern::matches_list(name, signers.iter().map(String::as_str))
            }
        })
    }
}

/// A trust set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedSigners {
    file: String,
    lines: Vec<SignerLine>,
    skipped: Vec<SkippedLine>,
}

impl AllowedSigners {
    /// Reads a file's bytes. `file` names it in diagnostics; `zone` is what times without `Z` are in.
    ///
    /// # Errors
    /// See [`AllowedSignersError`].
    pub fn parse(file: &str, bytes: &[u8], zone: &TimeZone) -> Result<Self, AllowedSignersError> {
        if bytes.len() > MAX_FILE {
            return Err(AllowedSignersError::TooLarge {
                file: file.to_owned(),
            });
        }
        let name: Arc<str> = Arc::from(file);
        let mut lines = Vec::new();
        let mut skipped = Vec::new();
        for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let number = index + 1;
            let parsed = match std::str::from_utf8(bytes) {
                Ok(text) => parse_line(&name, number, text, zone),
                Err(_) => Err("it is not UTF-8".to_owned()),
            };
            match parsed {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => {}
                Err(why) => skipped.push(SkippedLine {
                    file: file.to_owned(),
                    line: number,
                    why,
                }),
            }
        }
        if lines
            .iter()
            .any(|line| line.role == Role::CertAuthority || line.principal().is_some())
        {
            Ok(Self {
                file: file.to_owned(),
                lines,
                skipped,
            })
        } else {
            Err(AllowedSignersError::Empty {
                file: file.to_owned(),
                skipped,
            })
        }
    }

    /// A trust set that trusts nobody: what is left of a file that was usable once.
    #[must_use]
    pub fn nobody(file: &str, skipped: Vec<SkippedLine>) -> Self {
        Self {
            file: file.to_owned(),
            lines: Vec::new(),
            skipped,
        }
    }

    /// A trust set of two files: the lines of `self` that `stay`, and all of `other`. Where neither leaves one, it trusts
    /// nobody.
    #[must_use]
    pub fn replaced_by(&self, other: &Self, stay: impl Fn(&SignerLine) -> bool) -> Self {
        let kept = self.lines.iter().filter(|line| stay(line)).cloned();
        let skipped = self.skipped.iter().chain(&other.skipped);
        Self {
            file: format!("{} and {}", other.file, self.file),
            lines: kept.chain(other.lines.iter().cloned()).collect(),
            skipped: skipped.cloned().collect(),
        }
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Every line that was read, certificate authorities included.
    #[must_use]
    pub fn lines(&self) -> &[SignerLine] {
        &self.lines
    }

    /// The lines that were not.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedLine] {
        &self.skipped
    }

    /// The lines on which this key speaks for somebody.
    pub fn lines_of<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a SignerLine> {
        self.lines.iter().filter(move |line| {
            line.role == Role::Signer && line.key == *key && line.principal().is_some()
        })
    }

    /// Whether a signature's key, or the certificate it came in, may speak as one of these. The signature is not judged
    /// by this, nor the certificate.
    #[must_use]
    pub fn may_speak_as(&self, signature: &ArmoredSignature, signers: &[String]) -> bool {
        self.lines_of(signature.key())
            .any(|line| line.names_one_of(signers))
            || signature.certificate().is_some_and(|certificate| {
                self.lines_certifying(certificate.authority())
                    .any(|line| line.certified_among(certificate, signers).is_some())
            })
    }

    /// The lines on which this key certifies others.
    pub fn lines_certifying<'a>(
        &'a self,
        authority: &'a Key,
    ) -> impl Iterator<Item = &'a SignerLine> {
        self.lines
            .iter()
            .filter(move |line| line.role == Role::CertAuthority && line.key == *authority)
    }
}

/// One line; `None` where it is blank or a comment.
fn parse_line(
    file: &Arc<str>,
    number: usize,
    text: &str,
    zone: &TimeZone,
) -> Result<Option<SignerLine>, String> {
    // A file edited on Windows ends its lines with a carriage return.
    let text = text
        .strip_suffix('\r')
        .unwrap_or(text)
        .trim_start_matches(BLANKS);
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err("it contains a control character".to_owned());
    }
    let (names, rest) = split_principals(text)?;
    let principals: Vec<String> = names.split(',').map(str::to_owned).collect();
    if principals.iter().any(|name| name.is_empty() || name == "!") {
        return Err("its list of principals has an empty entry".to_owned());
    }
    let (options, rest) = if begins_with_key_type(rest) {
        (Options::default(), rest)
    } else {
        let (options, rest) = split_options(rest)?;
        (Options::parse(options, zone)?, rest)
    };
    Ok(Some(SignerLine {
        file: Arc::clone(file),
        line: number,
        principals,
        role: options.role.unwrap_or(Role::Signer),
        namespaces: options.namespaces,
        valid_after: options.valid_after,
        valid_before: options.valid_before,
        touch: options.touch.unwrap_or(Touch::Required),
        key: read_key(rest)?,
    }))
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The first column, which may stand in double quotes as a whole, and the rest.
fn split_principals(text: &str) -> Result<(&str, &str), String> {
    let (names, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .filter(|(_, rest)| rest.starts_with(BLANKS))
            .ok_or("the quotes around its principals are not closed before the next column")?,
        None => text
            .split_once(BLANKS)
            .ok_or("it has principals and no key")?,
    };
    if names.contains('"') {
        return Err("a quote inside its principals".to_owned());
    }
    Ok((names, rest.trim_start_matches(BLANKS)))
}

fn begins_with_key_type(text: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-", "webauthn-"]
        .iter()
        .any(|prefix| text.starts_with(prefix))
}

/// The options column, which ends at the first blank outside quotes, and the rest.
fn split_options(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                return Ok((&text[..at], text[at..].trim_start_matches(BLANKS)));
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    Err(if quoted {
        "a quote in its options is not closed".to_owned()
    } else {
        "it has no key".to_owned()
    })
}

fn read_key(text: &str) -> Result<Key, String> {
    let mut columns = text.split(BLANKS).filter(|column| !column.is_empty());
    match (columns.next(), columns.next()) {
        (Some(key_type), Some(base64)) => {
            Key::from_columns(key_type, base64).map_err(|error| match &error {
                KeyError::Malformed(_) | KeyError::Unsupported(_) => error.to_string(),
                KeyError::Certificate(_) => {
                    format!("{error}: that of its authority, with the option cert-authority")
                }
            })
        }
        (Some(_), None) | (None, _) => Err("it has no key".to_owned()),
    }
}

#[cfg(test)]
#[path = "allowed_signers/tests.rs"]
mod tests;
