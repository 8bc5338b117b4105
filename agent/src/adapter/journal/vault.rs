//! sled, wrapped until it can be believed: durable, authenticated, and never fed what it cannot keep safely.
//!
//! What sled 0.34 does not do, and this room does:
//! * Its `flush()` is `sync_file_range`: no metadata, no drive cache. Each durable step here fsyncs the log as well,
//!   and, where the database is new, every file and directory of it.
//! * A value or page above a quarter of a segment goes to a file of its own that is never synced, and that a power cut
//!   leaves empty behind a log that names it. So nothing big is given to sled: what is longer than [`CHUNK`] is cut up,
//!   and [`SEGMENT`] holds a whole page of chunks (sled splits a page at 17 items). Should one appear all the same, it
//!   is synced with the rest.
//! * A flipped byte makes it open silently older. Every value carries an HMAC of the device's key over its place, its
//!   layout and its payload; one that does not fit counts as not there and is reported. Going back as a whole is
//!   noticed by the sequence that the floor file keeps.
//! * A snapshot that was cut off while it was made is taken for a whole one, and the database for corrupted: such ones are
//!   removed before it opens.
//!
//! Two trees: `records` (small, named; the pointer of each change) and `chunks` (contents by their SHA-256). A change
//! first makes its chunks durable, then moves its records in one batch.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::adapter::durable;
use crate::adapter::state_dir::DeviceKey;
use crate::domain::revision::ContentId;
use crate::domain::storage::Storage;

/// Of sled's cache. The ledger is in memory; what is read later is read once.
const CACHE: u64 = 1024 * 1024;
/// Of the log. A quarter of it holds a page of 17 chunks; each clean close pads one segment, so not more than needed.
const SEGMENT: usize = 128 * 1024;
/// What a database may weigh beside twice its contents before it is written anew: a fresh one has one segment, and sled
/// needs two or three to work in.
const GROWN: u64 = 3 * SEGMENT as u64;
/// The longest piece of a content, and the longest record that is kept in one piece.
const CHUNK: usize = 1200;
/// Layout of a sealed value: this byte, the MAC, the payload.
const VERSION: u8 = 1;
const MAC: usize = 32;
/// A record's payload stands in it.
const INLINE: u8 = 0;
/// A record's payload is a content; its id stands in the record.
const BY_ID: u8 = 1;

const RECORDS: &str = "records";
const CHUNKS: &str = "chunks";

