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
export PATH="$PATH:/usr/sbin:/sbin"

target=${CARGO_TARGET_DIR:-$PWD/target}
made=${EVENKEEL_GUEST_DIR:-$target/guest}
release=bookworm
packages=systemd,systemd-sysv,udev,dbus,kmod,iproute2,e2fsprogs,ca-certificates,linux-image-cloud-amd64,docker.io,iptables,busybox-static

arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --cuts | --seed) arguments+=("$1" "${2:?a number}"); shift ;;
        *) echo "powercut: there is no option $1" >&2; exit 2 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || { echo "powercut: a disk is made and mounted here, which needs root" >&2; exit 1; }

# make_machine: $made/disk.img with Debian on it, and the kernel beside it. Whole or not there.
make_machine() {
    local new root
    new=$(mktemp -d "$made/new.XXXXXX")
    root=$new/root
    mkdir "$root"
    # shellcheck disable=SC2064 # these very directories
    trap "umount -q '$root'; rm -rf --one-file-system '$new'" EXIT
    echo "powercut: making a machine of Debian $release in $made"
    mmdebstrap --quiet --variant=minbase --include="$packages" "$release" "$new/root.tar"
    truncate -s 3G "$new/disk.img"
    mkfs.ext4 -q -L root "$new/disk.img"
    mount -o loop "$new/disk.img" "$root"
    tar -C "$root" -xf "$new/root.tar"
    rm "$new/root.tar"
    echo gateway >"$root/etc/hostname"
    echo "LABEL=root / ext4 defaults 0 1" >"$root/etc/fstab"
    printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/20-wired.network"
    # Nobody waits for a network that may not come, and nothing else works at night.
    chroot "$root" systemctl --quiet enable systemd-networkd docker
    chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
    cp "$root"/boot/vmlinuz-* "$new/vmlinuz"
    cp "$root"/boot/initrd.img-* "$new/initrd.img"
    umount "$root"
    mv "$new/vmlinuz" "$new/initrd.img" "$made/"
    mv "$new/disk.img" "$made/disk.img"
    rm -rf --one-file-system "$new"
    trap - EXIT
}

packaging/prerequisites.sh build git web busybox guest
cargo build --quiet --package evenkeel </dev/null
cargo build --quiet --package evenkeel-tests --bin powercut </dev/null
mkdir -p "$made"
[ -e "$made/disk.img" ] || make_machine
# Symbols are ninety of its hundred megabytes.
strip -o "$made/evenkeel" "$target/debug/evenkeel"
deb=$(packaging/deb.sh --binary "$made/evenkeel" --fast)
exec "$target/debug/powercut" --guest "$made" --deb "$deb" "${arguments[@]}"
