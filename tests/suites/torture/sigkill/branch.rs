//! The branch that a killed device follows: what each commit declares, and who pushes to it.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use evenkeel_tests::FleetRepo;

/// Two files are always there, and hold the number of the commit that changed them last.
pub(super) const FILES: [&str; 2] = ["/etc/one.conf", "/etc/deep/er/two.conf"];
/// This one comes and goes.
pub(super) const PRUNED: &str = "/etc/passing.conf";

/// What a commit declares.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub(super) files: BTreeMap<&'static str, String>,
    /// The value of `A` in each service's environment.
    pub(super) services: BTreeMap<&'static str, u64>,
    /// Whether its services stay up.
    pub(super) sound: bool,
}

impl Declared {
    /// The next commit's declaration: other files, other services, both, one more or less of each, or one that falls over.
    pub(super) fn after(
        before: &Self,
        number: u64,
        services: Services,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut next = before.clone();
        next.sound = true;
        let files = |next: &mut Self, rng: &mut fastrand::Rng| {
            let path = FILES[rng.usize(..FILES.len())];
            next.files.insert(path, format!("{number}\n"));
        };
        match (rng.u32(..10), services) {
            (0..3, _) | (3..8, Services::None) => files(&mut next, rng),
            (3..5, Services::Two) => {
                next.services.insert("web", number);
            }
            (5..8, Services::Two) => {
                files(&mut next, rng);
                next.services.insert("web", number);
            }
            (8, _) => {
                if next.files.remove(PRUNED).is_none() {
                    next.files.insert(PRUNED, format!("{number}\n"));
                }
                if services == Services::Two && next.services.remove("side").is_none() {
                    next.services.insert("side", number);
                }
            }
            (_, _) => {
                files(&mut next, rng);
                next.sound = false;
            }
        }
        next
    }

    pub(super) fn app(&self, image: &str) -> String {
        let mut text = String::new();
        for (name, value) in &self.services {
            text += &format!(
                "[services.{name}]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_signal = \"SIGKILL\"\n\
                 restart = \"unless-stopped\"\nenvironment = {{ A = \"{value}\" }}\n"
            );
        }
        for (path, content) in &self.files {
            text += &format!(
                "[[files]]\npath = \"{path}\"\ncontent = {content:?}\non_remove = \"delete\"\n"
            );
        }
        if !self.sound {
            // Nobody listens there.
            text += "[[checks]]\ntcp = \"127.0.0.1:1\"\ntimeout = \"1s\"\n";
        }
        let deadline = if self.sound { "30s" } else { "1s" };
        text + &format!("[gate]\ndeadline = \"{deadline}\"\nsoak = \"500ms\"\n")
    }
}

/// What the fleet runs beside its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Services {
    None,
    Two,
}

/// The branch, and who pushes to it all the time.
pub(super) struct Branch {
    pub(super) commits: Mutex<Vec<(String, Declared)>>,
    /// Held while nothing may be pushed.
    pub(super) gate: Mutex<()>,
    pub(super) stop: AtomicBool,
}

impl Branch {
    pub(super) fn push(&self, repo: &FleetRepo, app: &str, image: &str, next: Declared) {
        repo.write(&format!("apps/{app}/app.toml"), next.app(image));
        let mut commits = self.commits.lock().unwrap();
        let id = repo.commit_signed(&format!("Number {}", commits.len()));
        commits.push((id, next));
        drop(commits);
        repo.push();
    }

    pub(super) fn tip(&self) -> (String, Declared) {
        self.commits.lock().unwrap().last().unwrap().clone()
    }

    /// Where a commit stands on the branch.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        let commits = self.commits.lock().unwrap();
        commits.iter().position(|(commit, _)| commit == id)
    }

    pub(super) fn declared(&self, id: &str) -> Option<Declared> {
        let commits = self.commits.lock().unwrap();
        let found = commits.iter().find(|(commit, _)| commit == id)?;
        Some(found.1.clone())
    }
}
