//! `evenkeel adopt`: what stood on the device before becomes an app, without a restart.

use std::path::Path;
use std::process::Command;

use evenkeel_tests::process::run;
use evenkeel_tests::{Engine, PATIENCE};
use serde_json::{Value, json};

use crate::fleet::{GATE, World};

/// What a person started with Compose, as far as an engine knows of that.
struct Project {
    world: World,
    name: String,
    made: Vec<String>,
    network: String,
    volume: String,
}

impl Drop for Project {
    fn drop(&mut self) {
        let engine = self.world.engine();
        for id in &self.made {
            engine.call("DELETE", &format!("/containers/{id}?force=1"), None);
        }
        engine.call("DELETE", &format!("/networks/{}", self.network), None);
        engine.call("DELETE", &format!("/volumes/{}?force=1", self.volume), None);
    }
}

fn start(engine: &Engine, id: &str) -> (String, String) {
    let container = engine.inspect(id);
    (
        container["Id"].as_str().unwrap().to_owned(),
        container["State"]["StartedAt"].as_str().unwrap().to_owned(),
    )
}

impl Project {
    fn new(id: &str) -> Self {
        Self::on(World::with_docker(id), id)
    }

    fn on(world: World, id: &str) -> Self {
        let name = format!("{id}-shop");
        let (network, volume) = (format!("{name}_default"), format!("{name}_data"));
        let engine = world.engine().clone();
        let labels = json!({ "com.docker.compose.project": name });
        // What a run that was cut off has left.
        for path in [
            format!("/containers/{name}-db-1?force=1"),
            format!("/containers/{name}-web-1?force=1"),
            format!("/networks/{network}"),
            format!("/volumes/{volume}?force=1"),
        ] {
            engine.call("DELETE", &path, None);
        }
        for (path, body) in [
            (
                "/networks/create",
                json!({ "Name": network, "Labels": labels }),
            ),
            (
                "/volumes/create",
                json!({ "Name": volume, "Labels": labels }),
            ),
        ] {
            let (code, said) = engine.call("POST", path, Some(&body));
            assert_eq!(code, 201, "{said}");
        }
        let mut project = Self {
            world,
            name,
            made: Vec::new(),
            network,
            volume,
        };
        std::fs::create_dir_all(project.world.device.path("/srv/conf")).unwrap();
        std::fs::write(
            project.world.device.path("/srv/conf/shop.conf"),
            "a = {{ 1 }}\n",
        )
        .unwrap();
        let source = project.world.device.path("/srv/conf");
        let mut db = json!({
                "Cmd": ["/bin/sleep", "86400"],
                "Env": ["SECRET=x{{y}}", "A=b c"],
                "User": "app",
                "StopTimeout": 1,
                "Healthcheck": { "Test": ["CMD", "/bin/true"], "Interval": 1_000_000_000, "Retries": 2 },
                "HostConfig": {
                    "Binds": [
                        format!("{}:/data", project.volume),
                        format!("{}:/conf:ro", source.display()),
                    ],
                    "NetworkMode": project.network,
                    "RestartPolicy": { "Name": "unless-stopped" },
                    "Memory": 67_108_864,
                    "NanoCpus": 500_000_000,
                    "CapDrop": ["NET_RAW"],
                    "Tmpfs": { "/scratch": "size=1m" },
                    "ExtraHosts": ["one.example:192.0.2.1"],
                },
        });
        // Podman within a namespace may not set limits.
        if !id.contains("podman") {
            db["HostConfig"]["Ulimits"] = json!([{ "Name": "nofile", "Soft": 512, "Hard": 1024 }]);
        }
        project.make("db", &db);
        let depends = json!({
            "Cmd": ["/bin/sh", "-c", "exec /bin/sleep 86400"],
            "Labels": { "com.docker.compose.depends_on": "db:service_healthy:false", "mine": "yes" },
            "StopTimeout": 1,
            "HostConfig": { "NetworkMode": project.network, "RestartPolicy": { "Name": "always" } },
        });
        project.make("web", &depends);
        project
    }

    fn make(&mut self, service: &str, body: &Value) {
        let mut body = body.clone();
        body["Image"] = json!(self.world.image);
        body["Labels"]["com.docker.compose.project"] = json!(self.name);
        body["Labels"]["com.docker.compose.service"] = json!(service);
        body["Labels"]["com.docker.compose.config-hash"] = json!("0123");
        let name = format!("{}-{service}-1", self.name);
        let id = self.world.engine().create_stranger(&name, &body);
        self.made.push(id);
    }

