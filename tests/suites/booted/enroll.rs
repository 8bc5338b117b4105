//! `evenkeel-enroll.service`: an identity at the first boot, without a hand.

use std::os::unix::fs::PermissionsExt as _;

use evenkeel_tests::nspawn::Options;
use evenkeel_tests::{GitSsh, wait_for};

use super::{QUICK, Site, file};

/// The public key that this machine told where everybody can read it.
fn told(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("public_key = "))?;
    Some(line.split('"').nth(1)?.to_owned())
}

/// A machine that has not booted yet: an image, with the unit enabled as the README has it.
fn image(name: &str, url: &str, source: &str) -> Site {
    let site = Site::new(name, Options::default());
    site.install();
    site.configure(url, "", source);
    site.enable();
    site.enable_unit("evenkeel-enroll.service");
    site
}

fn journal(site: &Site) -> Option<String> {
    told(&site.machine.log("evenkeel-enroll"))
}

#[test]
fn at_its_first_boot_a_machine_makes_its_identity_and_polls_with_it() {
    let mut site = Site::new("enroll", Options::default());
    let server = GitSsh::start(&site.repo.bare());
    site.install();
    site.configure(
        &server.url(),
        "",
        "ssh_key = \"/var/lib/evenkeel/identity/id_ed25519\"\nknown_hosts = \"/etc/evenkeel/known_hosts\"",
    );
    site.machine
        .copy(&server.known_hosts(), "/etc/evenkeel/known_hosts", 0o644);
    site.enable();
    site.enable_unit("evenkeel-enroll.service");
    assert!(
        !site.machine.path("/var/lib/evenkeel").exists(),
        "nothing secret in an image"
    );
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.machine.boot();

    let key = wait_for("the document in the journal", || journal(&site));
    assert_eq!(
        site.machine.property("evenkeel-enroll", "Result"),
        "success"
    );
    let console = std::fs::read_to_string(site.machine.scratch().join("console.log")).unwrap();
    assert_eq!(told(&console).as_ref(), Some(&key), "{console}");
    let private = site.machine.path("/var/lib/evenkeel/identity/id_ed25519");
    let mode = std::fs::metadata(&private).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = std::fs::read_to_string(&private).unwrap();
    let secret = secret.lines().nth(2).unwrap();
    assert!(
        !site
            .machine
            .ok(&["journalctl", "--no-pager"])
            .contains(secret)
    );
    // Whoever looks after the git server lets it in, and it comes by itself.
    server.authorize(&key);
    site.good(&first);

    // The second boot makes nothing, and asks for nothing.
    site.machine.power_off();
    site.machine.boot();
    assert_eq!(
        site.machine.property("evenkeel-enroll", "ConditionResult"),
        "no"
    );
    assert_eq!(site.machine.property("evenkeel-enroll", "NRestarts"), "0");
    assert_eq!(journal(&site), None);
    let again = site.machine.ok(&["evenkeel", "enroll"]);
    assert_eq!(told(&again).as_ref(), Some(&key));
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    site.good(&second);
}

#[test]
fn two_machines_of_one_image_are_two() {
    let keys: Vec<String> = ["clone-a", "clone-b"]
        .into_iter()
        .map(|name| {
            let mut site = image(name, "file:///nothing/here", "");
            site.machine.boot();
            wait_for("the document in the journal", || journal(&site))
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn an_image_may_hand_the_document_out_on_site_and_its_agent_does_not_wait_for_that() {
    let port = evenkeel_tests::ports::Port::free();
    let mut site = Site::new("enroll-serve", Options::default());
    let server = evenkeel_tests::GitHttp::http(site.repo.served());
    site.install();
    site.configure(&server.url(), "", "");
    site.enable();
    site.enable_unit("evenkeel-enroll.service");
    // As the README has it.
    site.drop_in(
        "evenkeel-enroll.service",
        &format!(
            "[Service]\nExecStart=\nExecStart=/usr/bin/evenkeel enroll --serve 127.0.0.1:{}\n",
            port.number()
        ),
    );
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.machine.boot();
    site.good(&first);
    assert_eq!(
        site.machine.property("evenkeel-enroll", "ActiveState"),
        "active"
    );
    let url = format!("http://127.0.0.1:{}/", port.number());
    let mut curl = std::process::Command::new("curl");
    let fetched = evenkeel_tests::process::run(curl.args(["-fsS", &url]), evenkeel_tests::PATIENCE);
    let fetched = fetched.expect_code(0).stdout;
    assert_eq!(fetched, site.machine.ok(&["evenkeel", "enroll"]));
    wait_for("its end", || {
        let state = site.machine.property("evenkeel-enroll", "ActiveState");
        (state == "inactive").then_some(())
    });
    assert_eq!(
        site.machine.property("evenkeel-enroll", "Result"),
        "success"
    );
}

#[test]
fn a_sealed_identity_is_made_at_the_first_boot_and_opens_the_remote_at_each_one() {
    let mut site = Site::new("enroll-sealed", Options::default());
    let server = GitSsh::start(&site.repo.bare());
    site.install();
    site.configure(
        &server.url(),
        "",
        "ssh_key = \"credential:evenkeel-identity\"\nknown_hosts = \"/etc/evenkeel/known_hosts\"",
    );
    site.machine
        .copy(&server.known_hosts(), "/etc/evenkeel/known_hosts", 0o644);
    site.enable();
    site.enable_unit("evenkeel-enroll.service");
    site.drop_in(
        "evenkeel-enroll.service",
        "[Service]\nExecStart=\nExecStart=/usr/bin/evenkeel enroll --seal host\n",
    );
    let sealed = "/var/lib/evenkeel/identity/id_ed25519.cred";
    site.drop_in(
        "evenkeel.service",
        &format!("[Service]\nLoadCredentialEncrypted=evenkeel-identity:{sealed}\n"),
    );
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.machine.boot();
    let key = wait_for("the document in the journal", || journal(&site));
    // The document names the line of the drop-in.
    let log = site.machine.log("evenkeel-enroll");
    let line = format!("LoadCredentialEncrypted=evenkeel-identity:{sealed}");
    assert!(log.contains(&line), "{log}");
    server.authorize(&key);
    site.good(&first);
    let found = site.machine.run(&[
        "grep",
        "-rl",
        "OPENSSH PRIVATE KEY",
        "/var/lib/evenkeel",
        "/etc/evenkeel",
    ]);
    assert_eq!(found.stdout, "", "no readable key is on the disk");

    site.machine.power_off();
    site.machine.boot();
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    site.good(&second);
    // A bit of it turned over: it is not opened, and nothing else takes its place.
    site.systemctl(&["stop", "evenkeel"]);
    let path = site.machine.path(sealed);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    std::fs::write(&path, bytes).unwrap();
    let said = site.machine.run(&["systemctl", "start", "evenkeel"]);
    assert_ne!(said.code, Some(0), "{}", said.text());
}
