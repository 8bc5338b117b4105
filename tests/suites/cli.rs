//! The commands, as a user and a script see them.

use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::{FleetRepo, PATIENCE, Signer};
use serde_json::Value;

use crate::fleet::World;

pub(crate) fn evenkeel(arguments: &[&str]) -> Output {
    run(Command::new(binary()).args(arguments), PATIENCE)
}

#[test]
fn help_and_version_are_answers_and_a_wrong_verb_is_wrong_usage() {
    let help = evenkeel(&["--help"]).expect_code(0);
    for verb in [
        "run", "sync", "status", "plan", "history", "rollback", "pause", "resume", "verify",
        "lint", "render", "demo", "schema",
    ] {
        assert!(help.stdout.contains(verb), "{verb} is not in --help");
        evenkeel(&[verb, "--help"]).expect_code(0);
    }
    assert!(
        evenkeel(&["--version"])
            .expect_code(0)
            .stdout
            .contains("0.1")
    );
    evenkeel(&["frobnicate"]).expect_code(2);
    evenkeel(&["sync", "--frobnicate"]).expect_code(2);
    let said = evenkeel(&["sync", "--config", "/nowhere/agent.toml"]).expect_code(2);
    assert!(
        said.stderr.contains("/nowhere/agent.toml"),
        "{}",
        said.text()
    );
    assert_eq!(said.stdout, "");
}

#[test]
fn nothing_is_coloured_where_nobody_looks() {
    let world = World::of_files("cli-plain");
    world.one_file("x\n");
    world.repo.release("First");
    for verb in ["sync", "status", "plan", "history"] {
        let said = world.device.evenkeel(&[verb]);
        assert!(!said.text().contains('\u{1b}'), "{verb}: {:?}", said.text());
    }
}

#[test]
fn status_plan_and_history_answer_before_and_after_the_first_pass() {
    let world = World::of_files("cli-status");
    world.one_file("x\n");
    let first = world.repo.release("First");
    let status = world.device.status_json();
    assert_eq!(status["device"], "cli-status");
    assert_eq!(status["branch"], "main");
    assert_eq!(status["revision"]["applied"], Value::Null);
    let plan = world.device.plan_json();
    assert_eq!(plan["revision"], first.as_str(), "{plan:#}");
    assert_eq!(plan["target"], "advance");
    assert!(
        plan["steps"][0]["resource"]
            .to_string()
            .contains("/etc/one.conf"),
        "{plan:#}"
    );
    assert_eq!(
        world.device.read("/etc/one.conf"),
        None,
        "plan changed something"
    );

    world.device.sync().expect_code(0);
    let status = world.device.status_json();
    assert_eq!(status["phase"], "Idle");
    assert_eq!(status["apps"][0]["name"], "one");
    for condition in status["conditions"].as_array().unwrap() {
        for field in ["type", "status", "reason", "message", "since"] {
            assert!(condition[field].is_string(), "{field} in {condition}");
        }
    }
    let text = world.device.evenkeel(&["status"]).expect_code(0).stdout;
    assert!(text.contains(&first[..7]), "{text}");
    let history = world.device.evenkeel(&["history"]).expect_code(0).stdout;
    assert!(history.contains(&first[..7]), "{history}");
    let plan = world.device.plan_json();
    assert_eq!(plan["target"], "keep", "{plan:#}");
}

#[test]
fn verify_gives_a_verdict_and_its_reason() {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
    let signers = repo.allowed_signers().display().to_string();
    let work = repo.work().display().to_string();
    let good = repo.commit_signed("Good");
    let unsigned = repo.commit_unsigned("Unsigned");
    let strange = repo.commit_signed_by(&Signer::new("stranger@example.com"), "Strange");
    for (commit, code, verdict, reason) in [
        (&good, 0, "trusted", "ok"),
        (&unsigned, 3, "refused", "unsigned"),
        (&strange, 3, "refused", "unknown-key"),
    ] {
        let said = evenkeel(&[
            "verify",
            "--json",
            "--repo",
            &work,
            "--allowed-signers",
            &signers,
            commit,
        ])
        .expect_code(code);
        let answer: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert_eq!(answer["commit"], commit.as_str());
        assert_eq!(answer["verdict"], verdict, "{answer}");
        assert_eq!(answer["reason"], reason, "{answer}");
    }
    let said = evenkeel(&[
        "verify",
        "--json",
        "--repo",
        &work,
        "--allowed-signers",
        &signers,
        &good,
    ]);
    let answer: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(answer["principal"], "release@example.com");
    assert_eq!(answer["key_type"], "ssh-ed25519");
    assert!(
        answer["fingerprint"]
            .as_str()
            .unwrap()
            .starts_with("SHA256:"),
        "{answer}"
    );
    // A name works as well as an id, and one that is nothing does not.
    evenkeel(&[
        "verify",
        "--repo",
        &work,
        "--allowed-signers",
        &signers,
        "main~2",
    ])
    .expect_code(0);
    assert_ne!(
        evenkeel(&[
            "verify",
            "--repo",
            &work,
            "--allowed-signers",
            &signers,
            "nowhere"
        ])
        .code,
        Some(0)
    );
}

