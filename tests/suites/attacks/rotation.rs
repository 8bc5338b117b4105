//! The trust set in the repository: who may change it, and that it never goes back.

use evenkeel_tests::Signer;

use super::Attack;
use super::craft::sshsig;
use super::stage::Stage;

/// The namespace that root signs trust sets in.
const NAMESPACE: &str = "evenkeel-trust";

/// A fleet whose trust set is changed by two of root's signers together.
struct Rotation {
    stage: Stage,
    ada: Signer,
    ben: Signer,
    mallory: Signer,
}

impl Rotation {
    fn set(attack: Attack) -> Self {
        let (ada, ben) = (
            Signer::new("ada@example.com"),
            Signer::new("ben@example.com"),
        );
        let stage = Stage::set_with(attack, |world| {
            for root in [&ada, &ben] {
                world.trust_line(&root.allowed_line("namespaces=\"evenkeel-trust\""));
            }
            world.device.settings.more =
                "[trust.root]\nsigners = [\"ada@example.com\", \"ben@example.com\"]\nthreshold = 2\n"
                    .to_owned();
        });
        Self {
            stage,
            ada,
            ben,
            mallory: Signer::new("mallory@example.com"),
        }
    }

    /// A set of this fleet with the lines of these signers, as text.
    fn document(&self, serial: u64, signers: &[&Signer]) -> String {
        self.document_of("test", serial, signers)
    }

    fn document_of(&self, fleet: &str, serial: u64, signers: &[&Signer]) -> String {
        let lines: String = signers
            .iter()
            .map(|signer| signer.allowed_line("namespaces=\"git\""))
            .collect();
        format!("# Fleet: {fleet}\n# Serial: {serial}\n{lines}")
    }

    /// Puts a set into the working files, with the signatures of these.
    fn write(&self, document: &str, roots: &[&Signer]) {
        let repo = self.stage.repo();
        repo.write("trust/allowed_signers", document);
        for (number, root) in roots.iter().enumerate() {
            let armor = sshsig(document.as_bytes(), &root.private_key(), NAMESPACE);
            repo.write(&format!("trust/allowed_signers.sig.{number}"), armor);
        }
    }

    /// An honest change of the set, signed by both, which the device adopts.
    #[track_caller]
    fn rotate(&mut self, document: &str) {
        self.write(document, &[&self.ada, &self.ben]);
        self.stage.honest("with another set\n");
    }

    /// A commit by the release signer that carries what is written, and one by Mallory on top: refused.
    #[track_caller]
    fn refuses(self) {
        self.stage.repo().commit_signed("Another set");
        self.evil_by_mallory();
        self.stage.holds();
        self.stage.goes_on();
    }

    fn evil_by_mallory(&self) {
        self.stage.evil();
        let commit = self.stage.repo().commit_signed_by(&self.mallory, "Evil");
        self.stage.push(&commit);
    }

    fn with_mallory(&self, serial: u64) -> String {
        self.document(serial, &[self.stage.repo().signer(), &self.mallory])
    }
}

pub(super) fn a_set_that_nobody_signed(attack: Attack) {
    let scene = Rotation::set(attack);
    scene.write(&scene.with_mallory(1), &[]);
    scene.refuses();
}

pub(super) fn a_set_signed_by_the_release_signer(attack: Attack) {
    let scene = Rotation::set(attack);
    let document = scene.with_mallory(1);
    scene.write(&document, &[scene.stage.repo().signer(), &scene.mallory]);
    scene.refuses();
}

pub(super) fn a_set_signed_by_those_whom_it_makes_root(attack: Attack) {
    let scene = Rotation::set(attack);
    let (ada, ben) = (
        Signer::new("ada@example.com"),
        Signer::new("ben@example.com"),
    );
    let own: String = [&ada, &ben].map(|signer| signer.allowed_line("")).concat();
    scene.write(&(scene.with_mallory(1) + &own), &[&ada, &ben]);
    scene.refuses();
}

pub(super) fn a_set_signed_by_one_of_two(attack: Attack) {
    let scene = Rotation::set(attack);
    scene.write(&scene.with_mallory(1), &[&scene.ada]);
    scene.refuses();
}

