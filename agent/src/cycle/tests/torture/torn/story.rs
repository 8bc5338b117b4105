//! What happens to the recorded devices: releases, the remote that holds them, and the acts of each story.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use crate::domain::revision::CommitId;
use crate::port::memory::MemoryWorld;
use crate::trust::fixture::{self, Draft, Hand};

/// When the first commit was made: before the devices' first start.
const FIRST_COMMIT: i64 = 1_794_000_000;

/// A check that fails wherever it is declared.
const FAILING: &str = "127.0.0.1:6666";

/// A file of a release.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) path: &'static str,
    /// Text that is repeated, and how often: so that files have several sizes.
    text: &'static str,
    times: usize,
    pub(super) mode: u32,
    on_remove: &'static str,
}

const fn file(path: &'static str, text: &'static str, times: usize) -> File {
    File {
        path,
        text,
        times,
        mode: 0o644,
        on_remove: "delete",
    }
}

impl File {
    pub(super) fn content(&self) -> String {
        self.text.repeat(self.times)
    }
}

/// What a commit says of the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Release {
    pub(super) files: &'static [File],
    /// Whether it gets healthy.
    pub(super) gets_well: bool,
    trust: Trust,
}

/// What a commit has to do with who is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Nothing.
    AsBefore,
    /// It brings a set in which another hand takes the first one's place.
    BringsNext,
    /// It is signed by that one.
    ByNext,
}

const fn well(files: &'static [File]) -> Release {
    Release {
        files,
        gets_well: true,
        trust: Trust::AsBefore,
    }
}

impl Release {
    fn documents(&self, number: usize) -> Vec<(String, String)> {
        use std::fmt::Write as _;
        let us = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let mut app = String::new();
        for file in self.files {
            let _ = write!(
                app,
                "[[files]]\npath = '{}'\ncontent = '{}'\nmode = '{:04o}'\nowner = '{}'\ngroup = '{}'\non_remove = '{}'\n",
                file.path,
                file.content(),
                file.mode,
                us.0,
                us.1,
                file.on_remove
            );
        }
        if !self.gets_well {
            let _ = write!(app, "[[checks]]\ntcp = '{FAILING}'\n");
        }
        app.push_str("[gate]\nsoak = '10s'\ndeadline = '40s'\n");
        let mut documents = vec![
            (
                "fleet.toml".to_owned(),
                "format = 1\nname = 'acme'\n".to_owned(),
            ),
            (
                "groups/all.toml".to_owned(),
                "match = 'all'\napps = ['web']\n".to_owned(),
            ),
            ("apps/web/app.toml".to_owned(), app),
            // What this device does not care for.
            ("README".to_owned(), format!("commit {number}\n")),
        ];
        match self.trust {
            Trust::AsBefore => {}
            Trust::BringsNext | Trust::ByNext => {
                documents.extend(fixture::set().map(|(path, text)| (path.to_owned(), text)));
            }
        }
        documents
    }
}

const ONE: Release = well(&[
    file("/etc/web.conf", "one\\n", 3),
    file("/etc/web.d/a.conf", "steady ", 30),
    file("/srv/www/static/index.html", "<p>one</p>", 400),
]);
const TWO: Release = well(&[
    file("/etc/web.conf", "two\\n", 300),
    file("/etc/web.d/a.conf", "steady ", 30),
    file("/etc/web.d/b.conf", "new in two ", 5),
    File {
        mode: 0o600,
        ..file("/opt/deep/er/still/two.txt", "two", 1)
    },
]);
const THREE: Release = well(&[
    file("/etc/web.conf", "three\\n", 2),
    file("/etc/web.d/b.conf", "new in two ", 5),
    file("/srv/www/static/index.html", "<p>three</p>", 600),
]);
const TWO_ROTATES: Release = Release {
    trust: Trust::BringsNext,
    ..TWO
};
const THREE_BY_NEXT: Release = Release {
    trust: Trust::ByNext,
    ..THREE
};
const BAD: Release = Release {
    files: &[
        file("/etc/web.conf", "bad\\n", 9),
        file("/etc/web.d/bad.conf", "bad", 1),
        file("/srv/www/static/index.html", "<p>bad</p>", 700),
    ],
    gets_well: false,
    trust: Trust::AsBefore,
};
const WITH: Release = well(&[
    file("/etc/web.conf", "one\\n", 3),
    file("/etc/web.d/a.conf", "steady ", 30),
    file("/srv/www/static/index.html", "<p>one</p>", 400),
    File {
        on_remove: "restore",
        ..file("/etc/taken.conf", "ours", 100)
    },
]);

