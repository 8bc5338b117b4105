//! Configs and secrets as files of the device: one for each mount, in a folder that nothing else may declare.

use std::collections::BTreeMap;

use evenkeel_schema::app::OnRemove;
use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::document::Placed;
use evenkeel_schema::name::AppName;
use evenkeel_schema::node::{Node, Value};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Compose, FILES_FOLDER, FileKind, Origin};

use super::interpolate::Lookup;
use super::project::Project;
use crate::domain::desired::{Contents, DesiredFile};
use crate::domain::revision::ContentId;

/// A declared file must not lie where these do.
pub(super) fn refuse_place(path: &Placed<AbsPath>, out: &mut Diagnostics) {
    let folder = FILES_FOLDER.parse::<AbsPath>();
    if folder.is_ok_and(|folder| path.value == folder || path.value.is_within(&folder)) {
        path.place.error_with_help(
            out,
            format!("`{FILES_FOLDER}` is where evenkeel puts configs and secrets"),
            "declare it under `configs` or `secrets`, or choose another path",
        );
    }
}

/// The files that the services' configs and secrets make.
pub(super) fn files(
    project: &Project<'_>,
    app: &AppName,
    read: &Compose,
    contents: &mut Contents,
    out: &mut Diagnostics,
) -> BTreeMap<AbsPath, DesiredFile> {
    let mut files = BTreeMap::new();
    for (name, service) in &read.services {
        for file in service.mounted_files(app, name) {
            // What is not declared was told with the references.
            let Some(object) = read.files(file.kind).get(&file.mount.source) else {
                continue;
            };
            let Some(bytes) = bytes(project, &object.origin, out) else {
                continue;
            };
            let id = ContentId::of(&bytes);
            let account = |id: &Option<String>| id.clone().unwrap_or_else(|| "root".to_owned());
            let mode = file.mode();
            files.insert(
                file.path,
                DesiredFile {
                    content: id.clone(),
                    size: bytes.len() as u64,
                    mode,
                    owner: account(&file.mount.uid),
                    group: account(&file.mount.gid),
                    on_change: Vec::new(),
                    on_remove: OnRemove::Delete,
                    secret: file.kind == FileKind::Secret,
                },
            );
            contents.insert(id, bytes);
        }
    }
    files
}

fn bytes(project: &Project<'_>, origin: &Origin, out: &mut Diagnostics) -> Option<Vec<u8>> {
    match origin {
        Origin::Content(text) => Some(text.clone().into_bytes()),
        Origin::File(named) => {
            let at = Node {
                file: named.place.file.clone(),
                at: named.place.at,
                value: Value::Null,
            };
            project
                .file(&named.value, &at, out)
                .map(|(_, bytes)| bytes.to_vec())
        }
        Origin::Environment(named) => match project.variable(&named.value, out) {
            Lookup::Set(text) => Some(text.into_bytes()),
            Lookup::Unset => {
                named.place.error_with_help(
                    out,
                    format!("`{}` is not set by any value", named.value.escape_debug()),
                    "add the value: its name in small letters, with dots or underscores",
                );
                None
            }
            Lookup::Wrong(why) => {
                named.place.error(out, why);
                None
            }
        },
    }
}
