#!/usr/bin/env bash
# Makes the source tarball of a commit, which Yocto and Buildroot build from, and prints its path:
#
#     packaging/source.sh [--plain] [REV]
#     packaging/source.sh --check [--profile NAME] [REV]     makes it, and builds from it as the recipes do
#
# --check unpacks it, builds with no network and with none of the crates that cargo has here, installs into a folder and
# asks the program that lies there for its version; the profile is `release` where nothing is said, some minutes of two cores.
#
# REV is HEAD where nothing is said. The crates that Cargo.lock names come with it, in VENDOR/, so that it builds with no network
# (`cargo build --release --frozen -p evenkeel`); --plain leaves them out. The same commit gives the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
plain=no check=no profile=release rev=HEAD
while [ $# -gt 0 ]; do
    case "$1" in
        --plain) plain=yes ;;
        --check) check=yes ;;
        --profile)
            [ $# -gt 1 ] || die "--profile wants the name of a profile in Cargo.toml" 2
            profile=$2
            shift
            ;;
        -*) die "there is no argument $1" 2 ;;
        *) rev=$1 ;;
    esac
    shift
done
[ "$plain$check" != yesyes ] || die "--check: the plain tarball has no crates to build with" 2
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
[ "$check" = yes ] || exit 0

# As a build machine has it: the tarball, a toolchain, and nothing else. There is no way out, and nothing of cargo's own.
rm -rf "${work:?}/$name"
tar --extract --directory "$work" --file "$OUT/$artifact.tar.xz"
mkdir "$work/cargo" "$work/root"
alone=(unshare --net)
[ "$(id -u)" = 0 ] || alone+=(--map-root-user)
began=$SECONDS folder=$profile
[ "$profile" != dev ] || folder=debug
(
    cd "$work/$name"
    "${alone[@]}" env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "CARGO_HOME=$work/cargo" "CARGO_TARGET_DIR=$work/$name/target" \
        cargo build --quiet --frozen --profile "$profile" --package evenkeel </dev/null >&2
    packaging/install.sh --destdir "$work/root" --prefix /usr --binary "target/$folder/evenkeel" >&2
)
said=$("$work/root/usr/bin/evenkeel" --version)
case "$said" in
    "evenkeel $version"*) ;;
    *) die "what was built and installed says '$said', and not evenkeel $version" ;;
esac
say "built from it with no network in $((SECONDS - began)) s (profile $profile), and installed: $said"
