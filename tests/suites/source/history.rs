//! The history behind a tip: what lies above the floor, from stores that servers filled.

use std::collections::BTreeSet;

use super::*;

/// What git itself says lies above `floor`.
fn above(repo: &FleetRepo, tip: &str, floor: Option<&str>) -> BTreeSet<String> {
    let mut arguments = vec!["rev-list".to_owned(), tip.to_owned()];
    arguments.extend(floor.map(|floor| format!("^{floor}")));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = repo.git(&arguments);
    done.stdout.lines().map(str::to_owned).collect()
}

fn range(history: &RawHistory) -> BTreeSet<String> {
    history
        .commits
        .keys()
        .filter(|id| !history.settled.contains(*id))
        .map(ToString::to_string)
        .collect()
}

/// The history, with as much more of it fetched as it takes; and how often the remote was asked for more.
fn whole(bench: &Bench, tip: &str, floor: Option<&str>) -> (RawHistory, usize) {
    for asked in 0..8 {
        let history = bench.history(tip, floor);
        if history.cut != Some(HistoryCut::Shallow) || bench.deepen().unwrap() == Deepened::Nothing
        {
            return (history, asked);
        }
    }
    panic!("the history does not get any deeper");
}

fn empty_commits(repo: &FleetRepo, count: usize, name: &str) {
    for at in 0..count {
        let message = format!("{name} {at}");
        repo.git(&["commit", "-q", "--allow-empty", "-m", &message]);
    }
}

/// A long line; a branch that left it early and comes back in after the floor; the floor and the tip.
fn forked(length: usize) -> (FleetRepo, String, String) {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "x");
    repo.release("first");
    empty_commits(&repo, 5, "early");
    repo.git(&["branch", "side"]);
    empty_commits(&repo, length, "main");
    repo.write("trust/allowed_signers", "a set");
    let floor = repo.release("floor");
    repo.git(&["checkout", "-q", "side"]);
    empty_commits(&repo, 3, "side");
    repo.git(&["checkout", "-q", "main"]);
    repo.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    repo.write("trust/allowed_signers", "another set");
    let tip = repo.release("tip");
    (repo, floor, tip)
}

#[test]
fn a_fresh_store_gets_all_that_lies_above_the_floor_and_no_more_than_it_takes() {
    let (repo, floor, tip) = forked(60);
    let server = GitHttp::http(repo.served());
    let ssh = GitSsh::start(&repo.bare());
    let mut by_ssh = section(ssh.url());
    by_ssh.ssh_key = Some(ssh.user_key());
    by_ssh.known_hosts = Some(ssh.known_hosts());
    for section in [section(server.url()), section(repo.file_url()), by_ssh] {
        let bench = Bench::new(&section);
        bench.fetch(Some(&floor)).unwrap();
        let (history, _) = whole(&bench, &tip, Some(&floor));
        assert_eq!(history.cut, None);
        assert_eq!(range(&history), above(&repo, &tip, Some(&floor)));
        assert!(history.settled.contains(&id(&floor)));
        let sets: BTreeSet<&[u8]> = history
            .sets
            .values()
            .filter_map(|set| set.allowed_signers.as_deref())
            .collect();
        assert_eq!(
            sets,
            [b"a set".as_slice(), b"another set".as_slice()].into()
        );
        fsck(&bench.store());
        // Known now: no network.
        let before = listing(bench.state.path());
        let (again, asked) = whole(&bench, &tip, Some(&floor));
        assert_eq!((again, asked), (history, 0));
        assert_eq!(listing(bench.state.path()), before);
    }
}

#[test]
fn without_a_floor_all_there_is_comes_in_steps() {
    let (repo, _, tip) = forked(120);
    let server = GitHttp::http(repo.served());
    for section in [section(server.url()), section(repo.file_url())] {
        let bench = Bench::new(&section);
        bench.fetch(None).unwrap();
        let thin = bench.history(&tip, None);
        assert_eq!(
            (thin.commits.len(), thin.cut),
            (1, Some(HistoryCut::Shallow))
        );
        let (history, asked) = whole(&bench, &tip, None);
        assert_eq!(history.cut, None);
        assert!((2..=4).contains(&asked), "{asked}");
        assert_eq!(range(&history), above(&repo, &tip, None));
        assert_eq!(bench.deepen().unwrap(), Deepened::Nothing);
        fsck(&bench.store());
    }
}

