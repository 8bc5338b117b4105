//! The signed checksums, by the commands that packaging/checksums.sh documents.

use super::*;

#[test]
fn the_sums_verify_and_neither_a_flipped_byte_nor_another_key_does() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    for key in ["release", "stranger"] {
        run(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.path().join(key)),
            LONG,
        )
        .expect_code(0);
    }
    std::fs::write(out.join("one.deb"), b"one").unwrap();
    std::fs::write(out.join("two.rpm"), b"two").unwrap();
    let sign = |key: &str| {
        run(
            script("checksums.sh", &out)
                .arg("--key")
                .arg(dir.path().join(key)),
            LONG,
        )
        .expect_code(0);
    };
    let verify = || {
        let line = "echo \"release@acme.example namespaces=\\\"file\\\" $(cat ../release.pub)\" >../signers &&
            ssh-keygen -Y verify -f ../signers -I release@acme.example -n file -s SHA256SUMS.sig <SHA256SUMS &&
            sha256sum --check --ignore-missing SHA256SUMS";
        run(
            Command::new("sh").args(["-c", line]).current_dir(&out),
            LONG,
        )
    };
    sign("release");
    let said = verify().expect_code(0).stdout;
    assert!(
        said.contains("one.deb: OK") && said.contains("two.rpm: OK"),
        "{said}"
    );

    std::fs::write(out.join("one.deb"), b"one\x01").unwrap();
    assert_ne!(verify().code, Some(0), "a byte more in an artifact");
    std::fs::write(out.join("one.deb"), b"one").unwrap();
    verify().expect_code(0);

    let sums = std::fs::read(out.join("SHA256SUMS")).unwrap();
    let mut turned = sums.clone();
    turned[0] ^= 1;
    std::fs::write(out.join("SHA256SUMS"), &turned).unwrap();
    assert_ne!(verify().code, Some(0), "a bit turned over in the sums");
    std::fs::write(out.join("SHA256SUMS"), &sums).unwrap();
    verify().expect_code(0);

    sign("stranger");
    assert_ne!(verify().code, Some(0), "signed by somebody else");
}
