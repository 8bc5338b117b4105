//! A device of the image: an emulated 64-bit ARM board with UEFI, whose disk writes down everything, and a cable that may not
//! be there.
//!
//! It is asked over a port of its own, which is no network: a shell that the image's owner put into it, as the outfit has it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_tests::PATIENCE;
use evenkeel_tests::block_log::{BlockLog, Cut, Flush, OF_A_MACHINE};
use evenkeel_tests::ports::Port;
use evenkeel_tests::process::{Server, run};

/// What starts before there is an operating system.
const FIRMWARE: &str = "/usr/share/AAVMF/AAVMF_CODE.fd";
const VARIABLES: &str = "/usr/share/AAVMF/AAVMF_VARS.fd";
/// MiB: Docker, containerd and the agent, with room.
const MEMORY: &str = "1024";

/// Bytes that the card has more than the image.
pub(crate) const ROOM: u64 = 1 << 30;

const SHELL: &str = "[Unit]
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
const SHELL_SCRIPT: &str = "#!/bin/sh
exec 3<>/dev/virtio-ports/beside || exit 1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo ready >&3
cat <&3 | sh >&3 2>&1
";

/// What `--files` of the image is: that shell.
pub(crate) fn outfit(to: &Path) {
    let units = to.join("etc/systemd/system");
    let wanted = units.join("multi-user.target.wants");
    let own = to.join("usr/lib/beside");
    for dir in [&wanted, &own] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(units.join("beside.service"), SHELL).unwrap();
    symlink(
        "/etc/systemd/system/beside.service",
        wanted.join("beside.service"),
    )
    .unwrap();
    std::fs::write(own.join("shell"), SHELL_SCRIPT).unwrap();
    std::fs::set_permissions(own.join("shell"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a cable is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cable {
    /// There is no network card at all.
    None,
    /// To a network where this machine is 10.0.2.2.
    In,
}

/// What it is switched on with.
#[derive(Debug)]
struct On {
    qemu: Server,
    shell: Option<UnixStream>,
    asked: usize,
}

/// The board. Off, or running.
#[derive(Debug)]
pub(crate) struct Board {
    work: PathBuf,
    app: Port,
    on: Option<On>,
}

impl Board {
    /// With a card that is a copy of this image. Its files lie in `work`, which is made.
    pub(crate) fn new(image: &Path, work: &Path) -> Self {
        std::fs::create_dir(work).unwrap();
        copy(image, &work.join("off.img"));
        // A card has more room than an image.
        let card = std::fs::OpenOptions::new()
            .write(true)
            .open(work.join("off.img"))
            .unwrap();
        card.set_len(card.metadata().unwrap().len() + ROOM).unwrap();
        std::fs::copy(VARIABLES, work.join("variables.fd")).unwrap();
        Self {
            work: work.to_owned(),
            app: Port::free(),
            on: None,
        }
    }

    /// Switches it on.
    pub(crate) fn start(&mut self, cable: Cable) {
        copy(&self.work.join("off.img"), &self.work.join("on.img"));
        std::fs::File::create(self.work.join("log.img")).unwrap();
        let _ = std::fs::remove_file(self.work.join("shell.sock"));
        let mut command = Command::new("qemu-system-aarch64");
        // A Raspberry Pi 3's processor: newer ones are slower to emulate.
        command
            .current_dir(&self.work)
            .args(["-machine", "virt", "-cpu", "cortex-a53", "-smp", "2"])
            .args(["-accel", "tcg,thread=multi", "-m", MEMORY])
            .args(["-nographic", "-nodefaults", "-no-reboot"])
            .args(["-serial", "file:console.log"])
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"))
            .args(["-drive", "if=pflash,format=raw,file=variables.fd"])
            .args(OF_A_MACHINE)
            // Each in a slot of its own, cable or not: the firmware knows a disk by its slot.
            .args([
                "-device",
                "virtio-blk-pci,addr=4,drive=disk,write-cache=on,bootindex=0",
            ])
            .args(["-device", "virtio-rng-pci,addr=5"])
            .args(["-device", "virtio-serial-pci,addr=6"])
            .args([
                "-chardev",
                "socket,id=beside,path=shell.sock,server=on,wait=off",
            ])
            .args(["-device", "virtserialport,chardev=beside,name=beside"]);
        match cable {
            Cable::None => command.args(["-nic", "none"]),
            Cable::In => command
                .args(["-device", "virtio-net-pci,addr=7,netdev=net", "-netdev"])
                .arg(format!(
                    "user,id=net,hostfwd=tcp:127.0.0.1:{}-:8080",
                    self.app.number()
                )),
        };
        let qemu = Server::start(&mut command, &self.work.join("qemu.log"));
        self.on = Some(On {
            qemu,
            shell: None,
            asked: 0,
        });
    }

    /// Cuts its power. Gives how many entries its disk was told, and how many of them were certain.
    pub(crate) fn cut(&mut self, seed: u64) -> (usize, usize) {
        self.on.take().expect("it runs").qemu.kill();
        let bytes = std::fs::read(self.work.join("log.img")).unwrap();
        let log = BlockLog::parse(bytes).unwrap_or_else(|why| panic!("the disk's log: {why}"));
        let cut = Cut {
            after: log.len(),
            seed,
            flush: Flush::Honest,
        };
        (log.len(), log.cut_image(&self.work.join("off.img"), cut))
    }

    /// Whether it still runs: a kernel that panicked has ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.on.as_mut().is_some_and(|on| on.qemu.ended().is_none())
    }

    /// The last lines on its console.
    pub(crate) fn console(&self) -> String {
        let all = std::fs::read(self.work.join("console.log")).unwrap_or_default();
        let all = String::from_utf8_lossy(&all);
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// What a command prints in there; `None` where nobody answers within this time, or it does not end with 0.
    pub(crate) fn ask(&mut self, command: &str, within: Duration) -> Option<String> {
        let socket = self.work.join("shell.sock");
        let end = Instant::now() + within;
        let on = self.on.as_mut()?;
        if on.shell.is_none() {
            let mut shell = UnixStream::connect(socket).ok()?;
            // What is asked before it listens would be answered later, all at once.
            read_until(&mut shell, end, |said| {
                said.contains("ready\n").then_some(())
            })?;
            on.shell = Some(shell);
        }
        on.asked += 1;
        let number = on.asked;
        let shell = on.shell.as_mut()?;
        let question =
            format!("echo '<<{number}'; {{ {command}\n}} </dev/null; echo \">>{number} $?\"\n");
        shell.write_all(question.as_bytes()).ok()?;
        // What an earlier answer left over comes before this question's own mark.
        read_until(shell, end, |said| {
            let (_, answer) = said.split_once(&format!("<<{number}\n"))?;
            let (answer, code) = answer.split_once(&format!(">>{number} "))?;
            let (code, _) = code.split_once('\n')?;
            Some((code == "0").then(|| answer.to_owned()))
        })?
    }

    /// What the app's container says to somebody outside.
    pub(crate) fn page(&self) -> Option<String> {
        let said = run(
            Command::new("curl")
                .args(["--silent", "--fail", "--max-time", "20"])
                .arg(format!("http://127.0.0.1:{}/", self.app.number())),
            PATIENCE,
        );
        (said.code == Some(0)).then_some(said.stdout)
    }
}

/// Reads until `find` finds what it looks for, or the time is over.
fn read_until<T>(
    shell: &mut UnixStream,
    end: Instant,
    find: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let mut said = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        shell.set_read_timeout(Some(left)).ok()?;
        let mut some = [0; 4096];
        let count = shell.read(&mut some).ok().filter(|count| *count > 0)?;
        said.extend_from_slice(&some[..count]);
        if let Some(found) = find(&String::from_utf8_lossy(&said)) {
            return Some(found);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    run(
        Command::new("cp").arg("--sparse=always").arg(from).arg(to),
        Duration::from_secs(300),
    )
    .expect_code(0);
}
