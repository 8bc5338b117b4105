//! What is in the packages, and that they agree.

use super::*;

/// What each package adds of its own: the .deb by Debian's policy, the .rpm by its own habits.
const DEBIANS: [&str; 3] = [
    "/usr/share/doc/evenkeel/changelog.Debian.gz",
    "/usr/share/doc/evenkeel/copyright",
    "/usr/share/lintian/overrides/evenkeel",
];

/// What `install.sh` puts in place, with the names that a package gives some of it.
fn installed(out: &Path, binary: &Path) -> BTreeMap<String, u32> {
    let root = out.join("installed");
    run(
        Command::new(repository().join("packaging/install.sh"))
            .args(["--prefix", "/usr", "--destdir"])
            .arg(&root)
            .arg("--binary")
            .arg(binary),
        LONG,
    )
    .expect_code(0);
    files(&root)
}

fn renamed(files: BTreeMap<String, u32>, from: &str, to: &str) -> BTreeMap<String, u32> {
    files
        .into_iter()
        .map(|(path, mode)| (if path == from { to.to_owned() } else { path }, mode))
        .collect()
}

#[test]
fn the_deb_holds_what_install_sh_puts_in_place_and_lintian_has_nothing_to_say() {
    let out = tempfile::tempdir().unwrap();
    let binary = stripped(out.path());
    let deb = made(
        script("deb.sh", out.path())
            .arg("--fast")
            .arg("--binary")
            .arg(&binary),
    );
    let unpacked = out.path().join("unpacked");
    output(
        "dpkg-deb",
        &["-x", deb.to_str().unwrap(), unpacked.to_str().unwrap()],
    );
    let mut packed = files(&unpacked);
    for own in DEBIANS {
        assert_eq!(packed.remove(own), Some(0o644), "{own}");
    }
    let mut expected = installed(out.path(), &binary);
    let man = "/usr/share/man/man1/evenkeel.1";
    expected.remove("/usr/share/doc/evenkeel/LICENSE").unwrap();
    let expected = renamed(expected, man, &format!("{man}.gz"));
    assert_eq!(packed, expected);
    assert_eq!(packed["/usr/bin/evenkeel"], 0o755);
    assert!(packed.contains_key("/usr/lib/systemd/system/evenkeel.service"));
    assert_eq!(
        std::fs::read(unpacked.join("usr/bin/evenkeel")).unwrap(),
        std::fs::read(&binary).unwrap()
    );

    let field = |name| output("dpkg-deb", &["-f", deb.to_str().unwrap(), name]);
    let version = output(binary.to_str().unwrap(), &["--version"]);
    let version = version.trim().strip_prefix("evenkeel ").unwrap();
    assert_eq!(field("Version").trim(), format!("{version}-1"));
    // The tests' own build is linked to this machine's libc, and has to say so.
    assert!(
        field("Depends").contains("libc6 (>= "),
        "{}",
        field("Depends")
    );
    let conffiles = output("dpkg-deb", &["-I", deb.to_str().unwrap(), "conffiles"]);
    assert_eq!(conffiles.trim(), "/etc/default/evenkeel");

    // Its complaint about root goes to stderr.
    let said = run(
        Command::new("lintian")
            .args(["--fail-on", "error,warning"])
            .arg(&deb),
        LONG,
    )
    .expect_code(0);
    assert_eq!(said.stdout.trim(), "");
}

#[test]
fn the_rpm_and_the_tarball_hold_the_same() {
    let out = tempfile::tempdir().unwrap();
    // What is looked at here are names and modes.
    let binary = Path::new("/bin/true");
    let expected = installed(out.path(), binary);

    let rpm = made(
        script("rpm.sh", out.path())
            .arg("--fast")
            .arg("--binary")
            .arg(binary),
    );
    let listed = output(
        "rpm",
        &[
            "-qp",
            "--qf",
            "[%{FILEMODES:octal} %{FILEUSERNAME} %{FILENAMES}\n]",
            rpm.to_str().unwrap(),
        ],
    );
    let mut packed = BTreeMap::new();
    for line in listed.lines() {
        let mut parts = line.splitn(3, ' ');
        let mode = u32::from_str_radix(parts.next().unwrap(), 8).unwrap();
        assert_eq!(parts.next(), Some("root"), "{line}");
        if mode & 0o170_000 != 0o040_000 {
            packed.insert(parts.next().unwrap().to_owned(), mode & 0o7777);
        }
    }
    let license = "/usr/share/doc/evenkeel/LICENSE";
    assert_eq!(
        packed,
        renamed(
            expected.clone(),
            license,
            "/usr/share/licenses/evenkeel/LICENSE"
        )
    );

    let tarball = made(script("tarball.sh", out.path()).arg("--binary").arg(binary));
    let unpacked = out.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    output(
        "tar",
        &[
            "-xf",
            tarball.to_str().unwrap(),
            "-C",
            unpacked.to_str().unwrap(),
        ],
    );
    let top = std::fs::read_dir(&unpacked)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let root = out.path().join("from-tarball");
    run(
        Command::new(top.path().join("install.sh"))
            .args(["--prefix", "/usr", "--destdir"])
            .arg(&root),
        LONG,
    )
    .expect_code(0);
    assert_eq!(files(&root), expected);
}

