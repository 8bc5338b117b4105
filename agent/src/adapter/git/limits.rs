//! What a remote may cost: time and bytes. Every reader of the network asks a [`Budget`] before it goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::adapter::git_objects::history::Caps;
use crate::adapter::git_objects::read::Most;

/// How long and how much. `Default` is what a device uses.
#[derive(Debug, Clone)]
pub struct Limits {
    /// To a connection. 20 s: a satellite link with a lost first packet still makes it.
    pub connect: Duration,
    /// Between two reads. 30 s: git's servers send a sign of life every 5 s while they pack.
    pub read: Duration,
    /// For the question "what is the tip?", from connecting to its answer. 2 min: some kilobytes on the slowest link.
    pub poll: Duration,
    /// For all that is asked of one remote in one fetch. 15 min: 512 MiB at 600 kB/s; a server that trickles ends here.
    pub fetch: Duration,
    /// Bytes of the answer to "what is the tip?". 16 MiB: an old server that lists 200 000 refs still fits.
    pub refs_bytes: u64,
    /// Bytes of one pack. 512 MiB: far above any configuration, far below a device's disk.
    pub pack_bytes: u64,
    /// Bytes of one git object in memory. 64 MiB: what a revision may weigh altogether.
    pub object_bytes: u64,
    /// Commits looked at for one question of descent. 200 000: some 20 MB of memory.
    pub commits: usize,
    /// Commits between the floor and a tip that trust is given to judge.
    pub history_commits: usize,
    /// Bytes of those, with the trust sets on the way.
    pub history_bytes: u64,
    /// Packs before the store is compacted. 12, of 8 KiB or more each: about what a small clone weighs.
    pub packs: usize,
    /// How much history is asked for, step by step, until the floor is found. After the last step: all of it.
    pub deepen: Vec<u32>,
    /// Bytes of all documents read at once.
    pub tree_bytes: u64,
    /// Bytes of one document.
    pub file_bytes: u64,
    /// Entries of the trees that are read at once.
    pub entries: usize,
    /// Folders inside folders.
    pub depth: usize,
}

impl Limits {
    /// What of documents is read.
    pub(super) const fn documents(&self) -> Most {
        Most {
            tree_bytes: self.tree_bytes,
            file_bytes: self.file_bytes,
            entries: self.entries,
            depth: self.depth,
        }
    }

    /// What of a history is taken.
    pub(super) fn caps(&self) -> Caps {
        Caps {
            commits: self.history_commits,
            bytes: self.history_bytes,
            below: self.commits,
            ..Caps::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            connect: Duration::from_secs(20),
            read: Duration::from_secs(30),
            poll: Duration::from_secs(120),
            fetch: Duration::from_secs(15 * 60),
            refs_bytes: 16 * MIB,
            pack_bytes: 512 * MIB,
            object_bytes: 64 * MIB,
            commits: 200_000,
            history_commits: Caps::default().commits,
            history_bytes: Caps::default().bytes,
            packs: 12,
            deepen: vec![50, 500, 5000],
            tree_bytes: 64 * MIB,
            file_bytes: 8 * MIB,
            entries: 20_000,
            depth: 32,
        }
    }
}

