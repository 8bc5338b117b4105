//! What HTTP's answers and failures mean to people.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::CONTENT_TYPE;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use super::limits::Fault;
use crate::domain::revision::Timestamp;

/// What a failed exchange means to people. Each way to fail has words of its own, with the next move.
pub(super) fn transport_fault(error: reqwest::Error, read: Duration) -> Fault {
    let error = error.without_url();
    if error.is_timeout() && !error.is_connect() {
        return Fault::Stalled(read);
    }
    let found = causes(&error);
    let what = found
        .tls
        .and_then(of_tls)
        .or_else(|| of_words(&found.words).map(str::to_owned))
        .or_else(|| found.io.and_then(of_io).map(str::to_owned));
    let what = what.unwrap_or_else(|| {
        let what = if found.tls.is_some() || found.words.contains("tls") {
            "TLS with the server failed"
        } else if error.is_timeout() {
            "no connection in time: neither the server nor anything before it answers"
        } else if error.is_connect() {
            "no connection to the server"
        } else {
            "the connection broke"
        };
        what.to_owned()
    });
    Fault::broken(what, error)
}

/// What stands behind an error.
struct Causes<'e> {
    words: String,
    tls: Option<&'e TlsError>,
    io: Option<io::ErrorKind>,
}

fn causes<'e>(error: &'e (dyn Error + 'static)) -> Causes<'e> {
    let mut found = Causes {
        words: String::new(),
        tls: None,
        io: None,
    };
    let mut next = Some(error);
    while let Some(error) = next {
        found.words.push_str(&error.to_string());
        found.words.push('\n');
        if let Some(tls) = error.downcast_ref::<TlsError>() {
            found.tls = Some(tls);
        }
        // What an I/O error wraps is not its source: that is the source of what it wraps.
        next = match error.downcast_ref::<io::Error>() {
            Some(io) => {
                found.io = Some(io.kind());
                match io.get_ref() {
                    Some(inner) => Some(inner),
                    None => error.source(),
                }
            }
            None => error.source(),
        };
    }
    found
}

/// A failure of TLS. A wrong clock is named as such: everything that is signed for a time looks bad to it.
fn of_tls(error: &TlsError) -> Option<String> {
    let time = |time: &UnixTime| Timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    let set = "set the clock (NTP, a battery-backed clock, by hand)";
    let what = match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            CertificateError::NotValidYetContext {
                time: now,
                not_before,
            } => format!(
                "the server's certificate is not valid yet for this device's clock, which says {}: it is valid from {} on. If that \
                 has passed, {set}; an ssh remote needs no clock",
                time(now),
                time(not_before)
            ),
            CertificateError::ExpiredContext {
                time: now,
                not_after,
            } => format!(
                "the server's certificate has expired for this device's clock, which says {}: it was valid until {}. If the clock \
                 is right, the server needs a new one; if not, {set}; an ssh remote needs no clock",
                time(now),
                time(not_after)
            ),
            CertificateError::NotValidYet | CertificateError::Expired => format!(
                "the server's certificate is not valid at this device's time: if its clock is wrong, {set}"
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the server's certificate is not signed by a CA this device trusts: is source.ca_file the right one, and is \
                 nobody in between?"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another host name".to_owned()
            }
            CertificateError::Revoked => "the server's certificate was revoked".to_owned(),
            // Another crate's enum, which grows: the chain says which.
            _ => return None,
        },
        TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate: set source.client_cert and source.client_key".to_owned()
        }
        TlsError::AlertReceived(AlertDescription::CertificateExpired) => {
            "the server finds source.client_cert expired: this device needs a new one".to_owned()
        }
        TlsError::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateRevoked,
        ) => "the server does not take source.client_cert".to_owned(),
        TlsError::InvalidMessage(_) => {
            "what answers does not speak TLS: is source.url right, or is a captive portal in between?".to_owned()
        }
        _ => return None,
    };
    Some(what)
}

/// What only words tell: name look-ups and proxies.
fn of_words(words: &str) -> Option<&'static str> {
    let has = |needle: &str| words.contains(needle);
    if has("proxy authorization required") {
        Some(PROXY_LOGIN)
    } else if has("tunnel error") {
        Some(
            "the proxy that this process was given (HTTPS_PROXY, ALL_PROXY) makes no connection to the server: is it the \
             right one, or does the server belong into NO_PROXY?",
        )
    } else if has("Temporary failure in name resolution") {
        Some("the server's name cannot be looked up now: no name server answers")
    } else if has("dns error") || has("failed to lookup") {
        Some(
            "the server's name does not resolve: is source.url right, and does the name server tell the truth?",
        )
    } else if has("end of file before message") || has("connection closed before message") {
        Some("the connection ended in the middle of an answer")
    } else if has("invalid HTTP") || has("message head is too large") {
        Some("what answers does not speak HTTP: is source.url right, or is something in between?")
    } else {
        None
    }
}

fn of_io(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            Some("the connection is refused: nothing listens there, or a firewall says no")
        }
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::AddrNotAvailable => {
            Some("there is no way to the server: is this device's network up?")
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some("the connection was reset on the way"),
        io::ErrorKind::UnexpectedEof => Some("the connection ended in the middle of an answer"),
        _ => None,
    }
}

/// A proxy that wants a login, be it asked for a tunnel or for a page.
const PROXY_LOGIN: &str = "a proxy on the way wants a login (407): write user and password into HTTPS_PROXY or HTTP_PROXY, as \
                           http://user:password@proxy:port";

/// What a status other than 200 means.
pub(super) fn refusal(status: StatusCode) -> Fault {
    let text = match status {
        StatusCode::UNAUTHORIZED => {
            "the server wants a login or refuses this one (401): check source.token_file, or user and password in source.url".to_owned()
        }
        StatusCode::FORBIDDEN => "the server refuses this login the repository (403)".to_owned(),
        StatusCode::NOT_FOUND => {
            "there is no such repository, or this login may not see it (404): check source.url"
                .to_owned()
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => PROXY_LOGIN.to_owned(),
        StatusCode::TOO_MANY_REQUESTS => {
            "the server asks to be polled less often (429)".to_owned()
        }
        other => format!("the server answered with HTTP status {}", other.as_u16()),
    };
    match status {
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => Fault::NotGit(text),
        _ => Fault::Answer(text),
    }
}

/// Whether this is git's answer, of the kind that was asked for.
pub(super) fn judge(response: &Response, expected: &str) -> Result<(), Fault> {
    if response.status() != StatusCode::OK {
        return Err(refusal(response.status()));
    }
    let kind = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("nothing");
    if kind.trim() == expected {
        return Ok(());
    }
    let kind: String = kind.chars().filter(|c| !c.is_control()).take(80).collect();
    let guess = if kind.starts_with("text/html") {
        ": a login page or a captive portal, which wants somebody to sign in?"
    } else if kind.starts_with("text/plain") {
        ": the server offers git's old \"dumb\" protocol only, or the address is not a repository"
    } else {
        ": is source.url a git repository?"
    };
    Err(Fault::NotGit(format!(
        "the answer is not git's but `{kind}`{guess}"
    )))
}
