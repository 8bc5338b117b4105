//! A small fleet on this machine, with the loop, both servers and the scenes of `tests/fleet.sh`: what that plays with a
//! thousand devices holds with some. In two halves, which run beside each other.
#![allow(
    clippy::print_stdout,
    reason = "what a play has shown is shown where it fails"
)]

use std::time::Duration;

use evenkeel_tests::simulation::{Options, Scene, play};

fn fleet(scenes: &[Scene]) {
    let table = play(&Options {
        devices: 24,
        trial: Duration::from_secs(1),
        shortest: Duration::from_secs(1),
        scenes,
        told: |row| println!("{row}"),
    });
    assert!(!table.rows.is_empty(), "nothing was played");
}

#[test]
fn a_fleet_takes_promotions_and_waves_and_stops_a_bad_revision_at_its_canaries() {
    fleet(&[Scene::Promotion, Scene::BadRevision, Scene::Waves]);
}

#[test]
fn a_fleet_that_was_cut_off_returns_and_overruns_no_server() {
    fleet(&[Scene::Idle, Scene::HalfCutOff, Scene::Outage]);
}
