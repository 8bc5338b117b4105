//! `fleet.toml`: the repository's format, the fleet's name, fleet-wide values.

use crate::agent_release::{self, AGENT};
use crate::diagnostic::Diagnostics;
use crate::node::{Node, Value};
use crate::promotion::{self, PROMETHEUS, PROMOTE, Promotion, RINGS};
use crate::rollout::{self, ROLLOUT, Rollout};
use crate::service::keys::{Key, Shape, key};
use crate::{decode, document};

/// The format of a repository that this version reads.
pub const FORMAT: i64 = 1;

/// The keys of fleet.toml.
pub const KEYS: &[Key] = &[
    key("format", Shape::Integer, "The repository's format: 1"),
    key("name", Shape::Text, "The fleet's name"),
    key(
        "requires_agent",
        Shape::Text,
        "Which versions of evenkeel may read this repository, such as `>=0.1`; more conditions are joined with commas",
    ),
    key(
        "allow_tags",
        Shape::Bool,
        "Allow images that are named by a tag: what runs may then change without a commit",
    ),
    key("values", Shape::Map(&Shape::Any), "Values for every device"),
    AGENT,
    ROLLOUT,
    PROMOTE,
    RINGS,
    PROMETHEUS,
];

/// fleet.toml.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// The fleet's name.
    pub name: String,
    /// Whether images may be named by a tag.
    pub allow_tags: bool,
    /// Values for every device.
    pub values: Option<Node>,
    /// `[rollout]`.
    pub rollout: Option<Rollout>,
    /// `[promote]`, `[rings]` and `[prometheus]`.
    pub promotion: Promotion,
}

/// Reads fleet.toml. `format` and `requires_agent` come first, and leniently: where they say that this version cannot
/// read the repository, that is the one problem told, and nothing else in the repository should be judged.
///
/// # Errors
/// [`Unreadable`] where this version must not go on; the reason is in `out`. Other problems are in `out` alone.
pub fn parse(
    file: &str,
    bytes: &[u8],
    agent_version: &str,
    out: &mut Diagnostics,
) -> Result<Option<Fleet>, Unreadable> {
    let Some(node) = crate::toml_document::parse(file, bytes, out) else {
        return Ok(None);
    };
    readable(&node, agent_version, out)?;
    document::check_keys(&node, KEYS, "fleet.toml", out);
    if node.get("format").is_none() {
        node.error_with_help(out, "fleet.toml needs `format`", "write `format = 1`");
    }
    let name = decode::required(&node, "name", "fleet.toml", out)
        .and_then(|node| decode::filled_text(node, out));
    let allow_tags =
        decode::optional(&node, "allow_tags", out, decode::boolean).unwrap_or_default();
    let values = decode::optional(&node, "values", out, document::values);
    decode::optional(&node, "agent", out, agent_release::strict);
    let rollout = decode::optional(&node, "rollout", out, rollout::rollout);
    let promotion = promotion::promotion(&node, out);
    Ok(name.map(|name| Fleet {
        name,
        allow_tags,
        values,
        rollout,
        promotion,
    }))
}

/// This version of evenkeel cannot read the repository; the reason is among the diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

fn readable(node: &Node, agent_version: &str, out: &mut Diagnostics) -> Result<(), Unreadable> {
    if let Some(format) = node.get("format") {
        match &format.value {
            Value::Integer(FORMAT) => {}
            Value::Integer(other) if *other > FORMAT => {
                format.error_with_help(
                    out,
                    format!("this repository has format {other}, and evenkeel {agent_version} reads format {FORMAT}"),
                    "update evenkeel on this device",
                );
                return Err(Unreadable);
            }
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::List(_)
            | Value::Table(_) => format.error_with_help(
                out,
                format!(
                    "{} is not a format of a fleet repository",
                    decode::shown(format)
                ),
                "write `format = 1`",
            ),
        }
    }
    if let Some(requires) = node.get("requires_agent")
        && let Some(text) = decode::text(requires, out)
    {
        match meets(agent_version, &text) {
            Ok(true) => {}
            Ok(false) => {
                requires.error_with_help(
                    out,
                    format!("this repository requires evenkeel {text}, and this is evenkeel {agent_version}"),
                    "update evenkeel on this device",
                );
                return Err(Unreadable);
            }
            Err(part) => requires.error_with_help(
                out,
                format!("`{}` is not a condition on a version", part.escape_debug()),
                "write it like `>=0.1` or `>=0.1, <2`",
            ),
        }
    }
    Ok(())
}

