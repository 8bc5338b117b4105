//! Where a path leads when somebody else follows it: the engine, which resolves a mount's source and a device as any
//! process of the host does, out of the configured root where a link says so.
//!
//! Owns no descriptor: what is found can change at once, so it is a judgement of now and no promise.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::FileType;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use crate::resolve::guard::{Node, NodeKind};

/// As the kernel's own limit (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// Folders of device nodes are small; one that is not is judged by what fits.
const MOST_NODES: usize = 4096;
/// How deep below a folder of device nodes is looked.
const DEEPEST: u32 = 8;

/// Why it cannot be told.
#[derive(Debug)]
pub(super) enum Lost {
    /// In words that follow the path.
    Astray(String),
    /// The system's word.
    System(io::Error),
}

/// Follows every link of an absolute path, the last one too. What does not exist yet is appended as it is.
pub(super) fn follow(path: &Path) -> Result<PathBuf, Lost> {
    let mut left: VecDeque<OsString> = VecDeque::new();
    push(&mut left, path);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    // How many of the components that are left come from a link's target: those must be there.
    let mut linked: usize = 0;
    while let Some(part) = left.pop_front() {
        let of_link = linked > 0;
        linked = linked.saturating_sub(1);
        if part == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&part);
        let meta = match std::fs::symlink_metadata(&next) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !of_link => {
                // Nothing can be linked below what is not there.
                real = next;
                real.extend(left);
                return Ok(real);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Lost::Astray(
                    "goes through a symlink that leads nowhere: name the real path".to_owned(),
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                real = next;
                real.extend(left);
                return Ok(real);
            }
            Err(error) => return Err(Lost::System(error)),
        };
        if !meta.is_symlink() {
            real = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Lost::Astray(
                "goes through too many symlinks: name the real path".to_owned(),
            ));
        }
        if next.starts_with("/proc") {
            // Such a link means another place for each process that follows it.
            return Err(Lost::Astray(format!(
                "goes through {}, which is another place for each process: name the real path",
                next.display()
            )));
        }
        let target = std::fs::read_link(&next).map_err(Lost::System)?;
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
        linked += push(&mut left, &target);
    }
    Ok(real)
}

/// Puts the components of a path in front; says how many.
fn push(left: &mut VecDeque<OsString>, path: &Path) -> usize {
    let parts: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect();
    let count = parts.len();
    for part in parts.into_iter().rev() {
        left.push_front(part);
    }
    count
}

/// The nodes that an engine hands over for a device: what a link leads to, and all that is below a folder.
pub(super) fn nodes(path: &Path) -> Result<Vec<Node>, Lost> {
    let real = follow(path)?;
    let mut found = Vec::new();
    gather(&real, DEEPEST, &mut found).map_err(Lost::System)?;
    Ok(found)
}

fn gather(path: &Path, depth: u32, found: &mut Vec<Node>) -> io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // Not plugged in: there is nothing to hand over.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if meta.is_dir() {
        if depth == 0 {
            return Err(io::Error::other("its folders go too deep"));
        }
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // Engines skip links below a folder.
            if !entry.file_type()?.is_symlink() {
                gather(&entry.path(), depth - 1, found)?;
            }
        }
        return Ok(());
    }
    if found.len() == MOST_NODES {
        return Err(io::Error::other("it holds too many device nodes"));
    }
    found.push(Node {
        path: String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(),
        kind: kind(meta.file_type(), meta.rdev()),
    });
    Ok(())
}

/// Major number of the memory devices (the kernel's devices.txt), and which of them are the memory itself.
const MEMORY: (u32, [u32; 3]) = (1, [1, 2, 4]);

fn kind(file: FileType, number: u64) -> NodeKind {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    if file.is_block_device() {
        NodeKind::Block
    } else if file.is_char_device() && major == MEMORY.0 && MEMORY.1.contains(&minor) {
        NodeKind::Memory
    } else {
        NodeKind::Other
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn astray(path: &Path) -> String {
        match follow(path) {
            Err(Lost::Astray(why)) => why,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn links_are_followed_to_the_end_and_what_is_missing_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(top.join("real/inner")).unwrap();
        std::fs::write(top.join("real/file"), "").unwrap();
        symlink("real", top.join("link")).unwrap();
        symlink(top.join("real"), top.join("absolute")).unwrap();
        symlink("../link/inner", top.join("real/back")).unwrap();
        for (path, leads) in [
            ("real", "real"),
            ("link", "real"),
            ("absolute/inner", "real/inner"),
            ("real/back", "real/inner"),
            ("link/back/x/y", "real/inner/x/y"),
            ("absent/x", "absent/x"),
            ("real/file/x", "real/file/x"),
        ] {
            assert_eq!(follow(&top.join(path)).unwrap(), top.join(leads), "{path}");
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_or_round_or_through_a_process_is_astray() {
        let dir = tempfile::tempdir().unwrap();
        symlink("absent/below", dir.path().join("nowhere")).unwrap();
        symlink("round", dir.path().join("round")).unwrap();
        symlink("/proc/self/root/etc", dir.path().join("process")).unwrap();
        assert!(astray(&dir.path().join("nowhere")).contains("nowhere"));
        assert!(astray(&dir.path().join("nowhere/x")).contains("nowhere"));
        assert!(astray(&dir.path().join("round")).contains("too many"));
        assert!(astray(&dir.path().join("process")).contains("/proc/self"));
    }

    #[test]
    fn a_folder_of_nodes_is_all_that_is_in_it_and_what_is_not_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(top.join("bus/usb")).unwrap();
        std::fs::write(top.join("bus/usb/1"), "").unwrap();
        symlink("/dev/null", top.join("bus/null")).unwrap();
        symlink("bus", top.join("link")).unwrap();
        let paths = |name: &str| -> Vec<String> {
            let found = nodes(&top.join(name)).unwrap();
            found.into_iter().map(|node| node.path).collect()
        };
        let inner = top.join("bus/usb/1").display().to_string();
        assert_eq!(paths("link"), [inner]);
        assert_eq!(paths("absent"), [""; 0]);
        assert_eq!(
            nodes(Path::new("/dev/null")).unwrap(),
            [Node {
                path: "/dev/null".to_owned(),
                kind: NodeKind::Other
            }]
        );
    }

    #[test]
    fn the_machines_memory_is_told_by_its_numbers() {
        let null = std::fs::symlink_metadata("/dev/null").unwrap();
        let char_device = null.file_type();
        assert_eq!(
            kind(char_device, rustix::fs::makedev(1, 1)),
            NodeKind::Memory
        );
        assert_eq!(
            kind(char_device, rustix::fs::makedev(1, 4)),
            NodeKind::Memory
        );
        assert_eq!(
            kind(char_device, rustix::fs::makedev(1, 3)),
            NodeKind::Other
        );
        assert_eq!(
            kind(char_device, rustix::fs::makedev(188, 1)),
            NodeKind::Other
        );
    }
}
