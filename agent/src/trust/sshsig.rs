//! SSH signatures over a commit (OpenSSH's PROTOCOL.sshsig), read strictly and verified in process.
//!
//! Refuses text around the armor and carriage returns in it, and bytes behind the signature. The key may come in a
//! certificate, which is read here and judged by the trust set.

use ssh_key::{HashAlg, SshSig};

use super::certificate::{Certificate, CertificateError};
use super::key::{Key, KeyError, Strings};
use super::signature;
pub use super::signature::{Presence, SignatureError, Touch};
use crate::domain::text::decode_base64;

/// The namespace git signs in.
pub const GIT_NAMESPACE: &str = "git";

/// The largest armor taken: a certificate of many principals, with RSA keys and signatures of 4096 bits.
const MAX_ARMOR: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";

/// A signature, parsed and not yet verified.
#[derive(Debug, Clone)]
pub struct ArmoredSignature {
    key: Key,
    certificate: Option<Box<Certificate>>,
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
        let certificate = if Certificate::is_one(key) {
            let certificate = Certificate::from_blob(key).map_err(|error| match error {
                CertificateError::Malformed(_) => malformed("its certificate cannot be read"),
                CertificateError::Unsupported(why) => SignatureError::Unsupported(why),
            })?;
            Some(Box::new(certificate))
        } else {
            None
        };
        let key = match &certificate {
            Some(certificate) => certificate.key().clone(),
            None => Key::from_blob(key).map_err(|error| match error {
                KeyError::Malformed(_) => malformed("its public key cannot be read"),
                KeyError::Certificate(_) | KeyError::Unsupported(_) => {
                    SignatureError::Unsupported(error.to_string())
                }
            })?,
        };
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
            certificate,
            namespace: namespace.to_owned(),
            hash,
            signature: signature.to_vec(),
        })
    }

    /// The key it claims to be made with; where that came in a certificate, the certified key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The certificate that the key came in. Nothing in it is judged yet, its own signature included.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// OpenSSH's name of what it names: a key's type, or a certificate's (`ssh-ed25519-cert-v01@openssh.com`).
    #[must_use]
    pub fn key_type(&self) -> String {
        self.certificate()
            .map_or_else(|| self.key.key_type(), Certificate::key_type)
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
        signature::verify(&self.key, &signed, &self.signature)
    }
}