/// What went wrong on the way to a remote: the reason behind `cannot fetch from ...`.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No connection, or it broke.
    #[error("{what}")]
    Broken {
        /// In words, with a hint where there is one.
        what: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Nothing came for too long.
    #[error("the server sent nothing for {} s: given up", .0.as_secs())]
    Stalled(Duration),
    /// It went on for too long.
    #[error("the server is too slow: no end after {} s, given up", .0.as_secs())]
    TooSlow(Duration),
    /// It sent too much.
    #[error("the server sent more than {} MiB: cut off", .0.div_ceil(1024 * 1024))]
    TooMuch(u64),
    /// The agent is stopping, or the caller no longer waits.
    #[error("stopped before the end")]
    Stopped,
    /// The server answered, with a refusal or with something that is not git's.
    #[error("{0}")]
    Answer(String),
    /// The server answered, and has no git repository there.
    #[error("{0}")]
    NotGit(String),
    /// Something a person must mend on this device.
    #[error("{what}")]
    Setup {
        /// What and where, with the next move.
        what: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl Fault {
    /// A connection that failed or broke.
    pub(super) fn broken(
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Broken {
            what: what.into(),
            cause: Some(cause.into()),
        }
    }
}

/// What came and went over a network, and how fast it may.
#[derive(Debug, Default)]
pub(super) struct Meter {
    bytes: AtomicU64,
    /// Bytes a second; 0: as fast as they come.
    rate: AtomicU64,
}

/// What is around a request's and an answer's bodies: headers, and the frames of TLS and TCP.
pub(super) const AROUND: usize = 2 * 1024;
/// What a session of ssh takes before git speaks: versions, keys, a login.
pub(super) const SESSION: usize = 8 * 1024;

impl Meter {
    pub(super) fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn cap(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or_default(), Ordering::Relaxed);
    }

    pub(super) fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// Counts what was read, and waits for as long as it ought to have taken, or until the flag is set. Returns how long that
    /// is.
    #[expect(
        clippy::disallowed_methods,
        reason = "what a remote sends is read on a thread of its own, and this is how it is slowed down"
    )]
    pub(super) fn read(&self, bytes: usize, stop: &AtomicBool) -> Duration {
        self.count(bytes);
        let Some(rate) = self.rate() else {
            return Duration::ZERO;
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(bytes.saturating_mul(1_000_000) / rate);
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || stop.load(Ordering::Relaxed) {
                return wait;
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
        }
    }
}

/// The time and bytes that one exchange with one remote has left; and the first fault it met, which gix would bury.
#[derive(Debug)]
pub(super) struct Budget {
    interrupt: Arc<AtomicBool>,
    pub(super) read: Duration,
    started: Instant,
    deadline: Mutex<(Instant, Duration)>,
    fetch: Duration,
    meter: Option<Arc<Meter>>,
    /// How long was waited so that it does not come too fast: no fault of the remote's.
    waited: Mutex<Duration>,
    left: AtomicU64,
    cap: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

impl Budget {
    /// A budget for the question "what is the tip?". `started` is when the first of this fetch's exchanges with this
    /// remote began: they share one deadline, so long after it.
    pub(super) fn poll(
        limits: &Limits,
        started: Instant,
        fetch: Duration,
        meter: Option<Arc<Meter>>,
        interrupt: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        let poll = Instant::now() + limits.poll;
        let whole = started + fetch;
        let deadline = if poll < whole {
            (poll, limits.poll)
        } else {
            (whole, fetch)
        };
        Arc::new(Self {
            interrupt: Arc::clone(interrupt),
            read: limits.read,
            started,
            deadline: Mutex::new(deadline),
            fetch,
            meter,
            waited: Mutex::default(),
            left: AtomicU64::new(limits.refs_bytes),
            cap: AtomicU64::new(limits.refs_bytes),
            fault: Mutex::new(None),
        })
    }

    /// The tip is known: from here on a pack may come.
    pub(super) fn receive(&self, limits: &Limits) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) =
            (self.started + self.fetch, self.fetch);
        self.left.store(limits.pack_bytes, Ordering::Relaxed);
        self.cap.store(limits.pack_bytes, Ordering::Relaxed);
    }

    /// Whether to go on, and for how long at most until the next check.
    pub(super) fn remaining(&self) -> Result<Duration, Fault> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(Fault::Stopped);
        }
        let (deadline, whole) = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = *self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let left = (deadline + waited).saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(Fault::TooSlow(whole))
        } else {
            Ok(left)
        }
    }

    /// Counts bytes that came in.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Fault> {
        if let Some(meter) = &self.meter {
            let waited = meter.read(bytes, &self.interrupt);
            *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += waited;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .map(|_| ())
            .map_err(|_| Fault::TooMuch(self.cap.load(Ordering::Relaxed)))
    }

    /// Counts bytes that go out, or are around others.
    pub(super) fn count(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.count(bytes);
        }
    }

    /// Remembers the first fault, and gives the I/O error that ends gix's work.
    pub(super) fn fail(&self, fault: Fault) -> std::io::Error {
        let text = fault.to_string();
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(fault);
        std::io::Error::other(text)
    }

    /// The first fault.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The flag that ends gix's own loops.
    pub(super) fn interrupt(&self) -> &AtomicBool {
        &self.interrupt
    }
}
