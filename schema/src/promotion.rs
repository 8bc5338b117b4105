//! `[promote.<branch>]`, `[rings.<branch>]` and `[prometheus]` in fleet.toml: what must be so of one ring before what it runs
//! comes to the next.
//!
//! Read by who promotes. A device judges that they are well written, and does nothing with them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode;
use crate::diagnostic::Diagnostics;
use crate::document;
use crate::group::{self, MATCH, Selector};
use crate::node::Node;
use crate::service::keys::{Key, Shape, key};

/// The keys of fleet.toml.
pub(crate) const PROMOTE: Key = key(
    "promote",
    Shape::Map(&Shape::Table(GATE)),
    "By branch: what must be so of the ring that something comes from before it is promoted to this branch",
);
pub(crate) const RINGS: Key = key(
    "rings",
    Shape::Map(&Shape::Table(RING)),
    "By branch: which of the devices with a document follow it; one of them that says nothing counts as silent",
);
pub(crate) const PROMETHEUS: Key = key(
    "prometheus",
    Shape::Table(SERVER),
    "The Prometheus server that gates are judged by",
);

/// The keys of `[promote.<branch>]`.
pub(crate) const GATE: &[Key] = &[
    key(
        "healthy",
        Shape::Integer,
        "The least share of the ring's devices, in per cent, that are healthy at the revision; 100",
    ),
    key(
        "soak",
        Shape::Duration,
        "For how long each of them has been; 0s",
    ),
    key(
        "max_failed",
        Shape::Integer,
        "How many may have refused the revision, or be unhealthy at it; 0",
    ),
    key("max_silent", Shape::Integer, "How many may be silent; 0"),
    key(
        "silent",
        Shape::Duration,
        "Without a word for so long, a device is silent; 2h",
    ),
    key(
        "min_devices",
        Shape::Integer,
        "The least number of devices that are healthy at the revision; 1",
    ),
];

const RING: &[Key] = &[MATCH];

const SERVER: &[Key] = &[
    key(
        "url",
        Shape::Text,
        "Where it is: https://prometheus.example.com",
    ),
    key(
        "queries",
        Shape::Table(QUERIES),
        "Queries in place of the standard ones; $fleet, $branch, $commits, $soak and $silent are filled in",
    ),
];

const QUERIES: &[Key] = &[
    key(
        "ring",
        Shape::Text,
        "The devices of the ring, by the label `device`",
    ),
    key("seen", Shape::Text, "Those that are not silent"),
    key(
        "healthy",
        Shape::Text,
        "Those that have been healthy at the revision for the soak",
    ),
    key(
        "failed",
        Shape::Text,
        "Those that refused the revision, or are unhealthy at it",
    ),
];

/// What must be so before something comes to a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Per cent of the ring's devices that are healthy at the revision, at least.
    pub healthy: u8,
    /// For how long each of them has been.
    pub soak: Duration,
    /// How many may have failed.
    pub max_failed: u32,
    /// How many may be silent.
    pub max_silent: u32,
    /// After which time without a word.
    pub silent: Duration,
    /// How many must be healthy, at least.
    pub min_devices: u32,
}

impl Gate {
    /// The stricter of two, in each of their demands.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            healthy: self.healthy.max(other.healthy),
            soak: self.soak.max(other.soak),
            max_failed: self.max_failed.min(other.max_failed),
            max_silent: self.max_silent.min(other.max_silent),
            silent: self.silent.min(other.silent),
            min_devices: self.min_devices.max(other.min_devices),
        }
    }
}

/// `[prometheus]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prometheus {
    /// Its address.
    pub url: Option<String>,
    /// Queries by their names, in place of the standard ones.
    pub queries: BTreeMap<String, String>,
}

/// What fleet.toml says of promotions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promotion {
    /// `[promote.<branch>]`.
    pub gates: BTreeMap<String, Gate>,
    /// `[rings.<branch>]`.
    pub rings: BTreeMap<String, Selector>,
    /// `[prometheus]`.
    pub prometheus: Option<Prometheus>,
}

