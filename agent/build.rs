//! Tells the binary when it was built: no true clock shows less, so it is the first time floor of a device. And for which
//! architecture: a device takes the agent's next binary for the same one.
//!
//! `SOURCE_DATE_EPOCH` (reproducible builds) wins over the time of the build.
#![expect(
    clippy::disallowed_methods,
    reason = "the build's own time is what this is for"
)]

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // Without a file of its own cargo would run this for each changed source, and compile the crate anew.
    println!("cargo::rerun-if-changed=build.rs");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let time = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok())
        .unwrap_or(now);
    println!("cargo::rustc-env=EVENKEEL_BUILD_TIME={time}");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=EVENKEEL_ARCH={}", arch(&target));
}

/// The architecture as `[agent.binaries]` in a fleet repository names it: a target's first part says too much of some (`riscv64gc`),
/// and of others not what their users call them (`arm` is ARMv6 there).
fn arch(target: &str) -> &str {
    match target.split('-').next().unwrap_or_default() {
        "arm" | "armv6k" => "armv6",
        "armv7" | "thumbv7neon" => "armv7",
        "riscv64gc" | "riscv64a23" => "riscv64",
        other => other,
    }
}
