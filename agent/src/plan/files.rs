//! Files: desired beside observed beside what is ours.
//!
//! Owns the rule of copies: nothing that a person made is replaced or removed without a copy. What stands at a
//! declared path and is not in the inventory is a person's (`Original`); what is in the inventory, but is not what we
//! wrote last, was edited by a person (`EditedByHand`); what we wrote last is ours, and needs no copy.
//! Refuses: to replace a directory, device node, socket or pipe (blocked, with the next move).

use evenkeel_schema::app::OnRemove;
use evenkeel_schema::path::AbsPath;

use super::text::short;
use super::{Action, Blocked, Left, Step};
use crate::domain::desired::{DesiredFile, DesiredState};
use crate::domain::history::{Inventory, OwnedFile};
use crate::domain::observed::{FileKind, ObservedFile, ObservedState, Seen};
use crate::domain::resource::{CopyReason, ResourceId};

/// The file half of a plan, in the order of its fields.
#[derive(Debug, Default)]
pub(super) struct Files<'a> {
    /// Removals of files that stand where a declared file needs a directory.
    pub(super) clearing: Vec<Step>,
    /// Writes and metadata.
    pub(super) writes: Vec<Step>,
    /// Other removals: last, when nothing that runs reads them any more.
    pub(super) removals: Vec<Step>,
    /// Declared files whose content changes.
    pub(super) changed: Vec<&'a AbsPath>,
    /// What could not be planned.
    pub(super) blocked: Vec<Blocked>,
}

const NOT_LOOKED_AT: &str = "it was not looked at";

pub(super) fn plan<'a>(
    desired: &'a DesiredState,
    observed: &ObservedState,
    inventory: &Inventory,
    left: &Left,
) -> Files<'a> {
    let mut files = Files::default();
    let mut declared: Vec<_> = desired.files().collect();
    declared.sort_by_key(|(_, path, _)| *path);
    for (_, path, file) in &declared {
        let resource = ResourceId::File((*path).clone());
        if left.has(&resource) {
            continue;
        }
        let seen = match observed.files.get(*path) {
            Some(Seen::Present(seen)) => Some(seen),
            Some(Seen::Absent) => None,
            Some(Seen::Unknown(why)) => {
                files.blocked.push(unknown(resource, why));
                continue;
            }
            None => {
                files.blocked.push(unknown(resource, NOT_LOOKED_AT));
                continue;
            }
        };
        match declared_file(path, file, seen, inventory.files.get(*path)) {
            Decision::Nothing => {}
            Decision::Step(action, because) => {
                let action = *action;
                if matches!(action, Action::WriteFile { .. })
                    && seen.and_then(|seen| seen.content.as_ref()) != Some(&file.content)
                {
                    files.changed.push(path);
                }
                files.writes.push(Step {
                    resource,
                    action,
                    because,
                });
            }
            Decision::Blocked(why) => files.blocked.push(Blocked { resource, why }),
        }
    }
    for (path, owned) in &inventory.files {
        if declared
            .binary_search_by_key(&path, |(_, path, _)| *path)
            .is_ok()
        {
            continue;
        }
        let resource = ResourceId::File(path.clone());
        match observed.files.get(path) {
            Some(Seen::Unknown(why)) => files.blocked.push(unknown(resource, why)),
            None => files.blocked.push(unknown(resource, NOT_LOOKED_AT)),
            Some(Seen::Absent) => files.removals.push(undeclared(path, owned, None)),
            Some(Seen::Present(seen)) => {
                let step = undeclared(path, owned, Some(seen));
                let in_the_way = declared
                    .iter()
                    .any(|(_, other, _)| *other != path && other.is_within(path));
                if in_the_way {
                    files.clearing.push(step);
                } else {
                    files.removals.push(step);
                }
            }
        }
    }
    files
}

fn unknown(resource: ResourceId, why: &str) -> Blocked {
    Blocked {
        resource,
        why: format!("could not look at it: {why}"),
    }
}

enum Decision {
    Nothing,
    Step(Box<Action>, String),
    Blocked(String),
}

fn declared_file(
    path: &AbsPath,
    file: &DesiredFile,
    seen: Option<&ObservedFile>,
    owned: Option<&OwnedFile>,
) -> Decision {
    let write = |keep, because: String| {
        Decision::Step(
            Box::new(Action::WriteFile {
                path: path.clone(),
                file: file.clone(),
                keep,
            }),
            because,
        )
    };
    let Some(seen) = seen else {
        let because = if owned.is_some() { "it is gone" } else { "new" };
        return write(None, because.to_owned());
    };
    let keep = copy_of(seen, owned);
    match seen.kind {
        FileKind::Directory => Decision::Blocked(format!(
            "a directory stands at {path}: move it away, or declare the file at another path"
        )),
        FileKind::Other => Decision::Blocked(format!(
            "something that is no file (a device node, socket or pipe) stands at {path}: move it away, or declare the \
             file at another path"
        )),
        FileKind::Symlink => write(keep, "a symbolic link stands in its place".to_owned()),
        FileKind::Regular => regular(path, file, seen, owned, keep),
    }
}

