//! The cycle over a device in memory: real signatures, real documents, a world that can break at any effect.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

mod adopted;
mod confirm;
mod device;
mod floor;
mod gates;
mod held;
mod hooks;
mod images;
mod kept_port;
mod limits;
mod line;
mod locks;
mod metered;
mod pulls;
mod remotes;
mod tidy;
mod torture;
mod trouble;

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use evenkeel_schema::agent_config::{FloorPolicy, StalePolicy};

use super::{Again, Agent, Interrupt, Passed, Session, Settings};
use crate::domain::observed::{RunState, Seen};
use crate::domain::outcome::Outcome;
use crate::domain::resource::ServiceId;
use crate::domain::revision::CommitId;
use crate::plan::container;
use crate::port::engine::Engine as _;
use crate::port::files::Files as _;
use crate::port::journal::Journal as _;
use crate::port::memory::{DEVICE, MemoryWorld};
use crate::port::source::Reach;
use crate::resolve::guard::Limits;
use crate::schedule::window::Windows;
use crate::select::Urgency;

/// How many passes may follow each other at once, as in the loop.
const MOST_AT_ONCE: u32 = 6;

/// What a fleet says of the device: one app with a web server, its file, and a service beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Release {
    /// The last digit of the web server's image.
    image: char,
    /// What its file says.
    file: &'static str,
    /// What a file says that no container mounts; where it is not what [`ONE`] says, a unit is restarted for it.
    steady: &'static str,
    /// Seconds.
    soak: u32,
    /// Whether the second app and its file are there.
    extra: Extra,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Without,
    With,
}

const ONE: Release = Release {
    image: '1',
    file: "one",
    steady: "steady",
    soak: 10,
    extra: Extra::Without,
};
const TWO: Release = Release {
    image: '2',
    file: "two",
    ..ONE
};
const THREE: Release = Release {
    image: '3',
    file: "three",
    ..ONE
};

fn image(digit: char) -> String {
    let digits: String = std::iter::repeat_n(digit, 64).collect();
    format!("registry.example.com/web@sha256:{digits}")
}

impl Release {
    fn documents(&self) -> Vec<(&'static str, String)> {
        let apps = match self.extra {
            Extra::Without => "['web']",
            Extra::With => "['web', 'extra']",
        };
        let on_change = if self.steady == ONE.steady {
            ""
        } else {
            "on_change = ['restart:unit:steady.service']"
        };
        let web = format!(
            "[[files]]\npath = '/etc/web.conf'\ncontent = '{}'\n\
             [[files]]\npath = '/etc/steady.conf'\ncontent = '{}'\n\
             {}\n\
             [services.server]\nimage = '{}'\nrestart = 'always'\n\
             healthcheck = {{ test = ['CMD', 'true'] }}\n\
             volumes = ['/etc/web.conf:/web.conf:ro', 'data:/data']\n\
             [services.side]\nimage = '{}'\nrestart = 'unless-stopped'\nenvironment = {{ A = 'b' }}\n\
             [volumes.data]\n\
             [gate]\nsoak = '{}s'\ndeadline = '{}s'\n",
            self.file,
            self.steady,
            on_change,
            image(self.image),
            image('a'),
            self.soak,
            self.soak + 30,
        );
        let mut documents = vec![
            ("fleet.toml", "format = 1\nname = 'acme'\n".to_owned()),
            ("groups/all.toml", format!("match = 'all'\napps = {apps}\n")),
            ("apps/web/app.toml", web),
        ];
        if self.extra == Extra::With {
            let extra = format!(
                "[[files]]\npath = '/etc/extra.conf'\ncontent = 'extra'\n\
                 [[files]]\npath = '/etc/taken.conf'\ncontent = 'ours'\non_remove = 'restore'\n\
                 [services.more]\nimage = '{}'\nrestart = 'always'\n",
                image('e'),
            );
            documents.push(("apps/extra/app.toml", extra));
        }
        documents
    }
}

/// A device and the agent on it.
struct Rig {
    world: Rc<MemoryWorld>,
    agent: Agent<Rc<MemoryWorld>>,
}

