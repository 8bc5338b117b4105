#!/usr/bin/env bash
# Prints what the agent weighs on each target: the static binary, the same without OpenPGP (--no-default-features), and
# the memory it holds while it polls and nothing changes:
#
#     packaging/sizes.sh [--built] [TARGET...]      targets as packaging/cross-build.sh has them; all where none is named
#
# It builds each twice, some minutes of two cores a time; --built prints what is there already. Memory is measured
# where this machine runs the binary itself, beside a real git server and engine: an emulator's own memory would be most
# of the number.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

build=yes
if [ "${1:-}" = --built ]; then
    build=no
    shift
fi
[ $# -gt 0 ] || set -- all
mapfile -t triples < <(packaging/cross-build.sh --list "$@")

small_dir=$TARGET_DIR/without-openpgp
if [ "$build" = yes ]; then
    packaging/cross-build.sh --no-default-features "${triples[@]}" >&2
    mkdir -p "$small_dir"
    for triple in "${triples[@]}"; do
        cp "$TARGET_DIR/$triple/release/evenkeel" "$small_dir/$triple"
    done
    packaging/cross-build.sh "${triples[@]}" >&2
fi

# Millions of bytes; a dash where there is no such file.
mega() {
    if [ -e "$1" ]; then awk -v bytes="$(stat -c %s "$1")" 'BEGIN { printf "%.2f MB", bytes / 1e6 }'; else printf -- '-'; fi
}

host=$(uname -m)
resident='' private=''
for triple in "${triples[@]}"; do
    binary=$TARGET_DIR/$triple/release/evenkeel
    if [ "${triple%%-*}" = "$host" ] && [ -x "$binary" ]; then
        packaging/prerequisites.sh build git web engine busybox >&2
        cargo build --quiet --package evenkeel-tests --bin measure </dev/null
        table=$(tests/run.sh --with env "EVENKEEL_TEST_BINARY=$binary" "$TARGET_DIR/debug/measure")
        resident=$(awk '/^resident memory/ { print $4, $5 }' <<<"$table")
        private=$(awk '/of it private/ { print $4, $5 }' <<<"$table")
    fi
done

printf '%-32s %10s %16s %14s %14s\n' target binary 'without OpenPGP' 'idle, private' 'idle, resident'
for triple in "${triples[@]}"; do
    memory=('not measured' 'not measured')
    if [ "${triple%%-*}" = "$host" ] && [ -n "$private" ]; then memory=("$private" "$resident"); fi
    printf '%-32s %10s %16s %14s %14s\n' "$triple" "$(mega "$TARGET_DIR/$triple/release/evenkeel")" \
        "$(mega "$small_dir/$triple")" "${memory[@]}"
done
