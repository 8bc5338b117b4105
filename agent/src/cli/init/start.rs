//! What a new fleet repository begins with: one group, one app with one file, what CI runs, and what to do next.

/// The documents, by path.
pub(super) fn documents(
    fleet: &str,
    branch: &str,
    signer_line: &str,
) -> Vec<(&'static str, String)> {
    // Any text is a string in TOML once it is quoted as TOML quotes.
    let name = toml::Value::String(fleet.to_owned());
    vec![
        (
            "fleet.toml",
            format!("format = 1\nname = {name}\n\n[values]\ngreeting = \"hello\"\n{GATE}"),
        ),
        (
            "groups/everyone.toml",
            "match = \"all\"       # or a table: [match], site = \"plant-a\"\napps = [\"hello\"]\n".to_owned(),
        ),
        (
            "apps/hello/app.toml",
            "[[files]]\npath = \"/srv/hello/hello.txt\"\nsource = \"hello.txt\"\ntemplate = true\n\n[gate]\nsoak = \"5s\"\n"
                .to_owned(),
        ),
        (
            "apps/hello/hello.txt",
            "{{ values.greeting }} from {{ device.id }}\n".to_owned(),
        ),
        ("allowed_signers", format!("{ABOUT_SIGNERS}{signer_line}\n")),
        ("README.md", readme(fleet, branch)),
        (CHECK, include_str!("check.sh").to_owned()),
        (".github/workflows/fleet.yml", actions(GITHUB)),
        (".forgejo/workflows/fleet.yml", actions(FORGEJO)),
        (".gitea/workflows/fleet.yml", actions(FORGEJO)),
        (".gitlab-ci.yml", GITLAB.to_owned()),
        (".woodpecker.yml", WOODPECKER.to_owned()),
    ]
}

/// What CI runs.
pub(super) const CHECK: &str = "ci/check.sh";

const GATE: &str = "
# What must be so of the devices of canary before `evenkeel promote --from canary --to stable` goes on:
#[promote.stable]
#healthy = 95          # per cent
#soak = \"24h\"
";

/// GitHub's runner: its images have curl and git.
const GITHUB: &str = "    runs-on: ubuntu-latest\n";
/// Forgejo's and Gitea's: by the label that their runners have where nobody chose another.
const FORGEJO: &str = "    runs-on: docker\n    container:\n      image: node:22-bookworm\n";

/// A workflow in GitHub's form, which Forgejo and Gitea read too.
fn actions(runner: &str) -> String {
    format!(
        "# Keep the one of your forge, and remove the others.
name: fleet
on: [push, pull_request]
jobs:
  check:
{runner}    steps:
      - uses: actions/checkout@v4
      - run: ci/check.sh
        env:
          EVENKEEL_URL: ${{{{ vars.EVENKEEL_URL }}}}
          EVENKEEL_SHA256: ${{{{ vars.EVENKEEL_SHA256 }}}}
"
    )
}

const GITLAB: &str = "# EVENKEEL_URL and EVENKEEL_SHA256: Settings, CI/CD, Variables.
check:
  image: curlimages/curl:latest
  script:
    - ci/check.sh
";

const WOODPECKER: &str = "when:
  - event: [push, pull_request]
steps:
  - name: check
    image: curlimages/curl:latest
    environment:
      EVENKEEL_URL:
        from_secret: evenkeel_url
      EVENKEEL_SHA256:
        from_secret: evenkeel_sha256
    commands:
      - ci/check.sh
";

/// What stands above the first signer.
pub(super) const ABOUT_SIGNERS: &str = "\
# Who signs, as ssh-keygen(1) describes the file (ALLOWED SIGNERS). A device trusts its own copy, which trust.allowed_signers in
# its agent.toml names; a change here reaches no device by itself.
";

fn readme(fleet: &str, branch: &str) -> String {
    let title = fleet.replace(['\n', '\r'], " ");
    format!(
        "# {title}

A fleet repository. Each branch is a ring of devices that run evenkeel: what it says, they become. A change goes to `canary` first,
and from there to `{branch}`.

```
fleet.toml              the fleet's name, and values for every device
groups/everyone.toml    which devices run which apps
apps/hello/app.toml     one app, with one file from a template
allowed_signers         whose signature counts: copy it to each device
ci/check.sh             what CI runs; the workflow files for the common forges call it
```

## A change

```sh
git switch canary
$EDITOR apps/hello/hello.txt
evenkeel lint .                                   # the hook does so before each commit, too
evenkeel render . --device gw-0001                # what one device would get
git commit -a                                     # signed, and marked as canary's, by themselves
git push origin canary
```

Once canary's devices are well with it:

```sh
evenkeel promote --from canary --to {branch} --dry-run
evenkeel promote --from canary --to {branch}
evenkeel promote --revert --to {branch}             # back to what was there before
```

Where devices ask for more than one signature (`trust.approvals`), each colleague runs `evenkeel approve --branch {branch} canary`, and the
line that it prints goes to `evenkeel promote ... --approval LINE`.

## A device

Once: `git remote add origin https://git.example.com/you/fleet.git`, `git push -u origin {branch} canary`. On the device, the
program as `/usr/bin/evenkeel`, `allowed_signers` as `/etc/evenkeel/allowed_signers`, and this as `/etc/evenkeel/agent.toml`:

```toml
[source]
url = \"https://git.example.com/you/fleet.git\"
branch = \"{branch}\"

[trust]
allowed_signers = \"/etc/evenkeel/allowed_signers\"
bind_branch = true          # commits carry `Fleet-Branch: {branch}`; a hook in each clone writes it
```

```sh
evenkeel enroll --out gw-0001.toml     # its own key and labels: commit this as devices/gw-0001.toml
evenkeel sync                          # one pass; `systemctl enable --now evenkeel` for good
evenkeel status
evenkeel rollback                      # this device alone, with no network; `evenkeel resume` goes on
```

## A colleague

Another clone needs the hooks and a signing key: `evenkeel init .` in it adds both. Whose signature counts is in
`allowed_signers`, which each device has a copy of.

`evenkeel verify --allowed-signers allowed_signers HEAD` says what a device would make of a commit.
"
    )
}
