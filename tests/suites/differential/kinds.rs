//! The kinds of difference that there may be between us and OpenSSH or git, each told by the case itself.

use super::commits::{Format, split_as_git_does};
use super::wire::{dearmor, take};
use super::{Case, Ours};

/// Where we refuse what they accept, and why that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stricter {
    /// More than one header that begins with `gpgsig`, or one of the other object format.
    SignatureHeaders,
    /// Headers in another order than git writes them, missing ones, or ones behind the signature.
    HeaderOrder,
    /// A header line that is no name, space and value.
    HeaderForm,
    /// A local time of summer, which `ssh-keygen` reads an hour late (it takes all of them for winter's): with each written
    /// out in UTC, it refuses too.
    SummerTime,
    /// A NUL byte in the object.
    Nul,
    /// An author or a committer that is no name, address, time and zone.
    Person,
    /// Over a megabyte, or over 128 parents.
    Limits,
    /// A carriage return in the armor.
    CarriageReturn,
    /// Text around the armor.
    AroundArmor,
    /// Base64 or an armor in another spelling than the canonical one.
    ArmorForm,
    /// An SSHSIG field that OpenSSH does not look at: its reserved string, or bytes behind a part.
    SignatureForm,
    /// An ed25519 signature whose second half is not below the group's order: OpenSSH takes several spellings of one.
    SpelledTwice,
    /// A namespace that ends in a NUL, which OpenSSH reads as `git`; or version 0 of the format.
    Sshsig,
    /// A security key's signature without a touch.
    Untouched,
    /// A key's window that is over by the device's own time floor.
    TimeFloor,
    /// An ed25519 key of small order.
    SmallOrder,
    /// An RSA key below 2048 or above 4096 bits.
    RsaSize,
    /// An empty list of revoked keys: one that was cut off.
    EmptyRevocation,
    /// A KRL damaged where `ssh-keygen` does not look.
    DamagedRevocation,
    /// A certificate with a critical option that cannot be kept to, by an authority whose key is of no type or size that is
    /// taken, or on a line of its own, where its authority belongs.
    Certificate,
    /// A certificate that asks for a security key that knows who touches it: OpenSSH does not look whether it did.
    VerifyRequired,
    /// A key in an encoding of its own.
    KeyForm,
    /// The line that would accept it is one that we report and skip.
    SkippedLine,
    /// No line names a signer that can be used: the file as a whole is refused.
    NoSigner,
}

/// Where we accept what they refuse. Neither is about what is signed, or by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Laxer {
    /// `ssh-keygen` gives up at a malformed line; here that line alone is lost. It accepts once the line is taken out.
    MalformedLineBefore,
    /// As [`Stricter::SummerTime`]: with each local time written out in UTC, it accepts too.
    SummerTime,
    /// git asks only for the principals of the first line that has the key; `ssh-keygen -Y verify` accepts it for those of
    /// another.
    AnotherLine,
}

/// What the case itself shows.
pub(super) struct Marks {
    armor: Vec<u8>,
    headers: Vec<Vec<u8>>,
    has_blank_line: bool,
}

impl Marks {
    pub(super) fn of(case: &Case) -> Self {
        let (armor, _) = split_as_git_does(&case.bytes, case.format);
        let end = case.bytes.windows(2).position(|two| two == b"\n\n");
        let head = &case.bytes[..end.map_or(case.bytes.len(), |at| at + 1)];
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for line in head.split_inclusive(|byte| *byte == b'\n') {
            match headers.last_mut() {
                Some(last) if line.starts_with(b" ") => last.extend_from_slice(line),
                Some(_) | None => headers.push(line.to_vec()),
            }
        }
        Self {
            armor,
            headers,
            has_blank_line: end.is_some(),
        }
    }

    fn names(&self) -> Vec<&[u8]> {
        self.headers
            .iter()
            .map(|line| {
                let end = line.iter().position(|byte| *byte == b' ' || *byte == b'\n');
                &line[..end.unwrap_or(line.len())]
            })
            .collect()
    }

