//! What it answers: the port's own side.

use std::collections::BTreeMap;
use std::time::Duration;

use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::{AppName, DeviceId};
use evenkeel_schema::service::{Network, Service, Volume};

use super::{Container, MemoryEngine, facts, image_id};
use crate::domain::container::ContainerSpec;
use crate::domain::observed::{
    Checkup, EngineView, Health, ObservedContainer, ObservedImage, Owned, RunState,
};
use crate::domain::outcome::PullProgress;
use crate::domain::resource::ServiceId;
use crate::port::Retry;
use crate::port::engine::{Dropped, Engine, EngineError};

impl Engine for MemoryEngine {
    async fn observe(
        &self,
        device: &DeviceId,
        images: &[ImageRef],
        adopted: &BTreeMap<String, ServiceId>,
    ) -> Result<EngineView, EngineError> {
        self.look("observe")?;
        if self.hangs.get() {
            std::future::pending::<()>().await;
        }
        let mut view = EngineView::default();
        for (engine_id, one) in self.containers.borrow().iter() {
            let is_ours = one.spec.device == *device;
            let Some(id) = adopted
                .get(engine_id)
                .or_else(|| is_ours.then_some(&one.spec.id))
            else {
                view.foreign_container_names.push(one.spec.name.clone());
                continue;
            };
            let image = &one.spec.service.image;
            let seen = ObservedContainer {
                engine_id: engine_id.clone(),
                name: one.spec.name.clone(),
                // What is no label of ours does not say what it was made from.
                config: is_ours.then(|| one.spec.config.clone()),
                image_id: image_id(image.as_str()),
                state: one.state.clone(),
                restart: one.restart.clone(),
                restarts: 0,
                oom_killed: false,
                started_at: one.starts.to_string(),
                health: self.health_of(&one.spec.service),
                facts: one.facts.clone(),
            };
            view.containers.entry(id.clone()).or_default().push(seen);
        }
        view.foreign_container_names
            .extend(self.foreign.borrow().iter().cloned());
        view.networks = self.networks.borrow().clone();
        for (name, owned) in &mut view.networks {
            owned.in_use = owned.app.is_none() || self.joined(name);
        }
        view.volumes = self.volumes.borrow().clone();
        let pulled = self.images.borrow();
        for image in images.iter().filter(|one| pulled.contains(one.as_str())) {
            let seen = ObservedImage {
                id: image_id(image.as_str()),
                ..ObservedImage::default()
            };
            view.images.insert(image.to_string(), seen);
            if self.unsettled.borrow().contains(image.as_str()) {
                view.unsettled.insert(image.to_string());
            }
        }
        Ok(view)
    }

    async fn is_at_hand(&self, image: &ImageRef) -> bool {
        self.at_hand.borrow().contains(image.as_str())
    }

    async fn pull(
        &self,
        image: &ImageRef,
        progress: &mut dyn FnMut(&PullProgress),
    ) -> Result<(), EngineError> {
        self.answers()?;
        let is_here = self.images.borrow().contains(image.as_str());
        let is_whole = !self.damaged.borrow().contains(image.as_str());
        let settle = || {
            self.unsettled.borrow_mut().remove(image.as_str());
            Ok(())
        };
        let broken = |cause: std::io::Error| EngineError::Image {
            image: image.to_string(),
            retry: Retry::Later,
            cause: Box::new(cause),
        };
        if is_here && is_whole && self.unsettled.borrow().contains(image.as_str()) {
            return self
                .faults
                .effect(format!("settle {image}"), settle, broken);
        }
        self.pulls.set(self.pulls.get() + 1);
        while self.hanging.borrow().contains(image.as_str()) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let (pieces, each) = self.pieces.get();
        for piece in 1..=pieces {
            if !each.is_zero() {
                tokio::time::sleep(each).await;
            }
            let weight = self.weight.get();
            let layer = (piece * weight, pieces * weight);
            progress(&PullProgress::from([("layer".to_owned(), layer)]));
        }
        if !self.registry.get() {
            return Err(broken(std::io::ErrorKind::TimedOut.into()));
        }
        if !is_here {
            self.pulled.borrow_mut().insert(image.to_string());
        }
        let arrive = || {
            self.images.borrow_mut().insert(image.to_string());
            self.damaged.borrow_mut().remove(image.as_str());
            self.unsettled.borrow_mut().insert(image.to_string());
            Ok(())
        };
        self.note();
        self.faults
            .effect(format!("pull {image}"), arrive, broken)?;
        self.faults
            .effect(format!("settle {image}"), settle, broken)
    }

    async fn stirred(&self) {
        self.stirred.notified().await;
    }

    fn pulled(&self) -> Vec<String> {
        self.pulled.borrow().iter().cloned().collect()
    }

    async fn drop_image(&self, image: &str) -> Result<Dropped, EngineError> {
        self.answers()?;
        let used = |one: &super::Container| one.spec.service.image.as_str() == image;
        if self.containers.borrow().values().any(used) {
            return Ok(Dropped::InUse);
        }
        let drop = || {
            self.images.borrow_mut().remove(image);
            self.pulled.borrow_mut().remove(image);
            Ok(())
        };
        let broken = |cause: std::io::Error| EngineError::Failed {
            what: format!("remove the image {image}"),
            cause: Box::new(cause),
        };
        self.note();
        self.faults.effect(format!("drop {image}"), drop, broken)?;
        Ok(Dropped::Gone)
    }

    async fn create_network(
        &self,
        name: &str,
        _device: &DeviceId,
        app: &AppName,
        _key: &str,
        _network: &Network,
        config: &str,
    ) -> Result<(), EngineError> {
        self.change(format!("make network {name}"), || {
            let owned = Owned {
                app: Some(app.to_string()),
                config: Some(config.to_owned()),
                in_use: false,
            };
            self.networks.borrow_mut().insert(name.to_owned(), owned);
            Ok(())
        })
    }

