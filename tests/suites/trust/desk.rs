//! A repository without any remote, and who signs in it.

use super::*;

/// A repository without any remote, in a directory with the files of a trust set.
pub(super) struct Desk {
    dir: TempDir,
}

impl Desk {
    pub(super) fn new(format: &str) -> Self {
        let desk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        desk.git(
            &["init", "-q", "-b", "main", "--object-format", format, "."],
            &[],
        )
        .expect_code(0);
        desk
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .current_dir(self.dir.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_AUTHOR_NAME", "A")
            .env("GIT_AUTHOR_EMAIL", "a@example.com")
            .env("GIT_COMMITTER_NAME", "C")
            .env("GIT_COMMITTER_EMAIL", "c@example.com");
        command
    }

    pub(super) fn git(&self, arguments: &[&str], input: &[u8]) -> Output {
        run_with_input(self.command().args(arguments), input, PATIENCE)
    }

    pub(super) fn commit(&self, signer: Option<&Signer>, date: &str, message: &str) -> String {
        let mut command = self.command();
        command
            .env("GIT_AUTHOR_DATE", date)
            .env("GIT_COMMITTER_DATE", date);
        if let Some(signer) = signer {
            let key = format!("user.signingkey={}", signer.private_key().display());
            command.args(["-c", "gpg.format=ssh", "-c", &key, "commit", "-S"]);
        } else {
            command.args(["commit", "--no-gpg-sign"]);
        }
        run(
            command.args(["-q", "--allow-empty", "-m", message]),
            PATIENCE,
        )
        .expect_code(0);
        self.git(&["rev-parse", "HEAD"], &[])
            .stdout
            .trim()
            .to_owned()
    }

    pub(super) fn raw(&self, commit: &str) -> String {
        self.git(&["cat-file", "commit", commit], &[])
            .expect_code(0)
            .stdout
    }

    pub(super) fn hash(&self, raw: impl AsRef<[u8]>) -> String {
        self.git(
            &[
                "hash-object",
                "-t",
                "commit",
                "-w",
                "--stdin",
                "--literally",
            ],
            raw.as_ref(),
        )
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
    }

    /// A commit with this content, signed with `ssh-keygen -Y sign` alone.
    pub(super) fn sign_by_hand(&self, raw: &str, key: &Path, namespace: &str) -> String {
        let signature = run_with_input(
            Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
                .arg(key),
            raw.as_bytes(),
            PATIENCE,
        )
        .expect_code(0)
        .stdout;
        let (head, message) = raw.split_once("\n\n").unwrap();
        let folded = signature.trim_end().replace('\n', "\n ");
        self.hash(format!("{head}\ngpgsig {folded}\n\n{message}"))
    }

    pub(super) fn args(&self, revision: &str, signers: &Path) -> Args {
        Args {
            revision: revision.to_owned(),
            repo: Some(self.dir.path().to_owned()),
            allowed_signers: Some(signers.to_owned()),
            json: true,
            ..Args::default()
        }
    }

    pub(super) fn verdict(&self, revision: &str, signers: &Path) -> Value {
        answer(&self.args(revision, signers))
    }

    pub(super) fn reason(&self, revision: &str, signers: &Path) -> String {
        self.verdict(revision, signers)["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn git_accepts(&self, commit: &str, signers: &Path) -> bool {
        let file = format!("gpg.ssh.allowedSignersFile={}", signers.display());
        self.git(&["-c", &file, "verify-commit", commit], &[]).code == Some(0)
    }
}
