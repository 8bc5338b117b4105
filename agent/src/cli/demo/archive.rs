//! The content of the demo's image as a tar archive: our own binary, and what it needs of the C library.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};

/// How much of a file is in memory at once.
const CHUNK: usize = 256 << 10;
/// tar's unit.
const BLOCK: u64 = 512;

/// Files by their path in the image, and where they are here.
#[derive(Debug)]
pub(super) struct Archive {
    entries: BTreeMap<String, PathBuf>,
}

impl Archive {
    /// Our program, and where it is dynamically linked the loader and the shared objects that it maps right now.
    pub(super) fn of_ourselves() -> io::Result<Self> {
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
    pub(super) fn stream(
        self,
    ) -> impl futures_util::Stream<Item = io::Result<Vec<u8>>> + Send + 'static {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is wrong")]
mod tests {
    use std::process::Command;

    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn the_real_tar_unpacks_this_program_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let chunks: Vec<Vec<u8>> = Archive::of_ourselves()
            .unwrap()
            .stream()
            .try_collect()
            .await
            .unwrap();
        let file = dir.path().join("image.tar");
        std::fs::write(&file, chunks.concat()).unwrap();
        let unpacked = Command::new("tar")
            .arg("-xf")
            .arg(&file)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(unpacked.status.success(), "{unpacked:?}");
        assert_eq!(unpacked.stderr, b"");
        let ours = std::fs::read("/proc/self/exe").unwrap();
        assert!(std::fs::read(dir.path().join("evenkeel")).unwrap() == ours);
    }

    #[test]
    fn the_loader_of_a_dynamic_program_is_found_where_the_program_names_it() {
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        let listed = Command::new("ldd").arg(&shell).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        match interpreter(&shell).unwrap() {
            Some(loader) => {
                assert!(loader.exists());
                assert!(listed.contains(&loader.display().to_string()), "{listed}");
            }
            None => assert!(!listed.contains("=>"), "{listed}"),
        }
    }
}
