//! allowed_signers and revocation files, in every form that ssh-keygen(1) has for their parts, and in some that it has not.

use std::path::Path;
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::process::run;
use fastrand::Rng;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::keys::{Pair, Pool};
use evenkeel::domain::text::base64;

/// Who a commit is signed by.
pub(super) struct SignedBy<'a> {
    pub(super) pair: &'a Pair,
    /// Who certified the key, where it is a certificate's, and the certificate.
    pub(super) certified: Option<(&'a Pair, &'a [u8])>,
}

fn pick<'a, T: ?Sized>(rng: &mut Rng, from: &[&'a T]) -> &'a T {
    from[rng.usize(0..from.len())]
}

/// How odd a file of signers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variety {
    Plain,
    Some,
    Wild,
}

impl Variety {
    /// Once in `n` where it is wild, seldom where there is some.
    fn once_in(self, n: u32, rng: &mut Rng) -> bool {
        match self {
            Self::Plain => false,
            Self::Some => rng.u32(0..n * 6) == 0,
            Self::Wild => rng.u32(0..n) == 0,
        }
    }
}

fn principals(name: &str, variety: Variety, rng: &mut Rng) -> String {
    let full = format!("{name}@example.com");
    if !variety.once_in(2, rng) {
        return full;
    }
    match rng.u32(0..12) {
        0 => "*".to_owned(),
        1 => "*@example.com".to_owned(),
        2 => format!("{full},!other@example.com"),
        3 => format!("!{full},*"),
        4 => format!("*@example.com,!{full}"),
        5 => format!("other@example.com,{full}"),
        6 => format!("\"{full}\""),
        7 => format!("\"{name} with blanks,{full}\""),
        8 => format!("!{full}"),
        9 => full.replace('@', "?"),
        10 => format!("!x*,?*@*.com,{full}"),
        _ => full,
    }
}

/// A time in one of the forms that allowed_signers takes, near `time`.
fn time_value(time: i64, zone: &TimeZone, rng: &mut Rng) -> String {
    let near = match rng.u32(0..6) {
        0 => time,
        1 => time + rng.i64(-2..3),
        2 | 3 => time + rng.i64(-100_000..100_000),
        _ => time + rng.i64(-60_000_000..60_000_000),
    };
    let (zone, suffix) = match rng.u32(0..5) {
        0 => (&TimeZone::UTC, "Z"),
        1 => (&TimeZone::UTC, pick(rng, &["UTC", "z", "utc", "Z"])),
        _ => (zone, ""),
    };
    let form = pick(rng, &["%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"]);
    let local = Timestamp::from_second(near).unwrap().to_zoned(zone.clone());
    format!("{}{suffix}", local.strftime(form))
}

fn window(name: &str, time: i64, zone: &TimeZone, rng: &mut Rng) -> String {
    let value = match rng.u32(0..40) {
        0 => "20201301".to_owned(),
        1 => "2020".to_owned(),
        2 => "19691231Z".to_owned(),
        3 => "20200230".to_owned(),
        4 => "20200101000060Z".to_owned(),
        5 => "99991231235959Z".to_owned(),
        6 => "202001012400Z".to_owned(),
        7 => "20200101 ".to_owned(),
        8 => "2020-01-01".to_owned(),
        9 => "19700101000000Z".to_owned(),
        10 => "20210629".to_owned(),
        _ => time_value(time, zone, rng),
    };
    format!("{name}=\"{value}\"")
}

