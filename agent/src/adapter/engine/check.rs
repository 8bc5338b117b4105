//! Whether an image is whole: all of it is read once, as `docker save` does, and each layer compared with the checksum that
//! the image's own configuration names.
//!
//! Both engines keep a checksum of each file beside a layer and refuse to save one that does not match (seen with Docker
//! 20.10 and Podman 4.3, whose words are the reason that is told); what they save all the same is compared here.
//!
//! Limits: what holds no bytes (a link, an empty directory, a mode) is saved from the engine's notes and not looked at on the
//! disk. Docker on containerd's store saves what it downloaded and not what it unpacked. Docker writes what it saves to a
//! temporary file of its own first: where there is no room for it, nothing is known.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::errors::Error as ApiError;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};

use super::{BollardEngine, CALL, judge};
use crate::port::engine::EngineError;

/// What a look into an image found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole,
    /// Why.
    Damaged(String),
    /// It could not be looked into, for this reason.
    Unsure(String),
    /// The engine does not have it.
    Gone,
}

/// What an engine says where it cannot save an image that may well be whole.
const PASSING: [&str; 8] = [
    "no space left",
    "quota exceeded",
    "too many open files",
    "cannot allocate memory",
    "permission denied",
    "context canceled",
    "resource busy",
    "read-only file system",
];
const BLOCK: usize = 512;
const BLOBS: &str = "blobs/sha256/";

impl BollardEngine {
    /// Reads all of an image. `patience`: without a byte for so long nothing is known. `read` is told of each piece.
    pub(super) async fn examine(
        &self,
        image: &str,
        patience: Duration,
        mut read: impl FnMut(u64),
    ) -> Result<Found, EngineError> {
        let client = self.client().await?;
        let inspected = self
            .call(
                || format!("look at the image {image}"),
                CALL,
                self.image(&client, image),
            )
            .await;
        let (name, layers) = match inspected {
            Ok(Some((known_as, found))) => (known_as, found.root_fs.and_then(|root| root.layers)),
            Ok(None) => return Ok(Found::Gone),
            Err(down @ EngineError::Down { .. }) => return Err(down),
            Err(error) => return Ok(Found::Damaged(crate::domain::text::chain(&error))),
        };
        let Some(layers) = layers.filter(|layers| !layers.is_empty()) else {
            return Ok(Found::Unsure("the engine names no layers of it".to_owned()));
        };
        let mut archive = Archive::default();
        let mut saved = std::pin::pin!(client.docker.export_image(&name));
        loop {
            match tokio::time::timeout(patience, saved.next()).await {
                Err(_) => {
                    let limit = evenkeel_schema::duration::text(patience);
                    return Ok(Found::Unsure(format!("nothing was read within {limit}")));
                }
                Ok(None) => break,
                Ok(Some(Ok(bytes))) => {
                    archive.feed(&bytes);
                    read(bytes.len() as u64);
                }
                Ok(Some(Err(error))) => return self.not_saved(error),
            }
        }
        Ok(archive.verdict(&layers))
    }

    fn not_saved(&self, error: ApiError) -> Result<Found, EngineError> {
        if judge::judge(&error) == judge::Judgement::Down {
            return Err(self.down(error));
        }
        let code = judge::status(&error);
        let said = match error {
            ApiError::DockerResponseServerError { message, .. } => message,
            other => other.to_string(),
        };
        let lower = said.to_ascii_lowercase();
        Ok(match code {
            Some(500) if !PASSING.iter().any(|words| lower.contains(words)) => Found::Damaged(said),
            Some(_) | None => Found::Unsure(said),
        })
    }
}

/// A tar archive that goes by: the checksums of its files.
#[derive(Default)]
struct Archive {
    head: Vec<u8>,
    /// The file that goes by.
    file: Option<(String, Sha256)>,
    /// Bytes of it that are still to come, and then what fills its last block.
    left: u64,
    filling: u64,
    found: BTreeSet<String>,
    /// How many files are named by their checksums (the OCI's layout), and those whose names are wrong.
    blobs: usize,
    wrong: Vec<String>,
}

