//! The images of a published branch: from registries, by digest, into an image layout beside its packs.
//!
//! What the branch's devices need is what each of them resolves to. An index is kept whole, so that digests stay what they
//! are; of its images those for the platforms that were asked for are here. Every blob is compared with its digest; what is
//! here already is compared, and not fetched again.
//!
//! Left out, and told: an image that is named by its id, which no registry gives, and one by a tag, which says nothing of its
//! content.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Error};
use evenkeel_schema::image::ImageRef;
use evenkeel_schema::name::DeviceId;

use crate::adapter::git_local::LocalRepository;
use crate::adapter::oci_layout::{Entry, Layout};
use crate::adapter::part;
use crate::adapter::registry::{Registries, RegistryError, Repository};
use crate::cli::code;
use crate::cli::everyone;
use crate::cli::git::{Stop, say, usage};
use crate::domain::desired::Resolved;
use crate::domain::oci::{
    Descriptor, Digest, Document, INDEX, LONGEST_CONFIG, LONGEST_DOCUMENT, OciError, Platform,
};
use crate::domain::revision::CommitId;
use crate::domain::storage::Storage;
use crate::domain::text::size;
use crate::resolve::fleet_wide::FleetWide;

/// A file system of the sticks that people have (FAT32) takes no larger file.
const FAT_MOST: u64 = u32::MAX as u64;

/// Which images.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Choice {
    /// For this platform alone, such as linux/arm64 or linux/arm/v7; once for each. By default all that an image has.
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub(in crate::cli) platforms: Vec<Platform>,
    /// Take from this OCI image layout what it has (`skopeo copy docker://NAME oci:DIR`, an earlier bundle), and only the rest
    /// from registries.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) layout: Option<PathBuf>,
}

/// What became of the images.
#[derive(Debug, Default)]
pub(in crate::cli) struct Gathered {
    pub(in crate::cli) images: Vec<String>,
    /// What is left out.
    pub(in crate::cli) missing: Vec<String>,
    /// Blobs and bytes that were written.
    pub(in crate::cli) blobs: usize,
    pub(in crate::cli) bytes: u64,
}

impl Gathered {
    pub(in crate::cli) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "carried": self.images,
            "missing": self.missing,
            "written": { "blobs": self.blobs, "bytes": self.bytes },
        })
    }

    pub(in crate::cli) fn told(&self) -> String {
        let missing = match self.missing.len() {
            0 => String::new(),
            count => format!("; {count} left out"),
        };
        format!(
            "images: {} ({} new blobs, {}){missing}\n",
            self.images.len(),
            self.blobs,
            size(self.bytes)
        )
    }
}

/// The images that a commit has these devices run; all of them where none is named.
pub(in crate::cli) fn of_commit(
    repo: &Path,
    tip: &str,
    devices: &[DeviceId],
) -> Result<BTreeSet<ImageRef>, Stop> {
    let repository = LocalRepository::open(repo).map_err(Error::new)?;
    let commit: CommitId = tip
        .parse()
        .map_err(|_| usage(format!("`{tip}` is not a commit")))?;
    let tree = repository.documents(&commit).map_err(Error::new)?;
    let refused = |problems: evenkeel_schema::diagnostic::Diagnostics| Stop {
        code: code::REFUSED,
        error: Error::msg(format!(
            "{problems}\n{} does not resolve, so which images it needs cannot be told",
            commit.short()
        )),
    };
    let mut images = BTreeSet::new();
    if devices.is_empty() {
        let mut lines = BTreeSet::new();
        let show = |resolved: &Resolved| {
            let names: Vec<String> = images_of(resolved)
                .map(|image| format!("{image}\n"))
                .collect();
            names.concat()
        };
        everyone::each(&tree, show, |text| {
            lines.extend(text.lines().map(str::to_owned));
        })
        .map_err(refused)?;
        for line in lines {
            let image = line.parse::<ImageRef>();
            images.insert(image.map_err(|error| Stop::from(Error::new(error)))?);
        }
        return Ok(images);
    }
    let fleet = FleetWide::read(&tree).map_err(refused)?;
    for device in devices {
        if !fleet.declared().any(|id| id == device) {
            return Err(usage(format!(
                "there is no devices/{device}.toml in {}\nhint: without --device the images of all devices and groups are taken",
                commit.short()
            )));
        }
        let resolved = fleet.resolve(device, None).map_err(refused)?;
        images.extend(images_of(&resolved).cloned());
    }
    Ok(images)
}

