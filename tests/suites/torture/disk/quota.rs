//! A quota that is used up: a subvolume of btrfs with a limit of its own (qgroups), since statvfs(3) goes on telling of a
//! whole disk that is free.

use super::*;

/// A subvolume on a folder, for as long as this lives.
struct Limited {
    mount: Mount,
}

impl Limited {
    fn new(on: &Path) -> Self {
        let image = on.with_extension("img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(256 * 1024 * 1024).unwrap();
        call("mkfs.btrfs", &["-q", "-f", &text(&image)]);
        std::fs::create_dir_all(on).unwrap();
        call("mount", &["-o", "loop", &text(&image), &text(on)]);
        call("btrfs", &["quota", "enable", &text(on)]);
        let part = on.join("part");
        call("btrfs", &["subvolume", "create", &text(&part)]);
        call("umount", &[&text(on)]);
        call(
            "mount",
            &["-o", "loop,subvol=part", &text(&image), &text(on)],
        );
        let mount = Mount { on: on.to_owned() };
        Self { mount }
    }

    /// What is used already, and so many KiB.
    fn leave(&self, kib: u64) {
        let on = text(&self.mount.on);
        call("btrfs", &["filesystem", "sync", &on]);
        let shown = call("btrfs", &["qgroup", "show", "--raw", "-f", &on]);
        let used: u64 = shown
            .stdout
            .lines()
            .last()
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("btrfs tells no use: {}", shown.stdout));
        call(
            "btrfs",
            &["qgroup", "limit", &(used + kib * 1024).to_string(), &on],
        );
    }

    fn lift(&self) {
        call("btrfs", &["qgroup", "limit", "none", &text(&self.mount.on)]);
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path of ours is text").to_owned()
}

#[track_caller]
fn call(program: &str, arguments: &[&str]) -> Output {
    run(Command::new(program).args(arguments), PATIENCE).expect_code(0)
}

#[test]
fn a_quota_that_is_used_up_ends_at_a_good_revision_and_is_told_as_a_full_disk() {
    let bench = Bench::new("disk-quota", 1);
    let mut tally = Tally::new("disk: a quota but for so many KiB");
    let state = bench.device().state_dir();
    let mut told = 0;
    for left in Scale::asked().of(vec![0, 64, 400, 1600], (0..=2400).step_by(48).collect()) {
        clear(&state);
        let limited = Limited::new(&state);
        bench.reset();
        limited.leave(left);
        let output = bench.device().sync();
        let mut end = ended(&bench, &output, 2);
        if output.code == Some(1) {
            told += 1;
            if !output.text().contains("full") {
                end = Err(format!("it does not say so: {}", output.text()));
            }
        }
        // What runs keeps running, and is put right.
        if end == Ok(Ended::LastGood) {
            std::fs::write(bench.device().path("/etc/one.conf"), "by hand\n").unwrap();
            bench.device().sync();
            end = bench
                .at(2)
                .map_err(|why| format!("not healed over quota: {why}"));
        }
        limited.lift();
        let done = end.and_then(|end| bench.recovers(2).map(|()| end));
        tally.count(done.map_err(|why| format!("a quota with {left} KiB left: {why}")));
    }
    assert!(told > 0, "no quota was too small");
    tally.close();
}
