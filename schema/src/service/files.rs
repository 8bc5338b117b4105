//! Compose's `configs` and `secrets`: files of the app's folder, texts and values, mounted into containers.
//!
//! Owns where they lie on a device. Each mount has a file of its own, with its own mode and owner, in a folder that
//! nothing else may declare.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Service, keys, mounts, read, resource, wire};
use crate::diagnostic::Diagnostics;
use crate::document::{Place, Placed};
use crate::name::{AppName, ServiceName};
use crate::node::{Node, Value};
use crate::path::AbsPath;

/// The folder on the device in which they lie: kept through a restart, as the containers that mount them are.
pub const FOLDER: &str = "/var/lib/evenkeel-files";
/// What Compose gives a file of which nothing is said.
const MODE: u32 = 0o444;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// `configs`.
    Config,
    /// `secrets`.
    Secret,
}

impl FileKind {
    /// The key, in a service and beside `services`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }
}

/// A config or secret of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct FileObject {
    /// Its name where it has one.
    pub name: Option<String>,
    /// What is in it.
    pub origin: Origin,
}

/// What is in a config or secret.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// A file of the app's folder.
    File(Placed<String>),
    /// This text.
    Content(String),
    /// What a variable says.
    Environment(Placed<String>),
}

/// A config or secret in a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMount {
    /// Its key in the app.
    pub source: ServiceName,
    /// Path in the container; `None`: Compose's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Owner by number; `None`: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Group by number; `None`: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<String>,
    /// Permission bits; `None`: 0444.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::mode")]
    pub mode: Option<u32>,
}

/// A config or secret in a service, with where it lies and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile<'s> {
    /// Where it lies on the device.
    pub path: AbsPath,
    /// Where the container sees it.
    pub target: String,
    /// Which of the two.
    pub kind: FileKind,
    /// What the service says of it.
    pub mount: &'s FileMount,
}

impl MountedFile<'_> {
    /// Its permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mount.mode.unwrap_or(MODE)
    }
}

impl Service {
    /// The files that its configs and secrets make on a device. `app` and `name` are the service's.
    #[must_use]
    pub fn mounted_files(&self, app: &AppName, name: &ServiceName) -> Vec<MountedFile<'_>> {
        let mut found: Vec<MountedFile<'_>> = Vec::new();
        for (kind, mounts) in [
            (FileKind::Config, &self.configs),
            (FileKind::Secret, &self.secrets),
        ] {
            for (index, mount) in mounts.iter().enumerate() {
                let again = mounts[..index].iter().any(|one| one.source == mount.source);
                let base = format!("{FOLDER}/{app}/{}/{name}/{}", kind.key(), mount.source);
                let path = if again {
                    format!("{base}.{index}")
                } else {
                    base
                };
                found.push(MountedFile {
                    path: path
                        .parse()
                        .expect("names have no `/` and are no `..`, and are short"),
                    target: mount.seen_at(kind),
                    kind,
                    mount,
                });
            }
        }
        found
    }
}

impl FileMount {
    /// Where the container sees it.
    #[must_use]
    pub fn seen_at(&self, kind: FileKind) -> String {
        match (&self.target, kind) {
            (Some(target), _) => target.clone(),
            (None, FileKind::Config) => format!("/{}", self.source),
            (None, FileKind::Secret) => format!("/run/secrets/{}", self.source),
        }
    }
}

