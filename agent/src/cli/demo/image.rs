//! The demo's image: our own binary, and what it needs of the C library, imported into the engine with no registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Long enough for a slow disk to take a debug build.
const ENGINE_TIMEOUT_SECONDS: u64 = 120;
/// How much of a file is in memory at once.
const CHUNK: usize = 256 << 10;
/// tar's unit.
const BLOCK: u64 = 512;

/// The name of the image, before its tag.
const REPOSITORY: &str = "evenkeel-demo";

/// The name under which [`DemoEngine::import`] leaves its image.
pub(super) fn name(tag: &str) -> String {
    format!("{REPOSITORY}:{tag}")
}

/// The engine, for what the demo itself asks of it.
#[derive(Debug, Clone)]
pub(super) struct DemoEngine {
    docker: Docker,
    /// `unix:///...`, for the device's configuration.
    pub(super) socket: String,
    /// `Docker 28.2.2`.
    pub(super) name: String,
}

/// A container as the engine tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    /// The engine's id.
    pub(super) id: String,
    /// `running`, `exited`, ...
    pub(super) state: String,
    /// When it was started.
    pub(super) started: String,
}

impl Container {
    /// The first digits of the id.
    pub(super) fn short(&self) -> &str {
        self.id.get(..10).unwrap_or(&self.id)
    }
}

/// Sockets to try, in the agent's own order.
fn candidates() -> Vec<String> {
    let mut sockets = vec![
        "unix:///var/run/docker.sock".to_owned(),
        "unix:///run/podman/podman.sock".to_owned(),
    ];
    if let Ok(runtime) = std::env::var("XDG_RUNTIME_DIR") {
        sockets.push(format!("unix://{runtime}/podman/podman.sock"));
    }
    sockets
}

impl DemoEngine {
    /// The engine at `socket`.
    ///
    /// # Errors
    /// Nobody answers there.
    pub(super) async fn connect(socket: &str) -> Result<Self> {
        let docker = Docker::connect_with_socket(
            socket,
            ENGINE_TIMEOUT_SECONDS,
            bollard::API_DEFAULT_VERSION,
        )?
        .negotiate_version()
        .await
        .with_context(|| format!("no container engine answers at {socket}"))?;
        let version = docker.version().await?;
        let podman = version
            .components
            .iter()
            .flatten()
            .any(|component| component.name.contains("Podman"));
        let brand = if podman { "Podman" } else { "Docker" };
        Ok(Self {
            docker,
            socket: socket.to_owned(),
            name: format!("{brand} {}", version.version.unwrap_or_default()),
        })
    }

    /// The first engine that answers, Docker's before Podman's.
    pub(super) async fn find() -> Option<Self> {
        for socket in candidates() {
            if let Ok(engine) = Self::connect(&socket).await {
                return Some(engine);
            }
        }
        None
    }

    /// Makes an image of our own binary; its id.
    ///
    /// # Errors
    /// The engine does not take it.
    pub(super) async fn import(&self, tag: &str) -> Result<String> {
        let archive = Archive::of_ourselves().context("cannot read our own program")?;
        let name = name(tag);
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            // With its tag: Podman takes no notice of a separate one.
            .repo(&name)
            .build();
        let body = bollard::body_try_stream(archive.stream().map_ok(Into::into));
        self.docker
            .create_image(Some(options), Some(body), None)
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("the engine does not take the demo's image")?;
        let image = self.docker.inspect_image(&name).await?;
        match image.id {
            // Podman tells the bare digits.
            Some(id) if id.starts_with("sha256:") => Ok(id),
            Some(id) => Ok(format!("sha256:{id}")),
            None => bail!("the engine took the image {name} and tells no id for it"),
        }
    }

