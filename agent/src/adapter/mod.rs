//! The outside, each part behind its port. Adapters see ports and domain, never each other and never the loop.

pub mod engine;
pub mod git;
pub mod git_local;
