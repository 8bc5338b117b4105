//! The store: idle polls, growth, damage, the floor's ref.

use super::*;

#[test]
fn an_idle_poll_takes_two_requests_writes_nothing_and_leaves_nothing_behind() {
    let (repo, commits) = fleet();
    let server = GitHttp::http(repo.served());
    let bench = Bench::new(&section(server.url()));
    bench.fetch(None).unwrap();
    for _ in 0..3 {
        bench.fetch(Some(&commits[2])).unwrap();
    }
    let (before, requests) = (listing(bench.state.path()), server.requests().len());
    for _ in 0..20 {
        assert_eq!(
            bench.fetch(Some(&commits[2])).unwrap().descent,
            Descent::Same
        );
    }
    assert_eq!(listing(bench.state.path()), before);
    assert_eq!(server.requests().len() - requests, 40);
}

#[test]
fn two_hundred_updates_keep_the_store_and_the_process_small() {
    let (repo, commits) = fleet();
    let server = GitHttp::http(repo.served());
    let bench = Bench::new(&section(server.url()));
    let mut tip = bench.fetch(None).unwrap().id.to_string();
    bench
        .source
        .set_floor_ref(&Floor {
            generation: 1,
            commit: id(&commits[2]),
            time: Timestamp(5),
        })
        .unwrap();
    for round in 0..200 {
        // The floor stays behind for ten commits at a time.
        let floor = if round % 10 == 0 {
            tip.clone()
        } else {
            commits[2].clone()
        };
        repo.write("apps/web/app.toml", format!("round {round}"));
        tip = repo.release("next");
        let seen = bench.fetch(Some(&floor)).unwrap();
        assert_eq!(
            (seen.id.as_str(), &seen.descent),
            (tip.as_str(), &Descent::Descends),
            "round {round}"
        );
    }
    let packs = std::fs::read_dir(bench.store().join("objects/pack"))
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|ext| ext == "pack")
        })
        .count();
    assert!(packs <= 25, "{packs} packs");
    fsck(&bench.store());
    assert_eq!(
        bench.source.floor_ref().unwrap().unwrap().commit.as_str(),
        commits[2]
    );
    assert!(!bench.state.path().join("git.new").exists());
    assert!(!bench.state.path().join("git.old").exists());
}

#[test]
#[ignore = "counts the whole process's threads and descriptors: run alone, by the test below"]
fn polls_and_updates_counted_alone() {
    let (repo, _) = fleet();
    let http = GitHttp::http(repo.served());
    let ssh = GitSsh::start(&repo.bare());
    let mut by_ssh = section(ssh.url());
    by_ssh.ssh_key = Some(ssh.user_key());
    by_ssh.known_hosts = Some(ssh.known_hosts());
    for section in [section(http.url()), section(repo.file_url()), by_ssh] {
        let bench = Bench::new(&section);
        let mut floor = bench.fetch(None).unwrap().id.to_string();
        bench.fetch(Some(&floor)).unwrap();
        let before = (count_in("/proc/self/fd"), count_in("/proc/self/task"));
        for round in 0..5 {
            for _ in 0..4 {
                bench.fetch(Some(&floor)).unwrap();
            }
            repo.write("apps/web/app.toml", format!("round {round}"));
            floor = repo.release("next");
            bench.fetch(Some(&floor)).unwrap();
        }
        // A pool's second thread may live on for ten idle seconds.
        evenkeel_tests::wait_for("no more descriptors and threads than before", || {
            (count_in("/proc/self/fd") <= before.0 && count_in("/proc/self/task") <= before.1)
                .then_some(())
        });
    }
}

