//! Bad input: each a clear error, and nothing on the device is changed.

use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::faults::{Fault, FaultServer};
use evenkeel_tests::process::run;

use crate::fleet::{GATE, QUICK, World};

/// A device at a good first revision.
fn at_first(id: &str) -> World {
    let world = World::of_files(id);
    world.one_file("right\n");
    world.release_and_sync("First");
    world
}

/// Releases what was written: the device refuses it whole, names each of `words`, and changes nothing.
#[track_caller]
fn refused(world: &World, words: &[&str]) {
    let before = world.root_listing();
    world.repo.release("Bad");
    let said = world.device.sync().expect_code(3);
    for word in words {
        assert!(
            said.text().contains(word),
            "{word:?} is not named in: {}",
            said.text()
        );
    }
    assert!(!said.text().contains("panicked"), "{}", said.text());
    assert_eq!(world.root_listing(), before, "something was changed");
    // What is refused is not a dead end.
    world.device.plan_json_or_refusal();
}

trait PlanOrRefusal {
    fn plan_json_or_refusal(&self);
}

impl PlanOrRefusal for evenkeel_tests::Device {
    /// `plan` on a refused tip answers too, and does not crash.
    fn plan_json_or_refusal(&self) {
        let said = self.evenkeel(&["plan", "--json"]);
        assert!(
            matches!(said.code, Some(0 | 3)),
            "plan: {:?} {}",
            said.code,
            said.text()
        );
    }
}

#[test]
fn malformed_toml_names_its_place() {
    let world = at_first("bad-toml");
    world.app("one", "[[files]]\npath = \"/etc/one.conf\ncontent = 1\n");
    refused(&world, &["apps/one/app.toml:2:"]);
}

#[test]
fn an_unknown_key_names_its_place() {
    let world = at_first("bad-key");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"x\"\nmod = \"0644\"\n",
    );
    refused(&world, &["apps/one/app.toml:4:", "mod"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let world = at_first("bad-many");
    world.app(
        "one",
        "[[files]]\npath = \"etc/relative\"\ncontent = \"x\"\n[[files]]\npath = \"/etc/../up\"\ncontent = \"x\"\n[services.web]\nimage = \"nginx:latest\"\n",
    );
    refused(
        &world,
        &[
            "apps/one/app.toml:2:",
            "apps/one/app.toml:5:",
            "apps/one/app.toml:8:",
        ],
    );
}

#[test]
fn a_path_with_dots_is_refused() {
    for (id, path) in [
        ("bad-dots-one", "/etc/../../outside"),
        ("bad-dots-two", "/srv/./x"),
        ("bad-dots-three", "relative"),
        ("bad-dots-four", "/"),
    ] {
        let world = at_first(id);
        world.app(
            "one",
            format!("[[files]]\npath = {path:?}\ncontent = \"x\"\n"),
        );
        refused(&world, &["apps/one/app.toml:2:"]);
        assert!(!world.device.scratch().join("outside").exists());
    }
}

#[test]
fn a_source_outside_the_apps_folder_is_refused() {
    let world = at_first("bad-source");
    world.repo.write("apps/two/secret", "x");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\nsource = \"../two/secret\"\n",
    );
    refused(&world, &["apps/one/app.toml:3:"]);
}

#[test]
fn a_source_that_is_a_link_out_of_its_folder_is_refused() {
    let world = at_first("bad-link");
    std::os::unix::fs::symlink(
        "../../../../../etc/passwd",
        world.repo.work().join("apps/one/link"),
    )
    .unwrap();
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\nsource = \"link\"\n",
    );
    refused(&world, &["link"]);
}

#[test]
fn a_source_that_is_not_there_is_refused() {
    let world = at_first("bad-absent");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\nsource = \"absent.conf\"\n",
    );
    refused(&world, &["apps/one/app.toml:3:", "absent.conf"]);
}

#[test]
fn a_link_on_the_device_does_not_lead_a_file_out_of_the_root() {
    let world = at_first("bad-escape");
    let outside = world.device.scratch().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, world.device.path("/srv")).unwrap();
    world.app(
        "one",
        "[[files]]\npath = \"/srv/evil.conf\"\ncontent = \"x\"\n",
    );
    world.repo.release("Through a link");
    let said = world.device.sync();
    assert_ne!(said.code, Some(0), "{}", said.text());
    assert!(
        !outside.join("evil.conf").exists(),
        "a file was written through a link"
    );
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}