/// Reads `configs` or `secrets` of an app.
pub fn decode_files(
    kind: FileKind,
    node: &Node,
    out: &mut Diagnostics,
) -> BTreeMap<ServiceName, FileObject> {
    let what = kind.key();
    let table = match kind {
        FileKind::Config => keys::CONFIG,
        FileKind::Secret => keys::SECRET,
    };
    resource::named(node, what, out, |node, out| {
        let mut name = None;
        let mut origins = Vec::new();
        let before = out.len();
        for field in read::fields(node, table, &format!("an entry of `{what}`"), out) {
            let key = format!("{what}.{}", field.name);
            let value = field.node;
            let placed = |value: String| Placed {
                value,
                place: Place::of(field.node),
            };
            match field.name {
                "name" => name = read::filled(value, &key, out),
                "file" => {
                    origins.extend(read::filled(value, &key, out).map(placed).map(Origin::File))
                }
                "environment" => {
                    let text = read::filled(value, &key, out);
                    origins.extend(text.map(placed).map(Origin::Environment));
                }
                "content" => origins.extend(read::scalar(value, &key, out).map(Origin::Content)),
                "external" => {
                    if read::boolean(value, &key, out) == Some(true) {
                        value.error_with_help(
                            out,
                            format!("`{what}` that are external are swarm's, and a device has no swarm"),
                            "put the file into this folder and name it with `file`, or write its `content`",
                        );
                    }
                }
                _ => read::unread(&field, out),
            }
        }
        match (origins.pop(), origins.is_empty()) {
            (Some(origin), true) => Some(FileObject { name, origin }),
            (_, _) => {
                if out.len() == before {
                    node.error_with_help(
                        out,
                        format!("an entry of `{what}` says where its content is from, once"),
                        "write one of `file`, `content` and `environment`",
                    );
                }
                None
            }
        }
    })
}

/// Reads `configs` or `secrets` of a service.
pub(super) fn decode_mounts(kind: FileKind, node: &Node, out: &mut Diagnostics) -> Vec<FileMount> {
    let mut found: Vec<FileMount> = Vec::new();
    for item in read::list(node, kind.key(), out) {
        let mount = match &item.value {
            Value::Table(_) => long(kind, item, out),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::List(_) => key_of(kind, item, out).map(|source| FileMount {
                source,
                target: None,
                uid: None,
                gid: None,
                mode: None,
            }),
        };
        let Some(mount) = mount else { continue };
        if found
            .iter()
            .any(|other| other.seen_at(kind) == mount.seen_at(kind))
        {
            item.error(
                out,
                format!("two mounts at `{}` in the container", mount.seen_at(kind)),
            );
        } else {
            found.push(mount);
        }
    }
    found
}

fn key_of(kind: FileKind, node: &Node, out: &mut Diagnostics) -> Option<ServiceName> {
    super::parts::service_name(node, kind.key(), out)
}

fn long(kind: FileKind, node: &Node, out: &mut Diagnostics) -> Option<FileMount> {
    let (mut source, mut target, mut uid, mut gid, mut mode) = (None, None, None, None, None);
    let before = out.len();
    for field in read::fields(node, keys::FILE_MOUNT, &format!("`{}`", kind.key()), out) {
        let what = format!("{}.{}", kind.key(), field.name);
        match field.name {
            "source" => source = key_of(kind, field.node, out),
            "target" => {
                target = read::parsed(field.node, &what, out, |text| {
                    // Compose puts a secret that is named without a folder where all of them are.
                    if kind == FileKind::Secret && !text.contains('/') {
                        mounts::target(&format!("/run/secrets/{text}"))
                    } else {
                        mounts::target(text)
                    }
                });
            }
            "uid" => uid = account(field.node, &what, out),
            "gid" => gid = account(field.node, &what, out),
            "mode" => mode = bits(field.node, &what, out),
            _ => read::unread(&field, out),
        }
    }
    if source.is_none() && out.len() == before {
        node.error(
            out,
            format!("`{}` in the long form need a `source`", kind.key()),
        );
    }
    Some(FileMount {
        source: source?,
        target,
        uid,
        gid,
        mode,
    })
}

fn account(node: &Node, what: &str, out: &mut Diagnostics) -> Option<String> {
    read::parsed(node, what, out, |text| {
        text.parse::<u32>().map(|id| id.to_string()).map_err(|_| {
            format!(
                "`{}` is not the number of a user or group",
                text.escape_debug()
            )
        })
    })
}

/// A number is taken as it is; text is read in base 8, which is how people and Compose write it.
fn bits(node: &Node, what: &str, out: &mut Diagnostics) -> Option<u32> {
    let bits = match &node.value {
        Value::Integer(number) => u32::try_from(*number).ok(),
        Value::String(text) => u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8).ok(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Table(_) => None,
    };
    let bits = bits.filter(|bits| *bits <= 0o777);
    if bits.is_none() {
        node.error_with_help(
            out,
            format!("`{what}` is not a mode"),
            "write it in base 8 and as text: \"0440\"",
        );
    }
    bits
}
