//! What happens to a device, and where it has to end.

use super::*;
use crate::domain::container::ContainerSpec;
use crate::domain::history::Pin;
use crate::domain::revision::Timestamp;
use crate::port::memory::Behaviour;
use crate::trust::fixture;

/// Something that happens to a device, and where it may end.
pub(super) struct Story {
    pub(super) name: &'static str,
    /// What happened before; the device settles after each.
    pub(super) before: &'static [fn(&Rig)],
    /// What happens now.
    pub(super) then: fn(&Rig),
    /// Where it has to end, and what that is.
    pub(super) end: Release,
    pub(super) ended: Ended,
    /// Where it may end, too, once a try ended uncleanly as often as there are tries: what was good before.
    pub(super) or: Option<Release>,
    /// Whether a release is refused in it.
    pub(super) refuses: bool,
    /// What has to be true at the end beside.
    pub(super) and_then: fn(&Rig) -> bool,
    /// Few effects: each pair of them is broken in every run.
    pub(super) length: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Short,
    Long,
}

const WITH: Release = Release {
    extra: Extra::With,
    ..ONE
};
const FILES: Release = Release {
    steady: "changed",
    ..ONE
};
const SERVICES: Release = Release { image: '2', ..ONE };
const BOTH: Release = Release {
    steady: "changed",
    ..TWO
};

/// The container of a release's web server.
pub(super) fn any_container() -> ContainerSpec {
    let id = ServiceId {
        app: "web".parse().unwrap(),
        service: "server".parse().unwrap(),
    };
    container::spec(&resolved(&ONE), &id).unwrap()
}

fn push_one(rig: &Rig) {
    rig.push(&ONE, "one");
}

fn push_two(rig: &Rig) {
    rig.push(&TWO, "two");
}

fn push_unhealthy(rig: &Rig) {
    rig.world.engine.behave(&image('2'), Behaviour::Unhealthy);
    push_two(rig);
}

fn taken_file(rig: &Rig) {
    rig.world.files.by_hand("/etc/taken.conf", "a person's");
}

const fn nothing(_: &Rig) -> bool {
    true
}

const UPDATE: Story = Story {
    name: "update of both",
    before: &[push_one],
    then: |rig| {
        rig.push(&BOTH, "both");
    },
    end: BOTH,
    ended: Ended::New,
    or: Some(ONE),
    refuses: false,
    and_then: nothing,
    length: Length::Long,
};

