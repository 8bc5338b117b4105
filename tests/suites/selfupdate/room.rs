//! An update of the agent on a disk that is really full, at each of its steps.

use std::path::PathBuf;

use evenkeel_tests::wait_for;

use super::scene::sha256;
use super::scene_whole::{Does, Fleet, SLOW};
use crate::torture::disk::Mount;

/// A fleet whose device keeps its state on a small disk of its own.
fn with_a_disk(id: &str, mib: u64) -> (Fleet, Mount) {
    let fleet = Fleet::new(id);
    let state = fleet.world.device.state_dir();
    let mount = Mount::tmpfs(&state, &format!("size={mib}m,mode=0700"));
    fleet.world.repo.release("First");
    (fleet, mount)
}

#[test]
fn an_agent_for_which_there_is_no_room_is_left_where_it_is_and_comes_once_there_is_some() {
    let (fleet, mount) = with_a_disk("upgrade-full", 16);
    let supervised = fleet.supervise();
    fleet.converges_to("2\n");
    // Before it is begun: its own room, and some for the device's own files.
    let filler = mount.fill(5000);
    let bytes = fleet.release_by(fleet.server.port(), "0.2.0", 40);
    fleet.says_why("the disk is full");
    assert_eq!(fleet.has("0.2.0", &bytes), 0);
    fleet.converges_to("3\n");
    std::fs::remove_file(&filler).unwrap();

    // In the middle of it: what there is of it goes, for the room.
    let bytes = fleet.release_by(fleet.server.port(), "0.2.1", 60);
    let middle = 10 * SLOW as u64;
    wait_for("the middle of the download", || {
        (fleet.has("0.2.1", &bytes) > middle).then_some(())
    });
    mount.fill(40);
    fleet.says_why("full");
    assert!(!fleet.part("0.2.1", &bytes).exists());
    assert_eq!(
        (fleet.told().0.as_str(), fleet.link("next")),
        ("0.1.0", None)
    );
    assert_eq!(
        fleet.world.device.read("/etc/one.conf").as_deref(),
        Some("3\n")
    );
    std::fs::remove_file(&filler).unwrap();
    // Tried again after a minute, or by an agent that starts.
    supervised.signal_all("KILL");
    fleet.settles_at("0.2.1");
    fleet.converges_to("4\n");
}

/// A new agent before whose answer (`--version`) or start (`run`) somebody takes all room, once.
fn release_that_fills(fleet: &Fleet, version: &str, when: &str) -> PathBuf {
    let filler = fleet.world.device.state_dir().join("somebody-elses");
    let was = fleet
        .world
        .device
        .scratch()
        .join(format!("filled-{version}"));
    let its = fleet.binary(version, Does::Its);
    let fills = format!(
        "if [ \"$1\" = {when} ] && [ ! -e {was} ]; then\n    : >{was}\n    dd if=/dev/zero of={} bs=1M count=64 2>/dev/null\nfi\n",
        filler.display(),
        was = was.display()
    );
    let text = its.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{fills}"), 1);
    fleet.serve(version, text.as_bytes());
    let url = format!(
        "url = {:?}",
        fleet.server.url_of(&format!("files/{version}"))
    );
    fleet.declare(&Fleet::agent(version, &url, &sha256(text.as_bytes())));
    filler
}

#[test]
fn a_disk_that_fills_up_as_an_agent_is_tried_out_is_not_taken_for_a_fault_of_its_binary() {
    let (fleet, mount) = with_a_disk("upgrade-stage", 16);
    let supervised = fleet.supervise();
    fleet.converges_to("2\n");
    let filler = release_that_fills(&fleet, "0.2.0", "--version");
    fleet.says_why("the disk is full");
    assert_eq!(mount.free() / 1024, 0, "no MiB is left");
    assert_eq!(
        (fleet.told().0.as_str(), fleet.link("next")),
        ("0.1.0", None)
    );
    std::fs::remove_file(filler).unwrap();
    supervised.signal_all("KILL");
    fleet.settles_at("0.2.0");
}

#[test]
fn an_agent_whose_disk_fills_up_as_it_starts_proves_itself_all_the_same() {
    let (mut fleet, mount) = with_a_disk("upgrade-trial", 16);
    fleet.deadline = 30;
    let supervised = fleet.supervise();
    fleet.converges_to("2\n");
    let filler = release_that_fills(&fleet, "0.2.0", "run");
    fleet.settles_at("0.2.0");
    assert_eq!(mount.free() / 1024, 0, "no MiB is left");
    let log = supervised.log();
    assert_eq!(log.matches("is on trial").count(), 1, "{log}");
    // What it cannot take waits for room.
    fleet.world.one_file("3\n");
    let third = fleet.world.repo.release("Another text");
    wait_for("the full disk to be told", || {
        let status = fleet.status()?;
        let is_told = status.to_string().contains("DiskFull");
        (status["revision"]["tip"] == third.as_str() && is_told).then_some(())
    });
    std::fs::remove_file(&filler).unwrap();
    wait_for("the app to follow", || {
        (fleet.world.device.read("/etc/one.conf").as_deref() == Some("3\n")).then_some(())
    });
}
