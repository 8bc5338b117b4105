//! A branch as a static tree of files: what its head file says, and how its files are named.
//!
//! ```text
//! published.json       says that this is such a tree
//! heads/<branch>.json  one small file a branch, written last: all that a poll asks for
//! packs/<sha256>.pack  git packs, named by what they hold and never changed
//! ```
//! Nothing in it is trusted: packs give git objects, and those are judged above.

use serde::{Deserialize, Serialize};

use super::revision::CommitId;

/// The only format there is.
const FORMAT: u32 = 1;
/// The longest head file in bytes: some fifty times what one has.
pub const LONGEST_HEAD: u64 = 512 * 1024;
/// The most packs that a head may name.
const MOST_PACKS: usize = 1000;
/// Says that a folder is a published tree.
pub const MARK: &str = "published.json";
/// What [`MARK`] holds.
pub const MARK_TEXT: &str = "{\"format\":1}\n";

/// One pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    /// The commit that is there, whole, once this pack is.
    pub to: CommitId,
    /// What the file is named after and holds: SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
}

impl Pack {
    /// Its file in the tree.
    #[must_use]
    pub fn file(&self) -> String {
        pack_file(&self.sha256)
    }
}

/// The file of the pack with this SHA-256.
#[must_use]
pub fn pack_file(sha256: &str) -> String {
    format!("packs/{sha256}.pack")
}

/// What a head file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    format: u32,
    /// The fleet's name, for people.
    pub fleet: String,
    /// The branch.
    pub branch: String,
    /// git's hash function: `sha1` or `sha256`.
    pub hash: String,
    /// The branch's tip.
    pub tip: CommitId,
    /// The branch's history, oldest first. The first pack holds all up to its commit; each other one holds what its commit has
    /// beyond the one before, and its deltas build upon that one. The last one's commit is the tip.
    pub line: Vec<Pack>,
    /// One commit of the line whole, without its history: where a new device begins.
    pub snapshot: Pack,
}

