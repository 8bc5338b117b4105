//! Logins at registries, from a file in the form of Docker's `config.json` (`docker login` and `podman login` write it).
//!
//! Owns which entry is meant by an image: of the registry that its name begins with, the longest path that it lies in, as
//! containers-auth.json(5) says. Read for each pull, so that a login that was renewed counts at once. Refuses what would
//! start programs of others (`credHelpers`, `credsStore`): an image of such a registry is an error that says so.
//!
//! Limits: a file of [`MOST`] bytes. What it holds is told nobody but the engine and the registry.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use evenkeel_schema::image::ImageRef;
use serde::Deserialize;

use crate::domain::text::decode_base64;

/// Hundreds of registries.
const MOST: u64 = 256 * 1024;
/// Where a name with no registry leads.
const DOCKER_HUB: &str = "docker.io";

/// The file.
#[derive(Debug, Clone)]
pub struct AuthFile(PathBuf);

/// Who one is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name; empty beside an identity token.
    pub user: String,
    /// The password, or a token that serves as one.
    pub password: String,
    /// An OAuth refresh token in place of a password.
    pub identity_token: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Why the file is of no use. Says nothing of what it holds.
#[derive(Debug, thiserror::Error)]
#[error("the logins in {}: {what}", path.display())]
pub struct AuthError {
    path: PathBuf,
    what: String,
    #[source]
    cause: Option<std::io::Error>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
}

impl AuthFile {
    /// The file at `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Who to be for this image; `None` where the file names no login for it.
    ///
    /// # Errors
    /// Where the file cannot be read, is no such file, or names a program that would have to be started.
    pub fn of(&self, image: &ImageRef) -> Result<Option<Login>, AuthError> {
        let document = self.read()?;
        let place = place(image);
        let found = document
            .auths
            .iter()
            .filter(|(key, _)| covers(&normal(key), &place))
            .max_by_key(|(key, _)| normal(key).len());
        let login = match found {
            Some((key, entry)) => self.login(key, entry)?,
            None => None,
        };
        if login.is_some() {
            return Ok(login);
        }
        let helper = document
            .helpers
            .iter()
            .find(|(key, _)| covers(&normal(key), &place))
            .map(|(_, helper)| helper)
            // Docker leaves an empty entry for what its store keeps.
            .or(document.store.as_ref().filter(|_| found.is_some()));
        match helper {
            Some(helper) => Err(self.wrong(format!(
                "they are kept by the program docker-credential-{}, which is not started here; write the login as `auth`",
                helper.escape_debug()
            ))),
            None => Ok(None),
        }
    }

    fn login(&self, key: &str, entry: &Entry) -> Result<Option<Login>, AuthError> {
        let (user, password) = match (&entry.auth, &entry.username, &entry.password) {
            (Some(auth), _, _) if !auth.is_empty() => {
                let pair = decode_base64(auth.bytes())
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| {
                        self.wrong(format!("`auth` of `{}` is not base64", key.escape_debug()))
                    })?;
                let (user, password) = pair.split_once(':').ok_or_else(|| {
                    self.wrong(format!(
                        "`auth` of `{}` is not user:password in base64",
                        key.escape_debug()
                    ))
                })?;
                // Docker ends it with NULs at times.
                (user.to_owned(), password.trim_end_matches('\0').to_owned())
            }
            (_, Some(user), Some(password)) => (user.clone(), password.clone()),
            (_, _, _) if entry.identity_token.is_some() => (String::new(), String::new()),
            (_, _, _) => return Ok(None),
        };
        let identity_token = entry
            .identity_token
            .clone()
            .filter(|token| !token.is_empty());
        Ok(Some(Login {
            user,
            password,
            identity_token,
        }))
    }

    fn read(&self) -> Result<Document, AuthError> {
        let mut bytes = Vec::new();
        File::open(&self.0)
            .and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes))
            .map_err(|cause| AuthError {
                path: self.0.clone(),
                what: "they cannot be read".to_owned(),
                cause: Some(cause),
            })?;
        if bytes.len() as u64 > MOST {
            return Err(self.wrong(format!("the file is larger than {MOST} bytes")));
        }
        // serde's own words quote what is there.
        serde_json::from_slice(&bytes).map_err(|error| {
            self.wrong(format!(
                "line {}, column {}: this is not the form of Docker's config.json",
                error.line(),
                error.column()
            ))
        })
    }

    fn wrong(&self, what: String) -> AuthError {
        AuthError {
            path: self.0.clone(),
            what,
            cause: None,
        }
    }
}

/// Registry and repository of an image, with the registry written out.
fn place(image: &ImageRef) -> String {
    let name = image.name();
    match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => format!("{}/{rest}", host(first)),
        Some(_) => format!("{DOCKER_HUB}/{name}"),
        None => format!("{DOCKER_HUB}/library/{name}"),
    }
}

