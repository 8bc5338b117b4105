//! A disk that writes down everything it is told: for cutting its power at any moment, as often as one likes.
//!
//! QEMU's storage daemon keeps a disk's image and a log of its writes and flushes (`blklogwrites`) and shows the disk as a
//! file, on which a loop device stands: a real file system lies on it, and real programs run on that. Afterwards a [`Cut`]
//! gives the disk as a power cut may have left it: all that came before the last flush is there, and of what came later
//! whatever the disk happened to have written, in any order.
//!
//! Assumed of a disk: its flush is honest, and a block of 4 KiB is written whole or not at all. Needs root, FUSE and a loop
//! device.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PATIENCE;
use crate::mounted::{Filesystem, Mounted};
use crate::process::Server;

/// What a disk writes whole or not at all.
const PAGE: usize = 4096;
/// The log's first eight bytes: as Linux's `dm-log-writes` has them.
const MAGIC: u64 = 0x006a_7366_7773_6872;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// A disk's content: its pages that are not all zero, by their number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    length: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Disk {
    /// What an image holds.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn read(image: &Path) -> Self {
        let file = std::fs::File::open(image).expect("open an image of ours");
        let length = file.metadata().expect("look at an image of ours").len();
        let mut disk = Self {
            length,
            pages: BTreeMap::new(),
        };
        let mut page = vec![0; PAGE];
        for number in 0..length / PAGE as u64 {
            file.read_exact_at(&mut page, number * PAGE as u64)
                .expect("read an image of ours");
            if page.iter().any(|byte| *byte != 0) {
                disk.pages.insert(number, page.clone().into());
            }
        }
        disk
    }

    /// Writes it to a new file with holes.
    ///
    /// # Panics
    /// Where that fails.
    pub fn write(&self, image: &Path) {
        let file = std::fs::File::create(image).expect("make an image of ours");
        file.set_len(self.length).expect("make an image of ours");
        for (number, page) in &self.pages {
            file.write_all_at(page, number * PAGE as u64)
                .expect("write an image of ours");
        }
    }

    /// The bytes from `at` on, within one page, become `bytes`.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let (number, inside) = (at / PAGE as u64, (at % PAGE as u64) as usize);
        let page = self.pages.entry(number);
        let page = page.or_insert_with(|| vec![0; PAGE].into());
        page[inside..inside + bytes.len()].copy_from_slice(bytes);
    }
}

/// One thing that the disk was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Where on the disk, in bytes.
    at: u64,
    /// Where its bytes lie in the log.
    from: usize,
    /// How many they are.
    length: usize,
    flags: u64,
}

/// All that a disk was told, in order.
#[derive(Debug)]
pub struct BlockLog {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl BlockLog {
    /// Reads a log.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let (count, sector) = superblock(&bytes).ok_or("the log has no superblock")?;
        if !matches!(sector, 512 | 4096) {
            return Err(format!("sectors of {sector} bytes"));
        }
        let mut entries = Vec::new();
        let mut at = sector;
        for number in 0..count {
            let word = |index: usize| number_at(&bytes, at + index * 8);
            let (Some(place), Some(sectors), Some(flags)) = (word(0), word(1), word(2)) else {
                return Err(format!(
                    "the log ends before entry {number} of {count}, at byte {at}"
                ));
            };
            let from = at + sector;
            let length = if flags & DISCARD == 0 {
                usize::try_from(sectors)
                    .ok()
                    .and_then(|sectors| sectors.checked_mul(sector))
                    .filter(|length| from + length <= bytes.len())
                    .ok_or_else(|| format!("entry {number} of {count} is longer than the log"))?
            } else {
                0
            };
            entries.push(Entry {
                at: place * sector as u64,
                from,
                length,
                flags,
            });
            at = from + length;
        }
        Ok(Self { bytes, entries })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many of them are flushes.
    pub fn flushes(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.flags & FLUSH != 0)
            .count()
    }

    /// Cuts the power of a disk whose image this is, as it was before the log's first entry; how many entries were certain.
    ///
    /// # Panics
    /// Where the image cannot be written.
    pub fn cut_image(&self, image: &Path, cut: Cut) -> usize {
        let file = std::fs::OpenOptions::new().write(true).open(image);
        let file = file.expect("open an image of ours");
        let mut put = |at, bytes: &[u8]| {
            file.write_all_at(bytes, at)
                .expect("write an image of ours");
        };
        let certain = self.certain(cut);
        for entry in &self.entries[..certain] {
            self.pieces(entry, &mut put);
        }
        self.survivors(certain, cut, &mut put);
        certain
    }