#[test]
fn every_kind_of_key_that_ssh_makes_verifies() {
    for kind in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "rsa", "-b", "3072"],
    ] {
        let repo = FleetRepo::new();
        repo.write("a", "1");
        let signer = Signer::of_type("release@example.com", kind);
        let commit = repo.commit_signed_by(&signer, "Signed");
        let signers = repo.allowed_signers();
        std::fs::write(&signers, signer.allowed_line("namespaces=\"git\"")).unwrap();
        let said = evenkeel(&[
            "verify",
            "--repo",
            &repo.work().display().to_string(),
            "--allowed-signers",
            &signers.display().to_string(),
            &commit,
        ]);
        assert_eq!(said.code, Some(0), "{kind:?}: {}", said.text());
    }
}

#[test]
fn lint_tells_every_problem_with_its_place() {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n")
        .write(
            "apps/one/app.toml",
            "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"x\"\n",
        );
    let work = repo.work().display().to_string();
    evenkeel(&["lint", &work]).expect_code(0);
    repo.write(
        "apps/one/app.toml",
        "[[files]]\npath = \"one.conf\"\ncontent = \"x\"\nmod = 1\n",
    )
    // An app that no device runs is judged by lint all the same.
    .write("apps/two/app.toml", "[servces.web]\n");
    let said = evenkeel(&["lint", &work]);
    assert_eq!(said.code, Some(3), "{}", said.text());
    for place in [
        "apps/one/app.toml:2:",
        "apps/one/app.toml:4:",
        "apps/two/app.toml:1:",
    ] {
        assert!(said.text().contains(place), "{place}: {}", said.text());
    }
}

#[test]
fn lint_holds_the_agents_in_the_repository_against_their_sums() {
    let repo = FleetRepo::new();
    let sum = |path: &str| {
        let file = repo.work().join(path);
        let said = run(std::process::Command::new("sha256sum").arg(file), PATIENCE);
        said.expect_code(0).stdout[..64].to_owned()
    };
    repo.write("agent/arm", "\u{7f}ELF one")
        .write("agent/other", "another\n");
    std::os::unix::fs::symlink("arm", repo.work().join("agent/link")).unwrap();
    let agent = |path: &str, sum: &str| {
        format!(
            "[agent]\nversion = \"0.2.0\"\n[agent.binaries.armv7]\npath = {path:?}\nsha256 = {sum:?}\n"
        )
    };
    let right = sum("agent/arm");
    let fleet = "format = 1\nname = \"test\"\n".to_owned();
    repo.write("fleet.toml", fleet.clone() + &agent("agent/arm", &right))
        .write("groups/all.toml", "match = \"all\"\napps = []\n");
    let work = repo.work().display().to_string();
    evenkeel(&["lint", &work]).expect_code(0);

    // One in each of the documents that can declare it, however it is wrong.
    repo.write("fleet.toml", fleet + &agent("agent/other", &right))
        .write(
            "groups/all.toml",
            "match = \"all\"\napps = []\n".to_owned() + &agent("agent/none", &right),
        )
        .write("devices/gw-1.toml", agent("agent/link", &right))
        .write("devices/gw-2.toml", agent("agent", &right));
    let said = evenkeel(&["lint", &work]).expect_code(3);
    let wrong = format!(
        "fleet.toml:7:10: `agent/other` is not what is declared here: its SHA-256 is {}",
        sum("agent/other")
    );
    for words in [
        &*wrong,
        "groups/all.toml:6:8: `agent/none`: there is no such file",
        "devices/gw-1.toml:4:8: `agent/link`: a symbolic link",
        "devices/gw-2.toml:4:8: `agent`: it is not a file",
        "4 problems in",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.text());
    }
    let said = evenkeel(&["lint", "--json", &work]).expect_code(3);
    let answer: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let places: Vec<&str> = answer["problems"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["file"].as_str())
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn lint_warns_of_signers_that_are_not_one_person() {
    let repo = FleetRepo::new();
    let alice = Signer::new("alice@acme.example");
    let forge = Signer::new("noreply@github.com");
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = []\n")
        .write("trust/allowed_signers", alice.allowed_line(""));
    let work = repo.work().display().to_string();
    let said = evenkeel(&["lint", &work]).expect_code(0);
    assert!(!said.text().contains("one person"), "{}", said.text());
    repo.write(
        "trust/allowed_signers",
        alice.allowed_line("") + &forge.allowed_line(""),
    );
    let said = evenkeel(&["lint", &work]).expect_code(0);
    let warning = "warning: trust/allowed_signers:2:1: `noreply@github.com` is not one person";
    assert!(said.stdout.contains(warning), "{}", said.text());
    let said = evenkeel(&["lint", "--json", &work]).expect_code(0);
    let answer: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["warnings"][0]["line"], 2);
}

