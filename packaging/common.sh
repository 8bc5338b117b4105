#!/usr/bin/env bash
# What the packaging scripts share. Sourced, not run: it expects `set -euo pipefail`, and defines
#
#     ROOT                   the top of the source tree
#     VERSION                evenkeel's, as Cargo.toml says it
#     SOURCE_DATE_EPOCH      the time of the last commit (or of the changelog's newest entry, outside a repository),
#                            where the caller gave none: the only time that any artifact carries
#     OUT                    where artifacts go: $EVENKEEL_OUT, or dist/ in the target directory
#
# Every tar made here goes through `plain_tar`: the same files give the same bytes.
export PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C.UTF-8 TZ=UTC
umask 022

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for who sources this
VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
TARGET_DIR=${CARGO_TARGET_DIR:-$ROOT/target}
OUT=${EVENKEEL_OUT:-$TARGET_DIR/dist}
NAME=$(basename "${BASH_SOURCE[1]:-$0}" .sh)

say() { echo "$NAME: $*" >&2; }
die() {
    say "$*"
    exit "${2:-1}"
}

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$ROOT" log -1 --format=%ct 2>/dev/null) ||
        SOURCE_DATE_EPOCH=$(date -d "$(sed -n 's/^ -- .*>  //p' "$ROOT/packaging/changelog" | head -n 1)" +%s)
fi
export SOURCE_DATE_EPOCH

# The toolchain's own target, where none is asked for.
host_triple() { rustc -vV | sed -n 's/^host: //p'; }

# arch_of TRIPLE debian|rpm|oci|variant: what each world calls it.
arch_of() {
    case "$1 $2" in
        "x86_64-"*" debian" | "x86_64-"*" oci") echo amd64 ;;
        "x86_64-"*" rpm") echo x86_64 ;;
        "aarch64-"*" debian" | "aarch64-"*" oci") echo arm64 ;;
        "aarch64-"*" rpm") echo aarch64 ;;
        "aarch64-"*" variant") echo v8 ;;
        "armv7-"*"hf debian") echo armhf ;;
        "armv7-"*"hf rpm") echo armv7hl ;;
        "armv7-"*"hf oci" | "arm-"*"hf oci") echo arm ;;
        "armv7-"*"hf variant") echo v7 ;;
        # Debian's armhf is ARMv7; Raspberry Pi OS calls its ARMv6 by the same name, and its ARMv7 machines run it.
        "arm-"*"hf debian") echo armhf ;;
        "arm-"*"hf rpm") echo armv6hl ;;
        "arm-"*"hf variant") echo v6 ;;
        "riscv64gc-"*" debian" | "riscv64gc-"*" oci" | "riscv64gc-"*" rpm") echo riscv64 ;;
        *" variant") ;;
        *) die "there is no name for $1 there: the targets are x86_64, aarch64, armv7 and arm with hardware floating point, and riscv64gc" 2 ;;
    esac
}

# binary_of TRIPLE: where a build leaves it. `packaging/cross-build.sh` uses the target's own directory, a plain
# `cargo build --release` the one above.
binary_of() {
    local each
    for each in "$TARGET_DIR/$1/release/evenkeel" "$TARGET_DIR/release/evenkeel"; do
        if [ -x "$each" ] && { [ "$each" != "$TARGET_DIR/release/evenkeel" ] || [ "$1" = "$(host_triple)" ]; }; then
            echo "$each"
            return
        fi
    done
    die "there is no binary for $1: build it (packaging/cross-build.sh $1, or cargo build --release -p evenkeel for this machine), or name one with --binary"
}

# plain_tar DIRECTORY ENTRY...: a tar of entries below it on stdout: sorted, owned by root, dated SOURCE_DATE_EPOCH.
plain_tar() {
    tar --create --directory "$1" --format=ustar --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
        --owner=root:0 --group=root:0 --numeric-owner "${@:2}"
}

# notices_to FILE TRIPLE: the licences of what is linked in, packed.
notices_to() {
    "$ROOT/packaging/notices.sh" --target "$2" | gzip --best --no-name >"$1"
    chmod 644 "$1"
}

# The options that every packaging script takes: --target TRIPLE, --binary FILE. The rest is left in ARGUMENTS.
TARGET='' BINARY='' ARGUMENTS=()
take_options() {
    while [ $# -gt 0 ]; do
        case "$1" in
            --target) TARGET=${2:?--target takes a triple}; shift 2 ;;
            --binary) BINARY=$(realpath "${2:?--binary takes a file}"); shift 2 ;;
            *) ARGUMENTS+=("$1"); shift ;;
        esac
    done
    [ -n "$TARGET" ] || TARGET=$(host_triple)
    [ -n "$BINARY" ] || BINARY=$(binary_of "$TARGET")
    [ -x "$BINARY" ] || die "$BINARY is no program"
    mkdir -p "$OUT"
}
