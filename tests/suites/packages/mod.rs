//! What people install: each package is made by its own script, looked into, and put in place by the program that will do so
//! on a device. Scripts of packages run in a small root of their own, where `systemctl` writes down what it was asked.
//!
//! What a package does under a booted systemd is shown elsewhere; here nothing is started but in containers.

mod contents;
mod disk;
mod elsewhere;
mod image;
mod recipes;
mod scripts;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::process::{Output, run};

/// Making a package of a large unoptimised binary on a busy machine.
const LONG: Duration = Duration::from_secs(240);

fn repository() -> PathBuf {
    std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

/// A packaging script, whose artifacts go to `out`.
fn script(name: &str, out: &Path) -> Command {
    let mut command = Command::new(repository().join("packaging").join(name));
    command.env("EVENKEEL_OUT", out).current_dir(repository());
    command
}

/// Runs a packaging script that has to work; the path it prints.
#[track_caller]
fn made(command: &mut Command) -> PathBuf {
    let said = run(command, LONG).expect_code(0);
    let path = PathBuf::from(said.stdout.lines().last().unwrap_or_default());
    assert!(path.is_file(), "it made {}", path.display());
    path
}

/// The target of this machine's toolchain.
fn target() -> String {
    let said = output("rustc", &["-vV"]);
    let line = said.lines().find_map(|line| line.strip_prefix("host: "));
    line.unwrap().to_owned()
}

#[track_caller]
fn output(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments), LONG)
        .expect_code(0)
        .stdout
}

/// A program of the tests' own build without its symbols, as a release is.
fn stripped(to: &Path) -> PathBuf {
    let binary = to.join("evenkeel");
    run(
        Command::new("strip")
            .arg("-o")
            .arg(&binary)
            .arg(evenkeel_tests::device::binary()),
        LONG,
    )
    .expect_code(0);
    binary
}

/// Each file below `root` by its path, with its mode; directories are left out.
fn files(root: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                dirs.push(path);
            } else {
                let name = format!("/{}", path.strip_prefix(root).unwrap().display());
                found.insert(name, meta.mode() & 0o7777);
            }
        }
    }
    found
}

/// A root with a shell, in which `systemctl` and its like write down what they were asked, and say that the agent runs as the
/// process that the file `main-pid` names.
struct Root {
    dir: tempfile::TempDir,
}

impl Root {
    /// With systemd running in it, as far as a script can see.
    fn booted() -> Self {
        let root = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let path = root.path();
        for dir in [
            "bin",
            "usr/bin",
            "dev",
            "etc",
            "run/systemd/system",
            "tmp",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            std::fs::create_dir_all(path.join(dir)).unwrap();
        }
        for file in ["var/lib/dpkg/status", "var/lib/dpkg/available", "asked"] {
            std::fs::write(path.join(file), "").unwrap();
        }
        run(
            Command::new("mknod")
                .arg(path.join("dev/null"))
                .args(["c", "1", "3"]),
            LONG,
        )
        .expect_code(0);
        std::fs::copy("/bin/busybox", path.join("bin/busybox")).unwrap();
        run(
            Command::new("chroot")
                .arg(path)
                .args(["/bin/busybox", "--install", "-s", "/bin"]),
            LONG,
        )
        .expect_code(0);
        for stub in [
            "systemctl",
            "systemd-tmpfiles",
            "deb-systemd-helper",
            "deb-systemd-invoke",
        ] {
            let text = "#!/bin/sh\n[ \"$*\" = 'show --property=MainPID --value evenkeel.service' ] && cat /main-pid && exit\n\
                        echo \"${0##*/} $*\" >>/asked\n";
            let file = path.join("usr/bin").join(stub);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        root.agent_is(0);
        root
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn agent_is(&self, pid: u32) {
        std::fs::write(self.path().join("main-pid"), format!("{pid}\n")).unwrap();
    }

    /// What was asked of the service manager since the last time.
    fn asked(&self) -> String {
        let file = self.path().join("asked");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, "").unwrap();
        text
    }

    fn dpkg(&self, arguments: &[&str]) -> Output {
        // Nothing of this small root is a Debian system: its dependencies are not there.
        run(
            Command::new("dpkg")
                .arg("--force-depends")
                .arg(format!("--root={}", self.path().display()))
                .args(arguments),
            LONG,
        )
        .expect_code(0)
    }

    fn rpm(&self, arguments: &[&str]) -> Output {
        run(
            Command::new("rpm")
                .args(["--nodeps", "--root"])
                .arg(self.path())
                .args(arguments),
            LONG,
        )
        .expect_code(0)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn has(&self, path: &str) -> bool {
        self.path().join(path).exists()
    }
}

/// A process that lives until it is told by SIGUSR1, as the agent does while it is idle; any other end is an error.
struct Stand {
    child: std::process::Child,
}

impl Stand {
    fn new() -> Self {
        let child = Command::new("sh")
            .args([
                "-c",
                "trap 'exit 42' USR1; echo ready; while :; do sleep 0.1; done",
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stand = Self { child };
        let mut line = [0; 6];
        std::io::Read::read_exact(stand.child.stdout.as_mut().unwrap(), &mut line).unwrap();
        stand
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    fn was_told(&mut self) {
        let status =
            evenkeel_tests::wait_for("the agent to be told", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(42), "by SIGUSR1 and nothing else");
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
