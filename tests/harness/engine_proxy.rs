//! Somebody between the agent and its container engine, who can break one call.
//!
//! Speaks HTTP/1.1 over Unix sockets, one request a connection, and hands everything else on as it comes: pulls stream, and
//! an upgraded connection goes both ways. Calls are counted from [`EngineProxy::arm`] on.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tempfile::TempDir;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFault {
    /// The connection ends before the engine hears of it.
    CutBefore,
    /// The engine does it, and the connection ends before its answer.
    CutAfter,
    /// Nobody answers, for as long as the client waits; the engine does not hear of it.
    Hang,
    /// An error with this status; the engine does not hear of it.
    Status(u16, &'static str),
    /// An answer that is no HTTP.
    NoHttp,
    /// 200 with a body that is no JSON; the engine does not hear of it.
    Garbage,
    /// The call and its answer come this much later.
    Slow(Duration),
    /// Success is told; the engine does not hear of it.
    Pretend,
}

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET`.
    pub method: String,
    /// Without the version: `/containers/json?all=true`.
    pub path: String,
}

impl Call {
    /// Whether it changes something.
    pub fn is_change(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }
}

type Matches = Box<dyn Fn(&Call) -> bool + Send>;

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    nth: Option<(usize, CallFault)>,
    always: Option<(Matches, CallFault)>,
    /// How many calls were broken.
    broken: usize,
}

/// A socket in front of an engine's.
pub struct EngineProxy {
    dir: TempDir,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl EngineProxy {
    /// Listens in front of the engine at this socket, and breaks nothing yet.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub fn start(engine: &Path) -> Self {
        let dir = crate::short_tempdir("prx");
        let listener =
            UnixListener::bind(dir.path().join("engine.sock")).expect("bind in our own directory");
        let proxy = Self {
            dir,
            state: Arc::default(),
            stop: Arc::default(),
        };
        let (state, stop) = (Arc::clone(&proxy.state), Arc::clone(&proxy.stop));
        let engine = engine.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let (state, stop, engine) = (Arc::clone(&state), Arc::clone(&stop), engine.clone());
                std::thread::spawn(move || {
                    // A side that hangs up is what this is for.
                    let _ = serve(client, &engine, &state, &stop);
                });
            }
        });
        proxy
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// `unix:///...`
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Counts from here, and breaks the call that comes as number `nth`, the first being 1.
    pub fn arm(&self, nth: usize, fault: CallFault) {
        let mut state = self.state();
        state.calls.clear();
        state.broken = 0;
        state.nth = Some((nth, fault));
    }

    /// Breaks every call that this matches, until [`EngineProxy::mend`].
    pub fn arm_always(&self, fault: CallFault, matches: impl Fn(&Call) -> bool + Send + 'static) {
        let mut state = self.state();
        state.calls.clear();
        state.broken = 0;
        state.always = Some((Box::new(matches), fault));
    }

    /// Breaks nothing any more. How many calls were broken.
    pub fn mend(&self) -> usize {
        let mut state = self.state();
        state.nth = None;
        state.always = None;
        state.broken
    }

    /// The calls since the last [`EngineProxy::arm`].
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.clone()
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        let _ = UnixStream::connect(self.socket());
    }
}

impl std::fmt::Debug for EngineProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineProxy")
            .field("socket", &self.socket())
            .finish_non_exhaustive()
    }
}

fn serve(
    mut client: UnixStream,
    engine: &Path,
    state: &Mutex<State>,
    stop: &AtomicBool,
) -> io::Result<()> {
    let Some((head, rest)) = read_head(&mut client)? else {
        return Ok(());
    };
    let call = parse(&head);
    let fault = {
        let mut state = state.lock().expect("no holder panics");
        state.calls.push(call.clone());
        let number = state.calls.len();
        let nth = state
            .nth
            .filter(|(nth, _)| *nth == number)
            .map(|(_, fault)| fault);
        let always = state
            .always
            .as_ref()
            .filter(|(matches, _)| matches(&call))
            .map(|(_, fault)| *fault);
        let fault = nth.or(always);
        state.broken += usize::from(fault.is_some());
        fault
    };
    match fault {
        None => {}
        Some(CallFault::CutBefore) => return client.shutdown(Shutdown::Both),
        Some(CallFault::Hang) => {
            // Until the client gives up.
            client.set_read_timeout(Some(Duration::from_millis(200)))?;
            while !stop.load(Ordering::Relaxed) {
                match client.read(&mut [0; 4096]) {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if is_patience(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        Some(CallFault::Status(code, message)) => {
            return answer(
                &mut client,
                code,
                &serde_json::json!({ "message": message }).to_string(),
            );
        }
        Some(CallFault::NoHttp) => {
            return client.write_all(b"\x15\x03\x01\x00\x02\x02\x50 what?\n");
        }
        Some(CallFault::Garbage) => return answer(&mut client, 200, "<html>[{"),
        Some(CallFault::Pretend) => {
            let (code, body) = if call.path.starts_with("/containers/create") {
                (
                    201,
                    format!("{{\"Id\":\"{}\",\"Warnings\":[]}}", "f".repeat(64)),
                )
            } else if call.is_change() {
                (204, String::new())
            } else {
                (200, "[]".to_owned())
            };
            return answer(&mut client, code, &body);
        }
        Some(CallFault::Slow(pause)) => std::thread::sleep(pause),
        Some(CallFault::CutAfter) => {}
    }
    let mut upstream = UnixStream::connect(engine)?;
    let upgrades = head.to_ascii_lowercase().contains("\r\nupgrade:");
    upstream.write_all(one_request(&head, upgrades).as_bytes())?;
    upstream.write_all(&rest)?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    // What else the client says (a longer body, an upgraded stream) goes to the engine as it comes.
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        if upgrades {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
    let answered = if fault == Some(CallFault::CutAfter) {
        io::copy(&mut upstream, &mut io::sink())
    } else {
        io::copy(&mut upstream, &mut client)
    };
    let _ = upstream.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
    answered.map(|_| ())
}

fn is_patience(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The head, and what of the body came with it.
fn read_head(client: &mut UnixStream) -> io::Result<Option<(String, Vec<u8>)>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut seen = Vec::new();
    let mut block = [0; 4096];
    loop {
        if let Some(at) = seen.windows(END.len()).position(|bytes| bytes == END) {
            let rest = seen.split_off(at + END.len());
            return Ok(Some((String::from_utf8_lossy(&seen).into_owned(), rest)));
        }
        let length = client.read(&mut block)?;
        if length == 0 {
            return Ok(None);
        }
        seen.extend_from_slice(&block[..length]);
    }
}

fn parse(head: &str) -> Call {
    let mut words = head.split(' ');
    let method = words.next().unwrap_or_default().to_owned();
    let path = words.next().unwrap_or_default();
    // `/v1.41/containers/json`
    let unversioned = path
        .strip_prefix("/v")
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    Call {
        method,
        path: unversioned.unwrap_or(path).to_owned(),
    }
}

/// The head with the connection's end as the answer's end, so that nobody has to understand lengths here.
fn one_request(head: &str, upgrades: bool) -> String {
    if upgrades {
        return head.to_owned();
    }
    let mut lines: Vec<&str> = head
        .split("\r\n")
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.is_empty())
        .collect();
    lines.push("Connection: close");
    lines.join("\r\n") + "\r\n\r\n"
}

fn answer(client: &mut UnixStream, code: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    let length = if code == 204 {
        String::new()
    } else {
        format!("Content-Length: {length}\r\n")
    };
    client.write_all(
        format!(
            "HTTP/1.1 {code} Said\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\n{length}Connection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    )
}
