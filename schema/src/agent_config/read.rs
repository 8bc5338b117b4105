//! Reading agent.toml.
//!
//! Refuses what this version cannot do: an owner's limit that is silently not kept is worse than an agent that does
//! not start. Keys whose value says what this version does anyway are taken.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::keys::{
    AGENT, BRANCH, DEVICE, ENGINE, GUARD, HEARTBEAT, KEYS, REMOTE, REPORT, ROOT, SOURCE, TRUST,
};
use super::metered;
use super::window::window;
use super::{
    AgentConfig, DEFAULT_CONFIRM, DeviceSection, EngineRestart, EngineSection, FileAt, FloorPolicy,
    GuardSection, Managed, OnUnsigned, ReportSection, RootSection, SourceSection, StalePolicy,
    TrustSection, Verify,
};
use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};
use crate::{decode, document, toml_document};

/// Time between polls where nothing is said.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
/// A shorter interval is a slip: it would hammer the remote.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Each report is also a write on the device itself.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(60);

/// Reads agent.toml.
///
/// # Errors
/// Every problem at once.
pub fn parse(file: &str, bytes: &[u8]) -> Result<AgentConfig, Diagnostics> {
    let mut out = Diagnostics::new();
    let config =
        toml_document::parse(file, bytes, &mut out).and_then(|node| config(&node, &mut out));
    match config {
        Some(config) => out.into_result(config),
        None => Err(out),
    }
}

fn config(node: &Node, out: &mut Diagnostics) -> Option<AgentConfig> {
    document::check_keys(node, KEYS, "agent.toml", out);
    let source = match decode::field(node, "source") {
        Some(source_node) => source(source_node, out),
        None => {
            node.error_with_help(
                out,
                "agent.toml needs `[source]`",
                "write `url` and `branch` under `[source]`",
            );
            None
        }
    };
    let trust = match decode::field(node, "trust") {
        Some(trust_node) => trust(trust_node, out),
        None => Some(TrustSection::default()),
    };
    let device = decode::optional(node, "device", out, |node, out| {
        document::check_keys(node, DEVICE, "`[device]`", out);
        Some(DeviceSection {
            id: decode::optional(node, "id", out, decode::parsed),
            labels: decode::field(node, "labels")
                .map(|node| document::labels(node, out))
                .unwrap_or_default(),
        })
    });
    let guard = decode::optional(node, "guard", out, guard);
    let engine = decode::optional(node, "engine", out, engine);
    let window = decode::optional(node, "window", out, window);
    let managed = decode::optional(node, "agent", out, |node, out| {
        document::check_keys(node, AGENT, "`[agent]`", out);
        decode::optional(node, "managed", out, |node, out| {
            let words = [
                ("repository", Managed::Repository),
                ("package", Managed::Package),
            ];
            decode::one_of(node, &words, out)
        })
    });
    let report = decode::optional(node, "report", out, report);
    let metered = decode::optional(node, "metered", out, metered::parse);
    let state_dir = decode::optional(node, "state_dir", out, path);
    let root = decode::optional(node, "root", out, path);
    Some(AgentConfig {
        state_dir: state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/evenkeel")),
        root: root.unwrap_or_else(|| PathBuf::from("/")),
        device: device.unwrap_or_default(),
        source: source?,
        trust: trust?,
        guard: guard.unwrap_or_default(),
        engine: engine.unwrap_or_else(|| EngineSection {
            socket: "auto".to_owned(),
            auth_file: None,
            restart: EngineRestart::Auto,
        }),
        window: window.unwrap_or_default(),
        managed: managed.unwrap_or_default(),
        report: report.unwrap_or_default(),
        metered: metered.unwrap_or_default(),
    })
}

fn report(node: &Node, out: &mut Diagnostics) -> Option<ReportSection> {
    document::check_keys(node, REPORT, "`[report]`", out);
    let every = decode::optional(node, "every", out, |node, out| {
        let every = decode::duration(node, out)?;
        if every < SHORTEST_HEARTBEAT {
            node.error(
                out,
                "a report where nothing changed is worth a write at most once a minute: `1m` or more",
            );
            return None;
        }
        Some(every)
    });
    Some(ReportSection {
        dir: decode::optional(node, "dir", out, path),
        every: every.unwrap_or(ReportSection::default().every),
    })
}

/// A path as it is written; relative ones count from where the agent runs.
fn path(node: &Node, out: &mut Diagnostics) -> Option<PathBuf> {
    let text = decode::filled_text(node, out)?;
    if text.contains('\0') {
        node.error(out, "a path has no NUL in it");
        return None;
    }
    Some(PathBuf::from(text))
}

