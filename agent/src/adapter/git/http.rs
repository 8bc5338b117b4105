//! git's smart HTTP over our own client: one shared keep-alive client, deadlines and byte caps on every read,
//! credentials that never leave their host.
//!
//! Refuses: redirects to plain http, redirects of a POST, redirects to another host where credentials are configured,
//! anything that does not say it is git's. Credentials stand in headers alone, never in a URL that could be printed.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use gix::protocol::transport::client::blocking_io::http::{
    GetResponse, Http, PostBodyDataKind, PostResponse,
};
use reqwest::Url;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};

use super::answer::{judge, transport_fault};
use super::limits::{AROUND, Budget, Fault, Limits};
use super::tls::{SharedClient, TlsFiles, setup};
use crate::domain::text::base64;

/// As many as browsers follow in practice; git itself allows 20.
const REDIRECTS: usize = 5;
/// One read's buffer.
const BUFFER: usize = 32 * 1024;
/// Longest token file: real tokens have some hundred bytes.
const LONGEST_TOKEN: u64 = 16 * 1024;

/// A remote over http or https.
#[derive(Clone)]
pub(super) struct HttpRemote {
    /// Without user and password.
    pub(super) url: Url,
    user: Option<String>,
    password: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    files: TlsFiles,
}

impl std::fmt::Debug for HttpRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpRemote({})", self.url)
    }
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, digits) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl HttpRemote {
    /// From a parsed URL, whose user and password are taken out of it.
    pub(super) fn new(mut url: Url, token_file: Option<PathBuf>, files: TlsFiles) -> Self {
        let user = Some(percent_decoded(url.username())).filter(|user| !user.is_empty());
        let password = url.password().map(percent_decoded);
        // Both fail only for URLs without a host; an http URL has one.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Self {
            url,
            user,
            password,
            token_file,
            files,
        }
    }

    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Fault> {
        let token = self.token_file.as_deref().map(read_token).transpose()?;
        let value = match (&self.user, token, &self.password) {
            (Some(user), Some(secret), _) => basic(user, &secret),
            (Some(user), None, Some(secret)) => basic(user, secret),
            (None, Some(token), _) => format!("Bearer {token}"),
            (Some(_), None, None) | (None, None, _) => return Ok(None),
        };
        let mut header = HeaderValue::from_str(&value).map_err(|_| Fault::Setup {
            what: match &self.token_file {
                Some(path) => format!(
                    "source.token_file `{}` holds characters that no token has",
                    path.display()
                ),
                None => "the user or password in source.url cannot be sent".to_owned(),
            },
            cause: None,
        })?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// A transport for one exchange. The token file is read again each time.
    pub(super) fn connect(
        &self,
        client: &SharedClient,
        limits: &Limits,
        budget: &Arc<Budget>,
    ) -> Result<GitHttp, Fault> {
        let authorization = self.authorization()?;
        Ok(GitHttp {
            client: client.get(&self.files, limits)?,
            has_credentials: authorization.is_some() || self.files.cert.is_some(),
            authorization,
            origin: self.url.clone(),
            redirected: None,
            budget: Arc::clone(budget),
        })
    }
}

fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", base64(format!("{user}:{secret}").as_bytes()))
}

fn read_token(path: &Path) -> Result<String, Fault> {
    let unreadable = |cause: io::Error| {
        setup(
            format!("cannot read source.token_file `{}`", path.display()),
            cause,
        )
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(LONGEST_TOKEN)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Fault::Setup {
            what: format!("source.token_file `{}` is empty", path.display()),
            cause: None,
        });
    }
    Ok(token.to_owned())
}

/// gix's `Http` over our client.
pub(super) struct GitHttp {
    client: Client,
    authorization: Option<HeaderValue>,
    has_credentials: bool,
    origin: Url,
    redirected: Option<String>,
    budget: Arc<Budget>,
}

type Gix<T> = gix::Result<T>;

impl GitHttp {
    fn fail<T>(&self, fault: Fault) -> Gix<T> {
        Err(gix::Error::from_error(self.budget.fail(fault)))
    }

