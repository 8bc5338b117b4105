//! Asking whether apps work: their checks, and the device's own health scripts.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::{Check, Probe};
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::path::AbsPath;
use futures_util::future::join_all;

use super::Agent;
use super::session::chain;
use crate::domain::desired::DesiredState;
use crate::domain::observed::{ObservedState, Seen};
use crate::domain::resource::ServiceId;
use crate::gate::Probed;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::engine::Engine as _;
use crate::port::files::Files as _;
use crate::port::probes::{Need, Probes as _};
use crate::port::reporter::{Event, Reporter as _};
use crate::port::units::Units as _;

/// How much of a file is looked through. A status file is small; more would be read every half second.
const MOST_OF_FILE: u64 = 1 << 20;

/// What the device's own scripts said.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Those that must pass, did not, and were not excused: their paths, and why.
    pub(super) required: Vec<(String, String)>,
}

impl<W: World> Agent<W> {
    /// Runs those checks that are wanted, all at once.
    pub(super) async fn probe_all(
        &self,
        state: &DesiredState,
        observed: &ObservedState,
        wanted: impl Fn(&AppName, usize) -> bool,
    ) -> BTreeMap<(AppName, usize), Probed> {
        let mut asked = Vec::new();
        for (app, desired) in &state.apps {
            for (index, check) in desired.checks.iter().enumerate() {
                if wanted(app, index) {
                    asked.push(async move {
                        let probed = match self.probe(app, check, observed).await {
                            Ok(()) => Probed::Passed,
                            Err(why) => Probed::Failed(why),
                        };
                        ((app.clone(), index), probed)
                    });
                }
            }
        }
        join_all(asked).await.into_iter().collect()
    }

    async fn probe(
        &self,
        app: &AppName,
        check: &Check,
        observed: &ObservedState,
    ) -> Result<(), String> {
        match &check.probe {
            Probe::Unit(unit) => match self.world.units().is_active(unit).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("unit {unit} is not active")),
                Err(error) => Err(error.to_string()),
            },
            Probe::File(path) => self
                .ask_file(path, check)
                .map_err(|why| format!("file {path}: {why}")),
            Probe::Exec(service, command) => self
                .ask_inside(app, service, command, check, observed)
                .await
                .map_err(|why| format!("command in service {service}: {why}")),
            Probe::Tcp(_) | Probe::Http(_) | Probe::Command(_) => {
                self.world.probes().run(check).await
            }
        }
    }

    async fn ask_inside(
        &self,
        app: &AppName,
        service: &ServiceName,
        command: &[String],
        check: &Check,
        observed: &ObservedState,
    ) -> Result<(), String> {
        let id = ServiceId {
            app: app.clone(),
            service: service.clone(),
        };
        let container = match &observed.engine {
            Seen::Present(view) => view.containers.get(&id).and_then(|all| all.first()),
            Seen::Absent => None,
            Seen::Unknown(why) => return Err(why.clone()),
        };
        let Some(container) = container else {
            return Err("it has no container".to_owned());
        };
        let engine = self.world.engine();
        match engine
            .run_in(&container.engine_id, command, check.timeout)
            .await
        {
            Ok(ended) => ended,
            Err(error) => Err(chain(&error)),
        }
    }

    fn ask_file(&self, path: &AbsPath, check: &Check) -> Result<(), String> {
        let files = self.world.files();
        let written = match files.written(path) {
            Ok(Some(written)) => written,
            Ok(None) => return Err("is not there".to_owned()),
            Err(error) => return Err(chain(&error)),
        };
        if let Some(most) = check.expect.max_age {
            let age = self.world.clock().now().0.saturating_sub(written.0);
            if u64::try_from(age).is_ok_and(|age| age > most.as_secs()) {
                return Err(format!(
                    "was written {age} s ago, and {} is allowed",
                    evenkeel_schema::duration::text(most)
                ));
            }
        }
        let Some(text) = &check.expect.contains else {
            return Ok(());
        };
        let Some(content) = files.read(path, MOST_OF_FILE) else {
            return Err(format!(
                "is no file of at most {MOST_OF_FILE} bytes that can be read"
            ));
        };
        if crate::domain::text::holds(&content, text) {
            Ok(())
        } else {
            Err(format!("does not have `{}` in it", text.escape_debug()))
        }
    }

    /// Runs the device's own scripts. Those that must pass are told by the caller, all others here.
    pub(super) async fn run_scripts(&self, excused: &BTreeSet<String>) -> Ran {
        let mut ran = Ran::default();
        let probes = self.world.probes();
        for script in probes.scripts() {
            self.world.reporter().tell(&Event::Alive);
            let Err(why) = probes.run_script(&script).await else {
                continue;
            };
            let why = format!("{}: {why}", script.path);
            match script.need {
                Need::Required if !excused.contains(&script.path) => {
                    ran.required.push((script.path, why));
                }
                Need::Required | Need::Wanted => self.session.notice(&self.world, &why),
            }
        }
        ran
    }
}
