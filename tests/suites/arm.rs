//! What another processor, a static C library and 32 bits could break: signatures of every kind, dates past 2038,
//! owners and modes, the journal through a kill and through damage. All of it goes through the binary, so that
//! `tests/arm.sh` can run the same on the ARM builds.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use evenkeel_tests::device::binary;
use evenkeel_tests::process::{Output, run};
use evenkeel_tests::{FleetRepo, GitHttp, PATIENCE, Signer, wait_for};

use crate::fleet::{QUICK, World};

/// What OpenSSH makes and a person may sign with.
const KINDS: [&[&str]; 6] = [
    &["-t", "ed25519"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
    &["-t", "ecdsa", "-b", "521"],
    &["-t", "rsa", "-b", "2048"],
    &["-t", "rsa", "-b", "4096"],
];

/// A repository and the file of who may sign in it, as `evenkeel verify` reads them.
struct Desk {
    repo: FleetRepo,
}

impl Desk {
    fn new() -> Self {
        let repo = FleetRepo::new();
        repo.write("a", "1");
        Self { repo }
    }

    fn verify(&self, signers: &str, commit: &str) -> Output {
        let file = self.repo.allowed_signers();
        std::fs::write(&file, signers).unwrap();
        run(
            Command::new(binary())
                .args(["verify", "--repo"])
                .arg(self.repo.work())
                .arg("--allowed-signers")
                .arg(file)
                .arg(commit),
            PATIENCE,
        )
    }

    /// The same commit with another message under the same signature.
    fn forged(&self, commit: &str) -> String {
        let raw = self.repo.git(&["cat-file", "commit", commit]).stdout;
        let other = raw.replace("Signed", "Forged");
        assert_ne!(raw, other);
        self.repo.hash_commit(other.as_bytes())
    }
}

#[test]
fn a_signature_of_every_kind_of_key_is_taken_and_a_forged_one_of_every_kind_is_not() {
    let desk = Desk::new();
    for kind in KINDS {
        let signer = Signer::of_type("release@example.com", kind);
        let commit = desk.repo.commit_signed_by(&signer, "Signed");
        let signers = signer.allowed_line("namespaces=\"git\"");
        let said = desk.verify(&signers, &commit);
        assert_eq!(said.code, Some(0), "{kind:?}: {}", said.text());
        let said = desk.verify(&signers, &desk.forged(&commit));
        assert_eq!(said.code, Some(3), "{kind:?}: {}", said.text());
    }
}

#[test]
fn a_certificate_is_taken_under_its_authority_and_under_no_other() {
    let desk = Desk::new();
    for kind in KINDS {
        let (alice, ca, other) = (
            Signer::new("alice@example.com"),
            Signer::of_type("release@example.com", kind),
            Signer::of_type("release@example.com", kind),
        );
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-I", "alice", "-n", "release@example.com", "-s"])
                .arg(ca.private_key())
                .arg(alice.public_key()),
            PATIENCE,
        )
        .expect_code(0);
        let certificate = alice.private_key().with_file_name("key-cert.pub");
        let key = format!("user.signingkey={}", certificate.display());
        desk.repo.git(&[
            "-c",
            "gpg.format=ssh",
            "-c",
            &key,
            "commit",
            "-q",
            "--allow-empty",
            "-S",
            "-m",
            "Signed",
        ]);
        let commit = desk.repo.head();
        let said = desk.verify(&ca.allowed_line("cert-authority"), &commit);
        assert_eq!(said.code, Some(0), "{kind:?}: {}", said.text());
        let said = desk.verify(&other.allowed_line("cert-authority"), &commit);
        assert_eq!(said.code, Some(3), "{kind:?}: {}", said.text());
    }
}

/// 32 bits of seconds end in January 2038, and counted without a sign in February 2106.
#[test]
fn what_holds_until_or_from_a_day_past_2038_is_judged_by_that_day() {
    let desk = Desk::new();
    let signer = Signer::new("release@example.com");
    let commit = desk.repo.commit_signed_by(&signer, "Signed");
    for (option, code) in [
        ("valid-before=\"20390101\"", 0),
        ("valid-before=\"21070101\"", 0),
        ("valid-after=\"20390101\"", 3),
        ("valid-after=\"21070101\"", 3),
    ] {
        let said = desk.verify(&signer.allowed_line(option), &commit);
        assert_eq!(said.code, Some(code), "{option}: {}", said.text());
    }
}