#[test]
fn another_prefix_is_one_that_the_unit_names_and_uninstalling_leaves_only_configuration() {
    let out = tempfile::tempdir().unwrap();
    let root = out.path().join("root");
    let install = |more: &[&str]| {
        run(
            Command::new(repository().join("packaging/install.sh"))
                .args([
                    "--prefix",
                    "/opt/evenkeel",
                    "--binary",
                    "/bin/true",
                    "--destdir",
                ])
                .arg(&root)
                .args(more),
            LONG,
        )
        .expect_code(0)
    };
    install(&[]);
    let unit = std::fs::read_to_string(root.join("etc/systemd/system/evenkeel.service")).unwrap();
    let starts = unit
        .lines()
        .find(|line| line.starts_with("ExecStart="))
        .unwrap();
    assert!(starts.starts_with("ExecStart=/opt/evenkeel/"), "{starts}");
    let program = starts["ExecStart=".len()..].split(' ').next().unwrap();
    assert!(root.join(&program[1..]).is_file(), "{program} is in place");
    assert!(!unit.contains("/usr/bin/evenkeel") && !unit.contains("/usr/lib/evenkeel"));

    // What somebody wrote stays through an update.
    std::fs::write(root.join("etc/default/evenkeel"), "NO_PROXY=x\n").unwrap();
    std::fs::write(root.join("etc/evenkeel/agent.toml"), "mine\n").unwrap();
    install(&[]);
    install(&["--uninstall"]);
    let left = files(&root);
    let left: Vec<_> = left.keys().map(String::as_str).collect();
    assert_eq!(left, ["/etc/default/evenkeel", "/etc/evenkeel/agent.toml"]);
    assert_eq!(
        std::fs::read_to_string(root.join("etc/default/evenkeel")).unwrap(),
        "NO_PROXY=x\n"
    );
}

/// The commands of the page, each with its options.
fn of_the_page() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(repository().join("packaging/evenkeel.1")).unwrap();
    let section = page.split(".SH COMMANDS").nth(1).unwrap();
    let section = section.split(".SH ").next().unwrap();
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut command, mut inside) = (String::new(), false);
    for line in section.lines() {
        match line.split_once(' ') {
            None if line == ".RS" => inside = true,
            None if line == ".RE" => inside = false,
            Some((".B", name)) if !inside => {
                command = name.to_owned();
                assert!(
                    listed.insert(command.clone(), BTreeSet::new()).is_none(),
                    "{name} twice"
                );
            }
            Some((".B" | ".BI", option)) if inside && option.starts_with(r"\-\-") => {
                let name = option.split(' ').next().unwrap().replace('\\', "");
                listed.get_mut(&command).unwrap().insert(name);
            }
            Some(_) | None => {}
        }
    }
    listed
}

/// The commands below this one, or it alone, each with its options, as the program says them.
fn of_the_program(command: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let help = output(
        evenkeel_tests::device::binary().to_str().unwrap(),
        &[command, &["-h"]].concat(),
    );
    let names = |title: &str| -> Vec<&str> {
        let section = help
            .split(&format!("{title}:\n"))
            .nth(1)
            .unwrap_or_default();
        section
            .lines()
            .take_while(|line| !line.is_empty())
            .map(|line| {
                line.trim_start_matches("  -h, ")
                    .trim_start_matches("  -V, ")
                    .trim_start()
            })
            .filter_map(|line| line.split(' ').next())
            .collect()
    };
    let below = names("Commands");
    if below.is_empty() {
        let options = names("Options").into_iter();
        let options = options.filter(|name| name.starts_with("--") && *name != "--help");
        return BTreeMap::from([(command.join(" "), options.map(str::to_owned).collect())]);
    }
    let below = below.into_iter().filter(|name| *name != "help");
    below
        .flat_map(|name| of_the_program(&[command, &[name]].concat()))
        .collect()
}

#[test]
fn the_man_page_lists_every_command_and_option_and_no_other() {
    let (page, program) = (of_the_page(), of_the_program(&[]));
    assert!(
        program.len() > 20 && program["enroll"].contains("--serve"),
        "{program:?}"
    );
    assert_eq!(page, program);
}

#[test]
fn the_same_source_gives_the_same_packages() {
    let said = run(
        Command::new(repository().join("packaging/reproducible.sh"))
            .args(["--binary", "/bin/true"])
            .env_remove("EVENKEEL_OUT"),
        LONG,
    )
    .expect_code(0);
    let same: Vec<_> = said
        .stdout
        .lines()
        .filter(|line| line.starts_with("same "))
        .collect();
    for kind in [".deb", ".rpm", ".tar.gz", ".oci.tar"] {
        assert!(
            same.iter().any(|line| line.ends_with(kind)),
            "{kind}: {}",
            said.text()
        );
    }
    assert_eq!(same.len(), said.stdout.lines().count(), "{}", said.text());
}
