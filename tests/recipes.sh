#!/usr/bin/env bash
# Runs what the recipes say, as far as it can be run without Yocto and Buildroot themselves:
#
#     tests/recipes.sh TARBALL --binary FILE        the tarball that packaging/source.sh made, and a program for do_compile's
#
# BitBake (PyPI's bitbake-setup, pinned) reads the Yocto recipe, fetches, checks and unpacks the tarball, and runs do_install. GNU
# make reads Buildroot's evenkeel.mk and runs its steps, for systemd and for an init script. The classes of OpenEmbedded and
# Buildroot's own makefiles are stand-ins (tests/recipes/); that the tarball builds is what `packaging/source.sh --check` shows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
BITBAKE=2.19.0
if [ $# != 3 ] || [ "$2" != --binary ]; then
    echo "usage: tests/recipes.sh TARBALL --binary FILE" >&2
    exit 2
fi
tarball=$(realpath "$1") binary=$(realpath "$3")
packaging/prerequisites.sh zig lintian
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
recipes=$(EVENKEEL_OUT=$work packaging/recipes.sh "$tarball")
tar --extract --directory "$work" --file "$recipes"
top=${recipes%.tar.gz}

/usr/bin/python3 -m venv "$work/venv"
printf '%s\n' "bitbake-setup==$BITBAKE --hash=sha256:b6ae77afc234d872f89938272317157f8553621467818825db7dbf70380bcdd2" >"$work/requirements.txt"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --requirement "$work/requirements.txt" </dev/null
mkdir "$work/yocto"
# By the whole path, so that the program named is this environment's.
"$work/venv/bin/python" tests/recipes/yocto.py "$top"/yocto/evenkeel_*.bb "$(dirname "$tarball")" "$binary" "$work/yocto"

for init in BR2_INIT_SYSTEMD=y BR2_INIT_SYSV=y; do
    make --no-print-directory --file tests/recipes/buildroot.mk "$init" "RECIPE=$top/buildroot/evenkeel" "TARBALL=$tarball" \
        "BINARY=$binary" "WORK=$work/buildroot-$init"
done
