//! What an image consists of, by its manifests.

use std::collections::{HashMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Blob;
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::{Platform, Platforms};
use crate::image::reference::Digest;

/// The platform of what is for none, such as an attestation.
const NO_PLATFORM: &str = "unknown/unknown";

/// One platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PinnedPlatform {
    /// As `os/arch[/variant]`; none where neither index nor config says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Of its manifest.
    pub digest: Digest,
    /// Its manifest, config and layers, without those that are not to be distributed.
    pub bytes: u64,
    /// No index divides the image by it: a run takes it whichever platforms are wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undivided: bool,
}

/// All that a place has, or is to have, of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Of its manifest or index.
    pub digest: Digest,
    pub media_type: String,
    /// Bytes of that manifest or index.
    pub size: u64,
    pub platforms: Vec<PinnedPlatform>,
    /// Bytes of all else: of its indexes, and of what is for no platform.
    pub more: u64,
    /// Its indexes name more than is there.
    pub sparse: bool,
    /// Configs and layers, each with its size in bytes.
    pub blobs: Vec<(Digest, u64)>,
    /// Layers that are left out, for they are somewhere else.
    pub base: Vec<(Digest, Blob)>,
}

impl Contents {
    /// What `manifests`, the root of which is the last, are made of, as far as `platforms` are wanted. `blobs` are all
    /// that are wanted with them, each with where it is if it is somewhere else.
    pub(crate) fn of<'m>(
        manifests: &[&Manifest],
        platforms: &Platforms,
        blobs: impl Iterator<Item = (&'m Descriptor, Option<&'m Blob>)>,
    ) -> Option<Self> {
        let root = manifests.last()?;
        let bare = platforms.without_layers(manifests);
        let by_digest: HashMap<&Digest, &Manifest> = manifests.iter().map(|m| (&m.digest, *m)).collect();
        let mut contents = Self {
            digest: root.digest.clone(),
            media_type: root.media_type.clone(),
            size: root.bytes.len() as u64,
            platforms: Vec::new(),
            more: 0,
            sparse: false,
            blobs: Vec::new(),
            base: Vec::new(),
        };
        let mut seen: HashSet<&Digest> = HashSet::from([&root.digest]);
        let mut next: Vec<(&Manifest, Option<&Descriptor>)> = vec![(root, None)];
        while let Some((manifest, entry)) = next.pop() {
            let bytes = size_of(manifest);
            match &manifest.content {
                // Its manifest and its config are there for those who read indexes whole.
                _ if bare.contains(&manifest.digest) => {
                    contents.sparse = true;
                    contents.more = contents.more.saturating_add(manifest.bytes.len() as u64);
                }
                Content::Image(_) if entry.is_none_or(is_image) => {
                    let platform = entry.and_then(|entry| named_platform(entry.platform.as_deref()?));
                    contents.platforms.push(PinnedPlatform {
                        platform,
                        digest: manifest.digest.clone(),
                        bytes,
                        undivided: false,
                    });
                }
                Content::Image(_) => contents.more = contents.more.saturating_add(bytes),
                Content::Index(entries) => {
                    contents.more = contents.more.saturating_add(bytes);
                    // The first is to be looked at first.
                    for entry in entries.iter().rev() {
                        match by_digest.get(&entry.digest) {
                            Some(manifest) if seen.insert(&manifest.digest) => {
                                next.push((manifest, Some(entry)))
                            }
                            Some(_) => {}
                            None => contents.sparse = true,
                        }
                    }
                }
            }
        }
        let mut seen: HashSet<&Digest> = HashSet::new();
        for (blob, elsewhere) in blobs.filter(|(blob, _)| seen.insert(&blob.digest)) {
            match elsewhere {
                Some(there) => contents.base.push((blob.digest.clone(), there.clone())),
                None => contents.blobs.push((blob.digest.clone(), blob.size)),
            }
        }
        Some(contents)
    }
}

/// Whether an entry of an index is for a platform, or does not say.
pub(crate) fn is_image(entry: &Descriptor) -> bool {
    entry.attests.is_none() && entry.platform.as_deref() != Some(NO_PLATFORM)
}

/// A platform by the name that a user would give it; none for what no user could name.
pub(crate) fn named_platform(platform: &str) -> Option<String> {
    let is_platform = platform != NO_PLATFORM && platform.parse::<Platform>().is_ok();
    is_platform.then(|| platform.to_owned())
}

/// Bytes of a manifest and of its blobs, but for layers that are not to be distributed.
pub(crate) fn size_of(manifest: &Manifest) -> u64 {
    let blobs = match &manifest.content {
        Content::Image(blobs) => blobs.as_slice(),
        // Each of these is looked at by itself.
        Content::Index(_) => &[],
    };
    let blobs = blobs.iter().filter(|blob| !blob.is_foreign()).map(|blob| blob.size);
    blobs.fold(manifest.bytes.len() as u64, u64::saturating_add)
}
