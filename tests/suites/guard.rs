//! The owner's limits on a real device: links on the disk, and a guard that becomes tighter.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::fleet::{GATE, QUICK, World};

fn status(world: &World) -> Value {
    let said = world.device.evenkeel(&["status", "--json"]);
    serde_json::from_str(&said.stdout).unwrap()
}

fn stalled(world: &World) -> (String, String) {
    let status = status(world);
    let all = status["conditions"].as_array().unwrap();
    let one = all.iter().find(|one| one["type"] == "Stalled").unwrap();
    assert_eq!(one["status"], "True", "{one}");
    let text = |key: &str| one[key].as_str().unwrap().to_owned();
    (text("reason"), text("message"))
}

#[test]
fn a_path_through_a_link_is_judged_where_it_leads() {
    let mut world = World::of_files("guard-link");
    world.device.settings.guard = vec!["paths = [\"/srv/app\"]".to_owned()];
    std::fs::create_dir_all(world.device.path("/srv/private")).unwrap();
    symlink("private", world.device.path("/srv/app")).unwrap();
    world.apps(&["one"]).app(
        "one",
        format!("[[files]]\npath = \"/srv/app/x\"\ncontent = \"x\"\n{QUICK}"),
    );
    world.repo.release("Through a link");
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("/srv/private/x"), "{}", said.text());
    assert_eq!(world.device.read("/srv/private/x"), None);
    // The link is gone: the path is what it says.
    std::fs::remove_file(world.device.path("/srv/app")).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/srv/app/x").as_deref(), Some("x"));
}

#[test]
fn a_mounts_source_is_judged_where_it_leads_before_anything_moves() {
    let mut world = World::of_files("guard-mount");
    let root = world.device.root();
    std::fs::create_dir_all(root.join("etc/ssh")).unwrap();
    std::fs::create_dir_all(root.join("srv")).unwrap();
    let source = root.join("srv/data");
    let image = format!("registry.example.com/x@sha256:{}", "a".repeat(64));
    world.apps(&["one"]).app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"x\"\n[services.web]\nimage = \"{image}\"\n\
             volumes = [\"/srv/data/x:/data\"]\n{QUICK}"
        ),
    );
    world.repo.release("With a mount");
    let outside = world.device.scratch().join("outside");
    for (target, why) in [
        ("../etc/ssh", "/etc/ssh"),
        ("../etc", "is protected"),
        (outside.to_str().unwrap(), "leads"),
        ("/proc/self/root/etc/ssh", "/proc/self"),
        ("data", "too many symlinks"),
    ] {
        symlink(target, &source).unwrap();
        let name = if target == "../etc" { "ssh" } else { "x" };
        world.repo.write(
            "apps/one/app.toml",
            format!(
                "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"x\"\n[services.web]\nimage = \"{image}\"\n\
                 volumes = [\"/srv/data/{name}:/data\"]\n{QUICK}"
            ),
        );
        world.repo.release(target);
        let said = world.device.sync().expect_code(3);
        assert!(said.text().contains(why), "{target}: {}", said.text());
        assert!(said.text().contains("service/one/web"), "{}", said.text());
        assert_eq!(world.device.read("/etc/one.conf"), None, "{target}");
        std::fs::remove_file(&source).unwrap();
    }
    // Without a link nothing is in the way but the engine, which this device has not.
    world.device.settings.guard = Vec::new();
    world.device.sync().expect_code(1);
}

#[test]
fn files_that_a_tightened_guard_excludes_are_not_written_again() {
    let mut world = World::of_files("guard-files");
    world.apps(&["one"]).app(
        "one",
        format!(
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"one\"\n\
             [[files]]\npath = \"/srv/two.conf\"\ncontent = \"two\"\n{QUICK}"
        ),
    );
    world.release_and_sync("First");
    world.device.settings.guard = vec!["paths = [\"/srv\"]".to_owned()];
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("/etc/one.conf"), "{}", said.text());
    for file in ["/etc/one.conf", "/srv/two.conf"] {
        std::fs::write(world.device.path(file), "by hand").unwrap();
    }
    world.device.sync().expect_code(3);
    assert_eq!(
        world.device.read("/etc/one.conf").as_deref(),
        Some("by hand")
    );
    assert_eq!(world.device.read("/srv/two.conf").as_deref(), Some("two"));
    let (reason, message) = stalled(&world);
    assert_eq!(reason, "guard");
    assert!(message.contains("/etc/one.conf"), "{message}");
    let drift = status(&world)["drift"].to_string();
    assert!(
        drift.contains("/etc/one.conf") && !drift.contains("two.conf"),
        "{drift}"
    );
    // The owner allows it again: it is healed.
    world.device.settings.guard = Vec::new();
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("one"));
    world.assert_converged();
}

#[test]
fn a_container_that_a_tightened_guard_excludes_runs_on_and_is_never_made_again() {
    let mut world = World::with_docker("guard-tight");
    world.device.settings.guard = vec!["privileged = true".to_owned()];
    world.apps(&["one"]).app(
        "one",
        world.sleeper("web", "cap_add = [\"NET_ADMIN\"]\nrestart = \"always\"\n")
            + &world.sleeper("side", "restart = \"always\"\n")
            + GATE,
    );
    world.release_and_sync("First");
    let web = world.container("web");
    world.device.settings.guard = Vec::new();
    let said = world.device.sync().expect_code(3);
    assert!(said.text().contains("cap_add"), "{}", said.text());
    let now = world.container("web");
    assert_eq!(now["Id"], web["Id"]);
    assert_eq!(now["State"]["StartedAt"], web["State"]["StartedAt"]);
    assert_eq!(now["State"]["Running"], true);

    world.engine().remove(&world.container_id("web"));
    world.engine().remove(&world.container_id("side"));
    world.device.sync().expect_code(3);
    assert_eq!(world.container("side")["State"]["Running"], true);
    assert_eq!(world.containers(), 1);
    assert!(status(&world)["drift"].to_string().contains("web"));
    assert_eq!(stalled(&world).0, "guard");

    // A release that fits is taken.
    world.app(
        "one",
        world.sleeper("web", "restart = \"always\"\n")
            + &world.sleeper("side", "restart = \"always\"\n")
            + GATE,
    );
    world.release_and_sync("Without it");
    assert_eq!(world.containers(), 2);
    world.assert_converged();
}
