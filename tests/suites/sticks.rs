//! A revision carried by hand: a published tree on a stick, a device without a network, and its signed receipt.

use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::device::binary;
use evenkeel_tests::process::run;

use crate::fleet::World;

#[test]
fn a_stick_is_verified_like_a_remote_and_carries_a_receipt_home() {
    let world = World::of_files("stick-1");
    let device = &world.device;
    let stick = device.scratch().join("stick");
    let publish = || {
        let mut command = Command::new(binary());
        command
            .args(["publish", "--branch", "main", "--repo"])
            .arg(world.repo.work())
            .arg("--out")
            .arg(&stick);
        run(&mut command, PATIENCE).expect_code(0);
    };
    let place = |dir: &std::path::Path| dir.to_str().unwrap().to_owned();
    let sync = || {
        run(
            &mut device.command(&["sync", "--from", &place(&stick)]),
            PATIENCE,
        )
    };
    world.one_file("1\n");
    world.repo.release("One");
    publish();
    // Nothing but the stick is there.
    std::fs::rename(world.repo.bare(), device.scratch().join("away")).unwrap();
    sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "1\n");

    // What is not signed by whom the device trusts is refused, whatever carries it.
    std::fs::rename(device.scratch().join("away"), world.repo.bare()).unwrap();
    world.one_file("2\n");
    world.repo.commit_unsigned("Two");
    publish();
    sync().expect_code(3);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "1\n");

    // A receipt, for who has the repository to judge.
    let document = device.evenkeel(&["enroll"]).expect_code(0).stdout;
    world.repo.reset_to("HEAD^");
    world.one_file("3\n");
    world.repo.write("devices/stick-1.toml", document);
    let three = world.repo.commit_signed("Three");
    std::fs::remove_dir_all(&stick).unwrap();
    publish();
    sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "3\n");
    let receipts = stick.join("receipts");
    std::fs::create_dir(&receipts).unwrap();
    device
        .evenkeel(&["report", "--dir", &place(&receipts)])
        .expect_code(0);
    let mut verify = Command::new(binary());
    verify
        .args(["report", "verify", "--json", "--repo"])
        .arg(world.repo.work())
        .arg(&receipts);
    let said = run(&mut verify, PATIENCE).expect_code(0).stdout;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        said[0]["report"]["revision"]["applied"],
        three.as_str(),
        "{said:#}"
    );

    // Rubbish, half a stick and none at all: one error each, and nothing changes.
    for entry in std::fs::read_dir(stick.join("packs")).unwrap() {
        std::fs::write(entry.unwrap().path(), "rubbish").unwrap();
    }
    sync().expect_code(0);
    world.one_file("4\n");
    world.repo.commit_signed("Four");
    std::fs::remove_dir_all(&stick).unwrap();
    publish();
    for entry in std::fs::read_dir(stick.join("packs")).unwrap() {
        std::fs::write(entry.unwrap().path(), "rubbish").unwrap();
    }
    let said = sync().expect_code(1);
    assert!(said.stderr.contains("packs/"), "{}", said.stderr);
    std::fs::remove_dir_all(&stick).unwrap();
    let said = sync().expect_code(2);
    assert!(said.stderr.contains("published tree"), "{}", said.stderr);
    assert_eq!(device.read("/etc/one.conf").unwrap(), "3\n");
}
