//! A target that has to know beforehand all that it is going to hold.

use super::Run;
use crate::image::manifest::Manifest;
use crate::plan::ImageId;
use crate::store::Incoming;

impl Run {
    /// Tells the target of all images at once, as soon as they are known, if that is what it waits for.
    pub(super) async fn prepare_once_all_is_known(&mut self) {
        if !self.waits_for_all || !self.resolution.is_over() || self.refusals.gave_up().is_some() {
            return;
        }
        let mut images: Vec<ImageId> = self.on_their_way.images().collect();
        images.sort_by_key(|image| self.resolution.rank(*image));
        let incoming = images.into_iter().filter_map(|image| self.incoming(image)).collect();
        match self.target.prepare(incoming).await {
            Ok(()) => {
                self.waits_for_all = false;
                self.follow_sequence();
            }
            Err(error) => self.refusals.give_up(error),
        }
    }

    /// What waits already goes in the one order that the target takes, and so does what comes later.
    fn follow_sequence(&mut self) {
        let Some(sequence) = self.target.sequence() else { return };
        self.sequence = Some(sequence.into_iter().zip(0..).collect());
        for ticket in self.lanes.take_blobs() {
            self.enter(ticket);
        }
    }

    fn incoming(&self, image: ImageId) -> Option<Incoming> {
        let request = self.resolution.request(image);
        let tree = self.on_their_way.tree(image)?;
        let manifests: Vec<&Manifest> = tree.manifests().map(AsRef::as_ref).collect();
        let bare = request.platforms.without_layers(&manifests);
        Some(Incoming {
            names: request.destinations.clone(),
            refers_to: request.refers_to.clone(),
            manifests: tree.manifests().map(|m| (m.clone(), !bare.contains(&m.digest))).collect(),
            include_foreign: self.plan.rules().include_foreign,
        })
    }
}