    fn in_order(&self, format: Format) -> bool {
        let names = self.names();
        let mut rest = names.as_slice();
        let mut take = |wanted: &str| match rest.split_first() {
            Some((name, tail)) if *name == wanted.as_bytes() => {
                rest = tail;
                true
            }
            Some(_) | None => false,
        };
        let tree = take("tree");
        while take("parent") {}
        let people = take("author") && take("committer");
        take("encoding");
        let known = |name: &&[u8]| {
            [
                &b"tree"[..],
                b"parent",
                b"author",
                b"committer",
                b"encoding",
            ]
            .contains(name)
        };
        let signature = rest
            .iter()
            .position(|name| *name == format.header().as_bytes());
        tree && people
            && self.has_blank_line
            && !rest.iter().any(known)
            && signature.is_none_or(|at| at + 1 == rest.len())
    }

    fn folded_people(&self) -> bool {
        self.headers.iter().any(|line| {
            [
                &b"tree"[..],
                b"parent",
                b"author",
                b"committer",
                b"encoding",
            ]
            .iter()
            .any(|name| line.starts_with(name))
                && line.iter().filter(|byte| **byte == b'\n').count() != 1
        })
    }

    fn person_is_odd(line: &[u8]) -> bool {
        let text = String::from_utf8_lossy(line);
        let Some((_, rest)) = text.trim_end_matches('\n').split_once(' ') else {
            return true;
        };
        let ok = || {
            let (name, rest) = rest.split_once('<')?;
            let (address, rest) = rest.split_once("> ")?;
            let (time, zone) = rest.split_once(' ')?;
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let plain = !name.contains(['<', '>']) && !address.contains(['<', '>']);
            // Up to the year 9999.
            let number = time.parse::<i64>().is_ok_and(|at| at < 253_402_214_400) && digits(time);
            let canonical = (time == "0" && line.starts_with(b"author")) || !time.starts_with('0');
            let zone = zone.len() == 5 && zone.starts_with(['+', '-']) && digits(&zone[1..]);
            (plain && (name.is_empty() || name.ends_with(' ')) && number && canonical && zone)
                .then_some(())
        };
        ok().is_none()
    }

    fn key(&self) -> Option<Vec<u8>> {
        let blob = dearmor(&self.armor);
        let mut rest = blob.get(10..)?;
        (u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize + 4 <= rest.len())
            .then(|| take(&mut rest).to_vec())
    }
}

/// Which lines of allowed_signers their verdict rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestsOn {
    /// Lines that are read here too.
    ReadLines,
    /// One that is skipped here.
    SkippedLines,
}

