#!/bin/sh
# evenkeel: lint hook, version 1. `evenkeel init` writes it and keeps it up to date; your own lines get lost here.
#
# Checks what is about to be committed, as a device would judge it: the index, not the work tree.
set -eu

# Only what belongs to a fleet: hooks may be shared by all repositories of a user (core.hooksPath).
git rev-parse --quiet --verify :fleet.toml >/dev/null || exit 0
if ! command -v evenkeel >/dev/null; then
    echo 'evenkeel: it is not in PATH, and this commit is not checked' >&2
    exit 0
fi
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
git checkout-index --all --prefix="$staged/"
if ! evenkeel lint "$staged" >"$staged.out" 2>&1; then
    cat "$staged.out" >&2
    rm -f "$staged.out"
    echo 'evenkeel: nothing was committed (git commit --no-verify goes on all the same)' >&2
    exit 1
fi
rm -f "$staged.out"
