#!/bin/sh
# Takes what a stick brings, and ends with the exit code of `evenkeel sync --from`:
#
#     stick DEVICE [ARGUMENT...]        arguments go to `evenkeel sync`
#
# The stick is mounted where only root enters, with nothing on it that could run, and unmounted at the end; it gets a receipt
# where it can be written and takes one. evenkeel-stick@.service runs this.
set -eu
program=${EVENKEEL:-/usr/bin/evenkeel}
device=$1
shift
place=/run/evenkeel-stick/${device##*/}

# shellcheck disable=SC2317 # the trap calls it
away() {
    # One that was pulled out cannot be unmounted in order.
    umount "$place" 2>/dev/null || umount -l "$place" 2>/dev/null || true
    rmdir "$place" 2>/dev/null || true
}

(umask 077 && mkdir -p "$place")
trap away EXIT
trap 'exit 1' INT TERM
safe=nosuid,nodev,noexec
# The kernel reads what a stranger wrote here: as these file systems, and as no other.
kinds=vfat,exfat,ext4
mount -t "$kinds" -o "rw,$safe" "$device" "$place" 2>/dev/null || mount -t "$kinds" -o "ro,$safe" "$device" "$place"
if [ ! -f "$place/published.json" ]; then
    echo "$device holds no revision: \`evenkeel bundle --out DIR\` makes one" >&2
    exit 0
fi
code=0
"$program" sync --from "$place" "$@" || code=$?
sync
exit "$code"
