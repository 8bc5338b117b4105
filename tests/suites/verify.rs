//! `evenkeel verify` by the rules of a device: from a floor, each commit, heartbeats, approvals.

use std::path::Path;
use std::process::Command;

use evenkeel::cli::verify::{self, Answer, Args};
use evenkeel_tests::device::binary;
use evenkeel_tests::process::run;
use evenkeel_tests::{FleetRepo, PATIENCE, Signer};
use serde_json::Value;

fn args(repo: &FleetRepo, revision: &str) -> Args {
    Args {
        revision: revision.to_owned(),
        repo: Some(repo.work()),
        allowed_signers: Some(repo.allowed_signers()),
        ..Args::default()
    }
}

fn ask(args: &Args) -> Answer {
    verify::answer(args, &|_: &Path| Err("no configuration here".to_owned())).unwrap()
}

fn explained(args: Args) -> Value {
    let answer = ask(&Args {
        json: true,
        explain: true,
        ..args
    });
    let value: Value = serde_json::from_str(&answer.text).unwrap();
    let code = match value["verdict"].as_str().unwrap() {
        "trusted" => 0,
        "undecided" => 1,
        _ => 3,
    };
    assert_eq!(answer.code, code, "{value:#}");
    value
}

/// A good commit, an unsigned one, and a good one on top.
fn smuggled() -> (FleetRepo, [String; 3]) {
    let repo = FleetRepo::new();
    repo.write("a", "1");
    let floor = repo.commit_signed("floor");
    repo.write("a", "2");
    let unsigned = repo.commit_unsigned("unsigned");
    repo.write("a", "3");
    let tip = repo.commit_signed("tip");
    (repo, [floor, unsigned, tip])
}

#[test]
fn an_unsigned_commit_below_a_signed_tip_is_found_with_every_commit() {
    let (repo, [floor, unsigned, tip]) = smuggled();
    assert_eq!(ask(&args(&repo, "HEAD")).code, 0);
    let every = Args {
        every_commit: true,
        floor: Some(floor.clone()),
        ..args(&repo, "HEAD")
    };
    let found = explained(every);
    assert_eq!(found["commit"], tip.as_str());
    assert_eq!(
        (&found["verdict"], &found["reason"]),
        (&Value::from("refused"), &Value::from("unsigned"))
    );
    assert_eq!(found["because"]["commit"], unsigned.as_str());
    // What was judged is told commit by commit.
    let checks = found["checks"].as_array().unwrap();
    let of_unsigned: Vec<&str> = checks
        .iter()
        .filter(|check| check["commit"] == unsigned.as_str())
        .map(|check| check["check"].as_str().unwrap())
        .collect();
    assert_eq!(of_unsigned.first(), Some(&"commit"), "{found:#}");
    assert_eq!(of_unsigned.last(), Some(&"signature"), "{found:#}");
    // From the unsigned one on, nothing is wrong.
    let past = Args {
        every_commit: true,
        floor: Some(unsigned.clone()),
        ..args(&repo, "HEAD")
    };
    assert_eq!(explained(past)["reason"], "ok");
    // And without any floor all of it counts.
    let all = Args {
        every_commit: true,
        ..args(&repo, "HEAD")
    };
    let answer = ask(&all);
    assert_eq!(answer.code, 3);
    assert!(
        answer
            .text
            .starts_with(&format!("{tip} is refused for {unsigned}")),
        "{}",
        answer.text
    );
}

#[test]
fn a_revision_beside_the_floor_is_no_descendant_and_the_floor_is_resolved_like_any_name() {
    let (repo, [floor, _, tip]) = smuggled();
    repo.git(&["checkout", "-q", "-b", "beside", &floor]);
    repo.write("a", "beside");
    repo.commit_signed("beside");
    for (revision, floor, reason) in [
        ("beside", "main", "not-descendant"),
        ("beside", "main~2", "ok"),
        ("main", tip.as_str(), "ok"),
        ("main~2", "main", "not-descendant"),
    ] {
        let asked = Args {
            floor: Some(floor.to_owned()),
            ..args(&repo, revision)
        };
        assert_eq!(
            explained(asked)["reason"],
            reason,
            "{revision} from {floor}"
        );
    }
    let nowhere = Args {
        floor: Some("nowhere".to_owned()),
        ..args(&repo, "main")
    };
    let error = verify::answer(&nowhere, &|_: &Path| Err(String::new())).unwrap_err();
    assert!(format!("{error:#}").contains("nowhere"), "{error:#}");
}

