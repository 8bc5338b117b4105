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
    // Each package brings the licences that it wrote itself; the source tree has none.
    let notices = out.join("notices");
    std::fs::write(&notices, "").unwrap();
    run(
        Command::new(repository().join("packaging/install.sh"))
            .args(["--prefix", "/usr", "--destdir"])
            .arg(&root)
            .arg("--binary")
            .arg(binary)
            .arg("--notices")
            .arg(notices),
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

    // The sums of everything but what people edit, as `dpkg --verify` takes them.
    let control = out.path().join("control");
    output(
        "dpkg-deb",
        &["-e", deb.to_str().unwrap(), control.to_str().unwrap()],
    );
    let sums = std::fs::read_to_string(control.join("md5sums")).unwrap();
    assert_eq!(
        sums.lines().count(),
        packed.len() + DEBIANS.len() - 1,
        "{sums}"
    );
    assert!(!sums.contains("etc/default"), "{sums}");
    run(
        Command::new("md5sum")
            .args(["--check", "--quiet", "--strict"])
            .arg(control.join("md5sums"))
            .current_dir(&unpacked),
        LONG,
    )
    .expect_code(0);

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
    let mut of_rpm = expected.clone();
    for license in ["LICENSE", "NOTICES.gz"] {
        of_rpm = renamed(
            of_rpm,
            &format!("/usr/share/doc/evenkeel/{license}"),
            &format!("/usr/share/licenses/evenkeel/{license}"),
        );
    }
    assert_eq!(packed, of_rpm);

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

/// The lock file's packages that a build of `target` reaches from the agent's own dependencies, as cargo's data says it and
/// not its tree: more than are linked (macros, what only the tests turn on), and none that only tests take.
fn reachable(target: &str) -> BTreeMap<String, String> {
    let data = output(
        "cargo",
        &[
            "metadata",
            "--offline",
            "--locked",
            "--format-version=1",
            "--filter-platform",
            target,
            "--manifest-path",
            repository().join("Cargo.toml").to_str().unwrap(),
        ],
    );
    let data: serde_json::Value = serde_json::from_str(&data).unwrap();
    let list = |of: &serde_json::Value| of.as_array().unwrap().clone();
    let text = |of: &serde_json::Value| of.as_str().unwrap().to_owned();
    let packages: BTreeMap<String, serde_json::Value> = list(&data["packages"])
        .into_iter()
        .map(|package| (text(&package["id"]), package))
        .collect();
    let agent = packages
        .iter()
        .find(|(_, package)| package["name"] == "evenkeel");
    let mut next = vec![agent.unwrap().0.clone()];
    let mut found = BTreeMap::new();
    while let Some(id) = next.pop() {
        let package = &packages[&id];
        let name = format!("{}-{}", text(&package["name"]), text(&package["version"]));
        if found.insert(name, text(&package["license"])).is_some() {
            continue;
        }
        let nodes = list(&data["resolve"]["nodes"]);
        let node = nodes.iter().find(|node| node["id"] == id).unwrap();
        for dep in list(&node["deps"]) {
            if list(&dep["dep_kinds"])
                .iter()
                .any(|kind| kind["kind"].is_null())
            {
                next.push(text(&dep["pkg"]));
            }
        }
    }
    found.retain(|name, _| !name.starts_with("evenkeel"));
    found
}

#[test]
fn the_notices_name_each_linked_crate_with_its_licence_and_bring_their_texts() {
    let out = tempfile::tempdir().unwrap();
    let said = run(
        script("notices.sh", out.path()).args(["--target", &target()]),
        LONG,
    )
    .expect_code(0)
    .stdout;
    let listed: BTreeMap<&str, &str> = said
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, licence)| (name, licence.trim()))
        .collect();
    let reachable = reachable(&target());
    for (name, licence) in &listed {
        assert_eq!(reachable.get(*name).map(String::as_str), Some(*licence));
    }
    let manifest = std::fs::read_to_string(repository().join("agent/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let names = dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with("evenkeel"));
    let mut direct = 0;
    for name in names {
        direct += 1;
        let start = format!("{name}-");
        assert!(
            listed.keys().any(|each| each.starts_with(&start)
                && each[start.len()..].starts_with(|c: char| c.is_ascii_digit())),
            "{name} is linked"
        );
    }
    assert!(direct > 20, "{direct}");
    // ring's own is one of those that stand nowhere else.
    let texts = said.split(&"-".repeat(80)).skip(1).collect::<Vec<_>>();
    let of_ring = texts
        .chunks(2)
        .filter(|pair| pair[0].contains("ring-"))
        .map(|pair| pair[1])
        .collect::<String>();
    assert!(of_ring.contains("BoringSSL"), "{of_ring}");
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
            .map(str::trim_start)
            // `-h, --help`: the long name is the one.
            .map(|line| match line.split_once(", --") {
                Some((short, _)) if short.len() == 2 => &line[short.len() + 2..],
                Some(_) | None => line,
            })
            .filter_map(|line| line.split([' ', '[']).next())
            .collect()
    };
    let below = names("Commands");
    let options: BTreeSet<String> = names("Options")
        .into_iter()
        .filter(|name| name.starts_with("--") && !matches!(*name, "--help" | "--version"))
        .map(str::to_owned)
        .collect();
    // One that has others below it, and is a command all the same, has options of its own.
    let own = (below.is_empty() || !options.is_empty()).then(|| (command.join(" "), options));
    let below = below.into_iter().filter(|name| *name != "help");
    below
        .flat_map(|name| of_the_program(&[command, &[name]].concat()))
        .chain(own)
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
