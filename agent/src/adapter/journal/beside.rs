//! What the journal's files beside the database share: reading one of bounded size, and this device's authentication.

use std::io::{self, Read as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::adapter::state_dir::DeviceKey;

/// The first `most` bytes of a file; `None` where there is none.
pub(super) fn read(file: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Authenticates `body` for one purpose: what was written for another one does not count.
pub(super) fn mac(key: &DeviceKey, purpose: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes keys of any length");
    mac.update(purpose);
    mac.update(body);
    mac
}
