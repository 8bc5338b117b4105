//! `[agent]` in fleet.toml, a group or a device's document: which version of the agent a device runs, and where its binary is.
//!
//! Read in two ways. The strict one is part of reading its document, and tells every problem. The lenient one passes over
//! what it does not know, so that an agent which cannot read the rest of a repository still finds its successor there.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};
use crate::service::keys::{Key, Shape, key};
use crate::{decode, document};

/// The key that all three documents have.
pub(crate) const AGENT: Key = key(
    "agent",
    Shape::Table(KEYS),
    "The version of evenkeel itself, and its binaries; the whole section of a later document (group, device) wins",
);

/// The keys of `[agent]`.
pub(crate) const KEYS: &[Key] = &[
    key(
        "version",
        Shape::Pattern(VERSION),
        "What `evenkeel --version` of these binaries says, without the name",
    ),
    key(
        "binaries",
        Shape::Map(&Shape::Table(BINARY)),
        "The binary for each architecture: x86_64, aarch64, armv7, armv6, riscv64",
    ),
];

const BINARY: &[Key] = &[
    key(
        "url",
        Shape::Text,
        "Where it is: https, http or file; or a path below the first of the device's source.url",
    ),
    key(
        "path",
        Shape::Text,
        "Where it is in this repository, instead of `url`",
    ),
    key(
        "sha256",
        Shape::Pattern("^[0-9a-f]{64}$"),
        "Its SHA-256, in lower-case hexadecimal",
    ),
];

const VERSION: &str = "^[0-9][0-9A-Za-z.+_-]{0,63}$";

/// A version of the agent: it begins with a digit, and can be part of a file's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AgentVersion(String);

/// The SHA-256 of a binary, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha256(String);

/// Why a text is none of these. `Display` says what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentTextError(String);

impl fmt::Display for AgentTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AgentTextError {}

impl FromStr for AgentVersion {
    type Err = AgentTextError;

    fn from_str(text: &str) -> Result<Self, AgentTextError> {
        let good = text.len() <= 64
            && text.starts_with(|first: char| first.is_ascii_digit())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".+_-".contains(&byte));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(AgentTextError(format!(
                "`{}` is not a version of evenkeel: write it as `evenkeel --version` says it, such as 0.2.0",
                text.chars().take(64).collect::<String>().escape_debug()
            )))
        }
    }
}

impl FromStr for Sha256 {
    type Err = AgentTextError;

    fn from_str(text: &str) -> Result<Self, AgentTextError> {
        let good = text.len() == 64
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(AgentTextError(format!(
                "`{}` is not a SHA-256: 64 lower-case hexadecimal digits, as `sha256sum` prints them",
                text.chars().take(80).collect::<String>().escape_debug()
            )))
        }
    }
}

impl AgentVersion {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Sha256 {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a binary is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At an address; one without a scheme is below the device's own remote.
    Url(String),
    /// In the repository.
    Path(String),
}

/// One binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// Where it is.
    pub place: Place,
    /// What it must be.
    pub sha256: Sha256,
}

/// `[agent]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRelease {
    /// The version.
    pub version: AgentVersion,
    /// The binaries, by architecture.
    pub binaries: BTreeMap<String, Binary>,
}

/// Reads `[agent]`, and tells every problem.
pub(crate) fn strict(node: &Node, out: &mut Diagnostics) -> Option<AgentRelease> {
    document::check_keys(node, KEYS, "`[agent]`", out);
    if let Some(binaries) = decode::field(node, "binaries") {
        for entry in decode::entries(binaries, "`agent.binaries`", out).unwrap_or_default() {
            let what = format!("`[agent.binaries.{}]`", entry.key.escape_debug());
            document::check_keys(&entry.value, BINARY, &what, out);
        }
    }
    read(node, out)
}

/// Reads the `[agent]` of a whole document, as far as this version can. `Ok(None)`: there is none.
///
/// # Errors
/// The first thing that is wrong with what this version needs of it.
pub fn lenient(document: &Node) -> Result<Option<AgentRelease>, String> {
    let Some(node) = decode::field(document, "agent") else {
        return Ok(None);
    };
    let mut out = Diagnostics::new();
    match read(node, &mut out) {
        Some(release) => Ok(Some(release)),
        None => Err(out.sorted().first().map_or_else(
            || "`[agent]` cannot be read".to_owned(),
            ToString::to_string,
        )),
    }
}

fn read(node: &Node, out: &mut Diagnostics) -> Option<AgentRelease> {
    let version = decode::required(node, "version", "`[agent]`", out)
        .and_then(|node| decode::parsed(node, out));
    let binaries = decode::required(node, "binaries", "`[agent]`", out)?;
    let mut read = BTreeMap::new();
    for entry in decode::entries(binaries, "`agent.binaries`", out)? {
        if let Some(binary) = binary(&entry.key, &entry.value, out) {
            read.insert(entry.key.clone(), binary);
        }
    }
    if read.is_empty() && matches!(&binaries.value, Value::Table(entries) if entries.is_empty()) {
        binaries.error_with_help(
            out,
            "`[agent]` names no binary",
            "write `[agent.binaries.aarch64]` with `url` and `sha256`",
        );
        return None;
    }
    Some(AgentRelease {
        version: version?,
        binaries: read,
    })
}

