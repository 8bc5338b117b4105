//! From a signed branch to files and containers, and only what differs is touched.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use evenkeel_tests::{Access, Device, FleetRepo, GitHttp, GitSsh, HttpOptions, Registry};
use serde_json::{Value, json};

use crate::fleet::{GATE, QUICK, World};

#[test]
fn a_first_pass_brings_files_and_containers_and_the_next_one_finds_nothing_to_do() {
    let world = World::with_docker("converge-first");
    let app = world.sleeper(
        "web",
        "environment = { A = \"1\" }\nvolumes = [\"/etc/one:/conf:ro\", \"data:/data\"]\nhostname = \"web-1\"\n",
    ) + &world.sleeper("side", "depends_on = [\"web\"]\n")
        + "[volumes.data]\n"
        + "[[files]]\npath = \"/etc/one/one.conf\"\nsource = \"one.conf.j2\"\ntemplate = true\nmode = \"0640\"\n"
        + GATE;
    world.apps(&["one"]).app("one", app);
    world.repo.write(
        &format!("apps/{}/one.conf.j2", world.app_name("one")),
        "zone={{ values.tz }} device={{ device.id }}\n",
    );
    world.repo.write(
        "fleet.toml",
        "format = 1\nname = \"test\"\n[values]\ntz = \"Europe/Vienna\"\n",
    );
    let commit = world.release_and_sync("First");

    assert_eq!(
        world.device.read("/etc/one/one.conf").as_deref(),
        Some("zone=Europe/Vienna device=converge-first\n")
    );
    let mode = std::fs::metadata(world.device.path("/etc/one/one.conf"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o7777, 0o640);
    let web = world.container("web");
    assert_eq!(web["State"]["Running"], true);
    assert_eq!(web["Config"]["Hostname"], "web-1");
    let id = web["Id"].as_str().unwrap();
    let (code, said) = world.engine().exec(id, &["/bin/cat", "/conf/one.conf"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("zone=Europe/Vienna"), "{said}");
    let side = world.container("side");
    assert!(
        side["State"]["StartedAt"].as_str() > web["State"]["StartedAt"].as_str(),
        "depends_on was not kept"
    );

    let status = world.device.status_json();
    for field in ["tip", "verified", "applied", "last_good", "floor"] {
        assert_eq!(
            status["revision"][field],
            commit.as_str(),
            "{field} in {status:#}"
        );
    }
    assert_eq!(world.device.condition("Ready").0, "True");
    world.assert_converged();
    let inode = std::fs::metadata(world.device.path("/etc/one/one.conf"))
        .unwrap()
        .ino();
    world.device.sync().expect_code(0);
    assert_eq!(world.container_id("web"), id, "the container was made anew");
    assert_eq!(
        std::fs::metadata(world.device.path("/etc/one/one.conf"))
            .unwrap()
            .ino(),
        inode,
        "the file was written anew"
    );
}

#[test]
fn an_update_touches_only_what_changed() {
    let world = World::with_docker("converge-update");
    let app = |value: &str| {
        world.sleeper("web", &format!("environment = {{ A = \"{value}\" }}\n"))
            + &world.sleeper("side", "")
            + "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"same\\n\"\n"
            + GATE
    };
    world.apps(&["one"]).app("one", app("1"));
    world.release_and_sync("First");
    let (web, side) = (world.container_id("web"), world.container_id("side"));
    let inode = std::fs::metadata(world.device.path("/etc/one.conf"))
        .unwrap()
        .ino();

    world.app("one", app("2"));
    world.repo.release("Second");
    let plan = world.device.plan_json();
    assert_eq!(plan["target"], "advance", "{plan:#}");
    assert!(plan["steps"].to_string().contains("web"), "{plan:#}");
    assert!(!plan["steps"].to_string().contains("side"), "{plan:#}");
    assert_eq!(world.container_id("web"), web, "plan changed something");

    world.device.sync().expect_code(0);
    assert_ne!(world.container_id("web"), web);
    assert_eq!(
        world.container_id("side"),
        side,
        "the other container was touched"
    );
    assert_eq!(
        std::fs::metadata(world.device.path("/etc/one.conf"))
            .unwrap()
            .ino(),
        inode,
        "the file was touched"
    );
    let environment = world.container("web")["Config"]["Env"].to_string();
    assert!(environment.contains("A=2"), "{environment}");
    world.assert_converged();
}

#[test]
fn a_changed_file_restarts_the_container_that_mounts_it() {
    let world = World::with_docker("converge-mounted");
    let app = |content: &str| {
        world.sleeper("reader", "volumes = [\"/etc/one.conf:/one.conf:ro\"]\n")
            + &world.sleeper("side", "")
            + &format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{content}\\n\"\n")
            + GATE
    };
    world.apps(&["one"]).app("one", app("old"));
    world.release_and_sync("First");
    let side = world.container_id("side");
    world.app("one", app("new"));
    world.release_and_sync("Second");
    let (code, said) = world
        .engine()
        .exec(&world.container_id("reader"), &["/bin/cat", "/one.conf"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "new\n"),
        "the container still sees the old file"
    );
    assert_eq!(
        world.container_id("side"),
        side,
        "the other container was touched"
    );
}

#[test]
fn removed_apps_are_pruned_and_what_is_not_ours_stays() {
    let world = World::with_docker("converge-prune");
    let keep = world.sleeper("keeper", "") + GATE;
    let gone = world.sleeper("goner", "volumes = [\"data:/data\"]\n")
        + "[volumes.data]\n[[files]]\npath = \"/etc/gone.conf\"\ncontent = \"x\"\non_remove = \"delete\"\n"
        + GATE;
    world
        .apps(&["keep", "gone"])
        .app("keep", keep)
        .app("gone", gone);
    std::fs::create_dir_all(world.device.path("/etc")).unwrap();
    std::fs::write(world.device.path("/etc/stranger.conf"), "mine").unwrap();
    let stranger = world.engine().create_stranger(
        "converge-prune-stranger",
        &json!({ "Image": world.image, "Cmd": ["/bin/sleep", "600"] }),
    );
    let sibling = world.engine().create_stranger(
        "converge-prune-sibling",
        &json!({
            "Image": world.image,
            "Cmd": ["/bin/sleep", "600"],
            "Labels": { "dev.evenkeel.device": "another-device" },
        }),
    );
    world.release_and_sync("First");
    assert_eq!(world.containers(), 2);
    assert!(world.device.path("/etc/gone.conf").exists());

    world.apps(&["keep"]);
    world
        .repo
        .remove(&format!("apps/{}", world.app_name("gone")));
    world.release_and_sync("Second");
    assert_eq!(
        world.containers(),
        1,
        "the removed app's container is still there"
    );
    assert!(!world.device.path("/etc/gone.conf").exists());
    assert_eq!(
        world.device.read("/etc/stranger.conf").as_deref(),
        Some("mine")
    );
    for id in [&stranger, &sibling] {
        assert!(
            world.engine().exists(id),
            "something that is not ours was removed"
        );
        world.engine().remove(id);
    }
    world.assert_converged();
}

#[test]
fn docker_gets_an_image_by_digest_from_a_registry() {
    let world = World::with_docker("converge-registry");
    pulled_by_digest(&world);
}

#[test]
fn podman_gets_an_image_by_digest_from_a_registry() {
    let world = World::with_podman("podman-registry");
    pulled_by_digest(&world);
}

fn pulled_by_digest(world: &World) {
    let registry = Registry::start();
    let fresh = world
        .engine()
        .busybox_image(&format!("{}-pushed", world.device.settings.id), &[]);
    let pinned = registry.push(world.engine(), &fresh, "acme/app");
    if world.engine().image(&fresh).is_some() {
        world.engine().remove_image(&fresh);
    }
    world.apps(&["one"]).app(
        "one",
        format!(
            "[services.web]\nimage = \"{pinned}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\n{GATE}"
        ),
    );
    world.release_and_sync("First");
    assert_eq!(world.container("web")["State"]["Running"], true);
    world.assert_converged();
}

#[test]
fn podman_converges_heals_and_goes_back_from_a_bad_release() {
    let world = World::with_podman("podman-whole");
    world.apps(&["one"]).app("one", world.judged("web", "good"));
    world.release_and_sync("First");
    world.assert_converged();
    let first = world.container_id("web");

    world.engine().remove(&first);
    world.device.sync().expect_code(0);
    let second = world.container_id("web");
    assert_ne!(first, second);

    world.app("one", world.judged("web", "bad"));
    world.repo.release("Bad");
    world.device.sync().expect_code(4);
    let environment = world.container("web")["Config"]["Env"].to_string();
    assert!(environment.contains("STATE=good"), "{environment}");
    assert_eq!(world.container("web")["State"]["Running"], true);
    world.device.sync().expect_code(4);
}

#[test]
fn settings_reach_the_container() {
    let world = World::with_docker("converge-settings");
    let port = evenkeel_tests::ports::Port::free();
    world.apps(&["one"]).app(
        "one",
        format!(
            "[services.web]\nimage = \"{image}\"\nentrypoint = [\"/bin/httpd\"]\ncommand = [\"-f\", \"-p\", \"8080\", \"-h\", \"/tmp\"]\n\
             ports = [\"127.0.0.1:{port}:8080\"]\nuser = \"1000:1000\"\nworking_dir = \"/tmp\"\nlabels = {{ team = \"a\" }}\n\
             restart = \"unless-stopped\"\nread_only = true\ntmpfs = [\"/tmp\"]\ncap_drop = [\"ALL\"]\n\
             mem_limit = \"64m\"\ncpus = 0.5\nextra_hosts = [\"other:192.0.2.7\"]\nstop_signal = \"SIGINT\"\n\
             stop_grace_period = \"1s\"\nlogging = {{ driver = \"json-file\", options = {{ max-size = \"1m\" }} }}\n\
             [[checks]]\ntcp = \"127.0.0.1:{port}\"\ntimeout = \"2s\"\n{GATE}",
            image = world.image,
            port = port.number(),
        ),
    );
    world.release_and_sync("First");
    let web = world.container("web");
    let host = &web["HostConfig"];
    for (name, seen, want) in [
        ("user", &web["Config"]["User"], json!("1000:1000")),
        ("working_dir", &web["Config"]["WorkingDir"], json!("/tmp")),
        ("label", &web["Config"]["Labels"]["team"], json!("a")),
        ("stop_signal", &web["Config"]["StopSignal"], json!("SIGINT")),
        (
            "restart",
            &host["RestartPolicy"]["Name"],
            json!("unless-stopped"),
        ),
        ("read_only", &host["ReadonlyRootfs"], json!(true)),
        ("memory", &host["Memory"], json!(64 * 1024 * 1024)),
        ("cpus", &host["NanoCpus"], json!(500_000_000)),
        ("cap_drop", &host["CapDrop"], json!(["ALL"])),
        (
            "extra_hosts",
            &host["ExtraHosts"],
            json!(["other:192.0.2.7"]),
        ),
        (
            "logging",
            &host["LogConfig"]["Config"]["max-size"],
            json!("1m"),
        ),
    ] {
        assert_eq!(seen, &want, "{name}");
    }
    assert!(host["Tmpfs"]["/tmp"] != Value::Null, "tmpfs: {host:#}");
    std::net::TcpStream::connect(("127.0.0.1", port.number())).expect("the published port answers");
    world.assert_converged();
}

/// The device takes a first and a second release from this source.
fn follows(device: &Device, repo: &FleetRepo) {
    device.sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("1\n"));
    repo.write(
        "apps/one/app.toml",
        format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"2\\n\"\n{QUICK}"),
    );
    repo.release("Second");
    device.sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("2\n"));
}

