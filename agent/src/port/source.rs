//! Where revisions come from.

use super::Retry;
use crate::domain::commit::{Extent, Kin, RawCommit, RawHistory};
use crate::domain::history::Floor;
use crate::domain::revision::{CommitId, TreeId};
use crate::domain::tree::Tree;

/// Why a source did not give what was asked. `Display` is one clear sentence with the place; the chain says why.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The remote could not be reached or broke off: network, DNS, TLS, a deadline, a byte cap, a refused login.
    #[error("cannot fetch from {remote}")]
    Remote {
        /// The remote, without credentials.
        remote: String,
        /// Why.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The remote answered, and has no such branch.
    #[error("{remote} has no branch `{branch}`")]
    NoBranch {
        /// The remote, without credentials.
        remote: String,
        /// The branch.
        branch: String,
    },
    /// Something local that a person must mend: an unreadable key file, a missing `ssh`, a bad host key.
    #[error("{what}")]
    Setup {
        /// What and where, with the next move.
        what: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The local store of git objects failed or is damaged.
    #[error("the local git store failed: {what}")]
    Store {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        cause: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The revision is larger than a device takes.
    #[error("{0}")]
    TooLarge(String),
}

impl SourceError {
    /// Whether trying again can help.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Remote { .. } | Self::NoBranch { .. } | Self::Store { .. } => Retry::Later,
            Self::Setup { .. } | Self::TooLarge(_) => Retry::Never,
        }
    }
}

/// Whether there was more history to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deepened {
    /// Some: ask for the history again.
    More,
    /// None: all of it that the remote has, or that a device takes, is here.
    Nothing,
}

/// Whether a remote is reached over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Over a network: a change after which none can be reached any more goes back.
    Network,
    /// On this machine.
    Local,
}

/// What one remote is known for. Remotes are told apart by their place in `source.url`, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteHealth {
    /// Its address, without credentials.
    pub name: String,
    /// How it is reached.
    pub reach: Reach,
    /// How the last question to it ended, or why it did not; `None`: it was not asked by this process.
    pub last: Option<Result<(), String>>,
}

/// What the first remote that answered says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The branch's tip there.
    pub tip: RawCommit,
    /// Which remote.
    pub remote: usize,
}

/// What one of the other remotes says of the branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which remote.
    pub remote: usize,
    /// Its tip, whose objects are in the local store; `None`: it did not answer, and [`RemoteHealth`] says why.
    pub tip: Option<CommitId>,
}

/// Which of the other remotes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Those that did not fail just now.
    Ready,
    /// Each of them.
    Each,
}

/// Where revisions come from: a branch of one git remote or of several, and the local store of what was fetched.
pub trait Source {
    /// Asks the remotes in their order, until one answers, for the branch's tip, and fetches what is missing, deepening a
    /// shallow history until the tip's descent from `floor` is known (within a cap). One that failed is passed over for a
    /// while, longer and longer, where another answers. What it returns is synced to disk. Where the tip is the one that
    /// is already here, nothing is written. With one remote its tip is the local one now; with several
    /// [`Source::settle_on`] says which is.
    ///
    /// # Errors
    /// See [`SourceError`].
    async fn fetch(&self, floor: Option<&CommitId>) -> Result<Fetched, SourceError>;

    /// The remotes, in their order, and how each one answered last.
    fn remotes(&self) -> Vec<RemoteHealth>;

    /// Asks the remotes other than this one for their tips, and fetches those. The local tip stays.
    async fn others(&self, than: usize, whom: Whom) -> Vec<Sighting>;

    /// From now on this folder on the device, a git repository or a published tree, is the one remote; with `None` what the
    /// configuration names is again. The local store is the same.
    fn turn_to(&self, dir: Option<&std::path::Path>);

    /// Bytes that came and went over a network since the start: what was read, and an estimate of what is around it.
    fn received(&self) -> u64;

    /// From now on no more than so many bytes a second are read from a network; `None`: as fast as they come.
    fn cap_rate(&self, bytes_per_second: Option<u64>);

