#!/usr/bin/env bash
# Plays the life of a fleet on this machine: a thousand agents in one process, the real loop with the real git source over
# HTTPS, half of them against one real git server, half against a real web server with the published tree. Checks a first start,
# promotions, a bad revision, waves, half the fleet cut off, and an outage; ends red where one of them does not hold, and prints what it
# cost. Some six minutes on two processors that have nothing else to do.
#
#     tests/fleet.sh [DEVICES]        1,000 where none is given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}

packaging/prerequisites.sh build git ssh web
# Optimised, and with the device in memory, which no release has.
cargo build --profile torture --package evenkeel --bin evenkeel --package evenkeel-tests --bin fleet </dev/null
# Each agent keeps a connection, and a client that waits for it.
ulimit -n "$(ulimit -Hn)"
exec env "EVENKEEL_TEST_BINARY=$target/torture/evenkeel" "$target/torture/fleet" "$@"
