//! An image registry on loopback: Debian's `docker-registry`, plain HTTP.

use std::fmt::Write as _;
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
    login: Option<(String, String)>,
}

impl Registry {
    /// Starts one, empty.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start() -> Self {
        Self::start_for(None)
    }

    /// Starts one, empty, that nobody but this user is let in to.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn private(user: &str, password: &str) -> Self {
        Self::start_for(Some((user.to_owned(), password.to_owned())))
    }

    fn start_for(login: Option<(String, String)>) -> Self {
        let dir = crate::short_tempdir("reg");
        let port = Port::free();
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}/data\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{}\n",
            dir.path().display(),
            port.number()
        );
        let mut config = config;
        if let Some((user, password)) = &login {
            let users = run(
                Command::new("htpasswd").args(["-Bbn", user, password]),
                PATIENCE,
            );
            let path = dir.path().join("users");
            std::fs::write(&path, users.expect_code(0).stdout).expect("write our own file");
            let _ = write!(
                config,
                "auth:\n  htpasswd:\n    realm: private\n    path: {}\n",
                path.display()
            );
        }
        std::fs::write(dir.path().join("config.yml"), config).expect("write our own file");
        let mut registry = Self {
            dir,
            port,
            server: None,
            login,
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

    /// What `docker login` here writes.
    pub fn logins(&self) -> String {
        let (user, password) = self.login.clone().unwrap_or_default();
        let auth = base64(&format!("{user}:{password}"));
        serde_json::json!({ "auths": { self.host(): { "auth": auth } } }).to_string()
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
        // An engine wants the header; a registry without users does not look at it.
        let login = match &self.login {
            Some((username, password)) => {
                serde_json::json!({ "username": username, "password": password })
            }
            None => serde_json::json!({}),
        };
        let login = base64(&login.to_string());
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
                .args(["-H", &format!("X-Registry-Auth: {login}"), "--unix-socket"])
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
        let mut curl = Command::new("curl");
        if let Some((user, password)) = &self.login {
            curl.args(["--user", &format!("{user}:{password}")]);
        }
        let head = run(
            curl.args(["--silent", "--head", "--max-time", "20"])
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

/// By base64(1).
fn base64(text: &str) -> String {
    let script = "printf %s \"$1\" | base64 --wrap=0";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", text]);
    run(&mut command, PATIENCE).expect_code(0).stdout
}
