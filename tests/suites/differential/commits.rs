//! Commit objects, honest ones and others, and their split into signature and signed bytes as git 2.47 makes it.

use fastrand::Rng;
use sha2::Digest as _;

/// git's object format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Sha1,
    Sha256,
}

impl Format {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    pub(super) const fn header(self) -> &'static str {
        match self {
            Self::Sha1 => "gpgsig",
            Self::Sha256 => "gpgsig-sha256",
        }
    }

    const fn other_header(self) -> &'static str {
        match self {
            Self::Sha1 => "gpgsig-sha256",
            Self::Sha256 => "gpgsig",
        }
    }

    const fn empty_tree(self) -> &'static str {
        match self {
            Self::Sha1 => "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            Self::Sha256 => "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
        }
    }

    /// The object's id.
    pub(super) fn id(self, bytes: &[u8]) -> String {
        let head = format!("commit {}\0", bytes.len());
        let digest = match self {
            Self::Sha1 => {
                let mut hasher = sha1_checked::Sha1::new();
                hasher.update(head.as_bytes());
                hasher.update(bytes);
                hasher.finalize().to_vec()
            }
            Self::Sha256 => sha2::Sha256::new_with_prefix(head)
                .chain_update(bytes)
                .finalize()
                .to_vec(),
        };
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is signed, before anybody has tampered with it.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) format: Format,
    /// Header lines up to the committer's, without their newlines.
    pub(super) head: Vec<String>,
    /// Header lines behind it.
    pub(super) tail: Vec<String>,
    pub(super) message: Vec<u8>,
}

const MERGETAG: &str = "mergetag object 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n type commit\n tag v1\n tagger T <t@x> 1600000000 +0000\n \n a tag\n -----BEGIN SSH SIGNATURE-----\n U1NIU0lH\n -----END SSH SIGNATURE-----";

