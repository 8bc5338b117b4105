//! Opening this device: configuration, state directory, adapters. Only here do the loop and the adapters meet.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use evenkeel_schema::agent_config::{AgentConfig, Managed, TrustSection, WindowSection};
use evenkeel_schema::name::DeviceId;

pub(super) use super::configuration::{configuration, configuration_at};
use super::credentials;
use super::limits::limits;
use super::{ConfigArgs, code, fail, machine};
use crate::adapter::clock::SystemClock;
use crate::adapter::engine::BollardEngine;
use crate::adapter::files::RootedFiles;
use crate::adapter::git::GitSource;
use crate::adapter::journal::{Opened, Store};
use crate::adapter::probes::NetworkProbes;
use crate::adapter::report::Hub;
use crate::adapter::state_dir::{Binding, StateDir, StateDirError};
use crate::adapter::units::Systemctl;
use crate::adapter::upgrades::{Generations, Started};
use crate::adapter::{left, link};
use crate::cycle::{Agent, Interrupt, Session, Settings};
use crate::domain::metered::Link;
use crate::domain::outcome::Report;
use crate::domain::revision::Timestamp;
use crate::domain::storage::Storage;
use crate::domain::text::chain;
use crate::port::World;
use crate::port::clock::Clock as _;
use crate::port::journal::Journal as _;
use crate::port::reporter::{Event, Reporter as _};
use crate::port::source::Reach;
use crate::schedule::window::Windows;
use crate::trust::policy::{NamedBytes, TrustPolicy};

/// The longest configuration or trust file in bytes.
const LONGEST_FILE: u64 = 4 * 1024 * 1024;

/// Why a device could not be opened or asked: an exit code and one sentence with the next move.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: String,
    lock: Lock,
}

/// Whether a failure is that somebody else holds the device's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Ours,
    Others,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl Failure {
    /// Wrong usage or configuration.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: code::USAGE,
            message: message.into(),
            lock: Lock::Ours,
        }
    }

    /// Worth trying again.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self {
            code: code::FAILED,
            message: message.into(),
            lock: Lock::Ours,
        }
    }

    /// Whether another evenkeel works on the same state just now.
    pub(super) fn is_busy(&self) -> bool {
        self.lock == Lock::Others
    }

    /// Whether a person has to change something first.
    pub(super) fn is_usage(&self) -> bool {
        self.code == code::USAGE
    }

    /// The exit code.
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Tells it on stderr, and gives back the exit code.
    pub(super) fn tell(&self) -> u8 {
        fail(self.code, &self.message)
    }
}

/// What a verb needs of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Its memory alone.
    State,
    /// A usable trust policy, too: no keys, no start.
    Trust,
}

/// A device with everything open, under its lock.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) agent: Agent<Outside>,
    pub(super) hub: Rc<Hub>,
    pub(super) state_dir: PathBuf,
    /// Why nothing is trusted now, where the trust files cannot be used: what is good is kept all the same.
    pub(super) untrusted: Option<String>,
    // Held until the end: the lock goes with it.
    _state: StateDir,
}

impl Device {
    /// The agent's own binaries, as it was started.
    pub(super) fn generations(&self, started: &Started) -> Generations {
        let world = &self.agent.world;
        let downloads = world.source.downloads();
        Generations::new(
            &self.state_dir,
            started,
            env!("CARGO_PKG_VERSION"),
            downloads,
        )
    }

    /// Who says which version of the agent runs.
    pub(super) const fn managed(&self) -> Managed {
        self.agent.world.config.managed
    }

    /// Its configuration.
    pub(super) const fn config(&self) -> &AgentConfig {
        &self.agent.world.config
    }

    /// At the process's end: nothing is left to close that a failing disk could make fail.
    pub(super) fn leave(&self) {
        self.agent.world.journal.leave();
    }
}

/// The outside of a real device.
#[derive(Debug)]
pub(super) struct Outside {
    source: GitSource,
    engine: BollardEngine,
    files: RootedFiles,
    units: Systemctl,
    journal: Store,
    reporter: Rc<Hub>,
    clock: SystemClock,
    probes: NetworkProbes,
    config: AgentConfig,
}

impl World for Outside {
    type Source = GitSource;
    type Engine = BollardEngine;
    type Files = RootedFiles;
    type Units = Systemctl;
    type Journal = Store;
    type Reporter = Hub;
    type Clock = SystemClock;
    type Probes = NetworkProbes;

    fn source(&self) -> &GitSource {
        &self.source
    }
    fn engine(&self) -> &BollardEngine {
        &self.engine
    }
    fn files(&self) -> &RootedFiles {
        &self.files
    }
    fn units(&self) -> &Systemctl {
        &self.units
    }
    fn journal(&self) -> &Store {
        &self.journal
    }
    fn reporter(&self) -> &Hub {
        &self.reporter
    }
    fn clock(&self) -> &SystemClock {
        &self.clock
    }
    fn probes(&self) -> &NetworkProbes {
        &self.probes
    }
    async fn link(&self) -> Link {
        link::metered().await
    }
    fn policy(&self) -> Result<TrustPolicy, String> {
        policy(&self.config)
    }
}