    /// How many entries a cut leaves for certain.
    pub fn certain(&self, cut: Cut) -> usize {
        let reach = match cut.flush {
            Flush::Honest => cut.after,
            Flush::Ignored(entries) => cut.after.saturating_sub(entries),
        };
        self.last_flush(reach).map_or(0, |flush| flush + 1)
    }

    /// The last flush among the first `count` entries.
    fn last_flush(&self, count: usize) -> Option<usize> {
        self.entries[..count]
            .iter()
            .rposition(|entry| entry.flags & FLUSH != 0)
    }

    /// What the medium happens to hold of the entries after the certain ones.
    fn survivors(&self, certain: usize, cut: Cut, put: &mut impl FnMut(u64, &[u8])) {
        let mut chance = fastrand::Rng::with_seed(cut.seed);
        // From a disk that had written nothing yet to one that had written all of it.
        let kept = chance.u8(0..=4);
        for entry in &self.entries[certain..cut.after] {
            if entry.flags & FUA != 0 && cut.flush == Flush::Honest {
                self.pieces(entry, &mut *put);
            } else if chance.u8(0..4) == 0 {
                // Torn: some of its pages.
                self.pieces(entry, |at, bytes| {
                    if chance.u8(0..4) < kept {
                        put(at, bytes);
                    }
                });
            } else if chance.u8(0..4) < kept {
                self.pieces(entry, &mut *put);
            }
        }
    }

    /// What an entry wrote, page by page. A discard promises nothing about what is read afterwards, so leaving the old bytes
    /// is one of its outcomes.
    fn pieces(&self, entry: &Entry, mut put: impl FnMut(u64, &[u8])) {
        let mut at = entry.at;
        let mut bytes = &self.bytes[entry.from..entry.from + entry.length];
        while !bytes.is_empty() {
            let inside = (at % PAGE as u64) as usize;
            let (piece, rest) = bytes.split_at((PAGE - inside).min(bytes.len()));
            put(at, piece);
            at += piece.len() as u64;
            bytes = rest;
        }
    }
}

/// How many entries there are by the superblock, and how long a sector is.
fn superblock(bytes: &[u8]) -> Option<(u64, usize)> {
    (number_at(bytes, 0)? == MAGIC).then_some(())?;
    let count = number_at(bytes, 16)?;
    let sector = bytes.get(24..28)?.try_into().ok()?;
    Some((count, u32::from_le_bytes(sector) as usize))
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Whether the disk keeps what it promised at a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// It does.
    Honest,
    /// It does not: whatever came after the flush before these many entries may be lost, too.
    Ignored(usize),
}

/// A power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many entries the disk was told before it.
    pub after: usize,
    /// What decides which of those after the last flush had reached the medium.
    pub seed: u64,
    /// Whether flushes count.
    pub flush: Flush,
}

/// Walks through a log from cut to cut. Cuts come in the order of the log, so that each entry is applied once.
#[derive(Debug)]
pub struct Cutter<'a> {
    log: &'a BlockLog,
    durable: Disk,
    applied: usize,
}

impl<'a> Cutter<'a> {
    /// From the disk as it was before the log's first entry.
    pub const fn new(base: Disk, log: &'a BlockLog) -> Self {
        Self {
            log,
            durable: base,
            applied: 0,
        }
    }

    /// The disk after this cut, and how many entries before it were certain.
    ///
    /// # Panics
    /// Where an earlier cut lay behind this one.
    pub fn disk(&mut self, cut: Cut) -> (Disk, usize) {
        let certain = self.log.certain(cut);
        assert!(
            certain >= self.applied,
            "cuts come in the order of the log: {certain} after {}",
            self.applied
        );
        for entry in &self.log.entries[self.applied..certain] {
            self.log
                .pieces(entry, |at, bytes| self.durable.put(at, bytes));
        }
        self.applied = certain;
        let mut disk = self.durable.clone();
        self.log
            .survivors(certain, cut, &mut |at, bytes| disk.put(at, bytes));
        (disk, certain)
    }
}

