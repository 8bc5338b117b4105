//! A container's health, also where the engine never asks for it.
//!
//! Docker runs the declared test by itself. Podman hands it to systemd's timers: without systemd it says "starting"
//! for ever. Then the test is run from here, under the rules of Docker: every `interval`; a failure in the start period
//! does not count; `retries` failures in a row make it unhealthy, one success makes it healthy.

use std::time::Duration;

use bollard::models::{Health as ApiHealth, HealthConfig};
use evenkeel_schema::service::Service;
use tokio::time::Instant;

use super::{BollardEngine, CALL, Client, Kind, observe, short};
use crate::domain::observed::{Checkup, Health, ObservedContainer};
use crate::domain::text;
use crate::port::engine::EngineError;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// What is known of a container whose health only we ask for.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// The start that this is about: another start begins anew.
    started_at: String,
    begun: Instant,
    last: Option<Instant>,
    failures: u32,
    verdict: Health,
    /// How the last test ended, where it did not pass.
    said: Option<String>,
}

/// The rules of one health check.
struct Rules {
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    retries: u32,
    start_period: Duration,
}

fn rules(check: &HealthConfig) -> Option<Rules> {
    let test = check.test.as_ref()?;
    let command = match test.first().map(String::as_str) {
        Some("CMD") => test[1..].to_vec(),
        Some("CMD-SHELL") => vec!["/bin/sh".to_owned(), "-c".to_owned(), test[1..].join(" ")],
        Some(_) | None => return None,
    };
    let span = |nanos: Option<i64>, default: Duration| {
        nanos
            .and_then(|nanos| u64::try_from(nanos).ok())
            .filter(|nanos| *nanos > 0)
            .map_or(default, Duration::from_nanos)
    };
    Some(Rules {
        command,
        interval: span(check.interval, INTERVAL),
        timeout: span(check.timeout, TIMEOUT),
        retries: check
            .retries
            .and_then(|retries| u32::try_from(retries).ok())
            .filter(|retries| *retries > 0)
            .unwrap_or(RETRIES),
        start_period: span(check.start_period, Duration::ZERO),
    })
}

impl Probe {
    fn new(started_at: &str, now: Instant) -> Self {
        Self {
            started_at: started_at.to_owned(),
            begun: now,
            last: None,
            failures: 0,
            verdict: Health::Starting,
            said: None,
        }
    }

    fn is_due(&self, rules: &Rules, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.duration_since(last) >= rules.interval)
    }

    /// Takes one result in. The very first test comes at once, earlier than Docker's: only its success counts.
    fn take(&mut self, passed: Result<(), String>, rules: &Rules, now: Instant) {
        let first = self.last.is_none();
        self.last = Some(now);
        match passed {
            Ok(()) => {
                self.failures = 0;
                self.verdict = Health::Healthy;
                self.said = None;
            }
            Err(said) => {
                self.said = Some(said);
                let starting = self.verdict == Health::Starting;
                let graced = now.duration_since(self.begun) < rules.start_period || first;
                if starting && graced {
                    return;
                }
                self.failures += 1;
                if self.failures >= rules.retries {
                    self.verdict = Health::Unhealthy;
                }
            }
        }
    }
}

impl BollardEngine {
    /// The verdict of our own tests, where the engine has none.
    pub(super) fn known_health(&self, engine_id: &str, started_at: &str, told: Health) -> Health {
        let probes = self.probes.borrow();
        match (told, probes.get(engine_id)) {
            (Health::Starting, Some(probe)) if probe.started_at == started_at => probe.verdict,
            (told, _) => told,
        }
    }

    pub(super) async fn health_now(
        &self,
        container: &ObservedContainer,
        service: &Service,
    ) -> Result<Checkup, EngineError> {
        if self.events.is_as_told(container) {
            return Ok(container.health.into());
        }
        let client = self.client().await?;
        let id = &container.engine_id;
        let found = self
            .call(
                || format!("look at the container {}", short(id)),
                CALL,
                self.inspect(&client.docker, id),
            )
            .await?;
        // The engine's view has the declaration's test merged with the image's. But Podman's Docker API splits the
        // words of a `CMD` test at their blanks (seen with 4.3), so what was declared is taken from the declaration.
        let mut check = found
            .config
            .and_then(|config| config.healthcheck)
            .unwrap_or_default();
        let declared = service
            .healthcheck
            .as_ref()
            .and_then(|check| check.test.clone());
        if declared.is_some() {
            check.test = declared;
        }
        let state = found.state.unwrap_or_default();
        let told = observe::health(
            observe::has_test(check.test.as_ref()),
            state.health.as_ref().and_then(|health| health.status),
        );
        let runs = state.running.unwrap_or_default();
        match (told, client.kind, rules(&check)) {
            (Health::Starting, Kind::Podman, Some(rules)) if runs => {
                let started_at = state.started_at.unwrap_or_default();
                self.probe(&client, id, &started_at, &rules).await
            }
            (Health::None | Health::Healthy, _, _) => Ok(told.into()),
            (Health::Starting | Health::Unhealthy, _, _) => Ok(Checkup {
                health: told,
                said: state.health.and_then(last_test),
            }),
        }
    }

    async fn probe(
        &self,
        client: &Client,
        id: &str,
        started_at: &str,
        rules: &Rules,
    ) -> Result<Checkup, EngineError> {
        let now = Instant::now();
        let mut probe = self
            .probes
            .borrow()
            .get(id)
            .filter(|probe| probe.started_at == started_at)
            .cloned()
            .unwrap_or_else(|| Probe::new(started_at, now));
        if probe.is_due(rules, now) {
            let passed = self
                .run_inside(client, id, &rules.command, rules.timeout)
                .await?;
            probe.take(passed, rules, now);
        }
        let checkup = Checkup {
            health: probe.verdict,
            said: probe.said.clone(),
        };
        self.probes.borrow_mut().insert(id.to_owned(), probe);
        Ok(checkup)
    }
}

/// How the newest test of the engine's own ended, where it did not pass.
fn last_test(health: ApiHealth) -> Option<String> {
    let last = health.log?.pop()?;
    match last.exit_code.unwrap_or_default() {
        0 => None,
        code => Some(text::ended(
            code,
            last.output.unwrap_or_default().as_bytes(),
        )),
    }
}
