//! `carried/` in the state directory: of each image that was taken from a tree, the documents that lead from the digest which a
//! commit pins to the ids that engines give the image.
//!
//! An engine knows an image that it was given by its configuration's digest (or its manifest's, on containerd's store), and not
//! by the name and digest in the commit, for no registry told it those. What is kept here is no verdict: the documents are
//! hashed anew by whoever reads them, so a file that was changed names nothing.
//!
//! One small file an image, written when it has been taken, synced; the oldest go. Where one is lost, the image is taken or
//! pulled again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::adapter::durable;
use crate::adapter::part;
use crate::domain::oci::{Digest, Document, LONGEST_DOCUMENT};

const DIR: &str = "carried";
/// More than the images of three kept revisions on a large device.
const MOST: usize = 256;

/// How an image is told from others: from what a commit pins to what engines know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chain {
    /// Where the pinned digest is an index's.
    index: Option<String>,
    manifest: String,
}

/// What an engine may call an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::adapter::engine) struct Ids {
    /// Of Docker's own store and of Podman's.
    pub(in crate::adapter::engine) config: Digest,
    /// Of containerd's.
    pub(in crate::adapter::engine) manifest: Digest,
}

fn digest(bytes: &[u8]) -> Option<Digest> {
    format!("sha256:{}", part::sum(bytes).ok()?).parse().ok()
}

impl Chain {
    pub(super) fn new(index: Option<&[u8]>, manifest: &[u8]) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let index = match index {
            Some(bytes) => Some(text(bytes)?),
            None => None,
        };
        Some(Self {
            index,
            manifest: text(manifest)?,
        })
    }

    /// Where it leads from this digest; `None` where it does not begin there or breaks off.
    pub(super) fn ids(&self, pinned: &Digest) -> Option<Ids> {
        let manifest = digest(self.manifest.as_bytes())?;
        match &self.index {
            None if manifest != *pinned => return None,
            None => {}
            Some(index) => {
                if digest(index.as_bytes())? != *pinned {
                    return None;
                }
                let Document::Index(index) = Document::parse(index.as_bytes()).ok()? else {
                    return None;
                };
                index.manifests.iter().find(|one| one.digest == manifest)?;
            }
        }
        match Document::parse(self.manifest.as_bytes()).ok()? {
            Document::Manifest(found) => Some(Ids {
                config: found.config.digest,
                manifest,
            }),
            Document::Index(_) => None,
        }
    }
}

/// What was taken.
#[derive(Debug, Default)]
pub(in crate::adapter::engine) struct Known {
    /// `None`: nothing is written down, and it holds for this process.
    dir: Option<PathBuf>,
    read: RefCell<BTreeMap<Digest, Option<Ids>>>,
}

impl Known {
    pub(in crate::adapter::engine) fn open(state_dir: PathBuf) -> Self {
        Self {
            dir: Some(state_dir.join(DIR)),
            read: RefCell::default(),
        }
    }

    /// What engines may call the image that this digest pins, if it was taken from a tree.
    pub(in crate::adapter::engine) fn ids(&self, pinned: &Digest) -> Option<Ids> {
        if let Some(known) = self.read.borrow().get(pinned) {
            return known.clone();
        }
        let read = || {
            let path = self.dir.as_ref()?.join(pinned.hex());
            let mut text = Vec::new();
            let most = 4 * LONGEST_DOCUMENT;
            fs::File::open(path)
                .ok()?
                .take(most)
                .read_to_end(&mut text)
                .ok()?;
            serde_json::from_slice::<Chain>(&text).ok()?.ids(pinned)
        };
        let found = read();
        self.read.borrow_mut().insert(pinned.clone(), found.clone());
        found
    }

    /// The digest that pins an image, by what an engine calls it. Of those that were asked for.
    pub(in crate::adapter::engine) fn pinned(&self, id: &str) -> Option<Digest> {
        let read = self.read.borrow();
        let mut known = read.iter();
        known.find_map(|(pinned, ids)| {
            let ids = ids.as_ref()?;
            let is_it = ids.config.as_str() == id || ids.manifest.as_str() == id;
            is_it.then(|| pinned.clone())
        })
    }

    /// It was taken, and is on disk.
    pub(super) fn add(&self, pinned: &Digest, chain: &Chain) -> io::Result<()> {
        let Some(ids) = chain.ids(pinned) else {
            return Err(io::Error::other("its documents do not fit together"));
        };
        if let Some(dir) = &self.dir {
            fs::create_dir_all(dir)?;
            let text = serde_json::to_vec(chain).map_err(io::Error::other)?;
            durable::write(dir, pinned.hex(), &text, 0o600)?;
            self.sweep(dir);
        }
        self.read.borrow_mut().insert(pinned.clone(), Some(ids));
        Ok(())
    }

    /// It is gone.
    pub(in crate::adapter::engine) fn remove(&self, pinned: &Digest) {
        if let Some(dir) = &self.dir {
            // One that stays names what is not there.
            let _ = fs::remove_file(dir.join(pinned.hex()));
        }
        self.read.borrow_mut().insert(pinned.clone(), None);
    }

    fn sweep(&self, dir: &std::path::Path) {
        let mut files: Vec<_> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file.path())))
            .collect();
        files.sort();
        let beyond = files.len().saturating_sub(MOST);
        for (_, path) in files.into_iter().take(beyond) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn letter(letter: char) -> String {
        format!("sha256:{}", letter.to_string().repeat(64))
    }

    fn manifest() -> String {
        format!(
            r#"{{"config":{{"digest":"{}","size":1}},"layers":[]}}"#,
            letter('c')
        )
    }

    #[test]
    fn what_was_taken_is_known_after_a_restart_and_a_changed_file_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let text = manifest();
        let pinned = digest(text.as_bytes()).unwrap();
        let chain = Chain::new(None, text.as_bytes()).unwrap();
        let known = Known::open(dir.path().to_owned());
        assert_eq!(known.ids(&pinned), None);
        known.add(&pinned, &chain).unwrap();
        assert!(known.add(&letter('d').parse().unwrap(), &chain).is_err());
        let again = Known::open(dir.path().to_owned());
        assert_eq!(again.ids(&pinned).unwrap().config.as_str(), letter('c'));
        assert_eq!(again.pinned(&letter('c')), Some(pinned.clone()));
        let file = dir.path().join(DIR).join(pinned.hex());
        let written = fs::read_to_string(&file).unwrap();
        fs::write(&file, written.replace(&"c".repeat(64), &"e".repeat(64))).unwrap();
        assert_eq!(Known::open(dir.path().to_owned()).ids(&pinned), None);
    }

    #[test]
    fn an_index_leads_only_to_what_it_names() {
        let inner = manifest();
        let of = |named: &Digest| format!(r#"{{"manifests":[{{"digest":"{named}","size":1}}]}}"#);
        let own = digest(inner.as_bytes()).unwrap();
        let good = of(&own);
        let pinned = digest(good.as_bytes()).unwrap();
        let chain = Chain::new(Some(good.as_bytes()), inner.as_bytes()).unwrap();
        assert_eq!(chain.ids(&pinned).unwrap().manifest, own);
        assert_eq!(chain.ids(&own), None);
        let other = of(&letter('f').parse().unwrap());
        let pinned = digest(other.as_bytes()).unwrap();
        let chain = Chain::new(Some(other.as_bytes()), inner.as_bytes()).unwrap();
        assert_eq!(chain.ids(&pinned), None);
    }
}
