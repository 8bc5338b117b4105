//! A disk that keeps its word and nothing more: what was fsynced is there after a power cut, and of everything else any
//! part may be.
//!
//! * The data of a file: of the writes and truncations since the file was last synced each may be there or not; a write
//!   may be torn between sectors, or have made the file longer and left zeros.
//! * Its mode and owner: each change since the last fsync may be there or not (fdatasync does not carry them).
//! * Names: a name that was made, moved or taken away is sure only once the directory that it stands in was synced, whatever
//!   was synced of the file itself. Changes of one name happen in their order; a rename happens whole or not at all.
//! * `sync_file_range` promises nothing.
//!
//! That is POSIX at its word, and weaker than any file system in use (ext4, f2fs, btrfs and xfs keep the order of names in
//! one directory): what holds here holds there. Not modelled: a disk that lies about a flush, blocks that go bad, and stale
//! blocks of other files in place of lost data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;

/// A file, directory or symlink, whatever its names.
pub(super) type Ino = usize;
/// The directory that is recorded.
pub(super) const ROOT: Ino = 0;
/// What a disk writes at once.
const SECTOR: usize = 512;

/// What an inode is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink(Vec<u8>),
}

/// Mode and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A name in a directory.
pub(super) type Name = (Ino, String);

/// One thing that happens to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// An inode comes into being, without a name yet.
    Make {
        ino: Ino,
        kind: Kind,
        meta: Meta,
    },
    /// A name for it.
    Put {
        name: Name,
        ino: Ino,
    },
    /// A name is taken away.
    Take {
        name: Name,
    },
    /// A name becomes another one, whose inode loses it.
    Move {
        from: Name,
        to: Name,
    },
    /// Two names change places.
    Swap {
        one: Name,
        other: Name,
    },
    Write {
        ino: Ino,
        at: usize,
        bytes: Arc<[u8]>,
    },
    Truncate {
        ino: Ino,
        length: usize,
    },
    Mode {
        ino: Ino,
        mode: u32,
    },
    Owner {
        ino: Ino,
        uid: u32,
        gid: u32,
    },
    /// fsync.
    Sync {
        ino: Ino,
    },
    /// fdatasync.
    DataSync {
        ino: Ino,
    },
    /// sync and syncfs.
    SyncAll,
    /// Nothing: something that was said at this moment.
    Mark(String),
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Arc<[u8]> },
    Truncate(usize),
    Mode(u32),
    Owner(u32, u32),
}

/// What can be seen of an inode.
#[derive(Debug, Clone)]
struct Body {
    kind: Kind,
    meta: Meta,
    data: Vec<u8>,
}

impl Body {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Write { at, bytes } => self.write(*at, bytes),
            Change::Truncate(length) => self.data.resize(*length, 0),
            Change::Mode(mode) => self.meta.mode = *mode,
            Change::Owner(uid, gid) => (self.meta.uid, self.meta.gid) = (*uid, *gid),
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[at..end].copy_from_slice(bytes);
    }
}

#[derive(Debug, Clone)]
struct Inode {
    /// As it is on the disk for sure.
    sure: Body,
    /// What happened since, with its place in the order of everything.
    since: Vec<(u64, Change)>,
}

#[derive(Debug, Clone)]
enum Naming {
    Put(Name, Ino),
    Take(Name),
    Move(Name, Name),
    Swap(Name, Name),
}

impl Naming {
    fn names(&self) -> impl Iterator<Item = &Name> {
        let (one, other) = match self {
            Self::Put(name, _) | Self::Take(name) => (name, None),
            Self::Move(one, other) | Self::Swap(one, other) => (one, Some(other)),
        };
        std::iter::once(one).chain(other)
    }

    fn take(&self, names: &mut BTreeMap<Name, Ino>) {
        match self {
            Self::Put(name, ino) => {
                names.insert(name.clone(), *ino);
            }
            Self::Take(name) => {
                names.remove(name);
            }
            Self::Move(from, to) => {
                if let Some(ino) = names.remove(from) {
                    names.insert(to.clone(), ino);
                }
            }
            Self::Swap(one, other) => {
                let (first, second) = (names.remove(one), names.remove(other));
                names.extend(first.map(|ino| (other.clone(), ino)));
                names.extend(second.map(|ino| (one.clone(), ino)));
            }
        }
    }
}

