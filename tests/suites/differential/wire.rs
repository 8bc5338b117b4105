//! The bytes of SSH keys, signatures and certificates, put together by hand so that each part can be wrong.

/// An RFC 4251 `string`.
pub(super) fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// An RFC 4251 `mpint` that is not negative.
pub(super) fn mpint(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0);
    let digits = start.map_or(&[][..], |start| &bytes[start..]);
    match digits.first() {
        Some(first) if first & 0x80 != 0 => string([&[0], digits].concat()),
        Some(_) | None => string(digits),
    }
}

/// Takes one `string` off the front.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (head, rest) = bytes[4..].split_at(length);
    *bytes = rest;
    head
}

/// Whatever base64 digits are there, all else passed over.
pub(super) fn unbase64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    out
}

/// The parts of an SSH signature (OpenSSH's PROTOCOL.sshsig).
#[derive(Debug, Clone)]
pub(super) struct SshSig {
    pub(super) magic: Vec<u8>,
    pub(super) version: u32,
    pub(super) key: Vec<u8>,
    pub(super) namespace: Vec<u8>,
    pub(super) reserved: Vec<u8>,
    pub(super) hash: Vec<u8>,
    pub(super) algorithm: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// A security key's flags and counter.
    pub(super) trailer: Vec<u8>,
    pub(super) behind: Vec<u8>,
}

impl SshSig {
    pub(super) fn blob(&self) -> Vec<u8> {
        let inner = [
            string(&self.algorithm),
            string(&self.value),
            self.trailer.clone(),
        ]
        .concat();
        [
            self.magic.clone(),
            self.version.to_be_bytes().to_vec(),
            string(&self.key),
            string(&self.namespace),
            string(&self.reserved),
            string(&self.hash),
            string(inner),
            self.behind.clone(),
        ]
        .concat()
    }

    pub(super) fn parse(blob: &[u8]) -> Self {
        let (magic, mut rest) = blob.split_at(6);
        let version = u32::from_be_bytes(rest[..4].try_into().unwrap());
        rest = &rest[4..];
        let key = take(&mut rest).to_vec();
        let namespace = take(&mut rest).to_vec();
        let reserved = take(&mut rest).to_vec();
        let hash = take(&mut rest).to_vec();
        let mut inner = take(&mut rest);
        let algorithm = take(&mut inner).to_vec();
        let value = take(&mut inner).to_vec();
        Self {
            magic: magic.to_vec(),
            version,
            key,
            namespace,
            reserved,
            hash,
            algorithm,
            value,
            trailer: inner.to_vec(),
            behind: rest.to_vec(),
        }
    }
}

/// As `ssh-keygen` writes it: lines of 70 digits.
pub(crate) fn armor(blob: &[u8]) -> String {
    let digits = evenkeel::domain::text::base64(blob);
    let lines: Vec<&str> = digits
        .as_bytes()
        .chunks(70)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
        lines.join("\n")
    )
}

/// The blob inside an armor.
pub(crate) fn dearmor(armor: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(armor);
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    unbase64(body.as_bytes())
}
