//! What is in an archive, and in which order.
//!
//! What says of the others comes first, so that a stream can be understood as it arrives: documents, manifests, configs,
//! then the layers, those of one image together.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::names::{Document, blob_path};
use super::table::{Table, TooLarge};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::reference::Digest;

/// An image as an archive has it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Whole names, such as `registry.k8s.io/pause:3.10.2`.
    pub names: Vec<String>,
    /// The root last.
    pub manifests: Vec<Part>,
}

/// A manifest of an image.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub manifest: Arc<Manifest>,
    /// Its layers are wanted, as those of other platforms are not.
    pub with_layers: bool,
}

impl Image {
    pub(crate) fn root(&self) -> Option<&Arc<Manifest>> {
        self.manifests.last().map(|part| &part.manifest)
    }
}

/// Two manifests name the same content with different sizes: one of them is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{digest} has {size} bytes by one manifest, and {other} by another")]
pub(crate) struct SizesDiffer {
    pub digest: Digest,
    /// Bytes, by the image that came first.
    pub size: u64,
    /// By the image at this place among all of them.
    pub other: u64,
    pub image: usize,
}

/// An entry to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub path: String,
    /// Bytes.
    pub size: u64,
    pub body: Body,
}

/// Where the bytes of an entry are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Known(Bytes),
    /// Still to be had.
    Blob(Digest),
}

/// All manifests and blobs of some images, each once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    manifests: Vec<Item>,
    configs: Vec<Item>,
    layers: Vec<Item>,
    /// Of everything, in bytes.
    sizes: HashMap<Digest, u64>,
}

impl Contents {
    /// Layers that are `left_out` are in no archive, whoever names them.
    ///
    /// # Errors
    /// Something has two sizes.
    pub(crate) fn of(images: &[Image], left_out: impl Fn(&Descriptor) -> bool) -> Result<Self, SizesDiffer> {
        let mut contents = Self::default();
        for (number, image) in images.iter().enumerate() {
            for Part { manifest, .. } in &image.manifests {
                if contents.is_new(&manifest.digest, manifest.bytes.len() as u64, number)? {
                    let bytes = manifest.bytes.clone();
                    contents.manifests.push(Item::known(blob_path(&manifest.digest), bytes));
                }
            }
        }
        // A manifest stays one, whatever else names it.
        for (number, _, blobs) in Self::blobs(images) {
            if let Some(config) = blobs.first()
                && contents.is_new(&config.digest, config.size, number)?
            {
                contents.configs.push(Item::blob(config));
            }
        }
        for (number, with_layers, blobs) in Self::blobs(images) {
            for layer in blobs.iter().skip(1).filter(|layer| with_layers && !left_out(layer)) {
                if contents.is_new(&layer.digest, layer.size, number)? {
                    contents.layers.push(Item::blob(layer));
                }
            }
        }
        Ok(contents)
    }

    /// What each manifest names, the config first: the number of its image, and whether its layers are wanted.
    fn blobs(images: &[Image]) -> impl Iterator<Item = (usize, bool, &[Descriptor])> {
        let parts = images
            .iter()
            .enumerate()
            .flat_map(|(number, image)| image.manifests.iter().map(move |part| (number, part)));
        parts.filter_map(|(number, part)| match &part.manifest.content {
            Content::Image(blobs) => Some((number, part.with_layers, blobs.as_slice())),
            Content::Index(_) => None,
        })
    }

    fn is_new(&mut self, digest: &Digest, size: u64, image: usize) -> Result<bool, SizesDiffer> {
        match self.sizes.get(digest) {
            None => {
                self.sizes.insert(digest.clone(), size);
                Ok(true)
            }
            Some(known) if *known == size => Ok(false),
            Some(known) => Err(SizesDiffer { digest: digest.clone(), size: *known, other: size, image }),
        }
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.sizes.contains_key(digest)
    }

    /// All entries, with `documents` before them; their order is the caller's.
    pub(crate) fn items(self, documents: impl IntoIterator<Item = (Document, Bytes)>) -> Vec<Item> {
        let documents =
            documents.into_iter().map(|(document, bytes)| Item::known(document.path().to_owned(), bytes));
        documents.chain(self.manifests).chain(self.configs).chain(self.layers).collect()
    }
}

impl Item {
    fn known(path: String, bytes: Bytes) -> Self {
        Self { path, size: bytes.len() as u64, body: Body::Known(bytes) }
    }

