//! The events so far, added up.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Moving, Picture, of, permille};
use crate::events::{Delivered, Event, Outcome, TransferId};
use crate::util::text;

/// The rate shown is that of this time past.
const RATE_OVER: Duration = Duration::from_secs(10);
/// A transfer is worth a line of its own from this age on; most are over before.
const WORTH_A_LINE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct State {
    resolving: Option<(usize, usize)>,
    /// The same where there is no target.
    asking: Option<(usize, usize)>,
    planned: Option<Planned>,
    transfers: BTreeMap<TransferId, Transfer>,
    /// Bytes of blobs that are there, and those among them that an earlier run has moved.
    landed: u64,
    resumed: u64,
    settled: usize,
    failed: usize,
    /// Lines told so far.
    pub lines: usize,
    /// Bytes moved at some moments past.
    samples: VecDeque<(Instant, u64)>,
}

struct Planned {
    bytes: u64,
    deliveries: usize,
}

struct Transfer {
    what: String,
    size: u64,
    position: u64,
    /// Bytes that an earlier run has moved.
    resumed: u64,
    began: Instant,
}

impl State {
    pub(super) fn take_in(&mut self, event: Event) {
        match event {
            Event::Resolving { done, total } => self.resolving = Some((done, total)),
            Event::Asking { done, total } => self.asking = Some((done, total)),
            Event::Planned { bytes, deliveries } => self.planned = Some(Planned { bytes, deliveries }),
            Event::Started { transfer, what, size } => {
                let began = Instant::now();
                self.transfers.entry(transfer).or_insert(Transfer {
                    what,
                    size,
                    position: 0,
                    resumed: 0,
                    began,
                });
            }
            Event::Moved { transfer, position } => {
                if let Some(moving) = self.transfers.get_mut(&transfer) {
                    moving.position = position;
                }
            }
            Event::Resumed { transfer, bytes } => {
                if let Some(moving) = self.transfers.get_mut(&transfer) {
                    moving.resumed = bytes;
                }
            }
            Event::Ended { transfer, landed } => {
                let ended = self.transfers.remove(&transfer);
                self.resumed += ended.map_or(0, |ended| ended.resumed.min(landed));
                self.landed += landed;
            }
            Event::Replanned { bytes, deliveries } => {
                if let Some(planned) = &mut self.planned {
                    planned.bytes = planned.bytes.saturating_add_signed(bytes);
                    planned.deliveries = planned.deliveries.saturating_add_signed(deliveries);
                }
            }
            Event::Delivered(told) => {
                self.settled += 1;
                self.failed += usize::from(matches!(told.outcome, Outcome::Failed(_)));
            }
        }
    }

    /// `[12/109] copied SOURCE → TARGET (34 MB)`
    pub(super) fn line_for(&mut self, told: &Delivered) -> String {
        self.lines += 1;
        let Delivered { source, target, outcome, .. } = told;
        let all = self.planned.as_ref().map_or(self.settled, |planned| planned.deliveries);
        let what = match outcome {
            Outcome::Copied { size, .. } => format!("copied {source} → {target} ({})", text::bytes(*size)),
            Outcome::Present(_) => format!("already there {source} → {target}"),
            Outcome::Failed(error) => format!("FAILED {source} → {target}: {error}"),
            Outcome::Left(why) => format!("left undone {source} → {target}: {why}"),
        };
        format!("[{}/{all}] {what}", self.settled)
    }

    /// What to show now; `None` while there is nothing.
    pub(super) fn picture(&mut self) -> Option<Picture> {
        if let Some((done, total)) = self.asking {
            let overall = format!("asking about {total} images: {done} done");
            let permille = permille(done as u64, total as u64);
            return Some(Picture { overall, permille, transfers: Vec::new() });
        }
        let planned = self.planned.as_ref()?;
        // Nothing moves as yet.
        if let Some((done, total)) = self.resolving
            && done < total
            && planned.bytes == 0
        {
            let overall = format!("asking both sides about {total} images: {done} done");
            let permille = permille(done as u64, total as u64);
            return Some(Picture { overall, permille, transfers: Vec::new() });
        }
        let (whole, all) = (planned.bytes, planned.deliveries);
        let moved = self.landed + self.transfers.values().map(|t| t.position).sum::<u64>();
        // What is resumed comes at once, and says nothing of the line.
        let resumed = self.resumed + self.transfers.values().map(|t| t.resumed.min(t.position)).sum::<u64>();
        let rate = self.rate(moved - resumed);
        let (done, all, asked) = match self.resolving {
            // A check delivers nothing.
            Some((done, total)) if all == 0 && self.settled == 0 => (done, total, " asked"),
            _ => (self.settled, all, ""),
        };
        let mut overall = match (self.resolving, all) {
            // Content alone is read, whichever images it is of.
            (None, 0) => of(moved, whole),
            _ => format!("{done} of {all} images{asked}, {}", of(moved, whole)),
        };
        if rate > 0 {
            let left = whole.saturating_sub(moved) as f64 / rate as f64;
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            overall += &format!(", {}/s, {} left", text::bytes(rate), text::duration(left));
        }
        if resumed > 0 {
            overall += &format!(", {} resumed", text::bytes(resumed));
        }
        if self.failed > 0 {
            overall += &format!(", {} failed", self.failed);
        }
        let transfers =
            self.transfers.values().filter(|t| t.began.elapsed() >= WORTH_A_LINE).map(|t| Moving {
                text: format!("{}, {}", t.what, of(t.position, t.size)),
                permille: permille(t.position, t.size),
            });
        Some(Picture { overall, permille: permille(moved, whole), transfers: transfers.collect() })
    }

