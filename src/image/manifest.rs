//! What a manifest names. The bytes travel as they came; only descriptors are read out of them.
//!
//! Formats: OCI image-spec 1.1 (image manifest, image index) and Docker's schema 2 (manifest, manifest list).

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use url::Url;

use self::reading::DESCRIPTORS_MAX;
use crate::image::reference::{Algorithm, Digest};

mod keys;
mod reading;

/// Largest manifest that is read unless the user allows more, in bytes: what registries take (distribution-spec,
/// "Pushing Manifests").
pub const MANIFEST_MAX: usize = 4 << 20;
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What a registry is told that we take. Without the index types some answer 404, others pick a platform.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, */*;q=0.1";

/// Some content by name, with its size in bytes (image-spec, "Descriptors").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub digest: Digest,
    pub size: u64,
    pub media_type: String,
    /// `linux/arm64/v8`, for the entries of an index.
    pub platform: Option<String>,
    /// The digest of the image that this is an attestation about, as BuildKit writes it.
    pub attests: Option<String>,
    /// Where it can be had besides, for what registries may not distribute.
    pub urls: Vec<Url>,
}

impl Descriptor {
    /// A blob of `size` bytes of which nothing else matters.
    pub fn of_blob(digest: Digest, size: u64) -> Self {
        Self { digest, size, media_type: String::new(), platform: None, attests: None, urls: Vec::new() }
    }

    /// Layers that their publisher does not want copied; a manifest that names them is complete without them
    /// (image-spec, "Non-Distributable Layers").
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".layer.nondistributable.")
            || self.media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    }
}

/// What has to be there before a manifest may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Manifests, one a platform, or indexes again.
    Index(Vec<Descriptor>),
    /// Config and layers.
    Image(Vec<Descriptor>),
}

impl Content {
    /// How many descriptors there are.
    pub fn descriptors(&self) -> usize {
        let (Content::Index(all) | Content::Image(all)) = self;
        all.len()
    }
}

/// A manifest or index: its bytes, their digest, their type, and what they name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub bytes: Bytes,
    pub digest: Digest,
    pub media_type: String,
    pub content: Content,
    /// What may be put in its place.
    pub stand_in: StandIn,
}

/// What becomes of an index of which only some platforms are wanted, where a registry refuses it for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandIn {
    /// All that it names is to be there.
    None,
    /// The same index without what is not wanted.
    Index(Arc<Manifest>),
    /// Its digest is pinned, and another index would have another.
    Forbidden,
    /// It is, or has below it, an index that another one names by its digest.
    Nested,
}

/// What a name at the target has of its image, once it has all that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    Whole,
    /// The index, but not every platform that it names.
    Sparse,
    Trimmed(Trimmed),
}

impl Extent {
    pub fn is_sparse(&self) -> bool {
        *self == Extent::Sparse
    }

    pub fn trimmed(self) -> Option<Trimmed> {
        match self {
            Extent::Trimmed(trimmed) => Some(trimmed),
            Extent::Whole | Extent::Sparse => None,
        }
    }
}

/// An index that a target has in another's place, without the platforms that are not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trimmed {
    /// The whole one's digest.
    #[serde(rename = "source_digest")]
    pub source: Digest,
    #[serde(rename = "target_digest")]
    pub target: Digest,
}

/// Why some bytes are no manifest to be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    #[error("it is no manifest: {0}")]
    NotJson(String),
    #[error("it looks like a web page, perhaps from a proxy or a login portal on the way")]
    WebPage,
    #[error("it is ambiguous: it has both 'manifests' and 'layers' or 'config'")]
    Ambiguous,
    #[error("it is ambiguous: for its key {0} some readers take another that differs in case alone")]
    Key(String),
    #[error("it is ambiguous: the registry calls it {header}, its own text {body}")]
    Contradiction { header: String, body: String },
    #[error(
        "it is in Docker's schema 1, which was retired in 2019; push the image again with a current tool"
    )]
    SchemaOne,
    #[error("it has the type {0}, which is no manifest that this program knows")]
    UnknownType(String),
    #[error("it names more than {DESCRIPTORS_MAX} pieces of content")]
    TooMany,
    #[error("a descriptor in it is wrong: {0}")]
    Descriptor(String),
    #[error("it names content of more than 2^53 bytes, which cannot be")]
    TooLarge,
}

impl Manifest {
    /// How much of the image a name gets with this manifest, once all that is wanted below it is there.
    pub fn extent(&self) -> Extent {
        if self.stand_in == StandIn::None { Extent::Whole } else { Extent::Sparse }
    }

    /// Whether it has a descriptor of `digest`.
    pub fn names(&self, digest: &Digest) -> bool {
        let (Content::Index(named) | Content::Image(named)) = &self.content;
        named.iter().any(|descriptor| descriptor.digest == *digest)
    }

    /// What it refers to, and how the list of that one's referrers describes it (image-spec, `subject`;
    /// distribution-spec, "Listing Referrers"). `None` for what refers to nothing.
    pub fn as_referrer(&self) -> Option<(Digest, serde_json::Value)> {
        let json: serde_json::Value = serde_json::from_slice(&self.bytes).ok()?;
        let subject = json["subject"]["digest"].as_str()?.parse().ok()?;
        let mut descriptor = serde_json::json!({
            "mediaType": self.media_type,
            "digest": self.digest.as_str(),
            "size": self.bytes.len(),
        });
        let artifact_type = json["artifactType"].as_str().filter(|t| !t.is_empty());
        if let Some(artifact_type) = artifact_type.or_else(|| json["config"]["mediaType"].as_str()) {
            descriptor["artifactType"] = artifact_type.into();
        }
        if json["annotations"].is_object() {
            descriptor["annotations"] = json["annotations"].clone();
        }
        Some((subject, descriptor))
    }

    /// The list of referrers `known`, if there is one yet, with `descriptor` and without `lost`; `None` where what is
    /// there is no list.
    pub fn listing(known: Option<&Self>, descriptor: &serde_json::Value, lost: &[Digest]) -> Option<Self> {
        let mut json: serde_json::Value = match known {
            Some(known) => serde_json::from_slice(&known.bytes).ok()?,
            None => serde_json::json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }),
        };
        let entries = json.get_mut("manifests")?.as_array_mut()?;
        entries.retain(|entry| !lost.iter().any(|lost| entry["digest"] == lost.as_str()));
        if !entries.iter().any(|entry| entry["digest"] == descriptor["digest"]) {
            entries.push(descriptor.clone());
        }
        let bytes = Bytes::from(serde_json::to_vec(&json).ok()?);
        Self::parse(bytes, Some(OCI_INDEX), Algorithm::Sha256).ok()
    }

    /// This index with nothing but the entries in `kept`; `None` for what is no index.
    pub fn trimmed(&self, kept: &HashSet<&Digest>) -> Option<Self> {
        let mut json: serde_json::Value = serde_json::from_slice(&self.bytes).ok()?;
        let entries = json.get_mut("manifests")?.as_array_mut()?;
        let kept: HashSet<&str> = kept.iter().map(|digest| digest.as_str()).collect();
        entries.retain(|entry| entry["digest"].as_str().is_some_and(|digest| kept.contains(digest)));
        let bytes = Bytes::from(serde_json::to_vec(&json).ok()?);
        Self::parse(bytes, Some(&self.media_type), self.digest.algorithm()).ok()
    }
}
