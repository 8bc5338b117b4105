#!/usr/bin/env bash
# What the scripts share that boot a PC with Debian in QEMU. Sourced, not run, by a script with `set -euo pipefail` that runs as root.
export PATH="$PATH:/usr/sbin:/sbin"

# machine_in DIR NAME PACKAGE,... UNIT...: DIR/disk.img with Debian 12 on it, DIR/vmlinuz and DIR/initrd.img; whole or not there. It
# has these packages besides what boots, is called NAME, and enables these units. A cable in it is 10.0.2.15. Nothing is
# done where it is there already.
machine_in() {
    local made=$1 name=$2 packages=$3 release=bookworm new root
    shift 3
    [ ! -e "$made/disk.img" ] || return 0
    mkdir -p "$made"
    new=$(mktemp -d "$made/new.XXXXXX")
    root=$new/root
    mkdir "$root"
    # shellcheck disable=SC2064 # these very directories
    trap "umount -q '$root'; rm -rf --one-file-system '$new'" EXIT
    echo "${0##*/}: making a machine of Debian $release in $made"
    packages=systemd,systemd-sysv,udev,dbus,kmod,iproute2,e2fsprogs,ca-certificates,linux-image-cloud-amd64,$packages
    mmdebstrap --quiet --variant=minbase --include="$packages" "$release" "$new/root.tar"
    truncate -s 3G "$new/disk.img"
    mkfs.ext4 -q -L root "$new/disk.img"
    mount -o loop "$new/disk.img" "$root"
    tar -C "$root" -xf "$new/root.tar"
    rm "$new/root.tar"
    echo "$name" >"$root/etc/hostname"
    echo "LABEL=root / ext4 defaults 0 1" >"$root/etc/fstab"
    printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/20-wired.network"
    # Nobody waits for a network that may not come, and nothing else works at night.
    chroot "$root" systemctl --quiet enable systemd-networkd "$@"
    chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
    cp "$root"/boot/vmlinuz-* "$new/vmlinuz"
    cp "$root"/boot/initrd.img-* "$new/initrd.img"
    umount "$root"
    mv "$new/vmlinuz" "$new/initrd.img" "$made/"
    mv "$new/disk.img" "$made/disk.img"
    rm -rf --one-file-system "$new"
    trap - EXIT
}
