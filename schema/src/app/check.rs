//! `[[checks]]`: what "this app works" means beyond its containers' health.
//!
//! Each check asks one question. What is expected of the answer (`status`, `contains`, `max_age`) only goes with the question
//! that has such an answer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{keys, positive, unit};
use crate::diagnostic::Diagnostics;
use crate::document::{Place, Placed};
use crate::name::ServiceName;
use crate::node::{Node, Value};
use crate::path::AbsPath;
use crate::{decode, document};

/// What "this app works" means beyond its containers' health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is tried.
    pub probe: Probe,
    /// How long one try may take; 5 s where none is given.
    pub timeout: Duration,
    /// What is expected beyond an answer.
    #[serde(default, skip_serializing_if = "Expect::is_nothing")]
    pub expect: Expect,
}

/// One way of asking whether something works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// `tcp = "127.0.0.1:1883"`: a connection is accepted.
    Tcp(String),
    /// `http = "http://..."`: it answers, with a status of 200 to 399 or as [`Expect`] says.
    Http(String),
    /// `command = [...]` on the host, where the guard allows it: exit code 0.
    Command(Vec<String>),
    /// `command = [...]` with `service = "broker"`: the same in that service's container.
    Exec(ServiceName, Vec<String>),
    /// `unit = "chrony.service"`: systemd calls it active.
    Unit(String),
    /// `file = "/run/x"`: a file is there.
    File(AbsPath),
}

/// What is expected of an answer, or of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Expect {
    /// The statuses that are right, as ranges with both ends; none: 200 to 399.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<(u16, u16)>,
    /// What the body, or the file, has in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How long ago a file may have been written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

impl Expect {
    /// Whether nothing beyond an answer is expected.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this status is right.
    #[must_use]
    pub fn has_status(&self, status: u16) -> bool {
        match self.status.as_slice() {
            [] => (200..400).contains(&status),
            ranges => ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&status)),
        }
    }
}

/// How long one try of a check may take where nothing is said.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The keys that are a question.
const QUESTIONS: [&str; 5] = ["tcp", "http", "command", "unit", "file"];

pub(super) fn check(node: &Node, out: &mut Diagnostics) -> Option<Placed<Check>> {
    if !document::check_keys(node, keys::CHECK, "a check", out) {
        return None;
    }
    let timeout = decode::optional(node, "timeout", out, positive);
    let asked: Vec<(&str, &Node)> = QUESTIONS
        .into_iter()
        .filter_map(|kind| Some((kind, decode::field(node, kind)?)))
        .collect();
    let [(kind, value)] = asked.as_slice() else {
        node.error_with_help(
            out,
            "a check asks exactly one question",
            "write one of `tcp`, `http`, `command`, `unit` and `file`; more questions are more checks",
        );
        return None;
    };
    let expect = Expect {
        status: only(node, kind, &["http"], "status", out)
            .and_then(|node| decode::list_or_one(node, out, status))
            .unwrap_or_default(),
        contains: only(node, kind, &["http", "file"], "contains", out)
            .and_then(|node| decode::filled_text(node, out)),
        max_age: only(node, kind, &["file"], "max_age", out).and_then(|node| positive(node, out)),
    };
    let service = only(node, kind, &["command"], "service", out);
    let probe = match *kind {
        "tcp" => text(value, address, out).map(Probe::Tcp),
        "http" => text(value, url, out).map(Probe::Http),
        "unit" => decode::text(value, out)
            .and_then(|text| decode::report(value, unit(&text), out))
            .map(Probe::Unit),
        "file" => decode::parsed(value, out).map(Probe::File),
        _ => {
            let words = decode::list(value, out, decode::text).filter(|words| {
                let has_program = words.first().is_some_and(|word| !word.is_empty());
                if !has_program {
                    value.error(out, "a command needs a program");
                }
                has_program
            });
            match service {
                None => words.map(Probe::Command),
                Some(service) => decode::parsed(service, out)
                    .and_then(|service| Some(Probe::Exec(service, words?))),
            }
        }
    };
    Some(Placed {
        value: Check {
            probe: probe?,
            timeout: timeout.unwrap_or(DEFAULT_CHECK_TIMEOUT),
            expect,
        },
        place: Place::of(service.unwrap_or(node)),
    })
}

/// The value of a key that only goes with some questions.
fn only<'n>(
    node: &'n Node,
    kind: &str,
    with: &[&str],
    name: &str,
    out: &mut Diagnostics,
) -> Option<&'n Node> {
    let value = decode::field(node, name)?;
    if !with.contains(&kind) {
        value.error(
            out,
            format!(
                "`{name}` says nothing of `{kind}`: it goes with {}",
                decode::listed(with.iter().copied())
            ),
        );
        return None;
    }
    Some(value)
}

fn text(
    node: &Node,
    rule: impl FnOnce(&str) -> Result<(), String>,
    out: &mut Diagnostics,
) -> Option<String> {
    let text = decode::text(node, out)?;
    decode::report(node, rule(&text), out)?;
    Some(text)
}

/// `204` or `"200-299"`.
fn status(node: &Node, out: &mut Diagnostics) -> Option<(u16, u16)> {
    let read = match &node.value {
        Value::Integer(one) => u16::try_from(*one).ok().map(|one| (one, one)),
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            match (first.trim().parse(), last.trim().parse()) {
                (Ok(first), Ok(last)) => Some((first, last)),
                _ => None,
            }
        }
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
    };
    let read = read.filter(|(first, last)| *first >= 100 && first <= last && *last <= 599);
    if read.is_none() {
        node.error_with_help(
            out,
            format!("{} is not a status", decode::shown(node)),
            "write it like 204 or \"200-299\", or a list of such",
        );
    }
    read
}

/// `host:port`; an IPv6 address stands in brackets.
pub(super) fn address(text: &str) -> Result<(), String> {
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let good_host = match bracketed {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        good_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good {
        Ok(())
    } else {
        Err(format!(
            "`{}` is not an address: write it like `127.0.0.1:1883` or `[::1]:1883`",
            text.escape_debug()
        ))
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

pub(super) fn url(text: &str) -> Result<(), String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let good = rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let plain = match host.rsplit_once(':') {
            Some((_, _)) => address(host).is_ok(),
            None => is_host(host),
        };
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
        plain || bracketed
    }) && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if good {
        Ok(())
    } else {
        Err(format!(
            "`{}` is not a URL: write it like `http://127.0.0.1:8080/healthz`",
            text.escape_debug()
        ))
    }
}
