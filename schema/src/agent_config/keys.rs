//! The keys of agent.toml: the one table for its reader and for JSON Schema.

use crate::service::keys::{Key, Shape, key, refused};

const TEXTS: Shape = Shape::List(&Shape::Text);

/// The keys of agent.toml.
pub const KEYS: &[Key] = &[
    key(
        "state_dir",
        Shape::Text,
        "Where the agent keeps its state; /var/lib/evenkeel",
    ),
    key(
        "root",
        Shape::Text,
        "Declared paths and sources of bind mounts land under it; /",
    ),
    key("device", Shape::Table(DEVICE), "This device"),
    key("source", Shape::Table(SOURCE), "Where revisions come from"),
    key("trust", Shape::Table(TRUST), "Who may sign"),
    key("guard", Shape::Table(GUARD), "What no signature can unlock"),
    key("engine", Shape::Table(ENGINE), "The container engine"),
    key("agent", Shape::Table(AGENT), "The agent itself"),
    key(
        "window",
        Shape::Table(super::window::KEYS),
        "When changes may be applied, and images downloaded",
    ),
    key("metered", Shape::Table(METERED), "Metered connections"),
    key(
        "report",
        Shape::Table(REPORT),
        "Who is told how the device is",
    ),
];

pub(super) const REPORT: &[Key] = &[
    key(
        "dir",
        Shape::Text,
        "A folder, such as a network mount or a stick, that a signed report is put into as <id>.report when something changed",
    ),
    key(
        "every",
        Shape::Duration,
        "The longest time between two reports where nothing changes; 1h",
    ),
    refused(
        "http",
        "remove it: `evenkeel status` tells how the device is, and `dir` takes signed reports",
    ),
    refused("otlp", "remove it: `dir` takes signed reports"),
    refused("webhook", "remove it: `dir` takes signed reports"),
];

pub(super) const DEVICE: &[Key] = &[
    key("id", Shape::Text, "The device's id; the host name"),
    key(
        "labels",
        Shape::Map(&Shape::Scalar),
        "Labels that groups match",
    ),
];

pub(super) const SOURCE: &[Key] = &[
    key(
        "url",
        Shape::AnyOf(&[
            Shape::Text,
            Shape::List(&Shape::AnyOf(&[Shape::Text, Shape::Table(REMOTE)])),
        ]),
        "The repository: https, http, ssh or file; or a published tree: static+https, or a folder as a file; or a list that is \
         asked in order, of which the first that answers wins",
    ),
    key("branch", Shape::Text, "The branch that this device follows"),
    key("interval", Shape::Duration, "Time between polls; 60s"),
    key(
        "confirm",
        Shape::Duration,
        "After a change a network remote has to answer within this, or the change goes back; 0s: it is not asked; 1m",
    ),
    key(
        "token_file",
        Shape::Text,
        "A file with a bearer token, or with the password of the URL's user, for the host of the first http remote; or \
         credential:NAME, as each file of this section",
    ),
    key("ssh_key", Shape::Text, "A private key for ssh"),
    key(
        "known_hosts",
        Shape::Text,
        "The host keys that are accepted for ssh",
    ),
    key("client_cert", Shape::Text, "A client certificate, PEM"),
    key(
        "client_key",
        Shape::Text,
        "The client certificate's key, PEM",
    ),
    key(
        "ca_file",
        Shape::Text,
        "The only authorities that are trusted for the remote, PEM",
    ),
];

pub(super) const REMOTE: &[Key] = &[
    key(
        "url",
        Shape::Text,
        "The repository: https, http, ssh or file",
    ),
    key(
        "token_file",
        Shape::Text,
        "This remote's own bearer token, or the password of its URL's user",
    ),
];

