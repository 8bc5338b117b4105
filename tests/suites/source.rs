//! The git source: every transport against the real server, descent, damage, and servers that misbehave.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel::adapter::git::{GitSource, Limits};
use evenkeel::domain::commit::{Descent, RawCommit};
use evenkeel::domain::history::Floor;
use evenkeel::domain::revision::{CommitId, Timestamp, TreeId};
use evenkeel::domain::tree::Document;
use evenkeel::port::source::{Source, SourceError};
use evenkeel_schema::agent_config::SourceSection;
use evenkeel_tests::faults::{Fault, FaultServer};
use evenkeel_tests::git_http::{Access, GitHttp, HttpOptions};
use evenkeel_tests::{FleetRepo, GitSsh, short_tempdir};
use tempfile::TempDir;

fn section(url: impl Into<String>) -> SourceSection {
    SourceSection {
        urls: vec![url.into()],
        branch: "main".to_owned(),
        interval: Duration::from_secs(60),
        token_file: None,
        ssh_key: None,
        known_hosts: None,
        client_cert: None,
        client_key: None,
        ca_file: None,
    }
}

/// A source with a store of its own, and the runtime that the agent has.
struct Bench {
    state: TempDir,
    runtime: tokio::runtime::Runtime,
    source: GitSource,
}

impl Bench {
    fn new(section: &SourceSection) -> Self {
        Self::with_limits(section, Limits::default())
    }

    fn with_limits(section: &SourceSection, limits: Limits) -> Self {
        let state = short_tempdir("git");
        let source = GitSource::with_limits(section, state.path().join("git"), limits).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            state,
            runtime,
            source,
        }
    }

    /// The same store after a restart, perhaps with other settings.
    fn restart(self, section: &SourceSection) -> Self {
        self.restart_with(section, Limits::default())
    }

    fn restart_with(self, section: &SourceSection, limits: Limits) -> Self {
        let Self { state, runtime, .. } = self;
        let source = GitSource::with_limits(section, state.path().join("git"), limits).unwrap();
        Self {
            state,
            runtime,
            source,
        }
    }

    fn store(&self) -> PathBuf {
        self.state.path().join("git")
    }

    fn fetch(&self, floor: Option<&str>) -> Result<RawCommit, SourceError> {
        let floor = floor.map(id);
        self.runtime.block_on(self.source.fetch(floor.as_ref()))
    }

    fn local_tip(&self, floor: Option<&str>) -> Result<Option<RawCommit>, SourceError> {
        let floor = floor.map(id);
        self.runtime.block_on(self.source.local_tip(floor.as_ref()))
    }

    fn read(
        &self,
        commit: &RawCommit,
        paths: &[&str],
    ) -> Result<BTreeMap<String, Document>, SourceError> {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        let tree = self
            .runtime
            .block_on(self.source.read(&tree_of(commit), &paths))?;
        Ok(tree.documents)
    }
}

fn id(text: &str) -> CommitId {
    text.parse().unwrap()
}

fn tree_of(commit: &RawCommit) -> TreeId {
    let text = String::from_utf8_lossy(&commit.bytes).into_owned();
    let line = text.lines().next().unwrap().to_owned();
    line.strip_prefix("tree ").unwrap().parse().unwrap()
}

fn file(text: &str) -> Document {
    Document::File(text.as_bytes().to_vec())
}

/// An error with all its sources, as the loop logs it.
fn told(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Three signed commits.
fn fleet() -> (FleetRepo, [String; 3]) {
    let repo = FleetRepo::new();
    let commits = ["one", "two", "three"].map(|text| {
        repo.write("apps/web/app.toml", text);
        repo.release(text)
    });
    (repo, commits)
}

/// Every path under a folder with its size and time of change.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            if data.is_dir() {
                folders.push(entry.path());
            }
            all.insert(entry.path(), (data.len(), data.modified().unwrap()));
        }
    }
    all
}

fn count_in(dir: &str) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

