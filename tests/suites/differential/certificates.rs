//! SSH certificates (OpenSSH's PROTOCOL.certkeys), put together here or by `ssh-keygen -s`.

use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::run;
use fastrand::Rng;

use super::keys::{Pair, Pool};
use super::wire::{string, take, unbase64};

/// The fields that decide.
#[derive(Debug, Clone)]
struct Fields {
    serial: u64,
    kind: u32,
    id: &'static str,
    principals: Vec<String>,
    after: u64,
    before: u64,
    critical: Vec<u8>,
    extensions: Vec<u8>,
    reserved: Vec<u8>,
}

fn option(name: &str, value: &str) -> Vec<u8> {
    let data = if value.is_empty() {
        Vec::new()
    } else {
        string(value)
    };
    [string(name), string(data)].concat()
}

/// A certificate for `pair`, and by which authority and in what way it is special.
pub(super) fn issue<'p>(
    pair: &Pair,
    pool: &'p Pool,
    time: i64,
    rng: &mut Rng,
) -> (Vec<u8>, &'p Pair, &'static str) {
    let authority = &pool.authorities[rng.usize(0..pool.authorities.len())];
    let around = |rng: &mut Rng| u64::try_from(time + rng.i64(-200_000..200_000)).unwrap();
    let mut fields = Fields {
        serial: rng.u64(0..12),
        kind: 1,
        id: ["id-one", "id-two", ""][rng.usize(0..3)],
        principals: vec![format!("{}@example.com", pair.name)],
        after: 0,
        before: u64::MAX,
        critical: Vec::new(),
        extensions: option("permit-pty", ""),
        reserved: Vec::new(),
    };
    let mut label = "certificate";
    match rng.u32(0..22) {
        0 => {
            fields.kind = [0, 2, 3][rng.usize(0..3)];
            label = "certificate for a host";
        }
        1 => {
            fields.principals.clear();
            label = "certificate for everybody";
        }
        2 => {
            fields.principals = vec!["other@example.com".to_owned(), fields.principals[0].clone()];
            label = "certificate with two principals";
        }
        3 => {
            fields.principals = vec!["*".to_owned()];
            label = "certificate for a star";
        }
        4..=6 => {
            fields.after = around(rng);
            label = "certificate from a time on";
        }
        7..=9 => {
            fields.before = around(rng);
            label = "certificate up to a time";
        }
        10 => {
            fields.critical = option("force-command", "true");
            label = "certificate with force-command";
        }
        11 => {
            fields.critical = option("unheard-of@example.com", "x");
            label = "certificate with an unknown critical option";
        }
        12 => {
            fields.critical = option("source-address", "192.0.2.0/24");
            label = "certificate with source-address";
        }
        13 => {
            fields.extensions = option("unheard-of@example.com", "");
            label = "certificate with an unknown extension";
        }
        14 => {
            fields.reserved = b"x".to_vec();
            label = "certificate with a reserved field";
        }
        15 => {
            fields.critical = option("verify-required", "");
            label = "certificate with verify-required";
        }
        _ => {}
    }
    if !pair_signs_here(authority) {
        return (by_tool(pair, authority, &fields), authority, label);
    }
    let kind = match pair.kind.strip_suffix("@openssh.com") {
        Some(short) => format!("{short}-cert-v01@openssh.com"),
        None => format!("{}-cert-v01@openssh.com", pair.kind),
    };
    let mut plain = pair.blob.as_slice();
    take(&mut plain);
    let nonce: [u8; 32] = std::array::from_fn(|_| rng.u8(..));
    let names: Vec<u8> = fields.principals.iter().flat_map(string).collect();
    let mut blob = [
        string(kind),
        string(nonce),
        plain.to_vec(),
        fields.serial.to_be_bytes().to_vec(),
        fields.kind.to_be_bytes().to_vec(),
        string(fields.id),
        string(names),
        fields.after.to_be_bytes().to_vec(),
        fields.before.to_be_bytes().to_vec(),
        string(&fields.critical),
        string(&fields.extensions),
        string(&fields.reserved),
        string(&authority.blob),
    ]
    .concat();
    let value = authority.sign_raw(&blob, &[]).unwrap();
    blob.extend(string([string(authority.kind), string(value)].concat()));
    match rng.u32(0..16) {
        0 => {
            let at = rng.usize(0..blob.len());
            blob[at] ^= 1 << rng.u32(0..8);
            label = "certificate with a bit flipped";
        }
        1 => {
            blob.push(0);
            label = "certificate with bytes behind it";
        }
        2 => {
            blob.truncate(blob.len() - 1);
            label = "certificate cut";
        }
        _ => {}
    }
    (blob, authority, label)
}

fn pair_signs_here(pair: &Pair) -> bool {
    pair.sign_raw(b"", &[]).is_some()
}

fn by_tool(pair: &Pair, authority: &Pair, fields: &Fields) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("key.pub");
    std::fs::copy(pair.file.with_extension("pub"), &public).unwrap();
    let mut command = Command::new("ssh-keygen");
    command
        .args([
            "-q",
            "-I",
            fields.id,
            "-z",
            &fields.serial.to_string(),
            "-s",
        ])
        .arg(&authority.file);
    if fields.kind == 2 {
        command.arg("-h");
    }
    if !fields.principals.is_empty() {
        command.args(["-n", &fields.principals.join(",")]);
    }
    if fields.before != u64::MAX || fields.after != 0 {
        let from = format!("0x{:x}", fields.after);
        let to = if fields.before == u64::MAX {
            "forever".to_owned()
        } else {
            format!("0x{:x}", fields.before)
        };
        command.args(["-V", &format!("{from}:{to}")]);
    }
    if !fields.critical.is_empty() {
        command.args(["-O", "force-command=true"]);
    }
    run(command.arg(&public), PATIENCE).expect_code(0);
    let line = std::fs::read_to_string(dir.path().join("key-cert.pub")).unwrap();
    unbase64(line.split(' ').nth(1).unwrap().as_bytes())
}
