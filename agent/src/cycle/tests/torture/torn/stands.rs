//! What stands below a directory after a case: the declared files, a person's edits, and what should not be left.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::replay::{Remote, expect};
use super::rig::{FILES, STATE};
use super::story::{Release, expected};

/// What a person wrote by hand stands where it was, or in a kept copy.
pub(super) fn edits_kept(edits: &[&str], dir: &Path) -> Result<(), String> {
    let mut all = BTreeSet::new();
    for top in [dir.join(FILES), dir.join(STATE).join("kept")] {
        walk_tree(&top, &mut |path, stat| {
            if stat.is_file() {
                all.insert(std::fs::read(path).unwrap());
            }
        });
    }
    for edit in edits {
        expect(all.contains(edit.as_bytes()), || {
            format!("`{edit}`, written by hand, is lost")
        })?;
    }
    Ok(())
}

/// The files below the root are these, and there is nothing else.
pub(super) fn files_are(dir: &Path, release: Option<&Release>) -> Result<(), String> {
    let root = dir.join(FILES);
    let expected = expected(release);
    let mut found = BTreeMap::new();
    walk_tree(&root, &mut |path, stat| {
        if !stat.is_dir() {
            let name = format!("/{}", path.strip_prefix(&root).unwrap().display());
            let content = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            found.insert(name, (content, stat.mode() & 0o7777));
        }
    });
    let short = |file: Option<&(String, u32)>| {
        file.map(|(text, mode)| {
            format!(
                "{:?}... ({} bytes), {mode:o}",
                text.get(..text.len().min(24)),
                text.len()
            )
        })
    };
    let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    for name in names {
        let (should, is) = (expected.get(name), found.get(name));
        expect(should == is, || {
            format!(
                "{name} should be {:?} and is {:?}",
                short(should),
                short(is)
            )
        })?;
    }
    Ok(())
}

fn walk_tree(dir: &Path, each: &mut impl FnMut(&Path, &std::fs::Metadata)) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        each(&path, &stat);
        if stat.is_dir() {
            walk_tree(&path, each);
        }
    }
}

/// Every file and directory, so that any write shows: what is replaced is another inode, what is written to is younger.
pub(super) fn snapshot(dir: &Path) -> BTreeMap<String, (u64, u64, i64, i64, u32)> {
    let mut all = BTreeMap::new();
    walk_tree(dir, &mut |path, stat| {
        let seen = (
            stat.ino(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.mode(),
        );
        all.insert(path.display().to_string(), seen);
    });
    all
}

/// No temporary file, lock or set-aside thing is left.
pub(super) fn left_over(dir: &Path, remote: Remote, lost_its_journal: bool) -> Result<(), String> {
    let mut left = Vec::new();
    walk_tree(dir, &mut |path, _| {
        let name = path.file_name().unwrap().to_string_lossy();
        let temporary = [".tmp", ".lock", ".evenkeel", ".new", ".old", ".opening"]
            .iter()
            .any(|end| name.ends_with(end))
            || ["tmp_", ".tmp", "journal.damaged", "suspect"]
                .iter()
                .any(|begin| name.starts_with(begin));
        let waits =
            remote == Remote::Gone && path.components().any(|part| part.as_os_str() == "git.new");
        let set_aside = lost_its_journal && name.starts_with("journal.damaged");
        if temporary && !waits && !set_aside {
            left.push(path.strip_prefix(dir).unwrap().display().to_string());
        }
    });
    expect(left.is_empty(), || format!("left over: {left:?}"))
}
