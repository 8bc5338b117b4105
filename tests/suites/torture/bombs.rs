//! Repositories that are small on the wire and huge to whoever reads them. The device stays at last-good, says why in one
//! error, costs little, and takes the next good commit by itself.

use std::time::{Duration, Instant};

use evenkeel_tests::process::Server;
use evenkeel_tests::tally::{Ended, Scale, Tally};

use crate::fleet::{QUICK, World};

/// What a pass over any repository may take of memory, in bytes: some three times what an ordinary one takes in a build
/// for tests, and far below what any of the bombs would come to.
const MEMORY: u64 = 176_000_000;
/// And of time.
const TIME: Duration = Duration::from_secs(100);

/// Commits and pushes something too large.
type Bomb = fn(&World);

/// How the fleet's people get rid of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WayOut {
    /// By a commit on top.
    Mend,
    /// By a branch without it: it cannot be fetched at all, and no device has kept it.
    Drop,
}

use WayOut::{Drop, Mend};

const BOMBS: &[(&str, WayOut, Bomb)] = &[
    ("a million files", Mend, |world| {
        let blob = blob(world);
        let many = tree_of(world, 1000, &format!("100644 blob {blob}"));
        let all = tree_of(world, 1000, &format!("040000 tree {many}"));
        release_beside(world, &all);
    }),
    ("files without end, by sharing", Mend, |world| {
        let mut tree = tree_of(world, 2, &format!("100644 blob {}", blob(world)));
        for _ in 0..40 {
            tree = tree_of(world, 2, &format!("040000 tree {tree}"));
        }
        release_beside(world, &tree);
    }),
    ("folders 2,000 levels deep", Mend, |world| {
        let mut tree = tree_of(world, 1, &format!("100644 blob {}", blob(world)));
        for _ in 0..2000 {
            tree = tree_of(world, 1, &format!("040000 tree {tree}"));
        }
        release_beside(world, &tree);
    }),
    ("a huge file", Drop, |world| {
        let size = Scale::asked().of(200_000_000, 2_000_000_000);
        let file = world.repo.work().join("apps/one/huge");
        std::fs::File::create(&file).unwrap().set_len(size).unwrap();
        app(
            world,
            "[[files]]\npath = \"/etc/one.conf\"\nsource = \"huge\"\n",
        );
        world.repo.release("A huge file");
        std::fs::remove_file(&file).unwrap();
    }),
    ("a huge document", Mend, |world| {
        app(world, &"# nothing\n".repeat(2_000_000));
        world.repo.release("A huge document");
    }),
    ("TOML without end of depth", Mend, |world| {
        app(world, &format!("a = {}", "[".repeat(200_000)));
        world.repo.release("Deep TOML");
    }),
    ("YAML without end of depth", Mend, |world| {
        compose(world, &format!("services: {}", "[".repeat(200_000)));
    }),
    ("YAML whose aliases multiply", Mend, |world| {
        let mut text = "x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let all = vec![before; 9].join(", ");
            text.push_str(&format!("x-{level}: &a{level} [{all}]\n"));
        }
        text.push_str("services:\n  one:\n    command: *a11\n");
        compose(world, &text);
    }),
    ("a template that counts for ever", Mend, |world| {
        template(
            world,
            "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}",
        );
    }),
    ("a template whose output has no end", Mend, |world| {
        template(
            world,
            "{% for a in range(99999) %}{% for b in range(99999) %}much of it {% endfor %}{% endfor %}",
        );
    }),
    ("a template that calls itself", Mend, |world| {
        template(
            world,
            "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}",
        );
    }),
    ("twenty thousand services", Mend, |world| {
        let digest = "0".repeat(64);
        let services: String = (0..20_000)
            .map(|number| {
                format!("[services.s{number}]\nimage = \"example.com/one@sha256:{digest}\"\n")
            })
            .collect();
        app(world, &services);
        world.repo.release("Many services");
    }),
    ("a commit message of 40 MB", Drop, |world| {
        let tree = world.repo.git(&["rev-parse", "HEAD^{tree}"]).stdout;
        let message = "Much to say.\n".repeat(3_000_000);
        world.repo.release_tree(tree.trim(), &message);
    }),
];

fn blob(world: &World) -> String {
    let made = world.repo.git(&["rev-parse", "HEAD:fleet.toml"]);
    made.stdout.trim().to_owned()
}

