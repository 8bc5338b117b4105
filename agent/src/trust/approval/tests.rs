#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
use jiff::tz::TimeZone;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

use super::super::fixture::{Draft, EMPTY_TREE, Hand};
use super::super::revoked::Revoked;
use super::*;

const BASE: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";
const TIME: i64 = 1_700_000_000; // 2023-11-14

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn public(seed: u8) -> String {
    key(seed).public_key().to_openssh().unwrap()
}

fn set(lines: &[(&str, u8)]) -> AllowedSigners {
    let text: String = lines
        .iter()
        .map(|(start, seed)| format!("{start} {}\n", public(*seed)))
        .collect();
    AllowedSigners::parse("signers", text.as_bytes(), &TimeZone::UTC).unwrap()
}

/// Who signed the commit itself.
fn own(principal: &str, seed: u8) -> Signer {
    Signer {
        principal: principal.to_owned(),
        fingerprint: key(seed)
            .public_key()
            .fingerprint(HashAlg::Sha256)
            .to_string(),
        key_type: "ssh-ed25519".to_owned(),
    }
}

/// The base64 of a signature over this text.
fn blob(seed: u8, namespace: &str, text: &str) -> String {
    let armor = key(seed)
        .sign(namespace, HashAlg::Sha512, text.as_bytes())
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap();
    armor
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect()
}

fn text(fleet: &str, branch: &str, tree: &str, base: Option<&str>) -> String {
    let base: Option<CommitId> = base.map(|base| base.parse().unwrap());
    statement(fleet, branch, &tree.parse().unwrap(), base.as_ref())
}

/// A trailer that approves what [`commit`] makes.
fn approval(seed: u8) -> String {
    let text = text("acme", "stable", EMPTY_TREE, Some(BASE));
    trailer("acme", &blob(seed, APPROVAL_NAMESPACE, &text))
}

fn trailer(fleet: &str, blob: &str) -> String {
    format!("Fleet-Approval: {fleet} {blob}")
}

/// A commit on top of `BASE` with these trailers.
fn commit(trailers: &[String]) -> Commit {
    let message = format!("Release\n\n{}", trailers.join("\n"));
    parsed(&[BASE.parse().unwrap()], &message, EMPTY_TREE).0
}

fn parsed(parents: &[CommitId], message: &str, tree: &str) -> (Commit, CommitId, Vec<u8>) {
    let draft = Draft {
        tree,
        parents,
        time: TIME,
        message,
    };
    let (id, bytes) = draft.signed(Hand::Nobody);
    let raw = RawCommit {
        id: id.clone(),
        bytes: bytes.clone(),
        descent: Descent::NoFloor,
    };
    (Commit::parse(&raw).unwrap(), id, bytes)
}

fn policy(approvals: usize) -> TrustPolicy {
    TrustPolicy {
        branch: "stable".to_owned(),
        approvals,
        ..TrustPolicy::of(team())
    }
}

/// Alice (1) with a second key (2), Bob (3), Carol (4).
fn team() -> AllowedSigners {
    set(&[("alice@x", 1), ("alice@x", 2), ("bob@x", 3), ("carol@x", 4)])
}

fn counted(policy: &TrustPolicy, signers: &AllowedSigners, trailers: &[String]) -> Approvals {
    let base = BASE.parse().unwrap();
    count(
        policy,
        signers,
        &commit(trailers),
        &own("alice@x", 1),
        Some(&base),
        Timestamp(0),
    )
}

#[test]
fn what_is_signed_is_these_bytes() {
    assert_eq!(
        text("acme gateways", "stable", EMPTY_TREE, Some(BASE)),
        "evenkeel-approval v1\nfleet acme gateways\nbranch stable\n\
         tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nbase 1111111111111111111111111111111111111111\n"
    );
    assert!(
        text("a", "b", EMPTY_TREE, None)
            .ends_with("\nbase 0000000000000000000000000000000000000000\n")
    );
    let sha256 = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";
    assert!(text("a", "b", sha256, None).ends_with(&format!("\nbase {}\n", "0".repeat(64))));
}

