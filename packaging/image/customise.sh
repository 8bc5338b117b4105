#!/usr/bin/env bash
# Makes the root file system of a device's image out of a Debian tree that has the agent's package and an engine in it:
#
#     packaging/image/customise.sh TREE [OPTION...]        what the options mean: packaging/image/build.sh
#     packaging/image/customise.sh --check [OPTION...]     only looks whether they can be right
#
# `--system theirs` leaves network, file systems and timers as another tool has set them up (pi-gen).
#
# Nothing in TREE is executed, so it may be of another architecture. It has to belong to whoever calls this: root, or root
# of a user namespace. Run again on the same tree, it gives the same.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
# shellcheck disable=SC2153 # common.sh says it
here=$ROOT/packaging/image

tree=${1:?a directory, or --check}
shift
etc='' files='' first='' name='' system=ours images=()
while [ $# -gt 0 ]; do
    [ $# -gt 1 ] || die "$1 wants a value" 2
    case "$1" in
        --etc) etc=$2 ;;
        --files) files=$2 ;;
        --first) first=$2 ;;
        --name) name=$2 ;;
        --image) images+=("$2") ;;
        --system) system=$2 ;;
        *) die "there is no option $1" 2 ;;
    esac
    shift 2
done

# --- what was asked for ----------------------------------------------------------------------------------------------

[ -n "$etc" ] || die "--etc DIR is missing: what becomes /etc/evenkeel, agent.toml and the trust files it names" 2
[ -f "$etc/agent.toml" ] || die "there is no agent.toml in $etc" 2
[ -z "$files" ] || [ -d "$files" ] || die "--files: $files is no directory" 2
case "$name" in
    *[!a-z0-9-]* | -* | *-) die "--name: '$name' cannot begin a host name: small letters, digits, and - between them" 2 ;;
esac
[ ${#name} -le 50 ] || die "--name: a host name has at most 63 letters, and 9 of them are the device's own" 2

case "$system" in ours | theirs) ;; *) die "--system: ours or theirs" 2 ;; esac

# What is in an image is on every device that is made of it.
secret=$(grep -rlE -e '-----BEGIN ([A-Z]+ )*PRIVATE KEY( BLOCK)?-----' "$etc" ${files:+"$files"} | head -n 1) || true
[ -z "$secret" ] ||
    die "$secret is a private key, and each device made of this image would have it: leave it out; a device makes its own at its first boot (evenkeel enroll)" 2

# The few keys of agent.toml that matter here. The agent judges the rest.
setting() {
    /usr/bin/python3 - "$etc/agent.toml" "$@" <<'END'
import sys, tomllib
try:
    with open(sys.argv[1], "rb") as file:
        value = tomllib.load(file)
except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as why:
    sys.exit(f"{sys.argv[1]}: {why}")
for key in sys.argv[2:]:
    value = value.get(key, {}) if isinstance(value, dict) else {}
print(value if isinstance(value, str) else "")
END
}
branch=$(setting source branch) || exit 2
id=$(setting device id)
[ -n "$branch" ] || die "$etc/agent.toml names no branch under [source]" 2
if [ -n "$id" ]; then
    say "note: agent.toml names the device $id: the image is for this one device, not for several"
fi

# ids_of ARCHIVE: what `docker load` will call its images, one a line; an error where it is none, or not for this machine.
ids_of() {
    /usr/bin/python3 - "$1" <<'END'
import json, sys, tarfile
name = sys.argv[1]
try:
    with tarfile.open(name) as archive:
        def read(path):
            # `docker save` of some ages writes links.
            return json.load(archive.extractfile(path))
        try:
            manifest = read("manifest.json")
        except KeyError:
            sys.exit(f"{name} is no archive that every engine loads (it has no manifest.json): write one with `docker save`, or "
                     f"`skopeo copy oci-archive:{name} docker-archive:...`")
        for image in manifest:
            config = image["Config"]
            machine = read(config).get("architecture")
            if machine != "arm64":
                sys.exit(f"{name} holds an image for {machine}, and the device is arm64")
            print("sha256:" + config.removesuffix(".json").rsplit("/", 1)[-1])
except (OSError, KeyError, TypeError, AttributeError, ValueError, tarfile.TarError) as why:
    sys.exit(f"{name} is no archive of images: {why}")
END
}
for archive in "${images[@]}"; do
    ids_of "$archive" >/dev/null || exit 2
