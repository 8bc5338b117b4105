#!/usr/bin/env bash
# Cuts the power of a booted machine in the middle of updates, boots it again, and looks from outside at where it stands:
#
#     tests/powercut.sh [--cuts N] [--seed N]        5 cuts unless told otherwise; one takes a minute or two
#
# The machine is Debian 12 with systemd, Docker and the agent's package, on an emulated processor (QEMU; no KVM is needed). Its
# disk writes down all it is told. The power goes while signed commits come without a pause, and what the disk had not
# flushed by then is lost in part, at random. It then has to come up with no git server in reach, at a revision no older than
# the last that it was seen to call good, with that revision's files and its container answering; and go on to the tip once
# the server is back.
#
# The first run makes the machine, which takes some minutes, and keeps it in the target directory (guest/; remove that to have
# it made anew; EVENKEEL_GUEST_DIR puts it elsewhere). Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/machine.sh
. tests/machine.sh

target=${CARGO_TARGET_DIR:-$PWD/target}
made=${EVENKEEL_GUEST_DIR:-$target/guest}

arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --cuts | --seed) arguments+=("$1" "${2:?a number}"); shift ;;
        *) echo "powercut: there is no option $1" >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || { echo "powercut: a disk is made and mounted here, which needs root" >&2; exit 1; }

packaging/prerequisites.sh build git web busybox guest
cargo build --quiet --package evenkeel </dev/null
cargo build --quiet --package evenkeel-tests --bin powercut </dev/null
machine_in "$made" gateway docker.io,iptables,busybox-static docker
# Symbols are ninety of its hundred megabytes.
strip -o "$made/evenkeel" "$target/debug/evenkeel"
deb=$(packaging/deb.sh --binary "$made/evenkeel" --fast)
exec "$target/debug/powercut" --guest "$made" --deb "$deb" "${arguments[@]}"