    fn starts(&self) -> Vec<(String, String)> {
        self.made
            .iter()
            .map(|id| start(self.world.engine(), id))
            .collect()
    }

    /// Has the fleet declare it as `adopt` writes it.
    fn declare(&self) -> String {
        let out = self.world.device.scratch().join("adopted");
        let arguments = ["adopt", &self.name, "--out", out.to_str().unwrap()];
        self.world.device.evenkeel(&arguments).expect_code(0);
        let text =
            std::fs::read_to_string(out.join(format!("apps/{}/app.toml", self.name))).unwrap();
        self.release(&text, "Adopted");
        text
    }

    fn release(&self, text: &str, message: &str) {
        let repo = &self.world.repo;
        repo.write(
            "groups/all.toml",
            format!("match = \"all\"\napps = [\"{}\"]\n", self.name),
        );
        repo.write(
            &format!("apps/{}/app.toml", self.name),
            format!("{text}\n{GATE}"),
        );
        repo.release(message);
        let linted = run(
            Command::new(evenkeel_tests::device::binary())
                .arg("lint")
                .arg(repo.work()),
            PATIENCE,
        );
        linted.expect_code(0);
    }
}

fn adopted(answer: &Value, name: &str) -> Value {
    let apps = answer["apps"].as_array().unwrap();
    apps.iter().find(|app| app["name"] == name).unwrap().clone()
}

#[test]
fn a_compose_project_is_taken_over_without_a_restart_and_is_ours_ever_after() {
    let project = Project::new("adopt-1");
    let (world, engine) = (&project.world, project.world.engine());
    let before = project.starts();
    let shown = adopted(&world.device.json(&["adopt", "--json"]), &project.name);
    assert_eq!(shown["problem"], Value::Null, "{shown:#}");
    for container in shown["containers"].as_array().unwrap() {
        assert_eq!(container["differs"], json!([]), "{shown:#}");
        assert_eq!(container["notes"], json!([]), "{shown:#}");
    }
    let text = project.declare();

    // Declared alone it is a stranger's, and nothing moves.
    let held = world.device.sync().expect_code(1);
    assert!(
        held.text().contains("evenkeel adopt --take"),
        "{}",
        held.text()
    );
    assert_eq!(project.starts(), before);

    world
        .device
        .evenkeel(&["adopt", "--take", &project.name])
        .expect_code(0);
    let plan = world.device.plan_json();
    assert_eq!(plan["blocked"], json!([]), "{plan:#}");
    assert_eq!(plan["steps"], json!([]), "{plan:#}");
    world.device.sync().expect_code(0);
    world.device.sync().expect_code(0);
    world.assert_converged();
    assert_eq!(project.starts(), before);
    let status = world.device.status_json();
    assert!(status["apps"].to_string().contains("healthy"), "{status:#}");
    assert_eq!(world.device.condition("Ready").0, "True");

    // It heals what it has adopted...
    engine.stop(&project.made[1]);
    world.device.sync().expect_code(0);
    assert_eq!(engine.inspect(&project.made[1])["State"]["Running"], true);

    // ... and a later change makes one anew, as ours, on the same data.
    let db = project.starts()[0].clone();
    project.release(
        &text.replace("exec /bin/sleep 86400", "exec /bin/sleep 86401"),
        "Another command",
    );
    world.device.sync().expect_code(0);
    world.assert_converged();
    assert!(!engine.exists(&project.made[1]));
    let web = engine.container(&world.device.settings.id, "web");
    assert_eq!(web["Config"]["Cmd"][2], "exec /bin/sleep 86401");
    assert_eq!(start(engine, &project.made[0]), db);

    // What differs() alone would not see is seen by the declaration's hash.
    let aliased = text.replace("exec /bin/sleep 86400", "exec /bin/sleep 86401");
    let aliased = aliased.replacen("[services.db]\n", "[services.db]\noom_score_adj = 7\n", 1);
    project.release(&aliased, "A setting");
    world.device.sync().expect_code(0);
    assert!(!engine.exists(&project.made[0]));
    let data = &engine.container(&world.device.settings.id, "db")["Mounts"];
    assert!(data.to_string().contains(&project.volume), "{data}");
}

