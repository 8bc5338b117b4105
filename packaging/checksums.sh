#!/usr/bin/env bash
# Writes SHA256SUMS over all artifacts of a folder, and signs it with an SSH key:
#
#     packaging/checksums.sh --key KEY [DIR]
#
# DIR is where the packaging scripts put their artifacts, where nothing is said. KEY is what `ssh-keygen -Y sign -f` takes: a
# private key, or a public one whose private half is in an agent or on hardware. Whoever has the public key verifies with
#
#     echo "release@acme.example namespaces=\"file\" $(cat release.pub)" > release_signers
#     ssh-keygen -Y verify -f release_signers -I release@acme.example -n file -s SHA256SUMS.sig < SHA256SUMS
#     sha256sum --check --ignore-missing SHA256SUMS
#
# The order matters: the sums count once their signature does.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
key='' dir=$OUT
while [ $# -gt 0 ]; do
    case "$1" in
        --key) key=$(realpath "${2:?--key takes a file}"); shift 2 ;;
        -*) die "there is no argument $1" 2 ;;
        *) dir=$1; shift ;;
    esac
done
[ -n "$key" ] || die "name the key that signs with --key" 2
[ -d "$dir" ] || die "there is no folder $dir"
cd "$dir"
rm -f SHA256SUMS SHA256SUMS.sig
find . -maxdepth 1 -type f ! -name '*.new' ! -name 'SHA256SUMS*' -printf '%P\0' | sort --zero-terminated |
    xargs --null --no-run-if-empty sha256sum >SHA256SUMS.new
[ -s SHA256SUMS.new ] || { rm -f SHA256SUMS.new; die "there is nothing in $dir"; }
ssh-keygen -q -Y sign -n file -f "$key" SHA256SUMS.new </dev/null
mv SHA256SUMS.new.sig SHA256SUMS.sig
mv SHA256SUMS.new SHA256SUMS
echo "$dir/SHA256SUMS"
echo "$dir/SHA256SUMS.sig"
