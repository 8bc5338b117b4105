//! Several remotes: who is asked, what a dead one costs, who sees the token, and how their tips relate.

use super::refusals::impatient;
use super::*;

/// A second repository beside the first, with the commits that it has now.
fn mirror(repo: &FleetRepo, name: &str) -> String {
    let path = repo.served().join(name);
    let to = path.to_str().unwrap();
    repo.bare_git(&["clone", "-q", "--mirror", ".", to]);
    repo.bare_git(&["--git-dir", to, "config", "http.uploadpack", "true"]);
    format!("file://{to}")
}

/// Puts a commit of the working clone on the mirror's branch.
fn push_to(repo: &FleetRepo, mirror: &str, commit: &str) {
    let to = mirror.trim_start_matches("file://");
    repo.git(&[
        "push",
        "-q",
        "--force",
        to,
        &format!("{commit}:refs/heads/main"),
    ]);
}

impl Bench {
    fn others(&self, than: usize) -> Vec<Option<String>> {
        let asked = self.source.others(than, Whom::Ready);
        let seen = self.runtime.block_on(asked);
        seen.into_iter()
            .map(|seen| seen.tip.map(|tip| tip.to_string()))
            .collect()
    }

    fn kin(&self, one: &str, other: &str) -> Kin {
        let (one, other) = (id(one), id(other));
        let asked = self.source.kin(&one, &other);
        self.runtime.block_on(asked).unwrap()
    }

    fn settle_on(&self, tip: &str) {
        let settled = id(tip);
        let asked = self.source.settle_on(&settled, None);
        self.runtime.block_on(asked).unwrap();
    }
}

#[test]
fn remotes_are_asked_in_their_order_and_one_that_failed_is_passed_over_for_a_while() {
    let (repo, commits) = fleet();
    let stalled = FaultServer::start(Fault::Stall);
    let mut section = section(stalled.url());
    section.urls.push(repo.file_url());
    let bench = Bench::with_limits(&section, impatient());
    let fetch = || {
        let began = Instant::now();
        assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[2]);
        began.elapsed()
    };
    assert!(fetch() >= Duration::from_millis(900), "it was asked first");
    let asked = stalled.connections();
    for _ in 0..5 {
        assert!(fetch() < Duration::from_millis(900));
    }
    assert_eq!(stalled.connections(), asked);
    let known = bench.source.remotes();
    assert!(matches!(&known[0].last, Some(Err(why)) if why.contains("sent nothing")));
    assert_eq!(known[1].last, Some(Ok(())));
    assert_eq!(
        (known[0].reach, known[1].reach),
        (Reach::Network, Reach::Local)
    );
    // Only what is reached over a network counts where that is asked.
    assert!(bench.runtime.block_on(bench.source.reach()).is_err());

    let mut server = GitHttp::http(repo.served());
    section.urls[0] = server.url();
    let bench = Bench::new(&section);
    server.stop();
    bench.fetch(None).unwrap();
    server.resume();
    bench.runtime.block_on(bench.source.reach()).unwrap();
    let fetched = bench.runtime.block_on(bench.source.fetch(None)).unwrap();
    assert_eq!(
        fetched.remote, 0,
        "it answers again, and is the first again"
    );
}

#[test]
fn a_remote_with_a_wrong_host_key_does_not_stop_the_others() {
    let (repo, commits) = fleet();
    let mut server = GitSsh::start(&repo.bare());
    let mut section = section(server.url());
    section.ssh_key = Some(server.user_key());
    section.known_hosts = Some(server.known_hosts());
    section.urls.push(repo.file_url());
    server.change_host_key();
    let bench = Bench::new(&section);
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[2]);
    let known = bench.source.remotes();
    assert!(matches!(&known[0].last, Some(Err(why)) if why.contains("host key")));
}