fn options(
    is_authority: bool,
    time: i64,
    zone: &TimeZone,
    variety: Variety,
    rng: &mut Rng,
) -> String {
    let mut all = Vec::new();
    if is_authority {
        all.push(pick(rng, &["cert-authority", "cert-authority", "CERT-Authority"]).to_owned());
    }
    if variety.once_in(4, rng) {
        let value = pick(
            rng,
            &[
                "git",
                "git",
                "file,git",
                "g?t",
                "*",
                "*,!git",
                "!git,git",
                "file",
                "git,!file",
                "",
                "GIT",
                "!file",
            ],
        );
        all.push(format!("namespaces=\"{value}\""));
    }
    if rng.u32(0..4) == 0 {
        all.push(window(
            pick(rng, &["valid-after", "Valid-After"]),
            time,
            zone,
            rng,
        ));
    }
    if variety.once_in(4, rng) {
        all.push(window("valid-before", time, zone, rng));
    }
    let odd = if variety.once_in(8, rng) {
        rng.u32(0..9)
    } else {
        u32::MAX
    };
    match odd {
        0 => all.push("no-such-option".to_owned()),
        1 => all.push("namespaces=git".to_owned()),
        2 => all.push("namespaces=\"a\"".to_owned()),
        3 => all.push("namespaces=\"unclosed".to_owned()),
        4 => all.push(String::new()),
        5 => all.push("namespaces=\"g\\\"it\"".to_owned()),
        6 => all.push("cert-authority=\"x\"".to_owned()),
        7 => all.push("cert-authority".to_owned()),
        8 => all.push("valid-after".to_owned()),
        _ => {}
    }
    rng.shuffle(&mut all);
    all.join(",")
}

/// A line that cannot be read, or that looks so.
fn odd_line(pair: &Pair, rng: &mut Rng) -> Vec<u8> {
    let columns = pair.columns();
    let name = &pair.name;
    match rng.u32(0..16) {
        0 => b"rubbish".to_vec(),
        1 => format!("{name}@example.com").into_bytes(),
        2 => format!("{name}@example.com ssh-ed25519 AAAA").into_bytes(),
        3 => format!("{name}@example.com ssh-ed25519").into_bytes(),
        4 => format!("\"{name}@example.com {columns}").into_bytes(),
        5 => format!("{name}@exam\"ple.com {columns}").into_bytes(),
        6 => format!("{name}@example.com,, {columns}").into_bytes(),
        7 => format!(",{name}@example.com {columns}").into_bytes(),
        8 => format!(
            "{name}@example.com ecdsa-sha2-nistp256 {}",
            base64(&pair.blob)
        )
        .into_bytes(),
        9 => [b"\xff\xfe@example.com ", columns.as_bytes()].concat(),
        10 => format!("{name}@example.com {}", columns.trim_end_matches('=')).into_bytes(),
        11 => format!("{name}\u{1}@example.com {columns}").into_bytes(),
        12 => format!("\"{name}@example.com\"{columns}").into_bytes(),
        13 => format!("{name}@example.com # {columns}").into_bytes(),
        14 => format!("{name}@example.com frobnicate {columns}").into_bytes(),
        _ => format!("{name}@example.com {columns}AAAA").into_bytes(),
    }
}

