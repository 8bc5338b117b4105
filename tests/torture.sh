#!/usr/bin/env bash
# Breaks devices in every way that is known here, and counts how they end:
#
#     tests/torture.sh [--quick | --full] [--seed N] [--plant NAME] [PART-OF-A-NAME]
#     tests/torture.sh --table DIR
#
# --quick   what every run of tests/run.sh tries, too (the default)
# --full    what takes hours: every pair, every byte, every seed, every cut
# --seed    one case alone, by the number that a red run printed
# --plant   with a fault in the harness itself, which has to make the table red: ignore-fsync, forget-try,
#           link-never-mends
# --table   prints the table of what was counted in DIR
#
# The table has one line a class of faults: cases that were run, devices that ended at the new revision and healthy, at the last
# good one and healthy, and at neither of them. The last column is the promise: it is zero. Below it, the faults that were planted
# on purpose, and in how many cases the harness saw them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

table() {
    local files
    files=$(find "$1" -maxdepth 1 -type f | sort)
    [ -n "$files" ] || return 0
    # shellcheck disable=SC2086 # names of our own, without spaces
    cat $files | LC_ALL=C sort | awk -F '\t' '
        $1 == "case" {
            if (!($2 in cases)) order[++classes] = $2
            cases[$2] += $3; fresh[$2] += $4; good[$2] += $5; wrong[$2] += $6
        }
        $1 == "plant" {
            key = $2 ", with " $3
            if (!(key in planted)) sown[++plants] = key
            planted[key] += $4; seen[key] += $5
        }
        END {
            line = "%-58s %8s %12s %14s %8s\n"
            printf "\n" line, "fault", "cases", "healthy-new", "healthy-last", "neither"
            for (i = 1; i <= classes; i++) {
                c = order[i]
                printf line, c, cases[c], fresh[c], good[c], wrong[c]
                all += cases[c]; new += fresh[c]; last += good[c]; broken += wrong[c]
            }
            printf line, "all", all, new, last, broken
            if (plants) printf "\n%-67s %8s %8s\n", "planted on purpose", "cases", "seen in"
            for (i = 1; i <= plants; i++) printf "%-67s %8s %8s\n", sown[i], planted[sown[i]], seen[sown[i]]
            for (i = 1; i <= plants; i++) if (!seen[sown[i]]) blind = 1
            exit (broken || blind) ? 1 : 0
        }'
}

scale=quick names=()
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) scale=quick ;;
        --full) scale=full ;;
        --seed) export EVENKEEL_TORTURE_SEED=${2:?a number}; shift ;;
        --plant) export EVENKEEL_TORTURE_PLANT=${2:?a name}; shift ;;
        --table) table "${2:?a folder}"; exit ;;
        -*) echo "torture: there is no option $1" >&2; exit 2 ;;
        *) names+=("$1") ;;
    esac
    shift
done

export EVENKEEL_TORTURE=$scale NEXTEST_PROFILE=torture
# Hours of cases are worth an optimised build; a few minutes of them are not.
[ "$scale" = quick ] || export EVENKEEL_TEST_PROFILE=${EVENKEEL_TEST_PROFILE:-torture}
if [ "$scale" = full ] && [ ${#names[@]} -eq 0 ]; then
    # A whole machine, which no test runner starts, counts into the same table.
    EVENKEEL_TORTURE_DIR=$(mktemp -d)
    export EVENKEEL_TORTURE_DIR
    trap 'rm -rf "$EVENKEEL_TORTURE_DIR"' EXIT
    rc=0
    tests/powercut.sh --cuts 100 --seed "${EVENKEEL_TORTURE_SEED:-1}" || rc=$?
    ./tests/run.sh torture || rc=$?
    exit "$rc"
fi
[ ${#names[@]} -gt 0 ] || names=(torture)
exec ./tests/run.sh "${names[@]}"
