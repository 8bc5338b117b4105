//! The demo's fleet: a signing key by the real `ssh-keygen`, a signed repository by the real `git`, both cut off from the
//! user's own settings.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// The branch that the device follows.
pub(super) const BRANCH: &str = "stable";
/// Who signs.
pub(super) const SIGNER: &str = "release@demo.example";
/// Where the two configuration files land on the device.
pub(super) const GREETER_CONF: &str = "/srv/greeter/greeter.conf";
/// The second app's file.
pub(super) const TICKER_CONF: &str = "/srv/ticker/ticker.conf";

/// A program with an environment in which no setting of the user, or of a git hook around us, can change what it does.
pub(super) fn isolated(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env(
            "PATH",
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
        )
        .env("HOME", home)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `git`, isolated.
pub(super) fn git_command(home: &Path) -> Command {
    let mut command = isolated("git", home);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

/// Runs it to its end; its standard output, or an error with what it said.
async fn output(command: &mut Command, what: &str) -> Result<String> {
    let output = command
        .output()
        .await
        .with_context(|| format!("cannot run {what}"))?;
    if !output.status.success() {
        bail!(
            "{what} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the demo needs from the machine, in words that end with the next move.
pub(super) async fn missing_tools(home: &Path) -> Option<String> {
    let git = match output(git_command(home).arg("--exec-path"), "`git --exec-path`").await {
        Ok(path) => PathBuf::from(path),
        Err(_) => {
            return Some(
                "the demo needs `git`, which is not on this machine\n\
                 hint: apt-get install git (a device itself needs neither git nor ssh-keygen)"
                    .to_owned(),
            );
        }
    };
    if !git.join("git-http-backend").exists() {
        return Some(format!(
            "the demo needs `git http-backend`, which is not in {}\n\
             hint: install the complete git (on Alpine: apk add git-daemon)",
            git.display()
        ));
    }
    let keygen = isolated("ssh-keygen", home).arg("-?").output().await;
    if keygen.is_err() {
        return Some(
            "the demo needs `ssh-keygen`, which is not on this machine\n\
             hint: apt-get install openssh-client (a device itself needs neither git nor ssh-keygen)"
                .to_owned(),
        );
    }
    None
}

/// One revision of the fleet repository.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// What the greeter says.
    pub(super) greeting: &'static str,
    /// The key under which the greeter's file says it; the greeter knows `greeting` only.
    pub(super) key: &'static str,
}

/// What the two apps are made of on this machine.
#[derive(Debug, Clone)]
pub(super) enum Apps {
    /// Files and containers of this image.
    Containers {
        /// `sha256:...`.
        image: String,
    },
    /// Files, and a check on the greeter that the demo itself runs at this address.
    Files {
        /// Host and port.
        greeter: std::net::SocketAddr,
    },
}

/// The repository, on the side of who writes it.
#[derive(Debug)]
pub(super) struct Fleet {
    work: PathBuf,
    home: PathBuf,
    /// Bare repositories to serve.
    pub(super) served: PathBuf,
    /// The device's trust.
    pub(super) allowed_signers: PathBuf,
    apps: Apps,
}

/// Whether a commit is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    /// By [`SIGNER`]'s key.
    Signed,
    /// By nobody.
    Unsigned,
}

impl Fleet {
    /// Makes key, trust file and repository below `dir`.
    ///
    /// # Errors
    /// `git` or `ssh-keygen` failed.
    pub(super) async fn create(dir: &Path, apps: Apps) -> Result<Self> {
        let fleet = Self {
            work: dir.join("fleet"),
            home: dir.to_owned(),
            served: dir.join("served"),
            allowed_signers: dir.join("allowed_signers"),
            apps,
        };
        let key = dir.join("release_key");
        output(
            isolated("ssh-keygen", dir)
                .args(["-q", "-t", "ed25519", "-N", "", "-C", SIGNER, "-f"])
                .arg(&key),
            "`ssh-keygen -t ed25519`",
        )
        .await?;
        let public = std::fs::read_to_string(dir.join("release_key.pub"))?;
        std::fs::write(
            &fleet.allowed_signers,
            format!("{SIGNER} namespaces=\"git\" {public}"),
        )?;

        std::fs::create_dir_all(&fleet.work)?;
        std::fs::create_dir_all(&fleet.served)?;
        fleet
            .git_in(&fleet.served, &["init", "-q", "--bare", "fleet.git"])
            .await?;
        fleet.git(&["init", "-q"]).await?;
        let head = format!("refs/heads/{BRANCH}");
        fleet.git(&["symbolic-ref", "HEAD", &head]).await?;
        let key = key.display().to_string();
        let remote = fleet.served.join("fleet.git").display().to_string();
        for (name, value) in [
            ("user.name", "Release"),
            ("user.email", SIGNER),
            ("gpg.format", "ssh"),
            ("user.signingkey", key.as_str()),
            ("remote.origin.url", remote.as_str()),
        ] {
            fleet.git(&["config", name, value]).await?;
        }
        Ok(fleet)
    }

    async fn git_in(&self, dir: &Path, arguments: &[&str]) -> Result<String> {
        output(
            git_command(&self.home).current_dir(dir).args(arguments),
            &format!("`git {}`", arguments.join(" ")),
        )
        .await
    }

    async fn git(&self, arguments: &[&str]) -> Result<String> {
        self.git_in(&self.work, arguments).await
    }

    /// Commits a release and pushes it; the new commit's id.
    ///
    /// # Errors
    /// `git` failed.
    pub(super) async fn release(&self, release: &Release, signing: Signing) -> Result<String> {
        for (path, text) in self.documents(release) {
            let path = self.work.join(path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, text)?;
        }
        self.git(&["add", "--all"]).await?;
        let sign = match signing {
            Signing::Signed => "-S",
            Signing::Unsigned => "--no-gpg-sign",
        };
        let message = format!("Say: {}", release.greeting);
        self.git(&["commit", "-q", "--allow-empty", sign, "-m", &message])
            .await?;
        self.git(&["push", "-q", "origin", BRANCH]).await?;
        self.git(&["rev-parse", "HEAD"]).await
    }

    /// Puts the branch at a commit that exists already, by force, here and at the server.
    ///
    /// # Errors
    /// `git` failed.
    pub(super) async fn force_to(&self, commit: &str) -> Result<()> {
        self.git(&["reset", "-q", "--hard", commit]).await?;
        self.git(&["push", "-q", "--force", "origin", BRANCH])
            .await?;
        Ok(())
    }

    /// The fleet repository's documents for a release, by path.
    fn documents(&self, release: &Release) -> Vec<(&'static str, String)> {
        let owner = owner();
        let greeter_file = format!(
            "[[files]]\npath = \"{GREETER_CONF}\"\nsource = \"greeter.conf\"\ntemplate = true\n{owner}"
        );
        let ticker_file = format!(
            "[[files]]\npath = \"{TICKER_CONF}\"\ncontent = \"greeting = tick\\n\"\n{owner}"
        );
        // Seconds, so that the story fits into a minute; the defaults are minutes.
        let gate = "[gate]\ndeadline = \"12s\"\nsoak = \"1s\"\n";
        let (greeter, ticker) = match &self.apps {
            Apps::Containers { image } => (
                format!(
                    "{greeter_file}\n{}\n{gate}",
                    service("web", image, "greeter")
                ),
                format!(
                    "{ticker_file}\n{}\n{gate}",
                    service("tick", image, "ticker")
                ),
            ),
            Apps::Files { greeter } => (
                format!(
                    "{greeter_file}\n[[checks]]\nhttp = \"http://{greeter}/healthz\"\ntimeout = \"2s\"\n\n\
                     [gate]\ndeadline = \"4s\"\nsoak = \"1s\"\n"
                ),
                format!("{ticker_file}\n{gate}"),
            ),
        };
        vec![
            ("fleet.toml", "format = 1\nname = \"demo\"\n".to_owned()),
            (
                "groups/everyone.toml",
                format!(
                    "match = \"all\"\napps = [\"greeter\", \"ticker\"]\n[values]\ngreeting = \"{}\"\n",
                    release.greeting
                ),
            ),
            ("apps/greeter/app.toml", greeter),
            (
                "apps/greeter/greeter.conf",
                format!(
                    "# for {{{{ device.id }}}}\n{} = {{{{ values.greeting }}}}\n",
                    release.key
                ),
            ),
            ("apps/ticker/app.toml", ticker),
        ]
    }
}

/// What `greeter.conf` must be on the device for a release.
pub(super) fn rendered(release: &Release, device: &str) -> String {
    format!("# for {device}\n{} = {}\n", release.key, release.greeting)
}

/// The line of the file's owner: root by default, so only who is not root has to name himself.
fn owner() -> String {
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return String::new();
    }
    let gid = rustix::process::getgid();
    format!(
        "owner = \"{}\"\ngroup = \"{}\"\n",
        uid.as_raw(),
        gid.as_raw()
    )
}

/// The command that asks for the health of a service, inside its container.
pub(super) fn probe() -> [&'static str; 4] {
    [
        "/evenkeel",
        super::APP_VERB,
        "probe",
        "http://127.0.0.1:8080/healthz",
    ]
}

/// A service of our own image that needs no network: its health is asked inside the container.
fn service(name: &str, image: &str, app: &str) -> String {
    let verb = super::APP_VERB;
    let test = probe().map(|word| format!("\"{word}\"")).join(", ");
    format!(
        r#"[services.{name}]
image = "{image}"
entrypoint = ["/evenkeel"]
command = ["{verb}", "serve", "--config", "/content/{app}.conf"]
volumes = ["/srv/{app}:/content:ro"]
network_mode = "none"
restart = "unless-stopped"
stop_grace_period = "2s"

[services.{name}.healthcheck]
test = ["CMD", {test}]
interval = "1s"
timeout = "5s"
retries = 3
"#
    )
}