    async fn create_volume(
        &self,
        name: &str,
        _device: &DeviceId,
        app: &AppName,
        _key: &str,
        _volume: &Volume,
        config: &str,
    ) -> Result<(), EngineError> {
        self.change(format!("make volume {name}"), || {
            let owned = Owned {
                app: Some(app.to_string()),
                config: Some(config.to_owned()),
                in_use: false,
            };
            self.volumes.borrow_mut().insert(name.to_owned(), owned);
            Ok(())
        })
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.change(format!("remove network {name}"), || {
            assert!(!self.joined(name), "{name} has containers on it");
            self.networks.borrow_mut().remove(name);
            Ok(())
        })
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.change(format!("remove volume {name}"), || {
            self.volumes.borrow_mut().remove(name);
            Ok(())
        })
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.change(format!("make {}", spec.name), || {
            let ours = self.containers.borrow();
            let taken = ours.values().any(|one| one.spec.name == spec.name);
            assert!(!taken, "the name {} is taken", spec.name);
            drop(ours);
            let image = spec.service.image.as_str();
            assert!(
                self.images.borrow().contains(image),
                "{image} was not pulled"
            );
            if self.damaged.borrow().contains(image) {
                self.unsettled.borrow_mut().insert(image.to_owned());
                return Err(EngineError::Damaged {
                    image: image.to_owned(),
                    cause: "it lost bytes".into(),
                });
            }
            for (network, _) in &spec.networks {
                assert!(
                    self.networks.borrow().contains_key(network),
                    "no network {network} for {}",
                    spec.name
                );
            }
            self.made.set(self.made.get() + 1);
            let id = format!("made-{}", self.made.get());
            let container = Container {
                spec: spec.clone(),
                state: RunState::Created,
                restart: "no".to_owned(),
                starts: 0,
                facts: facts(spec),
            };
            self.containers.borrow_mut().insert(id.clone(), container);
            Ok(id)
        })
    }

    async fn rename(&self, engine_id: &str, name: &str) -> Result<(), EngineError> {
        self.change(format!("name {engine_id} {name}"), || {
            self.is_there(engine_id, "rename")?;
            let mut containers = self.containers.borrow_mut();
            let taken = containers.values().any(|one| one.spec.name == name);
            assert!(!taken, "the name {name} is taken");
            containers.get_mut(engine_id).unwrap().spec.name = name.to_owned();
            Ok(())
        })
    }

    async fn start(&self, engine_id: &str) -> Result<(), EngineError> {
        self.change(format!("start {engine_id}"), || {
            self.is_there(engine_id, "start")?;
            if self.kept.get() {
                return Err(EngineError::PortKept {
                    port: "8080".to_owned(),
                    others: self.others.borrow().clone(),
                    unit: Some("docker.service"),
                    cause: "port is already allocated".into(),
                });
            }
            let running = self.containers.borrow()[engine_id].state == RunState::Running;
            if !running {
                self.begin(engine_id);
            }
            Ok(())
        })
    }

    async fn stop(&self, engine_id: &str, grace: Duration) -> Result<(), EngineError> {
        tokio::time::sleep(grace.min(Duration::from_secs(1))).await;
        self.change(format!("stop {engine_id}"), || {
            self.set_state(engine_id, RunState::Exited(143));
            Ok(())
        })
    }

    async fn restart(&self, engine_id: &str, _grace: Duration) -> Result<(), EngineError> {
        self.change(format!("restart {engine_id}"), || {
            self.is_there(engine_id, "restart")?;
            self.begin(engine_id);
            Ok(())
        })
    }

    async fn signal(&self, engine_id: &str, signal: &str) -> Result<(), EngineError> {
        self.change(format!("signal {engine_id} {signal}"), || {
            self.is_there(engine_id, "signal")
        })
    }

    async fn remove(&self, engine_id: &str) -> Result<(), EngineError> {
        self.change(format!("remove {engine_id}"), || {
            self.containers.borrow_mut().remove(engine_id);
            Ok(())
        })
    }

    async fn set_restart(&self, engine_id: &str, policy: &str) -> Result<(), EngineError> {
        self.change(format!("arm {engine_id} {policy}"), || {
            self.is_there(engine_id, "arm")?;
            let mut containers = self.containers.borrow_mut();
            containers.get_mut(engine_id).unwrap().restart = policy.to_owned();
            Ok(())
        })
    }

    async fn has_inside(&self, engine_id: &str, _path: &str) -> Result<bool, EngineError> {
        self.look("look into a container")?;
        let containers = self.containers.borrow();
        let locked = self.locked.borrow();
        Ok(containers
            .get(engine_id)
            .is_some_and(|one| locked.contains(&one.spec.id)))
    }

    async fn run_in(
        &self,
        engine_id: &str,
        command: &[String],
        _timeout: Duration,
    ) -> Result<Result<(), String>, EngineError> {
        self.look("run a command")?;
        let runs = self
            .containers
            .borrow()
            .get(engine_id)
            .is_some_and(|one| one.state == RunState::Running);
        Ok(if runs && command != ["false"] {
            Ok(())
        } else {
            Err("ended with 1".to_owned())
        })
    }

    async fn health(
        &self,
        _container: &ObservedContainer,
        service: &Service,
    ) -> Result<Checkup, EngineError> {
        self.look("ask about health")?;
        let health = self.health_of(service);
        Ok(Checkup {
            health,
            said: (health == Health::Unhealthy).then(|| "ended with 1: not well".to_owned()),
        })
    }
}
