#!/usr/bin/env bash
# Makes the .deb, and prints its path:
#
#     packaging/deb.sh [--target TRIPLE] [--binary FILE] [--fast]
#
# The binary is the one that a release build left for that target, or FILE. --fast packs less tightly, for tests. What is in
# the package stands in agent/Cargo.toml ([package.metadata.deb]), its scripts and the rest in packaging/deb.
# The same binary and source give the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_options "$@"
fast=() packing=(-Zxz -z6 --threads-max=1)
for argument in "${ARGUMENTS[@]}"; do
    case "$argument" in
        --fast) fast=(--fast) packing=(-Zgzip -z1) ;;
        *) die "there is no argument $argument" 2 ;;
    esac
done

"$ROOT/packaging/prerequisites.sh" deb >&2

# cargo-deb takes the binary from a target directory. It gets one of its own, so that any file can be packed; the
# licences of what is in the binary lie beside it there.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install -D -m 755 "$BINARY" "$work/target/$TARGET/release/evenkeel"
notices_to "$work/target/$TARGET/release/NOTICES.gz" "$TARGET"
deb="$OUT/evenkeel_${VERSION}-1_$(arch_of "$TARGET" debian).deb"
cd "$ROOT"
CARGO_TARGET_DIR=$work/target cargo deb --package evenkeel --no-build --no-strip --target "$TARGET" --locked --offline \
    --quiet "${fast[@]}" --output "$work/made.deb" >&2
# With the sums of its files, which `dpkg --verify` and debsums read and cargo-deb does not write.
dpkg-deb --raw-extract "$work/made.deb" "$work/tree"
(
    cd "$work/tree"
    find . -type f -not -path './DEBIAN/*' -printf '%P\n' | LC_ALL=C sort |
        grep -vxF -f <(sed 's,^/,,' DEBIAN/conffiles) | tr '\n' '\0' | xargs -0 md5sum >DEBIAN/md5sums
    chmod 644 DEBIAN/md5sums
)
dpkg-deb --root-owner-group "${packing[@]}" --build "$work/tree" "$work/whole.deb" >/dev/null
mv "$work/whole.deb" "$deb"
echo "$deb"
