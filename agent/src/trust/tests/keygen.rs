//! Keys, certificates, revocation lists and signatures that the real `ssh-keygen` makes, and its verdicts on them; for tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use jiff::tz::TimeZone;
use tempfile::TempDir;

use super::admission::{Among, Denied, Statement};
use super::allowed_signers::AllowedSigners;
use super::policy::Signer;
use super::revoked::Revoked;
use super::sshsig::ArmoredSignature;
use crate::domain::revision::Timestamp;

/// 2026-01-01.
pub(crate) const NOW: i64 = 1_767_225_600;

/// A directory with keys in it, each under its name.
pub(crate) struct Desk {
    dir: TempDir,
}

/// What is judged.
pub(crate) struct Case<'a> {
    pub(crate) signers: &'a str,
    pub(crate) armor: &'a str,
    pub(crate) message: &'a [u8],
    pub(crate) at: i64,
    pub(crate) revoked: Option<&'a [u8]>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// `ssh-keygen` in this directory: whether it succeeded, and what it said.
    pub(crate) fn keygen(&self, arguments: &[&str], input: &[u8]) -> (bool, String) {
        let mut child = Command::new("ssh-keygen")
            .args(arguments)
            .current_dir(self.dir.path())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may stop before it has read everything.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
        let output = child.wait_with_output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap(),
        )
    }

    fn must(&self, arguments: &[&str], input: &[u8]) -> String {
        let (ok, said) = self.keygen(arguments, input);
        assert!(ok, "ssh-keygen {arguments:?}");
        said
    }

    /// A key: `kind` as in `-t ecdsa -b 384`.
    pub(crate) fn key(&self, name: &str, kind: &str) {
        let mut arguments = vec!["-q", "-N", "", "-C", name, "-f", name];
        arguments.extend(kind.split(' '));
        self.must(&arguments, b"");
    }

    /// `key-type base64`.
    pub(crate) fn public(&self, name: &str) -> String {
        let text = self.read(&format!("{name}.pub"));
        text.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A certificate for `key` by `authority`, under the name `name` from then on; its private key, where there is one, too.
    pub(crate) fn certify(&self, name: &str, key: &str, authority: &str, options: &[&str]) {
        for (from, to) in [
            (key.to_owned(), name.to_owned()),
            (format!("{key}.pub"), format!("{name}.pub")),
        ] {
            if self.path(&from).exists() {
                std::fs::copy(self.path(&from), self.path(&to)).unwrap();
            }
        }
        let public = format!("{name}.pub");
        let mut arguments = vec!["-q", "-s", authority];
        arguments.extend(options);
        arguments.push(&public);
        self.must(&arguments, b"");
    }

    /// The certificate of that name, in its wire form.
    pub(crate) fn certificate(&self, name: &str) -> Vec<u8> {
        let text = self.read(&format!("{name}-cert.pub"));
        let base64 = text.split_whitespace().nth(1).unwrap();
        crate::domain::text::decode_base64(base64.bytes()).unwrap()
    }

    /// A signature with the key of that name, as `ssh-keygen` makes it: `name` is a key, `name-cert` its certificate.
    pub(crate) fn sign(&self, name: &str, namespace: &str, message: &[u8]) -> String {
        let public = format!("{name}.pub");
        let arguments = ["-q", "-Y", "sign", "-n", namespace, "-f", &public];
        self.must(&arguments, message)
    }

    /// A revocation list. `authority` is whose certificates the specification speaks of.
    pub(crate) fn krl(&self, authority: Option<&str>, specification: &str) -> Vec<u8> {
        self.write("specification", specification);
        let public = authority.map(|name| format!("{name}.pub"));
        let mut arguments = vec!["-q", "-k", "-f", "krl"];
        if let Some(public) = &public {
            arguments.extend(["-s", public]);
        }
        arguments.push("specification");
        let _ = std::fs::remove_file(self.path("krl"));
        self.must(&arguments, b"");
        std::fs::read(self.path("krl")).unwrap()
    }

    /// Which of these keys and certificates `ssh-keygen -Q` finds revoked.
    pub(crate) fn revoked(&self, krl: &[u8], names: &[String]) -> Vec<bool> {
        self.write("queried", krl);
        let public: Vec<String> = names.iter().map(|name| format!("{name}.pub")).collect();
        let mut arguments = vec!["-Q", "-f", "queried"];
        arguments.extend(public.iter().map(String::as_str));
        let said = self.keygen(&arguments, b"").1;
        let answers: Vec<bool> = said
            .lines()
            .map(|line| line.ends_with(": REVOKED"))
            .collect();
        assert_eq!(answers.len(), names.len(), "{said}");
        answers
    }

    /// The principals as which `ssh-keygen` takes the signature, found as `git verify-commit` finds them and by asking
    /// for each of `names`.
    pub(crate) fn theirs(&self, case: &Case<'_>, names: &[&str]) -> Vec<String> {
        self.write("signers", case.signers);
        self.write("signature", case.armor);
        let time = Timestamp(case.at).to_string();
        let digits: String = time.chars().filter(char::is_ascii_digit).collect();
        let time = format!("-Overify-time={digits}Z");
        let (_, found) = self.keygen(
            &[
                "-Y",
                "find-principals",
                "-f",
                "signers",
                "-s",
                "signature",
                &time,
            ],
            b"",
        );
        let mut names: Vec<&str> = found.lines().chain(names.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        if let Some(revoked) = case.revoked {
            self.write("revoked", revoked);
        }
        names
            .into_iter()
            .filter(|name| {
                let mut arguments = vec![
                    "-Y",
                    "verify",
                    "-n",
                    "git",
                    "-f",
                    "signers",
                    "-s",
                    "signature",
                    &time,
                    "-I",
                    name,
                ];
                if case.revoked.is_some() {
                    arguments.extend(["-r", "revoked"]);
                }
                self.keygen(&arguments, case.message).0
            })
            .map(str::to_owned)
            .collect()
    }
}

impl Case<'_> {
    /// Our verdict on it.
    pub(crate) fn ours(&self, floor: i64, among: Among<'_>) -> Result<Signer, String> {
        let signature =
            ArmoredSignature::parse(self.armor.as_bytes()).map_err(|error| error.to_string())?;
        let signers = AllowedSigners::parse("signers", self.signers.as_bytes(), &TimeZone::UTC)
            .map_err(|error| error.to_string())?;
        let revoked = match self.revoked {
            Some(bytes) => Revoked::parse("revoked", bytes).map_err(|error| error.to_string())?,
            None => Revoked::default(),
        };
        let statement = Statement {
            signature: &signature,
            message: self.message,
            namespace: "git",
            made: Timestamp(self.at),
            time_floor: Timestamp(floor),
        };
        signers
            .admit(&statement, &revoked, among)
            .map_err(|denied| {
                let Denied {
                    reason, message, ..
                } = *denied;
                format!("{reason}: {message}")
            })
    }

    /// The principal, or the reason's word, or an error's text.
    pub(crate) fn word(&self) -> String {
        match self.ours(0, Among::Everyone) {
            Ok(signer) => signer.principal,
            Err(why) => why
                .split_once(": ")
                .map_or(why.clone(), |(word, _)| word.to_owned()),
        }
    }
}

/// A signature's armor around these bytes.
pub(crate) fn armored(blob: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN SSH SIGNATURE-----\n");
    for row in blob.chunks(48) {
        for chunk in row.chunks(3) {
            let word = chunk
                .iter()
                .fold(0_u32, |word, byte| (word << 8) | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            text.extend((0..4).map(|digit| {
                if digit > chunk.len() {
                    '='
                } else {
                    char::from(DIGITS[((word >> (18 - 6 * digit)) & 63) as usize])
                }
            }));
        }
        text.push('\n');
    }
    text.push_str("-----END SSH SIGNATURE-----\n");
    text
}

/// The bytes in a signature's armor.
pub(crate) fn unarmored(armor: &str) -> Vec<u8> {
    let digits = armor.lines().filter(|line| !line.starts_with('-'));
    crate::domain::text::decode_base64(digits.flat_map(str::bytes)).unwrap()
}
