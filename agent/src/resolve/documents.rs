//! Looking up documents in a tree. A symbolic link or a submodule that is used is an error: neither is ever followed.

use std::fmt;
use std::str::FromStr;

use evenkeel_schema::diagnostic::{Diagnostics, Position};

use crate::domain::tree::{Document, Tree};

/// What stands at a path.
pub(super) enum Found<'t> {
    /// A file.
    File(&'t [u8]),
    /// A folder with documents below it.
    Folder,
    /// Nothing.
    Missing,
    /// A symbolic link or a submodule, here or above.
    NotFollowed(String),
}

/// What stands at a path.
pub(super) fn find<'t>(tree: &'t Tree, path: &str) -> Found<'t> {
    let ends = path
        .match_indices('/')
        .map(|(index, _)| index)
        .chain(std::iter::once(path.len()));
    for end in ends {
        let part = &path[..end];
        match tree.documents.get(part) {
            Some(Document::File(bytes)) if end == path.len() => return Found::File(bytes),
            Some(Document::File(_)) => return Found::Missing,
            Some(Document::Symlink(target)) => {
                return Found::NotFollowed(format!(
                    "`{part}` is a symbolic link (to `{}`), and a symbolic link is not followed",
                    target.escape_debug()
                ));
            }
            Some(Document::Submodule) => {
                return Found::NotFollowed(format!(
                    "`{part}` is a submodule, and a submodule is not fetched"
                ));
            }
            None => {}
        }
    }
    if below(tree, path).next().is_some() {
        Found::Folder
    } else {
        Found::Missing
    }
}

/// Every path below a folder.
pub(super) fn below<'t>(tree: &'t Tree, folder: &str) -> impl Iterator<Item = &'t str> + use<'t> {
    let prefix = format!("{folder}/");
    tree.documents
        .range(prefix.clone()..)
        .map(|(path, _)| path.as_str())
        .take_while(move |path| path.starts_with(&prefix))
}

/// A document's bytes, where there is one; what is in its place is reported.
pub(super) fn optional<'t>(tree: &'t Tree, path: &str, out: &mut Diagnostics) -> Option<&'t [u8]> {
    match find(tree, path) {
        Found::File(bytes) => Some(bytes),
        Found::Missing => None,
        Found::Folder => {
            out.error(
                path,
                Position::default(),
                "this is a folder, and should be a file",
            );
            None
        }
        Found::NotFollowed(why) => {
            out.error_with_help(path, Position::default(), why, "put the file itself here");
            None
        }
    }
}

/// A document that is known to be there.
pub(super) fn file<'t>(tree: &'t Tree, path: &str, out: &mut Diagnostics) -> Option<&'t [u8]> {
    optional(tree, path, out)
}

/// A document's bytes; where there is none, that is reported.
pub(super) fn required<'t>(
    tree: &'t Tree,
    path: &str,
    help: &str,
    out: &mut Diagnostics,
) -> Option<&'t [u8]> {
    if matches!(find(tree, path), Found::Missing) {
        out.error_with_help(path, Position::default(), "this file is missing", help);
    }
    optional(tree, path, out)
}

/// The `.toml` documents of a folder, by the names they carry. Other files are left alone.
pub(super) fn named<T>(tree: &Tree, folder: &str, out: &mut Diagnostics) -> Vec<(String, T)>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    if let Found::NotFollowed(why) = find(tree, folder) {
        out.error_with_help(
            folder,
            Position::default(),
            why,
            "put the folder itself here",
        );
    }
    let mut found = Vec::new();
    for path in below(tree, folder) {
        let Some(stem) = path.strip_suffix(".toml") else {
            continue;
        };
        let name = &stem[folder.len() + 1..];
        if name.contains('/') {
            out.error_with_help(
                path,
                Position::default(),
                format!("this is not directly in `{folder}/`, and would not be read"),
                format!("move it to `{folder}/`"),
            );
            continue;
        }
        match name.parse() {
            Ok(name) => found.push((path.to_owned(), name)),
            Err(error) => out.error(path, Position::default(), format!("{error}")),
        }
    }
    found
}
