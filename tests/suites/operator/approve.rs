//! `evenkeel approve`, and what a device makes of it.

use super::*;

/// `stable` with one commit and `canary` with one more, and people: Alice signs the branch, Bob and Carol approve.
struct Scene {
    desk: Desk,
    repo: PathBuf,
    alice: Signer,
    bob: Signer,
    carol: Signer,
}

impl Scene {
    fn new() -> Self {
        let desk = Desk::new();
        desk.is_known();
        let alice = Signer::new("alice@example.com");
        desk.evenkeel(
            desk.dir.path(),
            &[
                "init",
                "fleet",
                "--name",
                "acme gateways",
                "--key",
                &key(&alice),
            ],
        )
        .expect_code(0);
        let repo = desk.path("fleet");
        desk.git(&repo, &["switch", "-q", "-C", "canary"]);
        desk.commit(&repo, "apps/hello/hello.txt", &["Say more"]);
        desk.git(&repo, &["switch", "-q", "stable"]);
        Self {
            desk,
            repo,
            alice,
            bob: Signer::new("bob@example.com"),
            carol: Signer::new("carol@example.com"),
        }
    }

    /// Everybody, without options.
    fn team(&self) -> String {
        [&self.alice, &self.bob, &self.carol]
            .map(|who| who.allowed_line(""))
            .concat()
    }

    /// A trailer by somebody.
    #[track_caller]
    fn approval(&self, who: &Signer, more: &[&str]) -> String {
        let key = key(who);
        let arguments = [&["approve", "--branch", "stable", "--key", &key], more].concat();
        let said = self.desk.evenkeel(&self.repo, &arguments).expect_code(0);
        said.stdout.strip_suffix('\n').unwrap().to_owned()
    }

    /// Promotes canary to stable as a merge with these trailers; the branch moves.
    fn promote(&self, trailers: &[&str]) -> String {
        self.desk.git(
            &self.repo,
            &["merge", "-q", "--no-ff", "--no-commit", "canary"],
        );
        self.commit_with(trailers)
    }

    fn commit_with(&self, trailers: &[&str]) -> String {
        let mut arguments = vec!["commit", "-q", "--no-edit", "-S"];
        for trailer in trailers {
            arguments.extend(["--trailer", trailer]);
        }
        self.desk.git(&self.repo, &arguments);
        self.desk.head(&self.repo)
    }

    /// Replaces stable's tip by one with these trailers.
    fn amend_with(&self, trailers: &[&str]) -> String {
        let message = ["commit", "-q", "--amend", "-S", "-m", "Promote"];
        let mut arguments = message.to_vec();
        for trailer in trailers {
            arguments.extend(["--trailer", trailer]);
        }
        self.desk.git(&self.repo, &arguments);
        self.desk.head(&self.repo)
    }

    fn back(&self, commit: &str) {
        self.desk
            .git(&self.repo, &["reset", "-q", "--hard", commit]);
    }

    fn judged(&self, signers: &str, trust: &str) -> (String, String) {
        let config = self.desk.config(signers, trust);
        self.desk.verdict(&self.repo, &config, "HEAD")
    }

    #[track_caller]
    fn expect(&self, signers: &str, trust: &str, reason: &str) -> String {
        let (found, said) = self.judged(signers, trust);
        assert_eq!(
            found,
            reason,
            "{said}\n{}",
            self.desk.message(&self.repo, "HEAD")
        );
        said
    }
}

const TWO: &str = "approvals = 2";
const FEW: &str = "too-few-approvals";

