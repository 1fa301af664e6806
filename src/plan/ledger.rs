//! What each blob, manifest and delivery of a run waits for, and what follows from each event.
//!
//! The ledger knows no network and no time. The loop tells it what has happened, and it answers with the next steps.
//! A tag is published only once all blobs of its image are in its repository and no manifest of it is on its way by
//! another tag; a blob is sent to one repository and mounted into the others.

mod admission;
mod distrust;
mod publication;
mod repositories;
mod sources;
mod states;
mod tickets;

use std::collections::{HashMap, HashSet};

use crate::image::reference::{Digest, Repository};
use crate::store::Holds;

pub(crate) use self::publication::Part;
use self::publication::PartState;
use self::repositories::Repositories;
use self::states::{Blob, BlobState, Delivery, DeliveryState, Need, NeedState};
use super::ids::{BlobId, DeliveryId, RepositoryId};

/// A blob and the repository that is to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub blob: BlobId,
    pub repository: RepositoryId,
}

/// What can be begun now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<E> {
    /// The blob's bytes are wanted in the repository.
    Send(Ticket),
    /// Another repository holds the blob.
    Mount(Ticket),
    /// All blobs of the delivery are in its repository.
    Publish(DeliveryId),
    /// The delivery has failed.
    Fail(DeliveryId, E),
}

/// How a ticket is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `must`: the target lacks the blob, whatever it says.
    Send { must: bool },
    /// `ours`: this run has put the blob into `from`, or has seen it there.
    Mount { from: RepositoryId, ours: bool },
}

/// What becomes of a ticket whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<E> {
    Go(How),
    /// Nobody waits for the blob there any more.
    Pass(Vec<Step<E>>),
}

/// Why a ticket could not be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Failure<E> {
    pub error: E,
    /// No source served the blob; a repository that did not take it says nothing of the others.
    pub no_source: bool,
    /// The same would happen again.
    pub lasting: bool,
    /// It was the first try to get the blob, and from one place.
    pub tried_one: bool,
    /// The target took the blob, and keeps a damaged copy all the same.
    pub stays_damaged: bool,
}

#[derive(Debug)]
pub(crate) struct Ledger<E> {
    holds: Holds,
    repositories: Repositories,
    blobs: Vec<Blob<E>>,
    blob_ids: HashMap<(Digest, u64), BlobId>,
    /// By blob and repository, where the need stands among those of the blob.
    needs: HashMap<Ticket, u32>,
    /// What the target was found to hold, whether or not a delivery needs it.
    held: HashMap<(Digest, u64), RepositoryId>,
    /// Copies that were seen to be missing or damaged.
    distrusted: HashSet<Ticket>,
    deliveries: Vec<Delivery>,
    parts: HashMap<(RepositoryId, Part), PartState>,
    /// Blobs that are lost while another source may still turn up.
    lost: HashSet<BlobId>,
    unsettled: usize,
    /// How many blobs have landed.
    landings: u64,
}

impl<E: Clone> Ledger<E> {
    pub(crate) fn new(holds: Holds) -> Self {
        Self {
            holds,
            repositories: Repositories::default(),
            blobs: Vec::new(),
            blob_ids: HashMap::new(),
            needs: HashMap::new(),
            held: HashMap::new(),
            distrusted: HashSet::new(),
            deliveries: Vec::new(),
            parts: HashMap::new(),
            lost: HashSet::new(),
            unsettled: 0,
            landings: 0,
        }
    }

    pub(crate) fn repository_id(&mut self, repository: &Repository) -> RepositoryId {
        self.repositories.id(repository)
    }

    pub(crate) fn repository(&self, id: RepositoryId) -> &Repository {
        self.repositories.name(id)
    }

    /// Repositories that blobs are likely to be mounted from into this one, as far as that is known.
    pub(crate) fn likely_holders(&self, id: RepositoryId) -> impl Iterator<Item = &Repository> {
        self.repositories.likely_holders(id)
    }

    /// Whether a repository of the target is known to hold the blob.
    pub(crate) fn is_held(&self, blob: BlobId) -> bool {
        self.holder(blob).is_some()
    }

    /// A repository of the target that is known to hold the blob.
    pub(crate) fn holder(&self, blob: BlobId) -> Option<RepositoryId> {
        match self.blobs[blob.index()].state {
            BlobState::Held { by, .. } => Some(by),
            BlobState::Wanted | BlobState::Moving | BlobState::Lost(_) => None,
        }
    }

    /// Whether the target was found to hold the blob, by an earlier run or by other means.
    pub(crate) fn was_held_before(&self, blob: BlobId) -> bool {
        self.blobs[blob.index()].held_before
    }

    /// The repository that a delivery is for.
    pub(crate) fn repository_of(&self, id: DeliveryId) -> RepositoryId {
        self.deliveries[id.index()].repository
    }

    /// The repositories that are to get the blob, and do not have it as far as is known.
    pub(crate) fn needs(&self, blob: BlobId) -> impl Iterator<Item = RepositoryId> {
        let open = |need: &&Need<E>| !matches!(need.state, NeedState::Held);
        self.blobs[blob.index()].needs.iter().filter(open).map(|need| need.repository)
    }

    fn publish_if_ready(&mut self, id: DeliveryId, steps: &mut Vec<Step<E>>) {
        let delivery = &mut self.deliveries[id.index()];
        if matches!(&delivery.state, DeliveryState::Waits(waits) if waits.is_empty()) {
            delivery.state = DeliveryState::Ready;
            steps.push(Step::Publish(id));
        }
    }

    /// The delivery is done, or has failed; what follows for others comes from other events.
    pub(crate) fn settle(&mut self, id: DeliveryId) -> bool {
        let delivery = &mut self.deliveries[id.index()];
        if delivery.state == DeliveryState::Settled {
            return false;
        }
        delivery.state = DeliveryState::Settled;
        delivery.parts = Vec::new();
        self.unsettled -= 1;
        true
    }

    fn settle_failed(&mut self, id: DeliveryId, error: &E) -> Option<Step<E>> {
        self.settle(id).then(|| Step::Fail(id, error.clone()))
    }

    /// Deliveries that are neither done nor failed.
    #[cfg(test)]
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests;
