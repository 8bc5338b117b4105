//! Which version of the agent a verified tree declares for a device: `[agent]` of its document, else of the last of its groups
//! that has one, else of fleet.toml. The whole section counts, for a version and its sums belong together.
//!
//! Read leniently, before and beside everything else: an agent that is too old for the rest of a repository finds its successor
//! here. What it needs and cannot read (a group that declares a version, and says in a new way whom it means) makes the
//! declaration unknown, never another one.

use std::collections::BTreeMap;

use evenkeel_schema::agent_release::{self, AgentRelease};
use evenkeel_schema::device::{self, MachineId};
use evenkeel_schema::diagnostic::{Diagnostics, Position};
use evenkeel_schema::group;
use evenkeel_schema::name::{DeviceId, GroupName};
use evenkeel_schema::node::{Node, Value};
use evenkeel_schema::toml_document;

use super::{FLEET, device_path, documents};
use crate::domain::agent::{Declared, Release};
use crate::domain::tree::Tree;

/// Whose version is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'a> {
    /// The device.
    pub device: &'a DeviceId,
    /// Its own labels.
    pub labels: &'a BTreeMap<String, String>,
    /// What fleet.toml must name, where the owner says so.
    pub fleet: Option<&'a str>,
    /// The machine, or why that cannot be told.
    pub machine: &'a Result<MachineId, String>,
    /// Its architecture.
    pub arch: &'a str,
}

/// What these documents ([`super::first_documents`]) declare.
#[must_use]
pub fn declared_agent(whose: Whose<'_>, tree: &Tree) -> Declared {
    match declared(whose, tree) {
        Ok(None) => Declared::Nothing,
        Err(why) => Declared::Unknown(why),
        Ok(Some(release)) => match release.binaries.get(whose.arch) {
            Some(binary) => Declared::Release(Release {
                version: release.version,
                binary: binary.clone(),
            }),
            None => Declared::Unknown(format!(
                "evenkeel {} is declared, and no binary of it for this machine: add [agent.binaries.{}]",
                release.version, whose.arch
            )),
        },
    }
}

fn declared(whose: Whose<'_>, tree: &Tree) -> Result<Option<AgentRelease>, String> {
    let Some(fleet) = document(tree, FLEET)? else {
        return Ok(None);
    };
    if let Some(wanted) = whose.fleet {
        match fleet.get("name").map(|node| &node.value) {
            Some(Value::String(name)) if name == wanted => {}
            _ => return Err("the repository is of another fleet".to_owned()),
        }
    }
    let device = document(tree, &device_path(whose.device))?;
    let (mut labels, mut own) = (whose.labels.clone(), None);
    if let Some(node) = &device {
        let device = device::lenient(node)?;
        if let Some(pinned) = &device.machine_id
            && whose.machine.as_ref() != Ok(&pinned.value)
        {
            return Err(format!("{} is for another machine", node.file));
        }
        labels.extend(device.labels);
        own = agent_release::lenient(node)?;
    }
    let mut release = agent_release::lenient(&fleet)?;
    let mut ignored = Diagnostics::new();
    for (path, _) in documents::named::<GroupName>(tree, "groups", &mut ignored) {
        let Some(node) = document(tree, &path)? else {
            continue;
        };
        // Whom it means is of interest only where it declares something.
        if node.get("agent").is_some() && group::lenient_selector(&node)?.matches(&labels) {
            release = agent_release::lenient(&node)?.or(release);
        }
    }
    Ok(own.or(release))
}

/// A binary that a repository declares and carries itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The document that declares it.
    pub file: String,
    /// Where it is in the repository.
    pub path: String,
    /// Where the document says so.
    pub path_at: Position,
    /// What it must be.
    pub sha256: String,
    /// Where the document says so.
    pub sha256_at: Position,
}

/// Every binary that is declared by its `path`, whoever runs it. What cannot be read is left to who judges the documents.
#[must_use]
pub fn carried(tree: &Tree) -> Vec<Carried> {
    let below = ["groups", "devices"].map(|folder| documents::below(tree, folder));
    let paths = below.into_iter().flatten().chain([FLEET]);
    let mut found = Vec::new();
    for path in paths.filter(|path| path.ends_with(".toml")) {
        let Ok(Some(document)) = document(tree, path) else {
            continue;
        };
        let binaries = document.get("agent").and_then(|node| node.get("binaries"));
        for entry in binaries.map(Node::entries).unwrap_or_default() {
            let text = |key: &str| {
                let node = entry.value.get(key)?;
                let Value::String(text) = &node.value else {
                    return None;
                };
                Some((text.clone(), node.at))
            };
            if let (Some((path, path_at)), Some((sha256, sha256_at))) =
                (text("path"), text("sha256"))
            {
                found.push(Carried {
                    file: document.file.to_string(),
                    path,
                    path_at,
                    sha256,
                    sha256_at,
                });
            }
        }
    }
    found
}

