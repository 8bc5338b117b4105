//! `evenkeel init`.

use super::*;

#[test]
fn a_new_fleet_repository_works_for_who_has_nothing_yet() {
    let desk = Desk::new();
    let said = desk
        .evenkeel(desk.dir.path(), &["init", "gateways"])
        .expect_code(0);
    assert!(
        said.stdout.contains("made a signing key"),
        "{}",
        said.text()
    );
    let repo = desk.path("gateways");
    assert_eq!(
        desk.git(&repo, &["symbolic-ref", "HEAD"]),
        "refs/heads/stable"
    );
    assert_eq!(desk.git(&repo, &["status", "--porcelain"]), "");
    desk.evenkeel(&repo, &["lint", "."]).expect_code(0);
    let shown = desk
        .evenkeel(&repo, &["render", ".", "--device", "gw-0001"])
        .expect_code(0);
    assert!(
        shown.stdout.contains("hello from gw-0001"),
        "{}",
        shown.text()
    );
    let set = arg(&repo.join("allowed_signers"));
    let bound = [
        "verify",
        "--allowed-signers",
        &set,
        "--branch",
        "stable",
        "--bind-branch",
        "HEAD",
    ];
    desk.evenkeel(&repo, &bound).expect_code(0);
    desk.git(&repo, &["verify-commit", "HEAD"]);
    // The next commit needs no word about signing or branches.
    desk.commit(&repo, "apps/hello/hello.txt", &["More"]);
    desk.evenkeel(&repo, &bound).expect_code(0);
    // And neither does an approval, by the same key.
    desk.evenkeel(&repo, &["approve", "--branch", "stable", "HEAD"])
        .expect_code(0);
    // Again: nothing is made anew.
    let tip = desk.head(&repo);
    let config = std::fs::read(repo.join(".git/config")).unwrap();
    desk.evenkeel(&repo, &["init", "."]).expect_code(0);
    assert_eq!(desk.head(&repo), tip);
    assert_eq!(desk.git(&repo, &["status", "--porcelain"]), "");
    assert_eq!(std::fs::read(repo.join(".git/config")).unwrap(), config);
}

#[test]
fn the_users_own_key_and_settings_are_used_and_stay() {
    let desk = Desk::new();
    let alice = Signer::new("alice@example.com");
    // A key in ~/.ssh, and no word about it in git's settings.
    desk.is_known();
    std::fs::create_dir(desk.home().join(".ssh")).unwrap();
    for (from, to) in [
        (alice.private_key(), "id_ed25519"),
        (alice.public_key(), "id_ed25519.pub"),
    ] {
        std::fs::copy(from, desk.home().join(".ssh").join(to)).unwrap();
    }
    let json = desk
        .evenkeel(
            desk.dir.path(),
            &["init", "--json", "--name", "A \"fleet\"", "one"],
        )
        .expect_code(0);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["commit"], desk.head(&desk.path("one")).as_str());
    let set = std::fs::read_to_string(desk.path("one/allowed_signers")).unwrap();
    let blob = alice.allowed_line("");
    assert!(
        set.contains(blob.split(' ').nth(2).unwrap().trim()),
        "{set}"
    );
    assert!(set.contains("\nalice@example.com "), "{set}");
    desk.evenkeel(&desk.path("one"), &["lint", "."])
        .expect_code(0);
    assert!(
        !desk.home().join(".config").exists(),
        "a second key was made"
    );

    // git signs with SSH already, with a key in words: nothing of it changes.
    let bob = Signer::new("bob@example.com");
    let settings = format!(
        "[user]\nname = Bob\nemail = bob@example.com\nsigningkey = {}\n[gpg]\nformat = ssh\n[commit]\ngpgsign = true\n",
        bob.public_key().display()
    );
    std::fs::write(desk.home().join(".gitconfig"), &settings).unwrap();
    desk.evenkeel(desk.dir.path(), &["init", "two"])
        .expect_code(0);
    let set = std::fs::read_to_string(desk.path("two/allowed_signers")).unwrap();
    assert!(set.contains("\nbob@example.com "), "{set}");
    assert_eq!(
        std::fs::read_to_string(desk.home().join(".gitconfig")).unwrap(),
        settings
    );
    let own = std::fs::read_to_string(desk.path("two/.git/config")).unwrap();
    assert!(!own.contains("signingkey"), "{own}");

    // --key wins.
    let carol = Signer::new("carol@example.com");
    desk.evenkeel(desk.dir.path(), &["init", "three", "--key", &key(&carol)])
        .expect_code(0);
    desk.git(&desk.path("three"), &["verify-commit", "HEAD"]);
    let missing = desk
        .evenkeel(desk.dir.path(), &["init", "four", "--key", "/nowhere/key"])
        .expect_code(2);
    assert!(
        missing.stderr.contains("/nowhere/key"),
        "{}",
        missing.text()
    );
}