done
if [ -n "$first" ]; then
    git ls-remote --exit-code --heads "$first" "refs/heads/$branch" >/dev/null 2>&1 ||
        die "--first: $first is no git repository or bundle with the branch $branch" 2
fi
[ "$tree" != --check ] || exit 0

# --- the tree --------------------------------------------------------------------------------------------------------

[ -x "$tree/usr/bin/evenkeel" ] || die "there is no agent in $tree: it gets its package first"
unit() { systemctl --quiet --root="$tree" "$@"; }

cp -R --no-dereference --preserve=mode "$here/root/." "$tree/"
own=$tree/usr/lib/evenkeel-image
mkdir -p "$tree/etc/evenkeel"
cp -R --preserve=mode "$etc/." "$tree/etc/evenkeel/"
chmod -R go-w "$tree/etc/evenkeel"
[ -z "$name" ] || echo "$name" >"$own/name"
unit enable evenkeel-first-boot.service

rm -rf "$own/images" "$own/first.git"
if [ ${#images[@]} -gt 0 ]; then
    mkdir "$own/images"
    number=0
    for archive in "${images[@]}"; do
        number=$((number + 1))
        cp "$archive" "$own/images/$number.tar"
        ids_of "$archive" >"$own/images/$number.ids"
        say "in the image: $(basename "$archive"), for app.toml: $(paste -s -d ' ' "$own/images/$number.ids")"
    done
    unit enable evenkeel-preload.service
fi
if [ -n "$first" ]; then
    git -c init.defaultBranch="$branch" clone --quiet --bare --single-branch --branch "$branch" "$first" "$own/first.git"
    # Where it came from may be a path, or hold a password; and hooks are nobody's.
    git -C "$own/first.git" remote remove origin 2>/dev/null || true
    rm -rf "$own/first.git/hooks"
    unit enable evenkeel-first-revision.service
fi

! [ -e "$tree/usr/lib/systemd/system/podman.socket" ] || unit enable podman.socket

if [ "$system" = ours ]; then
    # A network by DHCP on whatever cable there is. Nobody waits for one that may not come: docker.service would, for two minutes.
    printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$tree/etc/systemd/network/80-wired.network"
    unit enable systemd-networkd.service
    unit mask systemd-networkd-wait-online.service
    # What changes on a device is the fleet's to say, and it may be on a battery at night.
    unit mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    printf 'LABEL=evenkeel-root / ext4 defaults,x-systemd.growfs 0 1\n' >"$tree/etc/fstab"
    # The partition grows to what the card has, and the file system after it.
    mkdir -p "$tree/etc/repart.d"
    printf '[Partition]\nType=root-arm64\n' >"$tree/etc/repart.d/50-root.conf"
    [ -e "$tree/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n' >"$tree/etc/hosts"
    # A device without a clock of its own begins no earlier than its image.
    touch "$tree/usr/lib/clock-epoch"
fi

[ -z "$files" ] || cp -R --no-dereference --preserve=mode,timestamps "$files/." "$tree/"

# What makes a device this one, and what it has seen: none of that is the image's. The empty file tells systemd to fill it.
: >"$tree/etc/machine-id"
if [ -z "$files" ] || [ ! -s "$files/etc/hostname" ]; then : >"$tree/etc/hostname"; fi
rm -rf "$tree/var/lib/dbus/machine-id" "$tree/var/lib/systemd/random-seed" "$tree/var/lib/systemd/credential.secret" \
    "$tree"/etc/ssh/ssh_host_* "$tree/var/lib/evenkeel" "$tree/var/lib/evenkeel-image" "$tree/var/lib/docker" \
    "$tree/var/lib/containerd" "$tree/var/lib/containers" "$tree"/var/log/journal/* "$tree"/var/log/*.log "$tree"/var/log/apt \
    "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/*.bin "$tree"/root/.bash_history
