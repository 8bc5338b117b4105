#!/usr/bin/env bash
# Makes a disk image of Debian 12 for 64-bit ARM, with the agent in it, and prints its path:
#
#     packaging/image/build.sh --etc DIR [OPTION...]
#
#     --etc DIR          becomes /etc/evenkeel: agent.toml, and what it names (allowed_signers, known_hosts, a CA)
#     --image ARCHIVE    an app's image, as `docker save` or packaging/oci.sh writes it, for the engine's store; again for more.
#                        Prints the id by which app.toml names it
#     --first REPO       the first revision: a git repository or bundle with the branch that agent.toml names
#     --name PREFIX      devices are called PREFIX-<8 digits>, of their machine id; default: device
#     --files DIR        copied over the root: network configuration, /root/.ssh/authorized_keys
#     --include PKG,...  more of Debian's packages
#     --engine NAME      docker (the default), podman, or none
#     --kernel PKG       linux-image-arm64 (the default), or linux-image-cloud-arm64 for virtual machines: a fifth of the size
#     --append TEXT      more for the kernel's command line
#     --size SIZE        the root file system's, `2G`; default: what is in it, and a half more. It grows on the device
#     --deb FILE         the agent's package for arm64; default: made of the release binary that packaging/cross-build.sh left
#     --base FILE        Debian as it was bootstrapped: taken from there, or put there for the next time
#     --output FILE      default: evenkeel-VERSION-arm64.img among the other artifacts
#
# The disk: GPT, an EFI system partition that only the boot loader lies on (GRUB as Debian signed it, and nothing writes there
# again), and ext4 with kernel and all else. Any firmware boots it that follows UEFI: SystemReady boards, U-Boot with its EFI
# loader, virtual machines. It has no identity and no secret: those are made at the first boot.
#
# Needs neither loop devices nor mounts of the machine's own, and root only where there are no subordinate ids
# (uidmap, /etc/subuid): all of it happens in a user namespace, and mke2fs and mtools write the file systems as files.
# On another architecture, programs of the image run under qemu-user, registered for that namespace alone.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
here=$ROOT/packaging/image
release=bookworm
# MiB, and where they begin: FAT32 wants no less.
esp=64 esp_at=1

# --- what runs in the namespace --------------------------------------------------------------------------------------