/// A path, or a credential of the service.
fn file_at(node: &Node, out: &mut Diagnostics) -> Option<FileAt> {
    let text = path(node, out)?;
    match FileAt::parse(text.to_str()?) {
        Ok(file) => Some(file),
        Err(error) => {
            node.error_with_help(
                out,
                error.to_string(),
                "write `credential:` and the name that LoadCredential= gives it",
            );
            None
        }
    }
}

fn source(node: &Node, out: &mut Diagnostics) -> Option<SourceSection<FileAt>> {
    document::check_keys(node, SOURCE, "`[source]`", out);
    let mut tokens = BTreeMap::new();
    let urls = decode::required(node, "url", "`[source]`", out).and_then(|node| {
        let urls = decode::list_or_one(node, out, |node, out| remote(node, &mut tokens, out))?;
        if urls.is_empty() {
            node.error(out, "`url` names no remote");
            return None;
        }
        for (at, url) in urls.iter().enumerate() {
            if urls[..at].contains(url) {
                let shown = without_password(url);
                node.error(
                    out,
                    format!("`{}` stands in `url` twice", shown.escape_debug()),
                );
                return None;
            }
        }
        Some(urls)
    });
    let branch =
        decode::required(node, "branch", "`[source]`", out).and_then(|node| branch(node, out));
    let interval = decode::optional(node, "interval", out, |node, out| {
        let interval = decode::duration(node, out)?;
        if interval < SHORTEST_INTERVAL {
            node.error(out, "the interval must be at least `1s`");
            return None;
        }
        Some(interval)
    });
    let confirm = decode::optional(node, "confirm", out, decode::duration);
    let mut file = |name| decode::optional(node, name, out, file_at);
    let section = SourceSection {
        urls: Vec::new(),
        branch: String::new(),
        interval: interval.unwrap_or(DEFAULT_INTERVAL),
        confirm: confirm.unwrap_or(DEFAULT_CONFIRM),
        token_file: file("token_file"),
        tokens: BTreeMap::new(),
        ssh_key: file("ssh_key"),
        known_hosts: file("known_hosts"),
        client_cert: file("client_cert"),
        client_key: file("client_key"),
        ca_file: file("ca_file"),
    };
    for (one, other, both) in [
        (
            "client_cert",
            "client_key",
            [&section.client_cert, &section.client_key],
        ),
        (
            "client_key",
            "client_cert",
            [&section.client_key, &section.client_cert],
        ),
    ] {
        if both[0].is_some() && both[1].is_none() && node.get(other).is_none() {
            node.get(one)
                .unwrap_or(node)
                .error(out, format!("`{one}` needs `{other}` beside it"));
        }
    }
    Some(SourceSection {
        urls: urls?,
        branch: branch?,
        tokens,
        ..section
    })
}

/// A remote of `source.url`: a URL, or a table with a token of its own beside it.
fn remote(
    node: &Node,
    tokens: &mut BTreeMap<String, FileAt>,
    out: &mut Diagnostics,
) -> Option<String> {
    match &node.value {
        Value::Table(_) => {
            document::check_keys(node, REMOTE, "a remote", out);
            let token = decode::optional(node, "token_file", out, file_at);
            let at = decode::required(node, "url", "a remote", out)?;
            let text = url(at, out)?;
            if let Some(token) = token {
                let address = text.strip_prefix("static+").unwrap_or(&text);
                if !address.starts_with("https://") && !address.starts_with("http://") {
                    node.error(out, "only an https or http remote takes a `token_file`");
                }
                tokens.insert(text.clone(), token);
            }
            Some(text)
        }
        Value::List(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_) => url(node, out),
    }
}

