//! OpenPGP signatures on commits (RFC 9580 and what GnuPG writes), judged against a keyring file.
//!
//! Owns which key of the keyring a signature is by, as whom it counts, and when. The keyring is the trust set: who
//! certified whose user id does not matter, and whoever can write that file decides who may sign. A key signs as the
//! address in its primary user id; it is revoked by a revocation signature in the keyring, and by nothing else.
//!
//! Refused, although GnuPG takes them: signatures and self-signatures over SHA-1, RSA under 2048 bits, DSA, keys without
//! the flag for signing, more than one signature, a signature in text mode over content with carriage returns, one dated
//! a day or more before the commit that it signs. Not supported: brainpool curves and secp256k1, packets of version 3 and 5, RSA over
//! 8192 bits.
//!
//! The keyring is there only in a build with the feature `openpgp`; what is in this file itself, in every build.

#[cfg(feature = "openpgp")]
mod armor;
#[cfg(feature = "openpgp")]
mod certificate;
#[cfg(feature = "openpgp")]
mod facts;
#[cfg(feature = "openpgp")]
mod judge;
#[cfg_attr(not(feature = "openpgp"), path = "openpgp/absent.rs")]
mod keyring;

pub use keyring::{Holder, Keyring, KeyringError};

use super::commit::Commit;
use super::verdict::Reason;
use crate::domain::revision::Timestamp;

/// Whether it is armor of OpenPGP, of whatever kind.
pub(super) fn is_openpgp(armor: &[u8]) -> bool {
    armor.starts_with(b"-----BEGIN PGP ")
}

/// What was found out about a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// The checks that passed: name, input, what was found.
    pub(super) passed: Vec<(&'static str, String, String)>,
    /// The key that the signature names, where it could be read.
    pub(super) key: Option<NamedKey>,
    /// As whom it signs, where the keyring has it.
    pub(super) principal: Option<String>,
    /// The check that failed.
    pub(super) failed: Option<Failed>,
}

/// A key as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedKey {
    /// The fingerprint in upper-case hexadecimal digits; the key id, where the signature says no more and nobody has it.
    pub(super) fingerprint: String,
    /// Such as `openpgp-ed25519`; `None`: the keyring does not have it.
    pub(super) key_type: Option<String>,
}

/// The check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) check: &'static str,
    pub(super) input: String,
    pub(super) reason: Reason,
    pub(super) message: String,
}

/// Judges the signature of a commit. `time_floor`: the latest time that is known to have passed.
pub(super) fn judge(
    keyring: Option<&Keyring>,
    armor: &[u8],
    commit: &Commit,
    time_floor: Timestamp,
) -> Account {
    match keyring {
        #[cfg(feature = "openpgp")]
        Some(keyring) => judge::judge(keyring, armor, commit, time_floor),
        #[cfg(not(feature = "openpgp"))]
        Some(keyring) => keyring.never(commit, time_floor),
        None => Account {
            passed: Vec::new(),
            key: None,
            principal: None,
            failed: Some(Failed {
                check: "signature",
                input: format!("{} bytes of armor", armor.len()),
                reason: Reason::Unsupported,
                message: NO_KEYRING.to_owned(),
            }),
        },
    }
}

#[cfg(feature = "openpgp")]
const NO_KEYRING: &str = "it has an OpenPGP signature, and no keyring says whose keys count: name one as \
                          `openpgp_keyring` under [trust] (`evenkeel verify --openpgp-keyring FILE`), or sign with SSH \
                          (git config gpg.format ssh)";
#[cfg(not(feature = "openpgp"))]
const NO_KEYRING: &str = "it has an OpenPGP signature, which this small build of evenkeel does not verify: use the \
                          standard build (made with the feature `openpgp`), or sign with SSH (git config gpg.format ssh)";

#[cfg(all(test, feature = "openpgp"))]
mod tests;
