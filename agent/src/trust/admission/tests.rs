#![allow(clippy::unwrap_used, reason = "tests")]
use jiff::tz::TimeZone;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{HashAlg, LineEnding};

use super::*;

const MESSAGE: &[u8] = b"fleet acme\nbranch stable\n";

struct Case<'a> {
    options: &'a str,
    made_in: &'a str,
    namespace: &'a str,
    made: i64,
    floor: i64,
    among: Option<&'a [String]>,
    message: &'a [u8],
    revoked: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            options: "namespaces=\"evenkeel-*\"",
            made_in: "evenkeel-approval",
            namespace: "evenkeel-approval",
            made: 1_700_000_000,
            floor: 0,
            among: None,
            message: MESSAGE,
            revoked: false,
        }
    }
}

impl Case<'_> {
    /// The principal, or the reason.
    fn word(&self) -> String {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let public = key.public_key().to_openssh().unwrap();
        let line = format!("bob@x,alice@x {} {public}\n", self.options);
        let signers = AllowedSigners::parse("signers", line.as_bytes(), &TimeZone::UTC).unwrap();
        let armor = key
            .sign(self.made_in, HashAlg::Sha512, MESSAGE)
            .unwrap()
            .to_pem(LineEnding::LF)
            .unwrap();
        let signature = ArmoredSignature::parse(armor.as_bytes()).unwrap();
        let revoked = if self.revoked {
            Revoked::parse("revoked", public.as_bytes()).unwrap()
        } else {
            Revoked::default()
        };
        let statement = Statement {
            signature: &signature,
            message: self.message,
            namespace: self.namespace,
            made: Timestamp(self.made),
            time_floor: Timestamp(self.floor),
        };
        let among = match self.among {
            Some(signers) => Among::Only {
                signers,
                purpose: "approvals",
            },
            None => Among::Everyone,
        };
        match signers.admit(&statement, &revoked, among) {
            Ok(signer) => signer.principal,
            Err(denied) => denied.reason.to_string(),
        }
    }
}

#[test]
fn what_is_no_commit_is_judged_by_the_same_rules() {
    let alice = ["alice@x".to_owned()];
    let carol = ["carol@x".to_owned()];
    let windowed = "valid-before=\"20240101Z\"";
    for (wanted, case) in [
        ("bob@x", Case::default()),
        (
            "wrong-namespace",
            Case {
                made_in: "git",
                ..Case::default()
            },
        ),
        (
            "wrong-namespace",
            Case {
                made_in: "git",
                namespace: "git",
                ..Case::default()
            },
        ),
        (
            "bad-signature",
            Case {
                message: b"fleet acme\nbranch canary\n",
                ..Case::default()
            },
        ),
        (
            "revoked",
            Case {
                revoked: true,
                ..Case::default()
            },
        ),
        (
            "bob@x",
            Case {
                options: windowed,
                ..Case::default()
            },
        ),
        (
            "key-expired",
            Case {
                options: windowed,
                floor: 1_800_000_000,
                ..Case::default()
            },
        ),
        (
            "key-not-yet-valid",
            Case {
                options: "valid-after=\"20240101Z\"",
                floor: 1_800_000_000,
                ..Case::default()
            },
        ),
        (
            "alice@x",
            Case {
                among: Some(&alice),
                ..Case::default()
            },
        ),
        (
            "wrong-branch",
            Case {
                among: Some(&carol),
                ..Case::default()
            },
        ),
    ] {
        assert_eq!(case.word(), wanted, "{:?}", case.options);
    }
}