    /// How one commit of the local store relates to another one; no network.
    ///
    /// # Errors
    /// [`SourceError::Store`] where the store is damaged.
    async fn kin(&self, one: &CommitId, other: &CommitId) -> Result<Kin, SourceError>;

    /// With several remotes: this commit, which one of them gave, is the local tip from now on. Writes nothing where it is
    /// already.
    ///
    /// # Errors
    /// [`SourceError::Store`].
    async fn settle_on(&self, tip: &CommitId, floor: Option<&CommitId>) -> Result<(), SourceError>;

    /// Asks the remotes that are reached over a network, and those alone, until one answers. Fetches nothing.
    ///
    /// # Errors
    /// As [`Source::fetch`].
    async fn reach(&self) -> Result<(), SourceError>;

    /// The tip as last fetched, from the local store; no network.
    ///
    /// # Errors
    /// [`SourceError::Store`] where the store is damaged.
    async fn local_tip(&self, floor: Option<&CommitId>) -> Result<Option<RawCommit>, SourceError>;

    /// Any commit of the local store by its id; no network. `None` where it is not here.
    ///
    /// # Errors
    /// [`SourceError::Store`] where the store is damaged.
    async fn commit(
        &self,
        id: &CommitId,
        floor: Option<&CommitId>,
    ) -> Result<Option<RawCommit>, SourceError>;

    /// What trust has to see beside `tip`, from the local store; no network. With [`Extent::Parents`] the tip and those
    /// of its parents that are here, with the trust sets of their trees, and of all settled ones the floor alone is told
    /// (a handful of objects is read); with [`Extent::SinceFloor`] every ancestor of the tip that is neither the floor nor
    /// an ancestor of it (without a floor: every ancestor), the parents where that ends, and the trust sets of all their
    /// trees and of the floor's. Capped in number and bytes; that something is missing is told in [`RawHistory::cut`].
    ///
    /// # Errors
    /// [`SourceError::Store`] where the store is damaged.
    async fn history(
        &self,
        tip: &CommitId,
        floor: Option<&CommitId>,
        extent: Extent,
    ) -> Result<RawHistory, SourceError>;

    /// Fetches more of the history behind the local tip than is here: one step, further each time. What it returns is
    /// synced to disk. Once it was in vain, or too costly, the remote is not asked again for the same tip.
    ///
    /// # Errors
    /// As [`Source::fetch`].
    async fn deepen(&self) -> Result<Deepened, SourceError>;

    /// Reads documents under a tree: each of `paths` is a file, or a folder that is read whole. A path that is not in
    /// the tree is simply absent from the answer. Capped in number, depth and size.
    ///
    /// # Errors
    /// [`SourceError::Store`] or [`SourceError::TooLarge`].
    async fn read(&self, tree: &TreeId, paths: &[String]) -> Result<Tree, SourceError>;

    /// Reads one file under a tree that may be larger than a document: as large as an object may be. `None` where there is no
    /// regular file at that path.
    ///
    /// # Errors
    /// As [`Source::read`].
    async fn large(&self, tree: &TreeId, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let read = self.read(tree, &[path.to_owned()]).await?;
        Ok(read.file(path).map(<[u8]>::to_vec))
    }

    /// Looks whether the local store still is what was written: its checksums, and what its refs name. What can be put right
    /// without the remote is.
    ///
    /// # Errors
    /// [`SourceError::Store`] where it is damaged: the next fetch clones anew.
    async fn check(&self) -> Result<(), SourceError>;

    /// The floor's copy that lives as a ref (`refs/evenkeel/floor/<generation>/<time>`); `None` where there is none.
    ///
    /// # Errors
    /// [`SourceError::Store`].
    fn floor_ref(&self) -> Result<Option<Floor>, SourceError>;

    /// Writes the floor's ref, synced, and removes older ones.
    ///
    /// # Errors
    /// [`SourceError::Store`].
    fn set_floor_ref(&self, floor: &Floor) -> Result<(), SourceError>;
}
