//! A published tree as the remote: made by `evenkeel publish`, served by a real web server, fetched by the git source.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use evenkeel_tests::PATIENCE;
use evenkeel_tests::device::binary;
use evenkeel_tests::ports::Port;
use evenkeel_tests::process::{Server, run};

use super::*;
use crate::torture::disk::Mount;

/// A fleet repository, a tree of it on a web server, and what publishes the one into the other.
pub(super) struct Site {
    pub(super) repo: FleetRepo,
    pub(super) commits: Vec<String>,
    server: GitHttp,
}

impl Site {
    pub(super) fn new() -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"acme\"\n");
        let server = GitHttp::https(repo.served());
        let mut site = Self {
            repo,
            commits: Vec::new(),
            server,
        };
        for text in ["one", "two", "three"] {
            site.commit(text);
        }
        site.publish(&[]);
        site
    }

    /// Many commits, quickly: nobody looks at who signed them.
    pub(super) fn commits(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.repo.write("apps/web/app.toml", &text);
            self.commits.push(self.repo.commit_unsigned(&text));
        }
        self.repo.push();
    }

    pub(super) fn commit(&mut self, text: &str) -> String {
        self.repo.write("apps/web/app.toml", text);
        let commit = self.repo.release(text);
        self.commits.push(commit.clone());
        commit
    }

    pub(super) fn tree(&self) -> PathBuf {
        self.server.files().join("tree")
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["publish", "--branch", "main", "--json", "--repo"])
            .arg(self.repo.work())
            .arg("--out")
            .arg(self.tree());
        command
    }

    pub(super) fn publish(&self, more: &[&str]) -> serde_json::Value {
        let said = run(self.command().args(more), PATIENCE).expect_code(0);
        serde_json::from_str(&said.stdout).unwrap()
    }

    pub(super) fn section(&self) -> SourceSection {
        self.below("files")
    }

    pub(super) fn below(&self, place: &str) -> SourceSection {
        let mut section = section(format!(
            "static+{}",
            self.server.url_of(&format!("{place}/tree/"))
        ));
        section.ca_file = Some(self.server.ca_file());
        section
    }

    pub(super) fn head(&self) -> PathBuf {
        self.tree().join("heads/main.json")
    }

    /// The packs that the head names, with their sizes: the line, and the snapshot.
    pub(super) fn packs(&self) -> (Vec<(String, u64)>, (String, u64)) {
        let head: serde_json::Value =
            serde_json::from_slice(&std::fs::read(self.head()).unwrap()).unwrap();
        let pack = |value: &serde_json::Value| {
            (
                value["sha256"].as_str().unwrap().to_owned(),
                value["size"].as_u64().unwrap(),
            )
        };
        let line = head["line"].as_array().unwrap().iter().map(pack).collect();
        (line, pack(&head["snapshot"]))
    }

    pub(super) fn file(&self, sha256: &str) -> PathBuf {
        self.tree().join(format!("packs/{sha256}.pack"))
    }

    /// What was asked for since the last look: `PATH STATUS` below the tree.
    pub(super) fn asked(&self, seen: &mut usize) -> Vec<String> {
        let all = self.server.requests();
        let fresh = all[*seen..].iter().map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next().unwrap().rsplit("tree/").next().unwrap();
            format!("{path} {}", words.next().unwrap())
        });
        let fresh = fresh.collect();
        *seen = all.len();
        fresh
    }
}

fn noise(bytes: usize) -> Vec<u8> {
    std::iter::successors(Some(1_u64), |x| {
        Some(
            x.wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407),
        )
    })
    .map(|x| (x >> 33) as u8)
    .take(bytes)
    .collect()
}

fn last_pack(site: &Site) -> String {
    site.packs().0.last().unwrap().0.clone()
}

