//! Which packs are on the disk for sure.
//!
//! A pack and its index show under their names before either is synced. After a power cut the index may be there whole and
//! the pack empty: then the store seems to have objects that cannot be read, and would never ask for them again. So beside
//! each pair that was synced stands an empty file, `pack-<id>.synced`, made after the syncs: where it is, so are they.
//!
//! What stands without it at a start was cut off, or another version of the agent fetched it: it is hashed, and vouched for
//! or removed. No ref names it yet, or it is whole.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gix::hash::Kind as HashKind;

use super::store::sync;

/// The mark's extension.
const SYNCED: &str = "synced";

/// Marks packs that were synced just now. The mark is as durable as the next sync of their folder makes it.
pub(super) fn mark(files: &[PathBuf]) -> io::Result<()> {
    for pack in files.iter().filter(|file| has_extension(file, "pack")) {
        File::create(pack.with_extension(SYNCED))?;
    }
    Ok(())
}

/// Looks at the packs of a store that may have been left in the middle of a fetch.
pub(super) fn settle(store: &Path) -> io::Result<()> {
    let packs = store.join("objects/pack");
    let entries = match fs::read_dir(&packs) {
        Ok(entries) => entries,
        Err(error) if super::store::is_nothing(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut changed = false;
    for entry in entries {
        let path = entry?.path();
        if has_extension(&path, SYNCED) {
            if !path.with_extension("pack").exists() {
                remove(&path)?;
                changed = true;
            }
        } else if has_extension(&path, "pack") && !path.with_extension(SYNCED).exists() {
            let index = path.with_extension("idx");
            if is_whole(&path)? && is_whole(&index)? {
                sync(&path)?;
                sync(&index)?;
                File::create(path.with_extension(SYNCED))?;
            } else {
                tracing::info!(pack = %path.display(), "was cut off while it was fetched: removed");
                // The index first: a pack without one is not seen.
                remove(&index)?;
                remove(&path)?;
            }
            changed = true;
        }
    }
    if changed {
        sync(&packs)?;
    }
    Ok(())
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension()
        .is_some_and(|extension| extension == wanted)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a pack or an index ends with the hash of all before it (gitformat-pack).
pub(super) fn is_whole(path: &Path) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // `pack-<id>` is named by a hash of the same function.
    let digits = path
        .file_stem()
        .map_or(0, |stem| stem.len())
        .saturating_sub("pack-".len());
    let kind = HashKind::from_hex_len(digits).unwrap_or(HashKind::Sha1);
    let Some(mut left) = file
        .metadata()?
        .len()
        .checked_sub(kind.len_in_bytes() as u64)
    else {
        return Ok(false);
    };
    let mut hasher = gix::hash::hasher(kind);
    let mut piece = vec![0; 64 * 1024];
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = file.read(&mut piece[..most])?;
        if read == 0 {
            return Ok(false);
        }
        hasher.update(&piece[..read]);
        left -= read as u64;
    }
    let mut told = Vec::new();
    file.read_to_end(&mut told)?;
    let is = hasher.try_finalize().map_err(io::Error::other)?;
    Ok(is.as_slice() == told)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A store with one pair of files that end as packs do.
    fn store() -> (tempfile::TempDir, PathBuf) {
        let store = tempfile::tempdir().unwrap();
        let packs = store.path().join("objects/pack");
        fs::create_dir_all(&packs).unwrap();
        let pack = packs.join(format!("pack-{}.pack", "a".repeat(40)));
        for (path, body) in [
            (pack.clone(), "a pack"),
            (pack.with_extension("idx"), "an index"),
        ] {
            let mut hasher = gix::hash::hasher(HashKind::Sha1);
            hasher.update(body.as_bytes());
            let digest = hasher.try_finalize().unwrap();
            fs::write(path, [body.as_bytes(), digest.as_slice()].concat()).unwrap();
        }
        (store, pack)
    }

    fn names(pack: &Path) -> usize {
        fs::read_dir(pack.parent().unwrap()).unwrap().count()
    }

    #[test]
    fn a_whole_pack_is_vouched_for_and_not_hashed_again() {
        let (store, pack) = store();
        settle(store.path()).unwrap();
        assert_eq!(names(&pack), 3);
        // Damage that comes later is for those who read: it stays.
        fs::write(&pack, "").unwrap();
        settle(store.path()).unwrap();
        assert_eq!(names(&pack), 3);
    }

    #[test]
    fn a_pack_that_was_cut_off_is_removed_with_its_index() {
        for (extension, content) in [
            ("pack", ""),
            ("idx", ""),
            ("pack", "a pack, but no hash behind it at all"),
        ] {
            let (store, pack) = store();
            fs::write(pack.with_extension(extension), content).unwrap();
            settle(store.path()).unwrap();
            assert_eq!(names(&pack), 0, "{extension} {content}");
        }
    }

    #[test]
    fn a_mark_without_its_pack_goes() {
        let (store, pack) = store();
        mark(std::slice::from_ref(&pack)).unwrap();
        fs::remove_file(&pack).unwrap();
        fs::remove_file(pack.with_extension("idx")).unwrap();
        settle(store.path()).unwrap();
        assert_eq!(names(&pack), 0);
    }
}
