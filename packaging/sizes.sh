#!/usr/bin/env bash
# Prints what the agent weighs on each target: the static binary, the same without OpenPGP (--no-default-features), and
# the memory it holds while it polls and nothing changes:
#
#     packaging/sizes.sh [--built] [TARGET...]      targets as packaging/cross-build.sh has them; all where none is named
#
# It builds each twice, some minutes of two cores a time; --built prints what is there already. Memory is that of a device with
# files and no engine, seen by the kernel of an emulated board (QEMU, Debian's kernel, 64 MiB on ARM and 128 on a PC) after 10 polls of
# an HTTPS git server on this machine: `private` is what it has written to and no other process shares, `resident` that and
# the parts of its file that are in memory. The 32-bit binaries run on the 64-bit kernel. riscv64 is not measured: Debian 12 has
# no kernel for it. With an engine, on this machine itself: tests/measure.sh.
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

# The board that runs a target's binary, as Debian calls its architecture; nothing where there is none.
board_of() {
    case "$1" in
        aarch64-* | armv7-* | arm-*) echo arm64 ;;
        x86_64-*) echo amd64 ;;
    esac
}

# debian_of ARCHITECTURE: where its kernel and busybox lie, unpacked. Taken from Debian at the first time.
debian_of() {
    local dir=$TARGET_DIR/idle/$1
    if [ ! -d "$dir" ]; then
        rm -rf "$dir.new"
        mkdir -p "$dir.new"
        # Unpacked and not set up: no program of that architecture has to run here.
        mmdebstrap --quiet --variant=extract --architectures="$1" --include="linux-image-cloud-$1,busybox-static" bookworm - </dev/null |
            tar --extract --directory "$dir.new" ./boot ./bin/busybox ./lib/modules
        mv "$dir.new" "$dir"
    fi
    echo "$dir"
}

packaging/prerequisites.sh build git web busybox board >&2
cargo build --quiet --package evenkeel-tests --bin idle </dev/null >&2
rows=()
for triple in "${triples[@]}"; do
    binary=$TARGET_DIR/$triple/release/evenkeel
    board=$(board_of "$triple")
    memory='not measured|not measured'
    if [ -n "$board" ] && [ -x "$binary" ]; then
        debian=$(debian_of "$board")
        say "booting a board with $triple"
        said=$("$TARGET_DIR/debug/idle" --binary "$binary" --board "$board" --debian "$debian")
        say "$said"
        memory=$(sed -n 's/^private \(.*\), resident \(.*\), .* threads.*/\1|\2/p' <<<"$said")
    fi
    rows+=("$triple|$(mega "$binary")|$(mega "$small_dir/$triple")|$memory")
done

printf '%-32s %10s %16s %14s %14s\n' target binary 'without OpenPGP' 'idle, private' 'idle, resident'
for row in "${rows[@]}"; do
    IFS='|' read -r -a cells <<<"$row"
    printf '%-32s %10s %16s %14s %14s\n' "${cells[@]}"
done