/// The wall clock, for showing how long ago something was.
pub(super) fn now() -> Timestamp {
    SystemClock::new().now()
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(std::io::Error::other(format!(
            "it is larger than {LONGEST_FILE} bytes"
        )));
    }
    Ok(bytes)
}

/// The trust policy of a configuration, read from its files.
pub(super) fn policy(config: &AgentConfig) -> Result<TrustPolicy, String> {
    let trust = &config.trust;
    let file = |path: &Path, what: &str| {
        read(path).map_err(|error| format!("cannot read {what} {}: {error}", path.display()))
    };
    let signers = match read(&trust.allowed_signers) {
        // Who signs with OpenPGP alone has no such file, and nothing names another one.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && trust.openpgp_keyring.is_some()
                && trust.allowed_signers == TrustSection::default().allowed_signers =>
        {
            Ok(Vec::new())
        }
        read => read,
    }
    .map_err(|error| {
        format!(
            "cannot read trust.allowed_signers {}: {error}\nhint: name there who may sign, one `principal \
             namespaces=\"git\" ssh-ed25519 AAAA...` a line",
            trust.allowed_signers.display()
        )
    })?;
    let revoked = match &trust.revoked {
        Some(path) => Some((path.display().to_string(), file(path, "trust.revoked")?)),
        None => None,
    };
    let keyring = match &trust.openpgp_keyring {
        Some(path) => Some((
            path.display().to_string(),
            file(path, "trust.openpgp_keyring")?,
        )),
        None => None,
    };
    let policy = TrustPolicy::load(
        trust,
        &config.source.branch,
        NamedBytes {
            name: &trust.allowed_signers.display().to_string(),
            bytes: &signers,
        },
        revoked
            .as_ref()
            .map(|(name, bytes)| NamedBytes { name, bytes }),
        &jiff::tz::TimeZone::system(),
    )
    .map_err(|error| chain(&error))?;
    match &keyring {
        Some((name, bytes)) => policy
            .with_keyring(NamedBytes { name, bytes })
            .map_err(|error| chain(&error)),
        None => Ok(policy),
    }
}

fn host_name() -> Option<DeviceId> {
    let name = rustix::system::uname();
    name.nodename().to_str().ok()?.parse().ok()
}

fn device_id(config: &AgentConfig) -> Result<DeviceId, Failure> {
    match &config.device.id {
        Some(id) => Ok(id.clone()),
        None => host_name().ok_or_else(|| {
            Failure::usage("the host name cannot be a device id: set `id` under [device]")
        }),
    }
}

/// The configuration and the id of a device, with nothing opened.
pub(super) fn identified(args: &ConfigArgs) -> Result<(AgentConfig, DeviceId), Failure> {
    let config = configuration(args)?;
    device_id(&config).map(|device| (config, device))
}

/// The configuration and the id of a device whose state directory is there, whether its agent runs or not.
pub(super) fn named(args: &ConfigArgs) -> Result<(AgentConfig, DeviceId), Failure> {
    match enter(args, Need::State) {
        Ok(Entered {
            renamed: Some(why), ..
        }) => Err(Failure::usage(why)),
        Ok(entered) => Ok((entered.config, entered.device)),
        Err(failure) if failure.is_busy() => identified(args),
        Err(failure) => Err(failure),
    }
}

/// A device whose lock is taken, so that no other agent works on the same state. Its memory is not opened yet.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) config: AgentConfig,
    config_file: PathBuf,
    doubts: Vec<String>,
    untrusted: Option<String>,
    state: StateDir,
    pub(super) device: DeviceId,
    renamed: Option<String>,
}

/// Opens the device whole.
pub(super) fn open(args: &ConfigArgs, need: Need) -> Result<Device, Failure> {
    enter(args, need)?.open(Rc::new(Hub::new(Report::default())))
}

/// Takes the device's lock.
pub(super) fn enter(args: &ConfigArgs, need: Need) -> Result<Entered, Failure> {
    let config = configuration(args)?;
    if need == Need::Trust && left::is_set(&config.state_dir) {
        return Err(Failure::usage(left::WHY));
    }
    let (doubts, untrusted) = match need {
        Need::Trust => match policy(&config) {
            Ok(policy) => (policy.warnings(), None),
            // A device that has run before goes on keeping what is good, and takes nothing new; a new one does not start.
            Err(why) if config.state_dir.exists() => (Vec::new(), Some(why)),
            Err(why) => return Err(Failure::usage(why)),
        },
        Need::State => (Vec::new(), None),
    };
    let mut state = StateDir::open(&config.state_dir).map_err(|error| match error {
        StateDirError::Locked { .. } => Failure {
            lock: Lock::Others,
            ..Failure::failed(chain(&error))
        },
        _ => match Storage::behind(&error) {
            // Of the moment, not of the configuration.
            Some(storage) => Failure::failed(storage.explain(chain(&error))),
            None => Failure::usage(chain(&error)),
        },
    })?;
    let device = device_id(&config)?;
    let renamed = match state
        .bind_device(&device)
        .map_err(|error| Failure::failed(chain(&error)))?
    {
        Binding::First | Binding::Same => None,
        Binding::Changed(was) => Some(format!(
            "this device was `{was}` at its first start and is called `{device}` now: set `id` under [device] to \
             what it is, or give it a new state directory"
        )),
    };
    Ok(Entered {
        config,
        config_file: args.config.clone(),
        doubts,
        untrusted,
        state,
        device,
        renamed,
    })
}

