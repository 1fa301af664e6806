//! What is entered: blobs, deliveries that need them, and what the target was found to hold.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use super::states::{Blob, BlobState, Delivery, DeliveryState, Need, NeedState};
use super::{Ledger, Part, Step, Ticket};
use crate::image::reference::Digest;
use crate::plan::ids::{BlobId, DeliveryId, RepositoryId};
use crate::store::Holds;

impl<E: Clone> Ledger<E> {
    /// The blob of this digest in this size (bytes), and whether it is new. What a manifest says of a blob's size
    /// concerns those who say the same: two sizes are two blobs, of which at most one can ever land.
    pub(crate) fn blob_id(&mut self, digest: &Digest, size: u64) -> (BlobId, bool) {
        match self.blob_ids.entry((digest.clone(), size)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                let id = BlobId::new(self.blobs.len());
                vacant.insert(id);
                let held_by = self.held.get(&(digest.clone(), size)).copied();
                self.blobs.push(Blob::new(held_by));
                (id, true)
            }
        }
    }

    /// Takes in that `repository` of the target holds a blob from an earlier run, as a manifest there says. The blob,
    /// if it was to be sent so far, and the steps that follow.
    pub(crate) fn held_before(
        &mut self,
        digest: &Digest,
        size: u64,
        repository: RepositoryId,
    ) -> (Option<BlobId>, Vec<Step<E>>) {
        let key = (digest.clone(), size);
        let id = self.blob_ids.get(&key).copied();
        self.held.entry(key).or_insert(repository);
        let Some(id) = id else { return (None, Vec::new()) };
        let blob = &mut self.blobs[id.index()];
        blob.held_before = true;
        if blob.doubted || !matches!(blob.state, BlobState::Wanted | BlobState::Moving) {
            return (None, Vec::new());
        }
        blob.state = BlobState::Held { by: repository, ours: false };
        (Some(id), self.wake(id))
    }

    /// Enters a delivery that needs `blobs` in `repository`, and puts `parts` below its root.
    pub(crate) fn admit(
        &mut self,
        repository: RepositoryId,
        blobs: &[BlobId],
        parts: Vec<Part>,
    ) -> (DeliveryId, Vec<Step<E>>) {
        let id = DeliveryId::new(self.deliveries.len());
        let state = DeliveryState::Waits(HashSet::new());
        self.deliveries.push(Delivery::new(repository, parts, state));
        self.unsettled += 1;
        let mut steps = Vec::new();
        for blob in blobs {
            if let Err(error) = self.wait_for(id, Ticket { blob: *blob, repository }, &mut steps) {
                steps.extend(self.settle_failed(id, &error));
                return (id, steps);
            }
        }
        self.publish_if_ready(id, &mut steps);
        (id, steps)
    }

    /// Enters a delivery that needs nothing: it is there, or cannot be.
    pub(crate) fn admit_settled(&mut self, repository: RepositoryId) -> DeliveryId {
        let id = DeliveryId::new(self.deliveries.len());
        self.deliveries.push(Delivery::new(repository, Vec::new(), DeliveryState::Settled));
        id
    }

    fn wait_for(&mut self, id: DeliveryId, ticket: Ticket, steps: &mut Vec<Step<E>>) -> Result<(), E> {
        let at = self.need_at(ticket);
        self.note_likely_holder(ticket);
        let shared = self.holds == Holds::Shared;
        let blob = &mut self.blobs[ticket.blob.index()];
        let is_held = matches!(blob.state, BlobState::Held { .. });
        if shared && is_held && matches!(blob.needs[at].state, NeedState::Waiting) {
            blob.needs[at].state = NeedState::Held;
        }
        match &blob.needs[at].state {
            NeedState::Held => return Ok(()),
            NeedState::Refused(error) => return Err(E::clone(error)),
            NeedState::Waiting | NeedState::Moving(_) => {}
        }
        if let BlobState::Lost(failure) = &blob.state
            && failure.lasting
            && !self.lost.contains(&ticket.blob)
        {
            return Err(failure.error.clone());
        }
        if let Some(error) = &blob.beyond_repair
            && self.distrusted.contains(&ticket)
        {
            return Err(E::clone(error));
        }
        blob.needs[at].deliveries.push(id);
        blob.first_waiting = blob.first_waiting.min(at);
        if let DeliveryState::Waits(waits) = &mut self.deliveries[id.index()].state {
            waits.insert(ticket.blob);
        }
        if matches!(self.blobs[ticket.blob.index()].needs[at].state, NeedState::Waiting) {
            steps.extend(self.bring(ticket, at));
        }
        Ok(())
    }

    /// Notes which repository most likely has a blob by the time that another one wants it: the one that is known to hold
    /// it, or else the one that was the first to want it.
    fn note_likely_holder(&mut self, ticket: Ticket) {
        let blob = &self.blobs[ticket.blob.index()];
        let first = blob.needs.first().map(|need| need.repository);
        let Some(holder) = self.holder(ticket.blob).or(first) else { return };
        self.repositories.note_likely_holder(ticket.repository, holder);
    }

    pub(super) fn need_at(&mut self, ticket: Ticket) -> usize {
        let needs = &mut self.blobs[ticket.blob.index()].needs;
        match self.needs.entry(ticket) {
            Entry::Occupied(known) => *known.get() as usize,
            Entry::Vacant(vacant) => {
                vacant.insert(u32::try_from(needs.len()).expect("fewer than 2^32 of them fit into memory"));
                // Most blobs are for one repository, and a first push would make room for four.
                if needs.is_empty() {
                    needs.reserve_exact(1);
                }
                needs.push(Need::new(ticket.repository));
                needs.len() - 1
            }
        }
    }
}
