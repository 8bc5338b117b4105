//! Files in the state directory that list images: `images`, which are known to be whole on this device's disk, and
//! `images-pulled`, which were not on this device before they were pulled for a revision.
//!
//! Engines unpack an image without waiting for the disk, so a power cut leaves files in it that are empty. An image that was
//! pulled here and then synced is written down, once; one that is not has to be looked into before a container is made of it
//! (see `check`), and is written down then. So an update pays one small write for each image that it pulls, and a pass that
//! pulls nothing writes nothing.
//!
//! What was pulled here may go again when no revision needs it; so it is written down before its pull begins. Of an image
//! that is not in that list nothing is known, and it stays.
//!
//! One image a line, oldest first, and a checksum in the last line; replaced whole, synced. A file that is damaged or gone
//! names nothing: the price is a look, or an image that stays. Bounded: the oldest are forgotten.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

use super::super::durable;
use crate::domain::revision::ContentId;

const FORMAT: &str = "evenkeel-images 1";
/// More than the images of three kept revisions on a large device.
const MOST: usize = 256;
/// Longer than any that we write: a reference ends at some 400 bytes.
const LONGEST: u64 = 256 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Directory and name. `None`: nothing is written down, and what is listed holds for one process.
    file: Option<(PathBuf, &'static str)>,
    images: RefCell<Vec<String>>,
}

impl Listed {
    /// What is written down in this state directory.
    pub(super) fn open(dir: &Path, name: &'static str) -> Self {
        let images = read(&dir.join(name)).unwrap_or_default();
        Self {
            file: Some((dir.to_owned(), name)),
            images: RefCell::new(images),
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.images.borrow().clone()
    }

    pub(super) fn has(&self, image: &str) -> bool {
        self.images.borrow().iter().any(|one| one == image)
    }

    /// Lists it. Where that cannot be written down it holds for this process alone.
    pub(super) fn add(&self, image: &str) {
        if self.has(image) {
            return;
        }
        let mut next = self.images.borrow().clone();
        next.push(image.to_owned());
        next.drain(..next.len().saturating_sub(MOST));
        if let Err(error) = self.put(&next) {
            tracing::warn!("cannot list the image {image}: {error}");
        }
        self.images.replace(next);
    }

    /// Lists it no more.
    pub(super) fn remove(&self, image: &str) -> io::Result<()> {
        if !self.has(image) {
            return Ok(());
        }
        let mut next = self.images.borrow().clone();
        next.retain(|one| one != image);
        let done = self.put(&next);
        self.images.replace(next);
        done
    }

    fn put(&self, images: &[String]) -> io::Result<()> {
        match &self.file {
            Some((dir, name)) => durable::write(dir, name, &spelt(images), 0o600),
            None => Ok(()),
        }
    }
}

fn spelt(images: &[String]) -> Vec<u8> {
    let mut text = format!("{FORMAT}\n");
    for image in images {
        text.push_str(image);
        text.push('\n');
    }
    let sum = ContentId::of(text.as_bytes());
    format!("{text}{sum}\n").into_bytes()
}

fn read(path: &Path) -> Option<Vec<String>> {
    if std::fs::metadata(path).ok()?.len() > LONGEST {
        return None;
    }
    let text = String::from_utf8(std::fs::read(path).ok()?).ok()?;
    let (body, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    if ContentId::of(format!("{body}\n").as_bytes()).as_str() != sum {
        return None;
    }
    let mut lines = body.lines();
    (lines.next()? == FORMAT).then(|| lines.map(str::to_owned).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NAME: &str = "images";

    #[test]
    fn what_is_whole_is_known_after_a_restart_and_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(NAME);
        let listed = Listed::open(dir.path(), NAME);
        assert!(!listed.has("a"));
        listed.remove("a").unwrap();
        assert!(!file.exists(), "nothing changed, and it was written");
        listed.add("a");
        listed.add("b");
        std::fs::remove_file(&file).unwrap();
        listed.add("a");
        assert!(!file.exists(), "nothing changed, and it was written");
        listed.remove("a").unwrap();
        let again = Listed::open(dir.path(), NAME);
        assert!(again.has("b") && !again.has("a"));
    }

    #[test]
    fn a_file_with_any_byte_changed_or_cut_off_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Listed::open(dir.path(), NAME).add("registry/app@sha256:0");
        let file = dir.path().join(NAME);
        let whole = std::fs::read(&file).unwrap();
        assert!(read(&file).is_some());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(read(&file), None, "byte {at}");
            std::fs::write(&file, &whole[..at]).unwrap();
            assert_eq!(read(&file), None, "{at} bytes");
        }
    }

    #[test]
    fn the_file_is_bounded_and_a_directory_that_cannot_be_written_hinders_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let listed = Listed::open(dir.path(), NAME);
        for number in 0..MOST + 9 {
            listed.add(&format!("image-{number}"));
        }
        let again = Listed::open(dir.path(), NAME);
        assert!(!again.has("image-8") && again.has("image-9"));
        let nowhere = Listed::open(Path::new("/proc/self"), NAME);
        nowhere.add("a");
        assert!(nowhere.has("a"));
        assert!(nowhere.remove("a").is_err());
        assert!(!nowhere.has("a"));
    }
}
