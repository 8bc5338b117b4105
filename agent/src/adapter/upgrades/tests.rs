#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Mutex;
use std::time::Duration;

use evenkeel_schema::agent_release::{Binary, Place};

use super::*;
use crate::port::upgrades::Piece;

fn text(version: &str) -> Vec<u8> {
    format!("#!/bin/sh\necho 'evenkeel {version}'\n").into_bytes()
}

fn release(version: &str, bytes: &[u8]) -> Release {
    use sha2::{Digest as _, Sha256};
    let sum = Sha256::digest(bytes);
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    Release {
        version: version.parse().unwrap(),
        binary: Binary {
            place: Place::Url("x".to_owned()),
            sha256: sum.parse().unwrap(),
        },
    }
}

/// Serves these bytes, `most` at a time, and breaks off after that.
fn server(bytes: Vec<u8>, most: usize, asked: Arc<Mutex<Vec<u64>>>) -> Arc<Download> {
    Arc::new(move |_, from, _, sink| {
        asked.lock().unwrap().push(from);
        let total = bytes.len() as u64;
        sink(Piece::Begins {
            at: from,
            total: Some(total),
        })?;
        let rest = &bytes[usize::try_from(from).unwrap()..];
        sink(Piece::Bytes(&rest[..rest.len().min(most)]))?;
        if rest.len() > most {
            return Err("the connection broke".into());
        }
        Ok(())
    })
}

fn nothing() -> Arc<Download> {
    Arc::new(|_, _, _, _| Err("no network".into()))
}

/// The agent that was started as this generation.
fn agent(dir: &Path, generation: Option<&Generation>, download: Arc<Download>) -> Generations {
    let started = Started {
        generation: generation.map(ToString::to_string),
        dir: Some(dir.join(NAME)),
    };
    Generations::new(dir, &started, "0.1.0", download)
}

/// Fetches to the end; why it failed.
fn fetch(agent: &Generations, release: &Release, from: From) -> Option<String> {
    agent.fetch(release, from);
    loop {
        match agent.fetching() {
            Fetching::Underway(_) => std::thread::sleep(Duration::from_millis(5)),
            Fetching::Nothing => return None,
            Fetching::Failed { why, .. } => return Some(why),
        }
    }
}

fn staged(dir: &Path, version: &str) -> Generation {
    let agent = agent(dir, None, nothing());
    let release = release(version, &text(version));
    assert_eq!(fetch(&agent, &release, From::Bytes(text(version))), None);
    release.generation()
}

fn strike(dir: &Path, generation: &Generation, marks: &[&str]) {
    for mark in marks {
        std::fs::write(dir.join(NAME).join(generation.as_str()).join(mark), "").unwrap();
    }
}

#[test]
fn a_download_that_breaks_off_is_resumed_and_staged_once_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let bytes = text("0.2.0");
    let release = release("0.2.0", &bytes);
    let most = bytes.len() / 2;
    for expected in [Some("the connection broke"), None] {
        // Another process each time: what is known of it is on disk.
        let agent = agent(
            dir.path(),
            None,
            server(bytes.clone(), most, Arc::clone(&asked)),
        );
        let why = fetch(&agent, &release, From::Url("x".to_owned()));
        assert_eq!(why.as_deref(), expected);
        assert_eq!(agent.is_staged(&release.generation()), expected.is_none());
    }
    assert_eq!(*asked.lock().unwrap(), [0, most as u64]);
    let left: Vec<_> = std::fs::read_dir(dir.path().join(NAME)).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_is_whole_already_is_not_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = text("0.2.0");
    let release = release("0.2.0", &bytes);
    let part = format!("{}{}", release.generation(), fetch::PART);
    std::fs::create_dir(dir.path().join(NAME)).unwrap();
    std::fs::write(dir.path().join(NAME).join(part), &bytes).unwrap();
    let agent = agent(dir.path(), None, nothing());
    assert_eq!(fetch(&agent, &release, From::Url("x".to_owned())), None);
    assert!(agent.is_staged(&release.generation()));
}

#[test]
fn wrong_bytes_are_thrown_away_and_what_cannot_be_run_is_not_staged() {
    let dir = tempfile::tempdir().unwrap();
    let agent = agent(dir.path(), None, nothing());
    let right = release("0.2.0", &text("0.2.0"));
    let why = fetch(&agent, &right, From::Bytes(b"wrong".to_vec())).unwrap();
    assert!(why.contains("is not what is declared"), "{why}");
    let other = release("0.3.0", &text("0.2.0"));
    let why = fetch(&agent, &other, From::Bytes(text("0.2.0"))).unwrap();
    assert!(why.contains("`evenkeel 0.2.0`"), "{why}");
    let junk = b"\x7fELF junk".to_vec();
    let why = fetch(&agent, &release("0.3.0", &junk), From::Bytes(junk)).unwrap();
    assert!(why.contains("cannot be run here"), "{why}");
    let most = usize::try_from(fetch::MOST).unwrap();
    let large = vec![0; most + 1];
    let why = fetch(&agent, &right, From::Bytes(large)).unwrap();
    assert!(why.contains("larger than"), "{why}");
}

