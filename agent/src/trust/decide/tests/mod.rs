#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use evenkeel_schema::agent_config::RootSection;
use jiff::tz::TimeZone;
use sha1_checked::Digest as _;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

use super::*;
use crate::domain::commit::TrustFolder;
use crate::domain::commit::{RawCommit, RawHistory};
use crate::domain::revision::{Timestamp, TreeId};
use crate::trust::allowed_signers::AllowedSigners;
use crate::trust::trust_set::TRUST_NAMESPACE;

const NOW: i64 = 1_790_000_000;
const DAY: i64 = 86_400;

fn key(name: &str) -> PrivateKey {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

fn line(name: &str) -> String {
    let public = key(name).public_key().to_openssh().unwrap();
    format!("{name}@acme.example {public}\n")
}

fn sign(name: &str, namespace: &str, message: &[u8]) -> String {
    key(name)
        .sign(namespace, HashAlg::Sha512, message)
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap()
}

/// What a commit is made of; who signs is `""` where nobody does.
struct Make<'a> {
    by: &'a str,
    parents: Vec<&'a CommitId>,
    tree: &'a str,
    message: &'a str,
    time: i64,
}

impl<'a> Make<'a> {
    fn new(by: &'a str, parents: &[&'a CommitId], tree: &'a str) -> Self {
        Self {
            by,
            parents: parents.to_vec(),
            tree,
            message: "change",
            time: NOW,
        }
    }
}

/// A repository, and a device that looks at it.
struct Scenery {
    commits: BTreeMap<CommitId, RawCommit>,
    sets: BTreeMap<TreeId, Arc<TrustFolder>>,
    policy: TrustPolicy,
    adopted: Vec<AdoptedSet>,
    memo: Memo,
    clock: Option<Timestamp>,
    floor: Option<CommitId>,
    cut: Option<HistoryCut>,
    absent: BTreeSet<CommitId>,
}

fn tree(name: &str) -> TreeId {
    let mut digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    digits.truncate(40);
    format!("{digits:0<40}").parse().unwrap()
}

impl Scenery {
    fn new(signers: &[&str]) -> Self {
        let lines: String = signers.iter().map(|name| line(name)).collect();
        let signers = AllowedSigners::parse("signers", lines.as_bytes(), &TimeZone::UTC).unwrap();
        let mut policy = TrustPolicy::of(signers);
        policy.branch = "stable".to_owned();
        Self {
            commits: BTreeMap::new(),
            sets: BTreeMap::new(),
            policy,
            adopted: Vec::new(),
            memo: Memo::default(),
            clock: Some(Timestamp(NOW)),
            floor: None,
            cut: None,
            absent: BTreeSet::new(),
        }
    }

    fn commit(&mut self, make: &Make<'_>) -> CommitId {
        use std::fmt::Write as _;
        let mut head = format!("tree {}\n", tree(make.tree));
        for parent in &make.parents {
            writeln!(head, "parent {parent}").unwrap();
        }
        for role in ["author", "committer"] {
            writeln!(head, "{role} A <a@acme.example> {} +0000", make.time).unwrap();
        }
        let body = format!("\n{}\n", make.message);
        let signature = if make.by.is_empty() {
            String::new()
        } else {
            let armor = sign(make.by, "git", format!("{head}{body}").as_bytes());
            format!("gpgsig {}\n", armor.trim_end().replace('\n', "\n "))
        };
        let bytes = format!("{head}{signature}{body}").into_bytes();
        let mut hasher = sha1_checked::Sha1::new();
        hasher.update(format!("commit {}\0", bytes.len()).as_bytes());
        hasher.update(&bytes);
        let digest = hasher.try_finalize();
        let id: String = digest.hash().iter().map(|b| format!("{b:02x}")).collect();
        let id: CommitId = id.parse().unwrap();
        let raw = RawCommit {
            id: id.clone(),
            bytes,
            descent: Descent::NoFloor,
        };
        self.commits.insert(id.clone(), raw);
        id
    }

    /// An ordinary commit with a tree of its own.
    fn put(&mut self, by: &str, parents: &[&CommitId], tree: &str) -> CommitId {
        self.commit(&Make::new(by, parents, tree))
    }

