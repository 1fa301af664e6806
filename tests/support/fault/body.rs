//! Bodies that are cut, slow, changed or never end.

use std::future::Future as _;
use std::io;
use std::iter::Peekable;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Sleep;

use super::Cut;
use crate::support::net::reply::Chunks;
use crate::support::net::wire::Control;

/// Long enough for what was sent to be read before a reset overtakes it.
const SETTLE: Duration = Duration::from_millis(40);

/// What is to go wrong with one body.
#[derive(Clone, Debug, Default)]
pub struct BodyPlan {
    pub delay: Option<Duration>,
    pub trickle: Option<(usize, Duration)>,
    pub cut: Option<(u64, Cut)>,
    pub stall: Option<u64>,
    pub flip: Option<u64>,
    pub extra: u64,
    pub endless: bool,
    pub chunked: bool,
}

impl BodyPlan {
    pub fn is_plain(&self) -> bool {
        self.delay.is_none()
            && self.trickle.is_none()
            && self.cut.is_none()
            && self.stall.is_none()
            && self.extra == 0
            && !self.endless
    }

    /// How much may go out at once after `sent` bytes.
    fn allowance(&self, sent: u64) -> u64 {
        let stops = [self.cut.map(|(at, _)| at), self.stall];
        let stop = stops.into_iter().flatten().min().unwrap_or(u64::MAX);
        let piece = self.trickle.map_or(u64::MAX, |(bytes, _)| bytes as u64);
        piece.min(stop.saturating_sub(sent))
    }
}

pub struct Faulty {
    chunks: Peekable<Chunks>,
    current: Bytes,
    plan: BodyPlan,
    sent: u64,
    sleep: Option<Pin<Box<Sleep>>>,
    settled: bool,
    control: Arc<Control>,
}

impl Faulty {
    pub fn new(chunks: Chunks, plan: BodyPlan, control: Arc<Control>) -> Self {
        let sleep = plan.delay.map(|time| Box::pin(tokio::time::sleep(time)));
        let extra = filler(plan.extra);
        let chunks: Chunks = Box::new(chunks.chain(extra));
        Self {
            chunks: chunks.peekable(),
            current: Bytes::new(),
            plan,
            sent: 0,
            sleep,
            settled: false,
            control,
        }
    }

    /// Nothing more will come, good or bad.
    pub fn is_done(&mut self) -> bool {
        let hitch = self.plan.cut.is_some() || self.plan.stall.is_some() || self.plan.endless;
        !hitch && self.current.is_empty() && self.chunks.peek().is_none()
    }

    fn refill(&mut self) -> bool {
        while self.current.is_empty() {
            match self.chunks.next() {
                Some(chunk) => self.current = chunk,
                None if self.plan.endless => self.current = Bytes::from(vec![b' '; 64 * 1024]),
                None => return false,
            }
        }
        true
    }

    fn take(&mut self, n: u64) -> Bytes {
        let n = usize::try_from(n).unwrap_or(usize::MAX).min(self.current.len());
        let bytes = self.current.split_to(n);
        let start = self.sent;
        self.sent += n as u64;
        match self.plan.flip {
            Some(at) if (start..self.sent).contains(&at) => flip(&bytes, (at - start) as usize),
            _ => bytes,
        }
    }

    /// The end that was planned for this point, if there is one.
    fn poll_hitch(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        if self.plan.stall.is_some_and(|at| self.sent >= at) {
            return Some(Poll::Pending);
        }
        let (at, how) = self.plan.cut?;
        if self.sent < at {
            return None;
        }
        if !self.settled {
            self.settled = true;
            let mut sleep = Box::pin(tokio::time::sleep(SETTLE));
            let _ = sleep.as_mut().poll(cx);
            self.sleep = Some(sleep);
            return Some(Poll::Pending);
        }
        if how == Cut::Rst {
            self.control.reset_on_close();
        }
        Some(Poll::Ready(io::Error::other("cut on purpose")))
    }
}

fn flip(bytes: &Bytes, at: usize) -> Bytes {
    let mut changed = BytesMut::from(&bytes[..]);
    changed[at] ^= 0x01;
    changed.freeze()
}

fn filler(mut left: u64) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || {
        let n = left.min(64 * 1024);
        left -= n;
        (n > 0).then(|| Bytes::from(vec![b'x'; n as usize]))
    })
}

impl Stream for Faulty {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(sleep) = &mut this.sleep {
            ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
        }
        if let Some(hitch) = this.poll_hitch(cx) {
            return hitch.map(|error| Some(Err(error)));
        }
        if !this.refill() {
            return Poll::Ready(None);
        }
        let bytes = this.take(this.plan.allowance(this.sent));
        if let Some((_, every)) = this.plan.trickle {
            this.sleep = Some(Box::pin(tokio::time::sleep(every)));
        }
        Poll::Ready(Some(Ok(bytes)))
    }
}
