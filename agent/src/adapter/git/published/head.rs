//! The head file of a published tree: one conditional request a poll, and what the last answer was.
//!
//! Owns `<state>/git.heads`: the last head of each address with what the server calls it (its ETag, or its time). It is written
//! when a head changes, so an idle poll writes nothing; where it is lost, the next poll asks without a condition.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reqwest::header::{ETAG, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};

use super::super::answer::refusal;
use super::super::download::{Pieces, ask};
use super::super::fetch::Inner;
use super::super::http::HttpRemote;
use super::super::limits::{Budget, Fault};
use super::super::store;
use crate::domain::published::{Head, LONGEST_HEAD, MARK, head_file};
use crate::port::upgrades::Piece;

/// Where a published tree is.
#[derive(Debug, Clone, Copy)]
pub(in crate::adapter::git) enum Place<'a> {
    Web(&'a HttpRemote),
    Folder(&'a Path),
}

/// What stands where a head file was looked for.
pub(super) enum Found {
    Head(Head),
    /// A published tree without this branch.
    NoBranch,
    /// No published tree, and what says so.
    NoTree(Fault),
}

/// The last answer of one address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    url: String,
    etag: Option<String>,
    modified: Option<String>,
    head: Head,
}

/// The last answers.
#[derive(Debug)]
pub(in crate::adapter::git) struct Heads {
    file: PathBuf,
    /// `None` before the file was read.
    known: Mutex<Option<Vec<Known>>>,
}

/// The longest file of last answers.
const LONGEST: u64 = 8 * LONGEST_HEAD;