#[test]
fn a_device_begins_with_a_snapshot_polls_in_one_request_and_takes_each_commit_in_one_pack() {
    let mut site = Site::new();
    let bench = Bench::new(&site.section());
    let mut seen = 0;
    let tip = bench.fetch(None).unwrap();
    assert_eq!(tip.id.as_str(), site.commits[2]);
    assert_eq!(tip.descent, Descent::NoFloor);
    assert_eq!(
        bench.read(&tip, &["apps"]).unwrap(),
        BTreeMap::from([("apps/web/app.toml".to_owned(), file("three"))])
    );
    let snapshot = site.packs().1.0;
    assert_eq!(
        site.asked(&mut seen),
        [
            "heads/main.json 200".to_owned(),
            format!("packs/{snapshot}.pack 200")
        ]
    );
    fsck(&bench.store());

    let before = listing(bench.state.path());
    for _ in 0..3 {
        assert_eq!(
            bench.fetch(Some(&site.commits[2])).unwrap().descent,
            Descent::Same
        );
    }
    assert_eq!(site.asked(&mut seen), ["heads/main.json 304"; 3]);
    assert_eq!(
        listing(bench.state.path()),
        before,
        "an idle poll writes nothing"
    );
    // What the server calls the head is known after a restart, too.
    let bench = bench.restart(&site.section());
    bench.fetch(Some(&site.commits[2])).unwrap();
    assert_eq!(site.asked(&mut seen), ["heads/main.json 304"]);
    assert_eq!(listing(bench.state.path()), before);

    let four = site.commit("four");
    let said = site.publish(&[]);
    assert_eq!(said["branches"][0]["written"]["packs"], 1, "{said}");
    let tip = bench.fetch(Some(&site.commits[2])).unwrap();
    assert_eq!(
        (tip.id.as_str(), &tip.descent),
        (four.as_str(), &Descent::Descends)
    );
    assert_eq!(
        site.asked(&mut seen),
        [
            "heads/main.json 200".to_owned(),
            format!("packs/{}.pack 200", last_pack(&site))
        ]
    );
    // A floor that is older than the snapshot: the history behind it is there as well.
    assert_eq!(
        bench.fetch(Some(&site.commits[0])).unwrap().descent,
        Descent::Descends
    );
    assert!(bench.history(&four, Some(&site.commits[0])).cut.is_none());
    fsck(&bench.store());
    assert!(!bench.state.path().join("git.incoming").exists());
}

#[test]
fn an_address_without_a_prefix_is_found_to_be_a_tree_once() {
    let mut site = Site::new();
    let mut section = section(site.server.url_of("files/tree"));
    section.ca_file = Some(site.server.ca_file());
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    let mut seen = 0;
    let asked = site.asked(&mut seen);
    assert!(asked[0].contains("info/refs"), "{asked:?}");
    assert_eq!(asked.len(), 3, "{asked:?}");
    for _ in 0..2 {
        bench.fetch(Some(&site.commits[2])).unwrap();
    }
    assert_eq!(site.asked(&mut seen), ["heads/main.json 304"; 2]);
    let bench = bench.restart(&section);
    let four = site.commit("four");
    site.publish(&[]);
    assert_eq!(
        bench.fetch(Some(&site.commits[2])).unwrap().id.as_str(),
        four
    );
    assert_eq!(site.asked(&mut seen).len(), 2);
    // And a git server is still one.
    std::fs::remove_dir_all(site.tree()).unwrap();
    let (_, text) = refused(bench.fetch(Some(&four)));
    assert!(text.contains("404"), "{text}");
}

#[test]
fn a_folder_on_the_device_may_hold_a_published_tree() {
    let mut site = Site::new();
    let section = section(format!("file://{}", site.tree().display()));
    let bench = Bench::new(&section);
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), site.commits[2]);
    let four = site.commit("four");
    site.publish(&[]);
    let tip = bench.fetch(Some(&site.commits[2])).unwrap();
    assert_eq!(
        (tip.id.as_str(), &tip.descent),
        (four.as_str(), &Descent::Descends)
    );
    let before = listing(bench.state.path());
    bench.fetch(Some(&four)).unwrap();
    assert_eq!(listing(bench.state.path()), before);
    let other = SourceSection {
        branch: "canary".to_owned(),
        ..section
    };
    let error = Bench::new(&other).fetch(None).unwrap_err();
    assert!(matches!(error, SourceError::NoBranch { .. }), "{error}");
    fsck(&bench.store());
    // On a stick there may be anything: a pipe never ends, and a device never has an end.
    site.commit("five");
    site.publish(&[]);
    let head = site.head();
    let pack = site.file(&last_pack(&site));
    for file in [pack, head] {
        std::fs::remove_file(&file).unwrap();
        run(Command::new("mkfifo").arg(&file), PATIENCE).expect_code(0);
        let (error, text) = refused(bench.fetch(Some(&four)));
        assert!(
            is_remote(&error) && text.contains("it is no file"),
            "{text}"
        );
    }
}

