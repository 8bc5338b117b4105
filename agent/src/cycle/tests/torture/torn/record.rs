//! From system calls to what happened to the disk: which file each call means, and what it changed.
//!
//! Owns the descriptors and the names of the recorded process. Refuses (by a panic, so that no test runs on half a record)
//! whatever would change a recorded file in a way that is not understood: a shared writable mapping, asynchronous I/O,
//! paths that are relative to a current directory.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::calls::{Call, parse};
use super::disk::{Ino, Kind, Meta, Name, Op, ROOT};

/// A call on a path below this one, which never exists, says something: the path's end.
pub(super) const MARK: &str = "/evenkeel-torture-mark/";

/// Ours, and so the recorded process's.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.unwrap().trim(), 8).unwrap()
}

/// Says something that the trace will show at this place.
pub(super) fn mark(text: &str) {
    // Fails, as it should: the folder above is not there.
    let _ = std::fs::create_dir(format!("{MARK}{text}"));
}

/// A file that is open.
#[derive(Debug, Clone)]
struct Open {
    ino: Ino,
    at: usize,
    appends: bool,
}

/// What is known of the recorded tree while its calls are read.
#[derive(Debug)]
pub(super) struct Recorder {
    top: PathBuf,
    names: BTreeMap<Name, Ino>,
    kinds: BTreeMap<Ino, Kind>,
    /// As far as `O_APPEND`, `SEEK_END` and copies need it.
    data: BTreeMap<Ino, Vec<u8>>,
    /// Descriptors are shared by all threads; positions by all duplicates, of which none are made here.
    open: BTreeMap<i64, Open>,
    umask: u32,
    ops: Vec<Op>,
    next: Ino,
}

impl Recorder {
    /// Begins with what stands below `top` now, all of it sure.
    pub(super) fn new(top: &Path) -> Self {
        let mut recorder = Self {
            top: top.to_owned(),
            names: BTreeMap::new(),
            kinds: BTreeMap::from([(ROOT, Kind::Directory)]),
            data: BTreeMap::new(),
            open: BTreeMap::new(),
            umask: umask(),
            ops: Vec::new(),
            next: ROOT + 1,
        };
        recorder.gather(top, ROOT);
        recorder.ops.push(Op::SyncAll);
        recorder
    }

