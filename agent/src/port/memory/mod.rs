//! A device in memory: a twin of every port, over one state that outlives the agent.
//!
//! The world is faked here, never the trust: commits carry real signatures, documents go through the real `resolve`.
//! Every change that a twin makes is an effect of [`Faults`], which counts them and lets one of them fail, lie or end
//! the agent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at a surprise"
)]

mod engine;
mod faults;
mod files;
mod journal;
mod source;
mod starts;
mod world;

pub(crate) use engine::{Behaviour, MemoryEngine};
pub(crate) use faults::{Fault, Faults};
pub(crate) use files::MemoryFiles;
pub(crate) use journal::MemoryJournal;
pub(crate) use source::{MemorySource, Mirror};
pub(crate) use starts::MemoryStarts;
pub(crate) use world::{DEVICE, Heard, MemoryWorld};
