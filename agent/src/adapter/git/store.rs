//! The store of git objects on disk: opened anew for each use, synced by us (gix never syncs), and replaced by a fresh
//! one beside it, swapped in by rename, where it is damaged or has grown too many packs.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::Kind as HashKind;
use gix::objs::Kind;

use super::limits::Limits;
use super::vouch;
use crate::adapter::git_objects::object;
use crate::port::source::SourceError;

/// How gix sees any of our stores: no system or user configuration, no environment, one thread, a cap on memory.
fn options(limits: &Limits) -> gix::open::Options {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .with(gix::sec::Trust::Full)
        .config_overrides([
            "pack.threads=1".to_owned(),
            "core.useReplaceRefs=false".to_owned(),
            format!("gitoxide.objects.allocLimit={}", limits.object_bytes),
        ])
}

/// A `SourceError::Store`.
pub(super) fn broken(
    what: impl Into<String>,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> SourceError {
    SourceError::Store {
        what: what.into(),
        cause: Some(cause.into()),
    }
}

/// Opens a store. Each use opens it anew: a long-lived handle runs out of pack slots.
pub(super) fn open(dir: &Path, limits: &Limits) -> Result<gix::Repository, SourceError> {
    gix::open_opts(dir, options(limits))
        .map_err(|error| broken(format!("`{}` does not open", dir.display()), error))
}

/// Opens somebody else's repository (bare, or with a worktree) to read from it.
pub(super) fn open_foreign(dir: &Path, limits: &Limits) -> gix::Result<gix::Repository> {
    gix::open_opts(dir, options(limits).open_path_as_is(false))
}

/// A new, empty store in place of whatever stands there.
pub(super) fn create(
    dir: &Path,
    hash: HashKind,
    limits: &Limits,
) -> Result<gix::Repository, SourceError> {
    remove(dir)?;
    fs::create_dir_all(dir)
        .map_err(|error| broken(format!("cannot create `{}`", dir.display()), error))?;
    let create = gix::create::Options {
        destination_must_be_empty: Some(true),
        // Told, not tried out: trying leaves files behind where it is cut off. A bare store has no worktree that would care.
        fs_capabilities: Some(gix::fs::Capabilities {
            precompose_unicode: false,
            ignore_case: false,
            executable_bit: true,
            symlink: true,
        }),
        object_hash: Some(hash),
    };
    gix::ThreadSafeRepository::init_opts(dir, gix::create::Kind::Bare, create, options(limits))
        .map_err(|error| broken(format!("cannot create `{}`", dir.display()), error))?;
    // Hook samples and their like: nothing here ever reads them.
    for name in ["hooks", "info"] {
        let _ = fs::remove_dir_all(dir.join(name));
    }
    let _ = fs::remove_file(dir.join("description"));
    for (name, text) in fixtures(hash) {
        write_durably(&dir.join(name), text.as_bytes())
            .map_err(|error| broken(format!("cannot create `{}`", dir.display()), error))?;
    }
    open(dir, limits)
}

/// Removes a folder and all that is in it, if it is there.
pub(super) fn remove(dir: &Path) -> Result<(), SourceError> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(dir)
            .map_err(|error| broken(format!("cannot remove `{}`", dir.display()), error)),
        Err(error) => Err(broken(format!("cannot remove `{}`", dir.display()), error)),
    }
}

/// Syncs a file or a folder.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Syncs a whole folder, files before the folders that name them.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync(&entry.path())?;
        }
    }
    sync(dir)
}

/// Syncs what one fetch may have written: every pack file younger than the newest ref matters, so all of this call's.
pub(super) fn sync_received(dir: &Path, files: &[PathBuf]) -> Result<(), SourceError> {
    let run = || -> io::Result<()> {
        for file in files {
            sync(file)?;
        }
        vouch::mark(files)?;
        sync(&dir.join("objects/pack"))?;
        sync(&dir.join("objects"))?;
        let shallow = dir.join("shallow");
        if shallow.exists() {
            sync(&shallow)?;
        }
        sync(dir)
    };
    run().map_err(|error| broken(format!("cannot sync `{}`", dir.display()), error))
}

/// Writes a small file durably: temporary file beside it, sync, rename, sync of the folder.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .ok_or_else(|| io::Error::other("a file without a folder"))?;
    create_dirs(dir)?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    // Ends in `.lock`: no reader of refs takes it for one, and the sweep at start removes it.
    let tmp = dir.join(format!("{name}.lock"));
    let written = File::create(&tmp).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&tmp, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    written?;
    sync(dir)
}

/// Creates folders, and syncs each one's parent.
fn create_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dirs(parent)?;
        match fs::create_dir(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        sync(parent)?;
    }
    Ok(())
}