/// Whether a version meets every condition (`>=0.1, <2`). Missing parts count as 0; `=0.1` means any `0.1.x`.
fn meets(version: &str, conditions: &str) -> Result<bool, String> {
    let have = numbers(version).ok_or_else(|| version.to_owned())?;
    let mut all = true;
    for condition in conditions.split(',') {
        let condition = condition.trim();
        let (sign, wanted) = [">=", "<=", ">", "<", "="]
            .iter()
            .find_map(|sign| Some((*sign, condition.strip_prefix(sign)?)))
            .ok_or_else(|| condition.to_owned())?;
        let wanted_parts = numbers(wanted).ok_or_else(|| condition.to_owned())?;
        let full = |parts: &[u64]| -> [u64; 3] {
            std::array::from_fn(|index| parts.get(index).copied().unwrap_or(0))
        };
        let (have, wanted) = (full(&have), full(&wanted_parts));
        all &= match sign {
            ">=" => have >= wanted,
            "<=" => have <= wanted || have[..wanted_parts.len()] == wanted[..wanted_parts.len()],
            ">" => have > wanted && have[..wanted_parts.len()] != wanted[..wanted_parts.len()],
            "<" => have < wanted,
            _ => have[..wanted_parts.len()] == wanted[..wanted_parts.len()],
        };
    }
    Ok(all)
}

/// One to three numbers with points between them; what follows `-` or `+` does not count.
fn numbers(text: &str) -> Option<Vec<u64>> {
    let text = text.trim();
    let text = text.split(['-', '+']).next().unwrap_or(text);
    let parts: Option<Vec<u64>> = text.split('.').map(|part| part.parse().ok()).collect();
    parts.filter(|parts| parts.len() <= 3)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    fn read(text: &str) -> (Result<Option<Fleet>, Unreadable>, Vec<String>) {
        let mut out = Diagnostics::new();
        let fleet = parse("fleet.toml", text.as_bytes(), "0.1.0", &mut out);
        (
            fleet,
            out.sorted().iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_newer_format_is_the_only_problem_told() {
        let (fleet, problems) = read("format = 2\nshiny = true\n");
        assert_eq!(fleet, Err(Unreadable));
        assert_eq!(problems.len(), 1);
        assert!(
            problems[0].starts_with("fleet.toml:1:10: this repository has format 2"),
            "{problems:?}"
        );
    }

    #[test]
    fn an_unmet_requirement_is_the_only_problem_told() {
        let (fleet, problems) = read("format = 1\nname = 'a'\nrequires_agent = '>=0.2'\nnew = 1\n");
        assert_eq!(fleet, Err(Unreadable));
        assert!(
            problems[0].contains("requires evenkeel >=0.2") && problems.len() == 1,
            "{problems:?}"
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let (_, problems) =
            read("format = 1\nnme = 'a'\nallow_tags = 3\n[values]\nA = 1\nb.c-d = 2\n");
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].contains("needs `name`"), "{problems:?}");
        assert!(problems[1].contains("did you mean `name`"), "{problems:?}");
        assert!(problems[3].contains("`[a-z][a-z0-9_]*`"), "{problems:?}");
        assert!(problems[4].starts_with("fleet.toml:6:3"), "{problems:?}");
    }

    #[test]
    fn conditions_are_judged_as_written() {
        for (condition, met) in [
            (">=0.1", true),
            (">=0.1.1", false),
            (">=0.1, <2", true),
            (">=0.1,<0.1", false),
            ("=0.1", true),
            (">0.1", false),
            ("<=0.1", true),
            (" >= 0 ", true),
        ] {
            assert_eq!(meets("0.1.0", condition), Ok(met), "{condition}");
        }
        for wrong in ["0.1", "", ">=", ">=x", "^1", ">=1.2.3.4", ">=0.1,"] {
            assert!(meets("0.1.0", wrong).is_err(), "{wrong}");
        }
    }
}
