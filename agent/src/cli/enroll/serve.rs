//! `evenkeel enroll --serve`: hands the document and the public key to who is on site with a browser or curl, once.
//!
//! Owns one listening socket and two texts. It opens no file and looks at no path but to compare it with the few that it
//! knows; takes GET alone, a head of 4 KiB at most, a few seconds a connection, one connection after the other. It ends with
//! the first answer that was taken whole, or at its deadline.
//!
//! Limits: plain HTTP. Nothing in it is secret, but who stands in between can show another key: the fingerprint is on the
//! console, too. Somebody who opens connections all the time keeps others out.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::device::Failure;
use super::super::fail;

/// The longest head of a request in bytes.
const LONGEST_HEAD: usize = 4096;
/// How long one connection may take: a phone at the far end of a site has a bad link.
const ONE: Duration = Duration::from_secs(10);
/// How long the other side has to close after an answer.
const CLOSES: Duration = Duration::from_secs(2);
/// After an `accept` that failed (too many open files, for instance).
const PAUSE: Duration = Duration::from_millis(200);

/// What is handed out: nothing in it is secret.
pub(super) struct Shown<'a> {
    pub(super) device: &'a str,
    pub(super) document: &'a str,
    pub(super) public_key: &'a str,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: &'static str,
    body: String,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// What was asked for was taken.
    Fetched,
    /// Something else was asked for, or nothing.
    Otherwise,
}

/// Serves until it was fetched, or for so long. `ready` is called once connections are taken.
pub(super) fn serve(
    shown: &Shown<'_>,
    at: SocketAddr,
    within: Duration,
    ready: impl FnOnce(),
) -> Result<(), Failure> {
    let runtime = super::super::runtime()
        .map_err(|error| Failure::failed(format!("cannot serve: {error}")))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(at).await.map_err(|error| {
            Failure::failed(format!(
                "--serve: cannot listen at {at}: {error}\nhint: name an address of this machine, or all of them: 0.0.0.0:8089, [::]:8089"
            ))
        })?;
        let at = listener.local_addr().unwrap_or(at);
        fail(
            0,
            &format!(
                "serving http://{at}/devices/{}.toml until it is fetched, for {} at most",
                shown.device,
                evenkeel_schema::duration::text(within)
            ),
        );
        ready();
        let until = Instant::now() + within;
        loop {
            match timeout_at(until, listener.accept()).await {
                Err(_) => {
                    fail(0, "nobody has fetched it; `evenkeel enroll` prints it at any time");
                    return Ok(());
                }
                Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
                Ok(Ok((stream, from))) => {
                    let one = timeout_at(until, timeout(ONE, answer(stream, shown)));
                    if matches!(one.await, Ok(Ok(Ok(Ended::Fetched)))) {
                        fail(0, &format!("fetched by {}", from.ip()));
                        return Ok(());
                    }
                }
            }
        }
    })
}

async fn answer(mut stream: TcpStream, shown: &Shown<'_>) -> std::io::Result<Ended> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    let is_whole = loop {
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            break true;
        }
        if head.len() > LONGEST_HEAD {
            break false;
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(Ended::Otherwise);
        }
        head.extend_from_slice(&buffer[..count]);
    };
    let (ended, reply) = if is_whole {
        reply(&head, shown)
    } else {
        (Ended::Otherwise, no("431 Request Header Fields Too Large"))
    };
    let text = format!(
        "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{}",
        reply.status,
        reply.body.len(),
        reply.body
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // Until the other side has closed, too: it has all of it then. One that stays open has had the time for it; one that
    // was reset has lost some of it.
    let mut more = 0;
    let closed = timeout(CLOSES, async {
        while more < LONGEST_HEAD {
            match stream.read(&mut buffer).await? {
                0 => break,
                count => more += count,
            }
        }
        std::io::Result::Ok(())
    });
    match closed.await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Ok(ended),
    }
}

fn no(status: &'static str) -> Reply {
    Reply {
        status,
        body: format!("{status}\n"),
    }
}

fn reply(head: &[u8], shown: &Shown<'_>) -> (Ended, Reply) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(target), Some(b"HTTP/1.1" | b"HTTP/1.0"), None) = (target, version, words.next())
    else {
        return (Ended::Otherwise, no("400 Bad Request"));
    };
    if method != Some(b"GET") {
        return (Ended::Otherwise, no("405 Method Not Allowed"));
    }
    let body = if target == b"/" || target == format!("/devices/{}.toml", shown.device).as_bytes() {
        shown.document.to_owned()
    } else if target == b"/public_key" {
        format!("{}\n", shown.public_key)
    } else {
        return (Ended::Otherwise, no("404 Not Found"));
    };
    let reply = Reply {
        status: "200 OK",
        body,
    };
    (Ended::Fetched, reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: Shown<'static> = Shown {
        device: "gw-1",
        document: "public_key = \"ssh-ed25519 AAAA gw-1\"\n",
        public_key: "ssh-ed25519 AAAA gw-1",
    };

    #[test]
    fn two_texts_are_handed_out_and_nothing_else_is_known() {
        for (line, status, fetched) in [
            ("GET / HTTP/1.1", "200", true),
            ("GET /devices/gw-1.toml HTTP/1.0", "200", true),
            ("GET /public_key HTTP/1.1", "200", true),
            ("GET /devices/gw-2.toml HTTP/1.1", "404", false),
            ("GET /id_ed25519 HTTP/1.1", "404", false),
            ("GET /devices/../identity/id_ed25519 HTTP/1.1", "404", false),
            ("GET //devices/gw-1.toml HTTP/1.1", "404", false),
            ("GET /devices/gw-1%2etoml HTTP/1.1", "404", false),
            ("GET /?x HTTP/1.1", "404", false),
            ("GET http://a/ HTTP/1.1", "404", false),
            ("HEAD / HTTP/1.1", "405", false),
            ("POST / HTTP/1.1", "405", false),
            ("get / HTTP/1.1", "405", false),
            ("GET / HTTP/2.0", "400", false),
            ("GET /", "400", false),
            ("GET / HTTP/1.1 x", "400", false),
            ("", "400", false),
            ("\u{0}\u{1}", "400", false),
        ] {
            let head = format!("{line}\r\nHost: x\r\n\r\n");
            let (ended, reply) = reply(head.as_bytes(), &SHOWN);
            assert!(reply.status.starts_with(status), "{line}: {}", reply.status);
            assert_eq!(ended == Ended::Fetched, fetched, "{line}");
            assert!(fetched || !reply.body.contains("ssh-"), "{line}");
        }
    }
}
