//! Where attacks are mounted: a repository behind a git server, and a device that has converged to an honest revision.

use std::path::Path;
use std::process::Command;

use evenkeel_tests::process::{Output, run_with_input};
use evenkeel_tests::{Daemon, FleetRepo, GitHttp, PATIENCE, Signer, wait_for};

use super::{Attack, Condition, Until};
use crate::fleet::World;

/// The file that shows which revision the device is at.
const SHOWS: &str = "/etc/one.conf";

/// Where the attack is mounted.
pub(super) struct Stage {
    pub(super) world: World,
    _web: GitHttp,
    /// The honest revision that the device is at.
    pub(super) good: String,
    /// What stands in [`SHOWS`] there.
    content: String,
    attack: Attack,
}

impl Stage {
    /// A device that is at an honest revision.
    pub(super) fn set(attack: Attack) -> Self {
        Self::set_with(attack, |_| {})
    }

    /// The same, where something is prepared first: the device's settings, the honest repository.
    #[track_caller]
    pub(super) fn set_with(attack: Attack, prepare: impl FnOnce(&mut World)) -> Self {
        eprintln!("{}: {:?} {}", attack.name, attack.by, attack.done);
        let mut world = World::of_files("gw-1");
        let web = GitHttp::https(world.repo.served());
        world.device.settings.url = web.url();
        world
            .device
            .settings
            .source
            .push(format!("ca_file = {:?}", web.ca_file()));
        prepare(&mut world);
        let mut stage = Self {
            world,
            _web: web,
            good: String::new(),
            content: String::new(),
            attack,
        };
        stage.honest("right\n");
        stage
    }

    pub(super) fn repo(&self) -> &FleetRepo {
        &self.world.repo
    }

    /// The branch that the device tracks.
    pub(super) fn branch(&self) -> &str {
        &self.world.device.settings.branch
    }

    /// Declares content for the device; nothing is committed.
    pub(super) fn declare(&self, content: &str) -> &Self {
        self.world.one_file(content);
        self
    }

    /// Declares content that no device should have.
    pub(super) fn evil(&self) -> &Self {
        self.declare("evil\n")
    }

    /// An honest release on the device's branch, and the device takes it.
    #[track_caller]
    pub(super) fn honest(&mut self, content: &str) {
        self.declare(content);
        self.repo().commit_signed(&self.message("Honest"));
        self.repo().git(&[
            "push",
            "-q",
            "--force",
            "origin",
            &format!("HEAD:refs/heads/{}", self.branch()),
        ]);
        let said = self.world.device.sync();
        assert_eq!(
            said.code,
            Some(0),
            "honest work is not taken: {}\n{:#}",
            said.text(),
            self.world.device.status_json()["poll"]
        );
        content.clone_into(&mut self.content);
        self.good = self.repo().head();
        self.stands();
        let (status, reason) = self.world.device.condition("Verified");
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Trusted"));
    }

    /// A daemon that has taken an honest release by itself.
    pub(super) fn daemon(&mut self) -> Daemon {
        let daemon = self.world.device.spawn_daemon();
        self.declare("of the daemon\n");
        self.good = self.repo().commit_signed(&self.message("Honest"));
        self.content = "of the daemon\n".to_owned();
        self.push(&self.good);
        wait_for("the daemon to take an honest release", || {
            let status = self.world.device.status_json();
            (status["revision"]["last_good"] == self.good.as_str()).then_some(())
        });
        self.stands();
        daemon
    }

    /// A message as this device's policy asks for it.
    fn message(&self, subject: &str) -> String {
        if self
            .world
            .device
            .settings
            .trust
            .iter()
            .any(|line| line == BIND)
        {
            format!("{subject}\n\nFleet-Branch: {}", self.branch())
        } else {
            subject.to_owned()
        }
    }

    /// Puts the branch that the device tracks on this commit of the working clone.
    pub(super) fn push(&self, commit: &str) -> &Self {
        let to = format!("{commit}:refs/heads/{}", self.branch());
        self.repo().git(&["push", "-q", "--force", "origin", &to]);
        self
    }

    /// Puts a commit object into the server's repository as it is, and the branch on it: no client checks it on its way.
    pub(super) fn plant(&self, raw: &[u8]) -> String {
        // Its tree and parents have to be there.
        self.repo().git(&[
            "push",
            "-q",
            "--force",
            "origin",
            "HEAD:refs/heads/material",
        ]);
        let id = run_with_input(
            evenkeel_tests::repo::git_command()
                .current_dir(self.repo().bare())
                .args([
                    "hash-object",
                    "-t",
                    "commit",
                    "-w",
                    "--stdin",
                    "--literally",
                ]),
            raw,
            PATIENCE,
        )
        .expect_code(0)
        .stdout
        .trim()
        .to_owned();
        // update-ref would look at the object.
        let file = self.repo().bare().join("refs/heads").join(self.branch());
        std::fs::write(file, format!("{id}\n")).unwrap();
        id
    }

    /// The commit object of a commit of the working clone.
    pub(super) fn raw(&self, commit: &str) -> String {
        self.repo().git(&["cat-file", "commit", commit]).stdout
    }

