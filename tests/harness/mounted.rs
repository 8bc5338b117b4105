//! File systems on images and in memory, mounted for a test. Needs root, and a loop device for an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::PATIENCE;
use crate::process::{Output, run};

/// A file system to put onto a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// ext4 as Debian makes and mounts it.
    Ext4,
    /// ext4 that writes no data before the metadata that names it, and does not help programs that forget to sync.
    Ext4Writeback,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
}

impl Filesystem {
    /// The name, for the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4Writeback => "ext4, data=writeback",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest disk that it is happy with, in MiB.
    pub(crate) const fn size(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4Writeback => 192,
            Self::Xfs => 320,
            Self::Btrfs => 256,
        }
    }

    pub(crate) fn make(self, image: &Path) {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 | Self::Ext4Writeback => {
                ("/usr/sbin/mkfs.ext4", &["-q", "-F", "-E", "nodiscard"])
            }
            Self::Xfs => ("/usr/sbin/mkfs.xfs", &["-q", "-K"]),
            Self::Btrfs => ("/usr/sbin/mkfs.btrfs", &["-q", "--nodiscard"]),
        };
        run(Command::new(program).args(arguments).arg(image), PATIENCE).expect_code(0);
    }

    const fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "noatime",
            Self::Ext4Writeback => "noatime,data=writeback,noauto_da_alloc",
            Self::Btrfs => "noatime,nodiscard",
        }
    }

    /// Looks for damage in an image that is not mounted; mends nothing.
    pub fn check(self, image: &Path) -> Output {
        let (program, arguments): (_, &[&str]) = match self {
            Self::Ext4 | Self::Ext4Writeback => ("/usr/sbin/e2fsck", &["-f", "-n"]),
            Self::Xfs => ("/usr/sbin/xfs_repair", &["-n"]),
            Self::Btrfs => ("/usr/bin/btrfs", &["check", "--readonly"]),
        };
        run(Command::new(program).args(arguments).arg(image), PATIENCE)
    }
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    device: Option<Loop>,
}

impl Mounted {
    /// A file system in memory, for what is written a thousand times.
    ///
    /// # Panics
    /// Where it cannot be mounted: that needs root.
    pub fn memory(at: &Path) -> Self {
        std::fs::create_dir_all(at).expect("make a directory of ours");
        run(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=0755", "evenkeel-test"])
                .arg(at),
            PATIENCE,
        )
        .expect_code(0);
        Self {
            at: at.to_owned(),
            device: None,
        }
    }

    /// The file system of an image.
    ///
    /// # Errors
    /// What `mount` says: the file system is broken.
    pub fn image(image: &Path, kind: Filesystem, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).expect("make a directory of ours");
        let device = Loop::attach(image);
        let said = run(
            Command::new("mount")
                .args(["-o", kind.options()])
                .arg(&device.path)
                .arg(at),
            PATIENCE,
        );
        if said.code != Some(0) {
            return Err(format!(
                "the file system cannot be mounted: {}",
                said.text()
            ));
        }
        Ok(Self {
            at: at.to_owned(),
            device: Some(device),
        })
    }

    /// Unmounts it.
    ///
    /// # Panics
    /// Where something holds it.
    #[track_caller]
    pub fn unmount(mut self) {
        run(Command::new("umount").arg(&self.at), PATIENCE).expect_code(0);
        if let Some(device) = self.device.take() {
            device.detach();
        }
        // What follows would look for it again.
        self.at = PathBuf::new();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.at.as_os_str().is_empty() {
            let _ = Command::new("umount").arg("-l").arg(&self.at).output();
        }
    }
}

/// A loop device; freed when dropped.
#[derive(Debug)]
struct Loop {
    path: PathBuf,
}

impl Loop {
    fn attach(image: &Path) -> Self {
        let said = run(
            Command::new("/usr/sbin/losetup")
                .args(["--find", "--show"])
                .arg(image),
            PATIENCE,
        )
        .expect_code(0);
        Self {
            path: PathBuf::from(said.stdout.trim()),
        }
    }

    /// Frees it, and waits until it is free: what it stands on can go then.
    fn detach(self) {
        let path = self.path.clone();
        drop(self);
        let name = path.file_name().expect("a device has a name").to_owned();
        crate::wait_for("a loop device to be free", || {
            (!Path::new("/sys/block").join(&name).join("loop").exists()).then_some(())
        });
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // With a lazily unmounted file system on it, it goes when that does.
        let _ = Command::new("/usr/sbin/losetup")
            .arg("--detach")
            .arg(&self.path)
            .output();
    }
}
