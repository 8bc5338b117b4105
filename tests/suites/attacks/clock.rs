//! Games with dates, on a device whose clock is known to be right, and on one that does not know the time.

use evenkeel_tests::Signer;

use super::Attack;
use super::stage::Stage;

/// A day, in seconds.
const DAY: u64 = 24 * 60 * 60;
/// A year, in seconds.
const YEAR: u64 = 365 * DAY;

/// A device whose clock is known to be right.
fn sure(attack: Attack) -> Stage {
    let mut stage = Stage::set(attack);
    stage.knows_the_time = true;
    stage
}

/// An evil commit of this date is refused, and honest work of today goes on.
#[track_caller]
fn dated(stage: Stage, date: impl FnOnce(u64) -> u64) {
    let now = stage.repo().time();
    stage.repo().set_time(date(now));
    stage.evil();
    let commit = stage.repo().commit_signed("Out of time");
    stage.push(&commit);
    stage.holds();
    stage.repo().set_time(now + 10);
    stage.goes_on();
}

pub(super) fn a_commit_from_the_future(attack: Attack) {
    dated(sure(attack), |now| now + 3 * YEAR);
}

pub(super) fn a_commit_dated_years_before_its_parent(attack: Attack) {
    dated(sure(attack), |now| now - 3 * YEAR);
}

pub(super) fn a_commit_that_was_withheld(attack: Attack) {
    let mut now = 0;
    let stage = Stage::set_with(attack, |world| {
        now = world.repo.time();
        world.repo.set_time(now - 30 * DAY);
        let trust = &mut world.device.settings.trust;
        trust.extend(["max_age = \"14d\"".to_owned()]);
    });
    let mut stage = stage;
    stage
        .world
        .device
        .settings
        .trust
        .push("stale = \"hold\"".to_owned());
    // Signed well, a release with a known hole that was never served: it descends from the floor.
    stage.repo().set_time(now - 20 * DAY);
    stage.evil();
    let commit = stage.repo().commit_signed("Withdrawn long ago");
    stage.push(&commit);
    stage.holds();
    stage.repo().set_time(now);
    stage.goes_on();
}

pub(super) fn a_commit_dated_far_ahead_poisons_nothing(attack: Attack) {
    let heir = Signer::new("heir@example.com");
    let mut stage = Stage::set_with(attack, |world| {
        world.trust_line(&heir.allowed_line("valid-before=\"20300101Z\""));
    });
    let now = stage.repo().time();
    // The device does not know the time: it cannot refuse it. It must not take it for the time either.
    stage.repo().set_time(now + 60 * YEAR);
    stage.honest("from the future\n");
    stage.repo().set_time(now + 10);
    stage.declare("heir\n");
    let commit = stage
        .repo()
        .commit_signed_by(&heir, "By a key that counts until 2030");
    stage.push(&commit);
    stage.comes_to(&commit, "heir\n");
    stage.told_now();
    // Nor does a device that learns the time later stay behind.
    stage.knows_the_time = true;
    stage.repo().set_time(now + 20);
    stage.goes_on_from(&commit);
}
