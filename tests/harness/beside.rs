//! Somebody who stands beside an emulated machine: a shell on a port of it, which is no network.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const UNIT: &str = "[Unit]
Description=A shell on a port of the machine, for who stands beside it
# The port comes when its driver does.
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/lib/beside/shell
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
";

/// Reads commands; there is nobody at a terminal.
const SCRIPT: &str = "#!/bin/sh
exec 3<>/dev/virtio-ports/beside || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo ready >&3
cat <&3 | sh >&3 2>&1
";

/// Puts the shell below `root`, a machine's root directory or what will be copied over it.
///
/// # Panics
/// Where it cannot be written.
pub fn outfit(root: &Path) {
    let units = root.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    let own = root.join("usr/lib/beside");
    for dir in [&wanted, &own] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(units.join("beside.service"), UNIT).unwrap();
    symlink(
        "/etc/systemd/system/beside.service",
        wanted.join("beside.service"),
    )
    .unwrap();
    std::fs::write(own.join("shell"), SCRIPT).unwrap();
    std::fs::set_permissions(own.join("shell"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The shell of a machine that runs, or is about to.
#[derive(Debug)]
pub struct Shell {
    socket: PathBuf,
    stream: Option<UnixStream>,
    asked: usize,
}

impl Shell {
    /// What QEMU has to be told beside its virtio-serial controller, started in the machine's own directory.
    pub const PORT: [&str; 4] = [
        "-chardev",
        "socket,id=beside,path=shell.sock,server=on,wait=off",
        "-device",
        "virtserialport,chardev=beside,name=beside",
    ];

    /// Of the machine whose directory this is, which is not started yet.
    pub fn new(dir: &Path) -> Self {
        let socket = dir.join("shell.sock");
        let _ = std::fs::remove_file(&socket);
        Self {
            socket,
            stream: None,
            asked: 0,
        }
    }

    /// What a command prints in there; `None` where nobody answers within this time, or it does not end with 0.
    pub fn ask(&mut self, command: &str, within: Duration) -> Option<String> {
        let end = Instant::now() + within;
        if self.stream.is_none() {
            let mut stream = UnixStream::connect(&self.socket).ok()?;
            // What is asked before it listens would be answered later, all at once.
            read_until(&mut stream, end, |said| {
                said.contains("ready\n").then_some(())
            })?;
            self.stream = Some(stream);
        }
        self.asked += 1;
        let number = self.asked;
        let stream = self.stream.as_mut()?;
        let question =
            format!("echo '<<{number}'; {{ {command}\n}} </dev/null; echo \">>{number} $?\"\n");
        stream.write_all(question.as_bytes()).ok()?;
        // What an earlier answer left over comes before this question's own mark.
        read_until(stream, end, |said| {
            let (_, answer) = said.split_once(&format!("<<{number}\n"))?;
            let (answer, code) = answer.split_once(&format!(">>{number} "))?;
            let (code, _) = code.split_once('\n')?;
            Some((code == "0").then(|| answer.to_owned()))
        })?
    }
}

/// Reads until `find` finds what it looks for, or the time is over.
fn read_until<T>(
    stream: &mut UnixStream,
    end: Instant,
    find: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let mut said = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        stream.set_read_timeout(Some(left)).ok()?;
        let mut some = [0; 4096];
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        said.extend_from_slice(&some[..count]);
        if let Some(found) = find(&String::from_utf8_lossy(&said)) {
            return Some(found);
        }
    }
}
