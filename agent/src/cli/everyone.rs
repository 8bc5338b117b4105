//! Every device of a tree at once, on all processors: for `lint`, `render --all` and `promote`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use evenkeel_schema::diagnostic::{Diagnostic, Diagnostics};
use evenkeel_schema::name::{DeviceId, GroupName};

use crate::domain::desired::Resolved;
use crate::domain::tree::Tree;
use crate::resolve::fleet_wide::FleetWide;
use crate::resolve::lint::{self, Judged};

/// How many devices one thread takes at a time.
pub(super) const BATCH: usize = 64;
/// Fewer devices than that are not worth a thread.
const FEW: usize = 200;

/// A device that is judged.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// Its id.
    pub(super) id: DeviceId,
    /// The group that it was made up for.
    pub(super) example: Option<GroupName>,
}

impl Subject {
    /// What it should be.
    pub(super) fn resolve(&self, fleet: &FleetWide<'_>) -> Result<Resolved, Diagnostics> {
        fleet.resolve(&self.id, self.example.as_ref())
    }
}

/// The devices with a document, and one made up for each group without any.
pub(super) fn of_tree(fleet: &FleetWide<'_>) -> Vec<Subject> {
    let examples = fleet.examples().into_iter().map(|(id, group)| Subject {
        id,
        example: Some(group),
    });
    let declared = fleet
        .declared()
        .cloned()
        .map(|id| Subject { id, example: None });
    declared.chain(examples).collect()
}

/// How many threads so many devices are worth.
pub(super) fn threads(devices: usize) -> usize {
    let most = std::thread::available_parallelism().map_or(1, usize::from);
    most.min(devices.div_ceil(BATCH)).max(1)
}

/// Every problem of a repository, as [`lint::lint`] finds them.
pub(super) fn lint(tree: &Tree) -> (Judged, Vec<Diagnostic>) {
    let devices = tree
        .documents
        .range("devices/".to_owned().."devices0".to_owned())
        .count();
    if devices < FEW {
        return lint::lint(tree);
    }
    let of = threads(devices);
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = (0..of)
            .map(|part| scope.spawn(move || lint::part(tree, part, of)))
            .collect();
        let done = running.into_iter().map(|one| one.join());
        done.map(|part| part.expect("judging documents does not panic"))
            .collect()
    });
    lint::whole(tree, parts)
}

