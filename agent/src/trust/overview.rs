//! The trust set in force, line by line, for people: where each key comes from, what it may do, and until when.
//!
//! Decides nothing: verdicts come from the policy itself. What is shown here is read from the same lines by the same rules.

use std::collections::BTreeMap;

use evenkeel_schema::agent_config::{OnUnsigned, Verify};
use serde::{Deserialize, Serialize};

use super::allowed_signers::{AllowedSigners, Role, SignerLine};
use super::policy::{Binding, TrustPolicy};
use super::revoked::Revoked;
use super::sshsig::GIT_NAMESPACE;
use super::trust_set::{Sets, speaks_for_root};
use super::{forge, pattern};
use crate::domain::history::AdoptedSet;
use crate::domain::revision::{CommitId, Timestamp};

/// How long before its end a key is told to end: a month is time to rotate it in.
pub const WARN_BEFORE: i64 = 30 * 86_400;

/// What a device trusts, and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Which set is in force.
    pub set: SetInForce,
    /// Its lines, in the order in which they are asked.
    pub lines: Vec<LineView>,
    /// Lines that are not used, each with its place and the reason.
    pub skipped: Vec<String>,
    /// What ends soon or has ended; keys that stand for more people than they seem to; what of a keyring is not used.
    pub warnings: Vec<String>,
    /// The revocation list, where one is configured.
    pub revoked: Option<RevokedView>,
    /// The branch that is tracked.
    pub branch: String,
    /// Who may sign it; `None`: every signer.
    pub branch_signers: Option<Vec<String>>,
    /// Whether a commit must name its branch.
    pub bind_branch: bool,
    /// `tip` or `every-commit`.
    pub verify: String,
    /// `hold` or `advance-before`.
    pub on_unsigned: String,
    /// How many principals must have signed a tree for the branch.
    pub approvals: usize,
    /// Who may only say that the branch is alive.
    pub heartbeat: Vec<String>,
    /// Who may change the set in the repository; `None`: nobody.
    pub root: Option<RootView>,
    /// The fleet's name, where the owner gave it.
    pub fleet: Option<String>,
    /// What the first commit must descend from.
    pub pin: Option<CommitId>,
}

/// Which set is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetInForce {
    /// 0: the file on the device alone.
    pub serial: u64,
    /// The files its lines come from.
    pub source: String,
    /// The commit that brought it, where it is known.
    pub commit: Option<CommitId>,
    /// When it was adopted.
    pub adopted: Option<Timestamp>,
}

/// `[trust.root]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// Patterns of principals.
    pub signers: Vec<String>,
    /// How many of them must sign.
    pub threshold: usize,
}

/// `trust.revoked`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedView {
    /// The file.
    pub file: String,
    /// What it holds: `3 revoked keys`.
    pub holds: String,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineView {
    /// `/etc/evenkeel/allowed_signers:3`, `trust/allowed_signers (serial 7):5`; of a keyring its file.
    pub place: String,
    /// Its principals.
    pub principals: Vec<String>,
    /// The key's type.
    pub key_type: String,
    /// The key, as `ssh-keygen -l` prints it; an OpenPGP key by its fingerprint.
    pub fingerprint: String,
    /// What it may do: `signer`, `certificate-authority`, `root`, `heartbeat`.
    pub roles: Vec<String>,
    /// The branches with signers of their own that it may sign.
    pub branches: Vec<String>,
    /// Patterns of namespaces; `None`: any.
    pub namespaces: Option<Vec<String>>,
    /// From when on it counts.
    pub valid_after: Option<Timestamp>,
    /// Until when.
    pub valid_before: Option<Timestamp>,
    /// Whether it counts now.
    pub state: LineState,
}

/// Whether a line counts now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineState {
    /// It does.
    Valid,
    /// It does, and ends within a month.
    EndsSoon,
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// Its key is revoked.
    Revoked,
}

