#!/usr/bin/env bash
# Prints what a poll costs a git server over smart HTTP, and a web server with a published tree: requests, bytes each way, the
# servers' processor time, and what that makes for a million devices.
#
#     tests/polls.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

packaging/prerequisites.sh build git web
cargo build --package evenkeel </dev/null
cargo build --package evenkeel-tests --bin polls </dev/null
EVENKEEL_TEST_BINARY="$target/debug/evenkeel" exec "$target/debug/polls"
