//! Logins, keys and certificates that are refused, and servers that misbehave.

use super::*;

#[test]
fn a_bearer_token_is_read_from_its_file_at_each_fetch_and_never_told() {
    let (repo, commits) = fleet();
    let server = GitHttp::start(
        repo.served(),
        HttpOptions {
            plain: false,
            access: Access::Bearer("s3cret-token".to_owned()),
            ..HttpOptions::default()
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
            ..HttpOptions::default()
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
            ..HttpOptions::default()
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
    let needs = |section: &SourceSection, key: &str| {
        // Said before anything is tried: it is the configuration that is wrong.
        let error = GitSource::new(section, repo.served().join("unused")).unwrap_err();
        assert!(
            is_setup(&error) && error.to_string().contains(key),
            "{error}"
        );
    };
    needs(&section, "source.known_hosts");
    section.known_hosts = Some(server.known_hosts());
    needs(&section, "source.ssh_key");
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

/// Limits with which a server that misbehaves is cut off in a second or two.
pub(super) fn impatient() -> Limits {
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
