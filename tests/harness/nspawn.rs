//! A machine with a booted systemd, in a container of systemd-nspawn: no image is made or fetched.
//!
//! Its `/usr` and its package database are this machine's, with what is written to them kept apart (overlayfs); `/etc`
//! holds the few files that a Debian needs, and everything else begins empty. So it boots in a second or two. It shares
//! the network with the test: what listens on loopback here is reached from there.
//!
//! Limits: root, and a file system under /tmp that overlayfs can write to (on one that it cannot, memory takes its place).
//! What is written survives a kill of the machine, not a power cut: for that see the fault suites.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::PATIENCE;
use crate::process::{Output, Server, run};

/// What of this machine's `/etc` a small Debian has.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates.conf",
    "dbus-1",
    "debconf.conf",
    "debian_version",
    "dpkg",
    "group",
    "gshadow",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "login.defs",
    "nsswitch.conf",
    "os-release",
    "pam.d",
    "passwd",
    "security",
    "shadow",
    "ssl",
];

/// What is begun empty.
const EMPTY: &[&str] = &[
    "usr",
    "etc/systemd/system",
    "var/lib/dpkg",
    "var/log",
    "var/tmp",
    "proc",
    "sys",
    "dev",
    "run",
    "tmp",
    "root",
    "home",
    "srv",
    "opt",
    "mnt",
    "data",
];

/// Units of this machine's `/usr` that a machine of a test is better off without: they only take time.
const MASKED: &[&str] = &[
    "console-getty.service",
    "getty.target",
    "systemd-logind.service",
    "systemd-hwdb-update.service",
    "systemd-firstboot.service",
    "ldconfig.service",
];

/// Mounts, limits, boots. Arguments: the machine's directory, its name, its limit of memory in bytes or nothing, and
/// systemd-nspawn's own.
const BOOT: &str = r#"
dir=$1 name=$2 memory=$3
shift 3
kept=$dir
over() {
    mount -t overlay -o "lowerdir=$1,upperdir=$kept/up/$2,workdir=$kept/work/$2" "ek-$2" "$dir/root$1"
}
if ! over /usr usr 2>/dev/null; then
    # Not every file system takes what overlayfs writes; memory does.
    kept=$dir/memory
    mkdir "$kept"
    mount -t tmpfs -o mode=0755 ek-memory "$kept"
    cp -a "$dir/up" "$dir/work" "$kept/"
    over /usr usr
fi
over /var/lib/dpkg dpkg
# A control group of its own: systemd-nspawn makes the machine's below the one that it is in.
for tree in /sys/fs/cgroup/unified /sys/fs/cgroup/memory /sys/fs/cgroup; do
    [ -e "$tree/cgroup.procs" ] || continue
    case $tree in */memory) [ -n "$memory" ] || continue ;; esac
    mkdir -p "$tree/$name"
    if [ -n "$memory" ]; then
        for limit in memory.max memory.limit_in_bytes; do
            [ ! -e "$tree/$name/$limit" ] || echo "$memory" >"$tree/$name/$limit"
        done
    fi
    echo $$ >"$tree/$name/cgroup.procs"
done
# systemd shows nothing where its console is no terminal: `script` gives it one.
command="exec systemd-nspawn --quiet --register=no --keep-unit --link-journal=no --machine=$name --directory=$dir/root --boot"
for argument in "$@"; do
    command="$command '$argument'"
done
exec script -qefc "$command" "$dir/console.log"
"#;

/// How a machine is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The most memory that all of it may take, in MiB; caches of files count.
    pub memory: Option<u64>,
    /// More arguments of systemd-nspawn: `--read-only`, `--bind=...`.
    pub nspawn: Vec<String>,
}

/// A booted machine; ended, with all that it was, when dropped.
#[derive(Debug)]
pub struct Machine {
    dir: TempDir,
    name: String,
    options: Options,
    running: Option<(Server, u32)>,
}

