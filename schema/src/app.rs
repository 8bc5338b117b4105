//! `apps/<app>/app.toml`: files, services, checks and the gate of one application.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostics;
use crate::document::{Place, Placed};
use crate::name::{AppName, ServiceName};
use crate::node::{Node, Value};
use crate::path::{AbsPath, RepoPath};
use crate::{decode, document};

mod check;
mod hooks;
mod keys;

pub use check::{Check, DEFAULT_CHECK_TIMEOUT, Expect, Probe};
pub use hooks::{Hook, HookEntry, Moment};
pub use keys::{CHECK, FILE, GATE, HOOKS, KEYS};

/// What a changed file makes happen. Written `restart:service:broker`, `signal:HUP:service:broker`,
/// `restart:unit:chrony.service`, `reload:unit:chrony.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OnChange {
    /// Restarts a service of the same app.
    RestartService(ServiceName),
    /// Sends a signal (`HUP`) to a service of the same app.
    SignalService {
        /// The signal without `SIG`, in capitals.
        signal: String,
        /// To which service.
        service: ServiceName,
    },
    /// Restarts a systemd unit.
    RestartUnit(String),
    /// Reloads a systemd unit.
    ReloadUnit(String),
}

/// What happens to a file that is no longer declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum OnRemove {
    /// It is deleted (the default).
    #[default]
    Delete,
    /// What stood there before the first write comes back; deleted where nothing did.
    Restore,
    /// It stays as it is.
    Keep,
}

/// When an app counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Not healthy by then: the device goes back to last-good.
    pub deadline: Duration,
    /// Healthy for this long without a break before it is called good.
    pub soak: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(120),
            soak: Duration::from_secs(10),
        }
    }
}

impl FromStr for OnChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not something a change can do: write `restart:service:NAME`, `signal:HUP:service:NAME`, `restart:unit:NAME.service` or `reload:unit:NAME.service`",
                text.escape_debug()
            )
        };
        let service = |name: &str| {
            name.parse::<ServiceName>()
                .map_err(|error| error.to_string())
        };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            ["restart", "service", name] => Ok(Self::RestartService(service(name)?)),
            ["signal", name, "service", to] => Ok(Self::SignalService {
                signal: signal(name)?,
                service: service(to)?,
            }),
            // A unit's name may have colons in it.
            ["restart", "unit", name @ ..] => unit(&name.join(":")).map(Self::RestartUnit),
            ["reload", "unit", name @ ..] => unit(&name.join(":")).map(Self::ReloadUnit),
            _ => Err(wrong()),
        }
    }
}

/// Signals that a process can be sent by name, without `SIG`.
const SIGNALS: [&str; 19] = [
    "ABRT", "ALRM", "CHLD", "CONT", "HUP", "INT", "IO", "KILL", "PIPE", "PROF", "PWR", "QUIT",
    "STOP", "TERM", "TSTP", "URG", "USR1", "USR2", "WINCH",
];

fn signal(text: &str) -> Result<String, String> {
    let plain = text.strip_prefix("SIG").unwrap_or(text);
    if SIGNALS.contains(&plain) {
        Ok(plain.to_owned())
    } else {
        Err(format!(
            "`{}` is not a signal: write it like `HUP` or `USR1`",
            text.escape_debug()
        ))
    }
}

/// The kinds of systemd units that can be restarted, reloaded or asked for.
const UNIT_KINDS: [&str; 7] = [
    "service",
    "socket",
    "timer",
    "target",
    "path",
    "mount",
    "automount",
];