pub(super) fn a_set_signed_twice_by_one_of_two(attack: Attack) {
    let scene = Rotation::set(attack);
    let second = Signer::new("ada@example.com");
    scene
        .stage
        .world
        .trust_line(&second.allowed_line("namespaces=\"evenkeel-trust\""));
    scene.write(&scene.with_mallory(1), &[&scene.ada, &second, &scene.ada]);
    scene.refuses();
}

pub(super) fn a_set_changed_after_signing(attack: Attack) {
    let scene = Rotation::set(attack);
    let honest = scene.document(1, &[scene.stage.repo().signer()]);
    scene.write(&honest, &[&scene.ada, &scene.ben]);
    let changed = honest + &scene.mallory.allowed_line("namespaces=\"git\"");
    scene.stage.repo().write("trust/allowed_signers", changed);
    scene.refuses();
}

pub(super) fn a_set_signed_as_a_commit_is(attack: Attack) {
    let scene = Rotation::set(attack);
    let document = scene.with_mallory(1);
    for (number, root) in [&scene.ada, &scene.ben].into_iter().enumerate() {
        let armor = sshsig(document.as_bytes(), &root.private_key(), "git");
        let name = format!("trust/allowed_signers.sig.{number}");
        scene.stage.repo().write(&name, armor);
    }
    scene.stage.repo().write("trust/allowed_signers", document);
    scene.refuses();
}

pub(super) fn a_set_of_another_fleet(attack: Attack) {
    let scene = Rotation::set(attack);
    let signers = [scene.stage.repo().signer(), &scene.mallory];
    let document = scene.document_of("neighbours", 1, &signers);
    scene.write(&document, &[&scene.ada, &scene.ben]);
    scene.refuses();
}

pub(super) fn a_set_behind_a_symlink(attack: Attack) {
    let scene = Rotation::set(attack);
    scene.write(&scene.with_mallory(1), &[&scene.ada]);
    let folder = scene.stage.repo().work().join("trust");
    std::fs::rename(folder.join("allowed_signers"), folder.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", folder.join("allowed_signers")).unwrap();
    scene.refuses();
}

pub(super) fn a_key_used_in_the_commit_in_which_root_adds_it(attack: Attack) {
    let scene = Rotation::set(attack);
    scene.write(&scene.with_mallory(1), &[&scene.ada, &scene.ben]);
    scene.evil_by_mallory();
    scene.stage.holds();
    scene.stage.goes_on();
}

pub(super) fn a_set_that_was_replaced(attack: Attack) {
    let mut scene = Rotation::set(attack);
    let first = scene.with_mallory(1);
    scene.rotate(&first);
    let second = scene.document(2, &[scene.stage.repo().signer()]);
    scene.rotate(&second);
    // Mallory brings back the set that had her in it, as it was signed.
    scene.write(&first, &[&scene.ada, &scene.ben]);
    scene.evil_by_mallory();
    scene.stage.holds();
    scene.stage.goes_on();
}

pub(super) fn a_second_set_with_a_serial_in_use(attack: Attack) {
    let mut scene = Rotation::set(attack);
    let first = scene.document(1, &[scene.stage.repo().signer()]);
    scene.rotate(&first);
    scene.write(&scene.with_mallory(1), &[&scene.ada, &scene.ben]);
    scene.refuses();
}

pub(super) fn a_local_signer_whom_the_set_dropped(attack: Attack) {
    let mut scene = Rotation::set(attack);
    let line = scene.mallory.allowed_line("");
    scene.stage.world.trust_line(&line);
    let set = scene.document(1, &[scene.stage.repo().signer()]);
    scene.rotate(&set);
    // She still stands in the device's own file.
    scene.evil_by_mallory();
    scene.stage.holds();
    scene.stage.goes_on();
}

pub(super) fn the_trust_sets_are_deleted(attack: Attack) {
    let mut scene = Rotation::set(attack);
    let line = scene.mallory.allowed_line("");
    scene.stage.world.trust_line(&line);
    let set = scene.document(1, &[scene.stage.repo().signer()]);
    scene.rotate(&set);
    let state = scene.stage.world.device.state_dir();
    std::fs::remove_dir_all(state.join("journal")).unwrap();
    scene.stage.forgets();
    scene.evil_by_mallory();
    scene.stage.holds();
    scene.stage.goes_on();
}
