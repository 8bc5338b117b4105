//! A single file from an address, by the same client as git's exchanges: its CAs, its client certificate, its proxy, its
//! deadlines. For the agent's own binaries.
//!
//! The remote's credentials go to the remote's own host alone. Redirects are followed, for who publishes binaries often stores
//! them elsewhere: what they are is told by their SHA-256, whoever sends them. Refuses a redirect from https to http.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::blocking::Response;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, HeaderName, LOCATION, RANGE,
};
use reqwest::{StatusCode, Url};

use super::GitSource;
use super::answer::transport_fault;
use super::fetch::Inner;
use super::http::{may_see_credentials, shown};
use super::limits::{AROUND, Fault, Meter};
use super::remote::Remote;
use crate::port::upgrades::{Download, Piece};

/// As many as browsers follow in practice.
const REDIRECTS: usize = 5;
/// One read's buffer.
const BUFFER: usize = 64 * 1024;
/// For one try; the next one goes on where it ended. An hour: 8 MB at 2 kB/s.
const LONGEST: Duration = Duration::from_secs(60 * 60);

type Sink<'s> = dyn FnMut(Piece<'_>) -> io::Result<()> + 's;
type Failure = Box<dyn Error + Send + Sync>;

impl GitSource {
    /// Gets files by the same ways as this source. Addresses without a scheme are below its first remote.
    #[must_use]
    pub fn downloads(&self) -> Arc<Download> {
        let inner = Arc::clone(&self.home);
        Arc::new(
            move |address: &str, from: u64, stop: &AtomicBool, sink: &mut Sink<'_>| {
                let pieces = Pieces::until_stopped(stop).counted_by(&inner.meter);
                download(&inner, address, from, pieces, sink)
            },
        )
    }
}

pub(super) fn refused(what: String) -> Fault {
    Fault::Answer(what)
}

pub(super) fn download(
    inner: &Inner,
    address: &str,
    from: u64,
    pieces: Pieces<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), Failure> {
    if let Some(path) = address.strip_prefix("file://") {
        return pieces.of_file(Path::new(path), from, sink);
    }
    let url = if address.contains("://") {
        Url::parse(address)?
    } else {
        match inner.remotes.first() {
            Some(Remote::Local(path)) => return pieces.of_file(&path.join(address), from, sink),
            Some(Remote::Http(remote) | Remote::Published(remote)) => {
                let base = format!("{}/", remote.url.as_str().trim_end_matches('/'));
                Url::parse(&base)?.join(address)?
            }
            Some(Remote::Ssh(_)) | None => {
                return Err(Failure::from(refused(format!(
                    "`{address}` has no host, and the device's remote is reached by ssh: write the whole address, or `path` for a \
                     file in the repository"
                ))));
            }
        }
    };
    let response = ask(inner, url, &ranged_from(from))?;
    pieces.of_response(response, from, inner.limits.read, sink)
}

/// The header that asks for what is beyond a byte.
pub(super) fn ranged_from(from: u64) -> Vec<(HeaderName, String)> {
    if from > 0 {
        vec![(RANGE, format!("bytes={from}-"))]
    } else {
        Vec::new()
    }
}

/// Asks, and follows redirects.
pub(super) fn ask(
    inner: &Inner,
    url: Url,
    headers: &[(HeaderName, String)],
) -> Result<Response, Fault> {
    let client = inner.client.get(&inner.files, &inner.limits)?;
    let mut place = url;
    for _ in 0..=REDIRECTS {
        inner.meter.count(AROUND);
        // What is counted and resumed are the file's own bytes.
        let mut request = client
            .get(place.clone())
            .header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for remote in &inner.remotes {
            if let Remote::Http(remote) | Remote::Published(remote) = remote
                && may_see_credentials(&remote.url, &place)
                && let Some(authorization) = remote.authorization()?
            {
                request = request.header(AUTHORIZATION, authorization);
                break;
            }
        }
        let response = request
            .send()
            .map_err(|error| transport_fault(error, inner.limits.read))?;
        // 304 is the answer to a condition, and leads nowhere.
        if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let to = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| place.join(location).ok())
            .ok_or_else(|| refused("a redirect that names no address".to_owned()))?;
        match (place.scheme(), to.scheme()) {
            (_, "https") | ("http", "http") => place = to,
            _ => {
                return Err(refused(format!(
                    "the server redirects from https to `{}`: refused",
                    shown(&to)
                )));
            }
        }
    }
    Err(refused("the server redirects in circles".to_owned()))
}

