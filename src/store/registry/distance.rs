//! How far away a host is, and how many requests it gets at a time for that.
//!
//! The requests that a host is busy with are those of the last round trip: one that is twice as far away takes twice as
//! many at a time for the same work (Little's law). The measure is the time that connections take, in which the host's
//! kernel answers and nothing that is busy.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::host::REQUESTS_PER_HOST;

/// Most requests that a host is busy with at a time, however far away it is.
const REQUESTS_PER_FAR_HOST: usize = 2 * REQUESTS_PER_HOST;
/// So many connections are looked at before one is believed: the first ones wait for the host's name as well.
const CONNECTIONS_MIN: usize = 4;

#[derive(Debug)]
pub(super) struct Distance {
    connections: AtomicUsize,
    /// The shortest round trip so far, in microseconds.
    shortest: AtomicU64,
}

impl Default for Distance {
    fn default() -> Self {
        Self { connections: AtomicUsize::new(0), shortest: AtomicU64::new(u64::MAX) }
    }
}

impl Distance {
    /// A connection took `time`, in so many round trips.
    pub(super) fn note(&self, time: Duration, round_trips: u32) {
        let round_trip = u64::try_from((time / round_trips).as_micros()).unwrap_or(u64::MAX);
        self.shortest.fetch_min(round_trip, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests the host may be busy with at a time: about a thousand in a second, if it answers at once.
    pub(super) fn requests_at_a_time(&self) -> usize {
        if self.connections.load(Ordering::Relaxed) < CONNECTIONS_MIN {
            return REQUESTS_PER_HOST;
        }
        let milliseconds = self.shortest.load(Ordering::Relaxed) / 1000;
        usize::try_from(milliseconds).unwrap_or(usize::MAX).clamp(REQUESTS_PER_HOST, REQUESTS_PER_FAR_HOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distant_host_is_asked_more_at_a_time_once_a_few_connections_have_shown_it() {
        let table = [(1, 96), (50, 96), (100, 100), (150, 150), (400, 192), (9000, 192)];
        for (milliseconds, requests) in table {
            let distance = Distance::default();
            for connection in [7, 1, 2, 1] {
                assert_eq!(distance.requests_at_a_time(), REQUESTS_PER_HOST);
                distance.note(Duration::from_millis(2 * milliseconds * connection), 2);
            }
            assert_eq!(distance.requests_at_a_time(), requests, "{milliseconds} ms");
        }
    }
}
