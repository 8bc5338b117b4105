//! One file a verb. stdout is the answer, stderr the talk.

pub mod demo;
pub mod show;
pub mod verify;
