//! A file that comes in parts: where the last try ended the next one goes on. And what a file's content is.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::room;
use crate::port::upgrades::Piece;

type Failure = Box<dyn Error + Send + Sync>;
type Sink<'s> = dyn FnMut(Piece<'_>) -> io::Result<()> + 's;

/// What is left free beside it: the device's own files come first.
pub(crate) const SPARE: u64 = 4 * 1024 * 1024;

/// How large a file may become.
pub(crate) struct Bounds<'b> {
    /// No larger than this.
    pub(crate) most: u64,
    /// What a larger one is called.
    pub(crate) too_large: &'b dyn Fn() -> io::Error,
}

/// Fills the file: whole, or as far as it goes. `get` is told how much there is, and sends the rest. Synced where it is whole.
pub(crate) fn fill(
    part: &Path,
    bounds: &Bounds<'_>,
    get: impl FnOnce(u64, &mut Sink<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o700)
        .open(part)?;
    let dir = part.parent().unwrap_or(part);
    let have = file.metadata().map_or(0, |metadata| metadata.len());
    let mut at = 0;
    let mut take = |piece: Piece<'_>| match piece {
        Piece::Begins { at: begins, total } => {
            if total.is_some_and(|total| total > bounds.most) {
                return Err((bounds.too_large)());
            }
            at = begins;
            file.set_len(begins)?;
            file.seek(io::SeekFrom::Start(begins))?;
            let missing = total.map_or(0, |total| total.saturating_sub(begins));
            room::look(dir, missing.saturating_add(SPARE))
        }
        Piece::Bytes(bytes) => {
            at = at.saturating_add(bytes.len() as u64);
            if at > bounds.most {
                return Err((bounds.too_large)());
            }
            file.write_all(bytes)
        }
    };
    get(have, &mut take)?;
    Ok(file.sync_all()?)
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn digits(path: &Path) -> io::Result<String> {
    sum(File::open(path)?)
}

/// The SHA-256 of all that comes, in hexadecimal.
pub(crate) fn sum(mut from: impl io::Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