    /// Bytes a second, over the last seconds.
    fn rate(&mut self, moved: u64) -> u64 {
        let now = Instant::now();
        self.samples.push_back((now, moved));
        while self.samples.len() > 2 && self.samples[1].0 + RATE_OVER < now {
            self.samples.pop_front();
        }
        let (since, then) = self.samples[0];
        let seconds = (now - since).as_secs_f64();
        if seconds < 0.2 { 0 } else { (moved.saturating_sub(then) as f64 / seconds) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(events: Vec<Event>) -> State {
        let mut state = State::default();
        events.into_iter().for_each(|event| state.take_in(event));
        state
    }

    #[test]
    fn a_restarted_transfer_goes_back_and_nothing_is_counted_twice() {
        let mut s = state(vec![
            Event::Planned { bytes: 1000, deliveries: 2 },
            Event::Started { transfer: 1, what: "a".into(), size: 600 },
            Event::Moved { transfer: 1, position: 500 },
            Event::Moved { transfer: 1, position: 0 },
            Event::Started { transfer: 1, what: "a".into(), size: 600 },
            Event::Moved { transfer: 1, position: 600 },
            Event::Ended { transfer: 1, landed: 600 },
        ]);
        let picture = s.picture().unwrap();
        assert_eq!(picture.permille, 600);
        assert!(picture.overall.starts_with("0 of 2 images, 600 B of 1.00 kB"), "{}", picture.overall);
    }

    #[test]
    fn what_is_resumed_is_told_and_is_no_rate() {
        let mut s = state(vec![
            Event::Planned { bytes: 1000, deliveries: 1 },
            Event::Started { transfer: 1, what: "a".into(), size: 600 },
            Event::Resumed { transfer: 1, bytes: 400 },
            Event::Moved { transfer: 1, position: 400 },
        ]);
        assert_eq!(s.picture().unwrap().overall, "0 of 1 images, 400 B of 1.00 kB, 400 B resumed");
        s.take_in(Event::Ended { transfer: 1, landed: 600 });
        assert_eq!(s.picture().unwrap().overall, "0 of 1 images, 600 B of 1.00 kB, 400 B resumed");
        assert_eq!(s.samples.back().unwrap().1, 200);
    }

    #[test]
    fn what_need_not_move_leaves_the_total() {
        let mut s = state(vec![
            Event::Planned { bytes: 1000, deliveries: 1 },
            Event::Replanned { bytes: -400, deliveries: 0 },
        ]);
        assert!(s.picture().unwrap().overall.contains("0 B of 600 B"));
    }

    #[test]
    fn a_check_that_reads_blobs_is_seen_by_the_images_that_were_asked_about() {
        let mut s = state(vec![
            Event::Planned { bytes: 0, deliveries: 0 },
            Event::Resolving { done: 3, total: 9 },
            Event::Replanned { bytes: 1000, deliveries: 0 },
            Event::Started { transfer: usize::MAX, what: "a".into(), size: 1000 },
            Event::Moved { transfer: usize::MAX, position: 600 },
        ]);
        let picture = s.picture().unwrap();
        assert_eq!(picture.permille, 600);
        assert!(picture.overall.starts_with("3 of 9 images asked, 600 B of 1.00 kB"), "{}", picture.overall);
    }

    #[test]
    fn an_empty_plan_is_complete() {
        let mut s = state(vec![Event::Planned { bytes: 0, deliveries: 3 }]);
        assert_eq!(s.picture().unwrap().permille, 1000);
    }

    #[test]
    fn each_settled_image_has_a_line_with_its_number() {
        let told = Delivered {
            source: "s/a:1".into(),
            target: "t/a:1".into(),
            refers_to: None,
            outcome: Outcome::Copied { size: 12_300_000, extent: crate::image::manifest::Extent::Whole },
        };
        let mut s = state(vec![Event::Planned { bytes: 1, deliveries: 9 }, Event::Delivered(told.clone())]);
        assert_eq!(s.line_for(&told), "[1/9] copied s/a:1 → t/a:1 (12.3 MB)");
    }
}