    /// One container, by name or id; `None` where there is none.
    ///
    /// # Errors
    /// The engine does not answer.
    pub(super) async fn inspect(&self, name: &str) -> Result<Option<Container>> {
        let seen = match self.docker.inspect_container(name, None).await {
            Ok(seen) => seen,
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state = seen.state.unwrap_or_default();
        Ok(Some(Container {
            id: seen.id.unwrap_or_default(),
            state: state
                .status
                .map(|status| status.to_string())
                .unwrap_or_default(),
            started: state
                .started_at
                .map(|time| time.to_string())
                .unwrap_or_default(),
        }))
    }

    /// Stops a container, as a person would by hand.
    ///
    /// # Errors
    /// The engine does not do it.
    pub(super) async fn stop(&self, name: &str) -> Result<()> {
        Ok(self.docker.stop_container(name, None).await?)
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// The engine does not do it.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        Ok(self.docker.remove_container(name, Some(options)).await?)
    }

    /// Removes everything that the demo left in the engine: containers of its image, then networks and volumes that
    /// carry the device's id as a label, then the image. What was removed, for people; what could not be, as errors.
    pub(super) async fn clean(&self, image: &str, device: &str) -> (Vec<String>, Vec<String>) {
        let mut removed = Vec::new();
        let mut failed = Vec::new();
        let mut note = |what: &str, done: Result<()>| match done {
            Ok(()) => removed.push(what.to_owned()),
            Err(error) => failed.push(format!("{what}: {error:#}")),
        };
        let filters = HashMap::from([("ancestor", vec![image])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        match self.docker.list_containers(Some(options)).await {
            Ok(containers) => {
                for id in containers.into_iter().filter_map(|one| one.id) {
                    note("container", self.remove(&id).await);
                }
            }
            Err(error) => note("containers", Err(error.into())),
        }
        let ours = |labels: Option<HashMap<String, String>>| {
            labels
                .into_iter()
                .flatten()
                .any(|(_, value)| value == device)
        };
        if let Ok(networks) = self.docker.list_networks(None).await {
            for network in networks.into_iter().filter(|one| ours(one.labels.clone())) {
                let name = network.name.unwrap_or_default();
                let done = self.docker.remove_network(&name).await;
                note("network", done.map_err(Into::into));
            }
        }
        let volumes = self
            .docker
            .list_volumes(None::<bollard::query_parameters::ListVolumesOptions>)
            .await;
        for volume in volumes
            .ok()
            .and_then(|list| list.volumes)
            .unwrap_or_default()
        {
            if ours(Some(volume.labels)) {
                let done = self
                    .docker
                    .remove_volume(
                        &volume.name,
                        None::<bollard::query_parameters::RemoveVolumeOptions>,
                    )
                    .await;
                note("volume", done.map_err(Into::into));
            }
        }
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        let done = self.docker.remove_image(image, Some(options), None).await;
        match done {
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => {}
            done => note("image", done.map(|_| ()).map_err(Into::into)),
        }
        (removed, failed)
    }
}

/// Files by their path in the image, and where they are here.
#[derive(Debug)]
struct Archive {
    entries: BTreeMap<String, PathBuf>,
}

impl Archive {
    /// Our program, and where it is dynamically linked the loader and the shared objects that it maps right now.
    fn of_ourselves() -> io::Result<Self> {
        let program = PathBuf::from("/proc/self/exe");
        let mut entries = BTreeMap::from([("evenkeel".to_owned(), program.clone())]);
        let mut add = |path: &Path| {
            entries.insert(
                path.to_string_lossy().trim_start_matches('/').to_owned(),
                path.to_owned(),
            );
        };
        if let Some(loader) = interpreter(&program)? {
            add(&loader);
            for object in mapped_objects()? {
                // The program asks for a library by its soname, which may be a link beside the file that is mapped.
                for name in names_of(&object)? {
                    add(&name);
                }
            }
            let cache = Path::new("/etc/ld.so.cache");
            if cache.exists() {
                add(cache);
            }
        }
        Ok(Self { entries })
    }

    /// The archive as tar (POSIX ustar), in chunks.
    fn stream(self) -> impl futures_util::Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
        let files = stream::iter(self.entries).flat_map(|(name, path)| {
            let opened = std::fs::File::open(&path)
                .and_then(|file| Ok((header(&name, file.metadata()?.len())?, file)));
            match opened {
                Ok((header, file)) => stream::once(async { Ok(header) })
                    .chain(stream::iter(Chunks { file, read: 0 }))
                    .left_stream(),
                Err(error) => stream::once(async { Err(error) }).right_stream(),
            }
        });
        // Two empty blocks end an archive.
        files.chain(stream::once(async { Ok(vec![0; 2 * BLOCK as usize]) }))
    }
}

/// A file's content in chunks, the last one padded to tar's block.
struct Chunks {
    file: std::fs::File,
    read: u64,
}

impl Iterator for Chunks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::io::Read as _;
        let mut chunk = Vec::with_capacity(CHUNK);
        match (&mut self.file).take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(0) => {
                let padding = (BLOCK - self.read % BLOCK) % BLOCK;
                self.read += padding;
                (padding > 0).then(|| Ok(vec![0; padding as usize]))
            }
            Ok(read) => {
                self.read += read as u64;
                Some(Ok(chunk))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// A ustar header of a regular file that everyone may run.
fn header(name: &str, size: u64) -> io::Result<Vec<u8>> {
    if name.len() > 100 {
        return Err(io::Error::other(format!(
            "{name}: a path longer than 100 bytes does not fit into the demo's image"
        )));
    }
    let mut block = vec![0; BLOCK as usize];
    let mut put =
        |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// The shared objects mapped by this process, by their real paths.
fn mapped_objects() -> io::Result<BTreeSet<PathBuf>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    Ok(maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| PathBuf::from(format!("/{path}")))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(".so"))
        })
        .collect())
}