/// Reading on, for as long as it may take.
pub(super) struct Pieces<'a> {
    stop: &'a AtomicBool,
    until: Instant,
    /// Who counts what comes over a network; `None`: whoever takes it.
    meter: Option<&'a Meter>,
}

impl<'a> Pieces<'a> {
    /// Until this flag is set, or it has taken too long.
    pub(super) fn until_stopped(stop: &'a AtomicBool) -> Self {
        Self {
            stop,
            until: Instant::now() + LONGEST,
            meter: None,
        }
    }

    /// With what comes over a network counted there.
    pub(super) fn counted_by(self, meter: &'a Meter) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    fn of_file(&self, path: &Path, from: u64, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let mut file = std::fs::File::open(path)
            .map_err(|cause| Fault::broken(format!("cannot read {}", path.display()), cause))?;
        let total = file.metadata()?.len();
        let at = if from > total { 0 } else { from };
        file.seek(SeekFrom::Start(at))?;
        sink(Piece::Begins {
            at,
            total: Some(total),
        })?;
        self.all(&mut file, sink)
    }

    pub(super) fn of_response(
        &self,
        mut response: Response,
        from: u64,
        read: Duration,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let place = shown(response.url());
        let header = |name| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let begins = match response.status() {
            StatusCode::OK => Piece::Begins {
                at: 0,
                total: header(CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            },
            StatusCode::PARTIAL_CONTENT => {
                let range = header(CONTENT_RANGE).unwrap_or_default();
                let (at, total) =
                    ranged(&range)
                        .filter(|(at, _)| *at == from)
                        .ok_or_else(|| {
                            Failure::from(refused(format!(
                                "{place}: it sends another part than was asked for ({range})"
                            )))
                        })?;
                Piece::Begins { at, total }
            }
            // There is no more of it, or it became shorter: from its beginning, then.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return sink(Piece::Begins { at: 0, total: None })
                    .map_err(Failure::from)
                    .and(Err(Failure::from(refused(format!(
                        "{place}: it is not longer than what is here already, and that is not it"
                    )))));
            }
            other => {
                return Err(Failure::from(refused(format!(
                    "{place}: the server answered with HTTP status {}",
                    other.as_u16()
                ))));
            }
        };
        sink(begins)?;
        let mut body = Body {
            response: &mut response,
            read,
            meter: self.meter,
            stop: self.stop,
        };
        self.all(&mut body, sink)
    }

    fn all(&self, from: &mut impl Read, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Box::new(Fault::Stopped));
            }
            if Instant::now() >= self.until {
                return Err(Box::new(Fault::TooSlow(LONGEST)));
            }
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => sink(Piece::Bytes(&buffer[..count]))?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Box::new(error)),
            }
        }
    }
}

/// A body whose errors say what they mean.
struct Body<'r> {
    response: &'r mut Response,
    read: Duration,
    meter: Option<&'r Meter>,
    stop: &'r AtomicBool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.response.read(buffer).map_err(|error| {
            io::Error::other(match error.downcast::<reqwest::Error>() {
                Ok(error) => transport_fault(error, self.read),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Fault::Stalled(self.read),
                Err(error) => Fault::broken("the connection broke", error),
            })
        })?;
        if let Some(meter) = self.meter {
            meter.read(read, self.stop);
        }
        Ok(read)
    }
}

/// `bytes 5-9/10`: where it begins, and the whole length where that is said.
fn ranged(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (at, _) = range.split_once('-')?;
    Some((at.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_servers_write_it() {
        assert_eq!(ranged("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(ranged("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes */10", "5-9/10", "bytes x-9/10"] {
            assert_eq!(ranged(text), None, "{text}");
        }
    }
}
