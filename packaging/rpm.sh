#!/usr/bin/env bash
# Makes the .rpm with Debian's rpmbuild, for any target, and prints its path:
#
#     packaging/rpm.sh [--target TRIPLE] [--binary FILE] [--fast]
#
# The binary is the one that a release build left for that target, or FILE. --fast packs less tightly, for tests. What is in
# the package stands in packaging/install.sh, its scripts in packaging/rpm/evenkeel.spec. The same binary and source give the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
take_options "$@"
payload=w6.xzdio
for argument in "${ARGUMENTS[@]}"; do
    case "$argument" in
        --fast) payload=w1.gzdio ;;
        *) die "there is no argument $argument" 2 ;;
    esac
done
"$ROOT/packaging/prerequisites.sh" rpm >&2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
arch=$(arch_of "$TARGET" rpm)
# The paths that the spec sees are in nothing that it packs.
ln -s "$ROOT" "$work/source"
ln -s "$BINARY" "$work/evenkeel"
notices_to "$work/NOTICES.gz" "$TARGET"
start=''
[ ! -e "$ROOT/packaging/start.sh" ] || start=/usr/lib/evenkeel
sed "s,^@START@\$,$start," "$ROOT/packaging/rpm/evenkeel.spec" >"$work/evenkeel.spec"
# xz, which every rpm since RHEL 6 reads. This machine's name and the time of the build stay out.
rpmbuild -bb --quiet --target "$arch-unknown-linux" \
    --define "_topdir $work/top" --define "version $VERSION" --define "source $work/source" --define "binary $work/evenkeel" \
    --define "notices $work/NOTICES.gz" \
    --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
    --define "clamp_mtime_to_source_date_epoch 1" --define "_binary_payload $payload" \
    --define "_rpmdir $work/rpms" "$work/evenkeel.spec" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    die "rpmbuild failed (its words are above)"
}
rpm=evenkeel-$VERSION-1.$arch.rpm
mv "$work/rpms/$arch/$rpm" "$OUT/$rpm"
echo "$OUT/$rpm"