fn images_of(resolved: &Resolved) -> impl Iterator<Item = &ImageRef> {
    let apps = resolved.state.apps.values();
    apps.flat_map(|app| app.services.values().map(|service| &service.image))
}

/// Where images come from, and go to.
pub(in crate::cli) struct Gatherer<'c> {
    out: Layout,
    branch: String,
    choice: &'c Choice,
    from: Option<Layout>,
    registries: Option<Registries>,
    done: Gathered,
    entries: Vec<Entry>,
}

/// What one image consists of.
struct Parts {
    /// Documents, each after what it names.
    documents: Vec<(Descriptor, Vec<u8>)>,
    blobs: Vec<Descriptor>,
}

impl<'c> Gatherer<'c> {
    pub(in crate::cli) fn open(out: &Path, branch: &str, choice: &'c Choice) -> Result<Self, Stop> {
        let from = match &choice.layout {
            Some(dir) if dir.join(INDEX).is_file() => Some(Layout::at(dir)),
            Some(dir) => {
                return Err(usage(format!(
                    "--layout: {} is no OCI image layout: it has no {INDEX}",
                    dir.display()
                )));
            }
            None => None,
        };
        Ok(Self {
            out: Layout::open(out).map_err(|error| unwritten(out, error))?,
            branch: branch.to_owned(),
            choice,
            from,
            registries: None,
            done: Gathered::default(),
            entries: Vec::new(),
        })
    }

    /// Brings these images in. What the index names of before stays until [`Gatherer::finish`].
    pub(in crate::cli) fn gather(&mut self, images: &BTreeSet<ImageRef>) -> Result<(), Stop> {
        for image in images {
            let Some(digest) = image.digest() else {
                say(&format!(
                    "note: the image {image} is left out: {}",
                    if image.is_id() {
                        "it is named by its id, which no registry gives; load it by hand"
                    } else {
                        "it is named by a tag, which says nothing of its content"
                    }
                ));
                self.done.missing.push(image.to_string());
                continue;
            };
            let digest: Digest = digest
                .parse()
                .map_err(|error| Stop::from(Error::new(error)))?;
            let repository = Repository::of(image);
            let of = self.one(&repository, &digest).map_err(|mut stop| {
                stop.error = stop.error.context(format!("cannot take the image {image}"));
                stop
            })?;
            self.done.images.push(image.to_string());
            self.entries.push(Entry {
                image: of,
                name: image.to_string(),
                branches: BTreeMap::from([(self.branch.clone(), self.choice.platforms.clone())]),
            });
        }
        // Both what the head shows and what it will show.
        let mut both = self.out.entries();
        merge(&mut both, &self.entries);
        self.show(&both)
    }

    /// The head shows the branch's new tip: what only the one before needed goes, unless it is younger than `keep`.
    pub(in crate::cli) fn finish(self, keep: Duration) -> Result<Gathered, Stop> {
        let mut left = self.out.entries();
        for entry in &mut left {
            entry.branches.remove(&self.branch);
        }
        merge(&mut left, &self.entries);
        left.retain(|entry| !entry.branches.is_empty());
        self.show(&left)?;
        self.out
            .sweep(keep)
            .map_err(|error| Stop::from(Error::new(error).context("cannot sweep old images")))?;
        Ok(self.done)
    }

