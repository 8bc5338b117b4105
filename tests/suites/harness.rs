//! The harness itself: each part is what it says, judged by the real client, so that a failing suite is the device's
//! failure.

use std::process::Command;
use std::time::Duration;

use evenkeel_tests::faults::{Fault, FaultServer};
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::repo::git_command;
use evenkeel_tests::{
    Access, Engine, FleetRepo, GitHttp, GitSsh, HttpOptions, PATIENCE, Registry, Signer,
};
use serde_json::json;

fn ls_remote(url: &str, settings: &[String]) -> Output {
    let mut command = git_command();
    for setting in settings {
        command.arg("-c").arg(setting);
    }
    command.args(["ls-remote", url, "refs/heads/main"]);
    run(&mut command, PATIENCE)
}

fn released() -> (FleetRepo, String) {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
    let id = repo.release("First");
    (repo, id)
}

#[test]
fn signed_commits_verify_under_git_and_others_do_not() {
    let (repo, signed) = released();
    let unsigned = repo.commit_unsigned("Unsigned");
    let stranger = Signer::new("stranger@example.com");
    let strange = repo.commit_signed_by(&stranger, "Strange");
    let allowed = format!(
        "gpg.ssh.allowedSignersFile={}",
        repo.allowed_signers().display()
    );
    for (commit, good) in [(&signed, true), (&unsigned, false), (&strange, false)] {
        let verdict = run(
            git_command()
                .current_dir(repo.work())
                .args(["-c", &allowed, "verify-commit", commit]),
            PATIENCE,
        );
        assert!(
            (verdict.code == Some(0)) == good,
            "{commit}: {}",
            verdict.text()
        );
    }
}

#[test]
fn a_rewound_branch_shows_the_old_tip() {
    let (repo, first) = released();
    repo.write("more", "1");
    let second = repo.release("Second");
    assert_eq!(repo.remote_tip("main"), second);
    repo.rewind(&first);
    assert_eq!(repo.remote_tip("main"), first);
}

#[test]
fn https_serves_git_to_who_knows_its_ca() {
    let (repo, tip) = released();
    let mut server = GitHttp::https(repo.served());
    let ca = format!("http.sslCAInfo={}", server.ca_file().display());
    let good = ls_remote(&server.url(), std::slice::from_ref(&ca)).expect_code(0);
    assert!(good.stdout.starts_with(&tip), "{}", good.text());
    assert!(
        server
            .requests()
            .iter()
            .any(|line| line.contains("info/refs")),
        "{:?}",
        server.requests()
    );
    let bad = ls_remote(&server.url(), &[]);
    assert_ne!(bad.code, Some(0), "a CA nobody knows was accepted");
    server.stop();
    assert_ne!(
        ls_remote(&server.url(), std::slice::from_ref(&ca)).code,
        Some(0)
    );
    server.resume();
    ls_remote(&server.url(), &[ca]).expect_code(0);
}

#[test]
fn https_lets_in_only_who_brings_what_it_asks_for() {
    let (repo, _) = released();
    let start = |access| {
        GitHttp::start(
            repo.served(),
            HttpOptions {
                plain: false,
                access,
                ..HttpOptions::default()
            },
        )
    };
    let ca = |server: &GitHttp| format!("http.sslCAInfo={}", server.ca_file().display());

    let bearer = start(Access::Bearer("s3cret".to_owned()));
    assert_ne!(ls_remote(&bearer.url(), &[ca(&bearer)]).code, Some(0));
    let header = "http.extraHeader=Authorization: Bearer s3cret".to_owned();
    ls_remote(&bearer.url(), &[ca(&bearer), header]).expect_code(0);

    let basic = start(Access::Basic("gateway".to_owned(), "pw".to_owned()));
    assert_ne!(ls_remote(&basic.url(), &[ca(&basic)]).code, Some(0));
    ls_remote(&basic.url_with_user("gateway:pw"), &[ca(&basic)]).expect_code(0);

    let client = start(Access::ClientCertificate);
    assert_ne!(ls_remote(&client.url(), &[ca(&client)]).code, Some(0));
    let pair = [
        ca(&client),
        format!("http.sslCert={}", client.client_cert().display()),
        format!("http.sslKey={}", client.client_key().display()),
    ];
    ls_remote(&client.url(), &pair).expect_code(0);
}

