//! The seven steps. Each does one thing to the repository or the device, runs `evenkeel` as a user would, and looks.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::checks::{Good, Page};
use super::device::{Answer, Device, Status};
use super::fleet::{Fleet, GREETER_CONF, Release, SIGNER, Signing, TICKER_CONF, probe, rendered};
use super::git_server::GitServer;
use super::image::{Container, DemoEngine};

/// How long a container that was just started may take to answer.
const START: Duration = Duration::from_secs(10);
/// What fits beside the mark on a common terminal.
const WIDTH: usize = 110;

/// How `evenkeel sync` ends; see the README's table.
mod code {
    pub(super) const DONE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const REFUSED: u8 = 3;
    pub(super) const ROLLED_BACK: u8 = 4;
}

const FIRST: Release = good("hello");
const SECOND: Release = good("good morning");
const UNSIGNED: Release = good("pay me");
/// The typing error that a gate is for: a valid file that its program cannot use.
const BAD: Release = Release {
    greeting: "good evening",
    key: "greting",
};
const FIXED: Release = good("good evening");

const fn good(greeting: &'static str) -> Release {
    Release {
        greeting,
        key: "greeting",
    }
}

/// One app's service, and the file it reads.
struct App {
    app: &'static str,
    service: &'static str,
    file: &'static str,
}

const GREETER: App = App {
    app: "greeter",
    service: "web",
    file: GREETER_CONF,
};
const TICKER: App = App {
    app: "ticker",
    service: "tick",
    file: TICKER_CONF,
};

/// What must not move while nothing should: files down to their inode, containers down to their start.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stand {
    file: (String, u64, i64, i64),
    container: Option<Container>,
}

/// Everything that the steps need.
pub(super) struct Story<'a> {
    pub(super) page: &'a mut Page,
    pub(super) fleet: &'a Fleet,
    pub(super) device: &'a Device,
    pub(super) engine: Option<&'a DemoEngine>,
}

