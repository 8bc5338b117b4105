//! An identity that the TPM keeps, on an emulated PC with an emulated TPM (swtpm), from its first boot on: what
//! `tests/sealed.sh` runs.
//!
//! The key is the device's deploy key: what it does not open, the device does not get. Debian with systemd and the agent's
//! package; drop-ins as the README has them; the git server is this machine's sshd.
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a script in Rust: it says how far it is, writes scratch files, waits, and reports by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel_tests::beside::{self, Shell};
use evenkeel_tests::mounted::{Filesystem, Mounted};
use evenkeel_tests::options::Options;
use evenkeel_tests::process::{Server, run};
use evenkeel_tests::{FleetRepo, GitSsh};
use serde_json::Value;

/// One step of the story: booting, on a busy machine, and a pass.
const LIMIT: Duration = Duration::from_secs(900);
/// An answer of a program in there.
const ANSWER: Duration = Duration::from_secs(120);

const ENROLL: &str = "[Service]
ExecStart=
ExecStart=/usr/bin/evenkeel enroll --seal tpm2
DeviceAllow=/dev/tpmrm0 rw
CapabilityBoundingSet=CAP_DAC_OVERRIDE
";
const SERVICE: &str = "[Service]
LoadCredentialEncrypted=evenkeel-identity:/var/lib/evenkeel/identity/id_ed25519.cred
";

fn main() {
    let options = Options::of_script("tests/sealed.sh");
    let began = Instant::now();
    let work = evenkeel_tests::short_tempdir("seal");
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
    let server = GitSsh::start(&repo.bare());
    let first = release(&repo, 1);
    let mut machine = Machine {
        made: options.path("--guest"),
        disk: work.path().join("disk.img"),
        work: work.path().to_owned(),
        on: None,
    };
    machine.equip(&options.path("--deb"), &repo, &server);

    machine.start("one");
    let enrolled = machine.wait("an identity", |machine| {
        // By the unit that runs at the first boot: whoever asks the program himself has it made otherwise.
        let said = machine.ask("systemctl is-active --quiet evenkeel && evenkeel enroll --json")?;
        serde_json::from_str::<Value>(&said).map_err(|why| format!("{why}: {said}"))
    });
    assert_eq!(enrolled["sealed"], true, "{enrolled}");
    server.authorize(enrolled["public_key"].as_str().unwrap());
    machine.reach(&first);
    let keys = machine.ask("grep -rl 'OPENSSH PRIVATE KEY' /var/lib/evenkeel /etc/evenkeel; true");
    assert_eq!(keys.unwrap(), "", "the key is on the disk");
    let fingerprint = enrolled["fingerprint"].as_str().unwrap();
    println!("first boot: the TPM keeps {fingerprint}, and it opens the git server");

    machine.shut_down();
    let second = release(&repo, 2);
    machine.start("one");
    machine.reach(&second);
    let again = machine.ask("evenkeel enroll --json").unwrap();
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again, enrolled, "a boot makes nobody else of it");
    println!("second boot: the same identity, at the commit that was made meanwhile");

    machine.shut_down();
    release(&repo, 3);
    machine.start("another");
    let why = machine.wait("the service to say that it cannot open it", |machine| {
        let log = machine.ask("journalctl --no-pager --boot --unit evenkeel --output cat")?;
        // The service manager's words, and the TPM's; of which credential they are, neither says.
        let said = |word: &str| log.lines().find(|line| line.contains(word));
        match (
            said("integrity check failed"),
            said("Failed to set up credentials"),
        ) {
            (Some(tpm), Some(manager)) => Ok(format!("{tpm}; {manager}")),
            _ => Err(format!("it does not say so: {log}")),
        }
    });
    println!("the same disk in a machine with another TPM: {why}");
    let status = machine.ask("evenkeel status 2>&1; true").unwrap();
    println!("evenkeel status: {}", status.trim().replace('\n', "\n    "));
    let stands = machine.ask("cat /etc/one.conf");
    assert_eq!(stands.unwrap(), "2\n", "what runs is as it was");
    machine.shut_down();

    machine.start("one");
    machine.reach(&repo.head());
    println!(
        "back in its own: at the tip, after {} s in all",
        began.elapsed().as_secs()
    );
}

fn release(repo: &FleetRepo, number: u32) -> String {
    let app = format!(
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{number}\\n\"\n\n[gate]\nsoak = \"1s\"\n"
    );
    repo.write("apps/one/app.toml", app);
    repo.release(&format!("revision {number}"))
}

struct On {
    qemu: Server,
    shell: Shell,
    _tpm: Server,
}

/// The PC. Off, or running.
struct Machine {
    made: PathBuf,
    disk: PathBuf,
    work: PathBuf,
    on: Option<On>,
}

