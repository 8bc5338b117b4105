//! Trust that rotates, on a real device: sets that `evenkeel trust sign` (and so the real ssh-keygen) signed, in a branch.

use std::path::Path;
use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::{PATIENCE, Signer};
use serde_json::Value;

use crate::fleet::World;

const SECURITY: &str = "security@example.com";

/// A device of files whose root is [`SECURITY`], with its first release taken.
struct Scene {
    world: World,
    root: Signer,
}

impl Scene {
    fn new(id: &str) -> Self {
        let root = Signer::new(SECURITY);
        let mut world = World::of_files(id);
        let signers = world.repo.allowed_signers();
        let text = std::fs::read_to_string(&signers).unwrap() + &root.allowed_line("");
        std::fs::write(&signers, text).unwrap();
        world.device.settings.more =
            format!("[trust.root]\nsigners = [{SECURITY:?}]\nthreshold = 1\n");
        world.one_file("1\n");
        world.release_and_sync("First");
        Self { world, root }
    }

    /// `evenkeel trust sign` in the working clone.
    fn sign(&self, arguments: &[&str], signer: &Signer) -> Output {
        let mut command = Command::new(binary());
        command.args(["trust", "sign"]);
        command.arg(self.world.repo.work());
        command.arg("--key").arg(signer.private_key());
        run(command.args(arguments), PATIENCE)
    }

    /// A set with these lines and the next serial, signed by root, in the working clone.
    fn set(&self, lines: &[String]) -> &Self {
        let path = self.world.repo.work().join("trust/allowed_signers");
        let head: String = std::fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| format!("{line}\n"))
            .collect();
        self.world
            .repo
            .write("trust/allowed_signers", head + &lines.concat());
        self.sign(&["--next", "--as", "root"], &self.root)
            .expect_code(0);
        self
    }

    fn release_by(&self, signer: &Signer, content: &str) -> String {
        self.world.one_file(content);
        let id = self.world.repo.commit_signed_by(signer, content);
        self.world.repo.push();
        id
    }

    fn content(&self) -> Option<String> {
        self.world.device.read("/etc/one.conf")
    }

    fn trust(&self) -> Value {
        self.world.device.json(&["trust", "status", "--json"])
    }

    fn serial(&self) -> Value {
        self.trust()["trust"]["set"]["serial"].clone()
    }
}

#[test]
fn who_root_takes_away_moves_the_device_no_more_and_a_lost_journal_brings_nobody_back() {
    let scene = Scene::new("root-rotate");
    let device = &scene.world.device;
    let bob = Signer::new("bob@example.com");
    assert_eq!(scene.serial(), 0);

    // The old signer's last commit brings the set that takes them away.
    scene.set(&[bob.allowed_line("namespaces=\"git\"")]);
    scene.world.release_and_sync("Set 1");
    assert_eq!(scene.serial(), 1);
    let places: Vec<Value> = scene.trust()["trust"]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["place"].clone())
        .collect();
    let local = device.settings.allowed_signers.display().to_string();
    assert_eq!(
        places,
        [
            format!("{local}:2"),
            "trust/allowed_signers (serial 1):3".to_owned()
        ]
    );

    let honest = scene.world.repo.head();
    scene.release_by(scene.world.repo.signer(), "by the old signer\n");
    device.sync().expect_code(3);
    assert_eq!(scene.content().as_deref(), Some("1\n"));
    assert_eq!(device.condition("Verified").1, "unknown-key");

    // Neither a lost journal nor a lost trust file makes them a signer again.
    for lost in ["journal", "trust-set"] {
        let path = device.state_dir().join(lost);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
        device.sync().expect_code(3);
        assert_eq!(scene.content().as_deref(), Some("1\n"), "without {lost}");
        assert_eq!(scene.serial(), 1);
    }

    scene.world.repo.rewind(&honest);
    scene.release_by(&bob, "by bob\n");
    device.sync().expect_code(0);
    assert_eq!(scene.content().as_deref(), Some("by bob\n"));

    // Going back to the tree before the set takes no trust back.
    scene.world.repo.remove("trust");
    scene.release_by(&bob, "without the folder\n");
    device.sync().expect_code(0);
    assert_eq!(scene.serial(), 1);
    scene.release_by(scene.world.repo.signer(), "again\n");
    device.sync().expect_code(3);
}

