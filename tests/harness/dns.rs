//! A name server that lies, fails or keeps silent, on a loopback address of its own; and commands that ask it alone.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

/// What a name server says to every question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// This address.
    Address(Ipv4Addr),
    /// There is no such name.
    NoSuchName,
    /// The server failed.
    Failure,
    /// Nothing.
    Nothing,
}

#[derive(Debug)]
struct Shared {
    says: Mutex<Says>,
    asked: AtomicUsize,
    stop: AtomicBool,
}

/// A name server.
#[derive(Debug)]
pub struct NameServer {
    dir: TempDir,
    address: Ipv4Addr,
    shared: Arc<Shared>,
}

impl NameServer {
    /// Starts one. Needs root: resolvers ask port 53 and no other.
    ///
    /// # Panics
    /// Where no address can be had.
    pub fn start(says: Says) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let process = std::process::id().to_le_bytes();
        let (socket, address) = (0..u8::MAX)
            .find_map(|_| {
                let last = NEXT.fetch_add(1, Ordering::Relaxed);
                let address = Ipv4Addr::new(127, 66 + process[1] % 64, process[0], last.max(1));
                UdpSocket::bind((address, 53))
                    .ok()
                    .map(|socket| (socket, address))
            })
            .expect("port 53 of a loopback address (run as root: ./tests/run.sh)");
        socket
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a timeout that is not zero");
        let dir = crate::short_tempdir("dns");
        std::fs::write(
            dir.path().join("resolv.conf"),
            format!("nameserver {address}\noptions timeout:1 attempts:1\n"),
        )
        .expect("write our own file");
        std::fs::write(dir.path().join("nsswitch.conf"), "hosts: dns\n")
            .expect("write our own file");
        let shared = Arc::new(Shared {
            says: Mutex::new(says),
            asked: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !serving.stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                serving.asked.fetch_add(1, Ordering::Relaxed);
                let says = *serving.says.lock().expect("nobody panics");
                if let Some(answer) = answer(&packet[..length], says) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self {
            dir,
            address,
            shared,
        }
    }

    /// Says this from now on.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn set(&self, says: Says) {
        *self.shared.says.lock().expect("nobody panics") = says;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The same command in a mount namespace of its own, where this is the only name server and there is no `/etc/hosts`.
    pub fn only(&self, command: &Command) -> Command {
        let file = |name: &str| quoted(&self.dir.path().join(name));
        let script = format!(
            "mount --make-rprivate / && mount --bind {} /etc/resolv.conf && mount --bind {} /etc/nsswitch.conf && exec \"$@\"",
            file("resolv.conf"),
            file("nsswitch.conf")
        );
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "sh", "-c", &script, "sh"]);
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// An answer to a question (RFC 1035, section 4): the question again, and what is said to it.
fn answer(question: &[u8], says: Says) -> Option<Vec<u8>> {
    let name_ends = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)?;
    let kind = question.get(name_ends + 1..name_ends + 3)?;
    let whole = question.get(..name_ends + 5)?;
    let code = match says {
        Says::Address(_) => 0,
        Says::Failure => 2,
        Says::NoSuchName => 3,
        Says::Nothing => return None,
    };
    let mut answer = whole.to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    if let Says::Address(address) = says
        && kind == [0, 1]
    {
        answer[7] = 1;
        // The name above, A, IN, for no time at all.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&address.octets());
    }
    Some(answer)
}
