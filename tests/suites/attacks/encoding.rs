//! Commit objects as git would not write them: what two programs may read in two ways.

use super::Attack;
use super::craft::{apart, header, signed, sshsig, with_signature};
use super::stage::Stage;

/// The object that this makes of an evil commit (without a signature, and its good signature header) is refused.
#[track_caller]
fn is_refused(attack: Attack, made: impl FnOnce(&str, &str) -> Vec<u8>) {
    let stage = Stage::set(attack);
    let draft = stage.draft();
    let (_, signature) = apart(&signed(&draft, stage.repo().signer()));
    stage.plant(&made(&draft, &signature));
    stage.holds();
    stage.goes_on();
}

/// The object with these headers before its message.
fn with_headers(draft: &str, headers: &str) -> Vec<u8> {
    draft
        .replacen("\n\n", &format!("\n{headers}\n"), 1)
        .into_bytes()
}

/// What this makes of an evil commit is signed by the trusted signer all the same, and refused.
#[track_caller]
fn is_refused_though_signed(attack: Attack, made: impl FnOnce(String) -> String) {
    let stage = Stage::set(attack);
    let raw = signed(&made(stage.draft()), stage.repo().signer());
    stage.plant(raw.as_bytes());
    stage.holds();
    stage.goes_on();
}

/// A signature header by somebody whom nobody knows.
fn of_a_stranger(draft: &str) -> String {
    let stranger = evenkeel_tests::Signer::new("mallory@example.com");
    header(
        "gpgsig",
        &sshsig(draft.as_bytes(), &stranger.private_key(), "git"),
    )
}

pub(super) fn two_signatures_the_good_one_first(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &format!("{good}{}", of_a_stranger(draft)))
    });
}

pub(super) fn two_signatures_the_good_one_last(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &format!("{}{good}", of_a_stranger(draft)))
    });
}

pub(super) fn a_signature_before_the_author(attack: Attack) {
    is_refused(attack, |draft, good| {
        draft
            .replacen("\nauthor ", &format!("\n{good}author "), 1)
            .into_bytes()
    });
}

pub(super) fn a_header_behind_the_signature(attack: Attack) {
    const NOTE: &str = "\nnote this one is signed, too\n\n";
    let stage = Stage::set(attack);
    let raw = signed(
        &stage.draft().replacen("\n\n", NOTE, 1),
        stage.repo().signer(),
    );
    let (payload, signature) = apart(&raw);
    stage.plant(
        payload
            .replacen(NOTE, &format!("\n{signature}{}", &NOTE[1..]), 1)
            .as_bytes(),
    );
    stage.holds();
    stage.goes_on();
}

pub(super) fn bytes_that_git_leaves_out(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &format!("gpgsignature anything at all\n{good}"))
    });
}

pub(super) fn a_signature_of_the_other_object_format(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &good.replacen("gpgsig ", "gpgsig-sha256 ", 1))
    });
}

pub(super) fn a_mergetag_that_is_signed_well(attack: Attack) {
    let stage = Stage::set(attack);
    let (honest, signature) = apart(&stage.raw(&stage.good));
    let good = stage.good.clone();
    let tag = format!(
        "object {good}\ntype commit\ntag v1\ntagger Release <release@example.com> 1700000000 +0000\n\n{honest}{signature}"
    );
    let draft = stage.draft();
    stage.plant(&with_headers(&draft, &header("mergetag", &tag)));
    stage.holds();
    stage.goes_on();
}

pub(super) fn carriage_returns_in_the_armor(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &good.replace('\n', "\r\n"))
    });
}

pub(super) fn a_nul_in_the_message(attack: Attack) {
    is_refused_though_signed(attack, |draft| draft.replacen("Evil", "Good\0Evil", 1));
}

pub(super) fn text_behind_the_armor(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &format!("{good} and more\n"))
    });
}

pub(super) fn an_armor_without_its_end(attack: Attack) {
    is_refused(attack, |draft, good| {
        with_headers(draft, &good.replace(" -----END SSH SIGNATURE-----\n", ""))
    });
}

pub(super) fn the_committer_before_the_author(attack: Attack) {
    is_refused_though_signed(attack, |draft| {
        let author = draft
            .lines()
            .find(|line| line.starts_with("author "))
            .unwrap();
        let committer = draft
            .lines()
            .find(|line| line.starts_with("committer "))
            .unwrap();
        draft.replacen(
            &format!("{author}\n{committer}\n"),
            &format!("{committer}\n{author}\n"),
            1,
        )
    });
}

pub(super) fn a_second_tree(attack: Attack) {
    is_refused_though_signed(attack, |draft| {
        let tree = draft.lines().next().unwrap().to_owned();
        draft.replacen("\n\n", &format!("\n{tree}\n\n"), 1)
    });
}

pub(super) fn a_time_that_is_no_number(attack: Attack) {
    is_refused_though_signed(attack, |draft| {
        let committer = draft
            .lines()
            .find(|line| line.starts_with("committer "))
            .unwrap();
        let (name, _) = committer.split_once('>').unwrap();
        draft.replacen(committer, &format!("{name}> 99999999999999999999 +0000"), 1)
    });
}

pub(super) fn a_message_of_ten_megabytes(attack: Attack) {
    is_refused_though_signed(attack, |draft| {
        draft + &"A line of a message that does not end.\n".repeat(10 * 1024 * 1024 / 39)
    });
}

pub(super) fn ten_thousand_parents(attack: Attack) {
    let stage = Stage::set(attack);
    let draft = stage.draft();
    let parent = format!("parent {}\n", stage.good);
    let raw = draft.replacen(&parent, &parent.repeat(10_000), 1);
    let armor = sshsig(raw.as_bytes(), &stage.repo().signer().private_key(), "git");
    stage.plant(with_signature(&raw, &armor).as_bytes());
    stage.holds();
    stage.goes_on();
}
