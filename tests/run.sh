#!/usr/bin/env bash
# Runs every test of the workspace against real parts: git, nginx, sshd, a registry, Docker and (where it runs) Podman.
#
#     tests/run.sh [ARGUMENT...]        arguments go to the test runner, a part of a test's name for instance
#     tests/run.sh --with COMMAND...    runs a command of yours in the same surroundings instead
#
# EVENKEEL_TEST_PROFILE=torture builds with that profile of Cargo.toml instead of dev's.
#
# With no arguments it also builds the agent for ARM and runs the suites that matter there under qemu-user (tests/arm.sh).
#
# It installs what is missing, builds, and starts private engines in namespaces of their own (packaging/with-engine.sh),
# which end with it. Tests run as root in there, without any network but loopback.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:/usr/sbin:/sbin"
profile=${EVENKEEL_TEST_PROFILE:-dev}
# Which suites of which processors: as much as some minutes are good for.
ARM=(armv7:core)

# --- inside: the engines run -----------------------------------------------------------------------------------------

if [ "${1:-}" = --inside ]; then
    shift
    export EVENKEEL_TEST_DOCKER=$PRIVATE_DOCKER
    export CARGO_NET_OFFLINE=true
    skip=()
    if [ -n "${PRIVATE_PODMAN:-}" ]; then
        export EVENKEEL_TEST_PODMAN=$PRIVATE_PODMAN
    else
        # Tests that need Podman have it in their names; the runner then counts them as not run.
        skip=(--skip podman)
    fi
    if [ "${1:-}" = --with ]; then
        shift
        exec "$@"
    fi

    # What the fault tests count, for the table at the end.
    if [ -z "${EVENKEEL_TORTURE_DIR:-}" ]; then
        EVENKEEL_TORTURE_DIR=$(mktemp -d)
        export EVENKEEL_TORTURE_DIR
        trap 'rm -rf "$EVENKEEL_TORTURE_DIR"' EXIT
    fi
    rc=0 arm_said=''
    runner_arguments=() test_arguments=()
    while [ $# -gt 0 ]; do
        if [ "$1" = -- ]; then
            shift
            test_arguments=("$@")
            break
        fi
        runner_arguments+=("$1")
        shift
    done
    test_arguments+=("${skip[@]}")
    [ ${#test_arguments[@]} -eq 0 ] || test_arguments=(-- "${test_arguments[@]}")

    if [ ${#runner_arguments[@]} -eq 0 ]; then
        # First, so that the test runner's own summary is the last thing that is printed.
        cargo test --quiet --workspace --doc </dev/null || rc=$?
        if [ -z "${EVENKEEL_ARM_ABSENT:-}" ]; then
            arm_said=$(tests/arm.sh --tests "${ARM[@]}") || rc=$?
        fi
    fi
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --cargo-profile "$profile" --workspace --no-fail-fast "${runner_arguments[@]}" "${test_arguments[@]}" </dev/null || rc=$?
    else
        cargo test --profile "$profile" --workspace --all-targets --no-fail-fast "${runner_arguments[@]}" "${test_arguments[@]}" </dev/null || rc=$?
    fi
    tests/torture.sh --table "$EVENKEEL_TORTURE_DIR" || rc=$?
    [ -z "$arm_said" ] || echo "ARM, before the others:"$'\n'"$arm_said" >&2
    if [ -n "${EVENKEEL_ARM_ABSENT:-}" ]; then
        echo "ARM: $EVENKEEL_ARM_ABSENT; no test was run on ARM binaries" >&2
    fi
    if [ -n "${PRIVATE_PODMAN_ABSENT:-}" ]; then
        echo "podman: does not run here, because $PRIVATE_PODMAN_ABSENT; the tests that need it were not run" >&2
    fi
    [ "$rc" = 0 ] || echo "tests/run.sh: failed" >&2
    exit "$rc"
fi

# --- outside: install, build, start ----------------------------------------------------------------------------------

packaging/prerequisites.sh build git openpgp ssh web registry engine busybox systemd machine faults deb rpm oci prometheus compose lintian first-boot
packaging/prerequisites.sh podman || echo "tests/run.sh: goes on without podman" >&2

if [ "${1:-}" != --with ]; then
    # All of it in one go: the tests run the binary, and a second set of features would build the packages twice.
    cargo build --profile "$profile" --workspace --all-targets </dev/null
fi
if [ $# -eq 0 ]; then
    if tests/arm.sh --tools "${ARM[@]}"; then
        tests/arm.sh --build "${ARM[@]}"
    else
        echo "tests/run.sh: goes on without the ARM binaries" >&2
        export EVENKEEL_ARM_ABSENT="what builds and runs them cannot be had here (the reason is above)"
    fi
fi
exec packaging/with-engine.sh --podman "$PWD/tests/run.sh" --inside "$@"
