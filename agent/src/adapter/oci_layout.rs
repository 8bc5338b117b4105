//! A folder as an OCI image layout, written: blobs under their digests, each compared before it gets its name, and the index
//! that names the images, replaced whole.
//!
//! Plain files with plain names: a FAT stick and any web server hold them. A document gets its name after everything that it
//! names, so one that is there is whole. Who is killed in between leaves a layout as it was, and unfinished files that are
//! gone on with. Reads its own index, and takes one that does not read for none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::{durable, part, room};
use crate::domain::oci::{
    BLOBS, Descriptor, Digest, Document, INDEX, INDEX_TYPE, LAYOUT, LAYOUT_TEXT, LONGEST_DOCUMENT,
    NAME, Platform,
};

/// What a blob is called before it is whole. Not shown by web servers, and gone on with.
const UNFINISHED: &str = ".unfinished-";
/// The annotation that says for which branch an image is here, and for which platforms.
const BRANCH: &str = "dev.evenkeel.branch.";
/// In place of platforms: each that the image has.
const ALL: &str = "all";

/// A layout.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
}

/// One image of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What `name@sha256:...` names.
    pub image: Descriptor,
    /// The reference.
    pub name: String,
    /// For which branches it is here; for which platforms of an index each (none: all).
    pub branches: BTreeMap<String, Vec<Platform>>,
}

impl Layout {
    /// Opens a layout, or begins one.
    ///
    /// # Errors
    /// The system's.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir.join(BLOBS))?;
        let is_one = fs::read(dir.join(LAYOUT)).is_ok_and(|text| text == LAYOUT_TEXT.as_bytes());
        if !is_one {
            durable::write(dir, LAYOUT, LAYOUT_TEXT.as_bytes(), 0o644)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// A layout to read from: nothing is written there.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }

    /// A blob's file.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.blob())
    }

