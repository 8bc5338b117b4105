//! Security keys: what a real one signs, put together from a key of `ssh-keygen`'s, beside `ssh-keygen`'s verdict.

#![allow(clippy::unwrap_used, reason = "tests")]
use ssh_key::private::PrivateKey;

use super::super::admission::Among;
use super::super::keygen::{Case, Desk, NOW};

const MESSAGE: &[u8] = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\nsubject\n";
const APPLICATION: &[u8] = b"ssh:";

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A security key that is none: it says what it is told to.
struct Token {
    secret: PrivateKey,
    kind: &'static str,
    blob: Vec<u8>,
}

impl Token {
    /// Under this name on the desk from then on; no private key is left there.
    fn new(desk: &Desk, name: &str, kind: &'static str, made_of: &str) -> Self {
        desk.key("secret", made_of);
        let secret = PrivateKey::from_openssh(desk.read("secret")).unwrap();
        for file in ["secret", "secret.pub"] {
            std::fs::remove_file(desk.path(file)).unwrap();
        }
        let plain = secret.public_key().to_bytes().unwrap();
        // Behind the plain type's name stands what behind the security key's does, but for the application.
        let at = 4 + secret.algorithm().as_str().len();
        let blob = [
            string(kind.as_bytes()),
            plain[at..].to_vec(),
            string(APPLICATION),
        ]
        .concat();
        let public = ssh_key::PublicKey::from_bytes(&blob).unwrap();
        desk.write(
            &format!("{name}.pub"),
            format!("{}\n", public.to_openssh().unwrap()),
        );
        Self { secret, kind, blob }
    }

    /// A signature by it with these flags, for git; `named` is its public key, or a certificate with it.
    fn sign(&self, named: &[u8], flags: u8, trailing: &[u8]) -> String {
        use ed25519_dalek::Signer as _;
        use sha2::{Digest as _, Sha256, Sha512};
        let head = [
            b"SSHSIG".to_vec(),
            string(b"git"),
            string(b""),
            string(b"sha512"),
        ]
        .concat();
        let signed = [head, string(&Sha512::digest(MESSAGE))].concat();
        let trailer = [flags, 0, 0, 0, 9];
        let by_key = [
            &Sha256::digest(APPLICATION)[..],
            &trailer,
            &Sha256::digest(&signed),
        ]
        .concat();
        let signature: ssh_key::Signature = self.secret.key_data().try_sign(&by_key).unwrap();
        let wire = [
            string(self.kind.as_bytes()),
            string(signature.as_bytes()),
            trailer.to_vec(),
            trailing.to_vec(),
        ]
        .concat();
        let blob = [
            b"SSHSIG\0\0\0\x01".to_vec(),
            string(named),
            string(b"git"),
            string(b""),
            string(b"sha512"),
            string(&wire),
        ]
        .concat();
        super::super::keygen::armored(&blob)
    }
}

fn kinds() -> [(&'static str, &'static str); 2] {
    [
        ("sk-ecdsa-sha2-nistp256@openssh.com", "-t ecdsa -b 256"),
        ("sk-ssh-ed25519@openssh.com", "-t ed25519"),
    ]
}

#[test]
fn a_security_key_of_either_kind_must_have_been_touched() {
    let desk = Desk::new();
    for (kind, made_of) in kinds() {
        let token = Token::new(&desk, "token", kind, made_of);
        let public = desk.public("token");
        let plain = format!("alice@x {public}\n");
        let lenient = format!("alice@x no-touch-required {public}\n");
        for flags in [0, 1, 4, 5] {
            let armor = token.sign(&token.blob, flags, b"");
            let mut case = Case {
                signers: &plain,
                armor: &armor,
                message: MESSAGE,
                at: NOW,
                revoked: None,
            };
            let touched = flags & 1 == 1;
            assert_eq!(desk.theirs(&case, &[]), ["alice@x"], "{kind} {flags}");
            let wanted = if touched { "alice@x" } else { "bad-signature" };
            assert_eq!(case.word(), wanted, "{kind} {flags}");
            case.signers = &lenient;
            assert_eq!(case.word(), "alice@x", "{kind} {flags}");
            // The flags are signed too.
            let bytes = super::super::keygen::unarmored(&armor);
            let mut raised = bytes.clone();
            let at = raised.len() - 5;
            raised[at] ^= 1;
            let raised = super::super::keygen::armored(&raised);
            case.armor = &raised;
            assert!(desk.theirs(&case, &["alice@x"]).is_empty());
            assert_eq!(case.word(), "bad-signature", "{kind} {flags} raised");
        }
        let armor = token.sign(&token.blob, 1, b"x");
        let case = Case {
            signers: &plain,
            armor: &armor,
            message: MESSAGE,
            at: NOW,
            revoked: None,
        };
        assert_eq!(case.word(), "bad-signature", "{kind} with bytes behind it");
        let other = Case {
            armor: &token.sign(&token.blob, 1, b""),
            message: b"another",
            ..case
        };
        assert_eq!(other.word(), "bad-signature", "{kind}");
    }
}

#[test]
fn a_certificate_can_ask_more_of_a_security_key_and_never_less() {
    let desk = Desk::new();
    desk.key("ca", "-t ed25519");
    let strict = format!("*@x cert-authority {}\n", desk.public("ca"));
    let lenient = format!(
        "*@x cert-authority,no-touch-required {}\n",
        desk.public("ca")
    );
    for (kind, made_of) in kinds() {
        let token = Token::new(&desk, "token", kind, made_of);
        for (options, flags, on_strict, on_lenient) in [
            (&[][..], 1, true, true),
            (&[], 0, false, false),
            (&["-O", "no-touch-required"], 0, false, true),
            (&["-O", "no-touch-required"], 1, true, true),
            (&["-O", "verify-required"], 1, false, false),
            (&["-O", "verify-required"], 4, false, false),
            (&["-O", "verify-required"], 5, true, true),
            (
                &["-O", "no-touch-required", "-O", "verify-required"],
                0,
                false,
                false,
            ),
        ] {
            let arguments = [&["-I", "t", "-n", "alice@x"], options].concat();
            desk.certify("t", "token", "ca", &arguments);
            let armor = token.sign(&desk.certificate("t"), flags, b"");
            for (signers, taken) in [(&strict, on_strict), (&lenient, on_lenient)] {
                let case = Case {
                    signers,
                    armor: &armor,
                    message: MESSAGE,
                    at: NOW,
                    revoked: None,
                };
                let wanted = if taken { "alice@x" } else { "bad-signature" };
                assert_eq!(case.word(), wanted, "{kind} {options:?} {flags}");
            }
            let case = Case {
                signers: &strict,
                armor: &armor,
                message: MESSAGE,
                at: NOW,
                revoked: None,
            };
            assert_eq!(desk.theirs(&case, &[]), ["alice@x"]);
            if let Ok(signer) = case.ours(0, Among::Everyone) {
                assert_eq!(
                    signer.key_type,
                    kind.replace("@openssh.com", "-cert-v01@openssh.com")
                );
            }
        }
    }
}
