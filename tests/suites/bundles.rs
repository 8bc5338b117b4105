//! A revision with its images, carried by hand: no registry, no remote, no clock; and a receipt back.

use std::path::{Path, PathBuf};
use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::{PATIENCE, Registry};
use serde_json::Value;

use crate::fleet::{GATE, World};

fn runs(image: &str) -> String {
    format!(
        "[services.web]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\n{GATE}"
    )
}

/// An image that the engine does not have, in the registry.
fn pushed(world: &World, registry: &Registry, marker: &str) -> String {
    let marker = format!("{}-{marker}", world.device.settings.id);
    let image = world.engine().busybox_image(&marker, &[]);
    let pinned = registry.push(world.engine(), &image, "acme/app");
    if world.engine().image(&image).is_some() {
        world.engine().remove_image(&image);
    }
    pinned
}

fn bundle(world: &World, stick: &Path) -> Output {
    let mut command = Command::new(binary());
    command
        .args(["bundle", "--json", "--branch", "main", "--repo"])
        .arg(world.repo.work())
        .arg("--out")
        .arg(stick);
    run(&mut command, PATIENCE)
}

fn bundled(world: &World, stick: &Path) -> Value {
    serde_json::from_str(&bundle(world, stick).expect_code(0).stdout).unwrap()
}

fn sync_from(world: &World, stick: &Path) -> Output {
    let stick = stick.to_str().unwrap();
    run(
        &mut world.device.command(&["sync", "--from", stick]),
        PATIENCE,
    )
}

/// The largest blob of a layout: a layer.
fn layer(stick: &Path) -> PathBuf {
    let blobs = std::fs::read_dir(stick.join("blobs/sha256")).unwrap();
    let blobs = blobs.map(|blob| blob.unwrap().path());
    blobs
        .max_by_key(|path| std::fs::metadata(path).unwrap().len())
        .unwrap()
}

fn has_content(world: &World, service: &str, marker: &str) -> bool {
    let id = world.container_id(service);
    let (code, said) = world.engine().exec(&id, &["cat", "/etc/marker"]);
    code == 0 && said.contains(marker)
}

#[test]
fn docker_takes_a_bundle_with_no_registry_and_no_remote_and_gives_a_receipt() {
    carried(&World::with_docker("bundle"));
}

#[test]
fn podman_takes_a_bundle_with_no_registry_and_no_remote_and_gives_a_receipt() {
    carried(&World::with_podman("bundle-podman"));
}

