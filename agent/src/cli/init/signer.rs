//! Who signs in a fleet repository: the user's own key and address, or new ones for who has none yet.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::git::{Git, Stop, usage};
use super::super::sign::literal;
use super::{Args, Done};

/// What the key may sign: commits and approvals.
const NAMESPACES: &str = "git,evenkeel-approval";

/// Who signs.
pub(super) struct Signer {
    /// As whom.
    pub(super) principal: String,
    /// `ssh-ed25519 AAAA...`, without a comment.
    pub(super) public: String,
}

impl Signer {
    /// The line of allowed_signers.
    pub(super) fn allowed_line(&self) -> String {
        format!(
            "{} namespaces=\"{NAMESPACES}\" {}",
            quoted(&self.principal),
            self.public
        )
    }
}

/// Who signs here, after seeing to it that git does.
pub(super) fn signer(args: &Args, git: &Git, done: &mut Done) -> Result<Signer, Stop> {
    let principal = identity(git, done)?;
    let ssh = git.setting("gpg.format")?.as_deref() == Some("ssh");
    let own = git.setting("user.signingkey")?.filter(|_| ssh);
    let (public, configure) = match (&args.key, own) {
        (Some(file), _) => {
            let file = std::path::absolute(file)
                .with_context(|| format!("--key: {} has no full name", file.display()))?;
            let public = public_half(&file).map_err(|error| usage(format!("--key: {error:#}")))?;
            (public, Some(file))
        }
        (None, Some(key)) => match literal(&key) {
            Some(literal) => (two_columns(&literal).context("user.signingkey")?, None),
            None => {
                let file = git.file_setting("user.signingkey")?.unwrap_or(key);
                let file = git.dir().join(file);
                (public_half(&file).context("user.signingkey")?, None)
            }
        },
        (None, None) => {
            let file = match in_home() {
                Some(file) => file,
                None => new_key(&principal, done)?,
            };
            (public_half(&file)?, Some(file))
        }
    };
    if let Some(file) = configure {
        git.ask(&["config", "gpg.format", "ssh"])?;
        git.ask(&["config", "user.signingkey", &file.display().to_string()])?;
        done.line(format!(
            "git signs with {} in this repository",
            file.display()
        ));
    }
    if git.setting("commit.gpgsign")?.as_deref() != Some("true") {
        git.ask(&["config", "commit.gpgsign", "true"])?;
        done.line("git signs every commit in this repository");
    }
    Ok(Signer { principal, public })
}

/// The address that git commits with. Where it has none, one for this repository: without it nothing can be committed.
fn identity(git: &Git, done: &mut Done) -> Result<String, Stop> {
    let address = |ident: &str| {
        let (_, rest) = ident.split_once('<')?;
        let (address, _) = rest.split_once('>')?;
        (!address.is_empty()).then(|| address.to_owned())
    };
    let asked = git.maybe(&["var", "GIT_COMMITTER_IDENT"])?;
    if git.setting("user.email")?.is_some() || std::env::var_os("GIT_COMMITTER_EMAIL").is_some() {
        return asked.as_deref().and_then(address).ok_or_else(|| {
            usage("git does not know who you are\nhint: git config --global user.name 'Your Name'")
        });
    }
    // What git would make up of login and host name is often refused, and means nothing to anyone else.
    let login = std::env::var("USER")
        .ok()
        .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()))
        .unwrap_or_else(|| "fleet".to_owned());
    let email = format!("{login}@localhost");
    git.ask(&["config", "user.email", &email])?;
    if git.setting("user.name")?.is_none() {
        git.ask(&["config", "user.name", &login])?;
    }
    done.line(format!(
        "git did not know who you are: in this repository you are {email} (git config user.email)"
    ));
    Ok(email)
}

/// The first of the user's usual keys.
fn in_home() -> Option<PathBuf> {
    let folder = home()?.join(".ssh");
    [
        "id_ed25519_sk",
        "id_ed25519",
        "id_ecdsa_sk",
        "id_ecdsa",
        "id_rsa",
    ]
    .iter()
    .map(|name| folder.join(format!("{name}.pub")))
    .find(|file| file.is_file())
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

/// A new key, for who has none: outside the repository, so that it is neither committed nor lost with the clone.
fn new_key(principal: &str, done: &mut Done) -> Result<PathBuf, Stop> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| home().map(|home| home.join(".config")))
        .ok_or_else(|| usage("there is no SSH key and no HOME to make one in\nhint: --key FILE"))?
        .join("evenkeel");
    let key = folder.join("signing_key");
    if key.is_file() {
        return Ok(key);
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", principal, "-f"])
        .arg(&key)
        .stdin(std::process::Stdio::null())
        .output()
        .context("cannot run ssh-keygen")?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(anyhow::Error::msg(format!("ssh-keygen made no key: {}", said.trim())).into());
    }
    done.line(format!(
        "made a signing key, {} (no passphrase yet: `ssh-keygen -p -f {}` sets one)",
        key.display(),
        key.display()
    ));
    Ok(key)
}

/// The public half of a key in a file, which may be that half itself.
fn public_half(file: &Path) -> Result<String> {
    let beside = PathBuf::from(format!("{}.pub", file.display()));
    let text = |file: &Path| {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
    };
    if beside.is_file() {
        return two_columns(&text(&beside)?).with_context(|| beside.display().to_string());
    }
    let own = text(file)?;
    if !own.starts_with("-----BEGIN") {
        return two_columns(&own).with_context(|| file.display().to_string());
    }
    let said = std::process::Command::new("ssh-keygen")
        .arg("-y")
        .arg("-f")
        .arg(file)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run ssh-keygen")?;
    if !said.status.success() {
        anyhow::bail!("{} is not a private key that opens", file.display());
    }
    two_columns(&String::from_utf8_lossy(&said.stdout)).with_context(|| file.display().to_string())
}

/// Key type and key, without the comment.
fn two_columns(text: &str) -> Result<String> {
    let mut columns = text.split_ascii_whitespace();
    let (Some(key_type), Some(blob)) = (columns.next(), columns.next()) else {
        anyhow::bail!("it is not a public key (`ssh-ed25519 AAAA...`)");
    };
    crate::trust::key::Key::from_columns(key_type, blob)?;
    Ok(format!("{key_type} {blob}"))
}

/// A principal as the first column of allowed_signers takes it.
fn quoted(principal: &str) -> String {
    if principal.contains([' ', '\t']) {
        format!("\"{principal}\"")
    } else {
        principal.to_owned()
    }
}