    fn headers(&self, lines: impl IntoIterator<Item = impl AsRef<str>>, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            let Some((name, value)) = line.as_ref().split_once(':') else {
                continue;
            };
            // gix's own User-Agent gives way to ours.
            if name.eq_ignore_ascii_case("user-agent") {
                continue;
            }
            if let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(name.trim().as_bytes()),
                HeaderValue::from_str(value.trim()),
            ) {
                headers.insert(name, value);
            }
        }
        if let Some(authorization) = &self.authorization
            && may_see_credentials(&self.origin, url)
        {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers
    }

    fn follow(&self, from: &Url, response: &Response) -> Result<Url, Fault> {
        let to = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| from.join(location).ok())
            .ok_or_else(|| Fault::Answer("a redirect that names no address".to_owned()))?;
        let place = shown(&to);
        match (from.scheme(), to.scheme()) {
            (_, "https") | ("http", "http") => {}
            _ => {
                return Err(Fault::Answer(format!(
                    "the server redirects from https to `{place}`: refused"
                )));
            }
        }
        if self.has_credentials && !may_see_credentials(&self.origin, &to) {
            return Err(Fault::Answer(format!(
                "the server redirects to another host, `{place}`, which must not see this device's credentials: if it is right, write it in source.url"
            )));
        }
        Ok(to)
    }
}

/// A URL as people may see it.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// The same host and port and no weaker scheme; or the usual step from http to https on the usual ports.
pub(super) fn may_see_credentials(origin: &Url, to: &Url) -> bool {
    origin.host_str() == to.host_str()
        && match (origin.scheme(), to.scheme()) {
            (from, to_scheme) if from == to_scheme => {
                origin.port_or_known_default() == to.port_or_known_default()
            }
            ("http", "https") => origin.port().is_none() && to.port().is_none(),
            _ => false,
        }
}

impl Http for GitHttp {
    type Headers = HeaderLines;
    type ResponseBody = Body;
    type PostBody = PostBuffer;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Gix<GetResponse<Self::Headers, Self::ResponseBody>> {
        let lines: Vec<String> = headers
            .into_iter()
            .map(|line| line.as_ref().to_owned())
            .collect();
        let tail = url.strip_prefix(base_url).unwrap_or_default().to_owned();
        let mut place = match Url::parse(url) {
            Ok(place) => place,
            Err(error) => return self.fail(Fault::broken("source.url is not a URL", error)),
        };
        for _ in 0..=REDIRECTS {
            if let Err(fault) = self.budget.remaining() {
                return self.fail(fault);
            }
            self.budget.count(AROUND);
            let sent = self
                .client
                .get(place.clone())
                .headers(self.headers(&lines, &place))
                .send();
            let response = match sent {
                Ok(response) => response,
                Err(error) => return self.fail(transport_fault(error, self.budget.read)),
            };
            if response.status().is_redirection() {
                place = match self.follow(&place, &response) {
                    Ok(place) => place,
                    Err(fault) => return self.fail(fault),
                };
                continue;
            }
            if let Err(fault) = judge(&response, "application/x-git-upload-pack-advertisement") {
                return self.fail(fault);
            }
            if place.as_str() != url {
                match place.as_str().strip_suffix(tail.as_str()) {
                    Some(base) if !tail.is_empty() => self.redirected = Some(base.to_owned()),
                    _ => {
                        return self.fail(Fault::Answer(format!(
                            "the server redirects to `{}`, which is not the same place in another repository",
                            shown(&place)
                        )));
                    }
                }
            }
            let exchange = Rc::new(RefCell::new(Exchange::Open(response)));
            return Ok(GetResponse {
                headers: HeaderLines::new(&exchange, &self.budget),
                body: Body::new(exchange, &self.budget),
            });
        }
        self.fail(Fault::Answer("the server redirects in circles".to_owned()))
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> Gix<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let place = match Url::parse(url) {
            Ok(place) => place,
            Err(error) => return self.fail(Fault::broken("source.url is not a URL", error)),
        };
        let buffer = Rc::new(RefCell::new(Vec::new()));
        let request = self
            .client
            .post(place.clone())
            .headers(self.headers(headers, &place));
        let exchange = Rc::new(RefCell::new(Exchange::Ready(
            Box::new(request),
            Rc::clone(&buffer),
        )));
        Ok(PostResponse {
            post_body: PostBuffer(buffer),
            headers: HeaderLines::new(&exchange, &self.budget),
            body: Body::new(exchange, &self.budget),
        })
    }

