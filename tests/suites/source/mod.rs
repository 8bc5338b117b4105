//! The git source: every transport against the real server, descent, and reading. Refusals and the store below.

mod history;
mod published;
mod publishing;
mod refusals;
mod several;
mod store;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evenkeel::adapter::git::{GitSource, Limits};
use evenkeel::domain::commit::{Descent, Extent, HistoryCut, Kin, RawCommit, RawHistory};
use evenkeel::domain::history::Floor;
use evenkeel::domain::revision::{CommitId, Timestamp, TreeId};
use evenkeel::domain::tree::Document;
use evenkeel::port::source::{Deepened, Reach, Source, SourceError, Whom};
use evenkeel_schema::agent_config::SourceSection;
use evenkeel_tests::faults::{Fault, FaultServer};
use evenkeel_tests::git_http::{Access, GitHttp, HttpOptions};
use evenkeel_tests::{FleetRepo, GitSsh, short_tempdir};
use tempfile::TempDir;

fn section(url: impl Into<String>) -> SourceSection {
    SourceSection::at(url, "main")
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
        self.runtime
            .block_on(self.source.fetch(floor.as_ref()))
            .map(|fetched| fetched.tip)
    }

    fn history(&self, tip: &str, floor: Option<&str>) -> RawHistory {
        self.extent(tip, floor, Extent::SinceFloor)
    }

    fn extent(&self, tip: &str, floor: Option<&str>, extent: Extent) -> RawHistory {
        let (tip, floor) = (id(tip), floor.map(id));
        let asked = self.source.history(&tip, floor.as_ref(), extent);
        self.runtime.block_on(asked).unwrap()
    }

    fn deepen(&self) -> Result<Deepened, SourceError> {
        self.runtime.block_on(self.source.deepen())
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
