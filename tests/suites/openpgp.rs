//! Commits signed with OpenPGP by the real `git` and `gpg`, judged against keyrings that `gpg` wrote, beside git's verdict.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel::cli::verify::{self, Args};
use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run, run_with_input};
use evenkeel_tests::{PATIENCE, Signer};
use serde_json::Value;
use tempfile::TempDir;

mod beside_gpg;
mod device;
mod keys;
mod signatures;

/// When keys are made: later than this program, so that its own age expires none of them.
const MADE: i64 = 2_000_000_000;
const DAY: i64 = 24 * 60 * 60;

/// Somebody's GnuPG, and a repository without any remote.
struct Desk {
    dir: TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for home in ["home", "oracle"] {
            let _ = Command::new("gpgconf")
                .args(["--homedir"])
                .arg(self.path(home))
                .args(["--kill", "all"])
                .output();
        }
    }
}

impl Desk {
    fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for home in ["home", "oracle"] {
            std::fs::create_dir(desk.path(home)).unwrap();
            run(
                Command::new("chmod").arg("700").arg(desk.path(home)),
                PATIENCE,
            )
            .expect_code(0);
        }
        run(
            desk.git(MADE)
                .args(["init", "-q", "-b", "main", "--object-format", "sha1", "."]),
            PATIENCE,
        )
        .expect_code(0);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// gpg as if it were `at`, with the owner's keys.
    fn gpg(&self, at: i64, arguments: &[&str], input: &[u8]) -> Output {
        run_with_input(
            Command::new("gpg")
                .env("GNUPGHOME", self.path("home"))
                .env("LC_ALL", "C")
                .args(["--batch", "--yes", "--no-tty", "--quiet"])
                .args(["--pinentry-mode", "loopback", "--passphrase", ""])
                .args(["--faked-system-time", &format!("{at}!")])
                .args(arguments),
            input,
            PATIENCE,
        )
    }

    /// git whose gpg believes that it is `at`.
    fn git(&self, at: i64) -> Command {
        self.git_in("home", at, "")
    }

    fn git_in(&self, home: &str, at: i64, options: &str) -> Command {
        let name = format!(
            "gpg-{home}-{at}-{}",
            options.replace([' ', '!', '@', '='], "_")
        );
        let program = self.path(&name);
        if !program.exists() {
            let script = format!(
                "#!/bin/sh\nGNUPGHOME={} exec gpg --faked-system-time '{at}!' --pinentry-mode loopback {options} \"$@\"\n",
                self.path(home).display()
            );
            std::fs::write(&program, script).unwrap();
            run(Command::new("chmod").arg("755").arg(&program), PATIENCE).expect_code(0);
        }
        let mut command = Command::new("git");
        command
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("LC_ALL", "C")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_NAME", "C")
            .env("GIT_COMMITTER_EMAIL", "c@example.com")
            .env("GIT_AUTHOR_DATE", format!("{at} +0000"))
            .env("GIT_COMMITTER_DATE", format!("{at} +0000"))
            .args(["-c", "gpg.format=openpgp", "-c"])
            .arg(format!("gpg.program={}", program.display()));
        command
    }

    /// A new key; its fingerprint.
    fn key(&self, user: &str, algorithm: &str, usage: &str, expires: &str) -> String {
        let status = self
            .gpg(
                MADE,
                &[
                    "--status-fd",
                    "1",
                    "--quick-generate-key",
                    user,
                    algorithm,
                    usage,
                    expires,
                ],
                &[],
            )
            .expect_code(0)
            .stdout;
        let created = status.split("KEY_CREATED P ").nth(1).unwrap();
        created.split_whitespace().next().unwrap().to_owned()
    }

    /// The fingerprints of the keys of a user: the primary one's, then the subkeys'.
    fn fingerprints(&self, user: &str) -> Vec<String> {
        self.gpg(MADE, &["--with-colons", "--list-keys", user], &[])
            .expect_code(0)
            .stdout
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .map(|line| line.split(':').nth(9).unwrap().to_owned())
            .collect()
    }

    fn export(&self, users: &[&str]) -> PathBuf {
        let mut arguments = vec!["--armor", "--export"];
        arguments.extend(users);
        let keyring = self.gpg(MADE, &arguments, &[]).expect_code(0).stdout;
        self.write(
            &format!("{}.asc", users.join("-").replace(' ', "_")),
            keyring,
        )
    }

    /// A commit made and signed at a time with a key (`!` behind it: with that very subkey).
    fn commit(&self, key: &str, at: i64) -> String {
        self.commit_with(key, at, "")
    }

    fn commit_with(&self, key: &str, at: i64, options: &str) -> String {
        run(
            self.git_in("home", at, options)
                .arg("-c")
                .arg(format!("user.signingkey={key}"))
                .args(["commit", "-q", "-S", "--allow-empty", "-m", "change"]),
            PATIENCE,
        )
        .expect_code(0);
        run(self.git(at).args(["rev-parse", "HEAD"]), PATIENCE)
            .stdout
            .trim()
            .to_owned()
    }

