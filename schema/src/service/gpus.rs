//! GPUs: Compose's `gpus`, and the devices under `deploy.resources.reservations`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{keys, read};
use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};

/// What stands for all of them.
const ALL: i64 = -1;

/// A request for GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Gpu {
    /// What they must be able to do; `gpu` where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The engine's driver; `None`: the first that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// How many; -1 for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_ids: Vec<String>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Gpu {
    /// How many the engine is asked for: all where neither a number nor single ones are named.
    #[must_use]
    pub fn wanted(&self) -> Option<i64> {
        match self.count {
            None if self.device_ids.is_empty() => Some(ALL),
            count => count,
        }
    }

    /// What the engine is asked for: a GPU whatever else.
    #[must_use]
    pub fn able(&self) -> Vec<String> {
        let mut able = self.capabilities.clone();
        if !able.iter().any(|one| one == "gpu") {
            able.push("gpu".to_owned());
        }
        able
    }
}

/// Reads `gpus`: `all`, or a list.
pub(super) fn decode(node: &Node, out: &mut Diagnostics) -> Vec<Gpu> {
    if let Value::String(text) = &node.value {
        if text == "all" {
            return vec![Gpu {
                count: Some(ALL),
                ..Gpu::default()
            }];
        }
        node.error_with_help(
            out,
            format!("`gpus` cannot be `{}`", text.escape_debug()),
            "write `all`, or a list of requests",
        );
        return Vec::new();
    }
    requests(node, "gpus", out)
}

/// Reads a list of requests.
pub(super) fn requests(node: &Node, what: &str, out: &mut Diagnostics) -> Vec<Gpu> {
    let mut found = Vec::new();
    for item in read::list(node, what, out) {
        let mut gpu = Gpu::default();
        for field in read::fields(item, keys::GPU, &format!("`{what}`"), out) {
            let key = format!("{what}.{}", field.name);
            let value = field.node;
            match field.name {
                "capabilities" => gpu.capabilities = read::texts(value, &key, out),
                "driver" => gpu.driver = read::filled(value, &key, out),
                "count" => {
                    gpu.count = match &value.value {
                        Value::String(text) if text == "all" => Some(ALL),
                        _ => read::number::<u16>(value, &key, out).map(i64::from),
                    };
                }
                "device_ids" => gpu.device_ids = read::texts(value, &key, out),
                "options" => gpu.options = read::scalars(value, &key, out),
                _ => read::unread(&field, out),
            }
        }
        if gpu.count.is_some() && !gpu.device_ids.is_empty() {
            item.error(
                out,
                format!("`{what}` has `count` or `device_ids`, not both"),
            );
        }
        // The engine hands these over by name; anything else would be another device.
        let strange = gpu
            .capabilities
            .iter()
            .find(|one| !keys::GPU_CAPABILITIES.contains(&one.as_str()));
        if let Some(strange) = strange {
            item.error_with_help(
                out,
                format!(
                    "`{what}`: the capability `{}` is not known",
                    strange.escape_debug()
                ),
                format!(
                    "known are {}; other devices are named in `devices`",
                    keys::GPU_CAPABILITIES.join(", ")
                ),
            );
        }
        found.push(gpu);
    }
    found
}