fn binary(arch: &str, node: &Node, out: &mut Diagnostics) -> Option<Binary> {
    let what = format!("`[agent.binaries.{}]`", arch.escape_debug());
    let sha256 =
        decode::required(node, "sha256", &what, out).and_then(|node| decode::parsed(node, out));
    let url = decode::optional(node, "url", out, |node, out| {
        let url = decode::filled_text(node, out)?;
        let is_fit = match url.split_once("://") {
            Some((scheme, _)) => matches!(scheme, "https" | "http" | "file"),
            None => !url.starts_with('/') && !climbs(&url),
        };
        if !is_fit {
            node.error_with_help(
                out,
                format!("`{}` is no address of a binary", url.escape_debug()),
                "write https://, http:// or file:///; or a path below the repository's own address, without `..`",
            );
            return None;
        }
        Some(Place::Url(url))
    });
    let path = decode::optional(node, "path", out, |node, out| {
        let path = decode::filled_text(node, out)?;
        if path.starts_with('/') || climbs(&path) {
            node.error_with_help(
                out,
                format!("`{}` is no path in this repository", path.escape_debug()),
                "write it from the repository's top, without `..`",
            );
            return None;
        }
        Some(Place::Path(path))
    });
    let place = match (url, path) {
        (Some(place), None) | (None, Some(place)) => place,
        (Some(_), Some(_)) => {
            node.error_with_help(
                out,
                format!("{what} has both `url` and `path`"),
                "remove one",
            );
            return None;
        }
        (None, None) => {
            if node.get("url").is_none() && node.get("path").is_none() {
                node.error(out, format!("{what} needs `url` or `path`"));
            }
            return None;
        }
    };
    Some(Binary {
        place,
        sha256: sha256?,
    })
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;
    use crate::toml_document;

    const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn node(text: &str) -> Node {
        let mut out = Diagnostics::new();
        let node = toml_document::parse("fleet.toml", text.as_bytes(), &mut out).unwrap();
        assert!(out.sorted().is_empty());
        node
    }

    fn problems(text: &str) -> Vec<String> {
        let mut out = Diagnostics::new();
        strict(node(text).get("agent").unwrap(), &mut out);
        out.sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_version_and_its_binaries_are_read() {
        let text = format!(
            "[agent]\nversion = '0.2.0'\n[agent.binaries.aarch64]\nurl = 'https://a.example/x'\nsha256 = '{SUM}'\n\
             [agent.binaries.x86_64]\npath = 'agent/x'\nsha256 = '{SUM}'\n"
        );
        assert_eq!(problems(&text), Vec::<String>::new());
        let release = lenient(&node(&text)).unwrap().unwrap();
        assert_eq!(release.version.as_str(), "0.2.0");
        assert_eq!(
            release.binaries["x86_64"].place,
            Place::Path("agent/x".to_owned())
        );
        assert_eq!(
            release.binaries["aarch64"].place,
            Place::Url("https://a.example/x".to_owned())
        );
    }

    #[test]
    fn what_a_newer_version_may_say_is_passed_over_by_the_lenient_reader_alone() {
        let text = format!(
            "shiny = 1\n[agent]\nversion = '9.0'\nmood = 'good'\n[agent.binaries.x86_64]\nurl = 'http://a/x'\nsha256 = '{SUM}'\n\
             delta = true\n[agent.binaries.z80]\ntorrent = 'x'\n"
        );
        let release = lenient(&node(&text)).unwrap().unwrap();
        assert_eq!(release.binaries.len(), 1);
        assert_eq!(problems(&text).len(), 5, "{:?}", problems(&text));
    }

    #[test]
    fn nothing_declared_is_not_the_same_as_something_that_cannot_be_read() {
        assert_eq!(lenient(&node("format = 1\n")), Ok(None));
        for text in [
            "[agent]\n",
            "[agent]\nversion = 2\n[agent.binaries]\n",
            "agent = 'x'\n",
            "[agent]\nversion = '../x'\n[agent.binaries.x86_64]\n",
            "[agent]\nversion = 'v1'\n[agent.binaries.x86_64]\n",
        ] {
            let why = lenient(&node(text)).unwrap_err();
            assert!(why.starts_with("fleet.toml:"), "{text}: {why}");
        }
    }

    #[test]
    fn a_binary_without_a_sum_or_with_two_places_is_an_error_with_its_place() {
        for (binary, says) in [
            ("url = 'https://a/x'\n", "needs `sha256`"),
            ("url = 'https://a/x'\nsha256 = 'ABC'\n", "64 lower-case"),
            ("sha256 = '0'\n", "needs `url` or `path`"),
            ("url = 'ftp://a/x'\n", "no address"),
            ("url = 'a/../../x'\n", "no address"),
            ("path = '/x'\n", "no path"),
            ("url = 'https://a/x'\npath = 'x'\n", "both"),
        ] {
            let text = format!("[agent]\nversion = '1'\n[agent.binaries.x86_64]\n{binary}");
            let problems = problems(&text);
            assert!(
                problems.iter().any(|problem| problem.contains(says)),
                "{binary}: {problems:?}"
            );
        }
    }
}
