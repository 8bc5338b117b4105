//! `/etc/evenkeel/agent.toml`: what the device's owner decides.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::name::DeviceId;

mod credential;
mod keys;
mod metered;
mod read;
mod window;

pub use credential::{CredentialName, FileAt, NotACredentialName};
pub use keys::KEYS;
pub use metered::{Allowance, MeteredSection, MeteredWhen, Per};
pub use read::parse;
pub use window::{NotASpan, NowPolicy, Span, WindowSection};

/// The whole of agent.toml, validated, with its defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// Where the agent keeps its state; `/var/lib/evenkeel`.
    pub state_dir: PathBuf,
    /// Declared file paths and the sources of bind mounts land under it; `/`.
    pub root: PathBuf,
    /// `[device]`.
    pub device: DeviceSection,
    /// `[source]`, with its files as they are written.
    pub source: SourceSection<FileAt>,
    /// `[trust]`.
    pub trust: TrustSection,
    /// `[guard]`.
    pub guard: GuardSection,
    /// `[engine]`.
    pub engine: EngineSection,
    /// `[window]`.
    pub window: WindowSection,
    /// `agent.managed`.
    pub managed: Managed,
    /// `[report]`.
    pub report: ReportSection,
    /// `[metered]`.
    pub metered: MeteredSection,
}

/// `[report]`: who is told how the device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSection {
    /// A folder that signed reports are put into.
    pub dir: Option<PathBuf>,
    /// The longest time between two of them; 1 h.
    pub every: Duration,
}

impl Default for ReportSection {
    fn default() -> Self {
        Self {
            dir: None,
            every: Duration::from_secs(3600),
        }
    }
}

/// `agent.managed`: who says which version of the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Managed {
    /// `[agent]` in the repository (the default).
    #[default]
    Repository,
    /// The package manager alone.
    Package,
}

/// `[device]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceSection {
    /// The device's id; the host name where none is given.
    pub id: Option<DeviceId>,
    /// Labels that groups match; those signed in `devices/<id>.toml` win.
    pub labels: BTreeMap<String, String>,
}

/// A link that comes up again after its configuration changed, a modem's too, is up within this; and a change that cuts the device
/// off costs no more than this of its time.
pub const DEFAULT_CONFIRM: Duration = Duration::from_secs(60);

/// `[source]`. `F` is how its files are named: as they are written ([`FileAt`]), or by their paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSection<F = PathBuf> {
    /// Remotes in the order in which they are asked: https, http, ssh or file URLs.
    pub urls: Vec<String>,
    /// The branch.
    pub branch: String,
    /// Time between polls, before jitter; 60 s.
    pub interval: Duration,
    /// After a change a network remote has to answer within this, or the change goes back; 1 min. Zero: nobody asks.
    pub confirm: Duration,
    /// A file with a bearer token, or with the password where the URL names a user. For the host of the first http remote.
    pub token_file: Option<F>,
    /// The same for one remote, by its URL as it stands in `urls`.
    pub tokens: BTreeMap<String, F>,
    /// A private key for ssh.
    pub ssh_key: Option<F>,
    /// Pinned host keys for ssh.
    pub known_hosts: Option<F>,
    /// Client certificate chain, PEM.
    pub client_cert: Option<F>,
    /// Client certificate's key, PEM.
    pub client_key: Option<F>,
    /// The only CAs that are trusted for the remote, PEM.
    pub ca_file: Option<F>,
}

impl<F> SourceSection<F> {
    /// A remote and a branch, and for all else what stands where nothing is written.
    #[must_use]
    pub fn at(url: impl Into<String>, branch: &str) -> Self {
        Self {
            urls: vec![url.into()],
            branch: branch.to_owned(),
            interval: Duration::from_secs(60),
            confirm: DEFAULT_CONFIRM,
            token_file: None,
            tokens: BTreeMap::new(),
            ssh_key: None,
            known_hosts: None,
            client_cert: None,
            client_key: None,
            ca_file: None,
        }
    }
}

