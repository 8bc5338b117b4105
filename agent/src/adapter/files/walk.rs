//! From the root to a path's directory, one component at a time, holding a descriptor of each: nothing that is renamed
//! or linked meanwhile can lead the walk elsewhere.
//!
//! A symlink among the parents is followed only where it stays inside the directory that holds it (`/lib -> usr/lib`).
//! One that leaves it (`/srv/link -> /etc`) is refused: what is declared must be what is written, and a person (or a
//! container) who can make a link there must not choose our target. Each component is opened with `O_NOFOLLOW` and
//! judged, so this needs nothing of newer kernels (openat2), and the kernel's magic links are refused with the rest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use evenkeel_schema::path::AbsPath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Fault;

/// As the kernel's own limit (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// Where a path's file stands or would stand.
pub(super) struct Place {
    /// The deepest directory that exists on the way.
    pub(super) dir: OwnedFd,
    /// Its descriptors from the root down to it, itself not included.
    pub(super) above: Vec<OwnedFd>,
    /// Its real components below the root.
    pub(super) real: Vec<String>,
    /// Parents that do not exist yet.
    pub(super) missing: Vec<String>,
    /// The file's own name.
    pub(super) name: String,
}

impl Place {
    /// The real path, with no symlink in it.
    pub(super) fn path(&self) -> String {
        let mut text = String::new();
        for part in self.real.iter().chain(&self.missing).chain([&self.name]) {
            text.push('/');
            text.push_str(part);
        }
        text
    }
}

/// What has to be walked still.
struct Step {
    name: String,
    /// The symlink it came from, as `from -> to`.
    link: Option<(String, usize)>,
}

/// Opens the root directory.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd, Fault> {
    rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Fault::System("open the root directory", errno.into()))
}

/// Walks to the directory of a path.
pub(super) fn walk(root: OwnedFd, path: &AbsPath) -> Result<Place, Fault> {
    let mut steps: VecDeque<Step> = path
        .relative()
        .split('/')
        .map(|name| Step {
            name: name.to_owned(),
            link: None,
        })
        .collect();
    let name = steps.pop_back().map(|step| step.name).unwrap_or_default();
    let mut dirs = vec![root];
    let mut real: Vec<String> = Vec::new();
    let mut links = 0;

    while let Some(step) = steps.pop_front() {
        if step.name == ".." {
            // Only a symlink's target can say so. Nothing in `real` is a link, so the parent is the one we came from.
            let floor = step.link.as_ref().map_or(0, |(_, floor)| *floor);
            if real.len() <= floor {
                return Err(leaves(step.link.as_ref()));
            }
            real.pop();
            dirs.pop();
            continue;
        }
        let here = dirs
            .last()
            .expect("the root is never popped: `..` stops above it");
        let opened = rustix::fs::openat(
            here,
            &step.name,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let next = match opened {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                if let Some((link, _)) = &step.link {
                    return Err(Fault::Declared(format!(
                        "goes through the symlink {link}, which leads nowhere: declare the real path"
                    )));
                }
                let mut missing = vec![step.name];
                missing.extend(steps.into_iter().map(|step| step.name));
                let dir = dirs.pop().expect("the root is never popped");
                return Ok(Place {
                    dir,
                    above: dirs,
                    real,
                    missing,
                    name,
                });
            }
            Err(errno) => {
                return Err(Fault::System(
                    "look at its parent directories",
                    errno.into(),
                ));
            }
        };
        let stat = rustix::fs::fstat(&next)
            .map_err(|errno| Fault::System("look at its parent directories", errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                real.push(step.name);
                dirs.push(next);
            }
            FileType::Symlink => {
                links += 1;
                let place = format!("{}/{}", join(&real), step.name);
                if links > MOST_LINKS {
                    return Err(Fault::Declared(format!(
                        "goes through the symlink {place}, and too many more: a loop; declare the real path"
                    )));
                }
                follow(&next, &place, &real, &mut steps)?;
            }
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {
                return Err(Fault::NotADirectory(format!(
                    "{}/{}",
                    join(&real),
                    step.name
                )));
            }
        }
    }
    let dir = dirs.pop().expect("the root is never popped");
    Ok(Place {
        dir,
        above: dirs,
        real,
        missing: Vec::new(),
        name,
    })
}

/// Puts a symlink's target in front of what has to be walked still. It may not leave the directory it stands in, whose
/// depth goes with each of its components.
fn follow(
    link: &OwnedFd,
    place: &str,
    here: &[String],
    steps: &mut VecDeque<Step>,
) -> Result<(), Fault> {
    let target = rustix::fs::readlinkat(link, "", Vec::new())
        .map_err(|errno| Fault::System("read a symlink among its parents", errno.into()))?;
    let Ok(target) = target.into_string() else {
        return Err(Fault::Declared(format!(
            "goes through the symlink {place}, whose target is not UTF-8: declare the real path"
        )));
    };
    let told = format!("{place} -> {}", target.escape_debug());
    let mut parts: Vec<&str> = target
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if target.starts_with('/') {
        let inside = parts.len() >= here.len() && parts.iter().zip(here).all(|(a, b)| a == b);
        if !inside {
            return Err(leaves(Some(&(told, 0))));
        }
        parts.drain(..here.len());
    }
    for part in parts.iter().rev() {
        steps.push_front(Step {
            name: (*part).to_owned(),
            link: Some((told.clone(), here.len())),
        });
    }
    Ok(())
}

fn leaves(link: Option<&(String, usize)>) -> Fault {
    let link = link.map_or("..", |(link, _)| link.as_str());
    Fault::Declared(format!(
        "goes through the symlink {link}, which leaves its directory: declare the real path"
    ))
}

fn join(parts: &[String]) -> String {
    parts
        .iter()
        .fold(String::new(), |text, part| text + "/" + part)
}

/// Syncs a directory that is held by an `O_PATH` descriptor, which cannot be synced itself.
pub(super) fn sync(dir: &OwnedFd) -> io::Result<()> {
    let readable = rustix::fs::openat(
        dir.as_fd(),
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    Ok(rustix::fs::fsync(readable)?)
}

/// What stands at the end of a place, never followed; `None` where nothing does.
pub(super) fn look(place: &Place) -> Result<Option<rustix::fs::Stat>, Fault> {
    if !place.missing.is_empty() {
        return Ok(None);
    }
    match rustix::fs::statat(&place.dir, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Fault::System("look at it", errno.into())),
    }
}
