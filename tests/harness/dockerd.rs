//! A dockerd of a test's own, beside the one that all tests share: it can be stopped, killed and started again.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::engine::Engine;
use crate::process::Server;

/// A dockerd with its own data, on its own socket, in a network of its own.
#[derive(Debug)]
pub struct Dockerd {
    dir: TempDir,
    server: Option<Server>,
}

impl Dockerd {
    /// Starts one, empty.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Self {
        let mut dockerd = Self {
            dir: crate::short_tempdir("dkr"),
            server: None,
        };
        dockerd.resume();
        dockerd
    }

    /// What answers at its socket.
    pub fn engine(&self) -> Engine {
        Engine::at(self.dir.path().join("docker.sock"))
    }

    /// Where its images and containers are.
    pub fn data_root(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its process.
    ///
    /// # Panics
    /// Where it was stopped or killed.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").pid()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("docker.log")).unwrap_or_default()
    }

    /// Starts it again after [`Dockerd::stop`] or [`Dockerd::kill`], with what it had.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn resume(&mut self) {
        self.begin();
        let engine = self.engine();
        crate::wait_for("dockerd to answer", || {
            if let Some(ended) = self.server.as_mut().and_then(Server::ended) {
                panic!("dockerd ended at once ({ended}): {}", self.log());
            }
            (engine.call("GET", "/_ping", None).0 == 200).then_some(())
        });
    }

    /// As [`Dockerd::resume`], and does not wait until it answers.
    pub fn begin(&mut self) {
        let at = |name: &str| self.dir.path().join(name);
        // A killed one leaves its number behind, and the next one believes it.
        let _ = std::fs::remove_file(at("docker.pid"));
        self.server = Some(Server::start(
            // In a network of its own: the default bridge and the firewall here are the other dockerd's.
            Command::new("unshare")
                .args(["--net", "dockerd", "--host"])
                .arg(format!("unix://{}", at("docker.sock").display()))
                .arg("--data-root")
                .arg(self.data_root())
                .arg("--exec-root")
                .arg(at("exec"))
                .arg("--pidfile")
                .arg(at("docker.pid"))
                .args(["--log-level", "warn"])
                .args(["--shutdown-timeout", "5"]),
            &at("docker.log"),
        ));
    }

    /// Ends it as a service manager would: its containers end, too.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("TERM");
            server.wait(crate::PATIENCE);
        }
    }

    /// Ends it, its containers and all it had in memory, as a power cut does: what is on disk stays.
    ///
    /// # Panics
    /// Where something of it cannot be taken away.
    pub fn lose_power(&mut self) {
        self.kill();
        let memory = self.dir.path().join("exec");
        let of_it = memory.display().to_string();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let name = process.file_name();
            if let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok())
                && String::from_utf8_lossy(&command).contains(&of_it)
            {
                let _ = Command::new("kill").args(["-KILL", pid]).status();
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts
            .lines()
            .rev()
            .filter_map(|line| line.split(' ').nth(1))
        {
            if mount.starts_with(&of_it) || mount.starts_with(&*self.data_root().to_string_lossy())
            {
                let _ = Command::new("umount").args(["-l", mount]).status();
            }
        }
        crate::wait_for(
            "what it had in memory to go",
            || match std::fs::remove_dir_all(&memory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
                Ok(()) | Err(_) => Some(()),
            },
        );
    }

    /// Ends it with SIGKILL: its containers run on without it.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // Asked, so that it takes its containers and mounts with it; a killed one is started again for that.
        if self.server.is_none() && !std::thread::panicking() {
            self.resume();
        }
        let Some(mut server) = self.server.take() else {
            return;
        };
        if server.ended().is_some() {
            return;
        }
        let engine = self.engine();
        let (_, list) = engine.call("GET", "/containers/json?all=1", None);
        let list: serde_json::Value = serde_json::from_str(&list).unwrap_or_default();
        for container in list.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            engine.call("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        }
        server.signal("TERM");
        server.wait(crate::PATIENCE);
    }
}
