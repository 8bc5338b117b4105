//! evenkeel.
fn main() {}
