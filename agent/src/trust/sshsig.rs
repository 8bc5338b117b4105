//! SSH signatures over a commit (OpenSSH's PROTOCOL.sshsig), read strictly and verified in process.
//!
//! Refuses text around the armor and carriage returns in it, bytes behind the signature, SHA-1, signatures that a
//! security key made without a touch (see [`Touch`]), and ed25519 keys and signatures of small order.

use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Signature, SshSig};

use super::key::{Key, KeyError, Strings, decode_base64};

/// The namespace git signs in.
pub const GIT_NAMESPACE: &str = "git";

/// The largest armor taken: an RSA key and signature of 4096 bits need 2 KiB.
const MAX_ARMOR: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Another kind of signature, a certificate, or a key type that is not verified here.
    #[error("{0}")]
    Unsupported(String),
    /// Not an SSH signature as OpenSSH writes it.
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
    /// A security key says that nobody did.
    NotTouched,
    /// Not a security key.
    NotAsked,
}

/// A signature, parsed and not yet verified.
#[derive(Debug, Clone)]
pub struct ArmoredSignature {
    key: Key,
    namespace: String,
    hash: HashAlg,
    signature: Vec<u8>,
}

impl ArmoredSignature {
    /// Reads the armor.
    ///
    /// # Errors
    /// [`SignatureError::Unsupported`], [`SignatureError::Malformed`].
    pub fn parse(armor: &[u8]) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Malformed;
        for (head, what) in [
            (
                &b"-----BEGIN PGP SIGNATURE-----"[..],
                "an OpenPGP signature",
            ),
            (b"-----BEGIN PGP MESSAGE-----", "an OpenPGP signature"),
            (b"-----BEGIN SIGNED MESSAGE-----", "an X.509 signature"),
        ] {
            if armor.starts_with(head) {
                return Err(SignatureError::Unsupported(format!(
                    "{what} is not supported by this version; SSH signatures are (git config gpg.format ssh)"
                )));
            }
        }
        if armor.len() > MAX_ARMOR {
            return Err(malformed("it is too long"));
        }
        let text = std::str::from_utf8(armor).map_err(|_| malformed("it is not text"))?;
        let body = text
            .strip_prefix(BEGIN)
            .ok_or(malformed("it does not begin as an SSH signature does"))?;
        // Some signers leave empty lines behind; anything else there is refused.
        let body = body
            .trim_end_matches('\n')
            .strip_suffix(END.trim_end())
            .filter(|body| body.ends_with('\n'))
            .ok_or(malformed("it does not end with its own END line"))?;
        let blob = decode_base64(body.bytes().filter(|byte| *byte != b'\n'))
            .ok_or(malformed("what is between BEGIN and END is not base64"))?;
        Self::from_blob(&blob)
    }

    /// Reads what is inside the armor.
    ///
    /// # Errors
    /// [`SignatureError::Unsupported`], [`SignatureError::Malformed`].
    pub(super) fn from_blob(blob: &[u8]) -> Result<Self, SignatureError> {
        let malformed = SignatureError::Malformed;
        let short = || malformed("it ends too early");
        let mut fields = Strings(blob);
        if fields.take(6) != Some(b"SSHSIG") {
            return Err(malformed("it has no SSHSIG mark"));
        }
        match fields.next_u32() {
            Some(1) => {}
            Some(_) => {
                return Err(SignatureError::Unsupported(
                    "an SSH signature of an unknown version".to_owned(),
                ));
            }
            None => return Err(short()),
        }
        let key = fields.next_string().ok_or_else(short)?;
        let namespace = fields.next_string().ok_or_else(short)?;
        let reserved = fields.next_string().ok_or_else(short)?;
        let hash = fields.next_string().ok_or_else(short)?;
        let signature = fields.next_string().ok_or_else(short)?;
        if !fields.0.is_empty() {
            return Err(malformed("there are bytes behind it"));
        }
        if !reserved.is_empty() {
            return Err(malformed("its reserved field is not empty"));
        }
        let key = Key::from_blob(key).map_err(|error| match error {
            KeyError::Malformed(_) => malformed("its public key cannot be read"),
            KeyError::Certificate(_) | KeyError::Unsupported(_) => {
                SignatureError::Unsupported(error.to_string())
            }
        })?;
        let namespace =
            std::str::from_utf8(namespace).map_err(|_| malformed("its namespace is not text"))?;
        let hash = match hash {
            b"sha256" => HashAlg::Sha256,
            b"sha512" => HashAlg::Sha512,
            _ => {
                return Err(SignatureError::Unsupported(
                    "a hash that is neither sha256 nor sha512".to_owned(),
                ));
            }
        };
        Ok(Self {
            key,
            namespace: namespace.to_owned(),
            hash,
            signature: signature.to_vec(),
        })
    }

    /// The key it claims to be made with.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The namespace it was made in.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether it is its key's signature over `message`, in its namespace; and whether the key was touched
    /// for it, which is for the caller to judge.
    ///
    /// # Errors
    /// See [`SignatureError`].
    pub fn verify(&self, message: &[u8]) -> Result<Presence, SignatureError> {
        let signed = SshSig::signed_data(&self.namespace, self.hash, message)
            .map_err(|_| SignatureError::Malformed("its namespace is empty"))?;
        let mut fields = Strings(&self.signature);
        let short = || SignatureError::Malformed("its innermost part ends too early");
        let algorithm = fields.next_string().ok_or_else(short)?;
        let value = fields.next_string().ok_or_else(short)?;
        let trailer = fields.0;
        match self.key.data() {
            KeyData::Ed25519(key) => {
                expect_algorithm(algorithm, &[b"ssh-ed25519"])?;
                no_trailer(trailer)?;
                ed25519(&key.0, &signed, value)?;
                Ok(Presence::NotAsked)
            }
            KeyData::SkEd25519(key) => {
                expect_algorithm(algorithm, &[b"sk-ssh-ed25519@openssh.com"])?;
                let presence = presence(trailer)?;
                let mut by_key = Sha256::digest(key.application()).to_vec();
                by_key.extend_from_slice(trailer);
                by_key.extend_from_slice(&Sha256::digest(&signed));
                ed25519(&key.public_key().0, &by_key, value)?;
                Ok(presence)
            }
            KeyData::SkEcdsaSha2NistP256(_) => {
                expect_algorithm(algorithm, &[b"sk-ecdsa-sha2-nistp256@openssh.com"])?;
                let presence = presence(trailer)?;
                // ssh-key builds what the security key signs from the same parts.
                self.by_crate(&signed)?;
                Ok(presence)
            }
            KeyData::Ecdsa(key) => {
                expect_algorithm(algorithm, &[key.algorithm().as_str().as_bytes()])?;
                no_trailer(trailer)?;
                self.by_crate(&signed)?;
                Ok(Presence::NotAsked)
            }
            KeyData::Rsa(_) => {
                expect_algorithm(algorithm, &[b"rsa-sha2-256", b"rsa-sha2-512"])?;
                no_trailer(trailer)?;
                self.by_crate(&signed)?;
                Ok(Presence::NotAsked)
            }
            other => Err(SignatureError::Unsupported(format!(
                "keys of type {} are not supported",
                other.algorithm()
            ))),
        }
    }

    fn by_crate(&self, signed: &[u8]) -> Result<(), SignatureError> {
        use ed25519_dalek::Verifier as _;
        let signature = Signature::try_from(self.signature.as_slice()).map_err(|_| {
            SignatureError::Malformed("its innermost part does not fit its key type")
        })?;
        if let Algorithm::Rsa { hash: None } = signature.algorithm() {
            return Err(SignatureError::Unsupported(
                "an RSA signature over SHA-1".to_owned(),
            ));
        }
        self.key
            .data()
            .verify(signed, &signature)
            .map_err(|_| SignatureError::Wrong)
    }
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
    let [flags, _, _, _, _] = trailer else {
        return Err(SignatureError::Malformed(
            "a security key's signature ends with its flags and counter",
        ));
    };
    Ok(if flags & USER_PRESENT == 0 {
        Presence::NotTouched
    } else {
        Presence::Touched
    })
}