impl Story<'_> {
    /// Tells it, to its end or to the first step that was not as it should be.
    ///
    /// # Errors
    /// Something broke that is not a check: a tool, the engine, the disk.
    pub(super) async fn tell(mut self, server: GitServer) -> Result<()> {
        let first = self.converge().await?;
        if self.stop() {
            return Ok(());
        }
        let second = self.touch_one().await?;
        if self.stop() {
            return Ok(());
        }
        self.heal().await?;
        if self.stop() {
            return Ok(());
        }
        self.unsigned(&second).await?;
        if self.stop() {
            return Ok(());
        }
        let fixed = self.bad_release(&second).await?;
        if self.stop() {
            return Ok(());
        }
        self.rewind(&first, &fixed).await?;
        if self.stop() {
            return Ok(());
        }
        self.offline(server, &second, &fixed).await
    }

    /// A later step proves nothing once an earlier one is not as it should be.
    fn stop(&self) -> bool {
        self.page.failed() > 0
    }

    async fn converge(&mut self) -> Result<String> {
        self.page.step("A device converges to a signed branch");
        let commit = self.fleet.release(&FIRST, Signing::Signed).await?;
        self.page.did(format_args!(
            "commit {} signed by {SIGNER}, pushed; evenkeel sync",
            short(&commit)
        ));
        self.sync(code::DONE).await?;
        self.greets(&FIRST);
        let file = std::fs::metadata(self.device.path(GREETER_CONF))
            .map(|file| format!("{:04o}", file.mode() & 0o7777))
            .unwrap_or_else(|error| error.to_string());
        self.page.same("its mode", file.as_str(), "0644");
        self.healthy(&GREETER).await?;
        self.healthy(&TICKER).await?;
        self.at(&commit, "Ready").await?;
        Ok(commit)
    }

    async fn touch_one(&mut self) -> Result<String> {
        self.page
            .step("A second commit changes one app; the other is not touched");
        let greeter = self.stand(&GREETER).await?;
        let ticker = self.stand(&TICKER).await?;
        let commit = self.fleet.release(&SECOND, Signing::Signed).await?;
        self.page.did(format_args!(
            "commit {}: another greeting; evenkeel sync",
            short(&commit)
        ));
        self.sync(code::DONE).await?;
        self.greets(&SECOND);
        let now = self.stand(&GREETER).await?;
        if let (Some(before), Some(after)) = (&greeter.container, &now.container) {
            self.page.seen(
                (before.started != after.started).into(),
                format_args!("greeter/web, which mounts the file, was started anew"),
            );
        }
        self.healthy(&GREETER).await?;
        self.unmoved("ticker", &ticker, &TICKER).await?;
        self.at(&commit, "Ready").await?;
        Ok(commit)
    }

    async fn heal(&mut self) -> Result<()> {
        self.page.step("Changes by hand are put right");
        std::fs::write(
            self.device.path(GREETER_CONF),
            "greeting = edited by hand\n",
        )
        .context("cannot edit the demo's file")?;
        let mut did = format!("edited {GREETER_CONF}");
        let lost = self.container(&TICKER).await?;
        match self.engine {
            Some(engine) => {
                engine.stop(&self.name(&GREETER).await?).await?;
                engine.remove(&self.name(&TICKER).await?).await?;
                did.push_str(", stopped greeter/web, removed ticker/tick");
            }
            None => {
                std::fs::remove_file(self.device.path(TICKER_CONF))?;
                write!(did, ", deleted {TICKER_CONF}")?;
            }
        }
        self.page.did(format_args!("{did}; evenkeel sync"));
        self.sync(code::DONE).await?;
        self.greets(&SECOND);
        self.page.same(
            TICKER_CONF,
            self.device.read(TICKER_CONF).trim_end(),
            "greeting = tick",
        );
        self.healthy(&GREETER).await?;
        self.healthy(&TICKER).await?;
        if let (Some(lost), Some(now)) = (lost, self.container(&TICKER).await?) {
            self.page.seen(
                (lost.id != now.id).into(),
                format_args!("ticker/tick was {}, is now {}", lost.short(), now.short()),
            );
        }
        Ok(())
    }

    async fn unsigned(&mut self, honest: &str) -> Result<()> {
        self.page.step("An unsigned push is refused");
        let before = self.both().await?;
        let commit = self.fleet.release(&UNSIGNED, Signing::Unsigned).await?;
        self.page.did(format_args!(
            "commit {} pushed without a signature; evenkeel sync",
            short(&commit)
        ));
        self.sync(code::REFUSED).await?;
        self.unverified("unsigned").await?;
        self.nothing_moved(&before).await?;
        self.fleet.force_to(honest).await?;
        self.page.did(format_args!(
            "the branch put back to {}; evenkeel sync",
            short(honest)
        ));
        self.sync(code::DONE).await?;
        self.nothing_moved(&before).await
    }

    async fn bad_release(&mut self, last_good: &str) -> Result<String> {
        self.page
            .step("A bad release is rolled back by its health gate");
        let bad = self.fleet.release(&BAD, Signing::Signed).await?;
        self.page.did(format_args!(
            "commit {}, well signed, with a typing error (`{}`); evenkeel sync",
            short(&bad),
            BAD.key
        ));
        self.sync(code::ROLLED_BACK).await?;
        self.greets(&SECOND);
        self.healthy(&GREETER).await?;
        let status = self.device.status().await?;
        self.page.same(
            "last good",
            short(&status.text("/revision/last_good")),
            short(last_good),
        );
        let before = self.both().await?;
        self.page.did("evenkeel sync, once more");
        self.sync(code::ROLLED_BACK).await?;
        self.nothing_moved(&before).await?;
        let fixed = self.fleet.release(&FIXED, Signing::Signed).await?;
        self.page.did(format_args!(
            "commit {} mends it; evenkeel sync",
            short(&fixed)
        ));
        self.sync(code::DONE).await?;
        self.greets(&FIXED);
        self.healthy(&GREETER).await?;
        self.at(&fixed, "Ready").await?;
        Ok(fixed)
    }

    async fn rewind(&mut self, old: &str, newest: &str) -> Result<()> {
        self.page.step("A rewound branch is refused");
        let before = self.both().await?;
        self.fleet.force_to(old).await?;
        self.page.did(format_args!(
            "the branch forced back to {}, an old commit with a good signature; evenkeel sync",
            short(old)
        ));
        self.sync(code::REFUSED).await?;
        self.unverified("not-descendant").await?;
        self.nothing_moved(&before).await?;
        self.fleet.force_to(newest).await?;
        self.page.did(format_args!(
            "the branch put back to {}; evenkeel sync",
            short(newest)
        ));
        self.sync(code::DONE).await
    }

    async fn offline(&mut self, server: GitServer, previous: &str, newest: &str) -> Result<()> {
        self.page.step("Rollback with no network");
        let address = server.address;
        server.stop().await;
        let before = self.both().await?;
        self.page.did("the git server stopped; evenkeel sync");
        self.sync(code::FAILED).await?;
        self.nothing_moved(&before).await?;
        self.page.did("evenkeel rollback");
        let answer = self.device.evenkeel(&["rollback"]).await?;
        self.ended("rollback", &answer, code::DONE);
        self.greets(&SECOND);
        self.healthy(&GREETER).await?;
        self.at(previous, "Suspended").await?;
        let _server = GitServer::start(&self.fleet.served, address)
            .await
            .context("cannot start the git server again")?;
        self.page
            .did("the git server started again; evenkeel sync: held at what was chosen");
        self.sync(code::DONE).await?;
        self.greets(&SECOND);
        self.page.did("evenkeel resume; evenkeel sync");
        let answer = self.device.evenkeel(&["resume"]).await?;
        self.ended("resume", &answer, code::DONE);
        self.sync(code::DONE).await?;
        self.greets(&FIXED);
        self.healthy(&GREETER).await?;
        self.at(newest, "Ready").await
    }

    // What is looked at.

    /// One pass; its exit code.
    async fn sync(&mut self, wanted: u8) -> Result<()> {
        let answer = self.device.evenkeel(&["sync"]).await?;
        self.ended("sync", &answer, wanted);
        Ok(())
    }

    /// A command's exit code and what it says of itself; all of its talk where the code is not the one wanted.
    fn ended(&mut self, verb: &str, answer: &Answer, wanted: u8) {
        // An error stands on stderr behind the program's name, perhaps among log lines; an answer is all of stdout.
        let said = answer
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("evenkeel: "))
            .or_else(|| answer.stdout.lines().next())
            .unwrap_or_default();
        if answer.code == wanted {
            self.page.seen(
                Good::Yes,
                format_args!("{verb} ends with {wanted}: {}", cut(said.trim())),
            );
            return;
        }
        self.page.seen(
            Good::No,
            format_args!(
                "{verb} ends with {} (it should be: {wanted}); it says:",
                answer.code
            ),
        );
        for line in answer.stdout.lines().chain(answer.stderr.lines()) {
            self.page.line(format_args!("         | {line}"));
        }
    }

    /// The greeter's file holds exactly what the release renders to.
    fn greets(&mut self, release: &Release) {
        let seen = self.device.read(GREETER_CONF);
        let wanted = rendered(release, &self.device.id);
        if seen == wanted {
            // The whole file was compared; its last line tells the story.
            let line = seen.lines().last().unwrap_or_default();
            self.page
                .seen(Good::Yes, format_args!("{GREETER_CONF}: {line}"));
        } else {
            self.page.seen(
                Good::No,
                format_args!("{GREETER_CONF}: {seen:?} (it should be: {wanted:?})"),
            );
        }
    }

    /// The device is at this commit, and this condition holds.
    async fn at(&mut self, commit: &str, condition: &str) -> Result<()> {
        let status = self.device.status().await?;
        self.page.same(
            "status: applied",
            short(&status.text("/revision/applied")),
            short(commit),
        );
        let holds = status.condition(condition);
        self.page.seen(
            holds
                .as_ref()
                .is_some_and(|(status, _)| status == "True")
                .into(),
            match &holds {
                Some((status, reason)) => format!("status: {condition} is {status} ({reason})"),
                None => format!("status: no {condition} in {}", status.conditions()),
            },
        );
        Ok(())
    }

    /// The tip is not verified, for this reason.
    async fn unverified(&mut self, reason: &str) -> Result<()> {
        let status = self.device.status().await?;
        match status.condition("Verified") {
            Some((status, why)) if status == "False" && why == reason => self
                .page
                .seen(Good::Yes, format_args!("status: Verified is False ({why})")),
            Some(_) | None => self.page.seen(
                Good::No,
                format_args!(
                    "status: Verified should be False ({reason}): {}",
                    status.conditions()
                ),
            ),
        }
        Ok(())
    }

    /// The service's container runs (asked from the engine) and answers its health check (run inside it, as the
    /// engine would). Nothing to ask in the file half.
    async fn healthy(&mut self, app: &App) -> Result<()> {
        let Some(engine) = self.engine else {
            return Ok(());
        };
        let begun = Instant::now();
        let (good, text) = loop {
            let seen = match self.container(app).await? {
                Some(one) if one.state == "running" => {
                    let good = engine.exec(&one.id, &probe()).await? == Some(0);
                    let answer = if good { "healthy" } else { "not healthy" };
                    (
                        good,
                        format!("container {}, running, {answer}", one.short()),
                    )
                }
                Some(one) => (false, format!("container {}, {}", one.short(), one.state)),
                None => (false, "no container".to_owned()),
            };
            // A container that was started a moment ago may not listen yet.
            if seen.0 || begun.elapsed() > START {
                break seen;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        self.page.seen(
            good.into(),
            format_args!("{}/{}: {text}", app.app, app.service),
        );
        Ok(())
    }

    async fn container_of(&self, status: &Status, app: &App) -> Result<Option<Container>> {
        match (
            self.engine,
            status.service(app.app, app.service, "container"),
        ) {
            (Some(engine), Some(name)) => engine.inspect(&name).await,
            (Some(_) | None, _) => Ok(None),
        }
    }

    async fn container(&self, app: &App) -> Result<Option<Container>> {
        if self.engine.is_none() {
            return Ok(None);
        }
        let status = self.device.status().await?;
        self.container_of(&status, app).await
    }

    async fn name(&self, app: &App) -> Result<String> {
        let status = self.device.status().await?;
        status
            .service(app.app, app.service, "container")
            .with_context(|| format!("status names no container for {}/{}", app.app, app.service))
    }

    async fn stand(&self, app: &App) -> Result<Stand> {
        let path = self.device.path(app.file);
        let file = std::fs::metadata(&path)
            .with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Stand {
            file: (
                self.device.read(app.file),
                file.ino(),
                file.mtime(),
                file.mtime_nsec(),
            ),
            container: self.container(app).await?,
        })
    }

    async fn both(&self) -> Result<(Stand, Stand)> {
        Ok((self.stand(&GREETER).await?, self.stand(&TICKER).await?))
    }

    async fn unmoved(&mut self, what: &str, before: &Stand, app: &App) -> Result<()> {
        let now = self.stand(app).await?;
        let kept = match &now.container {
            Some(one) => format!("same file, same container {}, same start", one.short()),
            None => "same file".to_owned(),
        };
        if now == *before {
            self.page.seen(Good::Yes, format_args!("{what}: {kept}"));
        } else {
            self.page.seen(
                Good::No,
                format_args!("{what} was touched: {before:?} became {now:?}"),
            );
        }
        Ok(())
    }

    async fn nothing_moved(&mut self, before: &(Stand, Stand)) -> Result<()> {
        let now = self.both().await?;
        if now == *before {
            let what = if self.engine.is_some() {
                "files and containers are the same as before"
            } else {
                "files are the same as before"
            };
            self.page.seen(Good::Yes, what);
        } else {
            self.page.seen(
                Good::No,
                format_args!("something moved: {before:?} became {now:?}"),
            );
        }
        Ok(())
    }
}

/// A long answer for people.
fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 3).chain("...".chars()).collect()
}

/// A commit for people.
fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
