//! The keys of a run, and signatures by them: made here where that gives the very bytes `ssh-keygen` would (ed25519), or
//! others as good (ECDSA, security keys, which this machine has none of), and by `ssh-keygen` itself for RSA and for a share.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::{run, run_with_input};
use fastrand::Rng;
use p256::ecdsa::signature::Signer as _;
use sha2::{Digest as _, Sha256, Sha512};

use super::wire::{SshSig, dearmor, mpint, string};
use evenkeel::domain::text::base64;

/// What a key can do.
#[derive(Clone)]
enum Secret {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(Box<p521::ecdsa::SigningKey>),
    SkEd25519(Box<ed25519_dalek::SigningKey>),
    SkP256(p256::ecdsa::SigningKey),
    /// In a file, for `ssh-keygen`.
    Rsa,
}

/// A key pair of the pool.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) blob: Vec<u8>,
    pub(super) file: PathBuf,
    secret: Secret,
}

const APPLICATION: &[u8] = b"ssh:";

impl Pair {
    fn new(dir: &Path, name: &str, kind: &'static str, blob: Vec<u8>, secret: Secret) -> Self {
        let pair = Self {
            name: name.to_owned(),
            kind,
            blob,
            file: dir.join(name),
            secret,
        };
        std::fs::write(
            pair.file.with_extension("pub"),
            format!("{kind} {} {name}\n", base64(&pair.blob)),
        )
        .unwrap();
        pair
    }

    fn ed25519(dir: &Path, name: &str, rng: &mut Rng) -> Self {
        let seed: [u8; 32] = std::array::from_fn(|_| rng.u8(..));
        let key = ed25519_dalek::SigningKey::from_bytes(&seed);
        let public = key.verifying_key().to_bytes();
        let blob = [string("ssh-ed25519"), string(public)].concat();
        let private = [string(public), string([seed, public].concat())].concat();
        let pair = Self::new(dir, name, "ssh-ed25519", blob, Secret::Ed25519(key.into()));
        pair.write_private(&private);
        pair
    }

    fn security_ed25519(dir: &Path, name: &str, rng: &mut Rng) -> Self {
        let kind = "sk-ssh-ed25519@openssh.com";
        let key = ed25519_dalek::SigningKey::from_bytes(&std::array::from_fn(|_| rng.u8(..)));
        let blob = [
            string(kind),
            string(key.verifying_key().to_bytes()),
            string(APPLICATION),
        ]
        .concat();
        Self::new(dir, name, kind, blob, Secret::SkEd25519(key.into()))
    }

    fn ecdsa(dir: &Path, name: &str, curve: Curve, rng: &mut Rng) -> Self {
        // Below the order of each curve: its first bits are zero.
        let mut scalar = vec![0_u8; curve.bytes()];
        for byte in scalar.iter_mut().skip(2) {
            *byte = rng.u8(..);
        }
        let (kind, label, point, secret): (_, _, Vec<u8>, _) = match curve {
            Curve::P256 | Curve::SkP256 => {
                let key = p256::ecdsa::SigningKey::from_slice(&scalar).unwrap();
                let point = key
                    .verifying_key()
                    .to_encoded_point(false)
                    .as_bytes()
                    .to_vec();
                if curve == Curve::P256 {
                    ("ecdsa-sha2-nistp256", "nistp256", point, Secret::P256(key))
                } else {
                    (
                        "sk-ecdsa-sha2-nistp256@openssh.com",
                        "nistp256",
                        point,
                        Secret::SkP256(key),
                    )
                }
            }
            Curve::P384 => {
                let key = p384::ecdsa::SigningKey::from_slice(&scalar).unwrap();
                let point = key
                    .verifying_key()
                    .to_encoded_point(false)
                    .as_bytes()
                    .to_vec();
                ("ecdsa-sha2-nistp384", "nistp384", point, Secret::P384(key))
            }
            Curve::P521 => {
                let key = p521::ecdsa::SigningKey::from_slice(&scalar).unwrap();
                let point = p521::ecdsa::VerifyingKey::from(&key)
                    .to_encoded_point(false)
                    .as_bytes()
                    .to_vec();
                (
                    "ecdsa-sha2-nistp521",
                    "nistp521",
                    point,
                    Secret::P521(key.into()),
                )
            }
        };
        let mut blob = [string(kind), string(label), string(&point)].concat();
        if curve == Curve::SkP256 {
            blob.extend(string(APPLICATION));
        }
        let pair = Self::new(dir, name, kind, blob, secret);
        if curve != Curve::SkP256 {
            pair.write_private(&[string(label), string(&point), mpint(&scalar)].concat());
        }
        pair
    }

