//! One signature in SSH's wire form (RFC 4253, section 6.6; OpenSSH's PROTOCOL.u2f), verified in process.
//!
//! Refuses SHA-1, algorithms that are not the key's, bytes behind the signature, and ed25519 keys and signatures of small
//! order. Tells whether a security key was touched, and leaves it to the caller what follows from that.

use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Signature};

use super::key::{Key, Strings};

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Another kind of signature, a certificate, or a key type that is not verified here.
    #[error("{0}")]
    Unsupported(String),
    /// Not a signature as OpenSSH writes it.
    #[error("the signature is malformed: {0}")]
    Malformed(&'static str),
    /// It does not belong to the key and the content.
    #[error("the signature does not fit what it should be over and the key it names")]
    Wrong,
}

/// Whether a security key must have been touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Yes: the default, as sshd has it.
    Required,
    /// The signer's line says `no-touch-required`.
    NotRequired,
}

/// Whether somebody touched the key when it signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// A security key says so.
    Touched,
    /// A security key says so, and that it asked who they are: a PIN, a finger.
    Verified,
    /// A security key says that nobody did.
    NotTouched,
    /// Not a security key.
    NotAsked,
}

/// Whether `signature` is that of `key` over `signed`.
pub(super) fn verify(
    key: &Key,
    signed: &[u8],
    signature: &[u8],
) -> Result<Presence, SignatureError> {
    let mut fields = Strings(signature);
    let short = || SignatureError::Malformed("its innermost part ends too early");
    let algorithm = fields.next_string().ok_or_else(short)?;
    let value = fields.next_string().ok_or_else(short)?;
    let trailer = fields.0;
    match key.data() {
        KeyData::Ed25519(public) => {
            expect_algorithm(algorithm, &[b"ssh-ed25519"])?;
            no_trailer(trailer)?;
            ed25519(&public.0, signed, value)?;
            Ok(Presence::NotAsked)
        }
        KeyData::SkEd25519(public) => {
            expect_algorithm(algorithm, &[b"sk-ssh-ed25519@openssh.com"])?;
            let presence = presence(trailer)?;
            let mut by_key = Sha256::digest(public.application()).to_vec();
            by_key.extend_from_slice(trailer);
            by_key.extend_from_slice(&Sha256::digest(signed));
            ed25519(&public.public_key().0, &by_key, value)?;
            Ok(presence)
        }
        KeyData::SkEcdsaSha2NistP256(_) => {
            expect_algorithm(algorithm, &[b"sk-ecdsa-sha2-nistp256@openssh.com"])?;
            let presence = presence(trailer)?;
            // ssh-key builds what the security key signs from the same parts.
            by_crate(key, signed, signature)?;
            Ok(presence)
        }
        KeyData::Ecdsa(public) => {
            expect_algorithm(algorithm, &[public.algorithm().as_str().as_bytes()])?;
            no_trailer(trailer)?;
            by_crate(key, signed, signature)?;
            Ok(Presence::NotAsked)
        }
        KeyData::Rsa(_) => {
            expect_algorithm(algorithm, &[b"rsa-sha2-256", b"rsa-sha2-512"])?;
            no_trailer(trailer)?;
            by_crate(key, signed, signature)?;
            Ok(Presence::NotAsked)
        }
        other => Err(SignatureError::Unsupported(format!(
            "keys of type {} are not supported",
            other.algorithm()
        ))),
    }
}

fn by_crate(key: &Key, signed: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    use ed25519_dalek::Verifier as _;
    let signature = Signature::try_from(signature)
        .map_err(|_| SignatureError::Malformed("its innermost part does not fit its key type"))?;
    if let Algorithm::Rsa { hash: None } = signature.algorithm() {
        return Err(SignatureError::Unsupported(
            "an RSA signature over SHA-1".to_owned(),
        ));
    }
    key.data()
        .verify(signed, &signature)
        .map_err(|_| SignatureError::Wrong)
}

fn expect_algorithm(found: &[u8], wanted: &[&[u8]]) -> Result<(), SignatureError> {
    if wanted.contains(&found) {
        Ok(())
    } else if found == b"ssh-rsa" {
        Err(SignatureError::Unsupported(
            "an RSA signature over SHA-1".to_owned(),
        ))
    } else {
        Err(SignatureError::Malformed("its algorithm is not its key's"))
    }
}

fn no_trailer(trailer: &[u8]) -> Result<(), SignatureError> {
    if trailer.is_empty() {
        Ok(())
    } else {
        Err(SignatureError::Malformed(
            "there are bytes behind its innermost part",
        ))
    }
}

fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    let signature = ed25519_dalek::Signature::from_slice(signature)
        .map_err(|_| SignatureError::Malformed("an ed25519 signature has 64 bytes"))?;
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(message, &signature))
        .map_err(|_| SignatureError::Wrong)
}

/// What a security key's flags, which it signs, say (OpenSSH's PROTOCOL.u2f).
fn presence(trailer: &[u8]) -> Result<Presence, SignatureError> {
    const USER_PRESENT: u8 = 0x01;
    const USER_VERIFIED: u8 = 0x04;
    let [flags, _, _, _, _] = trailer else {
        return Err(SignatureError::Malformed(
            "a security key's signature ends with its flags and counter",
        ));
    };
    Ok(if flags & USER_PRESENT == 0 {
        Presence::NotTouched
    } else if flags & USER_VERIFIED == 0 {
        Presence::Touched
    } else {
        Presence::Verified
    })
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
