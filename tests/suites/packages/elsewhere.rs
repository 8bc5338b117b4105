//! The packages for other processors than this machine's: made by the same scripts, judged by the same programs.

use evenkeel_tests::Registry;

use super::*;

struct Arm {
    triple: &'static str,
    /// What Debian, and what OCI call it.
    names: (&'static str, &'static str, &'static str),
    /// The header of a program for it that holds nothing: class, machine, and the sizes of header and program header.
    elf: (u8, u8, u8, u8),
}

const ARMS: [Arm; 2] = [
    Arm {
        triple: "aarch64-unknown-linux-musl",
        names: ("arm64", "arm64", "v8"),
        elf: (2, 183, 64, 56),
    },
    Arm {
        triple: "armv7-unknown-linux-musleabihf",
        names: ("armhf", "arm", "v7"),
        elf: (1, 40, 52, 32),
    },
];

impl Arm {
    /// What the ordinary run built for it; without that, a program that is only a header, which is all that a package looks
    /// at.
    fn binary(&self, to: &Path) -> PathBuf {
        let built = std::env::current_exe().unwrap();
        let built = built
            .ancestors()
            .nth(3)
            .unwrap()
            .join(self.triple)
            .join("cross-test/evenkeel");
        if built.is_file() {
            return built;
        }
        let (class, machine, header, segment) = self.elf;
        let (places_at, phdr, flags) = match class {
            2 => (24, 8, [0, 0, 0, 0]),
            _ => (12, 4, [0, 4, 0, 5]),
        };
        let mut bytes = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
        bytes.resize(16, 0);
        bytes.extend([2, 0, machine, 0, 1, 0, 0, 0]);
        // The entry, where the program headers are, and no sections; the flags (hardware floating point); the sizes.
        let mut places = vec![0_u8; places_at];
        places[phdr] = header;
        bytes.extend(places);
        bytes.extend(flags);
        bytes.extend([header, 0, segment, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.resize(usize::from(header) + usize::from(segment), 0);
        bytes[usize::from(header)] = 1;
        let file = to.join(format!("stand-in-{}", self.triple));
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        file
    }
}

#[test]
fn a_deb_for_arm_says_its_architecture_asks_for_no_library_and_lintian_has_nothing_to_say() {
    for arm in ARMS {
        let out = tempfile::tempdir().unwrap();
        let binary = arm.binary(out.path());
        let deb = made(
            script("deb.sh", out.path())
                .args(["--fast", "--target", arm.triple, "--binary"])
                .arg(&binary),
        );
        let deb = deb.to_str().unwrap();
        let name = arm.names.0;
        assert!(deb.ends_with(&format!("_{name}.deb")), "{deb}");
        let field = |name| output("dpkg-deb", &["-f", deb, name]);
        assert_eq!(field("Architecture").trim(), name);
        assert!(!field("Depends").contains("libc"), "{}", field("Depends"));
        let unpacked = out.path().join("unpacked");
        output("dpkg-deb", &["-x", deb, unpacked.to_str().unwrap()]);
        assert_eq!(
            std::fs::read(unpacked.join("usr/bin/evenkeel")).unwrap(),
            std::fs::read(&binary).unwrap()
        );
        assert!(unpacked.join("usr/share/doc/evenkeel/NOTICES.gz").is_file());
        let said = run(
            Command::new("lintian")
                .args(["--fail-on", "error,warning"])
                .arg(deb),
            LONG,
        )
        .expect_code(0);
        assert_eq!(said.stdout.trim(), "", "{name}");
    }
}

#[test]
fn one_image_for_three_architectures_gives_each_its_own_program() {
    let out = tempfile::tempdir().unwrap();
    let host = Path::new("/bin/busybox").to_path_buf();
    let mut made_of = vec![("x86_64-unknown-linux-musl", ("amd64", ""), host)];
    for arm in &ARMS {
        let (_, name, variant) = arm.names;
        made_of.push((arm.triple, (name, variant), arm.binary(out.path())));
    }
    let mut command = script("oci.sh", out.path());
    command.arg("--fast");
    for (triple, _, binary) in &made_of {
        command.arg(format!("{triple}={}", binary.display()));
    }
    let archive = made(&mut command);

    // As somebody publishes it: all of it to a registry, and from there what each machine would take.
    let registry = Registry::start();
    let published = format!("docker://{}/evenkeel:published", registry.host());
    let skopeo = |arguments: &[&str]| output("skopeo", arguments);
    skopeo(&[
        "copy",
        "--quiet",
        "--all",
        "--dest-tls-verify=false",
        &format!("oci-archive:{}", archive.display()),
        &published,
    ]);
    let index = skopeo(&["inspect", "--raw", "--tls-verify=false", &published]);
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    let named: Vec<(&str, &str)> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let platform = &one["platform"];
            assert_eq!(platform["os"], "linux");
            (
                platform["architecture"].as_str().unwrap(),
                platform["variant"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let expected: Vec<(&str, &str)> = made_of.iter().map(|(_, platform, _)| *platform).collect();
    assert_eq!(named, expected);

    for (_, (architecture, variant), binary) in &made_of {
        let to = out.path().join(format!("taken-{architecture}"));
        skopeo(&[
            "--override-os=linux",
            &format!("--override-arch={architecture}"),
            &format!("--override-variant={variant}"),
            "copy",
            "--quiet",
            "--src-tls-verify=false",
            &published,
            &format!("dir:{}", to.display()),
        ]);
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(to.join(name)).unwrap()).unwrap()
        };
        let file = |part: &serde_json::Value| {
            let digest = part["digest"].as_str().unwrap();
            digest.strip_prefix("sha256:").unwrap().to_owned()
        };
        let manifest = read("manifest.json");
        let config = read(&file(&manifest["config"]));
        assert_eq!(config["architecture"], *architecture);
        let layer = to.join(file(&manifest["layers"][0]));
        let line = format!(
            "tar -xzOf {} ./usr/bin/evenkeel | cmp - {}",
            layer.display(),
            binary.display()
        );
        output("sh", &["-c", &line]);
    }
}