/// What `show` makes of every device, told in the order of their ids as it becomes known.
///
/// # Errors
/// Every problem of the documents, or of the first devices that do not resolve.
pub(super) fn each(
    tree: &Tree,
    show: impl Fn(&Resolved) -> String + Sync,
    mut tell: impl FnMut(&str) + Send,
) -> Result<usize, Diagnostics> {
    struct Told<'t> {
        next: usize,
        waiting: BTreeMap<usize, String>,
        problems: Option<Vec<Diagnostic>>,
        tell: &'t mut (dyn FnMut(&str) + Send),
    }
    let subjects = of_tree(&FleetWide::read(tree)?);
    let next = AtomicUsize::new(0);
    let told = Mutex::new(Told {
        next: 0,
        waiting: BTreeMap::new(),
        problems: None,
        tell: &mut tell,
    });
    std::thread::scope(|scope| {
        for _ in 0..threads(subjects.len()) {
            scope.spawn(|| {
                // What is read here is not another thread's.
                let Ok(fleet) = FleetWide::read(tree) else {
                    return;
                };
                loop {
                    let batch = next.fetch_add(1, Ordering::Relaxed);
                    let mut text = String::new();
                    let mut problems = None;
                    let mine = subjects.iter().skip(batch * BATCH).take(BATCH);
                    for subject in mine {
                        match subject.resolve(&fleet) {
                            Ok(resolved) => text.push_str(&show(&resolved)),
                            Err(found) => {
                                problems = Some(found.sorted());
                                break;
                            }
                        }
                    }
                    let mut told = told.lock().expect("no thread panics while it holds it");
                    if let Some(problems) = problems {
                        told.problems.get_or_insert(problems);
                    }
                    if told.problems.is_some() || batch * BATCH >= subjects.len() {
                        return;
                    }
                    told.waiting.insert(batch, text);
                    loop {
                        let due = told.next;
                        let Some(text) = told.waiting.remove(&due) else {
                            break;
                        };
                        (told.tell)(&text);
                        told.next += 1;
                    }
                }
            });
        }
    });
    let told = told
        .into_inner()
        .expect("no thread panics while it holds it");
    match told.problems {
        None => Ok(subjects.len()),
        Some(problems) => {
            let mut out = Diagnostics::new();
            for problem in problems {
                out.push(problem);
            }
            Err(out)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;
    use crate::domain::tree::Document;

    fn fleet(devices: usize) -> Tree {
        let mut tree = Tree::default();
        let mut write = |path: String, text: String| {
            tree.documents
                .insert(path, Document::File(text.into_bytes()));
        };
        write(
            "fleet.toml".to_owned(),
            "format = 1\nname = 'a'\n".to_owned(),
        );
        write(
            "groups/some.toml".to_owned(),
            "apps = ['one']\n[match]\nsite = 'a'\n".to_owned(),
        );
        write(
            "groups/nobody.toml".to_owned(),
            "apps = ['two']\n[match]\nsite = 'z'\n".to_owned(),
        );
        for app in ["one", "two", "unused"] {
            write(
                format!("apps/{app}/app.toml"),
                format!(
                    "[[files]]\npath = '/srv/{app}'\ncontent = '{{{{ values.serial }}}}'\ntemplate = true\n"
                ),
            );
        }
        for i in 0..devices {
            // Each seventh lacks the value; one document is no TOML, one names an app that is not there.
            let text = match i {
                5 => "labels = 3\n".to_owned(),
                6 => "apps = ['three']\n".to_owned(),
                i if i % 7 == 0 => "[labels]\nsite = 'a'\n".to_owned(),
                i => format!("[labels]\nsite = 'a'\n[values]\nserial = {i}\n"),
            };
            write(format!("devices/d{i:05}.toml"), text);
        }
        tree
    }

    #[test]
    fn several_threads_find_what_one_finds() {
        for devices in [0, 1, FEW, FEW + 333] {
            let tree = fleet(devices);
            let one = lint::lint(&tree);
            assert_eq!(lint(&tree), one);
            assert_eq!(one.0.devices, devices);
            for of in [2, 3, 16] {
                let parts = (0..of).map(|part| lint::part(&tree, part, of)).collect();
                assert_eq!(lint::whole(&tree, parts), one, "{of} of {devices}");
            }
        }
        let mut broken = fleet(FEW);
        broken.documents.insert(
            "fleet.toml".to_owned(),
            Document::File(b"format = 99\n".to_vec()),
        );
        assert_eq!(lint(&broken), lint::lint(&broken));
        assert_eq!(lint(&broken).1.len(), 1);
    }

    #[test]
    fn every_device_is_told_once_in_the_order_of_their_ids() {
        let mut tree = fleet(FEW + 77);
        tree.documents.retain(|path, _| {
            !path.starts_with("devices/d00005") && !path.starts_with("devices/d00006")
        });
        let app = "[[files]]\npath = '/srv/x'\ncontent = 'x'\n".to_owned();
        for name in ["one", "two"] {
            tree.documents.insert(
                format!("apps/{name}/app.toml"),
                Document::File(app.clone().into_bytes()),
            );
        }
        let mut told = String::new();
        let show = |resolved: &Resolved| format!("{}\n", resolved.state.device);
        let count = each(&tree, show, |text| told.push_str(text)).unwrap();
        let ids: Vec<&str> = told.lines().collect();
        assert_eq!(ids.len(), count);
        assert_eq!(count, FEW + 77 - 2 + 1);
        assert!(ids[..count - 1].is_sorted());
        assert_eq!(ids.last(), Some(&"example-nobody"));
        let wrong = each(&fleet(FEW), show, |_| {}).unwrap_err();
        assert!(!wrong.is_empty());
    }
}