fn fsck(store: &Path) {
    let done = evenkeel_tests::repo::git_command()
        .arg("--git-dir")
        .arg(store)
        .args(["fsck", "--strict"])
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A first fetch, an update, reading and the relation to the floor: the same over every transport.
fn works_like_any_remote(section: &SourceSection, repo: &FleetRepo, commits: &[String; 3]) {
    let bench = Bench::new(section);
    let tip = bench.fetch(None).unwrap();
    assert_eq!(tip.id.as_str(), commits[2]);
    assert_eq!(tip.descent, Descent::NoFloor);
    assert!(tip.bytes.starts_with(b"tree "));
    assert!(String::from_utf8_lossy(&tip.bytes).contains("gpgsig"));
    assert_eq!(
        bench.read(&tip, &["apps"]).unwrap(),
        BTreeMap::from([("apps/web/app.toml".to_owned(), file("three"))])
    );
    assert_eq!(
        bench.fetch(Some(&commits[2])).unwrap().descent,
        Descent::Same
    );
    repo.write("apps/web/app.toml", "four");
    let four = repo.release("four");
    let tip = bench.fetch(Some(&commits[2])).unwrap();
    assert_eq!(
        (tip.id.as_str(), &tip.descent),
        (four.as_str(), &Descent::Descends)
    );
    assert_eq!(
        bench.read(&tip, &["apps/web/app.toml"]).unwrap(),
        BTreeMap::from([("apps/web/app.toml".to_owned(), file("four"))])
    );
    // An older floor than the store holds: history is fetched until it is met.
    assert_eq!(
        bench.fetch(Some(&commits[0])).unwrap().descent,
        Descent::Descends
    );
    repo.rewind(&commits[0]);
    assert_eq!(
        bench.fetch(Some(&four)).unwrap().descent,
        Descent::NotDescendant
    );
    assert_eq!(
        bench.local_tip(Some(&four)).unwrap().unwrap().descent,
        Descent::NotDescendant
    );
    fsck(&bench.store());
}

#[test]
fn a_path_on_the_device_is_a_remote() {
    let (repo, commits) = fleet();
    works_like_any_remote(&section(repo.file_url()), &repo, &commits);
    let (repo, commits) = fleet();
    let path = repo.bare().to_str().unwrap().to_owned();
    works_like_any_remote(&section(path), &repo, &commits);
}

#[test]
fn a_working_copy_on_the_device_is_a_remote() {
    let (repo, commits) = fleet();
    let bench = Bench::new(&section(format!("file://{}", repo.work().display())));
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[2]);
}

#[test]
fn plain_http_is_a_remote() {
    let (repo, commits) = fleet();
    let server = GitHttp::http(repo.served());
    works_like_any_remote(&section(server.url()), &repo, &commits);
}

#[test]
fn https_with_a_private_ca_is_a_remote() {
    let (repo, commits) = fleet();
    let server = GitHttp::https(repo.served());
    let mut section = section(server.url());
    section.ca_file = Some(server.ca_file());
    works_like_any_remote(&section, &repo, &commits);
}

#[test]
fn ssh_with_a_pinned_host_key_is_a_remote() {
    let (repo, commits) = fleet();
    let server = GitSsh::start(&repo.bare());
    let mut section = section(server.url());
    section.ssh_key = Some(server.user_key());
    section.known_hosts = Some(server.known_hosts());
    works_like_any_remote(&section, &repo, &commits);
}

fn refused(result: Result<RawCommit, SourceError>) -> (SourceError, String) {
    let error = result.unwrap_err();
    let text = told(&error);
    (error, text)
}

fn is_remote(error: &SourceError) -> bool {
    matches!(error, SourceError::Remote { .. })
}

fn is_setup(error: &SourceError) -> bool {
    matches!(error, SourceError::Setup { .. })
}

