//! What may pass, and how long to wait for it.
//!
//! A request is tried again only for what may pass by itself ([`Kind::may_pass`]). Pauses double from half a
//! second, with jitter so that many clients do not return at once. A pause that the server asks for is kept to
//! the second and is no failed try: the server works, it is only busy.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use super::error::Kind;

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
}

impl Patience {
    pub fn new(policy: &Policy) -> Self {
        Self { policy: policy.clone(), failures: 0, busy: 0, waited: Duration::ZERO }
    }

    /// How long to wait before the next try after a failure of this kind; `None` if there is to be none. A host that
    /// is `alive` has answered well of late, whatever it was asked.
    pub fn next(&mut self, kind: &Kind, alive: bool) -> Option<Duration> {
        if *kind == Kind::Busy && alive && self.busy < self.policy.retries.saturating_mul(BUSY_FACTOR) {
            self.busy += 1;
            self.failures = 0;
            return Some(pause(&self.policy.timing, self.busy).min(BUSY_PAUSE_MAX));
        }
        if let Kind::RateLimited(Some(wish)) = kind {
            self.waited = self.waited.saturating_add(*wish);
            return (self.waited <= self.policy.timing.longest_wait).then_some(*wish);
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

/// The pause before try number `failures + 1`: between half and all of a doubling value.
fn pause(timing: &Timing, failures: u32) -> Duration {
    let doubled = timing.first_pause.saturating_mul(1 << (failures - 1).min(16));
    let whole = doubled.min(timing.longest_pause);
    // A fresh RandomState is seeded by the system; no more randomness is needed here.
    let random = RandomState::new().hash_one(failures) as u32;
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// `Retry-After` in either form (RFC 9110, section 10.2.3); `None` for what makes no sense.
///
/// A date in the past is no wait to keep, so it is no answer either.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than any clock needs: as long as can be said.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(retries: u32) -> Policy {
        Policy { retries, timing: Timing::default(), manifest_max: 0 }
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_only_so_often() {
        let mut patience = Patience::new(&policy(2));
        assert!(patience.next(&Kind::NotFound, false).is_none());
        assert!(patience.next(&Kind::Transient, false).is_some());
        assert!(patience.next(&Kind::Unreachable, false).is_some());
        assert!(patience.next(&Kind::Transient, false).is_none());
        patience.restore();
        assert!(patience.next(&Kind::Transient, false).is_some());
    }

    #[test]
    fn a_storage_service_that_refuses_is_asked_three_times_at_most() {
        let mut patience = Patience::new(&policy(9));
        assert!(
            patience.next(&Kind::Storage, false).is_some() && patience.next(&Kind::Storage, false).is_some()
        );
        assert!(patience.next(&Kind::Storage, false).is_none());
    }

    #[test]
    fn a_servers_wish_is_kept_and_is_no_failed_try() {
        let mut patience = Patience::new(&policy(0));
        let seven = Kind::RateLimited(Some(Duration::from_secs(7)));
        for _ in 0..100 {
            assert_eq!(patience.next(&seven, false), Some(Duration::from_secs(7)));
        }
        let window = Kind::RateLimited(Some(Duration::from_secs(21_600)));
        assert_eq!(patience.next(&window, false), None);
        assert_eq!(patience.next(&Kind::RateLimited(Some(Duration::MAX)), false), None);
    }

    #[test]
    fn an_overloaded_host_that_is_alive_is_tried_more_often() {
        let tries = |alive| {
            let mut patience = Patience::new(&policy(2));
            (0..999).filter(|_| patience.next(&Kind::Busy, alive).is_some()).count()
        };
        assert_eq!((tries(false), tries(true)), (2, 2 + 20));
        // Once it is not any more, the usual tries are left.
        let mut patience = Patience::new(&policy(2));
        (0..5).for_each(|_| assert!(patience.next(&Kind::Busy, true).is_some()));
        assert_eq!((0..999).filter(|_| patience.next(&Kind::Busy, false).is_some()).count(), 2);
    }

    #[test]
    fn pauses_grow_with_jitter_up_to_a_limit() {
        let timing = Timing::default();
        for failures in 1..40 {
            let whole =
                timing.first_pause.saturating_mul(1 << (failures - 1).min(16)).min(timing.longest_pause);
            let actual = pause(&timing, failures);
            assert!(actual >= whole / 2 && actual <= whole, "{failures}: {actual:?}");
        }
        assert_ne!(pause(&timing, 9), pause(&timing, 9));
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |value| retry_after(value, now).map(|d| d.as_secs());
        assert_eq!(read("7"), Some(7));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:44 GMT"), Some(7));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT"), None);
        assert_eq!(read("99999999999999999999999"), Some(u64::from(u32::MAX)));
        for nonsense in ["-1", "abc", "", "7.5", "0x7"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_retry_after_makes_the_parser_or_the_patience_fail(text in ".{0,60}|[0-9]{0,40}", tries in 0..9_u32) {
            let wish = retry_after(&text, SystemTime::now());
            let mut patience = Patience::new(&policy(tries));
            for _ in 0..100 {
                let pause = patience.next(&Kind::RateLimited(wish), false);
                proptest::prop_assert!(pause.is_none_or(|pause| pause <= Timing::default().longest_wait));
            }
        }
    }
}
