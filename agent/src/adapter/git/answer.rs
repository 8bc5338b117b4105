//! What HTTP's answers and failures mean to people.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::Response;
use reqwest::header::CONTENT_TYPE;

use super::limits::Fault;

/// What a failed exchange means to people.
pub(super) fn transport_fault(error: reqwest::Error, read: Duration) -> Fault {
    let error = error.without_url();
    let mut chain = String::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        chain.push_str(&error.to_string());
        chain.push('\n');
        next = error.source();
    }
    if error.is_timeout() && !error.is_connect() {
        return Fault::Stalled(read);
    }
    let has = |needle: &str| chain.contains(needle);
    let what = if has("UnknownIssuer") || has("BadSignature") {
        "the server's certificate is not signed by a CA this device trusts: is source.ca_file the right one?"
    } else if has("Expired") || has("expired") || has("NotValidYet") || has("not valid yet") {
        "the server's certificate is not valid at this device's time: is the device's clock right?"
    } else if has("NotValidForName") || has("not valid for name") {
        "the server's certificate is for another host name"
    } else if has("CertificateRequired") || has("certificate required") {
        "the server asks for a client certificate: set source.client_cert and source.client_key"
    } else if has("invalid peer certificate") || has("received fatal alert") || has("tls") {
        "TLS with the server failed"
    } else if has("dns error") || has("failed to lookup") {
        "the server's name does not resolve"
    } else if error.is_timeout() {
        "no connection in time"
    } else if error.is_connect() {
        "no connection to the server"
    } else {
        "the connection broke"
    };
    Fault::broken(what, error)
}

/// Whether this is git's answer, of the kind that was asked for.
pub(super) fn judge(response: &Response, expected: &str) -> Result<(), Fault> {
    let status = response.status();
    let answer = |text: String| Err(Fault::Answer(text));
    match status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            return answer(
                "the server wants a login or refuses this one (401): check source.token_file, or user and password in source.url".to_owned(),
            );
        }
        StatusCode::FORBIDDEN => {
            return answer("the server refuses this login the repository (403)".to_owned());
        }
        StatusCode::NOT_FOUND => {
            return answer(
                "there is no such repository, or this login may not see it (404): check source.url"
                    .to_owned(),
            );
        }
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            return answer("a proxy on the way wants a login (407)".to_owned());
        }
        StatusCode::TOO_MANY_REQUESTS => {
            return answer("the server asks to be polled less often (429)".to_owned());
        }
        other => {
            return answer(format!(
                "the server answered with HTTP status {}",
                other.as_u16()
            ));
        }
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
        ": a login page or a captive portal?"
    } else if kind.starts_with("text/plain") {
        ": the server offers git's old \"dumb\" protocol only, or the address is not a repository"
    } else {
        ": is source.url a git repository?"
    };
    answer(format!("the answer is not git's but `{kind}`{guess}"))
}
