//! Answers as text and as JSON: pure functions over data.

pub mod answer;
pub mod history;
pub mod plan;
pub mod status;
mod style;
#[cfg(test)]
mod tests;
pub mod trust;

pub use style::Style;
pub(super) use style::span;
