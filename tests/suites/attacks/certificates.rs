//! Certificates that prove nothing, and revocation lists.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::process::run;
use evenkeel_tests::{PATIENCE, Signer};

use super::Attack;
use super::craft::{sshsig, with_signature};
use super::device::mistaken;
use super::stage::Stage;
use crate::differential::wire;

/// Whom the authority's line lets it certify.
const WHO: &str = "ca@example.com";

/// A device that trusts an authority, and somebody whom it may certify.
struct Office {
    stage: Stage,
    authority: Signer,
    person: Signer,
}

impl Office {
    /// `revoked` makes what the device's list of what is revoked says, where it has one.
    fn open(attack: Attack, revoked: impl FnOnce(&Signer, &Signer) -> Option<Vec<u8>>) -> Self {
        let (authority, person) = (Signer::new(WHO), Signer::new("person@example.com"));
        let list = revoked(&authority, &person);
        let stage = Stage::set_with(attack, |world| {
            world.trust_line(&authority.allowed_line("cert-authority,namespaces=\"git\""));
            if let Some(list) = list {
                let file = world.device.scratch().join("revoked");
                std::fs::write(&file, list).unwrap();
                world
                    .device
                    .settings
                    .trust
                    .push(format!("revoked = {file:?}"));
            }
        });
        Self {
            stage,
            authority,
            person,
        }
    }

    /// The person's certificate by this authority.
    fn certify(&self, authority: &Signer, options: &[&str]) -> PathBuf {
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-I", "person", "-s"])
                .arg(authority.private_key())
                .args(options)
                .arg(self.person.public_key()),
            PATIENCE,
        )
        .expect_code(0);
        self.person.private_key().with_file_name("key-cert.pub")
    }

    /// A commit signed with the certificate, whose signature is changed on its way, is refused; honest work goes on.
    #[track_caller]
    fn refuses(self, certificate: &Path, change: impl FnOnce(String) -> String) {
        let draft = self.stage.draft();
        let armor = change(sshsig(draft.as_bytes(), certificate, "git"));
        self.stage.plant(with_signature(&draft, &armor).as_bytes());
        self.stage.holds();
        self.stage.goes_on();
    }
}

/// A certificate by the trusted authority with these options is refused.
#[track_caller]
fn is_refused(attack: Attack, options: &[&str]) {
    let office = Office::open(attack, |_, _| None);
    let certificate = office.certify(&office.authority, options);
    office.refuses(&certificate, |armor| armor);
}

/// A revocation list by `ssh-keygen`; the specification is about the authority's certificates.
fn krl(authority: &Signer, specification: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("specification"), specification).unwrap();
    run(
        Command::new("ssh-keygen")
            .current_dir(dir.path())
            .args(["-q", "-k", "-f", "krl", "-s"])
            .arg(authority.public_key())
            .arg("specification"),
        PATIENCE,
    )
    .expect_code(0);
    std::fs::read(dir.path().join("krl")).unwrap()
}

pub(super) fn a_certificate_of_another_authority(attack: Attack) {
    let office = Office::open(attack, |_, _| None);
    let certificate = office.certify(&Signer::new(WHO), &["-n", WHO]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_name_written_into_a_certificate(attack: Attack) {
    let office = Office::open(attack, |_, _| None);
    let certificate = office.certify(&office.authority, &["-n", "no@example.com"]);
    // The signature is over the commit alone, so it still fits when the certificate beside it is changed.
    office.refuses(&certificate, |armor| {
        let mut blob = wire::dearmor(armor.as_bytes());
        let at = blob
            .windows(WHO.len())
            .position(|bytes| bytes == b"no@example.com")
            .unwrap();
        blob[at..at + WHO.len()].copy_from_slice(WHO.as_bytes());
        wire::armor(&blob)
    });
}

pub(super) fn a_certificate_for_nobody(attack: Attack) {
    is_refused(attack, &[]);
}

pub(super) fn a_certificate_for_a_star(attack: Attack) {
    is_refused(attack, &["-n", "*"]);
}

pub(super) fn a_certificate_for_hosts(attack: Attack) {
    is_refused(attack, &["-h", "-n", WHO]);
}

pub(super) fn a_certificate_that_is_over(attack: Attack) {
    is_refused(attack, &["-n", WHO, "-V", "20200101Z:20250101Z"]);
}

pub(super) fn a_certificate_for_one_command(attack: Attack) {
    is_refused(attack, &["-n", WHO, "-O", "force-command=/bin/true"]);
}

pub(super) fn a_certificate_that_is_revoked_by_its_serial(attack: Attack) {
    let office = Office::open(attack, |authority, _| {
        Some(krl(authority, "serial: 5-20\n"))
    });
    let certificate = office.certify(&office.authority, &["-n", WHO, "-z", "7"]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_new_certificate_for_a_revoked_key(attack: Attack) {
    let office = Office::open(attack, |_, person| {
        Some(std::fs::read(person.public_key()).unwrap())
    });
    let certificate = office.certify(&office.authority, &["-n", WHO, "-z", "8"]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_certificate_of_a_revoked_authority(attack: Attack) {
    let office = Office::open(attack, |authority, _| {
        let public = std::fs::read_to_string(authority.public_key()).unwrap();
        Some(krl(authority, &format!("sha256: {public}")))
    });
    let certificate = office.certify(&office.authority, &["-n", WHO]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_certificate_that_does_not_count_yet(attack: Attack) {
    is_refused(attack, &["-n", WHO, "-V", "20990101Z:20990201Z"]);
}

pub(super) fn a_plain_signer_as_an_authority(attack: Attack) {
    let office = Office::open(attack, |_, _| None);
    let certificate = office.certify(office.stage.repo().signer(), &["-n", WHO]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn the_key_of_a_certificate_without_it(attack: Attack) {
    let office = Office::open(attack, |_, _| None);
    // There is a good certificate for it, and the signature does not carry it.
    let key = office.person.private_key();
    office.certify(&office.authority, &["-n", WHO]);
    office.refuses(&key, |armor| armor);
}

pub(super) fn a_certificate_that_is_revoked_by_its_name(attack: Attack) {
    let office = Office::open(attack, |authority, _| Some(krl(authority, "id: person\n")));
    let certificate = office.certify(&office.authority, &["-n", WHO]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_key_that_is_revoked_by_its_hash(attack: Attack) {
    let office = Office::open(attack, |authority, person| {
        let public = std::fs::read_to_string(person.public_key()).unwrap();
        Some(krl(authority, &format!("sha256: {public}")))
    });
    let certificate = office.certify(&office.authority, &["-n", WHO]);
    office.refuses(&certificate, |armor| armor);
}

pub(super) fn a_revocation_list_that_is_cut_off(attack: Attack) {
    let stage = Office::open(attack, |authority, _| {
        Some(krl(authority, "serial: 5-20\n"))
    })
    .stage;
    let file = stage.world.device.scratch().join("revoked");
    let whole = std::fs::read(&file).unwrap();
    mistaken(
        stage,
        || std::fs::write(&file, &whole[..whole.len() - 3]).unwrap(),
        || std::fs::write(&file, &whole).unwrap(),
    );
}