impl Heads {
    pub(in crate::adapter::git) fn new(file: PathBuf) -> Self {
        Self {
            file,
            known: Mutex::new(None),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<Known>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        work(known.get_or_insert_with(|| {
            let bytes = bounded(&self.file, LONGEST).unwrap_or_default();
            // What does not read is asked for anew.
            serde_json::from_slice(&bytes).unwrap_or_default()
        }))
    }

    fn of(&self, url: &Url, branch: &str) -> Option<Known> {
        self.with(|known| {
            let mut found = known.iter();
            found
                .find(|one| one.url == url.as_str() && one.head.branch == branch)
                .cloned()
        })
    }

    /// Whether a published tree was last seen at this address.
    pub(in crate::adapter::git) fn is_tree(&self, remote: &HttpRemote, branch: &str) -> bool {
        self.of(&remote.url, branch).is_some()
    }

    /// The last answer, where there is one: for more of what it told of.
    pub(super) fn last(&self, place: Place<'_>, branch: &str) -> Option<Head> {
        match place {
            Place::Web(remote) => Some(self.of(&remote.url, branch)?.head),
            Place::Folder(_) => None,
        }
    }

    /// The packs that an answer names whose tip is still on its way.
    pub(super) fn awaited(&self, is_here: impl Fn(&Head) -> bool) -> BTreeSet<String> {
        self.with(|known| {
            let coming = known
                .iter()
                .map(|one| &one.head)
                .filter(|head| !is_here(head));
            coming
                .flat_map(|head| head.line.iter().chain([&head.snapshot]))
                .map(|pack| pack.sha256.clone())
                .collect()
        })
    }

    pub(in crate::adapter::git) fn forget(&self, remote: &HttpRemote) {
        self.with(|known| known.retain(|one| one.url != remote.url.as_str()));
    }

    /// What it told of is not to be had: the next poll asks for it whole. Some servers tell two heads of one second apart by
    /// nothing but their length.
    pub(super) fn doubt(&self, place: Place<'_>) {
        if let Place::Web(remote) = place {
            self.with(|known| {
                for one in known
                    .iter_mut()
                    .filter(|one| one.url == remote.url.as_str())
                {
                    (one.etag, one.modified) = (None, None);
                }
            });
        }
    }

    fn remember(&self, fresh: Known) {
        self.with(|known| {
            // In its place: an answer that is the same as before changes nothing on the disk.
            match known.iter_mut().find(|one| one.url == fresh.url) {
                Some(one) => *one = fresh,
                None => known.push(fresh),
            }
        });
    }

    /// Writes down what is known, where the disk has another head. A failure costs one whole head file after a restart.
    pub(super) fn keep(&self) {
        let text = self.with(|known| {
            let bytes = bounded(&self.file, LONGEST).unwrap_or_default();
            let on_disk: Vec<Known> = serde_json::from_slice(&bytes).unwrap_or_default();
            let heads = |list: &[Known]| -> Vec<(String, Head)> {
                list.iter()
                    .map(|one| (one.url.clone(), one.head.clone()))
                    .collect()
            };
            (heads(&on_disk) != heads(known)).then(|| serde_json::to_vec(known))
        });
        if let Some(Ok(text)) = text
            && let Err(error) = store::write_durably(&self.file, &text)
        {
            tracing::debug!(%error, "the head of the published tree is not written down");
        }
    }
}

/// Reads a file of bounded size.
fn bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// The address of a file below a tree's.
pub(super) fn below(remote: &HttpRemote, file: &str) -> Result<Url, Fault> {
    let base = format!("{}/", remote.url.as_str().trim_end_matches('/'));
    Url::parse(&base)
        .and_then(|base| base.join(file))
        .map_err(|error| Fault::broken("source.url is not a URL", error))
}

/// Asks for the head of the branch.
pub(super) fn head(inner: &Inner, place: Place<'_>, budget: &Budget) -> Result<Found, Fault> {
    match place {
        Place::Web(remote) => of_web(inner, remote, budget),
        Place::Folder(dir) => of_folder(inner, dir),
    }
}

fn of_folder(inner: &Inner, dir: &Path) -> Result<Found, Fault> {
    let file = dir.join(head_file(&inner.branch));
    // A pipe or a device in its place would be read for ever.
    let read = std::fs::metadata(&file).and_then(|data| {
        if data.is_file() {
            bounded(&file, LONGEST_HEAD)
        } else {
            Err(io::Error::other("it is no file"))
        }
    });
    match read {
        Ok(bytes) => parse(&bytes, &inner.branch).map(Found::Head),
        Err(error) if store::is_nothing(&error) => Ok(if dir.join(MARK).is_file() {
            Found::NoBranch
        } else {
            Found::NoTree(Fault::Answer("no published tree is there".to_owned()))
        }),
        Err(error) => Err(Fault::Answer(super::unread(&file, &error))),
    }
}

fn parse(bytes: &[u8], branch: &str) -> Result<Head, Fault> {
    Head::parse(bytes, branch)
        .map_err(|error| Fault::Answer(format!("{}: {error}", head_file(branch))))
}

fn of_web(inner: &Inner, remote: &HttpRemote, budget: &Budget) -> Result<Found, Fault> {
    let known = inner.heads.of(&remote.url, &inner.branch);
    // One condition: servers differ in what they make of two.
    let condition: Vec<(HeaderName, String)> = match &known {
        Some(Known {
            etag: Some(etag), ..
        }) => vec![(IF_NONE_MATCH, etag.clone())],
        Some(Known {
            modified: Some(modified),
            ..
        }) => vec![(IF_MODIFIED_SINCE, modified.clone())],
        Some(Known {
            etag: None,
            modified: None,
            ..
        })
        | None => Vec::new(),
    };
    let response = ask(inner, below(remote, &head_file(&inner.branch))?, &condition)?;
    match (response.status(), known) {
        (StatusCode::NOT_MODIFIED, Some(known)) => return Ok(Found::Head(known.head)),
        (StatusCode::OK, _) => {}
        // Object stores answer 403 where a file is not there.
        (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE, _) => {
            let status = response.status();
            return is_tree(inner, remote, budget).map(|is_tree| {
                if is_tree {
                    Found::NoBranch
                } else {
                    Found::NoTree(Fault::Answer(format!(
                        "there is no published tree, or this login may not see it ({}): check source.url, which is to name \
                         the folder that has {MARK} in it",
                        status.as_u16()
                    )))
                }
            });
        }
        (other, _) => return Err(refusal(other)),
    }
    let named = |name: HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (etag, modified) = (named(ETAG), named(LAST_MODIFIED));
    let bytes = whole(inner, response, budget)?;
    let head = parse(&bytes, &inner.branch)?;
    inner.heads.remember(Known {
        url: remote.url.to_string(),
        etag,
        modified,
        head: head.clone(),
    });
    Ok(Found::Head(head))
}

/// Whether the mark of a published tree is there.
fn is_tree(inner: &Inner, remote: &HttpRemote, budget: &Budget) -> Result<bool, Fault> {
    let response = ask(inner, below(remote, MARK)?, &[])?;
    if response.status() != StatusCode::OK {
        return Ok(false);
    }
    let bytes = whole(inner, response, budget)?;
    let mark: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
    Ok(mark.is_some_and(|mark| mark.get("format").is_some()))
}

/// A small answer, whole.
fn whole(
    inner: &Inner,
    response: reqwest::blocking::Response,
    budget: &Budget,
) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    let mut sink = |piece: Piece<'_>| -> io::Result<()> {
        budget.remaining().map_err(io::Error::other)?;
        match piece {
            Piece::Begins { .. } => {}
            Piece::Bytes(more) => {
                budget.count(more.len());
                bytes.extend_from_slice(more);
            }
        }
        if bytes.len() as u64 > LONGEST_HEAD {
            return Err(io::Error::other(Fault::TooMuch(LONGEST_HEAD)));
        }
        Ok(())
    };
    Pieces::until_stopped(budget.interrupt())
        .of_response(response, 0, inner.limits.read, &mut sink)
        .map_err(super::fault)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::domain::published::Pack;

    #[test]
    fn the_same_answers_again_in_another_order_write_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let heads = Heads::new(dir.path().join("git.heads"));
        let pack = || Pack {
            to: "a".repeat(40).parse().unwrap(),
            sha256: "a".repeat(64),
            size: 1,
        };
        let answer = |url: &str| Known {
            url: url.to_owned(),
            etag: None,
            modified: None,
            head: Head::new(
                "acme".to_owned(),
                "main".to_owned(),
                "sha1".to_owned(),
                vec![pack()],
                pack(),
            )
            .unwrap(),
        };
        for url in ["https://a.example", "https://b.example"] {
            heads.remember(answer(url));
        }
        heads.keep();
        let before = std::fs::metadata(&heads.file).unwrap();
        heads.remember(answer("https://a.example"));
        heads.keep();
        assert_eq!(std::fs::metadata(&heads.file).unwrap().ino(), before.ino());
    }
}
