//! A file's change as text, for people: a unified diff, bounded.
//!
//! Refuses to show secrets, what is not text, and what is too long to be read. Limit: an old content that is not at
//! hand is not shown either; whoever gathers the contents leaves out those that secrets went into.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use evenkeel_schema::path::AbsPath;
use similar::DiffTag;
use similar::algorithms::{Capture, Compact, Replace, myers};

use super::{Action, Step};
use crate::domain::desired::Contents;
use crate::domain::observed::{ObservedState, Seen};

/// More lines than this are counted, not shown: a person reads the first screens.
const MOST_LINES: usize = 200;
/// A longer line is cut.
const LONGEST_LINE: usize = 200;
/// More bytes than this on either side are not compared: it is no configuration that a person reads, and comparing
/// takes time that grows with the square of the differences.
const LARGEST: usize = 256 * 1024;
/// Lines around a change.
const CONTEXT: usize = 3;

/// What is known of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side<'a> {
    /// There is no file.
    Nothing,
    /// This.
    Bytes(&'a [u8]),
    /// Something whose content is not at hand.
    NotAtHand,
}

/// Whether a content may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It may.
    Yes,
    /// A secret went into it.
    Secret,
}

/// The diff of a step, where it changes a file's content. `contents` holds what is at hand, old and new, by its id.
#[must_use]
pub fn of_step(step: &Step, observed: &ObservedState, contents: &Contents) -> Option<String> {
    let Action::WriteFile {
        path,
        file,
        keep: _,
    } = &step.action
    else {
        return None;
    };
    let old = match observed.files.get(path) {
        Some(Seen::Present(seen)) => seen
            .content
            .as_ref()
            .and_then(|id| contents.get(id))
            .map_or(Side::NotAtHand, |bytes| Side::Bytes(bytes)),
        Some(Seen::Absent) => Side::Nothing,
        Some(Seen::Unknown(_)) | None => Side::NotAtHand,
    };
    let new = contents
        .get(&file.content)
        .map_or(Side::NotAtHand, |bytes| Side::Bytes(bytes));
    let shown = if file.secret {
        Shown::Secret
    } else {
        Shown::Yes
    };
    Some(unified(path, old, new, shown))
}

/// A unified diff, each line with its final newline; or one line in brackets that says why there is none.
#[must_use]
pub fn unified(path: &AbsPath, old: Side<'_>, new: Side<'_>, shown: Shown) -> String {
    if shown == Shown::Secret {
        return "(a secret went into it: not shown)\n".to_owned();
    }
    let (Some(old_bytes), Some(new_bytes)) = (bytes(old), bytes(new)) else {
        return "(the content is not at hand: not shown)\n".to_owned();
    };
    if old_bytes.len() > LARGEST || new_bytes.len() > LARGEST {
        return format!(
            "(too large to show: {} -> {} bytes)\n",
            old_bytes.len(),
            new_bytes.len()
        );
    }
    let (Some(old_text), Some(new_text)) = (text(old_bytes), text(new_bytes)) else {
        return format!(
            "(not text: {} -> {} bytes)\n",
            old_bytes.len(),
            new_bytes.len()
        );
    };
    let before = if old == Side::Nothing {
        "/dev/null"
    } else {
        path.as_str()
    };
    let after = if new == Side::Nothing {
        "/dev/null"
    } else {
        path.as_str()
    };
    let changes = hunks(old_text, new_text);
    if changes.is_empty() {
        return changes;
    }
    bounded(&format!("--- {before}\n+++ {after}\n{changes}"))
}

/// What is different, with the lines around it. One algorithm, on one type: similar's own comparison of texts links each
/// algorithm it has for each, a tenth of a megabyte.
fn hunks(old: &str, new: &str) -> String {
    let mut known = BTreeMap::new();
    let mut of = |text| lines_of(text, &mut known);
    let ((old, old_ids), (new, new_ids)) = (of(old), of(new));
    let mut found = Compact::new(Replace::new(Capture::new()), &*old_ids, &*new_ids);
    let Ok(()) = myers::diff(
        &mut found,
        &*old_ids,
        0..old_ids.len(),
        &*new_ids,
        0..new_ids.len(),
    );
    let mut out = String::new();
    for hunk in found.into_inner().into_inner().into_grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
            continue;
        };
        let removed = first.old_range().start..last.old_range().end;
        let added = first.new_range().start..last.new_range().end;
        let _ = writeln!(out, "@@ -{} +{} @@", place(&removed), place(&added));
        for step in &hunk {
            let (tag, removed, added) = step.as_tag_tuple();
            match tag {
                DiffTag::Equal => side(&mut out, ' ', &old[removed]),
                DiffTag::Delete | DiffTag::Insert | DiffTag::Replace => {
                    side(&mut out, '-', &old[removed]);
                    side(&mut out, '+', &new[added]);
                }
            }
        }
    }
    out
}

