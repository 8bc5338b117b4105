//! `evenkeel enroll`: the device's identity, and the document that makes the fleet know it.
//!
//! stdout is that document, the same at each call; what was done goes to stderr. Nothing secret is ever shown, and an image
//! holds no identity: it is made on the device, and one that came with a copied disk is put aside.

mod serve;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel_schema::agent_config::AgentConfig;
use evenkeel_schema::device::MachineId;
use serde_json::json;

use super::credentials::IDENTITY as CREDENTIAL;
use super::device::{self, Failure};
use super::{ConfigArgs, answer, code, fail, machine};
use crate::adapter::identity::{self, Enrolled, Identity, Kept, Wish};
use crate::domain::text::chain;

/// Where the sealed key is opened by the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SealWith {
    /// A TPM where there is one, and the host's own key.
    Auto,
    /// The host's own key: who has the whole disk has the identity.
    Host,
    /// The TPM alone.
    Tpm2,
    /// Both.
    #[value(name = "host+tpm2")]
    HostTpm2,
}

impl SealWith {
    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Host => "host",
            Self::Tpm2 => "tpm2",
            Self::HostTpm2 => "host+tpm2",
        }
    }
}

/// Make this device's identity, where it has none yet, and print its document for the fleet repository.
///
/// The key pair is an SSH key, made on the device: it can be the deploy key of [source] too. Run again, it prints the same. A
/// disk that was copied to another machine (another /etc/machine-id) gets an identity of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// Write the document to this file as well.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep the private key encrypted by `systemd-creds`, for LoadCredentialEncrypted=, instead of in a file.
    #[arg(long, value_name = "WITH", num_args = 0..=1, default_missing_value = "auto")]
    seal: Option<SealWith>,
    /// Hand the document and the public key out over plain HTTP at this address, until they are fetched once.
    #[arg(long, value_name = "ADDRESS:PORT")]
    serve: Option<SocketAddr>,
    /// How long at most.
    #[arg(long, value_name = "DURATION", default_value = "1h", requires = "serve", value_parser = evenkeel_schema::duration::parse)]
    serve_for: Duration,
    /// Make another identity in place of the one that is there.
    #[arg(long, conflicts_with = "keep")]
    new: bool,
    /// This is the same device, whose /etc/machine-id was changed: keep its identity.
    #[arg(long)]
    keep: bool,
}

/// Runs it; the exit code: 0 there is an identity, 1 failed, 2 wrong usage or configuration.
#[must_use]
pub fn run(args: &Args) -> u8 {
    match enroll(args) {
        Ok(()) => code::DONE,
        Err(failure) => failure.tell(),
    }
}

