//! An image registry, asked by its HTTP API (the OCI's distribution specification) for what a digest names.
//!
//! For the operator's verbs: a device leaves registries to its engine. Nothing that comes is believed: whoever asks compares
//! it with the digest. A registry's own credentials go to that registry and to the server that it names for logins (`realm`),
//! and to nobody that a redirect leads to. On loopback it speaks plain HTTP, as engines do.
//!
//! Refuses: a redirect from https to http, a login server without TLS for a registry that has it, an answer that brings
//! nothing for [`READ`].

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use evenkeel_schema::image::ImageRef;
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{StatusCode, Url, redirect};

use super::part::{self, Bounds};
use super::registry_auth::{AuthFile, Login};
use crate::domain::oci::{DOCUMENT_TYPES, Digest};
use crate::domain::text::base64;
use crate::port::upgrades::Piece;

const CONNECT: Duration = Duration::from_secs(30);
/// Without a byte for so long a connection is dead.
const READ: Duration = Duration::from_secs(60);
/// One blob, however slowly it comes: an hour is 7 GB at 2 MB/s. What broke off is gone on with.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// How often one blob is begun again where it broke off.
const TRIES: usize = 3;
const REDIRECTS: usize = 5;
/// The longest answer of a login server.
const LONGEST_TOKEN: u64 = 256 * 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why a registry did not give something.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No client can be made.
    #[error("HTTPS cannot be set up: does this system have CA certificates?")]
    Setup(#[source] reqwest::Error),
    /// It does not answer, or stopped in the middle.
    #[error("{place}: the registry does not answer")]
    Connection {
        /// Which.
        place: String,
        /// Why.
        #[source]
        cause: Failure,
    },
    /// It wants a login, or another one.
    #[error(
        "{place}: the registry refuses {}: `docker login {registry}` (or `podman login`, `skopeo login`) first",
        if *.logged_in { "the login that is known for it" } else { "to show this without a login" }
    )]
    Login {
        /// What was asked for.
        place: String,
        /// Which registry.
        registry: String,
        /// Whether one was shown.
        logged_in: bool,
    },
    /// It does not have it.
    #[error("{place}: the registry does not have it")]
    Absent {
        /// What was asked for.
        place: String,
    },
    /// It answers otherwise.
    #[error("{place}: {what}")]
    Answer {
        /// What was asked for.
        place: String,
        /// What it did.
        what: String,
    },
    /// What came could not be written down.
    #[error("{place}: it cannot be written down")]
    Disk {
        /// What was asked for.
        place: String,
        /// Why.
        #[source]
        cause: Failure,
    },
}

/// A repository of a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    image: ImageRef,
    registry: String,
    base: String,
    path: String,
}

impl Repository {
    /// An image's: its name is read as Docker reads it.
    #[must_use]
    pub fn of(image: &ImageRef) -> Self {
        let name = image.name();
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':', '[']) || first == "localhost" => {
                (first.to_owned(), rest.to_owned())
            }
            Some(_) | None => ("docker.io".to_owned(), name.to_owned()),
        };
        let (host, path) = match registry.as_str() {
            "docker.io" | "index.docker.io" if path.contains('/') => ("registry-1.docker.io", path),
            "docker.io" | "index.docker.io" => ("registry-1.docker.io", format!("library/{path}")),
            other => (other, path),
        };
        let scheme = if is_loopback(host) { "http" } else { "https" };
        Self {
            base: format!("{scheme}://{host}"),
            registry,
            path,
            image: image.clone(),
        }
    }
}

/// Where Docker, Podman and skopeo keep this user's logins.
fn login_files() -> Vec<AuthFile> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = set("HOME");
    let below = |dir: Option<&PathBuf>, path: &str| dir.map(|dir| dir.join(path));
    let docker = set("DOCKER_CONFIG").or_else(|| below(home.as_ref(), ".docker"));
    let places = [
        set("REGISTRY_AUTH_FILE"),
        below(docker.as_ref(), "config.json"),
        below(set("XDG_RUNTIME_DIR").as_ref(), "containers/auth.json"),
        below(home.as_ref(), ".config/containers/auth.json"),
    ];
    let there = places.iter().flatten().filter(|path| path.is_file());
    there.map(|path| AuthFile::at(path)).collect()
}

