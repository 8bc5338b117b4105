//! What the demo's containers run: a tiny HTTP server that is as healthy as its configuration file is usable, and the
//! probe for it. Hidden verbs: nothing but the demo calls them.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One slow client must not hold a task for ever.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The demo's own application.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum App {
    /// Serves the greeting of a configuration file, and /healthz.
    Serve {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// The configuration: a line `greeting = ...`.
        #[arg(long)]
        config: PathBuf,
    },
    /// Exits with 0 when the address answers an HTTP request with 200.
    Probe {
        /// `http://127.0.0.1:8080/healthz`.
        url: String,
    },
}

/// Runs it.
pub(super) async fn run(app: &App) -> u8 {
    let done = match app {
        App::Serve { listen, config } => serve(*listen, config).await,
        App::Probe { url } => probe(url).await,
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            super::checks::complain(&format!("{error}"));
            1
        }
    }
}

/// The greeting, where the file has one: everything after `greeting =` on a line of its own.
fn greeting(config: &str) -> Option<&str> {
    config.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "greeting").then(|| value.trim())
    })
}

async fn serve(listen: SocketAddr, config: &Path) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    // As process 1 of a container the kernel drops signals that have no handler: without this every stop would wait
    // for the engine's SIGKILL.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                let config = config.to_owned();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(CLIENT_TIMEOUT, answer(client, &config)).await;
                });
            }
        }
    }
}

async fn answer(client: TcpStream, config: &Path) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    client.read_line(&mut request).await?;
    let mut header = String::new();
    while client.read_line(&mut header).await? > 2 {
        header.clear();
    }
    let text = tokio::fs::read_to_string(config).await.unwrap_or_default();
    let (status, body) = match greeting(&text) {
        Some(greeting) => ("200 OK", greeting.to_owned()),
        None => (
            "503 Service Unavailable",
            format!("{}: no line `greeting = ...`", config.display()),
        ),
    };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}\n",
        body.len() + 1
    );
    client.write_all(reply.as_bytes()).await?;
    client.shutdown().await
}

async fn probe(url: &str) -> io::Result<()> {
    let target = url.strip_prefix("http://").unwrap_or(url);
    let (address, path) = target.split_once('/').unwrap_or((target, ""));
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = String::new();
        stream.take(4096).read_to_string(&mut reply).await?;
        Ok::<_, io::Error>(reply)
    };
    let reply = tokio::time::timeout(CLIENT_TIMEOUT, ask).await??;
    let status = reply.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(io::Error::other(format!("{url} answers `{status}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::greeting;

    #[test]
    fn a_misspelt_key_leaves_the_app_without_a_greeting() {
        assert_eq!(
            greeting("# hi\ngreeting = hello there\n"),
            Some("hello there")
        );
        assert_eq!(greeting("greting = hello there\n"), None);
        assert_eq!(greeting(""), None);
    }
}
