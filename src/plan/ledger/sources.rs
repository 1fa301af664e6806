//! Blobs that no source has served, while another one may turn up.

use super::states::BlobState;
use super::{Ledger, Step};
use crate::plan::ids::{BlobId, DeliveryId};

impl<E: Clone> Ledger<E> {
    /// A further source has the blob.
    pub(crate) fn new_source(&mut self, id: BlobId) -> Vec<Step<E>> {
        let blob = &mut self.blobs[id.index()];
        blob.has_new_source = !matches!(blob.state, BlobState::Lost(_));
        if !blob.has_new_source {
            blob.state = BlobState::Wanted;
            self.lost.remove(&id);
            return self.wake(id);
        }
        Vec::new()
    }

    /// All sources are known that there will ever be.
    pub(crate) fn no_more_sources(&mut self) -> Vec<Step<E>> {
        let mut steps = Vec::new();
        for id in std::mem::take(&mut self.lost) {
            let blob = &mut self.blobs[id.index()];
            let BlobState::Lost(failure) = &blob.state else { continue };
            let error = failure.error.clone();
            blob.first_waiting = 0;
            let waiting: Vec<DeliveryId> =
                blob.needs.iter_mut().flat_map(|need| std::mem::take(&mut need.deliveries)).collect();
            for delivery in waiting {
                steps.extend(self.settle_failed(delivery, &error));
            }
        }
        steps
    }

    /// Whether blobs are lost while another source may still turn up.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }
}
