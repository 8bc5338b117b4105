//! The root file system of a disk image, as far as it can be seen without building one: what is put onto it, what is not, and
//! what its first boot makes of it. `tests/image.sh` boots the whole.

use evenkeel_tests::FleetRepo;

use super::*;

/// `packaging/image/customise.sh` on this tree, or `--check`.
fn customise(tree: &Path, options: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(repository().join("packaging/image/customise.sh"));
    command.arg(tree);
    for (name, value) in options {
        command.arg(name).arg(value);
    }
    run(&mut command, LONG)
}

/// What the user names: an agent.toml and whom it trusts.
fn etc(dir: &Path, more: &str) -> PathBuf {
    let etc = dir.join("etc");
    std::fs::create_dir_all(&etc).unwrap();
    let config =
        format!("{more}[source]\nurl = \"https://git.example.com/fleet.git\"\nbranch = \"main\"\n");
    std::fs::write(etc.join("agent.toml"), config).unwrap();
    std::fs::write(etc.join("allowed_signers"), "# nobody\n").unwrap();
    etc
}

/// A tree that an agent is in, and what a Debian that has run leaves behind.
fn used_tree(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    run(
        Command::new(repository().join("packaging/install.sh"))
            .args(["--prefix", "/usr", "--destdir"])
            .arg(&tree)
            .arg("--binary")
            .arg("/bin/busybox"),
        LONG,
    )
    .expect_code(0);
    for path in IDENTITY {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "of somebody\n").unwrap();
    }
    std::fs::create_dir_all(tree.join("etc/systemd/network")).unwrap();
    let networkd = "[Service]\nExecStart=/bin/sh\n[Install]\nWantedBy=multi-user.target\n";
    std::fs::write(
        tree.join("usr/lib/systemd/system/systemd-networkd.service"),
        networkd,
    )
    .unwrap();
    tree
}

/// What tells one machine from another, or opens something.
const IDENTITY: [&str; 9] = [
    "etc/machine-id",
    "etc/hostname",
    "etc/ssh/ssh_host_ed25519_key",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/lib/evenkeel/identity/id_ed25519",
    "var/lib/docker/engine-id",
    "var/log/journal/of-somebody/system.journal",
];

/// An archive of an image for arm64, as its header says; nothing of it is run here.
fn archive(dir: &Path, triple: &str) -> PathBuf {
    let out = dir.join(triple);
    made(
        script("oci.sh", &out)
            .arg("--fast")
            .arg(format!("{triple}=/bin/busybox")),
    )
}