/// The file itself and every link beside it that leads to it.
fn names_of(object: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut names = BTreeSet::from([object.to_owned()]);
    if let Some(folder) = object.parent() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_symlink()
                && std::fs::canonicalize(entry.path()).is_ok_and(|target| target == object)
            {
                names.insert(entry.path());
            }
        }
    }
    Ok(names)
}

/// The loader that an ELF program names (its segment of type PT_INTERP); `None` where it is static.
fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const PT_INTERP: u64 = 3;
    const CLASS_64: u8 = 2;
    let not_elf = || io::Error::new(io::ErrorKind::InvalidData, "not an ELF program");
    let mut file = std::fs::File::open(program)?;
    let mut start = vec![0; 64];
    file.read_exact(&mut start)?;
    if !start.starts_with(b"\x7fELF") {
        return Err(not_elf());
    }
    // It runs here, so its byte order is ours.
    let number = |bytes: &[u8], at: usize, width: usize| {
        let field = bytes.get(at..at + width).ok_or_else(not_elf)?;
        let mut value = 0_u64;
        for index in 0..width {
            let place = if cfg!(target_endian = "little") {
                width - 1 - index
            } else {
                index
            };
            value = value << 8 | u64::from(field[place]);
        }
        Ok::<_, io::Error>(value)
    };
    // Offsets of e_phoff, e_phentsize, p_offset and p_filesz in the two classes of the ELF specification.
    let (word, phoff, phentsize, p_offset, p_filesz) = match start[4] {
        CLASS_64 => (8, 32, 54, 8, 32),
        _ => (4, 28, 42, 4, 16),
    };
    let table = number(&start, phoff, word)?;
    let size = number(&start, phentsize, 2)? as usize;
    let count = number(&start, phentsize + 2, 2)?;
    for index in 0..count {
        file.seek(SeekFrom::Start(table + index * size as u64))?;
        let mut segment = vec![0; size];
        file.read_exact(&mut segment)?;
        if number(&segment, 0, 4)? != PT_INTERP {
            continue;
        }
        file.seek(SeekFrom::Start(number(&segment, p_offset, word)?))?;
        let mut path = Vec::new();
        file.take(number(&segment, p_filesz, word)?)
            .read_to_end(&mut path)?;
        let path = String::from_utf8_lossy(&path);
        return Ok(Some(PathBuf::from(path.trim_end_matches('\0'))));
    }
    Ok(None)
}
