//! The device's own disk: a floor that is lost or changed, trust files that are damaged.

use super::Attack;
use super::stage::Stage;
use crate::fleet::World;

/// A device that has been at an older good revision before; gives that one.
fn been_elsewhere(attack: Attack) -> (Stage, String) {
    let mut stage = Stage::set(attack);
    let older = stage.good.clone();
    stage.honest("newer\n");
    (stage, older)
}

pub(super) fn the_floor_file_is_deleted(attack: Attack) {
    let (stage, older) = been_elsewhere(attack);
    std::fs::remove_file(stage.world.device.state_dir().join("floor")).unwrap();
    stage.push(&older);
    stage.holds();
    stage.goes_on();
}

pub(super) fn the_floor_file_and_its_ref_are_deleted(attack: Attack) {
    let (stage, older) = been_elsewhere(attack);
    let state = stage.world.device.state_dir();
    std::fs::remove_file(state.join("floor")).unwrap();
    std::fs::remove_dir_all(state.join("git/refs/evenkeel")).unwrap();
    stage.push(&older);
    stage.holds();
    stage.goes_on();
}

pub(super) fn two_floors_that_contradict(attack: Attack) {
    let (stage, older) = been_elsewhere(attack);
    let floors = stage
        .world
        .device
        .state_dir()
        .join("git/refs/evenkeel/floor");
    let mut changed = 0;
    for generation in std::fs::read_dir(floors).unwrap() {
        for file in std::fs::read_dir(generation.unwrap().path()).unwrap() {
            std::fs::write(file.unwrap().path(), format!("{older}\n")).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1, "the floor's one ref");
    stage.push(&older);
    stage.holds();
    // Only a person's word mends it.
    let good = stage.good.clone();
    stage
        .world
        .device
        .evenkeel(&["trust", "reset", "--to", &good])
        .expect_code(0);
    stage.goes_on();
}

pub(super) fn every_copy_of_the_floor_is_lost(attack: Attack) {
    // What runs here is what tells a device that lost its memory from a new one.
    let mut stage = Stage::set_in(attack, World::with_docker("attacked"), None, |_| {});
    let older = stage.good.clone();
    stage.honest("newer\n");
    let state = stage.world.device.state_dir();
    std::fs::remove_file(state.join("floor")).unwrap();
    std::fs::remove_dir_all(state.join("git/refs/evenkeel")).unwrap();
    std::fs::remove_dir_all(state.join("journal")).unwrap();
    std::fs::remove_file(state.join("journal.copy")).unwrap();
    stage.push(&older);
    stage.forgets();
    stage.holds();
    let good = stage.good.clone();
    stage
        .world
        .device
        .evenkeel(&["trust", "reset", "--to", &good])
        .expect_code(0);
    stage.goes_on();
}

pub(super) fn a_disk_in_another_machine(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    stage.repo().write(
        "devices/gw-1.toml",
        "machine_id = \"0123456789abcdef0123456789abcdef\"\n",
    );
    let commit = stage
        .repo()
        .commit_signed("For the machine that this disk was in");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

/// The owner's mistake with a trust file, while the daemon runs, holds the device and takes nothing down; and a pass of its
/// own says so.
#[track_caller]
pub(super) fn mistaken(mut stage: Stage, breaks: impl FnOnce(), mends: impl FnOnce()) {
    let daemon = stage.daemon();
    stage.evil();
    let stranger = evenkeel_tests::Signer::new("release@example.com");
    let commit = stage.repo().commit_signed_by(&stranger, "Now or never");
    breaks();
    stage.push(&commit);
    stage.holds();
    assert_eq!(daemon.stop(), Some(0));
    stage.world.device.sync().expect_code(2);
    mends();
    stage.goes_on();
}

pub(super) fn an_allowed_signers_file_without_signers(attack: Attack) {
    let stage = Stage::set(attack);
    let file = stage.world.device.settings.allowed_signers.clone();
    let content = std::fs::read(&file).unwrap();
    mistaken(
        stage,
        || std::fs::write(&file, "# nobody\n").unwrap(),
        || std::fs::write(&file, content).unwrap(),
    );
}

pub(super) fn an_allowed_signers_file_that_is_gone(attack: Attack) {
    let stage = Stage::set(attack);
    let file = stage.world.device.settings.allowed_signers.clone();
    let content = std::fs::read(&file).unwrap();
    mistaken(
        stage,
        || std::fs::remove_file(&file).unwrap(),
        || std::fs::write(&file, content).unwrap(),
    );
}

pub(super) fn an_allowed_signers_file_that_is_a_directory(attack: Attack) {
    let stage = Stage::set(attack);
    let file = stage.world.device.settings.allowed_signers.clone();
    let content = std::fs::read(&file).unwrap();
    mistaken(
        stage,
        || {
            std::fs::remove_file(&file).unwrap();
            std::fs::create_dir(&file).unwrap();
        },
        || {
            std::fs::remove_dir(&file).unwrap();
            std::fs::write(&file, content).unwrap();
        },
    );
}

pub(super) fn a_list_of_revoked_keys_that_is_gone(attack: Attack) {
    let mut list = std::path::PathBuf::new();
    let stage = Stage::set_with(attack, |world| {
        list = world.device.scratch().join("revoked");
        std::fs::write(&list, "# none\n").unwrap();
        world
            .device
            .settings
            .trust
            .push(format!("revoked = {list:?}"));
    });
    mistaken(
        stage,
        || std::fs::remove_file(&list).unwrap(),
        || std::fs::write(&list, "# none\n").unwrap(),
    );
}
