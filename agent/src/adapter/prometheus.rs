//! Instant queries to a Prometheus server (its HTTP API v1, which Thanos, Mimir and VictoriaMetrics speak too): which devices a
//! query gives.
//!
//! Refuses: an answer that is no vector or may lack something, a series without the label `device` or a number, a redirect. Limits: one deadline for each
//! question, and answers of bounded size.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::Value;

use crate::domain::text::chain;

/// How long a question may take: a server of a whole fleet's history may think for a while.
const WITHIN: Duration = Duration::from_secs(60);
/// The largest answer: a hundred thousand devices.
const MOST: u64 = 64 * 1024 * 1024;

/// Why a server does not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// What it is asked with is not usable.
    #[error("{0}")]
    Setup(String),
    /// It did not answer.
    #[error("the Prometheus server at {at} does not answer: {why}")]
    Silent {
        /// Its host.
        at: String,
        /// Why.
        why: String,
    },
    /// It answered something else.
    #[error("the Prometheus server at {at} does not answer the query `{name}`: {why}")]
    Answer {
        /// Its host.
        at: String,
        /// Which query.
        name: String,
        /// Why.
        why: String,
    },
}

/// A server.
#[derive(Debug)]
pub struct Prometheus {
    client: Client,
    url: reqwest::Url,
    token: Option<String>,
}

impl Prometheus {
    /// A server by its address, not asked yet.
    ///
    /// # Errors
    /// [`AskError::Setup`].
    pub fn at(
        url: &str,
        token_file: Option<&Path>,
        ca_file: Option<&PathBuf>,
    ) -> Result<Self, AskError> {
        let setup = |what: String| AskError::Setup(what);
        let read = |what: &str, file: &Path| {
            std::fs::read(file)
                .map_err(|error| setup(format!("cannot read {what} {}: {error}", file.display())))
        };
        // More than one of a process may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = if url.ends_with('/') {
            url.to_owned()
        } else {
            format!("{url}/")
        };
        let url = reqwest::Url::parse(&base)
            .and_then(|base| base.join("api/v1/query"))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                setup("the Prometheus server's address is none: write it like https://prometheus.example.com".to_owned())
            })?;
        let mut builder = Client::builder()
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(WITHIN);
        if let Some(file) = ca_file {
            let pem = read("--prometheus-ca", file)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .ok()
                .filter(|all| !all.is_empty())
                .ok_or_else(|| {
                    setup(format!(
                        "--prometheus-ca {} holds no certificate in PEM form",
                        file.display()
                    ))
                })?;
            builder = builder.tls_certs_only(certificates);
        }
        let token = match token_file {
            Some(file) => Some(
                String::from_utf8(read("--prometheus-token", file)?)
                    .ok()
                    .map(|token| token.trim().to_owned())
                    .filter(|token| {
                        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
                    })
                    .ok_or_else(|| {
                        setup(format!(
                            "--prometheus-token {} holds no token",
                            file.display()
                        ))
                    })?,
            ),
            None => None,
        };
        let client = builder
            .build()
            .map_err(|error| setup(format!("cannot set up HTTPS: {}", chain(&error))))?;
        Ok(Self { client, url, token })
    }

    /// Its host, for people: nothing of a password.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The devices of a query's answer: of each series whose value is not 0, the label `device`.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn devices(&self, name: &str, query: &str) -> Result<BTreeSet<String>, AskError> {
        let silent = |why: String| AskError::Silent {
            at: self.host(),
            why,
        };
        let wrong = |why: &str| AskError::Answer {
            at: self.host(),
            name: name.to_owned(),
            why: why.chars().take(400).collect(),
        };
        let mut form = self.url.clone();
        form.set_query(None);
        form.query_pairs_mut().append_pair("query", query);
        let mut request = self
            .client
            .post(self.url.clone())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.query().unwrap_or_default().to_owned());
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = request
            .send()
            .map_err(|error| silent(chain(&error.without_url())))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        answer
            .take(MOST)
            .read_to_end(&mut bytes)
            .map_err(|error| silent(chain(&error)))?;
        let said: Value = match serde_json::from_slice(&bytes) {
            Ok(said) => said,
            Err(_) if status.is_success() => {
                return Err(wrong("it sent something else than the API's JSON"));
            }
            Err(_) => return Err(silent(format!("it answered {status}"))),
        };
        if said["status"] != "success" {
            let why = said["error"].as_str().unwrap_or("it gives no reason");
            return Err(wrong(&format!("{status}: {why}")));
        }
        named(&said).map_err(|why| wrong(&why))
    }
}

/// The devices that an answer names, or why it does not count.
fn named(said: &Value) -> Result<BTreeSet<String>, String> {
    if said["isPartial"] == true {
        return Err("its answer is partial".to_owned());
    }
    let warning = said["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| one.as_str().unwrap_or("it does not say of what"))
        // About the query's style, in the versions that have no place of their own for it.
        .find(|one| !one.starts_with("PromQL info"));
    if let Some(warning) = warning {
        return Err(format!(
            "it warns, so its answer may lack something: {warning}"
        ));
    }
    if said["data"]["resultType"] != "vector" {
        return Err("the query does not give an instant vector".to_owned());
    }
    let result = said["data"]["result"]
        .as_array()
        .ok_or("its answer has no result")?;
    let mut devices = BTreeSet::new();
    for series in result {
        let value = series["value"][1]
            .as_str()
            .and_then(|text| text.parse::<f64>().ok())
            .filter(|value| !value.is_nan());
        match (series["metric"]["device"].as_str(), value) {
            (_, Some(0.0)) => {}
            (Some(device), Some(_)) => {
                devices.insert(device.to_owned());
            }
            (None, _) => return Err("it gives a series without the label `device`".to_owned()),
            (Some(_), None) => return Err("it gives a series without a number".to_owned()),
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(value: &str) -> Value {
        let series = |device: &str, value: &str| json!({ "metric": { "device": device }, "value": [1, value] });
        json!({
            "status": "success",
            "data": { "resultType": "vector", "result": [series("a", "1"), series("b", value)] },
        })
    }

    #[test]
    fn a_whole_answer_names_the_devices_whose_value_is_not_zero() {
        let devices = |value: &str| named(&answer(value)).map(|all| all.len());
        assert_eq!(devices("1"), Ok(2));
        assert_eq!(devices("0"), Ok(1));
        let mut told = answer("1");
        told["isPartial"] = json!(false);
        told["warnings"] = json!(["PromQL info: the metric might not be a counter"]);
        assert_eq!(named(&told).map(|all| all.len()), Ok(2));
    }

    #[test]
    fn an_answer_that_may_lack_something_does_not_count() {
        named(&answer("NaN")).unwrap_err();
        let with = |key: &str, value: Value| {
            let mut told = answer("1");
            told[key] = value;
            named(&told).unwrap_err()
        };
        assert!(with("isPartial", json!(true)).contains("partial"));
        let warned = with("warnings", json!(["PromQL info: x", "a store is away"]));
        assert!(warned.contains("a store is away"), "{warned}");
        with("data", json!({ "resultType": "vector", "result": null }));
        with("data", json!({ "resultType": "vector" }));
    }
}
