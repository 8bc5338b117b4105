//! Bytes in, proof out: who signed a commit, and whether policy allows it. Pure.
//!
//! Owns the parsers of what decides about trust (commit objects, SSH signatures, allowed_signers, revoked keys) and the
//! policy over them. Refuses what it cannot parse; it never repairs. Not supported yet, and refused with the reason
//! `unsupported`: SSH certificates, OpenPGP and X.509 signatures, OpenSSH KRL files, RSA keys over 4096 bits.
//!
//! Verdicts agree with `git verify-commit`, but for these, where we are stricter: a signature header that is repeated,
//! misplaced or belongs to another object format; a NUL byte; malformed author or committer lines; text around the
//! armor or carriage returns in it; a security key's signature made without a touch (unless the signer's line says
//! `no-touch-required`, an option of our own); back-dating into a retired key's window; weak ed25519 keys. In one place
//! we go on where `ssh-keygen` gives up: a malformed line of allowed_signers loses only that line.

pub mod admission;
pub mod allowed_signers;
mod ancestry;
pub mod approval;
pub mod commit;
mod decide;
#[cfg(test)]
pub(crate) mod fixture;
mod inquiry;
pub mod key;
mod pattern;
pub mod policy;
pub mod revoked;
pub mod scene;
pub mod sshsig;
pub mod trust_set;
pub mod verdict;
pub mod verified;
