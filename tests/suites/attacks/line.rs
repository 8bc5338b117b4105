//! What stands between the floor and the tip: commits below it, merges, rewrites.

use evenkeel_tests::Signer;

use super::Attack;
use super::stage::Stage;
use crate::fleet::World;

/// A device that judges every commit.
fn every_commit(attack: Attack, prepare: impl FnOnce(&mut World)) -> Stage {
    Stage::set_with(attack, |world| {
        world
            .device
            .settings
            .trust
            .push("verify = \"every-commit\"".to_owned());
        prepare(world);
    })
}

/// A merge of `side` into what is checked out, signed by the release signer.
fn merge(stage: &Stage, side: &str) -> String {
    let key = stage.repo().signer().private_key();
    stage.repo().git(&[
        "-c",
        "gpg.format=ssh",
        "-c",
        &format!("user.signingkey={}", key.display()),
        "merge",
        "-q",
        "--no-ff",
        "-S",
        "-m",
        "Merge",
        side,
    ]);
    stage.repo().head()
}

pub(super) fn an_unsigned_commit_below_a_signed_one(attack: Attack) {
    let stage = every_commit(attack, |_| {});
    stage.evil();
    stage.repo().commit_unsigned("Slipped in");
    stage.repo().write("note", "unread\n");
    let tip = stage.repo().commit_signed("A note");
    stage.push(&tip);
    stage.holds();
    stage.goes_on();
}

pub(super) fn unsigned_commits_under_a_signed_merge(attack: Attack) {
    let stage = every_commit(attack, |_| {});
    stage.repo().branch("side");
    stage.evil();
    stage.repo().commit_unsigned("A contribution");
    stage.repo().git(&["checkout", "-q", "main"]);
    let tip = merge(&stage, "side");
    stage.push(&tip);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_strangers_commits_under_a_signed_merge(attack: Attack) {
    let stage = every_commit(attack, |_| {});
    stage.repo().branch("side");
    stage.evil();
    let stranger = Signer::new("release@example.com");
    stage.repo().commit_signed_by(&stranger, "A contribution");
    stage.repo().git(&["checkout", "-q", "main"]);
    let tip = merge(&stage, "side");
    stage.push(&tip);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_merge_the_wrong_way_round(attack: Attack) {
    let canary = Signer::new("canary@example.com");
    let stage = every_commit(attack, |world| {
        world.device.settings.more =
            "[trust.branches.main]\nsigners = [\"release@example.com\"]\n".to_owned();
        world.trust_line(&canary.allowed_line(""));
    });
    // A pull with a merge makes the canary's line the first parents, and the branch what was merged.
    let root = stage.good.clone();
    stage.repo().git(&["checkout", "-q", "-b", "side", &root]);
    stage.evil();
    stage.repo().commit_signed_by(&canary, "For canary");
    stage.repo().git(&["checkout", "-q", "main"]);
    stage.repo().write("note", "unread\n");
    stage.repo().commit_signed("A note");
    stage.repo().git(&["checkout", "-q", "side"]);
    let tip = merge(&stage, "main");
    stage.push(&tip);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "main"]);
    stage.goes_on();
}

pub(super) fn an_unsigned_commit_that_is_advanced_to(attack: Attack) {
    let mut stage = every_commit(attack, |world| {
        world
            .device
            .settings
            .trust
            .push("on_unsigned = \"advance-before\"".to_owned());
    });
    stage.declare("step\n");
    let step = stage.repo().commit_signed("Step");
    stage.evil();
    stage.repo().commit_unsigned("Slipped in");
    stage.repo().write("note", "unread\n");
    let tip = stage.repo().commit_signed("A note");
    stage.push(&tip);
    stage.comes_to(&step, "step\n");
    stage.holds();
    stage.goes_on();
}

/// A history of its own, signed by somebody (or nobody), with this at the end of its message.
fn rewritten(attack: Attack, by: Option<&Signer>, says: impl FnOnce(&Stage) -> String) {
    let stage = Stage::set(attack);
    let message = says(&stage);
    stage.repo().git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.evil();
    let root = match by {
        Some(signer) => stage.repo().commit_signed_by(signer, &message),
        None => stage.repo().commit_unsigned(&message),
    };
    stage.push(&root);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "-f", "main"]);
    stage.goes_on();
}

/// What an honest rewrite says.
fn supersedes(stage: &Stage) -> String {
    format!("Anew\n\nSupersedes: {}", stage.good)
}

pub(super) fn a_rewrite_by_a_stranger(attack: Attack) {
    rewritten(
        attack,
        Some(&Signer::new("release@example.com")),
        supersedes,
    );
}

pub(super) fn a_rewrite_that_nobody_signed(attack: Attack) {
    rewritten(attack, None, supersedes);
}

/// One by the release signer, that says this.
fn rewritten_by_release(attack: Attack, says: impl FnOnce(&Stage) -> String) {
    let stage = Stage::set(attack);
    let message = says(&stage);
    stage.repo().git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.evil();
    let root = stage.repo().commit_signed(&message);
    stage.push(&root);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "-f", "main"]);
    stage.goes_on();
}

pub(super) fn a_rewrite_of_another_floor(attack: Attack) {
    rewritten_by_release(attack, |_| {
        format!("Anew\n\nSupersedes: {}", "1".repeat(40))
    });
}

pub(super) fn a_rewrite_in_prose(attack: Attack) {
    rewritten_by_release(attack, |stage| {
        format!("Anew\n\nSupersedes: {}\n\nis not what I say.", stage.good)
    });
}

pub(super) fn a_rewrite_beside_the_line(attack: Attack) {
    let stage = Stage::set(attack);
    let says = supersedes(&stage);
    // The commit that says so is signed well, and is merged in from the side of a line that does not say it.
    stage.repo().git(&["checkout", "-q", "--orphan", "other"]);
    stage.repo().commit_signed(&says);
    stage.repo().git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.evil();
    stage.repo().commit_signed("Fresh");
    let key = stage.repo().signer().private_key();
    stage.repo().git(&[
        "-c",
        "gpg.format=ssh",
        "-c",
        &format!("user.signingkey={}", key.display()),
        "merge",
        "-q",
        "--no-ff",
        "-S",
        "-s",
        "ours",
        "--allow-unrelated-histories",
        "-m",
        "Merge",
        "other",
    ]);
    let tip = stage.repo().head();
    stage.push(&tip);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "-f", "main"]);
    stage.goes_on();
}
