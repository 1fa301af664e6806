//! A document while it is made, image by image.

use std::collections::BTreeMap;

use super::{Blob, Contents, Image, Inventory, Kind, Made, Missing};
use crate::image::reference::{Digest, Location, Reference};

/// What an image is recorded for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// The names that it is to have in a registry, below that one's host and path.
    pub names: Vec<Location>,
    /// Why it was chosen, a sentence each.
    pub reasons: Vec<String>,
}

/// Images that were found out of so far, and what is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    images: BTreeMap<Reference, Image>,
    missing: BTreeMap<Reference, Missing>,
    blobs: BTreeMap<Digest, Blob>,
    base: BTreeMap<Digest, Blob>,
}

impl Image {
    /// An image that has these `names` of all that it is to have.
    pub(crate) fn new(
        source: &Reference,
        names: Vec<Location>,
        reasons: &[String],
        contents: &Contents,
    ) -> Self {
        let Contents { digest, media_type, size, platforms, more, sparse, .. } = contents;
        Self {
            source: source.clone(),
            names,
            digest: digest.clone(),
            media_type: media_type.clone(),
            size: *size,
            trimmed: None,
            sparse: *sparse,
            refers_to: None,
            platforms: platforms.clone(),
            more: *more,
            reasons: reasons.to_vec(),
        }
    }
}

impl Draft {
    /// Enters an image and its blobs. Of a blob the first repository is told.
    pub(crate) fn add(&mut self, image: Image, contents: &Contents) {
        if let Some(repository) = image.names.first().map(|name| name.repository.clone()) {
            for (digest, size) in &contents.blobs {
                self.blobs.entry(digest.clone()).or_insert_with(|| Blob(*size, repository.clone()));
            }
        }
        for (digest, there) in &contents.base {
            self.base.entry(digest.clone()).or_insert_with(|| there.clone());
        }
        self.images.insert(image.source.clone(), image);
    }

    /// Enters what is not there.
    pub(crate) fn miss(&mut self, missing: Missing) {
        self.missing.insert(missing.source.clone(), missing);
    }

    /// The same, where what is missing does not say why.
    pub(crate) fn without_causes(mut self) -> Self {
        self.missing.values_mut().for_each(|missing| missing.cause.clear());
        self
    }

    /// The document.
    pub(crate) fn into_inventory(self, kind: Kind, made: Made) -> Inventory {
        let Self { images, missing, blobs, mut base } = self;
        base.retain(|digest, _| !blobs.contains_key(digest));
        Inventory { kind, made, images, missing, blobs, base }
    }
}
