#!/usr/bin/env bash
# Prints what the agent costs on this machine: the release binary's size, and memory, threads, descriptors and bytes
# written while it polls a git server and nothing changes.
#
#     tests/measure.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

packaging/prerequisites.sh build git web engine busybox
cargo build --release --package evenkeel </dev/null
cargo build --package evenkeel-tests --bin measure </dev/null
exec tests/run.sh --with env "EVENKEEL_TEST_BINARY=$target/release/evenkeel" "$target/debug/measure"
