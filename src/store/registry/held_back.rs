//! Bodies that wait for an answer to their heads.
//!
//! A gateway refuses a request by its head, and whatever is sent of the body until that is heard of is sent in vain. So at a
//! host that has refused requests as too many a large body waits for a little longer than a refusal takes. That is what
//! `Expect: 100-continue` is for (RFC 9110, section 10.1.1), which a server and all proxies before it would have to know.

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

pub(super) type Stopped = Box<dyn std::error::Error + Send + Sync>;

/// How long a body of `size` bytes waits at a host whose refusals take so long, if it has refused any.
pub(super) fn wait(size: u64, refusal_takes: Option<Duration>, stall: Duration) -> Option<Duration> {
    let takes = refusal_takes.filter(|_| size > LARGE)?;
    Some((2 * takes + SLACK).min(LONGEST).min(stall / 2))
}

/// A request whose body may wait. Once it is answered the body never begins, and breaks the connection off when this is
/// dropped: the answer is read over it, so this goes along with that.
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

/// What the body asks before it begins.
#[derive(Debug)]
pub(super) struct Leave {
    answered: watch::Receiver<bool>,
    wait: Option<Duration>,
}

impl Leave {
    /// Waits as long as the body is to wait, the first time.
    ///
    /// # Errors
    /// The request was answered before that.
    pub(super) async fn begin(&mut self) -> Result<(), Stopped> {
        let Some(wait) = self.wait.take() else { return Ok(()) };
        if timeout(wait, self.answered.wait_for(|answered| *answered)).await.is_err() {
            return Ok(());
        }
        while self.answered.changed().await.is_ok() {}
        Err("the request is answered".into())
    }
}

/// A body of these bytes.
pub(super) fn body(bytes: Bytes, mut leave: Leave) -> Body {
    Body::wrap_stream(futures_util::stream::once(async move {
        leave.begin().await?;
        Ok::<_, Stopped>(bytes)
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
    async fn a_body_begins_once_it_has_waited_and_not_at_all_where_its_request_is_answered() {
        let wait = Duration::from_millis(65);
        let (_sending, mut leave) = Sending::new(Some(wait));
        let began = tokio::time::Instant::now();
        leave.begin().await.unwrap();
        leave.begin().await.unwrap();
        assert_eq!(began.elapsed(), wait);

        let (sending, mut leave) = Sending::new(Some(wait));
        sending.0.send_replace(true);
        assert!(timeout(10 * wait, leave.begin()).await.is_err(), "the answer is still read");
        let (sending, mut leave) = Sending::new(Some(wait));
        drop(sending);
        leave.begin().await.unwrap_err();
    }
}
