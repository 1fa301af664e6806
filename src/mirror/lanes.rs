//! Work that waits for its turn, and which of it is next.
//!
//! Each source has queues of its own, so that what is next is found without a look at what waits for a busy one. Among
//! sources the one with the least under way is next: a slow one has all lanes only while no other waits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use super::width::FIRST;
use crate::plan::{DeliveryId, SourceId, Ticket};
use crate::store::registry::REQUESTS_PER_HOST;

/// Blobs up to this size, in bytes, cost mostly round trips; many of them fly beside the large ones.
pub(super) const SMALL: u64 = 1 << 20;

/// Which limit a blob counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Large,
    Small,
}

impl Lane {
    pub(super) fn of(size: u64) -> Self {
        if size > SMALL { Lane::Large } else { Lane::Small }
    }
}

/// A large blob that waits. The largest of a source goes first, so that none of them is still going when all else is
/// done; among equals the one that was asked for first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BySize {
    size: u64,
    order: Reverse<u64>,
    ticket: Reverse<Ticket>,
}

#[derive(Debug)]
struct Source {
    large: BinaryHeap<BySize>,
    small: VecDeque<Ticket>,
    /// Most blobs that it has under way, and most large ones among them.
    room: usize,
    width: usize,
    large_under_way: usize,
    small_under_way: usize,
}

impl Default for Source {
    fn default() -> Self {
        let (large, small) = Default::default();
        Self { large, small, room: REQUESTS_PER_HOST, width: FIRST, large_under_way: 0, small_under_way: 0 }
    }
}

impl Source {
    fn large_key(&self, id: SourceId) -> Option<LargeKey> {
        let next = self.large.peek().filter(|_| self.large_under_way < self.width)?;
        Some((self.large_under_way, Reverse(next.size), id))
    }

    fn small_key(&self, id: SourceId) -> Option<SmallKey> {
        (!self.small.is_empty()).then_some((self.small_under_way, id))
    }
}

type LargeKey = (usize, Reverse<u64>, SourceId);
type SmallKey = (usize, SourceId);

#[derive(Debug, Default)]
pub(super) struct Lanes {
    publications: VecDeque<DeliveryId>,
    mounts: VecDeque<Ticket>,
    sources: Vec<Source>,
    /// Sources that have blobs waiting and room for one more, the least busy first.
    large: BTreeSet<LargeKey>,
    small: BTreeSet<SmallKey>,
    /// Blobs that go in one order, whatever their sources: by their places in it.
    ordered: BTreeMap<(usize, Ticket), (SourceId, Lane)>,
    /// Blobs that were put in a queue so far, and those that wait in one.
    entered: u64,
    waiting: usize,
}

impl Lanes {
    /// The manifests of a delivery can go.
    pub(super) fn add_publication(&mut self, delivery: DeliveryId) {
        self.publications.push_back(delivery);
    }

    /// A blob can be taken over from another repository.
    pub(super) fn add_mount(&mut self, ticket: Ticket) {
        self.mounts.push_back(ticket);
    }

    /// A blob of `size` bytes is to be sent, from `source`.
    pub(super) fn add(&mut self, ticket: Ticket, size: u64, source: SourceId) {
        self.entered += 1;
        self.waiting += 1;
        let order = Reverse(self.entered);
        self.change(source, |queues| match Lane::of(size) {
            Lane::Large => queues.large.push(BySize { size, order, ticket: Reverse(ticket) }),
            Lane::Small => queues.small.push_back(ticket),
        });
    }

    /// A blob is to be sent after all that have an earlier place in the one order of them.
    pub(super) fn add_at(&mut self, place: usize, ticket: Ticket, size: u64, source: SourceId) {
        self.waiting += 1;
        self.ordered.insert((place, ticket), (source, Lane::of(size)));
    }

    /// All blobs that wait, which wait here no more.
    pub(super) fn take_blobs(&mut self) -> Vec<Ticket> {
        let queues = self.sources.iter_mut();
        let taken = queues.flat_map(|source| {
            source.large.drain().map(|next| next.ticket.0).chain(source.small.drain(..)).collect::<Vec<_>>()
        });
        let taken = taken.collect();
        self.large.clear();
        self.small.clear();
        self.waiting = 0;
        taken
    }