#[test]
fn each_person_counts_once_with_the_commits_own_signer() {
    let policy = policy(2);
    let people = |trailers: &[String]| counted(&policy, &team(), trailers).counted;
    assert_eq!(people(&[]), ["alice@x"]);
    assert_eq!(people(&[approval(3)]), ["alice@x", "bob@x"]);
    assert_eq!(
        people(&[approval(4), approval(3)]),
        ["alice@x", "carol@x", "bob@x"]
    );
    // The same approval twice, the commit's own key, and the same person with another key.
    assert_eq!(people(&[approval(3), approval(3)]), ["alice@x", "bob@x"]);
    assert_eq!(people(&[approval(1)]), ["alice@x"]);
    assert_eq!(people(&[approval(2)]), ["alice@x"]);
    assert!(counted(&policy, &team(), &[approval(3)]).suffice(&policy));
    assert!(!counted(&policy, &team(), &[approval(2)]).suffice(&policy));
}

#[test]
fn a_key_under_two_names_is_one_person_and_so_are_two_keys_that_share_a_name() {
    let policy = policy(2);
    let one = set(&[("alice@x", 1), ("bob@x", 1)]);
    assert_eq!(
        counted(&policy, &one, &[approval(1)]).counted,
        ["alice@x"],
        "one key, two lines"
    );
    // The line that lets the second key approve has another name than the line that lets it sign.
    let two = set(&[
        ("alice@x", 1),
        ("alice@x namespaces=\"git\"", 2),
        ("bob@x namespaces=\"evenkeel-approval\"", 2),
    ]);
    let said = counted(&policy, &two, &[approval(2)]);
    assert_eq!(said.counted, ["alice@x"], "{said:?}");
    assert!(said.rejected[0].contains("alice@x,bob@x"), "{said:?}");
    // A pattern is whoever it matches.
    let wide = set(&[("alice@x", 1), ("*@x", 2), ("*@y", 3), ("bob@z", 4)]);
    assert_eq!(counted(&policy, &wide, &[approval(2)]).counted, ["alice@x"]);
    assert_eq!(
        counted(&policy, &wide, &[approval(3)]).counted,
        ["alice@x", "*@y"]
    );
    // A key that several people share takes nothing from those who sign with their own, whatever the order.
    let shared = set(&[("alice@x", 1), ("alice@x,bob@x", 2), ("bob@x", 3)]);
    for trailers in [[approval(2), approval(3)], [approval(3), approval(2)]] {
        assert_eq!(
            counted(&policy, &shared, &trailers).counted,
            ["alice@x", "bob@x"]
        );
    }
}

#[test]
fn an_approval_of_something_else_counts_for_nothing() {
    let policy = policy(2);
    for (what, fleet, branch, tree, base) in [
        ("another branch", "acme", "canary", EMPTY_TREE, Some(BASE)),
        ("another base", "acme", "stable", EMPTY_TREE, Some(OTHER)),
        ("no base", "acme", "stable", EMPTY_TREE, None),
        ("another tree", "acme", "stable", OTHER, Some(BASE)),
        ("another fleet", "beta", "stable", EMPTY_TREE, Some(BASE)),
    ] {
        let blob = blob(3, APPROVAL_NAMESPACE, &text(fleet, branch, tree, base));
        let said = counted(&policy, &team(), &[trailer("acme", &blob)]);
        assert_eq!(said.counted, ["alice@x"], "{what}");
        assert!(said.rejected[0].contains("by bob@x"), "{said:?}");
        assert!(said.rejected[0].contains("branch `stable`"), "{said:?}");
    }
}

#[test]
fn the_fleet_is_the_one_that_the_owner_named() {
    let text = text("beta", "stable", EMPTY_TREE, Some(BASE));
    let approval = trailer("beta", &blob(3, APPROVAL_NAMESPACE, &text));
    let mut policy = policy(2);
    let people = |policy: &TrustPolicy| {
        counted(policy, &team(), std::slice::from_ref(&approval))
            .counted
            .len()
    };
    assert_eq!(people(&policy), 2, "any, where trust.fleet is not set");
    policy.fleet = Some("acme".to_owned());
    assert_eq!(people(&policy), 1);
    policy.fleet = Some("beta".to_owned());
    assert_eq!(people(&policy), 2);
}

#[test]
fn a_fleets_name_may_have_blanks_and_a_trailer_may_be_folded() {
    let text = text("acme gateways", "stable", EMPTY_TREE, Some(BASE));
    let blob = blob(3, APPROVAL_NAMESPACE, &text);
    let (head, tail) = blob.split_at(70);
    let folded = trailer("acme gateways", &format!("{head}\n {tail}"));
    assert_eq!(
        counted(&policy(2), &team(), &[folded]).counted,
        ["alice@x", "bob@x"]
    );
}