#[test]
fn a_switch_is_a_link_and_a_proof_is_its_new_name() {
    let dir = tempfile::tempdir().unwrap();
    let old = staged(dir.path(), "0.2.0");
    let new = staged(dir.path(), "0.3.0");
    let link = |name| agent(dir.path(), None, nothing()).link(name);
    let commit: CommitId = "a".repeat(40).parse().unwrap();
    for (generation, previous) in [(&old, None), (&new, Some(&old))] {
        strike(dir.path(), generation, &["strike-1", "late"]);
        let before = agent(dir.path(), None, nothing());
        before.switch(generation, Some(&commit)).unwrap();
        assert_eq!(
            before.next().unwrap().starts,
            NextStarts::Left,
            "what was counted before does not count"
        );
        let after = agent(dir.path(), Some(generation), nothing());
        assert_eq!(after.running().version, generation.version());
        assert_eq!(after.accepted().as_deref(), Some(commit.as_str()));
        strike(dir.path(), generation, &["strike-1"]);
        after.prove().unwrap();
        assert_eq!(
            (after.next(), link(CURRENT)),
            (None, Some(generation.clone()))
        );
        assert_eq!(link(PREVIOUS).as_ref(), previous);
        assert!(!after.has(generation, "strike-1"));
    }
    // A third one is nobody's.
    let third = staged(dir.path(), "0.4.0");
    let agent = agent(dir.path(), Some(&new), nothing());
    agent.sweep(Some(&third));
    assert!([&old, &new, &third].iter().all(|one| agent.is_staged(one)));
    agent.sweep(None);
    assert!(!agent.is_staged(&third) && agent.is_staged(&old));
}

#[test]
fn a_damaged_generation_is_not_switched_to_but_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let generation = staged(dir.path(), "0.2.0");
    let agent = agent(dir.path(), None, nothing());
    let binary = agent.home(&generation).join(BINARY);
    std::fs::write(&binary, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(agent.switch(&generation, None).is_err());
    assert_eq!((agent.next(), agent.is_staged(&generation)), (None, false));
}

#[test]
fn what_did_not_stay_is_refused_or_forgiven_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let generation = staged(dir.path(), "0.2.0");
    let again = || agent(dir.path(), None, nothing());
    again().switch(&generation, None).unwrap();
    strike(dir.path(), &generation, &["strike-1", "strike-2"]);
    assert_eq!(again().next().unwrap().starts, NextStarts::Left);
    let next = again().next().unwrap();
    again().forgive(&next).unwrap();
    assert_eq!(again().next(), None);
    again().switch(&generation, None).unwrap();
    assert_eq!(again().next().unwrap().starts, NextStarts::LeftAgain);
    strike(
        dir.path(),
        &generation,
        &["strike-1", "strike-2", "strike-3"],
    );
    let next = again().next().unwrap();
    assert_eq!(next.starts, NextStarts::Spent);
    again().refuse(&next, "it ended").unwrap();
    assert_eq!(again().refused(), Some((generation, "it ended".to_owned())));
    assert_eq!(again().next(), None);
    again().forget_refused().unwrap();
    assert_eq!(again().refused(), None);
}

#[test]
fn a_stop_by_hand_takes_back_one_start_of_what_is_on_trial_alone() {
    let dir = tempfile::tempdir().unwrap();
    let generation = staged(dir.path(), "0.2.0");
    agent(dir.path(), None, nothing())
        .switch(&generation, None)
        .unwrap();
    strike(dir.path(), &generation, &["strike-1", "strike-2"]);
    agent(dir.path(), None, nothing()).give_back();
    let agent = agent(dir.path(), Some(&generation), nothing());
    assert!(agent.has(&generation, "strike-2"));
    agent.give_back();
    assert!(!agent.has(&generation, "strike-2") && agent.has(&generation, "strike-1"));
}

#[test]
fn with_the_package_in_charge_no_link_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let generation = staged(dir.path(), "0.2.0");
    for name in [NEXT, PREVIOUS, CURRENT] {
        symlink(generation.as_str(), dir.path().join(NAME).join(name)).unwrap();
    }
    let agent = agent(dir.path(), Some(&generation), nothing());
    agent.hand_back().unwrap();
    for name in [NEXT, PREVIOUS, CURRENT] {
        assert_eq!(agent.link(name), None);
    }
}

#[test]
fn an_agent_that_nobody_would_put_back_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Generations::new(dir.path(), &Started::default(), "0.1.0", nothing());
    assert!(
        agent
            .starter()
            .unwrap_err()
            .contains("/usr/lib/evenkeel/start")
    );
    let elsewhere = Started {
        generation: None,
        dir: Some(PathBuf::from("/var/lib/elsewhere/agent")),
    };
    let agent = Generations::new(dir.path(), &elsewhere, "0.1.0", nothing());
    assert!(agent.starter().unwrap_err().contains("state_dir"));
}