/// Many small updates.
const SMALL_0: Release = well(&[file("/etc/web.conf", "small 0", 1)]);
const SMALL_1: Release = well(&[file("/etc/web.conf", "small 1", 1)]);
const SMALL_2: Release = well(&[file("/etc/web.conf", "small 2", 1), file("/etc/b", "b", 1)]);

/// So many that both stores are written anew in between.
const MANY: [Act; 44] = {
    let turns = [SMALL_0, SMALL_1, SMALL_2];
    let mut acts = [Pass; 44];
    let mut number = 0;
    while number < 22 {
        acts[2 * number] = Push(turns[number % turns.len()]);
        number += 1;
    }
    acts
};

/// What stood on the device before it was ours.
pub(super) const PERSONS: &[File] = &[
    file("/etc/hosts", "127.0.0.1 localhost\\n", 1),
    File {
        mode: 0o640,
        ..file("/etc/taken.conf", "a person's ", 50)
    },
];

/// Something that happens to a device.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// A release is pushed.
    Push(Release),
    /// The device does what is to be done.
    Pass,
    /// A person writes to a file.
    Edit(&'static str, &'static str),
    /// A person removes a file.
    Remove(&'static str),
    /// A person goes back by so many good revisions, and a pass is made.
    GoBack(usize),
    /// A person goes on.
    Resume,
    /// The agent ends and starts again.
    Restart,
    /// The agent ends, a person takes its journal away, and it starts again.
    LoseJournal,
}

/// A story: what was before, and then what is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) before: &'static [Act],
    pub(super) then: &'static [Act],
}

use Act::{Edit, GoBack, LoseJournal, Pass, Push, Remove, Restart, Resume};

const TRUST_ROTATION: &str = "trust rotation";

pub(super) const STORIES: &[Story] = &[
    Story {
        name: "first converge",
        before: &[],
        then: &[Push(ONE), Pass],
    },
    Story {
        name: "update of files",
        before: &[Push(ONE), Pass],
        then: &[Push(TWO), Pass],
    },
    Story {
        name: "prune, and a person's file comes back",
        before: &[Push(ONE), Pass],
        then: &[Push(WITH), Pass, Push(ONE), Pass],
    },
    Story {
        name: "rollback by hand, and on again",
        before: &[Push(ONE), Pass, Push(TWO), Pass],
        then: &[GoBack(1), Pass, Push(THREE), Pass, Resume, Pass],
    },
    Story {
        name: "refused revision",
        before: &[Push(ONE), Pass],
        then: &[Push(BAD), Pass, Restart, Pass, Push(THREE), Pass],
    },
    Story {
        name: "self-heal",
        before: &[Push(ONE), Pass],
        then: &[
            Edit("/etc/web.conf", "edited by hand"),
            Pass,
            Remove("/etc/web.d/a.conf"),
            Pass,
            Edit("/etc/web.conf", "edited again"),
            Edit("/srv/www/static/index.html", "this one too"),
            Restart,
        ],
    },
    Story {
        name: "journal lost",
        before: &[Push(ONE), Pass, Push(TWO), Pass],
        then: &[LoseJournal, Pass, Push(THREE), Pass],
    },
    Story {
        name: "restarts",
        before: &[Push(ONE), Pass],
        then: &[Restart, Push(TWO), Restart, Restart, Push(THREE), Pass],
    },
    Story {
        name: "nothing but words",
        before: &[Push(ONE), Pass],
        then: &[Push(ONE), Pass, Push(ONE), Push(TWO), Pass],
    },
    Story {
        name: TRUST_ROTATION,
        before: &[Push(ONE), Pass],
        then: &[Push(TWO_ROTATES), Pass, Restart, Push(THREE_BY_NEXT), Pass],
    },
    Story {
        name: "many small updates",
        before: &MANY,
        then: &[
            Push(SMALL_1),
            Pass,
            Push(SMALL_2),
            Pass,
            Push(SMALL_0),
            Pass,
            Push(TWO),
            Pass,
            Push(ONE),
            Pass,
        ],
    },
];

impl Story {
    pub(super) fn named(name: &str) -> &'static Self {
        let found = STORIES.iter().find(|story| story.name == name);
        found.unwrap_or_else(|| panic!("no story {name}"))
    }

    /// All acts, in order.
    pub(super) fn acts(&self) -> impl Iterator<Item = &'static Act> {
        self.before.iter().chain(self.then)
    }

    /// What is pushed, in order.
    pub(super) fn releases(&self) -> Vec<Release> {
        let pushed = |act: &Act| match act {
            Push(release) => Some(*release),
            Pass | Edit(..) | Remove(_) | GoBack(_) | Resume | Restart | LoseJournal => None,
        };
        self.acts().filter_map(pushed).collect()
    }

    /// The twins that a device of this story has.
    pub(super) fn twins(&self) -> Rc<MemoryWorld> {
        let twins = MemoryWorld::new();
        let mut failing = twins.probes.failing.borrow_mut();
        failing.insert("6666".to_owned());
        drop(failing);
        if self.name == TRUST_ROTATION {
            *twins.policy.borrow_mut() = fixture::policy_with_all();
        }
        twins
    }
}

