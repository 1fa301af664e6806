//! Copies of blobs at the target that were seen to be missing or damaged.

use super::states::{BlobState, NeedState, What};
use super::{BlobId, DeliveryId, Ledger, Ticket};

impl<E: Clone> Ledger<E> {
    /// The repository's copy of the blob was seen to be missing or damaged. Whatever the target says of it, it is to be
    /// sent, or mounted from where this run has seen or put it.
    pub(crate) fn distrust(&mut self, ticket: Ticket) {
        let at = self.need_at(ticket);
        let blob = &mut self.blobs[ticket.blob.index()];
        if matches!(blob.needs[at].state, NeedState::Held | NeedState::Refused(_)) {
            return;
        }
        self.distrusted.insert(ticket);
        if let NeedState::Moving(errand) = &mut blob.needs[at].state {
            errand.what = What::MustSend;
        }
        blob.doubted = true;
        let is_told = matches!(blob.state, BlobState::Held { ours: false, .. });
        if is_told || matches!(blob.state, BlobState::Held { by, .. } if by == ticket.repository) {
            // A ticket that is out will bring it to one of those who wait.
            let is_out = blob.needs.iter().any(|need| matches!(need.state, NeedState::Moving(_)));
            blob.state = if is_out { BlobState::Moving } else { BlobState::Wanted };
        }
    }

    /// The target keeps a damaged copy whatever it is sent, so that it would be sent in vain to the other repositories
    /// whose copies are damaged. Those that wait for it there.
    pub(super) fn give_up_repair(&mut self, id: BlobId, error: &E) -> Vec<DeliveryId> {
        let distrusted = &self.distrusted;
        let blob = &mut self.blobs[id.index()];
        blob.beyond_repair = Some(Box::new(error.clone()));
        let is_concerned = |repository| distrusted.contains(&Ticket { blob: id, repository });
        let needs = blob.needs.iter_mut().filter(|need| is_concerned(need.repository));
        needs
            .filter(|need| matches!(need.state, NeedState::Waiting))
            .flat_map(|need| std::mem::take(&mut need.deliveries))
            .collect()
    }

    /// Whether the repository's copy was seen to be missing or damaged, and none has landed since.
    pub(crate) fn is_distrusted(&self, ticket: Ticket) -> bool {
        self.distrusted.contains(&ticket)
    }
}
