//! A forward proxy on loopback: tunnels (CONNECT) and plain requests, perhaps with a login, perhaps dying midway.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How a proxy behaves.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// The `Proxy-Authorization` that it wants: `Basic ...`.
    pub login: Option<String>,
    /// It refuses every tunnel with this status.
    pub refuses: Option<u16>,
    /// It dies after so many bytes of answers.
    pub dies_after: Option<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    manners: Mutex<Manners>,
    tunnels: AtomicUsize,
    passed: AtomicU64,
    stop: AtomicBool,
}

/// A forward proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts one.
    ///
    /// # Panics
    /// Where no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let proxy = Self {
            port: listener.local_addr().expect("it is bound").port(),
            shared: Arc::default(),
        };
        let shared = Arc::clone(&proxy.shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // Either side hanging up ends it.
                    let _ = serve(client, &shared);
                });
            }
        });
        proxy
    }

    /// `127.0.0.1:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Behaves so from now on.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn set(&self, manners: Manners) {
        self.shared.passed.store(0, Ordering::Relaxed);
        *self.shared.manners.lock().expect("nobody panics") = manners;
    }

    /// How many connections it has made.
    pub fn used(&self) -> usize {
        self.shared.tunnels.load(Ordering::Relaxed)
    }

    /// How many bytes of answers have passed since its manners changed.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 65536 {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let manners = shared.manners.lock().expect("nobody panics").clone();
    let login = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("proxy-authorization")
            .then(|| value.trim().to_owned())
    });
    let mut refuse = |status: u16| {
        let answer = format!(
            "HTTP/1.1 {status} No\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        client.write_all(answer.as_bytes())
    };
    if manners.login.is_some() && manners.login != login {
        return refuse(407);
    }
    if let Some(status) = manners.refuses {
        return refuse(status);
    }
    let mut words = text.split_whitespace();
    let (verb, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let place = target
        .strip_prefix("http://")
        .map_or(target, |rest| rest.split('/').next().unwrap_or(rest));
    let Ok(mut server) = TcpStream::connect(place) else {
        return refuse(502);
    };
    shared.tunnels.fetch_add(1, Ordering::Relaxed);
    if verb == "CONNECT" {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // A server takes the absolute form, too (RFC 9112, section 3.2.2).
        server.write_all(&head)?;
    }
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut block = [0; 1024];
    loop {
        let length = server.read(&mut block)?;
        let limit = shared.manners.lock().expect("nobody panics").dies_after;
        let passed = shared
            .passed
            .fetch_add(length as u64, Ordering::Relaxed)
            .saturating_add(length as u64);
        if length == 0 || limit.is_some_and(|limit| passed > limit) {
            let _ = server.shutdown(Shutdown::Both);
            return client.shutdown(Shutdown::Both);
        }
        client.write_all(&block[..length])?;
    }
}
