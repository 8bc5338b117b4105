//! Bytes in, proof out: who signed a commit, and whether policy allows it. Pure.
//!
//! Owns the parsers of what decides about trust (commit objects, SSH signatures and certificates, allowed_signers,
//! revocation lists) and the policy over them. Refuses what it cannot parse; it never repairs. Not supported yet, and
//! refused with the reason `unsupported`: X.509 signatures, DSA keys, RSA keys under 2048 or over 4096 bits; OpenPGP signatures
//! without a keyring, or in a build without the feature `openpgp`.
//!
//! Verdicts agree with `git verify-commit` and `ssh-keygen -Y verify`, but for these, where we are stricter:
//! - a signature header that is repeated, misplaced or belongs to another object format; a NUL byte; malformed author or
//!   committer lines; text around the armor or carriage returns in it;
//! - a security key's signature made without a touch, unless the signer's line says `no-touch-required` (an option of our
//!   own) and its certificate, where it has one, does too; an authority's likewise;
//! - back-dating into the window of a retired key, line or certificate; weak ed25519 keys; SHA-1 in a certificate's
//!   signature too; points and numbers of keys in another than their one form;
//! - a commit dated 0 (git judges it at the present) or past the year 9999 (`ssh-keygen` reads no such date); an ed25519
//!   signature in another than its one spelling; version 0 of the signature's format;
//! - certificates: critical options (`verify-required` is kept to, which `ssh-keygen` does not; `force-command`,
//!   `source-address` and unknown ones are refused), options out of order or repeated, principals that are empty, not UTF-8
//!   or have a comma or control character in them, and a certificate on a plain line, which names its authority instead;
//! - lines of allowed_signers: an empty entry among principals or options, a quote among the principals, control
//!   characters, text that is not UTF-8, and dates that are none (30 February);
//! - revocation: an empty file is one that was cut off. Extensions of a list that are not critical, and that OpenSSH before
//!   9.4 does not know, are passed over as PROTOCOL.krl asks.
//!
//! Two things we go on at, and neither is about what is signed or by whom: where `ssh-keygen` gives up at a line of
//! allowed_signers that it cannot read, that line alone is lost here; and any line of a key will do, while git asks for the
//! principals of its first one alone.
//!
//! Local times of summer in allowed_signers are read as the clock on the wall has them; `ssh-keygen` 9.2 reads them an hour
//! late. Write them with `Z`.

pub mod admission;
pub mod allowed_signers;
mod ancestry;
pub mod approval;
pub mod certificate;
pub mod commit;
mod decide;
#[cfg(test)]
pub(crate) mod fixture;
pub mod forge;
mod inquiry;
pub mod key;
#[cfg(test)]
#[path = "tests/keygen.rs"]
pub(crate) mod keygen;
pub mod krl;
pub mod openpgp;
pub mod overview;
mod pattern;
pub mod policy;
pub mod report;
pub mod revoked;
pub mod scene;
mod signature;
pub mod sshsig;
pub mod trust_set;
pub mod verdict;
pub mod verified;
