//! How fast a host is asked once it has asked for fewer requests; one that never does is asked as fast as may be.
//!
//! As TCP does it (RFC 5681): after a pause a host gets half of the requests that it had at a time, and one more for each
//! round that it answers well. The pause ends with one request alone, which shows whether the host takes requests again;
//! no blob is sent before that. As limits are mostly so many requests a second, requests are spaced as well: by what the
//! host took since the pause before, whatever it takes at once. Whether it takes more is tried by what costs nothing:
//! blobs are spaced by what it takes for sure. Nothing here waits or looks at a clock.

mod rate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use self::rate::Rate;
use super::host::REQUESTS_PER_HOST;

/// A refusal comes at once: a request that is under way for longer is no longer counted, nor waited for.
const OVERDUE: Duration = Duration::from_secs(1);

/// What a refusal counts for that takes longer than those before: many at once wait for each other.
const SLOW_COUNTS: f64 = 0.25;

/// What a request brings. Among those that wait the first goes first: what is begun is ended before more is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    /// A blob that is not to be sent in vain.
    Blob,
    /// A blob that costs no more than a question.
    Little,
    Question,
}

impl Load {
    /// Bytes of a blob that may as well be sent as a question asked.
    const LITTLE: u64 = 64 << 10;

    pub(super) fn of(size: u64) -> Self {
        if size > Self::LITTLE { Self::Blob } else { Self::Little }
    }
}

/// A request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    load: Load,
    number: u64,
}

/// A request that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    number: u64,
    load: Load,
    /// How many doubts there were before it.
    epoch: u64,
}

/// What a request that waits is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Go(Pass),
    /// Wait until then, or until something has changed.
    At(Instant),
    /// Wait until something has changed.
    Later,
    /// Something small has to be asked first, and nobody else does.
    AskFirst,
}

#[derive(Debug)]
pub(super) struct Pace {
    waiting: BTreeSet<Place>,
    /// Since when, by number; later ones have higher numbers.
    under_way: BTreeMap<u64, Instant>,
    last_number: u64,
    /// Most requests at a time, if it has ever asked for fewer.
    window: Option<f64>,
    rate: Rate,
    closed_until: Option<Instant>,
    /// It has refused a request, and taken none since.
    doubtful: bool,
    /// The request that shows whether it takes requests again.
    probe: Option<u64>,
    /// When someone with a blob was sent to ask for something small.
    sent_to_ask: Option<Instant>,
    /// Doubts so far.
    epoch: u64,
    /// Refusals since it last took a request, one for each pause.
    refusals: u32,
    /// How long one takes that is for no large body, if there was any.
    refusal_takes: Option<Duration>,
}

impl Pace {
    /// Requests are never spaced by more than `longest_gap`.
    pub(super) fn new(longest_gap: Duration) -> Self {
        Self {
            waiting: BTreeSet::new(),
            under_way: BTreeMap::new(),
            last_number: 0,
            window: None,
            rate: Rate::new(longest_gap),
            closed_until: None,
            doubtful: false,
            probe: None,
            sent_to_ask: None,
            epoch: 0,
            refusals: 0,
            refusal_takes: None,
        }
    }

    /// Someone waits from now on, until it has got a pass or leaves.
    pub(super) fn queue(&mut self, load: Load) -> Place {
        self.last_number += 1;
        let place = Place { load, number: self.last_number };
        self.waiting.insert(place);
        place
    }

