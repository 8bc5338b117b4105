#!/usr/bin/env bash
# Makes an image of the agent for container engines, without an engine, a registry, or root, and prints its path:
#
#     packaging/oci.sh [--fast] [TRIPLE[=FILE]]...
#
# One archive with one image for each target, or for this machine; the binary is the one that a release build left for that
# target, or FILE. --fast packs less tightly, for tests. It is an OCI layout with an index over all platforms (`skopeo copy oci-archive:... docker://...`,
# `podman load`), and what `docker load` of any age reads: there each image is evenkeel:VERSION, or with more than one
# target evenkeel:VERSION-ARCH. In it are the program, its licences, and the CA certificates of this machine
# ($EVENKEEL_CA_FILE names others), and nothing else. A binary that is not static brings the libraries that it asks for, on this machine's own
# architecture; elsewhere it is refused. The same binaries and certificates give the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
level=--best
if [ "${1:-}" = --fast ]; then
    level=--fast
    shift
fi
[ $# -gt 0 ] || set -- "$(host_triple)"
ca=${EVENKEEL_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ -s "$ca" ] || die "there are no CA certificates in $ca: install ca-certificates, or name a file in EVENKEEL_CA_FILE"
mkdir -p "$OUT"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs"
created=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)

digest_of() { sha256sum <"$1" | cut -d' ' -f1; }
# keep FILE: into the blobs, by its digest, which is printed.
keep() {
    local digest
    digest=$(digest_of "$1")
    mv "$1" "$blobs/$digest"
    echo "$digest"
}

# root_of TRIPLE FILE: the image's root directory.
root_of() {
    local root=$work/root library
    rm -rf "$root"
    mkdir -p "$root"/{etc/evenkeel,etc/ssl/certs,run,tmp,usr/bin,var/lib/evenkeel}
    chmod 1777 "$root/tmp"
    chmod 700 "$root/var/lib/evenkeel"
    install -m 755 "$2" "$root/usr/bin/evenkeel"
    install -d "$root/usr/share/doc/evenkeel"
    install -m 644 "$ROOT/LICENSE" "$root/usr/share/doc/evenkeel/"
    notices_to "$root/usr/share/doc/evenkeel/NOTICES.gz" "$1"
    install -m 644 "$ca" "$root/etc/ssl/certs/ca-certificates.crt"
    echo 'root:x:0:0:root:/:/usr/bin/evenkeel' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    # A program that asks for a loader is not static.
    if LC_ALL=C readelf --program-headers --wide "$2" | grep -q INTERP; then
        [ "${1%%-*}" = "$(uname -m)" ] ||
            die "$2 is not static, and its libraries are not this machine's: build a static one (packaging/cross-build.sh $1)"
        while read -r library; do
            install -D -m 755 "$(realpath "$library")" "$root$library"
        done < <(ldd "$2" | grep -o '/[^ ]*' | sort -u)
    fi
}

manifests='' for_docker=''
for each in "$@"; do
    triple=${each%%=*} file=''
    case "$each" in *=*) file=${each#*=} ;; esac
    [ -n "$file" ] || file=$(binary_of "$triple")
    [ -x "$file" ] || die "$file is no program"
    arch=$(arch_of "$triple" oci)
    variant=$(arch_of "$triple" variant)
    root_of "$triple" "$file"
    plain_tar "$work/root" . >"$work/layer.tar"
    inner=$(digest_of "$work/layer.tar")
    gzip "$level" --no-name "$work/layer.tar"
    size=$(stat -c %s "$work/layer.tar.gz")
    layer=$(keep "$work/layer.tar.gz")
    platform="\"architecture\":\"$arch\",\"os\":\"linux\"${variant:+,\"variant\":\"$variant\"}"

    printf '%s' "{\"created\":\"$created\",$platform,\"config\":{\"Env\":[\"PATH=/usr/bin\"],\"Entrypoint\":[\"/usr/bin/evenkeel\"],\"Cmd\":[\"run\"],\"Labels\":{\"org.opencontainers.image.title\":\"evenkeel\",\"org.opencontainers.image.version\":\"$VERSION\",\"org.opencontainers.image.licenses\":\"Apache-2.0 OR MIT\"}},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$inner\"]},\"history\":[{\"created\":\"$created\",\"created_by\":\"packaging/oci.sh\"}]}" >"$work/config"
    config_size=$(stat -c %s "$work/config")
    config=$(keep "$work/config")
    printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$config\",\"size\":$config_size},\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$layer\",\"size\":$size}]}" >"$work/manifest"
    manifest_size=$(stat -c %s "$work/manifest")
    manifest=$(keep "$work/manifest")

    tag=$VERSION
    [ $# -eq 1 ] || tag=$VERSION-$arch${variant:+$variant}
    manifests+="${manifests:+,}{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$manifest\",\"size\":$manifest_size,\"platform\":{$platform}}"
    for_docker+="${for_docker:+,}{\"Config\":\"blobs/sha256/$config\",\"RepoTags\":[\"evenkeel:$tag\"],\"Layers\":[\"blobs/sha256/$layer\"]}"
done

# One image is named by the layout itself. An index over several platforms is a blob, too, so that one name means all of them.
names="\"annotations\":{\"org.opencontainers.image.ref.name\":\"evenkeel:$VERSION\",\"io.containerd.image.name\":\"docker.io/library/evenkeel:$VERSION\"}"
top="${manifests%\}},$names}"
if [ $# -gt 1 ]; then
    printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[$manifests]}" >"$work/index"
    index_size=$(stat -c %s "$work/index")
    index=$(keep "$work/index")
    top="{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"sha256:$index\",\"size\":$index_size,$names}"
fi
printf '%s' "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[$top]}" >"$work/layout/index.json"
printf '%s' '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
printf '%s' "[$for_docker]" >"$work/layout/manifest.json"

if [ $# -eq 1 ]; then name=evenkeel-$VERSION-$arch${variant:+$variant}.oci.tar; else name=evenkeel-$VERSION.oci.tar; fi
plain_tar "$work/layout" blobs index.json manifest.json oci-layout >"$OUT/$name.new"
mv "$OUT/$name.new" "$OUT/$name"
echo "$OUT/$name"
