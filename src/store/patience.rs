//! How patiently a place is dealt with: what may pass is tried again, and waited for.
//!
//! Only what may pass by itself ([`Kind::may_pass`]) is tried again. Pauses double from half a second, with jitter so that
//! many clients do not return at once. A pause that a server asks for is kept to the second, is never shorter than one of
//! our own, and is no failed try: the server works, it is only busy.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::error::Kind;

/// Every time that the program waits for a network, in one place, so that tests can have others.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For a TCP and TLS connection to come about.
    pub connect: Duration,
    /// From the end of a request to the head of its answer.
    pub answer: Duration,
    /// Without a byte of a body moving, at either end.
    pub stall: Duration,
    /// From the last byte of an upload to its answer: registries hash, scan and copy before they answer.
    pub commit: Duration,
    /// First pause before another try; each further one is twice as long.
    pub first_pause: Duration,
    /// Longest pause of our own making.
    pub longest_pause: Duration,
    /// How long a download may stay under [`SLOWEST`] before it is given up and begun anew.
    pub slow_window: Duration,
    /// Longest time that one request waits at a server's wish, over all its pauses.
    pub longest_wait: Duration,
    /// A host that has answered anything well within this time is alive, however overloaded it is.
    pub alive: Duration,
    /// How long transfers in flight may go on after an interruption.
    pub farewell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            commit: Duration::from_secs(600),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            slow_window: Duration::from_secs(120),
            longest_wait: Duration::from_secs(900),
            alive: Duration::from_secs(60),
            farewell: Duration::from_secs(8),
        }
    }
}

/// Bytes a second that a download has to keep up, over [`Timing::slow_window`].
pub const SLOWEST: u64 = 1 << 10;
/// A host that is overloaded, but alive, is tried this many times as often.
const BUSY_FACTOR: u32 = 10;
/// A pause at a server's wish counts at least for this long.
const LEAST_WAIT: Duration = Duration::from_secs(1);
/// Longest pause before such a try.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Tries beyond the first where a storage service behind a registry refuses.
const STORAGE_RETRIES_MAX: u32 = 2;

/// How often and how patiently hosts are asked, and how much they may answer.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Tries beyond the first.
    pub retries: u32,
    pub timing: Timing,
    /// Largest manifest that is read, in bytes.
    pub manifest_max: usize,
}

/// What one piece of work, a request or a blob with all its requests, has suffered so far.
#[derive(Debug)]
pub struct Patience {
    policy: Policy,
    failures: u32,
    /// Failures of an overloaded host that was alive.
    busy: u32,
    waited: Duration,
    /// Pauses at a server's wish.
    wishes: u32,
}

impl Patience {
    pub fn new(policy: &Policy) -> Self {
        Self { policy: policy.clone(), failures: 0, busy: 0, waited: Duration::ZERO, wishes: 0 }
    }

    /// How long to wait before the next try after a failure of this kind; `None` if there is to be none. A host that
    /// is `alive` has answered well of late, whatever it was asked.
    pub fn next(&mut self, kind: &Kind, alive: bool) -> Option<Duration> {
        let overloaded = matches!(kind, Kind::Busy | Kind::RateLimited(None));
        if overloaded && alive && self.busy < self.policy.retries.saturating_mul(BUSY_FACTOR) {
            self.busy += 1;
            self.failures = 0;
            return Some(own_pause(&self.policy.timing, self.busy));
        }
        if let Kind::RateLimited(Some(wish)) = kind {
            // One that asks for no pause at all, again and again, is not obeyed for ever either.
            self.wishes += 1;
            let pause = own_pause(&self.policy.timing, self.wishes).max(*wish);
            self.waited = self.waited.saturating_add(pause.max(LEAST_WAIT));
            return (self.waited <= self.policy.timing.longest_wait).then_some(pause);
        }
        let retries = match kind {
            // A new redirect helps at once or not at all.
            Kind::Storage => self.policy.retries.min(STORAGE_RETRIES_MAX),
            _ => self.policy.retries,
        };
        if !kind.may_pass() || self.failures >= retries {
            return None;
        }
        self.failures += 1;
        Some(pause(&self.policy.timing, self.busy.saturating_add(self.failures)))
    }

    /// Bytes have moved since the last failure: what was lost before no longer counts.
    pub fn restore(&mut self) {
        self.failures = 0;
    }
}

/// The pause before another try at a host that is overloaded, after so many failures in a row.
pub(crate) fn own_pause(timing: &Timing, failures: u32) -> Duration {
    pause(timing, failures.max(1)).min(BUSY_PAUSE_MAX)
}

/// The pause before try number `failures + 1`: between half and all of a doubling value.
fn pause(timing: &Timing, failures: u32) -> Duration {
    let doubled = timing.first_pause.saturating_mul(1 << (failures - 1).min(16));
    let whole = doubled.min(timing.longest_pause);
    // A fresh RandomState is seeded by the system; no more randomness is needed here.
    let random = RandomState::new().hash_one(failures) as u32;
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
