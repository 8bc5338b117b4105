//! What breaks, in the world and on the disk, and how a device ends after it: at the new revision, healthy, or at the last
//! good one. `tests/torture.sh` runs all of it and prints one table.

mod bombs;
mod boot;
mod clock;
mod corrupt;
pub(crate) mod disk;
mod engine;
mod images;
mod kept_port;
mod network;
mod power;
mod sigkill;
mod soak;