/// Puts a person's files where they belong.
pub(super) fn furnish(root: &Path) {
    for file in PERSONS {
        let place = root.join(file.path.trim_start_matches('/'));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(&place, file.content()).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(file.mode)).unwrap();
    }
}

/// A remote as it is after each push: `remote-<pushes>`, all with the same objects.
#[derive(Debug, Clone)]
pub(super) struct Remotes {
    dir: PathBuf,
    /// What was pushed, in order.
    pub(super) commits: Vec<CommitId>,
}

impl Remotes {
    /// Makes them with the real git.
    pub(super) fn make(dir: &Path, releases: &[Release]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let bare = dir.join("remote-0");
        git(dir, &["init", "--quiet", "--bare", "remote-0"], None);
        let mut commits: Vec<CommitId> = Vec::new();
        for (number, release) in releases.iter().enumerate() {
            let work = dir.join("work");
            let _ = std::fs::remove_dir_all(&work);
            for (path, text) in release.documents(number) {
                let place = work.join(path);
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                std::fs::write(place, text).unwrap();
            }
            let in_work = |args: &[&str]| {
                let all = [&["--git-dir=remote-0", "--work-tree=work"], args].concat();
                git(dir, &all, None)
            };
            in_work(&["add", "--all"]);
            let tree = in_work(&["write-tree"]);
            let draft = Draft {
                tree: &tree,
                parents: &commits.last().cloned().into_iter().collect::<Vec<_>>(),
                time: FIRST_COMMIT + i64::try_from(number).unwrap() * 60,
                message: &format!("release {number}"),
            };
            let (id, bytes) = draft.signed(match release.trust {
                Trust::AsBefore | Trust::BringsNext => Hand::Trusted,
                Trust::ByNext => Hand::Next,
            });
            let written = git(
                &bare,
                &["hash-object", "-t", "commit", "-w", "--stdin"],
                Some(&bytes),
            );
            assert_eq!(written, id.as_str());
            commits.push(id);
        }
        for (number, commit) in commits.iter().enumerate() {
            let after = dir.join(format!("remote-{}", number + 1));
            std::fs::create_dir_all(after.join("refs/heads")).unwrap();
            for name in ["HEAD", "config"] {
                std::fs::copy(bare.join(name), after.join(name)).unwrap();
            }
            std::fs::write(after.join("HEAD"), "ref: refs/heads/main\n").unwrap();
            std::os::unix::fs::symlink(bare.join("objects"), after.join("objects")).unwrap();
            std::fs::write(after.join("refs/heads/main"), format!("{commit}\n")).unwrap();
        }
        let remotes = Self {
            dir: dir.to_owned(),
            commits,
        };
        remotes.turn(0);
        remotes
    }

    /// Those that were made before.
    pub(super) fn made(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            commits: Vec::new(),
        }
    }

    /// The remote after so many pushes.
    pub(super) fn after(&self, pushes: usize) -> PathBuf {
        self.dir.join(format!("remote-{pushes}"))
    }

    /// The one that changes with [`Remotes::turn`].
    pub(super) fn current(&self) -> PathBuf {
        self.dir.join("current")
    }

    /// From now on the current one is the remote after so many pushes.
    pub(super) fn turn(&self, pushes: usize) {
        let fresh = self.dir.join("current.new");
        std::os::unix::fs::symlink(self.after(pushes), &fresh).unwrap();
        std::fs::rename(&fresh, self.current()).unwrap();
    }

    /// One that does not answer.
    pub(super) fn gone(&self) -> PathBuf {
        self.dir.join("gone")
    }

    /// Which push brought a commit.
    pub(super) fn number(&self, commit: &CommitId) -> Option<usize> {
        self.commits.iter().position(|one| one == commit)
    }
}

/// What the files of a device must be at a release, by path: content and mode.
pub(super) fn expected(release: Option<&Release>) -> BTreeMap<String, (String, u32)> {
    let declared = release.map_or(&[][..], |release| release.files);
    PERSONS
        .iter()
        .chain(declared)
        // In TOML's literal strings there are no escapes: what is written is what is meant.
        .map(|file| (file.path.to_owned(), (file.content(), file.mode)))
        .collect()
}

fn git(dir: &Path, args: &[&str], input: Option<&[u8]>) -> String {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.unwrap_or_default())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
