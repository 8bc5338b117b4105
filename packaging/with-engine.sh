#!/usr/bin/env bash
# Runs a command beside a container engine of its own, and leaves nothing behind:
#
#     packaging/with-engine.sh [--podman] [--optional] COMMAND [ARGUMENT...]
#
# The engine lives in its own network, mount and process namespaces, with its data in a temporary directory: an engine
# that runs on this machine already never sees it, its networks and firewall rules end with it, and no process can
# outlive the command. In there is loopback and nothing else: the command cannot reach any network.
#
# The command finds   PRIVATE_DOCKER         unix:///..., Docker's socket
#                     PRIVATE_PODMAN         unix:///..., Podman's (--podman)
#                     PRIVATE_PODMAN_ABSENT  why Podman does not run here, where it does not
#
# --optional: where Docker does not run, the command runs all the same, with PRIVATE_DOCKER_ABSENT saying why;
# without it that is an error.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

self=$(realpath "${BASH_SOURCE[0]}")
READY_TENTHS=300 # 30 s: the first start on a slow disk takes 6

say() { echo "with-engine: $*" >&2; }

# --- outside: the temporary directory and the namespaces -------------------------------------------------------------

outside() {
    local podman=no optional=no
    while [ $# -gt 0 ]; do
        case "$1" in
            --podman) podman=yes ;;
            --optional) optional=yes ;;
            --) shift; break ;;
            -*) say "there is no option $1"; exit 2 ;;
            *) break ;;
        esac
        shift
    done
    [ $# -gt 0 ] || { say "no command given"; exit 2; }

    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "an engine needs root, and there is no sudo: run this as root"; exit 1; }
        local flags=()
        [ "$podman" = no ] || flags+=(--podman)
        [ "$optional" = no ] || flags+=(--optional)
        exec sudo --preserve-env env "PATH=$PATH" "HOME=$HOME" "$self" "${flags[@]}" -- "$@"
    fi

    # Short, since the path of a Unix socket ends at 107 bytes.
    local dir child rc=0
    dir=$(mktemp -d /tmp/ek-engine.XXXXXX)
    unshare --net --mount --pid --fork --kill-child --mount-proc \
        bash "$self" --inside "$dir" "$podman" "$optional" "$@" <&0 &
    child=$!
    # Ending `unshare` ends the first process of the namespace, and with it all of them.
    trap 'kill -TERM "$child" 2>/dev/null || true' INT TERM HUP
    wait "$child" || rc=$?
    trap - INT TERM HUP
    wait "$child" 2>/dev/null || true
    rm -rf --one-file-system "$dir" || say "could not remove $dir"
    find /sys/fs/cgroup -depth -type d -path "*/${dir##*/}*" -exec rmdir {} + 2>/dev/null || true
    exit "$rc"
}

# --- inside: start, run, stop -----------------------------------------------------------------------------------------

answers() { curl --silent --fail --max-time 2 --unix-socket "$1" http://engine/_ping >/dev/null 2>&1; }

# wait_for SOCKET PID: until it answers, or its process has ended, or the time is up.
wait_for() {
    local i
    for ((i = 0; i < READY_TENTHS; i++)); do
        answers "$1" && return 0
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

start_docker() {
    dockerd --host "unix://$dir/docker.sock" --data-root "$dir/docker" --exec-root /run/docker --pidfile /run/docker.pid \
        --cgroup-parent "/${dir##*/}" --log-level warn >"$dir/docker.log" 2>&1 </dev/null &
    docker_pid=$!
    wait_for "$dir/docker.sock" "$docker_pid"
}

# Podman's defaults expect systemd and a whole cgroup tree. These settings run where they are absent.
start_podman() {
    cat >"$dir/containers.conf" <<'EOF'
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
EOF
    # Loopback registries speak plain HTTP; Docker takes that for granted, Podman wants to be told.
    cat >"$dir/registries.conf" <<'EOF'
[[registry]]
location = "127.0.0.1"
insecure = true
EOF
    export CONTAINERS_CONF="$dir/containers.conf" CONTAINERS_REGISTRIES_CONF="$dir/registries.conf"
    podman --root "$dir/podman" --runroot /run/ek-podman system service --time=0 "unix://$dir/podman.sock" \
        >"$dir/podman.log" 2>&1 </dev/null &
    podman_pid=$!
    unset CONTAINERS_CONF CONTAINERS_REGISTRIES_CONF
    wait_for "$dir/podman.sock" "$podman_pid"
}

last_words() { tail -n 1 "$1" 2>/dev/null || true; }

inside() {
    dir=$1
    local podman=$2 optional=$3
    shift 3
    docker_pid='' podman_pid=''

    # What the machine keeps in /run (another engine's sockets, its locks) is not for us, and ours is not for it.
    mount -t tmpfs -o mode=0755 evenkeel-run /run
    mkdir -p /run/lock /run/sshd
    ip link set lo up
    unset XDG_RUNTIME_DIR DOCKER_HOST CONTAINER_HOST

    trap stop EXIT
    trap 'exit 130' INT TERM HUP
    unset PRIVATE_DOCKER PRIVATE_DOCKER_ABSENT PRIVATE_PODMAN PRIVATE_PODMAN_ABSENT
    if ! command -v dockerd >/dev/null; then
        export PRIVATE_DOCKER_ABSENT="dockerd is not installed"
    elif start_docker; then
        export PRIVATE_DOCKER="unix://$dir/docker.sock"
    else
        PRIVATE_DOCKER_ABSENT="dockerd did not start: $(last_words "$dir/docker.log")"
        export PRIVATE_DOCKER_ABSENT
    fi
    if [ -n "${PRIVATE_DOCKER_ABSENT:-}" ]; then
        say "docker: does not run here, because $PRIVATE_DOCKER_ABSENT"
        if [ "$optional" = no ]; then
            tail -n 20 "$dir/docker.log" >&2 2>/dev/null || true
            exit 1
        fi
    fi
    if [ "$podman" = yes ]; then
        if ! command -v podman >/dev/null; then
            export PRIVATE_PODMAN_ABSENT="podman is not installed"
        elif start_podman; then
            export PRIVATE_PODMAN="unix://$dir/podman.sock"
        else
            PRIVATE_PODMAN_ABSENT="its service did not start: $(last_words "$dir/podman.log")"
            export PRIVATE_PODMAN_ABSENT
        fi
    fi

    local rc=0
    "$@" || rc=$?
    exit "$rc"
}

# The rest ends with the namespace; Docker is asked first, so that it kills its containers and drops their cgroups.
# shellcheck disable=SC2317 # it is the trap's
stop() {
    trap - EXIT
    local pid i
    for pid in $docker_pid $podman_pid; do
        kill -TERM "$pid" 2>/dev/null || true
    done
    for pid in $docker_pid $podman_pid; do
        for ((i = 0; i < 150; i++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    done
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
