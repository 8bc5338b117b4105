//! Mounts and device mappings: short and long form.

use serde::{Deserialize, Serialize};

use super::{is_false, keys, read, units, wire};
use crate::diagnostic::Diagnostics;
use crate::name::ServiceName;
use crate::node::{Node, Value};
use crate::path::AbsPath;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// A path of the device.
    Bind {
        /// The path; it lands under the configured root.
        source: AbsPath,
        /// Path in the container.
        target: String,
        /// Cannot be written.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// How.
        #[serde(default)]
        bind: BindOptions,
    },
    /// A volume.
    Volume {
        /// Its key in the app; `None`: an anonymous one, which lives as long as its container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<ServiceName>,
        /// Path in the container.
        target: String,
        /// Cannot be written.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// How.
        #[serde(default)]
        volume: VolumeOptions,
    },
    /// Memory.
    Tmpfs {
        /// Path in the container.
        target: String,
        /// Cannot be written.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// How.
        #[serde(default)]
        tmpfs: TmpfsOptions,
    },
}

impl Mount {
    /// Path in the container.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. }
            | Self::Volume { target, .. }
            | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// Compose's `bind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindOptions {
    /// Whether a missing source is made, as a directory.
    pub create_host_path: bool,
    /// How mounts below it are shared; `None`: `rprivate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
    /// Relabelling for SELinux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Selinux>,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            create_host_path: true,
            propagation: None,
            selinux: None,
        }
    }
}

/// Compose's `bind.selinux`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selinux {
    /// Shared between containers.
    #[serde(rename = "z")]
    Shared,
    /// This container's alone.
    #[serde(rename = "Z")]
    Private,
}

/// Compose's `volume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct VolumeOptions {
    /// A new volume is not filled from the image.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nocopy: bool,
}

/// Compose's `tmpfs` in a mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct TmpfsOptions {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::bytes")]
    pub size: Option<u64>,
    /// Permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// A device node of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the device.
    pub source: AbsPath,
    /// Path in the container.
    pub target: String,
    /// Of `r`, `w` and `m` (mknod).
    pub permissions: String,
}

const SHORT_FORM: &str =
    "write it as \"/on/the/device:/in/the/container:ro\" or \"volume:/in/the/container\"";

/// An absolute path in the container, without a final `/`.
pub(super) fn target(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!(
            "`{}` is not an absolute path in the container",
            text.escape_debug()
        ));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(format!("`{}` has `..` in it", text.escape_debug()));
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() {
        return Err("a mount over the container's `/` is not possible".to_owned());
    }
    Ok(format!("/{}", parts.join("/")))
}

/// An absolute path on the device; a final `/` is fine here.
fn source(text: &str) -> Result<AbsPath, String> {
    if text.trim_end_matches('/').is_empty() {
        return Err(
            "mounting the whole device is not supported by this version: mount the folder that is needed"
                .to_owned(),
        );
    }
    text.trim_end_matches('/')
        .parse()
        .map_err(|problem: crate::path::PathError| problem.to_string())
}

fn relative(text: &str) -> bool {
    text.starts_with('.') || text.starts_with('~') || text.contains('/') && !text.starts_with('/')
}

const NOT_RELATIVE: &str = "is relative, and a device has no folder that it could be relative to: \
     declare the file with its `path` in `[[files]]` and mount that absolute path";

fn volume_name(text: &str) -> Result<ServiceName, String> {
    if relative(text) {
        return Err(format!("`{}` {NOT_RELATIVE}", text.escape_debug()));
    }
    text.parse()
        .map_err(|problem: crate::name::NameError| problem.to_string())
}