#[test]
fn a_signer_who_writes_a_set_alone_changes_nobodys_trust() {
    let scene = Scene::new("root-alone");
    let device = &scene.world.device;
    let mallory = Signer::new(SECURITY);
    let text = format!("# Fleet: test\n# Serial: 5\n{}", mallory.allowed_line(""));
    scene.world.repo.write("trust/allowed_signers", text);
    for signer in [scene.world.repo.signer(), &mallory] {
        scene.sign(&["--as", "one"], signer).expect_code(0);
        scene.world.one_file(&format!("{}\n", signer.principal()));
        scene.world.release_and_sync("A set of their own");
        assert_eq!(scene.serial(), 0);
    }
    scene.release_by(&mallory, "by mallory\n");
    device.sync().expect_code(3);
    assert_ne!(scene.content().as_deref(), Some("by mallory\n"));
}

#[test]
fn a_device_that_was_away_walks_three_rotations_of_root_itself() {
    let mut scene = Scene::new("root-away");
    let release = scene.world.repo.signer().allowed_line("namespaces=\"git\"");
    for step in 1..=3 {
        let next = Signer::new(SECURITY);
        scene.set(&[release.clone(), next.allowed_line("")]);
        scene.world.repo.release(&format!("Rotation {step}"));
        scene.root = next;
    }
    scene.world.one_file("after a year\n");
    scene.world.repo.release("Later");
    scene.world.device.sync().expect_code(0);
    assert_eq!(scene.serial(), 3);
    assert_eq!(scene.content().as_deref(), Some("after a year\n"));
}

#[test]
fn where_every_copy_of_the_set_is_lost_the_device_holds_until_a_person_decides() {
    let scene = Scene::new("root-lost");
    let device = &scene.world.device;
    let release = scene.world.repo.signer().allowed_line("");
    scene.set(&[release]);
    let first = scene.world.release_and_sync("Set 1");
    std::fs::remove_dir_all(device.state_dir().join("journal")).unwrap();
    std::fs::write(device.state_dir().join("trust-set"), "nonsense").unwrap();
    scene.world.one_file("2\n");
    scene.world.repo.release("Second");
    for _ in 0..2 {
        device.sync().expect_code(3);
        assert_eq!(device.condition("Verified").1, "TrustStateLost");
        assert_eq!(scene.content().as_deref(), Some("1\n"));
    }
    assert!(scene.trust()["lost"].as_str().unwrap().contains("damaged"));
    device
        .evenkeel(&["trust", "reset", "--to", &first])
        .expect_code(0);
    device.sync().expect_code(0);
    assert_eq!(scene.content().as_deref(), Some("2\n"));
    assert_eq!(scene.serial(), 1, "adopted anew");
}

