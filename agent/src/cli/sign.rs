//! Signing what is no commit, by the `ssh-keygen` that git signs with: keys in files, in an agent, or in hardware.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::git::Git;
use crate::trust::sshsig::ArmoredSignature;

/// Which key signs.
#[derive(Debug, Clone)]
pub(super) enum SigningKey {
    /// A private key, or the public half of one that an agent holds.
    File(PathBuf),
    /// A public key in words; an agent holds the private half.
    Literal(String),
}

impl SigningKey {
    /// `--key`, or else what git would sign with, by `user.signingkey` and `gpg.ssh.defaultKeyCommand`.
    pub(super) fn choose(git: &Git, file: Option<&Path>) -> Result<Self> {
        if let Some(file) = file {
            if !file.is_file() {
                bail!("--key: there is no file {}", file.display());
            }
            return Ok(Self::File(file.to_owned()));
        }
        const NONE: &str = "name one with --key FILE, or set git up to sign with SSH: `git config gpg.format ssh` and \
                            `git config user.signingkey ~/.ssh/id_ed25519.pub`";
        let format = git.setting("gpg.format")?;
        if format.as_deref() != Some("ssh") {
            bail!(
                "git does not sign with an SSH key here (gpg.format is {}), and this has to be an SSH signature\nhint: {NONE}",
                format.as_deref().unwrap_or("not set")
            );
        }
        if let Some(key) = git.setting("user.signingkey")? {
            return match literal(&key) {
                Some(literal) => Ok(Self::Literal(literal)),
                None => {
                    let file = git.file_setting("user.signingkey")?.unwrap_or(key);
                    // A relative name is meant where git runs, at the top of the work tree.
                    let file = match git.maybe(&["rev-parse", "--show-toplevel"])? {
                        Some(top) if !top.is_empty() => Path::new(&top).join(file),
                        Some(_) | None => PathBuf::from(file),
                    };
                    Ok(Self::File(file))
                }
            };
        }
        if let Some(command) = git.setting("gpg.ssh.defaultKeyCommand")? {
            let output = Command::new("sh")
                .args(["-c", &command])
                .current_dir(git.dir())
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .with_context(|| format!("cannot run gpg.ssh.defaultKeyCommand `{command}`"))?;
            let said = String::from_utf8_lossy(&output.stdout);
            if let Some(literal) = said.lines().next().and_then(literal) {
                return Ok(Self::Literal(literal));
            }
        }
        bail!("git has no signing key here\nhint: {NONE}")
    }

    /// Signs these bytes in a namespace; the armor as `ssh-keygen` writes it, which fits them.
    pub(super) fn sign(&self, git: &Git, namespace: &str, message: &[u8]) -> Result<Signed> {
        let own = git.file_setting("gpg.ssh.program")?;
        let program = own.clone().unwrap_or_else(|| "ssh-keygen".to_owned());
        let scratch = Scratch::new()?;
        let file = scratch.write("message", message)?;
        let mut command = Command::new(&program);
        // Without a word about our own scratch files; other programs know no more than git's own arguments.
        if own.is_none() {
            command.arg("-q");
        }
        command.args(["-Y", "sign", "-n", namespace, "-f"]);
        match self {
            Self::File(key) => command.arg(key),
            // -U: the private half is in the agent.
            Self::Literal(key) => command
                .arg(scratch.write("key.pub", format!("{key}\n").as_bytes())?)
                .arg("-U"),
        };
        // What it asks (a passphrase, a touch) must be seen; its answer is a file.
        let status = command
            .arg(&file)
            .stdin(Stdio::inherit())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .status()
            .with_context(|| {
                format!("cannot run `{program}`\nhint: apt-get install openssh-client")
            })?;
        if !status.success() {
            bail!("`{program} -Y sign` failed with {self}: see what it said above");
        }
        let armor = std::fs::read(scratch.0.join("message.sig"))
            .with_context(|| format!("`{program} -Y sign` left no signature"))?;
        let signature = ArmoredSignature::parse(&armor)
            .with_context(|| format!("`{program}` made a signature that no device would take"))?;
        signature
            .verify(message)
            .with_context(|| format!("`{program}` made a signature that no device would take"))?;
        if signature.namespace() != namespace {
            bail!(
                "`{program}` signed for `{}`, not for `{namespace}`",
                signature.namespace()
            );
        }
        let armor = String::from_utf8(armor).context("the signature is not text")?;
        Ok(Signed {
            base64: armor
                .lines()
                .filter(|line| !line.starts_with("-----"))
                .collect(),
            key: signature.key().to_string(),
        })
    }
}

/// A signature.
#[derive(Debug)]
pub(super) struct Signed {
    /// The raw signature in base64, one line.
    pub(super) base64: String,
    /// The key's type and fingerprint.
    pub(super) key: String,
}

impl std::fmt::Display for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Literal(key) => f.write_str(key),
        }
    }
}

/// A public key in words, as git takes it: `key::` before it, or `ssh-...`.
pub(super) fn literal(text: &str) -> Option<String> {
    match text.strip_prefix("key::") {
        Some(key) => Some(key.to_owned()),
        None => text.starts_with("ssh-").then(|| text.to_owned()),
    }
}

/// A directory that only this user can read, gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).context("the machine gives no random numbers")?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let dir = std::env::temp_dir().join(format!("evenkeel-{name}"));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it lives for one signature: nothing to keep through a power cut"
    )]
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let file = self.0.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