/// The registry of an image.
pub(crate) fn registry(image: &ImageRef) -> String {
    let place = place(image);
    let registry = place.split('/').next();
    registry.unwrap_or(DOCKER_HUB).to_owned()
}

/// The rule of Docker's references: what has a dot or a port, or is `localhost`, is a registry.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

/// Docker Hub has more names than one.
fn host(name: &str) -> &str {
    match name {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        other => other,
    }
}

/// A key of `auths` as registry and path: it may be a URL, with the path of the registry's API.
fn normal(key: &str) -> String {
    let text = key.split_once("://").map_or(key, |(_, rest)| rest);
    let text = text.trim_end_matches('/');
    let text = ["/v1", "/v2"]
        .iter()
        .find_map(|api| text.strip_suffix(api))
        .unwrap_or(text);
    match text.split_once('/') {
        Some((first, rest)) => format!("{}/{rest}", host(first)),
        None => host(text).to_owned(),
    }
}

fn covers(key: &str, place: &str) -> bool {
    place
        .strip_prefix(key)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::domain::text::base64;

    fn file(text: &str) -> (tempfile::TempDir, AuthFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        (dir, AuthFile::at(&path))
    }

    fn image(name: &str) -> ImageRef {
        format!("{name}@sha256:{}", "0".repeat(64)).parse().unwrap()
    }

    fn user(file: &AuthFile, name: &str) -> Option<String> {
        file.of(&image(name)).unwrap().map(|login| login.user)
    }

    #[test]
    fn the_longest_path_of_the_images_own_registry_is_meant() {
        let auth = |user: &str| base64(format!("{user}:p:w").as_bytes());
        let (_dir, file) = file(&format!(
            r#"{{"auths": {{
                "registry.example.com": {{"auth": "{}"}},
                "registry.example.com/plant": {{"auth": "{}"}},
                "http://10.0.0.7:5000/v2/": {{"username": "local", "password": "x"}},
                "https://index.docker.io/v1/": {{"auth": "{}"}},
                "token.example.com": {{"identitytoken": "t"}},
                "empty.example.com": {{}}
            }}, "HttpHeaders": {{"X": "y"}}, "credHelpers": {{"ecr.example.com": "ecr-login"}}}}"#,
            auth("all"),
            auth("plant"),
            auth("hub"),
        ));
        for (name, expected) in [
            ("registry.example.com/mqtt", Some("all")),
            ("registry.example.com/plant/mqtt", Some("plant")),
            ("registry.example.com/plants/mqtt", Some("all")),
            ("registry.example.com:5000/mqtt", None),
            ("10.0.0.7:5000/a/b", Some("local")),
            ("mosquitto", Some("hub")),
            ("acme/mosquitto", Some("hub")),
            ("docker.io/acme/mosquitto", Some("hub")),
            ("other.example.com/registry.example.com/x", None),
            ("token.example.com/x", Some("")),
            ("empty.example.com/x", None),
        ] {
            assert_eq!(user(&file, name).as_deref(), expected, "{name}");
        }
        let login = file.of(&image("mosquitto")).unwrap().unwrap();
        assert_eq!(login.password, "p:w");
        let login = file.of(&image("token.example.com/x")).unwrap().unwrap();
        assert_eq!(login.identity_token.as_deref(), Some("t"));
        let said = file
            .of(&image("ecr.example.com/x"))
            .unwrap_err()
            .to_string();
        assert!(said.contains("docker-credential-ecr-login"), "{said}");
    }

    #[test]
    fn what_a_store_keeps_is_said_and_nothing_of_a_login_is_ever_shown() {
        let (_dir, kept) = file(r#"{"auths": {"a.example": {}}, "credsStore": "desktop"}"#);
        assert!(kept.of(&image("a.example/x")).is_err());
        assert_eq!(user(&kept, "b.example/x"), None);
        for bad in [
            r#"{"auths": {"a.example": {"auth": "s3cret!"}}}"#,
            r#"{"auths": {"a.example": {"auth": "czNjcmV0"}}}"#,
            r#"{"auths": {"a.example": "s3cret"}}"#,
            r#"s3cret"#,
        ] {
            let (_dir, bad) = file(bad);
            let error = bad.of(&image("a.example/x")).unwrap_err();
            let said = format!("{error} {error:?}");
            assert!(!said.contains("s3cret") && !said.contains("czNj"), "{said}");
        }
        let login = Login {
            user: "u".into(),
            password: "s3cret".into(),
            identity_token: None,
        };
        assert!(!format!("{login:?}").contains("s3cret"));
        let nowhere = AuthFile::at(Path::new("/nowhere/config.json"));
        assert!(
            nowhere
                .of(&image("x"))
                .unwrap_err()
                .to_string()
                .contains("/nowhere")
        );
    }
}
