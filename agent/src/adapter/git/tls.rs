//! The one HTTP client, with the CAs and the client certificate of `[source]`.
//!
//! Built once and shared, since each client costs a thread; built again only where a TLS file changed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use reqwest::blocking::Client;
use reqwest::redirect;

use super::limits::{Fault, Limits};

/// The TLS files of `[source]`.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// What the TLS files hold, in the order of [`TlsFiles`].
type TlsContents = [Option<Vec<u8>>; 3];

/// The one client, built again only where a TLS file changed.
#[derive(Debug, Default)]
pub(super) struct SharedClient {
    built: Mutex<Option<(TlsContents, Client)>>,
}

pub(super) fn setup(
    what: String,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Fault {
    Fault::Setup {
        what,
        cause: Some(cause.into()),
    }
}

fn read_setting(path: &Path, setting: &str) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|cause| {
        setup(
            format!("cannot read source.{setting} `{}`", path.display()),
            cause,
        )
    })
}

impl SharedClient {
    pub(super) fn get(&self, files: &TlsFiles, limits: &Limits) -> Result<Client, Fault> {
        let read = |path: &Option<PathBuf>, setting: &str| {
            path.as_deref()
                .map(|path| read_setting(path, setting))
                .transpose()
        };
        let contents = [
            read(&files.ca, "ca_file")?,
            read(&files.cert, "client_cert")?,
            read(&files.key, "client_key")?,
        ];
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, client)) = built.as_ref()
            && *seen == contents
        {
            return Ok(client.clone());
        }
        let client = build(files, &contents, limits)?;
        *built = Some((contents, client.clone()));
        Ok(client)
    }
}

fn build(files: &TlsFiles, contents: &TlsContents, limits: &Limits) -> Result<Client, Fault> {
    let shown = |path: &Option<PathBuf>| {
        path.as_deref()
            .map_or_else(String::new, |path| path.display().to_string())
    };
    let mut builder = Client::builder()
        .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits.connect)
        .timeout(limits.read)
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(1);
    let [ca, cert, key] = contents;
    if let Some(pem) = ca {
        let bad = |cause| {
            setup(
                format!(
                    "source.ca_file `{}` does not hold certificates in PEM form",
                    shown(&files.ca)
                ),
                cause,
            )
        };
        let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(bad)?;
        if certificates.is_empty() {
            return Err(Fault::Setup {
                what: format!(
                    "source.ca_file `{}` holds no certificate in PEM form",
                    shown(&files.ca)
                ),
                cause: None,
            });
        }
        builder = builder.tls_certs_only(certificates);
    }
    match (cert, key) {
        (Some(cert), Some(key)) => {
            let mut pem = cert.clone();
            pem.push(b'\n');
            pem.extend_from_slice(key);
            let identity = reqwest::Identity::from_pem(&pem).map_err(|cause| {
                setup(
                    format!(
                        "source.client_cert `{}` and source.client_key `{}` are not a certificate and its key in PEM form",
                        shown(&files.cert),
                        shown(&files.key)
                    ),
                    cause,
                )
            })?;
            builder = builder.identity(identity);
        }
        (Some(_), None) => {
            return Err(Fault::Setup {
                what: "source.client_cert needs source.client_key beside it".to_owned(),
                cause: None,
            });
        }
        (None, Some(_)) => {
            return Err(Fault::Setup {
                what: "source.client_key needs source.client_cert beside it".to_owned(),
                cause: None,
            });
        }
        (None, None) => {}
    }
    builder.build().map_err(|cause| {
        setup(
            "cannot set up HTTPS: check source.ca_file, source.client_cert and source.client_key, and that the system has CA certificates".to_owned(),
            cause,
        )
    })
}
