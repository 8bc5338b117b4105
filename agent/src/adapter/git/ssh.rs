//! git over ssh: the system's `ssh`, run by us so that it can be ended at the deadline.
//!
//! The host key is pinned: only `source.known_hosts` counts, nothing is ever added to it, and a key that is not in it is
//! an error for a person. No agent, no password, no configuration file, no forwarding.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::git::ConnectMode;
use gix::protocol::transport::client::git::blocking_io::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limits::{Budget, Fault, Limits, SESSION};

/// How much of ssh's own words is kept for the error message.
const WORDS: usize = 2048;

/// A remote over ssh.
#[derive(Debug, Clone)]
pub(super) struct SshRemote {
    pub(super) user: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) path: String,
    pub(super) key: PathBuf,
    pub(super) known_hosts: PathBuf,
}

/// The transport that gix drives.
pub(super) type SshTransport = Connection<Pipe, ChildStdin>;

/// The running `ssh`; ended when dropped.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended already; either way it is collected here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn setup(what: String) -> Fault {
    Fault::Setup { what, cause: None }
}

/// A file that ssh needs, as ssh's own configuration writes it: quoted, `%` doubled.
fn quoted(path: &Path) -> Result<String, Fault> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(['"', '\n', '\\']))
        .ok_or_else(|| {
            setup(format!(
                "ssh cannot take the path `{}`: rename it",
                path.display()
            ))
        })?;
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

impl SshRemote {
    fn key(&self) -> Result<&Path, Fault> {
        let key = self.key.as_path();
        let file = std::fs::File::open(key).map_err(|cause| Fault::Setup {
            what: format!("cannot read source.ssh_key `{}`", key.display()),
            cause: Some(cause.into()),
        })?;
        let mode = file.metadata().map_or(0, |data| data.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(setup(format!(
                "source.ssh_key `{}` is open to others (mode {:04o}), so ssh will not use it: chmod 600",
                key.display(),
                mode & 0o7777
            )));
        }
        Ok(key)
    }

    fn known_hosts(&self) -> Result<&Path, Fault> {
        let path = self.known_hosts.as_path();
        std::fs::File::open(path).map_err(|cause| Fault::Setup {
            what: format!("cannot read source.known_hosts `{}`", path.display()),
            cause: Some(cause.into()),
        })?;
        Ok(path)
    }

    fn command(&self, limits: &Limits) -> Result<Command, Fault> {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-T"]);
        let options = [
            "BatchMode=yes".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            format!("UserKnownHostsFile={}", quoted(self.known_hosts()?)?),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "VerifyHostKeyDNS=no".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "IdentityAgent=none".to_owned(),
            format!("IdentityFile={}", quoted(self.key()?)?),
            "PasswordAuthentication=no".to_owned(),
            "KbdInteractiveAuthentication=no".to_owned(),
            "ControlMaster=no".to_owned(),
            "ControlPath=none".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "PermitLocalCommand=no".to_owned(),
            format!("ConnectTimeout={}", limits.connect.as_secs().max(1)),
            format!("ServerAliveInterval={}", (limits.read.as_secs() / 3).max(1)),
            "ServerAliveCountMax=3".to_owned(),
            "SendEnv=GIT_PROTOCOL".to_owned(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        if let Some(port) = self.port {
            command.arg("-p").arg(port.to_string());
        }
        if let Some(user) = &self.user {
            command.arg("-l").arg(user);
        }
        command.arg("--").arg(&self.host).arg(format!(
            "git-upload-pack '{}'",
            self.path.replace('\'', r"'\''").replace('!', r"'\!'")
        ));
        command
            .env("GIT_PROTOCOL", "version=2")
            .env("LC_ALL", "C")
            .env_remove("SSH_ASKPASS")
            .env_remove("SSH_AUTH_SOCK")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Starts ssh; gix speaks over the transport, and the session ends ssh when dropped.
    pub(super) fn connect(
        &self,
        limits: &Limits,
        budget: &Arc<Budget>,
    ) -> Result<(SshTransport, Session), Fault> {
        let mut child = self.command(limits)?.spawn().map_err(|cause| {
            let what = if cause.kind() == io::ErrorKind::NotFound {
                "there is no `ssh` on this device: install an OpenSSH client, or use https"
            } else {
                "cannot start `ssh`"
            };
            Fault::Setup {
                what: what.to_owned(),
                cause: Some(cause.into()),
            }
        })?;
        budget.count(SESSION);
        let words = Arc::new(Mutex::new(Vec::new()));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let session = Session { child };
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(Fault::Setup {
                what: "ssh has no pipes".to_owned(),
                cause: None,
            });
        };
        let pipe = Pipe {
            stdout,
            stderr: Some(stderr),
            words,
            host: self.host.clone(),
            known_hosts: self.known_hosts.clone(),
            silence: limits.read.max(limits.connect),
            budget: Arc::clone(budget),
        };
        let transport = Connection::new(
            pipe,
            stdin,
            Protocol::V2,
            self.path.clone(),
            None::<(String, Option<u16>)>,
            ConnectMode::Process,
            false,
        );
        Ok((transport, session))
    }
}

fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('@'))
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// ssh's standard output, read within the budget; its standard error is kept on the way, so that no pipe fills up.
pub(super) struct Pipe {
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    words: Arc<Mutex<Vec<u8>>>,
    host: String,
    known_hosts: PathBuf,
    silence: Duration,
    budget: Arc<Budget>,
}

impl Pipe {
    fn keep_words(&mut self) {
        let mut buffer = [0_u8; 1024];
        let count = match self.stderr.as_mut().map(|stderr| stderr.read(&mut buffer)) {
            Some(Ok(count)) if count > 0 => count,
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return,
            Some(Ok(_) | Err(_)) | None => {
                self.stderr = None;
                return;
            }
        };
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let room = WORDS.saturating_sub(words.len()).min(count);
        words.extend_from_slice(&buffer[..room]);
    }

