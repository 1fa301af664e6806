//! Blobs under way: what they move, how many large ones may go, and which of them an interruption leaves time for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::lanes::Lane;
use super::width::Width;
use crate::events::{Event, Listener, TransferId};
use crate::plan::SourceId;

/// How often lines are looked at while more blobs may be allowed at any moment, and otherwise.
const SOON: Duration = Duration::from_millis(20);
const NOW_AND_THEN: Duration = Duration::from_millis(500);
/// The rate of a blob is that of at least so long, if it is under way for so long.
const SAMPLE: Duration = Duration::from_secs(2);
/// This part of what can be moved in the time that is left is counted on.
const COUNTED_ON: f64 = 0.9;

/// How far a blob has come, in bytes.
pub(super) type Position = Arc<AtomicU64>;

/// `listener`, which hears of one transfer, with `position`, which follows it, and what is `resumed` of it.
pub(super) fn followed(listener: &Listener, position: &Position, resumed: &Position) -> Listener {
    let (listener, followed, resumed) = (listener.clone(), position.clone(), resumed.clone());
    Arc::new(move |event| {
        match &event {
            Event::Moved { position, .. } => followed.store(*position, Ordering::Relaxed),
            Event::Resumed { bytes, .. } => resumed.store(*bytes, Ordering::Relaxed),
            _ => {}
        }
        listener(event);
    })
}

/// A blob under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub source: SourceId,
    pub lane: Lane,
    /// Bytes.
    pub size: u64,
    pub position: Position,
    pub handle: AbortHandle,
    /// When it was how far, a while ago and since.
    samples: [(Instant, u64); 2],
}

impl Transfer {
    pub(super) fn new(
        source: SourceId,
        lane: Lane,
        size: u64,
        position: Position,
        handle: AbortHandle,
    ) -> Self {
        Self { source, lane, size, position, handle, samples: [(Instant::now(), 0); 2] }
    }

    fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    fn remaining(&self) -> u64 {
        self.size.saturating_sub(self.position())
    }

    fn sample(&mut self, now: Instant) {
        if now - self.samples[1].0 >= SAMPLE {
            self.samples = [self.samples[1], (now, self.position())];
        }
    }

    /// Bytes a second.
    fn rate(&self, now: Instant) -> f64 {
        let (since, from) = self.samples[0];
        self.position().saturating_sub(from) as f64 / (now - since).as_secs_f64().max(0.001)
    }
}

/// A line that blobs share, small ones too.
#[derive(Debug)]
struct Line {
    width: Width,
    /// Bytes of the blobs that have ended.
    ended: u64,
}

impl Line {
    fn new(most: usize) -> Self {
        Self { width: Width::new(most), ended: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Transfers {
    most: usize,
    under_way: HashMap<TransferId, Transfer>,
    /// To the target.
    target: Line,
    sources: HashMap<SourceId, Line>,
    looked: Instant,
    last_id: TransferId,
}

impl Transfers {
    /// Of large blobs `most` go at once.
    pub(super) fn new(most: usize) -> Self {
        let (target, sources) = (Line::new(most), HashMap::new());
        Self { most, under_way: HashMap::new(), target, sources, looked: Instant::now(), last_id: 0 }
    }

    /// The id of one more transfer.
    pub(super) fn next_id(&mut self) -> TransferId {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn began(&mut self, id: TransferId, transfer: Transfer) {
        self.under_way.insert(id, transfer);
    }

    pub(super) fn ended(&mut self, id: TransferId) {
        let Some(transfer) = self.under_way.remove(&id) else { return };
        self.target.ended += transfer.position();
        self.line_of(transfer.source).ended += transfer.position();
    }

    fn line_of(&mut self, source: SourceId) -> &mut Line {
        self.sources.entry(source).or_insert_with(|| Line::new(self.most))
    }

    /// So many large blobs may be under way.
    pub(super) fn allowed(&self) -> usize {
        self.target.width.allowed()
    }

    /// When the lines are to be looked at again.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let mut large = self.under_way.values().filter(|transfer| transfer.lane == Lane::Large);
        large.next()?;
        let mut lines = self.sources.values().chain([&self.target]);
        let soon = lines.any(|line| line.width.is_searching());
        Some(self.looked + if soon { SOON } else { NOW_AND_THEN })
    }

    /// Looks at the lines: of these sources so many large blobs may be under way.
    pub(super) fn look(&mut self, now: Instant) -> Vec<(SourceId, usize)> {
        self.looked = now;
        let mut moving: HashMap<SourceId, (u64, usize)> = HashMap::new();
        for transfer in self.under_way.values_mut() {
            transfer.sample(now);
            let (moved, large) = moving.entry(transfer.source).or_default();
            *moved += transfer.position();
            *large += usize::from(transfer.lane == Lane::Large);
        }
        let (moved, count) = moving.values().fold((0, 0), |(m, c), (moved, count)| (m + moved, c + count));
        self.target.width.measure(now, self.target.ended + moved, count);
        let widths = moving.into_iter().map(|(source, (moved, count))| {
            let line = self.line_of(source);
            line.width.measure(now, line.ended + moved, count);
            (source, line.width.allowed())
        });
        widths.collect()
    }

    /// Ends all that do not end within `time` by what they move, so that the line is left to the others. Those that have
    /// the least to go share all that is moved now.
    pub(super) fn keep_what_ends_within(&self, time: Duration, now: Instant) {
        let mut all: Vec<&Transfer> = self.under_way.values().collect();
        all.sort_unstable_by_key(|transfer| transfer.remaining());
        let in_time = |rate: f64| rate * time.as_secs_f64() * COUNTED_ON;
        let together = in_time(all.iter().map(|transfer| transfer.rate(now)).sum());
        if together == 0.0 {
            return;
        }
        let mut wanted = 0.0;
        for transfer in all {
            let remaining = transfer.remaining() as f64;
            if wanted + remaining <= together || remaining <= in_time(transfer.rate(now)) {
                wanted += remaining;
            } else {
                transfer.handle.abort();
            }
        }
    }
}
