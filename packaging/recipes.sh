#!/usr/bin/env bash
# Writes the Yocto recipe and the Buildroot package for a source tarball, with its checksum in them, and prints the path of
# the archive that holds both:
#
#     packaging/recipes.sh EVENKEEL-VERSION-vendored.tar.xz
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ $# -eq 1 ] || die "name the source tarball, as packaging/source.sh makes it" 2
name=evenkeel-$VERSION-vendored.tar.xz
[ "$(basename "$1")" = "$name" ] || die "$1 is not this version's: the recipes build from $name"
sum=$(sha256sum <"$1" | cut -d' ' -f1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=evenkeel-$VERSION-recipes
mkdir -p "$OUT" "$work/$top"
cp -R "$ROOT/packaging/yocto" "$ROOT/packaging/buildroot" "$work/$top/"
chmod -R u=rwX,go=rX "$work/$top"
sed -i "s/@SHA256@/$sum/" "$work/$top/yocto/evenkeel_$VERSION.bb" "$work/$top/buildroot/evenkeel/evenkeel.hash"
plain_tar "$work" "$top" | gzip --best --no-name >"$OUT/$top.tar.gz.new"
mv "$OUT/$top.tar.gz.new" "$OUT/$top.tar.gz"
echo "$OUT/$top.tar.gz"