#[test]
fn what_signing_kept_from_being_made_is_told_of_and_can_be_made_by_hand() {
    let desk = Desk::new();
    desk.is_known();
    let settings = desk.home().join(".gitconfig");
    let good = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(
        &settings,
        format!("{good}[gpg \"ssh\"]\nprogram = /bin/false\n"),
    )
    .unwrap();
    desk.evenkeel(desk.dir.path(), &["init", "fleet"])
        .expect_code(1);
    std::fs::write(&settings, good).unwrap();
    let repo = desk.path("fleet");
    let json = desk
        .evenkeel(&repo, &["init", "--json", "."])
        .expect_code(0);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    let todo = answer["todo"].as_array().unwrap();
    assert_eq!(todo.len(), 2, "{answer:#}");
    for line in todo {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", line.as_str().unwrap()])
            .env("GIT_CONFIG_GLOBAL", &settings)
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .current_dir(&repo);
        desk.at_home(&mut shell).expect_code(0);
    }
    assert_eq!(
        desk.git(&repo, &["symbolic-ref", "HEAD"]),
        "refs/heads/stable"
    );
    let set = arg(&repo.join("allowed_signers"));
    for ring in ["stable", "canary"] {
        let bound = ["--branch", ring, "--bind-branch", ring];
        let verify = ["verify", "--allowed-signers", &set];
        desk.evenkeel(&repo, &[verify.as_slice(), &bound].concat())
            .expect_code(0);
    }
    let json = desk
        .evenkeel(&repo, &["init", "--json", "."])
        .expect_code(0);
    let answer: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["todo"], serde_json::json!([]));
}

#[test]
fn what_is_somebody_elses_is_never_taken_for_empty() {
    let desk = Desk::new();
    desk.is_known();
    let other = desk.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.txt"), "mine\n").unwrap();
    let said = desk
        .evenkeel(desk.dir.path(), &["init", "other"])
        .expect_code(2);
    assert!(said.stderr.contains("no fleet.toml"), "{}", said.text());
    assert!(!other.join(".git").exists());
    // A fleet in a folder of another repository.
    desk.git(&other, &["init", "-q"]);
    std::fs::create_dir(other.join("fleet")).unwrap();
    std::fs::write(other.join("fleet/fleet.toml"), "format = 1\nname = \"a\"\n").unwrap();
    desk.evenkeel(&other, &["init", "fleet"]).expect_code(2);
    assert!(!other.join("fleet/.git").exists());
    // An empty repository is an empty folder.
    let empty = desk.path("empty");
    std::fs::create_dir(&empty).unwrap();
    desk.git(&empty, &["init", "-q", "-b", "canary"]);
    desk.evenkeel(&empty, &["init", "."]).expect_code(0);
    assert!(
        desk.message(&empty, "canary")
            .ends_with("Fleet-Branch: canary")
    );
}