fn carried(world: &World) {
    let id = &world.device.settings.id;
    let stick = world.device.scratch().join("stick");
    let mut registry = Registry::start();
    let document = world.device.evenkeel(&["enroll"]).expect_code(0).stdout;
    world.repo.write(&format!("devices/{id}.toml"), document);
    let one = pushed(world, &registry, "one");
    world.apps(&["one"]).app("one", runs(&one));
    world.repo.release("One");
    let said = bundled(world, &stick);
    assert_eq!(
        said["images"]["carried"],
        serde_json::json!([one]),
        "{said:#}"
    );

    // Nothing but the stick is there.
    registry.stop();
    let away = world.device.scratch().join("away");
    std::fs::rename(world.repo.bare(), &away).unwrap();
    assert!(world.engine().image(&one).is_none());
    let said = sync_from(world, &stick).expect_code(0).stdout;
    assert!(said.contains("receipt: "), "{said}");
    assert!(has_content(world, "web", &format!("{id}-one")));
    let first = world.container_id("web");
    let mut verify = Command::new(binary());
    verify
        .args(["report", "verify", "--json", "--repo"])
        .arg(world.repo.work())
        .arg(stick.join("receipts"));
    let said = run(&mut verify, PATIENCE).expect_code(0).stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said[0]["report"]["revision"]["applied"],
        world.repo.head().as_str()
    );
    // The same stick again: nothing moves, and what was carried is known to be the image that is pinned.
    sync_from(world, &stick).expect_code(0);
    assert_eq!(world.container_id("web"), first);

    // The next bundle has what is new; the stick loses what is old.
    registry.resume();
    std::fs::rename(&away, world.repo.bare()).unwrap();
    let before = layer(&stick);
    let again = bundled(world, &stick);
    assert_eq!(again["images"]["written"]["blobs"], 0, "{again:#}");
    let two = pushed(world, &registry, "two");
    world.app("one", runs(&two));
    world.repo.release("Two");
    let said = bundled(world, &stick);
    assert_eq!(
        said["images"]["carried"],
        serde_json::json!([two]),
        "{said:#}"
    );
    assert!(!before.exists(), "what nobody needs is still on the stick");

    // One bit of a layer is wrong: one error that names the file, and nothing moves.
    registry.stop();
    let layer = layer(&stick);
    let whole = std::fs::read(&layer).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let name = layer.file_name().unwrap().to_str().unwrap().to_owned();
    for bad in [Some(&damaged[..]), Some(&whole[..middle]), None] {
        match bad {
            Some(bytes) => std::fs::write(&layer, bytes).unwrap(),
            None => std::fs::remove_file(&layer).unwrap(),
        }
        let refused = sync_from(world, &stick);
        let said = refused.stdout.clone() + &refused.stderr;
        refused.expect_code(1);
        assert!(said.contains(&format!("blobs/sha256/{name}")), "{said}");
        assert!(world.engine().image(&two).is_none());
        assert_eq!(world.container_id("web"), first, "{said}");
    }
    // A registry within reach serves instead; and so does a stick that was mended.
    std::fs::write(&layer, &whole).unwrap();
    sync_from(world, &stick).expect_code(0);
    assert!(has_content(world, "web", &format!("{id}-two")));
    world.device.evenkeel(&["status"]).expect_code(0);
}

#[test]
fn docker_asks_the_registry_where_what_was_carried_is_damaged() {
    let world = World::with_docker("bundle-damaged");
    let stick = world.device.scratch().join("stick");
    let registry = Registry::start();
    let image = pushed(&world, &registry, "one");
    world.apps(&["one"]).app("one", runs(&image));
    world.repo.release("One");
    bundled(&world, &stick);
    std::fs::write(layer(&stick), "rubbish").unwrap();
    let said = sync_from(&world, &stick).expect_code(0).stderr;
    assert!(said.contains("blobs/sha256/"), "{said}");
    assert!(has_content(&world, "web", "bundle-damaged-one"));
    // `publish --images` makes the same of it, for any web server; without the option no image is touched.
    let tree = world.device.scratch().join("tree");
    let publish = |more: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args(["publish", "--json", "--branch", "main", "--repo"])
            .arg(world.repo.work())
            .arg("--out")
            .arg(&tree)
            .args(more);
        run(&mut command, PATIENCE)
    };
    publish(&[]).expect_code(0);
    assert!(!tree.join("blobs").exists());
    publish(&["--images", "--platform", "linux/s390x"]).expect_code(0);
    let names = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir.join("blobs/sha256"))
            .unwrap()
            .map(|blob| blob.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&tree), names(&stick));
    publish(&["--platform", "linux/amd64"]).expect_code(2);
}