fn short(text: &str) -> Result<Mount, String> {
    let wrong = |what: &str| format!("`{}` is not a mount: {what}", text.escape_debug());
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, options) = match parts.as_slice() {
        [to] => {
            if relative(to) {
                return Err(format!("`{}` {NOT_RELATIVE}", to.escape_debug()));
            }
            return Ok(Mount::Volume {
                source: None,
                target: target(to)?,
                read_only: false,
                volume: VolumeOptions::default(),
            });
        }
        [from, to] => (*from, *to, ""),
        [from, to, options] => (*from, *to, *options),
        _ => return Err(wrong(SHORT_FORM)),
    };
    let to = target(to)?;
    let mut read_only = false;
    let mut bind = BindOptions::default();
    let mut volume = VolumeOptions::default();
    let is_bind = from.starts_with('/');
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "consistent" | "cached" | "delegated" => {}
            "z" => bind.selinux = Some(Selinux::Shared),
            "Z" => bind.selinux = Some(Selinux::Private),
            "nocopy" if !is_bind => volume.nocopy = true,
            other if is_bind && keys::PROPAGATIONS.contains(&other) => {
                bind.propagation = Some(other.to_owned());
            }
            other => {
                return Err(wrong(&format!(
                    "the option `{}` is not known here; known are ro, rw, z, Z, nocopy (volumes) and {} (paths)",
                    other.escape_debug(),
                    keys::PROPAGATIONS.join(", ")
                )));
            }
        }
    }
    if is_bind {
        return Ok(Mount::Bind {
            source: source(from)?,
            target: to,
            read_only,
            bind,
        });
    }
    Ok(Mount::Volume {
        source: Some(volume_name(from)?),
        target: to,
        read_only,
        volume,
    })
}

fn bind_options(node: &Node, out: &mut Diagnostics) -> BindOptions {
    let mut bind = BindOptions::default();
    for field in read::fields(node, keys::BIND, "bind", out) {
        let value = field.node;
        match field.name {
            "propagation" => {
                bind.propagation = read::word(value, "bind.propagation", keys::PROPAGATIONS, out);
            }
            "create_host_path" => {
                bind.create_host_path =
                    read::boolean(value, "bind.create_host_path", out).unwrap_or(true);
            }
            "selinux" => {
                bind.selinux = read::word(value, "bind.selinux", &["z", "Z"], out).map(|word| {
                    if word == "Z" {
                        Selinux::Private
                    } else {
                        Selinux::Shared
                    }
                });
            }
            _ => read::unread(&field, out),
        }
    }
    bind
}

fn long(node: &Node, out: &mut Diagnostics) -> Option<Mount> {
    let before = out.len();
    let (mut kind, mut from, mut to, mut read_only) = (None, None, None, false);
    let (mut bind, mut volume, mut tmpfs) = (None, None, None);
    for field in read::fields(node, keys::MOUNT, "a mount", out) {
        let value = field.node;
        match field.name {
            "type" => kind = read::word(value, "volumes.type", &["bind", "volume", "tmpfs"], out),
            "source" => from = Some(value),
            "target" => to = read::parsed(value, "volumes.target", out, target),
            "read_only" => {
                read_only = read::boolean(value, "volumes.read_only", out).unwrap_or_default();
            }
            "bind" => bind = Some((value, bind_options(value, out))),
            "volume" => {
                let mut options = VolumeOptions::default();
                for field in read::fields(value, keys::VOLUME_OPTIONS, "volume", out) {
                    match field.name {
                        "nocopy" => {
                            options.nocopy =
                                read::boolean(field.node, "volume.nocopy", out).unwrap_or_default();
                        }
                        _ => read::unread(&field, out),
                    }
                }
                volume = Some((value, options));
            }
            "tmpfs" => {
                let mut options = TmpfsOptions::default();
                for field in read::fields(value, keys::TMPFS, "tmpfs", out) {
                    match field.name {
                        "size" => {
                            options.size = read::parsed(field.node, "tmpfs.size", out, units::size);
                        }
                        "mode" => options.mode = read::number(field.node, "tmpfs.mode", out),
                        _ => read::unread(&field, out),
                    }
                }
                tmpfs = Some((value, options));
            }
            "consistency" => {}
            _ => read::unread(&field, out),
        }
    }
    let Some(kind) = kind else {
        if out.len() == before {
            node.error_with_help(
                out,
                "a mount in its long form needs a `type`",
                "bind, volume or tmpfs",
            );
        }
        return None;
    };
    for (name, options) in [
        ("bind", bind.as_ref().map(|(node, _)| *node)),
        ("volume", volume.as_ref().map(|(node, _)| *node)),
        ("tmpfs", tmpfs.as_ref().map(|(node, _)| *node)),
    ] {
        if let Some(options) = options
            && name != kind
        {
            options.error(out, format!("`{name}` options on a mount of type `{kind}`"));
        }
    }
    if to.is_none() && out.len() == before {
        node.error(out, "a mount needs a `target`");
    }
    let target = to?;
    match kind.as_str() {
        "bind" => {
            let Some(from) = from else {
                node.error(out, "a mount of type `bind` needs a `source`");
                return None;
            };
            let text = read::filled(from, "volumes.source", out)?;
            if relative(&text) {
                from.error(out, format!("`{}` {NOT_RELATIVE}", text.escape_debug()));
                return None;
            }
            Some(Mount::Bind {
                source: read::parsed(from, "volumes.source", out, source)?,
                target,
                read_only,
                bind: bind.map(|(_, options)| options).unwrap_or_default(),
            })
        }
        "volume" => {
            let source = match from {
                Some(from) => Some(read::parsed(from, "volumes.source", out, volume_name)?),
                None => None,
            };
            Some(Mount::Volume {
                source,
                target,
                read_only,
                volume: volume.map(|(_, options)| options).unwrap_or_default(),
            })
        }
        _ => {
            if let Some(from) = from {
                from.error(out, "a mount of type `tmpfs` has no `source`");
                return None;
            }
            Some(Mount::Tmpfs {
                target,
                read_only,
                tmpfs: tmpfs.map(|(_, options)| options).unwrap_or_default(),
            })
        }
    }
}