/// A tree with this entry under so many names.
fn tree_of(world: &World, count: usize, entry: &str) -> String {
    let lines: String = (0..count)
        .map(|number| format!("{entry}\t{number:04}\n"))
        .collect();
    world.repo.make_tree(&lines)
}

/// Releases the current tree with `tree` as a folder of the app.
fn release_beside(world: &World, tree: &str) {
    let mut inner = (tree.to_owned(), "junk");
    for (folder, name) in [
        ("HEAD:apps/one", "one"),
        ("HEAD:apps", "apps"),
        ("HEAD", ""),
    ] {
        let (id, at) = &inner;
        let listed = world.repo.git(&["ls-tree", folder]).stdout;
        let mut lines: String = listed
            .lines()
            .filter(|line| !line.ends_with(&format!("\t{at}")))
            .map(|line| format!("{line}\n"))
            .collect();
        lines.push_str(&format!("040000 tree {id}\t{at}\n"));
        inner = (world.repo.make_tree(&lines), name);
    }
    world.repo.release_tree(&inner.0, "Much beside the app");
}

fn app(world: &World, text: &str) {
    world.repo.write("apps/one/app.toml", text);
}

fn template(world: &World, text: &str) {
    app(
        world,
        &format!(
            "[[files]]\npath = \"/etc/one.conf\"\ntemplate = true\ncontent = '''{text}'''\n{QUICK}"
        ),
    );
    world.repo.release("A template");
}

fn compose(world: &World, text: &str) {
    world.repo.remove("apps/one/app.toml");
    world.repo.write("apps/one/compose.yaml", text);
    world.repo.release("A compose file");
    world.repo.remove("apps/one/compose.yaml");
}

/// One pass: its exit code, what it said, and the most memory that it took.
fn pass(world: &World) -> (Option<i32>, String, u64) {
    let log = world.device.scratch().join("pass.log");
    let _ = std::fs::remove_file(&log);
    let mut server = Server::start(&mut world.device.command(&["sync"]), &log);
    let status = format!("/proc/{}/status", server.pid());
    let (begun, mut most) = (Instant::now(), 0);
    let ended = loop {
        let peak = std::fs::read_to_string(&status).ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        most = most.max(peak.unwrap_or(0) * 1024);
        if let Some(ended) = server.ended() {
            break ended.code();
        }
        if begun.elapsed() > TIME {
            server.kill();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    (
        ended,
        std::fs::read_to_string(&log).unwrap_or_default(),
        most,
    )
}

fn survives(
    world: &World,
    (name, way_out, bomb): (&str, WayOut, Bomb),
    turn: usize,
) -> Result<Ended, String> {
    let before = format!("good {turn}\n");
    world.one_file(&before);
    let good = world.repo.release("Good");
    world.device.sync().expect_code(0);
    bomb(world);
    let (code, said, most) = pass(world);
    let shown: String = said.chars().take(2000).collect();
    if !matches!(code, Some(1 | 3)) {
        return Err(format!("{name}: ended with {code:?}: {shown}"));
    }
    if most > MEMORY {
        return Err(format!("{name}: took {} MB: {shown}", most / 1_000_000));
    }
    if said.len() > 10_000 {
        return Err(format!("{name}: said {} bytes: {shown}", said.len()));
    }
    if world.device.read("/etc/one.conf").as_deref() != Some(&before) {
        return Err(format!("{name}: what runs was touched"));
    }
    let (ready, reason) = world.device.condition("Ready");
    if reason.is_empty() {
        return Err(format!("{name}: Ready is {ready} and says nothing"));
    }
    if way_out == Drop {
        world.repo.rewind(&good);
    }
    let after = format!("good again {turn}\n");
    world.one_file(&after);
    world.repo.release("Good again");
    let (code, said, _) = pass(world);
    if code != Some(0) || world.device.read("/etc/one.conf").as_deref() != Some(&after) {
        return Err(format!("{name}: is not got over: {code:?} {said}"));
    }
    Ok(Ended::New)
}

#[test]
fn a_repository_that_is_a_bomb_costs_little_and_is_got_over() {
    let mut tally = Tally::new("repository bomb");
    for (turn, bomb) in BOMBS.iter().enumerate() {
        let world = World::of_files("bombs");
        tally.count(survives(&world, *bomb, turn));
    }
    tally.close();
}
