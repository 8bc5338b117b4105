//! The agent as an image for container engines.

use evenkeel_tests::Engine;

use super::*;

fn image(out: &Path, binary: &Path) -> PathBuf {
    made(
        script("oci.sh", out)
            .arg("--fast")
            .arg(format!("{}={}", target(), binary.display())),
    )
}

/// Loads it, runs `evenkeel --version` in it, and takes it away again.
fn loads_and_runs(engine: &Engine) {
    let out = tempfile::tempdir().unwrap();
    let archive = image(out.path(), &stripped(out.path()));
    let client = |arguments: &[&str]| {
        run(
            Command::new("docker")
                .arg("--host")
                .arg(engine.url())
                .args(arguments),
            LONG,
        )
        .expect_code(0)
        .stdout
    };
    let said = client(&["load", "--input", archive.to_str().unwrap()]);
    let name = said.trim().strip_prefix("Loaded image: ").unwrap();
    let version = output(
        evenkeel_tests::device::binary().to_str().unwrap(),
        &["--version"],
    );
    let expected = version.trim().replace(' ', ":");
    assert!(name.ends_with(&expected), "{name}");
    let container = client(&["create", "--network", "none", name, "--version"]);
    let said = client(&["start", "--attach", container.trim()]);
    client(&["rm", container.trim()]);
    engine.remove_image(name);
    assert_eq!(said, version);
}

#[test]
fn the_image_loads_into_docker_and_the_agent_runs_in_it() {
    loads_and_runs(&Engine::docker());
}

#[test]
fn the_image_loads_into_podman_and_the_agent_runs_in_it() {
    loads_and_runs(&Engine::podman());
}

#[test]
fn each_part_of_the_layout_is_what_its_digest_says() {
    let out = tempfile::tempdir().unwrap();
    let archive = image(out.path(), Path::new("/bin/busybox"));
    let layout = out.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    output(
        "tar",
        &[
            "-xf",
            archive.to_str().unwrap(),
            "-C",
            layout.to_str().unwrap(),
        ],
    );
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let blob = |part: &serde_json::Value| {
        let digest = part["digest"].as_str().unwrap();
        let path = layout.join("blobs").join(digest.replace(':', "/"));
        let sum = output("sha256sum", &[path.to_str().unwrap()]);
        assert_eq!(sum.split(' ').next().unwrap(), &digest["sha256:".len()..]);
        assert_eq!(
            part["size"].as_u64().unwrap(),
            std::fs::metadata(&path).unwrap().len()
        );
        path
    };
    let index = json(&layout.join("index.json"));
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let layer = blob(&manifest["layers"][0]);
    assert_eq!(config["os"], "linux");
    assert_eq!(
        config["architecture"],
        index["manifests"][0]["platform"]["architecture"]
    );
    let inner = output(
        "sh",
        &["-c", &format!("zcat <{} | sha256sum", layer.display())],
    );
    assert_eq!(
        config["rootfs"]["diff_ids"][0],
        format!("sha256:{}", inner.split(' ').next().unwrap())
    );
    let listed = output("tar", &["-tzf", layer.to_str().unwrap()]);
    for name in ["./usr/bin/evenkeel", "./etc/ssl/certs/ca-certificates.crt"] {
        assert!(listed.lines().any(|line| line == name), "{name}:\n{listed}");
    }
}
