//! A device in memory: a twin of every port, over one state that outlives the agent.
//!
//! The world is faked here, never the trust: commits carry real signatures, documents go through the real `resolve`.
//! Every change that a twin makes is an effect of [`Faults`], which counts them and lets one of them fail, lie or end
//! the agent.

#![cfg_attr(
    not(test),
    allow(
        dead_code,
        reason = "a simulated fleet needs the twins; what breaks them is for the tests of this crate"
    )
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

mod engine;
mod faults;
mod files;
mod journal;
mod ports;
#[cfg(test)]
mod source;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod world;

#[cfg(test)]
pub(crate) use engine::Behaviour;
pub use engine::MemoryEngine;
#[cfg(test)]
pub(crate) use faults::Fault;
pub(crate) use faults::Faults;
pub use files::MemoryFiles;
pub use journal::MemoryJournal;
pub use ports::{MemoryPorts, MemoryProbes, MemoryUnits};
#[cfg(test)]
pub(crate) use source::{MemorySource, Mirror};
#[cfg(test)]
pub(crate) use starts::MemoryStarts;
#[cfg(test)]
pub(crate) use world::{DEVICE, Heard, MemoryWorld};