#[test]
fn the_token_goes_to_the_first_host_alone_and_another_one_may_have_its_own() {
    let (repo, commits) = fleet();
    let start = |token: &str| {
        GitHttp::start(
            repo.served(),
            HttpOptions {
                plain: true,
                access: Access::Bearer(token.to_owned()),
                ..HttpOptions::default()
            },
        )
    };
    let (mut one, other) = (start("first-token"), start("other-token"));
    let strange = FaultServer::start(Fault::Status(403));
    let file = |name: &str, token: &str| {
        let path = repo.served().join(name);
        std::fs::write(&path, token).unwrap();
        path
    };
    let mut section = section(one.url());
    section.urls.extend([strange.url(), other.url()]);
    section.token_file = Some(file("first", "first-token"));
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    assert_eq!(bench.others(0), [None, None]);
    let heads = strange.heads().join("\n").to_lowercase();
    assert!(heads.contains("get /"), "{heads}");
    assert!(!heads.contains("authorization"), "{heads}");
    section
        .tokens
        .insert(other.url(), file("other", "other-token"));
    one.stop();
    assert_eq!(
        Bench::new(&section).fetch(None).unwrap().id.as_str(),
        commits[2]
    );
}

#[test]
fn how_two_tips_relate_is_told_from_a_store_without_old_history() {
    let (repo, commits) = fleet();
    let other = mirror(&repo, "other.git");
    let mut section = section(repo.file_url());
    section.urls.push(other.clone());
    let server = GitHttp::http(repo.served());
    section.urls[0] = server.url();
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    assert_eq!(bench.others(0), [Some(commits[2].clone())]);
    assert_eq!(bench.kin(&commits[2], &commits[2]), Kin::Same);

    // Each goes on from there alone.
    repo.write("apps/web/app.toml", "four");
    let four = repo.commit_signed("four");
    push_to(&repo, &other, &four);
    assert_eq!(bench.others(0), [Some(four.clone())]);
    assert_eq!(bench.kin(&four, &commits[2]), Kin::Descendant);
    assert_eq!(bench.kin(&commits[2], &four), Kin::Ancestor);
    repo.reset_to(&commits[2]);
    repo.write("apps/web/app.toml", "another four");
    let fork = repo.release("another four");
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), fork);
    assert_eq!(bench.kin(&fork, &four), Kin::Apart);
    assert_eq!(bench.kin(&four, &fork), Kin::Apart);

    // Behind what was cloned without its history: the objects come, and more history says how it relates.
    push_to(&repo, &other, &commits[0]);
    assert_eq!(bench.others(0), [Some(commits[0].clone())]);
    bench.settle_on(&fork);
    while bench.kin(&commits[0], &fork) == Kin::Unknown {
        assert_eq!(bench.deepen().unwrap(), Deepened::More);
    }
    assert_eq!(bench.kin(&commits[0], &fork), Kin::Ancestor);
}

#[test]
fn what_the_first_of_several_said_is_no_local_tip_before_the_others_were_heard() {
    let (repo, commits) = fleet();
    let mut section = section(repo.file_url());
    section.urls.push(mirror(&repo, "mirror.git"));
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    // It ends here, and begins anew where no remote answers.
    let bench = bench.restart(&section);
    assert_eq!(bench.local_tip(None).unwrap(), None);
    bench.fetch(None).unwrap();
    assert_eq!(bench.local_tip(None).unwrap(), None);
    bench.settle_on(&commits[2]);
    let bench = bench.restart(&section);
    assert_eq!(
        bench.local_tip(None).unwrap().unwrap().id.as_str(),
        commits[2]
    );
}

#[test]
fn the_local_tip_is_what_was_settled_on_and_polls_write_nothing() {
    let (repo, commits) = fleet();
    let behind = mirror(&repo, "behind.git");
    push_to(&repo, &behind, &commits[1]);
    let mut section = section(behind);
    section.urls.push(repo.file_url());
    let bench = Bench::new(&section);
    bench.fetch(None).unwrap();
    assert_eq!(bench.others(0), [Some(commits[2].clone())]);
    bench.settle_on(&commits[2]);
    let before = listing(bench.state.path());
    for _ in 0..3 {
        assert_eq!(bench.fetch(None).unwrap().id.as_str(), commits[1]);
        assert_eq!(bench.others(0), [Some(commits[2].clone())]);
        bench.settle_on(&commits[2]);
    }
    assert_eq!(listing(bench.state.path()), before);
    let bench = bench.restart(&section);
    assert_eq!(
        bench.local_tip(None).unwrap().unwrap().id.as_str(),
        commits[2]
    );
}
