//! Networks and volumes of an app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::read::{Bare, Field};
use super::{is_false, keys, parts, read};
use crate::diagnostic::Diagnostics;
use crate::name::ServiceName;
use crate::node::Node;

/// A network of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Network {
    /// Its name in the engine, where it is not `<app>_<key>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The engine's network driver; `None`: `bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Whether it exists already and is not ours.
    #[serde(default, skip_serializing_if = "is_false")]
    pub external: bool,
    /// Whether there is no way out of it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub internal: bool,
    /// Whether other containers may join.
    #[serde(default, skip_serializing_if = "is_false")]
    pub attachable: bool,
    /// Whether it has IPv6 too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub enable_ipv6: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    #[serde(default)]
    pub ipam: Ipam,
}

/// Compose's `ipam`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ipam {
    /// The driver; `None`: the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Pools of addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<IpamPool>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// One pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct IpamPool {
    /// `172.28.0.0/16`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// From where addresses are given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// The gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Addresses that are taken.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// A volume of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Volume {
    /// Its name in the engine, where it is not `<app>_<key>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The engine's volume driver; `None`: `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// Whether it exists already and is not ours.
    #[serde(default, skip_serializing_if = "is_false")]
    pub external: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What Compose has no key for.
    #[serde(
        default,
        rename = "x-evenkeel",
        skip_serializing_if = "VolumeExtension::says_nothing"
    )]
    pub extension: VolumeExtension,
}

/// What Compose has no key for, as a volume of app.toml or under `x-evenkeel` in compose.yaml. No part of what the volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VolumeExtension {
    /// What happens to its data when it is no longer declared.
    #[serde(default)]
    pub on_remove: VolumeOnRemove,
}

