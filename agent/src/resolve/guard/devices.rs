//! Which device nodes of the host a container may have.

use evenkeel_schema::service::Gpu;

use super::patterns::{covers, is};

/// Device nodes that are a whole disk, the whole memory, or a way to them.
const RAW: [&str; 45] = [
    "/dev/sd*",
    "/dev/hd*",
    "/dev/vd*",
    "/dev/xvd*",
    "/dev/nvme*",
    "/dev/ng*",
    "/dev/mmcblk*",
    "/dev/rpmb*",
    "/dev/mtd*",
    "/dev/ubi*",
    "/dev/dm-*",
    "/dev/md*",
    "/dev/loop*",
    "/dev/nbd*",
    "/dev/rbd*",
    "/dev/drbd*",
    "/dev/zd*",
    "/dev/zvol",
    "/dev/zfs",
    "/dev/sr*",
    "/dev/scd*",
    "/dev/ram*",
    "/dev/zram*",
    "/dev/pmem*",
    "/dev/dax*",
    "/dev/bcache*",
    "/dev/btrfs-control",
    "/dev/dasd*",
    "/dev/sg*",
    "/dev/bsg*",
    "/dev/megaraid*",
    "/dev/mapper",
    "/dev/disk",
    "/dev/block",
    "/dev/char",
    "/dev/root",
    "/dev/raw",
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/oldmem",
    "/dev/crash",
    "/dev/snapshot",
    "/dev/vfio",
    "/dev/fd*",
];

/// What stands at the end of a device's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A block device: a disk or a part of one.
    Block,
    /// A character device that is the machine's memory or its ports.
    Memory,
    /// Any other character device, and what is none.
    Other,
}

/// A node that the engine would hand over for a declared device: itself, where a link leads, or one in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its real path.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
}

fn raw(path: &str) -> bool {
    RAW.iter().any(|raw| covers(raw, path))
}

/// Why a device must not be handed over, by its declared name.
pub(super) fn violation(path: &str, allowed: Option<&[String]>) -> Option<String> {
    match allowed {
        // A pattern names nodes: what is below a fitting folder is not meant.
        Some(allowed) => (!allowed.iter().any(|pattern| is(pattern, path)))
            .then(|| format!("`{path}` is not among the devices that guard.devices allows")),
        None if !covers("/dev", path) || path == "/dev" => Some(format!(
            "`{path}` is not a device node in /dev; the owner may allow it with guard.devices"
        )),
        None => raw(path).then(|| {
            format!("`{path}` is a disk or memory; the owner may allow it with guard.devices")
        }),
    }
}

/// A node that every GPU of a maker has: who allows it by a pattern allows the maker's GPUs.
const GPU_NODES: [(&str, &str); 2] = [("nvidia", "/dev/nvidia0"), ("amd", "/dev/dri/renderD128")];

/// Why a GPU must not be handed over. The engine picks the nodes, so the owner allows a maker's with `/dev/nvidia*` or
/// `/dev/dri/*`; without a driver it may be either's.
pub(super) fn gpu_violation(gpu: &Gpu, allowed: Option<&[String]>) -> Option<String> {
    let is_meant = |maker: &str| gpu.driver.as_deref().is_none_or(|driver| driver == maker);
    let mut nodes = GPU_NODES
        .iter()
        .filter(|(maker, _)| is_meant(maker))
        .peekable();
    if nodes.peek().is_none() {
        let driver = gpu.driver.as_deref().unwrap_or_default().escape_debug();
        return Some(format!("`gpus` of the driver `{driver}` can be any device"));
    }
    let allowed = allowed?;
    let good = nodes.all(|(_, node)| allowed.iter().any(|pattern| is(pattern, node)));
    (!good).then(|| {
        "`gpus` are not among the devices that guard.devices allows (`/dev/nvidia*`, `/dev/dri/*`)".to_owned()
    })
}

/// Why a device must not be handed over, by what it really is. One that its owner names by its declared name alone is
/// the owner's word for a node that is no disk and no memory; such a one has to be named itself.
pub(super) fn node_violation(
    declared: &str,
    node: &Node,
    allowed: Option<&[String]>,
) -> Option<String> {
    let named =
        allowed.is_some_and(|allowed| allowed.iter().any(|pattern| is(pattern, &node.path)));
    if named || (allowed.is_some() && node.path == declared) {
        return None;
    }
    let outside = allowed.is_none() && !covers("/dev", &node.path);
    let whole = match node.kind {
        NodeKind::Block | NodeKind::Memory => true,
        NodeKind::Other => raw(&node.path),
    };
    (whole || outside).then(|| {
        format!(
            "`{declared}` is really `{}`, {}; the owner may allow it with guard.devices",
            node.path,
            if whole {
                "a disk or memory"
            } else {
                "which is not in /dev"
            }
        )
    })
}
