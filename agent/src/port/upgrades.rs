//! The agent's own binaries on this device: what runs, what is being fetched, what is tried next. See `select::upgrade`.

use std::error::Error;
use std::io;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use crate::domain::agent::{Generation, Release};
use crate::domain::revision::CommitId;
use crate::select::upgrade::{Next, Running};

/// Why something of this could not be done.
#[derive(Debug, thiserror::Error)]
#[error("the agent's own update: cannot {what}")]
pub struct UpgradeError {
    /// What was tried.
    pub what: String,
    /// Why.
    #[source]
    pub cause: Box<dyn Error + Send + Sync>,
}

/// How far a fetch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetching {
    /// None was begun, or it came to its end and what it brought is staged.
    Nothing,
    /// It goes on.
    Underway(Generation),
    /// It failed, and is not tried again yet.
    Failed {
        /// What was fetched. The same binary from another place is tried at once.
        release: Release,
        /// Why.
        why: String,
    },
}

/// Where a binary comes from.
#[derive(Debug)]
pub enum From {
    /// An address.
    Url(String),
    /// The repository: these are its bytes.
    Bytes(Vec<u8>),
}

/// A piece of a download.
#[derive(Debug)]
pub enum Piece<'p> {
    /// It begins at this byte; there are so many in all, where the server says so.
    Begins {
        /// Where it begins: 0, or as was asked.
        at: u64,
        /// The whole length.
        total: Option<u64>,
    },
    /// The next bytes.
    Bytes(&'p [u8]),
}

/// Gets what is at an address, from a byte on, piece by piece, until the flag is set. Blocks.
pub type Download = dyn Fn(
        &str,
        u64,
        &AtomicBool,
        &mut dyn FnMut(Piece<'_>) -> io::Result<()>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    + Send
    + Sync;

/// The agent's own binaries.
pub trait Upgrades {
    /// What runs.
    fn running(&self) -> &Running;
    /// Whether somebody would start the old agent again, were a new one not to work.
    ///
    /// # Errors
    /// Why not, with the next move.
    fn starter(&self) -> Result<(), &str>;
    /// What has not proven itself.
    fn next(&self) -> Option<Next>;
    /// What was refused last, and why.
    fn refused(&self) -> Option<(Generation, String)>;
    /// Whether a generation is here.
    fn is_staged(&self, generation: &Generation) -> bool;

    /// How far the fetch is.
    fn fetching(&self) -> Fetching;
    /// Begins to fetch, beside everything else, unless that goes on already.
    fn fetch(&self, release: &Release, from: From);
    /// Told whenever a fetch has come to its end.
    fn fetched(&self) -> Rc<Notify>;

    /// Has this generation started next; `accepted` is the commit that this agent is at, whole and well.
    ///
    /// # Errors
    /// Where it is not what its name says (it is fetched anew then), or that cannot be made durable.
    fn switch(
        &self,
        generation: &Generation,
        accepted: Option<&CommitId>,
    ) -> Result<(), UpgradeError>;
    /// The commit that the agent before this one was at, whole and well, when it gave way.
    fn accepted(&self) -> Option<String>;
    /// What runs has proven itself.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    fn prove(&self) -> Result<(), UpgradeError>;
    /// The start of what runs does not count: it is stopped because somebody asks for it.
    fn give_back(&self);
    /// What did not prove itself is not tried again.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    fn refuse(&self, next: &Next, why: &str) -> Result<(), UpgradeError>;
    /// What did not prove itself may be tried again.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    fn forgive(&self, next: &Next) -> Result<(), UpgradeError>;
    /// Forgets what was refused: another one is declared.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    fn forget_refused(&self) -> Result<(), UpgradeError>;
    /// Has the package's own binary started next.
    ///
    /// # Errors
    /// Where that cannot be made durable.
    fn hand_back(&self) -> Result<(), UpgradeError>;
    /// Removes what is neither started nor declared. Best effort.
    fn sweep(&self, declared: Option<&Generation>);
}
