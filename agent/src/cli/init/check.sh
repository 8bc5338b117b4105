#!/bin/sh
# What CI does, and what anybody can do by hand: every document, every device.
#
# Where evenkeel is not installed, EVENKEEL_URL says where the static program for this machine is, and EVENKEEL_SHA256 what it
# must be: set both as variables of the repository or its organisation.
set -eu
cd "$(dirname "$0")/.."
if ! command -v evenkeel >/dev/null; then
    : "${EVENKEEL_URL:?evenkeel is not installed: set EVENKEEL_URL and EVENKEEL_SHA256}"
    : "${EVENKEEL_SHA256:?set EVENKEEL_SHA256, too: sha256sum of what EVENKEEL_URL gives}"
    bin=$(mktemp -d)
    curl -fsSL --retry 3 -o "$bin/evenkeel" "$EVENKEEL_URL"
    echo "$EVENKEEL_SHA256  $bin/evenkeel" | sha256sum -c - >/dev/null
    chmod 755 "$bin/evenkeel"
    PATH=$bin:$PATH
fi
evenkeel lint .
evenkeel render . --all >/dev/null
