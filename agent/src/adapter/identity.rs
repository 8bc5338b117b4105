//! The device's identity: an ed25519 key pair in OpenSSH's format, made on the device itself, under `identity/` in the
//! state directory.
//!
//! Owns the folder: the private key (0600, and a second copy of it) or its sealed form, the public key, and which machine it
//! was made on. The folder appears whole or not at all. Refuses to hand out a key of another machine: that disk is a copy.
//!
//! Limits: a disk that is copied together with its /etc/machine-id cannot be told from the first one.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use evenkeel_schema::device::MachineId;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};

use super::durable;
use super::twin::{self, Reading};

/// In the state directory.
const FOLDER: &str = "identity";
/// What stood there before, kept for the case that it was this device's own after all.
const BEFORE: &str = "identity.before";
/// Where it is put together.
const STAGED: &str = ".identity.new";
const KEY: &str = "id_ed25519";
const COPY: &str = "id_ed25519.copy";
const PUBLIC: &str = "id_ed25519.pub";
const SEALED: &str = "id_ed25519.cred";
/// The record of what was made, and where.
const RECORD: &str = "made";
/// Bytes of an ed25519 seed.
const SEED: usize = 32;
/// More than an OpenSSH key file has.
const MOST: u64 = 64 * 1024;

/// Why there is no identity to show.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key is gone or damaged, in both copies.
    #[error(
        "{}: both copies of the device's key are damaged or gone: `evenkeel enroll --new` makes another identity, whose \
         public key the fleet repository and the git server then have to learn",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
    },
    /// It is sealed, and was not opened.
    #[error(
        "the device's key is sealed, and nothing opens it here: the service gets it with LoadCredentialEncrypted=, and root \
         by systemd-creds: {why}"
    )]
    Sealed {
        /// What was said.
        why: String,
    },
    /// It was not sealed.
    #[error("the key could not be sealed: {why}")]
    Seal {
        /// What the service manager said.
        why: String,
    },
    /// The system refused.
    #[error("{}: cannot {what}", path.display())]
    System {
        /// Where.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's word.
        #[source]
        cause: io::Error,
    },
}

/// How the private half lies on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// As a file that the agent's user alone may read.
    File,
    /// Encrypted for the service manager, which alone can open it.
    Sealed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    public: String,
    machine: Option<String>,
    kept: Kept,
}

/// An identity as the world may see it: nothing secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `ssh-ed25519 AAAA... <device>`.
    pub public: String,
    /// `SHA256:...`.
    pub fingerprint: String,
    /// The machine that it was made on, where that had an id.
    pub machine: Option<MachineId>,
    /// How the private half is kept.
    pub kept: Kept,
    /// Where it is.
    pub key: PathBuf,
}

impl Identity {
    /// Whether it was made on another machine than this one: then this disk is a copy, or the machine's id was changed.
    #[must_use]
    pub fn is_of_another(&self, machine: Option<&MachineId>) -> bool {
        matches!((&self.machine, machine), (Some(made), Some(here)) if made != here)
    }
}

/// What an enrolment does with an identity that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Leaves it, where it is this machine's.
    Have,
    /// Makes another one.
    Another,
    /// Binds it to this machine, although its id is another now.
    Keep,
}

/// What an enrolment did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// It was there.
    Was(Identity),
    /// It is new.
    Made(Identity),
    /// It is new; the other one was made on another machine, or was to go. It lies at this path.
    Replaced(Identity, PathBuf),
    /// It is bound to this machine now.
    Bound(Identity),
}

/// Makes a sealed form of a private key.
pub type Seal<'a> = &'a dyn Fn(&[u8]) -> Result<Vec<u8>, String>;

/// Holds others off the folder.
struct Alone {
    state_dir: PathBuf,
    _lock: File,
}

fn system(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |cause| IdentityError::System { path, what, cause }
}

/// The identity in a state directory; `None` where there is none. Changes nothing.
///
/// # Errors
/// [`IdentityError::System`] or [`IdentityError::Damaged`].
pub fn read(state_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    look(state_dir).map(|found| found.map(|(identity, _)| identity))
}

/// The private key of the identity in a state directory; where it is sealed, from what `open` says is in its sealed form.
///
/// # Errors
/// See [`IdentityError`].
pub fn private_key(
    state_dir: &Path,
    open: impl FnOnce(&Path) -> Result<Vec<u8>, String>,
) -> Result<Option<PrivateKey>, IdentityError> {
    let Some((identity, wear)) = look(state_dir)? else {
        return Ok(None);
    };
    let damaged = || IdentityError::Damaged {
        path: state_dir.join(FOLDER),
    };
    let text = match identity.kept {
        Kept::File => match wear.key {
            Some(good) => good,
            None => text_of(&identity.key)?.ok_or_else(damaged)?,
        },
        Kept::Sealed => {
            let opened = open(&identity.key).map_err(|why| IdentityError::Sealed { why })?;
            String::from_utf8(opened).map_err(|_| damaged())?
        }
    };
    match public_of(&text) {
        Some(public) if public == identity.public => {}
        Some(_) | None => return Err(damaged()),
    }
    PrivateKey::from_openssh(&text)
        .map(Some)
        .map_err(|_| damaged())
}