#[test]
fn an_approval_is_judged_by_the_rules_for_signatures() {
    let bob = |options: &str| {
        let line = format!("bob@x {options}");
        set(&[("alice@x", 1), (&line, 3)])
    };
    let mut policy = policy(2);
    for (options, wanted) in [
        ("", 2),
        ("namespaces=\"git\"", 1),
        ("namespaces=\"evenkeel-*\"", 2),
        ("namespaces=\"evenkeel-approval\"", 2),
        ("valid-before=\"20230101Z\"", 1),
        ("valid-before=\"20240101Z\"", 2),
        ("valid-after=\"20240101Z\"", 1),
        ("cert-authority", 1),
    ] {
        let said = counted(&policy, &bob(options), &[approval(3)]);
        assert_eq!(said.counted.len(), wanted, "{options}: {said:?}");
    }
    // A window that has closed since the commit was made.
    let base = BASE.parse().unwrap();
    let said = count(
        &policy,
        &bob("valid-before=\"20240101Z\""),
        &commit(&[approval(3)]),
        &own("alice@x", 1),
        Some(&base),
        Timestamp(1_800_000_000),
    );
    assert_eq!(said.counted, ["alice@x"], "{said:?}");
    // A stranger, a signature made for git, a revoked key.
    let stranger = counted(&policy, &team(), &[approval(9)]);
    assert_eq!(stranger.counted, ["alice@x"]);
    assert!(stranger.rejected[0].contains("is not among the signers"));
    let for_git = blob(3, "git", &text("acme", "stable", EMPTY_TREE, Some(BASE)));
    assert_eq!(
        counted(&policy, &team(), &[trailer("acme", &for_git)]).counted,
        ["alice@x"]
    );
    policy.revoked = Revoked::parse("revoked", public(3).as_bytes()).unwrap();
    let revoked = counted(&policy, &team(), &[approval(3)]);
    assert_eq!(revoked.counted, ["alice@x"]);
    assert!(revoked.rejected[0].contains("revoked"), "{revoked:?}");
}

#[test]
fn only_a_branchs_signers_approve_for_it() {
    let mut policy = policy(2);
    policy.branch_signers = Some(vec!["alice@x".to_owned(), "bob@x".to_owned()]);
    assert_eq!(
        counted(&policy, &team(), &[approval(4)]).counted,
        ["alice@x"]
    );
    assert_eq!(
        counted(&policy, &team(), &[approval(3)]).counted,
        ["alice@x", "bob@x"]
    );
}

#[test]
fn who_may_only_say_that_a_branch_is_alive_counts_for_nobody() {
    let mut policy = policy(2);
    policy.heartbeat = vec!["bob@*".to_owned()];
    let said = counted(&policy, &team(), &[approval(3)]);
    assert_eq!(said.counted, ["alice@x"]);
    assert!(said.rejected[0].contains("trust.heartbeat"), "{said:?}");
    policy.heartbeat = vec!["alice@x".to_owned()];
    assert_eq!(counted(&policy, &team(), &[approval(3)]).counted, ["bob@x"]);
}

#[test]
fn what_is_no_approval_is_named_and_counts_for_nothing() {
    let policy = policy(2);
    let good = approval(3);
    let mut longer = good.clone();
    longer.push_str("AAAA");
    for bad in [
        "Fleet-Approval: acme".to_owned(),
        "Fleet-Approval:".to_owned(),
        "Fleet-Approval: acme AAAA".to_owned(),
        "Fleet-Approval: acme U1NIU0lH".to_owned(),
        good.replace("acme ", ""),
        good[..good.len() - 4].to_owned(),
        good[..good.len() - 1].to_owned(),
        longer,
        good.replacen("U1NIU0lH", "U1NIU0lI", 1),
        format!("{} x!", good),
    ] {
        let said = counted(&policy, &team(), std::slice::from_ref(&bad));
        assert_eq!(said.counted, ["alice@x"], "{bad}");
        assert_eq!(said.rejected.len(), 1, "{bad}: {said:?}");
    }
    let many: Vec<String> = (0..MAX_APPROVALS)
        .map(|_| approval(2))
        .chain([approval(3)])
        .collect();
    let said = counted(&policy, &team(), &many);
    assert_eq!(said.counted, ["alice@x"]);
    assert!(
        said.rejected
            .iter()
            .any(|why| why.contains("not looked at")),
        "{said:?}"
    );
}

