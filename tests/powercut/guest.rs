//! The machine whose power is cut: Debian with systemd, Docker and the agent, in QEMU on a disk that writes down everything.
//!
//! Nothing but the agent's own files and an onlooker is added to Debian: two pages of a web server that tell what
//! `evenkeel status` says and what lies on the disk, and ask for a pass. The git server is the host's, reached as 10.0.2.2.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::block_log::{BlockLog, Cut, Flush, OF_A_MACHINE};
use evenkeel_tests::mounted::{Filesystem, Mounted};
use evenkeel_tests::ports::Port;
use evenkeel_tests::process::{Server, run};

/// Memory of the machine in MiB: dockerd, containerd and the agent, with room.
const MEMORY: &str = "768";

/// What the onlooker tells: the status, then what lies there.
const LOOK: &str = r#"#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
/usr/bin/evenkeel status --json
echo
echo "== files"
find /srv/one /etc/one -type f -exec sha256sum {} + 2>/dev/null
echo "== left"
find /srv /etc /var/lib/evenkeel -xdev \( -name '*.evenkeel' -o -name '.*.tmp' -o -name 'tmp_*' \) 2>/dev/null
echo "== containers"
docker ps --all --format '{{.Names}} {{.State}}' 2>&1
echo "== end"
"#;

const HURRY: &str = r#"#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
systemctl kill --signal=HUP evenkeel.service
"#;

const ONLOOKER: &str = "[Unit]
Description=Tells the outside what is here
[Service]
ExecStart=/usr/bin/busybox httpd -f -p 8081 -h /usr/lib/onlooker
Restart=always
[Install]
WantedBy=multi-user.target
";

const IMAGE: &str = "[Unit]
Description=Brings the image that the fleet names
After=docker.service
Before=evenkeel.service
ConditionPathExists=!/usr/lib/onlooker/loaded
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'docker load --input /usr/lib/onlooker/image.tar && touch /usr/lib/onlooker/loaded && sync'
[Install]
WantedBy=multi-user.target
";

/// What is put onto the machine's disk before it starts for the first time.
#[derive(Debug)]
pub(crate) struct Outfit<'a> {
    /// The package, which brings the agent and its unit.
    pub(crate) deb: &'a Path,
    pub(crate) config: String,
    pub(crate) allowed_signers: &'a Path,
    pub(crate) image: &'a Path,
}

/// The machine. Off, or running.
#[derive(Debug)]
pub(crate) struct Guest {
    qemu: Option<Server>,
    kernel: PathBuf,
    initrd: PathBuf,
    work: PathBuf,
    app: Port,
    onlooker: Port,
}

impl Guest {
    /// The machine that `tests/powercut.sh` made in `made`, with this outfit. Its disks lie in `work`.
    pub(crate) fn new(made: &Path, work: &Path, outfit: &Outfit) -> Self {
        let guest = Self {
            qemu: None,
            kernel: made.join("vmlinuz"),
            initrd: made.join("initrd.img"),
            work: work.to_owned(),
            app: Port::free(),
            onlooker: Port::free(),
        };
        copy(&made.join("disk.img"), &guest.off());
        let at = work.join("mnt");
        let mounted = Mounted::image(&guest.off(), Filesystem::Ext4, &at)
            .unwrap_or_else(|why| panic!("the machine's new disk: {why}"));
        outfit.put_on(&at);
        mounted.unmount();
        guest
    }

    /// The disk while the machine is off.
    fn off(&self) -> PathBuf {
        self.work.join("off.img")
    }