/// Why the vault did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum VaultError {
    /// sled found itself damaged, or used wrongly.
    #[error("the database failed")]
    Sled(#[source] sled::Error),
    /// The system refused sled something.
    #[error("the database failed")]
    Io(#[source] io::Error),
    /// The system refused a sync.
    #[error("the database cannot be synced to disk")]
    Sync(#[source] io::Error),
    /// There is no room, or no way to write.
    #[error("its disk takes no write")]
    Room(#[source] io::Error),
    /// It is open for reading alone, from a copy.
    #[error("it is read from a copy, for its disk takes no write")]
    Copy,
    /// A value is damaged, or was written under another key.
    #[error("`{0}` is damaged, or was written under another key")]
    Damaged(String),
    /// A content is not there.
    #[error("the content {0} is not kept here")]
    Missing(ContentId),
}

impl From<sled::Error> for VaultError {
    fn from(error: sled::Error) -> Self {
        match error {
            // The first error that sled meets is the one it answers with from then on, in words: the number is in them.
            sled::Error::Io(cause) if cause.raw_os_error().is_none() => {
                Self::Io(number_in(&cause.to_string()).map_or(cause, io::Error::from_raw_os_error))
            }
            sled::Error::Io(cause) => Self::Io(cause),
            other => Self::Sled(other),
        }
    }
}

/// The number in the `Debug` text of a system error.
fn number_in(text: &str) -> Option<i32> {
    let (_, after) = text.split_once("Os { code: ")?;
    after.split_once(',')?.0.parse().ok()
}

/// One change of a named record.
pub(super) struct Change {
    pub(super) name: String,
    /// `None` removes it.
    pub(super) payload: Option<Vec<u8>>,
}

/// A record as it was read.
pub(super) struct Record {
    pub(super) name: String,
    pub(super) payload: Result<Vec<u8>, VaultError>,
    /// The content it stands in, where it is long.
    pub(super) by_id: Option<ContentId>,
}

#[derive(Debug)]
struct Handles {
    db: sled::Db,
    records: sled::Tree,
    chunks: sled::Tree,
}

#[derive(Debug)]
pub(super) struct Vault {
    handles: Option<Handles>,
    dir: PathBuf,
    key: DeviceKey,
    synced: RefCell<BTreeSet<OsString>>,
}

impl Vault {
    /// Opens the database in `dir`, or makes it. What comes from damage and what from the moment: [`is_damage`].
    pub(super) fn open(dir: &Path, key: &DeviceKey) -> Result<Self, VaultError> {
        drop_unfinished_snapshots(dir).map_err(VaultError::Io)?;
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE)
            .segment_size(SEGMENT)
            .flush_every_ms(None)
            .open()?;
        let vault = Self {
            handles: Some(Handles {
                records: db.open_tree(RECORDS)?,
                chunks: db.open_tree(CHUNKS)?,
                db,
            }),
            dir: dir.to_owned(),
            key: key.clone(),
            synced: RefCell::default(),
        };
        vault.sync_whole().map_err(VaultError::Sync)?;
        Ok(vault)
    }

    fn handles(&self) -> &Handles {
        self.handles
            .as_ref()
            .expect("they are taken by drop and leave alone, which end the vault")
    }

    /// Ends without closing: all is durable already, and sled panics where its own last sync fails. The database stays
    /// locked until the process ends.
    pub(super) fn leave(mut self) {
        std::mem::forget(self.handles.take());
    }

    /// Writes everything into a new database, byte for byte: what is sealed here is sealed there, and what is damaged
    /// stays so.
    pub(super) fn copy_to(&self, dir: &Path) -> Result<(), VaultError> {
        let to = Self::open(dir, &self.key)?;
        let (from, into) = (self.handles(), to.handles());
        for (from, into) in [(&from.records, &into.records), (&from.chunks, &into.chunks)] {
            for entry in from {
                let (key, sealed) = entry?;
                into.insert(key, sealed)?;
            }
        }
        to.sync_whole().map_err(VaultError::Sync)
    }

    /// Whether it weighs far more on disk than what is in it. sled frees segments late, and pads one at each close.
    pub(super) fn is_overgrown(&self) -> bool {
        let Ok(weight) = weight(&self.dir) else {
            return false;
        };
        if weight <= GROWN {
            return false;
        }
        let handles = self.handles();
        let inside: u64 = [&handles.records, &handles.chunks]
            .into_iter()
            .flat_map(|tree| tree.iter().flatten())
            .map(|(key, sealed)| (key.len() + sealed.len()) as u64)
            .sum();
        weight > GROWN + 2 * inside
    }

    /// Every record, damaged ones as such.
    pub(super) fn records(&self) -> Result<Vec<Record>, VaultError> {
        let mut found = Vec::new();
        for entry in &self.handles().records {
            let (key, sealed) = entry?;
            let name = String::from_utf8_lossy(&key).into_owned();
            let (payload, by_id) = match self.open_record(&name, &sealed) {
                Ok((payload, by_id)) => (Ok(payload), by_id),
                Err(error @ (VaultError::Damaged(_) | VaultError::Missing(_))) => {
                    (Err(error), None)
                }
                Err(error) => return Err(error),
            };
            found.push(Record {
                name,
                payload,
                by_id,
            });
        }
        Ok(found)
    }

    fn open_record(
        &self,
        name: &str,
        sealed: &[u8],
    ) -> Result<(Vec<u8>, Option<ContentId>), VaultError> {
        let damaged = || VaultError::Damaged(name.to_owned());
        let payload = self
            .unseal(RECORDS, name.as_bytes(), sealed)
            .ok_or_else(damaged)?;
        match payload.split_first().ok_or_else(damaged)? {
            (&INLINE, rest) => Ok((rest.to_vec(), None)),
            (&BY_ID, rest) => {
                let id = String::from_utf8(rest.to_vec())
                    .ok()
                    .and_then(|text| ContentId::try_from(text).ok())
                    .ok_or_else(damaged)?;
                match self.content(&id) {
                    Ok(payload) => Ok((payload, Some(id))),
                    Err(VaultError::Missing(_)) => Err(damaged()),
                    Err(error) => Err(error),
                }
            }
            _ => Err(damaged()),
        }
    }

    /// Makes contents durable, then moves the records in one batch and makes that durable. Returns the contents that
    /// long records stand in, by name.
    pub(super) fn apply(
        &self,
        contents: &[(&ContentId, &[u8])],
        changes: &[Change],
    ) -> Result<Vec<(String, Option<ContentId>)>, VaultError> {
        let mut batch = sled::Batch::default();
        let mut places = Vec::new();
        let mut chunked = false;
        for (id, bytes) in contents {
            chunked |= self.put_content(id, bytes)?;
        }
        for Change { name, payload } in changes {
            let mut by_id = None;
            match payload {
                None => batch.remove(name.as_bytes()),
                Some(payload) => {
                    let mut body = Vec::with_capacity(payload.len().min(CHUNK) + 65);
                    if payload.len() <= CHUNK {
                        body.push(INLINE);
                        body.extend_from_slice(payload);
                    } else {
                        let id = ContentId::of(payload);
                        chunked |= self.put_content(&id, payload)?;
                        body.push(BY_ID);
                        body.extend_from_slice(id.as_str().as_bytes());
                        by_id = Some(id);
                    }
                    let sealed = self.seal(RECORDS, name.as_bytes(), &body);
                    batch.insert(name.as_bytes(), sealed);
                }
            }
            places.push((name.clone(), by_id));
        }
        if chunked {
            self.make_durable()?;
        }
        self.handles().records.apply_batch(batch)?;
        self.make_durable()?;
        Ok(places)
    }

    /// Writes a content's chunks, unless it is there and whole. Whether anything was written.
    fn put_content(&self, id: &ContentId, bytes: &[u8]) -> Result<bool, VaultError> {
        match self.content(id) {
            Ok(_) => return Ok(false),
            Err(VaultError::Missing(_) | VaultError::Damaged(_)) => {}
            Err(error) => return Err(error),
        }
        self.remove_content(id)?;
        let mut at = 0u32;
        let mut rest = bytes;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(CHUNK));
            let key = chunk_key(id, at);
            let sealed = self.seal(CHUNKS, &key, piece);
            self.handles().chunks.insert(&key, sealed)?;
            rest = after;
            at += 1;
            if rest.is_empty() {
                return Ok(true);
            }
        }
    }

    /// A content, proved to be the one its id names.
    pub(super) fn content(&self, id: &ContentId) -> Result<Vec<u8>, VaultError> {
        let mut bytes = Vec::new();
        let mut any = false;
        for entry in self.handles().chunks.scan_prefix(id.as_str().as_bytes()) {
            let (key, sealed) = entry?;
            let piece = self
                .unseal(CHUNKS, &key, &sealed)
                .ok_or_else(|| VaultError::Damaged(id.to_string()))?;
            bytes.extend_from_slice(piece);
            any = true;
        }
        if !any {
            return Err(VaultError::Missing(id.clone()));
        }
        if ContentId::of(&bytes) != *id {
            return Err(VaultError::Damaged(id.to_string()));
        }
        Ok(bytes)
    }

    /// Drops one content. Durable with the next change: dropped late is no harm.
    pub(super) fn remove_content(&self, id: &ContentId) -> Result<(), VaultError> {
        let mut batch = sled::Batch::default();
        for key in self
            .handles()
            .chunks
            .scan_prefix(id.as_str().as_bytes())
            .keys()
        {
            batch.remove(key?);
        }
        Ok(self.handles().chunks.apply_batch(batch)?)
    }

    /// Drops every content that is not needed.
    pub(super) fn sweep(&self, needed: &BTreeSet<ContentId>) -> Result<(), VaultError> {
        let mut batch = sled::Batch::default();
        for key in self.handles().chunks.iter().keys() {
            let key = key?;
            let known = key
                .get(..64)
                .and_then(|id| String::from_utf8(id.to_vec()).ok())
                .and_then(|text| ContentId::try_from(text).ok())
                .is_some_and(|id| needed.contains(&id));
            if !known {
                batch.remove(key);
            }
        }
        Ok(self.handles().chunks.apply_batch(batch)?)
    }

    #[cfg(test)]
    pub(super) fn chunk_count(&self) -> usize {
        self.handles().chunks.len()
    }

    fn mac(&self, tree: &str, key: &[u8], payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.bytes())
            .expect("HMAC takes keys of any length");
        // Lengths first, so that no two places spell the same bytes.
        for part in [tree.as_bytes(), key] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.update(&[VERSION]);
        mac.update(payload);
        mac
    }

    fn seal(&self, tree: &str, key: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(1 + MAC + payload.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.mac(tree, key, payload).finalize().into_bytes());
        sealed.extend_from_slice(payload);
        sealed
    }

    fn unseal<'a>(&self, tree: &str, key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (&VERSION, rest) = sealed.split_first()? else {
            return None;
        };
        let (mac, payload) = rest.split_at_checked(MAC)?;
        self.mac(tree, key, payload).verify_slice(mac).ok()?;
        Some(payload)
    }

    fn make_durable(&self) -> Result<(), VaultError> {
        self.handles().db.flush()?;
        self.sync_files().map_err(VaultError::Sync)
    }

    /// Syncs what sled does not: side files not synced before, then the log.
    fn sync_files(&self) -> io::Result<()> {
        let mut synced = self.synced.borrow_mut();
        for dir in [self.dir.join("blobs"), self.dir.clone()] {
            let mut fresh = false;
            for entry in entries(&dir)? {
                let entry = entry?;
                if entry.file_name() == "db" || !entry.file_type()?.is_file() {
                    continue;
                }
                let name = Path::new(dir.file_name().unwrap_or_default())
                    .join(entry.file_name())
                    .into_os_string();
                if !synced.contains(&name) {
                    match File::open(entry.path()) {
                        Ok(file) => file.sync_all()?,
                        // sled removed it in the meantime.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                    synced.insert(name);
                    fresh = true;
                }
            }
            if fresh {
                durable::sync_dir(&dir)?;
            }
        }
        File::open(self.dir.join("db"))?.sync_all()
    }

    fn sync_whole(&self) -> io::Result<()> {
        self.handles().db.flush().map_err(io::Error::other)?;
        self.sync_files()?;
        durable::sync_dir(&self.dir)?;
        match self.dir.parent() {
            Some(parent) => durable::sync_dir(parent),
            None => Ok(()),
        }
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let Some(handles) = self.handles.take() else {
            return;
        };
        // sled's own end syncs, and panics where that fails; after an error of its own it does neither.
        if handles.db.flush().is_ok() && self.sync_files().is_err() {
            std::mem::forget(handles);
        }
    }
}