#[test]
fn two_of_three_move_a_device_and_one_does_not() {
    let scene = Scene::new();
    let by_bob = scene.approval(&scene.bob, &["canary"]);
    let by_carol = scene.approval(&scene.carol, &["canary"]);
    assert!(
        by_bob.starts_with("Fleet-Approval: acme gateways U1NIU0lH"),
        "{by_bob}"
    );
    assert_eq!(by_bob.lines().count(), 1);

    let promoted = scene.promote(&[]);
    let said = scene.expect(&scene.team(), TWO, FEW);
    assert!(said.contains("only alice@example.com signed"), "{said}");
    // The command that it prints, by Bob, is one that mends it.
    let next = format!("evenkeel approve --branch stable {}", &promoted[..10]);
    assert!(said.contains(&next), "{said}");
    let on_the_tip = scene.approval(&scene.bob, &[&promoted[..10]]);
    scene.amend_with(&[&on_the_tip]);
    scene.expect(&scene.team(), TWO, "ok");
    scene.amend_with(&[&by_bob]);
    scene.expect(&scene.team(), TWO, "ok");
    scene.expect(&scene.team(), "approvals = 3", FEW);
    scene.amend_with(&[&by_bob, &by_carol]);
    scene.expect(&scene.team(), "approvals = 3", "ok");
    scene.expect(
        &scene.team(),
        "approvals = 3\nbind_branch = true\nfleet = \"acme gateways\"",
        "ok",
    );
    scene.expect(&scene.team(), "approvals = 4", FEW);
    // Not by a key nobody knows, nor by one that may sign commits alone, nor by one whose time is over.
    let without_bob = scene.alice.allowed_line("") + &scene.carol.allowed_line("");
    scene.expect(&without_bob, "approvals = 3", FEW);
    scene.expect(&without_bob, TWO, "ok");
    for options in [
        "namespaces=\"git\"",
        "valid-before=\"20200101\"",
        "cert-authority",
    ] {
        let signers = without_bob.clone() + &scene.bob.allowed_line(options);
        scene.expect(&signers, "approvals = 3", FEW);
    }
    for options in [
        "namespaces=\"evenkeel-approval\"",
        "namespaces=\"git,evenkeel-*\"",
    ] {
        let signers = without_bob.clone() + &scene.bob.allowed_line(options);
        scene.expect(&signers, "approvals = 3", "ok");
    }
    // Where the branch has signers of its own, those approve for it.
    let branch = "approvals = 2\n[trust.branches.stable]\nsigners = [\"alice@example.com\"]";
    scene.expect(&scene.team(), branch, FEW);
    // A revoked key.
    let revoked = scene.desk.path("revoked");
    std::fs::copy(scene.bob.public_key(), &revoked).unwrap();
    let trust = format!("approvals = 3\nrevoked = \"{}\"", revoked.display());
    scene.expect(&scene.team(), &trust, FEW);
    // Who may only say that the branch is alive.
    let trust = "approvals = 3\n[trust.heartbeat]\nsigners = [\"bob@example.com\"]";
    scene.expect(&scene.team(), trust, FEW);
}

#[test]
fn what_ssh_keygen_itself_verifies_is_what_was_approved() {
    let scene = Scene::new();
    let json = scene
        .desk
        .evenkeel(
            &scene.repo,
            &[
                "approve",
                "--branch",
                "stable",
                "--json",
                "--key",
                &key(&scene.bob),
                "canary",
            ],
        )
        .expect_code(0);
    assert!(
        json.stderr.contains("hello.txt"),
        "no diff is shown: {}",
        json.stderr
    );
    assert!(json.stderr.contains("refs/heads/stable"), "{}", json.stderr);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    let tree = scene.desk.git(&scene.repo, &["rev-parse", "canary^{tree}"]);
    let base = scene.desk.git(&scene.repo, &["rev-parse", "stable"]);
    assert_eq!(answer["tree"], tree.as_str());
    assert_eq!(answer["base"], base.as_str());
    let trailer = answer["trailer"].as_str().unwrap();
    let blob = trailer.rsplit_once(' ').unwrap().1;
    let armor = format!("-----BEGIN SSH SIGNATURE-----\n{blob}\n-----END SSH SIGNATURE-----\n");
    let (file, signers) = (scene.desk.path("armor"), scene.desk.path("signers"));
    std::fs::write(&file, armor).unwrap();
    std::fs::write(&signers, scene.team()).unwrap();
    let text = format!(
        "evenkeel-approval v1\nfleet acme gateways\nbranch stable\ntree {tree}\nbase {base}\n"
    );
    evenkeel_tests::process::run_with_input(
        Command::new("ssh-keygen")
            .args([
                "-Y",
                "verify",
                "-n",
                "evenkeel-approval",
                "-I",
                "bob@example.com",
                "-f",
            ])
            .arg(&signers)
            .arg("-s")
            .arg(&file),
        text.as_bytes(),
        PATIENCE,
    )
    .expect_code(0);
}

