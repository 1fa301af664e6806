//! The run's sums, and what listeners are told of them.

use crate::events::{Delivered, Event, Listener};
use crate::plan::BlobId;
use crate::store::Landed;

use super::report::Totals;

pub(super) struct Tally {
    listener: Listener,
    totals: Totals,
    /// Bytes of the images that were copied, each counted whole.
    bytes_of_copied: u64,
    /// By blob, whether its bytes were announced to be moved, and have not moved yet.
    announced: Vec<bool>,
    /// Images that are resolved.
    resolved: usize,
}

impl Tally {
    /// Begins with so many deliveries that are to be made.
    pub(super) fn new(listener: Listener, deliveries: usize) -> Self {
        listener(Event::Planned { bytes: 0, deliveries });
        Self { listener, totals: Totals::default(), bytes_of_copied: 0, announced: Vec::new(), resolved: 0 }
    }

    pub(super) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// So many deliveries more are to be made than was told, or fewer.
    pub(super) fn expect(&self, deliveries: isize) {
        if deliveries != 0 {
            (self.listener)(Event::Replanned { bytes: 0, deliveries });
        }
    }

    /// One image more is resolved, of so many.
    pub(super) fn resolved(&mut self, total: usize) {
        self.resolved += 1;
        (self.listener)(Event::Resolving { done: self.resolved, total });
    }

    /// Tells whether the bytes of a blob of `size` bytes are to be moved.
    pub(super) fn announce(&mut self, blob: BlobId, size: u64, to_be_moved: bool) {
        let was = std::mem::replace(self.announced(blob), to_be_moved);
        let bytes = match (was, to_be_moved) {
            (false, true) => size.cast_signed(),
            (true, false) => -size.cast_signed(),
            _ => return,
        };
        (self.listener)(Event::Replanned { bytes, deliveries: 0 });
    }

    fn announced(&mut self, blob: BlobId) -> &mut bool {
        if self.announced.len() <= blob.index() {
            self.announced.resize(blob.index() + 1, false);
        }
        &mut self.announced[blob.index()]
    }

    /// A blob of `size` bytes has landed, if it has. Of what is streamed, so many bytes were `resumed`: they were there
    /// from an earlier run.
    pub(super) fn landed(&mut self, landed: Landed, blob: BlobId, size: u64, resumed: u64) {
        let totals = &mut self.totals;
        let (number, bytes) = match landed {
            Landed::Streamed => (&mut totals.blobs_copied, &mut totals.bytes_copied),
            Landed::Mounted => (&mut totals.blobs_mounted, &mut totals.bytes_mounted),
            Landed::Found => (&mut totals.blobs_found, &mut totals.bytes_found),
            Landed::Refused | Landed::Unoffered => return,
        };
        *number += 1;
        *bytes = bytes.saturating_add(size - resumed.min(size));
        totals.bytes_resumed = totals.bytes_resumed.saturating_add(resumed.min(size));
        if landed == Landed::Streamed {
            // What is streamed was to be streamed: more than that was announced where a mount was refused.
            self.announce(blob, size, true);
            *self.announced(blob) = false;
        } else {
            self.announce(blob, size, false);
        }
    }

    /// So many blobs of so many bytes in all were found without being asked for one by one.
    pub(super) fn found(&mut self, number: usize, bytes: u64) {
        self.totals.blobs_found += number;
        self.totals.bytes_found = self.totals.bytes_found.saturating_add(bytes);
    }

    /// So many manifests were put, of so many bytes in all.
    pub(super) fn put(&mut self, manifests: usize, bytes: u64) {
        self.totals.manifests_copied += manifests;
        self.totals.manifest_bytes += bytes;
    }

    /// An image whose blobs have so many bytes was copied under one name.
    pub(super) fn copied(&mut self, bytes: u64) {
        self.bytes_of_copied = self.bytes_of_copied.saturating_add(bytes);
    }

    /// A name at the target is settled.
    pub(super) fn delivered(&self, told: Delivered) {
        (self.listener)(Event::Delivered(told));
    }

    pub(super) fn totals(mut self) -> Totals {
        let Totals { bytes_copied, bytes_found, bytes_resumed, .. } = self.totals;
        let moved = bytes_copied.saturating_add(bytes_found).saturating_add(bytes_resumed);
        self.totals.bytes_shared = self.bytes_of_copied.saturating_sub(moved);
        self.totals
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A tally, and the bytes and deliveries that its listener expects by now.
    fn tally() -> (Tally, impl Fn() -> (i64, isize)) {
        let expected = Arc::new(Mutex::new((0, 0)));
        let told = expected.clone();
        let listener: Listener = Arc::new(move |event| {
            if let Event::Replanned { bytes, deliveries } = event {
                let mut expected = told.lock().unwrap();
                *expected = (expected.0 + bytes, expected.1 + deliveries);
            }
        });
        (Tally::new(listener, 0), move || *expected.lock().unwrap())
    }

    #[test]
    fn a_blob_is_announced_once_and_taken_back_where_it_need_not_move() {
        let (mut tally, expected) = tally();
        let (sent, mounted) = (BlobId::new(0), BlobId::new(1));
        for blob in [sent, mounted, sent] {
            tally.announce(blob, 100, true);
        }
        assert_eq!(expected(), (200, 0));
        tally.landed(Landed::Streamed, sent, 100, 0);
        tally.landed(Landed::Mounted, mounted, 100, 0);
        assert_eq!(expected(), (100, 0), "what was streamed has moved as announced");
        tally.landed(Landed::Mounted, sent, 100, 0);
        assert_eq!(expected(), (100, 0), "it is taken over elsewhere, and has moved all the same");
    }

    #[test]
    fn a_blob_that_is_sent_in_place_of_a_refused_mount_is_announced_with_its_landing() {
        let (mut tally, expected) = tally();
        let blob = BlobId::new(4);
        tally.landed(Landed::Refused, blob, 100, 0);
        assert_eq!(expected(), (0, 0));
        tally.landed(Landed::Streamed, blob, 100, 0);
        tally.landed(Landed::Streamed, blob, 100, 0);
        assert_eq!(expected(), (200, 0));
        assert_eq!((tally.totals().blobs_copied, expected().1), (2, 0));
    }

    #[test]
    fn what_is_resumed_has_not_moved() {
        let (mut tally, expected) = tally();
        tally.announce(BlobId::new(0), 100, true);
        tally.landed(Landed::Streamed, BlobId::new(0), 100, 30);
        tally.copied(100);
        assert_eq!(expected(), (100, 0));
        let totals = tally.totals();
        assert_eq!((totals.bytes_copied, totals.bytes_resumed, totals.bytes_shared), (70, 30, 0));
        assert_eq!(totals.blobs_copied, 1);
    }

    #[test]
    fn sharing_saves_what_copying_each_image_on_its_own_would_have_moved_besides() {
        let (mut tally, _) = tally();
        tally.landed(Landed::Streamed, BlobId::new(0), 70, 0);
        tally.landed(Landed::Mounted, BlobId::new(0), 70, 0);
        tally.found(1, 30);
        tally.put(2, 9);
        (0..2).for_each(|_| tally.copied(100));
        let totals = tally.totals();
        assert_eq!((totals.bytes_copied, totals.bytes_mounted, totals.bytes_found), (70, 70, 30));
        assert_eq!((totals.manifests_copied, totals.manifest_bytes), (2, 9));
        assert_eq!(totals.bytes_shared, 100);
    }
}
