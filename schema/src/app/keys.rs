//! The keys of app.toml: the one table for its reader and for JSON Schema.

use crate::service::keys::{self, Key, Shape, key};

/// The keys of app.toml.
pub const KEYS: &[Key] = &[
    key(
        "files",
        Shape::List(&Shape::Table(FILE)),
        "Files on the device",
    ),
    key(
        "services",
        Shape::Map(&Shape::Table(keys::SERVICE)),
        "Containers, with the keys of the Compose Specification",
    ),
    key(
        "networks",
        Shape::Map(&Shape::AnyOf(&[Shape::Null, Shape::Table(keys::NETWORK)])),
        "Networks of the app",
    ),
    key(
        "volumes",
        Shape::Map(&Shape::AnyOf(&[Shape::Null, Shape::Table(keys::VOLUME)])),
        "Volumes of the app",
    ),
    key(
        "configs",
        Shape::Map(&Shape::Table(keys::CONFIG)),
        "Files for containers",
    ),
    key(
        "secrets",
        Shape::Map(&Shape::Table(keys::SECRET)),
        "Files for containers, whose content is never shown",
    ),
    key(
        "checks",
        Shape::List(&Shape::Table(CHECK)),
        "What \"this app works\" means beyond its containers' health",
    ),
    key("gate", Shape::Table(GATE), "When the app counts as good"),
    key(
        "lock",
        Shape::Text,
        "While something is at this path of the device, no change stops or restarts the app",
    ),
    key(
        "max_hold",
        Shape::Duration,
        "An update lock of the app that is held for longer is reported; 1d",
    ),
    key(
        "requires",
        Shape::List(&Shape::Text),
        "Apps of this device that are up before this one's containers begin, and that go after them",
    ),
    key(
        "hooks",
        Shape::Table(HOOKS),
        "Services of this app that run once around a change, and not otherwise",
    ),
];

/// The keys of the hooks.
pub const HOOKS: &[Key] = &[
    key(
        "before_update",
        Shape::Text,
        "Runs before a change of the app; where it fails, nothing is changed, and the revision is put off",
    ),
    key(
        "after_update",
        Shape::Text,
        "Runs once the changed app was healthy through its soak; where it fails, the device goes back",
    ),
    key(
        "on_failure",
        Shape::Text,
        "Runs where the change was found unhealthy, before the device goes back",
    ),
    key(
        "before_rollback",
        Shape::Text,
        "Of the revision gone back to: runs once what changes was stopped, before it is put back",
    ),
    key(
        "deadline",
        Shape::Duration,
        "How long each of them may take; 2m",
    ),
];

/// The keys of one file.
pub const FILE: &[Key] = &[
    key(
        "path",
        Shape::Text,
        "The file's absolute path on the device",
    ),
    key(
        "source",
        Shape::Text,
        "A file in this folder that is its content",
    ),
    key(
        "content",
        Shape::Text,
        "Its content itself, instead of `source`",
    ),
    key(
        "template",
        Shape::Bool,
        "Whether the source is a template in Jinja's syntax; false",
    ),
    key(
        "mode",
        Shape::Text,
        "Permission bits in base 8, as text; \"0644\"",
    ),
    key("owner", Shape::Text, "Owner, by name or number; root"),
    key("group", Shape::Text, "Group, by name or number; root"),
    key(
        "on_change",
        Shape::List(&Shape::Text),
        "What a change makes happen: `restart:service:NAME`, `signal:HUP:service:NAME`, `restart:unit:NAME`, `reload:unit:NAME`",
    ),
    key(
        "on_remove",
        Shape::Words(&["delete", "restore", "keep"]),
        "What happens when it is no longer declared; delete",
    ),
];

const STATUS: Shape = Shape::AnyOf(&[Shape::Integer, Shape::Text]);

/// The keys of one check.
pub const CHECK: &[Key] = &[
    key("tcp", Shape::Text, "`host:port` that accepts a connection"),
    key(
        "http",
        Shape::Text,
        "A URL that answers with a status of 200 to 399, or with `status`",
    ),
    key(
        "command",
        Shape::List(&Shape::Text),
        "A command on the device that ends with 0; in a container with `service`",
    ),
    key("unit", Shape::Text, "A systemd unit that is active"),
    key("file", Shape::Text, "A file on the device that is there"),
    key(
        "service",
        Shape::Text,
        "The service in whose container `command` runs",
    ),
    key(
        "status",
        Shape::AnyOf(&[STATUS, Shape::List(&STATUS)]),
        "The status that `http` answers with: 204, \"200-299\" or a list of such",
    ),
    key(
        "contains",
        Shape::Text,
        "What the body that `http` answers with, or the `file`, has in it",
    ),
    key(
        "max_age",
        Shape::Duration,
        "How long ago the `file` may have been written",
    ),
    key("timeout", Shape::Duration, "How long one try may take; 5s"),
];

/// The keys of the gate.
pub const GATE: &[Key] = &[
    key(
        "deadline",
        Shape::Duration,
        "Not healthy by then: the device goes back; 2m",
    ),
    key(
        "soak",
        Shape::Duration,
        "Healthy for this long before it is called good; 10s",
    ),
];
