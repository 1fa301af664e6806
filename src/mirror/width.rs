//! How many large blobs go at once over a line, by what they move.
//!
//! A fast line is filled by as many as are allowed. On one where each crawls, more of them end later, and an interruption
//! finds all of them unfinished: there are no more than make the line move more. Nothing here looks at a clock.

use std::time::Duration;

use tokio::time::Instant;

/// So many begin.
pub(super) const FIRST: usize = 2;
/// Bytes a second: a blob that moves less crawls.
const CRAWL: f64 = 1_048_576.0;
/// Bytes that a line has to move before it is believed to be fast.
const PROOF: u64 = 4 << 20;
/// What the system has taken is not there yet: so soon after more have begun, so many bytes of each, and more count for
/// nothing.
const FILLING: Duration = Duration::from_secs(1);
const TAKEN: u64 = 1 << 20;
/// How long a line is measured with so many blobs after that: until it has moved so much that a few hundred KiB, which the
/// system takes at a time, make no difference.
const PERIOD: Duration = Duration::from_secs(2);
const LONGEST_PERIOD: Duration = Duration::from_secs(6);
const SAMPLE: u64 = 3 << 20;
/// A line moves more only if it moves so many times as much.
const GAIN: f64 = 1.2;
/// A line that moves so many times as much as before is another line.
const ANOTHER: f64 = 1.5;

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// More are tried; with half as many the line moved so many bytes a second.
    Search { before: Option<f64> },
    /// None of them crawls.
    Fast,
    /// Each crawls, and more of them move more: the other end slows each of them down.
    Slowed,
    /// More would not move more than so many bytes a second.
    Thin { rate: f64 },
}

#[derive(Debug)]
pub(super) struct Width {
    most: usize,
    allowed: usize,
    state: State,
    /// When the measurement began, and what had moved by then, in bytes.
    begun: Option<(Instant, u64)>,
    /// So many are under way for longer than [`FILLING`].
    is_filled: bool,
}

impl Width {
    pub(super) fn new(most: usize) -> Self {
        let (allowed, state) = (FIRST.min(most), State::Search { before: None });
        Self { most, allowed, state, begun: None, is_filled: false }
    }

    /// So many may be under way.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether more may be allowed at any moment.
    pub(super) fn is_searching(&self) -> bool {
        self.allowed < self.most && matches!(self.state, State::Search { .. })
    }

    /// `moved` bytes have moved so far, and so many blobs are under way.
    pub(super) fn measure(&mut self, now: Instant, moved: u64, under_way: usize) {
        let (since, from) = *self.begun.get_or_insert((now, moved));
        if under_way == 0 || moved < from {
            (self.begun, self.is_filled) = (None, false);
            return;
        }
        let (time, bytes) = (now - since, moved - from);
        let crawl = CRAWL * under_way as f64;
        let taken = if self.is_filled { 0 } else { TAKEN * under_way as u64 };
        let there = bytes.saturating_sub(taken);
        if there >= PROOF && there as f64 >= crawl * time.as_secs_f64() {
            (self.state, self.allowed) = (State::Fast, self.most);
        }
        let period = match (self.is_filled, bytes) {
            (false, _) => FILLING,
            (true, 0 | SAMPLE..) => PERIOD,
            (true, _) => LONGEST_PERIOD,
        };
        if time < period {
            return;
        }
        self.begun = Some((now, moved));
        if !std::mem::replace(&mut self.is_filled, true) {
            return;
        }
        let rate = bytes as f64 / time.as_secs_f64();
        // With fewer than are allowed nothing is learned of more, and with those of before nothing of fewer.
        if under_way == self.allowed && (rate < crawl || self.state != State::Fast) {
            self.learn(rate);
        }
    }

    /// The line moves so many bytes a second with as many as are allowed, and each crawls.
    fn learn(&mut self, rate: f64) {
        match self.state {
            State::Fast => {
                (self.state, self.allowed) = (State::Search { before: None }, FIRST.min(self.most))
            }
            State::Search { before } if before.is_none_or(|before| rate >= before * GAIN) => self.widen(rate),
            State::Search { before } => {
                self.allowed = (self.allowed / 2).max(1);
                self.state = State::Thin { rate: rate.max(before.unwrap_or(0.0)) };
            }
            State::Thin { rate: known } if rate >= known * ANOTHER => self.widen(rate),
            State::Thin { .. } | State::Slowed => {}
        }
    }

