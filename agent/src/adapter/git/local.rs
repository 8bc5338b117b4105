//! Copying commits from one repository on this machine to another, in process: how `file://` remotes are fetched, and
//! how the store is compacted. No `git` is needed for either.
//!
//! A commit is copied whole (its tree and all blobs). What is copied becomes one pack, indexed and so hashed by gix;
//! where history is left out the `shallow` file says so, as git's own does.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::objs::{CommitRefIter, Kind, TreeRefIter};
use gix::odb::pack;

use super::graph;
use super::limits::{Budget, Fault, Limits};
use super::store;

/// How far back to copy.
pub(super) enum Reach<'a> {
    /// Up to what the target has already; the tip alone where it is empty.
    Update,
    /// Until this commit is met, and `recent` commits at least; and besides `kept`, wherever they are.
    Floor {
        floor: Option<&'a str>,
        recent: usize,
        kept: &'a BTreeSet<ObjectId>,
    },
}

fn fault(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Fault {
    Fault::broken(what, error)
}

/// The branch's tip in another repository; `None` where it has no such branch.
pub(super) fn tip(from: &gix::Repository, branch: &str) -> Result<Option<ObjectId>, Fault> {
    let name = format!("refs/heads/{branch}");
    let found = from
        .try_find_reference(name.as_str())
        .map_err(|error| fault("its refs do not read", error))?;
    let Some(mut reference) = found else {
        return Ok(None);
    };
    let id = reference
        .peel_to_id()
        .map_err(|error| fault("the branch points to nothing", error))?;
    Ok(Some(id.detach()))
}

struct Copy<'a> {
    from: &'a gix::Repository,
    to: &'a gix::Repository,
    budget: &'a Budget,
    commits: Vec<ObjectId>,
    objects: Vec<ObjectId>,
    seen: HashSet<ObjectId>,
}

