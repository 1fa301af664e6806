//! Work that waits for its turn, and which of it is next.

use std::collections::{BinaryHeap, VecDeque};

/// Blobs up to this size, in bytes, cost mostly round trips; many of them fly beside the large ones.
pub(super) const SMALL: u64 = 1 << 20;

/// Bring a blob into the repository of one of its needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bring {
    /// Index into the plan's blobs.
    pub blob: usize,
    /// Index into the needs of the blob.
    pub need: usize,
    /// The target lacks the blob, whatever it says to a question or a mount.
    pub must_send: bool,
    /// It would not mount the blob, so that it has to be streamed.
    pub refused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    large: BinaryHeap<Heavy>,
    small: VecDeque<Bring>,
    mounts: VecDeque<Bring>,
    publications: VecDeque<usize>,
}

impl Queue {
    /// Puts a blob of `size` bytes in the lane that its size asks for.
    pub fn add(&mut self, size: u64, bring: Bring) {
        match size > SMALL {
            true => self.large.push(Heavy { size, bring }),
            false => self.small.push_back(bring),
        }
    }

    pub fn add_mount(&mut self, bring: Bring) {
        self.mounts.push_back(bring);
    }

    /// The manifests of a delivery can go.
    pub fn add_publication(&mut self, delivery: usize) {
        self.publications.push_back(delivery);
    }

    pub fn is_empty(&self) -> bool {
        self.large.is_empty()
            && self.small.is_empty()
            && self.mounts.is_empty()
            && self.publications.is_empty()
    }

    pub fn next_publication(&mut self) -> Option<usize> {
        self.publications.pop_front()
    }

    pub fn next_mount(&mut self) -> Option<Bring> {
        self.mounts.pop_front()
    }

    /// The first small blob that `fits`, e.g. because its source is not busy.
    pub fn next_small(&mut self, fits: impl Fn(&Bring) -> bool) -> Option<Bring> {
        let at = self.small.iter().position(fits)?;
        self.small.remove(at)
    }

    /// The largest blob that `fits`.
    pub fn next_large(&mut self, fits: impl Fn(&Bring) -> bool) -> Option<Bring> {
        let mut passed_over = Vec::new();
        let mut found = None;
        while let Some(heavy) = self.large.pop() {
            if fits(&heavy.bring) {
                found = Some(heavy.bring);
                break;
            }
            passed_over.push(heavy);
        }
        self.large.extend(passed_over);
        found
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A large blob that waits. The largest goes first, so that none of them is still going when all else is done;
/// among equals the one that comes first in the selection.
#[derive(Debug, PartialEq, Eq)]
struct Heavy {
    size: u64,
    bring: Bring,
}

impl PartialOrd for Heavy {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Heavy {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.size, other.bring.blob, other.bring.need).cmp(&(other.size, self.bring.blob, self.bring.need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_goes_first_and_among_equals_the_first_of_the_selection() {
        let mut queue = Queue::default();
        for (blob, size) in [(0, 5 * SMALL), (1, 9 * SMALL), (2, 5 * SMALL), (3, SMALL)] {
            queue.add(size, Bring { blob, need: 0, must_send: false, refused: false });
        }
        let order: Vec<usize> =
            std::iter::from_fn(|| queue.next_large(|_| true)).map(|bring| bring.blob).collect();
        assert_eq!(order, [1, 0, 2]);
        assert_eq!(queue.next_small(|_| true).map(|bring| bring.blob), Some(3));
    }

    #[test]
    fn what_does_not_fit_now_keeps_its_place() {
        let mut queue = Queue::default();
        for (blob, size) in [(0, 5 * SMALL), (1, 9 * SMALL), (2, SMALL), (3, SMALL)] {
            queue.add(size, Bring { blob, need: 0, must_send: false, refused: false });
        }
        assert_eq!(queue.next_large(|bring| bring.blob != 1).map(|bring| bring.blob), Some(0));
        assert_eq!(queue.next_large(|_| true).map(|bring| bring.blob), Some(1));
        assert_eq!(queue.next_small(|bring| bring.blob != 2).map(|bring| bring.blob), Some(3));
        assert_eq!(queue.next_small(|_| true).map(|bring| bring.blob), Some(2));
    }
}
