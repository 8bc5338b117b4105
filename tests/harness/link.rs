//! A link between a device and a server on loopback: what netem does where the kernel has it. Latency, bandwidth, loss (as a
//! TCP stream shows it: late), cuts after so many bytes, silence, in both directions, changed while it runs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a link does to everything that passes.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// One way. The round trip is twice that.
    pub latency: Duration,
    /// Up to so much more for each piece, by the link's seed.
    pub jitter: Duration,
    /// Bytes in a second, each way.
    pub rate: Option<u64>,
    /// How many of a thousand pieces are lost, and come again after [`RETRANSMITTED`].
    pub loss: u32,
    /// What happens once so many bytes have passed since the weather changed.
    pub cut: Option<Cut>,
    /// What a new connection meets.
    pub door: Door,
}

/// A cut after so many bytes in one direction, counted over all connections.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// How many bytes still pass.
    pub after: u64,
    /// Which bytes are counted.
    pub way: Way,
    /// What happens then.
    pub how: How,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Reset, in the middle of whatever it is.
    Reset,
    /// Closed in order.
    Close,
    /// Nothing more passes, and nobody is told: half-open.
    Silence,
    /// One bit is another one, and all goes on.
    Flip,
}

/// What a new connection meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Door {
    /// The server.
    #[default]
    Open,
    /// A reset at once.
    Reset,
    /// Nobody: it is taken, and nothing ever comes.
    Silent,
}

/// When a lost piece comes again: the least that a kernel waits.
const RETRANSMITTED: Duration = Duration::from_millis(200);
/// The largest piece that passes at once; smaller on a slow link.
const PIECE: usize = 8 * 1024;
/// How many pieces may be under way.
const WINDOW: usize = 64;

#[derive(Debug)]
struct Shared {
    upstream: Mutex<SocketAddr>,
    weather: Mutex<Weather>,
    /// Grows whenever the weather changes.
    age: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
    arrivals: Mutex<Vec<Instant>>,
    stop: AtomicBool,
    /// Grows whenever the open connections are ended.
    hung_up: AtomicU64,
    seed: AtomicU64,
}

impl Shared {
    fn weather(&self) -> Weather {
        self.weather.lock().expect("nobody panics with it").clone()
    }

    fn counter(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    /// The next draw below `bound`.
    fn draw(&self, bound: u64) -> u64 {
        let next = self.seed.fetch_add(1, Ordering::Relaxed);
        fastrand::Rng::with_seed(next).u64(0..bound.max(1))
    }
}

/// A link; it ends when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Link {
    /// A link in fair weather to a port of 127.0.0.1.
    pub fn to(upstream: u16) -> Self {
        Self::again(0, upstream)
    }

    /// The link of this port again, after it was dropped: meanwhile connections were refused.
    pub fn again(port: u16, upstream: u16) -> Self {
        Self::between(
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv4Addr::LOCALHOST, upstream)),
        )
    }

    /// A link that listens on this address and leads to that one.
    ///
    /// # Panics
    /// Where the port cannot be had.
    pub fn between(listen: SocketAddr, upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).expect("a loopback port");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            weather: Mutex::default(),
            age: AtomicU64::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            arrivals: Mutex::default(),
            stop: AtomicBool::new(false),
            hung_up: AtomicU64::new(0),
            seed: AtomicU64::new(1),
        });
        let link = Self {
            address: listener.local_addr().expect("it is bound"),
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(client) = client else { continue };
                let mut arrivals = shared.arrivals.lock().expect("nobody panics with it");
                arrivals.push(Instant::now());
                drop(arrivals);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || carry(client, &shared));
            }
        });
        link
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Leads elsewhere from now on.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn lead_to(&self, upstream: u16) {
        *self.shared.upstream.lock().expect("nobody panics") =
            SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
    }

    /// Changes the weather, for connections that are open, too, and counts bytes from here.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn set(&self, weather: Weather) {
        let mut kept = self.shared.weather.lock().expect("nobody panics with it");
        self.shared.up.store(0, Ordering::Relaxed);
        self.shared.down.store(0, Ordering::Relaxed);
        *kept = weather;
        self.shared.age.fetch_add(1, Ordering::Relaxed);
    }

    /// Fair weather again. Connections that were cut stay so.
    pub fn mend(&self) {
        self.set(Weather::default());
    }

    /// Cuts after so many bytes of one direction.
    pub fn cut(&self, after: u64, way: Way, how: How) {
        self.set(Weather {
            cut: Some(Cut { after, way, how }),
            ..Weather::default()
        });
    }

    /// Ends the connections that are open: a client's next one meets what is set now.
    pub fn hang_up(&self) {
        self.shared.hung_up.fetch_add(1, Ordering::Relaxed);
    }

    /// The bytes that have passed since the weather changed: up and down.
    pub fn passed(&self) -> (u64, u64) {
        let of = |way| self.shared.counter(way).load(Ordering::Relaxed);
        (of(Way::Up), of(Way::Down))
    }

    /// When each connection came.
    ///
    /// # Panics
    /// Never: nobody panics with the lock.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.shared.arrivals.lock().expect("nobody panics").clone()
    }

    /// Begins the draws of chance here.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        self.shared
            .seed
            .store(seed.wrapping_mul(1_000_003), Ordering::Relaxed);
        self
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

