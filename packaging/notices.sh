#!/usr/bin/env bash
# Writes the licences of everything that is linked into the program to stdout: each crate with its licence, and the texts
# that the crates bring, each once with the names of those that bring it.
#
#     packaging/notices.sh [--target TRIPLE]
#
# The crates are those of Cargo.lock that a build for TRIPLE takes (this machine's where none is given), and their texts are
# read where cargo keeps their sources: in its own folder, or in VENDOR/. It asks no network; what is not there yet,
# `cargo fetch --locked` brings. The same sources give the same bytes.
set -euo pipefail
# shellcheck source=packaging/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
target=''
while [ $# -gt 0 ]; do
    case "$1" in
        --target) target=${2:?--target takes a triple}; shift 2 ;;
        *) die "there is no argument $1" 2 ;;
    esac
done
[ -n "$target" ] || target=$(host_triple)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$ROOT"

# Name-version, licence and folder of each crate that ends up in the program: no build scripts, no macros, no tests.
cargo metadata --locked --offline --format-version 1 --filter-platform "$target" |
    grep -o '"manifest_path":"[^"]*/Cargo.toml"' | cut -d'"' -f4 | sed 's,/Cargo.toml$,,' >"$work/folders"
cargo tree --locked --offline --package evenkeel --edges normal,no-proc-macro --target "$target" \
    --prefix none --no-dedupe --format '{p}|{l}' | sort -u |
    sed -E -e '/ \(/d' -e 's/ v([^|]*)\|/-\1|/' >"$work/linked"
awk -F'|' 'NR == FNR { folder = $0; sub(".*/", ""); where[$0] = folder; next }
    {
        if (!($1 in where)) { print "there are no sources of " $1 | "cat >&2"; exit 1 }
        print $1 "|" $2 "|" where[$1]
    }' "$work/folders" "$work/linked" >"$work/crates" || die "not every crate's sources are here: cargo fetch --locked brings them"
[ -s "$work/crates" ] || die "cargo named no crate for $target"

# Their texts: beside the manifest, and where a crate keeps those of code that it took from elsewhere.
mapfile -t folders < <(cut -d'|' -f3 "$work/crates")
find "${folders[@]}" -type f \( -iname '*licen[sc]e*' -o -iname 'copying*' -o -iname 'copyright*' -o -iname 'notice*' \) \
    -printf '%H|%P\n' |
    awk -F'|' 'NR == FNR { crate[$3] = $1; next }
        $2 !~ /^(tests|resources)\/|\.rs$/ { print crate[$1] "|" $1 "/" $2 }' "$work/crates" - | sort >"$work/texts"

cat <<END
evenkeel $VERSION is licensed under Apache-2.0 or MIT, as you like. The program contains the following crates, under the
licences that stand beside them. Their texts follow.

END
awk -F'|' '{ printf "%-42s %s\n", $1, $2 }' "$work/crates"
cat <<'END'

Also in it are Rust's standard library (Copyright (c) The Rust Project Contributors; Apache-2.0 OR MIT, whose texts are
below) and, in a static build, the C library musl:

    Copyright © 2005-2020 Rich Felker, et al.

    Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
    documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
    rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
    persons to whom the Software is furnished to do so, subject to the following conditions:

    The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
    Software.

    THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
    WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
    COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
    OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
END

# A text that differs from another in its blanks alone is the same one.
awk -F'|' -v crates="$work/crates" '
    {
        key = text = ""
        while ((getline line <$2) > 0) {
            sub(/\r$/, "", line)
            text = text line "\n"
            gsub(/[ \t]+/, " ", line)
            sub(/^ /, "", line)
            sub(/ $/, "", line)
            if (line != "") key = key line " "
        }
        close($2)
        if (key == "") next
        has[$1] = 1
        if (!(key in number)) { number[key] = ++count; texts[count] = text }
        at = number[key]
        if (index(names[at] ", ", $1 ", ") == 0) names[at] = names[at] (names[at] == "" ? "" : ", ") $1
    }
    END {
        rule = "--------------------------------------------------------------------------------"
        for (i = 1; i <= count; i++) printf "\n%s\n%s\n%s\n\n%s", rule, names[i], rule, texts[i]
        while ((getline line <crates) > 0) {
            split(line, part, "|")
            if (part[1] in has) continue
            authors = ""
            while ((getline entry <(part[3] "/Cargo.toml")) > 0)
                if (entry ~ /^authors = /) { authors = entry; sub(/^authors = /, " by ", authors) }
            close(part[3] "/Cargo.toml")
            without = without sprintf("%s%s: %s\n", part[1], authors, part[2])
        }
        if (without != "") printf "\n%s\nThese bring no text of their own, and are under licences whose texts stand above\n%s\n\n%s", rule, rule, without
    }' "$work/texts"
