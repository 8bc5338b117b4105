//! `groups/<group>.toml`: which devices, by their labels, run which apps with which values.

use std::collections::BTreeMap;

use crate::agent_release::{self, AGENT};
use crate::diagnostic::Diagnostics;
use crate::document::{self, Placed};
use crate::name::AppName;
use crate::node::{Node, Value};
use crate::rollout::{self, ROLLOUT, Rollout};
use crate::service::keys::{Key, Shape, key};
use crate::{decode, toml_document};

/// Which devices.
pub(crate) const MATCH: Key = key(
    "match",
    Shape::AnyOf(&[
        Shape::Words(&["all"]),
        Shape::Map(&Shape::AnyOf(&[Shape::Scalar, Shape::List(&Shape::Scalar)])),
    ]),
    "Labels that a device must have, every one; a list means any of them. \"all\": every device",
);

/// The keys of a group.
pub const KEYS: &[Key] = &[
    MATCH,
    key(
        "apps",
        Shape::List(&Shape::Text),
        "Apps that these devices run",
    ),
    key(
        "without_apps",
        Shape::List(&Shape::Text),
        "Apps that these devices do not run, whoever else names them",
    ),
    key(
        "values",
        Shape::Map(&Shape::Any),
        "Values for these devices",
    ),
    AGENT,
    ROLLOUT,
];

/// A group.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Which devices.
    pub selector: Selector,
    /// Apps that are added.
    pub apps: Vec<Placed<AppName>>,
    /// Apps that are taken away.
    pub without_apps: Vec<Placed<AppName>>,
    /// Values for these devices.
    pub values: Option<Node>,
    /// `[rollout]`.
    pub rollout: Option<Rollout>,
}

/// Which devices a group means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Every device.
    All,
    /// Devices that have, for each of these labels, one of these values.
    Labels(BTreeMap<String, Vec<String>>),
}

impl Selector {
    /// Whether a device with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::Labels(wanted) => wanted
                .iter()
                .all(|(name, any)| labels.get(name).is_some_and(|value| any.contains(value))),
        }
    }
}

/// Reads a group.
pub fn parse(file: &str, bytes: &[u8], out: &mut Diagnostics) -> Option<Group> {
    let node = toml_document::parse(file, bytes, out)?;
    document::check_keys(&node, KEYS, "a group", out);
    let selector = match decode::field(&node, "match") {
        Some(node) => selector(node, out),
        None => {
            node.error_with_help(
                out,
                "a group needs `match`",
                "write `match = \"all\"` for every device, or a table of labels: `[match]`",
            );
            None
        }
    };
    let mut apps = |name| {
        decode::field(&node, name)
            .map(|node| document::names(node, out))
            .unwrap_or_default()
    };
    let (added, taken) = (apps("apps"), apps("without_apps"));
    let values = decode::optional(&node, "values", out, document::values);
    decode::optional(&node, "agent", out, agent_release::strict);
    let rollout = decode::optional(&node, "rollout", out, rollout::rollout);
    Some(Group {
        selector: selector?,
        apps: added,
        without_apps: taken,
        values,
        rollout,
    })
}

/// The selector of a whole group, as far as this version can read it.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn lenient_selector(document: &Node) -> Result<Selector, String> {
    let mut out = Diagnostics::new();
    let read = decode::field(document, "match").and_then(|node| selector(node, &mut out));
    match (out.sorted().first(), read) {
        // Part of it says too little about whom it means.
        (Some(problem), _) => Err(problem.to_string()),
        (None, Some(selector)) => Ok(selector),
        (None, None) => Err(format!("{}: it has no `match`", document.file)),
    }
}

pub(crate) fn selector(node: &Node, out: &mut Diagnostics) -> Option<Selector> {
    match &node.value {
        Value::String(text) if text == "all" => Some(Selector::All),
        Value::Table(entries) if entries.is_empty() => {
            node.error_with_help(
                out,
                "this matches no label",
                "write `match = \"all\"` for every device",
            );
            None
        }
        Value::Table(_) => decode::map(node, "`match`", out, |entry, out| {
            document::label_name(&node.file, entry.key_at, &entry.key, out)?;
            let any = decode::list_or_one(&entry.value, out, decode::scalar_text)?;
            if any.is_empty() {
                entry
                    .value
                    .error(out, "an empty list matches no device: name a value");
                return None;
            }
            Some(any)
        })
        .map(Selector::Labels),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::List(_) => {
            node.error_with_help(
                out,
                format!(
                    "`match` must be a table of labels or \"all\", and this is {}",
                    decode::shown(node)
                ),
                "write `match = \"all\"`, or `[match]` with a label a line",
            );
            None
        }
    }
}
