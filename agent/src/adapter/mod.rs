//! The outside, each part behind its port. Adapters see ports and domain, never each other and never the loop.
//!
//! `durable`, `room`, `part`, `twin`, `state_dir`, `identity`, `git_objects` and `registry_auth` are what they stand on: our own
//! files, room for them, files that come in parts, the device's key, git's objects, and logins at registries, with no port of
//! their own.

pub mod clock;
pub(crate) mod durable;
pub mod engine;
pub mod files;
pub mod git;
pub mod git_local;
mod git_objects;
pub mod identity;
pub mod journal;
pub mod left;
pub mod link;
pub mod oci_layout;
pub(crate) mod part;
pub mod probes;
pub mod prometheus;
pub mod registry;
pub mod registry_auth;
pub mod report;
pub mod reports;
pub(crate) mod room;
pub mod starts;
pub mod state_dir;
pub(crate) mod twin;
pub mod units;
pub mod upgrades;
