//! A container engine through its socket, as an onlooker: makes images, looks, and breaks things by hand.
//!
//! Talks to the engine through `curl`, not through the agent's own client: what a test sees must not come through what
//! it tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::PATIENCE;
use crate::process::{run, run_with_input};

/// The label that carries the device's id on everything that is the agent's.
pub const DEVICE_LABEL: &str = "dev.evenkeel.device";

/// The oldest version of the API that both engines speak.
const API: &str = "v1.41";

/// A container engine.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// Docker, as `tests/run.sh` started it.
    ///
    /// # Panics
    /// Where it was not started.
    pub fn docker() -> Self {
        Self::from_variable("EVENKEEL_TEST_DOCKER")
    }

    /// Podman, as `tests/run.sh` started it. A test that needs it has `podman` in its name: where Podman does not run,
    /// `tests/run.sh` leaves those out and says so.
    ///
    /// # Panics
    /// Where it was not started.
    pub fn podman() -> Self {
        Self::from_variable("EVENKEEL_TEST_PODMAN")
    }

    /// What answers at this socket, if anything does.
    pub const fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    fn from_variable(name: &str) -> Self {
        let Ok(value) = std::env::var(name) else {
            panic!("{name} is not set: run ./tests/run.sh, which starts the engine and sets it");
        };
        let Some(path) = value.strip_prefix("unix://") else {
            panic!("{name} is {value:?}, and should look like unix:///path/to/socket");
        };
        let engine = Self {
            socket: PathBuf::from(path),
        };
        let (status, _) = engine.call("GET", "/_ping", None);
        assert!(
            status == 200,
            "no engine answers at {value} ({name}): run ./tests/run.sh, which starts it"
        );
        engine
    }

    /// `unix:///...`
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One request; the status (0 where nobody answers) and the body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "50"])
            .args(["--write-out", "\n%{http_code}", "--request", method])
            .arg("--unix-socket")
            .arg(&self.socket)
            .arg(format!("http://engine/{API}{path}"));
        let input = match body {
            Some(body) => {
                command.args([
                    "-H",
                    "Content-Type: application/json",
                    "--data-binary",
                    "@-",
                ]);
                body.to_string().into_bytes()
            }
            None => Vec::new(),
        };
        split_status(&run_with_input(&mut command, &input, PATIENCE).stdout)
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None);
        assert!(status == 200, "GET {path}: {status} {body}");
        serde_json::from_str(&body).expect("the engine answers JSON")
    }

    /// Makes an image out of this machine's static busybox and these files (path without the first `/`, content), and
    /// gives its id, `sha256:...`. Each marker gives another image.
    ///
    /// # Panics
    /// Where that fails.
    pub fn busybox_image(&self, marker: &str, files: &[(&str, &str)]) -> String {
        let root = crate::short_tempdir("img");
        let bin = root.path().join("bin");
        std::fs::create_dir(&bin).expect("make a directory of ours");
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap_or_else(|error| {
            panic!("cannot read /bin/busybox: {error} (run ./tests/run.sh, which installs busybox-static)")
        });
        for applet in [
            "sh", "sleep", "cat", "echo", "nc", "httpd", "test", "true", "false", "ls", "id",
            "env", "hostname", "kill", "touch", "mkdir", "rm", "wget", "stat", "readlink", "dd",
            "mount",
        ] {
            std::os::unix::fs::symlink("busybox", bin.join(applet))
                .expect("link in our own directory");
        }
        for dir in ["tmp", "etc", "var"] {
            std::fs::create_dir_all(root.path().join(dir)).expect("make a directory of ours");
        }
        std::fs::write(root.path().join("etc/marker"), marker).expect("write our own file");
        std::fs::write(
            root.path().join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
        )
        .expect("write our own file");
        std::fs::write(root.path().join("etc/group"), "root:x:0:\napp:x:1000:\n")
            .expect("write our own file");
        for (path, content) in files {
            let full = root.path().join(path);
            std::fs::create_dir_all(full.parent().expect("a parent")).expect("make directories");
            std::fs::write(full, content).expect("write our own file");
        }
        let tar = root.path().with_extension("tar");
        run(
            Command::new("tar")
                .arg("-C")
                .arg(root.path())
                .args(["--owner=0", "--group=0", "-cf"])
                .arg(&tar)
                .arg("."),
            PATIENCE,
        )
        .expect_code(0);
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
                .args(["-H", "Content-Type: application/x-tar", "--data-binary"])
                .arg(format!("@{}", tar.display()))
                .arg("--unix-socket")
                .arg(&self.socket)
                .arg(format!("http://engine/{API}/images/create?fromSrc=-")),
            PATIENCE,
        )
        .expect_code(0)
        .stdout;
        let _ = std::fs::remove_file(&tar);
        // One JSON document a line; the last status is the id.
        said.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| line["status"].as_str().map(str::to_owned))
            .rfind(|status| status.starts_with("sha256:"))
            .unwrap_or_else(|| panic!("the engine did not take the image: {said}"))
    }

    /// The containers of a device, running or not, by `docker ps -a`'s own view.
    pub fn containers(&self, device: &str) -> Vec<Value> {
        let filter = encode(&json!({ "label": [format!("{DEVICE_LABEL}={device}")] }).to_string());
        let list = self.get(&format!("/containers/json?all=1&filters={filter}"));
        let Value::Array(mut list) = list else {
            panic!("the engine's list is no list: {list}");
        };
        list.sort_by_key(|container| container["Names"][0].to_string());
        list
    }

    /// The one container of a device whose name holds `part` (a service's name), inspected.
    ///
    /// # Panics
    /// Where there is none, or more than one.
    #[track_caller]
    pub fn container(&self, device: &str, part: &str) -> Value {
        let all = self.containers(device);
        let found: Vec<&Value> = all
            .iter()
            .filter(|container| container["Names"].to_string().contains(part))
            .collect();
        assert!(
            found.len() == 1,
            "expected one container of {device} named like {part}, found {}: {:?}",
            found.len(),
            all.iter()
                .map(|c| c["Names"].to_string())
                .collect::<Vec<_>>()
        );
        self.inspect(found[0]["Id"].as_str().expect("an id"))
    }

    /// As [`Engine::container`], for a look while things change: `None` where there is no such one just now.
    pub fn find(&self, device: &str, part: &str) -> Option<Value> {
        let all = self.containers(device);
        let id = all
            .iter()
            .find(|container| container["Names"].to_string().contains(part))?["Id"]
            .as_str()?;
        let (status, body) = self.call("GET", &format!("/containers/{id}/json"), None);
        (status == 200).then(|| serde_json::from_str(&body).expect("the engine answers JSON"))
    }

    /// A container, inspected, by name or id.
    ///
    /// # Panics
    /// Where it does not exist.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.get(&format!("/containers/{container}/json"))
    }

    /// Whether a container with this name or id exists.
    pub fn exists(&self, container: &str) -> bool {
        self.call("GET", &format!("/containers/{container}/json"), None)
            .0
            == 200
    }

    /// An image, inspected, by id or name; `None` where it is not there.
    pub fn image(&self, image: &str) -> Option<Value> {
        let (status, body) = self.call("GET", &format!("/images/{image}/json"), None);
        (status == 200).then(|| serde_json::from_str(&body).expect("the engine answers JSON"))
    }

    /// Removes an image.
    ///
    /// # Panics
    /// Where the engine refuses.
    #[track_caller]
    pub fn remove_image(&self, image: &str) {
        let (status, body) = self.call("DELETE", &format!("/images/{image}?force=1"), None);
        assert!(status == 200, "remove image {image}: {status} {body}");
    }

    /// Makes and starts a container by hand, as somebody else on the machine would.
    ///
    /// # Panics
    /// Where the engine refuses.
    #[track_caller]
    pub fn create_stranger(&self, name: &str, body: &Value) -> String {
        let (status, answer) = self.call(
            "POST",
            &format!("/containers/create?name={name}"),
            Some(body),
        );
        assert!(status == 201, "create {name}: {status} {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("the engine answers JSON");
        let id = answer["Id"].as_str().expect("an id").to_owned();
        let (status, answer) = self.call("POST", &format!("/containers/{id}/start"), None);
        assert!(status == 204, "start {name}: {status} {answer}");
        id
    }

    /// Stops a container at once.
    ///
    /// # Panics
    /// Where the engine refuses.
    #[track_caller]
    pub fn stop(&self, container: &str) {
        let (status, body) = self.call("POST", &format!("/containers/{container}/stop?t=0"), None);
        assert!(
            matches!(status, 204 | 304),
            "stop {container}: {status} {body}"
        );
    }

    /// Removes a container, running or not, with its anonymous volumes.
    ///
    /// # Panics
    /// Where the engine refuses.
    #[track_caller]
    pub fn remove(&self, container: &str) {
        let (status, body) = self.call(
            "DELETE",
            &format!("/containers/{container}?force=1&v=1"),
            None,
        );
        assert!(
            matches!(status, 200 | 204),
            "remove {container}: {status} {body}"
        );
    }

    /// Runs a command in a container; its exit code and both of its streams, mixed.
    ///
    /// # Panics
    /// Where the engine refuses.
    #[track_caller]
    pub fn exec(&self, container: &str, command: &[&str]) -> (i64, String) {
        let body =
            json!({ "AttachStdout": true, "AttachStderr": true, "Tty": true, "Cmd": command });
        let (status, answer) = self.call(
            "POST",
            &format!("/containers/{container}/exec"),
            Some(&body),
        );
        assert!(status == 201, "exec in {container}: {status} {answer}");
        let answer: Value = serde_json::from_str(&answer).expect("the engine answers JSON");
        let id = answer["Id"].as_str().expect("an id").to_owned();
        let start = json!({ "Detach": false, "Tty": true });
        let (_, output) = self.call("POST", &format!("/exec/{id}/start"), Some(&start));
        let code = self.get(&format!("/exec/{id}/json"))["ExitCode"]
            .as_i64()
            .unwrap_or(-1);
        (code, output.replace("\r\n", "\n"))
    }

    /// Networks of a device, by name.
    pub fn networks(&self, device: &str) -> Vec<String> {
        let filter = encode(&json!({ "label": [format!("{DEVICE_LABEL}={device}")] }).to_string());
        names(&self.get(&format!("/networks?filters={filter}")))
    }

    /// Volumes of a device, by name.
    pub fn volumes(&self, device: &str) -> Vec<String> {
        let filter = encode(&json!({ "label": [format!("{DEVICE_LABEL}={device}")] }).to_string());
        names(&self.get(&format!("/volumes?filters={filter}"))["Volumes"])
    }

    /// Removes everything that carries this device's label when the guard is dropped.
    #[must_use = "the device's containers are removed when this is dropped"]
    pub fn cleanup(&self, device: &str) -> Cleanup {
        Cleanup {
            engine: self.clone(),
            device: device.to_owned(),
        }
    }
}

