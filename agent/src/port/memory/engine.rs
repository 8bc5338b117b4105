//! An engine in memory: containers that behave as their image was told to.

mod answers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::DeviceId;
use evenkeel_schema::service::Service;
use serde_json::json;
use tokio::time::Instant;

use super::Faults;
use crate::domain::container::ContainerSpec;
use crate::domain::observed::{Facts, Health, Owned, RunState};
use crate::domain::resource::ServiceId;
use crate::port::engine::EngineError;

/// What containers of an image do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// They run, and are healthy where a health check is declared.
    Well,
    /// They run, and their health check fails.
    Unhealthy,
    /// They end at once.
    Exits(i64),
    /// They run, and while one does no remote is reached.
    CutsNetwork,
}

#[derive(Debug, Clone)]
struct Container {
    spec: ContainerSpec,
    state: RunState,
    restart: String,
    starts: u64,
    facts: Facts,
}

/// What an engine has on its disk.
#[derive(Debug, Clone, Default)]
struct Disk {
    containers: BTreeMap<String, Container>,
    networks: BTreeMap<String, Owned>,
    volumes: BTreeMap<String, Owned>,
    images: BTreeSet<String>,
}

/// How long a change may wait in the caches of a machine before it is on disk for certain.
const CACHED: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct MemoryEngine {
    faults: Rc<Faults>,
    /// Whether a container took the network away: shared with the source.
    cut: Rc<Cell<bool>>,
    /// Before each change of the last seconds, what was there.
    before: RefCell<Vec<(Instant, Disk)>>,
    containers: RefCell<BTreeMap<String, Container>>,
    /// Names of containers that are not ours.
    pub(crate) foreign: RefCell<BTreeSet<String>>,
    networks: RefCell<BTreeMap<String, Owned>>,
    volumes: RefCell<BTreeMap<String, Owned>>,
    images: RefCell<BTreeSet<String>>,
    /// Images that were pulled, and were not there before.
    pulled: RefCell<BTreeSet<String>>,
    /// Images that were not synced yet, as the agent knows.
    unsettled: RefCell<BTreeSet<String>>,
    /// Images that lie on a folder of the device.
    pub(super) at_hand: RefCell<BTreeSet<String>>,
    /// Images that lost bytes.
    damaged: RefCell<BTreeSet<String>>,
    behaviours: RefCell<BTreeMap<String, Behaviour>>,
    /// Whether nobody answers at its socket.
    pub(crate) down: Cell<bool>,
    /// In how many pieces an image arrives, and how long each takes.
    pieces: Cell<(u64, Duration)>,
    /// What each piece weighs.
    pub(crate) weight: Cell<u64>,
    /// Whether it takes requests and never answers.
    pub(crate) hangs: Cell<bool>,
    /// Whether its registry answers.
    pub(crate) registry: Cell<bool>,
    /// Images whose pull begins and never ends.
    pub(crate) hanging: RefCell<BTreeSet<String>>,
    /// How often a pull was begun.
    pub(crate) pulls: Cell<u64>,
    /// Whether it keeps a port for nobody, and so starts no container.
    pub(crate) kept: Rc<Cell<bool>>,
    /// Services that say not now, in balena's words.
    pub(crate) locked: RefCell<BTreeSet<ServiceId>>,
    /// Containers of others that run in it.
    pub(crate) others: RefCell<Vec<String>>,
    /// Told where a person does something with a container.
    pub(crate) stirred: tokio::sync::Notify,
    made: Cell<u64>,
    started: Cell<u64>,
}

