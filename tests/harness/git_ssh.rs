//! A git server over ssh: the real sshd on loopback, with a host key and a user key of its own.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::PATIENCE;
use crate::ports::Port;
use crate::process::{Server, run};

/// An sshd on loopback.
#[derive(Debug)]
pub struct GitSsh {
    dir: TempDir,
    repository: PathBuf,
    user: String,
    port: Port,
    sshd: Option<Server>,
}

impl GitSsh {
    /// Serves the bare repository at this path to whoever holds [`GitSsh::user_key`].
    ///
    /// # Panics
    /// Where sshd does not start.
    pub fn start(repository: &Path) -> Self {
        let dir = crate::short_tempdir("ssh");
        let key = dir.path().join("user");
        keygen(&key);
        keygen(&dir.path().join("host"));
        let authorized = dir.path().join("authorized_keys");
        std::fs::copy(key.with_extension("pub"), &authorized).expect("copy our own file");
        std::fs::set_permissions(&authorized, std::fs::Permissions::from_mode(0o600))
            .expect("chmod our own file");
        let user = run(Command::new("id").arg("-un"), PATIENCE)
            .expect_code(0)
            .stdout
            .trim()
            .to_owned();
        let port = Port::free();
        // Before sshd's own PATH, where a newer git may be installed beside the system's.
        let path = std::env::var("PATH").unwrap_or_default();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin yes\nAcceptEnv GIT_PROTOCOL\nSetEnv PATH={path}\nPidFile none\nLogLevel VERBOSE\n",
            port = port.number(),
            dir = dir.path().display(),
        );
        std::fs::write(dir.path().join("sshd_config"), config).expect("write our own file");
        let mut server = Self {
            dir,
            repository: repository.to_owned(),
            user,
            port,
            sshd: None,
        };
        server.write_known_hosts();
        server.resume();
        server
    }

    /// Starts it again after [`GitSsh::stop`].
    ///
    /// # Panics
    /// Where sshd does not start.
    pub fn resume(&mut self) {
        // sshd wants its empty directory, which the service would have made.
        if !Path::new("/run/sshd").exists() {
            let _ = std::fs::DirBuilder::new().mode(0o755).create("/run/sshd");
        }
        let log = self.log();
        self.sshd = Some(Server::start(
            Command::new("/usr/sbin/sshd")
                .args(["-D", "-e", "-f"])
                .arg(self.dir.path().join("sshd_config")),
            &log,
        ));
        let port = self.port.number();
        crate::wait_for(
            "sshd to listen (see ./tests/run.sh for what it needs)",
            || {
                if let Some(status) = self.sshd.as_mut().and_then(Server::ended) {
                    panic!(
                        "sshd ended at once ({status}): {}",
                        std::fs::read_to_string(&log).unwrap_or_default()
                    );
                }
                std::net::TcpStream::connect(("127.0.0.1", port)).ok()
            },
        );
    }

    /// Stops answering.
    pub fn stop(&mut self) {
        self.sshd = None;
    }

    /// Comes back with another host key, as a machine in the middle would. [`GitSsh::known_hosts`] keeps the old one.
    ///
    /// # Panics
    /// Where sshd does not start.
    pub fn change_host_key(&mut self) {
        self.stop();
        for name in ["host", "host.pub"] {
            std::fs::remove_file(self.dir.path().join(name)).expect("remove our own key");
        }
        keygen(&self.dir.path().join("host"));
        self.resume();
    }

    /// Pins the host key in force now.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn write_known_hosts(&self) {
        let key = std::fs::read_to_string(self.dir.path().join("host.pub")).expect("our own key");
        let mut words = key.split_whitespace();
        let (kind, blob) = (words.next().expect("type"), words.next().expect("key"));
        std::fs::write(
            self.known_hosts(),
            format!("[127.0.0.1]:{} {kind} {blob}\n", self.port.number()),
        )
        .expect("write our own file");
    }

    /// The URL of the repository.
    pub fn url(&self) -> String {
        format!(
            "ssh://{}@127.0.0.1:{}{}",
            self.user,
            self.port.number(),
            self.repository.display()
        )
    }

    /// Lets the holder of this public key in, too.
    ///
    /// # Panics
    /// Where the file of keys cannot be written.
    pub fn authorize(&self, public_key: &str) {
        let file = self.dir.path().join("authorized_keys");
        let keys = std::fs::read_to_string(&file).expect("our own file");
        std::fs::write(&file, format!("{keys}{public_key}\n")).expect("write our own file");
    }

    /// The private key that is let in.
    pub fn user_key(&self) -> PathBuf {
        self.dir.path().join("user")
    }

    /// The pinned host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir.path().join("known_hosts")
    }

    /// What sshd logged.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("sshd.log")
    }
}

fn keygen(path: &Path) {
    run(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(path),
        PATIENCE,
    )
    .expect_code(0);
}
