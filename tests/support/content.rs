//! Generated image content: deterministic from a seed, with real digests, and lazy, so that a
//! layer of any size costs no memory.

mod blob;
mod image;
mod load;
mod mirror_set;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

pub use blob::Blob;
pub use image::{Child, Image, Kind, Manifest, config_for, media};
pub use load::{Login, load, load_repository};
pub use mirror_set::{SetOptions, mirror_set, mirror_set_by_host};
pub use shapes::{Shape, odd_shapes};

use super::digest::Digest;

/// What a registry holds: blobs and manifests by digest, and which repository links to which.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub blobs: BTreeMap<Digest, Blob>,
    pub manifests: BTreeMap<Digest, Manifest>,
    pub repositories: BTreeMap<String, Repository>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    pub tags: BTreeMap<String, Digest>,
    pub manifests: BTreeSet<Digest>,
    pub blobs: BTreeSet<Digest>,
}

impl Content {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image with everything below it, and tags it.
    pub fn add(&mut self, repository: &str, tag: &str, image: &Image) -> &mut Self {
        self.add_untagged(repository, image);
        let entry = self.repositories.entry(repository.to_owned()).or_default();
        entry.tags.insert(tag.to_owned(), image.digest());
        self
    }

    pub fn add_untagged(&mut self, repository: &str, image: &Image) -> &mut Self {
        let entry = self.repositories.entry(repository.to_owned()).or_default();
        for blob in image.all_blobs() {
            entry.blobs.insert(blob.digest.clone());
            self.blobs.insert(blob.digest.clone(), blob.clone());
        }
        for manifest in image.manifests() {
            entry.manifests.insert(manifest.digest.clone());
            let digest = manifest.digest.clone();
            self.manifests.insert(digest, manifest.clone());
        }
        self
    }

    pub fn merge(&mut self, other: &Content) {
        self.blobs.extend(other.blobs.clone());
        self.manifests.extend(other.manifests.clone());
        for (name, repository) in &other.repositories {
            let entry = self.repositories.entry(name.clone()).or_default();
            entry.tags.extend(repository.tags.clone());
            entry.manifests.extend(repository.manifests.iter().cloned());
            entry.blobs.extend(repository.blobs.iter().cloned());
        }
    }

    /// The digest a tag stands for.
    pub fn digest_of(&self, repository: &str, tag: &str) -> Option<&Digest> {
        self.repositories.get(repository)?.tags.get(tag)
    }

    /// `(repository, tag, digest)` of everything tagged.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &str, &Digest)> {
        self.repositories.iter().flat_map(|(name, repository)| {
            let tags = repository.tags.iter();
            tags.map(move |(tag, digest)| (name.as_str(), tag.as_str(), digest))
        })
    }

    /// Bytes of all blobs, each counted once.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.values().map(|blob| blob.size).sum()
    }
}