    /// Whether a blob is here, and what its name says: one that went bad on the disk is fetched again.
    #[must_use]
    pub fn has(&self, blob: &Descriptor) -> bool {
        let path = self.blob(&blob.digest);
        fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() == blob.size)
            && part::digits(&path).is_ok_and(|sum| sum == blob.digest.hex())
    }

    /// A manifest or an index that is here, and is what its name says.
    #[must_use]
    pub fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = bounded(&self.blob(digest), LONGEST_DOCUMENT).ok()?;
        let sum = part::sum(bytes.as_slice()).ok()?;
        (sum == digest.hex()).then_some(bytes)
    }

    /// Whether there is room for so many bytes.
    ///
    /// # Errors
    /// There is not; in words.
    pub fn look_for_room(&self, bytes: u64) -> io::Result<()> {
        room::look(&self.dir, bytes)
    }

    /// Where a blob grows.
    #[must_use]
    pub fn unfinished(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(format!("{UNFINISHED}{}", digest.hex()))
    }

    /// A blob has grown to its end: compared with its digest, and named by it; otherwise removed.
    ///
    /// # Errors
    /// It is another one, or the system's.
    pub fn finish(&self, blob: &Descriptor) -> io::Result<()> {
        let part = self.unfinished(&blob.digest);
        let (size, sum) = (fs::metadata(&part)?.len(), part::digits(&part)?);
        if size != blob.size || sum != blob.digest.hex() {
            let _ = fs::remove_file(&part);
            return Err(io::Error::other(format!(
                "what came is not {}: {size} bytes with SHA-256 {sum}, and its manifest says {} bytes",
                blob.digest, blob.size
            )));
        }
        fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        fs::File::open(&part)?.sync_all()?;
        fs::rename(&part, self.blob(&blob.digest))?;
        durable::sync_dir(&self.blobs())
    }

    /// Gives back what an unfinished blob takes: the disk is full, and others need it.
    pub fn give_up(&self, digest: &Digest) {
        let _ = fs::remove_file(self.unfinished(digest));
    }

    /// Takes a document in, whose bytes were compared already.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if self.document(digest).is_some() {
            return Ok(());
        }
        durable::write(&self.blobs(), digest.hex(), bytes, 0o644)
    }

    /// What the index names.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let Ok(bytes) = bounded(&self.dir.join(INDEX), LONGEST_DOCUMENT) else {
            return Vec::new();
        };
        match Document::parse(&bytes) {
            Ok(Document::Index(index)) => index.manifests.into_iter().filter_map(entry).collect(),
            Ok(Document::Manifest(_)) | Err(_) => Vec::new(),
        }
    }

    /// Writes the index; nothing where it says that already.
    ///
    /// # Errors
    /// The system's.
    pub fn show(&self, entries: &[Entry]) -> io::Result<()> {
        let manifests: Vec<Descriptor> = entries.iter().map(descriptor).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests });
        let mut text = index.to_string().into_bytes();
        text.push(b'\n');
        if bounded(&self.dir.join(INDEX), LONGEST_DOCUMENT).is_ok_and(|old| old == text) {
            return Ok(());
        }
        durable::write(&self.dir, INDEX, &text, 0o644)
    }

    /// Removes the blobs that nothing in the index needs and that are older than this; how many.
    ///
    /// # Errors
    /// The system's; or a document of the index is not there, and then nothing is removed.
    pub fn sweep(&self, keep: Duration) -> io::Result<usize> {
        let mut wanted = BTreeSet::new();
        for entry in self.entries() {
            self.wants(&entry, &mut wanted)?;
        }
        let mut swept = 0;
        for file in fs::read_dir(self.blobs())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let is_blob = format!("sha256:{name}").parse::<Digest>().is_ok();
            let hex = name.strip_prefix(UNFINISHED).unwrap_or(&name);
            let is_ours = is_blob || name.starts_with(UNFINISHED);
            if !is_ours || (is_blob && wanted.contains(hex)) {
                continue;
            }
            let age = file
                .metadata()
                .and_then(|data| data.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age >= keep) {
                fs::remove_file(file.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    fn wants(&self, entry: &Entry, wanted: &mut BTreeSet<String>) -> io::Result<()> {
        let broken = |digest: &Digest, why: &str| {
            io::Error::other(format!(
                "{}: {why}, so nothing is swept: bundle it again",
                self.blob(digest).display()
            ))
        };
        let read = |digest: &Digest| {
            let bytes = self
                .document(digest)
                .ok_or_else(|| broken(digest, "the index names it, and it is not whole"))?;
            Document::parse(&bytes).map_err(|error| broken(digest, &error.to_string()))
        };
        let mut take = |manifest: crate::domain::oci::Manifest| {
            let blobs = manifest.layers.iter().chain([&manifest.config]);
            wanted.extend(blobs.map(|blob| blob.digest.hex().to_owned()));
        };
        let mut documents = vec![entry.image.digest.clone()];
        match read(&entry.image.digest)? {
            Document::Manifest(manifest) => take(manifest),
            Document::Index(index) => {
                for platforms in entry.branches.values() {
                    let chosen = index
                        .for_platforms(platforms)
                        .map_err(|error| broken(&entry.image.digest, &error.to_string()))?;
                    for one in chosen {
                        documents.push(one.digest.clone());
                        if let Document::Manifest(manifest) = read(&one.digest)? {
                            take(manifest);
                        }
                    }
                }
            }
        }
        wanted.extend(documents.iter().map(|digest| digest.hex().to_owned()));
        Ok(())
    }
}

fn entry(mut image: Descriptor) -> Option<Entry> {
    let said = std::mem::take(&mut image.annotations);
    let mut branches = BTreeMap::new();
    for (key, value) in &said {
        if let Some(branch) = key.strip_prefix(BRANCH) {
            let platforms = if value == ALL {
                Vec::new()
            } else {
                let parsed: Result<_, _> = value.split(',').map(str::parse).collect();
                parsed.ok()?
            };
            branches.insert(branch.to_owned(), platforms);
        }
    }
    let name = said.get(NAME)?.clone();
    Some(Entry {
        image,
        name,
        branches,
    })
}

fn descriptor(entry: &Entry) -> Descriptor {
    let mut image = entry.image.clone();
    image
        .annotations
        .insert(NAME.to_owned(), entry.name.clone());
    for (branch, platforms) in &entry.branches {
        let text: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        let text = if text.is_empty() {
            ALL.to_owned()
        } else {
            text.join(",")
        };
        image.annotations.insert(format!("{BRANCH}{branch}"), text);
    }
    image
}

fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other("it is too long"));
    }
    Ok(bytes)
}
