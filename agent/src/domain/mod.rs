//! Words only: what the rooms above talk about. No I/O, no clock, no decisions.

pub mod agent;
pub mod baseline;
pub mod commit;
pub mod container;
pub mod desired;
pub mod device_report;
pub mod history;
pub mod hold;
pub mod metered;
pub mod observed;
pub mod oci;
pub mod outcome;
pub mod published;
pub mod resource;
pub mod revision;
pub mod storage;
pub mod text;
pub mod tree;
