#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn write(path: &Path, bytes: &[u8]) {
    File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_new_directory_is_made_private_and_opens_again() {
    let top = tempfile::tempdir().unwrap();
    let path = top.path().join("var/lib/evenkeel");
    let first = StateDir::open(&path).unwrap();
    let key = *first.key().bytes();
    drop(first);
    assert_eq!(mode(&path).unwrap() & 0o777, 0o700);
    let key_mode = std::fs::metadata(path.join("key")).unwrap().mode();
    assert_eq!(key_mode & 0o777, 0o600);
    let again = StateDir::open(&path).unwrap();
    assert_eq!(*again.key().bytes(), key);
    assert!(again.warnings().is_empty());
}

#[test]
fn a_directory_that_service_manager_made_is_taken_and_closed_to_others() {
    let top = tempfile::tempdir().unwrap();
    std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    StateDir::open(top.path()).unwrap();
    assert_eq!(mode(top.path()).unwrap() & 0o777, 0o700);
}

#[test]
fn a_directory_with_somebody_elses_files_is_refused_and_left_alone() {
    let top = tempfile::tempdir().unwrap();
    write(&top.path().join("photos.tar"), b"x");
    let error = StateDir::open(top.path()).unwrap_err();
    assert!(matches!(error, StateDirError::NotOurs { .. }), "{error}");
    assert!(error.is_configuration());
    assert!(
        error
            .to_string()
            .contains("not an evenkeel state directory")
    );
    assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 1);
}

#[test]
fn a_first_start_that_was_cut_off_can_be_finished() {
    let top = tempfile::tempdir().unwrap();
    write(&top.path().join("lock"), b"4711\n");
    write(&top.path().join(".format.tmp"), b"even");
    std::fs::create_dir(top.path().join("lost+found")).unwrap();
    StateDir::open(top.path()).unwrap();
}

#[test]
fn a_newer_format_and_a_strange_marker_are_refused() {
    let top = tempfile::tempdir().unwrap();
    write(&top.path().join("format"), b"evenkeel-state 2\n");
    let error = StateDir::open(top.path()).unwrap_err();
    assert!(
        matches!(error, StateDirError::Newer { found: 2, .. }),
        "{error}"
    );
    write(&top.path().join("format"), b"something else\n");
    let error = StateDir::open(top.path()).unwrap_err();
    assert!(matches!(error, StateDirError::NotOurs { .. }), "{error}");
}

#[test]
fn a_directory_that_others_may_write_to_or_own_is_refused() {
    let top = tempfile::tempdir().unwrap();
    std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = StateDir::open(top.path()).unwrap_err();
    assert!(matches!(error, StateDirError::Unsafe { .. }), "{error}");
    std::fs::set_permissions(top.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(top.path(), Some(12345), None).unwrap();
        let error = StateDir::open(top.path()).unwrap_err();
        assert!(error.to_string().contains("12345"), "{error}");
    }
}

#[test]
fn the_second_agent_is_told_who_the_first_one_is() {
    let top = tempfile::tempdir().unwrap();
    let first = StateDir::open(top.path()).unwrap();
    match StateDir::open(top.path()).unwrap_err() {
        StateDirError::Locked { pid, .. } => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other}"),
    }
    drop(first);
    StateDir::open(top.path()).unwrap();
}

#[test]
fn a_renamed_host_is_noticed() {
    let top = tempfile::tempdir().unwrap();
    let mut state = StateDir::open(top.path()).unwrap();
    let one: DeviceId = "gw-1".parse().unwrap();
    let two: DeviceId = "gw-2".parse().unwrap();
    assert_eq!(state.bind_device(&one).unwrap(), Binding::First);
    assert_eq!(state.bind_device(&one).unwrap(), Binding::Same);
    assert_eq!(
        state.bind_device(&two).unwrap(),
        Binding::Changed("gw-1".to_owned())
    );
    assert_eq!(state.bind_device(&one).unwrap(), Binding::Same);
}

#[test]
fn a_key_of_which_both_copies_are_damaged_is_replaced_and_reported() {
    let top = tempfile::tempdir().unwrap();
    let key = *StateDir::open(top.path()).unwrap().key().bytes();
    write(&top.path().join("key"), b"short");
    let state = StateDir::open(top.path()).unwrap();
    assert_eq!(state.warnings().len(), 1, "{:?}", state.warnings());
    assert_eq!(*state.key().bytes(), key);
    drop(state);
    write(&top.path().join("key"), b"short");
    write(&top.path().join("key.copy"), b"short");
    let state = StateDir::open(top.path()).unwrap();
    assert_eq!(state.warnings().len(), 1, "{:?}", state.warnings());
    assert_ne!(*state.key().bytes(), key);
    drop(state);
    assert!(StateDir::open(top.path()).unwrap().warnings().is_empty());
}

#[test]
fn a_directory_as_an_older_agent_left_it_goes_on() {
    let top = tempfile::tempdir().unwrap();
    write(&top.path().join("format"), b"evenkeel-state 1\n");
    write(&top.path().join("key"), &[7; KEY_LEN]);
    write(&top.path().join("device-id"), b"gw-1\n");
    for _ in 0..2 {
        let mut state = StateDir::open(top.path()).unwrap();
        assert_eq!(*state.key().bytes(), [7; KEY_LEN]);
        assert_eq!(
            state.bind_device(&"gw-1".parse().unwrap()).unwrap(),
            Binding::Same
        );
        assert!(state.warnings().is_empty(), "{:?}", state.warnings());
    }
    for name in ["format.copy", "key.copy", "device-id.copy"] {
        assert!(top.path().join(name).exists(), "{name}");
    }
}

#[test]
fn any_damage_to_one_copy_of_marker_key_and_id_is_mended_and_told() {
    let top = tempfile::tempdir().unwrap();
    let id: DeviceId = "gw-1".parse().unwrap();
    let open = || {
        let mut state = StateDir::open(top.path()).unwrap();
        let binding = state.bind_device(&id).unwrap();
        (*state.key().bytes(), binding, state.warnings().to_vec())
    };
    let (key, ..) = open();
    for name in ["format", "key", "device-id"] {
        for file in [name.to_owned(), format!("{name}.copy")] {
            let path = top.path().join(&file);
            let good = std::fs::read(&path).unwrap();
            // Each byte is tried in the tests of `twin`.
            for at in (0..good.len()).step_by(23) {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << (at % 8);
                for bad in [&flipped[..], &good[..at]] {
                    write(&path, bad);
                    let (seen, binding, told) = open();
                    assert_eq!((seen, binding), (key, Binding::Same), "{file} {at}");
                    assert!(told.len() == 1 && told[0].contains(&file), "{told:?}");
                    assert_eq!(std::fs::read(&path).unwrap(), good);
                }
            }
            std::fs::remove_file(&path).unwrap();
            assert_eq!(open(), (key, Binding::Same, Vec::new()), "{file}");
            assert_eq!(std::fs::read(&path).unwrap(), good);
        }
    }
}

#[test]
fn the_marker_is_never_read_through_a_symlink() {
    let top = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    write(&other.path().join("format"), b"evenkeel-state 1\n");
    std::os::unix::fs::symlink(other.path().join("format"), top.path().join("format")).unwrap();
    assert!(StateDir::open(top.path()).is_err());
}

#[test]
fn agents_that_start_at_once_in_a_new_directory_do_not_take_it_for_a_strangers() {
    for _ in 0..200 {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("state");
        let begin = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    begin.wait();
                    match StateDir::open(&path) {
                        Ok(_) | Err(StateDirError::Locked { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                });
            }
        });
        StateDir::open(&path).unwrap();
    }
}
