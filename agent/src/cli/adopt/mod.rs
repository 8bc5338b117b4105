//! `evenkeel adopt`: what stands on this device already, the app.toml that would take it over, and the taking over.
//!
//! Showing and writing touch nothing on the device. `--take` writes into the device's memory that a container is ours; the
//! container itself is left alone: its labels cannot change without making it anew. It is kept as it is for as long as it is
//! as declared; a container that is not named here stays a stranger's.

mod document;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use evenkeel_schema::agent_config::AgentConfig;
use evenkeel_schema::name::DeviceId;
use serde_json::{Value, json};

use self::document::{App, TakenFile, apps_of};
use super::control::{Line, Request};
use super::device::{self, Failure};
use super::{ConfigArgs, answer, code, fail, here};
use crate::adapter::durable;
use crate::adapter::engine::{BollardEngine, Stranger};
use crate::domain::observed::RunState;
use crate::domain::resource::ServiceId;
use crate::domain::text::chain;

/// A configuration file is smaller; what is larger belongs into an image.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Show what stands on this device already, and write the app.toml that takes it over without restarting it.
///
/// Names are Compose projects or containers; without a name, all are shown. The written app keeps networks and volumes as
/// external ones, so that their data stays. Then: commit and sign it, and `evenkeel adopt --take NAME...` on the device.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Compose projects or containers; with --take also CONTAINER=APP/SERVICE.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// A file of the device that the app shall bring.
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// The app that the files belong to, where that is not the only one.
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    /// Write apps/APP/ into this folder: a fleet repository, or a new folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Take the named containers over: they are this device's own from now on, and run on as they are.
    #[arg(long, requires = "names", conflicts_with_all = ["file", "app", "out"])]
    take: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it; the exit code: 0 done, 1 the engine does not answer, 2 wrong usage.
#[must_use]
pub fn run(args: &Args) -> u8 {
    crate::telemetry::install(crate::telemetry::Format::Text);
    match adopt(args) {
        Ok(()) => code::DONE,
        Err(failure) => failure.tell(),
    }
}

fn adopt(args: &Args) -> Result<(), Failure> {
    let (config, device) = device::identified(&args.config)?;
    let engine = BollardEngine::connect(&config.engine.socket, &device, &config.root);
    let runtime =
        super::runtime().map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let strangers = match runtime.block_on(engine.strangers()) {
        Ok(strangers) => strangers,
        // Files need no engine.
        Err(error) if !args.file.is_empty() && args.names.is_empty() => {
            fail(0, &format!("note: {}", chain(&error)));
            Vec::new()
        }
        Err(error) => return Err(Failure::failed(chain(&error))),
    };
    if args.take {
        return take(args, &strangers);
    }
    let mut apps = apps_of(&chosen(&strangers, &args.names)?);
    add_files(args, &config, &mut apps)?;
    for app in &mut apps {
        app.write(&device);
    }
    let written = match &args.out {
        Some(dir) => write(dir, &apps)?,
        None => Vec::new(),
    };
    if args.json {
        answer(&format!("{:#}", as_json(&device, &apps, &written)));
    } else {
        answer(&for_people(&apps, &written));
    }
    Ok(())
}

/// The containers that these names mean: all of them where there is none.
fn chosen(strangers: &[Stranger], names: &[String]) -> Result<Vec<Stranger>, Failure> {
    if names.is_empty() {
        return Ok(strangers.to_vec());
    }
    let means = |stranger: &Stranger, name: &str| {
        stranger.observed.name == name
            || stranger
                .compose
                .as_ref()
                .is_some_and(|(project, _)| project == name)
    };
    for name in names {
        if !strangers.iter().any(|stranger| means(stranger, name)) {
            return Err(Failure::usage(format!(
                "there is no Compose project and no container `{}` here that is not ours already\nhint: `evenkeel adopt` shows \
                 what there is",
                name.escape_debug()
            )));
        }
    }
    Ok(strangers
        .iter()
        .filter(|stranger| names.iter().any(|name| means(stranger, name)))
        .cloned()
        .collect())
}

