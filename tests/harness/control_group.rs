//! The processor time of servers, with everything that they start.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A control group of our own: the kernel counts the processor time of all that ever was in it, children that ended
/// included.
#[derive(Debug)]
pub struct Group(PathBuf);

impl Group {
    /// A new one, where this machine has control groups (version 2, beside version 1 too) that may be made.
    pub fn new(name: &str) -> Option<Self> {
        let name = format!("evenkeel-{name}-{}", std::process::id());
        ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .filter(|tree| Path::new(tree).join("cgroup.controllers").exists())
            .map(|tree| Path::new(tree).join(&name))
            .find(|path| std::fs::create_dir(path).is_ok())
            .map(Self)
    }

    /// Its directory.
    pub fn path(&self) -> PathBuf {
        self.0.clone()
    }

    /// Processor time until now.
    ///
    /// # Panics
    /// Where the kernel does not tell.
    pub fn spent(&self) -> Duration {
        let stat = std::fs::read_to_string(self.0.join("cpu.stat")).expect("a group of ours");
        let usage = stat
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))
            .and_then(|number| number.parse().ok())
            .expect("cpu.stat begins with usage_usec");
        Duration::from_micros(usage)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last processes may still be ending.
        for _ in 0..40 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