    /// Switches it on.
    pub(crate) fn start(&mut self) {
        copy(&self.off(), &self.work.join("on.img"));
        std::fs::File::create(self.work.join("log.img")).unwrap();
        let mut command = Command::new("qemu-system-x86_64");
        command
            .current_dir(&self.work)
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "1", "-m", MEMORY, "-nographic", "-nodefaults"])
            .args(["-serial", "file:console.log", "-no-reboot", "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            // no_timer_check: an emulated timer that is late on a busy machine is no broken one.
            .args(["-append", "root=LABEL=root rw console=ttyS0 no_timer_check panic=-1 apparmor=0 systemd.mask=serial-getty@ttyS0.service systemd.mask=e2scrub_reap.service loglevel=4 systemd.default_timeout_start_sec=900"])
            .args(OF_A_MACHINE)
            .args(["-device", "virtio-blk-pci,drive=disk,write-cache=on"])
            .args([
                "-device",
                "virtio-rng-pci",
                "-device",
                "virtio-net-pci,netdev=net",
            ])
            .arg("-netdev")
            .arg(format!(
                "user,id=net,hostfwd=tcp:127.0.0.1:{}-:8080,hostfwd=tcp:127.0.0.1:{}-:8081",
                self.app.number(),
                self.onlooker.number()
            ));
        self.qemu = Some(Server::start(&mut command, &self.work.join("qemu.log")));
    }

    /// Cuts its power. Gives how many entries its disk was told, and how many of them were certain.
    pub(crate) fn cut(&mut self, seed: u64, flush: impl FnOnce(usize) -> Flush) -> (usize, usize) {
        self.qemu.take().expect("it runs").kill();
        let bytes = std::fs::read(self.work.join("log.img")).unwrap();
        let log = BlockLog::parse(bytes).unwrap_or_else(|why| panic!("the disk's log: {why}"));
        let cut = Cut {
            after: log.len(),
            seed,
            flush: flush(log.len()),
        };
        (log.len(), log.cut_image(&self.off(), cut))
    }

    /// Whether it still runs: a kernel that panicked has ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.qemu
            .as_mut()
            .is_some_and(|qemu| qemu.ended().is_none())
    }

    /// The last lines on its console.
    pub(crate) fn console(&self) -> String {
        let all = std::fs::read(self.work.join("console.log")).unwrap_or_default();
        let all = String::from_utf8_lossy(&all);
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// A page of the app's container.
    pub(crate) fn app(&self, page: &str) -> Option<String> {
        get(self.app.number(), page, PATIENCE)
    }

    /// What the onlooker tells, where it does so within this time.
    pub(crate) fn look(&self, within: Duration) -> Option<String> {
        get(self.onlooker.number(), "cgi-bin/look", within).filter(|page| page.contains("== end"))
    }

    /// Asks for a pass.
    pub(crate) fn hurry(&self) {
        let _ = get(self.onlooker.number(), "cgi-bin/hurry", PATIENCE);
    }
}

impl Outfit<'_> {
    fn put_on(&self, root: &Path) {
        let system = root.join("etc/systemd/system");
        for dir in [
            "etc/evenkeel",
            "etc/systemd/network",
            "etc/systemd/system/multi-user.target.wants",
            "usr/lib/onlooker/cgi-bin",
        ] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        // As it is installed on a device: with its maintainer scripts, which enable the unit.
        std::fs::copy(self.deb, root.join("evenkeel.deb")).unwrap();
        run(
            Command::new("chroot")
                .arg(root)
                .args(["dpkg", "--install", "/evenkeel.deb"]),
            PATIENCE,
        )
        .expect_code(0);
        std::fs::remove_file(root.join("evenkeel.deb")).unwrap();
        std::fs::write(root.join("etc/evenkeel/agent.toml"), &self.config).unwrap();
        let signers = root.join("etc/evenkeel/allowed_signers");
        std::fs::copy(self.allowed_signers, signers).unwrap();
        std::fs::copy(self.image, root.join("usr/lib/onlooker/image.tar")).unwrap();
        for (name, text) in [("onlooker", ONLOOKER), ("image", IMAGE)] {
            std::fs::write(system.join(format!("{name}.service")), text).unwrap();
        }
        for name in ["onlooker", "image"] {
            let unit = format!("{name}.service");
            let wanted = system.join("multi-user.target.wants").join(&unit);
            std::os::unix::fs::symlink(system_path(&unit), wanted).unwrap();
        }
        for (name, text) in [("look", LOOK), ("hurry", HURRY)] {
            let script = root.join("usr/lib/onlooker/cgi-bin").join(name);
            std::fs::write(&script, text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&script, mode).unwrap();
        }
    }
}

fn system_path(unit: &str) -> String {
    format!("/etc/systemd/system/{unit}")
}

/// A page, where somebody answers with one.
fn get(port: u16, page: &str, within: Duration) -> Option<String> {
    let said = run(
        Command::new("curl")
            .args(["--silent", "--fail", "--max-time"])
            .arg(format!("{:.1}", within.as_secs_f64().max(0.1)))
            .arg(format!("http://127.0.0.1:{port}/{page}")),
        within + PATIENCE,
    );
    (said.code == Some(0)).then_some(said.stdout)
}

fn copy(from: &Path, to: &Path) {
    run(
        Command::new("cp").arg("--sparse=always").arg(from).arg(to),
        Duration::from_secs(300),
    )
    .expect_code(0);
}