if [ "${1:-}" = --inside ]; then
    verb=$2
    shift 2
    if [ "$(uname -m)" != aarch64 ]; then
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
    fi
    case "$verb" in
        # FILE PACKAGES
        base)
            # The initial RAM disk is made once, at the end: under qemu-user it is what takes longest.
            export INITRD=No
            # shellcheck disable=SC2016 # mmdebstrap says what $1 is: the tree
            mmdebstrap --quiet --mode=root --architectures=arm64 --variant=minbase --include="$2" \
                --customize-hook='cd "$1/tmp" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -qq grub-efi-arm64-signed' \
                --customize-hook='dpkg-deb --fsys-tarfile "$1"/tmp/grub-efi-*.deb | tar -xO ./usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed >"$1/boot/BOOTAA64.EFI"' \
                --customize-hook='rm "$1"/tmp/grub-efi-*.deb' \
                --customize-hook='INITRD=Yes chroot "$1" update-initramfs -c -k all' \
                --customize-hook='INITRD=Yes chroot "$1" sh -c "for each in /boot/vmlinuz-*; do linux-update-symlinks install \"\${each#/boot/vmlinuz-}\" \"\$each\"; done"' \
                "$release" "$1"
            ;;
        # BASE DEB WORK SIZE DISK CUSTOMISE-OPTION...
        disk)
            base=$1 deb=$2 work=$3 size=$4 disk=$5
            shift 5
            tree=$work/tree
            mkdir "$tree"
            # Here, where every file is ours. What is mounted there is another file system, and stays.
            trap 'umount --recursive --lazy --quiet "$tree/proc" "$tree/dev" || true; rm -rf --one-file-system "$tree"' EXIT
            tar --extract --numeric-owner --exclude='./dev/*' --directory "$tree" --file "$base"
            mv "$tree/boot/BOOTAA64.EFI" "$work/"
            mount -t proc proc "$tree/proc"
            mount -t tmpfs tmpfs "$tree/dev"
            for node in null zero random urandom; do
                : >"$tree/dev/$node"
                mount --bind "/dev/$node" "$tree/dev/$node"
            done
            cp "$deb" "$tree/tmp/evenkeel.deb"
            DEBIAN_FRONTEND=noninteractive chroot "$tree" dpkg --install /tmp/evenkeel.deb >"$work/dpkg.log" 2>&1 ||
                { cat "$work/dpkg.log" >&2 && die "the agent's package could not be installed"; }
            rm "$tree/tmp/evenkeel.deb"
            "$here/customise.sh" "$tree" "$@"
            # A first revision that the device would refuse is told here, by the agent itself and the device's own rules.
            if [ -d "$tree/usr/lib/evenkeel-image/first.git" ]; then
                branch=$(git -C "$tree/usr/lib/evenkeel-image/first.git" symbolic-ref --short HEAD)
                chroot "$tree" /usr/bin/evenkeel verify --repo /usr/lib/evenkeel-image/first.git "$branch" >&2 ||
                    die "a device would refuse the first revision; the reason is above"
            fi
            rm -rf "$tree/var/lib/evenkeel"
            umount --recursive "$tree/proc" "$tree/dev"

            used=$(du --summarize --block-size=1M "$tree" | cut -f 1)
            if [ -n "$size" ]; then
                size=$(($(numfmt --from=iec "$size") / 1048576))
                [ "$size" -gt "$used" ] || die "--size: $used MiB are in the root file system"
            else
                size=$((used * 3 / 2 + 128))
            fi
            rm -f "$disk"
            truncate --size $((esp_at + esp + size + 1))M "$disk"
            sfdisk --quiet "$disk" <<END
label: gpt
start=${esp_at}MiB, size=${esp}MiB, type=uefi, name=esp
start=$((esp_at + esp))MiB, size=${size}MiB, type=B921B045-1DF0-41C3-AF44-4C6F280D3FAE, name=root
END
            # One sector a cluster: FAT32 has to have so many of them.
            truncate --size ${esp}M "$work/esp.img"
            mkfs.vfat -F 32 -s 1 -n EVENKEEL-B "$work/esp.img" >/dev/null
            mmd -i "$work/esp.img" ::EFI ::EFI/BOOT ::EFI/debian
            mcopy -i "$work/esp.img" "$work/BOOTAA64.EFI" ::EFI/BOOT/BOOTAA64.EFI
            mcopy -i "$work/esp.img" "$work/grub.cfg" ::EFI/debian/grub.cfg
            dd if="$work/esp.img" of="$disk" bs=1M seek=$esp_at conv=notrunc,sparse status=none
            # The features by name: GRUB has to read them, whatever this machine's mke2fs would do by itself.
            mke2fs -q -t ext4 -L evenkeel-root -d "$tree" -E "offset=$(((esp_at + esp) * 1048576))" \
                -O none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum \
                "$disk" "${size}M"
            ;;
    esac
    exit
fi

# namespaced VERB ARGUMENT...: this script as root of a user namespace, in which files of all of Debian's users can be. It ends
# with this one, however that ends.
namespaced() {
    local self=$here/build.sh
    if [ "$(id -u)" != 0 ]; then
        setpriv --pdeathsig KILL unshare --map-auto --map-root-user --mount --pid --fork --kill-child "$self" --inside "$@"
        return
    fi
    # Root gives the ids itself, all of them as they are: nothing has to be set up for it.
    local own go pid
    own=$(readlink /proc/self/ns/user)
    go=$work/go
    mkfifo "$go"
    # shellcheck disable=SC2016 # the inner shell's
    unshare --user bash -c 'read -r _ <"$0" && exec setpriv --reuid=0 --regid=0 --clear-groups --pdeathsig KILL \
        unshare --mount --pid --fork --kill-child "$@"' \
        "$go" "$self" --inside "$@" </dev/null &
    pid=$!
    while [ "$(readlink "/proc/$pid/ns/user")" = "$own" ]; do sleep 0.05; done
    echo "0 0 65536" >"/proc/$pid/uid_map"
    echo "0 0 65536" >"/proc/$pid/gid_map"
    echo go >"$go"
    rm "$go"
    wait "$pid"
}