#[test]
fn a_rewrite_that_says_so_supersedes_the_floor() {
    let (repo, [floor, _, tip]) = smuggled();
    repo.git(&["checkout", "-q", "-b", "anew", &floor]);
    repo.write("a", "anew");
    repo.commit_signed(&format!("Anew\n\nSupersedes: {tip}"));
    let asked = Args {
        floor: Some("main".to_owned()),
        ..args(&repo, "anew")
    };
    let found = explained(asked);
    assert_eq!(found["reason"], "ok", "{found:#}");
    let checks = found["checks"].as_array().unwrap();
    assert!(
        checks.iter().any(|check| check["check"] == "supersedes"),
        "{found:#}"
    );
}

#[test]
fn approvals_are_counted_and_are_for_a_branch() {
    let (repo, _) = smuggled();
    let two = Args {
        approvals: Some(2),
        branch: Some("main".to_owned()),
        ..args(&repo, "HEAD")
    };
    assert_eq!(explained(two)["reason"], "too-few-approvals");
    let nameless = Args {
        approvals: Some(2),
        ..args(&repo, "HEAD")
    };
    let error = verify::answer(&nameless, &|_: &Path| Err(String::new())).unwrap_err();
    assert!(format!("{error:#}").contains("--branch"), "{error:#}");
}

#[test]
fn the_configuration_decides_where_the_command_line_is_silent() {
    let (repo, [floor, unsigned, _]) = smuggled();
    let bot = Signer::new("bot@example.com");
    repo.reset_to(&floor);
    repo.git(&["reset", "-q", "--hard", &floor]);
    repo.write("a", "4");
    let below = repo.commit_signed("below");
    let beat = {
        let key = format!("user.signingkey={}", bot.private_key().display());
        repo.git(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "commit",
            "-q",
            "-S",
            "--allow-empty",
            "-m",
            "Beat",
        ]);
        repo.head()
    };
    let signers = repo.allowed_signers();
    let lines =
        std::fs::read_to_string(&signers).unwrap() + &bot.allowed_line("namespaces=\"git\"");
    std::fs::write(&signers, lines).unwrap();
    let config = repo.served().join("agent.toml");
    std::fs::write(
        &config,
        format!(
            "[source]\nurl = \"{}\"\nbranch = \"main\"\n[trust]\nallowed_signers = \"{}\"\nverify = \"every-commit\"\n\
             [trust.heartbeat]\nsigners = [\"bot@example.com\"]\n",
            repo.file_url(),
            signers.display()
        ),
    )
    .unwrap();
    let asked = |extra: &[&str]| {
        let (work, config) = (repo.work(), config.clone());
        let mut arguments = vec!["verify", "--repo", work.to_str().unwrap()];
        arguments.extend(["--config", config.to_str().unwrap()]);
        arguments.extend(extra);
        run(Command::new(binary()).args(&arguments), PATIENCE)
    };
    let said = asked(&["HEAD"]).expect_code(0);
    assert!(
        said.stdout.contains(&beat)
            && said
                .stdout
                .contains(&format!("heartbeat; the commit below it, {below}")),
        "{}",
        said.text()
    );
    // No device's floor is read, and that is said.
    assert!(said.stderr.contains("--floor REV"), "{}", said.text());
    let said = asked(&["--floor", &below, "HEAD"]).expect_code(0);
    assert_eq!(said.stderr, "");
    let said = asked(&["--explain", &unsigned]).expect_code(3);
    for heading in [
        "policy      not judged  trust set",
        "policy      not judged  judged",
        &format!("commit {floor}: on the branch, by "),
        &format!("commit {unsigned}: "),
        "signature   failed",
    ] {
        assert!(
            said.stdout.lines().any(|line| line.starts_with(heading)),
            "{heading}: {}",
            said.text()
        );
    }
}

#[test]
fn a_shallow_clone_is_judged_as_far_as_it_goes() {
    let (repo, [floor, _, tip]) = smuggled();
    repo.push();
    let url = repo.file_url();
    repo.git(&["clone", "-q", "--depth", "1", &url, "../thin"]);
    let thin = |args: Args| Args {
        repo: Some(repo.served().join("thin")),
        ..args
    };
    assert_eq!(ask(&thin(args(&repo, "HEAD"))).code, 0);
    let every = Args {
        every_commit: true,
        ..thin(args(&repo, &tip))
    };
    let found = explained(every);
    assert_eq!(found["verdict"], "undecided", "{found:#}");
    let gone = Args {
        floor: Some(floor),
        ..thin(args(&repo, &tip))
    };
    assert!(verify::answer(&gone, &|_: &Path| Err(String::new())).is_err());
}
