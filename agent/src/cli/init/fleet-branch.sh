#!/bin/sh
# evenkeel: fleet-branch hook, version 1. `evenkeel init` writes it and keeps it up to date; your own lines get lost here.
#
# Ends a commit's message with the trailer `Fleet-Branch: <branch>`, so that a device with trust.bind_branch takes the
# commit on that branch and on no other. It is there twice: as commit-msg, and as prepare-commit-msg for what git commits
# without asking commit-msg (cherry-pick, revert, rebase).
set -eu
message=$1
trailer=Fleet-Branch
line='[Ff][Ll][Ee][Ee][Tt]-[Bb][Rr][Aa][Nn][Cc][Hh][[:blank:]]*:'

# Only what belongs to a fleet: hooks may be shared by all repositories of a user (core.hooksPath).
git rev-parse --quiet --verify :fleet.toml >/dev/null || exit 0

# An editor that is still to come may be closed with an empty message, to give up: nothing may be added before it, but what
# came from another branch has to go. git says with `:` that there will be none.
editor=${GIT_EDITOR:-}
case ${0##*/} in
prepare-commit-msg) [ "$editor" = : ] || grep -q "^$line" "$message" || exit 0 ;;
esac

# Whether lines that begin with a comment character are comments: git's own default depends on the editor.
cleanup=$(git config --get commit.cleanup || echo default)
case $cleanup:$editor in
default:: | whitespace:* | verbatim:* | scissors::) comments=no ;;
*) comments=yes ;;
esac
# What is left of a message, from stdin.
told() {
    if [ $comments = yes ]; then
        sed '/^[^ ]\{1,\} -\{24\} >8 -\{24\}$/,$d' | git stripspace --strip-comments
    else
        git stripspace
    fi
}

text=$(told <"$message")
# Nothing said, or the template as it was: git gives up on these, and has to see them as they are.
[ -n "$text" ] || exit 0
template=$(git config --type=path --get commit.template || true)
if [ -n "$template" ] && [ -f "$template" ] && [ "$text" = "$(told <"$template")" ]; then exit 0; fi

# The branch: where HEAD is, or the one that is being rebased.
ref=$(git symbolic-ref --quiet HEAD || true)
for folder in rebase-merge rebase-apply; do
    name=$(git rev-parse --git-path $folder/head-name)
    if [ -z "$ref" ] && [ -f "$name" ]; then ref=$(cat "$name"); fi
done
case $ref in
refs/heads/?*) branch=${ref#refs/heads/} ;;
*) branch= ;;
esac

# What is there goes first, wherever it stands but in the subject: from another branch, or several of them.
copy=$message.evenkeel
trap 'rm -f "$copy"' EXIT
sed "2,\${/^$line/d;}" "$message" | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' >"$copy"
cat "$copy" >"$message"
if [ -z "$branch" ]; then
    echo "evenkeel: HEAD is on no branch, so this commit says for none that it is made for it (no $trailer)" >&2
    exit 0
fi
set -- interpret-trailers --in-place --no-divider --if-exists replace --if-missing add --where end
set -- "$@" --trailer "$trailer: $branch" "$message"
if [ $comments = yes ]; then
    git "$@"
else
    # A character that begins no line, so that `#12` stays what it is.
    git -c core.commentChar="$(printf '\001')" "$@"
fi

# A device reads trailers only from a last paragraph that has nothing else; git is more generous.
if told <"$message" | awk '
    /^[[:blank:]]*$/ { bad = 0; next }
    /^[A-Za-z0-9-]+[[:blank:]]*:/ || /^[[:blank:]]/ || /^\(cherry picked from commit .*\)$/ { next }
    { bad = 1 }
    END { exit !bad }'; then
    awk -v own="$trailer: " 'NR > 1 && index($0, own) == 1 { print "" } { print }' "$message" >"$copy"
    cat "$copy" >"$message"
    echo "evenkeel: the paragraph before $trailer has text and trailers; a device finds none of the latter there" >&2
fi