impl MemoryEngine {
    pub(crate) fn new(faults: Rc<Faults>, cut: Rc<Cell<bool>>) -> Self {
        let foreign = |app: Option<&str>| Owned {
            app: app.map(str::to_owned),
            config: None,
            in_use: true,
        };
        Self {
            faults,
            cut,
            before: RefCell::default(),
            containers: RefCell::default(),
            foreign: RefCell::new(BTreeSet::from(["a-persons-own".to_owned()])),
            networks: RefCell::new(BTreeMap::from([("bridge".to_owned(), foreign(None))])),
            volumes: RefCell::new(BTreeMap::from([("photos".to_owned(), foreign(None))])),
            images: RefCell::default(),
            pulled: RefCell::default(),
            unsettled: RefCell::default(),
            at_hand: RefCell::default(),
            damaged: RefCell::default(),
            behaviours: RefCell::default(),
            down: Cell::new(false),
            registry: Cell::new(true),
            hangs: Cell::new(false),
            hanging: RefCell::default(),
            pulls: Cell::new(0),
            pieces: Cell::new((1, Duration::ZERO)),
            weight: Cell::new(1),
            kept: Rc::default(),
            locked: RefCell::default(),
            others: RefCell::default(),
            stirred: tokio::sync::Notify::new(),
            made: Cell::new(0),
            started: Cell::new(0),
        }
    }

    /// The same engine, over other faults.
    pub(crate) fn copy(&self, faults: Rc<Faults>, cut: Rc<Cell<bool>>) -> Self {
        let copy = Self {
            faults,
            cut,
            before: RefCell::default(),
            containers: self.containers.clone(),
            foreign: self.foreign.clone(),
            networks: self.networks.clone(),
            volumes: self.volumes.clone(),
            images: self.images.clone(),
            pulled: self.pulled.clone(),
            unsettled: self.unsettled.clone(),
            at_hand: self.at_hand.clone(),
            damaged: self.damaged.clone(),
            behaviours: self.behaviours.clone(),
            down: self.down.clone(),
            registry: self.registry.clone(),
            hangs: self.hangs.clone(),
            hanging: self.hanging.clone(),
            pulls: self.pulls.clone(),
            pieces: self.pieces.clone(),
            weight: self.weight.clone(),
            kept: Rc::new(Cell::new(self.kept.get())),
            locked: self.locked.clone(),
            others: self.others.clone(),
            stirred: tokio::sync::Notify::new(),
            made: self.made.clone(),
            started: self.started.clone(),
        };
        copy.tell_network();
        copy
    }

    fn disk(&self) -> Disk {
        Disk {
            containers: self.containers.borrow().clone(),
            networks: self.networks.borrow().clone(),
            volumes: self.volumes.borrow().clone(),
            images: self.images.borrow().clone(),
        }
    }

    /// What it did in the last seconds is undone: it had not reached the disk.
    pub(crate) fn forget(&self, span: Duration) {
        let since = Instant::now();
        let oldest = self
            .before
            .borrow()
            .iter()
            .find(|(at, _)| since.duration_since(*at) < span)
            .map(|(_, disk)| disk.clone());
        if let Some(disk) = oldest {
            self.containers.replace(disk.containers);
            self.networks.replace(disk.networks);
            self.volumes.replace(disk.volumes);
            self.images.replace(disk.images);
        }
        self.before.borrow_mut().clear();
    }

    /// Images arrive in so many pieces, each after so long.
    pub(crate) fn pulls_in(&self, pieces: u64, each: Duration) {
        self.pieces.set((pieces, each));
    }

    /// A container that a stranger made with the same engine.
    pub(crate) fn add_stranger(&self, spec: ContainerSpec) {
        let facts = facts(&spec);
        let stranger = Container {
            spec,
            state: RunState::Running,
            restart: "always".to_owned(),
            starts: 0,
            facts,
        };
        self.containers
            .borrow_mut()
            .insert("a-strangers".to_owned(), stranger);
    }

    /// A container of ours is from now on one that somebody made by hand: it has no label that says whose it is.
    pub(crate) fn unlabel(&self, engine_id: &str) {
        let mut containers = self.containers.borrow_mut();
        let one = containers.get_mut(engine_id).expect("it is there");
        one.spec.device = "a-person".parse().expect("a device's name");
    }

