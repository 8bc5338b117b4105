#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use evenkeel_schema::app::OnRemove;
use rustix::fs::Mode;

use super::*;

/// A root and a state directory beside it.
struct Device {
    top: tempfile::TempDir,
    files: RootedFiles,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn us() -> (String, String) {
    (
        rustix::process::geteuid().as_raw().to_string(),
        rustix::process::getegid().as_raw().to_string(),
    )
}

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn declared(content: &[u8], mode: u32) -> DesiredFile {
    let (owner, group) = us();
    DesiredFile {
        content: ContentId::of(content),
        size: content.len() as u64,
        mode,
        owner,
        group,
        on_change: Vec::new(),
        on_remove: OnRemove::Delete,
        secret: false,
    }
}

impl Device {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("root")).unwrap();
        let state = StateDir::open(&top.path().join("state")).unwrap();
        let files = RootedFiles::new(&top.path().join("root"), &state);
        Self { top, files }
    }

    fn real(&self, below: &str) -> PathBuf {
        self.top.path().join("root").join(below)
    }

    fn mkdir(&self, below: &str) {
        std::fs::create_dir_all(self.real(below)).unwrap();
    }

    fn write(&self, below: &str, content: &[u8]) {
        self.mkdir(Path::new(below).parent().unwrap().to_str().unwrap());
        File::create(self.real(below))
            .unwrap()
            .write_all(content)
            .unwrap();
    }

    fn read(&self, below: &str) -> Vec<u8> {
        std::fs::read(self.real(below)).unwrap()
    }

    fn deploy(&self, at: &str, content: &[u8], mode: u32) {
        let (at, file) = (path(at), declared(content, mode));
        self.files.check(&at, &file).unwrap();
        self.files.stage(&at, &file, content).unwrap();
        self.files.switch(&at).unwrap();
    }

    fn seen(&self, at: &str) -> ObservedFile {
        match self.files.observe(&path(at)) {
            Seen::Present(file) => file,
            other => panic!("{at}: {other:?}"),
        }
    }

    /// Every name below the root.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut dirs = vec![self.real("")];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                names.push(entry.file_name().into_string().unwrap());
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        names.sort();
        names
    }

    fn kept(&self, at: &str) -> Vec<String> {
        let id = ContentId::of(at.as_bytes());
        let dir = self.top.path().join("state/kept").join(id.as_str());
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn declared_error<T: std::fmt::Debug>(result: Result<T, FilesError>) -> String {
    match result.unwrap_err() {
        error @ FilesError::Declared { .. } => error.to_string(),
        error @ FilesError::System { .. } => panic!("not a declared error: {error:?}"),
    }
}

#[test]
fn a_file_is_staged_then_switched_and_seen_as_declared() {
    let device = Device::new();
    let at = path("/etc/app/deep/own.conf");
    let file = declared(b"one\n", 0o640);
    assert_eq!(device.files.observe(&at), Seen::Absent);
    assert_eq!(device.files.check(&at, &file).unwrap(), at);
    device.files.stage(&at, &file, b"one\n").unwrap();
    assert_eq!(device.files.observe(&at), Seen::Absent);
    assert!(!device.real("etc").exists(), "staging made a directory");
    device.files.switch(&at).unwrap();
    let seen = device.seen(at.as_str());
    assert_eq!(seen.content, Some(file.content));
    assert_eq!(seen.mode, 0o640);
    assert_eq!(seen.uid.to_string(), file.owner);
    assert_eq!(device.names(), ["app", "deep", "etc", "own.conf"]);
    let dir = std::fs::metadata(device.real("etc/app")).unwrap();
    assert_eq!(dir.mode() & 0o7777, 0o755);
}

#[test]
fn neighbours_staged_before_their_directory_was_there_do_not_mix() {
    let device = Device::new();
    let names = ["/srv/a/conf", "/srv/b/conf", "/srv/a/other"];
    for name in names {
        let content = name.as_bytes();
        device
            .files
            .stage(&path(name), &declared(content, 0o600), content)
            .unwrap();
    }
    for name in names {
        device.files.switch(&path(name)).unwrap();
    }
    for name in names {
        assert_eq!(device.read(&name[1..]), name.as_bytes());
    }
    assert!(
        device
            .names()
            .iter()
            .all(|name| !name.ends_with(".evenkeel"))
    );
}

#[test]
fn the_old_content_stands_until_the_switch() {
    let device = Device::new();
    device.deploy("/etc/x", b"old", 0o644);
    let inode = std::fs::metadata(device.real("etc/x")).unwrap().ino();
    let new = declared(b"new", 0o600);
    device.files.stage(&path("/etc/x"), &new, b"new").unwrap();
    assert_eq!(device.read("etc/x"), b"old");
    device.files.switch(&path("/etc/x")).unwrap();
    assert_eq!(device.read("etc/x"), b"new");
    assert_ne!(
        std::fs::metadata(device.real("etc/x")).unwrap().ino(),
        inode
    );
    // There is nothing to switch any more.
    assert!(device.files.switch(&path("/etc/x")).is_err());
    assert_eq!(device.read("etc/x"), b"new");
}

#[test]
fn a_parent_link_that_leaves_its_directory_is_refused_everywhere() {
    let device = Device::new();
    device.write("etc/shadow", b"secret");
    device.mkdir("srv/in");
    let outside = tempfile::tempdir().unwrap();
    let links = [
        ("srv/abs", "/etc".to_owned()),
        ("srv/up", "../etc".to_owned()),
        ("srv/winding", "in/../../etc".to_owned()),
        ("srv/out", outside.path().display().to_string()),
        ("srv/top", "/".to_owned()),
        ("srv/host", "/proc/self/root/etc".to_owned()),
    ];
    for (link, target) in &links {
        symlink(target, device.real(link)).unwrap();
        let at = path(&format!("/{link}/shadow"));
        let file = declared(b"x", 0o600);
        let told = declared_error(device.files.check(&at, &file));
        assert!(told.contains(&format!("/{link} -> {target}")), "{told}");
        assert!(told.contains("declare the real path"), "{told}");
        declared_error(device.files.stage(&at, &file, b"x"));
        declared_error(device.files.switch(&at));
        declared_error(device.files.set_metadata(&at, &file));
        declared_error(device.files.remove(&at));
        declared_error(device.files.restore(&at));
        declared_error(device.files.keep_copy(&at, CopyReason::Original));
        assert!(matches!(device.files.observe(&at), Seen::Unknown(_)));
    }
    assert_eq!(device.read("etc/shadow"), b"secret");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_parent_link_that_stays_in_its_directory_is_followed_and_the_real_path_told() {
    let device = Device::new();
    device.mkdir("usr/lib/x");
    device.mkdir("srv/releases/7");
    symlink("usr/lib", device.real("lib")).unwrap();
    symlink("/usr/lib/x", device.real("absolute")).unwrap();
    symlink("releases/../releases/./7", device.real("srv/current")).unwrap();
    symlink("current", device.real("srv/twice")).unwrap();
    let table = [
        ("/lib/own", "/usr/lib/own"),
        ("/absolute/own", "/usr/lib/x/own"),
        ("/srv/current/own", "/srv/releases/7/own"),
        ("/srv/twice/new/own", "/srv/releases/7/new/own"),
    ];
    for (declared_path, real) in table {
        let file = declared(b"x", 0o600);
        assert_eq!(
            device.files.check(&path(declared_path), &file).unwrap(),
            path(real)
        );
        device.deploy(declared_path, b"x", 0o600);
        assert_eq!(device.read(&real[1..]), b"x");
    }
}

#[test]
fn loops_dangling_links_and_parents_that_are_files_are_told() {
    let device = Device::new();
    device.mkdir("srv");
    symlink("b", device.real("srv/a")).unwrap();
    symlink("a", device.real("srv/b")).unwrap();
    symlink("nothing", device.real("srv/dangling")).unwrap();
    device.write("srv/file", b"x");
    let check = |at: &str| declared_error(device.files.check(&path(at), &declared(b"", 0o600)));
    assert!(check("/srv/a/x").contains("loop"));
    assert!(check("/srv/dangling/x").contains("leads nowhere"));
    assert!(check("/srv/file/x").contains("/srv/file is not a directory"));
    assert_eq!(device.files.observe(&path("/srv/file/x")), Seen::Absent);
    device.files.remove(&path("/srv/file/x")).unwrap();
    device
        .files
        .keep_copy(&path("/srv/file/x"), CopyReason::Original)
        .unwrap();
}

#[test]
fn the_last_component_is_never_followed() {
    let device = Device::new();
    device.write("etc/shadow", b"secret");
    symlink("/etc/shadow", device.real("etc/own")).unwrap();
    let at = path("/etc/own");
    assert_eq!(device.seen("/etc/own").kind, FileKind::Symlink);
    assert_eq!(device.seen("/etc/own").content, None);
    assert!(
        device
            .files
            .set_metadata(&at, &declared(b"", 0o777))
            .is_err()
    );
    device.deploy("/etc/own", b"ours", 0o600);
    assert_eq!(device.read("etc/own"), b"ours");
    assert_eq!(device.read("etc/shadow"), b"secret");
    // Nor a link that waits where our staging file goes.
    let staging = staging_name(&at, "own");
    symlink("/etc/shadow", device.real("etc").join(staging)).unwrap();
    device.deploy("/etc/own", b"again", 0o600);
    assert_eq!(device.read("etc/shadow"), b"secret");
    device.files.remove(&at).unwrap();
    assert_eq!(device.read("etc/shadow"), b"secret");
}

#[test]
fn directories_and_pipes_are_seen_but_never_replaced_or_removed() {
    let device = Device::new();
    device.write("srv/dir/inside", b"x");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        device.real("srv/pipe"),
        Mode::from_raw_mode(0o600),
    )
    .unwrap();
    for (name, kind) in [
        ("/srv/dir", FileKind::Directory),
        ("/srv/pipe", FileKind::Other),
    ] {
        let (at, file) = (path(name), declared(b"x", 0o600));
        assert_eq!(device.seen(name).kind, kind);
        declared_error(device.files.check(&at, &file));
        declared_error(device.files.remove(&at));
        declared_error(device.files.keep_copy(&at, CopyReason::Original));
        declared_error(device.files.restore(&at));
    }
    device
        .files
        .stage(&path("/srv/dir"), &declared(b"x", 0o600), b"x")
        .unwrap();
    declared_error(device.files.switch(&path("/srv/dir")));
    assert_eq!(device.read("srv/dir/inside"), b"x");
}

#[test]
fn owners_by_name_and_number_and_set_id_bits_are_set() {
    if !is_root() {
        return;
    }
    let device = Device::new();
    device.write("etc/passwd", b"root:x:0:0::/:\nmosquitto:x:1883:1883::/:\n");
    device.write("etc/group", b"root:x:0:\nmosquitto:x:1884:\n");
    let at = path("/srv/tool");
    let mut file = declared(b"x", 0o4750);
    file.owner = "mosquitto".to_owned();
    file.group = "4711".to_owned();
    device.files.stage(&at, &file, b"x").unwrap();
    device.files.switch(&at).unwrap();
    let seen = device.seen("/srv/tool");
    assert_eq!((seen.uid, seen.gid, seen.mode), (1883, 4711, 0o4750));
    assert_eq!(
        (seen.owner.as_str(), seen.group.as_str()),
        ("mosquitto", "4711")
    );
    file.owner = "root".to_owned();
    file.group = "mosquitto".to_owned();
    device.files.set_metadata(&at, &file).unwrap();
    let seen = device.seen("/srv/tool");
    assert_eq!((seen.uid, seen.gid, seen.mode), (0, 1884, 0o4750));
    file.owner = "nobody-we-know".to_owned();
    let told = declared_error(device.files.check(&at, &file));
    assert!(told.contains("nobody-we-know"), "{told}");
    file.owner = "root".to_owned();
    file.mode = 0o10000;
    declared_error(device.files.check(&at, &file));
}

#[test]
fn metadata_alone_leaves_the_content_and_the_inode() {
    let device = Device::new();
    device.deploy("/etc/x", b"same", 0o644);
    let before = std::fs::metadata(device.real("etc/x")).unwrap();
    device
        .files
        .set_metadata(&path("/etc/x"), &declared(b"same", 0o600))
        .unwrap();
    let after = std::fs::metadata(device.real("etc/x")).unwrap();
    assert_eq!((after.ino(), after.mode() & 0o7777), (before.ino(), 0o600));
    assert!(
        device
            .files
            .set_metadata(&path("/etc/none"), &declared(b"", 0o600))
            .is_err()
    );
}

#[test]
fn what_stood_there_comes_back_with_its_mode_and_owner() {
    let device = Device::new();
    device.write("etc/x", b"a person's");
    let mode = std::fs::Permissions::from_mode(0o4711);
    std::fs::set_permissions(device.real("etc/x"), mode).unwrap();
    if is_root() {
        std::os::unix::fs::chown(device.real("etc/x"), Some(12), Some(34)).unwrap();
        std::fs::set_permissions(
            device.real("etc/x"),
            std::fs::Permissions::from_mode(0o4711),
        )
        .unwrap();
    }
    let before = device.seen("/etc/x");
    let at = path("/etc/x");
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    device.deploy("/etc/x", b"ours", 0o600);
    device.files.restore(&at).unwrap();
    assert_eq!(device.seen("/etc/x"), before);
    // A restore that was cut off can be repeated.
    device.deploy("/etc/x", b"ours", 0o600);
    device.files.restore(&at).unwrap();
    assert_eq!(device.seen("/etc/x"), before);
    // What a person makes of it then is the next original.
    device.write("etc/x", b"a person's second");
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    assert_eq!(device.kept("/etc/x"), ["original"]);
    device.deploy("/etc/x", b"ours", 0o600);
    device.files.restore(&at).unwrap();
    assert_eq!(device.read("etc/x"), b"a person's second");
}

#[test]
fn a_symlink_that_stood_there_comes_back_as_one() {
    let device = Device::new();
    device.mkdir("etc");
    symlink("../run/resolv.conf", device.real("etc/resolv.conf")).unwrap();
    let at = path("/etc/resolv.conf");
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    device.deploy("/etc/resolv.conf", b"ours", 0o644);
    device.files.restore(&at).unwrap();
    let target = std::fs::read_link(device.real("etc/resolv.conf")).unwrap();
    assert_eq!(target, Path::new("../run/resolv.conf"));
}

#[test]
fn where_nothing_stood_restore_removes_ours() {
    let device = Device::new();
    device
        .files
        .keep_copy(&path("/etc/x"), CopyReason::Original)
        .unwrap();
    device.deploy("/etc/x", b"ours", 0o644);
    device.files.restore(&path("/etc/x")).unwrap();
    assert_eq!(device.files.observe(&path("/etc/x")), Seen::Absent);
    device.files.remove(&path("/etc/x")).unwrap();
    device.files.restore(&path("/never/there")).unwrap();
}

#[test]
fn a_damaged_copy_is_mended_from_its_twin_and_never_put_back() {
    let device = Device::new();
    device.write("etc/x", b"a person's");
    let at = path("/etc/x");
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    device.deploy("/etc/x", b"ours", 0o600);
    let copy = device
        .top
        .path()
        .join("state/kept")
        .join(ContentId::of(b"/etc/x").as_str())
        .join("original");
    let put = |name: &str, bytes: &[u8]| {
        File::create(copy.join(name))
            .unwrap()
            .write_all(bytes)
            .unwrap();
    };
    assert_eq!(device.files.check_kept(), Vec::<String>::new());
    for name in ["data", "data.copy", "meta.json", "meta.json.copy"] {
        let good = std::fs::read(copy.join(name)).unwrap();
        put(name, b"a persom's");
        let told = device.files.check_kept();
        assert!(told.len() == 1 && told[0].contains(name), "{told:?}");
        assert_eq!(std::fs::read(copy.join(name)).unwrap(), good, "{name}");
        std::fs::remove_file(copy.join(name)).unwrap();
        assert_eq!(device.files.check_kept(), Vec::<String>::new(), "{name}");
        assert_eq!(std::fs::read(copy.join(name)).unwrap(), good, "{name}");
    }
    put("data", b"a persom's");
    put("data.copy", b"");
    assert!(device.files.restore(&at).is_err());
    assert_eq!(device.files.check_kept().len(), 1);
    assert_eq!(device.read("etc/x"), b"ours");
    assert_eq!(device.names(), ["etc", "x"]);
    put("data.copy", b"a person's");
    device.files.restore(&at).unwrap();
    assert_eq!(device.read("etc/x"), b"a person's");
}

#[test]
fn the_first_copy_stays_and_the_newest_eight_edits() {
    let device = Device::new();
    let at = path("/etc/x");
    device.write("etc/x", b"original");
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    device.files.keep_copy(&at, CopyReason::Original).unwrap();
    for n in 0..12 {
        device.write("etc/x", format!("edit {n}").as_bytes());
        device
            .files
            .keep_copy(&at, CopyReason::EditedByHand)
            .unwrap();
        device
            .files
            .keep_copy(&at, CopyReason::EditedByHand)
            .unwrap();
    }
    let kept = device.kept("/etc/x");
    assert_eq!(kept.len(), 9);
    assert_eq!(kept[0], "edit-000005");
    assert_eq!(kept[8], "original");
    device.files.restore(&at).unwrap();
    assert_eq!(device.read("etc/x"), b"original");
}

#[test]
fn all_edits_together_are_bounded_and_originals_are_not_touched() {
    let device = Device::new();
    let big = vec![7u8; 30 * 1024 * 1024];
    for n in 0..4 {
        let name = format!("/srv/{n}");
        device.write(&name[1..], format!("original {n}").as_bytes());
        device
            .files
            .keep_copy(&path(&name), CopyReason::Original)
            .unwrap();
        device.write(&name[1..], &big);
        device
            .files
            .keep_copy(&path(&name), CopyReason::EditedByHand)
            .unwrap();
    }
    assert_eq!(device.kept("/srv/0"), ["original"]);
    assert_eq!(device.kept("/srv/1"), ["original"]);
    assert_eq!(device.kept("/srv/2"), ["edit-000001", "original"]);
    assert_eq!(device.kept("/srv/3"), ["edit-000001", "original"]);
}

#[test]
fn staging_files_of_a_try_that_was_cut_off_are_swept() {
    let device = Device::new();
    device.write("etc/person.evenkeel", b"not ours");
    let paths: BTreeSet<AbsPath> = ["/etc/x", "/srv/new/y"].map(path).into();
    for at in &paths {
        device
            .files
            .stage(at, &declared(b"x", 0o600), b"x")
            .unwrap();
    }
    // The directory appears after the staging: its file lies further up.
    device.mkdir("srv/new");
    assert_eq!(
        device
            .names()
            .iter()
            .filter(|name| name.starts_with('.'))
            .count(),
        2
    );
    device.files.sweep(&paths);
    assert_eq!(device.names(), ["etc", "new", "person.evenkeel", "srv"]);
}

#[test]
fn room_is_told_for_a_path_that_does_not_exist_yet() {
    let device = Device::new();
    assert!(device.files.free_bytes(&path("/not/there/yet")).unwrap() > 0);
}

#[test]
fn a_full_disk_is_of_the_moment_and_leaves_nothing_behind() {
    if !is_root() {
        return;
    }
    let device = Device::new();
    device.mkdir("small");
    let mount = |args: &[&str]| {
        std::process::Command::new("mount")
            .args(args)
            .status()
            .is_ok_and(|status| status.success())
    };
    let dir = device.real("small");
    if !mount(&[
        "-t",
        "tmpfs",
        "-o",
        "size=64k",
        "none",
        dir.to_str().unwrap(),
    ]) {
        return;
    }
    let content = vec![1; 1024 * 1024];
    let result = device
        .files
        .stage(&path("/small/x"), &declared(&content, 0o600), &content);
    let names = std::fs::read_dir(&dir).unwrap().count();
    let umount = std::process::Command::new("umount").arg(&dir).status();
    assert!(umount.unwrap().success());
    let error = result.unwrap_err();
    assert!(matches!(error, FilesError::System { .. }), "{error:?}");
    assert_eq!(error.retry(), crate::port::Retry::Later);
    assert_eq!(names, 0);
}