fn regular(
    path: &AbsPath,
    file: &DesiredFile,
    seen: &ObservedFile,
    owned: Option<&OwnedFile>,
    keep: Option<CopyReason>,
) -> Decision {
    let write = |because: String| {
        Decision::Step(
            Box::new(Action::WriteFile {
                path: path.clone(),
                file: file.clone(),
                keep,
            }),
            because,
        )
    };
    let metadata = metadata(file, seen);
    let same_content = seen.content.as_ref() == Some(&file.content);
    match owned {
        // Equal already: it becomes ours without a write. Where its removal shall bring back what stood here, it is
        // written all the same, because the copy to bring back is made with the write.
        None if same_content && metadata.is_empty() && file.on_remove != OnRemove::Restore => {
            Decision::Nothing
        }
        None if same_content && metadata.is_empty() => {
            write("equal, and not ours yet: a copy is kept for its return".to_owned())
        }
        None if same_content => write(format!("{}; not ours yet", metadata.join(", "))),
        Some(_) if same_content && metadata.is_empty() => Decision::Nothing,
        Some(_) if same_content => Decision::Step(
            Box::new(Action::SetMetadata {
                path: path.clone(),
                file: file.clone(),
            }),
            metadata.join(", "),
        ),
        None => write(format!("{}; not ours yet", contents(file, seen))),
        Some(owned) if owned.content == file.content => write("edited by hand".to_owned()),
        Some(_) => write(match keep {
            None => contents(file, seen),
            Some(_) => format!("{}; edited by hand", contents(file, seen)),
        }),
    }
}

fn contents(file: &DesiredFile, seen: &ObservedFile) -> String {
    match &seen.content {
        Some(content) => format!(
            "content {} -> {}",
            short(content.as_str()),
            short(file.content.as_str())
        ),
        None => format!("content -> {}", short(file.content.as_str())),
    }
}

/// The copy that must be kept before what stands there goes away.
fn copy_of(seen: &ObservedFile, owned: Option<&OwnedFile>) -> Option<CopyReason> {
    match owned {
        None => Some(CopyReason::Original),
        Some(owned)
            if seen.kind == FileKind::Regular && seen.content.as_ref() == Some(&owned.content) =>
        {
            None
        }
        Some(_) => Some(CopyReason::EditedByHand),
    }
}

/// Permission bits, set-user-id, set-group-id and sticky bit.
const MODE_BITS: u32 = 0o7777;

fn metadata(file: &DesiredFile, seen: &ObservedFile) -> Vec<String> {
    let mut differs = Vec::new();
    if seen.mode & MODE_BITS != file.mode & MODE_BITS {
        differs.push(format!(
            "mode {:04o} -> {:04o}",
            seen.mode & MODE_BITS,
            file.mode & MODE_BITS
        ));
    }
    if !is_same_account(&file.owner, &seen.owner, seen.uid) {
        differs.push(format!("owner {} -> {}", seen.owner, file.owner));
    }
    if !is_same_account(&file.group, &seen.group, seen.gid) {
        differs.push(format!("group {} -> {}", seen.group, file.group));
    }
    differs
}

fn is_same_account(declared: &str, name: &str, number: u32) -> bool {
    declared == name || declared.parse() == Ok(number)
}

fn undeclared(path: &AbsPath, owned: &OwnedFile, seen: Option<&ObservedFile>) -> Step {
    let resource = ResourceId::File(path.clone());
    let path = path.clone();
    let step = |action, because: &str| Step {
        resource: resource.clone(),
        action,
        because: because.to_owned(),
    };
    let edited = "no longer declared; edited by hand, a copy is kept";
    let Some(seen) = seen else {
        return match owned.on_remove {
            OnRemove::Restore if owned.replaced => step(
                Action::RestoreFile { path, keep: None },
                "no longer declared; what stood here before comes back",
            ),
            OnRemove::Restore | OnRemove::Delete | OnRemove::Keep => step(
                Action::DisownFile { path },
                "no longer declared, and gone already",
            ),
        };
    };
    match seen.kind {
        FileKind::Directory | FileKind::Other => {
            return step(
                Action::DisownFile { path },
                "no longer declared, and something else stands there now",
            );
        }
        FileKind::Regular | FileKind::Symlink => {}
    }
    let keep = copy_of(seen, Some(owned));
    let because = |plain| if keep.is_some() { edited } else { plain };
    match owned.on_remove {
        OnRemove::Keep => step(Action::DisownFile { path }, "no longer declared; it stays"),
        OnRemove::Restore if owned.replaced => step(
            Action::RestoreFile { path, keep },
            because("no longer declared; what stood here before comes back"),
        ),
        OnRemove::Restore | OnRemove::Delete => step(
            Action::RemoveFile { path, keep },
            because("no longer declared"),
        ),
    }
}
