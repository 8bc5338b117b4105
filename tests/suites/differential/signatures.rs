//! Signatures that are not quite right: each field of them, their armor, and what an algorithm lets vary.

use fastrand::Rng;

use super::keys::Pool;
use super::wire::{SshSig, armor, mpint, string, take};
use evenkeel::domain::text::base64;

/// Changes a field of a signature.
pub(super) fn spoil(signature: &mut SshSig, pool: &Pool, rng: &mut Rng) -> &'static str {
    match rng.u32(0..22) {
        0 => {
            signature.version = [0, 2, 0x0100_0000][rng.usize(0..3)];
            "version"
        }
        1 => {
            signature.magic = [&b"sshsig"[..], b"SSHSI\0", b"SSHSIG\0"][rng.usize(0..3)].to_vec();
            "magic"
        }
        2 => {
            signature.namespace =
                [&b"file"[..], b"", b"git\0", b"Git", b"g\xff"][rng.usize(0..5)].to_vec();
            "namespace renamed"
        }
        3 => {
            signature.reserved = b"x".to_vec();
            "reserved"
        }
        4 => {
            signature.hash =
                [&b"sha1"[..], b"md5", b"", b"SHA512", b"sha384"][rng.usize(0..5)].to_vec();
            "hash unknown"
        }
        5 => {
            signature.hash = if signature.hash == b"sha512" {
                b"sha256".to_vec()
            } else {
                b"sha512".to_vec()
            };
            "hash swapped"
        }
        6 => {
            signature.algorithm = [
                &b"ssh-rsa"[..],
                b"rsa-sha2-256",
                b"rsa-sha2-512",
                b"ssh-ed25519",
                b"ecdsa-sha2-nistp256",
                b"ecdsa-sha2-nistp521",
                b"sk-ssh-ed25519@openssh.com",
                b"ssh-ed25519-cert-v01@openssh.com",
                b"",
            ][rng.usize(0..9)]
            .to_vec();
            "algorithm"
        }
        7 | 8 => {
            let at = rng.usize(0..signature.value.len().max(1));
            if let Some(byte) = signature.value.get_mut(at) {
                *byte ^= 1 << rng.u32(0..8);
            }
            "a bit of the value"
        }
        9 => {
            signature.value.pop();
            "value cut"
        }
        10 => {
            signature.value.push(0);
            "value longer"
        }
        11 => {
            signature.value.insert(0, 0);
            "value with a zero before it"
        }
        12 | 13 => malleable(signature),
        14 => {
            signature.behind = vec![0; rng.usize(1..6)];
            "bytes behind"
        }
        15 => {
            signature.trailer.extend([0, 1][..rng.usize(1..3)].iter());
            "bytes behind the value"
        }
        16 => {
            signature.trailer.pop();
            "trailer cut"
        }
        17 => {
            if let Some(flags) = signature.trailer.first_mut() {
                *flags ^= [1, 4, 0x80][rng.usize(0..3)];
            }
            "flags changed"
        }
        18 => {
            signature.key = pool.signers[rng.usize(0..pool.signers.len())].blob.clone();
            "another's key"
        }
        19 => {
            let at = rng.usize(0..signature.key.len());
            signature.key[at] ^= 1 << rng.u32(0..8);
            "a bit of the key"
        }
        20 => {
            signature.key.push(0);
            "bytes behind the key"
        }
        _ => respelled_key(signature),
    }
}

/// The same key in another encoding, where there is one.
fn respelled_key(signature: &mut SshSig) -> &'static str {
    let mut rest = signature.key.as_slice();
    let kind = take(&mut rest).to_vec();
    if kind.starts_with(b"ecdsa-") || kind.starts_with(b"sk-ecdsa-") {
        if kind.windows(6).any(|part| part == b"-cert-") {
            return "key respelled: not";
        }
        let curve = take(&mut rest).to_vec();
        let point = take(&mut rest);
        let half = (point.len() - 1) / 2;
        let sign = 2 + (point[point.len() - 1] & 1);
        let compressed = [&[sign], &point[1..=half]].concat();
        signature.key = [
            string(&kind),
            string(curve),
            string(compressed),
            rest.to_vec(),
        ]
        .concat();
        "key respelled: compressed point"
    } else if kind == b"ssh-rsa" {
        let e = take(&mut rest).to_vec();
        let n = take(&mut rest).to_vec();
        signature.key = [string(&kind), string(e), string([&[0][..], &n].concat())].concat();
        "key respelled: zeros before n"
    } else {
        "key respelled: not"
    }
}

