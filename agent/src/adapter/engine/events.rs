//! What the engine tells by itself: containers of ours that end, go, or are changed.
//!
//! Owns the one connection at which it tells, and two things that follow from it. Who rests is woken ([`BollardEngine::stir`]).
//! And while the engine tells of every change, a container that was looked at need not be looked at again ([`Events::known`]):
//! a pass in which nothing has changed costs the same calls for one container and for fifty.
//!
//! What was changed from here is told, too, and cannot be told from what became of it: a pass that changed something is followed
//! by one more look, a moment later. A connection that is lost wakes once, for the engine may have been restarted, and
//! takes with it all that was known; what happens until there is another one, the next pass finds. Nothing here is needed for
//! being right, only for being early.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{BollardEngine, CALL, Client, DEVICE, Kind, states};
use crate::domain::observed::{Health, ObservedContainer, RunState};

/// What comes late of a change that was made from here, for Podman tells through a file. After this nothing is.
const LATE: Duration = Duration::from_secs(2);
/// After a first event others follow: a restart is told as an end and a start.
const FOLLOWS: Duration = Duration::from_millis(300);
/// How soon, after the connection was lost, another one is tried, and how often. An engine that was restarted is back within
/// these; after that the next pass looks.
const AGAIN: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;
/// A connection that ends sooner is a try that failed.
const LASTING: Duration = Duration::from_secs(60);
/// So many bytes untaken, and there may have been more than a socket holds.
const UNREAD: usize = 64 * 1024;
/// One event is some hundred bytes, and labels.
const LONGEST: usize = 256 * 1024;

/// The changes that wake. Docker's words and Podman's. That a health check has run is told, too, and wakes nobody.
const WAKES: [&str; 11] = [
    "die", "died", "oom", "destroy", "remove", "rename", "update", "pause", "unpause", "start",
    "restart",
];

/// What Docker is asked to tell: what wakes, and what makes a look at the container worth while.
const TOLD: [&str; 11] = [
    "die",
    "oom",
    "destroy",
    "rename",
    "update",
    "pause",
    "unpause",
    "start",
    "restart",
    "kill",
    "health_status",
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Events {
    listening: RefCell<Option<Listening>>,
    /// Containers that were changed from here since the last rest.
    ours: RefCell<BTreeSet<String>>,
    /// As they were looked at while the engine tells.
    seen: RefCell<BTreeMap<String, (ObservedContainer, InList)>>,
    /// How often a lost connection was tried again in a row.
    tries: Cell<u32>,
}

/// What a list says of a container, beside how long it has run. That it was taken off a network is told as an event of the
/// network's, and seen here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InList {
    state: Option<ContainerSummaryStateEnum>,
    names: Vec<String>,
    networks: Vec<(String, Option<String>)>,
}

impl InList {
    pub(super) fn of(summary: &ContainerSummary) -> Self {
        let networks = summary.network_settings.as_ref();
        let networks = networks.and_then(|settings| settings.networks.as_ref());
        let mut networks: Vec<_> = networks
            .into_iter()
            .flatten()
            .map(|(name, end)| (name.clone(), end.network_id.clone()))
            .collect();
        networks.sort();
        Self {
            state: summary.state,
            names: summary.names.clone().unwrap_or_default(),
            networks,
        }
    }
}

#[derive(Debug)]
struct Listening {
    stream: Rc<UnixStream>,
    /// What has come of the next line.
    rest: Vec<u8>,
    since: Instant,
}

#[derive(Deserialize)]
struct Told {
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor")]
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Nothing,
    /// A change of what was changed from here: the rest of that, or its consequence.
    OfOurs,
    Change,
    /// The end of the connection.
    End,
}

impl Events {
    /// A container is about to be changed from here.
    pub(super) fn touch(&self, engine_id: &str) {
        self.seen.borrow_mut().remove(engine_id);
        if self.listening.borrow().is_some() {
            self.ours.borrow_mut().insert(engine_id.to_owned());
        }
    }

