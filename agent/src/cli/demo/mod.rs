//! `evenkeel demo`: the whole story on one machine. A signed fleet repository by the real `git` and `ssh-keygen`, served
//! over HTTP on loopback; an image made of our own binary; a device in a temporary directory, run by our own binary; and
//! after each step a look at files, containers, exit codes and `status --json`.
//!
//! Touches nothing outside its temporary directory but the engine, and there only what carries its own image or device id.
#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "its files live as long as the demo: nothing to keep through a power cut"
    )
)]

mod app;
mod archive;
mod checks;
mod device;
mod fleet;
mod git_server;
mod image;
mod story;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::checks::{Page, complain};
use self::device::Device;
use self::fleet::{Apps, Fleet};
use self::git_server::GitServer;
use self::image::DemoEngine;
use self::story::Story;

/// Loopback, any free port.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long the greeter of the file half may take to listen.
const GREETER_START: Duration = Duration::from_secs(5);

/// The whole story on one machine in a minute
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The container engine: `unix:///...`, or `none` for the file half alone. Default: Docker's socket, then Podman's
    #[arg(long, value_name = "SOCKET")]
    engine: Option<String>,
    /// Leave directory, containers and image for a look at them
    #[arg(long)]
    keep: bool,
}

/// What the demo's containers run; for a hidden verb, [`APP_VERB`].
#[derive(Debug, Clone, clap::Args)]
pub struct AppArgs {
    #[command(subcommand)]
    app: app::App,
}

/// The hidden verb by which the demo calls [`app`].
pub const APP_VERB: &str = "demo-app";

/// Runs the demo; the exit code.
#[must_use]
pub fn run(args: &Args) -> u8 {
    on_one_thread(demo(args))
}

/// Runs the demo's own application; the exit code.
#[must_use]
pub fn app(args: &AppArgs) -> u8 {
    on_one_thread(app::run(&args.app))
}

fn on_one_thread(story: impl Future<Output = u8>) -> u8 {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(story),
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            1
        }
    }
}

/// Everything that has to go away again.
#[derive(Debug, Default)]
struct Leftovers {
    dir: Option<PathBuf>,
    image: Option<String>,
}

async fn demo(args: &Args) -> u8 {
    let started = Instant::now();
    let id = format!("demo-{:08x}", fastrand::u32(..));
    let mut page = Page::new();
    let engine = match find_engine(args).await {
        Ok(engine) => engine,
        Err(error) => {
            complain(&format!("{error:#}"));
            return 2;
        }
    };
    let mut leftovers = Leftovers::default();
    let told = tokio::select! {
        told = tell(args, &id, engine.as_ref(), &mut page, &mut leftovers) => told.map(Some),
        () = interrupted() => Ok(None),
    };
    let code = match &told {
        Ok(Some(Told::Whole)) if page.failed() == 0 => 0,
        Ok(Some(Told::Whole)) => 1,
        Ok(Some(Told::Missing(what))) => {
            complain(what);
            2
        }
        Ok(None) => {
            complain("interrupted");
            130
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            1
        }
    };
    clean(args, &id, engine.as_ref(), &page, leftovers).await;
    if page.steps() > 0 {
        let verdict = match (page.failed(), code) {
            (0, 0) => "every step was seen to be as it should".to_owned(),
            (0, _) => "it did not come to its end".to_owned(),
            (failed, _) => format!("{failed} check(s) failed"),
        };
        let seconds = started.elapsed().as_secs_f32();
        page.line(format_args!(
            "\n{} steps in {seconds:.0} s: {verdict}.",
            page.steps()
        ));
    }
    code
}

async fn find_engine(args: &Args) -> Result<Option<DemoEngine>> {
    match args.engine.as_deref() {
        Some("none") => Ok(None),
        Some(socket) => match DemoEngine::connect(socket).await {
            Ok(engine) => Ok(Some(engine)),
            Err(error) => bail!(
                "{error:#}\nhint: leave --engine out to have Docker and Podman looked for, or say --engine none"
            ),
        },
        None => Ok(DemoEngine::find().await),
    }
}

/// Ctrl-C, or the polite end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the signals end us at once, as they would any program.
        (Err(_), _) | (_, Err(_)) => std::future::pending().await,
    }
}