pub(super) const TRUST: &[Key] = &[
    key(
        "allowed_signers",
        Shape::Text,
        "OpenSSH allowed_signers; /etc/evenkeel/allowed_signers",
    ),
    key(
        "openpgp_keyring",
        Shape::Text,
        "Certificates of those who sign with OpenPGP, armored or binary; a build without OpenPGP refuses it",
    ),
    key(
        "verify",
        Shape::Words(&["tip", "every-commit"]),
        "Which commits are judged: the tip, or each from the floor to it; tip",
    ),
    key(
        "on_unsigned",
        Shape::Words(&["hold", "advance-before"]),
        "What a refused commit below the tip does, with every-commit; hold",
    ),
    key(
        "bind_branch",
        Shape::Bool,
        "Whether the tip must carry `Fleet-Branch: <branch>`; false",
    ),
    key(
        "approvals",
        Shape::Integer,
        "How many distinct principals must have signed the tree for this branch; 1",
    ),
    key(
        "floor",
        Shape::Words(&["good", "seen"]),
        "What a tip must descend from; good",
    ),
    key(
        "pin",
        Shape::Text,
        "The first commit that is taken descends from this one",
    ),
    key("fleet", Shape::Text, "What fleet.toml must name"),
    key("revoked", Shape::Text, "A list of revoked public keys"),
    key(
        "max_age",
        Shape::Duration,
        "A tip older than this raises `Stale`",
    ),
    key(
        "stale",
        Shape::Words(&["report", "hold"]),
        "What a stale branch does: it is reported, or holds new changes, too; report",
    ),
    key(
        "branches",
        Shape::Map(&Shape::Table(BRANCH)),
        "Who may sign which branch",
    ),
    key(
        "heartbeat",
        Shape::Table(HEARTBEAT),
        "Who may only say that a branch is alive",
    ),
    key(
        "root",
        Shape::Table(ROOT),
        "Who may change trust/allowed_signers in the repository",
    ),
];

pub(super) const BRANCH: &[Key] = &[key(
    "signers",
    TEXTS,
    "Patterns of the principals that may sign",
)];

pub(super) const HEARTBEAT: &[Key] =
    &[key("signers", TEXTS, "Patterns of the principals that may")];

pub(super) const ROOT: &[Key] = &[
    key("signers", TEXTS, "Patterns of the principals that may"),
    key(
        "threshold",
        Shape::Integer,
        "How many distinct principals of these must have signed; 1",
    ),
];

pub(super) const GUARD: &[Key] = &[
    key(
        "paths",
        TEXTS,
        "Where files, and the sources of mounts, may be",
    ),
    key(
        "devices",
        TEXTS,
        "Patterns of the device nodes that containers may have",
    ),
    key("units", TEXTS, "Patterns of the units that may be touched"),
    key("images", TEXTS, "Patterns of the images that may run"),
    key(
        "privileged",
        Shape::Bool,
        "Whether containers may have the host's privileges; false",
    ),
    key(
        "commands",
        Shape::Bool,
        "Whether `command` checks may run; false",
    ),
];

pub(super) const ENGINE: &[Key] = &[
    key("socket", Shape::Text, "auto, or unix:///...; auto"),
    key(
        "auth_file",
        Shape::Text,
        "Logins at registries, in the form of Docker's config.json; or credential:NAME",
    ),
    key(
        "restart",
        Shape::Words(&["auto", "never"]),
        "auto: Docker's service is restarted where it keeps a port for a container that is gone, and no container of anybody \
         else's runs; or never",
    ),
];

pub(super) const AGENT: &[Key] = &[key(
    "managed",
    Shape::Words(&["repository", "package"]),
    "Who says which version of the agent runs: `[agent]` in the repository, or the package manager alone; repository",
)];

pub(super) const METERED: &[Key] = &[
    key(
        "when",
        Shape::Words(&["auto", "always", "never"]),
        "When the link is metered: as NetworkManager says, always or never; auto",
    ),
    key(
        "git",
        Shape::AnyOf(&[Shape::Text, TEXTS]),
        "What git and the agent's own binaries may take, as 5MB/day, 100MB/month or a list of both",
    ),
    key(
        "images",
        Shape::AnyOf(&[Shape::Text, TEXTS]),
        "What pulls of images may take, as 2GB/month",
    ),
    key(
        "rate",
        Shape::Text,
        "How fast the agent itself fetches, as 200kB/s; the engine pulls images at its own pace",
    ),
];
