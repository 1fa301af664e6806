//! When the manifests of a delivery can be put, and what follows from what the target says of them.

use std::collections::HashSet;
use std::collections::hash_map::Entry;

use super::super::ids::{BlobId, DeliveryId};
use super::states::{DeliveryState, Errand, NeedState, What};
use super::{Ledger, Step, Ticket};
use crate::image::reference::Digest;

/// How often an image's manifests are put again after the target has said that it lacks something they name.
const ROUNDS_MAX: u32 = 2;

/// A manifest in a repository, or the list of what refers to one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Manifest(Digest),
    Referrers(Digest),
}

#[derive(Debug)]
pub(super) enum PartState {
    /// One delivery is putting it; these wait for that.
    Putting(Vec<DeliveryId>),
    There,
}

impl<E: Clone> Ledger<E> {
    /// Whether the manifests of a delivery can be put now; if not, a later step says when. Those below the root that
    /// another delivery is putting are waited for.
    pub(crate) fn begin_publication(&mut self, id: DeliveryId) -> bool {
        let delivery = &mut self.deliveries[id.index()];
        if delivery.state != DeliveryState::Ready {
            return false;
        }
        let repository = delivery.repository;
        for part in &delivery.parts {
            if let Some(PartState::Putting(waiting)) = self.parts.get_mut(&(repository, part.clone())) {
                waiting.push(id);
                return false;
            }
        }
        delivery.state = DeliveryState::Putting;
        delivery.began = self.landings;
        for part in &delivery.parts {
            self.parts.entry((repository, part.clone())).or_insert_with(|| PartState::Putting(Vec::new()));
        }
        true
    }

    /// Whether this run has put a manifest into the repository of a delivery.
    pub(crate) fn is_put(&self, id: DeliveryId, digest: &Digest) -> bool {
        let at = (self.deliveries[id.index()].repository, Part::Manifest(digest.clone()));
        matches!(self.parts.get(&at), Some(PartState::There))
    }

    /// The manifests of a delivery were put as far as `put` says; the caller says what becomes of it.
    pub(crate) fn ended_publication(&mut self, id: DeliveryId, put: Vec<Digest>) -> Vec<Step<E>> {
        let delivery = &mut self.deliveries[id.index()];
        if delivery.state != DeliveryState::Putting {
            return Vec::new();
        }
        delivery.state = DeliveryState::Ready;
        let repository = delivery.repository;
        let mut woken: Vec<DeliveryId> = Vec::new();
        for part in delivery.parts.clone() {
            if let Entry::Occupied(known) = self.parts.entry((repository, part))
                && let PartState::Putting(_) = known.get()
                && let PartState::Putting(waiting) = known.remove()
            {
                woken.extend(waiting);
            }
        }
        for digest in put {
            // The root of one image may be a manifest below another's, which that one is putting as well.
            let known = self.parts.insert((repository, Part::Manifest(digest)), PartState::There);
            if let Some(PartState::Putting(waiting)) = known {
                woken.extend(waiting);
            }
        }
        woken.into_iter().map(Step::Publish).collect()
    }

    /// The target lacks something that the delivery's manifests name: these blobs, or manifests below its root. It is
    /// sent again, without asking first. `None` if that has been done often enough.
    pub(crate) fn lacks(&mut self, id: DeliveryId, blobs: &[BlobId]) -> Option<Vec<Step<E>>> {
        let delivery = &mut self.deliveries[id.index()];
        if delivery.rounds >= ROUNDS_MAX || delivery.state != DeliveryState::Ready {
            return None;
        }
        delivery.rounds += 1;
        if blobs.is_empty() {
            let repository = delivery.repository;
            for part in &delivery.parts {
                if let Entry::Occupied(known) = self.parts.entry((repository, part.clone()))
                    && matches!(known.get(), PartState::There)
                {
                    known.remove();
                }
            }
            return Some(vec![Step::Publish(id)]);
        }
        let (repository, began) = (delivery.repository, delivery.began);
        let mut waits = HashSet::new();
        let mut steps = Vec::new();
        for blob in blobs {
            let ticket = Ticket { blob: *blob, repository };
            let at = self.need_at(ticket);
            let need = &mut self.blobs[blob.index()].needs[at];
            // For another tag that lacked it too it was sent again meanwhile.
            if matches!(need.state, NeedState::Held) && need.landed > began {
                continue;
            }
            waits.insert(*blob);
            need.deliveries.push(id);
            if !matches!(need.state, NeedState::Moving(_)) {
                need.state = NeedState::Moving(Errand::to(What::MustSend));
                steps.push(Step::Send(ticket));
            }
        }
        if waits.is_empty() {
            return Some(vec![Step::Publish(id)]);
        }
        self.deliveries[id.index()].state = DeliveryState::Waits(waits);
        Some(steps)
    }
}