#[test]
fn two_apps_on_one_path_are_refused_with_both_places() {
    let world = at_first("bad-two-paths");
    world.apps(&["one", "two"]);
    world.app(
        "two",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"mine\"\n",
    );
    refused(&world, &["/etc/one.conf", "one", "two"]);
}

#[test]
fn two_apps_on_one_host_port_are_refused() {
    let world = at_first("bad-two-ports");
    world.apps(&["one", "two", "three"]);
    let image = format!("sha256:{}", "0".repeat(64));
    for app in ["two", "three"] {
        world.app(
            app,
            format!("[services.{app}]\nimage = \"{image}\"\nports = [\"8080:80\"]\n"),
        );
    }
    refused(&world, &["8080", "two", "three"]);
}

#[test]
fn an_app_that_does_not_exist_is_refused() {
    let world = at_first("bad-app");
    world.apps(&["one", "nowhere"]);
    refused(&world, &["groups/all.toml:2:", "nowhere"]);
}

#[test]
fn an_image_that_is_not_pinned_is_refused() {
    let world = at_first("bad-pin");
    world.app(
        "one",
        "[services.web]\nimage = \"docker.io/library/nginx:1.27\"\n",
    );
    refused(&world, &["apps/one/app.toml:2:", "nginx"]);
}

#[test]
fn a_template_with_an_undefined_value_is_refused() {
    let world = at_first("bad-template");
    world.app(
        "one",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{{ values.nowhere }}\"\ntemplate = true\n",
    );
    refused(&world, &["apps/one/app.toml:", "nowhere"]);
}

#[test]
fn a_format_from_the_future_and_an_agent_too_old_are_refused() {
    let world = at_first("bad-format");
    world.repo.write(
        "fleet.toml",
        "format = 99\nname = \"test\"\nsomething_new = true\n",
    );
    refused(&world, &["fleet.toml", "99"]);
    let world = at_first("bad-agent");
    world.repo.write(
        "fleet.toml",
        "format = 1\nname = \"test\"\nrequires_agent = \">=99.0\"\n",
    );
    refused(&world, &["fleet.toml", "99"]);
}

#[test]
fn a_repository_without_a_fleet_document_is_refused() {
    let world = at_first("bad-empty");
    world.repo.remove("fleet.toml");
    refused(&world, &["fleet.toml"]);
}

#[test]
fn an_image_that_does_not_exist_changes_nothing_and_is_tried_again() {
    let world = World::with_docker("bad-image");
    let registry = evenkeel_tests::Registry::start();
    world.one_file("right\n");
    world.release_and_sync("First");
    let image = format!("{}/acme/none@sha256:{}", registry.host(), "0".repeat(64));
    world.app(
        "one",
        format!("[services.web]\nimage = \"{image}\"\n[[files]]\npath = \"/etc/one.conf\"\ncontent = \"wrong\"\n{GATE}"),
    );
    world.repo.release("No such image");
    std::fs::write(world.device.path("/etc/one.conf"), "drift").unwrap();
    let said = world.device.sync().expect_code(1);
    assert!(said.text().contains("acme/none"), "{}", said.text());
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n"),
        "waiting for an image must not stop healing, nor let the release in by halves"
    );
    assert_eq!(world.containers(), 0);
}

