//! Images that lie beside what is published: an OCI image layout in the same tree.

use std::fmt;
use std::sync::Arc;

use super::source::Reach;
use super::upgrades::Download;

/// A tree that may have images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its address, as [`Download`] takes it, without a slash at its end.
    pub base: String,
    /// Whether what is read there comes over a network.
    pub reach: Reach,
}

/// Where images may lie that no registry has to be asked for.
#[derive(Clone)]
pub struct Carried {
    /// The trees that revisions come from now, in their order. Blocks.
    pub trees: Arc<dyn Fn() -> Vec<Tree> + Send + Sync>,
    /// Reads a file of one.
    pub get: Arc<Download>,
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").finish_non_exhaustive()
    }
}
