//! The floor's copy that lives as a ref: `refs/evenkeel/floor/<generation>/<time>` holds the commit's id.
//!
//! It also keeps the floor's commit reachable, so that compaction carries it over. Written only where the commit is in
//! the store: a ref to nothing would stop every later fetch.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::Kind;

use super::limits::Limits;
use super::store::{broken, open, read_ref, sync, write_durably};
use crate::adapter::git_objects::object;
use crate::domain::history::Floor;
use crate::domain::revision::Timestamp;
use crate::port::source::SourceError;

const ROOT: &str = "refs/evenkeel/floor";

fn list(dir: &Path) -> Result<Vec<(String, PathBuf)>, SourceError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(broken(format!("cannot read `{}`", dir.display()), error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|error| broken(format!("cannot read `{}`", dir.display()), error))?;
        all.push((
            entry.file_name().to_string_lossy().into_owned(),
            entry.path(),
        ));
    }
    all.sort();
    Ok(all)
}

/// Every floor ref: generation, time and file.
fn refs(store: &Path) -> Result<Vec<(u64, i64, PathBuf)>, SourceError> {
    let mut all = Vec::new();
    for (generation, dir) in list(&store.join(ROOT))? {
        let Ok(generation) = generation.parse::<u64>() else {
            continue;
        };
        for (time, path) in list(&dir)? {
            // `.lock` files of an unclean end are no numbers.
            if let Ok(time) = time.parse::<i64>() {
                all.push((generation, time, path));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// The files of all floor refs.
pub(super) fn files(store: &Path) -> Result<Vec<PathBuf>, SourceError> {
    Ok(refs(store)?.into_iter().map(|(_, _, path)| path).collect())
}

/// The newest floor. Its commit is in the store wherever a ref was written, so an id that leads to none is damage: the ref
/// has no checksum of its own.
pub(super) fn read(store: &Path, limits: &Limits) -> Result<Option<Floor>, SourceError> {
    let Some((generation, time, path)) = refs(store)?.pop() else {
        return Ok(None);
    };
    let Some(id) = read_ref(&path)? else {
        return Ok(None);
    };
    object(&open(store, limits)?, id, Kind::Commit, "the floor")?;
    let commit = id
        .to_string()
        .parse()
        .map_err(|error| broken("the floor's ref", error))?;
    Ok(Some(Floor {
        generation,
        commit,
        time: Timestamp(time),
    }))
}

/// Writes the floor's ref and then removes the others.
pub(super) fn write(
    store: &Path,
    repo: &gix::Repository,
    floor: &Floor,
) -> Result<(), SourceError> {
    let id = ObjectId::from_hex(floor.commit.as_str().as_bytes())
        .map_err(|error| broken("the floor's commit id", error))?;
    let Some(_) = super::graph::parents(repo, id) else {
        return Err(SourceError::Store {
            what: format!(
                "the floor {} is not in the store, so no ref can name it",
                floor.commit
            ),
            cause: None,
        });
    };
    let dir = store.join(ROOT);
    let path = dir
        .join(floor.generation.to_string())
        .join(floor.time.0.to_string());
    let run = || -> io::Result<()> {
        if !matches!(read_ref(&path), Ok(Some(seen)) if seen == id) {
            write_durably(&path, format!("{id}\n").as_bytes())?;
        }
        let others = refs(store).map_err(io::Error::other)?;
        for (_, _, other) in others.iter().filter(|(_, _, other)| *other != path) {
            fs::remove_file(other)?;
            if let Some(dir) = other.parent() {
                // Fails where it holds the new one.
                if fs::remove_dir(dir).is_err() {
                    sync(dir)?;
                }
            }
        }
        if others.len() > 1 {
            sync(&dir)?;
        }
        Ok(())
    };
    run().map_err(|error| broken("cannot write the floor's ref", error))
}

/// Carries a readable floor ref over to another store, where its commit is in it. What cannot be carried is lost here
/// only: the floor has two more copies, and the loop writes this one again.
pub(super) fn carry(from: &Path, to: &Path, repo: &gix::Repository, limits: &Limits) {
    if let Ok(Some(floor)) = read(from, limits)
        && let Err(error) = write(to, repo, &floor)
    {
        tracing::warn!(%error, "the floor's ref was not carried over to the new git store");
    }
}