    fn configure(&mut self, _config: &dyn Any) -> Gix<()> {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}

/// What gix writes before the request is sent.
pub(super) struct PostBuffer(Rc<RefCell<Vec<u8>>>);

impl Write for PostBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One request and its answer. A POST is sent at the first read: by then gix has written its body.
enum Exchange {
    Ready(Box<reqwest::blocking::RequestBuilder>, Rc<RefCell<Vec<u8>>>),
    Open(Response),
    Failed,
}

impl Exchange {
    fn open(&mut self, budget: &Budget) -> io::Result<&mut Response> {
        if let Self::Ready(..) = self {
            let Self::Ready(request, body) = std::mem::replace(self, Self::Failed) else {
                return Err(io::Error::other("the request is gone"));
            };
            budget.remaining().map_err(|fault| budget.fail(fault))?;
            let body = body.take();
            budget.count(AROUND + body.len());
            let response = request
                .body(body)
                .send()
                .map_err(|error| budget.fail(transport_fault(error, budget.read)))?;
            if response.status().is_redirection() {
                return Err(budget.fail(Fault::Answer(
                    "the server redirects in the middle of a fetch: refused".to_owned(),
                )));
            }
            judge(&response, "application/x-git-upload-pack-result")
                .map_err(|fault| budget.fail(fault))?;
            *self = Self::Open(response);
        }
        match self {
            Self::Open(response) => Ok(response),
            Self::Ready(..) | Self::Failed => Err(io::Error::other("the request failed before")),
        }
    }
}

/// The one header gix looks at, as lines.
pub(super) struct HeaderLines {
    exchange: Rc<RefCell<Exchange>>,
    budget: Arc<Budget>,
    text: Option<io::Cursor<Vec<u8>>>,
}

impl HeaderLines {
    fn new(exchange: &Rc<RefCell<Exchange>>, budget: &Arc<Budget>) -> Self {
        Self {
            exchange: Rc::clone(exchange),
            budget: Arc::clone(budget),
            text: None,
        }
    }

    fn lines(&mut self) -> io::Result<&mut io::Cursor<Vec<u8>>> {
        if self.text.is_none() {
            let mut exchange = self.exchange.borrow_mut();
            let response = exchange.open(&self.budget)?;
            let mut text = b"content-type: ".to_vec();
            if let Some(kind) = response.headers().get(CONTENT_TYPE) {
                text.extend_from_slice(kind.as_bytes());
            }
            text.push(b'\n');
            drop(exchange);
            self.text = Some(io::Cursor::new(text));
        }
        self.text
            .as_mut()
            .ok_or_else(|| io::Error::other("no headers"))
    }
}

impl Read for HeaderLines {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.lines()?.read(buf)
    }
}

impl BufRead for HeaderLines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines()?.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        if let Some(text) = &mut self.text {
            text.consume(amount);
        }
    }
}

/// The answer's body, read within the budget.
pub(super) struct Body {
    exchange: Rc<RefCell<Exchange>>,
    budget: Arc<Budget>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Body {
    fn new(exchange: Rc<RefCell<Exchange>>, budget: &Arc<Budget>) -> Self {
        Self {
            exchange,
            budget: Arc::clone(budget),
            buffer: Vec::new(),
            start: 0,
            end: 0,
        }
    }
}

impl Read for Body {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.budget
                .remaining()
                .map_err(|fault| self.budget.fail(fault))?;
            self.buffer.resize(BUFFER, 0);
            let mut exchange = self.exchange.borrow_mut();
            let response = exchange.open(&self.budget)?;
            let count = response.read(&mut self.buffer).map_err(|error| {
                let fault = match error.downcast::<reqwest::Error>() {
                    Ok(error) => transport_fault(error, self.budget.read),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        Fault::Stalled(self.budget.read)
                    }
                    Err(error) => Fault::broken("the connection broke", error),
                };
                self.budget.fail(fault)
            })?;
            self.budget
                .spend(count)
                .map_err(|fault| self.budget.fail(fault))?;
            self.start = 0;
            self.end = count;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.end);
    }
}
