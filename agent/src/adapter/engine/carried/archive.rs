//! An image of a tree as the archive that engines load: found, hashed as it goes by, and cut off where a byte is wrong, so that
//! no engine takes what was not what its digest says.
//!
//! The archive says the same twice, for each engine reads another part of it: `manifest.json` (`docker save`), for Docker's own
//! store; `index.json` with the manifest as it is (the OCI's layout), for Podman and containerd's store, which keep the digest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::known::{Chain, Ids};
use crate::adapter::part;
use crate::domain::oci::{
    Descriptor, Digest, Document, INDEX, LAYOUT, LAYOUT_TEXT, LONGEST_CONFIG, LONGEST_DOCUMENT,
    Manifest, NAME, Platform,
};
use crate::domain::text::chain;
use crate::port::images::{Carried, Tree};
use crate::port::upgrades::Piece;

const BLOCK: u64 = 512;
/// How often a layer that breaks off over a network is gone on with, as long as something comes.
const TRIES: usize = 5;

/// What keeps an image of a tree from being taken. `Display` names the file and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damage {
    #[error("{file} is not what its name says (SHA-256 {sum}): make the bundle again")]
    Content { file: String, sum: String },
    #[error("{file} has more bytes than {most}")]
    TooLong { file: String, most: u64 },
    #[error("{file} cannot be read: {why}")]
    Unread { file: String, why: String },
    #[error("{file}: {why}")]
    Document { file: String, why: String },
    #[error("nobody waits for it any more")]
    Stopped,
}

/// An image of a tree.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) tree: Tree,
    pub(super) chain: Chain,
    pub(super) ids: Ids,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    media_type: String,
}

/// Looks for an image in the trees. `None` where none has it.
pub(super) fn find(
    carried: &Carried,
    pinned: &Digest,
    machine: &Platform,
    stop: &AtomicBool,
) -> Result<Option<Image>, Damage> {
    let mut damage = None;
    for tree in (carried.trees)() {
        match find_in(carried, &tree, pinned, machine, stop) {
            Ok(Some(image)) => return Ok(Some(image)),
            Ok(None) => {}
            Err(error) => damage = damage.or(Some(error)),
        }
    }
    damage.map_or(Ok(None), Err)
}

fn find_in(
    carried: &Carried,
    tree: &Tree,
    pinned: &Digest,
    machine: &Platform,
    stop: &AtomicBool,
) -> Result<Option<Image>, Damage> {
    // A tree without this image is no damage; what it has of one is all there.
    let bytes = match small(carried, tree, pinned, LONGEST_DOCUMENT, stop) {
        Ok(bytes) => bytes,
        Err(Damage::Unread { file, why }) => {
            tracing::debug!(file, why, "this tree does not have the image");
            return Ok(None);
        }
        Err(other) => return Err(other),
    };
    let refused = |digest: &Digest, why: String| Damage::Document {
        file: place(tree, digest),
        why,
    };
    let parse = |digest: &Digest, bytes: &[u8]| {
        Document::parse(bytes).map_err(|error| refused(digest, error.to_string()))
    };
    let (index, digest, bytes) = match parse(pinned, &bytes)? {
        Document::Manifest(_) => (None, pinned.clone(), bytes),
        Document::Index(index) => {
            let one = index
                .for_machine(machine)
                .map_err(|error| refused(pinned, error.to_string()))?;
            let inner = small(carried, tree, &one.digest, LONGEST_DOCUMENT, stop)?;
            (Some(bytes), one.digest.clone(), inner)
        }
    };
    let Document::Manifest(manifest) = parse(&digest, &bytes)? else {
        return Err(refused(&digest, "an index within an index".to_owned()));
    };
    let chain = Chain::new(index.as_deref(), &bytes)
        .ok_or_else(|| refused(&digest, "it is not UTF-8".to_owned()))?;
    let ids = chain
        .ids(pinned)
        .ok_or_else(|| refused(pinned, "its documents do not fit together".to_owned()))?;
    let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let media_type = said.get("mediaType").and_then(|own| own.as_str());
    Ok(Some(Image {
        tree: tree.clone(),
        media_type: media_type
            .unwrap_or("application/vnd.oci.image.manifest.v1+json")
            .to_owned(),
        chain,
        ids,
        manifest,
        manifest_bytes: bytes,
    }))
}

fn place(tree: &Tree, digest: &Digest) -> String {
    format!("{}/{}", tree.base, digest.blob())
}

/// A small blob, whole and compared.
fn small(
    carried: &Carried,
    tree: &Tree,
    digest: &Digest,
    most: u64,
    stop: &AtomicBool,
) -> Result<Vec<u8>, Damage> {
    let file = place(tree, digest);
    let mut bytes = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        match piece {
            Piece::Begins { at, .. } => bytes.truncate(usize::try_from(at).unwrap_or_default()),
            Piece::Bytes(more) => bytes.extend_from_slice(more),
        }
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("it is longer than {most} bytes")));
        }
        Ok(())
    };
    (carried.get)(&file, 0, stop, &mut sink).map_err(|error| Damage::Unread {
        file: file.clone(),
        why: chain(error.as_ref()),
    })?;
    let sum = part::sum(bytes.as_slice()).unwrap_or_default();
    if sum == digest.hex() {
        Ok(bytes)
    } else {
        Err(Damage::Content { file, sum })
    }
}

