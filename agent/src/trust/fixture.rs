//! Commits that are really signed, for tests: there is no other way to a verified one.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use evenkeel_schema::agent_config::RootSection;
use sha1_checked::Digest as _;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

use super::allowed_signers::AllowedSigners;
use super::policy::TrustPolicy;
use super::trust_set::TRUST_NAMESPACE;
use crate::domain::revision::CommitId;

/// The empty tree.
pub(crate) const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

/// Whose key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hand {
    /// The one that [`policy`] trusts.
    Trusted,
    /// Another one.
    Stranger,
    /// The one that [`set`] trusts in its place.
    Next,
    /// One for heartbeats: [`policy_with_all`] knows it.
    Heart,
    /// Root's: [`policy_with_all`] knows it.
    Root,
    /// Nobody's.
    Nobody,
}

/// What a commit says.
#[derive(Debug, Clone)]
pub(crate) struct Draft<'a> {
    pub(crate) tree: &'a str,
    pub(crate) parents: &'a [CommitId],
    pub(crate) time: i64,
    pub(crate) message: &'a str,
}

impl Draft<'_> {
    /// The commit's id and bytes.
    pub(crate) fn signed(&self, hand: Hand) -> (CommitId, Vec<u8>) {
        use std::fmt::Write as _;
        let mut head = format!("tree {}\n", self.tree);
        for parent in self.parents {
            writeln!(head, "parent {parent}").unwrap();
        }
        for role in ["author", "committer"] {
            writeln!(head, "{role} A <a@example.com> {} +0000", self.time).unwrap();
        }
        let body = format!("\n{}\n", self.message);
        let signature = match hand {
            Hand::Nobody => String::new(),
            Hand::Trusted | Hand::Stranger | Hand::Next | Hand::Heart | Hand::Root => {
                let armor = key(hand)
                    .sign("git", HashAlg::Sha512, format!("{head}{body}").as_bytes())
                    .unwrap()
                    .to_pem(LineEnding::LF)
                    .unwrap();
                format!("gpgsig {}\n", armor.trim_end().replace('\n', "\n "))
            }
        };
        let bytes = format!("{head}{signature}{body}").into_bytes();
        let mut hasher = sha1_checked::Sha1::new();
        hasher.update(format!("commit {}\0", bytes.len()).as_bytes());
        hasher.update(&bytes);
        let id: String = hasher
            .try_finalize()
            .hash()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (id.parse().unwrap(), bytes)
    }
}

fn key(hand: Hand) -> PrivateKey {
    let seed = match hand {
        Hand::Trusted => 7,
        Hand::Stranger | Hand::Nobody => 8,
        Hand::Next => 9,
        Hand::Heart => 10,
        Hand::Root => 11,
    };
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn line(name: &str, hand: Hand) -> String {
    let public = key(hand).public_key().to_openssh().unwrap();
    format!("{name}@example.com {public}\n")
}

fn policy_of(lines: &str) -> TrustPolicy {
    let signers =
        AllowedSigners::parse("signers", lines.as_bytes(), &jiff::tz::TimeZone::UTC).unwrap();
    TrustPolicy::of(signers)
}

/// Trusts [`Hand::Trusted`] alone.
pub(crate) fn policy() -> TrustPolicy {
    policy_of(&line("a", Hand::Trusted))
}

/// Trusts [`Hand::Trusted`], [`Hand::Heart`] for heartbeats, and [`Hand::Root`] for the trust set.
pub(crate) fn policy_with_all() -> TrustPolicy {
    let lines = [
        line("a", Hand::Trusted),
        line("heart", Hand::Heart),
        line("root", Hand::Root),
    ];
    TrustPolicy {
        heartbeat: vec!["heart@example.com".to_owned()],
        root: Some(RootSection {
            signers: vec!["root@example.com".to_owned()],
            threshold: 1,
        }),
        ..policy_of(&lines.concat())
    }
}

/// The documents of a trust set by root in which [`Hand::Next`] has taken the place of [`Hand::Trusted`].
pub(crate) fn set() -> [(&'static str, String); 2] {
    let lines = line("a", Hand::Next);
    let content = format!("# Fleet: acme\n# Serial: 1\n{lines}");
    let signature = key(Hand::Root)
        .sign(TRUST_NAMESPACE, HashAlg::Sha512, content.as_bytes())
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap();
    [
        ("trust/allowed_signers", content),
        ("trust/allowed_signers.sig.root", signature),
    ]
}