impl Machine {
    /// A machine of this name that has not booted yet: files may be put into it.
    ///
    /// # Panics
    /// Where its directories cannot be made.
    pub fn new(name: &str, options: Options) -> Self {
        let dir = crate::short_tempdir("box");
        let name = format!("ek-{name}-{}", std::process::id());
        for sub in ["up/usr", "up/dpkg", "work/usr", "work/dpkg"] {
            std::fs::create_dir_all(dir.path().join(sub)).expect("make a directory of ours");
        }
        let root = dir.path().join("root");
        for sub in EMPTY {
            std::fs::create_dir_all(root.join(sub)).expect("make a directory of ours");
        }
        for open in ["tmp", "var/tmp"] {
            std::fs::set_permissions(root.join(open), PermissionsExt::from_mode(0o1777))
                .expect("chmod our own directory");
        }
        for link in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            if let Ok(target) = std::fs::read_link(Path::new("/").join(link)) {
                std::os::unix::fs::symlink(target, root.join(link)).expect("make a link of ours");
            }
        }
        let have: Vec<PathBuf> = ETC
            .iter()
            .map(|name| Path::new("/etc").join(name))
            .filter(|path| path.exists())
            .collect();
        let mut copy = Command::new("cp");
        copy.arg("-a").args(&have).arg(root.join("etc"));
        run(&mut copy, PATIENCE).expect_code(0);
        let machine = Self {
            dir,
            name,
            options,
            running: None,
        };
        let id: String = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
            .expect("the kernel makes ids")
            .chars()
            .filter(char::is_ascii_hexdigit)
            .collect();
        // With an id it is no first boot, which would enable every unit of /usr.
        machine.write("/etc/machine-id", format!("{id}\n"));
        machine.write("/etc/hostname", "box\n");
        machine.write("/etc/hosts", "127.0.0.1 localhost box\n");
        for unit in MASKED {
            let link = root.join("etc/systemd/system").join(unit);
            std::os::unix::fs::symlink("/dev/null", link).expect("make a link of ours");
        }
        let target = root.join("etc/systemd/system/default.target");
        std::os::unix::fs::symlink("/usr/lib/systemd/system/multi-user.target", target)
            .expect("make a link of ours");
        machine
    }

    /// Boots it, and waits until systemd says that it is up.
    ///
    /// # Panics
    /// Where it does not boot.
    pub fn boot(&mut self) -> &mut Self {
        assert!(self.running.is_none(), "it runs already");
        let memory = self
            .options
            .memory
            .map(|mebibytes| (mebibytes * 1024 * 1024).to_string())
            .unwrap_or_default();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-eu", "-c", BOOT, "boot"])
            .arg(self.dir.path())
            .args([&self.name, &memory])
            .args(&self.options.nspawn);
        let log = self.dir.path().join("nspawn.log");
        let mut server = Server::start(&mut command, &log);
        let shown = |dir: &Path| {
            let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
            format!("{}{}", read("nspawn.log"), read("console.log"))
        };
        let leader = crate::wait_for("a machine to boot", || {
            if let Some(status) = server.ended() {
                panic!(
                    "systemd-nspawn ended at once ({status}); ./tests/run.sh installs what it needs\n{}",
                    shown(self.dir.path())
                );
            }
            // script, systemd-nspawn, the machine's first process.
            let leader = child_of(server.pid()).and_then(child_of)?;
            Path::new(&format!("/proc/{leader}/root/run/systemd/private"))
                .exists()
                .then_some(leader)
        });
        self.running = Some((server, leader));
        let up = self.run(&["systemctl", "is-system-running", "--wait"]);
        assert_eq!(
            up.stdout.trim(),
            "running",
            "{}\n{}",
            self.run(&["systemctl", "--failed", "--no-pager"]).text(),
            shown(self.dir.path())
        );
        self
    }

    /// Shuts it down as a person would.
    ///
    /// # Panics
    /// Where it does not go down.
    #[track_caller]
    pub fn power_off(&mut self) {
        self.run(&["systemctl", "poweroff", "--no-wall"])
            .expect_code(0);
        if let Some((mut server, _)) = self.running.take() {
            server.wait(PATIENCE);
        }
    }

    /// Ends it with all its processes, at once.
    pub fn kill(&mut self) {
        if let Some((mut server, leader)) = self.running.take() {
            // The first process of its namespace: the others end with it, and systemd-nspawn then cleans up.
            let _ = Command::new("kill")
                .args(["-KILL", &leader.to_string()])
                .status();
            let end = std::time::Instant::now() + PATIENCE;
            while server.ended().is_none() && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    /// Its name among machines.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path of it, as this machine sees it. Before its first boot what is put into `/usr` goes to what it has of its own
    /// there.
    pub fn path(&self, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        match &self.running {
            Some((_, leader)) => Path::new(&format!("/proc/{leader}/root")).join(path),
            None if path.starts_with("usr/") => self.dir.path().join("up").join(path),
            None => self.dir.path().join("root").join(path),
        }
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// The id of its first process here.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn leader(&self) -> u32 {
        self.running.as_ref().expect("the machine runs").1
    }

    /// What the kernel says of its memory, where [`Options::memory`] limits it: the most it ever took in bytes, and how
    /// many processes were killed for want of it.
    ///
    /// # Panics
    /// Where it is not limited.
    pub fn memory(&self) -> (u64, u64) {
        let read = |name: &str| {
            ["memory/", ""].iter().find_map(|tree| {
                let file = format!("/sys/fs/cgroup/{tree}{}/{name}", self.name);
                std::fs::read_to_string(file).ok()
            })
        };
        let most = read("memory.max_usage_in_bytes")
            .or_else(|| read("memory.peak"))
            .expect("a control group that counts memory");
        let killed = read("memory.oom_control")
            .or_else(|| read("memory.events"))
            .expect("a control group that counts kills");
        let killed = killed
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))
            .expect("the count of kills");
        (
            most.trim().parse().expect("a number"),
            killed.trim().parse().expect("a number"),
        )
    }

    /// A directory beside it, for whatever a test needs.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file of it, and its directories.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let full = self.path(path);
        std::fs::create_dir_all(full.parent().expect("a parent")).expect("make directories");
        std::fs::write(full, content).expect("write a file of the machine");
        self
    }

    /// What a file of it holds; `None` where it is not there.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok()
    }

    /// Copies a file of this machine into it, with this mode.
    ///
    /// # Panics
    /// Where it cannot be copied.
    #[track_caller]
    pub fn copy(&self, from: &Path, to: &str, mode: u32) -> &Self {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().expect("a parent")).expect("make directories");
        // Not over what may run just now: beside it, and then in its place.
        let new = to.with_extension("new");
        std::fs::copy(from, &new)
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
        std::fs::set_permissions(&new, PermissionsExt::from_mode(mode))
            .expect("chmod our own file");
        std::fs::rename(&new, &to).expect("rename our own file");
        self
    }

    /// A command in it, not started yet.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let (_, leader) = self.running.as_ref().expect("the machine runs");
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &leader.to_string()])
            .args(["--mount", "--pid", "--uts", "--ipc", "--cgroup", "--"])
            .args(["env", "-i", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "HOME=/root"])
            .arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin")
            .arg(program)
            .current_dir("/");
        command
    }

    /// Runs a command in it to its end.
    ///
    /// # Panics
    /// Where it takes more than three minutes.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Output {
        let [program, rest @ ..] = arguments else {
            panic!("a command has a program");
        };
        run(self.command(program).args(rest), 3 * PATIENCE)
    }

    /// Runs a command in it that has to succeed; what it said.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect_code(0).stdout
    }

    /// A property of a unit, as `systemctl show` has it.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.ok(&["systemctl", "show", "--value", "-p", property, unit])
            .trim()
            .to_owned()
    }

    /// What a unit has logged in this boot.
    #[track_caller]
    pub fn log(&self, unit: &str) -> String {
        self.ok(&["journalctl", "--no-pager", "-o", "cat", "-u", unit])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some((_, leader)) = &self.running
            && Path::new(&format!("/proc/{leader}")).exists()
        {
            let journal = self.run(&["journalctl", "--no-pager", "-n", "120"]);
            eprintln!("--- the journal of {}\n{}", self.name, journal.text());
        }
        self.kill();
        // Its control groups, the innermost first; those of the kernel's other trees it never had.
        for tree in ["unified", "systemd", "memory", "."] {
            let _ = Command::new("find")
                .arg(format!("/sys/fs/cgroup/{tree}/{}", self.name))
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"])
                .stderr(std::process::Stdio::null())
                .status();
        }
    }
}

/// The one child of a process.
fn child_of(parent: u32) -> Option<u32> {
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            // pid (comm) state ppid ...
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok())
                == Some(parent)
        })
}