impl Image {
    /// The bytes of its layers.
    pub(super) fn size(&self) -> u64 {
        let layers = self.manifest.layers.iter();
        layers.fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// Sends the archive, in which the image has this name. Blocks.
    pub(super) fn send(
        &self,
        carried: &Carried,
        name: &str,
        to: &mpsc::Sender<io::Result<Vec<u8>>>,
        sent: &Arc<AtomicU64>,
        stop: &AtomicBool,
    ) -> Result<(), Damage> {
        let done = self.send_all(carried, name, to, sent, stop);
        if done.is_err() {
            // The engine sees an archive that breaks off, and takes nothing of it.
            let _ = to.blocking_send(Err(io::Error::other("the image is not whole")));
        }
        done
    }

    fn send_all(
        &self,
        carried: &Carried,
        name: &str,
        to: &mpsc::Sender<io::Result<Vec<u8>>>,
        sent: &Arc<AtomicU64>,
        stop: &AtomicBool,
    ) -> Result<(), Damage> {
        let put = |bytes: Vec<u8>| to.blocking_send(Ok(bytes)).map_err(|_| Damage::Stopped);
        let file = |path: &str, content: &[u8]| {
            let size = content.len() as u64;
            let mut bytes = header(path, size);
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + filling(size), 0);
            put(bytes)
        };
        let config = &self.manifest.config;
        let config_bytes = small(carried, &self.tree, &config.digest, LONGEST_CONFIG, stop)?;
        let (_, tag) = name.rsplit_once(':').unwrap_or(("", name));
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": self.media_type,
            "digest": self.ids.manifest,
            "size": self.manifest_bytes.len(),
            "annotations": { "io.containerd.image.name": name, NAME: tag },
        }]});
        let layers: Vec<String> = self
            .manifest
            .layers
            .iter()
            .map(|one| one.digest.blob())
            .collect();
        let saved = json!([{
            "Config": config.digest.blob(), "RepoTags": [name], "Layers": layers,
        }]);
        file(LAYOUT, LAYOUT_TEXT.as_bytes())?;
        file(INDEX, index.to_string().as_bytes())?;
        file("manifest.json", saved.to_string().as_bytes())?;
        file(&self.ids.manifest.blob(), &self.manifest_bytes)?;
        file(&config.digest.blob(), &config_bytes)?;
        let mut done: Vec<&Digest> = Vec::new();
        for layer in &self.manifest.layers {
            // The same layer twice is one blob.
            if !done.contains(&&layer.digest) {
                self.send_layer(carried, layer, to, sent, stop)?;
                done.push(&layer.digest);
            }
        }
        put(vec![0; 2 * BLOCK as usize])
    }

    fn send_layer(
        &self,
        carried: &Carried,
        layer: &Descriptor,
        to: &mpsc::Sender<io::Result<Vec<u8>>>,
        sent: &Arc<AtomicU64>,
        stop: &AtomicBool,
    ) -> Result<(), Damage> {
        let file = place(&self.tree, &layer.digest);
        let put = |bytes: Vec<u8>| to.blocking_send(Ok(bytes)).map_err(|_| Damage::Stopped);
        put(header(&layer.digest.blob(), layer.size))?;
        let mut hash = Sha256::new();
        let mut at = 0_u64;
        let mut tries = 0;
        while at < layer.size || layer.size == 0 {
            let (before, mut skip) = (at, 0_u64);
            let mut sink = |piece: Piece<'_>| match piece {
                Piece::Begins { at: begins, .. } => {
                    // A server without Range sends all of it again.
                    skip = at.saturating_sub(begins);
                    Ok(())
                }
                Piece::Bytes(bytes) => {
                    let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                    skip -= passed as u64;
                    let bytes = &bytes[passed..];
                    at += bytes.len() as u64;
                    if at > layer.size {
                        return Err(io::Error::other("it is longer than its manifest says"));
                    }
                    hash.update(bytes);
                    sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    to.blocking_send(Ok(bytes.to_vec()))
                        .map_err(|_| io::Error::other(Damage::Stopped))
                }
            };
            let got = (carried.get)(&file, before, stop, &mut sink);
            if at > layer.size {
                let most = layer.size;
                return Err(Damage::TooLong { file, most });
            }
            tries = if at > before { 0 } else { tries + 1 };
            let why = match got {
                Ok(()) if at >= layer.size => break,
                Ok(()) => format!(
                    "it was cut off: {at} bytes, and its manifest says {}",
                    layer.size
                ),
                Err(error) => chain(error.as_ref()),
            };
            let is_over = match self.tree.reach {
                crate::port::source::Reach::Local => true,
                crate::port::source::Reach::Network => tries >= TRIES,
            };
            if to.is_closed() || stop.load(Ordering::Relaxed) {
                return Err(Damage::Stopped);
            }
            if is_over {
                return Err(Damage::Unread { file, why });
            }
        }
        let sum = part::hex(&hash.finalize());
        if sum != layer.digest.hex() {
            return Err(Damage::Content { file, sum });
        }
        put(vec![0; filling(layer.size)])
    }
}

/// What fills a file's last block.
fn filling(size: u64) -> usize {
    (size.next_multiple_of(BLOCK) - size) as usize
}

/// A header of POSIX' ustar; a size from 8 GiB on in base 256, as GNU's tar and Go's write it.
fn header(path: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    // Blobs' names have 77 characters, the others fewer.
    put(0, path.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\0");
    put(263, b"00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
