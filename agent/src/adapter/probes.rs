//! Running checks: tcp, http and commands. Each has its declared timeout as a hard deadline.
//!
//! `unit` checks are the service manager's and never come here. An http check accepts any certificate's owner only if
//! the device's own CA store does; it follows no redirect to another host and reads no body.

use std::process::Stdio;
use std::time::Duration;

use evenkeel_schema::app::{Check, Probe};

use crate::port::probes::Probes;

/// The real thing.
#[derive(Debug, Default)]
pub struct NetworkProbes {
    client: std::cell::OnceCell<reqwest::Client>,
}

impl NetworkProbes {
    /// Builds its HTTP client at the first http check: a device without one pays nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let built = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| crate::domain::text::chain(&error))?;
        Ok(self.client.get_or_init(|| built))
    }

    async fn http(&self, url: &str) -> Result<(), String> {
        let answer = self
            .client()?
            .get(url)
            .send()
            .await
            .map_err(|error| crate::domain::text::chain(&error.without_url()))?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("answered {status}"))
        }
    }
}

async fn tcp(address: &str) -> Result<(), String> {
    tokio::net::TcpStream::connect(address)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

async fn command(arguments: &[String]) -> Result<(), String> {
    let [program, rest @ ..] = arguments else {
        return Err("the command is empty".to_owned());
    };
    let status = tokio::process::Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

impl Probes for NetworkProbes {
    async fn run(&self, check: &Check) -> Result<(), String> {
        let (what, result) = match &check.probe {
            Probe::Tcp(address) => (
                format!("tcp {address}"),
                within(check.timeout, tcp(address)).await,
            ),
            Probe::Http(url) => (
                format!("http {url}"),
                within(check.timeout, self.http(url)).await,
            ),
            Probe::Command(arguments) => (
                format!("command {}", arguments.first().map_or("", String::as_str)),
                within(check.timeout, command(arguments)).await,
            ),
            Probe::Unit(unit) => (
                format!("unit {unit}"),
                Err("is asked of the service manager".to_owned()),
            ),
        };
        result.map_err(|why| format!("{what}: {why}"))
    }
}

async fn within(
    timeout: Duration,
    work: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "no answer within {}",
            evenkeel_schema::duration::text(timeout)
        )),
    }
}
