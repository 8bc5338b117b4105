//! What comes before what, what runs once, and what stays: on both engines.

use crate::fleet::{GATE, QUICK, World};

/// A service that ends, and leaves a line in the volume `data` each time that it runs.
fn writer(world: &World, name: &str, line: &str, more: &str) -> String {
    format!(
        "[services.{name}]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", \"echo {line} >> /data/log\"]\nvolumes = [\"data:/data\"]\n{more}\n",
        world.image
    )
}

/// What was written into the volume, as the sleeper `web` sees it.
fn log(world: &World) -> Vec<String> {
    let (code, said) = world
        .engine()
        .exec(&world.container_id("web"), &["/bin/cat", "/data/log"]);
    assert_eq!(code, 0, "{said}");
    said.lines().map(str::to_owned).collect()
}

const START_FIRST: &str = "deploy = { update_config = { order = \"start-first\" } }\n";

fn starts_first(world: &World) {
    let app = |state: &str| {
        world.judged("web", state).replace(GATE, "")
            + START_FIRST
            + "\n[gate]\ndeadline = \"6s\"\nsoak = \"0s\"\n"
    };
    world.apps(&["one"]).app("one", app("good"));
    world.release_and_sync("First");
    let first = world.container_id("web");
    let started = world.container("web")["State"]["StartedAt"].clone();

    world.app("one", app("bad"));
    world.repo.release("Bad");
    world.device.sync().expect_code(4);
    assert_eq!(world.container_id("web"), first);
    assert_eq!(world.container("web")["State"]["StartedAt"], started);
    assert_eq!(world.containers(), 1);

    world.app(
        "one",
        app("good").replace("STATE = \"good\"", "STATE = \"good\", B = \"2\""),
    );
    world.release_and_sync("Second");
    assert_ne!(world.container_id("web"), first);
    assert_eq!(world.containers(), 1);
    let name = world.container("web")["Name"].as_str().unwrap().to_owned();
    assert!(name.ends_with("-web-1"), "{name}");
    world.assert_converged();

    world.app(
        "one",
        world.sleeper("web", &format!("ports = [\"18080:80\"]\n{START_FIRST}")),
    );
    world.repo.release("Two on one port");
    let said = world.device.sync().expect_code(3);
    assert!(
        said.stderr.contains("publishes port 18080"),
        "{}",
        said.stderr
    );
}

#[test]
fn the_new_container_is_healthy_before_the_old_one_stops() {
    starts_first(&World::with_docker("order-first"));
}

#[test]
fn the_new_container_is_healthy_before_the_old_one_stops_on_podman() {
    starts_first(&World::with_podman("order-first-p"));
}

fn jobs_hooks_and_volumes(world: &World) {
    let app = |job: &str, after: &str, web: &str| {
        world.sleeper(
            "web",
            &format!(
                "volumes = [\"data:/data\"]\nenvironment = {{ A = \"{web}\" }}\ndepends_on = {{ job = {{ condition = \"service_completed_successfully\" }} }}\n"
            ),
        ) + &writer(world, "job", job, "")
            + &writer(world, "before", "before", "")
            + &writer(world, "back", "back", "")
            + &writer(world, "after", "after", "").replace("log\"]", &format!("log; exit {after}\"]"))
            + "[volumes.data]\non_remove = \"delete\"\n"
            + "[hooks]\nbefore_update = \"before\"\nafter_update = \"after\"\nbefore_rollback = \"back\"\n"
            + QUICK
    };
    let user = format!(
        "requires = [\"{}\"]\n{}{QUICK}",
        world.app_name("one"),
        world.sleeper("user", "")
    );
    world
        .apps(&["a", "one"])
        .app("a", user)
        .app("one", app("job", "0", "1"));
    world.release_and_sync("First");
    assert_eq!(log(world), ["job", "after"]);
    assert!(
        world.container("user")["State"]["StartedAt"].as_str()
            > world.container("web")["State"]["StartedAt"].as_str(),
        "the app that requires began first"
    );
    world.assert_converged();
    // The job's container is pruned, and it is not run again.
    world.engine().remove(&world.container_id("job"));
    world.device.sync().expect_code(0);
    assert_eq!(log(world), ["job", "after"]);
    world.assert_converged();

    // A change of the one container runs the hooks, and the one that fails takes it back.
    world.app("one", app("job", "3", "2"));
    world.repo.release("Second");
    world.device.sync().expect_code(4);
    assert_eq!(log(world), ["job", "after", "before", "after", "back"]);
    assert_eq!(world.containers(), 2, "web and user; no hook stays");

    // All of it goes, the volume too, and only where that is meant.
    world.apps(&[]);
    world.repo.release("Nothing");
    world.device.sync().expect_code(3);
    assert_eq!(world.containers(), 2);
    world.release_and_sync("Nothing\n\nAllow-Empty: true");
    assert_eq!(world.containers(), 0);
    let id = &world.device.settings.id;
    assert_eq!(world.engine().volumes(id), Vec::<String>::new());
    world.assert_converged();
}

#[test]
fn a_job_runs_once_hooks_run_around_a_change_and_what_is_to_go_goes() {
    jobs_hooks_and_volumes(&World::with_docker("order-hooks"));
}

#[test]
fn a_job_runs_once_hooks_run_around_a_change_and_what_is_to_go_goes_on_podman() {
    jobs_hooks_and_volumes(&World::with_podman("order-hooks-p"));
}
