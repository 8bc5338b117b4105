//! Prints the memory that the agent holds on a small board while it polls and nothing changes: what `packaging/sizes.sh` runs.
//!
//! The board is emulated (QEMU, no KVM), with so little memory that a big program would show: Debian's kernel, busybox, a disk
//! with ext4, and an HTTPS git server on this machine. It has files to look after and no engine. qemu-user would not do: the
//! memory of a program in there is mostly the emulator's.
//!
//!     idle --binary FILE --board arm64|amd64 --debian DIR       DIR has Debian's kernel and busybox for it, unpacked
#![allow(
    clippy::print_stdout,
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a script in Rust: it prints a row, writes scratch files, waits, and reports by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use evenkeel_tests::options::Options;
use evenkeel_tests::proc::number;
use evenkeel_tests::process::{Server, run};
use evenkeel_tests::{FleetRepo, GitHttp, PATIENCE};

/// MiB, the agent's program among it.
const DISK: u64 = 32;
/// Polls after the first revision: the first ones still do one-off work.
const POLLS: usize = 10;
/// Booting and that many polls, on a busy machine.
const LIMIT: Duration = Duration::from_secs(900);

/// What Debian's kernel takes to see a virtual disk and a cable, in this order.
const MODULES: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_modern_dev",
    "virtio_pci_legacy_dev",
    "virtio_pci",
    "virtio_blk",
    "failover",
    "net_failover",
    "virtio_net",
    "virtio-rng",
];

/// The initial RAM disk's: it only finds the disk.
const FIND: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /dev /root
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in @MODULES@; do /bin/busybox insmod /modules/$module.ko; done
/bin/busybox mount -t ext4 /dev/vda /root || echo '== no disk'
exec /bin/busybox switch_root /root /init
";

/// What the disk starts: the agent as a device without an engine has it, and a look at it now and then.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
date -s @@NOW@ >/dev/null
ifconfig lo 127.0.0.1
ifconfig eth0 10.0.2.15
evenkeel run --config /etc/evenkeel/agent.toml &
agent=$!
until evenkeel status --json --config /etc/evenkeel/agent.toml 2>/dev/null | grep -q '\"last_good\": *\"'; do sleep 2; done
echo '== good'
while sleep 5; do
    [ -e /proc/$agent ] || echo '== ended'
    echo '== look'
    cat /proc/$agent/smaps_rollup /proc/$agent/status
    echo '== seen'
done
";

