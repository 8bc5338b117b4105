//! What each fuzz target does with its bytes. Plain functions, so that the tests run them too, over the corpus and a little
//! beyond; `targets/` hands them to libFuzzer.
//!
//! Each asserts more than that nothing panics, wherever there is more to say.

use evenkeel::domain::commit::{Descent, RawCommit};
use evenkeel::domain::revision::Timestamp;
use evenkeel::trust::allowed_signers::{
    AllowedSigners, AllowedSignersError, SignerLine, SkippedLine,
};
use evenkeel::trust::certificate::Certificate;
use evenkeel::trust::commit::Commit;
use evenkeel::trust::openpgp::Keyring;
use evenkeel::trust::policy::{NamedBytes, TrustPolicy, Verdict};
use evenkeel::trust::revoked::Revoked;
use evenkeel::trust::sshsig::ArmoredSignature;
use evenkeel::trust::trust_set::Document;
use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::{
    agent_config, app, device, fleet, group, service, toml_document, yaml_document,
};
use jiff::tz::TimeZone;
use sha1_checked::Digest as _;

/// A target: its name, which is also its corpus' folder, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    ("sshsig", sshsig),
    ("allowed_signers", allowed_signers),
    ("krl", krl),
    ("certificate", certificate),
    ("commit", commit),
    ("trailers", trailers),
    ("trust_set", trust_set),
    ("openpgp_keyring", openpgp_keyring),
    ("openpgp_signature", openpgp_signature),
    ("fleet", fleet),
    ("group", group),
    ("device", device),
    ("app", app),
    ("agent", agent),
    ("compose", compose),
];