/// Closes a connection so that the other side sees a reset.
pub(crate) fn reset(stream: &TcpStream) {
    // The standard library cannot say so yet, and tokio can.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
    else {
        return;
    };
    let _entered = runtime.enter();
    if let Ok(copy) = stream.try_clone()
        && copy.set_nonblocking(true).is_ok()
        && let Ok(copy) = tokio::net::TcpStream::from_std(copy)
    {
        let _ = copy.set_zero_linger();
    }
    let _ = stream.set_nonblocking(false);
}

fn wait_for_stop(shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn carry(client: TcpStream, shared: &Arc<Shared>) {
    match shared.weather().door {
        Door::Open => {}
        Door::Reset => {
            reset(&client);
            return;
        }
        Door::Silent => {
            let age = shared.age.load(Ordering::Relaxed);
            // Until the weather changes: then it is closed, as a router that comes back does.
            while shared.age.load(Ordering::Relaxed) == age && !shared.stop.load(Ordering::Relaxed)
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            return;
        }
    }
    let upstream = *shared.upstream.lock().expect("nobody panics with it");
    let Ok(server) = TcpStream::connect(upstream) else {
        reset(&client);
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let dead = Arc::new(AtomicBool::new(false));
    let pump = |from: &TcpStream, to: &TcpStream, way| {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
            return;
        };
        let (shared, dead) = (Arc::clone(shared), Arc::clone(&dead));
        let (send, pieces) = sync_channel(WINDOW);
        let (reading, read_dead) = (Arc::clone(&shared), Arc::clone(&dead));
        let Ok(behind) = from.try_clone() else {
            return;
        };
        std::thread::spawn(move || take(from, &send, &reading, &read_dead));
        std::thread::spawn(move || give(&to, &behind, &pieces, way, &shared, &dead));
    };
    let calls = shared.hung_up.load(Ordering::Relaxed);
    pump(&client, &server, Way::Up);
    pump(&server, &client, Way::Down);
    // Until either side ends, or somebody hangs up.
    while !dead.load(Ordering::Relaxed) {
        let is_over = shared.stop.load(Ordering::Relaxed);
        if is_over || shared.hung_up.load(Ordering::Relaxed) != calls {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads pieces, and says when each is due at the other end.
fn take(
    mut from: TcpStream,
    to: &SyncSender<(Instant, Vec<u8>)>,
    shared: &Shared,
    dead: &AtomicBool,
) {
    let mut last_due = Instant::now();
    loop {
        let weather = shared.weather();
        let size = match weather.rate {
            // A quarter of a second's worth.
            Some(rate) => usize::try_from(rate / 4).unwrap_or(PIECE).clamp(1, PIECE),
            None => PIECE,
        };
        let mut piece = vec![0; size];
        let Ok(length) = from.read(&mut piece) else {
            break;
        };
        if length == 0 || dead.load(Ordering::Relaxed) {
            break;
        }
        piece.truncate(length);
        let weather = shared.weather();
        let mut due = Instant::now() + weather.latency;
        let most = u64::try_from(weather.jitter.as_millis()).unwrap_or(0);
        due += Duration::from_millis(shared.draw(most + 1));
        if shared.draw(1000) < u64::from(weather.loss) {
            due += RETRANSMITTED + weather.latency * 2;
        }
        // A stream keeps its order: what is late holds up what follows.
        due = due.max(last_due);
        last_due = due;
        if to.send((due, piece)).is_err() {
            break;
        }
    }
}

/// Writes pieces when they are due, and cuts where it is said.
fn give(
    to: &TcpStream,
    from: &TcpStream,
    pieces: &Receiver<(Instant, Vec<u8>)>,
    way: Way,
    shared: &Shared,
    dead: &AtomicBool,
) {
    let end = |how: Option<How>| match how {
        Some(How::Reset) => {
            dead.store(true, Ordering::Relaxed);
            for side in [to, from] {
                reset(side);
                // Only wakes who reads here: the last one to let go of it sends the reset.
                let _ = side.shutdown(Shutdown::Read);
            }
        }
        Some(How::Close) => {
            dead.store(true, Ordering::Relaxed);
            for side in [to, from] {
                let _ = side.shutdown(Shutdown::Both);
            }
        }
        Some(How::Silence) => wait_for_stop(shared),
        Some(How::Flip) | None => {
            let _ = to.shutdown(Shutdown::Write);
            if way == Way::Down {
                dead.store(true, Ordering::Relaxed);
            }
        }
    };
    let mut writer = to;
    for (due, mut piece) in pieces {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let weather = shared.weather();
        // What is on its way up when the answer has ended interests nobody.
        if dead.load(Ordering::Relaxed) {
            break;
        }
        let mut how = None;
        if let Some(cut) = weather.cut
            && cut.way == way
        {
            let left = cut
                .after
                .saturating_sub(shared.counter(way).load(Ordering::Relaxed));
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            if cut.how == How::Flip {
                let passed = shared.counter(way).load(Ordering::Relaxed);
                if let Some(byte) = piece.get_mut(left)
                    && passed <= cut.after
                {
                    *byte ^= 1 << (cut.after % 8);
                }
            } else if left <= piece.len() {
                piece.truncate(left);
                how = Some(cut.how);
            }
        }
        shared
            .counter(way)
            .fetch_add(piece.len() as u64, Ordering::Relaxed);
        if writer.write_all(&piece).is_err() {
            end(Some(How::Close));
            return;
        }
        if how.is_some() {
            end(how);
            return;
        }
        if let Some(rate) = weather.rate {
            let took = piece.len() as f64 / rate.max(1) as f64;
            std::thread::sleep(Duration::from_secs_f64(took));
        }
    }
    end(None);
}