impl VolumeExtension {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a volume that is no longer declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum VolumeOnRemove {
    /// It stays, with its data.
    #[default]
    Keep,
    /// It goes, with its data.
    Delete,
}

/// The words of `on_remove`.
pub(super) const ON_REMOVE: &[&str] = &["keep", "delete"];

fn on_remove(node: &Node, out: &mut Diagnostics) -> VolumeOnRemove {
    match read::word(node, "on_remove", ON_REMOVE, out).as_deref() {
        Some("delete") => VolumeOnRemove::Delete,
        Some(_) | None => VolumeOnRemove::Keep,
    }
}

/// Runs `decode` for each entry whose key is a name.
pub(super) fn named<T>(
    node: &Node,
    what: &str,
    out: &mut Diagnostics,
    mut decode: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> BTreeMap<ServiceName, T> {
    let mut found = BTreeMap::new();
    for entry in read::table(node, &format!("`{what}`"), out).unwrap_or_default() {
        if entry.key.starts_with("x-") {
            continue;
        }
        let value = decode(&entry.value, out);
        match entry.key.parse::<ServiceName>() {
            Ok(name) => found.extend(value.map(|value| (name, value))),
            Err(problem) => out.error(&node.file, entry.key_at, problem.to_string()),
        }
    }
    found
}

/// What may stand beside `external`: anything else would be a promise about a thing that is not ours.
fn external_alone(node: &Node, external: bool, what: &str, out: &mut Diagnostics) {
    if !external {
        return;
    }
    for entry in node.entries() {
        let says_more = matches!(entry.key.as_str(), "external" | "name")
            || (entry.key.starts_with("x-") && entry.key != "x-evenkeel");
        if !says_more {
            out.error_with_help(
                &node.file,
                entry.key_at,
                format!("`{}` on a {what} that is external", entry.key),
                "an external one is used as it is: leave the key out, or leave out `external`",
            );
        }
    }
}

fn name(field: &Field<'_>, what: &str, out: &mut Diagnostics) -> Option<String> {
    let text = read::filled(field.node, what, out)?;
    parts::engine_name(field.node, &text, what, out)
}

/// Reads `networks` of an app or of compose.yaml.
pub fn decode_networks(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Network> {
    named(node, "networks", out, |node, out| {
        let mut network = Network::default();
        for field in read::fields(node, keys::NETWORK, "a network", out) {
            let what = format!("networks.{}", field.name);
            let value = field.node;
            match field.name {
                "driver" => network.driver = read::filled(value, &what, out),
                "driver_opts" => network.driver_opts = read::scalars(value, &what, out),
                "external" => network.external = read::boolean(value, &what, out).unwrap_or(false),
                "name" => network.name = name(&field, &what, out),
                "internal" => network.internal = read::boolean(value, &what, out).unwrap_or(false),
                "attachable" => {
                    network.attachable = read::boolean(value, &what, out).unwrap_or(false);
                }
                "enable_ipv6" => {
                    network.enable_ipv6 = read::boolean(value, &what, out).unwrap_or(false);
                }
                "labels" => network.labels = parts::labels(value, out),
                "ipam" => network.ipam = ipam(value, out),
                _ => read::unread(&field, out),
            }
        }
        external_alone(node, network.external, "network", out);
        Some(network)
    })
}

fn ipam(node: &Node, out: &mut Diagnostics) -> Ipam {
    let mut found = Ipam::default();
    for field in read::fields(node, keys::IPAM, "ipam", out) {
        match field.name {
            "driver" => found.driver = read::filled(field.node, "ipam.driver", out),
            "options" => found.options = read::scalars(field.node, "ipam.options", out),
            "config" => {
                for item in read::list(field.node, "ipam.config", out) {
                    found.config.push(pool(item, out));
                }
            }
            _ => read::unread(&field, out),
        }
    }
    found
}

fn network_prefix(text: &str) -> Result<String, String> {
    text.split_once('/')
        .filter(|(address, bits)| {
            address.parse::<std::net::IpAddr>().is_ok_and(|address| {
                let longest = if address.is_ipv4() { 32 } else { 128 };
                bits.parse::<u8>().is_ok_and(|bits| bits <= longest)
            })
        })
        .map(|_| text.to_owned())
        .ok_or_else(|| {
            format!(
                "`{}` is not a network: write it as `172.28.0.0/16`",
                text.escape_debug()
            )
        })
}

fn pool(node: &Node, out: &mut Diagnostics) -> IpamPool {
    let mut pool = IpamPool::default();
    for field in read::fields(node, keys::IPAM_POOL, "ipam.config", out) {
        let what = format!("ipam.config.{}", field.name);
        match field.name {
            "subnet" => pool.subnet = read::parsed(field.node, &what, out, network_prefix),
            "ip_range" => pool.ip_range = read::parsed(field.node, &what, out, network_prefix),
            "gateway" => pool.gateway = parts::address(field.node, &what, out),
            "aux_addresses" => pool.aux_addresses = read::scalars(field.node, &what, out),
            _ => read::unread(&field, out),
        }
    }
    pool
}

/// Reads `volumes` of an app or of compose.yaml.
pub fn decode_volumes(node: &Node, out: &mut Diagnostics) -> BTreeMap<ServiceName, Volume> {
    named(node, "volumes", out, |node, out| {
        let mut volume = Volume::default();
        for field in read::fields(node, keys::VOLUME, "a volume", out) {
            let what = format!("volumes.{}", field.name);
            match field.name {
                "driver" => volume.driver = read::filled(field.node, &what, out),
                "driver_opts" => volume.driver_opts = read::scalars(field.node, &what, out),
                "external" => {
                    volume.external = read::boolean(field.node, &what, out).unwrap_or(false);
                }
                "name" => volume.name = name(&field, &what, out),
                "labels" => volume.labels = parts::labels(field.node, out),
                "on_remove" => volume.extension.on_remove = on_remove(field.node, out),
                _ => read::unread(&field, out),
            }
        }
        if let Some(ours) = node.get("x-evenkeel") {
            for field in read::fields(ours, keys::VOLUME_EXTENSION, "x-evenkeel", out) {
                volume.extension.on_remove = on_remove(field.node, out);
            }
        }
        external_alone(node, volume.external, "volume", out);
        Some(volume)
    })
}

/// The labels with which the container's world is ordered by us and by Compose.
pub(super) const RESERVED_LABELS: [&str; 2] = ["dev.evenkeel.", "com.docker.compose."];

pub(super) fn pairs_without_reserved(
    node: &Node,
    out: &mut Diagnostics,
) -> BTreeMap<String, String> {
    let labels = read::pairs(node, "labels", Bare::Empty, out);
    for name in labels.keys() {
        if let Some(prefix) = RESERVED_LABELS
            .iter()
            .find(|prefix| name.starts_with(**prefix))
        {
            node.error_with_help(
                out,
                format!("`labels`: `{name}` is reserved"),
                format!("labels that begin with `{prefix}` are set by the agent"),
            );
        }
    }
    labels
}
