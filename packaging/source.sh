#!/usr/bin/env bash
# Makes the source tarball of a commit, which Yocto and Buildroot build from, and prints its path:
#
#     packaging/source.sh [--plain] [REV]
#
# REV is HEAD where nothing is said. The crates that Cargo.lock names come with it, in VENDOR/, so that it builds with no network
# (`cargo build --release --frozen -p evenkeel`); --plain leaves them out. The same commit gives the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
plain=no rev=HEAD
for argument in "$@"; do
    case "$argument" in
        --plain) plain=yes ;;
        -*) die "there is no argument $argument" 2 ;;
        *) rev=$argument ;;
    esac
done
mkdir -p "$OUT"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(git -C "$ROOT" log -1 --format=%ct "$rev")
version=$(git -C "$ROOT" show "$rev:Cargo.toml" | sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p')
name=evenkeel-$version
git -C "$ROOT" archive --prefix="$name/" "$rev" | tar --extract --directory "$work"
artifact=$name
if [ "$plain" = no ]; then
    artifact=$name-vendored
    mkdir -p "$work/$name/.cargo"
    # Buildroot takes a tarball with this name in it for one that has its crates. What cargo has to be told of it, it prints.
    (cd "$work/$name" && cargo vendor --locked --versioned-dirs VENDOR) >"$work/config" 2>"$work/log" || {
        cat "$work/log" >&2
        die "cargo vendor failed (its words are above)"
    }
    grep -q '^directory = ' "$work/config" || die "cargo vendor did not say how its folder is used"
    cat "$work/config" >>"$work/$name/.cargo/config.toml"
    # Who installs from it has no need of cargo for the licences of those crates.
    (cd "$work/$name" && packaging/notices.sh --target aarch64-unknown-linux-musl | gzip --best --no-name >"$work/NOTICES.gz")
    mv "$work/NOTICES.gz" "$work/$name/packaging/"
fi
plain_tar "$work" "$name" | xz --threads=1 -6 >"$OUT/$artifact.tar.xz.new"
mv "$OUT/$artifact.tar.xz.new" "$OUT/$artifact.tar.xz"
echo "$OUT/$artifact.tar.xz"
