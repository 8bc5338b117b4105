//! `evenkeel enroll`: an identity made on the device, the same at each call, another one on each copy of a disk.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use evenkeel_tests::ports::Port;
use evenkeel_tests::process::{Output, Server, run};
use evenkeel_tests::{Device, FleetRepo, GitSsh, PATIENCE, wait_for};
use serde_json::Value;

fn fleet_with_a_file() -> FleetRepo {
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
    repo.write("groups/all.toml", "match = \"all\"\napps = [\"one\"]\n");
    repo.write(
        "apps/one/app.toml",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"one\\n\"\n[gate]\nsoak = \"0s\"\n",
    );
    repo.release("First");
    repo
}

/// A command on a machine whose /etc/machine-id says this.
fn on_machine(command: &Command, id: &str, scratch: &Path) -> Output {
    let file = scratch.join(format!("machine-{id}"));
    std::fs::write(&file, format!("{id}\n")).unwrap();
    let mut inside = Command::new("unshare");
    inside
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("touch /etc/machine-id; mount --bind \"$0\" /etc/machine-id && exec \"$@\"")
        .arg(&file)
        .arg(command.get_program())
        .args(command.get_args());
    run(&mut inside, PATIENCE)
}

fn json(output: Output) -> Value {
    let output = output.expect_code(0);
    serde_json::from_str(&output.stdout).unwrap()
}

const FIRST: &str = "00000000000000000000000000000001";
const SECOND: &str = "00000000000000000000000000000002";

#[test]
fn an_identity_is_made_at_the_first_call_and_printed_the_same_at_each_one() {
    let repo = fleet_with_a_file();
    let device = Device::new("enroll-1", &repo.file_url(), &repo.allowed_signers())
        .with_label("site", "plant \"a\"");
    let enroll =
        |arguments: &[&str]| on_machine(&device.command(arguments), FIRST, device.scratch());
    let first = enroll(&["enroll"]).expect_code(0);
    assert!(
        first.stderr.contains("made an identity"),
        "{}",
        first.text()
    );
    let again = enroll(&["enroll"]).expect_code(0);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(again.stderr, "");
    let answer = json(enroll(&["enroll", "--json"]));
    assert_eq!(answer["document"].as_str(), Some(first.stdout.as_str()));

    // OpenSSH knows the key, both halves, and nobody else may read it.
    let key = answer["key"].as_str().unwrap();
    let mode = std::fs::metadata(key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let derived = run(Command::new("ssh-keygen").args(["-y", "-f", key]), PATIENCE).expect_code(0);
    let public = answer["public_key"].as_str().unwrap();
    let columns = |text: &str| {
        let mut columns = text.split_whitespace().map(str::to_owned);
        (columns.next(), columns.next())
    };
    assert_eq!(columns(&derived.stdout), columns(public));
    let shown = run(Command::new("ssh-keygen").args(["-l", "-f", key]), PATIENCE).expect_code(0);
    assert!(
        shown
            .stdout
            .contains(answer["fingerprint"].as_str().unwrap()),
        "{}",
        shown.stdout
    );
    let secret = std::fs::read_to_string(key).unwrap();
    let secret = secret.lines().nth(2).unwrap();
    for output in [&first, &again] {
        assert!(!output.text().contains(secret), "{}", output.text());
    }

    // The document is what the fleet takes.
    let out = device.scratch().join("enroll-1.toml");
    enroll(&["enroll", "--out", out.to_str().unwrap()]).expect_code(0);
    repo.write("devices/enroll-1.toml", std::fs::read(&out).unwrap());
    repo.release("A device");
    on_machine(&device.command(&["sync"]), FIRST, device.scratch()).expect_code(0);
    let linted = run(
        Command::new(evenkeel_tests::device::binary())
            .arg("lint")
            .arg(repo.work()),
        PATIENCE,
    );
    linted.expect_code(0);
}

#[test]
fn a_copied_disk_holds_until_it_has_an_identity_of_its_own() {
    let repo = fleet_with_a_file();
    let device = Device::new("enroll-2", &repo.file_url(), &repo.allowed_signers());
    let on = |machine: &str, arguments: &[&str]| {
        on_machine(&device.command(arguments), machine, device.scratch())
    };
    let first = json(on(FIRST, &["enroll", "--json"]));
    on(FIRST, &["sync"]).expect_code(0);

    repo.write(
        "apps/one/app.toml",
        "[[files]]\npath = \"/etc/one.conf\"\ncontent = \"two\\n\"\n[gate]\nsoak = \"0s\"\n",
    );
    repo.release("Second");
    let held = on(SECOND, &["sync"]);
    assert!(held.text().contains("evenkeel enroll"), "{}", held.text());
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("one\n"));

    let second = on(SECOND, &["enroll", "--json"]);
    assert!(second.stderr.contains("copy"), "{}", second.text());
    let second = json(second);
    assert_ne!(first["public_key"], second["public_key"]);
    assert_eq!(second["machine_id"], SECOND);
    on(SECOND, &["sync"]).expect_code(0);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("two\n"));

    // The same device after all, with a new machine id.
    let kept = json(on(FIRST, &["enroll", "--keep", "--json"]));
    assert_eq!(kept["public_key"], second["public_key"]);
    on(FIRST, &["sync"]).expect_code(0);
}

