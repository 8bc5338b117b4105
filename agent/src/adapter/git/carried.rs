//! What lies beside the branch in a published tree: images. And a source that is asked for one pass only: a folder, in place
//! of what agent.toml names.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use super::GitSource;
use super::download::{Pieces, download};
use super::fetch::Inner;
use super::http::HttpRemote;
use super::limits::Meter;
use super::published;
use super::remote::Remote;
use super::several::Health;
use crate::port::images::{Carried, Tree};
use crate::port::source::Reach;
use crate::port::upgrades::Piece;

impl GitSource {
    /// The images beside what is published. What comes over a network is not counted here, but by who asks for it; it comes as
    /// fast as everything else may.
    #[must_use]
    pub fn carried(&self) -> Carried {
        let (current, home) = (Arc::clone(&self.current), Arc::clone(&self.home));
        let apart = Arc::new(Meter::default());
        Carried {
            trees: Arc::new(move || {
                let inner = Arc::clone(&current.read().unwrap_or_else(PoisonError::into_inner));
                inner.trees()
            }),
            get: Arc::new(
                move |address: &str,
                      from: u64,
                      stop: &AtomicBool,
                      sink: &mut dyn FnMut(Piece<'_>) -> std::io::Result<()>| {
                    apart.cap(home.meter.rate());
                    let pieces = Pieces::until_stopped(stop).counted_by(&apart);
                    download(&home, address, from, pieces, sink)
                },
            ),
        }
    }

    /// From now on a folder is the one remote, until this is asked with `None`. The store stays the same one.
    pub(super) fn turn_to(&self, dir: Option<&Path>) {
        let next = match dir {
            None => Arc::clone(&self.home),
            Some(dir) => Arc::new(self.home.beside(dir)),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl Inner {
    /// The same store, with a folder as its one remote.
    fn beside(&self, dir: &Path) -> Self {
        Self {
            remotes: vec![Remote::Local(dir.to_owned())],
            health: Mutex::new(Health::new(1, std::time::Duration::ZERO)),
            branch: self.branch.clone(),
            dir: self.dir.clone(),
            fresh: self.fresh.clone(),
            old: self.old.clone(),
            incoming: self.incoming.clone(),
            heads: Arc::clone(&self.heads),
            limits: self.limits.clone(),
            client: Arc::clone(&self.client),
            meter: Arc::clone(&self.meter),
            files: self.files.clone(),
            busy: Arc::clone(&self.busy),
            swap: Arc::clone(&self.swap),
            is_suspect: Arc::clone(&self.is_suspect),
            is_settled: Arc::clone(&self.is_settled),
        }
    }

    /// The remotes that are published trees, as far as that is known.
    fn trees(&self) -> Vec<Tree> {
        let web = |http: &HttpRemote| Tree {
            base: http.url.as_str().trim_end_matches('/').to_owned(),
            reach: Reach::Network,
        };
        let of = |remote: &Remote| match remote {
            Remote::Local(dir) if published::is_tree(dir, &self.branch) => Some(Tree {
                base: format!("file://{}", dir.display()),
                reach: Reach::Local,
            }),
            Remote::Published(http) => Some(web(http)),
            Remote::Http(http) if self.heads.is_tree(http, &self.branch) => Some(web(http)),
            Remote::Http(_) | Remote::Ssh(_) | Remote::Local(_) => None,
        };
        self.remotes.iter().filter_map(of).collect()
    }
}