impl Machine {
    /// Installs the package and the configuration, as whoever makes an image does.
    fn equip(&self, deb: &Path, repo: &FleetRepo, server: &GitSsh) {
        run(
            Command::new("cp")
                .arg("--sparse=always")
                .arg(self.made.join("disk.img"))
                .arg(&self.disk),
            LIMIT,
        )
        .expect_code(0);
        let root = self.work.join("mnt");
        let mounted = Mounted::image(&self.disk, Filesystem::Ext4, &root)
            .unwrap_or_else(|why| panic!("the machine's new disk: {why}"));
        std::fs::copy(deb, root.join("evenkeel.deb")).unwrap();
        for command in [
            &["dpkg", "--install", "/evenkeel.deb"][..],
            &["systemctl", "--quiet", "enable", "evenkeel-enroll"][..],
        ] {
            run(Command::new("chroot").arg(&root).args(command), LIMIT).expect_code(0);
        }
        std::fs::remove_file(root.join("evenkeel.deb")).unwrap();
        let guest = |text: &str| text.replace("127.0.0.1", "10.0.2.2");
        let etc = root.join("etc/evenkeel");
        std::fs::create_dir_all(&etc).unwrap();
        std::fs::copy(repo.allowed_signers(), etc.join("allowed_signers")).unwrap();
        let known = std::fs::read_to_string(server.known_hosts()).unwrap();
        std::fs::write(etc.join("known_hosts"), guest(&known)).unwrap();
        let config = format!(
            "[source]\nurl = {:?}\nbranch = \"main\"\ninterval = \"5s\"\nssh_key = \"credential:evenkeel-identity\"\n\
             known_hosts = \"/etc/evenkeel/known_hosts\"\n\n[trust]\nallowed_signers = \"/etc/evenkeel/allowed_signers\"\n",
            guest(&server.url())
        );
        std::fs::write(etc.join("agent.toml"), config).unwrap();
        for (unit, text) in [("evenkeel-enroll", ENROLL), ("evenkeel", SERVICE)] {
            let dir = root.join(format!("etc/systemd/system/{unit}.service.d"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("sealed.conf"), text).unwrap();
        }
        beside::outfit(&root);
        mounted.unmount();
    }

    /// Switches it on, with this TPM in it: a new one where there is none of that name yet.
    fn start(&mut self, tpm: &str) {
        let state = self.work.join(tpm);
        std::fs::create_dir_all(&state).unwrap();
        let socket = self.work.join("tpm.sock");
        let _ = std::fs::remove_file(&socket);
        let tpm = Server::start(
            Command::new("swtpm")
                .args(["socket", "--tpm2", "--tpmstate"])
                .arg(format!("dir={}", state.display()))
                .arg("--ctrl")
                .arg(format!("type=unixio,path={}", socket.display())),
            &self.work.join("tpm.log"),
        );
        evenkeel_tests::wait_for("swtpm to listen", || socket.exists().then_some(()));
        let shell = Shell::new(&self.work);
        let mut command = Command::new("qemu-system-x86_64");
        command
            .current_dir(&self.work)
            .args(["-machine", "q35", "-accel", "tcg,thread=multi"])
            .args(["-cpu", "max", "-smp", "1", "-m", "512"])
            .args(["-nographic", "-nodefaults", "-no-reboot"])
            .args(["-serial", "file:console.log", "-kernel"])
            .arg(self.made.join("vmlinuz"))
            .arg("-initrd")
            .arg(self.made.join("initrd.img"))
            // no_timer_check: an emulated timer that is late on a busy machine is no broken one.
            .args(["-append", "root=LABEL=root rw console=ttyS0 no_timer_check panic=-1 apparmor=0 systemd.mask=serial-getty@ttyS0.service systemd.mask=e2scrub_reap.service loglevel=4 systemd.default_timeout_start_sec=900"])
            .args(["-drive", "if=none,id=disk,format=raw,file=disk.img"])
            .args(["-device", "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"])
            .args(["-device", "virtio-net-pci,netdev=net", "-netdev", "user,id=net"])
            // Not tpm-tis: its interrupts get lost on a busy machine, and then each command takes minutes.
            .args(["-chardev", "socket,id=tpm,path=tpm.sock"])
            .args(["-tpmdev", "emulator,id=tpm,chardev=tpm"])
            .args(["-device", "tpm-crb,tpmdev=tpm", "-device", "virtio-serial-pci"])
            .args(Shell::PORT);
        let qemu = Server::start(&mut command, &self.work.join("qemu.log"));
        self.on = Some(On {
            qemu,
            shell,
            _tpm: tpm,
        });
    }

    /// What a command prints in there.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        let on = self.on.as_mut().expect("it runs");
        let said = on.shell.ask(&format!("{{ {command}\n}} 2>&1"), ANSWER);
        said.ok_or_else(|| format!("no answer to `{command}`"))
    }

    /// Waits until it stands at this commit, and calls it good.
    fn reach(&mut self, commit: &str) {
        self.wait("it to be good", |machine| {
            let text = machine.ask("systemctl reload evenkeel; evenkeel status --json")?;
            let from = text.find('{').unwrap_or(0);
            let status: Value =
                serde_json::from_str(&text[from..]).map_err(|why| format!("{why}: {text}"))?;
            match status["revision"]["last_good"].as_str() {
                Some(good) if good == commit => Ok(()),
                _ => Err(text),
            }
        });
    }

    fn wait<T>(&mut self, what: &str, probe: impl Fn(&mut Self) -> Result<T, String>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            let why = match probe(self) {
                Ok(found) => return found,
                Err(why) => why,
            };
            let ended = self.on.as_mut().and_then(|on| on.qemu.ended());
            if Instant::now() > end || ended.is_some() {
                let log = self.ask("journalctl --no-pager --boot --lines 60");
                let console = std::fs::read(self.work.join("console.log")).unwrap_or_default();
                panic!(
                    "in vain for {what} ({ended:?}): {why}\n{}\n{}",
                    log.unwrap_or_default(),
                    String::from_utf8_lossy(&console)
                );
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    fn shut_down(&mut self) {
        let mut on = self.on.take().expect("it runs");
        on.shell.ask("systemctl poweroff", ANSWER);
        on.qemu.wait(LIMIT);
    }
}