#[test]
fn a_bearer_token_is_read_from_its_file_at_each_fetch_and_never_told() {
    let (repo, commits) = fleet();
    let server = GitHttp::start(
        repo.served(),
        HttpOptions {
            plain: false,
            access: Access::Bearer("s3cret-token".to_owned()),
        },
    );
    let token = repo.served().join("token");
    let mut section = section(server.url());
    section.ca_file = Some(server.ca_file());
    section.token_file = Some(token.clone());
    let bench = Bench::new(&section);

    let (error, text) = refused(bench.fetch(None));
    assert!(
        is_setup(&error) && text.contains("token_file") && text.contains("token`"),
        "{text}"
    );
    std::fs::write(&token, "wr0ng-token\n").unwrap();
    let (error, text) = refused(bench.fetch(None));
    assert!(is_remote(&error) && text.contains("401"), "{text}");
    assert!(!text.contains("wr0ng"), "{text}");
    std::fs::write(&token, "s3cret-token\n").unwrap();
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[2]);
    assert!(!format!("{:?}", bench.source).contains("s3cret"));
    for (path, _) in listing(bench.state.path()) {
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(6).any(|part| part == b"s3cret"),
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn a_user_in_the_url_logs_in_with_the_token_or_the_password() {
    let (repo, commits) = fleet();
    let server = GitHttp::start(
        repo.served(),
        HttpOptions {
            plain: true,
            access: Access::Basic("device".to_owned(), "p4ss@word".to_owned()),
        },
    );
    let token = repo.served().join("token");
    std::fs::write(&token, "p4ss@word").unwrap();
    let mut with_token = section(server.url_with_user("device"));
    with_token.token_file = Some(token);
    assert_eq!(
        Bench::new(&with_token).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
    let good = server.url_with_user("device:p4ss%40word");
    assert_eq!(
        Bench::new(&section(good)).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
    let bench = Bench::new(&section(server.url_with_user("device:n0pe")));
    let (error, text) = refused(bench.fetch(None));
    assert!(is_remote(&error) && text.contains("401"), "{text}");
    assert!(
        !text.contains("n0pe") && !format!("{:?}", bench.source).contains("n0pe"),
        "{text}"
    );
}

#[test]
fn a_client_certificate_opens_the_door_and_its_absence_does_not() {
    let (repo, commits) = fleet();
    let server = GitHttp::start(
        repo.served(),
        HttpOptions {
            plain: false,
            access: Access::ClientCertificate,
        },
    );
    let mut section = section(server.url());
    section.ca_file = Some(server.ca_file());
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_remote(&error), "{text}");
    section.client_cert = Some(server.client_cert());
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_setup(&error) && text.contains("client_key"), "{text}");
    section.client_key = Some(server.client_key());
    assert_eq!(
        Bench::new(&section).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
}

#[test]
fn a_certificate_of_a_strange_ca_is_refused_and_named() {
    let (repo, _) = fleet();
    let server = GitHttp::https(repo.served());
    let other = GitHttp::https(repo.served());
    let mut section = section(server.url());
    section.ca_file = Some(other.ca_file());
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(
        is_remote(&error) && text.contains("CA this device trusts") && text.contains("ca_file"),
        "{text}"
    );
    section.ca_file = Some(repo.bare().join("HEAD"));
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_setup(&error) && text.contains("ca_file"), "{text}");
}

#[test]
fn what_the_server_does_not_have_is_said_plainly() {
    let (repo, _) = fleet();
    let server = GitHttp::http(repo.served());
    for mut section in [section(server.url()), section(repo.file_url())] {
        section.branch = "canary".to_owned();
        let (error, text) = refused(Bench::new(&section).fetch(None));
        assert!(matches!(error, SourceError::NoBranch { .. }), "{text}");
        assert!(text.contains("`canary`"), "{text}");
    }
    let (error, text) = refused(Bench::new(&section(server.url_of("nothing.git"))).fetch(None));
    assert!(is_remote(&error), "{text}");
    let (error, text) = refused(Bench::new(&section("file:///nowhere/fleet.git")).fetch(None));
    assert!(is_remote(&error) && text.contains("/nowhere"), "{text}");
    for url in [
        "ftp://example.com/x",
        "https://example.com/x?y",
        "ssh://-oProxyCommand=x/y",
    ] {
        let error = GitSource::new(&section(url), "/nonexistent").unwrap_err();
        assert!(is_setup(&error), "{url}");
    }
}

#[test]
fn remotes_are_asked_in_their_order() {
    let (repo, commits) = fleet();
    let mut dead = GitHttp::http(repo.served());
    let mut section = section(dead.url());
    section.urls.push(repo.file_url());
    dead.stop();
    assert_eq!(
        Bench::new(&section).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
    dead.resume();
    assert_eq!(
        Bench::new(&section).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
    assert!(dead.requests().iter().any(|line| line.contains("POST")));
}

#[test]
fn a_changed_host_key_is_an_error_for_a_person_and_never_healed() {
    let (repo, commits) = fleet();
    let mut server = GitSsh::start(&repo.bare());
    let mut section = section(server.url());
    section.ssh_key = Some(server.user_key());
    section.known_hosts = Some(server.known_hosts());
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    let pinned = std::fs::read(server.known_hosts()).unwrap();
    server.change_host_key();
    for _ in 0..2 {
        let (error, text) = refused(bench.fetch(None));
        assert!(
            is_setup(&error) && text.contains("host key") && text.contains("known_hosts"),
            "{text}"
        );
    }
    assert_eq!(std::fs::read(server.known_hosts()).unwrap(), pinned);
    server.write_known_hosts();
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[2]);
}

#[test]
fn an_ssh_key_that_others_can_read_or_that_is_missing_is_said_plainly() {
    use std::os::unix::fs::PermissionsExt;
    let (repo, _) = fleet();
    let server = GitSsh::start(&repo.bare());
    let mut section = section(server.url());
    section.known_hosts = Some(server.known_hosts());
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_setup(&error) && text.contains("ssh_key"), "{text}");
    section.ssh_key = Some(repo.served().join("no-key"));
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_setup(&error) && text.contains("no-key"), "{text}");
    let open = repo.served().join("open-key");
    std::fs::copy(server.user_key(), &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    section.ssh_key = Some(open);
    let (error, text) = refused(Bench::new(&section).fetch(None));
    assert!(is_setup(&error) && text.contains("chmod 600"), "{text}");
}

#[test]
fn a_fork_is_not_a_descendant_and_an_honest_commit_on_the_floor_is_taken_again() {
    let (repo, commits) = fleet();
    let server = GitHttp::http(repo.served());
    for section in [section(server.url()), section(repo.file_url())] {
        let bench = Bench::new(&section);
        bench.fetch(None).unwrap();
        repo.reset_to(&commits[1])
            .write("apps/web/app.toml", "evil");
        repo.commit_signed("fork");
        repo.force_push();
        let tip = bench.fetch(Some(&commits[2])).unwrap();
        assert_eq!(tip.descent, Descent::NotDescendant);
        repo.git(&["checkout", "-q", "--orphan", "lone"]);
        repo.commit_signed("another history");
        repo.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
        let tip = bench.fetch(Some(&commits[2])).unwrap();
        assert_eq!(tip.descent, Descent::NotDescendant);
        repo.git(&["checkout", "-q", "main"]);
        repo.reset_to(&commits[2])
            .write("apps/web/app.toml", "four");
        let four = repo.commit_signed("four");
        repo.force_push();
        let tip = bench.fetch(Some(&commits[2])).unwrap();
        assert_eq!(
            (tip.id.as_str(), &tip.descent),
            (four.as_str(), &Descent::Descends)
        );
        repo.git(&["branch", "-q", "-D", "lone"]);
        repo.reset_to(&commits[2]).force_push();
    }
}

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
        .args(["--exact", "source::polls_and_updates_counted_alone"])
        .args(["--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// Limits with which a server that misbehaves is cut off in a second or two.
fn impatient() -> Limits {
    Limits {
        connect: Duration::from_secs(1),
        read: Duration::from_secs(1),
        poll: Duration::from_secs(2),
        fetch: Duration::from_secs(3),
        refs_bytes: 256 * 1024,
        ..Limits::default()
    }
}

#[test]
fn servers_that_stall_trickle_or_never_end_are_cut_off_with_a_clear_error() {
    for (fault, expected) in [
        (Fault::Stall, "sent nothing"),
        (Fault::StallAfterHead, "sent nothing"),
        (Fault::Trickle(Duration::from_millis(50)), "too slow"),
        (Fault::Endless, ""),
        (Fault::EndlessPktLines, "more than"),
        (Fault::Html, "captive portal"),
        (Fault::Status(401), "401"),
        (Fault::Status(403), "403"),
        (Fault::Status(404), "404"),
        (Fault::Status(503), "503"),
        (Fault::Close, ""),
        (Fault::CutOff, ""),
    ] {
        let server = FaultServer::start(fault.clone());
        let bench = Bench::with_limits(&section(server.url()), impatient());
        let started = Instant::now();
        let (error, text) = refused(bench.fetch(None));
        assert!(is_remote(&error), "{fault:?}: {text}");
        assert!(text.contains(expected), "{fault:?}: {text}");
        assert!(started.elapsed() < Duration::from_secs(10), "{fault:?}");
        assert!(
            server.sent() < 32 * 1024 * 1024,
            "{fault:?}: {}",
            server.sent()
        );
        assert_eq!(bench.local_tip(None).unwrap(), None, "{fault:?}");
    }
}

#[test]
fn a_redirect_is_followed_but_never_with_credentials_to_another_host() {
    let (repo, commits) = fleet();
    let target = GitHttp::http(repo.served());
    let to = format!("{}/info/refs?service=git-upload-pack", target.url());
    let server = FaultServer::start(Fault::Redirect(to));
    assert_eq!(
        Bench::new(&section(server.url()))
            .fetch(None)
            .unwrap()
            .id
            .as_str(),
        commits[2]
    );
    let requests = target.requests().len();
    let token = repo.served().join("token");
    std::fs::write(&token, "s3cret").unwrap();
    let mut with_token = section(server.url());
    with_token.token_file = Some(token);
    let (error, text) = refused(Bench::new(&with_token).fetch(None));
    assert!(is_remote(&error) && text.contains("another host"), "{text}");
    assert_eq!(target.requests().len(), requests);
    let circle = FaultServer::start(Fault::Redirect(
        "/fleet.git/info/refs?service=git-upload-pack".to_owned(),
    ));
    let (_, text) = refused(Bench::new(&section(circle.url())).fetch(None));
    assert!(text.contains("circles"), "{text}");
}

#[test]
fn a_pack_beyond_the_cap_is_cut_off_and_leaves_nothing() {
    let (repo, _) = fleet();
    let mut noise = vec![0_u8; 2 * 1024 * 1024];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        *byte = state.to_le_bytes()[7];
    }
    repo.write("big.bin", &noise);
    repo.release("big");
    let server = GitHttp::http(repo.served());
    let limits = Limits {
        pack_bytes: 512 * 1024,
        file_bytes: 1024 * 1024,
        ..Limits::default()
    };
    for section in [section(server.url()), section(repo.file_url())] {
        let bench = Bench::with_limits(&section, limits.clone());
        let (error, text) = refused(bench.fetch(None));
        assert!(is_remote(&error) && text.contains("more than"), "{text}");
        assert_eq!(bench.local_tip(None).unwrap(), None);
        assert!(
            listing(bench.state.path())
                .values()
                .all(|(size, _)| *size < 256 * 1024)
        );
        // With room for the pack, the document itself is still too large, and is named.
        let bench = bench.restart_with(
            &section,
            Limits {
                pack_bytes: 1 << 30,
                ..limits.clone()
            },
        );
        let tip = bench.fetch(None).unwrap();
        let error = bench.read(&tip, &["big.bin"]).unwrap_err();
        assert!(
            matches!(&error, SourceError::TooLarge(text) if text.contains("`big.bin`")),
            "{error}"
        );
        assert_eq!(bench.read(&tip, &["apps"]).unwrap().len(), 1);
    }
}

#[test]
fn a_tree_with_too_many_entries_or_folders_is_refused_with_its_path() {
    let (repo, _) = fleet();
    for number in 0..30 {
        repo.write(&format!("many/{number}"), "x");
    }
    repo.write("a/b/c/d/e", "x");
    repo.release("wide and deep");
    let limits = Limits {
        entries: 20,
        depth: 3,
        tree_bytes: 6,
        ..Limits::default()
    };
    let bench = Bench::with_limits(&section(repo.file_url()), limits);
    let tip = bench.fetch(None).unwrap();
    for path in ["many", "a"] {
        let error = bench.read(&tip, &[path]).unwrap_err();
        assert!(
            matches!(&error, SourceError::TooLarge(text) if text.contains(path)),
            "{error}"
        );
    }
    let error = bench.read(&tip, &["apps", "many/0", "many/1"]).unwrap_err();
    assert!(matches!(error, SourceError::TooLarge(_)), "{error}");
}

#[test]
fn links_and_submodules_are_told_apart_and_absent_paths_are_absent() {
    let (repo, commits) = fleet();
    std::os::unix::fs::symlink("../web", repo.work().join("apps/link")).unwrap();
    repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},vendor/sub", commits[0]),
    ]);
    repo.git(&["add", "apps"]);
    repo.git(&["commit", "-q", "-m", "link"]);
    repo.push();
    let bench = Bench::new(&section(repo.file_url()));
    let tip = bench.fetch(None).unwrap();
    let all = bench
        .read(&tip, &["apps", "vendor", "nothing", "apps/web/app.toml/x"])
        .unwrap();
    assert_eq!(
        all,
        BTreeMap::from([
            (
                "apps/link".to_owned(),
                Document::Symlink("../web".to_owned())
            ),
            ("apps/web/app.toml".to_owned(), file("three")),
            ("vendor/sub".to_owned(), Document::Submodule),
        ])
    );
}

