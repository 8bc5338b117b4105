#!/usr/bin/env bash
# Shows that the same source gives the same bytes: builds the last commit (outside a repository, the tree) twice, in two directories of different names and
# depths, with other umasks, time zones, languages and file times, makes every artifact from each, and compares them.
#
#     packaging/reproducible.sh [TARGET]           with the binary, by packaging/cross-build.sh; default x86_64. Minutes
#     packaging/reproducible.sh --binary FILE      the packages around this one alone
#
# It prints each artifact with its digest, and ends with 1 where one differs. What was compared lies in $EVENKEEL_OUT/reproducible
# afterwards, or is removed where that is not set.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
binary='' target=x86_64-unknown-linux-musl
while [ $# -gt 0 ]; do
    case "$1" in
        --binary) binary=$(realpath "${2:?--binary takes a file}"); target=$(host_triple); shift 2 ;;
        -*) die "there is no argument $1" 2 ;;
        *) target=$1; shift ;;
    esac
done
case "$target" in
    x86_64 | aarch64) target=$target-unknown-linux-musl ;;
    armv7) target=armv7-unknown-linux-musleabihf ;;
    armv6) target=arm-unknown-linux-musleabihf ;;
    riscv64) target=riscv64gc-unknown-linux-musl ;;
esac
if [ -n "${EVENKEEL_OUT:-}" ]; then
    work=$EVENKEEL_OUT/reproducible
    rm -rf "$work"
    mkdir -p "$work"
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi

# once DIRECTORY: everything from a source tree there. Its artifacts are in DIRECTORY.out.
once() {
    local tree=$1 out=$1.out
    mkdir -p "$tree" "$out"
    if git -C "$ROOT" rev-parse --verify --quiet HEAD >/dev/null; then
        git -C "$ROOT" archive HEAD
    else
        tar --create --directory "$ROOT" --exclude=./target .
    fi | tar --extract --directory "$tree" --touch
    export EVENKEEL_OUT=$out CARGO_TARGET_DIR=$tree.target
    local file=$binary
    if [ -z "$file" ]; then
        "$tree/packaging/cross-build.sh" "$target" >&2
        file=$CARGO_TARGET_DIR/$target/release/evenkeel
        cp "$file" "$out/evenkeel"
    fi
    "$tree/packaging/deb.sh" --target "$target" --binary "$file" ${binary:+--fast}
    "$tree/packaging/rpm.sh" --target "$target" --binary "$file" ${binary:+--fast}
    "$tree/packaging/tarball.sh" --target "$target" --binary "$file"
    "$tree/packaging/oci.sh" "$target=$file"
    rm -rf "$CARGO_TARGET_DIR"
}

say "the first time"
(once "$work/a") >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the first build failed"; }
say "the second time, elsewhere"
(
    umask 077
    export TZ=Asia/Tokyo LANG=C LC_ALL=C
    once "$work/another/and much/deeper"
) >"$work/log" 2>&1 || { cat "$work/log" >&2; die "the second build failed"; }

rc=0
for file in "$work"/a.out/*; do
    name=$(basename "$file")
    if cmp --silent "$file" "$work/another/and much/deeper.out/$name"; then
        echo "same    $(sha256sum <"$file" | cut -d' ' -f1)  $name"
    else
        echo "differs                                                                   $name"
        rc=1
    fi
done
exit "$rc"
