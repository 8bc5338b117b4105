//! What ails a disk, as far as an error tells it: full, read-only, failing. Of the moment all three: nothing that is
//! stored is wrong because of them, and the device goes on by itself once they are over.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

/// `EIO`, for which the standard library has no kind.
const EIO: i32 = 5;

/// What a disk lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// No room (or no inodes, or a quota's end).
    Full,
    /// It cannot be written to.
    ReadOnly,
    /// It does not read or write.
    Failing,
}

impl Storage {
    /// What the system's error says of the disk, if anything.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(Self::Full),
            ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ if error.raw_os_error() == Some(EIO) => Some(Self::Failing),
            // An error that carries another one tells that one's kind, and has no number of its own.
            _ => Self::behind(error.get_ref()?),
        }
    }

    /// The same of any error, by what stands behind it.
    #[must_use]
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            let found = error.downcast_ref::<io::Error>().and_then(Self::of);
            if found.is_some() {
                return found;
            }
            next = error.source();
        }
        None
    }

    /// The stable word of outcomes and conditions.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Full => "DiskFull",
            Self::ReadOnly => "ReadOnly",
            Self::Failing => "DiskError",
        }
    }

    /// The same from its word.
    #[must_use]
    pub fn of_reason(reason: &str) -> Option<Self> {
        [Self::Full, Self::ReadOnly, Self::Failing]
            .into_iter()
            .find(|one| one.reason() == reason)
    }

    /// A message with what it means and what a person can do, unless it says so already.
    #[must_use]
    pub fn explain(self, message: String) -> String {
        if message.contains(self.next_move()) {
            message
        } else {
            format!("{message}: {self}: {}", self.next_move())
        }
    }

    /// What a person can do. The device needs nobody to go on after that.
    #[must_use]
    pub const fn next_move(self) -> &'static str {
        match self {
            Self::Full => "make room there; the device goes on by itself",
            Self::ReadOnly => {
                "mount it writable again (`dmesg` tells why it is not); the device goes on by itself"
            }
            Self::Failing => "look at `dmesg`: the disk may be dying; the device tries again",
        }
    }
}

impl fmt::Display for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the disk is full",
            Self::ReadOnly => "the disk is read-only",
            Self::Failing => "the disk fails",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_error_tells_what_ails_the_disk_however_deep_it_stands() {
        for (code, what) in [
            (28, Some(Storage::Full)),
            (122, Some(Storage::Full)),
            (30, Some(Storage::ReadOnly)),
            (5, Some(Storage::Failing)),
            (2, None),
            (13, None),
        ] {
            let error = || io::Error::from_raw_os_error(code);
            assert_eq!(Storage::of(&error()), what, "{code}");
            assert_eq!(Storage::behind(&Outer(error())), what, "{code}");
            let wrapped = io::Error::other(Outer(error()));
            assert_eq!(Storage::behind(&Outer(wrapped)), what, "{code}");
        }
        for one in [Storage::Full, Storage::ReadOnly, Storage::Failing] {
            assert_eq!(Storage::of_reason(one.reason()), Some(one));
        }
        assert_eq!(Storage::of_reason("journal"), None);
    }
}
