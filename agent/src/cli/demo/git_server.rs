//! A read-only git server for the demo: HTTP/1.1 on loopback in front of the real `git http-backend`.
//!
//! One request a connection, bodies held in memory up to [`LARGEST_BODY`]. Enough for a fleet repository of a few files;
//! not a server for anything else.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A fetch request names a few commits; a push is not served at all.
const LARGEST_BODY: usize = 4 << 20;
/// The request line and headers together.
const LARGEST_HEAD: usize = 64 << 10;

/// A running server; dropped, it stops listening.
#[derive(Debug)]
pub(super) struct GitServer {
    /// Where it listens.
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GitServer {
    /// Serves every repository below `root` at `address` (port 0: any free one).
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(super) async fn start(root: &Path, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let root = root.to_owned();
        let task = tokio::spawn(async move {
            // Owned by this task, so that stopping the server ends what it is answering.
            let mut clients = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((client, _)) = accepted else { continue };
                        let root = root.clone();
                        clients.spawn(async move { serve(client, root).await });
                    }
                    Some(_) = clients.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Stops listening, and waits until the port is free again.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// One request, as far as `git http-backend` wants to know it.
#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    query: String,
    content_type: String,
    content_encoding: String,
    git_protocol: String,
    body: Vec<u8>,
}

async fn serve(client: TcpStream, root: PathBuf) {
    let mut client = BufReader::new(client);
    let reply = match read_request(&mut client).await {
        Ok(request) => backend(&root, &request)
            .await
            .unwrap_or_else(|error| plain("500 Internal Server Error", &error.to_string())),
        Err(error) => plain("400 Bad Request", &error.to_string()),
    };
    // The client may be gone; there is nobody to tell.
    let _ = client.write_all(&reply).await;
    let _ = client.shutdown().await;
}

fn plain(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// One line without its end.
async fn line(client: &mut (impl AsyncBufRead + Unpin), room: &mut usize) -> io::Result<String> {
    let mut text = String::new();
    let mut limited = client.take(*room as u64);
    let read = limited.read_line(&mut text).await?;
    *room -= read;
    if !text.ends_with('\n') {
        return Err(bad("the request's head is cut off or too long"));
    }
    Ok(text.trim_end().to_owned())
}

/// How the body's end is told.
enum Framing {
    Length(usize),
    Chunked,
}

async fn read_request(client: &mut BufReader<TcpStream>) -> io::Result<Request> {
    let mut room = LARGEST_HEAD;
    let first = line(client, &mut room).await?;
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(_)) = (words.next(), words.next(), words.next()) else {
        return Err(bad("not an HTTP request line"));
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    let mut framing = Framing::Length(0);
    let mut wait = false;
    loop {
        let header = line(client, &mut room).await?;
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else {
            return Err(bad("a header without a colon"));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-type" => request.content_type = value.to_owned(),
            "content-encoding" => request.content_encoding = value.to_owned(),
            "git-protocol" => request.git_protocol = value.to_owned(),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => {
                framing = Framing::Chunked;
            }
            "content-length" => {
                framing = Framing::Length(value.parse().map_err(|_| bad("Content-Length"))?);
            }
            "expect" => wait = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
    if wait {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    match framing {
        Framing::Length(length) => read_exactly(client, length, &mut request.body).await?,
        Framing::Chunked => loop {
            let mut room = LARGEST_HEAD;
            let head = line(client, &mut room).await?;
            let size = head.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| bad("not a chunk's size"))?;
            if size == 0 {
                // Trailers, if any, then an empty line.
                while !line(client, &mut room).await?.is_empty() {}
                break;
            }
            read_exactly(client, size, &mut request.body).await?;
            line(client, &mut room).await?;
        },
    }
    Ok(request)
}

async fn read_exactly(
    client: &mut (impl AsyncBufRead + Unpin),
    length: usize,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    if length > LARGEST_BODY.saturating_sub(body.len()) {
        return Err(bad("the request's body is too large"));
    }
    let start = body.len();
    body.resize(start + length, 0);
    client.read_exact(&mut body[start..]).await?;
    Ok(())
}

/// Runs `git http-backend` as a CGI program (RFC 3875) and turns its answer into HTTP.
async fn backend(root: &Path, request: &Request) -> io::Result<Vec<u8>> {
    let mut command = super::fleet::git_command(root);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("CONTENT_TYPE", &request.content_type)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if !request.content_encoding.is_empty() {
        command.env("HTTP_CONTENT_ENCODING", &request.content_encoding);
    }
    if !request.git_protocol.is_empty() {
        command.env("GIT_PROTOCOL", &request.git_protocol);
    }
    let mut child = command.spawn()?;
    let mut stdin = child
        .stdin
        .take()
        .expect("stdin was asked to be a pipe two lines above");
    let feed = async move {
        // A request that the backend refuses early closes the pipe: its answer says why.
        let _ = stdin.write_all(&request.body).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output?.stdout;
    let (head, body) = split_head(&output).ok_or_else(|| bad("`git http-backend` said nothing"))?;
    let mut status = "200 OK";
    let mut headers = String::new();
    for header in head.lines() {
        match header.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("status") => status = value.trim(),
            _ => {
                headers.push_str(header);
                headers.push_str("\r\n");
            }
        }
    }
    let mut reply = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    reply.extend_from_slice(body);
    Ok(reply)
}

/// A CGI answer's head and body.
fn split_head(output: &[u8]) -> Option<(&str, &[u8])> {
    let end = output.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&output[..end]).ok()?;
    Some((head, &output[end + 4..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]
mod tests {
    use super::super::ANY_PORT;
    use super::super::fleet::{Apps, Fleet, Release, Signing, git_command};
    use super::*;

    const RELEASE: Release = Release {
        greeting: "hello",
        key: "greeting",
    };

    async fn fleet(dir: &Path) -> Fleet {
        let apps = Apps::Containers {
            image: format!("sha256:{}", "0".repeat(64)),
        };
        Fleet::create(dir, apps).await.unwrap()
    }

    async fn git(dir: &Path, arguments: &[&str]) -> String {
        let output = git_command(dir)
            .current_dir(dir)
            .args(arguments)
            .output()
            .await;
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {text}");
        text
    }

    #[tokio::test]
    async fn git_itself_clones_a_signed_commit_from_it_and_then_fetches_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = fleet(dir.path()).await;
        let first = fleet.release(&RELEASE, Signing::Signed).await.unwrap();
        let server = GitServer::start(&fleet.served, ANY_PORT).await.unwrap();
        let url = format!("http://{}/fleet.git", server.address);
        git(dir.path(), &["clone", "-q", "-b", "stable", &url, "copy"]).await;
        let copy = dir.path().join("copy");
        assert_eq!(git(&copy, &["rev-parse", "HEAD"]).await.trim(), first);
        let signers = format!(
            "gpg.ssh.allowedSignersFile={}",
            fleet.allowed_signers.display()
        );
        let verdict = git(&copy, &["-c", &signers, "verify-commit", "HEAD"]).await;
        assert!(verdict.contains("Good \"git\" signature"), "{verdict}");

        let second = fleet.release(&RELEASE, Signing::Unsigned).await.unwrap();
        // A body sent in chunks, as git does with large ones.
        git(
            &copy,
            &[
                "-c",
                "http.postBuffer=1",
                "-c",
                "protocol.version=0",
                "pull",
                "-q",
            ],
        )
        .await;
        assert_eq!(git(&copy, &["rev-parse", "HEAD"]).await.trim(), second);
    }

    #[tokio::test]
    async fn a_stopped_server_frees_its_port_and_can_start_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let server = GitServer::start(dir.path(), ANY_PORT).await.unwrap();
        let address = server.address;
        server.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
        let again = GitServer::start(dir.path(), address).await.unwrap();
        assert!(TcpStream::connect(again.address).await.is_ok());
    }

    #[tokio::test]
    async fn chunks_are_put_together_and_a_body_too_large_is_refused() {
        let listener = TcpListener::bind(ANY_PORT).await.unwrap();
        let address = listener.local_addr().unwrap();
        let read = async |request: &str| {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(request.as_bytes()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            read_request(&mut BufReader::new(server)).await
        };
        let chunked = "POST /a?b=c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                       5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        let request = read(chunked).await.unwrap();
        assert_eq!(request.body, b"hello world");
        assert_eq!(
            (request.path.as_str(), request.query.as_str()),
            ("/a", "b=c")
        );
        let large = "POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(read(large).await.is_err());
        let large = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert!(read(large).await.is_err());
    }
}
