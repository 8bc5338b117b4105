use super::*;

#[test]
fn a_new_file_is_written_and_then_there_is_nothing_to_do() {
    let desired = files(vec![("/etc/motd", file("hello"))]);
    let mut device = empty();
    let first = device.converge(&desired, Mode::Advance);
    assert_eq!(text(&first), ["write file/etc/motd   new"]);
    assert_eq!(device.plan(&desired, Mode::Advance), Plan::default());
    assert_eq!(device.plan(&desired, Mode::Keep), Plan::default());
}

#[test]
fn what_a_person_made_is_copied_before_the_first_write_and_after_an_edit() {
    let at = path("/etc/motd");
    let desired = files(vec![("/etc/motd", file("hello"))]);
    let mut device = Device::new(BTreeMap::from([(
        at.clone(),
        regular(&content("distribution")),
    )]));
    device.converge(&desired, Mode::Advance);
    assert_eq!(device.copies, [(at.clone(), CopyReason::Original)]);
    device
        .observed
        .files
        .insert(at.clone(), Seen::Present(regular(&content("edited"))));
    let healed = device.converge(&desired, Mode::Keep);
    assert_eq!(text(&healed), ["write file/etc/motd   edited by hand"]);
    assert_eq!(device.copies.last(), Some(&(at, CopyReason::EditedByHand)));
}

#[test]
fn mode_and_owner_alone_are_set_without_a_write() {
    let mut declared = file("hello");
    let mut device = empty();
    device.converge(&files(vec![("/etc/motd", declared.clone())]), Mode::Advance);
    declared.mode = 0o600;
    declared.owner = "4321".to_owned(); // the number of who owns it already
    declared.group = "mosquitto".to_owned();
    let plan = device.converge(&files(vec![("/etc/motd", declared)]), Mode::Advance);
    assert_eq!(
        text(&plan),
        ["update file/etc/motd   mode 0644 -> 0600, group root -> mosquitto"]
    );
}

#[test]
fn a_symbolic_link_is_replaced_and_a_directory_never_is() {
    let at = path("/etc/motd");
    let desired = files(vec![("/etc/motd", file("hello"))]);
    let seen = |kind| ObservedFileOf { kind }.seen();
    let mut device = empty();
    device
        .observed
        .files
        .insert(at.clone(), seen(FileKind::Symlink));
    let plan = device.converge(&desired, Mode::Advance);
    assert_eq!(
        text(&plan),
        ["write file/etc/motd   a symbolic link stands in its place"]
    );
    assert_eq!(device.copies, [(at.clone(), CopyReason::Original)]);
    for (kind, what) in [
        (FileKind::Directory, "a directory"),
        (
            FileKind::Other,
            "something that is no file (a device node, socket or pipe)",
        ),
    ] {
        device.observed.files.insert(at.clone(), seen(kind));
        assert_eq!(
            text(&device.plan(&desired, Mode::Advance)),
            [format!(
                "blocked file/etc/motd   {what} stands at /etc/motd: move it away, or declare the file at another path"
            )]
        );
    }
}

struct ObservedFileOf {
    kind: FileKind,
}

impl ObservedFileOf {
    fn seen(self) -> Seen<crate::domain::observed::ObservedFile> {
        let mut file = regular(&content("x"));
        file.kind = self.kind;
        file.content = None;
        Seen::Present(file)
    }
}

#[test]
fn an_equal_file_becomes_ours_without_a_write() {
    let at = path("/etc/motd");
    let mut device = Device::new(BTreeMap::from([(at.clone(), regular(&content("hello")))]));
    let mut declared = file("hello");
    assert_eq!(
        device.plan(&files(vec![("/etc/motd", declared.clone())]), Mode::Advance),
        Plan::default()
    );
    // Where it shall come back later, its copy has to be made.
    declared.on_remove = OnRemove::Restore;
    let plan = device.converge(&files(vec![("/etc/motd", declared)]), Mode::Advance);
    assert_eq!(
        text(&plan),
        ["write file/etc/motd   equal, and not ours yet: a copy is kept for its return"]
    );
    let gone = device.converge(&state(vec![]), Mode::Advance);
    assert_eq!(
        text(&gone),
        ["restore file/etc/motd   no longer declared; what stood here before comes back"]
    );
    assert_eq!(
        device.observed.files[&at],
        Seen::Present(regular(&content("hello")))
    );
}

