//! `devices/<id>.toml`: one device's labels, apps and values.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostics;
use crate::document::{self, Placed};
use crate::name::AppName;
use crate::node::Node;
use crate::service::keys::{Key, Shape, key};
use crate::{decode, toml_document};

/// The keys of a device's document.
pub const KEYS: &[Key] = &[
    key(
        "labels",
        Shape::Map(&Shape::Scalar),
        "Labels that groups match; they win over those of the device's own agent.toml",
    ),
    key(
        "apps",
        Shape::List(&Shape::Text),
        "Apps that this device runs beside its groups'",
    ),
    key(
        "without_apps",
        Shape::List(&Shape::Text),
        "Apps that this device does not run",
    ),
    key(
        "values",
        Shape::Map(&Shape::Any),
        "Values for this device; they win over all others",
    ),
    key(
        "public_key",
        Shape::Text,
        "The device's public key, as OpenSSH prints it",
    ),
    key("machine_id", Shape::Text, "The device's machine id"),
];

/// A device's document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Device {
    /// Labels that win over the device's own.
    pub labels: BTreeMap<String, String>,
    /// Apps that are added.
    pub apps: Vec<Placed<AppName>>,
    /// Apps that are taken away.
    pub without_apps: Vec<Placed<AppName>>,
    /// Values for this device.
    pub values: Option<Node>,
    /// The device's public key.
    pub public_key: Option<String>,
    /// The device's machine id.
    pub machine_id: Option<String>,
}

/// Reads a device's document.
pub fn parse(file: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Device> {
    let node = toml_document::parse(file, bytes, out)?;
    document::check_keys(&node, KEYS, "a device's document", out);
    let labels = decode::field(&node, "labels")
        .map(|node| document::labels(node, out))
        .unwrap_or_default();
    let mut apps = |name| {
        decode::field(&node, name)
            .map(|node| document::names(node, out))
            .unwrap_or_default()
    };
    let (added, taken) = (apps("apps"), apps("without_apps"));
    Some(Device {
        labels,
        apps: added,
        without_apps: taken,
        values: decode::optional(&node, "values", out, document::values),
        public_key: decode::optional(&node, "public_key", out, decode::filled_text),
        machine_id: decode::optional(&node, "machine_id", out, decode::filled_text),
    })
}
