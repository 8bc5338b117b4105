//! What time it is. Durations never come from here: they are tokio's monotonic time.

use crate::domain::revision::Timestamp;

/// The wall clock and what is known of it.
pub trait Clock {
    /// The wall clock's time, right or wrong.
    fn now(&self) -> Timestamp;
    /// Whether something (NTP, PTP, GNSS) says that the wall clock is right.
    fn is_synchronised(&self) -> bool;
    /// Whether a time service runs and has not set the clock yet: until then it may show anything.
    fn awaits_time(&self) -> bool;
    /// When this binary was built: no true clock shows less.
    fn build_time(&self) -> Timestamp;
    /// The kernel's id of this boot (`/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> String;
}
