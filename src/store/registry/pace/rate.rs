//! How many requests a second a host gets, judged by those that it took and the one that it refused.
//!
//! A bucket of tokens that refuses was emptied, and it is refilled while the host is left alone: what was taken from one
//! refusal to the next, over all the time between them, is what the limit lets through.

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
/// Up to this part of the rate that was refused it grows by a quarter with each request.
const NEAR: f64 = 0.8;
const FAR_GROWTH: f64 = 1.25;
/// From there it draws near, by so much of the way with each, and at last by so much of the whole.
const NEAR_GROWTH: f64 = 0.01;
const LEAST_GROWTH: f64 = 0.0003;
/// Beyond it, where the limit must be another one by now, it grows by so much, and faster the farther it is beyond.
const BEYOND_GROWTH: f64 = 0.002;
const ACCELERATION: f64 = 0.02;
/// Requests a second that are as good as no limit.
const UNLIMITED: f64 = 5_000.0;

#[derive(Debug)]
pub(super) struct Rate {
    longest_gap: Duration,
    recent: VecDeque<Instant>,
    /// Since the last refusal, or the first request.
    since: Option<Instant>,
    taken: u32,
    /// Requests a second, if the host has ever refused any.
    allowed: Option<f64>,
    /// What was refused.
    ceiling: f64,
}

impl Rate {
    pub(super) fn new(longest_gap: Duration) -> Self {
        Self {
            longest_gap,
            recent: VecDeque::new(),
            since: None,
            taken: 0,
            allowed: None,
            ceiling: f64::INFINITY,
        }
    }

    /// When the next request may go.
    pub(super) fn next(&self) -> Option<Instant> {
        Some(*self.recent.back()? + self.gap()?)
    }

    fn gap(&self) -> Option<Duration> {
        Some(Duration::from_secs_f64(1.0 / self.allowed?).min(self.longest_gap))
    }

    pub(super) fn asked(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }

    pub(super) fn taken(&mut self, now: Instant) {
        self.taken += 1;
        let Some(allowed) = self.allowed.filter(|_| self.is_made_use_of(now)) else { return };
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
    fn is_made_use_of(&self, now: Instant) -> bool {
        let before = self.recent.iter().rev().nth(1);
        before.zip(self.gap()).is_some_and(|(before, gap)| *before + 3 * gap >= now)
    }

    pub(super) fn refused(&mut self, now: Instant) {
        if let Some(asked) = self.asked_at(now) {
            let proven = per_second(self.taken, self.since.unwrap_or(now), now).min(asked);
            let is_telling = self.allowed.is_some() && self.taken >= TELLING;
            self.allowed = Some(if is_telling { proven } else { proven.max(asked * DECREASE) });
            self.ceiling = if self.taken >= BUCKETFUL { asked.min(proven * ABOVE_PROVEN) } else { asked };
        }
        (self.since, self.taken) = (Some(now), 0);
        self.recent.clear();
    }

    /// Requests a second that the host was asked of late.
    fn asked_at(&self, now: Instant) -> Option<f64> {
        let first = self.recent.front()?;
        let others = u32::try_from(self.recent.len()).ok()? - 1;
        (others > 0).then(|| per_second(others, *first, now))
    }
}

/// A millisecond is the shortest time that is told from none.
fn per_second(count: u32, since: Instant, now: Instant) -> f64 {
    let time = now.saturating_duration_since(since).max(Duration::from_millis(1));
    f64::from(count) / time.as_secs_f64()
}
