//! Credentials of the service, and the programs that it starts for them.

use evenkeel_tests::{GitSsh, wait_for};

use super::{QUICK, Site, file, locked};

#[test]
fn a_token_in_the_credential_store_opens_the_remote_and_nobody_else_reads_it() {
    let site = Site::booted("credstore");
    let server = locked(&site, "s3cret-token");
    site.configure(&server.url(), "", "token_file = \"credential:git-token\"");
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));

    // Without it the service runs, and says what is missing.
    site.systemctl(&["start", "evenkeel"]);
    wait_for("a poll without the token", || {
        let log = site.machine.log("evenkeel");
        (log.contains("the credential `git-token` is not in")).then_some(())
    });
    site.systemctl(&["stop", "evenkeel"]);

    site.machine
        .write("/etc/credstore/evenkeel.git-token", "s3cret-token\n");
    site.machine
        .ok(&["chmod", "600", "/etc/credstore/evenkeel.git-token"]);
    site.systemctl(&["start", "evenkeel"]);
    site.good(&first);
    assert!(!site.machine.log("evenkeel").contains("s3cret-token"));

    // The timer's pass has it, too.
    site.systemctl(&["stop", "evenkeel"]);
    let second = site.release(&(file("/etc/one.conf", "2\n", "") + QUICK));
    site.systemctl(&["start", "evenkeel-sync"]);
    assert_eq!(site.status()["revision"]["last_good"], second.as_str());
}

#[test]
fn a_drop_in_gives_the_service_an_encrypted_credential() {
    let site = Site::booted("encrypted");
    let server = locked(&site, "s3cret-token");
    site.configure(&server.url(), "", "token_file = \"credential:git-token\"");
    site.machine.write("/root/plain", "s3cret-token\n");
    site.machine.ok(&["systemd-creds", "setup"]);
    site.machine.ok(&[
        "systemd-creds",
        "encrypt",
        "--with-key=host",
        "--name=git-token",
        "/root/plain",
        "/etc/evenkeel/git-token.cred",
    ]);
    site.drop_in(
        "evenkeel.service",
        "[Service]\nLoadCredentialEncrypted=git-token:/etc/evenkeel/git-token.cred\n",
    );
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["start", "evenkeel"]);
    site.good(&first);
}

#[test]
fn ssh_runs_in_the_sandbox_with_a_key_that_is_a_credential() {
    let site = Site::booted("ssh");
    let server = GitSsh::start(&site.repo.bare());
    site.configure(
        &server.url(),
        "",
        "ssh_key = \"credential:ssh-key\"\nknown_hosts = \"/etc/evenkeel/known_hosts\"",
    );
    let machine = &site.machine;
    machine.copy(&server.user_key(), "/etc/credstore/evenkeel.ssh-key", 0o600);
    machine.copy(&server.known_hosts(), "/etc/evenkeel/known_hosts", 0o644);
    let first = site.release(&(file("/etc/one.conf", "1\n", "") + QUICK));
    site.systemctl(&["start", "evenkeel"]);
    site.good(&first);
}