/// Removes what an unclean end leaves behind: temporary packs, lock files, packs without index and the reverse, files
/// of no length where there must be some.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    sweep_locks(dir, 0)?;
    let packs = dir.join("objects/pack");
    let entries = match fs::read_dir(&packs) {
        Ok(entries) => entries,
        Err(error) if is_nothing(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let is_partner_missing = match path.extension().and_then(|ext| ext.to_str()) {
            Some("pack") => !path.with_extension("idx").exists(),
            Some("idx") => !path.with_extension("pack").exists(),
            Some("keep") => true,
            Some(_) | None => false,
        };
        if is_partner_missing || name.starts_with(".tmp") || name.starts_with("tmp_") {
            remove_file(&path)?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// No folder there. A file in its place is found to be no store later, and replaced.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Deepest folder below a store in which we or gix put a lock: `refs/evenkeel/floor/<generation>`.
const LOCKS_DEPTH: usize = 6;

fn sweep_locks(dir: &Path, depth: usize) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_nothing(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if depth < LOCKS_DEPTH && name != "objects" {
                sweep_locks(&entry.path(), depth + 1)?;
            }
        } else if name.to_string_lossy().ends_with(".lock") {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// The ref that remembers a branch's tip. `/` is escaped, so that `a` and `a/b` never stand in each other's way.
fn tip_ref(branch: &str) -> String {
    let mut name = String::from("refs/evenkeel/tip/");
    for byte in branch.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

/// Reads a ref file; an empty or foreign one is damage.
pub(super) fn read_ref(path: &Path) -> Result<Option<ObjectId>, SourceError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(format!("cannot read `{}`", path.display()), error)),
    };
    ObjectId::from_hex(text.trim_end().as_bytes())
        .map(Some)
        .map_err(|_| SourceError::Store {
            what: format!("`{}` holds no commit id", path.display()),
            cause: None,
        })
}

/// The tip as last fetched.
pub(super) fn tip(dir: &Path, branch: &str) -> Result<Option<ObjectId>, SourceError> {
    read_ref(&dir.join(tip_ref(branch)))
}

/// Remembers the tip, durably, and forgets those of other branches. Writes nothing where it is so already.
pub(super) fn set_tip(dir: &Path, branch: &str, id: ObjectId) -> Result<(), SourceError> {
    let path = dir.join(tip_ref(branch));
    if !matches!(read_ref(&path), Ok(Some(seen)) if seen == id) {
        write_durably(&path, format!("{id}\n").as_bytes())
            .map_err(|error| broken(format!("cannot write `{}`", path.display()), error))?;
    }
    if let Some(Ok(entries)) = path.parent().map(fs::read_dir) {
        for entry in entries.flatten() {
            if entry.path() != path {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
    Ok(())
}

/// Whether what the refs name can be read: the tip's commit and tree, and the floors' commits.
pub(super) fn check(dir: &Path, branch: &str, limits: &Limits) -> Result<(), SourceError> {
    let repo = open(dir, limits)?;
    if let Some(tip) = tip(dir, branch)? {
        let commit = object(&repo, tip, Kind::Commit, "the tip")?;
        let tree = gix::objs::CommitRefIter::from_bytes(&commit, tip.kind())
            .tree_id()
            .map_err(|error| broken("the tip does not decode", error))?;
        object(&repo, tree, Kind::Tree, "the tip's tree")?;
    }
    for path in super::floor_ref::files(dir)? {
        if let Some(id) = read_ref(&path)? {
            object(&repo, id, Kind::Commit, "the floor")?;
        }
    }
    Ok(())
}

/// Whether every pack and index is what was written: each ends with a checksum of all before it.
pub(super) fn verify(dir: &Path) -> Result<(), SourceError> {
    let packs = dir.join("objects/pack");
    let entries = match fs::read_dir(&packs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(broken(format!("cannot read `{}`", packs.display()), error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = path
            .extension()
            .is_some_and(|ext| ext == "pack" || ext == "idx");
        if is_ours && !vouch::is_whole(&path).unwrap_or(false) {
            return Err(SourceError::Store {
                what: format!("`{}` is damaged", path.display()),
                cause: None,
            });
        }
    }
    Ok(())
}

/// The hash function of a store, by what its refs hold; SHA-1 where there is none.
fn hash_of(dir: &Path) -> HashKind {
    let tips = fs::read_dir(dir.join("refs/evenkeel/tip"));
    let long = tips
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::metadata(entry.path()).is_ok_and(|data| data.len() > 2 * 20 + 1));
    if long {
        HashKind::Sha256
    } else {
        HashKind::Sha1
    }
}

/// The two files without which a folder is no repository. They never change, so they are written again where they differ.
fn fixtures(kind: HashKind) -> [(&'static str, &'static str); 2] {
    let config = match kind {
        HashKind::Sha256 => {
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n"
        }
        _ => "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    };
    [("HEAD", "ref: refs/heads/main\n"), ("config", config)]
}

/// Puts right what can be without the remote: the store's own fixed files.
pub(super) fn put_right(dir: &Path) -> io::Result<()> {
    if !dir.join("refs/evenkeel/tip").is_dir() {
        return Ok(());
    }
    for (name, text) in fixtures(hash_of(dir)) {
        let path = dir.join(name);
        if !fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
            tracing::warn!("{}: was damaged, and is written again", path.display());
            write_durably(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Stands in a store that was found damaged: the next fetch clones anew, in this process or in another one. It goes with
/// the store. Not synced: what is damaged is found again.
const SUSPECT: &str = "suspect";

/// Marks a store as damaged.
pub(super) fn mark_suspect(dir: &Path) {
    if let Err(error) = File::create(dir.join(SUSPECT)) {
        tracing::debug!(%error, "the damaged git store is not marked");
    }
}

/// Whether a store was found damaged.
pub(super) fn is_suspect(dir: &Path) -> bool {
    dir.join(SUSPECT).exists()
}

/// In a store whose tip is the word of the first of several remotes, before the others were asked.
const UNWEIGHED: &str = "unweighed";

/// Marks a store that is not in place yet: its tip is not the local one before [`weighed`].
pub(super) fn mark_unweighed(fresh: &Path) -> Result<(), SourceError> {
    File::create(fresh.join(UNWEIGHED))
        .map(|_| ())
        .map_err(|error| broken("cannot mark the new store", error))
}

/// Whether its tip waits for the word of the other remotes.
pub(super) fn is_unweighed(dir: &Path) -> bool {
    dir.join(UNWEIGHED).exists()
}

/// Its tip is the local one from now on.
pub(super) fn weighed(dir: &Path) -> Result<(), SourceError> {
    if !is_unweighed(dir) {
        return Ok(());
    }
    // Where a power cut brings the mark back, the others are asked once more.
    fs::remove_file(dir.join(UNWEIGHED)).map_err(|error| broken("cannot unmark it", error))
}

/// Puts `fresh` in place of `dir`, durably. A crash in between leaves `fresh`, which [`settle`] then puts there.
pub(super) fn swap(dir: &Path, fresh: &Path, old: &Path) -> Result<(), SourceError> {
    let run = || -> io::Result<()> {
        sync_tree(fresh)?;
        let parent = dir
            .parent()
            .ok_or_else(|| io::Error::other("a store without a folder"))?;
        // The mark says that `fresh` is whole and may take the place.
        write_durably(&fresh.join("complete"), b"")?;
        if dir.exists() {
            fs::rename(dir, old)?;
        }
        fs::rename(fresh, dir)?;
        sync(parent)
    };
    remove(old)?;
    run().map_err(|error| {
        broken(
            format!(
                "cannot put the new git store in place of `{}`",
                dir.display()
            ),
            error,
        )
    })?;
    // Readers that hold the old one open go on; its space comes back when they close it.
    remove(old)
}

/// Ends a swap that a power cut interrupted.
pub(super) fn settle(dir: &Path, fresh: &Path, old: &Path) -> io::Result<()> {
    if !dir.exists() {
        if fresh.join("complete").exists() {
            fs::rename(fresh, dir)?;
        } else if old.exists() {
            fs::rename(old, dir)?;
        }
        if let Some(parent) = dir.parent() {
            sync(parent)?;
        }
    }
    if dir.exists() {
        // Whichever of them took the place: the others are in nobody's way any more. Only beside a store that is damaged
        // half of a new one is worth something.
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
        if fresh.exists() && !is_suspect(dir) {
            fs::remove_dir_all(fresh)?;
        }
    }
    vouch::settle(dir)?;
    vouch::settle(fresh)
}

/// Whether the store has grown so that writing it anew pays.
pub(super) fn is_overgrown(dir: &Path, limits: &Limits) -> bool {
    /// What may lie beside the biggest pack, and beyond its weight once more, before it counts: so a store stays below
    /// three times what a clone weighs, and is not written anew for each small change of a big one.
    const SLACK: u64 = 512 * 1024;
    let mut sizes: Vec<u64> = fs::read_dir(dir.join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ext| ext == "pack"))
        .filter_map(|entry| entry.metadata().ok())
        .map(|data| data.len())
        .collect();
    sizes.sort_unstable();
    let biggest = sizes.pop().unwrap_or(0);
    sizes.len() + 1 > limits.packs || sizes.iter().sum::<u64>() > biggest.saturating_add(SLACK)
}
