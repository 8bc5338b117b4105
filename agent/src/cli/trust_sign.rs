//! `evenkeel trust sign DIR`: root's signature on the trust set of a fleet repository.
//!
//! Needs no device. The signature is ssh-keygen's own, so that keys in an agent and on hardware do; it is read back and
//! checked before it is written. Commits nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel_schema::diagnostic::Diagnostics;
use serde_json::json;

use super::git::Git;
use super::{answer, code, device, fail};
use crate::adapter::durable;
use crate::domain::text::chain;
use crate::trust::allowed_signers::SignerLine;
use crate::trust::overview::ends_soon;
use crate::trust::sshsig::ArmoredSignature;
use crate::trust::trust_set::{Document, FILE, Headers, TRUST_NAMESPACE, serial_of, with_headers};

/// The folder in a repository.
const FOLDER: &str = "trust";
/// The file in it; its signatures are `allowed_signers.sig` and `allowed_signers.sig.<name>`.
const NAME: &str = "allowed_signers";

/// Sign the trust set of a fleet repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository's top folder.
    pub dir: PathBuf,
    /// The key that signs, as `ssh-keygen -Y sign -f` takes it: a private key, or the public key of one in an agent.
    #[arg(long, value_name = "KEY")]
    pub key: PathBuf,
    /// What the signature's file ends with; the key file's name by default.
    #[arg(long = "as", value_name = "NAME")]
    pub name: Option<String>,
    /// First raise the serial, and drop the signatures on the set before.
    #[arg(long)]
    pub next: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Why nothing was signed: an exit code and one sentence with the next move.
