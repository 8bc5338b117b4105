//! All devices at once, on a few threads.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use evenkeel::daemon::Signal;
use tokio::sync::mpsc;

use super::board::Board;
use super::device::{Blueprint, live};

/// Threads on which devices live. What blocks (network, git, signatures of what was fetched) has threads beside them, as
/// in the daemon.
const THREADS: usize = 2;

/// Devices that run; they end with it.
#[derive(Debug)]
pub struct Switchboard {
    board: Arc<Board>,
    lines: Vec<mpsc::Sender<Signal>>,
    threads: Vec<JoinHandle<()>>,
}

impl Switchboard {
    /// Switches them on, each in its time.
    pub fn start(blueprints: Vec<Blueprint>) -> Self {
        let board = Board::new(blueprints.len());
        let mut lines = Vec::new();
        let mut shares: Vec<Vec<_>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (index, blueprint) in blueprints.into_iter().enumerate() {
            let (line, signals) = mpsc::channel(4);
            lines.push(line);
            shares[index % THREADS].push((blueprint, index, signals));
        }
        let threads = shares
            .into_iter()
            .map(|share| {
                let board = Arc::clone(&board);
                std::thread::spawn(move || run(share, &board))
            })
            .collect();
        Self {
            board,
            lines,
            threads,
        }
    }

    /// What is heard of them.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Has each of these devices ask its remote now, as SIGHUP does.
    pub fn poke(&self, devices: Range<usize>) {
        for line in &self.lines[devices] {
            // One that is told already has not gone yet.
            let _ = line.try_send(Signal::Poke);
        }
    }
}

impl Drop for Switchboard {
    fn drop(&mut self) {
        for line in &self.lines {
            let _ = line.blocking_send(Signal::Stop);
        }
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "a device panicked"
            );
        }
    }
}

fn run(share: Vec<(Blueprint, usize, mpsc::Receiver<Signal>)>, board: &Arc<Board>) {
    // As the daemon's own: one thread, and idle ones beside it go away.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let devices: Vec<_> = share
        .into_iter()
        .map(|(blueprint, index, signals)| {
            local.spawn_local(live(blueprint, Arc::clone(board), index, signals))
        })
        .collect();
    local.block_on(&runtime, async {
        for device in devices {
            device.await.expect("a device does not panic");
        }
    });
}
