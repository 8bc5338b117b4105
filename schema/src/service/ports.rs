//! Published ports: short form `[ip:]host:container[/proto]` with ranges, and the long form.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{keys, read, wire};
use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Compose's `mode`; both mean the same on a single device.
    #[serde(default)]
    pub mode: PortMode,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Address on the host; `None`: every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Port in the container.
    pub target: u16,
    /// Port on the host; `None`: the engine picks one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::port")]
    pub published: Option<u16>,
    /// Protocol.
    pub protocol: Protocol,
}

/// Compose's `mode` of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum PortMode {
    /// The default.
    #[default]
    Ingress,
    /// On this host.
    Host,
}

/// A port's protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

const SHORT_FORM: &str =
    "write it as \"8080:80\", \"127.0.0.1:8080:80\", \"53:53/udp\" or \"8000-8010:8000-8010\"";

pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u16>().ok())
            .flatten()
            .filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// Splits `ip:host:container` from its right end: only the address may have colons.
fn split(text: &str) -> (Option<&str>, Option<&str>, &str) {
    let Some((rest, container)) = text.rsplit_once(':') else {
        return (None, None, text);
    };
    match rest.rsplit_once(':') {
        Some((ip, host)) => (Some(ip), Some(host), container),
        None => (None, Some(rest), container),
    }
}

fn short(text: &str) -> Result<Vec<Port>, String> {
    let wrong = |what: &str| format!("`{}` is not a port mapping: {what}", text.escape_debug());
    let (rest, protocol) = match text.split_once('/') {
        Some((rest, protocol)) => (
            rest,
            Protocol::parse(&protocol.to_ascii_lowercase())
                .ok_or_else(|| wrong("the protocol is tcp, udp or sctp"))?,
        ),
        None => (text, Protocol::Tcp),
    };
    let (ip, host, container) = split(rest);
    let host_ip = match ip {
        None | Some("") => None,
        Some(ip) => Some(
            ip.trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<IpAddr>()
                .map_err(|_| wrong("what stands before the ports is not an IP address"))?,
        ),
    };
    let (first, last) = range(container).ok_or_else(|| wrong(SHORT_FORM))?;
    let published = match host {
        None | Some("") => None,
        Some(host) => Some(range(host).ok_or_else(|| wrong(SHORT_FORM))?),
    };
    if let Some((low, high)) = published
        && high - low != last - first
    {
        return Err(wrong(if first == last {
            "a range of host ports for one container port is not supported by this version: name one host port"
        } else {
            "both ranges must have the same length"
        }));
    }
    Ok((first..=last)
        .map(|target| Port {
            mode: PortMode::Ingress,
            name: None,
            app_protocol: None,
            host_ip,
            target,
            published: published.map(|(low, _)| low + (target - first)),
            protocol,
        })
        .collect())
}

fn long(node: &Node, out: &mut Diagnostics) -> Option<Port> {
    let mut port = Port {
        mode: PortMode::Ingress,
        name: None,
        app_protocol: None,
        host_ip: None,
        target: 0,
        published: None,
        protocol: Protocol::Tcp,
    };
    let mut target = None;
    let mut failed = false;
    for field in read::fields(node, keys::PORT, "a port", out) {
        let value = field.node;
        let one = |text: &str| match range(text) {
            Some((first, last)) if first == last => Ok(first),
            Some(_) => Err(
                "a range is not supported here by this version: write one entry a port".to_owned(),
            ),
            None => Err(format!("`{}` is not a port", text.escape_debug())),
        };
        match field.name {
            "target" => {
                target = read::parsed(value, "ports.target", out, one);
                failed |= target.is_none();
            }
            "published" => {
                // Compose takes "" and 0 for "pick one".
                let picked = |text: &str| match text {
                    "" | "0" => Ok(None),
                    other => one(other).map(Some),
                };
                port.published =
                    read::parsed(value, "ports.published", out, picked).unwrap_or_default();
            }
            "host_ip" => {
                port.host_ip = read::parsed(value, "ports.host_ip", out, |text| {
                    text.parse()
                        .map_err(|_| format!("`{}` is not an IP address", text.escape_debug()))
                });
            }
            "protocol" => {
                port.protocol = read::word(value, "ports.protocol", &["tcp", "udp", "sctp"], out)
                    .and_then(|word| Protocol::parse(&word))
                    .unwrap_or_default();
            }
            "mode" => {
                if read::word(value, "ports.mode", &["ingress", "host"], out)
                    .is_some_and(|word| word == "host")
                {
                    port.mode = PortMode::Host;
                }
            }
            "name" => port.name = read::filled(value, "ports.name", out),
            "app_protocol" => port.app_protocol = read::filled(value, "ports.app_protocol", out),
            _ => read::unread(&field, out),
        }
    }
    match target {
        Some(target) => {
            port.target = target;
            Some(port)
        }
        None => {
            if !failed {
                node.error(out, "a port in its long form needs a `target`");
            }
            None
        }
    }
}

pub(super) fn decode(node: &Node, out: &mut Diagnostics) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for item in read::list(node, "ports", out) {
        let more = match &item.value {
            Value::Table(_) => long(item, out).into_iter().collect(),
            Value::Float(_) => {
                item.error_with_help(
                    out,
                    "a port must be text, not a float",
                    "put quotes around it",
                );
                Vec::new()
            }
            Value::String(_) | Value::Integer(_) => {
                read::parsed(item, "ports", out, short).unwrap_or_default()
            }
            Value::Null | Value::Bool(_) | Value::List(_) => {
                item.error_with_help(out, format!("a port cannot be {}", item.kind()), SHORT_FORM);
                Vec::new()
            }
        };
        for port in more {
            let taken = ports.iter().any(|other| {
                port.published.is_some()
                    && other.published == port.published
                    && other.protocol == port.protocol
                    && other.host_ip == port.host_ip
            });
            if taken && !ports.contains(&port) {
                item.error(
                    out,
                    format!(
                        "host port {}/{} is published twice by this service",
                        port.published.unwrap_or_default(),
                        port.protocol.as_str()
                    ),
                );
            } else if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    ports
}