#[test]
fn an_engine_that_is_down_changes_nothing() {
    let world = at_first("bad-engine");
    world.app(
        "one",
        format!(
            "[services.web]\nimage = \"sha256:{}\"\n[[files]]\npath = \"/etc/one.conf\"\ncontent = \"wrong\"\n{GATE}",
            "0".repeat(64)
        ),
    );
    let before = world.root_listing();
    world.repo.release("Needs an engine");
    let said = world.device.sync().expect_code(1);
    assert!(said.text().contains("no-engine.sock"), "{}", said.text());
    assert_eq!(world.root_listing(), before);
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        run(
            Command::new("mount")
                .args([
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("mode=0700,size={size}"),
                    "small",
                ])
                .arg(&at),
            PATIENCE,
        )
        .expect_code(0);
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills a file system but for about `left` bytes.
fn fill(dir: &std::path::Path, left: u64) {
    let free = || -> u64 {
        let said = run(
            Command::new("df").args(["--output=avail", "-B1"]).arg(dir),
            PATIENCE,
        )
        .expect_code(0);
        said.stdout.lines().last().unwrap().trim().parse().unwrap()
    };
    let filler = vec![0_u8; usize::try_from(free().saturating_sub(left)).unwrap()];
    std::fs::write(dir.join("filler"), filler).unwrap();
    assert!(free() <= left + 8192, "{} bytes are free", free());
}

#[test]
fn a_full_disk_changes_nothing_until_there_is_room() {
    let world = World::of_files("bad-disk");
    let disk = SmallDisk::mount(world.device.path("/small"), "16m");
    let app = |content: &str| {
        format!(
            "[[files]]\npath = \"/etc/b\"\ncontent = \"{content}\"\n[[files]]\npath = \"/small/a\"\nsource = \"big\"\n{QUICK}"
        )
    };
    world.apps(&["one"]).app("one", app("right"));
    world.repo.write("apps/one/big", "x".repeat(512 * 1024));
    world.release_and_sync("First");
    fill(&disk.0, 128 * 1024);
    world.app("one", app("new"));
    world.repo.write("apps/one/big", "y".repeat(512 * 1024));
    world.repo.release("Needs room");
    let before = world.root_listing();
    let said = world.device.sync().expect_code(1);
    assert!(said.text().contains("/small/a"), "{}", said.text());
    assert_eq!(
        world.root_listing(),
        before,
        "something was changed or left behind"
    );

    std::fs::remove_file(disk.0.join("filler")).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/b").as_deref(), Some("new"));
}

#[test]
fn a_full_state_directory_changes_nothing_until_there_is_room() {
    let world = World::of_files("bad-state-disk");
    let disk = SmallDisk::mount(world.device.state_dir(), "24m");
    world.one_file("right\n");
    world.release_and_sync("First");
    fill(&disk.0, 256 * 1024);
    world.app(
        "one",
        format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = \"new\\n\"\n[[files]]\npath = \"/etc/big\"\nsource = \"big\"\n{QUICK}"),
    );
    // Bytes that no compression makes small.
    let mut state = 1_u32;
    let big: String = (0..1024 * 1024)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'0' + u8::try_from((state >> 24) % 64).unwrap())
        })
        .collect();
    world.repo.write("apps/one/big", big);
    world.repo.release("No room to remember it");
    let said = world.device.sync().expect_code(1);
    assert!(!said.text().contains("panicked"), "{}", said.text());
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
    assert_eq!(world.device.read("/etc/big"), None);
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("new\n"));
}