/// The kind of a refusal of ours that they do not share; `None` is a failure of the suite.
pub(super) fn stricter(case: &Case, ours: &Ours, rests: RestsOn) -> Option<Stricter> {
    let marks = Marks::of(case);
    let key = marks.key().unwrap_or_default();
    let certificate = key.windows(6).any(|part| part == b"-cert-");
    let (reason, message) = match ours {
        Ours::Trusted(_) => return None,
        Ours::NoPolicy(message) if message.contains("names no signer") => {
            return (rests == RestsOn::SkippedLines).then_some(Stricter::NoSigner);
        }
        Ours::NoPolicy(message) => {
            return match &case.revoked {
                Some((bytes, _)) if message.starts_with("revoked") && bytes.is_empty() => {
                    Some(Stricter::EmptyRevocation)
                }
                Some((_, "revoked: a damaged KRL")) if message.starts_with("revoked") => {
                    Some(Stricter::DamagedRevocation)
                }
                Some(_) | None => None,
            };
        }
        Ours::Refused(reason, message) => (reason.as_str(), message.as_str()),
    };
    let armor = &marks.armor;
    let names = marks.names();
    let about = |what: &str| message.contains(what);
    let signature_headers = || {
        let count = names
            .iter()
            .filter(|name| name.starts_with(b"gpgsig"))
            .count();
        count != 1 || !names.contains(&case.format.header().as_bytes())
    };
    let people = || {
        marks
            .headers
            .iter()
            .filter(|line| line.starts_with(b"author") || line.starts_with(b"committer"))
            .any(|line| Marks::person_is_odd(line))
    };
    let text = String::from_utf8_lossy(armor).into_owned();
    let canonical = super::wire::armor(&dearmor(armor));
    let body = |text: &str| text.replace('\n', "");
    let is = |wanted: &str| reason == wanted;
    let kinds = [
        (
            Stricter::SignatureHeaders,
            is("bad-signature") && about("signature header is") && signature_headers(),
        ),
        (
            Stricter::HeaderOrder,
            is("bad-signature")
                && (about("git's order")
                    || about("not the last header")
                    || about("goes on in a second"))
                && (!marks.in_order(case.format) || marks.folded_people()),
        ),
        (
            Stricter::Nul,
            is("bad-signature") && about("NUL byte") && case.bytes.contains(&0),
        ),
        (
            Stricter::Person,
            is("bad-signature") && (about("`author`") || about("`committer`")) && people(),
        ),
        (
            Stricter::HeaderForm,
            is("bad-signature")
                && (about("a header line") || about("no blank line"))
                && case.tags.iter().any(|tag| {
                    tag.contains("header")
                        || tag.contains("folded")
                        || tag.contains("blank line")
                        || tag.contains("bit")
                }),
        ),
        (Stricter::Limits, is("unsupported") && about("at most")),
        (
            Stricter::CarriageReturn,
            is("bad-signature") && about("malformed") && armor.contains(&b'\r'),
        ),
        (
            Stricter::AroundArmor,
            is("bad-signature")
                && (about("does not begin as") || about("does not end with"))
                && (!text.starts_with("-----BEGIN SSH SIGNATURE-----\n")
                    || !text
                        .trim_end_matches('\n')
                        .ends_with("\n-----END SSH SIGNATURE-----")),
        ),
        (
            Stricter::ArmorForm,
            is("bad-signature") && about("not base64") && body(&text) != body(&canonical),
        ),
        (
            Stricter::Untouched,
            is("bad-signature")
                && about("not touched")
                && key.windows(3).any(|part| part == b"sk-"),
        ),
        (
            Stricter::TimeFloor,
            is("key-expired") && case.floor > case.time,
        ),
        (
            Stricter::SmallOrder,
            is("bad-signature") && key.ends_with(&super::signatures::small_order().0[19..]),
        ),
        (
            Stricter::SpelledTwice,
            is("bad-signature") && about("does not fit") && case.tags.contains(&"malleable: s + L"),
        ),
        (
            Stricter::Sshsig,
            (is("unsupported") && about("unknown version") && case.tags.contains(&"version"))
                || (is("wrong-namespace") && about("git\\0")),
        ),
        (
            Stricter::RsaSize,
            is("unsupported") && about("an RSA key of"),
        ),
        (
            Stricter::Certificate,
            certificate && is("unsupported") && about("certificate"),
        ),
        (
            Stricter::VerifyRequired,
            is("bad-signature")
                && about("verify-required")
                && case.tags.contains(&"certificate with verify-required"),
        ),
        (
            Stricter::SignatureForm,
            is("bad-signature")
                && about("malformed")
                && case.tags.iter().any(|tag| {
                    ["reserved", "bytes behind", "malleable"]
                        .iter()
                        .any(|wanted| tag.starts_with(wanted))
                }),
        ),
        (
            Stricter::KeyForm,
            is("bad-signature")
                && about("public key cannot be read")
                && case.tags.iter().any(|tag| tag.starts_with("key respelled")),
        ),
        (
            Stricter::SkippedLine,
            rests == RestsOn::SkippedLines
                && [
                    "unknown-key",
                    "key-expired",
                    "key-not-yet-valid",
                    "wrong-namespace",
                ]
                .contains(&reason),
        ),
    ];
    kinds
        .into_iter()
        .find_map(|(kind, fits)| fits.then_some(kind))
}