    fn show(&self, entries: &[Entry]) -> Result<(), Stop> {
        self.out.show(entries).map_err(|error| {
            Stop::from(Error::new(error).context("cannot write the list of the images"))
        })
    }

    fn one(&mut self, repository: &Repository, digest: &Digest) -> Result<Descriptor, Stop> {
        let parts = self.parts(repository, digest)?;
        let missing: Vec<&Descriptor> = parts
            .blobs
            .iter()
            .filter(|blob| !self.out.has(blob))
            .collect();
        let bytes: u64 = missing
            .iter()
            .fold(0, |sum, blob| sum.saturating_add(blob.size));
        if !missing.is_empty() {
            let begun: u64 = missing
                .iter()
                .filter_map(|blob| std::fs::metadata(self.out.unfinished(&blob.digest)).ok())
                .map(|data| data.len())
                .sum();
            self.out
                .look_for_room(bytes.saturating_sub(begun).saturating_add(part::SPARE))
                .map_err(|error| Stop::from(Error::new(error)))?;
            say(&format!(
                "{digest}: {} blobs, {}",
                missing.len(),
                size(bytes)
            ));
        }
        for blob in &missing {
            self.blob(repository, blob)?;
        }
        for (descriptor, bytes) in &parts.documents {
            if self.out.document(&descriptor.digest).is_none() {
                self.out
                    .put(&descriptor.digest, bytes)
                    .map_err(|error| unwritten(&self.out.blob(&descriptor.digest), error))?;
                self.done.blobs += 1;
                self.done.bytes += descriptor.size;
            }
        }
        let top = parts
            .documents
            .last()
            .map(|(descriptor, _)| descriptor.clone());
        top.ok_or_else(|| Stop::from(Error::msg("it consists of nothing")))
    }