#[test]
fn a_shortfall_names_who_signed_what_does_not_count_and_the_next_move() {
    let policy = policy(3);
    let said = counted(&policy, &team(), &[approval(3), approval(9)]);
    let told = said.shortfall(&policy, &BASE.parse().unwrap());
    for part in [
        "3 distinct principals",
        "only alice@x, bob@x signed",
        "approval 2 does not count",
        "evenkeel approve --branch stable 1111111111",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn a_base_is_the_nearest_ancestor_that_is_no_heartbeat() {
    let mut stored = std::collections::BTreeMap::new();
    let mut store = |parents: &[CommitId], message: &str, tree: &str| {
        let (commit, id, bytes) = parsed(parents, message, tree);
        stored.insert(id.clone(), bytes);
        (commit, id)
    };
    let beat = "heartbeat\n\nFleet-Heartbeat: 2026-01-01T00:00:00Z\n";
    let (root, first) = store(&[], "First", EMPTY_TREE);
    let (_, one) = store(std::slice::from_ref(&first), beat, EMPTY_TREE);
    let (_, two) = store(std::slice::from_ref(&one), beat, EMPTY_TREE);
    let (on_beats, _) = store(std::slice::from_ref(&two), "Next", OTHER);
    // It says that it is a heartbeat, and changes the tree.
    let (_, lie) = store(std::slice::from_ref(&two), beat, OTHER);
    let (on_lie, _) = store(std::slice::from_ref(&lie), "Next", OTHER);
    // A merge is none.
    let (_, merge) = store(&[first.clone(), one.clone()], beat, EMPTY_TREE);
    let (on_merge, _) = store(&[merge.clone(), first.clone()], "Next", OTHER);
    // A heartbeat's own base is the commit that it keeps alive.
    let (third_beat, _) = store(std::slice::from_ref(&two), beat, EMPTY_TREE);
    let read = |id: &CommitId| stored.get(id).cloned();
    assert_eq!(base(&root, &read), Ok(None));
    assert_eq!(base(&on_beats, &read), Ok(Some(first.clone())));
    assert_eq!(base(&third_beat, &read), Ok(Some(first.clone())));
    assert_eq!(base(&on_lie, &read), Ok(Some(lie)));
    assert_eq!(base(&on_merge, &read), Ok(Some(merge)));
    let without = |id: &CommitId| stored.get(id).filter(|_| *id != one).cloned();
    assert_eq!(base(&on_beats, &without), Err(one.clone()));
    // Bytes that are not those of the id are not believed.
    let swapped = |id: &CommitId| stored.get(if *id == one { &first } else { id }).cloned();
    assert_eq!(base(&on_beats, &swapped), Err(one.clone()));
}

#[test]
fn a_device_that_asks_for_two_takes_no_commit_with_one() {
    let message = |trailers: &str| format!("Release\n\n{trailers}");
    let parents = [BASE.parse().unwrap()];
    let (_, base, base_bytes) = parsed(&[], "Base", EMPTY_TREE);
    let text = text("acme", "stable", EMPTY_TREE, Some(base.as_str()));
    let trailer = trailer("acme", &blob(8, APPROVAL_NAMESPACE, &text));
    let mut policy = super::super::fixture::policy();
    policy.branch = "stable".to_owned();
    policy.approvals = 2;
    // The fixture's own signer is key 7; the second one is added beside it.
    policy.signers = set(&[("a@example.com", 7), ("b@example.com", 8)]);
    let judged = |parents: &[CommitId], trailers: &str| {
        let draft = Draft {
            tree: EMPTY_TREE,
            parents,
            time: TIME,
            message: &message(trailers),
        };
        let (id, bytes) = draft.signed(Hand::Trusted);
        let raw = RawCommit {
            id,
            bytes,
            descent: Descent::NoFloor,
        };
        let read = |id: &CommitId| (*id == base).then(|| base_bytes.clone());
        match policy.examine_with(&raw, &read, Timestamp(0)).verdict {
            super::super::verdict::Verdict::Trusted(_) => "ok",
            super::super::verdict::Verdict::Refused(refused) => refused.reason.as_str(),
            super::super::verdict::Verdict::Undecided(_) => "undecided",
        }
    };
    let on = std::slice::from_ref(&base);
    assert_eq!(judged(on, &trailer), "ok");
    assert_eq!(judged(on, "Reviewed-by: nobody"), "too-few-approvals");
    assert_eq!(judged(&parents, &trailer), "undecided");
    assert_eq!(judged(&[], &trailer), "too-few-approvals");
}
