//! What may pass, and how long to wait for it.
//!
//! A request is tried again only for what may pass by itself ([`Kind::may_pass`]). Pauses double from half a
//! second, with jitter so that many clients do not return at once. A pause that the server asks for is kept to
//! the second, is never shorter than one of our own, and is no failed try: the server works, it is only busy.
//!
//! Requests are tried again by one loop, [`Registry::retry`]. What takes several requests, and goes on otherwise than it
//! began, has a loop of its own over the same [`Patience`]: a blob, which may come from another place or be sent in
//! another way (`store/copy.rs`); a copy at the target that is read to its end (`store/inspect.rs`); an upload in pieces,
//! which goes on from where its session is (`upload/chunked.rs`); and the wait for a host to take bodies again, in which
//! it is asked something small (`upload/whole.rs`).

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::Registry;
use crate::error::{Error, Kind};
use crate::util::text;

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

/// What is made again, which says what its failures lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A question, or anything else that costs no more than one.
    Request,
    /// The first word with a host.
    Ping,
    /// A manifest, with its bytes.
    Manifest,
    /// The rest of a blob.
    Download,
    /// The beginning of an upload.
    Upload,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Another try after a pause, as often as patience allows.
    Wait,
    /// One more try, at once.
    Once,
    /// None.
    Stop,
}

impl Rule {
    fn step(self, kind: &Kind, out_of_reach: bool) -> Step {
        match (self, kind) {
            // Whatever else it is, others need not wait for this request.
            (Self::Ping, _) if !out_of_reach => Step::Stop,
            // The blob is tried again as a whole.
            (Self::Upload, kind) if *kind != Kind::Busy => Step::Stop,
            // A cache on the way may be the culprit.
            (Self::Manifest, Kind::Corrupt) => Step::Once,
            _ => Step::Wait,
        }
    }
}

/// Something that is made until it succeeds. A trait and no closure: of a closure that borrows, the compiler cannot tell
/// that its futures may move between threads.
pub(super) trait Attempt {
    type Done;
    const RULE: Rule;

    /// One try. Only one that is the first word with its host makes use of `patience`.
    fn make(&mut self, patience: &mut Patience) -> impl Future<Output = Result<Self::Done, Error>> + Send;
}

impl Registry {
    /// Makes `attempt` until it succeeds or there is no more hope: the one loop of all requests to a host.
    pub(super) async fn retry<A: Attempt>(
        &self,
        patience: &mut Patience,
        mut attempt: A,
    ) -> Result<A::Done, Error> {
        match attempt.make(patience).await {
            Ok(done) => Ok(done),
            Err(error) => self.retry_after(error, patience, attempt).await,
        }
    }

    /// The same where the first try has failed already.
    pub(super) async fn retry_after<A: Attempt>(
        &self,
        mut error: Error,
        patience: &mut Patience,
        mut attempt: A,
    ) -> Result<A::Done, Error> {
        let mut once = false;
        loop {
            let step = A::RULE.step(&error.kind, error.is_out_of_reach());
            let pause = match step {
                Step::Wait => patience.next(&error.kind, self.is_alive()),
                Step::Once | Step::Stop => None,
            };
            match pause {
                Some(pause) => self.pause(pause, &error).await,
                None if step == Step::Once && !once => once = true,
                None => return Err(error),
            }
            match attempt.make(patience).await {
                Ok(done) => return Ok(done),
                Err(another) => error = another,
            }
        }
    }

    /// Waits `pause` after `error`. Where the host has asked for fewer requests its gate is closed for all already.
    pub async fn pause(&self, pause: Duration, error: &Error) {
        tracing::info!("trying again in {}: {error}", text::duration(pause));
        sleep(pause).await;
    }

    pub(super) fn close_for(&self, pause: Duration) {
        if self.gate.close_for(pause) {
            tracing::warn!("{} asks for fewer requests: waiting {}", self.host, text::duration(pause));
        }
    }

    /// Whether it has answered anything well of late: overloaded or not, it works.
    pub fn is_alive(&self) -> bool {
        self.gate.served_within(self.policy.timing.alive)
    }
}

/// The pause before another try at a host that is overloaded, after so many failures in a row.
pub(super) fn own_pause(timing: &Timing, failures: u32) -> Duration {
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
mod tests;
