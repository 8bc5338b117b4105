use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

use super::*;
use crate::domain::outcome::Report;
use crate::domain::revision::Timestamp;

fn pair(seed: u8) -> PrivateKey {
    PrivateKey::new(
        KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])),
        "x",
    )
    .unwrap()
}

fn public(key: &PrivateKey) -> Key {
    Key::from_line(&key.public_key().to_openssh().unwrap()).unwrap()
}

fn draft(device: &str, sequence: u64) -> DeviceReport {
    let told = Report {
        device: device.to_owned(),
        branch: "canary".to_owned(),
        fleet: Some("acme".to_owned()),
        ..Report::default()
    };
    DeviceReport {
        time: Timestamp(1_800_000_000),
        sequence,
        ..DeviceReport::of(&told, "9.9.9")
    }
}

fn signed_for(namespace: &str, report: &DeviceReport, key: &PrivateKey) -> String {
    let line = line(report);
    let armor = key
        .sign(namespace, HashAlg::Sha512, line.as_bytes())
        .unwrap()
        .to_pem(LineEnding::LF)
        .unwrap();
    format!("{line}{armor}\n")
}

fn signed(report: &DeviceReport, key: &PrivateKey) -> String {
    signed_for(NAMESPACE, report, key)
}

fn reason(text: &str, key: &PrivateKey) -> &'static str {
    match verify(text.as_bytes(), "acme", |_| Ok(public(key))) {
        Ok(_) => "ok",
        Err(error) => error.reason(),
    }
}

#[test]
fn a_report_counts_where_its_devices_key_signed_all_of_it() {
    let (own, other) = (pair(1), pair(2));
    let report = draft("gw-1", 7);
    let text = signed(&report, &own);
    let known = verify(text.as_bytes(), "acme", |id| {
        assert_eq!(id, "gw-1");
        Ok(public(&own))
    })
    .unwrap();
    assert_eq!(known.report(), &report);
    assert_eq!(known.digest(), digest(line(&report).as_bytes()));
    assert_eq!(reason(&text, &other), "wrong-key");
    assert_eq!(
        reason(&signed_for("git", &report, &own), &own),
        "wrong-namespace"
    );
    assert_eq!(
        reason(&text.replacen("9.9.9", "9.9.8", 1), &own),
        "bad-signature"
    );
    assert_eq!(reason(text.lines().next().unwrap(), &own), "malformed");
    assert_eq!(
        reason(&text.replacen("\"format\":1", "\"format\":2", 1), &own),
        "unsupported"
    );
    let stray = DeviceReport {
        fleet: Some("other".to_owned()),
        ..report
    };
    assert_eq!(reason(&signed(&stray, &own), &own), "other-fleet");
    let unknown = verify(text.as_bytes(), "acme", |_| Err("no".to_owned())).unwrap_err();
    assert_eq!(unknown.reason(), "unknown-device");
}

#[test]
fn of_several_reports_of_a_device_the_newest_counts_and_a_forked_number_does_not() {
    let key = pair(1);
    let read = |report: &DeviceReport| {
        verify(signed(report, &key).as_bytes(), "acme", |_| {
            Ok(public(&key))
        })
        .unwrap()
    };
    let (old, new) = (read(&draft("gw-1", 3)), read(&draft("gw-1", 5)));
    let other = read(&draft("gw-2", 1));
    let judged = newest(&[new.clone(), old, other.clone(), new.clone()]);
    assert_eq!(
        judged,
        [
            Ok(()),
            Err(Superseded::Older { has: 3, newer: 5 }),
            Ok(()),
            Ok(())
        ]
    );
    let twin = read(&DeviceReport {
        agent: "elsewhere".to_owned(),
        ..draft("gw-1", 5)
    });
    assert_eq!(
        newest(&[new, twin, other]),
        [
            Err(Superseded::Forked(5)),
            Err(Superseded::Forked(5)),
            Ok(())
        ]
    );
}