#[test]
fn an_approval_of_something_else_does_not_count() {
    let scene = Scene::new();
    let (desk, repo) = (&scene.desk, &scene.repo);
    let start = desk.head(repo);
    let good = scene.approval(&scene.bob, &["canary"]);
    let other_tree = scene.approval(&scene.bob, &["stable"]);
    let other_branch = {
        let key = key(&scene.bob);
        let arguments = [
            "approve", "--branch", "early", "--base", "stable", "--key", &key, "canary",
        ];
        let said = desk.evenkeel(repo, &arguments).expect_code(0);
        said.stdout.trim_end().to_owned()
    };
    let other_base = scene.approval(&scene.bob, &["--base", "canary", "canary"]);
    let other_fleet = good.replace("acme gateways", "acme");
    let by_nobody = scene.approval(&Signer::new("bob@example.com"), &["canary"]);
    scene.promote(&[]);
    scene.amend_with(&[&good]);
    scene.expect(&scene.team(), TWO, "ok");
    for bad in [
        &other_tree,
        &other_branch,
        &other_base,
        &other_fleet,
        &by_nobody,
        &good[..good.len() - 8].to_owned(),
        &good.replace("U1NIU0lH", ""),
        &"Fleet-Approval: acme gateways".to_owned(),
    ] {
        scene.amend_with(&[bad]);
        let said = scene.expect(&scene.team(), TWO, FEW);
        assert!(said.contains("approval 1 does not count"), "{bad}: {said}");
        // Beside a good one it does no harm.
        scene.amend_with(&[bad, &good]);
        scene.expect(&scene.team(), TWO, "ok");
    }
    // Replayed: the tree was approved on top of the first commit, and comes back on top of a later one.
    scene.back(&start);
    desk.commit(repo, "fixed", &["A fix that must not be undone"]);
    let fixed = desk.head(repo);
    let tree = desk.git(repo, &["rev-parse", "canary^{tree}"]);
    let replay = format!("Replay\n\nFleet-Branch: stable\n{good}\n");
    let file = desk.path("replay");
    std::fs::write(&file, replay).unwrap();
    let commit = desk.git(
        repo,
        &["commit-tree", "-S", "-p", &fixed, "-F", &arg(&file), &tree],
    );
    scene.back(&commit);
    scene.expect(&scene.team(), TWO, FEW);
    // The same on the base that was approved is what was approved.
    let commit = desk.git(
        repo,
        &["commit-tree", "-S", "-p", &start, "-F", &arg(&file), &tree],
    );
    scene.back(&commit);
    scene.expect(&scene.team(), TWO, "ok");
}

#[test]
fn each_principal_counts_once_however_many_keys_and_a_key_once_however_many_principals() {
    let scene = Scene::new();
    let second = Signer::new("alice@example.com");
    let own = scene.approval(&scene.alice, &["canary"]);
    let by_second = scene.approval(&second, &["canary"]);
    let by_bob = scene.approval(&scene.bob, &["canary"]);
    scene.promote(&[]);
    // Alice's own key and her second one.
    let team = scene.team() + &second.allowed_line("");
    for trailers in [vec![&own], vec![&by_second], vec![&own, &by_second]] {
        let trailers: Vec<&str> = trailers.into_iter().map(String::as_str).collect();
        scene.amend_with(&trailers);
        scene.expect(&team, TWO, FEW);
    }
    // The same key on lines of two people.
    let renamed = scene
        .alice
        .allowed_line("")
        .replace("alice@example.com", "dave@example.com");
    scene.amend_with(&[&own]);
    scene.expect(&(scene.team() + &renamed), TWO, FEW);
    let both = scene
        .alice
        .allowed_line("")
        .replace("alice@example.com", "alice@example.com,dave@example.com");
    scene.expect(&both, TWO, FEW);
    // Bob twice is Bob.
    scene.amend_with(&[&by_bob, &by_second, &by_bob]);
    scene.expect(&team, "approvals = 3", FEW);
    scene.expect(&team, TWO, "ok");
}

