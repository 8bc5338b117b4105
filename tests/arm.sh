#!/usr/bin/env bash
# Runs the suites that another processor could break on the ARM binaries, under qemu-user:
#
#     tests/arm.sh [TARGET...]        aarch64 and armv7 where none is named; also armv6, x86_64, riscv64
#
# It builds them (packaging/cross-build.sh, with the profile `cross-test`: a release without its slow optimisations) and
# runs the tests beside private engines, as tests/run.sh does; EVENKEEL_ARM_PROFILE=release takes the binaries that
# devices get instead. Git, ssh-keygen, nginx and the engines are the machine's own; `evenkeel` is the ARM one. qemu-user
# passes system calls on to this kernel: what it shows is the program, not a disk or a board.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
profile=${EVENKEEL_ARM_PROFILE:-cross-test}
test_profile=${EVENKEEL_TEST_PROFILE:-dev}

# Parts of tests' names. Not among them: what links the agent's library into the test, which is this machine's then.
SUITES=(
    arm:: verify:: rollback:: offline:: heal:: daemon:: openpgp::device
    cli::status_plan_and_history cli::verify_gives cli::a_running_agent
    converge::a_first_pass converge::an_update_touches converge::removed_apps converge::settings_reach
    converge::docker_gets converge::a_device_follows
)

# Name, triple, emulator, and what the file's header must say.
rows() {
    cat <<'END'
aarch64 aarch64-unknown-linux-musl qemu-aarch64-static AArch64
armv7 armv7-unknown-linux-musleabihf qemu-arm-static ARM
armv6 arm-unknown-linux-musleabihf qemu-arm-static|-cpu|arm1176 ARM
x86_64 x86_64-unknown-linux-musl qemu-x86_64-static X86-64
riscv64 riscv64gc-unknown-linux-musl qemu-riscv64-static RISC-V
END
}

row() {
    rows | grep "^$1 " || {
        echo "tests/arm.sh: there is no target '$1'" >&2
        exit 2
    }
}

case "${1:-}" in
    --build)
        shift
        packaging/prerequisites.sh qemu-user
        exec packaging/cross-build.sh --profile "$profile" "$@"
        ;;
    --tests)
        shift
        ;;
    *)
        [ $# -gt 0 ] || set -- aarch64 armv7
        for name in "$@"; do row "$name" >/dev/null; done
        tests/arm.sh --build "$@"
        cargo build --profile "$test_profile" --workspace --test suites </dev/null
        exec tests/run.sh --with tests/arm.sh --tests "$@"
        ;;
esac

skip=()
[ -n "${EVENKEEL_TEST_PODMAN:-}" ] || skip=(--skip podman)
rc=0
for name in "$@"; do
    read -r _ triple emulator machine < <(row "$name")
    binary=$target_dir/$triple/$profile/evenkeel
    header=$(readelf --file-header --program-headers "$binary")
    if ! grep -q "Machine: .*$machine" <<<"$header" || grep -q INTERP <<<"$header"; then
        echo "tests/arm.sh: $binary is no static program for $name" >&2
        exit 1
    fi
    # A file to run in place of the agent: `exec` leaves the process id, signals and descriptors as they are.
    wrapper=$target_dir/$triple/$profile/evenkeel-under-qemu
    printf '#!/bin/sh\nexec %s %q "$@"\n' "${emulator//|/ }" "$binary" >"$wrapper"
    chmod +x "$wrapper"
    echo
    echo "== $name under ${emulator//|/ }: $("$wrapper" --version), $(stat -c %s "$binary") bytes"
    if cargo nextest --version >/dev/null 2>&1; then
        EVENKEEL_TEST_BINARY=$wrapper cargo nextest run --cargo-profile "$test_profile" --workspace --test suites --no-fail-fast \
            -- "${SUITES[@]}" "${skip[@]}" </dev/null || rc=$?
    else
        EVENKEEL_TEST_BINARY=$wrapper cargo test --profile "$test_profile" --workspace --test suites --no-fail-fast \
            -- "${SUITES[@]}" "${skip[@]}" </dev/null || rc=$?
    fi
done
exit "$rc"
