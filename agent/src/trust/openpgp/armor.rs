//! ASCII armor (RFC 9580, section 6) and the row of packets inside (section 4), read strictly.
//!
//! Refuses around a signature: text, carriage returns, a second block, a wrong checksum. Refuses packets of unknown
//! length: neither certificates nor detached signatures have them. Around the blocks of a keyring text is taken as a
//! comment, and lines may end as on Windows: that file is written by whoever owns the device.

use crate::domain::text::decode_base64;

/// Headers as `Version:` and `Comment:` that an armor may have.
const MAX_HEADERS: usize = 8;

/// A kind of packet, by its number, and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// The binary content of an armored signature, which is all there is.
pub(super) fn signature(armor: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = std::str::from_utf8(armor).map_err(|_| "its armor is not text")?;
    let text = text
        .strip_suffix('\n')
        .ok_or("its armor does not end with a line")?;
    // Forges leave one empty line behind the armor.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut lines = text.split('\n');
    if lines.next() != Some("-----BEGIN PGP SIGNATURE-----") {
        return Err("it does not begin as an armored signature does");
    }
    let content = block(&mut lines, "-----END PGP SIGNATURE-----")?;
    if lines.next().is_some() {
        return Err("there is more behind its armor");
    }
    Ok(content)
}

/// The binary content of each armored block of a keyring, one behind the other.
pub(super) fn keyring(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut lines = text.lines().map(str::trim_end);
    let mut content = Vec::new();
    let mut blocks = 0_usize;
    while let Some(line) = lines.next() {
        match line {
            "-----BEGIN PGP PUBLIC KEY BLOCK-----" => {
                content.extend(block(&mut lines, "-----END PGP PUBLIC KEY BLOCK-----")?);
                blocks += 1;
            }
            "-----BEGIN PGP PRIVATE KEY BLOCK-----" => return Err(PRIVATE),
            _ if line.starts_with("-----") => {
                return Err("it has an armored block that is not a public key's");
            }
            _ => {}
        }
    }
    if blocks == 0 {
        return Err("it has neither an armored public key nor a binary one");
    }
    Ok(content)
}

/// What is said of a keyring with a private key in it.
pub(super) const PRIVATE: &str =
    "it holds a private key, which no device must have: write it with `gpg --export --armor`";

/// What stands between the first line, which is consumed, and `end`.
fn block<'a>(
    lines: &mut impl Iterator<Item = &'a str>,
    end: &str,
) -> Result<Vec<u8>, &'static str> {
    const CUT: &str = "its armor does not end";
    let mut headers = 0;
    loop {
        let line = lines.next().ok_or(CUT)?;
        if line.is_empty() {
            break;
        }
        headers += 1;
        let named = line.split_once(": ").is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        if !named || headers > MAX_HEADERS || line.contains(char::is_control) {
            return Err("its armor has a header that is not one");
        }
    }
    let mut digits = String::new();
    let mut checksum = None;
    loop {
        let line = lines.next().ok_or(CUT)?;
        if line == end {
            break;
        }
        if checksum.is_some() {
            return Err("its armor goes on behind its checksum");
        }
        match line.strip_prefix('=') {
            Some(sum) => checksum = Some(sum),
            None => digits.push_str(line),
        }
    }
    let content = decode_base64(digits.bytes()).ok_or("its armor is not base64")?;
    if let Some(sum) = checksum {
        let sum = decode_base64(sum.bytes()).ok_or("its armor's checksum is not base64")?;
        if sum != crc24(&content) {
            return Err("its armor's checksum does not fit");
        }
    }
    Ok(content)
}

/// RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> [u8; 3] {
    let mut crc: u32 = 0x00b7_04ce;
    for byte in bytes {
        crc ^= u32::from(*byte) << 16;
        for _ in 0..8 {
            crc <<= 1;
            if crc & 0x0100_0000 != 0 {
                crc ^= 0x0186_4cfb;
            }
        }
    }
    let [_, a, b, c] = crc.to_be_bytes();
    [a, b, c]
}

/// The packets in a row of bytes, at most `limit`.
pub(super) fn packets(mut bytes: &[u8], limit: usize) -> Result<Vec<Packet<'_>>, &'static str> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        if found.len() == limit {
            return Err("it has too many packets");
        }
        let (packet, rest) = first_packet(bytes).ok_or("a packet of it is cut or has no length")?;
        found.push(packet);
        bytes = rest;
    }
    Ok(found)
}

fn first_packet(bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    let (tag, length, rest) = match head {
        // The newer format. Lengths of 224 to 254 announce a part of a packet.
        0xc0.. => {
            let tag = head & 0x3f;
            match rest {
                [a @ 0..=191, rest @ ..] => (tag, u32::from(*a), rest),
                [a @ 192..=223, b, rest @ ..] => (
                    tag,
                    ((u32::from(*a) - 192) << 8) + u32::from(*b) + 192,
                    rest,
                ),
                [255, a, b, c, d, rest @ ..] => (tag, u32::from_be_bytes([*a, *b, *c, *d]), rest),
                _ => return None,
            }
        }
        // The older one, which gpg writes.
        0x80..=0xbf => {
            let tag = (head >> 2) & 0x0f;
            match (head & 3, rest) {
                (0, [a, rest @ ..]) => (tag, u32::from(*a), rest),
                (1, [a, b, rest @ ..]) => (tag, u32::from(u16::from_be_bytes([*a, *b])), rest),
                (2, [a, b, c, d, rest @ ..]) => (tag, u32::from_be_bytes([*a, *b, *c, *d]), rest),
                _ => return None,
            }
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Packet { tag, body }, rest))
}
