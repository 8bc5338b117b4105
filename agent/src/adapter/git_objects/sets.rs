//! The folder `trust/` of a tree, and `fleet.toml` beside it.
//!
//! Takes regular files alone (a symlink is none) and leaves out what is larger than trust would ever read: a set that
//! is left out is adopted by nobody.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use gix::ObjectId;
use gix::objs::Kind;

use super::walk::Place;
use super::{Entry, Mode, damaged, entries, object};
use crate::domain::commit::TrustFolder;
use crate::port::source::SourceError;

/// Bytes of one `allowed_signers` or `fleet.toml`. 1 MiB: some ten thousand keys.
const FILE: u64 = 1024 * 1024;
/// Bytes of one signature. 16 KiB: one of an RSA key of 16 384 bits, armored, has 6.
const SIGNATURE: u64 = 16 * 1024;
/// Signatures beside one set: a threshold is some few.
const SIGNATURES: usize = 64;

/// What the trust sets of a history were read from: each distinct folder is read once.
pub(super) struct Sets<'a> {
    repo: &'a gix::Repository,
    /// Whether a tree must be here. On a device a set that a server withholds must not go unnoticed.
    place: Place,
    trees: HashMap<ObjectId, Option<Arc<TrustFolder>>>,
    folders: HashMap<(ObjectId, Option<ObjectId>), Option<Arc<TrustFolder>>>,
    bytes: u64,
}

fn file(entries: &[Entry], name: &str) -> Option<ObjectId> {
    let entry = entries.iter().find(|entry| entry.name == name)?;
    match entry.mode {
        Mode::File => Some(entry.id),
        Mode::Folder | Mode::Symlink | Mode::Submodule => None,
    }
}

impl<'a> Sets<'a> {
    pub(super) fn new(repo: &'a gix::Repository, place: Place) -> Self {
        Self {
            repo,
            place,
            trees: HashMap::new(),
            folders: HashMap::new(),
            bytes: 0,
        }
    }

    /// How many bytes were read so far.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The trust set that a tree carries.
    pub(super) fn of(&mut self, tree: ObjectId) -> Result<Option<Arc<TrustFolder>>, SourceError> {
        if let Some(known) = self.trees.get(&tree) {
            return Ok(known.clone());
        }
        if self.place == Place::Beyond && !self.repo.has_object(tree) {
            return Ok(None);
        }
        let root = entries(self.repo, tree, "")?;
        let folder = root.iter().find(|entry| entry.name == "trust");
        let found = match folder {
            Some(Entry {
                mode: Mode::Folder,
                id,
                ..
            }) => self.folder(*id, file(&root, "fleet.toml"))?,
            Some(_) | None => None,
        };
        self.trees.insert(tree, found.clone());
        Ok(found)
    }

    fn folder(
        &mut self,
        id: ObjectId,
        fleet: Option<ObjectId>,
    ) -> Result<Option<Arc<TrustFolder>>, SourceError> {
        if let Some(known) = self.folders.get(&(id, fleet)) {
            return Ok(known.clone());
        }
        let inside = entries(self.repo, id, "trust")?;
        let allowed_signers = match file(&inside, "allowed_signers") {
            Some(blob) => self.blob(blob, FILE, "trust/allowed_signers")?,
            None => None,
        };
        let mut signatures = BTreeMap::new();
        for entry in &inside {
            let is_one = entry.name == "allowed_signers.sig"
                || entry.name.starts_with("allowed_signers.sig.");
            match entry.mode {
                Mode::File if is_one && signatures.len() < SIGNATURES => {}
                Mode::File | Mode::Folder | Mode::Symlink | Mode::Submodule => continue,
            }
            if let Some(bytes) = self.blob(entry.id, SIGNATURE, "trust/allowed_signers.sig")? {
                signatures.insert(entry.name.clone(), bytes);
            }
        }
        let found = if allowed_signers.is_none() && signatures.is_empty() {
            None
        } else {
            let fleet_bytes = match fleet {
                Some(blob) => self.blob(blob, FILE, "fleet.toml")?,
                None => None,
            };
            Some(Arc::new(TrustFolder {
                id: id.to_string(),
                allowed_signers,
                signatures,
                fleet: fleet_bytes,
            }))
        };
        self.folders.insert((id, fleet), found.clone());
        Ok(found)
    }

    /// A file's bytes; `None` where it is larger than `most`.
    fn blob(&mut self, id: ObjectId, most: u64, at: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let size = self
            .repo
            .find_header(id)
            .map_err(|error| damaged(format!("cannot read `{at}`"), Some(error.into())))?
            .size();
        if size > most {
            return Ok(None);
        }
        self.bytes += size;
        object(self.repo, id, Kind::Blob, at).map(Some)
    }
}