    /// The first of those that go in one order, if it is of this lane and its source has room for it.
    fn next_in_order(&mut self, lane: Lane) -> Option<(Ticket, SourceId)> {
        let first = self.ordered.first_entry().filter(|first| first.get().1 == lane)?;
        let source = first.get().0;
        let queues = self.sources.get(source.index());
        let has_room = queues.is_none_or(|queues| {
            let is_wide = lane == Lane::Small || queues.large_under_way < queues.width;
            is_wide && queues.large_under_way + queues.small_under_way < queues.room
        });
        if !has_room {
            return None;
        }
        let ((_, ticket), _) = first.remove_entry();
        self.waiting -= 1;
        self.change(source, |queues| match lane {
            Lane::Large => queues.large_under_way += 1,
            Lane::Small => queues.small_under_way += 1,
        });
        Some((ticket, source))
    }

    pub(super) fn next_publication(&mut self) -> Option<DeliveryId> {
        self.publications.pop_front()
    }

    pub(super) fn next_mount(&mut self) -> Option<Ticket> {
        self.mounts.pop_front()
    }

    /// The next blob of a lane, which is under way from now on until [`Self::ended`] hears of it.
    pub(super) fn next(&mut self, lane: Lane) -> Option<(Ticket, SourceId)> {
        if !self.ordered.is_empty() {
            return self.next_in_order(lane);
        }
        let source = match lane {
            Lane::Large => self.large.first()?.2,
            Lane::Small => self.small.first()?.1,
        };
        let ticket = self.change(source, |queues| match lane {
            Lane::Large => {
                queues.large_under_way += 1;
                queues.large.pop().map(|next| next.ticket.0)
            }
            Lane::Small => {
                queues.small_under_way += 1;
                queues.small.pop_front()
            }
        });
        self.waiting -= 1;
        Some((ticket?, source))
    }

    /// Of a source so many large blobs may be under way; [`FIRST`] until something else is said.
    pub(super) fn set_width(&mut self, source: SourceId, width: usize) {
        if self.sources.get(source.index()).is_none_or(|queues| queues.width != width) {
            self.change(source, |queues| queues.width = width);
        }
    }

    /// Of a source so many blobs may be under way; [`REQUESTS_PER_HOST`] until something else is said.
    pub(super) fn set_room(&mut self, source: SourceId, room: usize) {
        if self.sources.get(source.index()).is_none_or(|queues| queues.room != room) {
            self.change(source, |queues| queues.room = room);
        }
    }