#[test]
fn a_fleet_repository_gets_only_what_it_lacks() {
    let desk = Desk::new();
    desk.is_known();
    let repo = desk.path("fleet");
    std::fs::create_dir(&repo).unwrap();
    desk.git(&repo, &["init", "-q", "-b", "canary"]);
    std::fs::write(repo.join("fleet.toml"), "format = 1\nname = \"old\"\n").unwrap();
    desk.git(&repo, &["add", "-A"]);
    desk.git(&repo, &["commit", "-q", "--no-gpg-sign", "-m", "Old"]);
    let tip = desk.head(&repo);
    // A hook of their own is there for one of the two.
    let theirs = "#!/bin/sh\necho theirs >&2\n";
    let hook = repo.join(".git/hooks/commit-msg");
    std::fs::write(&hook, theirs).unwrap();
    run(Command::new("chmod").arg("755").arg(&hook), PATIENCE).expect_code(0);

    let said = desk.evenkeel(&repo, &["init", "."]).expect_code(0);
    assert_eq!(desk.head(&repo), tip, "nothing is committed");
    assert_eq!(
        std::fs::read_to_string(repo.join("fleet.toml")).unwrap(),
        "format = 1\nname = \"old\"\n"
    );
    assert!(!repo.join("groups").exists() && !repo.join("README.md").exists());
    assert!(repo.join("allowed_signers").exists());
    assert_eq!(std::fs::read_to_string(&hook).unwrap(), theirs);
    // The line that it prints, put into their hook, does it.
    let line = said
        .stdout
        .lines()
        .find(|line| line.contains("evenkeel.d/commit-msg"))
        .unwrap_or_else(|| panic!("no line to add: {}", said.text()));
    std::fs::write(&hook, format!("{theirs}{}\n", line.trim())).unwrap();
    desk.commit(&repo, "a", &["With both"]);
    assert_eq!(
        desk.message(&repo, "HEAD"),
        "With both\n\nFleet-Branch: canary"
    );
    desk.git(&repo, &["cat-file", "-e", "HEAD"]);
    let again = desk.evenkeel(&repo, &["init", "."]).expect_code(0);
    assert!(again.stdout.contains("names ours"), "{}", again.text());
    assert!(!again.stdout.contains("add this line"), "{}", again.text());
}

#[test]
fn hooks_go_where_git_looks_for_them_and_act_in_fleet_repositories_alone() {
    let desk = Desk::new();
    desk.is_known();
    let shared = desk.path("shared hooks");
    let settings = format!(
        "[user]\nname = Alice\nemail = alice@example.com\n[core]\nhooksPath = {}\n",
        shared.display()
    );
    std::fs::write(desk.home().join(".gitconfig"), settings).unwrap();
    desk.evenkeel(desk.dir.path(), &["init", "fleet"])
        .expect_code(0);
    assert!(shared.join("commit-msg").exists());
    let fleet = desk.path("fleet");
    assert!(!fleet.join(".git/hooks/commit-msg").exists());
    desk.commit(&fleet, "a", &["In the fleet"]);
    assert!(
        desk.message(&fleet, "HEAD")
            .contains("Fleet-Branch: stable")
    );
    let other = desk.path("other");
    std::fs::create_dir(&other).unwrap();
    desk.git(&other, &["init", "-q"]);
    desk.commit(&other, "a", &["Elsewhere"]);
    assert_eq!(desk.message(&other, "HEAD"), "Elsewhere");
}