    /// The container as it was looked at, where nothing was told of it since and the list says the same.
    pub(super) fn known(&self, engine_id: &str, listed: &InList) -> Option<ObservedContainer> {
        let seen = self.seen.borrow();
        let (known, before) = seen.get(engine_id)?;
        (before == listed).then(|| known.clone())
    }

    /// Whether this, observed before, holds still, and its health says all that there is to say of it.
    pub(super) fn is_as_told(&self, one: &ObservedContainer) -> bool {
        self.take_in();
        let says_all = match one.health {
            Health::None | Health::Healthy => true,
            Health::Starting | Health::Unhealthy => false,
        };
        let seen = self.seen.borrow();
        says_all
            && seen
                .get(&one.engine_id)
                .is_some_and(|(seen, _)| seen == one)
    }

    /// It was looked at. `kind` answers for the health only where it runs the tests itself.
    pub(super) fn saw(&self, kind: Kind, one: &ObservedContainer, listed: InList) {
        let told = match kind {
            Kind::Docker => true,
            Kind::Podman => one.health == Health::None,
        };
        let lasts = match one.state {
            RunState::Running => listed.state == Some(ContainerSummaryStateEnum::RUNNING),
            RunState::Exited(_) => listed.state == Some(ContainerSummaryStateEnum::EXITED),
            RunState::Created | RunState::Paused | RunState::Restarting | RunState::Dead => false,
        };
        if told && lasts && self.listening.borrow().is_some() {
            let mut seen = self.seen.borrow_mut();
            seen.insert(one.engine_id.clone(), (one.clone(), listed));
        }
    }

    /// What is gone needs no memory.
    pub(super) fn keep_only(&self, engine_ids: &BTreeSet<String>) {
        self.seen
            .borrow_mut()
            .retain(|id, _| engine_ids.contains(id));
    }

    /// Takes in what has come, without waiting.
    pub(super) fn take_in(&self) {
        let _ = self.drain();
    }