#[test]
fn a_pack_that_finds_no_room_is_not_begun_and_a_full_disk_is_left_as_it_was() {
    let mut site = Site::new();
    let bench = Bench::new(&site.section());
    let state = bench.state.path().to_owned();
    let _mount = Mount::tmpfs(&state, "size=12m,mode=0700");
    bench.fetch(None).unwrap();
    // It comes in, and does not fit twice.
    site.repo.write("apps/web/blob", noise(6_500_000));
    let four = site.commit("four");
    site.publish(&[]);
    let mut seen = 0;
    site.asked(&mut seen);
    for _ in 0..2 {
        let (error, text) = refused(bench.fetch(Some(&site.commits[2])));
        assert!(
            matches!(error, SourceError::Store { .. }) && text.contains("the disk is full"),
            "{text}"
        );
        assert!(!state.join("git.incoming").exists());
    }
    assert_eq!(site.asked(&mut seen), ["heads/main.json 200"; 2]);
    run(
        Command::new("mount")
            .args(["-o", "remount,size=32m"])
            .arg(&state),
        PATIENCE,
    )
    .expect_code(0);
    let tip = bench.fetch(Some(&site.commits[2])).unwrap();
    assert_eq!(tip.id.as_str(), four);
    // What is left of a download that nobody needs any more.
    std::fs::create_dir(state.join("git.incoming")).unwrap();
    std::fs::write(state.join("git.incoming").join("0".repeat(64)), "part").unwrap();
    bench.fetch(Some(&four)).unwrap();
    assert!(!state.join("git.incoming").exists());
}

#[test]
fn what_is_cut_off_or_mixed_up_is_refused_and_nothing_of_it_is_kept() {
    let mut site = Site::new();
    let bench = Bench::new(&site.section());
    bench.fetch(None).unwrap();
    let floor = site.commits[2].clone();
    let old_head = std::fs::read(site.head()).unwrap();
    let four = site.commit("four");
    site.publish(&[]);
    let pack = site.file(&last_pack(&site));
    let good = std::fs::read(&pack).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let store = listing(&bench.store());
    let refuses = |what: &str| {
        let (error, text) = refused(bench.fetch(Some(&floor)));
        assert!(is_remote(&error), "{what}: {text}");
        assert!(
            text.contains("packs/") || text.contains("fit together"),
            "{what}: {text}"
        );
        assert_eq!(
            bench.local_tip(None).unwrap().unwrap().id.as_str(),
            floor,
            "{what}"
        );
        assert_eq!(listing(&bench.store()), store, "{what}");
    };
    for (what, bytes) in [
        ("half of it", &good[..good.len() / 2]),
        ("nothing of it", &good[..0]),
        ("one bit", &flipped),
        ("more of it", &[&good[..], b"more"].concat()),
    ] {
        std::fs::write(&pack, bytes).unwrap();
        refuses(what);
    }
    std::fs::remove_file(&pack).unwrap();
    refuses("no file");
    // The head of one publication with the packs of another, each whole by itself.
    let (line, _) = site.packs();
    let other = site.file(&line[0].0);
    let head = std::fs::read_to_string(site.head()).unwrap();
    let (sum, size) = line.last().unwrap();
    let mixed = head.replace(sum, &line[0].0).replace(
        &format!("\"size\":{size}"),
        &format!("\"size\":{}", std::fs::metadata(&other).unwrap().len()),
    );
    std::fs::write(site.head(), mixed).unwrap();
    refuses("a mixed tree");
    for cut in [0, 10, head.len() / 2] {
        std::fs::write(site.head(), &head[..cut]).unwrap();
        let (error, text) = refused(bench.fetch(Some(&floor)));
        assert!(
            is_remote(&error) && text.contains("heads/main.json"),
            "{text}"
        );
        assert_eq!(listing(&bench.store()), store);
    }
    // Put right, it is taken.
    std::fs::write(&pack, good).unwrap();
    std::fs::write(site.head(), &head).unwrap();
    assert_eq!(bench.fetch(Some(&floor)).unwrap().id.as_str(), four);
    // And what is rolled back is told as such to those who judge.
    std::fs::write(site.head(), old_head).unwrap();
    assert_eq!(
        bench.fetch(Some(&four)).unwrap().descent,
        Descent::NotDescendant
    );
    fsck(&bench.store());
}

#[test]
fn a_download_that_broke_off_is_gone_on_with() {
    let mut site = Site::new();
    let bench = Bench::new(&site.below("slow"));
    bench.fetch(None).unwrap();
    // Four seconds' worth that no compression makes less.
    site.repo.write("apps/web/blob", noise(1_600_000));
    let four = site.commit("four");
    site.publish(&[]);
    let (sum, size) = site.packs().0.last().unwrap().clone();
    let part = bench.state.path().join("git.incoming").join(&sum);
    let floor = site.commits[2].clone();
    let is_cut = AtomicBool::new(false);
    let server = &mut site.server;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            evenkeel_tests::wait_for("a part of the pack to arrive", || {
                std::fs::metadata(&part)
                    .is_ok_and(|data| data.len() > 100_000)
                    .then_some(())
            });
            server.stop();
            is_cut.store(true, Ordering::Relaxed);
        });
        let (error, text) = refused(bench.fetch(Some(&floor)));
        assert!(is_remote(&error), "{text}");
    });
    assert!(is_cut.load(Ordering::Relaxed));
    let have = std::fs::metadata(&part).unwrap().len();
    assert!(have > 100_000 && have < size, "{have} of {size}");
    site.server.resume();
    // Another process goes on with it, too.
    let section = site.below("files");
    let bench = bench.restart(&section);
    let before = site.server.requests().len();
    assert_eq!(bench.fetch(Some(&floor)).unwrap().id.as_str(), four);
    let lines = site.server.requests().split_off(before);
    let got = lines.iter().find(|line| line.contains(&sum)).unwrap();
    assert!(got.contains(&format!(" 206 {} ", size - have)), "{lines:?}");
    assert!(!part.exists());
}

