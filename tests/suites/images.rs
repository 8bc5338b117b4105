//! Images: from a registry that wants a login, and gone again when no revision needs them.

use evenkeel_tests::Registry;

use crate::fleet::{GATE, World};

fn runs(image: &str) -> String {
    format!(
        "[services.web]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\n{GATE}"
    )
}

/// An image that the engine does not have, in the registry.
fn pushed(world: &World, registry: &Registry, marker: &str) -> String {
    let marker = format!("{}-{marker}", world.device.settings.id);
    let image = world.engine().busybox_image(&marker, &[]);
    let pinned = registry.push(world.engine(), &image, "acme/app");
    if world.engine().image(&image).is_some() {
        world.engine().remove_image(&image);
    }
    pinned
}

#[test]
fn docker_pulls_with_the_owners_login_and_says_where_one_is_missing() {
    private(World::with_docker("images-login"));
}

#[test]
fn podman_pulls_with_the_owners_login_and_says_where_one_is_missing() {
    private(World::with_podman("images-login-podman"));
}

fn private(mut world: World) {
    let registry = Registry::private("gateway", "pa:ss w\u{f6}rd");
    let image = pushed(&world, &registry, "private");
    world.apps(&["one"]).app("one", runs(&image));
    world.repo.release("Private");
    let refused = world.device.sync();
    let said = refused.stdout.clone() + &refused.stderr;
    refused.expect_code(1);
    assert!(said.contains("auth_file"), "{said}");

    let file = world.device.scratch().join("config.json");
    std::fs::write(&file, registry.logins()).unwrap();
    // Goes on after `[engine]`.
    world.device.settings.more = format!("auth_file = \"{}\"\n", file.display());
    let synced = world.device.sync();
    synced.expect_code(0);
    assert_eq!(world.container("web")["State"]["Running"], true);
    world.assert_converged();
}

#[test]
fn docker_loses_what_no_kept_revision_needs_and_nothing_else() {
    let world = World::with_docker("images-gone");
    gone(&world);
}

#[test]
fn podman_loses_what_no_kept_revision_needs_and_nothing_else() {
    let world = World::with_podman("images-gone-podman");
    gone(&world);
}

fn gone(world: &World) {
    let registry = Registry::start();
    let images: Vec<String> = (0..5)
        .map(|number| pushed(world, &registry, &format!("release-{number}")))
        .collect();
    // The second was here before: it is a person's.
    let (status, said) = world.engine().call(
        "POST",
        &format!("/images/create?fromImage={}", images[1].replace('@', "%40")),
        None,
    );
    assert_eq!(status, 200, "{said}");
    let here = || -> Vec<bool> {
        let engine = world.engine();
        images
            .iter()
            .map(|one| engine.image(one).is_some())
            .collect()
    };
    world.apps(&["one"]);
    for (number, image) in images.iter().enumerate() {
        world.app("one", runs(image));
        world.release_and_sync(&format!("Release {number}"));
    }
    assert_eq!(here(), [false, true, true, true, true]);
    // Back to the oldest that is kept, with no network and no registry.
    drop(registry);
    world.device.evenkeel(&["rollback"]).expect_code(0);
    world.device.evenkeel(&["sync"]).expect_code(0);
    assert_eq!(here(), [false, true, true, true, true]);
    for image in &images[1..] {
        if world.engine().image(image).is_some() && *image != images[3] {
            world
                .engine()
                .call("DELETE", &format!("/images/{image}"), None);
        }
    }
}