/// A file in which the signer mostly is.
pub(super) fn allowed_signers(
    by: &SignedBy<'_>,
    pool: &Pool,
    time: i64,
    zone: &TimeZone,
    variety: Variety,
    rng: &mut Rng,
) -> Vec<u8> {
    let mut out = Vec::new();
    let lines = rng.usize(1..5);
    let place = rng.usize(0..lines);
    for number in 0..lines {
        let mine = number == place && rng.u32(0..40) != 0;
        if variety.once_in(12, rng) {
            let pair = if rng.bool() {
                by.pair
            } else {
                &pool.signers[0]
            };
            out.extend(odd_line(pair, rng));
            out.push(b'\n');
        }
        match rng.u32(0..30) {
            0 => out.extend_from_slice(b"# a comment\n"),
            1 => out.extend_from_slice(b"\n"),
            2 => out.extend_from_slice(b" \t \n"),
            3 => out.extend_from_slice(b"  # another\n"),
            4 => out.extend_from_slice(b"\t"),
            5 => out.extend_from_slice(b" "),
            _ => {}
        }
        let other = &pool.signers[rng.usize(0..pool.signers.len())];
        let (name, columns, authority) = match (mine, by.certified) {
            (true, Some((authority, blob))) => match rng.u32(0..20) {
                // The mistakes that must not count: the authority as a signer, the key as an authority.
                0 => (&by.pair.name, authority.columns(), false),
                1 => (&by.pair.name, by.pair.columns(), false),
                2 => (&by.pair.name, by.pair.columns(), true),
                3 => {
                    let kind = super::wire::take(&mut &blob[..]);
                    let kind = String::from_utf8_lossy(kind).into_owned();
                    (
                        &by.pair.name,
                        format!("{kind} {}", base64(blob)),
                        rng.bool(),
                    )
                }
                _ => (&by.pair.name, authority.columns(), true),
            },
            (true, None) => (&by.pair.name, by.pair.columns(), variety.once_in(20, rng)),
            (false, _) => (&other.name, other.columns(), variety.once_in(6, rng)),
        };
        let options = options(authority, time, zone, variety, rng);
        let gap = |rng: &mut Rng| pick(rng, &[" ", " ", " ", "\t", "  "]);
        out.extend_from_slice(principals(name, variety, rng).as_bytes());
        out.extend_from_slice(gap(rng).as_bytes());
        if !options.is_empty() {
            out.extend_from_slice(options.as_bytes());
            out.extend_from_slice(gap(rng).as_bytes());
        }
        out.extend_from_slice(columns.as_bytes());
        out.extend_from_slice(
            pick(
                rng,
                &[
                    "",
                    "",
                    "",
                    " a comment",
                    " # comment",
                    " ",
                    "\t\"x",
                    " \u{e9}",
                ],
            )
            .as_bytes(),
        );
        out.extend_from_slice(if rng.u32(0..20) == 0 { b"\r\n" } else { b"\n" });
    }
    if rng.u32(0..10) == 0 {
        out.pop();
    }
    out
}

/// A revocation file.
pub(super) fn revoked(by: &SignedBy<'_>, pool: &Pool, rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let other = &pool.signers[rng.usize(0..pool.signers.len())];
    let of = |pair: &Pair| format!("{}\n", pair.columns());
    match rng.u32(0..18) {
        0 => (Vec::new(), "revoked: empty"),
        1 => (of(other).into_bytes(), "revoked: a key"),
        2 => (
            format!("# gone\n\n{}{}", of(other), of(by.pair)).into_bytes(),
            "revoked: the key",
        ),
        3 => (
            format!("{}rubbish\n{}", of(other), of(by.pair)).into_bytes(),
            "revoked: a malformed line",
        ),
        4 => (
            of(&pool.authorities[rng.usize(0..pool.authorities.len())]).into_bytes(),
            "revoked: an authority",
        ),
        5 => (
            [of(other).as_bytes(), by.pair.kind.as_bytes(), b" AAAA\n"].concat(),
            "revoked: a malformed key",
        ),
        6 => (
            of(by.pair).replace('\n', " comment\r\n").into_bytes(),
            "revoked: the key, with CR",
        ),
        7 => (
            of(other).replace('\n', " x\n").into_bytes(),
            "revoked: a key with a comment",
        ),
        11 => {
            let mut bytes = krl(by, pool, rng);
            let at = rng.usize(0..bytes.len());
            match rng.u32(0..3) {
                0 => bytes[at] ^= 1 << rng.u32(0..8),
                1 => bytes.truncate(at),
                _ => bytes.push(rng.u8(..)),
            }
            (bytes, "revoked: a damaged KRL")
        }
        12 => {
            let line = match by.certified {
                Some((_, blob)) => {
                    let kind = super::wire::take(&mut &blob[..]);
                    format!("{} {}\n", String::from_utf8_lossy(kind), base64(blob))
                }
                None => of(other),
            };
            (line.into_bytes(), "revoked: the certificate")
        }
        _ => (krl(by, pool, rng), "revoked: KRL"),
    }
}