    /// Until when nobody asks, if the host wants to be left alone.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|until| *until > now)
    }

    pub(super) fn leave(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    pub(super) fn anyone_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Refusals since it last took a request, one for each pause.
    pub(super) fn refusals(&self) -> u32 {
        self.refusals
    }

    /// What `place` is to do.
    pub(super) fn turn(&mut self, place: Place, now: Instant) -> Turn {
        if let Some(until) = self.closed_until(now) {
            return Turn::At(until);
        }
        if self.doubtful {
            return self.turn_to_probe(place, now);
        }
        if self.waiting.first() != Some(&place) {
            return Turn::Later;
        }
        if let Some(oldest) = self.is_full(now) {
            return Turn::At(oldest + OVERDUE);
        }
        let next = if place.load == Load::Blob { self.rate.next_for_sure() } else { self.rate.next() };
        if let Some(next) = next.filter(|next| *next > now) {
            return Turn::At(next);
        }
        Turn::Go(self.admit(place, now))
    }

    /// Nobody but one asks, with as little as there is.
    fn turn_to_probe(&mut self, place: Place, now: Instant) -> Turn {
        let since = self.probe.and_then(|probe| self.under_way.get(&probe));
        if let Some(due) = since.map(|since| *since + OVERDUE).filter(|due| *due > now) {
            return Turn::At(due);
        }
        let first = self.waiting.iter().find(|place| place.load != Load::Blob);
        match (first, self.waiting.first()) {
            (Some(first), _) if *first == place => {
                let pass = self.admit(place, now);
                self.probe = Some(pass.number);
                Turn::Go(pass)
            }
            (None, Some(first)) if *first == place => self.turn_to_ask(now),
            _ => Turn::Later,
        }
    }

    /// One of those that have a blob asks, the others wait for what it hears.
    fn turn_to_ask(&mut self, now: Instant) -> Turn {
        let due = self.sent_to_ask.map(|since| since + OVERDUE);
        if let Some(due) = due.filter(|due| *due > now) {
            return Turn::At(due);
        }
        self.sent_to_ask = Some(now);
        Turn::AskFirst
    }

    /// Since when the oldest request that counts is under way, if there may be no more.
    fn is_full(&self, now: Instant) -> Option<Instant> {
        let window = self.window? as usize;
        let mut counted = self.counted(now);
        let oldest = counted.next()?;
        (counted.count() + 1 >= window).then_some(oldest)
    }

    fn counted(&self, now: Instant) -> impl Iterator<Item = Instant> {
        self.under_way.values().copied().skip_while(move |since| *since + OVERDUE <= now)
    }

    fn admit(&mut self, place: Place, now: Instant) -> Pass {
        self.waiting.remove(&place);
        // A number of its own: those that wait are not in the order in which they go.
        self.last_number += 1;
        self.under_way.insert(self.last_number, now);
        self.rate.asked(now);
        Pass { number: self.last_number, load: place.load, epoch: self.epoch }
    }

    /// The host has taken the request, whatever it has answered.
    pub(super) fn taken(&mut self, pass: Pass, now: Instant) {
        self.ended(pass);
        if pass.epoch < self.epoch {
            // It was asked before the host wanted to be left alone.
            return;
        }
        self.rate.taken(now);
        (self.doubtful, self.refusals) = (false, 0);
        self.window = self.window.map(|window| window + 1.0 / window);
        self.window = self.window.filter(|window| *window < REQUESTS_PER_HOST as f64);
    }

    /// How long it takes until a request is refused as one too many, if any was.
    pub(super) fn refusal_takes(&self) -> Option<Duration> {
        self.refusal_takes
    }

    /// The host has refused the request as one too many. False if it was asked before it refused another one.
    pub(super) fn refused(&mut self, pass: Pass, now: Instant) -> bool {
        let news = pass.epoch == self.epoch;
        if news && !self.doubtful {
            self.decrease(now);
        }
        self.doubt();
        if let Some(since) = self.under_way.get(&pass.number).filter(|_| pass.load != Load::Blob) {
            let takes = now - *since;
            let before = self.refusal_takes.unwrap_or(takes).min(takes);
            self.refusal_takes = Some(before + (takes - before).mul_f64(SLOW_COUNTS));
        }
        self.ended(pass);
        self.refusals += u32::from(news);
        news
    }

    /// The request has ended without a word about the host.
    pub(super) fn ended(&mut self, pass: Pass) {
        self.under_way.remove(&pass.number);
        if self.probe == Some(pass.number) {
            self.probe = None;
        }
    }

    /// Nobody asks before `until`. Until when nobody asked before that, if there was such a time.
    pub(super) fn close(&mut self, until: Instant, now: Instant) -> Option<Instant> {
        if !self.doubtful {
            self.decrease(now);
            self.doubt();
        }
        let before = self.closed_until;
        self.closed_until = Some(before.map_or(until, |before| before.max(until)));
        before
    }

    fn doubt(&mut self) {
        if !self.doubtful {
            self.epoch += 1;
            self.sent_to_ask = None;
        }
        self.doubtful = true;
    }

    fn decrease(&mut self, now: Instant) {
        let half = (self.counted(now).count() / 2).max(1) as f64;
        self.window = Some(self.window.map_or(half, |window| window.min(half)));
        self.rate.refused(now);
    }
}

#[cfg(test)]
mod tests;
