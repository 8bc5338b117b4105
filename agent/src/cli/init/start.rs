//! What a new fleet repository begins with: one group, one app with one file, and what to do next.

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
            format!("format = 1\nname = {name}\n\n[values]\ngreeting = \"hello\"\n"),
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
    ]
}

/// What stands above the first signer.
pub(super) const ABOUT_SIGNERS: &str = "\
# Who signs, as ssh-keygen(1) describes the file (ALLOWED SIGNERS). A device trusts its own copy, which trust.allowed_signers in
# its agent.toml names; a change here reaches no device by itself.
";

fn readme(fleet: &str, branch: &str) -> String {
    let title = fleet.replace(['\n', '\r'], " ");
    format!(
        "# {title}

A fleet repository: what its branch `{branch}` says, devices that run evenkeel become.

```
fleet.toml              the fleet's name, and values for every device
groups/everyone.toml    which devices run which apps
apps/hello/app.toml     one app, with one file from a template
allowed_signers         whose signature counts: copy it to each device
```

Look before you leap:

```sh
evenkeel lint .
evenkeel render . --device gw-0001
evenkeel verify --allowed-signers allowed_signers HEAD
```

Put it where devices can fetch it:

```sh
git remote add origin https://git.example.com/you/fleet.git
git push -u origin {branch}
```

A device: the binary as `/usr/bin/evenkeel`, `allowed_signers` as `/etc/evenkeel/allowed_signers`, and this as
`/etc/evenkeel/agent.toml`. Then `evenkeel sync` for one pass, or the service for good.

```toml
[source]
url = \"https://git.example.com/you/fleet.git\"
branch = \"{branch}\"

[trust]
allowed_signers = \"/etc/evenkeel/allowed_signers\"
bind_branch = true          # commits carry `Fleet-Branch: {branch}`; a hook in each clone writes it
```

Another clone needs that hook and a signing key too: `evenkeel init .` in it adds both.
"
    )
}