/// Removes snapshots that sled did not finish. It makes one at an open after an unclean end, as `snap.<n>.generating`, and
/// takes that for a finished one where it was cut off in the middle (or the disk was full); then the whole database counts
/// as corrupted. A snapshot only spares reading the log, which holds everything.
fn drop_unfinished_snapshots(dir: &Path) -> io::Result<()> {
    for entry in entries(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Blocks that the files of a database take.
fn weight(dir: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in entries(dir)? {
        bytes += entry?.metadata()?.blocks() * 512;
    }
    Ok(bytes)
}

fn entries(dir: &Path) -> io::Result<Vec<io::Result<std::fs::DirEntry>>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn chunk_key(id: &ContentId, at: u32) -> Vec<u8> {
    let mut key = id.as_str().as_bytes().to_vec();
    key.extend_from_slice(&at.to_be_bytes());
    key
}

/// Whether an error of opening comes from what is on the disk, so that setting it aside helps. A full, read-only or
/// failing disk, missing rights or a lock still held are of the moment: what is stored is good, and must not be set
/// aside for them.
pub(super) fn is_damage(error: &VaultError) -> bool {
    use io::ErrorKind as Kind;
    match error {
        VaultError::Io(cause) => {
            Storage::of(cause).is_none()
                && !matches!(
                    cause.kind(),
                    Kind::PermissionDenied | Kind::OutOfMemory | Kind::WouldBlock | Kind::Interrupted
                )
                && !is_locked(error)
                // No more descriptors (here, or in the whole system).
                && !matches!(cause.raw_os_error(), Some(23 | 24))
        }
        VaultError::Sled(_) | VaultError::Damaged(_) | VaultError::Missing(_) => true,
        VaultError::Sync(_) | VaultError::Room(_) | VaultError::Copy => false,
    }
}

/// Whether a former handle still holds the database: sled's threads let go of it a moment late.
pub(super) fn is_locked(error: &VaultError) -> bool {
    // sled's own text has the system's number in it, by which it was understood; nothing else there ends with that number.
    matches!(error, VaultError::Io(cause) if cause.kind() == io::ErrorKind::WouldBlock)
}