    /// An evil commit on top of the honest one, without a signature: its object, to be made worse.
    pub(super) fn draft(&self) -> String {
        self.evil();
        let commit = self.repo().commit_unsigned("Evil");
        self.raw(&commit)
    }

    /// The same of what is in the index, whatever the working files are; signed.
    pub(super) fn commit_the_index(&self, subject: &str) -> String {
        let tree = self.repo().git(&["write-tree"]).stdout;
        let who = format!("Release <release@example.com> {} +0000", self.repo().time());
        let raw = format!(
            "tree {}\nparent {}\nauthor {who}\ncommitter {who}\n\n{subject}\n",
            tree.trim(),
            self.good
        );
        let commit = self
            .repo()
            .hash_commit(signed(&raw, self.repo().signer()).as_bytes());
        self.repo().reset_to(&commit);
        commit
    }

    /// The device is where it was.
    #[track_caller]
    fn stands(&self) {
        assert_eq!(
            self.world.device.read(SHOWS).as_deref(),
            Some(self.content.as_str()),
            "the device has moved"
        );
        let status = self.world.device.status_json();
        for what in ["last_good", "floor"] {
            assert_eq!(
                status["revision"][what],
                self.good.as_str(),
                "{what}: {status:#}"
            );
        }
    }

    /// A pass against the attack: refused (3), nothing has moved, and the condition says why.
    #[track_caller]
    pub(super) fn holds(&self) {
        self.holds_with_code(3);
    }

    /// The same with another exit code.
    #[track_caller]
    pub(super) fn holds_with_code(&self, code: i32) {
        let before = self.world.root_listing();
        let said = self.world.device.sync().expect_code(code);
        self.told(&said);
        // Nor does it give in when it is asked again, by a new process with nothing but the disk.
        self.world.device.sync().expect_code(code);
        assert_eq!(before, self.world.root_listing(), "files have changed");
        self.stands();
    }

    /// The condition says what stands in the row, and so does the pass itself.
    #[track_caller]
    fn told(&self, said: &Output) {
        let (kind, wanted) = match self.attack.condition {
            Condition::Verified => ("Verified", &["False", "Unknown"][..]),
            Condition::Stalled => ("Stalled", &["True"][..]),
            Condition::Ready => ("Ready", &["True", "False"][..]),
            Condition::Stale => ("Stale", &["True"][..]),
        };
        let status = self.world.device.status_json();
        let condition = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == kind)
            .unwrap_or_else(|| panic!("no condition {kind} in {status:#}"));
        assert!(
            condition["reason"] == self.attack.reason
                && wanted.iter().any(|wanted| condition["status"] == *wanted),
            "{kind} is not {}: {status:#}\n{}",
            self.attack.reason,
            said.text()
        );
        let message = condition["message"].as_str().unwrap_or_default();
        assert!(message.len() > 10, "it does not say why: {status:#}");
    }

    /// Honest work goes on, in the way of the row, and the device takes it.
    #[track_caller]
    pub(super) fn goes_on(self) -> Self {
        let from = match self.attack.until {
            Until::OnTop => self.repo().remote_tip(self.branch()),
            Until::Dropped | Until::Mended => self.good.clone(),
        };
        self.goes_on_from(&from)
    }

    /// The same on top of this commit.
    #[track_caller]
    pub(super) fn goes_on_from(mut self, commit: &str) -> Self {
        self.repo().reset_to(commit);
        // What is honest is all there is in the tree.
        self.repo().git(&["rm", "-rqf", "."]);
        self.repo()
            .git(&["checkout", "-q", &self.good, "--", "fleet.toml"]);
        self.honest("honest\n");
        self.honest("and on\n");
        self
    }
}

/// The line of `[trust]` that asks for a bound branch.
pub(super) const BIND: &str = "bind_branch = true";

/// A detached SSH signature over these bytes, by the real `ssh-keygen`.
pub(super) fn sshsig(bytes: &[u8], key: &Path, namespace: &str) -> String {
    run_with_input(
        Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(key),
        bytes,
        PATIENCE,
    )
    .expect_code(0)
    .stdout
}

/// An unsigned commit object with a signature header as git would write it: the last one.
pub(super) fn with_signature(raw: &str, armor: &str) -> String {
    let (head, message) = raw.split_once("\n\n").unwrap();
    format!("{head}\n{}\n{message}", header("gpgsig", armor))
}

/// A folded header, with its newline.
pub(super) fn header(name: &str, value: &str) -> String {
    format!("{name} {}\n", value.trim_end().replace('\n', "\n "))
}

/// An unsigned commit object, signed as git would sign it.
pub(super) fn signed(raw: &str, by: &Signer) -> String {
    with_signature(raw, &sshsig(raw.as_bytes(), &by.private_key(), "git"))
}

/// A signed commit object taken apart: without its signature header, and that header.
pub(super) fn apart(raw: &str) -> (String, String) {
    const END: &str = "-----END SSH SIGNATURE-----\n";
    let from = raw.find("gpgsig ").expect("a signed commit");
    let to = raw.find(END).expect("a signed commit") + END.len();
    (
        format!("{}{}", &raw[..from], &raw[to..]),
        raw[from..to].to_owned(),
    )
}
