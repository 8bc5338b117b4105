//! Commits that are signed well, and are not for here and now.

use evenkeel_tests::Device;

use super::Attack;
use super::stage::Stage;

/// A day, in seconds.
const DAY: u64 = 24 * 60 * 60;

pub(super) fn an_older_commit_signed_well(attack: Attack) {
    let mut stage = Stage::set(attack);
    let older = stage.good.clone();
    stage.honest("newer\n");
    stage.push(&older);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_fork_from_below_the_floor(attack: Attack) {
    let mut stage = Stage::set(attack);
    let older = stage.good.clone();
    stage.honest("newer\n");
    stage.repo().reset_to(&older);
    stage.evil();
    let fork = stage.repo().commit_signed("Fork");
    stage.push(&fork);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_history_of_its_own(attack: Attack) {
    let stage = Stage::set(attack);
    stage.repo().git(&["checkout", "-q", "--orphan", "fresh"]);
    stage.evil();
    let root = stage.repo().commit_signed("A root");
    stage.push(&root);
    stage.holds();
    stage.repo().git(&["checkout", "-q", "-f", "main"]);
    stage.goes_on();
}

pub(super) fn a_first_revision_from_before_the_pin(attack: Attack) {
    let mut stage = Stage::set(attack);
    let older = stage.good.clone();
    stage.honest("newer\n");
    // A device out of the box, pinned to what was the newest when it was made.
    let mut fresh = Device::new("gw-2", "", &stage.world.device.settings.allowed_signers);
    let id = std::mem::take(&mut fresh.settings.id);
    fresh.settings.clone_from(&stage.world.device.settings);
    fresh.settings.id = id;
    fresh.settings.trust.push(format!("pin = {:?}", stage.good));
    stage.world.device = fresh;
    stage.push(&older);
    stage.world.device.sync().expect_code(3);
    assert_eq!(stage.world.device.read("/etc/one.conf"), None);
    stage.told_now();
    stage.goes_on();
}

pub(super) fn a_branch_that_is_frozen(attack: Attack) {
    let mut now = 0;
    let mut stage = Stage::set_with(attack, |world| {
        now = world.repo.time();
        world.repo.set_time(now - 20 * DAY);
    });
    // The owner finds two weeks plausible. What was good runs on.
    stage
        .world
        .device
        .settings
        .trust
        .push("max_age = \"14d\"".to_owned());
    stage.holds_with_code(0);
    stage.repo().set_time(now);
    let stage = stage.goes_on();
    assert_eq!(stage.world.device.condition("Stale").0, "False");
}

pub(super) fn a_tag_with_the_name_of_the_branch(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    stage.repo().commit_unsigned("Evil");
    for name in [
        "refs/tags/main",
        "refs/heads/refs/heads/main",
        "refs/remotes/main",
    ] {
        stage
            .repo()
            .git(&["push", "-q", "origin", &format!("HEAD:{name}")]);
    }
    stage.holds_with_code(0);
    // git, too, asks which of the two is meant.
    for name in [
        "refs/tags/main",
        "refs/heads/refs/heads/main",
        "refs/remotes/main",
    ] {
        stage
            .repo()
            .git(&["push", "-q", "origin", &format!(":{name}")]);
    }
    stage.goes_on();
}

pub(super) fn a_branch_that_is_gone(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    stage.repo().commit_unsigned("Evil");
    stage
        .repo()
        .git(&["push", "-q", "origin", "HEAD:refs/tags/main"]);
    stage
        .repo()
        .bare_git(&["update-ref", "-d", "refs/heads/main"]);
    stage.holds_with_code(1);
    stage
        .repo()
        .bare_git(&["update-ref", "-d", "refs/tags/main"]);
    stage.goes_on();
}