pub(super) fn decode(node: &Node, out: &mut Diagnostics) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    for item in read::list(node, "volumes", out) {
        let mount = match &item.value {
            Value::Table(_) => long(item, out),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::String(_)
            | Value::List(_) => read::text(item, "volumes", out).and_then(|text| {
                short(&text)
                    .map_err(|problem| item.error(out, format!("`volumes`: {problem}")))
                    .ok()
            }),
        };
        let Some(mount) = mount else { continue };
        if mounts.iter().any(|other| other.target() == mount.target()) {
            item.error(
                out,
                format!("two mounts at `{}` in the container", mount.target()),
            );
        } else {
            mounts.push(mount);
        }
    }
    mounts
}

fn permissions(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    if good {
        // One order, so that `mrw` and `rwm` are the same.
        Ok("rwm".chars().filter(|c| text.contains(*c)).collect())
    } else {
        Err(format!(
            "`{}` is not a device's permissions: some of r, w and m",
            text.escape_debug()
        ))
    }
}

fn device(text: &str) -> Result<DeviceMapping, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (from, to, rights) = match parts.as_slice() {
        [both] => (*both, *both, "rwm"),
        [from, to] if to.starts_with('/') => (*from, *to, "rwm"),
        [both, rights] => (*both, *both, *rights),
        [from, to, rights] => (*from, *to, *rights),
        _ => (text, "", ""),
    };
    if !from.starts_with('/') {
        return Err(format!(
            "`{}` is not a device node: write it as \"/dev/ttyUSB0\" or \"/dev/ttyUSB0:/dev/modem:rw\" (CDI names are not supported by this version)",
            text.escape_debug()
        ));
    }
    Ok(DeviceMapping {
        source: source(from)?,
        target: target(to)?,
        permissions: permissions(rights)?,
    })
}

pub(super) fn decode_devices(node: &Node, out: &mut Diagnostics) -> Vec<DeviceMapping> {
    let mut devices = Vec::new();
    for item in read::list(node, "devices", out) {
        let Value::Table(_) = &item.value else {
            devices.extend(read::parsed(item, "devices", out, device));
            continue;
        };
        let (mut from, mut to, mut rights) = (None, None, None);
        for field in read::fields(item, keys::DEVICE, "a device", out) {
            match field.name {
                "source" => from = read::parsed(field.node, "devices.source", out, source),
                "target" => to = read::parsed(field.node, "devices.target", out, target),
                "permissions" => {
                    rights = read::parsed(field.node, "devices.permissions", out, permissions);
                }
                _ => read::unread(&field, out),
            }
        }
        match from {
            Some(source) => devices.push(DeviceMapping {
                target: to.unwrap_or_else(|| source.as_str().to_owned()),
                source,
                permissions: rights.unwrap_or_else(|| "rwm".to_owned()),
            }),
            None => item.error(out, "a device in its long form needs a `source`, a path"),
        }
    }
    devices
}
