#!/usr/bin/env bash
# From a fresh Debian 12 with curl, git and a Rust toolchain to the whole story in one command:
#
#     packaging/quickstart.sh
#
# It installs what is missing, builds the release binary, and runs `evenkeel demo`. An engine that answers on this
# machine is used as it is; otherwise a private one is started for the demo and ends with it. Where no engine can be
# had, the demo shows its file half. The exit code is the demo's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"

# Docker's API at this socket?
answers() { curl --silent --fail --max-time 3 --unix-socket "$1" http://engine/_ping >/dev/null 2>&1; }

# --- inside: beside a private engine ----------------------------------------------------------------------------------

if [ "${1:-}" = --inside ]; then
    if [ -n "${PRIVATE_DOCKER:-}" ]; then
        exec "$2" demo --engine "$PRIVATE_DOCKER"
    fi
    exec "$2" demo
fi

# --- outside ----------------------------------------------------------------------------------------------------------

echo "quickstart: 1/3 what is needed"
packaging/prerequisites.sh build git
engine=''
for socket in /var/run/docker.sock /run/podman/podman.sock; do
    if [ -S "$socket" ] && answers "$socket"; then
        engine="unix://$socket"
        break
    fi
done
if [ -z "$engine" ]; then
    packaging/prerequisites.sh engine || echo "quickstart: no engine could be installed; going on without one" >&2
    # Where a service manager starts what was just installed, that one is used.
    if [ -d /run/systemd/system ] && [ "$(id -u)" = 0 ] && systemctl start docker >/dev/null 2>&1 &&
        answers /var/run/docker.sock; then
        engine=unix:///var/run/docker.sock
    fi
fi

echo "quickstart: 2/3 building (the first time takes some minutes)"
cargo build --release --package evenkeel </dev/null
binary=${CARGO_TARGET_DIR:-$PWD/target}/release/evenkeel

echo "quickstart: 3/3 the demo"
if [ -n "$engine" ]; then
    echo "quickstart: with the engine at $engine"
    exec "$binary" demo --engine "$engine"
fi
if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "quickstart: without an engine, since starting one needs root" >&2
    exec "$binary" demo
fi
echo "quickstart: with a private Docker, which ends with the demo"
exec packaging/with-engine.sh --optional "$PWD/packaging/quickstart.sh" --inside "$binary"