impl Draft {
    pub(super) fn honest(format: Format, time: i64, rng: &mut Rng) -> Self {
        let hex = |rng: &mut Rng| -> String {
            (0..format.digits())
                .map(|_| char::from_digit(rng.u32(0..16), 16).unwrap())
                .collect()
        };
        let mut head = vec![format!("tree {}", format.empty_tree())];
        for _ in 0..[0, 0, 0, 1, 1, 2, 5][rng.usize(0..7)] {
            head.push(format!("parent {}", hex(rng)));
        }
        let zone = ["+0000", "+0100", "-0800", "+0530", "-0000", "+1345"][rng.usize(0..6)];
        let author = ["A", "Jörg Ä", "A. U. Thor", ""][rng.usize(0..4)];
        let blank = if author.is_empty() { "" } else { " " };
        head.push(format!(
            "author {author}{blank}<a@example.com> {} {zone}",
            time - 5
        ));
        head.push(format!("committer C <c@example.com> {time} {zone}"));
        let mut tail = Vec::new();
        match rng.u32(0..24) {
            0 => tail.push("encoding ISO-8859-1".to_owned()),
            1 => tail.push(MERGETAG.to_owned()),
            2 => tail.push("change-id kkmpptxzrspxrzommnulwmwkkqwworpl".to_owned()),
            3 => tail.push("x-note first\n second\n  third".to_owned()),
            4 => tail.push("HG:extra x:y".to_owned()),
            _ => {}
        }
        let message = [
            "a subject\n",
            "a subject\n\nA body.\n\nFleet-Branch: stable\n",
            "no newline at its end",
            "",
            "\n\nbegins blank\n",
            "gpgsig in the message\n\ngpgsig x\n y\n",
            "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
            "l\u{e4}ngst\r\nmit CR\r\n",
        ][rng.usize(0..8)];
        Self {
            format,
            head,
            tail,
            message: message.as_bytes().to_vec(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for line in self.head.iter().chain(&self.tail) {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(&self.message);
        out
    }

    /// Makes it odd before it is signed, so that the signature covers the oddity.
    pub(super) fn make_odd(&mut self, rng: &mut Rng) -> &'static str {
        let committer = self.head.len() - 1;
        let author = committer - 1;
        let who = if rng.bool() { author } else { committer };
        let label = if who == author { "author" } else { "committer" };
        match rng.u32(0..30) {
            0 => {
                self.head.swap(author, committer);
                "signed: author behind committer"
            }
            1 => {
                self.head.rotate_left(1);
                "signed: tree not first"
            }
            2 => {
                let line = self.head[rng.usize(0..self.head.len())].clone();
                self.head.push(line);
                "signed: a header twice"
            }
            3 => {
                self.head.remove(rng.usize(0..self.head.len()));
                "signed: a header missing"
            }
            4 => {
                self.message.push(0);
                self.message.extend_from_slice(b"behind NUL\n");
                "signed: NUL in the message"
            }
            5 => {
                self.tail.push("x-note a\0b".to_owned());
                "signed: NUL in a header"
            }
            6 => {
                let line = self.head[who].replace(" <", " <<");
                self.head[who] = line;
                "signed: person with two brackets"
            }
            7 => {
                self.head[who] = format!("{label} nobody");
                "signed: person without a time"
            }
            8 => {
                self.head[who] = self.head[who].replace('>', "> ");
                "signed: person with two blanks"
            }
            9 => {
                self.head[who] = format!("{label} A <a@x> -5 +0000");
                "signed: negative time"
            }
            10 => {
                self.head[who] = format!("{label} A <a@x> 0001600000000 +0000");
                "signed: time with zeros before it"
            }
            11 => {
                self.head[who] = format!("{label} A <a@x> 99999999999999999999 +0000");
                "signed: time over 64 bits"
            }
            12 => {
                self.head[who] = format!("{label} A <a@x> 0 +0000");
                "signed: time zero"
            }
            13 => {
                self.head[who] = format!("{label} A <a@x> 253402300800 +0000");
                "signed: year 10000"
            }
            14 => {
                let zone = ["+9999", "UTC", "", "+00", "+00000", "-1"][rng.usize(0..6)];
                self.head[who] = format!("{label} A <a@x> 1600000000 {zone}");
                "signed: odd zone"
            }
            15 => {
                self.head[who] = format!("{label} A <a@x> 1600000000");
                "signed: no zone"
            }
            16 => {
                self.head[who] = format!("{label} A<a@x> 1600000000 +0000");
                "signed: no blank before the address"
            }
            17 => {
                self.head[who] = format!("{label}  A <a@x> 1600000000 +0000");
                "signed: two blanks behind a header's name"
            }
            18 => {
                self.head[0] = self.head[0].to_ascii_uppercase();
                "signed: tree in capitals"
            }
            19 => {
                let short = self.head[0].len() - 1;
                self.head[0].truncate(short);
                "signed: short tree"
            }
            20 => {
                self.head.insert(1, format!("parent {}", "0".repeat(12)));
                "signed: short parent"
            }
            21 => {
                self.head
                    .push(format!("parent {}", "1".repeat(self.format.digits())));
                "signed: parent behind committer"
            }
            22 => {
                self.tail.insert(0, "x-first 1".to_owned());
                self.tail.push("encoding UTF-8".to_owned());
                "signed: encoding not first"
            }
            23 => {
                self.tail.push(
                    ["nothing", "", " folded", "x\u{e4} y", "x:y"][rng.usize(0..5)].to_owned(),
                );
                "signed: malformed header"
            }
            24 => {
                self.tail
                    .push(format!("{} none", self.format.other_header()));
                "signed: other format's signature header"
            }
            25 => {
                self.tail.push("gpgsigs x\n y".to_owned());
                "signed: header that begins with gpgsig"
            }
            26 => {
                for number in 0..150 {
                    self.head.insert(
                        1,
                        format!("parent {number:0width$}", width = self.format.digits()),
                    );
                }
                "signed: 150 parents"
            }
            27 => {
                self.message = vec![b'm'; 1024 * 1024 + 1];
                "signed: a message of over a megabyte"
            }
            28 => {
                self.head[who] = format!("{}\r", self.head[who]);
                "signed: CR behind a header"
            }
            _ => {
                self.head[who] = format!("{label} A \u{1}\u{7f} <a b@x\u{e4}> 1600000000 +0000");
                "signed: control characters in a name"
            }
        }
    }

    /// The object with this armor in its signature header, where git puts it.
    pub(super) fn signed(&self, payload: &[u8], armor: &[u8]) -> Vec<u8> {
        let at = find(payload, b"\n\n").map_or(payload.len(), |at| at + 1);
        let mut out = payload[..at].to_vec();
        out.extend(folded(self.format.header(), armor));
        out.extend_from_slice(&payload[at..]);
        out
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// A header with its lines folded, and its newline.
pub(super) fn folded(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = name.as_bytes().to_vec();
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    for line in value.split(|byte| *byte == b'\n') {
        out.push(b' ');
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out
}

/// The headers, each with its continuation lines, and the rest from the blank line on.
fn headers(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let end = find(bytes, b"\n\n").map_or(bytes.len(), |at| at + 1);
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in bytes[..end].split_inclusive(|byte| *byte == b'\n') {
        match lines.last_mut() {
            Some(last) if line.starts_with(b" ") => last.extend_from_slice(line),
            Some(_) | None => lines.push(line.to_vec()),
        }
    }
    (lines, bytes[end..].to_vec())
}

/// Tampers with a signed object.
pub(super) fn tamper(
    bytes: &mut Vec<u8>,
    format: Format,
    other_armor: &[u8],
    rng: &mut Rng,
) -> &'static str {
    let (mut head, rest) = headers(bytes);
    let is_signature = |line: &Vec<u8>| line.starts_with(b"gpgsig");
    let at = head.iter().position(is_signature).unwrap_or(head.len() - 1);
    let label = match rng.u32(0..26) {
        0 => {
            let place = rng.usize(0..bytes.len());
            bytes[place] ^= 1 << rng.u32(0..8);
            return "a bit flipped";
        }
        1 => {
            bytes.extend_from_slice(b"trailing\n");
            return "bytes at its end";
        }
        2 => {
            bytes.push(0);
            return "NUL at its end";
        }
        3 => {
            let line = head.remove(at);
            head.insert(rng.usize(0..=at), line);
            "signature header moved up"
        }
        4 => {
            let line = head[at].clone();
            head.insert(rng.usize(0..=head.len()), line);
            "signature header twice"
        }
        5 => {
            head.insert(at, folded(format.header(), other_armor));
            "another's signature header before"
        }
        6 => {
            head.insert(at + 1, folded(format.header(), other_armor));
            "another's signature header behind"
        }
        7 => {
            head.insert(at, folded(format.other_header(), other_armor));
            "other format's signature header too"
        }
        8 => {
            let line = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = line
                .replacen(format.header(), format.other_header(), 1)
                .into_bytes();
            "other format's signature header only"
        }
        9 => {
            head.push(b"x-behind the signature\n".to_vec());
            "a header behind the signature"
        }
        10 => {
            head.insert(at, b"x-before the signature\n".to_vec());
            "a header before the signature"
        }
        11 => {
            head.insert(at, folded("mergetag", MERGETAG.as_bytes()));
            "a mergetag added"
        }
        12 => {
            head.insert(at, b"encoding ISO-8859-1\n".to_vec());
            "an encoding added"
        }
        13 => {
            head[at] = String::from_utf8_lossy(&head[at])
                .replace('\n', "\r\n")
                .into_bytes();
            "CR in the signature header"
        }
        14 => {
            let text = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = text.replacen("gpgsig ", "gpgsig \n ", 1).into_bytes();
            "an empty line before the armor"
        }
        15 => {
            let text = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = text
                .replacen("-----BEGIN", ["words ", "x\n "][rng.usize(0..2)], 1)
                .into_bytes();
            "text instead of BEGIN"
        }
        16 => {
            let text = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = text
                .replacen(
                    " -----BEGIN",
                    [" words\n -----BEGIN", "  -----BEGIN", " \n -----BEGIN"][rng.usize(0..3)],
                    1,
                )
                .into_bytes();
            "text before the armor"
        }
        17 => {
            head[at].extend_from_slice(
                [
                    &b" words\n"[..],
                    b" \n",
                    b" \n \n",
                    b"  \n",
                    b" -----BEGIN SSH SIGNATURE-----\n",
                ][rng.usize(0..5)],
            );
            "text behind the armor"
        }
        18 => {
            let text = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = text
                .replace("SIGNATURE-----\n", "SIGNATURE----- \n")
                .into_bytes();
            "blanks behind the armor's lines"
        }
        19 => {
            let text = String::from_utf8_lossy(&head[at]).into_owned();
            head[at] = text.replacen("\n ", "\n\t", 1).into_bytes();
            "folded with a tab"
        }
        20 => {
            let line = head.remove(rng.usize(0..at.max(1)));
            let place = rng.usize(0..=head.len());
            head.insert(place, line);
            "headers in another order"
        }
        21 => {
            head.remove(rng.usize(0..head.len()));
            "a header removed"
        }
        22 => {
            head.insert(0, b" begins folded\n".to_vec());
            "a folded line first"
        }
        23 => {
            head[at].extend_from_slice(b"gpgsigx y\n");
            "a header that begins with gpgsig"
        }
        24 => {
            let line = head.remove(at);
            let mut whole = head.concat();
            whole.extend(rest);
            whole.extend(line);
            *bytes = whole;
            return "the signature in the message";
        }
        _ => {
            *bytes = head.concat();
            return "no blank line and no message";
        }
    };
    *bytes = [head.concat(), rest].concat();
    label
}

/// The armor and what it covers, as git's `parse_buffer_signed_by_header` takes them out.
pub(super) fn split_as_git_does(bytes: &[u8], format: Format) -> (Vec<u8>, Vec<u8>) {
    let ours = format!("{} ", format.header());
    let (mut signature, mut payload) = (Vec::new(), Vec::new());
    let (mut in_signature, mut in_other) = (false, false);
    let mut at = 0;
    while at < bytes.len() {
        let mut end = bytes[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |length| at + length + 1);
        let line = &bytes[at..end];
        let part = if in_signature && line.starts_with(b" ") {
            Some(&line[1..])
        } else if let Some(value) = line.strip_prefix(ours.as_bytes()) {
            in_other = false;
            Some(value)
        } else {
            if line.starts_with(b"gpgsig") {
                in_other = true;
            } else if in_other && !line.starts_with(b" ") {
                in_other = false;
            }
            None
        };
        match part {
            Some(part) => signature.extend_from_slice(part),
            None => {
                if line.starts_with(b"\n") {
                    end = bytes.len();
                }
                if !in_other {
                    payload.extend_from_slice(&bytes[at..end]);
                }
            }
        }
        in_signature = part.is_some();
        at = end;
    }
    (signature, payload)
}
