//! Images get their names at the target.

use std::sync::Arc;

use super::Done;
use super::Run;
use super::lanes::Lane;
use super::put::{Proof, Published, put_manifests};
use super::refusals::Mark;
use crate::error::{Error, Kind};
use crate::events::Outcome;
use crate::image::manifest::{Extent, Manifest};
use crate::image::reference::Digest;
use crate::plan::{BlobId, DeliveryId, Step, Ticket};
use crate::store::Role;

impl Run {
    pub(super) fn publish(&mut self, delivery: DeliveryId) {
        let (image, name) = self.deliveries.image_and_name(delivery);
        let Some(tree) = self.on_their_way.tree(image) else { return };
        if !self.plan.ledger.begin_publication(delivery) {
            return;
        }
        let (root, below) = tree.levels.split_last().expect("a tree has its root's level");
        let is_put = |manifest: &Manifest| self.plan.ledger.is_put(delivery, &manifest.digest);
        let to_put = |level: &Vec<Arc<Manifest>>| level.iter().filter(|m| !is_put(m)).cloned().collect();
        // The root is put in any case, under its name.
        let levels = below.iter().map(to_put).chain([root.clone()]).collect();
        let from_before = tree.blobs.iter().any(|blob| self.is_old(*blob))
            || self.before.had_repository(self.plan.ledger.repository_of(delivery));
        let proof = match () {
            () if self.plan.rules().deep.is_some() => Proof::Bytes,
            () if from_before => Proof::Head,
            () => Proof::Answer,
        };
        let request = self.resolution.request(image).clone();
        let (target, mark) = (self.target.clone(), self.refusals.begin());
        self.under_way.began(Lane::Small);
        self.tasks.spawn(async move {
            let role = if request.refers_to.is_some() { Role::Referrer } else { Role::Image };
            let published = put_manifests(&target, &request.destinations[name], levels, role, proof).await;
            Done::Published(delivery, mark, published)
        });
    }

    /// Whether the target had the blob before this run.
    fn is_old(&self, blob: BlobId) -> bool {
        self.before.had_blob(blob) || self.plan.ledger.was_held_before(blob)
    }

    /// An image whose last blob has landed gets its name, whatever has become of the others.
    pub(super) fn publish_what_is_ready(&mut self) {
        while let Some(delivery) = self.lanes.next_publication() {
            self.publish(delivery);
        }
    }

    pub(super) fn on_published(&mut self, delivery: DeliveryId, mark: &Mark, published: Published) {
        self.tally.put(published.manifests.len(), published.bytes);
        let steps = self.plan.ledger.ended_publication(delivery, published.manifests);
        self.take(steps);
        match published.trouble {
            None => {
                self.refusals.took(mark, false);
                let size = self.size_of(delivery);
                let extent = published.extent.unwrap_or(Extent::Whole);
                self.tally.copied(size);
                self.settle(delivery, Outcome::Copied { size, extent });
            }
            Some(error) => match self.resend(delivery, &error) {
                Some(steps) => self.take(steps),
                None => {
                    // Of a media type, or of this manifest; the blobs were taken.
                    if error.kind != Kind::Unsupported {
                        let repository = self.plan.ledger.repository_of(delivery);
                        self.refusals.note(&error, repository, mark);
                    }
                    self.settle(delivery, Outcome::Failed(Box::new(error)));
                }
            },
        }
    }

    /// The steps that bring again what the target lacks after all, if there is hope.
    fn resend(&mut self, delivery: DeliveryId, error: &Error) -> Option<Vec<Step<Error>>> {
        let Kind::BlobUnknown(unknown) = &error.kind else { return None };
        let tree = self.on_their_way.tree(self.deliveries.image_and_name(delivery).0)?;
        let repository = self.plan.ledger.repository_of(delivery);
        let is_mounted = |blob: &BlobId| self.plan.ledger.is_mounted(Ticket { blob: *blob, repository });
        // Where the target does not say what it lacks, it is what nothing but its own word speaks for.
        let is_lacking = |blob: &BlobId| {
            let digest: &Digest = &self.plan.blob(*blob).digest;
            if unknown.is_empty() { is_mounted(blob) } else { unknown.contains(digest) }
        };
        let blobs: Vec<BlobId> = tree.blobs.iter().copied().filter(is_lacking).collect();
        if blobs.iter().any(is_mounted) {
            self.target.distrust_mounts();
        }
        let steps = self.plan.ledger.lacks(delivery, &blobs)?;
        tracing::info!("sending again what {} lacks after all: {error}", self.target.place());
        Some(steps)
    }

    /// Bytes of the blobs of a delivery's image, each once.
    fn size_of(&self, delivery: DeliveryId) -> u64 {
        let tree = self.on_their_way.tree(self.deliveries.image_and_name(delivery).0);
        let blobs = tree.iter().flat_map(|tree| &tree.blobs);
        blobs.fold(0, |sum, blob| sum.saturating_add(self.plan.blob(*blob).size))
    }
}