    pub(super) fn ended(&mut self, source: SourceId, lane: Lane) {
        self.change(source, |queues| match lane {
            Lane::Large => queues.large_under_way -= 1,
            Lane::Small => queues.small_under_way -= 1,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.mounts.is_empty() && self.waiting == 0
    }

    /// Forgets all blobs that wait; what is under way still ends.
    pub(super) fn keep_publications(&mut self) {
        self.mounts.clear();
        self.large.clear();
        self.small.clear();
        self.ordered.clear();
        self.waiting = 0;
        for source in &mut self.sources {
            source.large.clear();
            source.small.clear();
        }
    }

    /// Changes a source's queues, and its place among the sources with them.
    fn change<T>(&mut self, id: SourceId, change: impl FnOnce(&mut Source) -> T) -> T {
        while self.sources.len() <= id.index() {
            self.sources.push(Source::default());
        }
        let source = &mut self.sources[id.index()];
        source.large_key(id).map(|key| self.large.remove(&key));
        source.small_key(id).map(|key| self.small.remove(&key));
        let result = change(source);
        if source.large_under_way + source.small_under_way < source.room {
            self.large.extend(source.large_key(id));
            self.small.extend(source.small_key(id));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{BlobId, RepositoryId};

    fn ticket(blob: usize) -> Ticket {
        Ticket { blob: BlobId::new(blob), repository: RepositoryId::new(0) }
    }

    fn source(index: usize) -> SourceId {
        SourceId::new(index)
    }

    fn order(lanes: &mut Lanes, lane: Lane) -> Vec<usize> {
        std::iter::from_fn(|| lanes.next(lane)).map(|(ticket, _)| ticket.blob.index()).collect()
    }

    #[test]
    fn the_largest_goes_first_and_among_equals_the_first_that_was_asked_for() {
        let mut lanes = Lanes::default();
        lanes.set_width(source(0), 10);
        for (blob, size) in [(0, 5 * SMALL), (1, 9 * SMALL), (2, 5 * SMALL), (3, SMALL)] {
            lanes.add(ticket(blob), size, source(0));
        }
        assert_eq!(order(&mut lanes, Lane::Large), [1, 0, 2]);
        assert_eq!(order(&mut lanes, Lane::Small), [3]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_source_has_all_lanes_only_while_no_other_waits() {
        let mut lanes = Lanes::default();
        (0..2).for_each(|of| lanes.set_width(source(of), 10));
        (0..4).for_each(|blob| lanes.add(ticket(blob), 9 * SMALL, source(0)));
        (0..4).for_each(|blob| lanes.add(ticket(10 + blob), 2 * SMALL, source(1)));
        assert_eq!(order(&mut lanes, Lane::Large), [0, 10, 1, 11, 2, 12, 3, 13]);
        (0..2).for_each(|blob| lanes.add(ticket(blob), 1, source(0)));
        lanes.add(ticket(10), 1, source(1));
        assert_eq!(order(&mut lanes, Lane::Small), [0, 10, 1]);
    }

    #[test]
    fn a_source_with_a_thin_line_has_no_more_large_blobs_than_it_is_wide() {
        let mut lanes = Lanes::default();
        (0..4).for_each(|blob| lanes.add(ticket(blob), 9 * SMALL, source(0)));
        lanes.add(ticket(10), 9 * SMALL, source(1));
        assert_eq!(order(&mut lanes, Lane::Large), [0, 10, 1]);
        lanes.ended(source(0), Lane::Large);
        assert_eq!(order(&mut lanes, Lane::Large), [2]);
        lanes.set_width(source(0), 1);
        lanes.ended(source(0), Lane::Large);
        assert_eq!(order(&mut lanes, Lane::Large), [] as [usize; 0]);
        lanes.set_width(source(0), 10);
        assert_eq!(order(&mut lanes, Lane::Large), [3]);
    }

    #[test]
    fn blobs_in_one_order_go_in_it_whatever_their_sizes_and_sources() {
        let mut lanes = Lanes::default();
        lanes.add(ticket(7), 9 * SMALL, source(0));
        lanes.add(ticket(8), 1, source(1));
        let mut waiting: Vec<usize> = lanes.take_blobs().iter().map(|ticket| ticket.blob.index()).collect();
        waiting.sort_unstable();
        assert_eq!(waiting, [7, 8]);
        assert!(lanes.is_empty());
        for (place, size, of) in [(2, 1, 1), (0, 1, 0), (3, 9 * SMALL, 1), (1, 9 * SMALL, 0)] {
            lanes.add_at(place, ticket(place), size, source(of));
        }
        assert_eq!(order(&mut lanes, Lane::Large), [] as [usize; 0]);
        assert_eq!(order(&mut lanes, Lane::Small), [0]);
        assert_eq!(order(&mut lanes, Lane::Small), [] as [usize; 0]);
        assert_eq!(order(&mut lanes, Lane::Large), [1]);
        // A source that has no room makes all wait that are behind.
        lanes.set_room(source(1), 1);
        assert_eq!(order(&mut lanes, Lane::Small), [2]);
        assert_eq!(order(&mut lanes, Lane::Large), [] as [usize; 0]);
        lanes.ended(source(1), Lane::Small);
        assert_eq!(order(&mut lanes, Lane::Large), [3]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_busy_source_is_passed_over_until_something_of_it_has_ended() {
        let mut lanes = Lanes::default();
        (0..2).for_each(|of| lanes.set_room(source(of), 2));
        (0..3).for_each(|blob| lanes.add(ticket(blob), 1, source(0)));
        lanes.add(ticket(10), 1, source(1));
        assert_eq!(order(&mut lanes, Lane::Small), [0, 10, 1]);
        assert!(!lanes.is_empty());
        lanes.ended(source(0), Lane::Small);
        assert_eq!(order(&mut lanes, Lane::Small), [2]);
    }
}