#[test]
fn a_remote_that_is_shallow_itself_is_asked_for_more_only_until_the_branch_moves() {
    let (repo, commits) = fleet();
    let url = repo.file_url();
    repo.git(&["clone", "-q", "--bare", "--depth", "1", &url, "../thin.git"]);
    let server = GitHttp::http(repo.served());
    let bench = Bench::new(&section(server.url_of("thin.git")));
    bench.fetch(None).unwrap();
    assert_eq!(bench.deepen().unwrap(), Deepened::Nothing);
    let asked = server.requests().len();
    for _ in 0..3 {
        assert_eq!(bench.deepen().unwrap(), Deepened::Nothing);
    }
    assert_eq!(server.requests().len(), asked);
    let history = bench.history(&commits[2], Some(&commits[0]));
    assert_eq!(history.cut, Some(HistoryCut::Shallow));
    assert_eq!(range(&history), [commits[2].clone()].into());
}

#[test]
fn a_remote_that_is_away_is_an_error_and_asked_again() {
    let (repo, commits) = fleet();
    let server = GitHttp::http(repo.served());
    let bench = Bench::new(&section(server.url()));
    bench.fetch(None).unwrap();
    std::fs::rename(repo.bare(), repo.served().join("away.git")).unwrap();
    assert!(is_remote(&bench.deepen().unwrap_err()));
    std::fs::rename(repo.served().join("away.git"), repo.bare()).unwrap();
    assert_eq!(bench.deepen().unwrap(), Deepened::More);
    let history = bench.history(&commits[2], Some(&commits[0]));
    assert_eq!(history.cut, None);
    assert_eq!(range(&history), commits[1..].iter().cloned().collect());
}

#[test]
fn more_than_the_cap_is_not_taken_and_not_asked_for() {
    let (repo, floor, tip) = forked(10);
    let bench = Bench::with_limits(
        &section(repo.file_url()),
        Limits {
            history_commits: 3,
            ..Limits::default()
        },
    );
    bench.fetch(Some(&floor)).unwrap();
    let (history, _) = whole(&bench, &tip, Some(&floor));
    assert!(matches!(history.cut, Some(HistoryCut::TooLong(_))));
    assert_eq!(range(&history).len(), 3);
}

#[test]
fn compaction_and_a_clone_after_damage_keep_all_that_lies_above_the_floor() {
    let (repo, floor, mut tip) = forked(60);
    let server = GitHttp::http(repo.served());
    let limits = Limits {
        packs: 4,
        ..Limits::default()
    };
    let bench = Bench::with_limits(&section(server.url()), limits);
    bench.fetch(Some(&floor)).unwrap();
    let (history, _) = whole(&bench, &tip, Some(&floor));
    assert_eq!(history.cut, None);
    let mut fewest = usize::MAX;
    for round in 0..8 {
        if round % 3 == 1 {
            let from = format!("side~{}", round / 3);
            repo.git(&["checkout", "-q", "-b", &format!("late{round}"), &from]);
            empty_commits(&repo, 25, "late");
            repo.git(&["checkout", "-q", "main"]);
            let branch = format!("late{round}");
            repo.git(&["merge", "-q", "--no-ff", "-m", "merge", &branch]);
        }
        repo.write("apps/web/app.toml", format!("round {round}"));
        tip = repo.release("next");
        bench.fetch(Some(&floor)).unwrap();
        let packs = listing(&bench.store().join("objects/pack"))
            .into_keys()
            .filter(|path| path.extension().is_some_and(|ext| ext == "pack"))
            .count();
        fewest = fewest.min(packs);
        let history = bench.history(&tip, Some(&floor));
        assert_eq!(
            range(&history),
            above(&repo, &tip, Some(&floor)),
            "round {round}, {packs} packs"
        );
        fsck(&bench.store());
    }
    assert_eq!(fewest, 1, "it was never compacted");
    for pack in listing(&bench.store().join("objects/pack")).into_keys() {
        std::fs::remove_file(pack).unwrap();
    }
    bench.local_tip(None).unwrap_err();
    bench.fetch(Some(&floor)).unwrap();
    let (history, _) = whole(&bench, &tip, Some(&floor));
    assert_eq!(history.cut, None);
    assert_eq!(range(&history), above(&repo, &tip, Some(&floor)));
}