/// Which syncs are passed over, for a fault that is planted in the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Honesty {
    /// None.
    Honest,
    /// All of them.
    IgnoresAll,
    /// Those of the file of this name.
    IgnoresFile(&'static str),
    /// Those of the directory of this name.
    IgnoresDirectory(&'static str),
}

/// The disk.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    names: BTreeMap<Name, Ino>,
    since: Vec<(u64, Naming)>,
    /// How much happened.
    clock: u64,
    honesty: Honesty,
    /// As a running system sees it: only for telling which file a planted fault means.
    seen: BTreeMap<Name, Ino>,
}

impl Disk {
    /// An empty directory, for sure.
    pub(super) fn new(meta: Meta, honesty: Honesty) -> Self {
        let root = Inode {
            sure: Body {
                kind: Kind::Directory,
                meta,
                data: Vec::new(),
            },
            since: Vec::new(),
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            names: BTreeMap::new(),
            since: Vec::new(),
            clock: 0,
            honesty,
            seen: BTreeMap::new(),
        }
    }

    /// One thing happens.
    pub(super) fn take(&mut self, op: &Op) {
        self.clock += 1;
        match op {
            Op::Make { ino, kind, meta } => {
                let sure = Body {
                    kind: kind.clone(),
                    meta: *meta,
                    data: Vec::new(),
                };
                let since = Vec::new();
                self.inodes.insert(*ino, Inode { sure, since });
            }
            Op::Put { name, ino } => self.naming(Naming::Put(name.clone(), *ino)),
            Op::Take { name } => self.naming(Naming::Take(name.clone())),
            Op::Move { from, to } => self.naming(Naming::Move(from.clone(), to.clone())),
            Op::Swap { one, other } => self.naming(Naming::Swap(one.clone(), other.clone())),
            Op::Write { ino, at, bytes } => {
                let bytes = Arc::clone(bytes);
                self.change(*ino, Change::Write { at: *at, bytes });
            }
            Op::Truncate { ino, length } => self.change(*ino, Change::Truncate(*length)),
            Op::Mode { ino, mode } => self.change(*ino, Change::Mode(*mode)),
            Op::Owner { ino, uid, gid } => self.change(*ino, Change::Owner(*uid, *gid)),
            Op::Sync { ino } => {
                if self.is_honoured(*ino) {
                    self.settle(*ino, |_| true);
                    self.settle_names(*ino);
                }
            }
            Op::DataSync { ino } => {
                if self.is_honoured(*ino) {
                    self.settle(*ino, |change| match change {
                        Change::Write { .. } | Change::Truncate(_) => true,
                        Change::Mode(_) | Change::Owner(..) => false,
                    });
                    self.settle_names(*ino);
                }
            }
            Op::SyncAll => {
                let all: Vec<Ino> = self.inodes.keys().copied().collect();
                for ino in all {
                    self.settle(ino, |_| true);
                }
                for (_, naming) in std::mem::take(&mut self.since) {
                    naming.take(&mut self.names);
                }
            }
            Op::Mark(_) => {}
        }
    }

    fn change(&mut self, ino: Ino, change: Change) {
        let clock = self.clock;
        let inode = self
            .inodes
            .get_mut(&ino)
            .expect("made before it is changed");
        inode.since.push((clock, change));
    }

    fn naming(&mut self, naming: Naming) {
        naming.take(&mut self.seen);
        self.since.push((self.clock, naming));
    }

    fn settle(&mut self, ino: Ino, which: impl Fn(&Change) -> bool) {
        let inode = self.inodes.get_mut(&ino).expect("made before it is synced");
        let Inode { sure, since } = inode;
        since.retain(|(_, change)| {
            let settles = which(change);
            if settles {
                sure.take(change);
            }
            !settles
        });
    }

