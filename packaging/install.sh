#!/bin/sh
# Puts evenkeel in place from the unpacked release tarball, on any distribution, or takes it away again:
#
#     ./install.sh [--prefix DIR] [--destdir DIR] [--binary FILE] [--notices FILE] [--no-systemd]
#     ./install.sh --uninstall [--prefix DIR] [--destdir DIR]
#
# --prefix   where programs go: /usr/local where nothing is said, /usr, or /opt/evenkeel. The guard keeps declared files out of
#            what is there of evenkeel's; of other places it does not know
# --destdir  puts all of it below DIR instead, and starts nothing: for who builds packages and images. The .rpm, Yocto and
#            Buildroot use this
# --binary   the program, where it is not the one beside this script
# --notices  the licences of what is in the program (packaging/notices.sh, packed), where they are not beside this script
# --no-systemd  leaves out what only systemd reads
#
# A running agent is never stopped by an update: it is told that a new program stands there, and ends at its next idle
# moment; the service manager starts the new one. /etc/evenkeel and /var/lib/evenkeel are the device's: neither is touched,
# by --uninstall neither, nor are containers.
set -eu
umask 022

say() { echo "install: $*"; }
die() {
    echo "install: $*" >&2
    exit 1
}

prefix=/usr/local destdir='' binary='' notices='' uninstall=no systemd=yes
while [ $# -gt 0 ]; do
    case "$1" in
        --uninstall) uninstall=yes; shift; continue ;;
        --no-systemd) systemd=no; shift; continue ;;
        --prefix | --destdir | --binary | --notices) [ $# -gt 1 ] || { echo "install: $1 takes a value" >&2; exit 2; } ;;
        *) echo "install: there is no argument $1 (--prefix, --destdir, --binary, --notices, --no-systemd, --uninstall)" >&2; exit 2 ;;
    esac
    case "$1" in
        --prefix) prefix=${2%/} ;;
        --destdir) destdir=${2%/} ;;
        --binary) binary=$2 ;;
        --notices) notices=$2 ;;
    esac
    shift 2
done
case "$prefix" in
    /usr | /usr/local | /opt/evenkeel) ;;
    *) echo "install: --prefix is one of /usr, /usr/local and /opt/evenkeel: elsewhere the guard would not know the agent's own files" >&2; exit 2 ;;
esac

# systemd looks below /usr and /usr/local, and in /etc; so do its tmpfiles.
case "$prefix" in
    /usr | /usr/local)
        units=$prefix/lib/systemd/system presets=$prefix/lib/systemd/system-preset tmpfiles=$prefix/lib/tmpfiles.d
        rules=$prefix/lib/udev/rules.d
        ;;
    *) units=/etc/systemd/system presets=/etc/systemd/system-preset tmpfiles=/etc/tmpfiles.d rules=/etc/udev/rules.d ;;
esac
doc=$prefix/share/doc/evenkeel
live=no
if [ -z "$destdir" ]; then
    [ "$(id -u)" = 0 ] || die "this writes below $prefix and /etc: run it as root, or with --destdir"
    [ ! -d /run/systemd/system ] || live=yes
fi

# In the tarball everything lies beside this script, in the source tree some of it one floor up.
here=$(cd "$(dirname "$0")" && pwd)
top=$here
[ -d "$here/systemd" ] || top=$here/..

# --- away -------------------------------------------------------------------------------------------------------------

if [ "$uninstall" = yes ]; then
    if [ $live = yes ]; then
        systemctl disable --now evenkeel.service evenkeel-sync.timer evenkeel-enroll.service >/dev/null 2>&1 || true
    fi
    for unit in "$top"/systemd/evenkeel*; do
        rm -f "$destdir$units/${unit##*/}"
    done
    rm -f "$destdir$prefix/bin/evenkeel" "$destdir$prefix/share/man/man1/evenkeel.1" "$destdir$tmpfiles/evenkeel.conf" \
        "$destdir$presets/80-evenkeel.preset" "$destdir$rules/80-evenkeel.rules"
    rm -rf "$destdir$doc" "$destdir$prefix/lib/evenkeel"
    [ $live = no ] || systemctl daemon-reload
    say "removed; /etc/evenkeel, /etc/default/evenkeel and /var/lib/evenkeel are still there, and what runs runs on"
    exit 0