    /// Waits until standard output can be read (or has ended).
    fn wait(&mut self) -> Result<(), Fault> {
        let silent_at = Instant::now() + self.silence;
        loop {
            let left = self.budget.remaining()?;
            let quiet = silent_at.saturating_duration_since(Instant::now());
            if quiet.is_zero() {
                return Err(Fault::Stalled(self.silence));
            }
            // One second at most, so that a stop is heard.
            let wait = left.min(quiet).min(Duration::from_secs(1));
            let timeout = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1),
                tv_nsec: wait.subsec_nanos().into(),
            };
            let (out, err) = {
                let mut fds = vec![PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
                if let Some(stderr) = &self.stderr {
                    fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN));
                }
                match poll(&mut fds, Some(&timeout)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => {
                        return Err(Fault::broken("cannot wait for ssh", io::Error::from(error)));
                    }
                }
                let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
                (ready(fds.first()), ready(fds.get(1)))
            };
            if err {
                self.keep_words();
            }
            if out {
                return Ok(());
            }
        }
    }

    /// ssh closed its output: what it said tells why.
    fn ended(&mut self) -> Fault {
        // It is ending: its last words follow at once or not at all.
        let until = Instant::now() + Duration::from_secs(2);
        while let Some(stderr) = self.stderr.as_ref() {
            let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::IN)];
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            let _ = poll(&mut fds, Some(&timeout));
            let ready = !fds[0].revents().is_empty();
            if ready {
                self.keep_words();
            } else if Instant::now() >= until {
                break;
            }
        }
        let words = one_line(&self.words.lock().unwrap_or_else(PoisonError::into_inner));
        explain(&words, &self.host, &self.known_hosts)
    }
}

fn explain(words: &str, host: &str, known_hosts: &Path) -> Fault {
    let has = |needle: &str| words.contains(needle);
    if has("Host key verification failed")
        || has("HOST IDENTIFICATION HAS CHANGED")
        || has("host key is known for")
    {
        return Fault::Setup {
            what: format!(
                "the host key of {host} is not the pinned one in source.known_hosts `{}`: if the server's key was really changed, put the new one there by hand",
                known_hosts.display()
            ),
            cause: Some(words.into()),
        };
    }
    if has("UNPROTECTED PRIVATE KEY") || has("bad permissions") || has("Load key") {
        return Fault::Setup {
            what: "ssh cannot use source.ssh_key".to_owned(),
            cause: Some(words.into()),
        };
    }
    if has("Permission denied") {
        return Fault::broken(format!("{host} refuses this device's ssh key"), words);
    }
    if words.is_empty() {
        return Fault::Answer("ssh ended without a word".to_owned());
    }
    Fault::broken("ssh failed", words)
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.wait().map_err(|fault| self.budget.fail(fault))?;
        let count = self.stdout.read(buf)?;
        if count == 0 && !buf.is_empty() {
            let fault = self.ended();
            return Err(self.budget.fail(fault));
        }
        self.budget
            .spend(count)
            .map_err(|fault| self.budget.fail(fault))?;
        Ok(count)
    }
}