impl Overview {
    /// The overview at a time; `adopted` is what the journal remembers.
    #[must_use]
    pub fn of(policy: &TrustPolicy, adopted: &[AdoptedSet], now: Timestamp) -> Self {
        let sets = Sets::new(policy, adopted, now);
        let (serial, signers) = sets.in_force();
        let set = adopted.iter().find(|set| set.serial == serial);
        Self {
            set: SetInForce {
                serial,
                source: signers.file().to_owned(),
                commit: set.and_then(|set| set.by.clone()),
                adopted: set.map(|set| set.at),
            },
            lines: signers
                .lines()
                .iter()
                .map(|line| view(policy, line, now))
                .chain(keyring_views(policy, now))
                .collect(),
            skipped: signers.skipped().iter().map(ToString::to_string).collect(),
            warnings: warnings_of(policy, signers, now),
            revoked: policy.revoked_file.as_ref().map(|file| RevokedView {
                file: file.clone(),
                holds: policy.revoked.describe(),
            }),
            branch: policy.branch.clone(),
            branch_signers: policy.branch_signers.clone(),
            bind_branch: policy.binding == Binding::Required,
            verify: match policy.verify {
                Verify::Tip => "tip",
                Verify::EveryCommit => "every-commit",
            }
            .to_owned(),
            on_unsigned: match policy.on_unsigned {
                OnUnsigned::Hold => "hold",
                OnUnsigned::AdvanceBefore => "advance-before",
            }
            .to_owned(),
            approvals: policy.approvals,
            heartbeat: policy.heartbeat.clone(),
            root: policy.root.as_ref().map(|root| RootView {
                signers: root.signers.clone(),
                threshold: root.threshold,
            }),
            fleet: policy.fleet.clone(),
            pin: policy.pin.clone(),
        }
    }
}

/// What a person should know of the set in force before it is too late, in words that change only when the set or a
/// state does.
#[must_use]
pub fn warnings(policy: &TrustPolicy, adopted: &[AdoptedSet], now: Timestamp) -> Vec<String> {
    warnings_of(policy, Sets::new(policy, adopted, now).in_force().1, now)
}

/// The lines of a set that end soon or have ended, where no policy is known; each with what is to be told of it.
#[must_use]
pub fn ends_soon(signers: &AllowedSigners, now: Timestamp) -> Vec<(&SignerLine, String)> {
    let told = |line| {
        let told = end_of(state(&Revoked::default(), line, now), line.valid_before)?;
        let names = line.principals.join(",");
        Some((line, format!("the key of {names} {told}")))
    };
    signers.lines().iter().filter_map(told).collect()
}

/// When it ends, where that is worth telling.
fn end_of(state: LineState, end: Option<Timestamp>) -> Option<String> {
    match (state, end) {
        (LineState::EndsSoon, Some(end)) => Some(format!("counts until {end}: rotate it before")),
        (LineState::Expired, Some(end)) => Some(format!("counted until {end}")),
        (
            LineState::Valid
            | LineState::EndsSoon
            | LineState::Expired
            | LineState::NotYetValid
            | LineState::Revoked,
            _,
        ) => None,
    }
}

fn warnings_of(policy: &TrustPolicy, signers: &AllowedSigners, now: Timestamp) -> Vec<String> {
    let mut found = Vec::new();
    for line in signers.lines() {
        let told = end_of(state(&policy.revoked, line, now), line.valid_before);
        let names = line.principals.join(",");
        found.extend(told.map(|told| format!("the key of {names} ({}) {told}", line.place())));
        found.extend(
            forge::signer_line(line)
                .into_iter()
                .map(|why| format!("{}: {why}", line.place())),
        );
    }
    for line in keyring_views(policy, now) {
        let told = match (line.state, line.valid_before) {
            (LineState::EndsSoon, Some(end)) => format!("counts until {end}: renew it before"),
            (LineState::Expired, Some(end)) => format!("counted until {end}"),
            (
                LineState::Valid
                | LineState::EndsSoon
                | LineState::Expired
                | LineState::NotYetValid
                | LineState::Revoked,
                _,
            ) => continue,
        };
        let names = line.principals.join(",");
        found.push(format!("the key of {names} ({}) {told}", line.place));
    }
    let keyring = policy.openpgp.iter().flat_map(|keyring| keyring.warnings());
    found.extend(keyring.cloned());
    found
}

