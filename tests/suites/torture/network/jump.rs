//! Weeks offline, and what the branch has become meanwhile.

use std::fmt::Write as _;
use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::link::{Door, Weather};
use evenkeel_tests::process::run_with_input;
use evenkeel_tests::repo::git_command;
use evenkeel_tests::tally::{Ended, Scale, Tally};

use super::*;

/// So many commits on top of the branch in one go, unsigned, each with a file of its own content.
fn many(fleet: &Fleet, count: u32) {
    let old = fleet.repo.head();
    let begin = fleet.repo.time();
    let mut stream = String::new();
    for number in 0..count {
        let message = format!("commit {number}");
        let content = format!("number {number}\n");
        let when = begin + u64::from(number);
        let _ = write!(
            stream,
            "commit refs/heads/main\ncommitter R <r@example.com> {when} +0000\ndata {}\n{message}\n",
            message.len()
        );
        if number == 0 {
            let _ = writeln!(stream, "from {old}");
        }
        let _ = write!(
            stream,
            "M 100644 inline notes.txt\ndata {}\n{content}\n",
            content.len()
        );
    }
    fleet.repo.set_time(begin + u64::from(count));
    let mut command: Command = git_command();
    command
        .current_dir(fleet.repo.work())
        .args(["fast-import", "--quiet", "--force"]);
    run_with_input(&mut command, stream.as_bytes(), PATIENCE).expect_code(0);
    fleet.repo.git(&["reset", "-q", "--hard", "main"]);
}

fn offline(link: &Link) {
    link.set(Weather {
        door: Door::Reset,
        ..Weather::default()
    });
    link.hang_up();
}

#[test]
fn after_weeks_offline_a_device_jumps_over_thousands_of_commits() {
    let fleet = Fleet::new();
    let mut tally = Tally::new("weeks offline, and a branch that went on");
    let mut devices: Vec<(Device, Link)> = ["keeps its store", "lost its store", "every commit"]
        .iter()
        .enumerate()
        .map(|(number, _)| {
            let link = Link::to(fleet.http.port());
            (fleet.device(&format!("jump-{number}"), link.port()), link)
        })
        .collect();
    devices[2].0.settings.trust = vec!["verify = \"every-commit\"".to_owned()];
    for (device, link) in &devices {
        device.sync().expect_code(0);
        offline(link);
        assert!(device.sync().expect_code(1).text().contains("reset"));
        is_at(device, "old\n").unwrap();
    }
    // The one that checks every commit gets fewer of them, and all signed.
    for number in 0..Scale::asked().of(30, 400) {
        fleet.repo.write("notes.txt", format!("signed {number}\n"));
        fleet.repo.commit_signed(&format!("signed {number}"));
    }
    fleet.release("signed\n");
    devices[2].1.mend();
    let ended = |device: &Device, content: &str| -> Result<Ended, String> {
        let said = device.sync();
        is_at(device, content).map_err(|why| format!("{why}: {}", said.text()))?;
        match said.code {
            Some(0) => Ok(Ended::New),
            code => Err(format!("{code:?}: {}", said.text())),
        }
    };
    tally.count(ended(&devices[2].0, "signed\n"));

    many(&fleet, 5000);
    fleet.release("new\n");
    // It has the floor's three copies and what it runs, but not a commit.
    std::fs::remove_dir_all(devices[1].0.state_dir().join("git")).unwrap();
    for (device, link) in &devices[..2] {
        is_at(device, "old\n").unwrap();
        link.mend();
        tally.count(ended(device, "new\n"));
        let status = device.status_json();
        assert_eq!(
            status["revision"]["tip"], status["revision"]["last_good"],
            "{status:#}"
        );
        let size: u64 = evenkeel_tests::proc::listing(&device.state_dir())
            .values()
            .map(|(length, _)| *length)
            .sum();
        assert!(size < 64 << 20, "{size} bytes of state");
    }
    // Thousands of unsigned commits below a signed tip are not for the one that checks each.
    let said = devices[2].0.sync();
    tally.count(match (said.code, is_at(&devices[2].0, "signed\n")) {
        (Some(3), Ok(())) => Ok(Ended::LastGood),
        (code, at) => Err(format!("{code:?} {at:?}: {}", said.text())),
    });
    tally.close();
}

#[test]
fn a_history_that_was_rewritten_while_the_device_was_away_is_refused_and_honest_work_goes_on() {
    let fleet = Fleet::new();
    let first = fleet.repo.head();
    let good = fleet.release("good\n");
    let link = Link::to(fleet.http.port());
    let device = fleet.device("jump-rewritten", link.port());
    device.sync().expect_code(0);
    offline(&link);
    // From before what the device has: another line, well signed.
    fleet.repo.reset_to(&first);
    for number in 0..20 {
        fleet.repo.write("notes.txt", format!("other {number}\n"));
        fleet.repo.commit_signed("other");
    }
    fleet.write("forged\n");
    fleet.repo.commit_signed("forged");
    fleet.repo.force_push();
    link.mend();
    let mut tally = Tally::new("a history rewritten while the device was away");
    for _ in 0..2 {
        let said = device.sync();
        tally.count(match (said.code, is_at(&device, "good\n")) {
            (Some(3), Ok(())) if said.text().contains("not-descendant") => Ok(Ended::LastGood),
            (code, at) => Err(format!("{code:?} {at:?}: {}", said.text())),
        });
    }
    fleet.repo.reset_to(&good);
    fleet.write("new\n");
    fleet.repo.commit_signed("honest");
    fleet.repo.force_push();
    let said = device.sync();
    tally.count(match (said.code, is_at(&device, "new\n")) {
        (Some(0), Ok(())) => Ok(Ended::New),
        (code, at) => Err(format!("{code:?} {at:?}: {}", said.text())),
    });
    tally.close();
}
