#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;

fn machine(digit: char) -> MachineId {
    digit.to_string().repeat(32).parse().unwrap()
}

fn have(dir: &Path, machine: Option<&MachineId>) -> Enrolled {
    enrol(dir, "gw-1", machine, Wish::Have, None).unwrap()
}

fn put(file: &Path, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "a test damages a file")]
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn an_identity_is_made_once_and_is_the_same_ever_after() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(read(dir.path()).unwrap(), None);
    let Enrolled::Made(made) = have(dir.path(), Some(&machine('a'))) else {
        panic!("it is new");
    };
    assert!(made.public.starts_with("ssh-ed25519 ") && made.public.ends_with(" gw-1"));
    let mode = std::fs::metadata(&made.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        have(dir.path(), Some(&machine('a'))),
        Enrolled::Was(made.clone())
    );
    assert_eq!(read(dir.path()).unwrap(), Some(made.clone()));
    // A machine whose id cannot be read now is no other machine.
    assert_eq!(have(dir.path(), None), Enrolled::Was(made));
}

#[test]
fn a_disk_that_was_copied_to_another_machine_gets_an_identity_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let Enrolled::Made(first) = have(dir.path(), Some(&machine('a'))) else {
        panic!("it is new");
    };
    let Enrolled::Replaced(second, before) = have(dir.path(), Some(&machine('b'))) else {
        panic!("it is a copy");
    };
    assert_ne!(first.public, second.public);
    assert_eq!(second.machine, Some(machine('b')));
    let old = std::fs::read_to_string(before.join(PUBLIC)).unwrap();
    assert_eq!(old.trim_end(), first.public);
    // The same device, whose machine id was changed by hand.
    let kept = enrol(dir.path(), "gw-1", Some(&machine('c')), Wish::Keep, None).unwrap();
    let Enrolled::Bound(kept) = kept else {
        panic!("{kept:?}");
    };
    assert_eq!(kept.public, second.public);
    assert_eq!(have(dir.path(), Some(&machine('c'))), Enrolled::Was(kept));
}

#[test]
fn one_damaged_file_of_an_identity_is_mended_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let Enrolled::Made(made) = have(dir.path(), Some(&machine('a'))) else {
        panic!("it is new");
    };
    let folder = dir.path().join(FOLDER);
    for name in [KEY, COPY, PUBLIC, RECORD, "made.copy"] {
        let file = folder.join(name);
        let good = std::fs::read(&file).unwrap();
        let mut flipped = good.clone();
        let at = good.len() / 2;
        flipped[at] ^= 1;
        for bad in [&flipped[..], &good[..at], b""] {
            put(&file, bad);
            assert_eq!(
                have(dir.path(), Some(&machine('a'))),
                Enrolled::Was(made.clone()),
                "{name}"
            );
            assert_eq!(std::fs::read(&file).unwrap(), good, "{name}");
        }
    }
    for name in [KEY, COPY] {
        put(&folder.join(name), b"x");
    }
    assert!(matches!(
        enrol(dir.path(), "gw-1", None, Wish::Have, None),
        Err(IdentityError::Damaged { .. })
    ));
    let another = enrol(dir.path(), "gw-1", None, Wish::Another, None).unwrap();
    assert!(matches!(another, Enrolled::Replaced(..)), "{another:?}");
}

#[test]
fn what_cannot_be_sealed_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let no: Seal<'_> = &|_| Err("no TPM".to_owned());
    let failed = enrol(dir.path(), "gw-1", None, Wish::Have, Some(no));
    assert!(matches!(failed, Err(IdentityError::Seal { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let yes: Seal<'_> = &|key| Ok(key.iter().map(|byte| byte ^ 0x55).collect());
    let Enrolled::Made(made) = enrol(dir.path(), "gw-1", None, Wish::Have, Some(yes)).unwrap()
    else {
        panic!("it is new");
    };
    assert_eq!(made.kept, Kept::Sealed);
    assert!(!dir.path().join(FOLDER).join(KEY).exists());
    assert_eq!(have(dir.path(), None), Enrolled::Was(made));
}