fn a_repo_of_one_file() -> World {
    let world = World::of_files("transport");
    world.one_file("1\n");
    world.repo.release("First");
    world
}

#[test]
fn a_device_follows_a_file_url() {
    let world = a_repo_of_one_file();
    follows(&world.device, &world.repo);
}

#[test]
fn a_device_follows_plain_http() {
    let mut world = a_repo_of_one_file();
    let server = GitHttp::http(world.repo.served());
    world.device.settings.url = server.url();
    follows(&world.device, &world.repo);
}

#[test]
fn a_device_follows_https_under_a_private_ca_and_no_other() {
    let mut world = a_repo_of_one_file();
    let server = GitHttp::https(world.repo.served());
    world.device.settings.url = server.url();
    let said = world.device.sync().expect_code(1);
    assert!(
        said.text().to_lowercase().contains("certificate"),
        "{}",
        said.text()
    );
    assert_eq!(world.device.read("/etc/one.conf"), None);
    world.device.settings.source = vec![format!("ca_file = {:?}", server.ca_file())];
    follows(&world.device, &world.repo);
}

fn https_with(access: Access) -> (World, GitHttp) {
    let mut world = a_repo_of_one_file();
    let server = GitHttp::start(
        world.repo.served(),
        HttpOptions {
            plain: false,
            access,
            ..HttpOptions::default()
        },
    );
    world.device.settings.url = server.url();
    world.device.settings.source = vec![format!("ca_file = {:?}", server.ca_file())];
    (world, server)
}