fi

# --- in place ---------------------------------------------------------------------------------------------------------

[ -n "$binary" ] || binary=$here/evenkeel
[ -f "$binary" ] || die "there is no $binary: name the program with --binary"

# put MODE FILE PATH: beside it first, then renamed, so that a power cut leaves the old file or the new one, and a program
# that runs keeps its own.
put() {
    mkdir -p "$destdir${3%/*}"
    cp "$2" "$destdir$3.new"
    chmod "$1" "$destdir$3.new"
    mv -f "$destdir$3.new" "$destdir$3"
}

# put_unit FILE PATH: with the paths of this prefix.
put_unit() {
    mkdir -p "$destdir${2%/*}"
    sed -e "s,/usr/bin/evenkeel,$prefix/bin/evenkeel,g" -e "s,/usr/lib/evenkeel/,$prefix/lib/evenkeel/,g" \
        -e "s,/usr/share/doc/evenkeel/,$doc/,g" "$1" >"$destdir$2.new"
    chmod 644 "$destdir$2.new"
    mv -f "$destdir$2.new" "$destdir$2"
}

put 755 "$binary" "$prefix/bin/evenkeel"
[ ! -f "$here/start.sh" ] || {
    put_unit "$here/start.sh" "$prefix/lib/evenkeel/start"
    chmod 755 "$destdir$prefix/lib/evenkeel/start"
}
if [ "$systemd" = yes ]; then
    for unit in "$top"/systemd/evenkeel*; do
        put_unit "$unit" "$units/${unit##*/}"
    done
    put_unit "$here/stick.sh" "$prefix/lib/evenkeel/stick"
    chmod 755 "$destdir$prefix/lib/evenkeel/stick"
    put 644 "$here/udev.rules" "$rules/80-evenkeel.rules"
    put 644 "$here/evenkeel.preset" "$presets/80-evenkeel.preset"
    put 644 "$here/tmpfiles.conf" "$tmpfiles/evenkeel.conf"
fi
put 644 "$here/evenkeel.1" "$prefix/share/man/man1/evenkeel.1"
put 644 "$top/README.md" "$doc/README.md"
put 644 "$top/LICENSE" "$doc/LICENSE"
# The source tree has none: they are written when a package is made.
[ -n "$notices" ] || [ ! -f "$here/NOTICES.gz" ] || notices=$here/NOTICES.gz
[ -z "$notices" ] || put 644 "$notices" "$doc/NOTICES.gz"
put 644 "$here/agent.toml" "$doc/examples/agent.toml"
# What somebody wrote into it stays.
[ -e "$destdir/etc/default/evenkeel" ] || put 644 "$here/default" /etc/default/evenkeel
mkdir -p "$destdir/etc/evenkeel"

[ -z "$destdir" ] || exit 0
# Fetched keys, kept revisions: nobody's but the agent's.
[ -d /var/lib/evenkeel ] || { mkdir -p /var/lib/evenkeel && chmod 700 /var/lib/evenkeel; }
if [ $live = no ]; then
    say "in place: $("$prefix/bin/evenkeel" --version). There is no systemd here: have your service manager run \`$prefix/bin/evenkeel run\`, and start it again whenever it ends"
    exit 0
fi
systemctl daemon-reload
pid=$(systemctl show --property=MainPID --value evenkeel.service 2>/dev/null) || pid=0
if [ "${pid:-0}" -gt 0 ]; then
    kill -USR1 "$pid"
    say "in place: $("$prefix/bin/evenkeel" --version). The running agent makes way for it at its next idle moment"
elif [ -e /etc/evenkeel/agent.toml ]; then
    say "in place: $("$prefix/bin/evenkeel" --version). To start it, now and at each boot: systemctl enable --now evenkeel"
else
    say "in place: $("$prefix/bin/evenkeel" --version). Next: /etc/evenkeel/agent.toml, as in $doc/examples/agent.toml, then: systemctl enable --now evenkeel"
fi