/// `[trust]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSection {
    /// OpenSSH allowed_signers.
    pub allowed_signers: PathBuf,
    /// Certificates of those who sign with OpenPGP.
    pub openpgp_keyring: Option<PathBuf>,
    /// What the floor is.
    pub floor: FloorPolicy,
    /// The first commit ever taken must descend from this one (full id).
    pub pin: Option<String>,
    /// What `fleet.toml` must name.
    pub fleet: Option<String>,
    /// What counts no more: an OpenSSH KRL, or public keys, one a line.
    pub revoked: Option<PathBuf>,
    /// The tip's signed message must carry `Fleet-Branch: <branch>`.
    pub bind_branch: bool,
    /// Who may sign a branch: principal patterns by branch.
    pub branches: BTreeMap<String, Vec<String>>,
    /// A tip older than this raises `Stale`.
    pub max_age: Option<Duration>,
    /// What a stale branch does beyond raising the condition.
    pub stale: StalePolicy,
    /// Which commits are judged.
    pub verify: Verify,
    /// What a refused commit between the floor and the tip does.
    pub on_unsigned: OnUnsigned,
    /// How many distinct principals must have signed a tree for the branch, the commit's own signer among them; at least 1.
    pub approvals: usize,
    /// Who may only say that a branch is alive: principal patterns; empty: nobody.
    pub heartbeat: Vec<String>,
    /// Who may change the trust set in the repository; `None`: nobody, and it is not looked at.
    pub root: Option<RootSection>,
}

impl Default for TrustSection {
    fn default() -> Self {
        Self {
            allowed_signers: PathBuf::from("/etc/evenkeel/allowed_signers"),
            openpgp_keyring: None,
            floor: FloorPolicy::default(),
            pin: None,
            fleet: None,
            revoked: None,
            bind_branch: false,
            branches: BTreeMap::new(),
            max_age: None,
            stale: StalePolicy::default(),
            verify: Verify::default(),
            on_unsigned: OnUnsigned::default(),
            approvals: 1,
            heartbeat: Vec::new(),
            root: None,
        }
    }
}

/// `[trust.root]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSection {
    /// Patterns of principals.
    pub signers: Vec<String>,
    /// How many distinct principals of these must have signed a trust set; at least 1.
    pub threshold: usize,
}

/// `trust.verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The tip (the default).
    #[default]
    Tip,
    /// Each commit from the floor to the tip.
    EveryCommit,
}

/// `trust.on_unsigned`, with `verify = "every-commit"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnsigned {
    /// The device stays where it is (the default).
    #[default]
    Hold,
    /// The device goes to the last good commit before it, along first parents.
    AdvanceBefore,
}

/// `trust.stale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StalePolicy {
    /// It is told (the default).
    #[default]
    Report,
    /// New changes are refused, too.
    Hold,
}

/// `trust.floor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FloorPolicy {
    /// The newest commit that became good here (the default).
    #[default]
    Good,
    /// The newest commit that was verified here.
    Seen,
}

/// `[guard]`: what no signature can unlock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GuardSection {
    /// Paths of files and mount sources that are allowed; `None`: any but the protected ones.
    pub paths: Option<Vec<String>>,
    /// Patterns of host devices; `None`: any but disks and memory.
    pub devices: Option<Vec<String>>,
    /// Patterns of units; `None`: any but our own.
    pub units: Option<Vec<String>>,
    /// Patterns of images; `None`: any.
    pub images: Option<Vec<String>>,
    /// Whether privileged containers, added capabilities, host namespaces and the engine's socket are allowed.
    pub privileged: bool,
    /// Whether `command` checks are allowed.
    pub commands: bool,
}

/// `[engine]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSection {
    /// `auto` (Docker's socket, then Podman's) or `unix:///...`.
    pub socket: String,
    /// Logins at registries, in the form of Docker's `config.json`.
    pub auth_file: Option<FileAt>,
    /// `engine.restart`.
    pub restart: EngineRestart,
}

/// `engine.restart`: what is done with an engine that nothing but a restart mends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineRestart {
    /// It is restarted where no container of anybody else's runs in it (the default).
    #[default]
    Auto,
    /// It is left to a person.
    Never,
}
