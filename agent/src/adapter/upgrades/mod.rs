//! `agent/` in the state directory: the agent's own binaries, each in a directory that is named after its version and its
//! SHA-256, and the links which say what is started. See packaging/start.sh, which starts them, and knows no more of this than
//! the names of the links.
//!
//! * A binary is written as `<generation>.part`, resumed after a break, hashed whole, synced, run once for its version, and
//!   only then gets its directory's name: what has that name is whole.
//! * A switch is the link `next`, made by a rename. A proof is the rename of `next` to `current`. So there is no moment at which
//!   nothing, or half of something, is started; and nothing is undone to go back.
//!
//! Everything is looked up on disk when it is asked for, so that two processes in a row cannot disagree. Nothing is written
//! while nothing changes.
//!
//! Limits: a binary has 64 MiB at most. Two generations are kept, beside one that is tried.

pub(crate) mod fetch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::{durable, part};
use crate::domain::agent::{Generation, Release};
use crate::domain::revision::CommitId;
use crate::port::upgrades::{Download, Fetching, From, UpgradeError, Upgrades};
use crate::schedule;
use crate::select::upgrade::{Next, NextStarts, Running};

const NAME: &str = "agent";
const BINARY: &str = "evenkeel";
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
const NEXT: &str = "next";
/// What was refused last: its name and why, a line each.
const REFUSED: &str = "refused";
/// The commit at which the agent before it was whole and well.
const ACCEPTED: &str = "accepted";
/// It was passed over at its start.
const PASSED_OVER: &str = "passed-over";
/// The starter killed it at its deadline.
const LATE: &str = "late";
/// Starts that the starter gives to what has not proven itself: as in packaging/start.sh.
const STARTS: u32 = 3;
/// The longest file of ours that is read.
const LONGEST: u64 = 4096;

/// What the starter says of this process, in its environment.
#[derive(Debug, Clone, Default)]
pub struct Started {
    /// `EVENKEEL_GENERATION`.
    pub generation: Option<String>,
    /// `EVENKEEL_GENERATIONS`: where it looks for them.
    pub dir: Option<PathBuf>,
}

/// How far the thread that fetches is.
#[derive(Debug)]
enum Thread {
    None,
    Underway(Generation),
    Failed {
        release: Release,
        why: String,
        times: u32,
        until: Instant,
    },
}

/// What this process and the thread that fetches share.
struct Shared {
    thread: Mutex<Thread>,
    stop: AtomicBool,
    ended: Notify,
}

/// The agent's own binaries, on disk.
pub struct Generations {
    dir: PathBuf,
    running: Running,
    starter: Result<(), String>,
    download: Arc<Download>,
    shared: Arc<Shared>,
    /// Told by a task on the loop's own thread.
    fetched: Rc<Notify>,
}

