//! An image registry on loopback: Debian's `docker-registry`, plain HTTP.

use std::process::Command;

use tempfile::TempDir;

use crate::PATIENCE;
use crate::engine::Engine;
use crate::ports::Port;
use crate::process::{Server, run};

/// A registry.
#[derive(Debug)]
pub struct Registry {
    dir: TempDir,
    port: Port,
    server: Option<Server>,
}

impl Registry {
    /// Starts one, empty.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Self {
        let dir = crate::short_tempdir("reg");
        let port = Port::free();
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}/data\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{}\n",
            dir.path().display(),
            port.number()
        );
        std::fs::write(dir.path().join("config.yml"), config).expect("write our own file");
        let mut registry = Self {
            dir,
            port,
            server: None,
        };
        registry.resume();
        registry
    }

    /// Starts it again after [`Registry::stop`], with what it held.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn resume(&mut self) {
        self.server = Some(Server::start(
            Command::new("docker-registry")
                .arg("serve")
                .arg(self.dir.path().join("config.yml")),
            &self.dir.path().join("registry.log"),
        ));
        let port = self.port.number();
        crate::wait_for("the registry to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Stops answering.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Pushes an image of the engine's under this name and forgets it there; gives `127.0.0.1:port/name@sha256:...`.
    ///
    /// # Panics
    /// Where that fails.
    pub fn push(&self, engine: &Engine, image: &str, name: &str) -> String {
        let repository = format!("{}/{name}", self.host());
        let (status, body) = engine.call(
            "POST",
            &format!("/images/{image}/tag?repo={repository}&tag=latest"),
            None,
        );
        assert!(status == 201, "tag {image}: {status} {body}");
        // `{}` in base64: an engine wants the header, a registry without users does not look at it.
        let said = run(
            Command::new("curl")
                .args([
                    "--silent",
                    "--show-error",
                    "--max-time",
                    "50",
                    "--request",
                    "POST",
                ])
                .args(["-H", "X-Registry-Auth: e30=", "--unix-socket"])
                .arg(engine.socket())
                .arg(format!(
                    "http://engine/v1.41/images/{repository}/push?tag=latest&tlsVerify=false"
                )),
            PATIENCE,
        )
        .expect_code(0)
        .stdout;
        let digest = self
            .digest(name)
            .unwrap_or_else(|| panic!("{name} did not arrive in the registry: {said}"));
        engine.remove_image(&format!("{repository}:latest"));
        format!("{repository}@{digest}")
    }

    /// The digest of `name:latest`, as the registry says it.
    fn digest(&self, name: &str) -> Option<String> {
        let head = run(
            Command::new("curl")
                .args(["--silent", "--head", "--max-time", "20"])
                .args([
                    "-H",
                    "Accept: application/vnd.docker.distribution.manifest.v2+json",
                ])
                .args(["-H", "Accept: application/vnd.oci.image.manifest.v1+json"])
                .arg(format!("http://{}/v2/{name}/manifests/latest", self.host())),
            PATIENCE,
        );
        head.stdout.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case("docker-content-digest")
                .then(|| value.trim().to_owned())
        })
    }
}
