//! The other side: `git verify-commit`, and `ssh-keygen -Y` called as git 2.47 calls it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Case;
use super::commits::{Format, split_as_git_does};

/// Runs to its end with this input; whether it ended well, and what it printed.
fn run(command: &mut Command, input: Option<&[u8]>) -> (bool, String, String) {
    let mut child = command
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(input) = input {
        // A command that gives up early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input);
    }
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A directory in which cases are asked about, one after the other.
pub(super) struct Oracle {
    dir: PathBuf,
    repositories: PathBuf,
}

impl Oracle {
    pub(super) fn new(dir: PathBuf, repositories: &Path) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        Self {
            dir,
            repositories: repositories.to_owned(),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Whether `ssh-keygen` accepts it, and what it said.
    pub(super) fn ssh_keygen(&self, case: &Case, signers: &[u8]) -> (bool, String) {
        self.ssh_keygen_in(case, signers, case.zone)
    }

    /// The same, on a machine in UTC.
    pub(super) fn in_utc(&self, case: &Case, signers: &[u8]) -> (bool, String) {
        self.ssh_keygen_in(case, signers, "UTC")
    }

    fn ssh_keygen_in(&self, case: &Case, signers: &[u8], zone: &str) -> (bool, String) {
        let (armor, payload) = split_as_git_does(&case.bytes, case.format);
        if armor.is_empty() {
            return (false, "unsigned".to_owned());
        }
        let signers = self.put("signers", signers);
        let signature = self.put("signature", &armor);
        let time = case.verify_time(zone);
        let command = |verb: &str| {
            let mut command = Command::new("ssh-keygen");
            command
                .env("TZ", zone)
                .args(["-Y", verb, "-f"])
                .arg(&signers);
            command.arg("-s").arg(&signature).arg(&time);
            command
        };
        let (found, principals, why) = run(&mut command("find-principals"), None);
        if !found || principals.is_empty() {
            return (false, why);
        }
        let mut said = String::new();
        for principal in principals.lines().filter(|line| !line.is_empty()) {
            let mut verify = command("verify");
            verify.args(["-n", "git", "-I", principal]);
            if let Some((bytes, _)) = &case.revoked {
                verify.arg("-r").arg(self.put("revoked", bytes));
            }
            let (good, stdout, stderr) = run(&mut verify, Some(&payload));
            if good && stdout.starts_with("Good") {
                return (true, stdout);
            }
            said.push_str(&stderr);
        }
        (false, said)
    }

    /// Whether `ssh-keygen -Y verify` accepts it as signed by `principal`.
    pub(super) fn verifies_as(&self, case: &Case, signers: &[u8], principal: &str) -> bool {
        let (armor, payload) = split_as_git_does(&case.bytes, case.format);
        let mut verify = Command::new("ssh-keygen");
        verify
            .env("TZ", case.zone)
            .args(["-Y", "verify", "-n", "git", "-I", principal, "-f"])
            .arg(self.put("signers", signers))
            .arg("-s")
            .arg(self.put("signature", &armor))
            .arg(case.verify_time(case.zone));
        if let Some((bytes, _)) = &case.revoked {
            verify.arg("-r").arg(self.put("revoked", bytes));
        }
        run(&mut verify, Some(&payload)).0
    }

    /// Whether `git verify-commit` accepts it, and what it said.
    pub(super) fn git(&self, case: &Case, signers: &[u8]) -> (bool, String) {
        let signers = self.put("signers", signers);
        let mut command = git(&self.repositories.join(case.format.name()));
        command
            .env("TZ", case.zone)
            .arg("-c")
            .arg(format!("gpg.ssh.allowedSignersFile={}", signers.display()));
        if let Some((bytes, _)) = &case.revoked {
            let revoked = self.put("revoked", bytes);
            command
                .arg("-c")
                .arg(format!("gpg.ssh.revocationFile={}", revoked.display()));
        }
        let (good, stdout, stderr) = run(command.args(["verify-commit", &case.id]), None);
        (good, stdout + &stderr)
    }
}

fn git(repository: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(repository)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

/// Stores these commits in a repository of their format, and checks that git gives them the ids they are known by here.
pub(super) fn store(repositories: &Path, format: Format, cases: &[&Case]) {
    let repository = repositories.join(format.name());
    std::fs::create_dir_all(&repository).unwrap();
    let init = [
        "init",
        "-q",
        "--bare",
        "--object-format",
        format.name(),
        ".",
    ];
    assert!(run(git(&repository).args(init), None).0);
    let mut names = String::new();
    for (number, case) in cases.iter().enumerate() {
        let path = repositories.join(format!("{}-{number}", format.name()));
        std::fs::write(&path, &case.bytes).unwrap();
        names.push_str(&format!("{}\n", path.display()));
    }
    let hash = [
        "hash-object",
        "-t",
        "commit",
        "-w",
        "--literally",
        "--stdin-paths",
    ];
    let (good, ids, why) = run(git(&repository).args(hash), Some(names.as_bytes()));
    assert!(good, "{why}");
    for (id, case) in ids.lines().zip(cases) {
        assert_eq!(id, case.id);
    }
}
