#!/usr/bin/env bash
# Builds static binaries for devices, on a plain Debian machine, without images and without containers:
#
#     packaging/cross-build.sh [--profile NAME] [--no-default-features] TARGET...
#     packaging/cross-build.sh --list TARGET...        prints their triples and builds nothing
#     packaging/cross-build.sh --tools TARGET...       installs what building them takes, and builds nothing
#
# A target is one of these names, or its Rust triple:
#
#     aarch64   64-bit ARM: Raspberry Pi 3 and later, most gateways
#     armv7     32-bit ARM with hardware floating point: BeagleBone, i.MX6, 32-bit systems on a Raspberry Pi 2 and later
#     armv6     the first Raspberry Pi and the Zero
#     x86_64    PCs
#     riscv64   RISC-V boards
#     all       each of them
#
# The binaries lie at $CARGO_TARGET_DIR/TRIPLE/PROFILE/evenkeel (target/ and release where nothing else is said), and
# their sizes are the last thing that is printed. All are linked with musl into one file that needs nothing of the
# distribution it runs on. The same source gives the same bytes, from any directory.
#
# The standard library of a target: the one that your own rustup has (`rustup target add TRIPLE`), and otherwise one
# that is compiled along with the rest. That takes a compiler and its library's source of one version, which Debian has
# (rustc-web, rust-web-src), and RUSTC_BOOTSTRAP=1, which lets a stable compiler do it and which the Rust project does
# not support. The C compiler and linker for every target is zig, from PyPI, in a directory of its own
# ($EVENKEEL_CROSS_TOOLS, or ~/.cache/evenkeel/).
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$ROOT"

ALL=(aarch64 armv7 armv6 x86_64 riscv64)
ZIGBUILD=0.24.0
ZIG=0.15.2
tools=${EVENKEEL_CROSS_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/evenkeel/cross-$ZIGBUILD-$ZIG}

usage() {
    say "$1"
    echo "usage: packaging/cross-build.sh [--profile NAME] [--no-default-features] ${ALL[*]} | all" >&2
    exit 2
}

triple() {
    case "$1" in
        aarch64 | aarch64-unknown-linux-musl) echo aarch64-unknown-linux-musl ;;
        armv7 | armv7-unknown-linux-musleabihf) echo armv7-unknown-linux-musleabihf ;;
        armv6 | arm-unknown-linux-musleabihf) echo arm-unknown-linux-musleabihf ;;
        x86_64 | x86_64-unknown-linux-musl) echo x86_64-unknown-linux-musl ;;
        riscv64 | riscv64gc-unknown-linux-musl) echo riscv64gc-unknown-linux-musl ;;
        *) return 1 ;;
    esac
}

profile=release features=() triples=() build=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --profile)
            [ $# -gt 1 ] || usage "--profile wants the name of a profile in Cargo.toml"
            profile=$2
            shift
            ;;
        --list) build=no ;;
        --tools) build=tools ;;
        --no-default-features) features=(--no-default-features) ;;
        all) for name in "${ALL[@]}"; do triples+=("$(triple "$name")"); done ;;
        *) triples+=("$(triple "$1")") || usage "there is no target '$1'" ;;
    esac
    shift
done
[ ${#triples[@]} -gt 0 ] || usage "no target given"
mapfile -t triples < <(printf '%s\n' "${triples[@]}" | awk '!seen[$0]++')
if [ "$build" = no ]; then
    printf '%s\n' "${triples[@]}"
    exit
fi

# Those whose library rustup has, and those whose library is compiled here.
prebuilt=() from_source=()
installed=$(rustup target list --installed 2>/dev/null || true)
for triple in "${triples[@]}"; do
    if grep -qxF "$triple" <<<"$installed"; then prebuilt+=("$triple"); else from_source+=("$triple"); fi
done

packaging/prerequisites.sh build zig
[ ${#from_source[@]} -eq 0 ] || packaging/prerequisites.sh cross

# Exactly these files, by their digests: they make what devices run. Aside first, so that half of it is never used.
if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
    say "installing cargo-zigbuild $ZIGBUILD and zig $ZIG in $tools"
    mkdir -p "$(dirname "$tools")"
    rm -rf "$tools.new"
    /usr/bin/python3 -m venv "$tools.new"
    cat >"$tools.new/requirements.txt" <<END
cargo-zigbuild==$ZIGBUILD --hash=sha256:484412e39e4c6039474535ce97ee75a22bab22d58233056f8ec8a8f9034bb957 --hash=sha256:6942e4320f7b05d8fb29e0a8ce5670bcbb3d254275100b85b5b7c86552f9a744
ziglang==$ZIG --hash=sha256:806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130 --hash=sha256:edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230
END
    "$tools.new/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes \
        --requirement "$tools.new/requirements.txt" </dev/null
    rm -rf "$tools"
    mv "$tools.new" "$tools"
fi
# Named here, since a directory that moved has scripts that name its old place.
zig=$("$tools/bin/python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
export CARGO_ZIGBUILD_ZIG_PATH=$zig

[ "$build" = yes ] || exit 0

# What would differ between two machines must not get into the file: directories, and the time.
export CARGO_INCREMENTAL=0
cargo fetch --locked --quiet </dev/null
# Unwind tables are for catching panics; a release ends at one (panic = "abort"), after saying where it was.
flags=(-C force-unwind-tables=no -C target-feature=+crt-static)
flags+=("--remap-path-prefix=$ROOT=/evenkeel" "--remap-path-prefix=$TARGET_DIR=/evenkeel/target")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=("--remap-path-prefix=$registry=")
done

# build TRIPLES... -- FLAGS OF THE COMPILER... -- OPTIONS OF CARGO...
build() {
    local options=(--profile "$profile" --package evenkeel --bin evenkeel --locked "${features[@]}") targets=()
    while [ "$1" != -- ]; do
        targets+=("$1")
        shift
    done
    shift
    local all=("${flags[@]}")
    while [ "$1" != -- ]; do
        all+=("$1")
        shift
    done
    shift
    local target
    for target in "${targets[@]}"; do
        local own=("${all[@]}")
        # Thumb-2: every ARMv7 has it, and the program is a quarter smaller. Runs of instructions that stand in many places
        # become functions of their own, which on 64-bit ARM is so anyway. Once: done again over what came of it (-machine-outliner-reruns), the program crashes.
        case "$target" in
            armv7-*) own+=(-C target-feature=+thumb-mode -C llvm-args=-enable-machine-outliner=always) ;;
        esac
        options+=(--target "$target" --config "target.$target.rustflags=[$(printf '"%s",' "${own[@]}")]")
    done
    env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "$tools/bin/cargo-zigbuild" zigbuild "${options[@]}" "$@" </dev/null
}

if [ ${#prebuilt[@]} -gt 0 ]; then
    build "${prebuilt[@]}" -- --
fi
if [ ${#from_source[@]} -gt 0 ]; then
    # rustc has no musl of its own here, so zig's is linked. The library without its stack traces: they name nothing in
    # a stripped file.
    (
        export PATH="/usr/bin:$PATH" CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1
        unset RUSTUP_TOOLCHAIN
        build "${from_source[@]}" -- -C link-self-contained=no -- \
            -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
    )
fi

folder=$profile
[ "$profile" != dev ] || folder=debug
printf '\n%-32s %12s  %s\n' target bytes file
for triple in "${triples[@]}"; do
    file=$TARGET_DIR/$triple/$folder/evenkeel
    printf '%-32s %12s  %s\n' "$triple" "$(stat -c %s "$file")" "$file"
done