/// Sees to it that there is an identity that is this machine's.
///
/// # Errors
/// See [`IdentityError`].
pub fn enrol(
    state_dir: &Path,
    device: &str,
    machine: Option<&MachineId>,
    wish: Wish,
    seal: Option<Seal<'_>>,
) -> Result<Enrolled, IdentityError> {
    let lock = File::open(state_dir).map_err(system(state_dir, "open it"))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive)
        .map_err(|errno| system(state_dir, "lock it")(errno.into()))?;
    let alone = Alone {
        state_dir: state_dir.to_owned(),
        _lock: lock,
    };
    let found = match look(state_dir) {
        Err(IdentityError::Damaged { .. }) if wish == Wish::Another => {
            return alone.replace(device, machine, seal);
        }
        found => found?,
    };
    let Some((identity, wear)) = found else {
        return alone.make(device, machine, seal).map(Enrolled::Made);
    };
    let is_of_another = identity.is_of_another(machine);
    match wish {
        Wish::Another => alone.replace(device, machine, seal),
        Wish::Have if is_of_another => alone.replace(device, machine, seal),
        Wish::Keep if is_of_another => {
            let bound = Identity {
                machine: machine.cloned(),
                ..identity
            };
            alone.mend(&bound, &wear)?;
            Ok(Enrolled::Bound(bound))
        }
        Wish::Have | Wish::Keep => {
            if wear.is_any() {
                alone.mend(&identity, &wear)?;
            }
            Ok(Enrolled::Was(identity))
        }
    }
}

fn clear(dir: &Path) -> Result<(), IdentityError> {
    match std::fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(dir, "remove it")(error)),
    }
}

/// What is to be written again.
#[derive(Debug, Default)]
struct Wear {
    record: bool,
    public: bool,
    /// The whole key, for the copy that lacks it.
    key: Option<String>,
}

impl Wear {
    const fn is_any(&self) -> bool {
        self.record || self.public || self.key.is_some()
    }
}