impl std::fmt::Debug for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generations")
            .field("dir", &self.dir)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl Drop for Generations {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Generations {
    /// The binaries in this state directory, whose lock is held; `version` is the one that was compiled in. Touches nothing.
    #[must_use]
    pub fn new(
        state_dir: &Path,
        started: &Started,
        version: &str,
        download: Arc<Download>,
    ) -> Self {
        let dir = state_dir.join(NAME);
        let generation: Option<Generation> = started
            .generation
            .as_deref()
            .and_then(|name| name.parse().ok());
        let starter = match &started.dir {
            None => Err(
                "the agent was not started by /usr/lib/evenkeel/start, so nobody would put the old one back: let the service \
                 start that (`ExecStart=/usr/lib/evenkeel/start run`)"
                    .to_owned(),
            ),
            Some(there) if same(there, &dir) => Ok(()),
            Some(there) => Err(format!(
                "/usr/lib/evenkeel/start looks for generations in {}, and they are in {}: write state_dir in one line of agent.toml, \
                 before its first section",
                there.display(),
                dir.display()
            )),
        };
        let running = Running {
            version: generation
                .as_ref()
                .map_or(version, Generation::version)
                .to_owned(),
            generation,
        };
        let shared = Shared {
            thread: Mutex::new(Thread::None),
            stop: AtomicBool::new(false),
            ended: Notify::new(),
        };
        Self {
            dir,
            running,
            starter,
            download,
            shared: Arc::new(shared),
            fetched: Rc::new(Notify::new()),
        }
    }

    fn link(&self, name: &str) -> Option<Generation> {
        let to = std::fs::read_link(self.dir.join(name)).ok()?;
        to.to_str()?.parse().ok()
    }

    /// Has a link lead to a generation, or to none.
    fn set_link(&self, name: &str, to: Option<&Generation>) -> io::Result<()> {
        let link = self.dir.join(name);
        match to {
            Some(to) => {
                let temporary = self.dir.join(format!(".{name}.tmp"));
                remove(&temporary)?;
                std::os::unix::fs::symlink(to.as_str(), &temporary)?;
                std::fs::rename(&temporary, &link)?;
            }
            None => remove(&link)?,
        }
        durable::sync_dir(&self.dir)
    }

    fn home(&self, generation: &Generation) -> PathBuf {
        self.dir.join(generation.as_str())
    }

    fn has(&self, generation: &Generation, mark: &str) -> bool {
        self.home(generation).join(mark).exists()
    }

    fn marks(generation: &Path) -> impl Iterator<Item = PathBuf> {
        let strikes = (1..=STARTS).map(|number| format!("strike-{number}"));
        let all = strikes.chain([LATE.to_owned()]);
        all.map(|mark| generation.join(mark))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Takes back what was counted against a generation.
    fn clear(&self, generation: &Generation) -> io::Result<()> {
        let home = self.home(generation);
        for mark in Self::marks(&home) {
            remove(&mark)?;
        }
        durable::sync_dir(&home)
    }

    fn thread(&self) -> std::sync::MutexGuard<'_, Thread> {
        self.shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upgrades for Generations {
    fn running(&self) -> &Running {
        &self.running
    }

    fn starter(&self) -> Result<(), &str> {
        self.starter.as_ref().copied().map_err(String::as_str)
    }

    fn next(&self) -> Option<Next> {
        let generation = self.link(NEXT)?;
        let is_spent =
            (1..=STARTS).all(|number| self.has(&generation, &format!("strike-{number}")));
        let starts = if self.has(&generation, LATE) {
            NextStarts::Late
        } else if is_spent {
            NextStarts::Spent
        } else if self.has(&generation, PASSED_OVER) {
            NextStarts::LeftAgain
        } else {
            NextStarts::Left
        };
        Some(Next { generation, starts })
    }

    fn refused(&self) -> Option<(Generation, String)> {
        let text = read_text(&self.dir.join(REFUSED))?;
        let (name, why) = text.split_once('\n')?;
        Some((name.parse().ok()?, why.trim_end().to_owned()))
    }

    fn is_staged(&self, generation: &Generation) -> bool {
        self.home(generation).join(BINARY).exists()
    }

    fn fetching(&self) -> Fetching {
        match &*self.thread() {
            Thread::None => Fetching::Nothing,
            Thread::Underway(generation) => Fetching::Underway(generation.clone()),
            Thread::Failed { until, .. } if Instant::now() >= *until => Fetching::Nothing,
            Thread::Failed { release, why, .. } => Fetching::Failed {
                release: release.clone(),
                why: why.clone(),
            },
        }
    }

    fn fetch(&self, release: &Release, from: From) {
        let generation = release.generation();
        let times = {
            let mut thread = self.thread();
            let times = match &*thread {
                Thread::Underway(_) => return,
                Thread::Failed {
                    release: before,
                    times,
                    ..
                } if before == release => *times,
                Thread::Failed { .. } | Thread::None => 0,
            };
            *thread = Thread::Underway(generation);
            times
        };
        let job = fetch::Job {
            dir: self.dir.clone(),
            release: release.clone(),
            from,
            download: Arc::clone(&self.download),
        };
        let shared = Arc::clone(&self.shared);
        let fetched = release.clone();
        // Beside the loop: a stuck download must hold nothing up. It ends by itself, or with the process.
        let spawned = std::thread::Builder::new()
            .name("agent-fetch".to_owned())
            .spawn(move || {
                let done = job.run(&shared.stop);
                let mut thread = shared.thread.lock().unwrap_or_else(PoisonError::into_inner);
                *thread = match done {
                    Ok(()) => Thread::None,
                    Err(why) => failed(fetched, why, times + 1),
                };
                drop(thread);
                shared.ended.notify_one();
            });
        if let Err(error) = spawned {
            let why = format!("cannot begin a download: {error}");
            *self.thread() = failed(release.clone(), why, times + 1);
        }
    }

    fn fetched(&self) -> Rc<Notify> {
        Rc::clone(&self.fetched)
    }

    fn switch(
        &self,
        generation: &Generation,
        accepted: Option<&CommitId>,
    ) -> Result<(), UpgradeError> {
        let home = self.home(generation);
        let whole = part::digits(&home.join(BINARY)).is_ok_and(|digits| {
            let wanted = generation.as_str().rsplit_once('-');
            wanted.is_some_and(|(_, wanted)| digits.starts_with(wanted))
        });
        if !whole {
            // It was whole when it got its name: the disk lost it since.
            let _ = std::fs::remove_dir_all(&home);
            return Err(UpgradeError {
                what: format!("start {generation}"),
                cause: "its binary is damaged: it is fetched anew".into(),
            });
        }
        let write = || {
            self.clear(generation)?;
            match accepted {
                Some(commit) => durable::write(&home, ACCEPTED, commit.as_str().as_bytes(), 0o600)?,
                None => remove(&home.join(ACCEPTED))?,
            }
            self.set_link(NEXT, Some(generation))
        };
        write().map_err(failed_to(format!("have {generation} started next")))
    }

    fn accepted(&self) -> Option<String> {
        let generation = self.running.generation.as_ref()?;
        read_text(&self.home(generation).join(ACCEPTED))
    }

    fn prove(&self) -> Result<(), UpgradeError> {
        let Some(generation) = &self.running.generation else {
            return Ok(());
        };
        let write = || {
            let before = self.link(CURRENT);
            if before.as_ref() != Some(generation) {
                self.set_link(PREVIOUS, before.as_ref())?;
            }
            std::fs::rename(self.dir.join(NEXT), self.dir.join(CURRENT))?;
            durable::sync_dir(&self.dir)?;
            // From here on nobody counts: what is left of this is swept when it is switched to the next time.
            let _ = self.clear(generation);
            let _ = remove(&self.home(generation).join(PASSED_OVER));
            Ok(())
        };
        write().map_err(failed_to(format!("write down that {generation} works")))
    }

    fn give_back(&self) {
        let Some(generation) = &self.running.generation else {
            return;
        };
        if self.link(NEXT).as_ref() != Some(generation) {
            return;
        }
        let home = self.home(generation);
        let last = (1..=STARTS)
            .rev()
            .map(|number| home.join(format!("strike-{number}")))
            .find(|strike| strike.exists());
        if let Some(strike) = last {
            // Not synced: what a power cut brings back is one start that is counted too many.
            let _ = remove(&strike);
        }
    }

    fn refuse(&self, next: &Next, why: &str) -> Result<(), UpgradeError> {
        let text = format!("{}\n{why}\n", next.generation);
        // In this order: after a power cut in between it is judged once more.
        durable::write(&self.dir, REFUSED, text.as_bytes(), 0o600)
            .and_then(|()| self.set_link(NEXT, None))
            .map_err(failed_to(format!("refuse {}", next.generation)))
    }

    fn forgive(&self, next: &Next) -> Result<(), UpgradeError> {
        let write = || {
            match next.starts {
                NextStarts::Left | NextStarts::LeftAgain => {
                    durable::write(&self.home(&next.generation), PASSED_OVER, b"", 0o600)
                        // Where its directory is gone, it was passed over for that, and is fetched anew.
                        .or_else(|error| match error.kind() {
                            io::ErrorKind::NotFound => Ok(()),
                            _ => Err(error),
                        })?
                }
                NextStarts::Spent | NextStarts::Late => {}
            }
            self.set_link(NEXT, None)
        };
        write().map_err(failed_to(format!("put {} off", next.generation)))
    }

    fn forget_refused(&self) -> Result<(), UpgradeError> {
        remove(&self.dir.join(REFUSED)).map_err(failed_to("forget what was refused".to_owned()))
    }

    fn hand_back(&self) -> Result<(), UpgradeError> {
        let write = || {
            for link in [NEXT, PREVIOUS, CURRENT] {
                self.set_link(link, None)?;
            }
            Ok(())
        };
        write().map_err(failed_to("give way to the package's binary".to_owned()))
    }

    fn sweep(&self, declared: Option<&Generation>) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let links = [CURRENT, PREVIOUS, NEXT].map(|name| self.link(name));
        let keep: BTreeSet<&str> = links
            .iter()
            .flatten()
            .chain(declared)
            .chain(&self.running.generation)
            .map(Generation::as_str)
            .collect();
        let being_fetched = match self.fetching() {
            Fetching::Underway(generation) => Some(generation),
            Fetching::Nothing | Fetching::Failed { .. } => None,
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let of = name
                .strip_suffix(fetch::PART)
                .or_else(|| name.strip_suffix(fetch::FRESH))
                .unwrap_or(name);
            let is_ours = of.parse::<Generation>().is_ok();
            let is_in_use = being_fetched.as_ref().is_some_and(|one| one.as_str() == of);
            if is_ours && !is_in_use && !keep.contains(of) {
                let path = entry.path();
                let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
            }
        }
    }
}

impl Generations {
    /// Tells the loop each end of a fetch; runs for as long as the loop does.
    pub async fn tell(&self) {
        loop {
            self.shared.ended.notified().await;
            self.fetched.notify_one();
        }
    }
}

fn failed(release: Release, why: String, times: u32) -> Thread {
    Thread::Failed {
        release,
        why,
        times,
        until: Instant::now() + schedule::deferral(times),
    }
}

fn failed_to(what: String) -> impl FnOnce(io::Error) -> UpgradeError {
    move |cause| UpgradeError {
        what,
        cause: cause.into(),
    }
}

/// Whether two paths lead to the same place; both may be missing.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        let parent = path.parent().unwrap_or(path);
        let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        parent.join(path.file_name().unwrap_or(OsStr::new("")))
    };
    real(one) == real(other)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A short text of ours.
fn read_text(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}