/// Checks a systemd unit's name, by the rule of systemd.unit(5).
fn unit(text: &str) -> Result<String, String> {
    let good = text.len() <= 255
        && !text.starts_with(['-', '.'])
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@'))
        && text
            .rsplit_once('.')
            .is_some_and(|(name, kind)| !name.is_empty() && UNIT_KINDS.contains(&kind));
    if good {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{}` is not a unit's name: write it whole, like `chrony.service`",
            text.escape_debug()
        ))
    }
}

/// An app's document after its strings were rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Files in the document's order.
    pub files: Vec<FileEntry>,
    /// `[services]`, undecoded: their place is needed again when references are judged.
    pub services: Option<Node>,
    /// `[networks]`, undecoded.
    pub networks: Option<Node>,
    /// `[volumes]`, undecoded.
    pub volumes: Option<Node>,
    /// `[configs]`, undecoded.
    pub configs: Option<Node>,
    /// `[secrets]`, undecoded.
    pub secrets: Option<Node>,
    /// Checks in the document's order.
    pub checks: Vec<Placed<Check>>,
    /// The gate.
    pub gate: Gate,
    /// While something is at this path of the device, the app is not to be disturbed.
    pub lock: Option<AbsPath>,
    /// A lock that is held for longer is reported.
    pub max_hold: Option<Duration>,
    /// Apps that come first.
    pub requires: Vec<Placed<AppName>>,
    /// What runs around a change.
    pub hooks: Vec<HookEntry>,
}

/// One `[[files]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FileEntry {
    /// Where on the device.
    pub path: Placed<AbsPath>,
    /// What is in it.
    pub source: FileSource,
    /// Permission bits.
    pub mode: u32,
    /// Owner, by name or number.
    pub owner: String,
    /// Group, by name or number.
    pub group: String,
    /// What its change makes happen.
    pub on_change: Vec<Placed<OnChange>>,
    /// What happens when it is no longer declared.
    pub on_remove: OnRemove,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// This text.
    Content(String),
    /// A file of the app's folder, as it is.
    Plain(Placed<RepoPath>),
    /// A file of the app's folder, rendered.
    Template(Placed<RepoPath>),
}

/// Reads app.toml from its tree, whose strings are rendered by now.
pub fn decode(node: &Node, out: &mut Diagnostics) -> App {
    document::check_keys(node, KEYS, "app.toml", out);
    let files = decode::optional(node, "files", out, |node, out| {
        decode::list(node, out, file)
    });
    let checks = decode::optional(node, "checks", out, |node, out| {
        decode::list(node, out, check::check)
    });
    let gate = decode::optional(node, "gate", out, gate);
    let lock = decode::optional(node, "lock", out, decode::parsed);
    let max_hold = decode::optional(node, "max_hold", out, positive);
    let requires = decode::optional(node, "requires", out, |node, out| {
        decode::list(node, out, |item, out| {
            Some(Placed {
                value: decode::parsed::<AppName>(item, out)?,
                place: Place::of(item),
            })
        })
    });
    let hooks = decode::optional(node, "hooks", out, hooks::decode);
    let table = |name: &str| decode::field(node, name).cloned();
    App {
        files: files.unwrap_or_default(),
        services: table("services"),
        networks: table("networks"),
        volumes: table("volumes"),
        configs: table("configs"),
        secrets: table("secrets"),
        checks: checks.unwrap_or_default(),
        gate: gate.unwrap_or_default(),
        lock,
        max_hold,
        requires: requires.unwrap_or_default(),
        hooks: hooks.unwrap_or_default(),
    }
}

fn file(node: &Node, out: &mut Diagnostics) -> Option<FileEntry> {
    if !document::check_keys(node, FILE, "a file", out) {
        return None;
    }
    let path = decode::required(node, "path", "a file", out).and_then(|node| {
        Some(Placed {
            value: decode::parsed::<AbsPath>(node, out)?,
            place: Place::of(node),
        })
    });
    let template = decode::optional(node, "template", out, decode::boolean).unwrap_or_default();
    let source = match (
        decode::field(node, "source"),
        decode::field(node, "content"),
    ) {
        (Some(_), Some(content)) => {
            content.error_with_help(
                out,
                "a file has `source` or `content`, not both",
                "remove one of them",
            );
            None
        }
        (None, None) => {
            node.error_with_help(
                out,
                "a file needs `source` or `content`",
                "write `source = \"name\"` for a file in this folder, or its `content` itself",
            );
            None
        }
        (None, Some(content)) => decode::text(content, out).map(FileSource::Content),
        (Some(source), None) => decode::parsed::<RepoPath>(source, out).map(|value| {
            let placed = Placed {
                value,
                place: Place::of(source),
            };
            if template {
                FileSource::Template(placed)
            } else {
                FileSource::Plain(placed)
            }
        }),
    };
    let mode = decode::optional(node, "mode", out, mode);
    let owner = decode::optional(node, "owner", out, account);
    let group = decode::optional(node, "group", out, account);
    let on_change = decode::optional(node, "on_change", out, |node, out| {
        decode::list(node, out, |item, out| {
            Some(Placed {
                value: decode::parsed::<OnChange>(item, out)?,
                place: Place::of(item),
            })
        })
    });
    let on_remove = decode::optional(node, "on_remove", out, |node, out| {
        decode::one_of(
            node,
            &[
                ("delete", OnRemove::Delete),
                ("restore", OnRemove::Restore),
                ("keep", OnRemove::Keep),
            ],
            out,
        )
    });
    Some(FileEntry {
        path: path?,
        source: source?,
        mode: mode.unwrap_or(0o644),
        owner: owner.unwrap_or_else(|| "root".to_owned()),
        group: group.unwrap_or_else(|| "root".to_owned()),
        on_change: on_change.unwrap_or_default(),
        on_remove: on_remove.unwrap_or_default(),
    })
}

fn mode(node: &Node, out: &mut Diagnostics) -> Option<u32> {
    let help = "write it in base 8 and as text: \"0640\"";
    let Value::String(text) = &node.value else {
        node.error_with_help(out, format!("{} is not a mode", decode::shown(node)), help);
        return None;
    };
    let digits = text.trim();
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    let bits = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten()
        .filter(|bits| *bits <= 0o7777);
    if bits.is_none() {
        node.error_with_help(
            out,
            format!("`{}` is not a mode", text.escape_debug()),
            help,
        );
    }
    bits
}

/// A user's or group's name or number. The names are those that useradd(8) takes, and a little more.
fn account(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = match &node.value {
        Value::Integer(number) => number.to_string(),
        Value::Null
        | Value::Bool(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::List(_)
        | Value::Table(_) => decode::text(node, out)?,
    };
    let number = text.bytes().all(|byte| byte.is_ascii_digit());
    let good = if number {
        // The last number means "no change" to the kernel.
        text.parse::<u32>().is_ok_and(|id| id != u32::MAX)
    } else {
        text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$'))
    };
    if !good {
        node.error(
            out,
            format!(
                "`{}` is not the name or number of a user or group",
                text.escape_debug()
            ),
        );
    }
    // `007` and `7` are the same account, and must be the same declaration.
    good.then(|| match (number, text.parse::<u32>()) {
        (true, Ok(id)) => id.to_string(),
        (true | false, Ok(_) | Err(_)) => text,
    })
}

fn positive(node: &Node, out: &mut Diagnostics) -> Option<Duration> {
    let duration = decode::duration(node, out)?;
    if duration.is_zero() {
        node.error(out, "this must be longer than zero");
        return None;
    }
    Some(duration)
}

fn gate(node: &Node, out: &mut Diagnostics) -> Option<Gate> {
    if !document::check_keys(node, GATE, "`[gate]`", out) {
        return None;
    }
    let standard = Gate::default();
    let deadline = decode::optional(node, "deadline", out, positive);
    let soak = decode::optional(node, "soak", out, decode::duration);
    Some(Gate {
        deadline: deadline.unwrap_or(standard.deadline),
        soak: soak.unwrap_or(standard.soak),
    })
}

#[cfg(test)]
mod tests;