/// A mounted file system on a disk that writes down everything.
#[derive(Debug)]
pub struct LoggedDisk {
    // In this order: the file system, the daemon below it, the place of the images.
    mounted: Option<Mounted>,
    daemon: Server,
    dir: PathBuf,
    base: Disk,
}

/// What has QEMU write down all that its machine's disk is told: `on.img` where it runs, under the node `disk`, beside
/// `log.img`. Flushes end in the log, for this machine itself loses no power.
pub const OF_A_MACHINE: [&str; 6] = [
    "-blockdev",
    "driver=file,node-name=data,filename=on.img,cache.no-flush=on",
    "-blockdev",
    "driver=file,node-name=log,filename=log.img,cache.no-flush=on",
    "-blockdev",
    "driver=blklogwrites,node-name=disk,file=data,log=log,log-super-update-interval=1",
];

impl LoggedDisk {
    /// A new disk with a new file system, mounted at `at`; its images and its log lie in `dir`.
    ///
    /// # Panics
    /// Where one of the tools is missing or fails.
    pub fn start(dir: &Path, kind: Filesystem, at: &Path) -> Self {
        let image = dir.join("data.img");
        std::fs::File::create(&image)
            .and_then(|file| file.set_len(kind.size() << 20))
            .expect("make an image of ours");
        kind.make(&image);
        let base = Disk::read(&image);
        for name in ["log.img", "disk"] {
            std::fs::File::create(dir.join(name)).expect("make a file of ours");
        }
        let mut daemon = Server::start(
            Command::new("qemu-storage-daemon")
                .current_dir(dir)
                .args(["--blockdev", "driver=file,node-name=data,filename=data.img"])
                .args(["--blockdev", "driver=file,node-name=log,filename=log.img"])
                .args([
                    "--blockdev",
                    "driver=blklogwrites,node-name=disk,file=data,log=log,log-super-update-interval=1",
                ])
                .args([
                    "--export",
                    "type=fuse,id=disk,node-name=disk,writable=on,mountpoint=disk",
                ]),
            &dir.join("qemu.log"),
        );
        let disk = dir.join("disk");
        crate::wait_for("the disk (it needs /dev/fuse)", || {
            assert!(
                daemon.ended().is_none(),
                "qemu-storage-daemon ended: {}",
                std::fs::read_to_string(dir.join("qemu.log")).unwrap_or_default()
            );
            (std::fs::metadata(&disk).is_ok_and(|found| found.len() == kind.size() << 20))
                .then_some(())
        });
        let mut this = Self {
            mounted: None,
            daemon,
            dir: dir.to_owned(),
            base,
        };
        this.mounted = Some(
            Mounted::image(&disk, kind, at)
                .unwrap_or_else(|why| panic!("a new file system: {why}")),
        );
        this
    }

    /// How many writes and flushes it was told so far.
    ///
    /// # Panics
    /// Where the log cannot be read.
    pub fn entries(&self) -> usize {
        let mut head = [0; 28];
        let file = std::fs::File::open(self.dir.join("log.img")).expect("open the log");
        if file.read_exact_at(&mut head, 0).is_err() {
            return 0;
        }
        let (count, _) = superblock(&head).expect("the log has a superblock");
        usize::try_from(count).expect("a log in memory")
    }

    /// Takes it out: the disk as it was new, and what it was told since.
    ///
    /// # Panics
    /// Where something holds it, or the log cannot be read.
    pub fn finish(mut self) -> (Disk, BlockLog) {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount();
        }
        self.daemon.signal("TERM");
        self.daemon.wait(PATIENCE);
        let bytes = std::fs::read(self.dir.join("log.img")).expect("read the log");
        let log = BlockLog::parse(bytes).unwrap_or_else(|why| panic!("the log: {why}"));
        (std::mem::take(&mut self.base), log)
    }
}

impl Drop for LoggedDisk {
    fn drop(&mut self) {
        self.mounted = None;
        if self.daemon.ended().is_none() {
            // Asked first: killed, it leaves its mount point behind.
            let _ = Command::new("kill")
                .arg(self.daemon.pid().to_string())
                .output();
            for _ in 0..100 {
                if self.daemon.ended().is_some() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.dir.join("disk"))
            .output();
    }
}

#[cfg(test)]
mod tests;
