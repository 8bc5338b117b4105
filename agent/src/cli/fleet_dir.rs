//! A fleet repository on disk, for `lint` and `render`: the working tree as it is, committed or not.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::domain::tree::{DEEPEST, Document, MOST_BYTES, READ, Tree};

/// Reads a repository's documents.
///
/// # Errors
/// The folder is not a fleet repository, or cannot be read.
pub(super) fn read(dir: &Path) -> anyhow::Result<Tree> {
    let meta = std::fs::metadata(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    if !meta.is_dir() {
        anyhow::bail!("{} is not a folder", dir.display());
    }
    if std::fs::symlink_metadata(dir.join("fleet.toml")).is_err() {
        anyhow::bail!(
            "{} is not a fleet repository: it has no fleet.toml\nhint: name the repository's top folder",
            dir.display()
        );
    }
    let mut reader = Reader {
        tree: Tree::default(),
        left: MOST_BYTES,
    };
    for name in READ {
        let path = dir.join(name);
        if std::fs::symlink_metadata(&path).is_ok() {
            reader.entry(&path, name, DEEPEST)?;
        }
    }
    Ok(reader.tree)
}

struct Reader {
    tree: Tree,
    left: u64,
}

impl Reader {
    fn entry(&mut self, path: &Path, name: &str, depth: usize) -> anyhow::Result<()> {
        let failed = || format!("cannot read {}", path.display());
        let meta = std::fs::symlink_metadata(path).with_context(failed)?;
        let document = if meta.is_symlink() {
            let target: PathBuf = std::fs::read_link(path).with_context(failed)?;
            Document::Symlink(target.to_string_lossy().into_owned())
        } else if meta.is_dir() {
            if std::fs::symlink_metadata(path.join(".git")).is_ok() {
                Document::Submodule
            } else {
                return self.folder(path, name, depth);
            }
        } else if meta.is_file() {
            self.left = self
                .left
                .checked_sub(meta.len())
                .with_context(|| format!("the repository has more than {MOST_BYTES} bytes"))?;
            Document::File(std::fs::read(path).with_context(failed)?)
        } else {
            anyhow::bail!("{} is neither a file nor a folder", path.display());
        };
        self.tree.documents.insert(name.to_owned(), document);
        Ok(())
    }

    fn folder(&mut self, path: &Path, name: &str, depth: usize) -> anyhow::Result<()> {
        let failed = || format!("cannot read {}", path.display());
        if depth == 0 {
            anyhow::bail!("{} is more than {DEEPEST} folders deep", path.display());
        }
        for entry in std::fs::read_dir(path).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let file_name = entry.file_name();
            let Some(below) = file_name.to_str() else {
                anyhow::bail!("{} has a name that is not UTF-8", entry.path().display());
            };
            self.entry(&entry.path(), &format!("{name}/{below}"), depth - 1)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own files need not survive a power cut"
)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_read_without_following_anything() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("fleet.toml", "format = 1\n");
        write("apps/a/app.toml", "");
        write("apps/b/.git", "gitdir: elsewhere");
        write("apps/b/app.toml", "");
        write("README.md", "");
        write(".git/config", "");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("apps/a/link")).unwrap();
        let tree = read(dir.path()).unwrap();
        let paths: Vec<&str> = tree.documents.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            ["apps/a/app.toml", "apps/a/link", "apps/b", "fleet.toml"]
        );
        assert_eq!(
            tree.documents["apps/a/link"],
            Document::Symlink("/etc/passwd".to_owned())
        );
        assert_eq!(tree.documents["apps/b"], Document::Submodule);
    }

    #[test]
    fn a_folder_that_is_no_fleet_repository_is_wrong_usage() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            read(dir.path())
                .unwrap_err()
                .to_string()
                .contains("no fleet.toml")
        );
        assert!(read(&dir.path().join("nope")).is_err());
    }
}