#[test]
fn a_device_follows_https_with_a_token_from_a_file() {
    let (mut world, _server) = https_with(Access::Bearer("s3cret-token".to_owned()));
    let said = world.device.sync().expect_code(1);
    assert!(said.text().contains("401"), "{}", said.text());
    let token = world.device.scratch().join("token");
    std::fs::write(&token, "s3cret-token\n").unwrap();
    world
        .device
        .settings
        .source
        .push(format!("token_file = {token:?}"));
    follows(&world.device, &world.repo);
    // A secret is nowhere to be read afterwards.
    let status = world.device.evenkeel(&["status", "--json"]);
    assert!(!status.text().contains("s3cret-token"));
}

#[test]
fn a_device_follows_https_with_a_user_and_a_password_from_a_file() {
    let (mut world, server) = https_with(Access::Basic("gateway".to_owned(), "s3cret".to_owned()));
    world.device.settings.url = server.url_with_user("gateway");
    let token = world.device.scratch().join("token");
    std::fs::write(&token, "wrong\n").unwrap();
    world
        .device
        .settings
        .source
        .push(format!("token_file = {token:?}"));
    let said = world.device.sync().expect_code(1);
    assert!(said.text().contains("401"), "{}", said.text());
    std::fs::write(&token, "s3cret\n").unwrap();
    follows(&world.device, &world.repo);
}

