#!/usr/bin/env bash
# Takes one agent (the release build, with a container) through thousands of passes with churn: new revisions, edits by hand,
# refusals, rollbacks, a server that is away. Prints what it costs all the while, and ends red where something grows.
#
#     tests/soak.sh [PASSES]        10,000 where none is given: a week of polls
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

packaging/prerequisites.sh build git web engine busybox
cargo build --release --package evenkeel </dev/null
cargo build --package evenkeel-tests --bin soak </dev/null
exec tests/run.sh --with env "EVENKEEL_TEST_BINARY=$target/release/evenkeel" "$target/debug/soak" "$@"