#[test]
fn plain_http_serves_git() {
    let (repo, tip) = released();
    let server = GitHttp::http(repo.served());
    let said = ls_remote(&server.url(), &[]).expect_code(0);
    assert!(said.stdout.starts_with(&tip), "{}", said.text());
}

#[test]
fn ssh_serves_git_and_a_changed_host_key_is_noticed() {
    let (repo, tip) = released();
    let mut server = GitSsh::start(&repo.bare());
    let ssh = format!(
        "core.sshCommand=ssh -F none -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={} \
         -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes",
        server.user_key().display(),
        server.known_hosts().display()
    );
    let said = ls_remote(&server.url(), std::slice::from_ref(&ssh)).expect_code(0);
    assert!(said.stdout.starts_with(&tip), "{}", said.text());
    server.change_host_key();
    let said = ls_remote(&server.url(), &[ssh]);
    assert_ne!(said.code, Some(0));
    assert!(
        said.text().contains("IDENTIFICATION HAS CHANGED"),
        "{}",
        said.text()
    );
}

#[test]
fn faulty_servers_are_faulty() {
    for (fault, curl_code) in [
        (Fault::Stall, 28),
        (Fault::StallAfterHead, 28),
        (Fault::Trickle(Duration::from_millis(20)), 28),
        (Fault::Endless, 28),
        (Fault::Html, 0),
        (Fault::Status(500), 0),
        (Fault::Close, 52),
        (Fault::CutOff, 18),
    ] {
        let server = FaultServer::start(fault.clone());
        let said = run(
            Command::new("curl").args(["-s", "-m", "1", "-o", "/dev/null", &server.url()]),
            PATIENCE,
        );
        assert_eq!(said.code, Some(curl_code), "{fault:?}");
        assert_eq!(server.connections(), 1, "{fault:?}");
    }
}

fn an_engine_runs_what_we_make(engine: &Engine, name: &str) {
    let image = engine.busybox_image(name, &[("etc/hello", "hello\n")]);
    assert!(image.starts_with("sha256:"), "{image}");
    let _cleanup = engine.cleanup(name);
    let id = engine.create_stranger(
        name,
        &json!({
            "Image": image,
            "Cmd": ["/bin/sleep", "600"],
            "Labels": { "dev.evenkeel.device": name },
        }),
    );
    let (code, said) = engine.exec(&id, &["/bin/cat", "/etc/hello"]);
    assert_eq!((code, said.as_str()), (0, "hello\n"));
    assert_eq!(engine.exec(&id, &["/bin/false"]).0, 1);
    assert_eq!(engine.container(name, name)["State"]["Running"], true);
    engine.stop(&id);
    assert_eq!(engine.container(name, name)["State"]["Running"], false);
    drop(_cleanup);
    assert!(!engine.exists(&id), "the guard left the container");
}

#[test]
fn docker_runs_what_we_make() {
    an_engine_runs_what_we_make(&Engine::docker(), "harness-docker");
}

#[test]
fn podman_runs_what_we_make() {
    an_engine_runs_what_we_make(&Engine::podman(), "harness-podman");
}

fn a_registry_gives_back_what_was_pushed(engine: &Engine, name: &str) {
    let registry = Registry::start();
    let image = engine.busybox_image(name, &[]);
    let pinned = registry.push(engine, &image, name);
    let (_, digest) = pinned.split_once('@').expect("a pinned name");
    assert!(digest.starts_with("sha256:"), "{pinned}");
    let (_, said) = engine.call("POST", &format!("/images/create?fromImage={pinned}"), None);
    assert!(engine.image(&pinned).is_some(), "{pinned}: {said}");
}

#[test]
fn docker_pulls_by_digest_from_the_registry() {
    a_registry_gives_back_what_was_pushed(&Engine::docker(), "pushed-docker");
}

#[test]
fn podman_pulls_by_digest_from_the_registry() {
    a_registry_gives_back_what_was_pushed(&Engine::podman(), "pushed-podman");
}