impl Entered {
    /// Opens what the device remembers, and everything else.
    pub(super) fn open(self, hub: Rc<Hub>) -> Result<Device, Failure> {
        let Self {
            config,
            config_file,
            doubts,
            untrusted,
            state,
            device,
            renamed,
        } = self;
        let Opened {
            journal,
            damaged,
            warnings,
        } = Store::open(&state).map_err(|error| {
            let message = format!("{}: {}", config.state_dir.display(), chain(&error));
            Failure::failed(match Storage::behind(&error) {
                Some(storage) => storage.explain(message),
                None => message,
            })
        })?;
        if let Some(why) = &untrusted
            && journal.ledger().last_good().is_none()
        {
            return Err(Failure::usage(why));
        }
        let section = credentials::source(&config);
        let source = GitSource::new(&section, config.state_dir.join("git"))
            .map_err(|error| Failure::usage(chain(&error)))?;
        // From the first moment on: what it goes on from may be of another branch, or of none.
        let report = Report {
            device: device.to_string(),
            branch: config.source.branch.clone(),
            ..journal.ledger().report.unwrap_or_default()
        };
        hub.go_on_from(report.clone());
        let of_the_directory = state.warnings().to_vec();
        let told = [damaged, untrusted.clone()].into_iter().flatten();
        for warning in of_the_directory
            .into_iter()
            .chain(credentials::missing(&config))
            .chain(told)
            .chain(warnings)
            .chain(doubts)
        {
            hub.tell(&Event::Notice(warning));
        }
        let renamed = renamed.or_else(|| machine::copied(&config.state_dir));
        let settings = settings(&config, &config_file, device.clone(), renamed)?;
        let state_dir = config.state_dir.clone();
        let engine = BollardEngine::connect(&config.engine.socket, &device, &config.root)
            .remembering(&config.state_dir)
            .logging_in(credentials::registries(&config))
            .restarting(config.engine.restart)
            .carrying(source.carried());
        let world = Outside {
            source,
            engine,
            files: RootedFiles::new(&config.root, &state),
            units: Systemctl::new(),
            journal,
            reporter: Rc::clone(&hub),
            clock: SystemClock::new(),
            probes: NetworkProbes::new(&config.root),
            config,
        };
        Ok(Device {
            agent: Agent {
                world,
                settings,
                session: Session::from_report(report),
                interrupt: Rc::new(Interrupt::default()),
            },
            hub,
            state_dir,
            untrusted,
            _state: state,
        })
    }
}

/// The windows with their zone, as this system knows it.
fn windows(section: &WindowSection) -> Result<Windows, Failure> {
    let zone = match &section.timezone {
        None => jiff::tz::TimeZone::system(),
        Some(name) => jiff::tz::TimeZone::get(name).map_err(|error| {
            Failure::usage(format!(
                "window.timezone: `{}` is no time zone that this system knows: {error}\nhint: write one of those below \
                 /usr/share/zoneinfo, such as Europe/Vienna; where that folder is missing, install tzdata",
                name.escape_debug()
            ))
        })?,
    };
    Ok(Windows {
        apply: section.apply.clone(),
        download: section.download.clone(),
        zone,
        grace: section.grace,
        now: section.now,
    })
}

fn settings(
    config: &AgentConfig,
    config_file: &Path,
    device: DeviceId,
    renamed: Option<String>,
) -> Result<Settings, Failure> {
    let pin = match &config.trust.pin {
        Some(text) => Some(
            text.parse()
                .map_err(|error| Failure::usage(format!("trust.pin: {error}")))?,
        ),
        None => None,
    };
    let local = config
        .source
        .urls
        .iter()
        .all(|url| url.starts_with("file:") || url.starts_with('/'));
    Ok(Settings {
        device,
        renamed,
        labels: config.device.labels.clone(),
        branch: config.source.branch.clone(),
        limits: limits(config, config_file),
        fleet: config.trust.fleet.clone(),
        machine: machine::id(),
        floor: config.trust.floor,
        pin,
        interval: config.source.interval,
        confirm: config.source.confirm,
        max_age: config.trust.max_age,
        stale: config.trust.stale,
        metered: config.metered.clone(),
        remote: if local { Reach::Local } else { Reach::Network },
        windows: windows(&config.window)?,
    })
}
