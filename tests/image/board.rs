//! A device of the image: an emulated 64-bit ARM board with UEFI, whose disk writes down everything, and a cable that may not
//! be there.
//!
//! It is asked over a port of its own, which is no network: a shell that the image's owner put into it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::beside::Shell;
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
    shell: Shell,
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
        let shell = Shell::new(&self.work);
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
            .args(Shell::PORT);
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
        self.on = Some(On { qemu, shell });
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
        self.on.as_mut()?.shell.ask(command, within)
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

fn copy(from: &Path, to: &Path) {
    run(
        Command::new("cp").arg("--sparse=always").arg(from).arg(to),
        Duration::from_secs(300),
    )
    .expect_code(0);
}