fn enroll(args: &Args) -> Result<(), Failure> {
    let (config, id) = device::named(&args.config)?;
    let machine = match machine::id() {
        Ok(machine) => Some(machine),
        Err(why) => {
            fail(
                0,
                &format!("note: {why}; a copy of this disk cannot be told from it"),
            );
            None
        }
    };
    let wish = match (args.new, args.keep) {
        (true, _) => Wish::Another,
        (false, true) => Wish::Keep,
        (false, false) => Wish::Have,
    };
    let with = args.seal;
    let sealing = |key: &[u8]| seal(key, with.unwrap_or(SealWith::Auto));
    let enrolled = identity::enrol(
        &config.state_dir,
        id.as_str(),
        machine.as_ref(),
        wish,
        with.is_some().then_some(&sealing as identity::Seal<'_>),
    )
    .map_err(|error| Failure::failed(chain(&error)))?;
    let identity = match enrolled {
        Enrolled::Was(identity) => {
            if with.is_some() && identity.kept == Kept::File {
                return Err(Failure::usage(
                    "this device's key is in a file already: `evenkeel enroll --new --seal` makes another, sealed one",
                ));
            }
            identity
        }
        Enrolled::Made(identity) => {
            fail(0, &format!("made an identity for {id}"));
            identity
        }
        Enrolled::Replaced(identity, before) => {
            let why = if wish == Wish::Another {
                "made another identity"
            } else {
                "the identity on this disk was made on another machine, so this disk is a copy: made a new identity"
            };
            let before = before.display();
            fail(
                0,
                &format!(
                    "{why} for {id}; the other one is in {before}\nhint: remove it (rm -r {before}), and restart a running \
                     agent; where this is the same device with a new /etc/machine-id, put it back and `evenkeel enroll --keep`"
                ),
            );
            identity
        }
        Enrolled::Bound(identity) => {
            fail(
                0,
                &format!("the identity of {id} is bound to this machine now"),
            );
            identity
        }
    };
    identity::close_to_others(&identity).map_err(|error| Failure::failed(chain(&error)))?;
    let document = document(&config, id.as_str(), &identity, machine.as_ref());
    if let Some(file) = &args.out {
        write(file, &document)?;
    }
    if args.json {
        let text = json!({
            "device": id.as_str(),
            "public_key": identity.public,
            "fingerprint": identity.fingerprint,
            "machine_id": machine.as_ref().map(ToString::to_string),
            "key": identity.key,
            "sealed": identity.kept == Kept::Sealed,
            "ssh_key": ssh_key(&identity),
            "path": format!("devices/{id}.toml"),
            "document": document,
        });
        answer(&format!("{text:#}"));
    } else {
        answer(&document);
    }
    // For evenkeel-enroll.service: what comes after it finds the identity there.
    let ready = || {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    };
    let Some(at) = args.serve else {
        ready();
        return Ok(());
    };
    let shown = serve::Shown {
        device: id.as_str(),
        document: &document,
        public_key: &identity.public,
    };
    serve::serve(&shown, at, args.serve_for, ready)
}

/// What `[source] ssh_key` names for this identity.
fn ssh_key(identity: &Identity) -> PathBuf {
    match identity.kept {
        Kept::File => identity.key.clone(),
        Kept::Sealed => Path::new("/run/credentials/evenkeel.service").join(CREDENTIAL),
    }
}

fn document(
    config: &AgentConfig,
    id: &str,
    identity: &Identity,
    machine: Option<&MachineId>,
) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let mut lines = vec![
        format!("# devices/{id}.toml: put this into the fleet repository, and sign it."),
        format!(
            "# Its key: {}, {}",
            identity.key.display(),
            identity.fingerprint
        ),
    ];
    if identity.kept == Kept::Sealed {
        lines.push(format!(
            "# For the service: LoadCredentialEncrypted={CREDENTIAL}:{}",
            identity.key.display()
        ));
    }
    lines.push(format!(
        "# As a deploy key, in agent.toml: ssh_key = {}",
        quoted(&ssh_key(identity).display().to_string())
    ));
    if !config.device.labels.is_empty() {
        let labels: toml::Table = config
            .device
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        lines.push(format!("labels = {}", toml::Value::Table(labels)));
    }
    lines.push(format!("public_key = {}", quoted(&identity.public)));
    if let Some(machine) = machine {
        lines.push(format!("machine_id = {}", quoted(&machine.to_string())));
    }
    lines.join("\n") + "\n"
}

fn write(file: &Path, document: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot write {}: {error}", file.display()))
    };
    let name = file
        .file_name()
        .and_then(std::ffi::OsStr::to_str)
        .ok_or_else(|| {
            Failure::usage(format!(
                "--out: {} is not the name of a file",
                file.display()
            ))
        })?;
    let dir = match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    crate::adapter::durable::write(dir, name, document.as_bytes(), 0o644).map_err(failed)
}

/// The service manager's own way to keep a secret: only this machine's opens it again.
fn seal(key: &[u8], with: SealWith) -> Result<Vec<u8>, String> {
    let no = |error: std::io::Error| {
        format!("cannot run systemd-creds (systemd 250 or newer has it): {error}")
    };
    let mut child = Command::new("systemd-creds")
        .arg("encrypt")
        .arg(format!("--name={CREDENTIAL}"))
        .arg(format!("--with-key={}", with.word()))
        .args(["-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(no)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ended early says why itself.
        let _ = stdin.write_all(key);
    }
    let done = child.wait_with_output().map_err(no)?;
    if done.status.success() && !done.stdout.is_empty() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("systemd-creds encrypt: {}", said.trim()))
}