/// Reads all of it.
pub(crate) fn promotion(fleet: &Node, out: &mut Diagnostics) -> Promotion {
    let gates = decode::optional(fleet, "promote", out, |node, out| {
        decode::map(node, "`[promote]`", out, |entry, out| {
            gate(&entry.value, out)
        })
    });
    let rings = decode::optional(fleet, "rings", out, |node, out| {
        decode::map(node, "`[rings]`", out, |entry, out| {
            document::check_keys(&entry.value, RING, "a ring", out);
            decode::required(&entry.value, "match", "a ring", out)
                .and_then(|node| group::selector(node, out))
        })
    });
    let prometheus = decode::optional(fleet, "prometheus", out, |node, out| {
        document::check_keys(node, SERVER, "`[prometheus]`", out);
        let queries = decode::optional(node, "queries", out, |node, out| {
            document::check_keys(node, QUERIES, "`[prometheus.queries]`", out);
            decode::map(node, "`[prometheus.queries]`", out, |entry, out| {
                decode::filled_text(&entry.value, out)
            })
        });
        Some(Prometheus {
            url: decode::optional(node, "url", out, url),
            queries: queries.unwrap_or_default(),
        })
    });
    Promotion {
        gates: gates.unwrap_or_default(),
        rings: rings.unwrap_or_default(),
        prometheus,
    }
}

fn gate(node: &Node, out: &mut Diagnostics) -> Option<Gate> {
    const MANY: u32 = 1_000_000;
    if !document::check_keys(node, GATE, "a gate", out) {
        return None;
    }
    let healthy = decode::optional(node, "healthy", out, |node, out| {
        decode::integer_between(node, 0_u8, 100, out)
    });
    let mut number = |name, least| {
        decode::optional(node, name, out, |node, out| {
            decode::integer_between(node, least, MANY, out)
        })
    };
    let (max_failed, max_silent) = (number("max_failed", 0), number("max_silent", 0));
    let min_devices = number("min_devices", 1);
    let silent = decode::optional(node, "silent", out, |node, out| {
        let silent = decode::duration(node, out)?;
        if silent < Duration::from_secs(60) {
            node.error(
                out,
                "a device says something once a minute at most: `1m` or more",
            );
            return None;
        }
        Some(silent)
    });
    Some(Gate {
        healthy: healthy.unwrap_or(100),
        soak: decode::optional(node, "soak", out, decode::duration).unwrap_or_default(),
        max_failed: max_failed.unwrap_or(0),
        max_silent: max_silent.unwrap_or(0),
        silent: silent.unwrap_or(Duration::from_secs(2 * 3600)),
        min_devices: min_devices.unwrap_or(1),
    })
}

fn url(node: &Node, out: &mut Diagnostics) -> Option<String> {
    let text = decode::filled_text(node, out)?;
    if text.starts_with("https://") || text.starts_with("http://") {
        return Some(text);
    }
    node.error_with_help(
        out,
        format!("`{}` is not the address of a server", text.escape_debug()),
        "write it like https://prometheus.example.com",
    );
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    fn read(text: &str) -> (Promotion, Vec<String>) {
        let mut out = Diagnostics::new();
        let node = crate::toml_document::parse("fleet.toml", text.as_bytes(), &mut out).unwrap();
        let read = promotion(&node, &mut out);
        (read, out.sorted().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_gate_without_a_word_wants_every_device_healthy_and_none_silent() {
        let (read, problems) = read("[promote.stable]\n");
        assert!(problems.is_empty(), "{problems:?}");
        let gate = read.gates["stable"];
        assert_eq!(
            (gate.healthy, gate.max_failed, gate.max_silent),
            (100, 0, 0)
        );
        assert_eq!(gate.silent, Duration::from_secs(7200));
    }

    #[test]
    fn the_stricter_of_two_gates_is_stricter_in_each_demand() {
        let (read, _) = read(
            "[promote.a]\nhealthy = 90\nsoak = '1d'\nmax_failed = 3\nsilent = '4h'\nmin_devices = 2\n\
             [promote.b]\nhealthy = 95\nsoak = '1h'\nmax_failed = 5\nmax_silent = 2\nsilent = '1h'\n",
        );
        let both = read.gates["a"].and(read.gates["b"]);
        assert_eq!(
            both,
            Gate {
                healthy: 95,
                soak: Duration::from_secs(86_400),
                max_failed: 3,
                max_silent: 0,
                silent: Duration::from_secs(3600),
                min_devices: 2,
            }
        );
        assert_eq!(both, read.gates["b"].and(read.gates["a"]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let (_, problems) = read(
            "[promote.stable]\nhealty = 90\nhealthy = 101\nsilent = '1s'\n[rings.canary]\nmatch = 3\n[prometheus]\nurl = 'x'\n\
             queries.all = 'up'\n",
        );
        for (place, word) in [
            ("2:1", "did you mean `healthy`"),
            ("3:11", "0 to 100"),
            ("4:10", "once a minute"),
            ("6:9", "`match`"),
            ("8:7", "not the address"),
            ("9:9", "unknown key"),
        ] {
            assert!(
                problems.iter().any(|problem| problem
                    .starts_with(&format!("fleet.toml:{place}: "))
                    && problem.contains(word)),
                "{place} {word}: {problems:?}"
            );
        }
    }
}
