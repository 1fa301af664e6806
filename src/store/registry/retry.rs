//! Requests that are made again, as long as [`Patience`] lasts.
//!
//! Requests are tried again by one loop, [`Registry::retry`]. What takes several requests, and goes on otherwise than it
//! began, has a loop of its own over the same patience: a blob, which may come from another place or be sent in
//! another way (`store/copy.rs`); a copy at the target that is read to its end (`store/inspect.rs`); an upload in pieces,
//! which goes on from where its session is (`upload/chunked.rs`); and the wait for a host to take bodies again, in which
//! it is asked something small (`upload/whole.rs`).

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::Registry;
use crate::error::{Error, Kind};
use crate::store::patience::Patience;
use crate::util::text;

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

/// `Retry-After` in either form (RFC 9110, section 10.2.3); `None` for what makes no sense.
///
/// A date in the past is no wait to keep, so it is no answer either.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than any clock needs: as long as can be said.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests;