fn main() {
    let options = Options::of_script("packaging/sizes.sh");
    let (binary, debian) = (options.path("--binary"), options.path("--debian"));
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"measured\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n")
        .write(
            "apps/one/app.toml",
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"one\\n\"\n",
        );
    repo.release("Measured");
    let server = GitHttp::https(repo.served());
    let work = evenkeel_tests::short_tempdir("idle");
    make_initrd(&debian, work.path());
    make_disk(&binary, &debian, work.path(), &repo, &server);

    // MiB, kernel and all: as little as Debian's own kernel starts with.
    let memory = match options.needed("--board") {
        "arm64" => "64",
        _ => "128",
    };
    let mut board = start(options.needed("--board"), memory, &debian, work.path());
    let console = || {
        let bytes = std::fs::read(work.path().join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    };
    let end = Instant::now() + LIMIT;
    let mut wait = |what: &str, enough: &dyn Fn(&str) -> bool| {
        loop {
            let said = console();
            if enough(&said) {
                return said;
            }
            let ended = board.ended();
            assert!(
                Instant::now() < end
                    && ended.is_none()
                    && !said.contains("== ended")
                    && !said.contains("== no disk")
                    && !said.contains("Kernel panic"),
                "in vain for {what} ({ended:?}):\n{said}{}",
                std::fs::read_to_string(work.path().join("qemu.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    wait("the first revision to be good", &|said| {
        said.contains("== good\n")
    });
    let begun = server.polls();
    wait("idle polls", &|_| server.polls() >= begun + POLLS);
    let looks = |said: &str| said.matches("== seen\n").count();
    let before = looks(&console());
    // The one after the next: that one may have begun before.
    let said = wait("a look at it", &|said| looks(said) >= before + 2);
    let look = said.rsplit("== look\n").find(|it| it.contains("== seen\n"));
    let look = look.unwrap_or_default();
    let mega = |key: &str| format!("{:.2} MB", number(look, key) as f64 * 1024.0 / 1e6);
    println!(
        "private {}, resident {}, {} threads, after {POLLS} polls on a board with {memory} MiB",
        mega("Private_Dirty:"),
        mega("Rss:"),
        number(look, "Threads:"),
    );
}

/// The board, switched on; what it says goes to `console.log`.
fn start(board: &str, memory: &str, debian: &Path, work: &Path) -> Server {
    let (program, machine, console): (_, &[&str], _) = match board {
        // A Raspberry Pi 3's processor, which runs 32-bit programs, too.
        "arm64" => (
            "qemu-system-aarch64",
            &["-machine", "virt", "-cpu", "cortex-a53"],
            "ttyAMA0",
        ),
        "amd64" => (
            "qemu-system-x86_64",
            &["-machine", "q35", "-cpu", "max"],
            "ttyS0",
        ),
        _ => panic!("there is no board {board}: arm64 or amd64"),
    };
    let kernel = find(&debian.join("boot"), &|name| name.starts_with("vmlinuz-"));
    let mut command = Command::new(program);
    command
        .current_dir(work)
        .args(machine)
        .args(["-accel", "tcg,thread=multi", "-m", memory])
        .args(["-nographic", "-nodefaults", "-no-reboot"])
        .args(["-serial", "file:console.log"])
        .arg("-kernel")
        .arg(kernel)
        .args(["-initrd", "initrd.img", "-append"])
        .arg(format!(
            "console={console} quiet panic=-1 no_timer_check rdinit=/init"
        ))
        .args(["-drive", "if=none,id=disk,format=raw,file=disk.img"])
        .args(["-device", "virtio-blk-pci,drive=disk"])
        .args(["-device", "virtio-rng-pci", "-device"])
        .args([
            "virtio-net-pci,netdev=net,romfile=",
            "-netdev",
            "user,id=net",
        ]);
    Server::start(&mut command, &work.join("qemu.log"))
}

fn make_initrd(debian: &Path, work: &Path) {
    let tree = work.join("initrd");
    for sub in ["bin", "modules"] {
        std::fs::create_dir_all(tree.join(sub)).unwrap();
    }
    std::fs::copy(debian.join("bin/busybox"), tree.join("bin/busybox")).unwrap();
    for module in MODULES {
        let file = find(&debian.join("lib/modules"), &|name| {
            name == format!("{module}.ko")
        });
        std::fs::copy(file, tree.join("modules").join(format!("{module}.ko"))).unwrap();
    }
    program(
        &tree.join("init"),
        &FIND.replace("@MODULES@", &MODULES.join(" ")),
    );
    run(
        Command::new("sh")
            .current_dir(&tree)
            .args(["-c", "find . | busybox cpio -o -H newc >../initrd.img"]),
        PATIENCE,
    )
    .expect_code(0);
}

fn make_disk(binary: &Path, debian: &Path, work: &Path, repo: &FleetRepo, server: &GitHttp) {
    let tree = work.join("tree");
    for sub in [
        "bin",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "var/lib",
        "etc/evenkeel",
    ] {
        std::fs::create_dir_all(tree.join(sub)).unwrap();
    }
    std::fs::copy(debian.join("bin/busybox"), tree.join("bin/busybox")).unwrap();
    std::fs::copy(binary, tree.join("bin/evenkeel")).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    program(
        &tree.join("init"),
        &INIT.replace("@NOW@", &now.as_secs().to_string()),
    );
    let etc = tree.join("etc");
    // The name that the server's certificate is for.
    std::fs::write(etc.join("hosts"), "10.0.2.2 localhost\n").unwrap();
    std::fs::write(etc.join("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::copy(repo.allowed_signers(), etc.join("evenkeel/allowed_signers")).unwrap();
    std::fs::copy(server.ca_file(), etc.join("evenkeel/ca.pem")).unwrap();
    let config = format!(
        "[device]\nid = \"board\"\n\n[source]\nurl = {:?}\nbranch = \"main\"\ninterval = \"1s\"\n\
         ca_file = \"/etc/evenkeel/ca.pem\"\n\n[trust]\nallowed_signers = \"/etc/evenkeel/allowed_signers\"\n",
        server.url()
    );
    std::fs::write(etc.join("evenkeel/agent.toml"), config).unwrap();
    let disk = work.join("disk.img");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(DISK << 20)
        .unwrap();
    run(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-E", "root_owner=0:0", "-d"])
            .arg(tree)
            .arg(disk),
        PATIENCE,
    )
    .expect_code(0);
}

/// A script that can be run.
fn program(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(file, mode).unwrap();
}

/// The one file below `dir` with such a name.
fn find(dir: &Path, is: &dyn Fn(&str) -> bool) -> PathBuf {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if entry.file_name().to_str().is_some_and(is) {
                return path;
            }
        }
    }
    panic!("what the board needs is not below {}", dir.display())
}