    fn blob(blob: &Descriptor) -> Self {
        Self { path: blob_path(&blob.digest), size: blob.size, body: Body::Blob(blob.digest.clone()) }
    }
}

/// The places of `items`.
///
/// # Errors
/// They are more than a file can have.
pub(crate) fn table_of(items: &[Item]) -> Result<Table, TooLarge> {
    Table::new(items.iter().map(|item| (item.path.clone(), item.size)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::sample::{self, LAYER, Maker};
    use super::*;
    use crate::image::manifest::OCI_MANIFEST;

    /// What each blob is, in the order of the archive.
    fn kinds(maker: &Maker, items: &[Item]) -> Vec<String> {
        let kind = |item: &Item| match &item.body {
            Body::Known(_) if item.path.starts_with("blobs/") => "manifest".to_owned(),
            Body::Known(_) => item.path.clone(),
            Body::Blob(digest) => match maker.blobs[digest].as_slice() {
                [b'{', ..] if item.size < 150 => "attestation".to_owned(),
                [b'{', ..] => "config".to_owned(),
                _ => "layer".to_owned(),
            },
        };
        let mut kinds: Vec<String> = items.iter().map(kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn what_says_of_others_comes_first_and_everything_comes_once() {
        let mut maker = Maker::default();
        let images = [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1", "q.io/b:2"], "b")];
        let items = sample::items(&images);
        let kinds = kinds(&maker, &items);
        let documents = ["oci-layout", "index.json", "manifest.json"];
        assert_eq!(kinds[..6], [&documents[..], &["manifest", "config", "layer"]].concat());
        let paths: std::collections::HashSet<&str> = items.iter().map(|item| item.path.as_str()).collect();
        assert_eq!(paths.len(), items.len());
        // Eight manifests; six configs; a layer that all share, four of their own and two attestations.
        assert_eq!(items.len(), 3 + 8 + 6 + 7);
        for item in &items {
            assert_eq!(maker.bytes(item).len() as u64, item.size, "{}", item.path);
        }
        // Those of the first image before those of the second.
        let of_second: Vec<usize> =
            images[1].manifests[0].layers().map(|layer| place(&items, layer)).collect();
        let of_first: Vec<usize> =
            images[0].manifests[1].layers().map(|layer| place(&items, layer)).collect();
        assert!(of_first[0] == of_second[0] && of_first[1] < of_second[1]);
    }

    impl Part {
        fn layers(&self) -> impl Iterator<Item = &Descriptor> {
            let Content::Image(blobs) = &self.manifest.content else { panic!() };
            blobs.iter().skip(1)
        }
    }

    fn place(items: &[Item], blob: &Descriptor) -> usize {
        items.iter().position(|item| item.path == blob_path(&blob.digest)).unwrap()
    }

    #[test]
    fn layers_of_other_platforms_are_left_out_and_nothing_else() {
        let mut maker = Maker::default();
        let mut image = maker.multi(&["q.io/a:1"], "a");
        let whole = sample::items(std::slice::from_ref(&image)).len();
        image.manifests[1].with_layers = false;
        let cut = Contents::of(std::slice::from_ref(&image), |_| false).unwrap();
        // The layer that amd64 has as well stays.
        assert_eq!(cut.clone().items([]).len(), whole - 3 - 1);
        let [base, own] = image.manifests[1].layers().collect::<Vec<_>>()[..] else { panic!() };
        assert!(cut.has(&base.digest) && !cut.has(&own.digest));
        // What is left out by itself is so for all platforms.
        let none = Contents::of(&[image.clone()], |layer| layer.media_type == LAYER).unwrap();
        assert!(!none.has(&base.digest));
        assert_eq!(none.layers.len(), 1);
    }

    #[test]
    fn content_of_two_sizes_is_told_with_the_image_that_is_at_odds() {
        let mut maker = Maker::default();
        let image = maker.multi(&["q.io/a:1"], "a");
        let mut layer = maker.blob(LAYER, "x");
        let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
        let config = maker.blob(sample::CONFIG, "{}");
        let mut other = |size: u64| {
            layer["size"] = size.into();
            let manifest = json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
            });
            Image { names: vec!["q.io/c:1".to_owned()], manifests: vec![sample::part(&manifest)] }
        };
        let images = [other(1), image, other(2)];
        let error = Contents::of(&images, |_| false).unwrap_err();
        assert_eq!(error, SizesDiffer { digest, size: 1, other: 2, image: 2 });
    }
}
