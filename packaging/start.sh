#!/bin/sh
# Starts the agent: installed as /usr/lib/evenkeel/start, and called as `start run` by the service manager, or by a loop:
#
#     while :; do /usr/lib/evenkeel/start run; sleep 5; done
#
# It is what brings an old agent back after an update of the agent that does not work, so it knows nothing of the new one,
# and does little enough to be read in a minute. In <state_dir>/agent there are
#
#     <version>-<first 12 digits of its SHA-256>/evenkeel    generations
#     current, previous                                      links to those that have proven themselves
#     next                                                   link to one that has not yet
#
# `next` is started at most three times, each of which is counted (strike-1, -2, -3 beside it, synced) before it begins. It
# proves itself by renaming `next` to `current`, after a whole healthy pass. Where it has not done so within the deadline, it
# is killed and all its strikes are spent. After that, or where nothing can be counted (a full disk), `current` is started;
# where that is not what its name says, `previous`; and where there is none of them, the binary of the package.
#
# It needs a POSIX shell, and readlink, sed, sha256sum, sync and timeout as coreutils or busybox have them.
set -u

packaged=${EVENKEEL_PACKAGED:-/usr/bin/evenkeel}
# Seconds that a new agent has for its first healthy pass: more than the longest pause between two polls that fail.
deadline=${EVENKEEL_DEADLINE:-1200}
case $deadline in '' | *[!0-9]*) deadline=1200 ;; esac
strikes=3

say() {
    echo "evenkeel start: $*" >&2
}

# The state directory, as the configuration names it.
config=/etc/evenkeel/agent.toml
is_next=no
for argument in "$@"; do
    if [ "$is_next" = yes ]; then
        config=$argument
        is_next=no
    fi
    case $argument in
        --config) is_next=yes ;;
        --config=*) config=${argument#--config=} ;;
    esac
done
state_dir=$(sed -n -e '/^[[:space:]]*\[/q' \
    -e "s/^[[:space:]]*state_dir[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" "$config" 2>/dev/null)
dir=${state_dir:-/var/lib/evenkeel}/agent

# Whether a link leads to a generation that is what its name says, and that runs here. Sets $id.
leads_to_a_whole_one() {
    id=$(readlink "$dir/$1" 2>/dev/null) || return 1
    case $id in '' | .* | *[!A-Za-z0-9.+_-]*) return 1 ;; esac
    digits=${id##*-}
    if [ ${#digits} -ne 12 ] || [ ! -f "$dir/$id/evenkeel" ]; then
        say "$dir/$1 leads to no generation: passed over"
        return 1
    fi
    sum=$(sha256sum <"$dir/$id/evenkeel") || return 1
    case $sum in
        "$digits"*) ;;
        *)
            say "$dir/$id/evenkeel is damaged: passed over"
            return 1
            ;;
    esac
    if ! timeout 20 "$dir/$id/evenkeel" --version </dev/null >/dev/null 2>&1; then
        say "$dir/$id/evenkeel does not run: passed over"
        return 1
    fi
}

# Whether `next` may be started once more. Sets $strike.
has_a_start_left() {
    to=$(readlink "$dir/next") || return 1
    strike=1
    while [ "$strike" -le "$strikes" ] && [ -e "$dir/$to/strike-$strike" ]; do
        strike=$((strike + 1))
    done
    if [ "$strike" -gt "$strikes" ]; then
        say "$to has used up its $strikes starts: the one before it is started"
        return 1
    fi
}

# Counts a start of $id before it begins. What cannot be counted is not started.
count() {
    if ! { (: >"$dir/$id/strike-$strike") && sync "$dir/$id"; } 2>/dev/null; then
        say "cannot count a start of $id: the one before it is started"
        return 1
    fi
}

# When a process that has not ended began, in ticks: tells it from another one that has its number later.
began() {
    sed -n 's/.*) \([^ZX]\)/\1/p' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20
}

# Kills the process $1, which began at $2, where $id has not proven itself in time.
watch() {
    waited=0
    pause=5
    [ "$deadline" -ge 60 ] || pause=1
    while [ "$waited" -lt "$deadline" ]; do
        sleep "$pause"
        waited=$((waited + pause))
        [ "$(readlink "$dir/next" 2>/dev/null)" = "$id" ] || return 0
        [ "$(began "$1")" = "$2" ] || return 0
    done
    say "$id had no healthy pass within $deadline s: the one before it is started"
    for file in late strike-1 strike-2 strike-3; do
        (: >"$dir/$id/$file") 2>/dev/null
    done
    sync "$dir/$id" 2>/dev/null
    kill -KILL "$1"
}

export EVENKEEL_GENERATIONS="$dir"
if [ -L "$dir/next" ] && has_a_start_left && leads_to_a_whole_one next && count; then
    say "$id is on trial: start $strike of $strikes"
    # Nobody's child, so that the agent has none to wait for; and it ends by itself.
    birth=$(began "$$")
    (
        exec </dev/null >/dev/null
        watch "$$" "$birth" &
    )
elif [ -L "$dir/current" ] && leads_to_a_whole_one current; then
    :
elif [ -L "$dir/previous" ] && leads_to_a_whole_one previous; then
    :
else
    export EVENKEEL_GENERATION=package
    exec "$packaged" "$@"
fi
export EVENKEEL_GENERATION="$id"
exec "$dir/$id/evenkeel" "$@"
