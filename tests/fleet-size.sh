#!/usr/bin/env bash
# How long the verbs of a fleet repository take at its largest: 10,000 devices, 300 groups, 200 apps.
#
#     tests/fleet-size.sh [DEVICES [GROUPS [APPS]]]
#
# Makes such a repository, with a second ring that is one change further, and times `lint`, `render --all`, `promote` from one
# branch of a real remote to the other, and `publish`. EVENKEEL names the binary; without it a release build is made. Prints a table. Fails
# where lint and render of all devices together take more than a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
devices=${1:-10000} groups=${2:-300} apps=${3:-200}
if [ -z "${EVENKEEL:-}" ]; then
    packaging/prerequisites.sh build git
    cargo build --quiet --release -p evenkeel
    EVENKEEL=${CARGO_TARGET_DIR:-target}/release/evenkeel
fi
EVENKEEL=$(realpath "$EVENKEEL")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work/home GIT_CONFIG_NOSYSTEM=1
mkdir "$HOME"
git config --global user.name 'Fleet' && git config --global user.email fleet@example.com

"$EVENKEEL" init "$work/fleet" >/dev/null
cd "$work/fleet"
git switch -q canary
rm -rf apps groups
digest=$(printf '%064d' 0)
# Each device is in three groups (its site, its role, everyone), each group runs a few apps: some ten apps a device.
awk -v devices="$devices" -v groups="$groups" -v apps="$apps" -v digest="$digest" '
function mkdir(path) { if (!(path in made)) { system("mkdir -p " path); made[path] = 1 } }
BEGIN {
    roles = int(groups / 10); if (roles < 1) roles = 1
    sites = groups - roles - 1; if (sites < 1) sites = 1
    for (i = 0; i < apps; i++) {
        app = "app" i; dir = "apps/" app; mkdir(dir)
        file = dir "/app.toml"
        printf "[[files]]\npath = \"/etc/%s/main.conf\"\nsource = \"main.conf\"\ntemplate = true\non_change = [\"restart:service:main\"]\n\n", app > file
        printf "[services.main]\nimage = \"registry.example.com/%s@sha256:%s\"\nvolumes = [\"/etc/%s:/etc/%s:ro\", \"data:/data\"]\n", app, digest, app, app > file
        printf "environment = { TZ = \"{{ values.tz }}\", SITE = \"{{ device.labels.site }}\", LEVEL = \"{{ values.level }}\" }\nrestart = \"always\"\n" > file
        printf "healthcheck = { test = [\"CMD\", \"true\"], interval = \"10s\" }\n\n[volumes.data]\n\n[gate]\nsoak = \"30s\"\n" > file
        close(file)
        file = dir "/main.conf"
        printf "[%s]\nsite = {{ device.labels.site }}\nlevel = {{ values.level }}\n{%% for server in values.servers %%}server = {{ server }}\n{%% endfor %%}\n", app > file
        close(file)
    }
    mkdir("groups"); mkdir("devices")
    print "match = \"all\"\napps = [\"app0\", \"app1\"]" > "groups/everyone.toml"
    for (i = 0; i < sites; i++)
        printf "apps = [\"app%d\", \"app%d\", \"app%d\"]\n[match]\nsite = \"s%d\"\n[values]\nlevel = %d\n", (3 * i + 2) % apps, (3 * i + 3) % apps, (3 * i + 4) % apps, i, i > ("groups/site" i ".toml")
    for (i = 0; i < roles; i++)
        printf "apps = [\"app%d\", \"app%d\", \"app%d\", \"app%d\", \"app%d\"]\n[match]\nrole = \"r%d\"\n", (7 * i) % apps, (7 * i + 1) % apps, (7 * i + 2) % apps, (7 * i + 3) % apps, (7 * i + 4) % apps, i > ("groups/role" i ".toml")
    for (i = 0; i < devices; i++) {
        file = sprintf("devices/gw-%05d.toml", i)
        printf "[labels]\nsite = \"s%d\"\nrole = \"r%d\"\n[values]\nserial = %d\n", i % sites, i % roles, i > file
        close(file)
    }
}'
cat >fleet.toml <<'END'
format = 1
name = "large"
[values]
tz = "Europe/Vienna"
level = 0
servers = ["a.example.com", "b.example.com", "c.example.com"]
END
git add -A && git commit -q -m 'A large fleet' 2>/dev/null
git init -q --bare "$work/bare.git" && git remote add origin "$work/bare.git"
git switch -q stable && git merge -q --no-ff -m 'The same on stable' canary && git push -q origin stable
git switch -q canary
printf 'level = {{ values.level }}, and more\n' >>apps/app0/main.conf
printf 'another = true\n' >>"apps/app$((apps - 1))/main.conf"
git commit -qam 'A change for all, and one for some' 2>/dev/null && git push -q origin canary

timed() {
    local name=$1 start end
    shift
    start=$(date +%s.%N)
    "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; tail -n 5 "$work/out" >&2; exit 1; }
    end=$(date +%s.%N)
    took=$(awk -v a="$start" -v b="$end" 'BEGIN { printf "%.1f", b - a }')
    printf '%-34s %8s s\n' "$name" "$took"
}
printf '%s devices, %s groups, %s apps, %s processors\n' "$devices" "$groups" "$apps" "$(nproc)"
timed 'lint' "$EVENKEEL" lint .
lint=$took
grep -q '^ok: ' "$work/out"
timed 'render --all' "$EVENKEEL" render . --all
render=$took
printf '%-34s %8s\n' 'lines of JSON, one a device' "$(wc -l <"$work/out")"
timed 'promote --dry-run' "$EVENKEEL" promote --from canary --to stable --dry-run
timed 'promote' "$EVENKEEL" promote --from canary --to stable --yes
test "$(git --git-dir="$work/bare.git" rev-parse 'stable^{tree}')" = "$(git rev-parse 'canary^{tree}')"
timed 'publish' "$EVENKEEL" publish --branch canary --out "$work/tree"
printf '%-34s %8s kB\n' 'what is published' "$(du --bytes --summarize "$work/tree" | awk '{ printf "%d", $1 / 1000 }')"
timed 'publish, nothing new' "$EVENKEEL" publish --branch canary --out "$work/tree"
awk -v a="$lint" -v b="$render" 'BEGIN { printf "%-34s %8.1f s\n", "lint and render of every device", a + b; exit a + b > 60 }'