#[test]
fn a_disk_image_has_no_identity_and_what_its_first_boot_needs() {
    let dir = tempfile::tempdir().unwrap();
    let tree = used_tree(dir.path());
    let etc = etc(dir.path(), "");
    let repo = FleetRepo::new();
    repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
    let first = repo.release("First");
    let archive = archive(dir.path(), "aarch64-unknown-linux-musl");
    let files = dir.path().join("files");
    std::fs::create_dir_all(files.join("root/.ssh")).unwrap();
    std::fs::write(
        files.join("root/.ssh/authorized_keys"),
        "ssh-ed25519 AAAA\n",
    )
    .unwrap();
    let bare = repo.bare();
    let options: [(&str, &Path); 5] = [
        ("--etc", &etc),
        ("--image", &archive),
        ("--first", &bare),
        ("--name", Path::new("gw")),
        ("--files", &files),
    ];
    // Twice: what is there already does no harm.
    customise(&tree, &options).expect_code(0);
    let said = customise(&tree, &options).expect_code(0);

    let text = |path: &str| std::fs::read_to_string(tree.join(path)).ok();
    for path in IDENTITY {
        let left = text(path);
        assert!(
            left.as_deref().is_none_or(str::is_empty),
            "{path}: {left:?}"
        );
    }
    assert_eq!(
        text("etc/machine-id").as_deref(),
        Some(""),
        "systemd fills it"
    );
    assert!(!tree.join("var/lib/evenkeel").exists());
    assert_eq!(
        text("root/.ssh/authorized_keys").as_deref(),
        Some("ssh-ed25519 AAAA\n")
    );
    assert!(text("etc/evenkeel/agent.toml").unwrap().contains("main"));

    // The id by which app.toml names the image is the one that is looked for at boot.
    let ids = text("usr/lib/evenkeel-image/images/1.ids").unwrap();
    assert!(
        ids.starts_with("sha256:") && said.stderr.contains(ids.trim()),
        "{said:?}"
    );
    let config = ids.trim().trim_start_matches("sha256:");
    let inside = output("tar", &["-xOf", archive.to_str().unwrap(), "manifest.json"]);
    assert!(inside.contains(config), "{inside}");
    let seed = tree.join("usr/lib/evenkeel-image/first.git");
    let tip = output("git", &["-C", seed.to_str().unwrap(), "rev-parse", "main"]);
    assert_eq!(tip.trim(), first);

    // What units depend on in any Debian.
    std::fs::create_dir_all(tree.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", tree.join("bin/sh")).unwrap();
    for entry in std::fs::read_dir("/usr/lib/systemd/system").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "target") && path.is_file() {
            let to = tree.join("usr/lib/systemd/system");
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    let wants = |unit: &str| {
        tree.join("etc/systemd/system/multi-user.target.wants")
            .join(unit)
            .symlink_metadata()
            .is_ok()
    };
    for unit in ["first-boot", "preload", "first-revision"] {
        let unit = format!("evenkeel-{unit}.service");
        assert!(wants(&unit), "{unit} is not enabled");
        let mut root = std::ffi::OsString::from("--root=");
        root.push(&tree);
        let said = run(
            Command::new("systemd-analyze")
                .arg("verify")
                .arg(root)
                .arg(&unit),
            LONG,
        )
        .expect_code(0);
        assert_eq!(said.text().trim(), "", "{unit}: it has something to say");
    }
}

#[test]
fn a_disk_image_without_apps_and_revision_waits_for_neither() {
    let dir = tempfile::tempdir().unwrap();
    let tree = used_tree(dir.path());
    customise(&tree, &[("--etc", &etc(dir.path(), ""))]).expect_code(0);
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    assert!(
        wants
            .join("evenkeel-first-boot.service")
            .symlink_metadata()
            .is_ok()
    );
    for unit in ["preload", "first-revision"] {
        let unit = wants.join(format!("evenkeel-{unit}.service"));
        assert!(unit.symlink_metadata().is_err(), "{}", unit.display());
    }
}

#[test]
fn what_an_image_cannot_be_made_of_is_told_before_it_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let good = etc(dir.path(), "");
    let repo = FleetRepo::new();
    repo.write("a", "a");
    repo.release("First");
    repo.bare_git(&["branch", "-q", "-m", "main", "other"]);
    let bare = repo.bare();
    let foreign = archive(dir.path(), "x86_64-unknown-linux-musl");
    let with_key = dir.path().join("with-key");
    std::fs::create_dir(&with_key).unwrap();
    run(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(with_key.join("deploy_key")),
        LONG,
    )
    .expect_code(0);
    let nothing = Path::new("/nowhere/at/all");
    let cases: [(&[(&str, &Path)], &str); 9] = [
        (&[], "--etc DIR is missing"),
        (&[("--etc", nothing)], "no agent.toml in /nowhere/at/all"),
        (
            &[("--etc", &good), ("--name", Path::new("Gate_Way"))],
            "host name",
        ),
        (&[("--etc", &good), ("--files", nothing)], "no directory"),
        (&[("--etc", &good), ("--files", &with_key)], "private key"),
        (&[("--etc", &good), ("--first", &bare)], "branch main"),
        (&[("--etc", &good), ("--image", nothing)], "/nowhere/at/all"),
        (&[("--etc", &good), ("--image", &foreign)], "amd64"),
        (
            &[("--etc", &good), ("--imagine", nothing)],
            "no option --imagine",
        ),
    ];
    for (options, says) in cases {
        let said = customise(Path::new("--check"), options).expect_code(2);
        assert!(said.stderr.contains(says), "{options:?}: {}", said.stderr);
    }
    // One device's name in it is allowed, and told.
    let one = etc(&dir.path().join("one"), "[device]\nid = \"gw-1\"\n");
    let said = customise(Path::new("--check"), &[("--etc", &one)]).expect_code(0);
    assert!(said.stderr.contains("gw-1"), "{}", said.stderr);

    for (options, says) in [
        (["--engine", "lxc"], "--engine"),
        (["--size", "many"], "--size"),
        (["--deb", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--colour", "blue"], "no option --colour"),
    ] {
        let mut build = Command::new(repository().join("packaging/image/build.sh"));
        let said = run(build.args(options), LONG).expect_code(2);
        assert!(said.stderr.contains(says), "{options:?}: {}", said.stderr);
    }
}

#[test]
fn each_device_of_an_image_names_itself_once() {
    let script = repository().join("packaging/image/root/usr/lib/evenkeel-image/first-boot");
    let booted = |machine: &str| {
        let root = Root::booted();
        root.write("etc/machine-id", machine);
        root.write("usr/lib/evenkeel-image/name", "gw\n");
        root.write("etc/hostname", "");
        let stub = "#!/bin/sh\necho \"evenkeel $*\" >>/asked\n";
        root.write("usr/bin/evenkeel", stub);
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.path().join("usr/bin/evenkeel"), executable).unwrap();
        std::fs::copy(
            &script,
            root.path().join("usr/lib/evenkeel-image/first-boot"),
        )
        .unwrap();
        root
    };
    let boot = |root: &Root| {
        // In a namespace of its own: the host name is this machine's otherwise.
        let said = run(
            Command::new("unshare")
                .args([
                    "--uts",
                    "sh",
                    "-c",
                    "chroot \"$0\" /usr/lib/evenkeel-image/first-boot && hostname",
                ])
                .arg(root.path()),
            LONG,
        )
        .expect_code(0);
        assert_eq!(root.asked(), "evenkeel enroll\n");
        let name = std::fs::read_to_string(root.path().join("etc/hostname")).unwrap();
        assert_eq!(said.stdout, name);
        name
    };
    let one = booted("3d1219c7c4c5404aaa1f6d2a48adfda4\n");
    let name = boot(&one);
    assert!(name.starts_with("gw-") && name.trim().len() == 11, "{name}");
    assert_eq!(boot(&one), name, "the next boot leaves it alone");
    let other = booted("4d1219c7c4c5404aaa1f6d2a48adfda4\n");
    assert_ne!(boot(&other), name, "another machine");
    one.write("etc/hostname", "given\n");
    assert_eq!(boot(&one), "given\n", "a name that somebody gave stays");
}

#[test]
fn the_first_revision_is_brought_in_the_sandbox_of_any_other_pass() {
    let sandbox = |path: &str| -> Vec<String> {
        let text = std::fs::read_to_string(repository().join(path)).unwrap();
        let from = text.find("NoNewPrivileges=").unwrap();
        let lines = text[from..].lines();
        lines
            .take_while(|line| !line.starts_with('['))
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    let own = "packaging/image/root/usr/lib/systemd/system/evenkeel-first-revision.service";
    let expected = sandbox("systemd/evenkeel-sync.service");
    assert!(expected.len() > 15, "{expected:?}");
    assert_eq!(sandbox(own), expected);
}

#[test]
fn the_snippets_for_other_tools_are_what_these_read() {
    let image = repository().join("packaging/image");
    run(
        Command::new("cloud-init")
            .args(["schema", "--config-file"])
            .arg(image.join("cloud-init.yaml")),
        LONG,
    )
    .expect_code(0);
    let judged = |file: &Path| run(Command::new("ignition-validate").arg(file), LONG);
    let said = judged(&image.join("ignition.json")).expect_code(0);
    assert_eq!(said.text().trim(), "");
    // It does judge.
    let text = std::fs::read_to_string(image.join("ignition.json")).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        text.replace("\"/etc/evenkeel/", "\"etc/evenkeel/"),
    )
    .unwrap();
    judged(file.path()).expect_code(1);
}
