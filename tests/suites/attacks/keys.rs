//! Keys that count no more, not yet, or for something else; and signatures that do not fit.

use evenkeel_tests::Signer;

use super::Attack;
use super::craft::{apart, signed, sshsig, with_signature};
use super::stage::Stage;

/// 1 June 2024: long before any build of this program.
const LONG_AGO: u64 = 1_717_200_000;

/// A device that knows one more signer, by a line with these options.
fn with_another(attack: Attack, options: &str) -> (Stage, Signer) {
    let other = Signer::new("other@example.com");
    let stage = Stage::set_with(attack, |world| {
        world.trust_line(&other.allowed_line(options))
    });
    (stage, other)
}

/// A commit of the other signer is refused, and honest work goes on.
#[track_caller]
fn is_refused((stage, other): (Stage, Signer)) {
    stage.evil();
    let commit = stage.repo().commit_signed_by(&other, "Evil");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn no_signature(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    let commit = stage.repo().commit_unsigned("Unsigned");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_stranger_under_a_trusted_name(attack: Attack) {
    let stage = Stage::set(attack);
    let stranger = Signer::new(stage.repo().signer().principal());
    is_refused((stage, stranger));
}

pub(super) fn a_key_that_has_expired(attack: Attack) {
    is_refused(with_another(attack, "valid-before=\"20250101Z\""));
}

pub(super) fn a_commit_dated_into_an_expired_window(attack: Attack) {
    let scene = with_another(attack, "valid-before=\"20250101Z\"");
    let now = scene.0.repo().time();
    scene.0.repo().set_time(LONG_AGO);
    scene.0.evil();
    let commit = scene
        .0
        .repo()
        .commit_signed_by(&scene.1, "As if it were 2024");
    scene.0.push(&commit);
    scene.0.holds();
    scene.0.repo().set_time(now + 100);
    scene.0.goes_on();
}

pub(super) fn a_key_that_does_not_count_yet(attack: Attack) {
    is_refused(with_another(attack, "valid-after=\"20990101\""));
}

pub(super) fn a_revoked_key(attack: Attack) {
    let other = Signer::new("other@example.com");
    let stage = Stage::set_with(attack, |world| {
        world.trust_line(&other.allowed_line(""));
        let list = world.device.scratch().join("revoked");
        std::fs::copy(other.public_key(), &list).unwrap();
        world
            .device
            .settings
            .trust
            .push(format!("revoked = {list:?}"));
    });
    is_refused((stage, other));
}

pub(super) fn a_key_that_is_too_short(attack: Attack) {
    let weak = Signer::of_type("weak@example.com", &["-t", "rsa", "-b", "1024"]);
    let stage = Stage::set_with(attack, |world| world.trust_line(&weak.allowed_line("")));
    is_refused((stage, weak));
}

pub(super) fn an_authority_that_signs_itself(attack: Attack) {
    is_refused(with_another(attack, "cert-authority,namespaces=\"git\""));
}

pub(super) fn a_key_for_files_only(attack: Attack) {
    is_refused(with_another(attack, "namespaces=\"file\""));
}

pub(super) fn a_signature_for_files(attack: Attack) {
    let stage = Stage::set(attack);
    let draft = stage.draft();
    let armor = sshsig(
        draft.as_bytes(),
        &stage.repo().signer().private_key(),
        "file",
    );
    stage.plant(with_signature(&draft, &armor).as_bytes());
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_signature_of_another_commit(attack: Attack) {
    let stage = Stage::set(attack);
    let (_, signature) = apart(&stage.raw(&stage.good));
    let (head, message) = {
        let draft = stage.draft();
        let (head, message) = draft.split_once("\n\n").unwrap();
        (head.to_owned(), message.to_owned())
    };
    stage.plant(format!("{head}\n{signature}\n{message}").as_bytes());
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_message_changed_after_signing(attack: Attack) {
    let stage = Stage::set(attack);
    let raw = signed(&stage.draft(), stage.repo().signer());
    stage.plant(raw.replace("\n\nEvil", "\n\nEven more evil").as_bytes());
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_tree_changed_after_signing(attack: Attack) {
    let stage = Stage::set(attack);
    // Honest work, signed, and not released yet: its tree is replaced.
    stage.declare("next\n");
    let honest = stage.repo().commit_signed("Next");
    let honest = stage.raw(&honest);
    stage.evil();
    stage.repo().commit_unsigned("Evil");
    let tree = stage.repo().git(&["rev-parse", "HEAD^{tree}"]).stdout;
    let old = honest.lines().next().unwrap();
    stage.plant(
        honest
            .replacen(old, &format!("tree {}", tree.trim()), 1)
            .as_bytes(),
    );
    stage.holds();
    stage.goes_on();
}