/// The keys of the keyring, as lines; one that can never count is told as a warning instead.
fn keyring_views(policy: &TrustPolicy, now: Timestamp) -> Vec<LineView> {
    let Some(keyring) = &policy.openpgp else {
        return Vec::new();
    };
    let among = |name: &str, patterns: &[String]| {
        pattern::matches_list(name, patterns.iter().map(String::as_str))
    };
    let mut views = Vec::new();
    for holder in keyring.holders() {
        for (key_type, fingerprint, until) in holder.keys {
            let name = holder.principal.clone().unwrap_or_default();
            let role = if among(&name, &policy.heartbeat) {
                "heartbeat"
            } else {
                "signer"
            };
            views.push(LineView {
                place: keyring.file().to_owned(),
                key_type,
                fingerprint,
                roles: vec![role.to_owned()],
                branches: policy
                    .branches
                    .iter()
                    .filter(|(_, signers)| among(&name, signers))
                    .map(|(branch, _)| branch.clone())
                    .collect(),
                principals: vec![name],
                namespaces: Some(vec![GIT_NAMESPACE.to_owned()]),
                valid_after: None,
                valid_before: until,
                state: match until {
                    Some(end) if now >= end => LineState::Expired,
                    Some(end) if end.0.saturating_sub(now.0) <= WARN_BEFORE => LineState::EndsSoon,
                    Some(_) | None => LineState::Valid,
                },
            });
        }
    }
    views
}

fn state(revoked: &Revoked, line: &SignerLine, now: Timestamp) -> LineState {
    if revoked.contains(&line.key) {
        return LineState::Revoked;
    }
    match (line.valid_after, line.valid_before) {
        (_, Some(before)) if now > before => LineState::Expired,
        (Some(after), _) if now < after => LineState::NotYetValid,
        (_, Some(before)) if before.0.saturating_sub(now.0) <= WARN_BEFORE => LineState::EndsSoon,
        (_, _) => LineState::Valid,
    }
}

fn view(policy: &TrustPolicy, line: &SignerLine, now: Timestamp) -> LineView {
    let is_heartbeat = line.speaks_only_for(&policy.heartbeat);
    let signs = line.allows_namespace(GIT_NAMESPACE) && line.principal().is_some();
    let roles = [
        ("certificate-authority", line.role == Role::CertAuthority),
        (
            "signer",
            line.role == Role::Signer && signs && !is_heartbeat,
        ),
        (
            "root",
            policy
                .root
                .as_ref()
                .is_some_and(|root| speaks_for_root(line, root)),
        ),
        ("heartbeat", signs && is_heartbeat),
    ];
    LineView {
        place: line.place(),
        principals: line.principals.clone(),
        key_type: line.key.key_type(),
        fingerprint: line.key.fingerprint(),
        roles: roles
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(role, _)| role.to_owned())
            .collect(),
        branches: branches(&policy.branches, line, signs),
        namespaces: line.namespaces.clone(),
        valid_after: line.valid_after,
        valid_before: line.valid_before,
        state: state(&policy.revoked, line, now),
    }
}