impl Copy<'_> {
    /// Chooses the commits, from the tip backwards.
    fn choose(&mut self, tip: ObjectId, reach: &Reach<'_>, cap: usize) -> Result<(), Fault> {
        let is_empty = self.to.try_find_object(tip).ok().flatten().is_none() && !has_packs(self.to);
        if let Reach::Floor { kept, .. } = reach {
            let missing = kept.iter().filter(|id| !self.to.has_object(**id));
            self.commits.extend(missing);
        }
        let kept: HashSet<ObjectId> = self.commits.iter().copied().collect();
        let mut visited = HashSet::from([tip]);
        let mut next = VecDeque::from([tip]);
        let mut count = 0;
        let mut is_met = matches!(reach, Reach::Floor { floor: None, .. });
        while let Some(id) = next.pop_front() {
            self.budget.remaining()?;
            let Some(parents) = graph::parents(self.from, id) else {
                // The other repository is shallow itself: the boundary is here too.
                continue;
            };
            let is_here = self.to.has_object(id);
            if !is_here && !kept.contains(&id) {
                self.commits.push(id);
            }
            count += 1;
            let stop = match reach {
                Reach::Update => is_empty || is_here,
                Reach::Floor { floor, recent, .. } => {
                    is_met |= floor.is_some_and(|floor| id.to_hex() == floor);
                    is_met && count >= *recent
                }
            };
            if stop {
                match reach {
                    Reach::Update => continue,
                    Reach::Floor { .. } => break,
                }
            }
            if count >= cap {
                break;
            }
            for parent in parents {
                if visited.insert(parent) {
                    next.push_back(parent);
                }
            }
        }
        Ok(())
    }

    fn read(&self, id: ObjectId) -> Result<gix::Object<'_>, Fault> {
        self.from
            .find_object(id)
            .map_err(|error| fault("an object of the other repository does not read", error))
    }

    /// Collects all objects of the chosen commits that the target does not have.
    fn collect(&mut self) -> Result<(), Fault> {
        for commit in self.commits.clone() {
            self.budget.remaining()?;
            self.objects.push(commit);
            let object = self.read(commit)?;
            let tree = CommitRefIter::from_bytes(&object.data, commit.kind())
                .tree_id()
                .map_err(|error| fault("a commit does not decode", error))?;
            drop(object);
            let mut trees = vec![tree];
            while let Some(tree) = trees.pop() {
                // A tree that is there is there whole.
                if !self.seen.insert(tree) || self.to.has_object(tree) {
                    continue;
                }
                self.objects.push(tree);
                let data = std::mem::take(&mut self.read(tree)?.data);
                for entry in TreeRefIter::from_bytes(&data, tree.kind()) {
                    let entry = entry.map_err(|error| fault("a tree does not decode", error))?;
                    let id = entry.oid.to_owned();
                    if entry.mode.is_tree() {
                        trees.push(id);
                    } else if !entry.mode.is_commit()
                        && self.seen.insert(id)
                        && !self.to.has_object(id)
                    {
                        self.objects.push(id);
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes the objects as a pack stream (gitformat-pack: no deltas), counted against the budget.
    fn stream(&self, out: &mut impl Write) -> Result<(), Fault> {
        let failed = |error: io::Error| fault("cannot write the copied objects", error);
        let count =
            u32::try_from(self.objects.len()).map_err(|error| fault("too many objects", error))?;
        let mut hasher = gix::hash::hasher(self.to.object_hash());
        let mut emit = |bytes: &[u8], out: &mut dyn Write| -> Result<(), Fault> {
            hasher.update(bytes);
            self.budget.spend(bytes.len())?;
            out.write_all(bytes).map_err(failed)
        };
        let mut header = b"PACK\0\0\0\x02".to_vec();
        header.extend_from_slice(&count.to_be_bytes());
        emit(&header, out)?;
        for id in &self.objects {
            self.budget.remaining()?;
            let object = self.read(*id)?;
            let mut entry = entry_header(object.kind, object.data.len());
            let mut deflate =
                gix::zlib::stream::deflate::Write::new(Vec::new(), gix::zlib::Compression::DEFAULT);
            deflate.write_all(&object.data).map_err(failed)?;
            deflate.flush().map_err(failed)?;
            entry.extend_from_slice(&deflate.into_inner());
            emit(&entry, out)?;
        }
        let digest = hasher
            .try_finalize()
            .map_err(|error| fault("cannot hash the copied objects", error))?;
        out.write_all(digest.as_slice()).map_err(failed)
    }
}

fn has_packs(repo: &gix::Repository) -> bool {
    fs::read_dir(repo.git_dir().join("objects/pack"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|ext| ext == "idx"))
}

fn boundary(repo: &gix::Repository) -> Result<BTreeSet<ObjectId>, Fault> {
    graph::boundary(repo).map_err(|error| fault("the shallow boundary does not read", error))
}

/// Type and size of an entry, as gitformat-pack writes them: three bits of type, then seven bits of size a byte.
fn entry_header(kind: Kind, size: usize) -> Vec<u8> {
    let code: u8 = match kind {
        Kind::Commit => 1,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    };
    let low = |value: usize, mask: u8| value.to_le_bytes()[0] & mask;
    let mut byte = (code << 4) | low(size, 0x0f);
    let mut rest = size >> 4;
    let mut out = Vec::with_capacity(4);
    while rest > 0 {
        out.push(byte | 0x80);
        byte = low(rest, 0x7f);
        rest >>= 7;
    }
    out.push(byte);
    out
}

/// Copies `tip` and what `reach` asks for; synced when it returns. Writes nothing where all is there already.
pub(super) fn copy(
    from: &gix::Repository,
    to: &gix::Repository,
    tip: ObjectId,
    reach: &Reach<'_>,
    limits: &Limits,
    budget: &Budget,
) -> Result<(), Fault> {
    let mut copy = Copy {
        from,
        to,
        budget,
        commits: Vec::new(),
        objects: Vec::new(),
        seen: HashSet::new(),
    };
    copy.choose(tip, reach, limits.commits)?;
    if copy.commits.is_empty() {
        return Ok(());
    }
    copy.collect()?;
    let before = boundary(to)?;
    let commits: HashSet<ObjectId> = copy.commits.iter().copied().collect();
    let has = |id: ObjectId| commits.contains(&id) || to.has_object(id);
    let after: BTreeSet<ObjectId> = before
        .iter()
        .chain(&commits)
        .copied()
        .filter(|id| {
            let parents = graph::parents(from, *id).or_else(|| graph::parents(to, *id));
            parents.is_none_or(|parents| parents.into_iter().any(|parent| !has(parent)))
        })
        .collect();
    // What is cut off is said before the pack is seen, and what no longer is only after.
    let store = to.git_dir();
    write_boundary(store, &before, &before.union(&after).copied().collect())?;
    let files = index(&copy, store, limits)?;
    store::sync_received(store, &files).map_err(|error| fault("cannot sync", error))?;
    write_boundary(store, &before.union(&after).copied().collect(), &after)
}

pub(super) fn write_boundary(
    store: &Path,
    old: &BTreeSet<ObjectId>,
    new: &BTreeSet<ObjectId>,
) -> Result<(), Fault> {
    if old == new {
        return Ok(());
    }
    let path = store.join("shallow");
    let done = if new.is_empty() {
        fs::remove_file(&path).and_then(|()| store::sync(store))
    } else {
        let text: String = new.iter().map(|id| format!("{id}\n")).collect();
        store::write_durably(&path, text.as_bytes())
    };
    done.map_err(|error| fault("cannot write the shallow boundary", error))
}

fn index(copy: &Copy<'_>, store: &Path, limits: &Limits) -> Result<Vec<PathBuf>, Fault> {
    let failed = |error: io::Error| fault("cannot write the copied objects", error);
    let packs = store.join("objects/pack");
    let path = packs.join(format!("tmp_copy_{}", std::process::id()));
    let run = || -> Result<Vec<PathBuf>, Fault> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(failed)?;
        let mut out = BufWriter::new(&mut file);
        copy.stream(&mut out)?;
        out.flush().map_err(failed)?;
        drop(out);
        file.rewind().map_err(failed)?;
        let outcome = pack::Bundle::write_to_directory(
            &mut BufReader::new(file),
            Some(&packs),
            &mut gix::progress::Discard,
            copy.budget.interrupt(),
            None::<gix::OdbHandle>,
            copy.to.object_hash(),
            pack::bundle::write::Options {
                thread_limit: Some(1),
                alloc_limit_bytes: usize::try_from(limits.object_bytes).ok(),
                ..Default::default()
            },
        )
        .map_err(|error| fault("cannot index the copied objects", error))?;
        if let Some(keep) = outcome.keep_path {
            let _ = fs::remove_file(keep);
        }
        Ok([outcome.data_path, outcome.index_path]
            .into_iter()
            .flatten()
            .collect())
    };
    let done = run();
    let _ = fs::remove_file(&path);
    done
}
