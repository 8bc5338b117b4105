//! The trust set that a repository carries, as `lint` sees it: whether a device could take it at all. Whether one does is
//! between its own set in force and root's signatures.

use evenkeel_schema::diagnostic::{Diagnostic, Diagnostics, Position};

use crate::domain::revision::Timestamp;
use crate::domain::tree::Tree;
use crate::trust::overview::ends_soon;
use crate::trust::sshsig::{ArmoredSignature, SignatureError};
use crate::trust::trust_set::{
    Document, DocumentError, FILE, MAX_SIGNATURES, TRUST_NAMESPACE, has_headers,
};

/// What is wrong with the set and its signatures.
pub(super) fn judge(tree: &Tree, fleet: &str, out: &mut Diagnostics) {
    if !tree.documents.contains_key(FILE) {
        return;
    }
    let Some(bytes) = tree.file(FILE) else {
        out.error(
            FILE,
            Position::default(),
            "it is not a regular file, and no device looks at it",
        );
        return;
    };
    if is_no_set(tree, bytes) {
        return;
    }
    match Document::parse(bytes) {
        Ok(document) if document.fleet != fleet => out.error_with_help(
            FILE,
            Position::default(),
            format!(
                "it is for the fleet `{}`, and fleet.toml says `{fleet}`",
                document.fleet.escape_debug()
            ),
            "`evenkeel trust sign --next` writes the name",
        ),
        Ok(_) => {}
        Err(error) => {
            let (line, message, help) = match &error {
                DocumentError::Header { line, why } => (
                    line.unwrap_or_default(),
                    why.clone(),
                    "`evenkeel trust sign --next` writes `# Fleet:` and `# Serial:`",
                ),
                DocumentError::Line(line) => (
                    line.line,
                    line.why.clone(),
                    "no device takes a set that it cannot read whole",
                ),
                DocumentError::TooLarge | DocumentError::NotText | DocumentError::Signers(_) => {
                    (0, error.to_string(), "no device takes such a set")
                }
            };
            out.error_with_help(FILE, at_line(line), message, help);
        }
    }
    let signatures: Vec<(&str, Option<&[u8]>)> = signatures(tree).collect();
    if signatures.len() > MAX_SIGNATURES {
        out.error(
            FILE,
            Position::default(),
            format!(
                "{} signatures stand beside it; a device takes at most {MAX_SIGNATURES}",
                signatures.len()
            ),
        );
    }
    for (name, armor) in signatures {
        if let Err(why) = judge_signature(armor, bytes) {
            out.error_with_help(
                name,
                Position::default(),
                why,
                "`evenkeel trust sign` makes it anew; remove it where it is not needed",
            );
        }
    }
}

/// What is not wrong, and should be seen to.
#[must_use]
pub fn warnings(tree: &Tree, now: Timestamp) -> Vec<Diagnostic> {
    let Some(bytes) = tree.file(FILE) else {
        return Vec::new();
    };
    let mut found = Diagnostics::new();
    if is_no_set(tree, bytes) {
        found.error_with_help(
            FILE,
            Position::default(),
            "it has neither `# Fleet:` nor `# Serial:`, so it is no trust set, and no device takes it",
            "`evenkeel trust sign --next` makes one of it",
        );
    }
    let Ok(document) = Document::parse(bytes) else {
        return found.sorted();
    };
    for (line, told) in ends_soon(&document.signers, now) {
        found.error(FILE, at_line(line.line), told);
    }
    if signatures(tree).next().is_none() {
        found.error_with_help(
            FILE,
            Position::default(),
            format!(
                "serial {} is not signed, and no device takes it so",
                document.serial
            ),
            "`evenkeel trust sign` signs it",
        );
    }
    found.sorted()
}

/// Somebody's list of signers that was never meant for devices, or is not yet.
fn is_no_set(tree: &Tree, bytes: &[u8]) -> bool {
    !has_headers(&String::from_utf8_lossy(bytes)) && signatures(tree).next().is_none()
}

/// 0: the file as a whole.
fn at_line(line: usize) -> Position {
    Position {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::from(line > 0),
    }
}

/// The signatures beside the set; `None`: not a regular file.
fn signatures(tree: &Tree) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    tree.documents.keys().filter_map(|path| {
        let rest = path.strip_prefix(FILE)?.strip_prefix(".sig")?;
        (rest.is_empty() || rest.starts_with('.')).then(|| (path.as_str(), tree.file(path)))
    })
}

fn judge_signature(armor: Option<&[u8]>, content: &[u8]) -> Result<(), String> {
    let armor = armor.ok_or("it is not a regular file")?;
    let signature = ArmoredSignature::parse(armor).map_err(|error| error.to_string())?;
    if signature.namespace() != TRUST_NAMESPACE {
        return Err(format!(
            "it is signed for `{}`, not for `{TRUST_NAMESPACE}`",
            signature.namespace().escape_debug()
        ));
    }
    match signature.verify(content) {
        Ok(_) => Ok(()),
        Err(SignatureError::Wrong) => Err(format!("it is not over {FILE} as that is now")),
        Err(error @ (SignatureError::Malformed(_) | SignatureError::Unsupported(_))) => {
            Err(error.to_string())
        }
    }
}