    /// All that is not ours, whole.
    pub(crate) fn strangers(&self, device: &DeviceId) -> String {
        let containers = self.containers.borrow();
        let strange: Vec<_> = containers
            .iter()
            .filter(|(_, one)| one.spec.device != *device)
            .map(|(id, one)| (id, &one.spec, &one.state, &one.restart, &one.facts))
            .collect();
        let not_ours = |all: &BTreeMap<String, Owned>| {
            let strange: Vec<_> = all.iter().filter(|(_, one)| one.app.is_none()).collect();
            format!("{strange:?}")
        };
        format!(
            "{strange:?} {:?} {} {}",
            self.foreign.borrow(),
            not_ours(&self.networks.borrow()),
            not_ours(&self.volumes.borrow())
        )
    }

    /// The engine ends and begins again; what it does not restart by itself stands still.
    pub(crate) fn stop_everything(&self) {
        let ids: Vec<String> = self.containers.borrow().keys().cloned().collect();
        for id in ids {
            if id != "a-strangers" {
                self.set_state(&id, RunState::Exited(137));
            }
        }
    }

    /// Whether a container that takes the network away runs.
    fn tell_network(&self) {
        let cut = self.containers.borrow().values().any(|one| {
            one.state == RunState::Running
                && self.behaviour(&one.spec.service.image) == Behaviour::CutsNetwork
        });
        self.cut.set(cut);
    }

    /// Says what containers of an image do from their next start on.
    pub(crate) fn behave(&self, image: &str, behaviour: Behaviour) {
        self.behaviours
            .borrow_mut()
            .insert(image.to_owned(), behaviour);
    }

    /// The machine lost its power: containers are where the engine puts them at the next boot.
    pub(crate) fn lose_power(&self) {
        let unsettled = self.unsettled.borrow().clone();
        self.damaged.borrow_mut().extend(unsettled);
        let ids: Vec<String> = self.containers.borrow().keys().cloned().collect();
        for id in ids {
            let again = self.containers.borrow()[&id].restart != "no";
            let was = self.containers.borrow()[&id].state.clone();
            if again && was != RunState::Created {
                self.begin(&id);
            } else if was == RunState::Running {
                self.set_state(&id, RunState::Exited(137));
            }
        }
    }

    /// A person stops the container of this name.
    pub(crate) fn stop_by_hand(&self, name: &str) {
        let id = self.id_of(name);
        self.set_state(&id, RunState::Exited(143));
    }

    /// A person removes the container of this name.
    pub(crate) fn remove_by_hand(&self, name: &str) {
        let id = self.id_of(name);
        self.containers.borrow_mut().remove(&id);
    }

    /// The disk loses bytes of an image.
    pub(crate) fn damage_image(&self, image: &str) {
        self.damaged.borrow_mut().insert(image.to_owned());
    }

    /// A person loads an image.
    pub(crate) fn load_image(&self, image: &str) {
        self.images.borrow_mut().insert(image.to_owned());
    }

    /// An image that an earlier agent pulled.
    pub(crate) fn pulled_before(&self, image: &str) {
        self.load_image(image);
        self.pulled.borrow_mut().insert(image.to_owned());
    }

    /// Whether an image is here.
    pub(crate) fn has_image(&self, image: &str) -> bool {
        self.images.borrow().contains(image)
    }

    /// A person removes an image.
    pub(crate) fn forget_image(&self, image: &str) {
        self.images.borrow_mut().remove(image);
    }

    /// A person gives the container of this name another setting.
    pub(crate) fn change_by_hand(&self, name: &str, key: &str, value: serde_json::Value) {
        let id = self.id_of(name);
        let mut containers = self.containers.borrow_mut();
        let container = containers.get_mut(&id).unwrap();
        container.facts.insert(key.to_owned(), value);
    }

    /// The engine's id of the container of this name.
    pub(crate) fn id_of(&self, name: &str) -> String {
        let containers = self.containers.borrow();
        let found = containers.iter().find(|(_, one)| one.spec.name == name);
        found
            .unwrap_or_else(|| panic!("no container {name}"))
            .0
            .clone()
    }

    /// How often any container was started.
    pub(crate) fn starts(&self) -> u64 {
        self.started.get()
    }