/// A URL of a scheme that a source can be asked by; `user@host:path` is ssh, and an absolute path is a file.
fn url(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = decode::filled_text(node, out)?;
    let plain =
        !text.starts_with('-') && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let known = match scheme {
        Some(scheme) => matches!(
            scheme,
            "https" | "http" | "static+https" | "static+http" | "ssh" | "file"
        ),
        None => {
            text.starts_with('/')
                || text.split_once(':').is_some_and(|(host, path)| {
                    !path.is_empty() && !host.is_empty() && !host.contains('/')
                })
        }
    };
    if !(plain && known) {
        node.error_with_help(
            out,
            format!(
                "`{}` is not a remote",
                without_password(&text).escape_debug()
            ),
            "write an https, http, ssh or file URL; or static+https for a published tree",
        );
        return None;
    }
    let authority = text
        .split_once("://")
        .map(|(_, rest)| rest.split('/').next().unwrap_or(rest));
    let password = authority
        .and_then(|authority| authority.rsplit_once('@'))
        .is_some_and(|(user, _)| user.contains(':'));
    // Over http the password is taken out of the URL before anything is logged; ssh would hand it to a process.
    if password
        && !matches!(
            scheme,
            Some("https" | "http" | "static+https" | "static+http")
        )
    {
        node.error_with_help(
            out,
            "a password in this URL would end up in process lists",
            "use a key: name it as `ssh_key`",
        );
        return None;
    }
    Some(text)
}

fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("...@{rest}"),
        None => text.to_owned(),
    }
}

/// A branch's name, by the rule of git-check-ref-format(1).
fn branch(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = decode::filled_text(node, out)?;
    let good = !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && text != "@"
        && text
            .split('/')
            .all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
        && !text.chars().any(|c| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '~' | '^' | ':' | '?' | '*' | '[' | '\\')
        });
    if !good {
        node.error(
            out,
            format!("`{}` is not a branch's name", text.escape_debug()),
        );
    } else if text.starts_with("refs/") {
        node.error_with_help(
            out,
            "write the branch's name alone",
            "without `refs/heads/`",
        );
        return None;
    }
    good.then_some(text)
}

fn trust(node: &Node, out: &mut Diagnostics) -> Option<TrustSection> {
    if !document::check_keys(node, TRUST, "`[trust]`", out) {
        return None;
    }
    let allowed_signers = decode::optional(node, "allowed_signers", out, path);
    let floor = decode::optional(node, "floor", out, |node, out| {
        decode::one_of(
            node,
            &[("good", FloorPolicy::Good), ("seen", FloorPolicy::Seen)],
            out,
        )
    });
    let pin = decode::optional(node, "pin", out, |node, out| {
        let text = decode::text(node, out)?;
        let good = matches!(text.len(), 40 | 64)
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !good {
            node.error(
                out,
                "this is not a full commit id: 40 or 64 lower-case hexadecimal digits",
            );
        }
        good.then_some(text)
    });
    let branches = decode::optional(node, "branches", out, |node, out| {
        decode::map(node, "`[trust.branches]`", out, |entry, out| {
            document::check_keys(&entry.value, BRANCH, "a branch's trust", out);
            signers(&entry.value, "a branch's trust", out)
        })
    });
    let verify = decode::optional(node, "verify", out, |node, out| {
        let words = [("tip", Verify::Tip), ("every-commit", Verify::EveryCommit)];
        decode::one_of(node, &words, out)
    });
    let on_unsigned = decode::optional(node, "on_unsigned", out, |node, out| {
        let words = [
            ("hold", OnUnsigned::Hold),
            ("advance-before", OnUnsigned::AdvanceBefore),
        ];
        decode::one_of(node, &words, out)
    });
    if let (Some(node), Some(OnUnsigned::AdvanceBefore), None | Some(Verify::Tip)) =
        (node.get("on_unsigned"), on_unsigned, verify)
    {
        node.error_with_help(
            out,
            "`on_unsigned` says what a commit below the tip does, and only the tip is judged",
            "write `verify = \"every-commit\"` beside it",
        );
    }
    let stale = decode::optional(node, "stale", out, |node, out| {
        let words = [("report", StalePolicy::Report), ("hold", StalePolicy::Hold)];
        decode::one_of(node, &words, out)
    });
    let max_age = decode::optional(node, "max_age", out, decode::duration);
    if let (Some(node), Some(StalePolicy::Hold), None) = (node.get("stale"), stale, max_age)
        && node.get("max_age").is_none()
    {
        node.error_with_help(
            out,
            "`stale = \"hold\"` needs `max_age` beside it",
            "write `max_age = \"14d\"`, say",
        );
    }
    let heartbeat = decode::optional(node, "heartbeat", out, |node, out| {
        document::check_keys(node, HEARTBEAT, "`[trust.heartbeat]`", out);
        signers(node, "`[trust.heartbeat]`", out)
    });
    let root = decode::optional(node, "root", out, |node, out| {
        document::check_keys(node, ROOT, "`[trust.root]`", out);
        let threshold = decode::optional(node, "threshold", out, count);
        Some(RootSection {
            signers: signers(node, "`[trust.root]`", out)?,
            threshold: threshold.unwrap_or(1),
        })
    });
    let standard = TrustSection::default();
    Some(TrustSection {
        allowed_signers: allowed_signers.unwrap_or(standard.allowed_signers),
        openpgp_keyring: decode::optional(node, "openpgp_keyring", out, path),
        floor: floor.unwrap_or_default(),
        pin,
        fleet: decode::optional(node, "fleet", out, decode::filled_text),
        revoked: decode::optional(node, "revoked", out, path),
        bind_branch: decode::optional(node, "bind_branch", out, decode::boolean)
            .unwrap_or_default(),
        branches: branches.unwrap_or_default(),
        max_age,
        stale: stale.unwrap_or_default(),
        verify: verify.unwrap_or_default(),
        on_unsigned: on_unsigned.unwrap_or_default(),
        approvals: decode::optional(node, "approvals", out, count).unwrap_or(standard.approvals),
        heartbeat: heartbeat.unwrap_or_default(),
        root,
    })
}