/// The lines of a text, each with its end, and a number for each: the same for the same line.
fn lines_of<'a>(text: &'a str, known: &mut BTreeMap<&'a str, usize>) -> (Vec<&'a str>, Vec<usize>) {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let ids = lines
        .iter()
        .map(|line| {
            let next = known.len();
            *known.entry(*line).or_insert(next)
        })
        .collect();
    (lines, ids)
}

/// The lines of a hunk, as its head names them.
fn place(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn side(out: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        out.push(mark);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

const fn bytes(side: Side<'_>) -> Option<&[u8]> {
    match side {
        Side::Nothing => Some(&[]),
        Side::Bytes(bytes) => Some(bytes),
        Side::NotAtHand => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn bounded(whole: &str) -> String {
    let mut out = String::new();
    let mut left = 0;
    for (number, line) in whole.lines().enumerate() {
        if number >= MOST_LINES {
            left += 1;
            continue;
        }
        // A control character could move a terminal's cursor or colour what follows.
        for character in line.chars().take(LONGEST_LINE) {
            if character.is_control() && character != '\t' {
                let _ = write!(out, "{}", character.escape_debug());
            } else {
                out.push(character);
            }
        }
        if line.chars().nth(LONGEST_LINE).is_some() {
            out.push('…');
        }
        out.push('\n');
    }
    if left > 0 {
        let _ = writeln!(out, "(and {left} more lines)");
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn path() -> AbsPath {
        "/etc/motd".parse().unwrap()
    }

    #[test]
    fn a_changed_line_is_shown_with_its_surroundings() {
        let diff = unified(
            &path(),
            Side::Bytes(b"a\nb\nc\n"),
            Side::Bytes(b"a\nB\nc\n"),
            Shown::Yes,
        );
        assert_eq!(
            diff,
            "--- /etc/motd\n+++ /etc/motd\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"
        );
    }

    #[test]
    fn changes_far_apart_stand_in_hunks_of_their_own() {
        let old: String = (1..=30).map(|number| format!("{number}\n")).collect();
        let new = old.replace("\n5\n", "\n5\nfive\n").replace("\n20\n", "\n");
        let diff = unified(
            &path(),
            Side::Bytes(old.as_bytes()),
            Side::Bytes(new.as_bytes()),
            Shown::Yes,
        );
        assert_eq!(
            diff,
            "--- /etc/motd\n+++ /etc/motd\n\
             @@ -3,6 +3,7 @@\n 3\n 4\n 5\n+five\n 6\n 7\n 8\n\
             @@ -17,7 +18,6 @@\n 17\n 18\n 19\n-20\n 21\n 22\n 23\n"
        );
    }

    #[test]
    fn the_end_of_a_last_line_is_a_difference_that_is_seen() {
        let diff = unified(
            &path(),
            Side::Bytes(b"a\nb"),
            Side::Bytes(b"a\nb\n"),
            Shown::Yes,
        );
        assert_eq!(
            diff,
            "--- /etc/motd\n+++ /etc/motd\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
        );
        assert_eq!(
            unified(&path(), Side::Bytes(b"a"), Side::Bytes(b"a"), Shown::Yes),
            ""
        );
    }

    #[test]
    fn a_new_file_is_all_added() {
        let diff = unified(&path(), Side::Nothing, Side::Bytes(b"hello\n"), Shown::Yes);
        assert_eq!(
            diff,
            "--- /dev/null\n+++ /etc/motd\n@@ -0,0 +1 @@\n+hello\n"
        );
    }

    #[test]
    fn a_secret_is_never_shown() {
        let diff = unified(
            &path(),
            Side::Bytes(b"password=a"),
            Side::Bytes(b"password=b"),
            Shown::Secret,
        );
        assert!(!diff.contains("password"), "{diff}");
    }

    #[test]
    fn what_is_not_text_is_only_measured() {
        let diff = unified(
            &path(),
            Side::Bytes(b"\0\x01"),
            Side::Bytes(b"abc"),
            Shown::Yes,
        );
        assert_eq!(diff, "(not text: 2 -> 3 bytes)\n");
        let diff = unified(
            &path(),
            Side::Bytes(b"\xff"),
            Side::Bytes(b"abc"),
            Shown::Yes,
        );
        assert_eq!(diff, "(not text: 1 -> 3 bytes)\n");
    }

    #[test]
    fn many_and_long_lines_are_cut() {
        let long = format!("{}\n", "x".repeat(300)).repeat(500);
        let diff = unified(
            &path(),
            Side::Nothing,
            Side::Bytes(long.as_bytes()),
            Shown::Yes,
        );
        assert_eq!(diff.lines().count(), MOST_LINES + 1);
        assert!(
            diff.lines()
                .all(|line| line.chars().count() <= LONGEST_LINE + 1)
        );
        assert!(
            diff.ends_with("(and 303 more lines)\n"),
            "{}",
            diff.lines().last().unwrap()
        );
    }

    #[test]
    fn what_would_move_a_terminals_cursor_is_escaped() {
        let diff = unified(
            &path(),
            Side::Nothing,
            Side::Bytes(b"\x1b[2Jgone\n"),
            Shown::Yes,
        );
        assert!(diff.contains("+\\u{1b}[2Jgone"), "{diff}");
    }
}