#[test]
fn a_running_daemon_takes_a_stick_and_one_that_cannot_be_written_is_said() {
    let world = World::of_files("bundle-daemon");
    let device = &world.device;
    let document = device.evenkeel(&["enroll"]).expect_code(0).stdout;
    world.repo.write("devices/bundle-daemon.toml", document);
    world.one_file("1\n");
    let one = world.repo.release("One");
    let daemon = device.spawn_daemon();
    device.wait_until_good(&one);

    let stick = device.scratch().join("stick");
    let mounted = evenkeel_tests::mounted::Mounted::memory(&stick);
    world.one_file("2\n");
    world.repo.commit_signed("Two");
    bundled(&world, &stick);
    let said = sync_from(&world, &stick).expect_code(0).stdout;
    assert_eq!(device.read("/etc/one.conf").unwrap(), "2\n");
    let receipt = stick.join("receipts/bundle-daemon.report");
    assert!(said.contains("receipt: ") && receipt.is_file(), "{said}");

    // What is not signed by whom the device trusts is refused, and the stick is told that, too.
    world.one_file("3\n");
    world.repo.commit_unsigned("Three");
    bundled(&world, &stick);
    sync_from(&world, &stick).expect_code(3);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "2\n");

    // Full, then read-only: the device converges, and says that there is no receipt.
    world.repo.reset_to("HEAD^");
    std::fs::remove_file(stick.join("heads/main.json")).unwrap();
    let options = |options: &str| {
        let mut remount = Command::new("mount");
        remount.args(["-o", options]).arg(&stick);
        run(&mut remount, PATIENCE).expect_code(0);
    };
    let filler = stick.join("filler");
    let fill = || {
        options("remount,size=4m");
        // Until nothing fits any more.
        let mut zeros = std::fs::File::open("/dev/zero").unwrap();
        let mut file = std::fs::File::create(&filler).unwrap();
        std::io::copy(&mut zeros, &mut file).unwrap_err();
    };
    for is_full in [true, false] {
        let content = format!("4 {is_full}\n");
        world.one_file(&content);
        world.repo.commit_signed("More");
        bundled(&world, &stick);
        let before = std::fs::read(&receipt).unwrap();
        if is_full {
            fill();
        } else {
            options("remount,ro");
        }
        let said = sync_from(&world, &stick).expect_code(0).stdout;
        assert!(said.contains("no receipt could be written"), "{said}");
        assert_eq!(device.read("/etc/one.conf").unwrap(), content);
        assert_eq!(std::fs::read(&receipt).unwrap(), before);
        options("remount,rw");
        let _ = std::fs::remove_file(&filler);
    }
    // A stick without room takes no bundle, and shows what it showed.
    let head = stick.join("heads/main.json");
    let before = std::fs::read(&head).unwrap();
    world.one_file("6\n");
    world.repo.commit_signed("Six");
    fill();
    let said = bundle(&world, &stick);
    assert_eq!(said.code, Some(1), "{}", said.text());
    assert_eq!(std::fs::read(&head).unwrap(), before);
    std::fs::remove_file(&filler).unwrap();
    bundled(&world, &stick);
    sync_from(&world, &stick).expect_code(0);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "6\n");
    daemon.stop();
    drop(mounted);
}

#[test]
fn a_bundle_names_what_it_cannot_carry_and_asks_nobody_for_it() {
    let world = World::of_files("bundle-odd");
    let stick = world.device.scratch().join("stick");
    let id = format!("sha256:{}", "a".repeat(64));
    world.apps(&["one"]).app("one", runs(&id));
    world.repo.release("One");
    let said = bundled(&world, &stick);
    assert_eq!(said["images"]["missing"], serde_json::json!([id]));
    for (arguments, code) in [
        (vec!["--device", "nobody"], 2),
        (vec!["--layout", "/nowhere"], 2),
        (vec!["--platform", "linux"], 2),
        (vec!["--branch", "nothing"], 2),
    ] {
        let mut command = Command::new(binary());
        command.args(["bundle", "--repo"]).arg(world.repo.work());
        command.arg("--out").arg(&stick).args(&arguments);
        run(&mut command, PATIENCE).expect_code(code);
    }
    // A registry that is not there is one error, and the stick shows what it showed.
    let head = std::fs::read(stick.join("heads/main.json")).unwrap();
    let image = format!("127.0.0.1:1/acme/app@sha256:{}", "b".repeat(64));
    world.app("one", runs(&image));
    world.repo.release("Two");
    let said = bundle(&world, &stick);
    assert_eq!(said.code, Some(1), "{}", said.text());
    assert!(said.stderr.contains("127.0.0.1:1"), "{}", said.stderr);
    assert_eq!(std::fs::read(stick.join("heads/main.json")).unwrap(), head);
}
