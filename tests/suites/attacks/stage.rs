//! Where attacks are mounted: a repository behind a git server, and a device that has converged to an honest revision.

use std::process::Command;

use evenkeel_tests::process::{Output, run, run_with_input};
use evenkeel_tests::{Daemon, FleetRepo, GitHttp, PATIENCE, Signer, wait_for};

use super::craft::{Approver, signed};
use super::{Attack, Condition, Until};
use crate::fleet::{QUICK, World};

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
    /// Whether the device's clock is known to be right.
    pub(super) knows_the_time: bool,
    /// Who approves honest work, where two must have signed.
    second: Option<Signer>,
    /// Whether its memory was left alone.
    remembers: bool,
}

impl Stage {
    /// A device that is at an honest revision.
    pub(super) fn set(attack: Attack) -> Self {
        Self::set_with(attack, |_| {})
    }

    /// The same, where something is prepared first: the device's settings, the honest repository.
    #[track_caller]
    pub(super) fn set_with(attack: Attack, prepare: impl FnOnce(&mut World)) -> Self {
        Self::set_in(attack, World::of_files("gw-1"), None, prepare)
    }

    /// The same, where another signer approves honest work.
    #[track_caller]
    pub(super) fn set_approved(
        attack: Attack,
        second: Signer,
        prepare: impl FnOnce(&mut World),
    ) -> Self {
        let world = World::of_files("gw-1");
        world.trust_line(&second.allowed_line(""));
        Self::set_in(attack, world, Some(second), prepare)
    }

    /// The same in this world.
    #[track_caller]
    pub(super) fn set_in(
        attack: Attack,
        mut world: World,
        second: Option<Signer>,
        prepare: impl FnOnce(&mut World),
    ) -> Self {
        eprintln!("{}: {:?} {}", attack.name, attack.by, attack.done);
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
            knows_the_time: false,
            second,
            remembers: true,
        };
        stage.honest("right\n");
        stage
    }

    /// Who approves honest work.
    pub(super) fn second(&self) -> &Signer {
        self.second.as_ref().expect("this stage has one")
    }

    /// `evenkeel sync`.
    #[track_caller]
    fn sync(&self) -> Output {
        if !self.knows_the_time {
            return self.world.device.sync();
        }
        // A time service says that it has set the clock by a file under /run: given to this one process.
        const SAYS_SO: &str = "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/timesync && \
             touch /run/systemd/timesync/synchronized && exec \"$@\"";
        let sync = self.world.device.command(&["sync"]);
        run(
            Command::new("unshare")
                .args(["--mount", "--", "sh", "-c", SAYS_SO, "sh"])
                .arg(sync.get_program())
                .args(sync.get_args())
                .env_remove("NOTIFY_SOCKET")
                .env_remove("DOCKER_HOST"),
            PATIENCE,
        )
    }

    /// The device has lost what it remembers: only its files tell where it is.
    pub(super) fn forgets(&mut self) {
        self.remembers = false;
    }

    /// The id of the tree that a commit of the working files would have.
    pub(super) fn tree(&self) -> String {
        self.repo().git(&["add", "-A"]);
        self.repo().git(&["write-tree"]).stdout.trim().to_owned()
    }

    pub(super) fn repo(&self) -> &FleetRepo {
        &self.world.repo
    }

    /// The branch that the device tracks.
    pub(super) fn branch(&self) -> &str {
        &self.world.device.settings.branch
    }

    /// Declares content for the device (and where it has an engine, a service); nothing is committed.
    pub(super) fn declare(&self, content: &str) -> &Self {
        if self.world.engine.is_some() {
            let file = format!("[[files]]\npath = {SHOWS:?}\ncontent = {content:?}\n");
            let app = file + &self.world.sleeper("web", "") + QUICK;
            self.world.apps(&["one"]).app("one", app);
        } else {
            self.world.one_file(content);
        }
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
        let said = self.sync();
        assert_eq!(
            said.code,
            Some(0),
            "honest work is not taken: {}\n{:#}",
            said.text(),
            self.world.device.status_json()["poll"]
        );
        content.clone_into(&mut self.content);
        self.good = self.repo().head();
        self.remembers = true;
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

    /// A message as this device's policy asks for it, for a commit of the working files.
    fn message(&self, subject: &str) -> String {
        if let Some(second) = &self.second {
            let tree = self.tree();
            let base = match self.good.as_str() {
                "" => "0".repeat(40),
                _ => self.repo().head(),
            };
            return format!(
                "{subject}\n\n{}",
                Approver::by(second).trailer(&tree, &base)
            );
        }
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
            assert!(
                !self.remembers || status["revision"][what] == self.good.as_str(),
                "{what}: {status:#}"
            );
        }
    }

    /// A pass takes the device to this commit, which is honest.
    #[track_caller]
    pub(super) fn comes_to(&mut self, commit: &str, content: &str) {
        self.sync().expect_code(0);
        commit.clone_into(&mut self.good);
        content.clone_into(&mut self.content);
        self.stands();
    }

    /// What the row says is told now.
    #[track_caller]
    pub(super) fn told_now(&self) {
        self.told(&self.world.device.evenkeel(&["status"]));
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
        let said = self.sync().expect_code(code);
        self.told(&said);
        // Nor does it give in when it is asked again, by a new process with nothing but the disk.
        self.sync().expect_code(code);
        assert_eq!(before, self.world.root_listing(), "files have changed");
        self.stands();
    }

    /// The condition says what stands in the row, and so does the pass itself.
    #[track_caller]
    fn told(&self, said: &Output) {
        let (kind, wanted) = match self.attack.condition {
            Condition::Verified if self.attack.reason == "Trusted" => ("Verified", &["True"][..]),
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
    pub(super) fn goes_on(mut self) -> Self {
        let from = match self.attack.until {
            Until::OnTop => self.repo().remote_tip(self.branch()),
            Until::Dropped | Until::Mended => self.good.clone(),
            Until::Rewritten => {
                self.repo().git(&["checkout", "-q", "--orphan", "honest"]);
                self.declare("rewritten\n");
                let says = format!("Rewritten\n\nSupersedes: {}", self.good);
                let commit = self.repo().commit_signed(&says);
                self.push(&commit);
                self.comes_to(&commit, "rewritten\n");
                commit
            }
        };
        self.goes_on_from(&from)
    }

    /// The same on top of this commit.
    #[track_caller]
    pub(super) fn goes_on_from(mut self, commit: &str) -> Self {
        self.repo().reset_to(commit);
        // What is honest is all there is in the tree.
        self.repo().git(&["rm", "-rqf", "."]);
        self.repo().git(&["checkout", "-q", &self.good, "--", "."]);
        self.honest("honest\n");
        self.honest("and on\n");
        self
    }
}

/// The line of `[trust]` that asks for a bound branch.
pub(super) const BIND: &str = "bind_branch = true";