/// How far the story came.
enum Told {
    /// To its end, or to the step that failed.
    Whole,
    /// Not at all: the machine lacks something.
    Missing(String),
}

async fn tell(
    args: &Args,
    id: &str,
    engine: Option<&DemoEngine>,
    page: &mut Page,
    leftovers: &mut Leftovers,
) -> Result<Told> {
    let dir = temporary(id)?;
    leftovers.dir = Some(dir.clone());
    if let Some(missing) = fleet::missing_tools(&dir).await {
        return Ok(Told::Missing(missing));
    }
    page.line(format_args!(
        "evenkeel demo: device {id} in {}, with {}",
        dir.display(),
        engine.map_or("no container engine", |engine| &engine.name),
    ));
    // Its process ends with this future.
    let mut greeter = None;
    let apps = match engine {
        Some(engine) => {
            // By its name until its id is known: an interrupted import is cleaned up too.
            leftovers.image = Some(image::name(id));
            let image = engine.import(id).await?;
            page.line(format_args!(
                "The image {} is made of this very program; no registry is asked.",
                image.get(..19).unwrap_or(&image)
            ));
            leftovers.image = Some(image.clone());
            Apps::Containers { image }
        }
        None => {
            page.line(format_args!(
                "{} This is the file half: files, and a program outside containers whose health\n\
                 the gate asks for.",
                match args.engine {
                    Some(_) => "No container engine, as asked.",
                    None =>
                        "No container engine answers on this machine (for the whole story: apt-get install docker.io).",
                }
            ));
            let address = free_address().await?;
            greeter = Some(address);
            Apps::Files { greeter: address }
        }
    };
    let fleet = Fleet::create(&dir, apps).await?;
    let server = GitServer::start(&fleet.served, ANY_PORT)
        .await
        .context("cannot listen on 127.0.0.1")?;
    let device = Device::create(
        &dir,
        id,
        server.address,
        &fleet.allowed_signers,
        engine.map(|engine| engine.socket.as_str()),
    )?;
    let _greeter = match greeter {
        Some(address) => Some(start_greeter(address, &device).await?),
        None => None,
    };
    Story {
        page,
        fleet: &fleet,
        device: &device,
        engine,
    }
    .tell(server)
    .await?;
    Ok(Told::Whole)
}

/// A directory that nobody else can read.
fn temporary(id: &str) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("evenkeel-{id}"));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    // Paths of mounts and of the configuration are written without links in them.
    Ok(dir.canonicalize()?)
}

async fn free_address() -> Result<SocketAddr> {
    Ok(tokio::net::TcpListener::bind(ANY_PORT)
        .await?
        .local_addr()?)
}

/// The program whose configuration the device keeps, where there is no engine to run it.
async fn start_greeter(address: SocketAddr, device: &Device) -> Result<tokio::process::Child> {
    let child = device::ourselves()
        .args([APP_VERB, "serve", "--listen", &address.to_string()])
        .arg("--config")
        .arg(device.path(fleet::GREETER_CONF))
        .stdin(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        if begun.elapsed() > GREETER_START {
            bail!("the demo's own program does not listen at {address}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(child)
}

/// Takes everything away again, or says what stays.
async fn clean(
    args: &Args,
    id: &str,
    engine: Option<&DemoEngine>,
    page: &Page,
    leftovers: Leftovers,
) {
    let Some(dir) = leftovers.dir else { return };
    if args.keep {
        page.line(format_args!(
            "\nKept: {}{}",
            dir.display(),
            leftovers
                .image
                .map(|image| format!(", the image {image} and its containers"))
                .unwrap_or_default()
        ));
        return;
    }
    if let (Some(engine), Some(image)) = (engine, leftovers.image.as_deref()) {
        let (removed, failed) = engine.clean(image, id).await;
        let count = |what: &str| removed.iter().filter(|one| *one == what).count();
        page.line(format_args!(
            "\nCleaned up: {} container(s), {} network(s), {} image, {}",
            count("container"),
            count("network"),
            count("image"),
            dir.display()
        ));
        for failure in failed {
            complain(&format!("could not remove {failure}"));
        }
    } else if page.steps() > 0 {
        page.line(format_args!("\nCleaned up: {}", dir.display()));
    }
    remove_dir(&dir);
}

fn remove_dir(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        complain(&format!("could not remove {}: {error}", dir.display()));
    }
}
