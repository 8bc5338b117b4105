//! The socket in the state directory: how one evenkeel asks another.
//!
//! One JSON object a line. The client sends one request; the server answers with any number of `event` lines and one
//! `answer` line. The socket is 0600 in a 0700 directory: whoever can open it may do what the agent may.

use std::io::{self};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::report::receipt::{self, Receipt};
use super::show;
use crate::adapter::report::Hub;
use crate::cycle::{Haste, Locks};
use crate::daemon::{Answer, Ask, Asked};
use crate::domain::resource::ServiceId;
use crate::domain::revision::{CommitId, ContentId};
use crate::domain::storage::Storage;

/// The socket's name in the state directory.
const NAME: &str = "evenkeel.sock";
/// What the service manager makes for us in memory; only its owner enters it.
const RUNTIME: &str = "/run/evenkeel";
/// The longest request line in bytes.
const LONGEST_REQUEST: u64 = 4096;
/// How long a client may take to send its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub enum Request {
    /// The report.
    Status,
    /// One pass now.
    Sync,
    /// One pass now, which begins what is due later, too.
    SyncNow,
    /// One pass now, past the update locks of apps.
    SyncPastLocks {
        /// Whether it begins what is due later, too.
        haste: Haste,
    },
    /// One pass now, with a folder in place of the remotes.
    SyncFrom {
        /// Its absolute path.
        dir: PathBuf,
        /// Whether it begins what is due later, too.
        haste: Haste,
        /// Whether it passes over the update locks of apps.
        locks: Locks,
    },
    /// What a pass would do.
    Plan,
    /// The deployments.
    History,
    /// Back to a good revision.
    Rollback {
        /// A prefix of its id.
        rev: Option<String>,
    },
    /// Stop applying.
    Pause,
    /// Go on applying.
    Resume,
    /// Set the anti-rollback floor to this commit.
    ResetFloor {
        /// Its full id.
        to: CommitId,
    },
    /// The trust state.
    Trust,
    /// This container is this device's own.
    Adopt {
        /// The engine's id of it.
        engine_id: String,
        /// Which service it is.
        service: ServiceId,
    },
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// Something that happened meanwhile, for people.
    Event(String),
    /// The answer.
    Answer {
        /// The exit code that fits.
        code: u8,
        /// For people.
        text: String,
        /// For programs.
        json: serde_json::Value,
    },
}

impl Line {
    /// The same answer, with what became of the receipt.
    pub(super) fn with_receipt(self, receipt: &Receipt) -> Self {
        match (self, receipt.told()) {
            (
                Self::Answer {
                    code,
                    text,
                    mut json,
                },
                Some(told),
            ) => {
                if let Some(map) = json.as_object_mut() {
                    map.insert("receipt".to_owned(), receipt.json());
                }
                Self::Answer {
                    code,
                    text: format!("{}\n{told}", text.trim_end()),
                    json,
                }
            }
            (line, _) => line,
        }
    }

    /// The same answer with another exit code, and the reason for it.
    pub(super) fn with_code(self, number: u8, why: &str) -> Self {
        match self {
            Self::Event(_) => self,
            Self::Answer { text, json, .. } => Self::Answer {
                code: number,
                text: if text.contains(why) {
                    text
                } else {
                    format!("{why}\n{text}")
                },
                json,
            },
        }
    }
}

/// A path to the socket that fits into a socket address however long the state directory's path is.
struct Place {
    // Held open while the path through it is used.
    _dir: std::fs::File,
    path: PathBuf,
}

