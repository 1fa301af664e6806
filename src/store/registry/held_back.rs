//! Bodies that are of no use once their heads are answered.
//!
//! A gateway refuses a request by its head, and whatever is sent of the body is sent in vain. So no body goes on once its
//! request is answered; and at a host that has refused requests as too many, a large one waits before its first byte for a
//! little longer than a refusal takes. That is what `Expect: 100-continue` is for (RFC 9110, section 10.1.1), which a
//! server and all proxies before it would have to know.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, Response};
use tokio::sync::watch;
use tokio::time::timeout;

/// Bodies of more bytes than this are worth the wait.
const LARGE: u64 = 16 << 10;
/// No body waits for longer.
const LONGEST: Duration = Duration::from_secs(1);
/// What a server takes beside the way to it and back.
const SLACK: Duration = Duration::from_millis(5);
/// Bytes of a body that go at a time.
const STEP: usize = 64 << 10;

pub(super) type Stopped = Box<dyn std::error::Error + Send + Sync>;

/// How long a body of `size` bytes waits at a host whose refusals take so long, if it has refused any.
pub(super) fn wait(size: u64, refusal_takes: Option<Duration>, stall: Duration) -> Option<Duration> {
    let takes = refusal_takes.filter(|_| size > LARGE)?;
    Some((2 * takes + SLACK).min(LONGEST).min(stall / 2))
}

/// A request whose body is on its way. The body ends where it is once this is dropped: over the same connection the answer
/// is read, so it goes along with that.
#[derive(Debug, Clone)]
pub(super) struct Sending(Arc<watch::Sender<bool>>);

impl Sending {
    /// A request, and its body, which waits before it begins.
    pub(super) fn new(wait: Option<Duration>) -> (Self, Leave) {
        let (sender, answered) = watch::channel(false);
        (Self(Arc::new(sender)), Leave { answered, wait })
    }

    /// The request is answered.
    pub(super) fn answered(self, response: &mut Response) {
        self.0.send_replace(true);
        response.extensions_mut().insert(self);
    }
}

/// What the body asks before each of its steps.
#[derive(Debug)]
pub(super) struct Leave {
    answered: watch::Receiver<bool>,
    wait: Option<Duration>,
}

impl Leave {
    /// Waits as long as the body is to wait.
    ///
    /// # Errors
    /// The request has been answered.
    pub(super) async fn go_on(&mut self) -> Result<(), Stopped> {
        let has_answer = match self.wait.take() {
            Some(wait) => timeout(wait, self.answered.wait_for(|answered| *answered)).await.is_ok(),
            None => *self.answered.borrow() || self.answered.has_changed().is_err(),
        };
        if !has_answer {
            return Ok(());
        }
        while self.answered.changed().await.is_ok() {}
        Err("the request is answered".into())
    }
}

/// A body of these bytes.
pub(super) fn body(bytes: Bytes, leave: Leave) -> Body {
    Body::wrap_stream(futures_util::stream::try_unfold((bytes, leave), |(mut bytes, mut leave)| async move {
        if bytes.is_empty() {
            return Ok(None);
        }
        leave.go_on().await?;
        let step = bytes.split_to(STEP.min(bytes.len()));
        Ok::<_, Stopped>(Some((step, (bytes, leave))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_waits_for_a_little_longer_than_a_refusal_takes_and_never_for_long() {
        let (ms, stall) = (Duration::from_millis, Duration::from_secs(60));
        assert_eq!(wait(1 << 20, None, stall), None);
        assert_eq!(wait(16 << 10, Some(ms(30)), stall), None);
        assert_eq!(wait(1 << 20, Some(ms(30)), stall), Some(ms(65)));
        assert_eq!(wait(1 << 20, Some(ms(9_000)), stall), Some(ms(1_000)));
        assert_eq!(wait(1 << 20, Some(ms(9_000)), ms(1_000)), Some(ms(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_goes_once_it_has_waited_and_ends_where_its_request_is_answered() {
        let (sending, mut leave) = Sending::new(Some(Duration::from_millis(65)));
        let began = tokio::time::Instant::now();
        leave.go_on().await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_millis(65));
        leave.go_on().await.unwrap();
        sending.0.send_replace(true);
        let short = Duration::from_millis(1);
        assert!(timeout(short, leave.go_on()).await.is_err(), "the answer is still read");
        drop(sending);
        leave.go_on().await.unwrap_err();

        let (sending, mut leave) = Sending::new(Some(Duration::from_secs(1)));
        drop(sending);
        leave.go_on().await.unwrap_err();
    }
}
