//! Images as trees: a manifest with its blobs, or an index with its children.

use std::collections::HashSet;

use bytes::Bytes;
use serde_json::{Value, json};

use super::Blob;
use crate::support::digest::{Digest, sha256};

pub mod media {
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    pub const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, OCI_INDEX | DOCKER_LIST)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Oci,
    Docker,
}

impl Kind {
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_INDEX,
            Self::Docker => media::DOCKER_LIST,
        }
    }

    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_MANIFEST,
            Self::Docker => media::DOCKER_MANIFEST,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_CONFIG,
            Self::Docker => media::DOCKER_CONFIG,
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Self::Oci => media::OCI_LAYER,
            Self::Docker => media::DOCKER_LAYER,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

/// A manifest and what it refers to.
#[derive(Clone, Debug)]
pub struct Image {
    pub manifest: Manifest,
    pub blobs: Vec<Blob>,
    pub children: Vec<Image>,
}

/// One entry of an index.
#[derive(Clone, Debug)]
pub struct Child {
    image: Image,
    extra: Vec<(&'static str, Value)>,
}

impl Child {
    pub fn plain(image: Image) -> Self {
        let extra = Vec::new();
        Self { image, extra }
    }

    /// `platform` is `os/architecture` or `os/architecture/variant`.
    pub fn platform(platform: &str, image: Image) -> Self {
        let mut parts = platform.split('/');
        let mut value = json!({ "os": parts.next(), "architecture": parts.next() });
        if let Some(variant) = parts.next() {
            value["variant"] = variant.into();
        }
        let extra = vec![("platform", value)];
        Self { image, extra }
    }

    /// What buildkit adds for provenance: `unknown/unknown` beside the image it describes.
    pub fn attestation(subject: &Image, seed: u64) -> Self {
        let statement = format!("{{\"subject\":\"{}\",\"seed\":{seed}}}", subject.digest());
        let layer = Blob::literal(statement);
        let config = Blob::literal("{\"architecture\":\"unknown\",\"os\":\"unknown\"}");
        let mut value = manifest_value(Kind::Oci, &config, std::slice::from_ref(&layer));
        value["layers"][0]["mediaType"] = "application/vnd.in-toto+json".into();
        let image = Image::from_value(media::OCI_MANIFEST, &value, vec![config, layer], vec![]);
        let annotations = json!({
            "vnd.docker.reference.digest": subject.digest(),
            "vnd.docker.reference.type": "attestation-manifest",
        });
        let mut child = Self::platform("unknown/unknown", image);
        child.extra.push(("annotations", annotations));
        child
    }

    fn descriptor(&self) -> Value {
        let mut value = self.image.descriptor();
        for (key, extra) in &self.extra {
            value[*key] = extra.clone();
        }
        value
    }
}

impl Image {
    /// A manifest of one platform.
    pub fn single(kind: Kind, config: Blob, layers: Vec<Blob>) -> Self {
        let value = manifest_value(kind, &config, &layers);
        let blobs = std::iter::once(config).chain(layers).collect();
        Self::from_value(kind.manifest(), &value, blobs, vec![])
    }

    /// An image of one platform with generated layers of these sizes.
    pub fn generated(kind: Kind, seed: u64, layer_sizes: &[u64]) -> Self {
        let mut layers = Vec::new();
        for (n, size) in layer_sizes.iter().enumerate() {
            layers.push(Blob::generated(seed.wrapping_mul(1000) + n as u64, *size));
        }
        Self::single(kind, config_for("amd64", &seed.to_string(), &layers), layers)
    }

    pub fn index(kind: Kind, children: Vec<Child>) -> Self {
        let manifests: Vec<_> = children.iter().map(Child::descriptor).collect();
        let value = json!({
            "schemaVersion": 2, "mediaType": kind.index(), "manifests": manifests,
        });
        let children = children.into_iter().map(|child| child.image).collect();
        Self::from_value(kind.index(), &value, vec![], children)
    }

    pub fn from_value(media_type: &str, value: &Value, blobs: Vec<Blob>, children: Vec<Image>) -> Self {
        let bytes = serde_json::to_vec_pretty(value).expect("a JSON value serialises");
        Self::raw(media_type, bytes, blobs, children)
    }

    /// Any bytes as the manifest.
    pub fn raw(media_type: &str, bytes: impl Into<Bytes>, blobs: Vec<Blob>, children: Vec<Image>) -> Self {
        let bytes = bytes.into();
        let manifest = Manifest { digest: sha256(&bytes), media_type: media_type.to_owned(), bytes };
        Self { manifest, blobs, children }
    }

    pub fn digest(&self) -> Digest {
        self.manifest.digest.clone()
    }

    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.manifest.media_type,
            "digest": self.manifest.digest,
            "size": self.manifest.bytes.len(),
        })
    }

    /// All manifests, children first, each once.
    pub fn manifests(&self) -> Vec<&Manifest> {
        let mut out = Vec::new();
        self.collect(&mut HashSet::new(), &mut |image| out.push(&image.manifest));
        out
    }

    /// All blobs of the tree, each once.
    pub fn all_blobs(&self) -> Vec<&Blob> {
        let mut out: Vec<&Blob> = Vec::new();
        self.collect(&mut HashSet::new(), &mut |image| out.extend(&image.blobs));
        let mut seen = HashSet::new();
        out.retain(|blob| seen.insert(&blob.digest));
        out
    }

    fn collect<'a>(&'a self, seen: &mut HashSet<&'a str>, visit: &mut impl FnMut(&'a Image)) {
        if seen.insert(&self.manifest.digest) {
            for child in &self.children {
                child.collect(seen, visit);
            }
            visit(self);
        }
    }
}

pub(super) fn descriptor(media_type: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media_type, "digest": blob.digest, "size": blob.size })
}

pub(super) fn manifest_value(kind: Kind, config: &Blob, layers: &[Blob]) -> Value {
    let layers: Vec<_> = layers.iter().map(|b| descriptor(kind.layer(), b)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": kind.manifest(),
        "config": descriptor(kind.config(), config),
        "layers": layers,
    })
}

/// A configuration that names its layers. Tools that convert images want `diff_ids`, one a layer.
pub fn config_for(architecture: &str, name: &str, layers: &[Blob]) -> Blob {
    let ids: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
    let value = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Labels": { "name": name } },
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    Blob::literal(value.to_string())
}
