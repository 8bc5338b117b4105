//! What a volume's options mount: the `local` driver hands them to mount(2), so that a volume can be any path of the
//! host, a disk, or the kernel's own file systems by another name.

use std::collections::BTreeMap;

use evenkeel_schema::service::Volume;

use super::patterns::plain;

/// File systems that come from elsewhere, or are the volume's own memory.
const HARMLESS: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "tmpfs", "ramfs"];
/// File systems of a disk: the disk is judged as the device that it is.
const DISKS: [&str; 9] = [
    "ext2", "ext3", "ext4", "btrfs", "xfs", "f2fs", "vfat", "exfat", "iso9660",
];
/// The keys that Docker and Podman know. Podman reads them without regard to case.
const KEYS: [&str; 10] = [
    "type", "o", "device", "size", "uid", "gid", "inodes", "noquota", "copy", "nocopy",
];

/// What a volume mounts of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mounts {
    /// Paths of the host.
    pub(super) paths: Vec<String>,
    /// Device nodes of the host; each is among the paths, too.
    pub(super) devices: Vec<String>,
    /// What asks for more than a path.
    pub(super) privileges: Vec<String>,
    /// What cannot be allowed, for it cannot be judged.
    pub(super) unclear: Vec<String>,
}

/// Reads a volume's options.
pub(super) fn mounts(volume: &Volume) -> Mounts {
    let mut found = Mounts::default();
    if let Some(driver) = volume.driver.as_deref().filter(|driver| *driver != "local") {
        // A plugin runs as root, and what it mounts is its own affair.
        found
            .privileges
            .push(format!("the volume driver `{driver}`"));
        return found;
    }
    let mut options: BTreeMap<String, &str> = BTreeMap::new();
    for (key, value) in &volume.driver_opts {
        let key = key.to_ascii_lowercase();
        if !KEYS.contains(&key.as_str()) {
            found
                .privileges
                .push(format!("the volume option `{}`", key.escape_debug()));
        }
        if options.insert(key.clone(), value.trim()).is_some() {
            found
                .unclear
                .push(format!("the volume option `{key}` stands there twice"));
        }
    }
    let kind = options.get("type").map(|kind| kind.to_ascii_lowercase());
    let device = options.get("device").copied().unwrap_or_default();
    let flags: Vec<&str> = options
        .get("o")
        .map(|flags| flags.split(',').map(str::trim).collect())
        .unwrap_or_default();
    let has = |flag: &str| flags.iter().any(|one| one.eq_ignore_ascii_case(flag));
    let binds = ["bind", "rbind", "move", "remount"].into_iter().any(has);
    for flag in &flags {
        // lowerdir=/a:/b, credentials=/path, ...: the mount reads there, as root.
        let value = flag.split_once('=').map_or("", |(_, value)| value);
        for path in value.split(':').filter(|part| part.starts_with('/')) {
            path_of(path, &mut found);
        }
    }
    match kind.as_deref() {
        _ if binds => path_of(device, &mut found),
        None | Some("" | "none" | "bind") => {
            if !device.is_empty() {
                path_of(device, &mut found);
            }
        }
        // `server:/export`, `//server/share`: not a path of the host. Anything else is.
        Some("nfs" | "nfs4") if device.starts_with('/') => path_of(device, &mut found),
        Some("cifs" | "smb3") if device.starts_with('/') && !device.starts_with("//") => {
            path_of(device, &mut found);
        }
        Some(kind) if HARMLESS.contains(&kind) => {}
        Some(kind) if DISKS.contains(&kind) && device.starts_with('/') => {
            if has("loop") || flags.iter().any(|flag| flag.starts_with("loop=")) {
                found
                    .privileges
                    .push("a volume from an image of a disk (`loop`)".to_owned());
            }
            if let Some(path) = plain(device) {
                found.devices.push(path);
            }
            path_of(device, &mut found);
        }
        Some(kind) => {
            found
                .privileges
                .push(format!("a volume of the type `{}`", kind.escape_debug()));
            if device.starts_with('/') {
                path_of(device, &mut found);
            }
        }
    }
    found
}

fn path_of(text: &str, found: &mut Mounts) {
    match plain(text) {
        Some(path) => found.paths.push(path),
        None => found.unclear.push(format!(
            "`{}` is not a plain absolute path: write it without `.`, `..` and symbolic names",
            text.escape_debug()
        )),
    }
}