/// A document as far as TOML goes; `None` where there is none.
fn document(tree: &Tree, path: &str) -> Result<Option<Node>, String> {
    let mut out = Diagnostics::new();
    let node = documents::optional(tree, path, &mut out)
        .and_then(|bytes| toml_document::parse(path, bytes, &mut out));
    match out.sorted().first() {
        None => Ok(node),
        Some(problem) => Err(problem.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::tree::Document;

    fn agent(version: &str) -> String {
        let sum = "0123456789abcdef".repeat(4);
        format!(
            "[agent]\nversion = '{version}'\n[agent.binaries.x86_64]\nurl = 'https://a/x'\nsha256 = '{sum}'\n"
        )
    }

    fn tree(documents: &[(&str, &str)]) -> Tree {
        let documents = documents.iter().map(|(path, text)| {
            let text = text.replace("AGENT ", "");
            ((*path).to_owned(), Document::File(text.into_bytes()))
        });
        Tree {
            documents: documents.collect(),
        }
    }

    fn asked(documents: &[(&str, &str)], arch: &str, fleet: Option<&str>) -> Declared {
        let labels = BTreeMap::from([("role".to_owned(), "kiosk".to_owned())]);
        let machine = Err("no machine".to_owned());
        let whose = Whose {
            device: &"gw-1".parse().unwrap(),
            labels: &labels,
            fleet,
            machine: &machine,
            arch,
        };
        declared_agent(whose, &tree(documents))
    }

    fn version(documents: &[(&str, &str)]) -> String {
        match asked(documents, "x86_64", None) {
            Declared::Release(release) => release.version.to_string(),
            Declared::Nothing => "nothing".to_owned(),
            Declared::Unknown(why) => why,
        }
    }

    #[test]
    fn the_device_wins_over_its_groups_and_the_last_of_these_over_the_fleet() {
        let fleet = ("fleet.toml", &*format!("format = 1\n{}", agent("1.0")));
        let a = (
            "groups/a.toml",
            &*format!("match = 'all'\n{}", agent("2.0")),
        );
        let b = (
            "groups/b.toml",
            &*format!("match = {{ role = 'kiosk' }}\n{}", agent("3.0")),
        );
        let c = (
            "groups/c.toml",
            &*format!("match = {{ role = 'gateway' }}\n{}", agent("4.0")),
        );
        let device = ("devices/gw-1.toml", &*agent("5.0"));
        let other = ("devices/gw-2.toml", &*agent("6.0"));
        assert_eq!(version(&[fleet, other]), "1.0");
        assert_eq!(version(&[fleet, a, b, c]), "3.0");
        assert_eq!(version(&[fleet, a, b, c, device]), "5.0");
        assert_eq!(version(&[("fleet.toml", "format = 1\n")]), "nothing");
        // A label that is signed wins over the device's own.
        let relabelled = ("devices/gw-1.toml", "labels = { role = 'gateway' }\n");
        assert_eq!(version(&[fleet, a, b, c, relabelled]), "4.0");
    }

    #[test]
    fn a_repository_of_the_future_still_says_which_agent_it_wants() {
        let fleet = format!(
            "format = 99\nrequires_agent = '>=99'\nshiny = [1]\n{}mood = 'good'\n",
            agent("99.0")
        );
        let group = (
            "groups/a.toml",
            "match = { any = [1, { x = 2 }] }\nnew = 1\n",
        );
        assert_eq!(version(&[("fleet.toml", &fleet), group]), "99.0");
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_never_the_version_behind_it() {
        let fleet = ("fleet.toml", &*agent("1.0"));
        let odd_selector = format!("match = {{ any = [[1]] }}\n{}", agent("2.0"));
        for (path, text) in [
            ("groups/a.toml", "match = 'all'\n[agent]\n"),
            ("groups/a.toml", odd_selector.as_str()),
            ("groups/a.toml", "match = "),
            ("devices/gw-1.toml", "agent = 1\n"),
            (
                "devices/gw-1.toml",
                "machine_id = '3d1219c7c4c5404aaa1f6d2a48adfda4'\n",
            ),
        ] {
            let said = asked(&[fleet, (path, text)], "x86_64", None);
            assert!(matches!(said, Declared::Unknown(_)), "{text}: {said:?}");
        }
        assert!(matches!(
            asked(&[fleet], "armv7", None),
            Declared::Unknown(why) if why.contains("[agent.binaries.armv7]")
        ));
        assert!(matches!(
            asked(&[fleet], "x86_64", Some("mine")),
            Declared::Unknown(why) if why.contains("another fleet")
        ));
    }
}
