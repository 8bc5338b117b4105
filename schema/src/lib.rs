//! What a fleet repository and agent.toml may say.
//!
//! Bytes in, validated values out; every problem at once, each with file, line and column. No I/O and no async.

pub mod agent_config;
pub mod agent_release;
pub mod app;
pub mod decode;
pub mod device;
pub mod diagnostic;
pub mod document;
pub mod duration;
pub mod fleet;
pub mod group;
pub mod image;
pub mod json_schema;
pub mod name;
pub mod node;
pub mod path;
pub mod promotion;
pub mod rollout;
pub mod service;
pub mod size;
pub mod source_text;
pub mod toml_document;
pub mod yaml_document;