#[test]
fn a_device_follows_https_with_a_client_certificate() {
    let (mut world, server) = https_with(Access::ClientCertificate);
    world.device.sync().expect_code(1);
    world.device.settings.source.extend([
        format!("client_cert = {:?}", server.client_cert()),
        format!("client_key = {:?}", server.client_key()),
    ]);
    follows(&world.device, &world.repo);
}

#[test]
fn a_device_follows_ssh_and_never_heals_a_changed_host_key() {
    let mut world = a_repo_of_one_file();
    let mut server = GitSsh::start(&world.repo.bare());
    world.device.settings.url = server.url();
    world.device.settings.source = vec![
        format!("ssh_key = {:?}", server.user_key()),
        format!("known_hosts = {:?}", server.known_hosts()),
    ];
    follows(&world.device, &world.repo);

    let pinned = std::fs::read(server.known_hosts()).unwrap();
    server.change_host_key();
    world.one_file("3\n");
    world.repo.release("Third");
    let said = world.device.sync().expect_code(1);
    assert!(
        said.text().to_lowercase().contains("host key"),
        "{}",
        said.text()
    );
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));
    assert_eq!(
        std::fs::read(server.known_hosts()).unwrap(),
        pinned,
        "known_hosts was changed"
    );
    server.write_known_hosts();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("3\n"));
}

#[test]
fn a_device_takes_the_second_remote_where_the_first_is_down() {
    let mut world = a_repo_of_one_file();
    let good = world.device.settings.url.clone();
    let text = world.device.config_text().replace(
        &format!("url = {good:?}"),
        &format!("url = [\"http://127.0.0.1:1/fleet.git\", {good:?}]"),
    );
    world.device.write_config_by_hand(&text);
    follows(&world.device, &world.repo);
}

#[test]
fn groups_choose_by_label_and_the_device_has_the_last_word() {
    let world = World::of_files("labelled");
    world.repo.write(
        "fleet.toml",
        "format = 1\nname = \"test\"\n[values]\na = \"fleet\"\nb = \"fleet\"\nc = \"fleet\"\n",
    );
    world.repo.write(
        "groups/plant.toml",
        "apps = [\"one\"]\n[match]\nsite = \"plant-a\"\nrole = [\"gateway\", \"kiosk\"]\n[values]\nb = \"group\"\nc = \"group\"\n",
    );
    world.repo.write(
        "groups/other.toml",
        "apps = [\"two\"]\n[match]\nsite = \"plant-b\"\n",
    );
    world.repo.write(
        "devices/labelled.toml",
        "apps = [\"three\"]\n[values]\nc = \"device\"\n",
    );
    for app in ["one", "two", "three"] {
        world.app(
            app,
            format!("[[files]]\npath = \"/etc/{app}\"\ncontent = \"{{{{ values.a }}}} {{{{ values.b }}}} {{{{ values.c }}}}\"\ntemplate = true\n"),
        );
    }
    world.repo.release("First");
    let device = Device::new(
        "labelled",
        &world.repo.file_url(),
        &world.repo.allowed_signers(),
    )
    .with_label("site", "plant-a")
    .with_label("role", "kiosk");
    device.sync().expect_code(0);
    assert_eq!(
        device.read("/etc/one").as_deref(),
        Some("fleet group device")
    );
    assert_eq!(device.read("/etc/two"), None);
    assert_eq!(
        device.read("/etc/three").as_deref(),
        Some("fleet group device")
    );
}