#[test]
fn what_is_not_as_declared_is_held_and_never_made_anew() {
    let project = Project::new("adopt-2");
    let world = &project.world;
    let before = project.starts();
    let text = project.declare();
    project.release(
        &text.replace("A = \"b c\"", "A = \"other\""),
        "Not as it is",
    );
    world
        .device
        .evenkeel(&["adopt", "--take", &project.name])
        .expect_code(0);
    let held = world.device.sync().expect_code(1);
    assert!(held.text().contains("environment.A"), "{}", held.text());
    assert_eq!(project.starts(), before);
    project.release(&text, "As it is");
    world.device.sync().expect_code(0);
    assert_eq!(project.starts(), before);
}

#[test]
fn a_container_that_nobody_named_stays_a_strangers() {
    let project = Project::new("adopt-3");
    let (world, engine) = (&project.world, project.world.engine());
    let alone = engine.create_stranger(
        "adopt-3-alone",
        &json!({ "Image": world.image, "Cmd": ["/bin/sleep", "86400"], "StopTimeout": 1 }),
    );
    let before = (project.starts(), start(engine, &alone));
    project.declare();
    let web = format!("{}-web-1", project.name);
    world
        .device
        .evenkeel(&["adopt", "--take", &web])
        .expect_code(0);
    // The other one of the project is declared, and not taken over: the whole change waits.
    world.device.sync().expect_code(1);
    assert_eq!((project.starts(), start(engine, &alone)), before);
    world
        .device
        .evenkeel(&["adopt", "--take", "no-such-container"])
        .expect_code(2);

    // Taken over, and not declared any more: with no good revision that had it, it stays.
    let db = format!("{0}-db-1={0}/db", project.name);
    world
        .device
        .evenkeel(&["adopt", "--take", &db])
        .expect_code(0);
    world
        .repo
        .write("groups/all.toml", "match = \"all\"\napps = []\n");
    world.repo.release("Without\n\nAllow-Empty: true");
    world.device.sync().expect_code(0);
    assert_eq!((project.starts(), start(engine, &alone)), before);
    engine.remove(&alone);
}

#[test]
fn going_back_to_before_the_adoption_leaves_it_running_and_a_dropped_app_goes() {
    let project = Project::new("adopt-4");
    let world = &project.world;
    world
        .repo
        .write("groups/all.toml", "match = \"all\"\napps = []\n");
    world.repo.release("Nothing yet");
    world.device.sync().expect_code(0);
    let before = project.starts();
    world
        .device
        .evenkeel(&["adopt", "--take", &project.name])
        .expect_code(0);
    project.declare();
    world.device.sync().expect_code(0);
    world.device.evenkeel(&["rollback"]).expect_code(0);
    assert_eq!(project.starts(), before);
    world.device.evenkeel(&["resume"]).expect_code(0);
    assert_eq!(project.starts(), before);
    world.assert_converged();

    // Handed back, it runs on.
    world.device.evenkeel(&["leave", "--yes"]).expect_code(0);
    assert_eq!(project.starts(), before);
    world.device.evenkeel(&["leave", "--undo"]).expect_code(0);

    world
        .repo
        .write("groups/all.toml", "match = \"all\"\napps = []\n");
    world.repo.release("Dropped\n\nAllow-Empty: true");
    world.device.sync().expect_code(0);
    for id in &project.made {
        assert!(!world.engine().exists(id));
    }
}

#[test]
fn files_are_taken_over_as_they_are() {
    let world = World::of_files("adopt-5");
    let path = world.device.path("/etc/kept/one.conf");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(
        &path,
        [b"{{ not }} a template\n".as_slice(), &[0xff, 0]].concat(),
    )
    .unwrap();
    let out = world.repo.work();
    let arguments = [
        "adopt",
        "--app",
        "base",
        "--file",
        "/etc/kept/one.conf",
        "--out",
        out.to_str().unwrap(),
    ];
    world.device.evenkeel(&arguments).expect_code(0);
    // A second time would overwrite what a person may have changed since.
    world.device.evenkeel(&arguments).expect_code(2);
    world
        .repo
        .write("groups/all.toml", "match = \"all\"\napps = [\"base\"]\n");
    world.repo.release("Files");
    let inode =
        |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&path);
    world.device.sync().expect_code(0);
    assert_eq!(inode(&path), before, "the file was written anew");
    world.assert_converged();
}

#[test]
fn a_container_that_is_as_declared_is_taken_over_on_podman() {
    let project = Project::on(World::with_podman("adopt-podman"), "adopt-podman");
    let world = &project.world;
    let before = project.starts();
    world
        .device
        .evenkeel(&["adopt", "--take", &project.name])
        .expect_code(0);
    project.declare();
    world.device.sync().expect_code(0);
    world.device.sync().expect_code(0);
    assert_eq!(project.starts(), before);
}