#[test]
fn trust_status_answers_beside_a_running_daemon_and_without_one() {
    let mut scene = Scene::new("root-status");
    let soon = day_in(20);
    let signers = scene.world.device.settings.allowed_signers.clone();
    let text = std::fs::read_to_string(&signers).unwrap();
    let ending = Signer::new("ending@example.com")
        .allowed_line(&format!("namespaces=\"git\",valid-before=\"{soon}Z\""));
    std::fs::write(&signers, text + &ending + "broken line\n").unwrap();
    scene.world.device.settings.trust = vec!["bind_branch = false".to_owned()];
    let alone = scene.trust();
    let warnings = alone["trust"]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{alone:#}");
    assert!(warnings[0].as_str().unwrap().contains("ending@example.com"));
    assert_eq!(alone["trust"]["lines"][2]["state"], "ends-soon");
    assert_eq!(alone["trust"]["skipped"].as_array().unwrap().len(), 1);
    assert_eq!(alone["trust"]["lines"][1]["roles"][1], "root");
    for copy in alone["floor"]["copies"].as_array().unwrap() {
        assert_eq!(copy["state"], "agrees");
    }
    scene.world.device.sync().expect_code(0);
    assert_eq!(
        scene.world.device.status_json()["warnings"],
        alone["trust"]["warnings"]
    );
    let people = scene
        .world
        .device
        .evenkeel(&["trust", "status"])
        .expect_code(0)
        .stdout;
    for told in ["ends soon", "not used", "generation", "agrees", SECURITY] {
        assert!(people.contains(told), "{told}: {people}");
    }
    let daemon = scene.world.device.spawn_daemon();
    let socket = scene.world.device.state_dir().join("evenkeel.sock");
    evenkeel_tests::wait_for("the daemon's socket", || socket.exists().then_some(()));
    let beside = scene.trust();
    assert_eq!(beside["trust"]["lines"], alone["trust"]["lines"]);
    assert_eq!(daemon.stop(), Some(0));
}

/// The day in so many days, as allowed_signers has it.
fn day_in(days: u64) -> String {
    let output = run(
        Command::new("date").args(["-u", "-d", &format!("+{days} days"), "+%Y%m%d"]),
        PATIENCE,
    );
    output.expect_code(0).stdout.trim().to_owned()
}

#[test]
fn trust_sign_makes_what_ssh_keygen_verifies_and_lint_reads() {
    let scene = Scene::new("root-sign");
    let work = scene.world.repo.work();
    let lint = || {
        let mut command = Command::new(binary());
        run(command.arg("lint").arg(&work).arg("--json"), PATIENCE)
    };
    let missing = scene.sign(&[], &scene.root).expect_code(2);
    assert!(
        missing.stderr.contains("hint: write there"),
        "{}",
        missing.text()
    );
    let root = scene.root.allowed_line("");
    scene.world.repo.write("trust/allowed_signers", &root);
    let bare = scene.sign(&[], &scene.root).expect_code(3);
    assert!(bare.stderr.contains("--next"), "{}", bare.text());
    let said = lint().expect_code(0);
    assert!(
        said.stdout.contains("it is no trust set"),
        "{}",
        said.text()
    );
    let half = format!("# Serial: 1\n{root}");
    scene.world.repo.write("trust/allowed_signers", half);
    let said = lint().expect_code(3);
    assert!(said.stdout.contains("# Fleet:"), "{}", said.text());
    scene.world.repo.write("trust/allowed_signers", &root);

    scene
        .sign(&["--next", "--as", "a"], &scene.root)
        .expect_code(0);
    let file = work.join("trust/allowed_signers");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("# Fleet: test\n# Serial: 1\n{root}"));
    verify(&work, "allowed_signers.sig.a", &text, &root);
    let told: Value = serde_json::from_str(&lint().expect_code(0).stdout).unwrap();
    assert_eq!(told["warnings"].as_array().unwrap().len(), 0);

    // A second signer adds theirs; the next serial drops both.
    let other = Signer::new("ciso@example.com");
    let said = scene.sign(&["--as", "b"], &other).expect_code(0);
    assert!(
        said.stderr.contains("is not in this set"),
        "{}",
        said.text()
    );
    lint().expect_code(0);
    scene
        .sign(&["--next", "--as", "c"], &scene.root)
        .expect_code(0);
    let mut names: Vec<String> = std::fs::read_dir(work.join("trust"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["allowed_signers", "allowed_signers.sig.c"]);

    // A file that is written anew, or an older one, goes on from the highest serial that was committed.
    scene.world.repo.commit_signed("A set");
    scene.world.repo.write("trust/allowed_signers", &root);
    scene
        .sign(&["--next", "--as", "c"], &scene.root)
        .expect_code(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("# Fleet: test\n# Serial: 3\n{root}"));
    scene.world.repo.commit_signed("The next");
    let older = format!("# Fleet: test\n# Serial: 2\n{root}");
    scene.world.repo.write("trust/allowed_signers", older);
    scene
        .sign(&["--next", "--as", "c"], &scene.root)
        .expect_code(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("# Fleet: test\n# Serial: 4\n{root}"));

    // A change after the signature is noticed.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "# more\n").unwrap();
    let said = lint().expect_code(3);
    assert!(
        said.stdout.contains("not over trust/allowed_signers"),
        "{}",
        said.text()
    );
    scene.sign(&["--as", "../../x"], &scene.root).expect_code(2);
}

fn verify(work: &Path, signature: &str, text: &str, line: &str) {
    let signers = work.join("../signers-of-root");
    std::fs::write(&signers, line).unwrap();
    evenkeel_tests::process::run_with_input(
        Command::new("ssh-keygen")
            .args(["-Y", "verify", "-n", "evenkeel-trust", "-I", SECURITY, "-f"])
            .arg(&signers)
            .arg("-s")
            .arg(work.join("trust").join(signature)),
        text.as_bytes(),
        PATIENCE,
    )
    .expect_code(0);
}