/// A KRL by `ssh-keygen -k`.
fn krl(by: &SignedBy<'_>, pool: &Pool, rng: &mut Rng) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority = match by.certified {
        Some((authority, _)) if rng.u32(0..4) != 0 => authority,
        Some(_) | None => &pool.authorities[rng.usize(0..pool.authorities.len())],
    };
    let mut spec = String::new();
    let mut with_authority = false;
    for _ in 0..rng.u32(0..4) {
        let pair = if rng.u32(0..3) == 0 {
            by.pair
        } else {
            &pool.signers[rng.usize(0..pool.signers.len())]
        };
        match rng.u32(0..8) {
            0 => {
                let from = rng.u32(0..10);
                spec.push_str(&format!("serial: {from}-{}\n", from + rng.u32(0..4)));
                with_authority = true;
            }
            1 => {
                for _ in 0..rng.u32(1..5) {
                    spec.push_str(&format!("serial: {}\n", rng.u32(1..12)));
                }
                with_authority = true;
            }
            2 => {
                spec.push_str(pick(rng, &["id: id-one\n", "id: id-three\n"]));
                with_authority = true;
            }
            3 => spec.push_str(&format!("sha1: {}\n", pair.columns())),
            4 => spec.push_str(&format!("sha256: {}\n", pair.columns())),
            5 => {
                let columns = match by.certified {
                    Some((_, blob)) => {
                        let kind = super::wire::take(&mut &blob[..]);
                        format!("{} {}", String::from_utf8_lossy(kind), base64(blob))
                    }
                    None => pair.columns(),
                };
                spec.push_str(&format!("key: {columns}\n"));
            }
            6 => spec.push_str(&format!("{}\n", authority.columns())),
            _ => spec.push_str(&format!("key: {}\n", pair.columns())),
        }
    }
    std::fs::write(path("spec"), &spec).unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-k", "-z", "3", "-f"]).arg(path("krl"));
    if with_authority {
        if rng.u32(0..6) == 0 {
            command.args(["-s", "none"]);
        } else {
            command.arg("-s").arg(authority.file.with_extension("pub"));
        }
    }
    let made = run(command.arg(path("spec")), PATIENCE);
    if made.code != Some(0) {
        // A certificate with a flipped bit cannot be listed.
        return krl_of_nothing(&path("krl"));
    }
    std::fs::read(path("krl")).unwrap()
}

fn krl_of_nothing(path: &Path) -> Vec<u8> {
    let _ = std::fs::remove_file(path);
    run(
        Command::new("ssh-keygen")
            .args(["-q", "-k", "-f"])
            .arg(path)
            .arg("/dev/null"),
        PATIENCE,
    )
    .expect_code(0);
    std::fs::read(path).unwrap()
}

/// The same file with each local time written out in UTC.
pub(super) fn in_utc(signers: &[u8], zone: &str) -> Vec<u8> {
    let zone = TimeZone::get(zone).unwrap();
    let text = String::from_utf8_lossy(signers);
    let mut out = String::new();
    for (number, part) in text.split('"').enumerate() {
        if number > 0 {
            out.push('"');
        }
        let padded = format!("{part:0<14}");
        let is_time =
            matches!(part.len(), 8 | 12 | 14) && part.bytes().all(|byte| byte.is_ascii_digit());
        match DateTime::strptime("%Y%m%d%H%M%S", &padded) {
            Ok(time) if is_time => {
                let time = time
                    .to_zoned(zone.clone())
                    .unwrap()
                    .with_time_zone(TimeZone::UTC);
                out.push_str(&format!("{}Z", time.strftime("%Y%m%d%H%M%S")));
            }
            Ok(_) | Err(_) => out.push_str(part),
        }
    }
    out.into_bytes()
}