#[test]
fn files_come_over_https_with_their_owners_and_modes_and_go_with_their_app() {
    let mut world = World::of_files("arm-files");
    let server = GitHttp::https(world.repo.served());
    world.device.settings.url = server.url();
    world.device.settings.source = vec![format!("ca_file = {:?}", server.ca_file())];
    // Numbers that a signed or a 16-bit id would not hold; tests run as root. And more than one read's worth of bytes.
    let big: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    world.repo.write("apps/one/big.bin", &big);
    let wanted = [
        ("/etc/one/plain", "0644", 0, 0),
        ("/etc/one/secret", "0400", 70_000, 3_000_000_000_u32),
        ("/usr/local/bin/tool", "0755", 4_000_000_000, 65_534),
    ];
    let mut app = "[[files]]\npath = \"/var/lib/one/big.bin\"\nsource = \"big.bin\"\n".to_owned();
    for (path, mode, owner, group) in wanted {
        app += &format!(
            "[[files]]\npath = {path:?}\ncontent = {path:?}\nmode = {mode:?}\nowner = {owner}\ngroup = {group}\n"
        );
    }
    world.apps(&["one"]).app("one", app.clone() + QUICK);
    let first = world.release_and_sync("First");
    for (path, mode, owner, group) in wanted {
        let meta = std::fs::metadata(world.device.path(path)).unwrap();
        assert_eq!(format!("{:04o}", meta.permissions().mode() & 0o7777), mode);
        assert_eq!((meta.uid(), meta.gid()), (owner, group), "{path}");
        assert_eq!(world.device.read(path).as_deref(), Some(path));
    }
    let there = std::fs::read(world.device.path("/var/lib/one/big.bin")).unwrap();
    assert!(there == big, "the large file is not what was committed");
    world.assert_converged();
    let status = world.device.status_json();
    assert_eq!(status["revision"]["last_good"], first.as_str());
    assert_eq!(world.device.condition("Ready").0, "True");

    // Drift of each kind is put right, and what the app leaves is gone.
    let tool = world.device.path("/usr/local/bin/tool");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::chown(world.device.path("/etc/one/secret"), Some(0), Some(0)).unwrap();
    world.device.sync().expect_code(0);
    assert_eq!(std::fs::metadata(&tool).unwrap().mode() & 0o7777, 0o755);
    let secret = std::fs::metadata(world.device.path("/etc/one/secret")).unwrap();
    assert_eq!((secret.uid(), secret.gid()), (70_000, 3_000_000_000));
    world.apps(&[]);
    world.release_and_sync("Without\n\nAllow-Empty: true");
    for (path, ..) in wanted {
        assert!(!world.device.path(path).exists(), "{path}");
    }
}

/// Enough revisions, each with a kill behind it, for the journal to have gone round, and then damage to it.
#[test]
fn the_journal_keeps_the_floor_through_kills_many_revisions_and_the_loss_of_its_database() {
    let mut world = World::of_files("arm-journal");
    world.device.settings.interval = "1h".to_owned();
    let mut commits = Vec::new();
    for number in 0..12 {
        world.one_file(&format!("{number}\n"));
        commits.push(world.repo.release(&format!("Release {number}")));
        let daemon = world.device.spawn_daemon();
        wait_for("the revision to be good", || {
            let said = world.device.evenkeel(&["status", "--json"]);
            let status: serde_json::Value = serde_json::from_str(&said.stdout).ok()?;
            (status["revision"]["last_good"] == commits[number].as_str()).then_some(())
        });
        daemon.kill();
        assert_eq!(
            world.device.read("/etc/one.conf"),
            Some(format!("{number}\n"))
        );
    }
    let last = commits.last().unwrap().as_str();
    assert_eq!(world.device.status_json()["revision"]["last_good"], last);
    let history = world.device.evenkeel(&["history"]).expect_code(0);
    assert!(history.stdout.contains(&last[..7]), "{}", history.text());

    let mut ruined = 0;
    for path in evenkeel_tests::proc::listing(&world.device.state_dir()).keys() {
        // sled's own files.
        if (path.ends_with("/db") || path.ends_with("/conf") || path.contains("/snap."))
            && std::path::Path::new(path).is_file()
        {
            std::fs::write(path, b"not a database").unwrap();
            ruined += 1;
        }
    }
    assert!(ruined > 0, "no journal found under the state directory");
    // From the second copy: still the last one, and an older tip is no way back.
    world.repo.rewind(&commits[3]);
    let said = world.device.sync();
    assert_ne!(
        said.code,
        Some(0),
        "a rewound branch was taken: {}",
        said.text()
    );
    assert_eq!(world.device.read("/etc/one.conf").as_deref(), Some("11\n"));
    assert_eq!(world.device.status_json()["revision"]["last_good"], last);
}
