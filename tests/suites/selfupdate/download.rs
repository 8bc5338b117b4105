//! Downloads of an agent that break off, over HTTPS, with a server that knows ranges.

use evenkeel_tests::link::{How, Link, Way};
use evenkeel_tests::wait_for;

use super::scene_whole::{Fleet, SLOW};

/// What was asked of the server for an agent: the status of each answer, and how much of it was sent.
fn asked(fleet: &Fleet) -> Vec<(u16, u64)> {
    let lines = fleet.server.requests();
    let asked = lines.iter().filter(|line| line.contains("/slow/"));
    asked
        .map(|line| {
            let mut columns = line.split(' ').skip(2);
            let mut number = || columns.next().unwrap().parse::<u64>().unwrap();
            (u16::try_from(number()).unwrap(), number())
        })
        .collect()
}

#[test]
fn a_download_that_is_cut_by_the_network_and_then_by_a_kill_goes_on_where_it_was() {
    let fleet = Fleet::new("upgrade-cut");
    fleet.world.repo.release("First");
    let supervised = fleet.supervise();
    let link = Link::to(fleet.server.port());
    link.cut(12 * SLOW as u64, Way::Down, How::Reset);
    let bytes = fleet.release_by(link.port(), "0.2.0", 50);
    fleet.says_why("connection");
    let first = fleet.has("0.2.0", &bytes);
    assert!(first > 4 * SLOW as u64, "cut in the middle: {first}");
    assert_eq!(fleet.told().0, "0.1.0");
    link.mend();
    // It would be tried again after a minute; an agent that starts begins at once.
    supervised.signal_all("KILL");
    let more = first + 10 * SLOW as u64;
    let second = wait_for("it to go on", || {
        let has = fleet.has("0.2.0", &bytes);
        (has >= more).then_some(has)
    });
    supervised.signal_all("KILL");
    fleet.settles_at("0.2.0");

    let asked = asked(&fleet);
    let status: Vec<u16> = asked.iter().map(|(status, _)| *status).collect();
    assert_eq!(status, [200, 206, 206], "{asked:?}");
    let total = bytes.len() as u64;
    assert!(asked[1].1 <= total - first, "{asked:?}");
    assert!(asked[2].1 <= total - second, "{asked:?}");
    assert!(!fleet.part("0.2.0", &bytes).exists());
}

#[test]
fn what_is_there_of_a_download_and_is_not_its_beginning_is_thrown_away() {
    let fleet = Fleet::new("upgrade-junk");
    fleet.world.repo.release("First");
    fleet.world.device.sync().expect_code(0);
    std::fs::create_dir_all(fleet.dir()).unwrap();
    // Longer than the file, and another beginning.
    for (version, length, words) in [
        ("0.2.0", 3 * SLOW, "not longer than what is here already"),
        ("0.3.0", SLOW / 2, "is not what is declared"),
    ] {
        let bytes = fleet.release_by(fleet.server.port(), version, 1);
        std::fs::write(fleet.part(version, &bytes), vec![b'y'; length]).unwrap();
        let supervised = fleet.supervise();
        fleet.says_why(words);
        supervised.signal_all("KILL");
        fleet.settles_at(version);
    }
    let status: Vec<u16> = asked(&fleet).iter().map(|(status, _)| *status).collect();
    assert_eq!(status, [416, 200, 206, 200]);
}
