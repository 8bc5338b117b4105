//! Who may sign what, and what no signature unlocks.

use evenkeel_tests::Signer;

use super::Attack;
use super::stage::{BIND, Stage};

/// A device on `stable` that asks for bound commits.
fn bound(attack: Attack) -> Stage {
    Stage::set_with(attack, |world| {
        world.device.settings.branch = "stable".to_owned();
        world.device.settings.trust.push(BIND.to_owned());
    })
}

pub(super) fn a_canary_commit_on_stable(attack: Attack) {
    let stage = bound(attack);
    stage.evil();
    let canary = stage
        .repo()
        .commit_signed("For canary\n\nFleet-Branch: canary");
    stage.push(&canary);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_commit_bound_to_two_branches(attack: Attack) {
    let stage = bound(attack);
    stage.evil();
    let both = stage
        .repo()
        .commit_signed("For both\n\nFleet-Branch: stable\nFleet-Branch: canary");
    stage.push(&both);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_binding_outside_of_the_trailers(attack: Attack) {
    let stage = bound(attack);
    stage.evil();
    let prose = stage
        .repo()
        .commit_signed("Not for stable\n\nFleet-Branch: stable\n\nis what I did not mean.");
    stage.push(&prose);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_canary_signer_on_stable(attack: Attack) {
    let canary = Signer::new("canary@example.com");
    let stage = Stage::set_with(attack, |world| {
        world.device.settings.branch = "stable".to_owned();
        world.device.settings.more =
            "[trust.branches.stable]\nsigners = [\"release@example.com\"]\n".to_owned();
        world.trust_line(&canary.allowed_line("namespaces=\"git\""));
    });
    stage.evil();
    let commit = stage.repo().commit_signed_by(&canary, "Straight to stable");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_key_used_in_the_commit_that_adds_it(attack: Attack) {
    let stage = Stage::set(attack);
    let mallory = Signer::new("release@example.com");
    stage.evil();
    stage.repo().write(
        "trust/allowed_signers",
        stage.repo().signer().allowed_line("") + &mallory.allowed_line(""),
    );
    let commit = stage.repo().commit_signed_by(&mallory, "Me, too");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_fleet_of_another_name(attack: Attack) {
    let stage = Stage::set_with(attack, |world| {
        world
            .device
            .settings
            .trust
            .push("fleet = \"test\"".to_owned());
    });
    stage.evil();
    stage
        .repo()
        .write("fleet.toml", "format = 1\nname = \"neighbours\"\n");
    let commit = stage.repo().commit_signed("Our neighbours' fleet");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

/// A signed revision with this app beside the one that shows which revision runs.
#[track_caller]
fn declares(stage: Stage, app: &str) {
    stage.evil();
    stage.repo().write("apps/two/app.toml", app);
    stage
        .repo()
        .write("groups/two.toml", "match = \"all\"\napps = [\"two\"]\n");
    let commit = stage.repo().commit_signed("Reaches out");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

/// One with a file at this path.
#[track_caller]
fn declares_file(attack: Attack, path: &str) {
    let stage = Stage::set(attack);
    assert_eq!(stage.world.device.read(path), None);
    declares(
        stage,
        &format!("[[files]]\npath = {path:?}\ncontent = \"evil\\n\"\n"),
    );
}

/// One with a service that says this.
#[track_caller]
fn declares_service(attack: Attack, says: &str) {
    let image = format!("registry.example.com/two@sha256:{}", "1".repeat(64));
    declares(
        Stage::set(attack),
        &format!("[services.two]\nimage = {image:?}\n{says}\n"),
    );
}

pub(super) fn a_file_in_the_agents_own_place(attack: Attack) {
    declares_file(attack, "/etc/evenkeel/allowed_signers");
}

pub(super) fn a_file_over_the_users_passwords(attack: Attack) {
    declares_file(attack, "/etc/shadow");
}

pub(super) fn a_file_above_the_root(attack: Attack) {
    declares_file(attack, "/srv/../etc/shadow");
}

pub(super) fn a_file_behind_a_link(attack: Attack) {
    let stage = Stage::set(attack);
    let root = stage.world.device.root();
    for folder in ["srv", "etc/evenkeel"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::os::unix::fs::symlink("../etc/evenkeel", root.join("srv/link")).unwrap();
    declares(
        stage,
        "[[files]]\npath = \"/srv/link/allowed_signers\"\ncontent = \"evil\\n\"\n",
    );
}

pub(super) fn a_command_that_checks(attack: Attack) {
    declares(
        Stage::set(attack),
        "[[checks]]\ncommand = [\"/bin/sh\", \"-c\", \"true\"]\n",
    );
}

pub(super) fn a_privileged_container(attack: Attack) {
    declares_service(attack, "privileged = true");
}

pub(super) fn a_mount_of_the_engines_socket(attack: Attack) {
    declares_service(attack, "volumes = [\"/var/run/docker.sock:/engine.sock\"]");
}

pub(super) fn a_mount_above_a_protected_place(attack: Attack) {
    declares_service(attack, "volumes = [\"/etc:/host\"]");
}