    /// A trust set in a tree, signed by these.
    fn set(&mut self, in_tree: &str, serial: u64, signers: &[&str], root: &[&str]) {
        let lines: String = signers.iter().map(|name| line(name)).collect();
        let content = format!("# Fleet: acme\n# Serial: {serial}\n{lines}");
        let signatures = root
            .iter()
            .map(|name| {
                let file = format!("allowed_signers.sig.{name}");
                (
                    file,
                    sign(name, TRUST_NAMESPACE, content.as_bytes()).into_bytes(),
                )
            })
            .collect();
        let folder = TrustFolder {
            id: format!("{serial}"),
            allowed_signers: Some(content.into_bytes()),
            signatures,
            fleet: Some(b"format = 1\nname = \"acme\"\n".to_vec()),
        };
        self.sets.insert(tree(in_tree), Arc::new(folder));
    }

    fn ancestors(&self, of: &CommitId) -> BTreeSet<CommitId> {
        let mut seen = BTreeSet::new();
        let mut open = vec![of.clone()];
        while let Some(id) = open.pop() {
            if seen.insert(id.clone())
                && let Some(raw) = self.commits.get(&id)
                && let Ok(commit) = crate::trust::commit::Commit::parse(raw)
            {
                open.extend(commit.parents);
            }
        }
        seen
    }

    /// A pass of the device over that tip; what it adopts it remembers.
    fn look(&mut self, tip: &CommitId) -> Decision {
        let known = self.ancestors(tip);
        let settled = self
            .floor
            .as_ref()
            .map_or_else(BTreeSet::new, |floor| self.ancestors(floor));
        let descent = match &self.floor {
            None => Descent::NoFloor,
            Some(floor) if floor == tip => Descent::Same,
            Some(floor) if known.contains(floor) => Descent::Descends,
            Some(_) => Descent::NotDescendant,
        };
        let history = RawHistory {
            commits: known
                .iter()
                .filter(|id| !self.absent.contains(id))
                .filter_map(|id| Some((id.clone(), self.commits.get(id)?.bytes.clone())))
                .collect(),
            settled: known.intersection(&settled).cloned().collect(),
            sets: self.sets.clone(),
            cut: self.cut.clone(),
        };
        let mut raw = self.commits[tip].clone();
        raw.descent = descent;
        let decision = self.policy.decide(Scene {
            tip: &raw,
            history: &history,
            anchor: self.floor.as_ref().map_or(Anchor::None, Anchor::Floor),
            adopted: &self.adopted,
            time_floor: Timestamp(0),
            clock: self.clock,
            memo: &self.memo,
        });
        if let Some(sets) = &decision.adopt {
            self.adopted.clone_from(sets);
        }
        self.memo = decision.memo.clone();
        decision
    }

    /// Where that tip leads: the commit, or the reason and the commit that is to blame.
    fn verdict(&mut self, tip: &CommitId) -> Result<CommitId, (&'static str, CommitId)> {
        match self.look(tip).verdict {
            Verdict::Trusted(commit) => Ok(commit.id().clone()),
            Verdict::Refused(refused) => Err((refused.reason.as_str(), refused.commit.clone())),
            Verdict::Undecided(why) => panic!("not decided: {why}"),
        }
    }

    fn serial(&self) -> u64 {
        self.adopted.last().map_or(0, |set| set.serial)
    }

    fn with_root(mut self, threshold: usize) -> Self {
        self.policy.root = Some(RootSection {
            signers: vec!["root*@acme.example".to_owned()],
            threshold,
        });
        self
    }

    fn with_heartbeat(mut self) -> Self {
        self.policy.heartbeat = vec!["ci@acme.example".to_owned()];
        self
    }

    fn every_commit(mut self, on_unsigned: OnUnsigned) -> Self {
        self.policy.verify = Verify::EveryCommit;
        self.policy.on_unsigned = on_unsigned;
        self
    }
}

mod dates;
mod every_commit;
mod heartbeats;
mod rotation;
mod supersedes;