    /// What an image consists of, as far as it is asked for.
    fn parts(&mut self, repository: &Repository, digest: &Digest) -> Result<Parts, Stop> {
        let bytes = self.document(repository, digest)?;
        let mut parts = Parts {
            documents: Vec::new(),
            blobs: Vec::new(),
        };
        match parse(digest, &bytes)? {
            Document::Manifest(manifest) => parts.blobs = blobs_of(manifest)?,
            Document::Index(index) => {
                let chosen = index
                    .for_platforms(&self.choice.platforms)
                    .map_err(|error| usage(format!("--platform: {digest}: {error}")))?;
                for one in chosen {
                    let inner = self.document(repository, &one.digest)?;
                    match parse(&one.digest, &inner)? {
                        Document::Manifest(manifest) => parts.blobs.extend(blobs_of(manifest)?),
                        Document::Index(_) => {
                            return Err(Stop::from(Error::msg(format!(
                                "{}: an index within an index, which no engine takes",
                                one.digest
                            ))));
                        }
                    }
                    parts.documents.push((one.clone(), inner));
                }
            }
        }
        parts
            .blobs
            .sort_by(|one, other| one.digest.cmp(&other.digest));
        parts
            .blobs
            .dedup_by(|one, other| one.digest == other.digest);
        let top = Descriptor {
            media_type: media_type(&bytes),
            digest: digest.clone(),
            size: bytes.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        parts.documents.push((top, bytes));
        Ok(parts)
    }

    fn document(&mut self, repository: &Repository, digest: &Digest) -> Result<Vec<u8>, Stop> {
        let here = self
            .out
            .document(digest)
            .or_else(|| self.from.as_ref()?.document(digest));
        if let Some(bytes) = here {
            return Ok(bytes);
        }
        let bytes = self
            .registries()?
            .document(repository, digest, LONGEST_DOCUMENT)
            .map_err(unregistered)?;
        let sum = part::sum(bytes.as_slice()).map_err(Error::new)?;
        if sum != digest.hex() {
            return Err(Stop::from(Error::msg(format!(
                "the registry gave another content for {digest} (SHA-256 {sum})"
            ))));
        }
        Ok(bytes)
    }

    fn blob(&mut self, repository: &Repository, blob: &Descriptor) -> Result<(), Stop> {
        let part = self.out.unfinished(&blob.digest);
        let from = self.from.as_ref().filter(|from| from.has(blob));
        let taken = match from {
            Some(from) => copy(&from.blob(&blob.digest), &part)
                .map_err(|error| (error.kind(), Stop::from(Error::new(error)))),
            None => self
                .registries()?
                .blob(repository, &blob.digest, blob.size, &part)
                .map_err(|error| {
                    let kind = match &error {
                        RegistryError::Disk { .. } => io::ErrorKind::StorageFull,
                        _ => io::ErrorKind::Other,
                    };
                    (kind, unregistered(error))
                }),
        };
        let done = taken.and_then(|()| {
            self.out
                .finish(blob)
                .map_err(|error| (error.kind(), unwritten(&part, error)))
        });
        if let Err((kind, mut stop)) = done {
            if Storage::of(&io::Error::from(kind)).is_some() {
                // What cannot be written to its end is in the way of everything else.
                self.out.give_up(&blob.digest);
            }
            if blob.size > FAT_MOST {
                stop.error = stop.error.context(
                    "this layer is larger than any file of FAT32 may be: exFAT and ext4 take it",
                );
            }
            return Err(stop);
        }
        self.done.blobs += 1;
        self.done.bytes += blob.size;
        Ok(())
    }

    fn registries(&mut self) -> Result<&mut Registries, Stop> {
        if self.registries.is_none() {
            self.registries = Some(Registries::new().map_err(unregistered)?);
        }
        self.registries
            .as_mut()
            .ok_or_else(|| Stop::from(Error::msg("no registry can be asked")))
    }
}

/// Puts entries among others: the same image twice is one, for all its branches.
fn merge(into: &mut Vec<Entry>, more: &[Entry]) {
    for entry in more {
        let same = into
            .iter_mut()
            .find(|one| one.name == entry.name && one.image.digest == entry.image.digest);
        match same {
            Some(one) => one.branches.extend(
                entry
                    .branches
                    .iter()
                    .map(|(branch, of)| (branch.clone(), of.clone())),
            ),
            None => into.push(entry.clone()),
        }
    }
    into.sort_by(|one, other| one.name.cmp(&other.name));
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = std::fs::File::create(to)?;
    io::copy(&mut std::fs::File::open(from)?, &mut file)?;
    file.sync_all()
}

fn blobs_of(manifest: crate::domain::oci::Manifest) -> Result<Vec<Descriptor>, Stop> {
    if manifest.config.size > LONGEST_CONFIG {
        return Err(Stop::from(Error::msg(format!(
            "{}: its configuration has {} bytes, and no device takes more than {LONGEST_CONFIG}",
            manifest.config.digest, manifest.config.size
        ))));
    }
    let mut blobs = manifest.layers;
    blobs.push(manifest.config);
    Ok(blobs)
}

fn parse(digest: &Digest, bytes: &[u8]) -> Result<Document, Stop> {
    let parsed: Result<Document, OciError> = Document::parse(bytes);
    Ok(parsed.with_context(|| format!("{digest} is not taken"))?)
}

/// What a document calls itself.
fn media_type(bytes: &[u8]) -> String {
    let said: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let own = said.get("mediaType").and_then(|own| own.as_str());
    // The OCI's manifests need not say it.
    let kind = if said.get("manifests").is_some() {
        crate::domain::oci::INDEX_TYPE
    } else {
        crate::domain::oci::DOCUMENT_TYPES[1]
    };
    own.unwrap_or(kind).to_owned()
}

fn unwritten(path: &Path, error: io::Error) -> Stop {
    Stop::from(Error::new(error).context(format!("cannot write {}", path.display())))
}

/// What a person has to mend is not worth trying again.
fn unregistered(error: RegistryError) -> Stop {
    Stop::from(Error::new(error))
}
