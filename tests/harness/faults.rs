//! Servers that misbehave, on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How a server misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Takes the connection and never answers.
    Stall,
    /// Answers with a good head, then stalls.
    StallAfterHead,
    /// Answers one byte of a body every so often, without end.
    Trickle(Duration),
    /// Answers a body without end, as fast as it is read.
    Endless,
    /// Answers pkt-lines (what git expects) without end.
    EndlessPktLines,
    /// Answers 200 with a page of HTML: a captive portal.
    Html,
    /// Answers this status and nothing more.
    Status(u16),
    /// Closes the connection as soon as a request is there.
    Close,
    /// Closes the connection in the middle of a body that it announced.
    CutOff,
    /// Redirects everything to this URL.
    Redirect(String),
    /// Answers with these bytes and nothing else, and closes.
    Says(Vec<u8>),
}

/// A server that misbehaves.
#[derive(Debug)]
pub struct FaultServer {
    port: u16,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl FaultServer {
    /// Starts one.
    ///
    /// # Panics
    /// Where no port can be had.
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Self {
            port,
            stop: Arc::default(),
            connections: Arc::default(),
            sent: Arc::default(),
            heads: Arc::default(),
        };
        let (stop, connections, sent) = (
            Arc::clone(&server.stop),
            Arc::clone(&server.connections),
            Arc::clone(&server.sent),
        );
        let heads = Arc::clone(&server.heads);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                connections.fetch_add(1, Ordering::Relaxed);
                let (fault, stop, sent) = (fault.clone(), Arc::clone(&stop), Arc::clone(&sent));
                let heads = Arc::clone(&heads);
                std::thread::spawn(move || {
                    // The other side hanging up is what these servers are for.
                    let _ = misbehave(stream, &fault, &stop, &sent, &heads);
                });
            }
        });
        server
    }

    /// The URL of a repository on it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/fleet.git", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A server that answers every request with bytes of chance.
    pub fn of_noise(seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut bytes: Vec<u8> = (0..4096).map(|_| chance.u8(..)).collect();
        if chance.bool() {
            // Where the head is good, the noise is what git reads.
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n";
            bytes.splice(0..0, head.iter().copied());
        }
        Self::start(Fault::Says(bytes))
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The heads of the requests that it has read.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nobody panics").clone()
    }

    /// How many bytes it has sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// A man in the middle of a plain connection: hands everything on, and flips one bit of what comes back, some way behind
/// a word.
#[derive(Debug)]
pub struct FlippingProxy {
    port: u16,
    stop: Arc<AtomicBool>,
    flipped: Arc<AtomicUsize>,
}

/// Behind the head of a pack, in the first object's bytes.
const FLIPPED_BEHIND: usize = 40;

impl FlippingProxy {
    /// Starts one in front of a server on loopback. A bit is flipped behind each `word` that the server says.
    ///
    /// # Panics
    /// Where no port can be had.
    pub fn start(upstream: u16, word: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("it is bound").port();
        let proxy = Self {
            port,
            stop: Arc::default(),
            flipped: Arc::default(),
        };
        let (stop, flipped) = (Arc::clone(&proxy.stop), Arc::clone(&proxy.flipped));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(client), Ok(server)) =
                    (client, TcpStream::connect(("127.0.0.1", upstream)))
                else {
                    continue;
                };
                let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                let flipped = Arc::clone(&flipped);
                std::thread::spawn(move || {
                    // Either side hanging up ends both directions.
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                std::thread::spawn(move || {
                    let _ = flip(server, &client, word, &flipped);
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        proxy
    }

    /// The URL of `/fleet.git` behind it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/fleet.git", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many bits it has flipped.
    pub fn flipped(&self) -> usize {
        self.flipped.load(Ordering::Relaxed)
    }
}

impl Drop for FlippingProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn flip(
    mut server: TcpStream,
    mut client: &TcpStream,
    word: &[u8],
    flipped: &AtomicUsize,
) -> std::io::Result<()> {
    let mut last: Vec<u8> = Vec::new();
    let mut countdown = None;
    let mut block = [0; 4096];
    loop {
        let length = server.read(&mut block)?;
        if length == 0 {
            return Ok(());
        }
        for byte in &mut block[..length] {
            countdown = match countdown {
                Some(0) => {
                    *byte ^= 1;
                    flipped.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Some(left) => Some(left - 1),
                None => {
                    last.push(*byte);
                    let surplus = last.len().saturating_sub(word.len());
                    last.drain(..surplus);
                    (last == word).then_some(FLIPPED_BEHIND)
                }
            };
        }
        client.write_all(&block[..length])?;
    }
}

fn misbehave(
    mut stream: TcpStream,
    fault: &Fault,
    stop: &AtomicBool,
    sent: &AtomicU64,
    heads: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let head = read_head(&mut stream)?;
    if let Ok(mut heads) = heads.lock() {
        heads.push(head);
    }
    const GIT_HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n";
    let send = |stream: &mut TcpStream, bytes: &[u8]| {
        stream.write_all(bytes)?;
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok::<(), std::io::Error>(())
    };
    match fault {
        Fault::Stall => wait_for_stop(stop),
        Fault::StallAfterHead => {
            send(&mut stream, GIT_HEAD)?;
            send(&mut stream, b"Content-Length: 1000\r\n\r\n")?;
            wait_for_stop(stop);
        }
        Fault::Trickle(pause) => {
            send(&mut stream, GIT_HEAD)?;
            send(&mut stream, b"\r\n")?;
            // The start of a good answer, so that a client has no reason to give up early.
            let mut bytes = b"001e# service=git-upload-pack\n0000000eversion 2\n"
                .iter()
                .copied()
                .chain(b"0009a=b\n\n".iter().copied().cycle());
            while !stop.load(Ordering::Relaxed) {
                send(&mut stream, &[bytes.next().unwrap_or(b'0')])?;
                stream.flush()?;
                std::thread::sleep(*pause);
            }
        }
        Fault::Endless => {
            send(&mut stream, GIT_HEAD)?;
            send(&mut stream, b"\r\n")?;
            let block = [b'0'; 65536];
            while !stop.load(Ordering::Relaxed) {
                send(&mut stream, &block)?;
            }
        }
        Fault::EndlessPktLines => {
            send(&mut stream, GIT_HEAD)?;
            send(&mut stream, b"\r\n001e# service=git-upload-pack\n0000000eversion 2\n")?;
            let block = b"000cagent=a\n".repeat(4096);
            while !stop.load(Ordering::Relaxed) {
                send(&mut stream, &block)?;
            }
        }
        Fault::Html => {
            let body = "<!DOCTYPE html><html><title>Sign in</title><body>Welcome to the hotel's network</body></html>";
            send(
                &mut stream,
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            )?;
        }
        Fault::Status(code) => send(
            &mut stream,
            format!("HTTP/1.1 {code} Sorry\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?,
        Fault::Close => {}
        Fault::Says(bytes) => send(&mut stream, bytes)?,
        Fault::CutOff => {
            send(&mut stream, GIT_HEAD)?;
            send(&mut stream, b"Content-Length: 100000\r\n\r\n001e# service=git-upload-pack\n")?;
        }
        Fault::Redirect(to) => send(
            &mut stream,
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )?,
    }
    Ok(())
}

/// Reads up to the end of the request's head; what a body holds does not matter to any of these servers.
fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut seen = Vec::new();
    let mut byte = [0_u8; 1];
    while !seen.ends_with(b"\r\n\r\n") && seen.len() < 65536 {
        if stream.read(&mut byte)? == 0 {
            break;
        }
        seen.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&seen).into_owned())
}

fn wait_for_stop(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
}