struct Failure {
    code: u8,
    message: String,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure {
        code: code::USAGE,
        message: message.into(),
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure {
        code: code::REFUSED,
        message: message.into(),
    }
}

fn failed(message: impl Into<String>) -> Failure {
    Failure {
        code: code::FAILED,
        message: message.into(),
    }
}

/// What was signed.
struct Signed {
    document: Document,
    file: String,
    key: String,
    principals: Vec<String>,
    warnings: Vec<String>,
}

/// Runs it; the exit code: 0 signed, 1 ssh-keygen failed, 2 wrong usage, 3 the set is not one that a device would take.
#[must_use]
pub fn run(args: &Args) -> u8 {
    let signed = match sign(args) {
        Ok(signed) => signed,
        Err(failure) => return fail(failure.code, &failure.message),
    };
    for warning in &signed.warnings {
        fail(0, &format!("warning: {warning}"));
    }
    let Document { serial, fleet, .. } = &signed.document;
    if args.json {
        let told = json!({
            "serial": serial,
            "fleet": fleet,
            "signature": signed.file,
            "key": signed.key,
            "principals": signed.principals,
            "warnings": signed.warnings,
        });
        answer(&told.to_string());
    } else {
        let dir = args.dir.display();
        answer(&format!(
            "signed {FILE} (fleet {fleet}, serial {serial}) with {}: {}\n\
             next: every other root signer that trust.root.threshold asks for runs `evenkeel trust sign {dir} --key KEY`;\n\
             then `git -C {dir} add {FOLDER} && git -C {dir} commit -S -m 'Trust set {serial}'`, and push",
            signed.key, signed.file,
        ));
    }
    code::DONE
}

fn sign(args: &Args) -> Result<Signed, Failure> {
    let name = name_of(args)?;
    let fleet = fleet_name(&args.dir)?;
    let folder = args.dir.join(FOLDER);
    let path = folder.join(NAME);
    let bytes = device::read(&path).map_err(|error| {
        usage(format!(
            "cannot read {}: {error}\nhint: write there who may sign from now on, one `principal namespaces=\"git\" \
             ssh-ed25519 AAAA...` a line, as in allowed_signers on a device",
            path.display()
        ))
    })?;
    let (bytes, is_new) = if args.next {
        (raised(&bytes, &fleet, used_serial(&args.dir))?, true)
    } else {
        (bytes, false)
    };
    let document = Document::parse(&bytes).map_err(|error| {
        let hint = if is_new || Headers::read(&String::from_utf8_lossy(&bytes)).is_ok() {
            ""
        } else {
            "\nhint: `evenkeel trust sign --next` writes both"
        };
        refused(format!("{}{hint}", chain(&error)))
    })?;
    if document.fleet != fleet {
        return Err(refused(format!(
            "{FILE} is for the fleet `{}`, and fleet.toml says `{fleet}`\nhint: `evenkeel trust sign --next` writes the name",
            document.fleet
        )));
    }
    let armor = armor_of(&args.key, &bytes)?;
    let signature = ArmoredSignature::parse(&armor)
        .map_err(|error| refused(format!("this signature is not taken: {}", chain(&error))))?;
    if signature.namespace() != TRUST_NAMESPACE || signature.verify(&bytes).is_err() {
        return Err(failed("ssh-keygen made a signature that does not fit"));
    }
    let write = |name: &str, bytes: &[u8]| {
        durable::write(&folder, name, bytes, 0o644).map_err(|error| {
            failed(format!(
                "cannot write {}: {error}",
                folder.join(name).display()
            ))
        })
    };
    if is_new {
        // First the old signatures: a cut in between leaves a set without any, never one with wrong ones.
        drop_signatures(&folder)?;
        write(NAME, &bytes)?;
    }
    let file = format!("{NAME}.sig.{name}");
    write(&file, &armor)?;
    let key = signature.key();
    let lines: Vec<&SignerLine> = document
        .signers
        .lines()
        .iter()
        .filter(|line| line.key == *key)
        .collect();
    let mut warnings: Vec<String> = ends_soon(&document.signers, device::now())
        .into_iter()
        .map(|(line, told)| format!("{}: {told}", line.place()))
        .collect();
    if lines.is_empty() {
        warnings.push(format!(
            "{key} is not in this set: once it is in force this key signs no other, unless the devices' own file has it"
        ));
    } else if !lines
        .iter()
        .any(|line| line.allows_namespace(TRUST_NAMESPACE))
    {
        warnings.push(format!(
            "{}: this key may not sign for `{TRUST_NAMESPACE}` once this set is in force; \
             namespaces=\"git,{TRUST_NAMESPACE}\" would let it",
            lines[0].place()
        ));
    }
    Ok(Signed {
        key: key.to_string(),
        principals: lines
            .iter()
            .flat_map(|line| line.principals.clone())
            .collect(),
        document,
        file: format!("{FOLDER}/{file}"),
        warnings,
    })
}

/// What the signature's file ends with.
fn name_of(args: &Args) -> Result<String, Failure> {
    let stem = || {
        args.key
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let fits = |name: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
        !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
    };
    args.name
        .clone()
        .or_else(stem)
        .filter(fits)
        .ok_or_else(|| usage("name the signature with --as NAME: letters, digits and . _ @ + -"))
}

fn fleet_name(dir: &Path) -> Result<String, Failure> {
    let path = dir.join("fleet.toml");
    let bytes = device::read(&path).map_err(|error| {
        usage(format!(
            "cannot read {}: {error}\nhint: name the repository's top folder",
            path.display()
        ))
    })?;
    let mut problems = Diagnostics::new();
    let version = env!("CARGO_PKG_VERSION");
    match evenkeel_schema::fleet::parse("fleet.toml", &bytes, version, &mut problems) {
        Ok(Some(fleet)) => Ok(fleet.name),
        Ok(None) | Err(_) => Err(refused(
            problems
                .sorted()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("\n"),
        )),
    }
}

/// The highest serial that any commit of the branches here has brought; 0 where there is none, or no git. A file that was
/// written anew or reverted does not say which serials are taken, and no device adopts another set with one of them.
fn used_serial(dir: &Path) -> u64 {
    let log = [
        "log",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--full-history",
        "-m",
        "-p",
        "--format=",
        "HEAD",
        "--branches",
        "--remotes",
        "--",
        FILE,
    ];
    let changes = Git::at(dir).maybe(&log).ok().flatten().unwrap_or_default();
    changes
        .lines()
        .filter_map(|line| line.strip_prefix('+'))
        .filter_map(serial_of)
        .max()
        .unwrap_or_default()
}

/// The file with this fleet's name and the serial after its own and the one used last; 1 where there is none yet.
fn raised(bytes: &[u8], fleet: &str, used: u64) -> Result<Vec<u8>, Failure> {
    let content =
        std::str::from_utf8(bytes).map_err(|_| refused(format!("{FILE} is not UTF-8")))?;
    with_headers(content, fleet, used)
        .map(String::into_bytes)
        .map_err(|error| refused(chain(&error)))
}

fn drop_signatures(folder: &Path) -> Result<(), Failure> {
    let trouble = |error: std::io::Error| {
        failed(format!(
            "cannot drop the old signatures in {}: {error}",
            folder.display()
        ))
    };
    for entry in std::fs::read_dir(folder).map_err(trouble)? {
        let entry = entry.map_err(trouble)?;
        let name = entry.file_name();
        let is_signature = name.to_str().is_some_and(|name| {
            name.strip_prefix(NAME)
                .and_then(|rest| rest.strip_prefix(".sig"))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if is_signature {
            std::fs::remove_file(entry.path()).map_err(trouble)?;
        }
    }
    Ok(())
}

/// ssh-keygen's signature. It asks for a passphrase, a PIN or a touch on the terminal itself.
fn armor_of(key: &Path, content: &[u8]) -> Result<Vec<u8>, Failure> {
    if !key.exists() {
        return Err(usage(format!("there is no key {}", key.display())));
    }
    let mut child = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", TRUST_NAMESPACE, "-f"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| {
            failed(format!(
                "cannot run ssh-keygen: {error}\nhint: apt-get install openssh-client"
            ))
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it has gone away already, its exit code says why.
        let _ = stdin.write_all(content);
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(format!("ssh-keygen: {error}")))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(failed(format!(
            "ssh-keygen did not sign with {}; what it says stands above",
            key.display()
        )))
    }
}