#[test]
fn a_web_server_without_etags_and_ranges_will_do() {
    let mut site = Site::new();
    let port = Port::free();
    let log = site.repo.served().join("python.log");
    let _python = Server::start(
        Command::new("python3")
            .args([
                "-u",
                "-m",
                "http.server",
                "--bind",
                "127.0.0.1",
                "--directory",
            ])
            .arg(site.tree())
            .arg(port.number().to_string()),
        &log,
    );
    evenkeel_tests::wait_for("python's web server", || {
        std::net::TcpStream::connect(("127.0.0.1", port.number()))
            .is_ok()
            .then_some(())
    });
    let section = section(format!("static+http://127.0.0.1:{}", port.number()));
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    let before = listing(bench.state.path());
    bench.fetch(Some(&site.commits[2])).unwrap();
    assert_eq!(listing(bench.state.path()), before);
    // Published twice within a second: told apart by a time that a second later than the one before.
    let mut floor = site.commits[2].clone();
    for text in ["four", "five"] {
        let commit = site.commit(text);
        site.publish(&[]);
        let tip = bench.fetch(Some(&floor)).unwrap();
        assert_eq!(
            (tip.id.as_str(), tip.descent),
            (commit.as_str(), Descent::Descends)
        );
        floor = commit;
    }
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .contains("heads/main.json HTTP/1.1\" 304")
    );
}

#[test]
fn devices_at_each_commit_find_their_way_through_merges_and_many_commits() {
    let mut site = Site::new();
    let state: Vec<Bench> = (0..3)
        .map(|_| {
            let bench = Bench::new(&site.section());
            bench.fetch(None).unwrap();
            bench
        })
        .collect();
    let floor = site.commits[2].clone();
    // As promotions do: a branch from before the snapshot, merged, with the tree of the other side.
    site.repo
        .git(&["checkout", "-q", "-b", "canary", &site.commits[0].clone()]);
    site.repo.write("apps/web/app.toml", "of canary");
    site.repo.commit_signed("of canary");
    site.repo.git(&["checkout", "-q", "main"]);
    site.repo.git(&[
        "merge", "-q", "--no-ff", "-X", "theirs", "-m", "merge", "canary",
    ]);
    site.repo.push();
    let merge = site.repo.head();
    site.publish(&[]);
    let tip = state[0].fetch(Some(&floor)).unwrap();
    assert_eq!(
        (tip.id.as_str(), &tip.descent),
        (merge.as_str(), &Descent::Descends)
    );
    fsck(&state[0].store());
    for begin in [0, 8] {
        site.commits((begin..begin + 8).map(|number| format!("number {number}")));
        site.publish(&[]);
    }
    let last = site.commits.last().unwrap().clone();
    for (bench, floor) in [(&state[0], &merge), (&state[1], &floor)] {
        let tip = bench.fetch(Some(floor)).unwrap();
        assert_eq!(
            (tip.id.as_str(), &tip.descent),
            (last.as_str(), &Descent::Descends)
        );
        // What joined from before the snapshot is fetched where somebody asks for it.
        while bench.history(&last, Some(floor)).cut.is_some() {
            assert_eq!(bench.deepen().unwrap(), Deepened::More);
        }
        fsck(&bench.store());
    }
    // Once more than forty have a pack each, the older ones become one.
    for begin in [16, 32] {
        site.commits((begin..begin + 16).map(|number| format!("number {number}")));
        site.publish(&[]);
    }
    let (line, _) = site.packs();
    assert!(line.len() <= 40, "{}", line.len());
    let last = site.commits.last().unwrap().clone();
    for (bench, floor) in [(&state[1], &site.commits[18]), (&state[2], &floor)] {
        let tip = bench.fetch(Some(floor)).unwrap();
        assert_eq!(
            (tip.id.as_str(), &tip.descent),
            (last.as_str(), &Descent::Descends)
        );
        fsck(&bench.store());
    }
    let fresh = Bench::new(&site.section());
    assert_eq!(
        fresh.fetch(Some(&site.commits[0])).unwrap().descent,
        Descent::Descends
    );
    fsck(&fresh.store());
}