    /// Networks and volumes that are not ours.
    pub(crate) fn foreign_things(&self) -> (Vec<String>, Vec<String>) {
        let foreign = |all: &BTreeMap<String, Owned>| {
            all.iter()
                .filter(|(_, owned)| owned.app.is_none())
                .map(|(name, _)| name.clone())
                .collect()
        };
        (
            foreign(&self.networks.borrow()),
            foreign(&self.volumes.borrow()),
        )
    }

    fn set_state(&self, id: &str, state: RunState) {
        if let Some(container) = self.containers.borrow_mut().get_mut(id) {
            container.state = state;
        }
        self.tell_network();
    }

    fn begin(&self, id: &str) {
        self.started.set(self.started.get() + 1);
        let mut containers = self.containers.borrow_mut();
        let container = containers.get_mut(id).unwrap();
        container.starts = self.started.get();
        container.state = match self.behaviour(&container.spec.service.image) {
            Behaviour::Well | Behaviour::Unhealthy | Behaviour::CutsNetwork => RunState::Running,
            Behaviour::Exits(code) => RunState::Exited(code),
        };
        drop(containers);
        self.tell_network();
    }

    fn behaviour(&self, image: &ImageRef) -> Behaviour {
        let behaviours = self.behaviours.borrow();
        behaviours
            .get(image.as_str())
            .copied()
            .unwrap_or(Behaviour::Well)
    }

    fn health_of(&self, service: &Service) -> Health {
        match (&service.healthcheck, self.behaviour(&service.image)) {
            (None, _) => Health::None,
            (Some(_), Behaviour::Unhealthy) => Health::Unhealthy,
            (Some(_), Behaviour::Well | Behaviour::Exits(_) | Behaviour::CutsNetwork) => {
                Health::Healthy
            }
        }
    }

    fn joined(&self, network: &str) -> bool {
        self.containers
            .borrow()
            .values()
            .any(|one| one.spec.networks.iter().any(|(name, _)| name == network))
    }

    fn is_there(&self, id: &str, what: &str) -> Result<(), EngineError> {
        if self.containers.borrow().contains_key(id) {
            return Ok(());
        }
        Err(EngineError::Refused {
            what: what.to_owned(),
            cause: Box::new(std::io::Error::from(std::io::ErrorKind::NotFound)),
        })
    }

    fn change<T>(
        &self,
        what: String,
        act: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.answers()?;
        self.note();
        let done = self
            .faults
            .effect(what.clone(), act, |cause| EngineError::Failed {
                what,
                cause: Box::new(cause),
            });
        self.tell_network();
        done
    }

    /// Remembers what is there, for a power cut after the change that comes.
    fn note(&self) {
        let now = Instant::now();
        let mut before = self.before.borrow_mut();
        before.retain(|(at, _)| now.duration_since(*at) < CACHED);
        before.push((now, self.disk()));
    }

    fn look(&self, what: &str) -> Result<(), EngineError> {
        self.answers()?;
        self.faults.look(what, |cause| EngineError::Failed {
            what: what.to_owned(),
            cause: Box::new(cause),
        })
    }

    fn answers(&self) -> Result<(), EngineError> {
        if self.down.get() {
            return Err(EngineError::Down {
                socket: "memory".to_owned(),
                cause: None,
            });
        }
        Ok(())
    }
}

/// What an engine shows of a container that was made from this.
fn facts(spec: &ContainerSpec) -> Facts {
    let service = &spec.service;
    let networks: Vec<&String> = spec.networks.iter().map(|(name, _)| name).collect();
    Facts::from([
        ("environment".to_owned(), json!(service.environment)),
        ("labels".to_owned(), json!(service.labels)),
        (
            "command".to_owned(),
            json!(service.command.clone().unwrap_or_default()),
        ),
        ("networks".to_owned(), json!(networks)),
        ("privileged".to_owned(), json!(service.privileged)),
        ("read_only".to_owned(), json!(service.read_only)),
        (
            "user".to_owned(),
            json!(service.user.clone().unwrap_or_default()),
        ),
    ])
}

fn image_id(image: &str) -> String {
    format!("id of {image}")
}
