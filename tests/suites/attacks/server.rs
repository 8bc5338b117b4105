//! Servers that lie about what they serve, and trees with something else in the place of a document.

use std::path::PathBuf;

use evenkeel_tests::GitHttp;
use evenkeel_tests::faults::FlippingProxy;

use super::Attack;
use super::stage::Stage;

/// The loose object in the server's repository.
fn object(stage: &Stage, id: &str) -> PathBuf {
    stage
        .repo()
        .bare()
        .join("objects")
        .join(&id[..2])
        .join(&id[2..])
}

pub(super) fn a_file_of_other_content(attack: Attack) {
    let stage = Stage::set(attack);
    stage.declare("next\n");
    let honest = stage.repo().commit_signed("Next");
    let blob = |commit: &str| {
        let name = format!("{commit}:apps/one/app.toml");
        stage
            .repo()
            .git(&["rev-parse", &name])
            .stdout
            .trim()
            .to_owned()
    };
    let signed = blob(&honest);
    stage.evil();
    let evil = stage.repo().commit_unsigned("Evil");
    let evil = blob(&evil);
    stage
        .repo()
        .git(&["push", "-q", "origin", "HEAD:refs/heads/material"]);
    stage.push(&honest);
    let (place, there) = (object(&stage, &signed), object(&stage, &evil));
    let truth = std::fs::read(&place).unwrap();
    std::fs::remove_file(&place).unwrap();
    std::fs::copy(there, &place).unwrap();
    stage.holds_with_code(1);
    // The server comes back to the truth, under the same commit.
    std::fs::remove_file(&place).unwrap();
    std::fs::write(&place, truth).unwrap();
    stage.repo().reset_to(&honest);
    stage.world.device.sync().expect_code(0);
    assert_eq!(
        stage.world.device.read("/etc/one.conf").as_deref(),
        Some("next\n")
    );
    stage.goes_on_from(&honest);
}

pub(super) fn a_pack_changed_on_its_way(attack: Attack) {
    let mut stage = Stage::set(attack);
    let plain = GitHttp::http(stage.repo().served());
    let proxy = FlippingProxy::start(plain.port(), b"PACK");
    let honest_url = std::mem::replace(&mut stage.world.device.settings.url, proxy.url());
    stage.declare("next\n");
    let next = stage.repo().commit_signed("Next");
    stage.push(&next);
    stage.holds_with_code(1);
    assert!(proxy.flipped() > 0, "nothing was flipped");
    stage.world.device.settings.url = honest_url;
    stage.goes_on_from(&next);
}

pub(super) fn a_server_with_another_authority(attack: Attack) {
    let mut stage = Stage::set(attack);
    let other = GitHttp::https(stage.repo().served());
    stage.declare("next\n");
    let next = stage.repo().commit_signed("Next");
    stage.push(&next);
    let honest_url = std::mem::replace(&mut stage.world.device.settings.url, other.url());
    stage.holds_with_code(1);
    stage.world.device.settings.url = honest_url;
    stage.goes_on_from(&next);
}

pub(super) fn a_symlink_for_a_document(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    stage.repo().remove("fleet.toml");
    std::os::unix::fs::symlink("/etc/passwd", stage.repo().work().join("fleet.toml")).unwrap();
    let commit = stage.repo().commit_signed("A link");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}

pub(super) fn a_submodule_for_a_document(attack: Attack) {
    let stage = Stage::set(attack);
    stage.evil();
    stage.repo().git(&["add", "-A"]);
    stage.repo().git(&["rm", "-rq", "--cached", "apps/one"]);
    let link = format!("160000,{},apps/one", stage.good);
    stage
        .repo()
        .git(&["update-index", "--add", "--cacheinfo", &link]);
    let commit = stage.commit_the_index("A submodule");
    stage.push(&commit);
    stage.holds();
    stage.goes_on();
}