    /// What a directory's sync makes sure: every change of a name in it, and what must have come before those.
    fn settle_names(&mut self, dir: Ino) {
        let mut needed: BTreeSet<Name> = BTreeSet::new();
        let settles = closed(&self.since, &mut needed, |naming| {
            naming.names().any(|(parent, _)| *parent == dir)
        });
        let mut settles = settles.into_iter();
        let names = &mut self.names;
        self.since.retain(|(_, naming)| {
            let settles = settles.next().unwrap_or(false);
            if settles {
                naming.take(names);
            }
            !settles
        });
    }

    fn is_honoured(&self, ino: Ino) -> bool {
        let named = |wanted: &str| {
            self.seen
                .iter()
                .any(|((_, name), named)| *named == ino && name == wanted)
        };
        let is_directory = self.inodes[&ino].sure.kind == Kind::Directory;
        match self.honesty {
            Honesty::Honest => true,
            Honesty::IgnoresAll => false,
            Honesty::IgnoresFile(name) => is_directory || !named(name),
            Honesty::IgnoresDirectory(name) => !is_directory || !named(name),
        }
    }

    /// What is there after a power cut at this moment, as chance has it.
    pub(super) fn cut(&self, rng: &mut Rng) -> Image {
        let mood = Mood::draw(rng, self.clock);
        let mut index = self.since.len();
        let clocks: Vec<u64> = self.since.iter().map(|(clock, _)| *clock).collect();
        let chosen = closed(&self.since, &mut BTreeSet::new(), |_| {
            index -= 1;
            mood.keeps_name(rng, clocks[index])
        });
        let mut names = self.names.clone();
        for ((_, naming), _) in self.since.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
            naming.take(&mut names);
        }
        let mut image = Image {
            mood: mood.clone(),
            nodes: Vec::new(),
        };
        self.gather(&names, ROOT, "", &mood, rng, &mut image);
        image
    }

    fn gather(
        &self,
        names: &BTreeMap<Name, Ino>,
        dir: Ino,
        path: &str,
        mood: &Mood,
        rng: &mut Rng,
        image: &mut Image,
    ) {
        let first = (dir, String::new());
        for ((_, name), ino) in names.range(first..).take_while(|((of, _), _)| *of == dir) {
            let path = format!("{path}/{name}");
            let body = self.body(*ino, mood, rng);
            let is_directory = body.kind == Kind::Directory;
            image.nodes.push((path.clone(), body));
            if is_directory {
                self.gather(names, *ino, &path, mood, rng, image);
            }
        }
    }

    fn body(&self, ino: Ino, mood: &Mood, rng: &mut Rng) -> Body {
        let inode = &self.inodes[&ino];
        let mut body = inode.sure.clone();
        for (clock, change) in &inode.since {
            match (mood.keeps(rng, *clock, change), change) {
                (Fate::Whole, _) => body.take(change),
                (Fate::Lost, _) => {}
                (Fate::Torn, Change::Write { at, bytes }) => tear(&mut body, *at, bytes, rng),
                (Fate::Zeros, Change::Write { at, bytes }) => {
                    let length = body.data.len().max(at + bytes.len());
                    body.data.resize(length, 0);
                }
                (Fate::Torn | Fate::Zeros, _) => {}
            }
        }
        body
    }
}

/// Some sectors of a write arrive, others do not.
fn tear(body: &mut Body, at: usize, bytes: &[u8], rng: &mut Rng) {
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
        if rng.bool() {
            body.write(at + from, &bytes[from..to]);
        }
        from = to;
    }
}

/// Which changes of names happen where `wants` asks for some: those, and all before them of the same names. `wants` is asked
/// from the last to the first.
fn closed(
    since: &[(u64, Naming)],
    needed: &mut BTreeSet<Name>,
    mut wants: impl FnMut(&Naming) -> bool,
) -> Vec<bool> {
    let mut chosen: Vec<bool> = since
        .iter()
        .rev()
        .map(|(_, naming)| {
            let wanted = wants(naming);
            let is_chosen = wanted || naming.names().any(|name| needed.contains(name));
            if is_chosen {
                needed.extend(naming.names().cloned());
            }
            is_chosen
        })
        .collect();
    chosen.reverse();
    chosen
}

/// What becomes of one change that was not synced.
enum Fate {
    Whole,
    Lost,
    Torn,
    Zeros,
}