# --- what was asked for ----------------------------------------------------------------------------------------------

engine=docker kernel=linux-image-arm64 include='' append='' size='' deb='' base='' output='' first='' options=()
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || die "$1 wants a value" 2
    case "$1" in
        --engine) engine=$2 ;;
        --kernel) kernel=$2 ;;
        --include) include=$2 ;;
        --append) append=$2 ;;
        --size) size=$2 ;;
        --deb) deb=$2 ;;
        --base) base=$2 ;;
        --output) output=$2 ;;
        --first) first=$2 ;;
        --etc | --files | --name | --image) options+=("$1" "$2") ;;
        *) die "there is no option $1" 2 ;;
    esac
    shift 2
done
case "$engine" in
    docker) engine=docker.io,apparmor,iptables ;;
    podman) engine=podman,apparmor,crun,iptables ;;
    none) engine='' ;;
    *) die "--engine: docker, podman or none" 2 ;;
esac
[ -z "$size" ] || numfmt --from=iec "$size" >/dev/null 2>&1 || die "--size: '$size' is no size: 2G, 1500M" 2
[ -z "$deb" ] || [ -f "$deb" ] || die "--deb: there is no file $deb" 2
case "$append" in *[!A-Za-z0-9_.,:=/@+\ -]*) die "--append: letters that GRUB would read otherwise" 2 ;; esac

"$ROOT/packaging/prerequisites.sh" image >&2
mkdir -p "$OUT"
work=$(mktemp -d "$OUT/image.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
"$here/customise.sh" --check "${options[@]}" ${first:+--first "$first"}
if [ -n "$first" ]; then
    # Here, where the repository is its owner's.
    git clone --quiet --mirror "$first" "$work/first.git"
    options+=(--first "$work/first.git")
fi
if [ -z "$deb" ]; then
    triple=aarch64-unknown-linux-musl
    deb=$("$ROOT/packaging/deb.sh" --target "$triple" --binary "$(binary_of "$triple")")
fi
[ "$(dpkg-deb --field "$deb" Architecture)" = arm64 ] || die "$deb is not for arm64" 2
output=${output:-$OUT/evenkeel-$VERSION-arm64.img}

# --- the image -------------------------------------------------------------------------------------------------------

packages=systemd,systemd-sysv,udev,dbus,kmod,systemd-resolved,systemd-timesyncd,init-system-helpers,iproute2,e2fsprogs,fdisk
packages+=,ca-certificates,$kernel${engine:+,$engine}${include:+,$include}
base=${base:-$work/base.tar}
if [ ! -e "$base" ] || [ "$(cat "$base.packages" 2>/dev/null)" != "$packages" ]; then
    say "bootstrapping Debian $release for arm64"
    rm -f "$base.packages"
    namespaced base "$work/new.tar" "$packages" >&2
    mv "$work/new.tar" "$base"
    echo "$packages" >"$base.packages"
fi

cat >"$work/grub.cfg" <<END
# Kernel and initial RAM disk are where Debian's own links say; the ones before them, where these do not start.
set default=0
set fallback=1
set timeout=1
search --no-floppy --set=root --label evenkeel-root
menuentry "Debian" {
    linux /vmlinuz root=LABEL=evenkeel-root ro panic=10 $append
    initrd /initrd.img
}
menuentry "Debian, the kernel before" {
    linux /vmlinuz.old root=LABEL=evenkeel-root ro panic=10 $append
    initrd /initrd.img.old
}
END
namespaced disk "$base" "$deb" "$work" "$size" "$work/disk.img" "${options[@]}"
mv "$work/disk.img" "$output"
say "$(stat --format=%s "$output") bytes, $(du --block-size=1 "$output" | cut -f 1) of them on this disk"
echo "$output"