    fn gather(&mut self, dir: &Path, ino: Ino) {
        let mut entries: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let stat = entry.path().symlink_metadata().unwrap();
            let meta = Meta {
                mode: stat.mode() & 0o7777,
                uid: stat.uid(),
                gid: stat.gid(),
            };
            let kind = if stat.is_dir() {
                Kind::Directory
            } else if stat.is_symlink() {
                let target = std::fs::read_link(entry.path()).unwrap();
                Kind::Symlink(target.as_os_str().as_bytes().to_vec())
            } else {
                Kind::File
            };
            let name = (ino, entry.file_name().into_string().unwrap());
            let one = self.make(name, kind.clone(), meta);
            match kind {
                Kind::File => self.write(one, 0, &std::fs::read(entry.path()).unwrap()),
                Kind::Directory => self.gather(&entry.path(), one),
                Kind::Symlink(_) => {}
            }
        }
    }

    /// All that happened, in order.
    pub(super) fn read(mut self, trace: &str) -> Vec<Op> {
        for call in parse(trace) {
            self.take(&call);
        }
        self.ops
    }

    fn make(&mut self, name: Name, kind: Kind, meta: Meta) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.kinds.insert(ino, kind.clone());
        self.names.insert(name.clone(), ino);
        self.ops.push(Op::Make { ino, kind, meta });
        self.ops.push(Op::Put { name, ino });
        ino
    }

    fn write(&mut self, ino: Ino, at: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let data = self.data.entry(ino).or_default();
        let end = at + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[at..end].copy_from_slice(bytes);
        let bytes = bytes.into();
        self.ops.push(Op::Write { ino, at, bytes });
    }

    fn truncate(&mut self, ino: Ino, length: usize) {
        self.data.entry(ino).or_default().resize(length, 0);
        self.ops.push(Op::Truncate { ino, length });
    }

    /// The directory and last name that a path means; `None` outside of the recorded tree.
    fn place(&self, dir: Option<i64>, path: &str) -> Option<Name> {
        let (mut here, rest) = if let Some(below) = path.strip_prefix('/') {
            let top = self.top.to_str().unwrap().trim_start_matches('/');
            let rest = below.strip_prefix(top)?;
            if !(rest.is_empty() || rest.starts_with('/')) {
                return None;
            }
            (ROOT, rest)
        } else {
            let dir = dir.unwrap_or_else(|| panic!("the relative path {path}"));
            (self.open.get(&dir)?.ino, path)
        };
        let parts: Vec<&str> = rest
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        let Some((last, parents)) = parts.split_last() else {
            return Some((here, String::new()));
        };
        for part in parents {
            assert_ne!(*part, "..", "{path}");
            let next = *self.names.get(&(here, (*part).to_owned()))?;
            assert_eq!(
                self.kinds[&next],
                Kind::Directory,
                "a link on the way of {path}"
            );
            here = next;
        }
        Some((here, (*last).to_owned()))
    }

    /// What stands at a place; the place itself where it has no name of its own (`.`).
    fn at(&self, name: &Name) -> Option<Ino> {
        if name.1.is_empty() {
            return Some(name.0);
        }
        self.names.get(name).copied()
    }

    fn new_meta(&self, mode: i64) -> Meta {
        Meta {
            mode: u32::try_from(mode).unwrap() & !self.umask,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    fn take(&mut self, call: &Call) {
        if let "mkdir" = call.name.as_str()
            && let Some(text) = call.path(0).strip_prefix(MARK)
        {
            self.ops.push(Op::Mark(text.to_owned()));
            return;
        }
        if call.result < 0 {
            return;
        }
        match call.name.as_str() {
            "open" => self.opened(call, None, 0),
            "openat" => self.opened(call, call.descriptor(0), 1),
            "creat" => panic!("{call:?}"),
            "close" => {
                self.open.remove(&call.number(0));
            }
            "lseek" | "read" | "readv" => {
                if let Some(open) = self.open.get_mut(&call.number(0)) {
                    let moved = usize::try_from(call.result).unwrap();
                    open.at = if call.name == "lseek" {
                        moved
                    } else {
                        open.at + moved
                    };
                }
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => self.written(call),
            "copy_file_range" | "sendfile" | "splice" => {
                let to = if call.name == "sendfile" { 0 } else { 2 };
                assert!(!self.open.contains_key(&call.number(to)), "{call:?}");
            }
            "ftruncate" => {
                if let Some(open) = self.open.get(&call.number(0)) {
                    self.truncate(open.ino, usize::try_from(call.number(1)).unwrap());
                }
            }
            "truncate" | "mknod" | "mknodat" | "setxattr" => {
                let path = if call.name == "mknodat" { 1 } else { 0 };
                assert!(self.place(None, &call.path(path)).is_none(), "{call:?}");
            }
            "fallocate" => {
                // Blocks that read as zeros: a file that grows, where it is shorter.
                if let Some(open) = self.open.get(&call.number(0)) {
                    assert_eq!(call.number(1), 0, "{call:?}");
                    let end = usize::try_from(call.number(2) + call.number(3)).unwrap();
                    if end > self.data.get(&open.ino).map_or(0, Vec::len) {
                        self.truncate(open.ino, end);
                    }
                }
            }
            "fsetxattr" => {
                assert!(!self.open.contains_key(&call.number(0)), "{call:?}");
            }
            "mmap" => {
                let writable = call.has(2, "PROT_WRITE") && call.has(3, "MAP_SHARED");
                let ours = self.open.contains_key(&call.number(4));
                assert!(
                    !(writable && ours),
                    "a file is written through a mapping: {call:?}"
                );
            }
            "rename" => self.renamed(call, (None, 0), (None, 1), ""),
            "renameat" | "renameat2" => {
                let (from, to) = (call.descriptor(0), call.descriptor(2));
                self.renamed(call, (from, 1), (to, 3), call.text(4));
            }
            "link" => self.linked(call, (None, 0), (None, 1)),
            "linkat" => {
                let (from, to) = (call.descriptor(0), call.descriptor(2));
                self.linked(call, (from, 1), (to, 3));
            }
            "unlink" | "rmdir" => self.unlinked(None, &call.path(0)),
            "unlinkat" => self.unlinked(call.descriptor(0), &call.path(1)),
            "mkdir" => self.made_directory(None, &call.path(0), call.number(1)),
            "mkdirat" => self.made_directory(call.descriptor(0), &call.path(1), call.number(2)),
            "symlink" => self.made_link(call, None, 1),
            "symlinkat" => self.made_link(call, call.descriptor(1), 2),
            "chmod" => self.mode_of(self.found(None, &call.path(0)), call.number(1)),
            "fchmod" => self.mode_of(self.ino(call.number(0)), call.number(1)),
            "fchmodat" | "fchmodat2" => {
                let ino = self.found(call.descriptor(0), &call.path(1));
                self.mode_of(ino, call.number(2));
            }
            "chown" | "lchown" => self.owner_of(self.found(None, &call.path(0)), call, 1),
            "fchown" => self.owner_of(self.ino(call.number(0)), call, 1),
            "fchownat" => {
                let ino = self.found(call.descriptor(0), &call.path(1));
                self.owner_of(ino, call, 2);
            }
            "fsync" => {
                let synced = self.ino(call.number(0));
                self.ops.extend(synced.map(|ino| Op::Sync { ino }));
            }
            "fdatasync" => {
                let synced = self.ino(call.number(0));
                self.ops.extend(synced.map(|ino| Op::DataSync { ino }));
            }
            "sync" | "syncfs" => self.ops.push(Op::SyncAll),
            // Gives no promise.
            "sync_file_range" => {}
            "fcntl" => {
                let duplicates = call.text(1).starts_with("F_DUPFD");
                assert!(
                    !duplicates || self.ino(call.number(0)).is_none(),
                    "{call:?}"
                );
            }
            "dup" | "dup2" | "dup3" => {
                assert!(self.ino(call.number(0)).is_none(), "{call:?}");
            }
            "chdir" | "close_range" => {}
            "io_uring_setup" | "io_submit" => panic!("{call:?}"),
            _ => panic!("what does this change? {call:?}"),
        }
    }

    fn ino(&self, descriptor: i64) -> Option<Ino> {
        self.open.get(&descriptor).map(|open| open.ino)
    }

    fn found(&self, dir: Option<i64>, path: &str) -> Option<Ino> {
        self.at(&self.place(dir, path)?)
    }

    fn opened(&mut self, call: &Call, dir: Option<i64>, path: usize) {
        let flags = path + 1;
        assert!(!call.text(flags).contains("O_TMPFILE"), "{call:?}");
        let Some(name) = self.place(dir, &call.path(path)) else {
            // The number may have been one of ours.
            self.open.remove(&call.result);
            return;
        };
        let ino = match self.at(&name) {
            Some(ino) => {
                if call.has(flags, "O_TRUNC") {
                    self.truncate(ino, 0);
                }
                ino
            }
            None => {
                assert!(call.has(flags, "O_CREAT"), "{call:?}");
                let meta = self.new_meta(call.number(flags + 1));
                self.make(name, Kind::File, meta)
            }
        };
        let open = Open {
            ino,
            at: 0,
            appends: call.has(flags, "O_APPEND"),
        };
        self.open.insert(call.result, open);
    }

    fn written(&mut self, call: &Call) {
        let descriptor = call.number(0);
        let Some(open) = self.open.get(&descriptor).cloned() else {
            return;
        };
        let mut bytes = match call.name.as_str() {
            "write" | "pwrite64" => call.bytes(1),
            _ => call.pieces(1).concat(),
        };
        bytes.truncate(usize::try_from(call.result).unwrap());
        let positioned = call.name.starts_with('p');
        let at = if open.appends {
            self.data.get(&open.ino).map_or(0, Vec::len)
        } else if positioned {
            usize::try_from(call.number(3)).unwrap()
        } else {
            open.at
        };
        self.write(open.ino, at, &bytes);
        if !positioned && let Some(open) = self.open.get_mut(&descriptor) {
            open.at = at + bytes.len();
        }
    }

    fn renamed(
        &mut self,
        call: &Call,
        from: (Option<i64>, usize),
        to: (Option<i64>, usize),
        flags: &str,
    ) {
        let from = self.place(from.0, &call.path(from.1));
        let to = self.place(to.0, &call.path(to.1));
        let (Some(from), Some(to)) = (from.clone(), to.clone()) else {
            assert!(from.is_none() && to.is_none(), "{call:?}");
            return;
        };
        if flags.contains("EXCHANGE") {
            let (one, other) = (self.names[&from], self.names[&to]);
            self.names.insert(from.clone(), other);
            self.names.insert(to.clone(), one);
            let (one, other) = (from, to);
            self.ops.push(Op::Swap { one, other });
            return;
        }
        let ino = self.names.remove(&from).expect("what is renamed is there");
        self.names.insert(to.clone(), ino);
        self.ops.push(Op::Move { from, to });
    }

    fn linked(&mut self, call: &Call, from: (Option<i64>, usize), to: (Option<i64>, usize)) {
        let from = self.found(from.0, &call.path(from.1));
        let to = self.place(to.0, &call.path(to.1));
        let (Some(ino), Some(name)) = (from, to.clone()) else {
            assert!(from.is_none() && to.is_none(), "{call:?}");
            return;
        };
        self.names.insert(name.clone(), ino);
        self.ops.push(Op::Put { name, ino });
    }

    fn unlinked(&mut self, dir: Option<i64>, path: &str) {
        if let Some(name) = self.place(dir, path) {
            self.names.remove(&name).expect("what is removed is there");
            self.ops.push(Op::Take { name });
        }
    }

    fn made_directory(&mut self, dir: Option<i64>, path: &str, mode: i64) {
        if let Some(name) = self.place(dir, path) {
            let meta = self.new_meta(mode);
            self.make(name, Kind::Directory, meta);
        }
    }

    fn made_link(&mut self, call: &Call, dir: Option<i64>, path: usize) {
        if let Some(name) = self.place(dir, &call.path(path)) {
            let meta = self.new_meta(0o777);
            self.make(name, Kind::Symlink(call.bytes(0)), meta);
        }
    }

    fn mode_of(&mut self, ino: Option<Ino>, mode: i64) {
        let mode = u32::try_from(mode).unwrap();
        self.ops.extend(ino.map(|ino| Op::Mode { ino, mode }));
    }

    fn owner_of(&mut self, ino: Option<Ino>, call: &Call, at: usize) {
        let number = |at| u32::try_from(call.number(at)).unwrap();
        let (uid, gid) = (number(at), number(at + 1));
        self.ops.extend(ino.map(|ino| Op::Owner { ino, uid, gid }));
    }
}
