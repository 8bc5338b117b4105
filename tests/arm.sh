#!/usr/bin/env bash
# Runs the suites that another processor could break on the ARM binaries, under qemu-user:
#
#     tests/arm.sh [TARGET[:SUITES]...]     aarch64 and armv7 where none is named; also armv6, x86_64, riscv64
#
# SUITES is `core` (signatures, sync over HTTPS, rollback, the journal), `some` (more of the same, and containers) or
# `all`, which is what a name alone means. tests/run.sh has aarch64:some and armv7:core. What was run, and how it went,
# is the last thing that is printed, and alone on stdout.
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
CORE=(
    arm:: openpgp::device cli::verify_gives
    refuse::a_commit_that_was_changed refuse::a_rewound_branch refuse::a_bad_release_may_be_dropped
    rollback::rollback_needs_no_network rollback::rollback_to_nowhere
    offline::a_journal_that_does_not_open converge::a_device_follows_https_under
)
SOME=(
    rollback::rollback_under_a_running_agent cli::a_running_agent
    converge::a_first_pass converge::docker_gets converge::a_device_follows_https_with_a_client
)
ALL=(
    rollback:: offline:: refuse:: heal:: daemon:: cli::status_plan_and_history
    converge::an_update_touches converge::removed_apps converge::settings_reach converge::a_device_follows
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
    rows | grep "^${1%:*} " || {
        echo "tests/arm.sh: there is no target '${1%:*}'" >&2
        exit 2
    }
}

# The parts of names that a target's SUITES stand for.
suites_of() {
    case "$1" in
        *:core) printf '%s\n' "${CORE[@]}" ;;
        *:some) printf '%s\n' "${CORE[@]}" "${SOME[@]}" ;;
        *) printf '%s\n' "${CORE[@]}" "${SOME[@]}" "${ALL[@]}" ;;
    esac
}

case "${1:-}" in
    --tools)
        shift
        packaging/prerequisites.sh qemu-user
        exec packaging/cross-build.sh --tools "${@%:*}"
        ;;
    --build)
        shift
        exec packaging/cross-build.sh --profile "$profile" "${@%:*}"
        ;;
    --tests)
        shift
        ;;
    *)
        [ $# -gt 0 ] || set -- aarch64 armv7
        for name in "$@"; do
            row "$name" >/dev/null
            case "$name" in
                *:core | *:some | *:all) ;;
                *:*)
                    echo "tests/arm.sh: there are no suites '${name##*:}' (core, some, all)" >&2
                    exit 2
                    ;;
            esac
        done
        tests/arm.sh --tools "$@"
        tests/arm.sh --build "$@"
        cargo build --profile "$test_profile" --workspace --test suites </dev/null
        exec tests/run.sh --with tests/arm.sh --tests "$@"
        ;;
esac

skip=()
[ -n "${EVENKEEL_TEST_PODMAN:-}" ] || skip=(--skip podman)
if cargo nextest --version >/dev/null 2>&1; then
    runner=(nextest run --cargo-profile "$test_profile")
else
    runner=(test --profile "$test_profile")
fi
# A part that no test has in its name would go unnoticed among the others.
listed=$(cargo test --quiet --profile "$test_profile" --workspace --test suites -- --list </dev/null)
while read -r part; do
    if ! grep -qF "$part" <<<"$listed"; then
        echo "tests/arm.sh: no test has '$part' in its name" >&2
        exit 1
    fi
done < <(suites_of every:all)
rc=0 said=()
for name in "$@"; do
    read -r plain triple emulator machine < <(row "$name")
    binary=$target_dir/$triple/$profile/evenkeel
    header=$(readelf --file-header --program-headers "$binary")
    if ! grep -q "Machine: .*$machine" <<<"$header" || grep -q INTERP <<<"$header"; then
        echo "tests/arm.sh: $binary is no static program for $plain" >&2
        exit 1
    fi
    # A file to run in place of the agent: `exec` leaves the process id, signals and descriptors as they are.
    wrapper=$target_dir/$triple/$profile/evenkeel-under-qemu
    printf '#!/bin/sh\nexec %s %q "$@"\n' "${emulator//|/ }" "$binary" >"$wrapper"
    chmod +x "$wrapper"
    mapfile -t suites < <(suites_of "$name")
    printf '\n== %s under %s: %s, %s bytes\n' "$plain" "${emulator//|/ }" "$("$wrapper" --version)" "$(stat -c %s "$binary")" >&2
    began=$SECONDS how=passed
    EVENKEEL_TEST_BINARY=$wrapper cargo "${runner[@]}" --workspace --test suites --no-fail-fast \
        -- "${suites[@]}" "${skip[@]}" </dev/null >&2 || rc=$? how=FAILED
    said+=("$how on $plain under ${emulator%%|*}, in $((SECONDS - began)) s: ${suites[*]}")
done
printf '%s\n' "${said[@]}"
exit "$rc"
