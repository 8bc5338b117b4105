//! Small texts that the agent cannot do without (the state directory's marker, the device's key and its id): each in two
//! files, `NAME` and `NAME.copy`, with a checksum in both.
//!
//! One flipped byte, one file cut, emptied or removed, and the other file says what stood there; it is then written
//! again. A text without a checksum, which is how an older agent wrote it, counts where there is no copy beside it.
//! Never follows a symlink.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::durable;

/// The most that is read of one file.
const MOST: u64 = 64 * 1024;

/// What the two files say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Neither is there.
    Absent,
    /// Both say this.
    Whole(String),
    /// One does not say it, and is to be written again. What is wrong with it, where somebody should know.
    Half(String, Option<String>),
    /// There is one file, without a checksum.
    Plain(Vec<u8>),
    /// Nothing that was read is right.
    Damaged,
}

enum One {
    Absent,
    Right(String),
    Wrong(Vec<u8>),
}

fn copy_of(name: &str) -> String {
    format!("{name}.copy")
}

/// Reads both.
pub(crate) fn read(dir: &Path, name: &str) -> io::Result<Reading> {
    let copy = copy_of(name);
    let told = |name: &str| Some(format!("{} was damaged", dir.join(name).display()));
    Ok(match (one(dir, name, name)?, one(dir, &copy, name)?) {
        (One::Absent, One::Absent) => Reading::Absent,
        (One::Right(text), One::Right(other)) if text == other => Reading::Whole(text),
        // Each is right for itself: one of them comes from elsewhere, and that is not the one with the plain name.
        (One::Right(text), One::Right(_) | One::Wrong(_)) => Reading::Half(text, told(&copy)),
        (One::Wrong(_), One::Right(text)) => Reading::Half(text, told(name)),
        // Not there is how a cut at the first start leaves it.
        (One::Right(text), One::Absent) | (One::Absent, One::Right(text)) => {
            Reading::Half(text, None)
        }
        (One::Wrong(bytes), One::Absent) => Reading::Plain(bytes),
        (One::Wrong(_) | One::Absent, One::Wrong(_)) => Reading::Damaged,
    })
}

/// Writes both, one after the other: a cut leaves one of them.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> io::Result<()> {
    let bytes = format!("{text}\n{}\n", checksum(name, text));
    durable::write(dir, name, bytes.as_bytes(), 0o600)?;
    durable::write(dir, &copy_of(name), bytes.as_bytes(), 0o600)
}

fn checksum(name: &str, text: &str) -> String {
    let digest = Sha256::digest(format!("evenkeel {name}\0{text}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn one(dir: &Path, file: &str, name: &str) -> io::Result<One> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(dir.join(file));
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(One::Absent),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    opened.take(MOST).read_to_end(&mut bytes)?;
    let right = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (text, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        (sum == checksum(name, text)).then(|| text.to_owned())
    });
    Ok(match right {
        Some(text) => One::Right(text),
        None => One::Wrong(bytes),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    fn put(dir: &Path, name: &str, bytes: &[u8]) {
        durable::write(dir, name, bytes, 0o600).unwrap();
    }

    #[test]
    fn whatever_happens_to_one_file_the_other_says_what_stood_there() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path();
        assert_eq!(read(dir, "id").unwrap(), Reading::Absent);
        write(dir, "id", "gw-1").unwrap();
        let good = std::fs::read(dir.join("id")).unwrap();
        assert_eq!(read(dir, "id").unwrap(), Reading::Whole("gw-1".to_owned()));
        for name in ["id", "id.copy"] {
            for at in 0..good.len() {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << (at % 8);
                for bad in [&flipped[..], &good[..at]] {
                    put(dir, name, bad);
                    match read(dir, "id").unwrap() {
                        Reading::Half(text, Some(what)) => {
                            assert_eq!(text, "gw-1");
                            assert!(what.contains(name), "{what}");
                        }
                        other => panic!("{name} {at}: {other:?}"),
                    }
                }
                put(dir, name, &good);
            }
            std::fs::remove_file(dir.join(name)).unwrap();
            assert_eq!(
                read(dir, "id").unwrap(),
                Reading::Half("gw-1".to_owned(), None)
            );
            put(dir, name, &good);
        }
        assert_eq!(read(dir, "id").unwrap(), Reading::Whole("gw-1".to_owned()));
    }

    #[test]
    fn one_name_does_not_stand_in_for_another_and_both_damaged_is_damage() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path();
        write(dir, "id", "gw-1").unwrap();
        let other = std::fs::read(dir.join("id")).unwrap();
        put(dir, "key", &other);
        assert_eq!(read(dir, "key").unwrap(), Reading::Plain(other.clone()));
        put(dir, "key.copy", &other);
        assert_eq!(read(dir, "key").unwrap(), Reading::Damaged);
    }
}
