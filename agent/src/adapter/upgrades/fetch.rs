//! Getting one binary: resumed, bounded, hashed, tried out, and then given its name. Blocks; runs in a thread of its own.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::BINARY;
use crate::adapter::durable;
use crate::adapter::part::{self, digits};
use crate::adapter::room;
use crate::domain::agent::Release;
use crate::domain::storage::Storage;
use crate::domain::text::chain;
use crate::port::upgrades::{Download, From, Piece};

/// The end of the name of what is not whole yet.
pub(super) const PART: &str = ".part";
/// The end of the name of what is whole, and was not tried out yet.
pub(super) const FRESH: &str = ".new";
/// The largest binary: far above ours (8 MB), far below a device's disk.
pub(crate) const MOST: u64 = 64 * 1024 * 1024;
/// What a binary needs to be tried out: room for its answer.
const TRIED_IN: u64 = 64 * 1024;
/// How long a binary may take to say its version: a slow card, and a slow machine.
const SAYS_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often a binary that another process holds open for writing is tried: a child of this one may, between its fork and
/// its exec.
const BUSY_TRIES: u32 = 50;

/// What is to be got.
pub(super) struct Job {
    pub(super) dir: PathBuf,
    pub(super) release: Release,
    pub(super) from: From,
    pub(super) download: Arc<Download>,
}

impl Job {
    /// Gets it. What it leaves where it fails is gone on with the next time.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) fn run(self, stop: &AtomicBool) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| tell(&what, &error)
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("cannot make its directory"))?;
        let name = self.release.generation().to_string();
        let part = self.dir.join(format!("{name}{PART}"));
        self.fill(&part, stop)?;
        let sum = digits(&part).map_err(failed("cannot read it back"))?;
        let wanted = self.release.binary.sha256.as_str();
        if sum != wanted {
            let _ = std::fs::remove_file(&part);
            return Err(format!(
                "what was downloaded is not what is declared: its SHA-256 is {sum}, and it should be {wanted}"
            ));
        }
        let fresh = self.dir.join(format!("{name}{FRESH}"));
        let made = self.stage(&part, &fresh, &self.dir.join(&name));
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&fresh);
        }
        made
    }

    /// Fills the file: whole, or as far as it goes.
    fn fill(&self, file: &Path, stop: &AtomicBool) -> Result<(), String> {
        let bounds = part::Bounds {
            most: MOST,
            too_large: &too_large,
        };
        let filled = part::fill(file, &bounds, |have, take| match &self.from {
            From::Bytes(bytes) => take(Piece::Begins {
                at: 0,
                total: Some(bytes.len() as u64),
            })
            .and_then(|()| take(Piece::Bytes(bytes)))
            .map_err(Into::into),
            From::Url(_) if have > 0 && self.is_whole(file) => Ok(()),
            From::Url(url) => (self.download)(url, have, stop, take),
        });
        filled.map_err(|error| {
            let storage = Storage::behind(error.as_ref());
            if storage == Some(Storage::Full) {
                // Others need the room.
                let _ = std::fs::remove_file(file);
            }
            let why = chain(error.as_ref());
            match storage {
                Some(storage) => storage.explain(why),
                None => why,
            }
        })
    }

    /// Whether all of it was here already when the agent ended.
    fn is_whole(&self, part: &Path) -> bool {
        digits(part).is_ok_and(|sum| sum == self.release.binary.sha256.as_str())
    }

    fn stage(&self, part: &Path, fresh: &Path, home: &Path) -> Result<(), String> {
        let failed = |error: io::Error| tell("cannot stage it", &error);
        remove_all(fresh).map_err(failed)?;
        DirBuilder::new()
            .mode(0o700)
            .create(fresh)
            .map_err(failed)?;
        let binary = fresh.join(BINARY);
        std::fs::rename(part, &binary).map_err(failed)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&binary, executable).map_err(failed)?;
        let tried = says_its_version(&binary, self.release.version.as_str());
        if let Err(why) = tried {
            // Where an answer finds no room, the binary is not to blame.
            room::look(fresh, TRIED_IN).map_err(failed)?;
            return Err(format!("its binary is not used: {why}"));
        }
        File::open(&binary)
            .and_then(|file| file.sync_all())
            .and_then(|()| durable::sync_dir(fresh))
            // What has the name already is damaged: it would not be fetched otherwise.
            .and_then(|()| remove_all(home))
            .and_then(|()| std::fs::rename(fresh, home))
            .and_then(|()| durable::sync_dir(&self.dir))
            .map_err(failed)
    }
}

fn tell(what: &str, error: &io::Error) -> String {
    let text = format!("{what}: {error}");
    match Storage::of(error) {
        Some(storage) => storage.explain(text),
        None => text,
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!(
        "it is larger than {} MiB, which no agent is",
        MOST / 1024 / 1024
    ))
}

fn remove_all(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs `evenkeel --version`.
fn says_its_version(binary: &Path, version: &str) -> Result<(), String> {
    let said = binary.with_file_name("said");
    let out = File::create(&said).map_err(|error| tell("cannot try it out", &error))?;
    // Its words go to a file: a pipe may be held open by whatever it starts.
    let ended = run(binary, out);
    let text = std::fs::read(&said).unwrap_or_default();
    let _ = std::fs::remove_file(&said);
    let text = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
    match ended? {
        Some(status) if status.success() && text.trim_end() == format!("evenkeel {version}") => {
            Ok(())
        }
        Some(status) if status.success() => Err(format!(
            "it says that it is `{}`, and not `evenkeel {version}`",
            text.trim_end().escape_debug()
        )),
        Some(status) => Err(format!("`--version` ends with {status}")),
        None => Err(format!(
            "`--version` had not ended after {} s",
            SAYS_WITHIN.as_secs()
        )),
    }
}

/// Runs it to its end; `None` where that does not come in time.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread is not the loop's: it does nothing but fetch"
)]
fn run(binary: &Path, out: File) -> Result<Option<ExitStatus>, String> {
    let mut command = Command::new(binary);
    command
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null());
    let mut busy = 0;
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && busy < BUSY_TRIES =>
            {
                busy += 1;
                std::thread::sleep(LOOK_EVERY);
            }
            Err(error) => {
                return Err(format!(
                    "it cannot be run here: {error} (is it for this machine, and is the state directory's file system \
                     mounted without `noexec`?)"
                ));
            }
        }
    };
    let until = Instant::now() + SAYS_WITHIN;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if Instant::now() < until => std::thread::sleep(LOOK_EVERY),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ok(None);
            }
            Err(error) => return Err(format!("cannot wait for it: {error}")),
        }
    }
}