fn is_loopback(host: &str) -> bool {
    host.starts_with("127.")
        || host.starts_with("[::1]")
        || host == "localhost"
        || host.starts_with("localhost:")
}

/// Registries, with the logins of this user.
#[derive(Debug)]
pub struct Registries {
    client: Client,
    logins: Vec<AuthFile>,
    /// What a login server or a login gave, for each repository.
    tokens: BTreeMap<Repository, String>,
}

/// What is asked for.
struct Asked<'a> {
    repository: &'a Repository,
    place: String,
    from: u64,
}

impl Registries {
    /// Reads this user's logins. Asks nobody.
    ///
    /// # Errors
    /// [`RegistryError::Setup`].
    pub fn new() -> Result<Self, RegistryError> {
        // reqwest needs a provider for the process. Where one is installed already, that one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .timeout(READ)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(RegistryError::Setup)?;
        Ok(Self {
            client,
            logins: login_files(),
            tokens: BTreeMap::new(),
        })
    }

    /// A manifest or an index, no longer than so many bytes.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn document(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        most: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let asked = Asked {
            repository,
            place: format!(
                "{}/v2/{}/manifests/{digest}",
                repository.base, repository.path
            ),
            from: 0,
        };
        let response = self.ask(&asked)?;
        bounded(response, most).map_err(|cause| RegistryError::Connection {
            place: asked.place,
            cause,
        })
    }

    /// Gets a blob into a file, or goes on with it: whole, and not compared with its digest yet.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn blob(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        file: &std::path::Path,
    ) -> Result<(), RegistryError> {
        let place = format!("{}/v2/{}/blobs/{digest}", repository.base, repository.path);
        let mut tries = 0;
        loop {
            tries += 1;
            let too_large = || {
                std::io::Error::other(format!("it has more than the {size} bytes of its manifest"))
            };
            let bounds = Bounds {
                most: size,
                too_large: &too_large,
            };
            let mut asked_for = None;
            let filled = part::fill(file, &bounds, |have, take| {
                if have == size {
                    return Ok(take(Piece::Begins {
                        at: have,
                        total: Some(size),
                    })?);
                }
                let asked = Asked {
                    repository,
                    place: place.clone(),
                    from: if have < size { have } else { 0 },
                };
                let response = match self.ask(&asked) {
                    Ok(response) => response,
                    Err(error) => {
                        asked_for = Some(error);
                        return Err("the registry does not give it".into());
                    }
                };
                receive(response, asked.from, take)
            });
            match (filled, asked_for) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Some(error)) => return Err(error),
                (Err(cause), None)
                    if crate::domain::storage::Storage::behind(cause.as_ref()).is_some() =>
                {
                    return Err(RegistryError::Disk { place, cause });
                }
                (Err(cause), None) if tries == TRIES => {
                    return Err(RegistryError::Connection { place, cause });
                }
                (Err(_), None) => {}
            }
        }
    }

    /// Asks, logs in where that is wanted, and follows redirects.
    fn ask(&mut self, asked: &Asked<'_>) -> Result<Response, RegistryError> {
        let mut login = self.tokens.get(asked.repository).cloned();
        for _ in 0..2 {
            let response = self.send(asked, login.as_deref())?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED => {
                    let challenges: Vec<String> = response
                        .headers()
                        .get_all(WWW_AUTHENTICATE)
                        .iter()
                        .filter_map(|value| Some(value.to_str().ok()?.to_owned()))
                        .collect();
                    let fresh = self.log_in(asked, &challenges)?;
                    self.tokens.insert(asked.repository.clone(), fresh.clone());
                    login = Some(fresh);
                }
                StatusCode::FORBIDDEN => return Err(self.no_login(asked)),
                StatusCode::NOT_FOUND => {
                    return Err(RegistryError::Absent {
                        place: asked.place.clone(),
                    });
                }
                other => {
                    return Err(answer(
                        asked,
                        format!("the registry answered with HTTP status {}", other.as_u16()),
                    ));
                }
            }
        }
        Err(self.no_login(asked))
    }

    fn no_login(&self, asked: &Asked<'_>) -> RegistryError {
        RegistryError::Login {
            place: asked.place.clone(),
            registry: asked.repository.registry.clone(),
            logged_in: matches!(self.login(asked), Ok(Some(_))),
        }
    }

    /// Who to be: by the first file that knows.
    fn login(&self, asked: &Asked<'_>) -> Result<Option<Login>, RegistryError> {
        for file in &self.logins {
            let login = file
                .of(&asked.repository.image)
                .map_err(|error| answer(asked, error.to_string()))?;
            if login.is_some() {
                return Ok(login);
            }
        }
        Ok(None)
    }

    fn send(&self, asked: &Asked<'_>, login: Option<&str>) -> Result<Response, RegistryError> {
        let connection = |error: reqwest::Error| RegistryError::Connection {
            place: asked.place.clone(),
            cause: Box::new(error.without_url()),
        };
        let home = Url::parse(&asked.place)
            .map_err(|error| answer(asked, format!("this is no address: {error}")))?;
        let mut place = home.clone();
        for _ in 0..=REDIRECTS {
            let mut request = self
                .client
                .get(place.clone())
                .header(ACCEPT, DOCUMENT_TYPES.join(", "))
                // What is counted and resumed are the blob's own bytes.
                .header(ACCEPT_ENCODING, "identity");
            if asked.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", asked.from));
            }
            if let Some(login) = login
                && place.origin() == home.origin()
            {
                request = request.header(AUTHORIZATION, login);
            }
            let response = request.send().map_err(connection)?;
            if !response.status().is_redirection() {
                if response.status() == StatusCode::UNAUTHORIZED && place.origin() != home.origin()
                {
                    // Whoever that is, it is not the registry: it gets no login, and does not say where to bring one.
                    return Err(answer(
                        asked,
                        "the registry sends elsewhere for it, and there a login is wanted"
                            .to_owned(),
                    ));
                }
                return Ok(response);
            }
            let to = response
                .headers()
                .get(LOCATION)
                .and_then(|to| place.join(to.to_str().ok()?).ok())
                .ok_or_else(|| answer(asked, "a redirect that names no address".to_owned()))?;
            if to.scheme() != "https" && place.scheme() == "https" {
                return Err(answer(
                    asked,
                    "the registry redirects from https to http: refused".to_owned(),
                ));
            }
            place = to;
        }
        Err(answer(
            asked,
            "the registry redirects in circles".to_owned(),
        ))
    }

    /// What is shown to the registry from now on.
    fn log_in(&self, asked: &Asked<'_>, challenges: &[String]) -> Result<String, RegistryError> {
        let login = self.login(asked)?;
        if login
            .as_ref()
            .is_some_and(|login| login.identity_token.is_some())
        {
            let why = "the login that is known for it is an identity token, which is not spoken here: log in with a password";
            return Err(answer(asked, why.to_owned()));
        }
        let basic = login.map(|login| {
            let pair = format!("{}:{}", login.user, login.password);
            format!("Basic {}", base64(pair.as_bytes()))
        });
        let mut wants_basic = false;
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                wants_basic = true;
            }
            if !scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            let fields = fields(rest);
            let realm = fields.get("realm").and_then(|realm| Url::parse(realm).ok());
            let Some(mut realm) = realm else {
                return Err(answer(asked, "it names no login server".to_owned()));
            };
            if realm.scheme() != "https" && asked.place.starts_with("https:") {
                return Err(answer(
                    asked,
                    "its login server has no TLS: refused".to_owned(),
                ));
            }
            let scope = format!("repository:{}:pull", asked.repository.path);
            if let Some(service) = fields.get("service") {
                realm.query_pairs_mut().append_pair("service", service);
            }
            realm
                .query_pairs_mut()
                .append_pair("scope", fields.get("scope").unwrap_or(&scope));
            let mut request = self.client.get(realm.clone());
            if let Some(basic) = &basic {
                request = request.header(AUTHORIZATION, basic);
            }
            realm.set_query(None);
            let connection = |cause: Failure| RegistryError::Connection {
                place: realm.to_string(),
                cause,
            };
            let response = request
                .send()
                .map_err(|error| connection(Box::new(error.without_url())))?;
            if response.status() != StatusCode::OK {
                return Err(self.no_login(asked));
            }
            let bytes = bounded(response, LONGEST_TOKEN).map_err(connection)?;
            let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let token = ["token", "access_token"]
                .iter()
                .find_map(|name| said.get(name)?.as_str())
                .ok_or_else(|| answer(asked, "its login server gives no token".to_owned()))?;
            return Ok(format!("Bearer {token}"));
        }
        match basic {
            Some(basic) if wants_basic => Ok(basic),
            Some(_) | None => Err(self.no_login(asked)),
        }
    }
}

