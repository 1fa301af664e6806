//! Images whose manifests wait for their blobs, and how much of them is held.

use std::collections::HashMap;

use crate::plan::{DeliveryId, ImageId, Tree};

/// What images on their way may occupy, roughly, in bytes: beyond it no source is asked for more.
const OCCUPIED_MAX: usize = 8 << 20;
/// What an image occupies besides its manifests, roughly, and what they occupy once read, for each byte of theirs.
const IMAGE_COST: usize = 4 << 10;
const MANIFEST_COST: usize = 4;

#[derive(Debug)]
struct Image {
    tree: Tree,
    /// Deliveries that are not settled.
    open: Vec<DeliveryId>,
}

impl Image {
    /// What it occupies, roughly, in bytes.
    fn cost(&self) -> usize {
        IMAGE_COST + MANIFEST_COST * self.tree.manifest_bytes()
    }
}

#[derive(Debug, Default)]
pub(super) struct OnTheirWay {
    images: HashMap<ImageId, Image>,
    /// What they occupy, roughly, in bytes.
    occupied: usize,
}

impl OnTheirWay {
    /// Keeps the manifests of an image until all of `open` is settled.
    pub(super) fn enter(&mut self, image: ImageId, tree: Tree, open: impl Iterator<Item = DeliveryId>) {
        let entered = Image { tree, open: open.collect() };
        self.occupied += entered.cost();
        self.images.insert(image, entered);
    }

    /// The images whose manifests are kept.
    pub(super) fn images(&self) -> impl Iterator<Item = ImageId> {
        self.images.keys().copied()
    }

    /// Whether the manifests of further images can be held until their blobs have landed.
    pub(super) fn has_room(&self) -> bool {
        self.occupied < OCCUPIED_MAX
    }

    pub(super) fn tree(&self, image: ImageId) -> Option<&Tree> {
        self.images.get(&image).map(|image| &image.tree)
    }

    /// A delivery of the image is settled; with the last one its manifests are forgotten.
    pub(super) fn settled(&mut self, image: ImageId, delivery: DeliveryId) {
        let Some(known) = self.images.get_mut(&image) else { return };
        known.open.retain(|open| *open != delivery);
        if known.open.is_empty() {
            self.occupied -= known.cost();
            self.images.remove(&image);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::manifest::Manifest;
    use crate::image::reference::Algorithm;

    /// An image of one manifest that is longer than so many bytes.
    fn tree(bytes: usize) -> Tree {
        let digest = format!("sha256:{}", "a".repeat(64));
        let config = serde_json::json!({ "digest": digest, "size": 2 });
        let padding = serde_json::json!({ "padding": ".".repeat(bytes) });
        let json =
            serde_json::json!({ "schemaVersion": 2, "config": config, "layers": [], "annotations": padding });
        let manifest = Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap();
        Tree { levels: vec![vec![Arc::new(manifest)]], blobs: Vec::new() }
    }

    #[test]
    fn an_image_is_held_until_its_last_wanted_name_is_settled_and_gives_its_room_back() {
        let (image, id) = (ImageId::new(0), DeliveryId::new);
        let mut held = OnTheirWay::default();
        held.enter(image, tree(OCCUPIED_MAX / MANIFEST_COST), [id(1), id(2)].into_iter());
        assert!(!held.has_room());
        held.settled(image, id(0));
        held.settled(image, id(1));
        held.settled(image, id(1));
        assert!(held.tree(image).is_some(), "one of its names waits yet");
        held.settled(image, id(2));
        assert!(held.tree(image).is_none() && held.has_room());
        assert_eq!(held.occupied, 0);
    }
}
