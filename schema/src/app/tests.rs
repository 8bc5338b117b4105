#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

use super::check::{address, url};
use super::*;

fn read(text: &str) -> (App, Vec<String>) {
    let mut out = Diagnostics::new();
    let node = crate::toml_document::parse("app.toml", text.as_bytes(), &mut out).unwrap();
    let app = decode(&node, &mut out);
    (app, out.sorted().iter().map(ToString::to_string).collect())
}

#[test]
fn a_file_is_read_with_its_defaults() {
    let (app, problems) = read("[[files]]\npath = '/etc/a'\nsource = 'a'\n");
    assert_eq!(problems, [""; 0]);
    let file = &app.files[0];
    assert_eq!(
        (file.mode, file.owner.as_str(), file.group.as_str()),
        (0o644, "root", "root")
    );
    assert_eq!((file.path.place.at.line, file.path.place.at.column), (2, 8));
    assert!(matches!(file.source, FileSource::Plain(_)));
}

#[test]
fn everything_about_a_file_can_be_said() {
    let (app, problems) = read(
        "[[files]]\npath = '/etc/a'\nsource = 'a/b'\ntemplate = true\nmode = '0640'\nowner = 7\ngroup = 'mosquitto'\non_change = ['restart:service:broker', 'signal:SIGHUP:service:broker', 'reload:unit:a@b:c.service']\non_remove = 'keep'\n",
    );
    assert_eq!(problems, [""; 0]);
    let file = &app.files[0];
    assert_eq!((file.mode, file.owner.as_str()), (0o640, "7"));
    assert_eq!(file.on_remove, OnRemove::Keep);
    let changes: Vec<&OnChange> = file.on_change.iter().map(|placed| &placed.value).collect();
    assert_eq!(
        changes[1],
        &OnChange::SignalService {
            signal: "HUP".to_owned(),
            service: "broker".parse().unwrap()
        }
    );
    assert_eq!(
        changes[2],
        &OnChange::ReloadUnit("a@b:c.service".to_owned())
    );
}

#[test]
fn every_wrong_key_and_value_is_told_at_once() {
    let (_, problems) = read(
        "[[files]]\npath = 'etc/a'\nsource = '../a'\nmode = 640\nowner = 'a b'\non_change = ['reboot', 'restart:unit:x']\non_remove = 'kep'\ntemplte = true\n[[files]]\npath = '/a/../b'\n[[files]]\npath = '/b'\nsource = 'x'\ncontent = 'y'\n[gate]\ndeadline = '0s'\nsoak = 'x'\n[[checks]]\ntcp = '127.0.0.1'\n[[checks]]\n[[checks]]\ntcp = 'a:1'\nunit = 'a.service'\n[[checks]]\nhttp = 'ftp://x'\n[[checks]]\ncommand = []\n",
    );
    let starts = [
        "app.toml:2:8: `etc/a` is not an absolute path",
        "app.toml:3:10: ",
        "app.toml:4:8: `640` is not a mode",
        "app.toml:5:9: ",
        "app.toml:6:14: ",
        "app.toml:6:24: ",
        "app.toml:7:13: ",
        "app.toml:8:1: unknown key `templte`",
        "app.toml:9:1: a file needs `source` or `content`",
        "app.toml:10:8: ",
        "app.toml:14:11: a file has `source` or `content`, not both",
        "app.toml:16:12: ",
        "app.toml:17:8: ",
        "app.toml:19:7: ",
        "app.toml:20:1: a check asks exactly one question",
        "app.toml:21:1: a check asks exactly one question",
        "app.toml:25:8: ",
        "app.toml:27:11: ",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} / {start}");
    }
}

#[test]
fn addresses_and_urls_are_judged() {
    for good in ["127.0.0.1:1883", "[::1]:80", "localhost:1"] {
        assert_eq!(address(good), Ok(()), "{good}");
    }
    for wrong in ["127.0.0.1", ":80", "a:0", "a:70000", "a b:1", "::1:80x"] {
        assert!(address(wrong).is_err(), "{wrong}");
    }
    for good in [
        "http://127.0.0.1",
        "http://a:8080/x?y=z",
        "https://[::1]:8443/",
        "http://[::1]/",
    ] {
        assert_eq!(url(good), Ok(()), "{good}");
    }
    for wrong in [
        "",
        "http://",
        "ftp://a",
        "http://a b",
        "http://a:x/",
        "127.0.0.1:80",
    ] {
        assert!(url(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_check_expects_is_read_and_goes_only_with_its_question() {
    let (app, problems) = read(
        "[[checks]]\nhttp = 'http://a/'\nstatus = [204, '300-399']\ncontains = 'ok'\n\
         [[checks]]\nfile = '/run/a'\nmax_age = '1m'\n\
         [[checks]]\ncommand = ['true']\nservice = 'broker'\n",
    );
    assert_eq!(problems, [""; 0]);
    let checks: Vec<&Check> = app.checks.iter().map(|check| &check.value).collect();
    let statuses = [200, 204, 299, 300, 399, 400];
    assert_eq!(
        statuses.map(|status| checks[0].expect.has_status(status)),
        [false, true, false, true, true, false]
    );
    assert!(matches!(&checks[1].probe, Probe::File(path) if path.as_str() == "/run/a"));
    assert!(matches!(&checks[2].probe, Probe::Exec(service, _) if service.as_str() == "broker"));
    assert_eq!(
        (app.checks[2].place.at.line, app.checks[2].place.at.column),
        (10, 11)
    );

    for (check, wrong) in [
        (
            "tcp = 'a:1'\nstatus = 200",
            "`status` says nothing of `tcp`: it goes with `http`",
        ),
        (
            "unit = 'a.service'\nservice = 'b'",
            "`service` says nothing of `unit`",
        ),
        (
            "command = ['true']\nmax_age = '1m'",
            "`max_age` says nothing of `command`",
        ),
        ("http = 'http://a/'\nstatus = 99", "is not a status"),
        ("http = 'http://a/'\nstatus = '300-200'", "is not a status"),
        ("file = 'a'", "is not an absolute path"),
    ] {
        let (_, problems) = read(&format!("[[checks]]\n{check}\n"));
        assert!(
            problems.len() == 1 && problems[0].contains(wrong),
            "{check}: {problems:?}"
        );
    }
}

#[test]
fn a_check_without_expectations_is_written_down_as_it_always_was() {
    let (app, _) = read("[[checks]]\ntcp = 'a:1'\n");
    assert_eq!(
        serde_json::to_value(&app.checks[0].value).unwrap(),
        serde_json::json!({"probe": {"Tcp": "a:1"}, "timeout": {"secs": 5, "nanos": 0}})
    );
}
