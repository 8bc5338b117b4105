//! `[metered]`: what may be spent where a link is paid by the byte.

use super::keys::METERED;
use crate::diagnostic::Diagnostics;
use crate::node::Node;
use crate::{decode, document, size};

/// `[metered]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MeteredSection {
    /// When the link is metered.
    pub when: MeteredWhen,
    /// What git, and the agent's own binaries, may take; empty: anything.
    pub git: Vec<Allowance>,
    /// What pulls of images may take; empty: anything.
    pub images: Vec<Allowance>,
    /// What the agent itself fetches comes no faster: bytes a second.
    pub rate: Option<u64>,
}

/// When the link is metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MeteredWhen {
    /// Never: what is so without `[metered]`.
    #[default]
    Never,
    /// Always.
    Always,
    /// When NetworkManager says so.
    Auto,
}

/// So many bytes in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many.
    pub bytes: u64,
    /// In what.
    pub per: Per,
}

/// A day or a month, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// A day.
    Day,
    /// A month of the calendar.
    Month,
}

impl Per {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

pub(super) fn parse(node: &Node, out: &mut Diagnostics) -> Option<MeteredSection> {
    if !document::check_keys(node, METERED, "`[metered]`", out) {
        return None;
    }
    let when = decode::optional(node, "when", out, |node, out| {
        let words = [
            ("auto", MeteredWhen::Auto),
            ("always", MeteredWhen::Always),
            ("never", MeteredWhen::Never),
        ];
        decode::one_of(node, &words, out)
    });
    let mut allowances = |name: &str| {
        let listed = decode::optional(node, name, out, |node, out| {
            let listed = decode::list_or_one(node, out, allowance)?;
            for (at, one) in listed.iter().enumerate() {
                if listed[..at].iter().any(|other| other.per == one.per) {
                    node.error(out, format!("two budgets a {}: write one", one.per.word()));
                }
            }
            Some(listed)
        });
        listed.unwrap_or_default()
    };
    let (git, images) = (allowances("git"), allowances("images"));
    Some(MeteredSection {
        when: when.unwrap_or(MeteredWhen::Auto),
        git,
        images,
        rate: decode::optional(node, "rate", out, rate),
    })
}

/// `5MB/day`.
fn allowance(node: &Node, out: &mut Diagnostics) -> Option<Allowance> {
    let text = decode::filled_text(node, out)?;
    let read = text.rsplit_once('/').and_then(|(bytes, per)| {
        let per = match per.trim() {
            "day" => Per::Day,
            "month" => Per::Month,
            _ => return None,
        };
        let bytes = size::parse(bytes).ok().filter(|bytes| *bytes > 0)?;
        Some(Allowance { bytes, per })
    });
    if read.is_none() {
        node.error_with_help(
            out,
            format!("`{}` is not a budget", text.escape_debug()),
            "write it like `5MB/day` or `2GB/month`, or a list of both",
        );
    }
    read
}

/// `200kB/s`.
fn rate(node: &Node, out: &mut Diagnostics) -> Option<u64> {
    /// A pack of a megabyte takes a quarter of an hour then.
    const LOWEST: u64 = 1024;
    let text = decode::filled_text(node, out)?;
    let read = text
        .strip_suffix("/s")
        .and_then(|bytes| size::parse(bytes).ok())
        .filter(|rate| *rate >= LOWEST);
    if read.is_none() {
        node.error_with_help(
            out,
            format!("`{}` is not a rate of at least 1kB/s", text.escape_debug()),
            "write it like `200kB/s`",
        );
    }
    read
}