/// Another value that a lax verifier takes for the same.
fn malleable(signature: &mut SshSig) -> &'static str {
    let order: &[u8] = match signature.algorithm.as_slice() {
        b"ssh-ed25519" | b"sk-ssh-ed25519@openssh.com" if signature.value.len() == 64 => {
            let order = [
                0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
                0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            ];
            let mut carry = 0_u32;
            for (byte, more) in signature.value[32..].iter_mut().zip(order) {
                carry += u32::from(*byte) + more;
                *byte = u8::try_from(carry & 0xff).unwrap();
                carry >>= 8;
            }
            return "malleable: s + L";
        }
        b"ecdsa-sha2-nistp256" | b"sk-ecdsa-sha2-nistp256@openssh.com" => &[
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
            0x25, 0x51,
        ],
        _ => return "malleable: not",
    };
    let mut rest = signature.value.as_slice();
    let r = take(&mut rest).to_vec();
    let s = take(&mut rest).to_vec();
    let mut padded = vec![0; 32_usize.saturating_sub(s.len())];
    padded.extend(&s[s.len().saturating_sub(32)..]);
    let mut borrow = 0_i32;
    let mut other = vec![0_u8; 32];
    for at in (0..32).rev() {
        let mut digit = i32::from(order[at]) - i32::from(padded[at]) - borrow;
        borrow = i32::from(digit < 0);
        digit += 256 * borrow;
        other[at] = u8::try_from(digit).unwrap();
    }
    signature.value = [string(&r), mpint(&other)].concat();
    "malleable: n - s"
}

/// An armor that is not spelled as `ssh-keygen` spells it.
pub(super) fn respell(blob: &[u8], rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let digits = base64(blob);
    let honest = armor(blob);
    let framed = |body: &str| {
        format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n").into_bytes()
    };
    match rng.u32(0..14) {
        0 => (
            framed(digits.trim_end_matches('=')),
            "base64 without padding",
        ),
        1 => (framed(&format!("{digits}=")), "base64 with more padding"),
        2 => (framed(&digits), "base64 on one line"),
        3 => {
            let at = rng.usize(0..digits.len());
            (
                framed(&format!("{} {}", &digits[..at], &digits[at..])),
                "base64 with a blank",
            )
        }
        4 => (honest.replace('\n', "\r\n").into_bytes(), "armor with CR"),
        5 => (
            honest.replacen('\n', "\n\n", 1).into_bytes(),
            "an empty line in the armor",
        ),
        6 => {
            let at = rng.usize(0..digits.len());
            (
                framed(&format!("{}={}", &digits[..at], &digits[at..])),
                "padding inside base64",
            )
        }
        7 => {
            // The bits that a last digit leaves unused.
            let body = digits.trim_end_matches('=');
            if body.len() == digits.len() {
                return (honest.into_bytes(), "base64 tail bits: not");
            }
            let last = body.as_bytes()[body.len() - 1];
            let changed = match last {
                b'A'..=b'Y' | b'a'..=b'y' | b'0'..=b'8' => char::from(last + 1),
                _ => 'B',
            };
            let pad = &digits[body.len()..];
            (
                framed(&format!("{}{changed}{pad}", &body[..body.len() - 1])),
                "base64 tail bits",
            )
        }
        8 => (
            honest
                .replacen("SSH SIGNATURE", "SSH SIGNATURES", 1)
                .into_bytes(),
            "another BEGIN",
        ),
        9 => (
            honest
                .replacen("-----END SSH SIGNATURE-----\n", "", 1)
                .into_bytes(),
            "no END",
        ),
        10 => (
            honest.trim_end().as_bytes().to_vec(),
            "no newline behind END",
        ),
        11 => (
            honest.replace('+', "-").replace('/', "_").into_bytes(),
            "URL alphabet",
        ),
        12 => {
            let at = rng.usize(30..honest.len());
            let mut bytes = honest.into_bytes();
            bytes[at] ^= 1 << rng.u32(0..8);
            (bytes, "a bit of the armor")
        }
        _ => (format!("{honest}{honest}").into_bytes(), "the armor twice"),
    }
}

/// A key of order one, whose signatures fit any message under a lax verifier.
pub(super) fn small_order() -> (Vec<u8>, Vec<u8>) {
    let mut identity = vec![0_u8; 32];
    identity[0] = 1;
    let blob = [string("ssh-ed25519"), string(&identity)].concat();
    (blob, [identity, vec![0; 32]].concat())
}