#[test]
fn two_devices_of_one_image_are_two_and_a_daemon_that_runs_is_no_hindrance() {
    let repo = fleet_with_a_file();
    let keys: Vec<Value> = ["enroll-3", "enroll-4"]
        .iter()
        .map(|id| {
            let device = Device::new(id, &repo.file_url(), &repo.allowed_signers());
            let daemon = device.spawn_daemon();
            evenkeel_tests::wait_for("the first pass", || device.read("/etc/one.conf"));
            let answer = device.json(&["enroll", "--json"]);
            assert_eq!(daemon.stop(), Some(0));
            answer["public_key"].clone()
        })
        .collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn the_identity_is_a_deploy_key_for_an_ssh_remote() {
    let repo = fleet_with_a_file();
    let server = GitSsh::start(&repo.bare());
    let mut device = Device::new("enroll-5", &server.url(), &repo.allowed_signers());
    let answer = device.json(&["enroll", "--json"]);
    device.settings.source = vec![
        format!("ssh_key = {}", answer["ssh_key"]),
        format!("known_hosts = {:?}", server.known_hosts()),
    ];
    device.sync().expect_code(1);
    server.authorize(answer["public_key"].as_str().unwrap());
    device.sync().expect_code(0);
    assert_eq!(device.read("/etc/one.conf").as_deref(), Some("one\n"));
}

#[test]
fn a_sealed_identity_leaves_no_readable_key_on_the_disk() {
    let repo = fleet_with_a_file();
    let device = Device::new("enroll-6", &repo.file_url(), &repo.allowed_signers());
    let sealed = device.evenkeel(&["enroll", "--seal", "host", "--json"]);
    if sealed.code != Some(0) {
        // Not every machine's service manager can: then it says so, and has made nothing.
        assert!(sealed.stderr.contains("systemd-creds"), "{}", sealed.text());
        assert!(!device.state_dir().join("identity").exists());
        return;
    }
    let answer = json(sealed);
    let folder = device.state_dir().join("identity");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("OPENSSH PRIVATE KEY"));
    }
    // What the service manager opens for the service is the key.
    let opened = run(
        Command::new("systemd-creds")
            .args(["decrypt", "--name=evenkeel-identity"])
            .arg(answer["key"].as_str().unwrap())
            .arg("-"),
        PATIENCE,
    )
    .expect_code(0);
    let plain = device.scratch().join("plain");
    std::fs::write(&plain, opened.stdout).unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o600)).unwrap();
    let public = run(
        Command::new("ssh-keygen").arg("-y").arg("-f").arg(&plain),
        PATIENCE,
    );
    assert!(
        answer["public_key"].as_str().unwrap().starts_with(
            public
                .expect_code(0)
                .stdout
                .split_whitespace()
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
                .as_str()
        )
    );
    assert_eq!(device.json(&["enroll", "--json"]), answer);
}

/// What this request is answered with; empty where the connection is only closed.
fn said(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn somebody_on_site_fetches_the_document_once_and_nothing_else() {
    let repo = fleet_with_a_file();
    let device = Device::new("enroll-7", &repo.file_url(), &repo.allowed_signers());
    let document = device.evenkeel(&["enroll"]).expect_code(0).stdout;
    let port = Port::free();
    let at = format!("127.0.0.1:{}", port.number());
    let log = device.scratch().join("serve.log");
    let mut server = Server::start(&mut device.command(&["enroll", "--serve", &at]), &log);
    wait_for("it to serve", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("until it is fetched, for 1h0m0s at most")
            .then_some(())
    });
    let secret = std::fs::read_to_string(device.state_dir().join("identity/id_ed25519")).unwrap();
    let secret = secret.lines().nth(2).unwrap();
    let long = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 10_000]].concat();
    for (request, status) in [
        (b"POST / HTTP/1.1\r\n\r\n".as_slice(), "405"),
        (b"GET /identity/id_ed25519 HTTP/1.1\r\n\r\n", "404"),
        (
            b"GET /devices/../identity/id_ed25519 HTTP/1.1\r\n\r\n",
            "404",
        ),
        (b"GET /devices/enroll-8.toml HTTP/1.1\r\n\r\n", "404"),
        (b"\x16\x03\x01\x00\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let said = said(port.number(), request);
        // A connection that is closed before all was read may lose its answer.
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")) || said.is_empty() && status == "431",
            "{said}"
        );
        assert!(
            !said.contains("ssh-ed25519") && !said.contains(secret),
            "{said}"
        );
    }
    // One that says nothing holds the next one up for some seconds only; one that goes away, not at all.
    let silent = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
    drop(TcpStream::connect(("127.0.0.1", port.number())).unwrap());
    assert!(server.ended().is_none());
    let url = format!("http://{at}/devices/enroll-7.toml");
    let fetched = run(Command::new("curl").args(["-fsS", &url]), PATIENCE).expect_code(0);
    assert_eq!(fetched.stdout, document);
    drop(silent);
    wait_for("its end", || server.ended());
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("fetched by 127.0.0.1"), "{text}");
    assert!(TcpStream::connect(("127.0.0.1", port.number())).is_err());

    // The public key alone, and nobody at all.
    let mut server = Server::start(&mut device.command(&["enroll", "--serve", &at]), &log);
    let url = format!("http://{at}/public_key");
    let fetched = wait_for("the public key", || {
        let said = run(Command::new("curl").args(["-fsS", &url]), PATIENCE);
        (said.code == Some(0)).then_some(said.stdout)
    });
    assert!(document.contains(fetched.trim()), "{fetched}");
    wait_for("its end", || server.ended());
    let late = device
        .evenkeel(&["enroll", "--serve", &at, "--serve-for", "1s"])
        .expect_code(0);
    assert!(
        late.stderr.contains("nobody has fetched it"),
        "{}",
        late.text()
    );
    let wrong = device
        .evenkeel(&["enroll", "--serve", "192.0.2.1:1"])
        .expect_code(1);
    assert!(wrong.stderr.contains("0.0.0.0:"), "{}", wrong.text());
    device
        .evenkeel(&["enroll", "--serve", "somewhere"])
        .expect_code(2);
}
