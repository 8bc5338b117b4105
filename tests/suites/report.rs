//! Signed reports: a device tells, `ssh-keygen` and `evenkeel report verify` believe, and what is not so is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::{PATIENCE, wait_for};
use serde_json::Value;

use crate::fleet::World;

/// A device that reports into a folder, with its document in the repository.
struct Telling {
    world: World,
    dir: PathBuf,
}

impl Telling {
    fn new(id: &str) -> Self {
        let mut world = World::of_files(id);
        let dir = world.device.scratch().join("reports");
        std::fs::create_dir(&dir).unwrap();
        world.device.settings.more = format!("[report]\ndir = {dir:?}\n");
        world.one_file("1\n");
        world.repo.release("Before its key is known");
        world.device.sync().expect_code(0);
        let document = world.device.evenkeel(&["enroll"]).expect_code(0).stdout;
        world.repo.write(&format!("devices/{id}.toml"), document);
        Self { world, dir }
    }

    fn file(&self) -> PathBuf {
        let id = &self.world.device.settings.id;
        self.dir.join(format!("{id}.report"))
    }

    /// The line that is signed.
    fn line(&self) -> String {
        let text = std::fs::read_to_string(self.file()).unwrap();
        text.split_inclusive('\n').next().unwrap().to_owned()
    }