fn add_files(args: &Args, config: &AgentConfig, apps: &mut Vec<App>) -> Result<(), Failure> {
    if args.file.is_empty() {
        return Ok(());
    }
    let at = match (&args.app, apps.len()) {
        (None, 1) => 0,
        (None, _) => {
            return Err(Failure::usage(
                "which app do the files belong to? Say so: --app APP (or name one project or container)",
            ));
        }
        (Some(app), _) => {
            let name = app
                .parse()
                .map_err(|error| Failure::usage(format!("--app: {error}")))?;
            match apps.iter().position(|app| app.name == name) {
                Some(at) => at,
                None => {
                    // Only files were asked for, unless containers were named.
                    if args.names.is_empty() {
                        apps.clear();
                    }
                    apps.push(App::empty(name, None));
                    apps.len() - 1
                }
            }
        }
    };
    for path in &args.file {
        apps[at].files.push(file(config, path)?);
    }
    Ok(())
}

fn file(config: &AgentConfig, path: &Path) -> Result<TakenFile, Failure> {
    let no = |why: &str| Failure::usage(format!("--file {}: {why}", path.display()));
    let declared = path
        .to_str()
        .filter(|text| text.starts_with('/'))
        .ok_or_else(|| no("name it by its whole path on the device"))?;
    let real = config.root.join(declared.trim_start_matches('/'));
    let cannot = |error: std::io::Error| no(&format!("it cannot be read: {error}"));
    let meta = std::fs::symlink_metadata(&real).map_err(cannot)?;
    if !meta.is_file() {
        return Err(no("it is no regular file"));
    }
    if meta.len() > LARGEST_FILE {
        return Err(no(&format!("it is larger than {LARGEST_FILE} bytes")));
    }
    Ok(TakenFile {
        path: declared.to_owned(),
        mode: meta.mode() & 0o7777,
        owner: name_of("/etc/passwd", meta.uid()),
        group: name_of("/etc/group", meta.gid()),
        content: std::fs::read(&real).map_err(cannot)?,
    })
}

/// A user's or a group's name, or its number where it has none.
fn name_of(table: &str, number: u32) -> String {
    let wanted = number.to_string();
    std::fs::read_to_string(table)
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            let mut columns = line.split(':');
            let name = columns.next()?;
            (columns.nth(1)? == wanted).then(|| name.to_owned())
        })
        .unwrap_or(wanted)
}

/// Writes the apps' folders; overwrites nothing.
fn write(dir: &Path, apps: &[App]) -> Result<Vec<PathBuf>, Failure> {
    for app in apps {
        let folder = dir.join("apps").join(app.name.as_str());
        if std::fs::symlink_metadata(&folder).is_ok() {
            return Err(Failure::usage(format!(
                "{} is there already: nothing was written\nhint: name another folder with --out, and compare",
                folder.display()
            )));
        }
    }
    let mut written = Vec::new();
    for app in apps {
        for (path, bytes) in app.folder() {
            let file = dir.join("apps").join(app.name.as_str()).join(path);
            let cannot = |error: std::io::Error| {
                Failure::failed(format!("cannot write {}: {error}", file.display()))
            };
            let (Some(folder), Some(name)) = (
                file.parent(),
                file.file_name().and_then(std::ffi::OsStr::to_str),
            ) else {
                continue;
            };
            std::fs::create_dir_all(folder).map_err(cannot)?;
            durable::write(folder, name, &bytes, 0o644).map_err(cannot)?;
            written.push(file);
        }
    }
    Ok(written)
}

/// Tells the device that these containers are its own.
fn take(args: &Args, strangers: &[Stranger]) -> Result<(), Failure> {
    let mut wanted: BTreeMap<String, (String, ServiceId)> = BTreeMap::new();
    for name in &args.names {
        match name.split_once('=') {
            Some((container, service)) => {
                let id = service_id(service)?;
                let found = strangers
                    .iter()
                    .find(|stranger| stranger.observed.name == container);
                let found = found.ok_or_else(|| {
                    Failure::usage(format!(
                        "there is no container `{}` here that is not ours already",
                        container.escape_debug()
                    ))
                })?;
                let name = found.observed.name.clone();
                wanted.insert(found.observed.engine_id.clone(), (name, id));
            }
            None => {
                for app in apps_of(&chosen(strangers, std::slice::from_ref(name))?) {
                    for member in app.members {
                        let observed = &member.stranger.observed;
                        let id = ServiceId {
                            app: app.name.clone(),
                            service: member.service,
                        };
                        let name = observed.name.clone();
                        wanted.insert(observed.engine_id.clone(), (name, id));
                    }
                }
            }
        }
    }
    let mut taken = Vec::new();
    for (engine_id, (name, id)) in wanted {
        let request = Request::Adopt {
            engine_id: engine_id.clone(),
            service: id.clone(),
        };
        match here::ask_or_do_here(&args.config, &request)? {
            Line::Answer { code: 0, .. } => {}
            Line::Answer { text, .. } | Line::Event(text) => return Err(Failure::failed(text)),
        }
        taken.push((name, engine_id, id));
    }
    if args.json {
        let taken: Vec<Value> = taken
            .iter()
            .map(|(name, engine_id, id)| {
                json!({ "container": name, "id": engine_id, "app": id.app, "service": id.service })
            })
            .collect();
        answer(&format!("{:#}", json!({ "taken": taken })));
        return Ok(());
    }
    let mut text = String::new();
    for (name, _, id) in taken {
        text.push_str(&format!(
            "{name} is {id} from now on, and runs on as it is\n"
        ));
    }
    text.push_str(
        "The next pass keeps what is as declared. Where one differs it holds, and says how: `evenkeel plan`.\n",
    );
    answer(&text);
    Ok(())
}