#[test]
fn heartbeats_on_the_branch_neither_void_an_approval_nor_count() {
    let scene = Scene::new();
    let (desk, repo) = (&scene.desk, &scene.repo);
    let base = desk.head(repo);
    let before = scene.approval(&scene.bob, &["canary"]);
    for _ in 0..2 {
        desk.evenkeel(repo, &["heartbeat", "--branch", "stable"])
            .expect_code(0);
    }
    let after = scene.approval(&scene.carol, &["canary"]);
    let json = desk
        .evenkeel(
            repo,
            &[
                "approve",
                "--branch",
                "stable",
                "--json",
                "--key",
                &key(&scene.bob),
                "canary",
            ],
        )
        .expect_code(0);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["base"], base.as_str());
    scene.promote(&[&before, &after]);
    scene.expect(&scene.team(), "approvals = 3", "ok");
    // A commit that calls itself a heartbeat and changes the tree is the base of what follows.
    desk.commit(
        repo,
        "x",
        &["heartbeat", "Fleet-Heartbeat: 2026-01-01T00:00:00Z"],
    );
    let json = desk
        .evenkeel(repo, &["approve", "--branch", "stable", "--json", "canary"])
        .expect_code(0);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["base"], desk.head(repo).as_str());
}

#[test]
fn the_base_is_the_branch_here_or_as_it_was_fetched_or_none() {
    let scene = Scene::new();
    let (desk, repo) = (&scene.desk, &scene.repo);
    let clone = desk.path("clone");
    desk.git(
        desk.dir.path(),
        &["clone", "-q", "-b", "canary", &arg(repo), &arg(&clone)],
    );
    let asked = |dir: &Path, branch: &str, more: &[&str]| {
        let key = key(&scene.bob);
        let arguments = [
            &[
                "approve", "--branch", branch, "--json", "--key", &key, "canary",
            ],
            more,
        ]
        .concat();
        let said = desk.evenkeel(dir, &arguments).expect_code(0);
        let answer: Value = serde_json::from_str(&said.stdout).unwrap();
        (answer, said.stderr)
    };
    let (answer, _) = asked(&clone, "stable", &[]);
    assert_eq!(answer["base_from"], "refs/remotes/origin/stable");
    assert_eq!(answer["base"], desk.head(repo).as_str());
    // A branch of its own that lags behind is told.
    desk.git(&clone, &["branch", "-q", "stable", "origin/stable"]);
    desk.commit(repo, "later", &["Later"]);
    desk.git(&clone, &["fetch", "-q"]);
    let (answer, said) = asked(&clone, "stable", &[]);
    assert_eq!(answer["base_from"], "refs/heads/stable");
    assert!(said.contains("refs/remotes/origin/stable"), "{said}");
    let (answer, _) = asked(&clone, "stable", &["--base", "origin/stable"]);
    assert_eq!(answer["base"], desk.head(repo).as_str());
    // A new branch: its first commit has no parent.
    let (answer, said) = asked(&clone, "early", &[]);
    assert_eq!(answer["base"], Value::Null);
    assert!(said.contains("no branch `early`"), "{said}");
    // What is at the branch already was put on what is below it; a device that misses approvals names such a commit.
    let tip = desk.head(repo);
    desk.evenkeel(repo, &["heartbeat", "--branch", "stable"])
        .expect_code(0);
    desk.git(&clone, &["fetch", "-q"]);
    for (dir, revision) in [(repo, "stable"), (repo, &tip), (&clone, "origin/stable")] {
        let key = key(&scene.bob);
        let arguments = [
            "approve", "--branch", "stable", "--json", "--key", &key, revision,
        ];
        let said = desk.evenkeel(dir, &arguments).expect_code(0);
        let answer: Value = serde_json::from_str(&said.stdout).unwrap();
        // A heartbeat's own base is what it keeps alive.
        let wanted = if revision == tip {
            format!("{tip}~1")
        } else {
            tip.clone()
        };
        let wanted = desk.git(repo, &["rev-parse", &wanted]);
        assert_eq!(answer["base"], wanted.as_str(), "{revision}");
    }
    // A tree will do.
    let tree = desk.git(&clone, &["rev-parse", "canary^{tree}"]);
    let key = key(&scene.bob);
    desk.evenkeel(
        &clone,
        &["approve", "--branch", "stable", "--key", &key, &tree],
    )
    .expect_code(0);
}

