//! A fleet repository: a working clone, the bare repository that devices fetch from, and keys by the real `ssh-keygen`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::PATIENCE;
use crate::process::{Output, run, run_with_input};

/// Somebody who signs: a key pair and the principal it stands for.
#[derive(Debug)]
pub struct Signer {
    dir: TempDir,
    principal: String,
}

impl Signer {
    /// An ed25519 key for `principal`.
    pub fn new(principal: &str) -> Self {
        Self::of_type(principal, &["-t", "ed25519"])
    }

    /// A key of the kind that these `ssh-keygen` arguments make: `["-t", "rsa", "-b", "3072"]`.
    ///
    /// # Panics
    /// Where `ssh-keygen` fails.
    pub fn of_type(principal: &str, kind: &[&str]) -> Self {
        let dir = crate::short_tempdir("key");
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-C", principal, "-f"])
                .arg(dir.path().join("key"))
                .args(kind),
            PATIENCE,
        )
        .expect_code(0);
        Self {
            dir,
            principal: principal.to_owned(),
        }
    }

    /// The private key's file.
    pub fn private_key(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// The public key's file.
    pub fn public_key(&self) -> PathBuf {
        self.dir.path().join("key.pub")
    }

    /// The principal.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// Its line of an `allowed_signers` file, with these options (`namespaces="git"`) or none.
    ///
    /// # Panics
    /// Where the public key cannot be read.
    pub fn allowed_line(&self, options: &str) -> String {
        let key = std::fs::read_to_string(self.public_key()).expect("read our own public key");
        let mut words = key.split_whitespace();
        let kind = words.next().expect("a key type");
        let blob = words.next().expect("a key");
        let options = if options.is_empty() {
            String::new()
        } else {
            format!("{options} ")
        };
        format!("{} {options}{kind} {blob}\n", self.principal)
    }
}

/// A fleet repository.
#[derive(Debug)]
pub struct FleetRepo {
    dir: TempDir,
    signer: Signer,
    clock: std::cell::Cell<u64>,
}

impl FleetRepo {
    /// A repository with no commit yet, on the branch `main`, and a signer `release@example.com`.
    ///
    /// # Panics
    /// Where git fails.
    pub fn new() -> Self {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs();
        let repo = Self {
            dir: crate::short_tempdir("repo"),
            signer: Signer::new("release@example.com"),
            // Commits a second apart and not in the future, however fast a test makes them.
            clock: std::cell::Cell::new(now - 3600),
        };
        std::fs::create_dir(repo.work()).expect("make the working directory");
        repo.git(&["init", "-q", "-b", "main", "."]);
        repo.git(&["init", "-q", "--bare", "-b", "main", "../fleet.git"]);
        // What a host allows that serves devices: any branch, and commits that are no tip (for deepening).
        // A collection of garbage in the background would hold the lock of a ref that the next commit needs.
        for key in ["gc.autoDetach", "maintenance.autoDetach"] {
            repo.git(&["config", key, "false"]);
            repo.bare_git(&["config", key, "false"]);
        }
        repo.bare_git(&["config", "http.uploadpack", "true"]);
        repo.bare_git(&["config", "uploadpack.allowReachableSHA1InWant", "true"]);
        repo.git(&["remote", "add", "origin", "../fleet.git"]);
        repo
    }