pub(super) const STORIES: &[Story] = &[
    Story {
        name: "first converge",
        before: &[],
        then: push_one,
        end: ONE,
        or: None,
        ..UPDATE
    },
    UPDATE,
    Story {
        name: "update of files only",
        then: |rig| {
            rig.push(&FILES, "files");
        },
        end: FILES,
        length: Length::Short,
        ..UPDATE
    },
    Story {
        name: "update of services only",
        then: |rig| {
            rig.push(&SERVICES, "services");
        },
        end: SERVICES,
        ..UPDATE
    },
    Story {
        name: "a commit that changes nothing here",
        then: |rig| {
            rig.push(&ONE, "only words");
        },
        end: ONE,
        length: Length::Short,
        ..UPDATE
    },
    Story {
        name: "refused, and the way back",
        then: push_unhealthy,
        end: ONE,
        ended: Ended::LastGood,
        refuses: true,
        ..UPDATE
    },
    Story {
        name: "refused for a container that ends",
        then: |rig| {
            rig.world.engine.behave(&image('2'), Behaviour::Exits(3));
            push_two(rig);
        },
        end: ONE,
        ended: Ended::LastGood,
        refuses: true,
        ..UPDATE
    },
    Story {
        name: "a retry trailer",
        before: &[push_one, push_unhealthy],
        then: |rig| {
            rig.world.engine.behave(&image('2'), Behaviour::Well);
            let refused = rig.world.journal.ledger().refused[0].commit.clone();
            rig.push(&TWO, &format!("again\n\nRetry: {refused}"));
        },
        end: TWO,
        refuses: true,
        ..UPDATE
    },
    Story {
        name: "a change that takes the network away",
        then: |rig| {
            rig.world.engine.behave(&image('2'), Behaviour::CutsNetwork);
            push_two(rig);
        },
        end: ONE,
        ended: Ended::LastGood,
        ..UPDATE
    },
    Story {
        name: "an app more, over a person's file",
        before: &[taken_file, push_one],
        then: |rig| {
            rig.push(&WITH, "with");
        },
        end: WITH,
        ..UPDATE
    },
    Story {
        name: "prune",
        before: &[taken_file, |rig| {
            rig.push(&WITH, "with");
        }],
        then: |rig| {
            rig.push(&ONE, "without");
        },
        end: ONE,
        or: Some(WITH),
        and_then: |rig| rig.world.files.text("/etc/taken.conf").as_deref() == Some("a person's"),
        ..UPDATE
    },
    Story {
        name: "heal",
        then: |rig| {
            rig.world.files.by_hand("/etc/web.conf", "by hand");
            rig.world.files.by_hand("/etc/steady.conf", "by hand");
            rig.world.engine.remove_by_hand("web-side-1");
        },
        end: ONE,
        ended: Ended::LastGood,
        ..UPDATE
    },
    Story {
        name: "trust rotation",
        before: &[|rig| {
            *rig.world.policy.borrow_mut() = fixture::policy_with_all();
            push_one(rig);
        }],
        then: |rig| {
            // Root hands over from one signer to the next, who then moves the device on.
            let mut documents = ONE.documents();
            documents.extend(fixture::set());
            let handed_over = rig.world.source.push(&documents, "hand over");
            let mut documents = TWO.documents();
            documents.extend(fixture::set());
            let hand = fixture::Hand::Next;
            let source = &rig.world.source;
            source.push_on(Some(&handed_over), &documents, "two", hand);
        },
        end: TWO,
        ..UPDATE
    },
    Story {
        name: "rollback",
        before: &[push_one, push_two],
        then: |rig| {
            let pin = Pin {
                commit: rig.world.journal.ledger().good[1].commit().clone(),
                at: Timestamp(0),
            };
            rig.world.journal.set_pin(Some(&pin)).unwrap();
        },
        end: ONE,
        ended: Ended::LastGood,
        ..UPDATE
    },
    Story {
        name: "journal lost",
        then: |rig| rig.world.journal.lose(),
        end: ONE,
        or: None,
        ..UPDATE
    },
    Story {
        name: "journal lost, and an update",
        then: |rig| {
            rig.world.journal.lose();
            push_two(rig);
        },
        end: TWO,
        or: None,
        ..UPDATE
    },
    Story {
        name: "floor file and git store lost, and an update",
        then: |rig| {
            rig.world.journal.lose_floor_file();
            rig.world.source.lose();
            push_two(rig);
        },
        end: TWO,
        ..UPDATE
    },
    Story {
        name: "engine restarted",
        then: |rig| rig.world.engine.stop_everything(),
        end: ONE,
        ended: Ended::LastGood,
        length: Length::Short,
        ..UPDATE
    },
    Story {
        name: "offline boot",
        then: |rig| {
            rig.world.source.online.set(false);
            rig.world.files.by_hand("/etc/web.conf", "torn");
            rig.world.engine.remove_by_hand("web-side-1");
            rig.world.lose_power();
        },
        end: ONE,
        ended: Ended::LastGood,
        ..UPDATE
    },
    Story {
        name: "offline boot with a fetched update",
        then: |rig| {
            let two = rig.push(&TWO, "two");
            rig.world.source.fetched(&two);
            rig.world.source.online.set(false);
            rig.world.lose_power();
        },
        // Nobody could tell whether the change takes the network away.
        end: ONE,
        ended: Ended::LastGood,
        length: Length::Short,
        ..UPDATE
    },
];