fn place(state_dir: &Path) -> io::Result<Place> {
    let dir = std::fs::File::open(state_dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok(Place { _dir: dir, path })
}

/// Where the socket is while the state directory takes no new name: in memory, named after that directory.
fn second_place(state_dir: &Path) -> PathBuf {
    let name = ContentId::of(state_dir.as_os_str().as_encoded_bytes());
    Path::new(RUNTIME).join(format!("{}.sock", &name.as_str()[..16]))
}

/// Opens the socket for listening. The state directory's lock must be held: a socket that is there is a leftover. On a
/// disk that is full or read-only it lies in memory instead.
///
/// # Errors
/// The system's.
pub fn listen(state_dir: &Path) -> io::Result<UnixListener> {
    let second = second_place(state_dir);
    let _ = std::fs::remove_file(&second);
    match listen_in(state_dir) {
        Err(error) if Storage::of(&error).is_some() => {
            use std::os::unix::fs::DirBuilderExt as _;
            // The service manager made it, or nobody did.
            let _ = std::fs::DirBuilder::new().mode(0o700).create(RUNTIME);
            let listener = UnixListener::bind(&second)?;
            std::fs::set_permissions(&second, std::fs::Permissions::from_mode(0o600))?;
            tracing::warn!(%error, "the socket lies in {RUNTIME}");
            Ok(listener)
        }
        done => done,
    }
}

fn listen_in(state_dir: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(state_dir.join(NAME)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let place = place(state_dir)?;
    let listener = UnixListener::bind(&place.path)?;
    std::fs::set_permissions(state_dir.join(NAME), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket at the end.
pub fn close(state_dir: &Path) {
    let _ = std::fs::remove_file(state_dir.join(NAME));
    let _ = std::fs::remove_file(second_place(state_dir));
}

/// Serves until dropped. One connection is served at a time a task; all on this thread.
pub async fn serve(
    listener: UnixListener,
    hub: Rc<Hub>,
    asks: mpsc::Sender<Asked>,
    state_dir: PathBuf,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (hub, asks) = (Rc::clone(&hub), asks.clone());
                let state_dir = state_dir.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = serve_one(stream, &hub, &asks, &state_dir).await {
                        tracing::debug!(%error, "a client at the socket went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept at the socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve_one(
    stream: UnixStream,
    hub: &Hub,
    asks: &mpsc::Sender<Asked>,
    state_dir: &Path,
) -> io::Result<()> {
    use tokio::io::AsyncReadExt as _;
    let (read, mut write) = stream.into_split();
    let mut text = String::new();
    let mut reader = BufReader::new(read).take(LONGEST_REQUEST);
    tokio::time::timeout(REQUEST_WITHIN, reader.read_line(&mut text))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let request: Request = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(error) => {
            let message = format!("this daemon does not know that request: {error}");
            return send(&mut write, &failed(super::code::USAGE, message)).await;
        }
    };
    let mut tree = None;
    let ask = match request {
        Request::SyncFrom { dir, .. } if !dir.is_absolute() => {
            let message = format!("{} is no absolute path", dir.display());
            return send(&mut write, &failed(super::code::USAGE, message)).await;
        }
        Request::SyncFrom { dir, haste, locks } => {
            tree = Some(dir.clone());
            Ask::SyncFrom(dir, haste, locks)
        }
        Request::Status => return send(&mut write, &status_line(hub)).await,
        Request::Sync => Ask::Sync(Haste::InTime),
        Request::SyncNow => Ask::Sync(Haste::Now),
        Request::SyncPastLocks { haste } => Ask::SyncPastLocks(haste),
        Request::Plan => Ask::Plan,
        Request::History => Ask::History,
        Request::Rollback { rev } => Ask::Rollback(rev),
        Request::Pause => Ask::Pause,
        Request::Resume => Ask::Resume,
        Request::ResetFloor { to } => Ask::ResetFloor(to),
        Request::Trust => Ask::Trust,
        Request::Adopt { engine_id, service } => Ask::Adopt(engine_id, service),
    };
    let mut events = hub.listen();
    let (reply, mut answer) = oneshot::channel();
    if asks.send(Asked { ask, reply }).await.is_err() {
        return send(&mut write, &going()).await;
    }
    loop {
        tokio::select! {
            biased;
            event = events.recv() => {
                if let Ok(event) = event
                    && let Some(text) = show::answer::event(&event)
                {
                    send(&mut write, &Line::Event(text)).await?;
                }
            }
            answer = &mut answer => {
                let mut line = answer.map_or_else(|_| going(), |answer| line_of(&answer, hub));
                if let Some(tree) = &tree {
                    line = line.with_receipt(&receipt::write(state_dir, hub, tree).await);
                }
                return send(&mut write, &line).await;
            }
        }
    }
}

fn going() -> Line {
    failed(super::code::FAILED, "the daemon is stopping".to_owned())
}

fn failed(code: u8, text: String) -> Line {
    Line::Answer {
        code,
        json: serde_json::json!({ "error": &text }),
        text,
    }
}

fn status_line(hub: &Hub) -> Line {
    let report = hub.report();
    Line::Answer {
        code: super::code::DONE,
        text: String::new(),
        json: show::status::json(&report),
    }
}

/// An answer of the loop as a line.
pub fn line_of(answer: &Answer, hub: &Hub) -> Line {
    match answer {
        Answer::Passed(outcome) => Line::Answer {
            code: outcome.exit_code(),
            text: show::answer::outcome(outcome, &hub.report()),
            json: show::answer::outcome_json(outcome, &hub.report()),
        },
        Answer::Plan(preview) => Line::Answer {
            code: preview.code,
            text: String::new(),
            json: show::plan::with_hold(
                show::plan::json(
                    preview.revision.as_ref(),
                    preview.target,
                    preview.why.as_deref(),
                    &preview.plan,
                    &preview.observed,
                    &preview.contents,
                ),
                preview.held.as_ref(),
            ),
        },
        Answer::History(history) => Line::Answer {
            code: super::code::DONE,
            text: String::new(),
            json: show::history::json(history),
        },
        Answer::Trust(state) => Line::Answer {
            code: super::code::DONE,
            text: String::new(),
            json: show::trust::json(state),
        },
        Answer::Done(text) => Line::Answer {
            code: super::code::DONE,
            text: text.clone(),
            json: serde_json::json!({}),
        },
        Answer::Failed { code, message } => failed(*code, message.clone()),
    }
}

async fn send(write: &mut tokio::net::unix::OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

/// A connection to whoever listens, in the first place or in the second.
async fn connect(state_dir: &Path) -> io::Result<Option<UnixStream>> {
    let Ok(first) = place(state_dir) else {
        return Ok(None);
    };
    for path in [first.path.clone(), second_place(state_dir)] {
        match UnixStream::connect(&path).await {
            Ok(stream) => return Ok(Some(stream)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        // The state directory is something else: opening it says so.
                        | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) if path == first.path => return Err(error),
            // Not ours to enter.
            Err(error) => tracing::debug!(%error, "no daemon answers in {RUNTIME}"),
        }
    }
    Ok(None)
}

/// Asks the daemon of a state directory. `None`: nobody listens there. `event` is called for what happens meanwhile.
///
/// # Errors
/// The connection's.
pub async fn ask(
    state_dir: &Path,
    request: &Request,
    mut event: impl FnMut(&str),
) -> io::Result<Option<Line>> {
    let Some(stream) = connect(state_dir).await? else {
        return Ok(None);
    };
    let (read, mut write) = stream.into_split();
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(text) = lines.next_line().await? {
        match serde_json::from_str(&text)? {
            Line::Event(text) => event(&text),
            line @ Line::Answer { .. } => return Ok(Some(line)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the daemon went away before it answered",
    ))
}
