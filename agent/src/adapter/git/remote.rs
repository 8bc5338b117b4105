//! The addresses in `source.url`, parsed.

use std::path::PathBuf;

use evenkeel_schema::agent_config::SourceSection;

use super::http::{HttpRemote, may_see_credentials};
use super::ssh::SshRemote;
use super::tls::TlsFiles;
use crate::port::source::Reach;

/// One remote, and how to reach it.
#[derive(Debug, Clone)]
pub(super) enum Remote {
    /// A git repository over http or https; or a published tree, where it turns out to be one.
    Http(HttpRemote),
    /// A published tree over http or https, by its address alone.
    Published(HttpRemote),
    Ssh(SshRemote),
    Local(PathBuf),
}

/// All of `source.url`. `source.token_file` goes to the host of the first of them that speaks http, and to no other: what
/// opens one server is not shown to a second one.
pub(super) fn all(section: &SourceSection) -> Result<Vec<Remote>, String> {
    let mut home: Option<reqwest::Url> = None;
    let mut remotes = Vec::new();
    for text in &section.urls {
        let mut remote = Remote::parse(text, section)?;
        if let Remote::Http(http) | Remote::Published(http) = &mut remote {
            let home = home.get_or_insert_with(|| http.url.clone());
            http.token_file = match section.tokens.get(text) {
                Some(own) => Some(own.clone()),
                None => section
                    .token_file
                    .clone()
                    .filter(|_| may_see_credentials(home, &http.url)),
            };
        }
        remotes.push(remote);
    }
    Ok(remotes)
}

/// Before an http or https address: it is a published tree, so that no git server is looked for there.
const PUBLISHED: &str = "static+";

fn http(text: &str, section: &SourceSection) -> Result<HttpRemote, String> {
    let url = reqwest::Url::parse(text)
        .map_err(|error| format!("source.url is not an http address: {error}"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("source.url may not have `?` or `#` in it".to_owned());
    }
    let files = TlsFiles {
        ca: section.ca_file.clone(),
        cert: section.client_cert.clone(),
        key: section.client_key.clone(),
    };
    Ok(HttpRemote::new(url, None, files))
}

impl Remote {
    /// Parses one of `source.url`.
    fn parse(text: &str, section: &SourceSection) -> Result<Self, String> {
        // A URL that does not parse is not repeated: it may hold a password.
        if text.starts_with('/') {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        if let Some(text) = text.strip_prefix(PUBLISHED)
            && (text.starts_with("https://") || text.starts_with("http://"))
        {
            return Ok(Self::Published(http(text, section)?));
        }
        let url = gix::url::parse(text)
            .map_err(|_| "source.url is not a git address: write https://, ssh://, user@host:path or file:///path".to_owned())?;
        match &url.scheme {
            gix::url::Scheme::Https | gix::url::Scheme::Http => {
                Ok(Self::Http(http(text, section)?))
            }
            gix::url::Scheme::Ssh => {
                let host = url
                    .host()
                    .filter(|host| !host.is_empty())
                    .ok_or("source.url names no host")?
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                let path = String::from_utf8(url.path.to_vec())
                    .map_err(|_| "the path in source.url is not UTF-8".to_owned())?;
                // `/~user/x` is a home's path, as git reads ssh URLs.
                let path = match path.strip_prefix("/~") {
                    Some(home) => format!("~{home}"),
                    None => path,
                };
                let user = url.user().map(str::to_owned);
                let strange = |text: &str| {
                    text.starts_with('-') || text.chars().any(|c| c.is_control() || c == ' ')
                };
                if strange(&host)
                    || user.as_deref().is_some_and(strange)
                    || path.starts_with('-')
                    || path.chars().any(char::is_control)
                {
                    return Err(
                        "source.url has a host, user or path that ssh would take for an option"
                            .to_owned(),
                    );
                }
                // Without either no fetch can ever succeed: no key is looked for elsewhere, and no host key is taken on trust.
                let known_hosts = section.known_hosts.clone().ok_or_else(|| {
                    format!(
                        "the ssh remote {host} needs source.known_hosts: a file with its host key (`ssh-keyscan {host}`, compared \
                         with what its operator says it is)"
                    )
                })?;
                let key = section.ssh_key.clone().ok_or_else(|| {
                    format!("the ssh remote {host} needs source.ssh_key: the path of a private key")
                })?;
                Ok(Self::Ssh(SshRemote {
                    user,
                    host,
                    port: url.port,
                    path,
                    key,
                    known_hosts,
                }))
            }
            gix::url::Scheme::File => {
                let path = String::from_utf8(url.path.to_vec())
                    .map_err(|_| "the path in source.url is not UTF-8".to_owned())?;
                if path.starts_with('/') {
                    Ok(Self::Local(PathBuf::from(path)))
                } else {
                    Err("a file address in source.url must hold an absolute path: file:///srv/fleet.git".to_owned())
                }
            }
            other => Err(format!(
                "source.url: `{}` is not supported: use https, http, ssh or file",
                other.as_str()
            )),
        }
    }

    /// How it is reached.
    pub(super) const fn reach(&self) -> Reach {
        match self {
            Self::Http(_) | Self::Published(_) | Self::Ssh(_) => Reach::Network,
            Self::Local(_) => Reach::Local,
        }
    }

    /// As people may see it: no credentials.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Http(remote) | Self::Published(remote) => remote.url.to_string(),
            Self::Ssh(remote) => {
                let port = remote
                    .port
                    .map_or_else(String::new, |port| format!(":{port}"));
                format!(
                    "ssh://{}{port}/{}",
                    remote.host,
                    remote.path.trim_start_matches('/')
                )
            }
            Self::Local(path) => format!("file://{}", path.display()),
        }
    }
}
