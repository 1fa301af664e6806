//! How many requests a second a host gets, judged by those that it took and the one that it refused.
//!
//! A bucket of tokens that refuses was emptied, and it is refilled while the host is left alone: what was taken from one
//! refusal to the next, over all the time between them, is let through by the limit for sure. It is all that the limit
//! lets through where the bucket stores what comes in over the pause; one that holds less loses the rest of that.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The rate at which a host is asked is that of its last requests, so many at most.
const RECENT: usize = 16;
/// So many have to be taken from one refusal to the next until that is believed to be the limit.
const TELLING: u32 = 4;
/// What is left of the rate that was refused, where nothing better is known.
const DECREASE: f64 = 0.25;
/// So many in a row are a bucketful that was stored: more than a little beyond what is proven is not to be had.
const BUCKETFUL: u32 = 16;
const ABOVE_PROVEN: f64 = 1.25;
/// What is let through over a pause was stored, if at least this part of it was taken after each.
const STORED: f64 = 0.9;
/// Up to this part of the rate that was refused it grows by a quarter with each request.
const NEAR: f64 = 0.7;
const FAR_GROWTH: f64 = 1.25;
/// From there it draws near, by so much of the way with each, and at last by so much of the whole.
const NEAR_GROWTH: f64 = 0.01;
const LEAST_GROWTH: f64 = 0.0003;
/// Beyond it, where the limit must be another one by now, it grows by so much, and faster the farther it is beyond.
const BEYOND_GROWTH: f64 = 0.002;
const ACCELERATION: f64 = 0.02;
/// What is left of what was sure, after a refusal: the limit may be another one by now.
const DOUBT: f64 = 0.75;
/// The part of the rate that is as good as sure where little is known.
const LIKELY: f64 = 0.35;
/// Requests a second that are as good as no limit.
const UNLIMITED: f64 = 5_000.0;

#[derive(Debug)]
pub(super) struct Rate {
    longest_gap: Duration,
    recent: VecDeque<Instant>,
    /// The last refusal, or the first request.
    since: Option<Instant>,
    /// The first request after that.
    begun: Option<Instant>,
    taken: u32,
    /// Fewest that were taken from one refusal to the next: no more than these were stored over the pause.
    fewest: u32,
    /// Requests a second, if the host has ever refused any.
    allowed: Option<f64>,
    /// What was refused.
    ceiling: f64,
    /// Requests a second that the limit lets through for sure.
    sure: f64,
}

impl Rate {
    pub(super) fn new(longest_gap: Duration) -> Self {
        Self {
            longest_gap,
            recent: VecDeque::new(),
            since: None,
            begun: None,
            taken: 0,
            fewest: u32::MAX,
            allowed: None,
            ceiling: f64::INFINITY,
            sure: 0.0,
        }
    }

    /// When the next request may go, which may show that the rate is too high.
    pub(super) fn next(&self) -> Option<Instant> {
        self.after(self.allowed?)
    }

    /// When the next request may go for which there is room, whatever was stored: the bucket has got one more since the
    /// last one.
    pub(super) fn next_for_sure(&self) -> Option<Instant> {
        let allowed = self.allowed?;
        self.after(self.sure.clamp(allowed * LIKELY, allowed))
    }

    fn after(&self, rate: f64) -> Option<Instant> {
        Some(*self.recent.back()? + self.gap(rate))
    }

    fn gap(&self, rate: f64) -> Duration {
        Duration::from_secs_f64(1.0 / rate).min(self.longest_gap)
    }

    pub(super) fn asked(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.begun.get_or_insert(now);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    pub(super) fn taken(&mut self, now: Instant) {
        self.taken += 1;
        let Some(allowed) = self.allowed else { return };
        self.sure = self.sure.max(self.least(now));
        if !self.is_made_use_of(allowed, now) {
            return;
        }
        let grown = if allowed < self.ceiling * NEAR {
            allowed * FAR_GROWTH
        } else if allowed < self.ceiling {
            allowed + ((self.ceiling - allowed) * NEAR_GROWTH).max(self.ceiling * LEAST_GROWTH)
        } else {
            allowed * (1.0 + BEYOND_GROWTH + ACCELERATION * (allowed / self.ceiling - 1.0))
        };
        self.allowed = (grown < UNLIMITED).then_some(grown);
    }

    /// A rate that nobody asks for is not known to be taken.
    fn is_made_use_of(&self, allowed: f64, now: Instant) -> bool {
        let before = self.recent.iter().rev().nth(1);
        before.is_some_and(|before| *before + 3 * self.gap(allowed) >= now)
    }

    /// What the limit lets through at least, as nothing was left when it refused one.
    fn least(&self, now: Instant) -> f64 {
        per_second(self.taken.saturating_sub(1), self.since.unwrap_or(now), now)
    }

    pub(super) fn refused(&mut self, now: Instant) {
        if let Some(asked) = self.asked_at(now) {
            let proven = per_second(self.taken, self.since.unwrap_or(now), now).min(asked);
            self.fewest = self.fewest.min(self.taken);
            let is_bucketful = self.taken >= BUCKETFUL && self.stores(proven);
            self.ceiling = if is_bucketful { asked.min(proven * ABOVE_PROVEN) } else { asked };
            if self.allowed.is_some() {
                // What was taken before the first refusal may have been stored all along.
                self.sure = self.least(now).max(self.sure * DOUBT);
            }
            let is_telling = self.allowed.is_some() && self.taken >= TELLING;
            self.allowed = Some(if is_telling { proven } else { proven.max(asked * DECREASE) });
        }
        (self.since, self.begun, self.taken) = (Some(now), None, 0);
        self.recent.clear();
    }

    /// Whether what comes in over a pause, at such a rate, is stored as far as is known.
    fn stores(&self, rate: f64) -> bool {
        let pause = self.begun.zip(self.since).map_or(Duration::ZERO, |(begun, since)| begun - since);
        f64::from(self.fewest) >= rate * pause.as_secs_f64() * STORED
    }

    /// Requests a second that the host was asked of late; once they are spaced, those that came closest.
    fn asked_at(&self, now: Instant) -> Option<f64> {
        let first = self.recent.front()?;
        let others = u32::try_from(self.recent.len()).ok()? - 1;
        let closest = self.recent.iter().zip(self.recent.iter().skip(1)).map(|(a, b)| *b - *a).min()?;
        Some(match self.allowed {
            Some(allowed) => allowed.min(1.0 / closest.max(SHORTEST).as_secs_f64()),
            None => per_second(others, *first, now),
        })
    }
}

/// The shortest time that is told from none.
const SHORTEST: Duration = Duration::from_millis(1);

fn per_second(count: u32, since: Instant, now: Instant) -> f64 {
    f64::from(count) / now.saturating_duration_since(since).max(SHORTEST).as_secs_f64()
}