/// Why a head file is not taken. `Display` says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It is of a later version.
    #[error("it has format {0}, and this version of evenkeel reads format 1: update the agent")]
    Format(u32),
    /// It is none, or it was cut off.
    #[error("it is not a head file, or was cut off: {0}")]
    Malformed(String),
    /// Its parts contradict each other.
    #[error("it contradicts itself: {0}")]
    Contradicts(&'static str),
    /// It is of another branch.
    #[error("it is of the branch `{0}`")]
    OtherBranch(String),
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Head {
    /// A head of the one format.
    #[must_use]
    pub fn new(
        fleet: String,
        branch: String,
        hash: String,
        line: Vec<Pack>,
        snapshot: Pack,
    ) -> Option<Self> {
        let tip = line.last()?.to.clone();
        Some(Self {
            format: FORMAT,
            fleet,
            branch,
            hash,
            tip,
            line,
            snapshot,
        })
    }

    /// Reads a head file of this branch.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn parse(bytes: &[u8], branch: &str) -> Result<Self, HeadError> {
        let malformed = |error: serde_json::Error| HeadError::Malformed(error.to_string());
        let format: Format = serde_json::from_slice(bytes).map_err(malformed)?;
        if format.format != FORMAT {
            return Err(HeadError::Format(format.format));
        }
        let head: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.branch != branch {
            return Err(HeadError::OtherBranch(
                head.branch
                    .chars()
                    .take(80)
                    .collect::<String>()
                    .escape_debug()
                    .to_string(),
            ));
        }
        let packs = || head.line.iter().chain([&head.snapshot]);
        let is_sum = |text: &str| {
            text.len() == 64
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let digits = match head.hash.as_str() {
            "sha1" => 40,
            "sha256" => 64,
            _ => {
                return Err(HeadError::Contradicts(
                    "its hash function is neither sha1 nor sha256",
                ));
            }
        };
        if head.line.len() > MOST_PACKS {
            Err(HeadError::Contradicts("it names more than 1000 packs"))
        } else if !packs().all(|pack| is_sum(&pack.sha256)) {
            Err(HeadError::Contradicts("a pack is not named by a SHA-256"))
        } else if !packs().all(|pack| pack.to.as_str().len() == digits) {
            Err(HeadError::Contradicts(
                "a commit's id is not one of its hash function",
            ))
        } else if head.line.last().map(|pack| &pack.to) != Some(&head.tip) {
            Err(HeadError::Contradicts("its line does not end at its tip"))
        } else if head.after(&head.snapshot.to).is_none() {
            Err(HeadError::Contradicts("its snapshot is not of its line"))
        } else {
            Ok(head)
        }
    }

    /// What is to be had beyond a commit of the line.
    #[must_use]
    pub fn after(&self, commit: &CommitId) -> Option<&[Pack]> {
        let at = self.line.iter().rposition(|pack| pack.to == *commit)?;
        self.line.get(at + 1..)
    }
}

/// The head file of a branch. Any byte that a web server, an object store or a stick's file system could take for something
/// else is written as `=` and two digits.
#[must_use]
pub fn head_file(branch: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::from("heads/");
    for byte in branch.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "={byte:02x}");
        }
    }
    name.push_str(".json");
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pack(digit: char) -> Pack {
        Pack {
            to: digit.to_string().repeat(40).parse().unwrap(),
            sha256: digit.to_string().repeat(64),
            size: 7,
        }
    }

    fn head() -> Head {
        let line = vec![pack('a'), pack('b')];
        Head::new(
            "acme".into(),
            "stable".into(),
            "sha1".into(),
            line,
            pack('a'),
        )
        .unwrap()
    }

    #[test]
    fn a_head_reads_as_it_was_written_and_tells_what_is_beyond_a_commit() {
        let text = serde_json::to_vec(&head()).unwrap();
        let read = Head::parse(&text, "stable").unwrap();
        assert_eq!(read, head());
        assert_eq!(read.after(&pack('a').to), Some(&[pack('b')][..]));
        assert_eq!(read.after(&pack('b').to), Some(&[][..]));
        assert_eq!(read.after(&pack('c').to), None);
    }

    #[test]
    fn what_is_cut_off_or_contradicts_itself_is_refused() {
        let text = serde_json::to_string(&head()).unwrap();
        for cut in [0, 1, 20, text.len() / 2, text.len() - 1] {
            assert!(
                Head::parse(&text.as_bytes()[..cut], "stable").is_err(),
                "{cut}"
            );
        }
        for (what, with) in [
            (r#""format":1"#, r#""format":2"#),
            (r#""hash":"sha1""#, r#""hash":"sha256""#),
            (r#""hash":"sha1""#, r#""hash":"md5""#),
            (&"b".repeat(64), &"B".repeat(64)),
            (&"b".repeat(64), "../../etc/passwd"),
            (
                &format!(r#""tip":"{}""#, "b".repeat(40)),
                &format!(r#""tip":"{}""#, "a".repeat(40)),
            ),
            (
                &format!(r#""snapshot":{{"to":"{}""#, "a".repeat(40)),
                &format!(r#""snapshot":{{"to":"{}""#, "c".repeat(40)),
            ),
            (r#""branch":"stable""#, r#""branch":"canary""#),
        ] {
            let other = text.replace(what, with);
            assert_ne!(other, text, "{what}");
            assert!(Head::parse(other.as_bytes(), "stable").is_err(), "{what}");
        }
        let later = text.replace(r#""format":1"#, r#""format":1,"more":[]"#);
        assert!(Head::parse(later.as_bytes(), "stable").is_ok());
    }

    #[test]
    fn each_branch_has_a_file_of_its_own_in_one_folder() {
        for (branch, file) in [
            ("stable", "heads/stable.json"),
            ("plant/a", "heads/plant=2fa.json"),
            ("plant=2fa", "heads/plant=3d2fa.json"),
            ("v1.0", "heads/v1.0.json"),
            ("größe", "heads/gr=c3=b6=c3=9fe.json"),
        ] {
            assert_eq!(head_file(branch), file);
        }
    }
}
