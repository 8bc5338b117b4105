//! A device whose remote is a published tree behind a web server: through whichever door it comes, what it brings is judged
//! like a git server's.

use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::proxy::Proxy;
use evenkeel_tests::{Access, GitHttp, HttpOptions, PATIENCE, Signer};

use crate::attacks::craft::Approver;
use crate::fleet::World;

/// A device, a repository, and a web server that has a tree of it.
struct Web {
    world: World,
    server: GitHttp,
}

impl Web {
    fn new(access: Access) -> Self {
        let mut world = World::of_files("web");
        let server = GitHttp::start(
            world.repo.served(),
            HttpOptions {
                access,
                ..HttpOptions::default()
            },
        );
        world.device.settings.url = server.tree_url("tree");
        world.device.settings.source = vec![format!("ca_file = {:?}", server.ca_file())];
        let web = Self { world, server };
        web.release("1\n");
        web
    }

    fn publish(&self) {
        let mut command = Command::new(binary());
        command
            .args(["publish", "--branch", "main", "--repo"])
            .arg(self.world.repo.bare())
            .arg("--out")
            .arg(self.server.files().join("tree"));
        run(&mut command, PATIENCE).expect_code(0);
    }

    /// A signed commit that puts this into the device's file, published.
    fn release(&self, content: &str) -> String {
        self.world.one_file(content);
        let commit = self.world.repo.release("Release");
        self.publish();
        commit
    }

    /// A `[source]` line more.
    fn source(&mut self, line: String) {
        self.world.device.settings.source.push(line);
    }

    fn content(&self) -> Option<String> {
        self.world.device.read("/etc/one.conf")
    }

    #[track_caller]
    fn follows(&self) {
        self.world.device.sync().expect_code(0);
        assert_eq!(self.content().as_deref(), Some("1\n"));
        self.release("2\n");
        self.world.device.sync().expect_code(0);
        assert_eq!(self.content().as_deref(), Some("2\n"));
    }

    /// What was published last is not taken, and a device that is told why.
    #[track_caller]
    fn stays_at(&self, content: &str, why: &str) {
        let said = self.world.device.sync();
        assert_ne!(said.code, Some(0), "{}", said.text());
        assert_eq!(self.content().as_deref(), Some(content));
        let (verified, reason) = self.world.device.condition("Verified");
        assert_eq!((verified.as_str(), reason.as_str()), ("False", why));
    }
}

#[test]
fn a_published_tree_is_followed_with_a_token_from_a_file() {
    let mut web = Web::new(Access::Bearer("s3cret-token".to_owned()));
    let said = web.world.device.sync().expect_code(1);
    assert!(said.text().contains("401"), "{}", said.text());
    let token = web.world.device.scratch().join("token");
    std::fs::write(&token, "wr0ng-token\n").unwrap();
    web.source(format!("token_file = {token:?}"));
    let said = web.world.device.sync().expect_code(1);
    assert!(
        said.text().contains("401") && !said.text().contains("wr0ng-token"),
        "{}",
        said.text()
    );
    std::fs::write(&token, "s3cret-token\n").unwrap();
    web.follows();
    let status = web.world.device.evenkeel(&["status", "--json"]);
    assert!(!status.text().contains("s3cret-token"));
}

#[test]
fn a_published_tree_is_followed_with_a_client_certificate() {
    let mut web = Web::new(Access::ClientCertificate);
    web.world.device.sync().expect_code(1);
    web.source(format!("client_cert = {:?}", web.server.client_cert()));
    web.source(format!("client_key = {:?}", web.server.client_key()));
    web.follows();
}

/// A pass through this proxy, or past it.
fn through(web: &Web, proxy: &str, past: &str) -> Output {
    let mut command = web.world.device.command(&["sync"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HTTPS_PROXY", proxy).env("NO_PROXY", past);
    run(&mut command, PATIENCE)
}

#[test]
fn a_published_tree_is_followed_through_a_proxy() {
    let web = Web::new(Access::Open);
    let dead = "http://127.0.0.1:1";
    through(&web, dead, "").expect_code(1);
    assert_eq!(web.content(), None);
    through(&web, dead, "localhost").expect_code(0);
    assert_eq!(web.content().as_deref(), Some("1\n"));
    let proxy = Proxy::start();
    web.release("2\n");
    through(&web, &format!("http://{}", proxy.host()), "").expect_code(0);
    assert_eq!(web.content().as_deref(), Some("2\n"));
    assert!(proxy.used() > 0, "the proxy was not used");
}

#[test]
fn a_commit_in_the_middle_of_a_published_tree_is_judged_with_every_commit() {
    let mut web = Web::new(Access::Open);
    web.world
        .device
        .settings
        .trust
        .push("verify = \"every-commit\"".to_owned());
    web.follows();
    // Two good ones at once are taken.
    web.world.one_file("3\n");
    web.world.repo.release("Third");
    web.release("4\n");
    web.world.device.sync().expect_code(0);
    assert_eq!(web.content().as_deref(), Some("4\n"));

    // One that nobody signed, below one that is signed.
    web.world.one_file("evil\n");
    web.world.repo.commit_unsigned("Slipped in");
    web.world.repo.write("note", "unread\n");
    web.world.repo.release("A note");
    web.publish();
    web.stays_at("4\n", "unsigned");
    // A new store makes no difference: what is known to be good is the device's own.
    std::fs::remove_dir_all(web.world.device.state_dir().join("git")).unwrap();
    web.stays_at("4\n", "unsigned");
}

#[test]
fn a_published_commit_needs_its_approvals() {
    let mut web = Web::new(Access::Open);
    let second = Signer::new("second@example.com");
    web.world.trust_line(&second.allowed_line(""));
    web.world.device.sync().expect_code(0);
    assert_eq!(web.content().as_deref(), Some("1\n"));
    web.world
        .device
        .settings
        .trust
        .push("approvals = 2".to_owned());

    let base = web.world.repo.head();
    web.release("2\n");
    web.stays_at("1\n", "too-few-approvals");

    // The same content, on top of what is good and approved.
    web.world.repo.reset_to(&base);
    web.world.one_file("3\n");
    web.world.repo.git(&["add", "-A"]);
    let tree = web.world.repo.git(&["write-tree"]).stdout;
    let trailer = Approver::by(&second).trailer(tree.trim(), &base);
    web.world
        .repo
        .commit_signed(&format!("Approved\n\n{trailer}"));
    web.world.repo.force_push();
    let mut publish = Command::new(binary());
    publish
        .args(["publish", "--branch", "main", "--rewind", "--repo"])
        .arg(web.world.repo.bare())
        .arg("--out")
        .arg(web.server.files().join("tree"));
    run(&mut publish, PATIENCE).expect_code(0);
    web.world.device.sync().expect_code(0);
    assert_eq!(web.content().as_deref(), Some("3\n"));
}
