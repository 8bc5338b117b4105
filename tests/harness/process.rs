//! Child processes with a deadline, and none that outlives its test.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a command said and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The same, where it ended with `code`.
    ///
    /// # Panics
    /// Where it ended otherwise, with all it said.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "expected exit code {code}, got {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Both streams, for "says something about" checks.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs a command with no input to its end.
///
/// # Panics
/// Where it cannot be started, or has not ended after `limit` (it is killed then, and what it said is shown).
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Output {
    run_with_input(command, &[], limit)
}

/// Runs a command with this input to its end.
///
/// # Panics
/// As [`run`].
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "cannot start {shown}: {error} (run ./tests/run.sh, which installs what tests need)"
            )
        });
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A command that does not read its input is no error.
        let _ = stdin.write_all(&input);
    });
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait for a child of ours") {
            break Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let _ = writer.join();
    let output = Output {
        code: status.and_then(|status: ExitStatus| status.code()),
        stdout: stdout.join().expect("the reader does not panic"),
        stderr: stderr.join().expect("the reader does not panic"),
    };
    assert!(
        status.is_some(),
        "{shown} had not ended after {} s and was killed\n--- stdout\n{}\n--- stderr\n{}",
        limit.as_secs(),
        output.stdout,
        output.stderr
    );
    output
}

fn drain(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A server of ours: killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts it, with both streams into the file `log`.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let shown = format!("{command:?}");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("open a log in our own temporary directory");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle on the log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start {shown}: {error} (run ./tests/run.sh, which installs what tests need)"
                )
            });
        Self { child }
    }

    /// Starts it as the leader of a group of its own, for [`Server::kill_group`].
    ///
    /// # Panics
    /// As [`Server::start`].
    #[track_caller]
    pub fn start_group(command: &mut Command, log: &Path) -> Self {
        Self::start(command.process_group(0), log)
    }

    /// Ends the group that it leads with SIGKILL: it, and what it started and would outlive it.
    pub fn kill_group(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        self.kill();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name: `TERM`, `HUP`.
    ///
    /// # Panics
    /// Where `kill` fails: the process is gone.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("run kill");
        assert!(status.success(), "the process {} is gone", self.child.id());
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child of ours")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it has not ended after `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        crate::wait_at_most(limit, "the end of a process", || {
            self.child.try_wait().expect("wait for a child of ours")
        })
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