/// `signers`: patterns of principals, at least one.
fn signers(node: &Node, what: &str, out: &mut Diagnostics) -> Option<Vec<String>> {
    decode::required(node, "signers", what, out).and_then(|node| {
        let signers = decode::list(node, out, decode::filled_text)?;
        if signers.is_empty() {
            node.error(out, "an empty list lets nobody sign: name a principal");
            return None;
        }
        Some(signers)
    })
}

/// How many signers: from 1 to some hundred.
fn count(node: &Node, out: &mut Diagnostics) -> Option<usize> {
    const MOST: usize = 100;
    let number = decode::integer(node, out)?;
    let count = usize::try_from(number)
        .ok()
        .filter(|count| (1..=MOST).contains(count));
    if count.is_none() {
        node.error(
            out,
            format!("`{number}` signers cannot be asked for: 1 to {MOST} can"),
        );
    }
    count
}

fn guard(node: &Node, out: &mut Diagnostics) -> Option<GuardSection> {
    if !document::check_keys(node, GUARD, "`[guard]`", out) {
        return None;
    }
    let mut texts = |name: &str, rooted: Rooted| {
        decode::optional(node, name, out, |node, out| {
            decode::list(node, out, |item, out| {
                let text = decode::filled_text(item, out)?;
                match rooted {
                    Rooted::Yes if !text.starts_with('/') => {
                        item.error(
                            out,
                            format!("`{}` is not an absolute path", text.escape_debug()),
                        );
                        None
                    }
                    Rooted::Yes if text.split('/').any(|part| matches!(part, "." | "..")) => {
                        item.error(
                            out,
                            format!("`{}` has `.` or `..` in it", text.escape_debug()),
                        );
                        None
                    }
                    Rooted::Yes | Rooted::No => Some(text),
                }
            })
        })
    };
    Some(GuardSection {
        paths: texts("paths", Rooted::Yes),
        devices: texts("devices", Rooted::Yes),
        units: texts("units", Rooted::No),
        images: texts("images", Rooted::No),
        privileged: decode::optional(node, "privileged", out, decode::boolean).unwrap_or_default(),
        commands: decode::optional(node, "commands", out, decode::boolean).unwrap_or_default(),
    })
}

/// Whether a text of a list must be an absolute path.
#[derive(Clone, Copy)]
enum Rooted {
    Yes,
    No,
}

fn engine(node: &Node, out: &mut Diagnostics) -> Option<EngineSection> {
    if !document::check_keys(node, ENGINE, "`[engine]`", out) {
        return None;
    }
    let socket = decode::optional(node, "socket", out, |node, out| {
        let text = decode::filled_text(node, out)?;
        let good = text == "auto"
            || text
                .strip_prefix("unix://")
                .is_some_and(|path| path.starts_with('/'));
        if !good {
            node.error_with_help(
                out,
                format!("`{}` is not an engine's socket", text.escape_debug()),
                "write `auto`, or `unix:///var/run/docker.sock`",
            );
        }
        good.then_some(text)
    });
    let auth_file = decode::optional(node, "auth_file", out, file_at);
    let restart = decode::optional(node, "restart", out, |node, out| {
        let words = [
            ("auto", EngineRestart::Auto),
            ("never", EngineRestart::Never),
        ];
        decode::one_of(node, &words, out)
    });
    Some(EngineSection {
        socket: socket.unwrap_or_else(|| "auto".to_owned()),
        auth_file,
        restart: restart.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
