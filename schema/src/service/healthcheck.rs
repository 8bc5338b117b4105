//! Compose's `healthcheck`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{is_false, keys, read, units, wire};
use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};

/// Compose's `healthcheck`. What is `None` comes from the image's own health check, else from the engine's defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Healthcheck {
    /// `CMD`, `CMD-SHELL` or `NONE`, and what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Vec<String>>,
    /// Time between two tests; 30 s.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::duration"
    )]
    pub interval: Option<Duration>,
    /// Time that one test may take; 30 s.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::duration"
    )]
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy; 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Time at the start in which failures do not count.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::duration"
    )]
    pub start_period: Option<Duration>,
    /// Time between two tests at the start; engines before API 1.44 use `interval`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "wire::duration"
    )]
    pub start_interval: Option<Duration>,
    /// Switches off the image's own test.
    #[serde(default, skip_serializing_if = "is_false")]
    pub disable: bool,
}

impl Healthcheck {
    /// Whether it says that there is no test, not even the image's.
    #[must_use]
    pub fn is_disabled(&self) -> bool {
        self.disable
            || self
                .test
                .as_ref()
                .is_some_and(|test| test.first().is_some_and(|kind| kind == "NONE"))
    }
}

/// Docker refuses anything shorter, except 0 for "the default".
const SHORTEST: Duration = Duration::from_millis(1);

fn duration(node: &Node, what: &str, out: &mut Diagnostics) -> Option<Duration> {
    let found = read::parsed(node, what, out, units::duration)?;
    if found > Duration::ZERO && found < SHORTEST {
        node.error(out, format!("`{what}` must be at least 1ms"));
        return None;
    }
    Some(found)
}

fn test(node: &Node, out: &mut Diagnostics) -> Option<Vec<String>> {
    let Value::List(items) = &node.value else {
        let line = read::filled(node, "healthcheck.test", out)?;
        return Some(vec!["CMD-SHELL".to_owned(), line]);
    };
    let words: Vec<String> = items
        .iter()
        .filter_map(|item| read::text(item, "healthcheck.test", out))
        .collect();
    let good = match words.first().map(String::as_str) {
        Some("NONE") => words.len() == 1,
        Some("CMD") => words.len() >= 2,
        Some("CMD-SHELL") => words.len() == 2,
        Some(_) | None => false,
    };
    if !good {
        node.error_with_help(
            out,
            "`healthcheck.test` as a list must be [\"CMD\", program, arguments...], [\"CMD-SHELL\", \"one line\"] or [\"NONE\"]",
            "or write it as one line of text, for the container's shell",
        );
        return None;
    }
    Some(words)
}

pub(super) fn decode(node: &Node, out: &mut Diagnostics) -> Healthcheck {
    let mut check = Healthcheck::default();
    for field in read::fields(node, keys::HEALTHCHECK, "healthcheck", out) {
        let what = format!("healthcheck.{}", field.name);
        match field.name {
            "test" => check.test = test(field.node, out),
            "interval" => check.interval = duration(field.node, &what, out),
            "timeout" => check.timeout = duration(field.node, &what, out),
            "retries" => check.retries = read::number(field.node, &what, out),
            "start_period" => check.start_period = duration(field.node, &what, out),
            "start_interval" => check.start_interval = duration(field.node, &what, out),
            "disable" => check.disable = read::boolean(field.node, &what, out).unwrap_or_default(),
            _ => read::unread(&field, out),
        }
    }
    if check.disable && check.test.as_ref().is_some_and(|test| test[0] != "NONE") {
        node.error(out, "`healthcheck` has a `test` and says `disable` too");
    }
    check
}
