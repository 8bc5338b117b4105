#!/usr/bin/env bash
# Boots the disk image for ARM on an emulated board, from its first boot on:
#
#     tests/image.sh [--cuts N] [--seed N]        one cut unless told otherwise
#
# packaging/image/build.sh makes the image, with an app's image and the first revision in it; QEMU boots it by UEFI, with a
# Raspberry Pi 3's processor (no KVM is needed, and no ARM machine). Two boards with no network card have to get to the
# revision that came with them, healthy and good, and to be two. One of them, with a cable and a git server here, has to become
# Ready at the commits that follow; and after its power was cut in the middle of one, to be up at a revision no older than
# the last that was good, and then Ready at the tip.
#
# The first run bootstraps Debian for arm64, up to half an hour, and keeps it in the target directory (guest-arm64/; remove that to
# have it made anew), and builds the agent with the profile `cross-test`; EVENKEEL_ARM_PROFILE=release takes the one that
# devices get. Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
made=$target/guest-arm64
profile=${EVENKEEL_ARM_PROFILE:-cross-test}
triple=aarch64-unknown-linux-musl

arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --cuts | --seed) arguments+=("$1" "${2:?a number}"); shift ;;
        *) echo "image: there is no option $1" >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || { echo "image: run it as root" >&2; exit 1; }

packaging/prerequisites.sh build git web image guest-arm64
packaging/cross-build.sh --profile "$profile" aarch64
cargo build --quiet --package evenkeel-tests --bin image </dev/null
mkdir -p "$made"
binary=$target/$triple/$profile/evenkeel
deb=$(EVENKEEL_OUT=$made packaging/deb.sh --target "$triple" --binary "$binary" --fast)
exec "$target/debug/image" --binary "$binary" --deb "$deb" --base "$made/base.tar" "${arguments[@]}"