#[test]
fn polls_and_updates_leave_no_thread_and_no_descriptor() {
    let done = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "source::store::polls_and_updates_counted_alone"])
        .args(["--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn the_floor_is_kept_as_a_ref_and_only_where_its_commit_is() {
    let (repo, commits) = fleet();
    let bench = Bench::new(&section(repo.file_url()));
    assert_eq!(bench.source.floor_ref().unwrap(), None);
    bench.fetch(None).unwrap();
    let floor = |generation, commit: &str, time| Floor {
        generation,
        commit: id(commit),
        time: Timestamp(time),
    };
    let first = floor(1, &commits[2], 1000);
    bench.source.set_floor_ref(&first).unwrap();
    assert_eq!(bench.source.floor_ref().unwrap(), Some(first.clone()));
    let error = bench
        .source
        .set_floor_ref(&floor(2, &"9".repeat(40), 1001))
        .unwrap_err();
    assert!(matches!(error, SourceError::Store { .. }), "{error}");
    assert_eq!(bench.source.floor_ref().unwrap(), Some(first));
    for (generation, time) in [(2, 900), (2, 1200), (10, -5)] {
        let next = floor(generation, &commits[2], time);
        bench.source.set_floor_ref(&next).unwrap();
        assert_eq!(bench.source.floor_ref().unwrap(), Some(next));
    }
    let refs: Vec<_> = listing(&bench.store().join("refs/evenkeel/floor"))
        .into_keys()
        .filter(|path| path.is_file())
        .collect();
    assert_eq!(refs.len(), 1, "{refs:?}");
    bench.fetch(Some(&commits[2])).unwrap();
}

/// Ways in which a power cut or a bad card leaves a store.
type Damage = (&'static str, fn(&Path));

fn damages() -> Vec<Damage> {
    fn packs(store: &Path, ext: &str) -> Vec<PathBuf> {
        listing(&store.join("objects/pack"))
            .into_keys()
            .filter(|path| path.extension().is_some_and(|found| found == ext))
            .collect()
    }
    fn tip(store: &Path) -> PathBuf {
        store.join("refs/evenkeel/tip/main")
    }
    fn writable(path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    vec![
        ("an empty ref", |store| {
            std::fs::write(tip(store), "").unwrap()
        }),
        ("a ref to nothing", |store| {
            std::fs::write(tip(store), format!("{}\n", "8".repeat(40))).unwrap()
        }),
        ("empty packs", |store| {
            for pack in packs(store, "pack") {
                writable(&pack);
                std::fs::write(pack, "").unwrap();
            }
        }),
        ("empty indices", |store| {
            for pack in packs(store, "idx") {
                writable(&pack);
                std::fs::write(pack, "").unwrap();
            }
        }),
        ("no packs", |store| {
            for pack in packs(store, "pack") {
                std::fs::remove_file(pack).unwrap();
            }
        }),
        ("flipped bytes", |store| {
            for pack in packs(store, "pack") {
                writable(&pack);
                let mut bytes = std::fs::read(&pack).unwrap();
                let end = bytes.len() - 20;
                for byte in &mut bytes[12..end] {
                    *byte ^= 0x55;
                }
                std::fs::write(pack, bytes).unwrap();
            }
        }),
        ("no HEAD", |store| {
            std::fs::remove_file(store.join("HEAD")).unwrap()
        }),
        ("a damaged config", |store| {
            std::fs::write(store.join("config"), "[[[").unwrap()
        }),
        ("a file in its place", |store| {
            std::fs::remove_dir_all(store).unwrap();
            std::fs::write(store, "").unwrap();
        }),
        ("nothing", |store| std::fs::remove_dir_all(store).unwrap()),
    ]
}

#[test]
fn a_damaged_store_is_an_error_without_the_network_and_is_cloned_anew_with_it() {
    let (repo, commits) = fleet();
    let mut server = GitHttp::http(repo.served());
    for (name, damage) in damages() {
        let section = section(server.url());
        let bench = Bench::new(&section);
        let tip = bench.fetch(None).unwrap();
        bench
            .source
            .set_floor_ref(&Floor {
                generation: 3,
                commit: id(&commits[2]),
                time: Timestamp(7),
            })
            .unwrap();
        damage(&bench.store());
        let bench = bench.restart(&section);
        match bench.local_tip(Some(&commits[2])) {
            Err(error) => assert!(
                matches!(error, SourceError::Store { .. }),
                "{name}: {error}"
            ),
            // What is fixed text is put right in its place.
            Ok(Some(seen)) => assert!(
                ["no HEAD", "a damaged config"].contains(&name) && seen.id == tip.id,
                "{name}: {seen:?}"
            ),
            Ok(None) => assert_eq!(name, "nothing"),
        }
        server.stop();
        let (error, text) = refused(bench.fetch(Some(&commits[2])));
        assert!(is_remote(&error), "{name}: {text}");
        server.resume();
        let again = bench.fetch(Some(&commits[2])).unwrap();
        assert_eq!(
            (again.id.clone(), &again.descent),
            (tip.id, &Descent::Same),
            "{name}"
        );
        assert_eq!(bench.read(&again, &["apps"]).unwrap().len(), 1, "{name}");
        assert_eq!(
            bench.local_tip(Some(&commits[2])).unwrap().unwrap().descent,
            Descent::Same
        );
        fsck(&bench.store());
        assert!(!bench.state.path().join("git.new").exists(), "{name}");
    }
}

#[test]
fn damage_found_while_reading_is_mended_by_the_next_fetch() {
    let (repo, commits) = fleet();
    let bench = Bench::new(&section(repo.file_url()));
    bench.fetch(None).unwrap();
    repo.write("apps/web/other.toml", "x".repeat(10_000));
    repo.release("four");
    let tip = bench.fetch(Some(&commits[2])).unwrap();
    // The newest pack holds the new file; its last object is a blob.
    let pack = listing(&bench.store().join("objects/pack"))
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|ext| ext == "pack"))
        .max_by_key(|(_, (_, time))| *time)
        .unwrap()
        .0;
    let mut bytes = std::fs::read(&pack).unwrap();
    let place = bytes.len() - 26;
    bytes[place] ^= 0xff;
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    std::fs::write(&pack, bytes).unwrap();
    let error = bench.read(&tip, &["apps"]).unwrap_err();
    assert!(matches!(error, SourceError::Store { .. }), "{error}");
    let tip = bench.fetch(Some(&commits[2])).unwrap();
    assert_eq!(tip.descent, Descent::Descends);
    assert_eq!(bench.read(&tip, &["apps"]).unwrap().len(), 2);
}

#[test]
fn a_new_store_without_the_floor_is_not_put_in_place() {
    let (repo, commits) = fleet();
    let section = section(repo.file_url());
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    std::fs::remove_dir_all(bench.store().join("objects/pack")).unwrap();
    // The branch is rewound and the floor is gone from the server too.
    repo.rewind(&commits[0]);
    repo.bare_git(&["reflog", "expire", "--expire=now", "--all"]);
    repo.bare_git(&["gc", "-q", "--prune=now"]);
    let bench = bench.restart(&section);
    assert_eq!(
        bench.fetch(Some(&commits[2])).unwrap().descent,
        Descent::NotDescendant
    );
    assert!(bench.local_tip(None).is_err());
    // An honest commit on top of the floor mends it.
    repo.reset_to(&commits[2])
        .write("apps/web/app.toml", "four");
    repo.commit_signed("four");
    repo.force_push();
    assert_eq!(
        bench.fetch(Some(&commits[2])).unwrap().descent,
        Descent::Descends
    );
    assert_eq!(
        bench.local_tip(Some(&commits[2])).unwrap().unwrap().descent,
        Descent::Descends
    );
}

#[test]
fn what_a_killed_fetch_left_is_swept_at_start() {
    let (repo, commits) = fleet();
    let section = section(repo.file_url());
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    let junk = [
        "objects/pack/.tmpA1b2",
        "objects/pack/tmp_copy_1",
        "shallow.lock",
        "refs/evenkeel/tip/main.lock",
        "objects/pack/pack-12.pack",
    ];
    for name in junk {
        std::fs::write(bench.store().join(name), "junk").unwrap();
    }
    let bench = bench.restart(&section);
    assert_eq!(
        bench.fetch(Some(&commits[2])).unwrap().descent,
        Descent::Same
    );
    for name in junk {
        assert!(!bench.store().join(name).exists(), "{name}");
    }
}