    fn drain(&self) -> Came {
        let mut listening = self.listening.borrow_mut();
        let Some(now) = listening.as_mut() else {
            return Came::Nothing;
        };
        let mut came = Came::Nothing;
        let mut taken = 0;
        let mut piece = [0; 16 * 1024];
        loop {
            match now.stream.try_read(&mut piece) {
                Ok(0) => break came = Came::End,
                Ok(read) => {
                    taken += read;
                    now.rest.extend_from_slice(&piece[..read]);
                    while let Some(end) = now.rest.iter().position(|byte| *byte == b'\n') {
                        let line: Vec<u8> = now.rest.drain(..=end).collect();
                        came = came.max(self.note(&line));
                    }
                    if now.rest.len() > LONGEST {
                        break came = Came::End;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break came = Came::End,
            }
        }
        if taken > UNREAD {
            // Nobody took it for a while, and an engine throws away what finds no room.
            self.seen.borrow_mut().clear();
        }
        let lasted = now.since.elapsed() >= LASTING;
        if lasted {
            self.tries.set(0);
        }
        if came == Came::End {
            *listening = None;
            self.seen.borrow_mut().clear();
            if !lasted {
                // An engine that ends what it tells at once has lost nothing in between.
                return Came::Nothing;
            }
        }
        came
    }

    fn note(&self, line: &[u8]) -> Came {
        if line.trim_ascii().is_empty() {
            return Came::Nothing;
        }
        let Ok(Told {
            action,
            actor: Some(actor),
        }) = serde_json::from_slice(line)
        else {
            // Not understood: nothing that is known can be relied on.
            self.seen.borrow_mut().clear();
            return Came::Change;
        };
        let action = action.split(':').next().unwrap_or_default().trim();
        if action.starts_with("exec_") {
            return Came::Nothing;
        }
        self.seen.borrow_mut().remove(&actor.id);
        if !WAKES.contains(&action) {
            Came::Nothing
        } else if self.ours.borrow().contains(&actor.id) {
            Came::OfOurs
        } else {
            Came::Change
        }
    }
}

impl BollardEngine {
    /// Waits until something of ours has changed that was not changed from here.
    pub(super) async fn stir(&self) {
        let mut quiet_until = Some(Instant::now() + LATE);
        let mut woken = self.events.drain();
        let mut of_ours = false;
        loop {
            match woken {
                Came::Change => {
                    tokio::time::sleep(FOLLOWS).await;
                    return self.events.ours.borrow_mut().clear();
                }
                Came::End => return self.events.ours.borrow_mut().clear(),
                Came::OfOurs => of_ours = true,
                Came::Nothing => {}
            }
            let stream = match self.listened_at() {
                Some(stream) => stream,
                None => self.listen().await,
            };
            let late = async {
                match quiet_until {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stream.readable() => {}
                () = late => {
                    quiet_until = None;
                    self.events.ours.borrow_mut().clear();
                    if of_ours {
                        return;
                    }
                }
            }
            woken = self.events.drain();
        }
    }

    fn listened_at(&self) -> Option<Rc<UnixStream>> {
        let listening = self.events.listening.borrow();
        listening.as_ref().map(|now| Rc::clone(&now.stream))
    }

    /// A connection at which the engine tells; waits for ever where there is none.
    async fn listen(&self) -> Rc<UnixStream> {
        loop {
            let tries = self.events.tries.get();
            if tries >= TRIES {
                // The next rest begins anew.
                self.events.tries.set(0);
                std::future::pending::<()>().await;
            }
            self.events.tries.set(tries + 1);
            if tries > 0 {
                tokio::time::sleep(AGAIN * 2_u32.pow(tries - 1)).await;
            }
            if let Ok(Ok(stream)) = tokio::time::timeout(CALL, self.ask_to_be_told()).await {
                let stream = Rc::new(stream);
                self.events.listening.replace(Some(Listening {
                    stream: Rc::clone(&stream),
                    rest: Vec::new(),
                    since: Instant::now(),
                }));
                return stream;
            }
        }
    }

    async fn ask_to_be_told(&self) -> io::Result<UnixStream> {
        let Client { docker, kind, .. } = self.client().await.map_err(io::Error::other)?;
        let mut filters = serde_json::json!({
            "type": ["container"],
            "label": [format!("{DEVICE}={}", self.device)],
        });
        match kind {
            // Without this each health check that is run wakes this process.
            Kind::Docker => filters["event"] = serde_json::json!(TOLD),
            // Its words are its own in each version: all is taken, and what is not known wakes nobody.
            Kind::Podman => {}
        }
        let filters = states::escaped(&filters.to_string());
        let stream = self
            .request(&docker, &format!("/events?filters={filters}"))
            .await?;
        // The head comes at once, byte by byte so that nothing after it is taken.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.readable().await?;
            match stream.try_read(&mut byte) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => head.push(byte[0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if head.len() > 16 * 1024 {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        let text = String::from_utf8_lossy(&head);
        match text.split(' ').nth(1) {
            Some("200") => Ok(stream),
            Some(_) | None => Err(ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_change_wakes_unless_it_was_made_here_and_a_health_check_does_not() {
        let events = Events::default();
        let line = |action: &str, id: &str| {
            format!(
                "{{\"Type\":\"container\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{id}\"}}}}\n"
            )
            .into_bytes()
        };
        for (action, came) in [
            ("die", Came::Change),
            ("died", Came::Change),
            ("update", Came::Change),
            ("start", Came::Change),
            ("kill", Came::Nothing),
            ("health_status: healthy", Came::Nothing),
            ("exec_start: /bin/true", Came::Nothing),
        ] {
            assert_eq!(events.note(&line(action, "one")), came, "{action}");
        }
        events.ours.borrow_mut().insert("one".to_owned());
        assert_eq!(events.note(&line("die", "one")), Came::OfOurs);
        assert_eq!(events.note(&line("die", "other")), Came::Change);
        assert_eq!(events.note(b"what is this\n"), Came::Change);
        assert_eq!(events.note(b"\r\n"), Came::Nothing);
    }
}