    /// The working clone.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The bare repository that devices fetch from.
    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("fleet.git")
    }

    /// The directory around the bare repository: what a git server serves. The repository is `/fleet.git` in it.
    pub fn served(&self) -> &Path {
        self.dir.path()
    }

    /// A `file://` URL of it.
    pub fn file_url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// The one whose signature the device knows.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// An `allowed_signers` file that names the signer, for namespace `git`; beside the repository, written anew.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn allowed_signers(&self) -> PathBuf {
        let path = self.dir.path().join("allowed_signers");
        std::fs::write(&path, self.signer.allowed_line("namespaces=\"git\""))
            .expect("write in our own directory");
        path
    }

    /// Writes a file of the working clone, and its directories.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let full = self.work().join(path);
        std::fs::create_dir_all(full.parent().expect("a parent")).expect("make directories");
        std::fs::write(full, content).expect("write in our own directory");
        self
    }

    /// Removes a file or a directory of the working clone.
    ///
    /// # Panics
    /// Where it is not there.
    pub fn remove(&self, path: &str) -> &Self {
        let full = self.work().join(path);
        if full.is_dir() {
            std::fs::remove_dir_all(full).expect("remove a directory that is there");
        } else {
            std::fs::remove_file(full).expect("remove a file that is there");
        }
        self
    }

    /// Commits everything, signed by the signer; gives the commit's id.
    pub fn commit_signed(&self, message: &str) -> String {
        self.commit_signed_by(&self.signer, message)
    }

    /// Commits everything, signed by somebody else.
    ///
    /// # Panics
    /// Where git fails.
    pub fn commit_signed_by(&self, signer: &Signer, message: &str) -> String {
        let key = format!("user.signingkey={}", signer.private_key().display());
        self.git(&["add", "-A"]);
        self.git(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "commit",
            "-q",
            "--allow-empty",
            "-S",
            "-m",
            message,
        ]);
        self.head()
    }

    /// Commits everything without a signature.
    ///
    /// # Panics
    /// Where git fails.
    pub fn commit_unsigned(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&[
            "commit",
            "-q",
            "--allow-empty",
            "--no-gpg-sign",
            "-m",
            message,
        ]);
        self.head()
    }

    /// Commits everything signed, and pushes the current branch.
    pub fn release(&self, message: &str) -> String {
        let id = self.commit_signed(message);
        self.push();
        id
    }

    /// The id of the working clone's tip.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).stdout.trim().to_owned()
    }

    /// The id of the tip that devices see.
    pub fn remote_tip(&self, branch: &str) -> String {
        self.bare_git(&["rev-parse", branch])
            .stdout
            .trim()
            .to_owned()
    }

    /// Pushes the current branch.
    pub fn push(&self) -> &Self {
        self.git(&["push", "-q", "origin", "HEAD"]);
        self
    }

    /// Pushes the current branch by force.
    pub fn force_push(&self) -> &Self {
        self.git(&["push", "-q", "--force", "origin", "HEAD"]);
        self
    }

    /// Sets the current branch and the working files back to `commit`; nothing is pushed.
    pub fn reset_to(&self, commit: &str) -> &Self {
        self.git(&["reset", "-q", "--hard", commit]);
        self
    }

    /// Sets the branch that devices see back to `commit`: what an attacker with push rights would do.
    pub fn rewind(&self, commit: &str) -> &Self {
        self.reset_to(commit);
        self.force_push()
    }

    /// Makes a branch at the current tip and changes to it, or only changes to it where it exists.
    pub fn branch(&self, name: &str) -> &Self {
        self.git(&["checkout", "-q", "-B", name]);
        self
    }

    /// When the next commit is dated, in seconds since 1970.
    pub fn time(&self) -> u64 {
        self.clock.get()
    }

    /// Dates the next commit so, and each one after it a second later.
    pub fn set_time(&self, seconds: u64) -> &Self {
        self.clock.set(seconds);
        self
    }

    /// Runs git in the working clone.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> Output {
        self.git_in(&self.work(), arguments, &[])
    }

    /// Runs git in the bare repository.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn bare_git(&self, arguments: &[&str]) -> Output {
        self.git_in(&self.bare(), arguments, &[])
    }

    /// Puts a raw commit object into the working clone and gives its id: for commits that git would not make.
    ///
    /// # Panics
    /// Where git fails.
    pub fn hash_commit(&self, raw: &[u8]) -> String {
        self.git_in(
            &self.work(),
            &[
                "hash-object",
                "-t",
                "commit",
                "-w",
                "--stdin",
                "--literally",
            ],
            raw,
        )
        .stdout
        .trim()
        .to_owned()
    }

    /// Writes a tree object with these lines, as `git ls-tree` prints them, and gives its id.
    ///
    /// # Panics
    /// Where git fails.
    pub fn make_tree(&self, lines: &str) -> String {
        let made = self.git_in(&self.work(), &["mktree"], lines.as_bytes());
        made.stdout.trim().to_owned()
    }

    /// Commits this tree on top of the current tip, signed, without touching the working files, and pushes it. The next
    /// commit comes on top of it.
    ///
    /// # Panics
    /// Where git fails.
    pub fn release_tree(&self, tree: &str, message: &str) -> String {
        let key = format!("user.signingkey={}", self.signer.private_key().display());
        let commit = ["commit-tree", "-S", "-p", "HEAD", tree];
        let arguments = [&["-c", "gpg.format=ssh", "-c", &key][..], &commit].concat();
        let made = self.git_in(&self.work(), &arguments, message.as_bytes());
        let id = made.stdout.trim().to_owned();
        self.git(&["reset", "-q", "--soft", &id]);
        self.push();
        id
    }

    #[track_caller]
    fn git_in(&self, dir: &Path, arguments: &[&str], input: &[u8]) -> Output {
        let now = self.clock.get();
        self.clock.set(now + 1);
        let date = format!("@{now} +0000");
        run_with_input(
            git_command()
                .current_dir(dir)
                .env("GIT_AUTHOR_DATE", &date)
                .env("GIT_COMMITTER_DATE", &date)
                .args(arguments),
            input,
            PATIENCE,
        )
        .expect_code(0)
    }
}

impl Default for FleetRepo {
    fn default() -> Self {
        Self::new()
    }
}

/// `git` that sees none of the machine's own settings.
pub fn git_command() -> Command {
    let mut command = Command::new("git");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Release")
        .env("GIT_AUTHOR_EMAIL", "release@example.com")
        .env("GIT_COMMITTER_NAME", "Release")
        .env("GIT_COMMITTER_EMAIL", "release@example.com")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}
