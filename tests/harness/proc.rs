//! What the kernel says about a process: memory, threads, descriptors, bytes written, processor time.

use std::collections::BTreeMap;
use std::path::Path;

/// A process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Resident memory, bytes.
    pub rss: u64,
    /// Its share of it (pages that others map too count in part), bytes.
    pub pss: u64,
    /// The part that it alone holds and has written to, bytes. The rest is files, its own program above all, that the
    /// kernel can drop and read again.
    pub private: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors: number to what it points at.
    pub descriptors: BTreeMap<String, String>,
    /// Bytes it caused to be written to storage, since its start.
    pub written: u64,
    /// Bytes it passed to write(2) and the like, pipes and sockets included, since its start.
    pub write_calls: u64,
    /// Processor time in clock ticks (100 a second), since its start.
    pub ticks: u64,
}

/// Looks at a process.
///
/// # Panics
/// Where it is gone, or is not ours to look at.
#[track_caller]
pub fn sample(pid: u32) -> Sample {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}"))
            .unwrap_or_else(|error| panic!("cannot read /proc/{pid}/{name}: {error}"))
    };
    let status = read("status");
    let rollup = read("smaps_rollup");
    let io = read("io");
    let stat = read("stat");
    // The name in brackets may hold blanks; what follows it may not. utime and stime are fields 14 and 15.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest)
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse().ok())
        .collect();
    Sample {
        rss: number(&status, "VmRSS:") * 1024,
        pss: number(&rollup, "Pss:") * 1024,
        private: number(&rollup, "Private_Dirty:") * 1024,
        threads: number(&status, "Threads:"),
        descriptors: descriptors(pid),
        written: number(&io, "write_bytes:"),
        write_calls: number(&io, "wchar:"),
        ticks: fields.iter().sum(),
    }
}

/// The number that a line of the kernel's begins with after `key`.
///
/// # Panics
/// Where there is no such line.
#[track_caller]
pub fn number(text: &str, key: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {text}"))
}

fn descriptors(pid: u32) -> BTreeMap<String, String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("a process of ours")
        .flatten()
        .filter_map(|entry| {
            let to = std::fs::read_link(entry.path()).ok()?;
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                to.to_string_lossy().into_owned(),
            ))
        })
        .collect()
}

/// Every file under a directory with its length and its time of change: what a write would alter.
pub fn listing(dir: &Path) -> BTreeMap<String, (u64, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            }
            let changed = meta.modified().unwrap_or(std::time::UNIX_EPOCH);
            all.insert(entry.path().display().to_string(), (meta.len(), changed));
        }
    }
    all
}