#[test]
fn from_nothing_to_a_converged_device_by_the_words_of_the_new_readme() {
    let desk = Desk::new();
    let repo = desk.fleet();
    // Both rings are there, each with a commit of its own that a device which binds branches takes.
    let set = arg(&repo.join("allowed_signers"));
    for ring in ["stable", "canary"] {
        let bound = [
            "verify",
            "--allowed-signers",
            &set,
            "--branch",
            ring,
            "--bind-branch",
            ring,
        ];
        desk.evenkeel(&repo, &bound).expect_code(0);
    }
    // What CI runs, with evenkeel in PATH as the hook wants it, too.
    let bin = binary().parent().unwrap().display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
    let check = |code: i32| {
        desk.at_home(Command::new(repo.join("ci/check.sh")).env("PATH", &path))
            .expect_code(code)
    };
    check(0);
    for workflow in [
        ".github/workflows/fleet.yml",
        ".gitlab-ci.yml",
        ".forgejo/workflows/fleet.yml",
        ".gitea/workflows/fleet.yml",
        ".woodpecker.yml",
    ] {
        let text = std::fs::read_to_string(repo.join(workflow)).unwrap();
        assert!(text.contains("ci/check.sh"), "{workflow}");
        let read = run(
            Command::new("python3")
                .args(["-c", "import json, sys, yaml; json.dumps(yaml.safe_load(open(sys.argv[1])), default=str)"])
                .arg(repo.join(workflow)),
            PATIENCE,
        );
        assert!(
            read.code == Some(0) || read.stderr.contains("No module named 'yaml'"),
            "{workflow}: {}",
            read.text()
        );
    }
    // A server, and a device by the agent.toml of the README.
    let bare = desk.path("served/fleet.git");
    desk.git(desk.dir.path(), &["init", "-q", "--bare", &arg(&bare)]);
    desk.git(&repo, &["remote", "add", "origin", &arg(&bare)]);
    desk.git(&repo, &["push", "-q", "-u", "origin", "stable", "canary"]);
    let server = evenkeel_tests::GitHttp::http(&desk.path("served"));
    let readme = std::fs::read_to_string(repo.join("README.md")).unwrap();
    let written = readme
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let mut device =
        evenkeel_tests::Device::new("gw-0001", &server.url(), &repo.join("allowed_signers"));
    let config = written
        .replace("https://git.example.com/you/fleet.git", &server.url())
        .replace("/etc/evenkeel/allowed_signers", &set);
    device.write_config_by_hand(&format!(
        "state_dir = {:?}\nroot = {:?}\n[device]\nid = \"gw-0001\"\n[engine]\nsocket = \"unix:///nowhere\"\n{config}",
        device.state_dir(),
        device.root()
    ));
    device.sync().expect_code(0);
    assert_eq!(
        device.read("/srv/hello/hello.txt").as_deref(),
        Some("hello from gw-0001\n")
    );

    // A change: canary, then stable; a mistake does not even become a commit.
    desk.git(&repo, &["switch", "-q", "canary"]);
    let app = repo.join("groups/everyone.toml");
    let good = std::fs::read_to_string(&app).unwrap();
    std::fs::write(&app, good.replace("\"hello\"", "\"helo\"")).unwrap();
    let mut git = desk.git_program(&repo);
    let wrong = desk.at_home(
        git.args(["commit", "-q", "-a", "-m", "A slip"])
            .env("PATH", &path),
    );
    assert_eq!(wrong.code, Some(1), "{}", wrong.text());
    assert!(
        wrong.stderr.contains("there is no app `helo`"),
        "{}",
        wrong.text()
    );
    check(3);
    std::fs::write(&app, good).unwrap();
    desk.commit(&repo, "apps/hello/hello.txt", &["Say x"]);
    desk.git(&repo, &["push", "-q", "origin", "canary"]);
    desk.evenkeel(&repo, &["promote", "--from", "canary", "--to", "stable"])
        .expect_code(0);
    device.sync().expect_code(0);
    assert_eq!(
        device.read("/srv/hello/hello.txt").as_deref(),
        Some("hello from gw-0001\nx\n")
    );
    desk.evenkeel(&repo, &["promote", "--revert", "--to", "stable"])
        .expect_code(0);
    // Taking that would cost another soak: the branch shows what it showed first.
    assert_eq!(
        desk.git(&bare, &["rev-parse", "stable^{tree}"]),
        desk.git(&bare, &["rev-parse", "stable~2^{tree}"])
    );
}