impl Archive {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (now, rest) = split(bytes, self.left);
                if let Some((_, sum)) = &mut self.file {
                    sum.update(now);
                }
                self.left -= now.len() as u64;
                bytes = rest;
                if self.left == 0 {
                    self.end_file();
                }
            } else if self.filling > 0 {
                let (now, rest) = split(bytes, self.filling);
                self.filling -= now.len() as u64;
                bytes = rest;
            } else {
                let (now, rest) = split(bytes, (BLOCK - self.head.len()) as u64);
                self.head.extend_from_slice(now);
                bytes = rest;
                if self.head.len() == BLOCK {
                    self.begin_file();
                }
            }
        }
    }

    fn begin_file(&mut self) {
        let head = std::mem::take(&mut self.head);
        self.left = size(&head[124..136]);
        self.filling = self.left.next_multiple_of(BLOCK as u64) - self.left;
        // Regular files alone: links and directories hold nothing, and what extends a header is none.
        let regular = matches!(head[156], 0 | b'0');
        let name = head[..100].split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        self.file = regular.then(|| (name, Sha256::new()));
        if self.left == 0 {
            self.file = None;
        }
    }

    fn end_file(&mut self) {
        let Some((name, sum)) = self.file.take() else {
            return;
        };
        let sum: String = sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if let Some(named) = name.trim_start_matches("./").strip_prefix(BLOBS) {
            self.blobs += 1;
            if named != sum {
                self.wrong.push(name);
            }
        }
        self.found.insert(format!("sha256:{sum}"));
    }

    fn verdict(self, layers: &[String]) -> Found {
        if let Some(name) = self.wrong.first() {
            return Found::Damaged(format!("{name} is not what its name says"));
        }
        match layers.iter().find(|layer| !self.found.contains(*layer)) {
            None => Found::Whole,
            // Compressed layers beside their configuration and manifest, each of which is what its name says.
            Some(_) if self.left == 0 && self.blobs >= layers.len() + 2 => Found::Whole,
            Some(layer) => Found::Damaged(format!("its layer {layer} is not what it was")),
        }
    }
}

fn split(bytes: &[u8], at: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.split_at(at)
}

/// A size in a header: octal digits, or, from 8 GiB on, a number in base 256 (POSIX ustar; GNU tar).
fn size(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..]
            .iter()
            .fold(0, |size, byte| (size << 8) | u64::from(*byte));
    }
    field
        .iter()
        .filter(|byte| (b'0'..=b'7').contains(byte))
        .fold(0, |size, byte| (size << 3) | u64::from(byte - b'0'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::domain::revision::ContentId;

    /// An archive by the real tar of these files, fed in pieces of this size.
    fn archive(files: &[(&str, &[u8])], format: &str, piece: usize) -> Archive {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::os::unix::fs::symlink("somewhere", dir.path().join("link")).unwrap();
        let made = Command::new("tar")
            .arg("-C")
            .arg(dir.path())
            .args([&format!("--format={format}"), "-cf", "-", "."])
            .output()
            .unwrap();
        assert!(made.status.success());
        let mut archive = Archive::default();
        for bytes in made.stdout.chunks(piece) {
            archive.feed(bytes);
        }
        archive
    }

    fn sum(content: &[u8]) -> String {
        format!("sha256:{}", ContentId::of(content))
    }

    #[test]
    fn an_archive_is_whole_where_each_layer_is_in_it_bit_by_bit() {
        let one = vec![7; 3000];
        let two = vec![9; 512];
        let long = format!("{}/{}/layer.tar", "d".repeat(60), "e".repeat(60));
        for format in ["gnu", "pax", "ustar"] {
            for piece in [1, 511, 512, 4096, 100_000] {
                let files: [(&str, &[u8]); 4] = [
                    ("a/layer.tar", &one),
                    (&long, &two),
                    ("none", b""),
                    ("b/json", b"{}"),
                ];
                let layers = [sum(&one), sum(&two)];
                let found = archive(&files, format, piece).verdict(&layers);
                assert_eq!(found, Found::Whole, "{format} {piece}");
                let mut damaged = one.clone();
                damaged[2999] ^= 1;
                let files: [(&str, &[u8]); 2] = [("a/layer.tar", &damaged), (&long, &two)];
                let found = archive(&files, format, piece).verdict(&layers);
                assert!(matches!(found, Found::Damaged(_)), "{format} {piece}");
            }
        }
    }

    #[test]
    fn an_archive_of_blobs_is_whole_where_each_is_what_its_name_says() {
        let contents: [&[u8]; 3] = [b"compressed", b"configuration", b"manifest"];
        let names = contents.map(|content| format!("{BLOBS}{}", ContentId::of(content)));
        let blobs = |last: &'static [u8], count: usize| {
            let mut files: Vec<(&str, &[u8])> = names
                .iter()
                .zip(contents)
                .map(|(name, content)| (name.as_str(), content))
                .collect();
            files[2].1 = last;
            files.truncate(count);
            archive(&files, "gnu", 700).verdict(&[sum(b"unpacked")])
        };
        assert_eq!(blobs(b"manifest", 3), Found::Whole);
        assert!(matches!(blobs(b"manifesT", 3), Found::Damaged(_)));
        assert!(matches!(blobs(b"manifest", 2), Found::Damaged(_)));
    }

    #[test]
    fn sizes_are_octal_or_in_base_256() {
        assert_eq!(size(b"00000001750\0"), 1000);
        assert_eq!(size(b"       1750 "), 1000);
        let mut large = [0_u8; 12];
        large[0] = 0x80;
        large[4..].copy_from_slice(&(9_u64 << 30).to_be_bytes());
        assert_eq!(size(&large), 9 << 30);
    }
}