fn branches(all: &BTreeMap<String, Vec<String>>, line: &SignerLine, signs: bool) -> Vec<String> {
    all.iter()
        .filter(|(_, signers)| signs && line.principal_among(signers).is_some())
        .map(|(branch, _)| branch.clone())
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use evenkeel_schema::agent_config::RootSection;
    use jiff::tz::TimeZone;

    use super::*;

    const KEYS: [&str; 3] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
    ];
    /// 2026-03-01.
    const NOW: Timestamp = Timestamp(1_772_323_200);

    fn policy(text: &str) -> TrustPolicy {
        TrustPolicy::of(AllowedSigners::parse("f", text.as_bytes(), &TimeZone::UTC).unwrap())
    }

    #[test]
    fn what_ends_within_a_month_or_has_ended_is_told() {
        let [a, b, c] = KEYS;
        let line = |name: &str, before: &str, key: &str| {
            format!("{name} valid-before=\"{before}Z\" {key}\n")
        };
        let text = [
            line("soon", "20260331", a),
            line("later", "20260401", a),
            line("over", "20260228", b),
            format!("ahead valid-after=\"20260302Z\" {b}\n"),
            format!("gone {c}\n"),
            format!("ever {a}\n"),
        ]
        .concat();
        let mut policy = policy(&text);
        policy.revoked = Revoked::parse("r", c.as_bytes()).unwrap();
        let overview = Overview::of(&policy, &[], NOW);
        let states: Vec<LineState> = overview.lines.iter().map(|line| line.state).collect();
        use LineState::{EndsSoon, Expired, NotYetValid, Revoked as Gone, Valid};
        assert_eq!(states, [EndsSoon, Valid, Expired, NotYetValid, Gone, Valid]);
        assert_eq!(
            overview.warnings,
            [
                "the key of soon (f:1) counts until 2026-03-31T00:00:00Z: rotate it before",
                "the key of over (f:3) counted until 2026-02-28T00:00:00Z",
            ]
        );
        assert_eq!(overview.warnings, warnings(&policy, &[], NOW));
    }

    #[test]
    fn each_line_says_what_it_may_do_and_where_it_stands() {
        let [a, b, c] = KEYS;
        let local = format!(
            "root {a}\nci namespaces=\"git\" {b}\nold {c}\n* cert-authority,namespaces=\"git\" {c}\n"
        );
        let mut policy = policy(&local);
        policy.heartbeat = vec!["ci".to_owned()];
        policy.branches = BTreeMap::from([
            ("stable".to_owned(), vec!["root".to_owned()]),
            ("canary".to_owned(), vec!["*".to_owned()]),
        ]);
        policy.root = Some(RootSection {
            signers: vec!["root".to_owned()],
            threshold: 1,
        });
        let roles = |overview: &Overview| -> Vec<(String, String, String)> {
            let line = |line: &LineView| {
                (
                    line.place.clone(),
                    line.roles.join(" "),
                    line.branches.join(" "),
                )
            };
            overview.lines.iter().map(line).collect()
        };
        let own = |found: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
            let own = |(a, b, c): &(&str, &str, &str)| {
                ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())
            };
            found.iter().map(own).collect()
        };
        let overview = Overview::of(&policy, &[], NOW);
        assert_eq!(overview.set.serial, 0);
        assert_eq!(
            roles(&overview),
            own(&[
                ("f:1", "signer root", "canary stable"),
                ("f:2", "heartbeat", "canary"),
                ("f:3", "signer", "canary"),
                ("f:4", "certificate-authority root", "canary stable"),
            ])
        );
        let adopted = AdoptedSet {
            serial: 7,
            content: format!("# Fleet: x\n# Serial: 7\nnew {b}\n"),
            by: Some("a".repeat(40).parse().unwrap()),
            at: NOW,
        };
        let overview = Overview::of(&policy, &[adopted], NOW);
        assert_eq!(overview.set.serial, 7);
        assert_eq!(overview.set.commit, Some("a".repeat(40).parse().unwrap()));
        let places: Vec<&str> = overview
            .lines
            .iter()
            .map(|line| line.place.as_str())
            .collect();
        assert_eq!(places, ["f:1", "f:4", "trust/allowed_signers (serial 7):3"]);
    }
}