#[test]
fn a_file_that_is_no_longer_declared_goes_the_way_it_declared() {
    let remove = |on_remove, original: Option<&str>| {
        let at = path("/etc/motd");
        let mut device = empty();
        if let Some(original) = original {
            device
                .observed
                .files
                .insert(at.clone(), Seen::Present(regular(&content(original))));
        }
        device.converge(
            &files(vec![(
                "/etc/motd",
                DesiredFile {
                    on_remove,
                    ..file("hello")
                },
            )]),
            Mode::Advance,
        );
        let plan = device.converge(&state(vec![]), Mode::Advance);
        assert_eq!(device.plan(&state(vec![]), Mode::Advance), Plan::default());
        (text(&plan).join("\n"), device.observed.files[&at].clone())
    };
    let (step, left) = remove(OnRemove::Delete, Some("before"));
    assert_eq!(
        (step.as_str(), left),
        ("remove file/etc/motd   no longer declared", Seen::Absent)
    );
    let (step, left) = remove(OnRemove::Restore, Some("before"));
    assert_eq!(
        step,
        "restore file/etc/motd   no longer declared; what stood here before comes back"
    );
    assert_eq!(left, Seen::Present(regular(&content("before"))));
    let (step, left) = remove(OnRemove::Restore, None);
    assert_eq!(
        (step.as_str(), left),
        ("remove file/etc/motd   no longer declared", Seen::Absent)
    );
    let (step, left) = remove(OnRemove::Keep, Some("before"));
    assert_eq!(step, "disown file/etc/motd   no longer declared; it stays");
    assert_ne!(left, Seen::Absent);
}

#[test]
fn a_file_that_a_person_edited_is_copied_before_it_is_removed() {
    let at = path("/etc/motd");
    let mut device = empty();
    device.converge(&files(vec![("/etc/motd", file("hello"))]), Mode::Advance);
    device
        .observed
        .files
        .insert(at.clone(), Seen::Present(regular(&content("edited"))));
    device.converge(&state(vec![]), Mode::Keep);
    assert_eq!(device.copies, [(at, CopyReason::EditedByHand)]);
}

#[test]
fn a_file_that_could_not_be_looked_at_is_left_alone_and_said() {
    let desired = files(vec![("/etc/a", file("a")), ("/etc/b", file("b"))]);
    let mut device = empty();
    device.observed.files.insert(
        path("/etc/a"),
        Seen::Unknown("permission denied".to_owned()),
    );
    assert_eq!(
        text(&device.plan(&desired, Mode::Keep)),
        [
            "blocked file/etc/a   could not look at it: permission denied",
            "write file/etc/b   new"
        ]
    );
    device.observed.files.clear();
    let unlooked = plan(&desired, &device.observed, &device.inventory, Mode::Keep);
    assert_eq!(unlooked.steps, []);
    assert_eq!(unlooked.blocked.len(), 2);
}

#[test]
fn a_file_in_the_way_of_a_directory_goes_first() {
    let mut device = empty();
    device.converge(&files(vec![("/etc/app", file("one"))]), Mode::Advance);
    let plan = device.plan(&files(vec![("/etc/app/conf", file("two"))]), Mode::Advance);
    assert_eq!(
        text(&plan),
        [
            "remove file/etc/app   no longer declared",
            "write file/etc/app/conf   new"
        ]
    );
}

#[test]
fn without_any_service_no_engine_is_needed() {
    let desired = files(vec![("/etc/motd", file("hello"))]);
    for engine in [Seen::Absent, Seen::Unknown("no answer".to_owned())] {
        let mut device = empty();
        device.observed.engine = engine;
        assert_eq!(
            text(&device.plan(&desired, Mode::Advance)),
            ["write file/etc/motd   new"]
        );
    }
}