/// In which way a cut loses what it may lose. Each device's writes are lost in one manner, so that extremes, which find
/// most, come often.
#[derive(Debug, Clone)]
pub(super) enum Mood {
    /// All that may be lost is lost.
    Nothing,
    /// All is there.
    Everything,
    /// All up to a moment, and nothing after it: a journal of everything.
    Until(u64),
    /// Names are there, data is not: the file of no length.
    NamesOnly,
    /// Data is there, names are not.
    DataOnly,
    /// Each with this chance in a hundred.
    Chance(u8),
    /// All but one or two.
    AllBut(u8),
}

impl Mood {
    fn draw(rng: &mut Rng, clock: u64) -> Self {
        match rng.u8(0..16) {
            0 | 1 => Self::Nothing,
            2 => Self::Everything,
            3 | 4 => Self::Until(rng.u64(clock.saturating_sub(40)..=clock)),
            5 | 6 => Self::NamesOnly,
            7 => Self::DataOnly,
            8 => Self::AllBut(10),
            n => Self::Chance([5, 20, 50, 50, 80, 95, 50][usize::from(n) - 9]),
        }
    }

    fn keeps_name(&self, rng: &mut Rng, clock: u64) -> bool {
        match self {
            Self::Nothing | Self::DataOnly => false,
            Self::Everything | Self::NamesOnly => true,
            Self::Until(moment) => clock <= *moment,
            Self::Chance(percent) => rng.u8(0..100) < *percent,
            Self::AllBut(percent) => rng.u8(0..100) >= *percent,
        }
    }

    fn keeps(&self, rng: &mut Rng, clock: u64, change: &Change) -> Fate {
        let whole = |is: bool| if is { Fate::Whole } else { Fate::Lost };
        match self {
            Self::Nothing => Fate::Lost,
            Self::Everything | Self::DataOnly => Fate::Whole,
            Self::Until(moment) => whole(clock <= *moment),
            Self::NamesOnly => match change {
                Change::Write { .. } | Change::Truncate(_) if rng.bool() => Fate::Zeros,
                Change::Write { .. } | Change::Truncate(_) => Fate::Lost,
                Change::Mode(_) | Change::Owner(..) => Fate::Whole,
            },
            Self::Chance(_) | Self::AllBut(_) => match rng.u8(0..8) {
                0 => Fate::Torn,
                1 => Fate::Zeros,
                _ => whole(self.keeps_name(rng, clock)),
            },
        }
    }
}

/// A whole tree.
#[derive(Debug)]
pub(super) struct Image {
    /// How it came to be.
    pub(super) mood: Mood,
    /// Directories before what they hold.
    nodes: Vec<(String, Body)>,
}

impl Image {
    /// Writes the tree into an empty directory.
    pub(super) fn write(&self, top: &Path) {
        use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
        let us = rustix::process::geteuid().as_raw();
        let mut modes = Vec::new();
        for (path, body) in &self.nodes {
            let place = top.join(path.trim_start_matches('/'));
            match &body.kind {
                Kind::File => std::fs::write(&place, &body.data).unwrap(),
                Kind::Directory => std::fs::create_dir(&place).unwrap(),
                Kind::Symlink(target) => {
                    let target = String::from_utf8(target.clone()).unwrap();
                    symlink(target, &place).unwrap();
                    if body.meta.uid != us {
                        lchown(&place, Some(body.meta.uid), Some(body.meta.gid)).unwrap();
                    }
                    continue;
                }
            }
            if body.meta.uid != us {
                chown(&place, Some(body.meta.uid), Some(body.meta.gid)).unwrap();
            }
            modes.push((place, body.meta.mode));
        }
        // From the inside out: a directory may be one that nobody may write to.
        for (place, mode) in modes.iter().rev() {
            std::fs::set_permissions(place, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
    }

    /// Its paths and sizes, for people.
    pub(super) fn told(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (path, body) in &self.nodes {
            let _ = writeln!(text, "{:>8} {:04o} {path}", body.data.len(), body.meta.mode);
        }
        text
    }

    #[cfg(test)]
    fn file(&self, path: &str) -> Option<&[u8]> {
        let found = self.nodes.iter().find(|(one, _)| one == path);
        found.map(|(_, body)| body.data.as_slice())
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