fn answer(asked: &Asked<'_>, what: String) -> RegistryError {
    RegistryError::Answer {
        place: asked.place.clone(),
        what,
    }
}

/// `realm="https://auth.example.com/token",service="registry"`.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        fields.insert(name, value.to_owned());
        rest = after;
    }
    fields
}

fn bounded(response: Response, most: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    response.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(format!("it is longer than {most} bytes").into());
    }
    Ok(bytes)
}

/// Hands on a blob as it comes.
fn receive(
    mut response: Response,
    from: u64,
    take: &mut dyn FnMut(Piece<'_>) -> std::io::Result<()>,
) -> Result<(), Failure> {
    let until = Instant::now() + LONGEST;
    let is_rest = response.status() == StatusCode::PARTIAL_CONTENT;
    if is_rest {
        let range = response.headers().get(CONTENT_RANGE);
        let range = range
            .and_then(|range| range.to_str().ok())
            .unwrap_or_default();
        if !range.starts_with(&format!("bytes {from}-")) {
            return Err(format!("it sends another part than was asked for ({range})").into());
        }
    }
    take(Piece::Begins {
        at: if is_rest { from } else { 0 },
        total: None,
    })?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match response.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(Piece::Bytes(&buffer[..count]))?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until {
            return Err("it takes longer than an hour".into());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_the_registry_that_docker_asks() {
        for (name, base, path) in [
            ("busybox", "https://registry-1.docker.io", "library/busybox"),
            (
                "grafana/grafana",
                "https://registry-1.docker.io",
                "grafana/grafana",
            ),
            (
                "docker.io/busybox",
                "https://registry-1.docker.io",
                "library/busybox",
            ),
            ("ghcr.io/a/b", "https://ghcr.io", "a/b"),
            (
                "reg.example.com:5000/a",
                "https://reg.example.com:5000",
                "a",
            ),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000", "a"),
            ("localhost/a", "http://localhost", "a"),
            ("[::1]:5000/a", "http://[::1]:5000", "a"),
            (
                "localhost.example.com/a",
                "https://localhost.example.com",
                "a",
            ),
        ] {
            let found = Repository::of(&name.parse().unwrap());
            assert_eq!(
                (found.base.as_str(), found.path.as_str()),
                (base, path),
                "{name}"
            );
        }
    }

    #[test]
    fn the_fields_of_a_challenge_are_read_with_and_without_quotes() {
        let read = fields(
            r#"realm="https://auth.example.com/token?a=b",service=reg.example.com, scope="repository:a/b:pull,push""#,
        );
        assert_eq!(read["realm"], "https://auth.example.com/token?a=b");
        assert_eq!(read["service"], "reg.example.com");
        assert_eq!(read["scope"], "repository:a/b:pull,push");
        assert!(fields("").is_empty());
        assert_eq!(fields("realm=\"open")["realm"], "open");
    }
}