/// Removes a device's containers, networks and volumes when dropped.
#[derive(Debug)]
#[must_use = "the device's containers are removed when this is dropped"]
pub struct Cleanup {
    engine: Engine,
    device: String,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // Nothing in here may panic: the test may be panicking already.
        let filter =
            encode(&json!({ "label": [format!("{DEVICE_LABEL}={}", self.device)] }).to_string());
        let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
        let (_, list) = self.engine.call(
            "GET",
            &format!("/containers/json?all=1&filters={filter}"),
            None,
        );
        for container in parse(list).as_array().into_iter().flatten() {
            if let Some(id) = container["Id"].as_str() {
                self.engine
                    .call("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
            }
        }
        let (_, list) = self
            .engine
            .call("GET", &format!("/networks?filters={filter}"), None);
        for name in names(&parse(list)) {
            self.engine
                .call("DELETE", &format!("/networks/{name}"), None);
        }
        let (_, list) = self
            .engine
            .call("GET", &format!("/volumes?filters={filter}"), None);
        for name in names(&parse(list)["Volumes"]) {
            self.engine
                .call("DELETE", &format!("/volumes/{name}?force=1"), None);
        }
    }
}

fn names(list: &Value) -> Vec<String> {
    let mut names: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["Name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// Percent-encodes everything that is not plainly harmless in a query.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn split_status(text: &str) -> (u16, String) {
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", text));
    (status.trim().parse().unwrap_or(0), body.to_owned())
}
