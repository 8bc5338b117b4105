#!/usr/bin/env bash
# Boots a PC with a TPM, and one with another: what `evenkeel enroll --seal tpm2` is worth.
#
#     tests/sealed.sh
#
# The machine is Debian 12 with systemd and the agent's package, the TPM is swtpm, both emulated (QEMU; no KVM is needed). At its first
# boot it makes an identity that the TPM keeps, and fetches over ssh with it as its deploy key; after a boot it does so again.
# The same disk in a machine with another TPM cannot open it: it has to say so, and to leave what runs as it is.
#
# The first run makes the machine, which takes some minutes, and keeps it in the target directory (guest-sealed/; remove that to
# have it made anew). Needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/machine.sh
. tests/machine.sh
target=${CARGO_TARGET_DIR:-$PWD/target}
made=$target/guest-sealed
[ $# -eq 0 ] || { echo "sealed: there is no option $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "sealed: a disk is made and mounted here, which needs root" >&2; exit 1; }

packaging/prerequisites.sh build git ssh guest tpm
cargo build --quiet --package evenkeel </dev/null
cargo build --quiet --package evenkeel-tests --bin sealed </dev/null
# What systemd opens a TPM with, by the names it opens them by, and git's way to an ssh server.
machine_in "$made" gateway openssh-client,libtss2-esys-3.0.2-0,libtss2-rc0,libtss2-mu0,libtss2-tcti-device0
# Symbols are ninety of its hundred megabytes.
strip -o "$made/evenkeel" "$target/debug/evenkeel"
deb=$(packaging/deb.sh --binary "$made/evenkeel" --fast)
exec "$target/debug/sealed" --guest "$made" --deb "$deb"
