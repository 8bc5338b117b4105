//! Running checks: tcp, http and commands. Each has its declared timeout as a hard deadline. And the device's own health scripts,
//! where greenboot looks for them.
//!
//! Other checks (`unit`, `file`, commands in a container) are other ports' and never come here. An http check accepts any
//! certificate's owner only if the device's own CA store does; it follows no redirect to another host, and reads a body only
//! where something has to be in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use evenkeel_schema::app::{Check, Expect, Probe};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::domain::text;
use crate::port::probes::{Need, Probes, Script};

/// How long a command's last words are waited for after its end: they are in the pipe by then.
const AFTERWORDS: Duration = Duration::from_millis(200);

/// How much of a body is looked through: a page that says how something is has it at its beginning.
const MOST_OF_BODY: usize = 1 << 20;

/// Where greenboot looks for scripts: the owner's own, and those that came with packages.
const SCRIPT_DIRS: [&str; 2] = ["etc/greenboot/check", "usr/lib/greenboot/check"];
/// How long a script may take; greenboot waits for ever.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// The real thing.
#[derive(Debug, Default)]
pub struct NetworkProbes {
    root: PathBuf,
    client: std::cell::OnceCell<reqwest::Client>,
}

impl NetworkProbes {
    /// Builds its HTTP client at the first http check: a device without one pays nothing.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            client: std::cell::OnceCell::new(),
        }
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

    async fn http(&self, url: &str, expect: &Expect) -> Result<(), String> {
        let mut answer = self
            .client()?
            .get(url)
            .send()
            .await
            .map_err(|error| crate::domain::text::chain(&error.without_url()))?;
        let status = answer.status();
        if !expect.has_status(status.as_u16()) {
            return Err(format!("answered {status}"));
        }
        let Some(text) = &expect.contains else {
            return Ok(());
        };
        let mut body = Vec::new();
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| crate::domain::text::chain(&error.without_url()))?
        {
            body.extend_from_slice(&piece);
            if text::holds(&body, text) {
                return Ok(());
            }
            if body.len() > MOST_OF_BODY {
                break;
            }
        }
        Err(format!(
            "answered {status} without `{}`: {}",
            text.escape_debug(),
            text::last_words(&body).unwrap_or_else(|| "nothing".to_owned())
        ))
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
    let mut child = tokio::process::Command::new(program)
        .args(rest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = {
        let mut heard = std::pin::pin!(async {
            tokio::join!(listen(stdout, &mut out), listen(stderr, &mut err));
        });
        tokio::select! {
            () = &mut heard => child.wait().await,
            ended = child.wait() => {
                // What it left running may hold the pipes open for ever.
                let _ = tokio::time::timeout(AFTERWORDS, heard).await;
                ended
            }
        }
        .map_err(|error| error.to_string())?
    };
    if status.success() {
        return Ok(());
    }
    let said = [out, b"\n".to_vec(), err].concat();
    Err(match (status.code(), text::last_words(&said)) {
        (Some(code), _) => text::ended(code.into(), &said),
        (None, Some(words)) => format!("{status}: {words}"),
        (None, None) => status.to_string(),
    })
}

/// Reads all of it, and keeps the end.
async fn listen(pipe: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = [0; text::TAIL];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        said.extend_from_slice(&piece[..length]);
        said.drain(..said.len().saturating_sub(text::TAIL));
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
                within(check.timeout, self.http(url, &check.expect)).await,
            ),
            Probe::Command(arguments) => (
                format!("command {}", arguments.first().map_or("", String::as_str)),
                within(check.timeout, command(arguments)).await,
            ),
            Probe::Unit(_) | Probe::File(_) | Probe::Exec(..) => (
                "another kind of check".to_owned(),
                Err("is not asked here".to_owned()),
            ),
        };
        result.map_err(|why| format!("{what}: {why}"))
    }

    fn scripts(&self) -> Vec<Script> {
        let mut scripts = Vec::new();
        for (dir, need) in [("required.d", Need::Required), ("wanted.d", Need::Wanted)] {
            let mut found: Vec<PathBuf> = SCRIPT_DIRS
                .iter()
                .filter_map(|place| std::fs::read_dir(self.root.join(place).join(dir)).ok())
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|kind| kind == "sh"))
                .collect();
            found.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
            scripts.extend(found.iter().map(|path| Script {
                path: path.display().to_string(),
                need,
            }));
        }
        scripts
    }

    async fn run_script(&self, script: &Script) -> Result<(), String> {
        // As greenboot runs them: whatever their mode is.
        let words = ["bash".to_owned(), script.path.clone()];
        within(SCRIPT_LIMIT, command(&words)).await
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    async fn fails(script: &str) -> String {
        let arguments = ["/bin/sh", "-c", script].map(str::to_owned);
        within(Duration::from_secs(20), command(&arguments))
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_with_its_code_and_its_last_words() {
        assert_eq!(fails("exit 3").await, "ended with 3");
        assert_eq!(
            fails("echo asked; echo 'no answer' >&2; exit 4").await,
            "ended with 4: asked\\n\\nno answer"
        );
        assert!(fails("kill -9 $$").await.contains("signal: 9"));
        let long = fails("yes filling | head -c 3000000; echo the cause; exit 1").await;
        assert!(long.ends_with("the cause") && long.len() < 300, "{long}");
    }

    #[tokio::test]
    async fn a_command_may_leave_something_running_that_holds_its_output() {
        let began = std::time::Instant::now();
        let said = fails("sleep 30 & echo $!; exit 1").await;
        assert!(began.elapsed() < Duration::from_secs(10), "{said}");
        let left = said.rsplit(' ').next().unwrap().to_owned();
        let passed = command(&["/bin/kill", &left].map(str::to_owned)).await;
        assert_eq!(passed, Ok(()), "{said}");
    }

    #[tokio::test]
    async fn a_command_that_closes_its_output_is_waited_for() {
        let closed = ["/bin/sh", "-c", "exec >&- 2>&-; sleep 1; true"].map(str::to_owned);
        assert_eq!(command(&closed).await, Ok(()));
        assert_eq!(
            fails("exec >&- 2>&-; sleep 1; exit 5").await,
            "ended with 5"
        );
    }
}