    fn widen(&mut self, rate: f64) {
        if self.allowed == self.most {
            self.state = State::Slowed;
        } else {
            self.state = State::Search { before: Some(rate) };
            self.allowed = (2 * self.allowed).min(self.most);
            self.is_filled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    /// Moves blobs without end for so many seconds over a line that moves `rate` bytes a second with so many.
    fn over(width: &mut Width, seconds: usize, rate: impl Fn(usize) -> f64) -> usize {
        let (mut now, mut moved, mut under_way) = (Instant::now(), 0.0, 0);
        for tick in 0..seconds * 100 {
            // One of those that are too many ends now and then.
            match under_way.cmp(&width.allowed()) {
                std::cmp::Ordering::Greater if tick % 100 == 0 => under_way -= 1,
                std::cmp::Ordering::Greater => {}
                _ => under_way = width.allowed(),
            }
            moved += rate(under_way) / 100.0;
            now += Duration::from_millis(10);
            width.measure(now, moved as u64, under_way);
        }
        width.allowed()
    }

    /// Most blobs under way on a line of so many bytes a second, where the system takes so many of each within half a
    /// second, before they leave.
    fn most_over(width: &mut Width, seconds: usize, rate: f64, taken: f64) -> usize {
        let (mut now, mut left, mut begun) = (Instant::now(), 0.0, Vec::new());
        for _ in 0..seconds * 100 {
            begun.resize(width.allowed().max(begun.len()), now);
            left += rate / 100.0;
            now += Duration::from_millis(10);
            let filled = |begun: &Instant| ((now - *begun).as_secs_f64() / 0.5).min(1.0);
            let taken = taken * begun.iter().map(filled).sum::<f64>();
            width.measure(now, (left + taken) as u64, begun.len());
        }
        begun.len()
    }

    #[test]
    fn what_the_system_takes_of_more_blobs_is_not_moved_by_the_line() {
        for (rate, taken) in [(0.005, 0.1), (0.1, 0.5), (0.5, 0.5), (1.5, 0.5), (1.5, 1.5)] {
            let mut width = Width::new(26);
            let most = most_over(&mut width, 60, rate * MIB, taken * MIB);
            assert!(most <= 2 * FIRST, "{rate} MiB/s, {taken} MiB: {most}");
        }
    }

    #[test]
    fn a_fast_line_gets_all_at_once() {
        let mut width = Width::new(10);
        assert_eq!(over(&mut width, 1, |_| 100.0 * MIB), 10);
        assert_eq!(over(&mut width, 100, |_| 11.0 * MIB), 10);
    }

    #[test]
    fn a_line_where_each_crawls_and_more_move_no_more_keeps_few() {
        let mut width = Width::new(10);
        assert_eq!(over(&mut width, 60, |_| 1.5 * MIB), FIRST);
    }

    #[test]
    fn where_each_is_slowed_down_by_itself_all_go() {
        let mut width = Width::new(10);
        assert_eq!(over(&mut width, 30, |under_way| 0.1 * MIB * under_way as f64), 10);
        assert_eq!(over(&mut width, 600, |_| 0.3 * MIB), 10, "it is not narrowed again and again");
    }

    #[test]
    fn a_line_that_moves_nothing_at_first_gets_more() {
        let mut width = Width::new(10);
        assert_eq!(over(&mut width, 10, |_| 0.0), 10);
    }

    #[test]
    fn a_line_that_becomes_thin_gets_fewer_and_one_that_becomes_fast_gets_all() {
        let mut width = Width::new(10);
        assert_eq!(over(&mut width, 2, |_| 50.0 * MIB), 10);
        assert_eq!(over(&mut width, 60, |_| 1.5 * MIB), FIRST);
        assert_eq!(over(&mut width, 5, |_| 50.0 * MIB), 10);
    }

    #[test]
    fn one_at_a_time_stays_one() {
        let mut width = Width::new(1);
        assert_eq!(over(&mut width, 60, |_| 0.1 * MIB), 1);
    }
}