#[test]
fn key_files_that_cannot_be_read_are_named() {
    let mut world = World::of_files("bad-keys");
    world.one_file("x");
    world.repo.release("First");
    let absent = world.device.scratch().join("absent");
    let good = world.device.settings.allowed_signers.clone();
    world.device.settings.allowed_signers.clone_from(&absent);
    let said = world.device.sync().expect_code(2);
    assert!(said.text().contains("absent"), "{}", said.text());

    world.device.settings.allowed_signers = good;
    world.device.settings.url = "ssh://git@127.0.0.1:1/fleet.git".to_owned();
    let said = world.device.sync().expect_code(2);
    assert!(
        said.text().contains("source.known_hosts"),
        "{}",
        said.text()
    );
    for key in ["token_file", "ca_file", "ssh_key"] {
        world.device.settings.url = match key {
            "ssh_key" => "ssh://git@127.0.0.1:1/fleet.git".to_owned(),
            _ => "https://127.0.0.1:1/fleet.git".to_owned(),
        };
        world.device.settings.source = vec![format!("{key} = {absent:?}")];
        if key == "ssh_key" {
            let known_hosts = world.device.scratch().join("known_hosts");
            std::fs::write(&known_hosts, "127.0.0.1 ssh-ed25519 AAAA\n").unwrap();
            world
                .device
                .settings
                .source
                .push(format!("known_hosts = {known_hosts:?}"));
        }
        let said = world.device.sync();
        assert!(matches!(said.code, Some(1 | 2)), "{key}: {:?}", said.code);
        assert!(said.text().contains("absent"), "{key}: {}", said.text());
    }
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn an_allowed_signers_file_without_a_key_is_no_trust_at_all() {
    let world = World::of_files("bad-no-signers");
    world.one_file("x");
    world.repo.release("First");
    std::fs::write(&world.device.settings.allowed_signers, "# nobody\n").unwrap();
    world.device.sync().expect_code(2);
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn a_bad_agent_toml_names_its_place() {
    let mut world = World::of_files("bad-agent-toml");
    let good = world.device.config_text();
    for (bad, word) in [
        (good.replace("interval =", "intervall ="), "intervall"),
        (good.replace("[source]", "[source"), "agent.toml:"),
        (
            good.replace("interval = \"1s\"", "interval = \"soon\""),
            "soon",
        ),
        (good.replace("url = \"file:", "url = \"gopher:"), "gopher"),
        (
            good.replace(
                "[trust]\nallowed_signers",
                "[trust]\nfloor = \"whatever\"\nallowed_signers",
            ),
            "whatever",
        ),
    ] {
        assert_ne!(bad, good, "{word}: nothing was replaced");
        world.device.write_config_by_hand(&bad);
        for verb in ["sync", "run", "status"] {
            let said = world.device.evenkeel(&[verb]).expect_code(2);
            assert!(said.text().contains(word), "{verb} {word}: {}", said.text());
            assert!(
                said.text().contains("agent.toml"),
                "{verb} {word}: {}",
                said.text()
            );
        }
    }
    assert!(!world.device.state_dir().join("journal").exists());
}

#[test]
fn a_state_directory_that_is_not_ours_is_left_alone() {
    let world = World::of_files("bad-state");
    world.one_file("x");
    world.repo.release("First");
    std::fs::create_dir(world.device.state_dir()).unwrap();
    std::fs::write(world.device.state_dir().join("thesis.tex"), "years of work").unwrap();
    let said = world.device.sync();
    assert!(
        matches!(said.code, Some(1 | 2)),
        "{:?} {}",
        said.code,
        said.text()
    );
    assert!(said.text().contains("state"), "{}", said.text());
    let left: Vec<_> = std::fs::read_dir(world.device.state_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["thesis.tex"]);
    assert_eq!(world.device.read("/etc/one.conf"), None);
}

#[test]
fn a_second_agent_on_one_state_directory_refuses() {
    let world = World::of_files("bad-second");
    world.one_file("x");
    world.repo.release("First");
    let mut first = world.device.spawn_daemon();
    evenkeel_tests::wait_for("the first agent to converge", || {
        world.device.read("/etc/one.conf")
    });
    let said = world.device.evenkeel(&["run"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
    assert!(
        said.text().contains("state"),
        "it does not say what is taken: {}",
        said.text()
    );
    assert!(first.runs(), "the first agent was disturbed");
}

#[test]
fn a_renamed_device_holds() {
    let mut world = at_first("bad-renamed");
    world.device.settings.id = "another-name".to_owned();
    world.one_file("wrong\n");
    world.repo.release("Second");
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("another-name"), "{}", said.text());
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}

#[test]
fn servers_that_answer_nonsense_are_an_error_that_is_tried_again() {
    for (index, fault) in [
        Fault::Html,
        Fault::Status(500),
        Fault::Status(404),
        Fault::Close,
        Fault::CutOff,
        Fault::EndlessPktLines,
    ]
    .into_iter()
    .enumerate()
    {
        let mut world = at_first(&format!("bad-server-{index}"));
        let server = FaultServer::start(fault.clone());
        world.device.settings.url = server.url();
        let begun = std::time::Instant::now();
        let said = world.device.sync();
        assert_eq!(said.code, Some(1), "{fault:?}: {}", said.text());
        assert!(
            !said.text().contains("panicked"),
            "{fault:?}: {}",
            said.text()
        );
        assert!(
            said.text().contains(&server.port().to_string()),
            "{fault:?} does not name the remote: {}",
            said.text()
        );
        assert!(
            begun.elapsed().as_secs() < 120,
            "{fault:?}: it took {:?}",
            begun.elapsed()
        );
        assert!(
            server.sent() < 300 << 20,
            "{fault:?}: {} bytes were read",
            server.sent()
        );
        assert_eq!(
            world.device.read("/etc/one.conf").as_deref(),
            Some("right\n")
        );
    }
}

#[test]
fn a_branch_that_is_not_there_is_named() {
    let mut world = at_first("bad-branch");
    world.device.settings.branch = "nowhere".to_owned();
    let said = world.device.sync();
    assert!(
        matches!(said.code, Some(1 | 3)),
        "{:?} {}",
        said.code,
        said.text()
    );
    assert!(said.text().contains("nowhere"), "{}", said.text());
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("right\n")
    );
}
