//! Free loopback ports that no other test takes between the choice and the use.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Below the kernel's range for outgoing connections (from 32768), so that none of those sits on one of ours.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A loopback port that is ours until this value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    // An abstract Unix socket named after the port: the kernel drops it with the process, however that ends.
    _claim: UnixListener,
}

impl Port {
    /// Claims a port on which nothing listens.
    ///
    /// # Panics
    /// Where all are taken.
    pub fn free() -> Self {
        let span = u32::from(RANGE.end - RANGE.start);
        let start = std::process::id().wrapping_mul(97) % span;
        for step in 0..span {
            let offset = u16::try_from((start + step) % span).expect("the span fits");
            let number = RANGE.start + offset;
            let name = SocketAddr::from_abstract_name(format!("evenkeel-test-port-{number}"))
                .expect("a short name");
            let Ok(claim) = UnixListener::bind_addr(&name) else {
                continue;
            };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self {
                    number,
                    _claim: claim,
                };
            }
        }
        panic!("no free port between {} and {}", RANGE.start, RANGE.end);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
