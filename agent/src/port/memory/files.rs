//! Files in memory: what stands there, what is staged beside it, and the copies that were kept.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use evenkeel_schema::path::AbsPath;

use super::Faults;
use crate::domain::desired::DesiredFile;
use crate::domain::observed::{FileKind, ObservedFile, Seen};
use crate::domain::resource::CopyReason;
use crate::domain::revision::{ContentId, Timestamp};
use crate::port::files::{Files, FilesError};
use crate::resolve::guard::{Found, Names, Node, NodeKind};

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: String,
    pub(crate) group: String,
}

impl Put {
    /// A person's file.
    pub(crate) fn of(content: &str) -> Self {
        Self {
            content: content.as_bytes().to_vec(),
            mode: 0o644,
            owner: "root".to_owned(),
            group: "root".to_owned(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct MemoryFiles {
    faults: Rc<Faults>,
    /// What stands there.
    pub(crate) there: RefCell<BTreeMap<AbsPath, Put>>,
    /// What is staged.
    pub(crate) staged: RefCell<BTreeMap<AbsPath, Put>>,
    /// The originals that were kept.
    pub(crate) originals: RefCell<BTreeMap<AbsPath, Put>>,
    /// Edits by hand that were kept.
    pub(crate) edits: RefCell<Vec<(AbsPath, Put)>>,
    /// Places that a person (or a container) linked to another one.
    pub(crate) links: RefCell<BTreeMap<AbsPath, AbsPath>>,
    /// Whether nobody may look.
    pub(crate) sealed: Cell<bool>,
    /// When files were written, where a test says so; else it cannot be told from now.
    pub(crate) stamps: RefCell<BTreeMap<AbsPath, Timestamp>>,
    /// Free bytes.
    pub(crate) free: Cell<u64>,
}

impl MemoryFiles {
    pub(crate) fn new(faults: Rc<Faults>) -> Self {
        Self {
            faults,
            there: RefCell::default(),
            staged: RefCell::default(),
            originals: RefCell::default(),
            edits: RefCell::default(),
            links: RefCell::default(),
            sealed: Cell::default(),
            stamps: RefCell::default(),
            free: Cell::new(1 << 40),
        }
    }

    /// The same files, over other faults.
    pub(crate) fn copy(&self, faults: Rc<Faults>) -> Self {
        Self {
            faults,
            there: self.there.clone(),
            staged: self.staged.clone(),
            originals: self.originals.clone(),
            edits: self.edits.clone(),
            links: self.links.clone(),
            sealed: self.sealed.clone(),
            stamps: self.stamps.clone(),
            free: self.free.clone(),
        }
    }

    /// A person writes a file.
    pub(crate) fn by_hand(&self, path: &str, content: &str) {
        self.there
            .borrow_mut()
            .insert(path.parse().unwrap(), Put::of(content));
    }

    /// What a file says.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let path: AbsPath = path.parse().unwrap();
        let there = self.there.borrow();
        Some(String::from_utf8_lossy(&there.get(&path)?.content).into_owned())
    }

    /// Where a path leads.
    fn real(&self, path: &AbsPath) -> AbsPath {
        let links = self.links.borrow();
        links
            .iter()
            .find(|(link, _)| path.is_within(link))
            .map_or_else(
                || path.clone(),
                |(link, to)| {
                    let rest = &path.as_str()[link.as_str().len()..];
                    format!("{to}{rest}").parse().unwrap()
                },
            )
    }

    fn change(
        &self,
        what: &'static str,
        path: &AbsPath,
        act: impl FnOnce() -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        self.faults
            .effect(format!("{what} {path}"), act, |cause| FilesError::System {
                path: path.clone(),
                what,
                cause,
            })
    }
}

impl Files for MemoryFiles {
    fn observe(&self, path: &AbsPath) -> Seen<ObservedFile> {
        match self.there.borrow().get(path) {
            None => Seen::Absent,
            Some(put) => Seen::Present(ObservedFile {
                kind: FileKind::Regular,
                content: Some(ContentId::of(&put.content)),
                mode: put.mode,
                owner: put.owner.clone(),
                group: put.group.clone(),
                uid: 0,
                gid: 0,
            }),
        }
    }

    fn read(&self, path: &AbsPath, _most: u64) -> Option<Vec<u8>> {
        Some(self.there.borrow().get(path)?.content.clone())
    }

    fn written(&self, path: &AbsPath) -> Result<Option<Timestamp>, FilesError> {
        self.faults
            .look("see whether it is there", |cause| FilesError::System {
                path: path.clone(),
                what: "see whether it is there",
                cause,
            })?;
        if self.sealed.get() {
            return Err(FilesError::System {
                path: path.clone(),
                what: "see whether it is there",
                cause: std::io::ErrorKind::PermissionDenied.into(),
            });
        }
        let stamps = self.stamps.borrow();
        let stamp = stamps.get(path).copied().unwrap_or(Timestamp(i64::MAX));
        Ok(self.there.borrow().contains_key(path).then_some(stamp))
    }

    fn check(&self, path: &AbsPath, _file: &DesiredFile) -> Result<AbsPath, FilesError> {
        Ok(self.real(path))
    }

    fn leads(&self, path: &AbsPath, _names: Names) -> Result<Found, FilesError> {
        Ok(Found::Leads(self.real(path).to_string()))
    }

    fn nodes(&self, path: &AbsPath) -> Result<Found, FilesError> {
        Ok(Found::Nodes(vec![Node {
            path: path.to_string(),
            kind: NodeKind::Other,
        }]))
    }

    fn stage(&self, path: &AbsPath, file: &DesiredFile, content: &[u8]) -> Result<(), FilesError> {
        // What a power cut leaves of a file that was not synced.
        self.change("begin to stage", path, || {
            let torn = Put::of("");
            self.staged.borrow_mut().insert(path.clone(), torn);
            Ok(())
        })?;
        let staged = self.change("stage", path, || {
            let put = Put {
                content: content.to_vec(),
                mode: file.mode,
                owner: file.owner.clone(),
                group: file.group.clone(),
            };
            self.staged.borrow_mut().insert(path.clone(), put);
            Ok(())
        });
        if staged.is_err() && !self.faults.is_dead() {
            // As the real one: nothing is left of what could not be written.
            self.staged.borrow_mut().remove(path);
        }
        staged
    }

    fn switch(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.change("switch", path, || {
            let staged = self.staged.borrow_mut().remove(path);
            let put = staged.ok_or_else(|| FilesError::System {
                path: path.clone(),
                what: "switch",
                cause: std::io::ErrorKind::NotFound.into(),
            })?;
            self.there.borrow_mut().insert(path.clone(), put);
            Ok(())
        })
    }

    fn set_metadata(&self, path: &AbsPath, file: &DesiredFile) -> Result<(), FilesError> {
        self.change("set the mode of", path, || {
            if let Some(put) = self.there.borrow_mut().get_mut(path) {
                put.mode = file.mode;
                put.owner.clone_from(&file.owner);
                put.group.clone_from(&file.group);
            }
            Ok(())
        })
    }

    fn keep_copy(&self, path: &AbsPath, why: CopyReason) -> Result<(), FilesError> {
        self.change("keep a copy of", path, || {
            let Some(put) = self.there.borrow().get(path).cloned() else {
                return Ok(());
            };
            let mut originals = self.originals.borrow_mut();
            if why == CopyReason::Original && !originals.contains_key(path) {
                originals.insert(path.clone(), put);
            } else {
                self.edits.borrow_mut().push((path.clone(), put));
            }
            Ok(())
        })
    }

    fn remove(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.change("remove", path, || {
            self.there.borrow_mut().remove(path);
            Ok(())
        })
    }

    fn restore(&self, path: &AbsPath) -> Result<(), FilesError> {
        self.change("restore", path, || {
            match self.originals.borrow().get(path).cloned() {
                Some(put) => self.there.borrow_mut().insert(path.clone(), put),
                None => self.there.borrow_mut().remove(path),
            };
            Ok(())
        })
    }

    fn sweep(&self, paths: &BTreeSet<AbsPath>) {
        let left: Vec<&AbsPath> = paths
            .iter()
            .filter(|path| self.staged.borrow().contains_key(*path))
            .collect();
        for path in left {
            // A sweep tells no error: what it could not remove stays.
            let _ = self.change("sweep", path, || {
                self.staged.borrow_mut().remove(path);
                Ok(())
            });
        }
    }

    fn check_kept(&self) -> Vec<String> {
        Vec::new()
    }

    fn free_bytes(&self, _path: &AbsPath) -> Option<u64> {
        Some(self.free.get())
    }
}