/// An armored SSH signature. One that is taken has one spelling: its base64 in lines between BEGIN and END.
pub(crate) fn sshsig(data: &[u8]) {
    let Ok(signature) = ArmoredSignature::parse(data) else {
        return;
    };
    let text = std::str::from_utf8(data).expect("what is taken is text");
    let body = text
        .strip_prefix("-----BEGIN SSH SIGNATURE-----\n")
        .and_then(|body| {
            body.trim_end_matches('\n')
                .strip_suffix("-----END SSH SIGNATURE-----")
        })
        .expect("what is taken is framed");
    let digits: String = body.split('\n').collect();
    assert!(
        digits.len().is_multiple_of(4)
            && digits
                .trim_end_matches('=')
                .bytes()
                .all(|byte| { byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/' })
    );
    let again = ArmoredSignature::parse(
        format!("-----BEGIN SSH SIGNATURE-----\n{digits}\n-----END SSH SIGNATURE-----\n")
            .as_bytes(),
    )
    .expect("the same digits on one line are the same signature");
    assert_eq!(again.key(), signature.key());
    assert_eq!(again.namespace(), signature.namespace());
    // Nobody signed this.
    assert_eq!(
        again.verify(b"evenkeel fuzz").is_ok(),
        signature.verify(b"evenkeel fuzz").is_ok()
    );
}

fn lines_of(bytes: &[u8]) -> (Vec<SignerLine>, Vec<SkippedLine>) {
    match AllowedSigners::parse("signers", bytes, &TimeZone::UTC) {
        Ok(signers) => (signers.lines().to_vec(), signers.skipped().to_vec()),
        Err(AllowedSignersError::Empty { skipped, .. }) => (Vec::new(), skipped),
        Err(AllowedSignersError::TooLarge { .. }) => (Vec::new(), Vec::new()),
    }
}

/// allowed_signers. Each line is read by itself: it is taken, skipped or passed over whatever stands around it.
pub(crate) fn allowed_signers(data: &[u8]) {
    let (lines, skipped) = lines_of(data);
    for line in &lines {
        assert!(!line.principals.is_empty() && line.principals.iter().all(|name| !name.is_empty()));
        if let (Some(after), Some(before)) = (line.valid_after, line.valid_before) {
            assert!(after < before);
        }
        if let Some(name) = line.principal() {
            assert!(line.principals.iter().any(|own| own == name) && !name.starts_with('!'));
        }
        assert!(!skipped.iter().any(|other| other.line == line.line));
    }
    for (index, text) in data.split(|byte| *byte == b'\n').enumerate().take(64) {
        let (alone, alone_skipped) = lines_of(text);
        let mut same = lines.iter().filter(|line| line.line == index + 1);
        if let Some(line) = alone.first() {
            let found = same.next();
            // A file in which nobody can sign is refused as a whole, so there may be no line to compare.
            if let Some(found) = found {
                assert_eq!(
                    (&found.principals, &found.key),
                    (&line.principals, &line.key)
                );
            } else {
                assert!(lines.is_empty());
            }
        }
        if let Some(why) = alone_skipped.first() {
            let found = skipped.iter().find(|line| line.line == index + 1);
            assert!(found.is_some_and(|found| found.why == why.why) || skipped.is_empty());
        }
    }
}

/// A revocation list, of keys or as a KRL. One that is taken says so of its exact bytes: a KRL with one byte more is refused.
pub(crate) fn krl(data: &[u8]) {
    if Revoked::parse("revoked", data).is_ok() && data.starts_with(b"SSHKRL\n\0") {
        for more in [0, 1, 4, 255] {
            assert!(Revoked::parse("revoked", &[data, &[more]].concat()).is_err());
        }
        assert!(Revoked::parse("revoked", &data[..data.len() - 1]).is_err());
    }
}

/// A certificate's blob. One that is taken is taken whole.
pub(crate) fn certificate(data: &[u8]) {
    let Ok(certificate) = Certificate::from_blob(data) else {
        return;
    };
    assert!(Certificate::is_one(data));
    assert!(Certificate::from_blob(&[data, &[0]].concat()).is_err());
    assert!(Certificate::from_blob(&data[..data.len() - 1]).is_err());
    for name in certificate.principals() {
        assert!(!name.is_empty() && !name.contains([',', '\n', '\0']));
    }
    let _ = certificate.vouched();
}

fn raw(bytes: &[u8]) -> RawCommit {
    let mut hasher = sha1_checked::Sha1::new();
    hasher.update(format!("commit {}\0", bytes.len()));
    hasher.update(bytes);
    let id: String = hasher
        .try_finalize()
        .hash()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    RawCommit {
        id: id.parse().expect("forty digits"),
        bytes: bytes.to_vec(),
        descent: Descent::NoFloor,
    }
}

/// A commit object. Its signature header and what it signs are together its bytes, and what it signs is the same commit.
pub(crate) fn commit(data: &[u8]) {
    let Ok(commit) = Commit::parse(&raw(data)) else {
        return;
    };
    let Some(armor) = &commit.signature else {
        assert_eq!(commit.payload, data);
        return;
    };
    let mut header = b"gpgsig".to_vec();
    for line in armor
        .strip_suffix(b"\n")
        .expect("a line at least")
        .split(|byte| *byte == b'\n')
    {
        header.push(b' ');
        header.extend_from_slice(line);
        header.push(b'\n');
    }
    let at = data
        .windows(header.len())
        .position(|part| part == header)
        .expect("the header is in the bytes");
    assert_eq!(
        [&data[..at], &data[at + header.len()..]].concat(),
        commit.payload
    );
    assert_eq!(data[at + header.len()], b'\n', "it is the last header");
    let signed = Commit::parse(&raw(&commit.payload)).expect("what is signed is a commit too");
    assert_eq!(signed.signature, None);
    assert_eq!(
        (signed.tree, signed.parents, signed.time, signed.trailers),
        (commit.tree, commit.parents, commit.time, commit.trailers)
    );
}

fn keyring(bytes: &[u8]) -> Option<Keyring> {
    let name = "keyring";
    Keyring::parse(NamedBytes { name, bytes }).ok()
}

/// An OpenPGP keyring. One that is taken has a key that can sign, and is the same when every certificate is there twice.
pub(crate) fn openpgp_keyring(data: &[u8]) {
    let Some(once) = keyring(data) else {
        return;
    };
    let holders = once.holders();
    assert!(
        holders
            .iter()
            .any(|holder| holder.trouble.is_none() && !holder.keys.is_empty())
    );
    for holder in &holders {
        assert!(matches!(holder.fingerprint.len(), 40 | 64));
        assert!(holder.keys.is_empty() || holder.principal.is_some());
    }
    if data.ends_with(b"\n") || data[0] & 0x80 != 0 {
        let twice = keyring(&[data, data].concat()).expect("two copies are as good as one");
        assert_eq!(twice.holders(), holders);
    }
}

/// An armored OpenPGP signature on a commit that nobody in the keyring signed: whatever it says, it does not count.
pub(crate) fn openpgp_signature(data: &[u8]) {
    const KEYRING: &[u8] = include_bytes!("corpus/openpgp_keyring/three");
    static POLICY: std::sync::LazyLock<TrustPolicy> = std::sync::LazyLock::new(|| {
        let bytes = KEYRING;
        TrustPolicy::of(AllowedSigners::nobody("signers", Vec::new()))
            .with_keyring(NamedBytes {
                name: "three",
                bytes,
            })
            .expect("the corpus has a keyring of three keys")
    });
    let mut bytes = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000000 +0000\ngpgsig".to_vec();
    for line in data
        .strip_suffix(b"\n")
        .unwrap_or(data)
        .split(|byte| *byte == b'\n')
    {
        bytes.push(b' ');
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(b"\nchange\n");
    let verdict = POLICY.judge(&raw(&bytes), Timestamp(0));
    assert!(matches!(verdict, Verdict::Refused(_)));
}

/// A commit's message. Its trailers are names and values of one line each, all of them words of the message.
pub(crate) fn trailers(data: &[u8]) {
    let head = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@x> 1700000000 +0000\ncommitter A <a@x> 1700000000 +0000\n\n";
    let Ok(commit) = Commit::parse(&raw(&[head.as_bytes(), data].concat())) else {
        assert!(data.contains(&0) || data.len() > 1024 * 1024 - head.len());
        return;
    };
    let text = String::from_utf8_lossy(data);
    for (name, value) in &commit.trailers {
        assert!(
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        );
        assert!(!value.contains('\n') && text.contains(name.as_str()));
        assert!(value.split_whitespace().all(|word| text.contains(word)));
    }
    // A line behind them that is no trailer: then none is.
    let more = [head.as_bytes(), data, b"\nno trailer"].concat();
    if let (Ok(more), false) = (Commit::parse(&raw(&more)), data.ends_with(b"\n\n")) {
        assert!(more.trailers.is_empty());
    }
}

/// A trust set of the repository. One that is taken has both headers, and each of its lines.
pub(crate) fn trust_set(data: &[u8]) {
    let Ok(set) = Document::parse(data) else {
        return;
    };
    assert_eq!(set.content.as_bytes(), data);
    assert!(set.serial >= 1 && !set.fleet.trim().is_empty());
    assert!(set.signers.skipped().is_empty() && !set.signers.lines().is_empty());
    let signers = AllowedSigners::parse("signers", data, &TimeZone::UTC).expect("they are signers");
    assert_eq!(signers.lines().len(), set.signers.lines().len());
}

/// Each problem stands in the document, and is told in one line.
fn told(data: &[u8], problems: Diagnostics) {
    let text = String::from_utf8_lossy(data);
    // A carriage return ends a line in YAML.
    let lines = u32::try_from(text.split(['\n', '\r']).count()).expect("a small document");
    for problem in problems.sorted() {
        assert_eq!(problem.file, "document");
        assert!(
            problem.at.line <= lines + 1,
            "{problem} in a document of {lines} lines"
        );
        assert!(
            !problem.message.is_empty() && !problem.message.contains('\n'),
            "{problem:?}"
        );
    }
}

/// fleet.toml.
pub(crate) fn fleet(data: &[u8]) {
    let mut out = Diagnostics::new();
    let fleet = fleet::parse("document", data, "0.1.0", &mut out);
    assert!(fleet.is_ok_and(|fleet| fleet.is_some()) || !out.is_empty());
    told(data, out);
}

/// A group.
pub(crate) fn group(data: &[u8]) {
    let mut out = Diagnostics::new();
    let group = group::parse("document", data, &mut out);
    assert!(group.is_some() || !out.is_empty());
    told(data, out);
}

/// A device.
pub(crate) fn device(data: &[u8]) {
    let mut out = Diagnostics::new();
    let device = device::parse("document", data, &mut out);
    assert!(device.is_some() || !out.is_empty());
    told(data, out);
}

/// app.toml, with its services.
pub(crate) fn app(data: &[u8]) {
    let mut out = Diagnostics::new();
    if let Some(node) = toml_document::parse("document", data, &mut out) {
        let app = app::decode(&node, &mut out);
        if let Some(services) = &app.services {
            let _ = service::decode_services(services, &mut out);
        }
    } else {
        assert!(!out.is_empty());
    }
    told(data, out);
}

/// agent.toml.
pub(crate) fn agent(data: &[u8]) {
    if let Err(problems) = agent_config::parse("document", data) {
        assert!(!problems.is_empty());
        told(data, problems);
    }
}

/// compose.yaml. What is taken without a problem means the same once it is printed in Compose's long form and read again.
pub(crate) fn compose(data: &[u8]) {
    let mut out = Diagnostics::new();
    if let Some(node) = yaml_document::parse("document", data, &mut out) {
        let compose = service::decode_compose(&node, &mut out);
        if out.is_empty() {
            let services: serde_json::Map<_, _> = compose
                .services
                .iter()
                .map(|(name, service)| (name.to_string(), service::print::compose_json(service)))
                .collect();
            let printed = serde_json::Value::Object(services).to_string();
            let again = yaml_document::parse("printed", printed.as_bytes(), &mut out)
                .map(|node| service::decode_services(&node, &mut out));
            assert!(out.is_empty(), "{out:?} in {printed}");
            assert_eq!(again, Some(compose.services), "{printed}");
        }
    } else {
        assert!(!out.is_empty());
    }
    told(data, out);
}