fn service_id(text: &str) -> Result<ServiceId, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!(
            "`{}`: {why}: write CONTAINER=APP/SERVICE",
            text.escape_debug()
        ))
    };
    let (app, service) = text
        .split_once('/')
        .ok_or_else(|| wrong("it names no service".to_owned()))?;
    Ok(ServiceId {
        app: app.parse().map_err(|error| wrong(format!("{error}")))?,
        service: service.parse().map_err(|error| wrong(format!("{error}")))?,
    })
}

fn state_of(state: &RunState) -> String {
    match state {
        RunState::Created => "created".to_owned(),
        RunState::Running => "running".to_owned(),
        RunState::Paused => "paused".to_owned(),
        RunState::Restarting => "restarting".to_owned(),
        RunState::Exited(code) => format!("exited ({code})"),
        RunState::Dead => "dead".to_owned(),
    }
}

fn as_json(device: &DeviceId, apps: &[App], written: &[PathBuf]) -> Value {
    let apps: Vec<Value> = apps
        .iter()
        .map(|app| {
            let containers: Vec<Value> = app
                .members
                .iter()
                .map(|member| {
                    let observed = &member.stranger.observed;
                    json!({
                        "name": observed.name,
                        "id": observed.engine_id,
                        "service": member.service,
                        "state": state_of(&observed.state),
                        "image": member.stranger.service.get("image"),
                        "differs": member.differs,
                        "notes": member.stranger.notes,
                    })
                })
                .collect();
            let files: Vec<Value> = app
                .files
                .iter()
                .map(|file| {
                    json!({ "path": file.path, "mode": format!("{:04o}", file.mode), "owner": file.owner, "group": file.group })
                })
                .collect();
            json!({
                "name": app.name,
                "project": app.project,
                "containers": containers,
                "files": files,
                "app_toml": app.text,
                "problem": app.problem,
            })
        })
        .collect();
    json!({ "device": device.as_str(), "apps": apps, "written": written })
}

fn for_people(apps: &[App], written: &[PathBuf]) -> String {
    if apps.is_empty() {
        return "every container here is this device's own: there is nothing to take over\n"
            .to_owned();
    }
    let mut text = String::new();
    for app in apps {
        match &app.project {
            Some(project) => {
                text.push_str(&format!("Compose project {project}: app {}\n", app.name))
            }
            None => text.push_str(&format!("app {}\n", app.name)),
        }
        for member in &app.members {
            let observed = &member.stranger.observed;
            let image = member.stranger.service.get("image").and_then(Value::as_str);
            text.push_str(&format!(
                "  container {}  {}  service {}  {}\n",
                observed.name,
                state_of(&observed.state),
                member.service,
                image.unwrap_or_default()
            ));
            for line in &member.differs {
                text.push_str(&format!("    differs: {line}\n"));
            }
            for line in &member.stranger.notes {
                text.push_str(&format!("    note: {line}\n"));
            }
        }
        for file in &app.files {
            text.push_str(&format!(
                "  file {}  {:04o} {}:{}\n",
                file.path, file.mode, file.owner, file.group
            ));
        }
        if let Some(problem) = &app.problem {
            text.push_str(&format!("  not taken as it is:\n{problem}\n"));
        }
        if written.is_empty() {
            text.push_str(&format!("  apps/{}/app.toml would be:\n", app.name));
            for line in app.text.lines() {
                text.push_str(&format!("    | {line}\n"));
            }
        }
    }
    for file in written {
        text.push_str(&format!("wrote {}\n", file.display()));
    }
    text.push_str(
        "Look for secrets in environments before you commit. Nothing on the device was changed.\n",
    );
    text
}