fn settings() -> Settings {
    Settings {
        device: DEVICE.parse().unwrap(),
        renamed: None,
        labels: BTreeMap::new(),
        branch: "main".to_owned(),
        limits: Limits::default(),
        fleet: None,
        machine: Err("there is no /etc/machine-id".to_owned()),
        floor: FloorPolicy::Good,
        pin: None,
        interval: Duration::from_secs(60),
        confirm: Duration::from_secs(60),
        max_age: None,
        stale: StalePolicy::Report,
        metered: Default::default(),
        remote: Reach::Network,
        windows: Windows::default(),
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let world = MemoryWorld::new();
        let agent = agent(&world, settings);
        Self { world, agent }
    }

    /// A device at release [`ONE`], settled.
    async fn at_one() -> Self {
        let rig = Self::new();
        rig.push(&ONE, "one");
        let outcome = rig.settle().await;
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
        rig.assert_at(&ONE).await;
        rig
    }

    fn push(&self, release: &Release, message: &str) -> CommitId {
        self.world.source.push(&release.documents(), message)
    }

    /// Another agent on the same device, as after its end.
    fn start_again(&mut self) {
        self.world.faults.mend();
        self.world.journal.opened_again();
        self.agent = agent(&self.world, self.agent.settings.clone());
    }

    /// Passes until none is due at once; the last outcome.
    async fn settle_as(&self, urgency: Urgency) -> Outcome {
        let mut urgency = urgency;
        for _ in 0..MOST_AT_ONCE {
            let Passed { outcome, again } = self.agent.cycle(urgency).await;
            if again == Again::Later || self.agent.interrupt.raised().is_some() {
                return outcome;
            }
            urgency = Urgency::Scheduled;
        }
        panic!("the passes do not end");
    }

    async fn settle(&self) -> Outcome {
        self.settle_as(Urgency::Scheduled).await
    }

    /// What the loop does after a start, and some polls more.
    async fn live(&self, polls: u32) -> Outcome {
        self.settle_as(Urgency::Boot).await;
        let mut outcome = self.settle().await;
        for _ in 1..polls {
            tokio::time::sleep(self.agent.settings.interval).await;
            outcome = self.settle().await;
        }
        outcome
    }

    /// One settling during which something else happens after a while.
    async fn settle_while<F: Future<Output = ()>>(&self, after: u64, what: F) -> Outcome {
        let later = async {
            tokio::time::sleep(Duration::from_secs(after)).await;
            what.await;
        };
        tokio::join!(self.settle(), later).0
    }

    /// Settles for so long, and then ends without a word.
    async fn killed_after(&self, seconds: u64) {
        tokio::select! {
            outcome = self.settle() => panic!("settled before: {outcome:?}"),
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }

    fn last_good(&self) -> CommitId {
        let ledger = self.world.journal.ledger();
        ledger.last_good().unwrap().commit().clone()
    }

    /// The promise: the device is as this release says, whole and healthy, and nothing else was touched.
    async fn assert_at(&self, release: &Release) {
        if let Err(why) = self.is_at(release).await {
            panic!("{why}\n{:#?}", self.world.faults.log());
        }
    }

    async fn is_at(&self, release: &Release) -> Result<(), String> {
        let state = resolved(release);
        let view = self
            .world
            .engine
            .observe(
                &self.agent.settings.device,
                &[],
                &std::collections::BTreeMap::new(),
            )
            .await
            .unwrap();
        let expect = |is: bool, what: String| if is { Ok(()) } else { Err(what) };
        for (_, path, file) in state.files() {
            let Seen::Present(seen) = self.world.files.observe(path) else {
                return Err(format!("{path} is not there"));
            };
            expect(
                seen.content.as_ref() == Some(&file.content),
                format!("{path} says {:?}", self.world.files.text(path.as_str())),
            )?;
        }
        let mut declared = Vec::new();
        for (app, desired) in &state.apps {
            for (service, wanted) in &desired.services {
                let id = ServiceId {
                    app: app.clone(),
                    service: service.clone(),
                };
                let spec = container::spec(&state, &id).unwrap();
                let all = view.containers.get(&id).map_or(&[][..], Vec::as_slice);
                let [one] = all else {
                    return Err(format!("{id} has {} containers", all.len()));
                };
                expect(
                    one.config.as_ref() == Some(&spec.config),
                    format!("{id} is another one"),
                )?;
                expect(
                    one.state == RunState::Running,
                    format!("{id} is {:?}", one.state),
                )?;
                expect(
                    one.restart == wanted.restart.to_string(),
                    format!("{id} is not armed: {}", one.restart),
                )?;
                declared.push(id);
            }
        }
        let there: Vec<ServiceId> = view.containers.keys().cloned().collect();
        expect(
            there == declared,
            format!("containers {there:?}, not {declared:?}"),
        )?;
        for (name, owned) in &view.networks {
            let wanted = owned.app.as_ref().is_none_or(|app| {
                state
                    .apps
                    .keys()
                    .any(|declared| declared.as_str() == app.as_str())
            });
            expect(wanted, format!("network {name} is left"))?;
        }
        if release.extra == Extra::Without {
            expect(
                self.world.files.text("/etc/extra.conf").is_none(),
                "/etc/extra.conf is left".to_owned(),
            )?;
        }
        self.is_clean()
    }

    /// Nothing unowned was changed, and nothing staged is left.
    fn is_clean(&self) -> Result<(), String> {
        let expect = |is: bool, what: String| if is { Ok(()) } else { Err(what) };
        let staged = self.world.files.staged.borrow();
        expect(staged.is_empty(), format!("staged: {:?}", staged.keys()))?;
        expect(
            self.world.files.text("/etc/hosts").as_deref() == Some("127.0.0.1 localhost\n"),
            "/etc/hosts was changed".to_owned(),
        )?;
        let foreign = self.world.engine.foreign_things();
        expect(
            foreign == (vec!["bridge".to_owned()], vec!["photos".to_owned()]),
            format!("what is not ours: {foreign:?}"),
        )
    }

    /// Another pass changes nothing at all.
    async fn assert_still(&self) {
        let before = self.world.faults.taken();
        self.settle().await;
        let log = self.world.faults.log();
        assert_eq!(
            self.world.faults.taken(),
            before,
            "an idle pass did {:?}",
            &log[usize::try_from(before).unwrap()..]
        );
    }
}

fn agent(world: &Rc<MemoryWorld>, settings: Settings) -> Agent<Rc<MemoryWorld>> {
    let report = world.journal.ledger().report.unwrap_or_default();
    Agent {
        world: Rc::clone(world),
        settings,
        session: Session::from_report(report),
        interrupt: Rc::new(Interrupt::default()),
    }
}

/// What a release resolves to.
fn resolved(release: &Release) -> crate::domain::desired::DesiredState {
    use crate::domain::tree::{Document, Tree};
    let tree = Tree {
        documents: release
            .documents()
            .into_iter()
            .map(|(path, text)| (path.to_owned(), Document::File(text.into_bytes())))
            .collect(),
    };
    let device = DEVICE.parse().unwrap();
    let selection = crate::resolve::apps_of(&device, &BTreeMap::new(), &tree).unwrap();
    crate::resolve::resolve(&selection, &tree).unwrap().state
}