    /// A commit that is dated otherwise than its signature.
    fn dated(&self, key: &str, signed: i64, dated: i64) -> String {
        run(
            self.git(signed)
                .env("GIT_COMMITTER_DATE", format!("{dated} +0000"))
                .arg("-c")
                .arg(format!("user.signingkey={key}"))
                .args(["commit", "-q", "-S", "--allow-empty", "-m", "dated"]),
            PATIENCE,
        )
        .expect_code(0);
        run(self.git(signed).args(["rev-parse", "HEAD"]), PATIENCE)
            .stdout
            .trim()
            .to_owned()
    }

    fn raw(&self, commit: &str) -> String {
        run(
            self.git(MADE).args(["cat-file", "commit", commit]),
            PATIENCE,
        )
        .expect_code(0)
        .stdout
    }

    fn hash(&self, raw: impl AsRef<[u8]>) -> String {
        run_with_input(
            self.git(MADE).args([
                "hash-object",
                "-t",
                "commit",
                "-w",
                "--stdin",
                "--literally",
            ]),
            raw.as_ref(),
            PATIENCE,
        )
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
    }

    /// The commit again, with another armor.
    fn with_armor(&self, commit: &str, armor: &str) -> String {
        let (head, signature, message) = parts(&self.raw(commit));
        assert!(!signature.is_empty());
        let folded = armor.trim_end_matches('\n').replace('\n', "\n ");
        self.hash(format!("{head}\ngpgsig {folded}\n\n{message}"))
    }

    fn armor(&self, commit: &str) -> String {
        parts(&self.raw(commit)).1
    }

    fn verdict(&self, commit: &str, keyring: &Path) -> Value {
        self.judge(commit, Some(keyring), None).unwrap()
    }

    fn judge(
        &self,
        commit: &str,
        keyring: Option<&Path>,
        signers: Option<&Path>,
    ) -> Result<Value, String> {
        let args = Args {
            revision: commit.to_owned(),
            repo: Some(self.dir.path().to_owned()),
            allowed_signers: signers.map(Path::to_owned),
            openpgp_keyring: keyring.map(Path::to_owned),
            json: true,
            ..Args::default()
        };
        let answer = verify::answer(&args, &|_| Err("there is no configuration".to_owned()))
            .map_err(|error| format!("{error:#}"))?;
        let verdict: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answer.code == 0, verdict["reason"] == "ok", "{verdict}");
        Ok(verdict)
    }

    fn reason(&self, commit: &str, keyring: &Path) -> String {
        self.verdict(commit, keyring)["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Whether git takes it, at a time, with exactly this keyring.
    fn git_takes(&self, commit: &str, keyring: &Path, at: i64) -> bool {
        let oracle = self.path("oracle");
        for name in ["pubring.kbx", "pubring.kbx~", "trustdb.gpg"] {
            let _ = std::fs::remove_file(oracle.join(name));
        }
        run(
            Command::new("gpg")
                .env("GNUPGHOME", &oracle)
                .args(["--batch", "--quiet", "--faked-system-time"])
                .arg(format!("{at}!"))
                .arg("--import")
                .arg(keyring),
            PATIENCE,
        );
        self.git_takes_still(commit, at)
    }

    /// The same, with the keyring of the last time.
    fn git_takes_still(&self, commit: &str, at: i64) -> bool {
        run(
            self.git_in("oracle", at, "")
                .args(["verify-commit", commit]),
            PATIENCE,
        )
        .code
            == Some(0)
    }
}

/// A commit's headers without the signature, its armor, and its message.
fn parts(raw: &str) -> (String, String, String) {
    let (head, message) = raw.split_once("\n\n").unwrap();
    let (head, folded) = head.split_once("\ngpgsig ").unwrap();
    (
        head.to_owned(),
        format!("{}\n", folded.replace("\n ", "\n")),
        message.to_owned(),
    )
}

/// What base64 digits stand for; `=` and what is behind it are left out.
fn dearmored(armor: &str) -> Vec<u8> {
    let body = armor.split_once("\n\n").unwrap().1;
    let body = &body[..body.find("\n=").unwrap_or(body.find("\n-").unwrap())];
    let (mut held, mut bits, mut out) = (0_u32, 0, Vec::new());
    for digit in body.bytes().filter(|byte| !matches!(byte, b'\n' | b'=')) {
        let value = DIGITS.iter().position(|known| *known == digit).unwrap();
        held = (held << 6) | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    out
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as an armor has them: in lines of 64 digits.
fn lines_of_base64(bytes: &[u8]) -> String {
    let digits = evenkeel::domain::text::base64(bytes);
    let lines: Vec<&str> = (0..digits.len())
        .step_by(64)
        .map(|at| &digits[at..digits.len().min(at + 64)])
        .collect();
    lines.join("\n")
}
