#!/usr/bin/env bash
# Makes the release tarball of one target, the program with install.sh, and prints its path:
#
#     packaging/tarball.sh [--target TRIPLE] [--binary FILE]
#
# The binary is the one that a release build left for that target, or FILE. The same binary and source give the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_options "$@"
[ ${#ARGUMENTS[@]} -eq 0 ] || die "there is no argument ${ARGUMENTS[0]}" 2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=evenkeel-$VERSION-$TARGET
mkdir -p "$work/$name/systemd"
install -m 755 "$BINARY" "$work/$name/evenkeel"
install -m 755 "$ROOT/packaging/install.sh" "$work/$name/install.sh"
[ ! -e "$ROOT/packaging/start.sh" ] || install -m 755 "$ROOT/packaging/start.sh" "$work/$name/"
install -m 755 "$ROOT/packaging/stick.sh" "$work/$name/"
install -m 644 "$ROOT"/packaging/{agent.toml,default,evenkeel.1,evenkeel.preset,tmpfiles.conf,udev.rules} "$ROOT"/{LICENSE,README.md} "$work/$name/"
install -m 644 "$ROOT"/systemd/evenkeel* "$work/$name/systemd/"
notices_to "$work/$name/NOTICES.gz" "$TARGET"
plain_tar "$work" "$name" | gzip --best --no-name >"$OUT/$name.tar.gz.new"
mv "$OUT/$name.tar.gz.new" "$OUT/$name.tar.gz"
echo "$OUT/$name.tar.gz"