    fn rsa(dir: &Path, name: &str, bits: u32) -> Self {
        let file = dir.join(name);
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "rsa", "-N", "", "-C", name, "-b"])
                .arg(bits.to_string())
                .arg("-f")
                .arg(&file),
            PATIENCE,
        )
        .expect_code(0);
        let line = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        let blob = super::wire::unbase64(line.split(' ').nth(1).unwrap().as_bytes());
        Self::new(dir, name, "ssh-rsa", blob, Secret::Rsa)
    }

    /// `openssh-key-v1` without a passphrase (OpenSSH's PROTOCOL.key).
    fn write_private(&self, fields: &[u8]) {
        let mut inner = [&[0; 8][..], &string(self.kind), fields, &string(&self.name)].concat();
        for pad in 1..=(8 - inner.len() % 8) % 8 {
            inner.push(u8::try_from(pad).unwrap());
        }
        let blob = [
            b"openssh-key-v1\0".to_vec(),
            string("none"),
            string("none"),
            string(""),
            1_u32.to_be_bytes().to_vec(),
            string(&self.blob),
            string(inner),
        ]
        .concat();
        let text = format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            base64(&blob)
        );
        std::fs::write(&self.file, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&self.file, mode).unwrap();
    }

    pub(super) fn is_security_key(&self) -> bool {
        matches!(self.secret, Secret::SkEd25519(_) | Secret::SkP256(_))
    }

    /// `key-type base64`.
    pub(super) fn columns(&self) -> String {
        format!("{} {}", self.kind, base64(&self.blob))
    }

    /// The signature's parts over `message`; a security key was touched where bit 0 of `flags` is set.
    pub(super) fn sign(&self, message: &[u8], namespace: &str, hash: &str, flags: u8) -> SshSig {
        let digest = if hash == "sha256" {
            Sha256::digest(message).to_vec()
        } else {
            Sha512::digest(message).to_vec()
        };
        let signed = [
            b"SSHSIG".to_vec(),
            string(namespace),
            string(""),
            string(hash),
            string(digest),
        ]
        .concat();
        let mut trailer = Vec::new();
        if self.is_security_key() {
            trailer = vec![flags, 0, 0, 0, 7];
        }
        let Some(value) = self.sign_raw(&signed, &trailer) else {
            return self.sign_by_tool(message, namespace, hash);
        };
        SshSig {
            magic: b"SSHSIG".to_vec(),
            version: 1,
            key: self.blob.clone(),
            namespace: namespace.as_bytes().to_vec(),
            reserved: Vec::new(),
            hash: hash.as_bytes().to_vec(),
            algorithm: self.kind.as_bytes().to_vec(),
            value,
            trailer,
            behind: Vec::new(),
        }
    }

    /// The innermost signature; `None` where only `ssh-keygen` can make it.
    pub(super) fn sign_raw(&self, bytes: &[u8], trailer: &[u8]) -> Option<Vec<u8>> {
        let by_security_key = || {
            [
                &Sha256::digest(APPLICATION)[..],
                trailer,
                &Sha256::digest(bytes),
            ]
            .concat()
        };
        let numbers = |both: &[u8]| {
            let (r, s) = both.split_at(both.len() / 2);
            [mpint(r), mpint(s)].concat()
        };
        Some(match &self.secret {
            Secret::Ed25519(key) => key.sign(bytes).to_bytes().to_vec(),
            Secret::SkEd25519(key) => key.sign(&by_security_key()).to_bytes().to_vec(),
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(bytes);
                numbers(&signature.to_bytes())
            }
            Secret::SkP256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(&by_security_key());
                numbers(&signature.to_bytes())
            }
            Secret::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign(bytes);
                numbers(&signature.to_bytes())
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(bytes);
                numbers(&signature.to_bytes())
            }
            Secret::Rsa => return None,
        })
    }

    /// By `ssh-keygen -Y sign`, which no security key here can.
    pub(super) fn sign_by_tool(&self, message: &[u8], namespace: &str, hash: &str) -> SshSig {
        SshSig::parse(&dearmor(&self.armor_by_tool(message, namespace, hash)))
    }

    pub(super) fn armor_by_tool(&self, message: &[u8], namespace: &str, hash: &str) -> Vec<u8> {
        run_with_input(
            Command::new("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", namespace, "-O"])
                .arg(format!("hashalg={hash}"))
                .arg("-f")
                .arg(&self.file),
            message,
            PATIENCE,
        )
        .expect_code(0)
        .stdout
        .into_bytes()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
    SkP256,
}

impl Curve {
    const fn bytes(self) -> usize {
        match self {
            Self::P256 | Self::SkP256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// The keys of a run. All of them but the RSA keys follow from the seed.
pub(super) struct Pool {
    pub(super) signers: Vec<Pair>,
    pub(super) authorities: Vec<Pair>,
    /// RSA keys of sizes that do not count here.
    pub(super) odd: Vec<Pair>,
}

impl Pool {
    pub(super) fn new(dir: &Path, rng: &mut Rng) -> Self {
        let mut signers = Vec::new();
        for number in 0..4 {
            signers.push(Pair::ed25519(dir, &format!("ed{number}"), rng));
        }
        for (name, curve) in [
            ("p256a", Curve::P256),
            ("p256b", Curve::P256),
            ("p384", Curve::P384),
            ("p521", Curve::P521),
            ("skp256", Curve::SkP256),
        ] {
            signers.push(Pair::ecdsa(dir, name, curve, rng));
        }
        for number in 0..2 {
            signers.push(Pair::security_ed25519(dir, &format!("sked{number}"), rng));
        }
        signers.push(Pair::rsa(dir, "rsa2048", 2048));
        signers.push(Pair::rsa(dir, "rsa3072", 3072));
        Self {
            signers,
            authorities: vec![
                Pair::ed25519(dir, "ca-ed", rng),
                Pair::ecdsa(dir, "ca-p256", Curve::P256, rng),
                Pair::rsa(dir, "ca-rsa", 2048),
            ],
            odd: vec![Pair::rsa(dir, "rsa1024", 1024)],
        }
    }
}