#[test]
fn a_first_commit_is_approved_on_top_of_nothing() {
    let scene = Scene::new();
    let by_bob = scene.approval(&scene.bob, &["--base", "stable", "canary"]);
    let key = key(&scene.bob);
    let (desk, repo) = (&scene.desk, &scene.repo);
    let said = desk
        .evenkeel(
            repo,
            &["approve", "--branch", "early", "--key", &key, "canary"],
        )
        .expect_code(0);
    desk.git(repo, &["switch", "-q", "--orphan", "early"]);
    desk.git(repo, &["checkout", "-q", "canary", "--", "."]);
    desk.git(repo, &["commit", "-q", "-m", "First"]);
    let config = desk.config(&scene.team(), TWO);
    let early = std::fs::read_to_string(&config)
        .unwrap()
        .replace("\"stable\"", "\"early\"");
    std::fs::write(&config, early).unwrap();
    for (trailer, wanted) in [(by_bob.as_str(), FEW), (said.stdout.trim_end(), "ok")] {
        scene.amend_with(&[trailer]);
        let (reason, said) = desk.verdict(repo, &config, "HEAD");
        assert_eq!(reason, wanted, "{said}");
    }
}

#[test]
fn wrong_usage_signs_nothing_and_says_what_is_missing() {
    let scene = Scene::new();
    let (desk, repo) = (&scene.desk, &scene.repo);
    for (arguments, code, told) in [
        (
            &["approve", "--branch", "stable", "nowhere"][..],
            2,
            "no revision `nowhere`",
        ),
        (&["approve", "--branch", "a b", "canary"], 2, "not a branch"),
        (&["approve", "--branch", "--x", "canary"], 2, ""),
        (
            &["approve", "--branch", "stable", "--fleet", "beta", "canary"],
            2,
            "acme gateways",
        ),
        (
            &[
                "approve", "--branch", "stable", "--key", "/nowhere", "canary",
            ],
            2,
            "/nowhere",
        ),
        (
            &[
                "approve", "--branch", "stable", "--base", "nowhere", "canary",
            ],
            2,
            "--base",
        ),
        (
            &["approve", "--branch", "stable", "--repo", "/", "canary"],
            2,
            "not in a git repository",
        ),
    ] {
        let said = desk.evenkeel(repo, arguments).expect_code(code);
        assert!(said.stderr.contains(told), "{told}: {}", said.text());
        assert_eq!(said.stdout, "", "{arguments:?}");
    }
    // git signs with OpenPGP here.
    desk.git(repo, &["config", "gpg.format", "openpgp"]);
    let said = desk
        .evenkeel(repo, &["approve", "--branch", "stable", "canary"])
        .expect_code(2);
    assert!(said.stderr.contains("--key FILE"), "{}", said.text());
    // A key that does not sign.
    let broken = desk.path("broken");
    std::fs::write(&broken, "no key\n").unwrap();
    let said = desk
        .evenkeel(
            repo,
            &[
                "approve",
                "--branch",
                "stable",
                "--key",
                &arg(&broken),
                "canary",
            ],
        )
        .expect_code(1);
    assert_eq!(said.stdout, "");
}

#[test]
fn a_key_in_an_agent_signs_too() {
    let scene = Scene::new();
    let (desk, repo) = (&scene.desk, &scene.repo);
    let socket = desk.path("agent.sock");
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    evenkeel_tests::wait_for("the agent listens", || socket.exists().then_some(()));
    run(
        Command::new("ssh-add")
            .arg("-q")
            .arg(scene.bob.private_key())
            .env("SSH_AUTH_SOCK", &socket),
        PATIENCE,
    )
    .expect_code(0);
    // The public half alone, in words, as git takes it.
    let public = std::fs::read_to_string(scene.bob.public_key()).unwrap();
    desk.git(
        repo,
        &[
            "config",
            "user.signingkey",
            &format!("key::{}", public.trim()),
        ],
    );
    let mut command = Command::new(binary());
    command
        .env("HOME", desk.home())
        .env("GIT_CONFIG_GLOBAL", desk.home().join(".gitconfig"))
        .env("SSH_AUTH_SOCK", &socket)
        .current_dir(repo)
        .args(["approve", "--branch", "stable", "canary"]);
    let said = run(&mut command, PATIENCE);
    let _ = agent.kill();
    let _ = agent.wait();
    let said = said.expect_code(0);
    desk.git(repo, &["config", "user.signingkey", &key(&scene.alice)]);
    scene.promote(&[said.stdout.trim_end()]);
    scene.expect(&scene.team(), TWO, "ok");
}
