//! What `evenkeel publish` does to its folder: nothing twice, nothing by halves, nothing backwards.

use std::process::Command;

use evenkeel_tests::PATIENCE;
use evenkeel_tests::device::binary;
use evenkeel_tests::process::run;

use super::published::Site;
use super::*;

#[test]
fn the_same_tip_published_again_writes_nothing() {
    let site = Site::new();
    let before = listing(&site.tree());
    let said = site.publish(&[]);
    assert_eq!(said["branches"][0]["changed"], false, "{said}");
    assert_eq!(listing(&site.tree()), before);
    // A pack that went bad is no longer what its name says, and is made anew.
    for sum in [site.packs().0[0].0.clone(), site.packs().1.0] {
        let good = std::fs::read(site.file(&sum)).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(site.file(&sum), bad).unwrap();
        site.publish(&[]);
        assert!(
            std::fs::read(site.file(&sum)).is_ok_and(|now| now == good)
                || site
                    .packs()
                    .0
                    .iter()
                    .chain([&site.packs().1])
                    .all(|(other, _)| *other != sum),
            "{sum}"
        );
        Bench::new(&site.section()).fetch(None).unwrap();
    }
}

#[test]
fn packs_that_no_head_names_stay_for_those_who_are_slow_and_are_swept_then() {
    let mut site = Site::new();
    let bench = Bench::new(&site.section());
    let head = std::fs::read(site.head()).unwrap();
    let (_, snapshot) = site.packs();
    for begin in [0, 14] {
        site.commits((begin..begin + 14).map(|number| format!("number {number}")));
        site.publish(&[]);
    }
    assert_ne!(site.packs().1, snapshot, "the snapshot was made anew");
    assert!(site.file(&snapshot.0).exists());
    // A device that read the head before all that.
    let newest = std::fs::read(site.head()).unwrap();
    std::fs::write(site.head(), &head).unwrap();
    assert_eq!(bench.fetch(None).unwrap().id.as_str(), site.commits[2]);
    std::fs::write(site.head(), &newest).unwrap();
    site.publish(&["--keep", "0s"]);
    assert!(!site.file(&snapshot.0).exists());
    let count = std::fs::read_dir(site.tree().join("packs"))
        .unwrap()
        .count();
    let (line, _) = site.packs();
    assert!(count <= line.len() + 1, "{count}");
    assert_eq!(
        bench.fetch(Some(&site.commits[2])).unwrap().descent,
        Descent::Descends
    );
}

#[test]
fn a_branch_that_went_back_is_published_on_purpose_alone() {
    let mut site = Site::new();
    let four = site.commit("four");
    site.publish(&[]);
    site.repo.rewind(&site.commits[1].clone());
    let said = run(&mut site.command(), PATIENCE).expect_code(3);
    assert!(said.stderr.contains("--rewind"), "{}", said.stderr);
    site.publish(&["--rewind"]);
    let bench = Bench::new(&site.section());
    assert_eq!(
        bench.fetch(Some(&four)).unwrap().descent,
        Descent::NotDescendant
    );
}

#[test]
fn a_publish_that_is_killed_leaves_the_tree_as_it_was_or_as_it_is_to_be() {
    let mut site = Site::new();
    let mut floor = site.commits[2].clone();
    let bench = Bench::new(&site.section());
    bench.fetch(None).unwrap();
    for delay in [0, 12, 30, 70] {
        let next = site.commit(&format!("after {delay} ms"));
        let mut child = site
            .command()
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        let tip = bench.fetch(Some(&floor)).unwrap();
        assert!(
            [&floor, &next].contains(&&tip.id.as_str().to_owned()),
            "{delay}"
        );
        floor = tip.id.as_str().to_owned();
        fsck(&bench.store());
    }
    site.publish(&[]);
    let tip = bench.fetch(Some(&floor)).unwrap();
    assert_eq!(tip.id.as_str(), site.commits.last().unwrap());
    assert!(
        !std::fs::read_dir(site.tree().join("packs"))
            .unwrap()
            .any(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.')
            })
    );
}

#[test]
fn branches_with_slashes_share_a_tree_and_sha256_repositories_are_published() {
    let dir = short_tempdir("sha256");
    let git = |arguments: &[&str]| {
        let mut command = evenkeel_tests::repo::git_command();
        command.arg("-C").arg(dir.path()).args(arguments);
        run(&mut command, PATIENCE)
            .expect_code(0)
            .stdout
            .trim()
            .to_owned()
    };
    git(&["init", "-q", "--object-format=sha256", "-b", "plant/a", "."]);
    std::fs::write(
        dir.path().join("fleet.toml"),
        "format = 1\nname = \"acme\"\n",
    )
    .unwrap();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["branch", "plant/b"]);
    git(&["commit", "-q", "--allow-empty", "-m", "two"]);
    let tree = short_tempdir("tree");
    let publish = |more: &[&str]| {
        let mut command = Command::new(binary());
        command
            .args([
                "publish", "--branch", "plant/a", "--branch", "plant/b", "--out",
            ])
            .arg(tree.path())
            .args(more)
            .current_dir(dir.path());
        run(&mut command, PATIENCE)
    };
    publish(&[]).expect_code(0);
    for branch in ["plant/a", "plant/b"] {
        let section = SourceSection {
            branch: branch.to_owned(),
            ..section(tree.path().to_str().unwrap())
        };
        let bench = Bench::new(&section);
        let tip = bench.fetch(None).unwrap();
        assert_eq!(tip.id.as_str(), git(&["rev-parse", branch]));
        fsck(&bench.store());
    }
    // Neither a branch that is not there nor a clone without its history is published.
    publish(&["--branch", "no/such"]).expect_code(2);
    let shallow = dir.path().join("shallow");
    git(&[
        "clone",
        "-q",
        "--depth",
        "1",
        &format!("file://{}", dir.path().display()),
        "shallow",
    ]);
    let said = publish(&["--repo", shallow.to_str().unwrap()]).expect_code(2);
    assert!(said.stderr.contains("--unshallow"), "{}", said.stderr);
}