    fn said(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    fn verify(&self, files: &[&Path]) -> (i32, Value) {
        let said = verify(&self.world.repo.work(), files);
        let answer = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        (said.code.unwrap(), answer)
    }

    fn reason(&self, files: &[&Path]) -> String {
        let (code, answer) = self.verify(files);
        let reason = answer[0]["reason"].as_str().unwrap_or_default().to_owned();
        assert_eq!(code == 0, reason == "ok", "{answer:#}");
        reason
    }
}

fn verify(repo: &Path, files: &[&Path]) -> Output {
    let mut command = Command::new(binary());
    command
        .args(["report", "verify", "--json", "--repo"])
        .arg(repo)
        .args(files);
    run(&mut command, PATIENCE)
}

fn sha256(file: &Path) -> String {
    let said = run(Command::new("sha256sum").arg(file), PATIENCE).expect_code(0);
    said.stdout.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn what_a_device_tells_is_believed_by_who_has_the_repository_and_by_ssh_keygen() {
    let telling = Telling::new("report-told");
    let world = &telling.world;
    let first = world.repo.release("Knows the key");
    world.device.sync().expect_code(0);
    let said = telling.said();
    assert_eq!(said["device"], "report-told");
    assert_eq!(said["fleet"], "test");
    assert_eq!(said["revision"]["applied"], first.as_str());
    assert_eq!(said["apps"][0]["name"], "one");
    assert!(
        said["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True"),
        "{said:#}"
    );
    assert_eq!(telling.reason(&[&telling.file()]), "ok");
    // The folder is as good as its files, and so is the bare repository.
    let (code, answer) = telling.verify(&[&telling.dir]);
    assert_eq!((code, answer[0]["report"] == said), (0, true), "{answer:#}");
    let bare = verify(&world.repo.bare(), &[&telling.file()]);
    bare.expect_code(0);

    // OpenSSH's own verdict on the same bytes.
    let text = std::fs::read_to_string(telling.file()).unwrap();
    let (line, armor) = text.split_once('\n').unwrap();
    let at = |name: &str| world.device.scratch().join(name);
    std::fs::write(at("line"), format!("{line}\n")).unwrap();
    std::fs::write(at("line.sig"), armor).unwrap();
    let public =
        std::fs::read_to_string(world.device.state_dir().join("identity/id_ed25519.pub")).unwrap();
    std::fs::write(at("signers"), format!("report-told {public}")).unwrap();
    // Through a shell, for the message comes in at its input.
    let checked = run(
        Command::new("sh")
            .args([
                "-c",
                "ssh-keygen -Y verify -I report-told -n evenkeel-report -f signers -s line.sig < line",
            ])
            .current_dir(world.device.scratch()),
        PATIENCE,
    );
    checked.expect_code(0);

    // The next one names the one before, and an old one shown again is refused.
    let old = at("old.report");
    std::fs::copy(telling.file(), &old).unwrap();
    world.one_file("2\n");
    world.repo.release("Another");
    world.device.sync().expect_code(0);
    let next = telling.said();
    assert_eq!(next["previous"].as_str().unwrap(), sha256(&at("line")));
    assert_eq!(
        next["sequence"].as_u64().unwrap(),
        said["sequence"].as_u64().unwrap() + 1
    );
    assert_eq!(telling.reason(&[&old, &telling.file()]), "older");
    // By hand, at any time.
    let printed = world.device.evenkeel(&["report"]).expect_code(0);
    std::fs::write(at("printed.report"), printed.stdout).unwrap();
    assert_eq!(telling.reason(&[&at("printed.report")]), "ok");
    assert_eq!(
        telling.reason(&[&telling.file(), &at("printed.report")]),
        "older"
    );
}

#[test]
fn a_report_of_another_key_fleet_device_or_content_is_refused() {
    let telling = Telling::new("report-false");
    let world = &telling.world;
    world.repo.release("Knows the key");
    world.device.sync().expect_code(0);
    let text = std::fs::read_to_string(telling.file()).unwrap();
    let changed = world.device.scratch().join("changed.report");
    std::fs::write(&changed, text.replacen("\"Idle\"", "\"Paused\"", 1)).unwrap();
    assert_eq!(telling.reason(&[&changed]), "bad-signature");
    std::fs::write(&changed, text.replacen("report-false", "somebody-else", 1)).unwrap();
    assert_eq!(telling.reason(&[&changed]), "unknown-device");
    std::fs::write(&changed, telling.line()).unwrap();
    assert_eq!(telling.reason(&[&changed]), "malformed");

    let document = world.repo.work().join("devices/report-false.toml");
    let before = std::fs::read_to_string(&document).unwrap();
    world
        .repo
        .write("fleet.toml", "format = 1\nname = \"another\"\n");
    assert_eq!(telling.reason(&[&telling.file()]), "other-fleet");
    world
        .repo
        .write("fleet.toml", "format = 1\nname = \"test\"\n");
    // Another identity for the same name: the repository has not heard of it.
    world.device.evenkeel(&["enroll", "--new"]).expect_code(0);
    let stranger = world.device.evenkeel(&["report"]).expect_code(0);
    std::fs::write(&changed, stranger.stdout).unwrap();
    assert_eq!(telling.reason(&[&changed]), "wrong-key");
    world.repo.write(
        "devices/report-false.toml",
        before.replace("public_key", "# public_key"),
    );
    assert_eq!(telling.reason(&[&telling.file()]), "unknown-device");
}

#[test]
fn a_pass_that_changes_nothing_writes_no_report_and_a_folder_that_is_gone_stops_nothing() {
    let mut telling = Telling::new("report-idle");
    telling.world.repo.release("Knows the key");
    telling.world.device.sync().expect_code(0);
    let daemon = telling.world.device.spawn_daemon();
    let before = telling.said();
    // The daemon's own first one: it does not know what another process told.
    wait_for("the daemon's first report", || {
        (telling.said()["sequence"] != before["sequence"]).then_some(())
    });
    // The first pass after a start looks at what is kept, and the one after it at the remote.
    let pass = || telling.world.device.sync().expect_code(0);
    pass();
    pass();
    let first = telling.said();
    for _ in 0..4 {
        pass();
    }
    assert_eq!(telling.said(), first, "an idle pass wrote a report");

    let away = telling.dir.with_extension("away");
    std::fs::rename(&telling.dir, &away).unwrap();
    telling.world.one_file("2\n");
    let second = telling.world.repo.release("While nobody listens");
    telling.world.device.sync().expect_code(0);
    wait_for("a word about it", || {
        daemon.log().contains("no report is written").then_some(())
    });
    assert!(
        !telling.dir.exists(),
        "a folder was made where a mount should be"
    );
    std::fs::rename(&away, &telling.dir).unwrap();
    telling.world.device.sync().expect_code(0);
    let said = wait_for("the report that was missed", || {
        let said = telling.said();
        (said["revision"]["applied"] == second.as_str()).then_some(said)
    });
    assert_eq!(
        said["sequence"].as_u64().unwrap(),
        first["sequence"].as_u64().unwrap() + 1
    );

    // A folder that is there and takes no file: one try and its number, and no other while there is nothing new to say.
    let mark = |name: &str| std::fs::read(telling.world.device.state_dir().join(name)).unwrap();
    std::fs::remove_file(telling.file()).unwrap();
    std::fs::create_dir(telling.file()).unwrap();
    telling.world.one_file("3\n");
    telling.world.repo.release("While nothing can be put down");
    pass();
    wait_for("a word about that", || {
        daemon
            .log()
            .contains("cannot write the report")
            .then_some(())
    });
    pass();
    pass();
    let memory = mark("report");
    for _ in 0..4 {
        pass();
    }
    assert_eq!(mark("report"), memory, "an idle pass used a number");
    std::fs::remove_dir(telling.file()).unwrap();
    telling.world.one_file("4\n");
    let third = telling.world.repo.release("Something new to say");
    pass();
    wait_for("the next report", || {
        (telling.file().exists() && telling.said()["revision"]["applied"] == third.as_str())
            .then_some(())
    });
    assert_eq!(daemon.stop(), Some(0));
    telling.world.device.settings.more =
        "[report]\ndir = \"/r\"\nhttp = \"127.0.0.1:1\"\n".to_owned();
    let refused = telling.world.device.sync().expect_code(2);
    assert!(
        refused.stderr.contains("`http` is not supported"),
        "{}",
        refused.text()
    );
}