fn text_of(file: &Path) -> Result<Option<String>, IdentityError> {
    use io::Read as _;
    match File::open(file) {
        Ok(opened) => {
            let mut bytes = Vec::new();
            opened
                .take(MOST)
                .read_to_end(&mut bytes)
                .map_err(system(file, "read it"))?;
            Ok(String::from_utf8(bytes).ok())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(system(file, "read it")(error)),
    }
}

/// The public half of a private key that is whole.
fn public_of(text: &str) -> Option<String> {
    let key = PrivateKey::from_openssh(text).ok()?;
    match key.key_data() {
        KeypairData::Ed25519(_) => key.public_key().to_openssh().ok(),
        _ => None,
    }
}

fn look(state_dir: &Path) -> Result<Option<(Identity, Wear)>, IdentityError> {
    let dir = state_dir.join(FOLDER);
    match std::fs::symlink_metadata(&dir) {
        Ok(there) if there.is_dir() => {}
        Ok(_) => return Err(IdentityError::Damaged { path: dir }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(&dir, "look at it")(error)),
    }
    let mut wear = Wear::default();
    let reading = twin::read(&dir, RECORD).map_err(system(&dir, "read its record"))?;
    let record: Option<Record> = match &reading {
        Reading::Whole(text) => serde_json::from_str(text).ok(),
        Reading::Half(text, _) => {
            wear.record = true;
            serde_json::from_str(text).ok()
        }
        Reading::Absent | Reading::Plain(_) | Reading::Damaged => None,
    };
    let damaged = || IdentityError::Damaged { path: dir.clone() };
    let (public, machine, kept) = match record {
        Some(record) if record.kept == Kept::Sealed => {
            if !dir.join(SEALED).is_file() {
                return Err(damaged());
            }
            (record.public, record.machine, Kept::Sealed)
        }
        record => {
            let (key, copy) = (text_of(&dir.join(KEY))?, text_of(&dir.join(COPY))?);
            let is_right = |text: &String| {
                public_of(text).is_some_and(|public| {
                    record.as_ref().is_none_or(|record| record.public == public)
                })
            };
            let good = [&key, &copy]
                .into_iter()
                .flatten()
                .find(|text| is_right(text))
                .ok_or_else(damaged)?;
            if key.as_ref() != Some(good) || copy.as_ref() != Some(good) {
                wear.key = Some(good.clone());
            }
            wear.record |= record.is_none();
            let public = public_of(good).ok_or_else(damaged)?;
            (public, record.and_then(|record| record.machine), Kept::File)
        }
    };
    wear.public = text_of(&dir.join(PUBLIC))?.as_deref() != Some(&format!("{public}\n"));
    let fingerprint = ssh_key::PublicKey::from_openssh(&public)
        .map_err(|_| damaged())?
        .fingerprint(ssh_key::HashAlg::Sha256)
        .to_string();
    let key = dir.join(match kept {
        Kept::File => KEY,
        Kept::Sealed => SEALED,
    });
    let identity = Identity {
        public,
        fingerprint,
        machine: machine.and_then(|machine| machine.parse().ok()),
        kept,
        key,
    };
    Ok(Some((identity, wear)))
}

fn write_record(dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let record = Record {
        public: identity.public.clone(),
        machine: identity.machine.as_ref().map(ToString::to_string),
        kept: identity.kept,
    };
    let text = serde_json::to_string(&record).expect("a record of texts is JSON");
    twin::write(dir, RECORD, &text).map_err(system(dir, "write its record"))
}

impl Alone {
    /// A new key pair, in a folder that appears whole; in the place of another one, which is set aside.
    fn make(
        &self,
        device: &str,
        machine: Option<&MachineId>,
        seal: Option<Seal<'_>>,
    ) -> Result<Identity, IdentityError> {
        let staged = self.state_dir.join(STAGED);
        clear(&staged)?;
        DirBuilder::new()
            .mode(0o700)
            .create(&staged)
            .map_err(system(&staged, "make it"))?;
        let made = self.fill(&staged, device, machine, seal);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&staged);
        }
        let identity = made?;
        let dir = self.state_dir.join(FOLDER);
        match std::fs::symlink_metadata(&dir) {
            Ok(_) => {
                let before = self.state_dir.join(BEFORE);
                clear(&before)?;
                std::fs::rename(&dir, &before).map_err(system(&dir, "set it aside"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(&dir, "look at it")(error)),
        }
        std::fs::rename(&staged, &dir)
            .and_then(|()| durable::sync_dir(&self.state_dir))
            .map_err(system(&dir, "put it in place"))?;
        Ok(identity)
    }

    fn fill(
        &self,
        dir: &Path,
        device: &str,
        machine: Option<&MachineId>,
        seal: Option<Seal<'_>>,
    ) -> Result<Identity, IdentityError> {
        let no_key = |error: ssh_key::Error| {
            system(dir, "write a key in OpenSSH's format")(io::Error::other(error))
        };
        let mut seed = [0u8; SEED];
        getrandom::fill(&mut seed).map_err(|error| {
            system(dir, "get random numbers of the system")(io::Error::other(error.to_string()))
        })?;
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        let key = PrivateKey::new(pair, device).map_err(no_key)?;
        let text = key.to_openssh(LineEnding::LF).map_err(no_key)?;
        let kept = match seal {
            None => {
                for name in [KEY, COPY] {
                    durable::write(dir, name, text.as_bytes(), 0o600)
                        .map_err(system(dir, "write the key"))?;
                }
                Kept::File
            }
            Some(seal) => {
                let sealed = seal(text.as_bytes()).map_err(|why| IdentityError::Seal { why })?;
                durable::write(dir, SEALED, &sealed, 0o600)
                    .map_err(system(dir, "write the sealed key"))?;
                Kept::Sealed
            }
        };
        let public = key.public_key().to_openssh().map_err(no_key)?;
        let name = match kept {
            Kept::File => KEY,
            Kept::Sealed => SEALED,
        };
        let identity = Identity {
            fingerprint: key
                .public_key()
                .fingerprint(ssh_key::HashAlg::Sha256)
                .to_string(),
            machine: machine.cloned(),
            kept,
            key: self.state_dir.join(FOLDER).join(name),
            public,
        };
        self.write_public(dir, &identity)?;
        write_record(dir, &identity)?;
        Ok(identity)
    }

    fn write_public(&self, dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
        let line = format!("{}\n", identity.public);
        durable::write(dir, PUBLIC, line.as_bytes(), 0o644)
            .map_err(system(dir, "write the public key"))
    }

    fn replace(
        &self,
        device: &str,
        machine: Option<&MachineId>,
        seal: Option<Seal<'_>>,
    ) -> Result<Enrolled, IdentityError> {
        let identity = self.make(device, machine, seal)?;
        Ok(Enrolled::Replaced(identity, self.state_dir.join(BEFORE)))
    }

    /// Writes again what is damaged, and the record.
    fn mend(&self, identity: &Identity, wear: &Wear) -> Result<(), IdentityError> {
        let dir = self.state_dir.join(FOLDER);
        if let Some(text) = &wear.key {
            for name in [KEY, COPY] {
                durable::write(&dir, name, text.as_bytes(), 0o600)
                    .map_err(system(&dir, "write the key"))?;
            }
        }
        if wear.public {
            self.write_public(&dir, identity)?;
        }
        write_record(&dir, identity)
    }
}

/// Closes a private key to others that a person had opened to them.
///
/// # Errors
/// [`IdentityError::System`] where it cannot be closed to them.
pub fn close_to_others(identity: &Identity) -> Result<(), IdentityError> {
    let file = &identity.key;
    let mode = std::fs::metadata(file)
        .map_err(system(file, "look at it"))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
        .map_err(system(file, "close it to others"))
}

#[cfg(test)]
mod tests;
