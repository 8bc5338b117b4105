//! The recipes for Yocto and Buildroot. Their own build systems are not here: what is shown is that checksums are filled in,
//! that they say the version and licence of this source, and that Buildroot's install commands put the agent in place.

use super::*;

fn recipes(out: &Path) -> (PathBuf, String, String) {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""))
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .to_owned();
    let tarball = out.join(format!("evenkeel-{version}-vendored.tar.xz"));
    std::fs::write(&tarball, "a source tarball").unwrap();
    let sum = output("sha256sum", &[tarball.to_str().unwrap()]);
    let sum = sum.split(' ').next().unwrap().to_owned();
    let archive = made(script("recipes.sh", out).arg(&tarball));
    output(
        "tar",
        &[
            "-xf",
            archive.to_str().unwrap(),
            "-C",
            out.to_str().unwrap(),
        ],
    );
    (
        out.join(format!("evenkeel-{version}-recipes")),
        version,
        sum,
    )
}

#[test]
fn the_recipes_name_this_version_and_the_checksums_of_what_they_build_from() {
    let out = tempfile::tempdir().unwrap();
    let (dir, version, sum) = recipes(out.path());
    let yocto = dir.join(format!("yocto/evenkeel_{version}.bb"));
    let yocto = std::fs::read_to_string(yocto).unwrap();
    assert!(
        yocto.contains(&format!("SRC_URI[sha256sum] = \"{sum}\"")),
        "{yocto}"
    );
    let license = repository().join("LICENSE");
    let md5 = output("md5sum", &[license.to_str().unwrap()]);
    let md5 = md5.split(' ').next().unwrap();
    assert!(
        yocto.contains(&format!("file://LICENSE;md5={md5}")),
        "{yocto}"
    );

    let hash = std::fs::read_to_string(dir.join("buildroot/evenkeel/evenkeel.hash")).unwrap();
    let sha = output("sha256sum", &[license.to_str().unwrap()]);
    let sha = sha.split(' ').next().unwrap();
    for line in [
        format!("sha256  {sum}  evenkeel-{version}-vendored.tar.xz"),
        format!("sha256  {sha}  LICENSE"),
    ] {
        assert!(hash.lines().any(|each| each == line), "{line}\n{hash}");
    }
    let mk = std::fs::read_to_string(dir.join("buildroot/evenkeel/evenkeel.mk")).unwrap();
    assert!(
        mk.contains(&format!("EVENKEEL_VERSION = {version}\n")),
        "{mk}"
    );
}

#[test]
fn buildroots_install_commands_put_the_agent_in_place_with_systemd_and_without() {
    let out = tempfile::tempdir().unwrap();
    let (dir, _, _) = recipes(out.path());
    // The package's build directory is the source tree, with a program where cargo leaves it; Buildroot's targets are stamps
    // in there.
    let tree = out.path().join("tree");
    // The two things that make finds in Buildroot: the macro that takes the description, and what calls its commands.
    let makefile = format!(
        "cargo-package =\nINSTALL = install\nSHELL = /bin/sh\nRUSTC_TARGET_NAME = the-target\ninclude {}\n\
         {}/.stamp:\n\t$(EVENKEEL_INSTALL_TARGET_CMDS)\n\t$(if $(BR2_INIT_SYSTEMD),,$(EVENKEEL_INSTALL_INIT_SYSV))\n",
        dir.join("buildroot/evenkeel/evenkeel.mk").display(),
        tree.display()
    );
    std::fs::write(out.path().join("Makefile"), makefile).unwrap();
    std::fs::create_dir_all(tree.join("target/the-target/release")).unwrap();
    for part in ["packaging", "systemd", "README.md", "LICENSE"] {
        std::os::unix::fs::symlink(repository().join(part), tree.join(part)).unwrap();
    }
    std::fs::copy("/bin/true", tree.join("target/the-target/release/evenkeel")).unwrap();
    for (systemd, there, absent) in [
        (
            "y",
            "/usr/lib/systemd/system/evenkeel.service",
            "/etc/init.d/S95evenkeel",
        ),
        (
            "",
            "/etc/init.d/S95evenkeel",
            "/usr/lib/systemd/system/evenkeel.service",
        ),
    ] {
        let target = out.path().join(format!("target{systemd}"));
        let commands = run(
            Command::new("make")
                .arg("-C")
                .arg(out.path())
                .arg(format!("BR2_INIT_SYSTEMD={systemd}"))
                .arg(format!("TARGET_DIR={}", target.display()))
                .arg(tree.join(".stamp")),
            LONG,
        );
        let commands = commands.expect_code(0);
        let files = files(&target);
        assert_eq!(files["/usr/bin/evenkeel"], 0o755, "{}", commands.text());
        assert!(files.contains_key(there), "{files:?}");
        assert!(!files.contains_key(absent), "{files:?}");
    }
}