#[test]
fn render_shows_what_one_device_would_get() {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n[values]\ntz = \"UTC\"\n")
        .write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n")
        .write(
            "apps/one/app.toml",
            format!(
                "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"{{{{ device.id }}}} {{{{ values.tz }}}}\"\ntemplate = true\n\
                 [services.web]\nimage = \"sha256:{}\"\nports = [\"8080:80\"]\nenvironment = {{ TZ = \"{{{{ values.tz }}}}\" }}\n",
                "1".repeat(64)
            ),
        )
        .write("devices/gw-1.toml", "labels = { site = \"a\" }\n");
    let said = evenkeel(&[
        "render",
        &repo.work().display().to_string(),
        "--device",
        "gw-1",
        "--json",
    ])
    .expect_code(0);
    let answer: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(answer["device"], "gw-1");
    let app = &answer["apps"][0];
    assert_eq!(app["name"], "one");
    assert_eq!(app["files"][0]["path"], "/etc/one.conf");
    assert_eq!(app["files"][0]["content"], "gw-1 UTC");
    assert_eq!(app["files"][0]["mode"], "0644");
    let web = &app["services"]["web"];
    assert_eq!(web["environment"]["TZ"], "UTC", "{web:#}");
    assert_eq!(web["ports"][0]["target"], 80, "{web:#}");
    assert_eq!(web["ports"][0]["published"], "8080", "{web:#}");
}

#[test]
fn schemas_are_json_schema() {
    for document in ["fleet", "group", "device", "app", "compose", "agent"] {
        let said = evenkeel(&["schema", document]).expect_code(0);
        let schema: Value = serde_json::from_str(&said.stdout).expect("JSON");
        assert!(
            schema["$schema"]
                .as_str()
                .is_some_and(|s| s.contains("json-schema.org")),
            "{document}"
        );
        assert!(schema["properties"].is_object(), "{document}");
    }
    evenkeel(&["schema", "nowhere"]).expect_code(2);
}

#[test]
fn a_running_agent_answers_on_a_socket_that_is_its_owners_alone() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let mut world = World::of_files("cli-daemon");
    world.device.settings.interval = "1h".to_owned();
    world.one_file("1\n");
    let first = world.repo.release("First");
    let daemon = world.device.spawn_daemon();
    evenkeel_tests::wait_for("the first pass", || {
        (world.device.status_json()["revision"]["last_good"] == first.as_str()).then_some(())
    });
    let sockets: Vec<_> = evenkeel_tests::proc::listing(&world.device.state_dir())
        .into_keys()
        .filter_map(|path| std::fs::symlink_metadata(path).ok())
        .filter(|meta| meta.file_type().is_socket())
        .collect();
    assert_eq!(sockets.len(), 1, "one socket in the state directory");
    assert_eq!(sockets[0].permissions().mode() & 0o777, 0o600);

    // An hour until the next poll: sync asks the running agent for one now.
    world.one_file("2\n");
    world.repo.release("Second");
    world.device.sync().expect_code(0);
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("2\n"));
    // And so does SIGHUP.
    world.one_file("3\n");
    world.repo.release("Third");
    daemon.signal("HUP");
    evenkeel_tests::wait_for("the third revision", || {
        (world.device.read("/etc/one.conf").as_deref() == Some("3\n")).then_some(())
    });
    // A refusal is the same through the agent.
    world.one_file("4\n");
    world.repo.commit_unsigned("Unsigned");
    world.repo.push();
    world.device.sync().expect_code(3);
    world.device.evenkeel(&["pause"]).expect_code(0);
    assert_eq!(world.device.status_json()["phase"], "Paused");
    world.device.evenkeel(&["resume"]).expect_code(0);
    assert_eq!(daemon.stop(), Some(0));
    // Stopped, it leaves nothing that hinders the next one.
    world.device.evenkeel(&["status"]).expect_code(0);
}
