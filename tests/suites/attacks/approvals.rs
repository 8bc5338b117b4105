//! How many must have signed, and who may only say that a branch is alive.

use evenkeel_tests::Signer;

use super::Attack;
use super::craft::Approver;
use super::stage::Stage;
use crate::fleet::World;

/// A device that asks for two, and the second of them.
fn two(attack: Attack, prepare: impl FnOnce(&mut World)) -> Stage {
    let second = Signer::new("second@example.com");
    Stage::set_approved(attack, second, |world| {
        world.device.settings.trust.push("approvals = 2".to_owned());
        prepare(world);
    })
}

/// An evil tree, written but not committed yet; its id.
fn evil_tree(stage: &Stage) -> String {
    stage.evil();
    stage.tree()
}

/// An evil commit that carries this approval is refused.
#[track_caller]
fn is_refused(stage: Stage, trailer: &str) {
    stage.evil();
    let commit = stage.repo().commit_signed(&format!("Evil\n\n{trailer}"));
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_change_that_one_has_signed(attack: Attack) {
    let stage = two(attack, |_| {});
    is_refused(stage, "Reviewed-by: second@example.com");
}

pub(super) fn two_keys_of_one_person(attack: Attack) {
    let again = Signer::new("release@example.com");
    let stage = two(attack, |world| world.trust_line(&again.allowed_line("")));
    let trailer = Approver::by(&again).trailer(&evil_tree(&stage), &stage.good);
    is_refused(stage, &trailer);
}

pub(super) fn an_approval_by_a_stranger(attack: Attack) {
    let stage = two(attack, |_| {});
    let stranger = Signer::new("second@example.com");
    let trailer = Approver::by(&stranger).trailer(&evil_tree(&stage), &stage.good);
    is_refused(stage, &trailer);
}

/// One by the second signer that is for something else.
#[track_caller]
fn for_something_else(attack: Attack, change: impl FnOnce(&mut Approver<'_>)) {
    let stage = two(attack, |_| {});
    let tree = evil_tree(&stage);
    let trailer = {
        let mut approver = Approver::by(stage.second());
        change(&mut approver);
        approver.trailer(&tree, &stage.good)
    };
    is_refused(stage, &trailer);
}

pub(super) fn an_approval_for_another_branch(attack: Attack) {
    for_something_else(attack, |approver| approver.branch = "canary");
}

pub(super) fn an_approval_for_another_fleet(attack: Attack) {
    for_something_else(attack, |approver| approver.fleet = "neighbours");
}

pub(super) fn an_approval_made_as_a_commits_signature(attack: Attack) {
    for_something_else(attack, |approver| approver.namespace = "git");
}

pub(super) fn an_approval_of_another_tree(attack: Attack) {
    let stage = two(attack, |_| {});
    stage.declare("reviewed\n");
    let trailer = Approver::by(stage.second()).trailer(&stage.tree(), &stage.good);
    is_refused(stage, &trailer);
}

pub(super) fn an_approval_from_before_the_branch_moved_on(attack: Attack) {
    let mut stage = two(attack, |_| {});
    // Approved once, and never put on the branch, which went on.
    let trailer = Approver::by(stage.second()).trailer(&evil_tree(&stage), &stage.good);
    stage.honest("newer\n");
    is_refused(stage, &trailer);
}

/// A device that knows a key for heartbeats.
fn alive(attack: Attack, prepare: impl FnOnce(&mut World)) -> (Stage, Signer) {
    let heart = Signer::new("ci@example.com");
    let stage = Stage::set_with(attack, |world| {
        world.trust_line(&heart.allowed_line("namespaces=\"git\""));
        world.device.settings.more =
            "[trust.heartbeat]\nsigners = [\"ci@example.com\"]\n".to_owned();
        prepare(world);
    });
    (stage, heart)
}

/// What a heartbeat's message is.
fn beat(stage: &Stage) -> String {
    format!("Heartbeat\n\nFleet-Heartbeat: {}", stage.repo().time())
}

pub(super) fn a_change_by_the_key_of_heartbeats(attack: Attack) {
    let (stage, heart) = alive(attack, |_| {});
    stage.evil();
    let commit = stage.repo().commit_signed_by(&heart, "Evil");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_heartbeat_with_another_tree(attack: Attack) {
    let (stage, heart) = alive(attack, |_| {});
    stage.evil();
    let commit = stage.repo().commit_signed_by(&heart, &beat(&stage));
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_heartbeat_on_an_unsigned_commit(attack: Attack) {
    let (stage, heart) = alive(attack, |_| {});
    stage.evil();
    stage.repo().commit_unsigned("Evil");
    let commit = stage.repo().commit_signed_by(&heart, &beat(&stage));
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_heartbeat_that_merges(attack: Attack) {
    let (stage, heart) = alive(attack, |_| {});
    stage.repo().branch("side");
    stage.evil();
    stage.repo().commit_unsigned("Evil");
    let tree = stage.tree();
    stage.repo().git(&["checkout", "-q", "main"]);
    // Two parents, and the tree of the second.
    let who = format!("CI <ci@example.com> {} +0000", stage.repo().time());
    let side = stage.repo().git(&["rev-parse", "side"]).stdout;
    let raw = format!(
        "tree {tree}\nparent {}\nparent {}\nauthor {who}\ncommitter {who}\n\n{}\n",
        stage.good,
        side.trim(),
        beat(&stage)
    );
    let commit = stage
        .repo()
        .hash_commit(super::craft::signed(&raw, &heart).as_bytes());
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_rewrite_by_the_key_of_heartbeats(attack: Attack) {
    let (stage, heart) = alive(attack, |_| {});
    let says = format!("Anew\n\nFleet-Heartbeat: 1\nSupersedes: {}", stage.good);
    stage.repo().git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.evil();
    let root = stage.repo().commit_signed_by(&heart, &says);
    stage.push(&root);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "-f", "main"]);
    stage.goes_on();
}

pub(super) fn an_approval_by_the_key_of_heartbeats(attack: Attack) {
    let heart = Signer::new("ci@example.com");
    let stage = two(attack, |world| {
        world.trust_line(&heart.allowed_line(""));
        world.device.settings.more =
            "[trust.heartbeat]\nsigners = [\"ci@example.com\"]\n".to_owned();
    });
    let trailer = Approver::by(&heart).trailer(&evil_tree(&stage), &stage.good);
    is_refused(stage, &trailer);
}