#[test]
fn a_sha256_repository_is_taken_as_it_is() {
    let dir = short_tempdir("sha256");
    let git = |arguments: &[&str]| {
        let done = evenkeel_tests::repo::git_command()
            .current_dir(dir.path())
            .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    git(&[
        "init",
        "-q",
        "--object-format=sha256",
        "-b",
        "main",
        "fleet.git",
    ]);
    std::fs::write(dir.path().join("fleet.git/fleet.toml"), "x = 1\n").unwrap();
    git(&["-C", "fleet.git", "add", "."]);
    git(&["-C", "fleet.git", "commit", "-q", "-m", "one"]);
    let one = git(&["-C", "fleet.git", "rev-parse", "HEAD"]);
    git(&[
        "-C",
        "fleet.git",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "two",
    ]);
    git(&["clone", "-q", "--bare", "fleet.git", "bare.git"]);
    let two = git(&["-C", "fleet.git", "rev-parse", "HEAD"]);
    assert_eq!(two.len(), 64);
    let server = GitHttp::http(dir.path());
    for url in [
        server.url_of("bare.git"),
        format!("file://{}", dir.path().join("bare.git").display()),
    ] {
        let bench = Bench::new(&section(url));
        let tip = bench.fetch(None).unwrap();
        assert_eq!(tip.id.as_str(), two);
        assert_eq!(bench.read(&tip, &["fleet.toml"]).unwrap().len(), 1);
        assert_eq!(bench.fetch(Some(&one)).unwrap().descent, Descent::Descends);
        fsck(&bench.store());
    }
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
fn damages() -> Vec<(&'static str, fn(&Path))> {
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
            Ok(seen) => assert!(name == "nothing" && seen.is_none(), "{name}: {seen:?}"),
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
    std::fs::remove_file(bench.store().join("HEAD")).unwrap();
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

#[test]
fn history_is_deepened_until_an_old_floor_is_met() {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "x");
    let first = repo.release("first");
    for round in 0..70 {
        repo.git(&["commit", "-q", "--allow-empty", "-m", &format!("{round}")]);
    }
    repo.push();
    let server = GitHttp::http(repo.served());
    for section in [section(server.url()), section(repo.file_url())] {
        let bench = Bench::new(&section);
        assert_eq!(bench.fetch(None).unwrap().descent, Descent::NoFloor);
        let local = bench.local_tip(Some(&first)).unwrap().unwrap();
        assert!(
            matches!(local.descent, Descent::Unknown(_)),
            "{:?}",
            local.descent
        );
        assert_eq!(
            bench.fetch(Some(&first)).unwrap().descent,
            Descent::Descends
        );
        assert_eq!(
            bench.local_tip(Some(&first)).unwrap().unwrap().descent,
            Descent::Descends
        );
        assert_eq!(
            bench.fetch(Some(&"7".repeat(40))).unwrap().descent,
            Descent::NotDescendant
        );
        fsck(&bench.store());
    }
}

#[test]
fn a_remote_that_is_shallow_itself_leaves_descent_unknown() {
    let (repo, commits) = fleet();
    let url = repo.file_url();
    repo.git(&["clone", "-q", "--bare", "--depth", "1", &url, "../thin.git"]);
    let server = GitHttp::http(repo.served());
    for url in [
        server.url_of("thin.git"),
        format!("file://{}", repo.served().join("thin.git").display()),
    ] {
        let bench = Bench::new(&section(url));
        bench.fetch(None).unwrap();
        let tip = bench.fetch(Some(&commits[0])).unwrap();
        assert!(
            matches!(tip.descent, Descent::Unknown(_)),
            "{:?}",
            tip.descent
        );
        // The parent line of the tip itself is proof enough.
        assert_eq!(
            bench.fetch(Some(&commits[1])).unwrap().descent,
            Descent::Descends
        );
    }
}
