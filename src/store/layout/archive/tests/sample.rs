//! Small images that real programs take, and archives of them.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::contents::{Body, Contents, Image, Item, Part, table_of};
use super::super::names::Document;
use super::super::table::Table;
use crate::image::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::{Algorithm, Digest};
use crate::store::layout::docker;

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const DOCUMENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Whoever makes images, and has their blobs.
#[derive(Default)]
pub(crate) struct Maker {
    pub blobs: HashMap<Digest, Vec<u8>>,
}

impl Maker {
    pub(crate) fn blob(&mut self, media_type: &str, bytes: impl Into<Vec<u8>>) -> Value {
        let bytes = bytes.into();
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() });
        self.blobs.insert(digest, bytes);
        descriptor
    }

    /// A layer with one file in it, and the digest of its content.
    fn layer(&mut self, path: &str, content: &str) -> (Value, Digest) {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar).unwrap();
        let descriptor = self.blob(LAYER, gzip.finish().unwrap());
        (descriptor, Digest::of(Algorithm::Sha256, &tar))
    }

    /// The manifest of one platform, with a layer that all images have and one that no other has.
    pub(crate) fn image(&mut self, text: &str, architecture: &str) -> Part {
        let (base, base_id) = self.layer("base", "all images have this one");
        let (own, own_id) = self.layer(&format!("etc/{text}"), &format!("{text} for {architecture}"));
        let ids = [base_id.as_str(), own_id.as_str()];
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let config = self.blob(CONFIG, config.to_string());
        part(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [base, own],
        }))
    }

    fn attestation(&mut self, about: &Manifest) -> Part {
        let statement =
            json!({ "_type": "https://in-toto.io/Statement/v0.1", "about": about.digest.as_str() });
        let layer = self.blob("application/vnd.in-toto+json", statement.to_string());
        let ids = [layer["digest"].clone()];
        let config = json!({
            "architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let config = self.blob(CONFIG, config.to_string());
        part(&json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
        }))
    }

    /// An index of amd64, arm64, and an attestation about the first, as BuildKit makes them.
    pub(crate) fn multi(&mut self, names: &[&str], text: &str) -> Image {
        let platforms = [self.image(text, "amd64"), self.image(text, "arm64")];
        let attestation = self.attestation(&platforms[0].manifest);
        let mut entries: Vec<Value> = platforms
            .iter()
            .zip(["amd64", "arm64"])
            .map(|(part, architecture)| entry(part, &json!({ "os": "linux", "architecture": architecture })))
            .collect();
        let mut about = entry(&attestation, &json!({ "os": "unknown", "architecture": "unknown" }));
        about["annotations"] = json!({
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": platforms[0].manifest.digest.as_str(),
        });
        entries.push(about);
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        let manifests = platforms.into_iter().chain([attestation, part(&index)]).collect();
        Image { names: names.iter().map(|name| (*name).to_owned()).collect(), manifests }
    }

    /// The bytes of an item.
    pub(crate) fn bytes<'a>(&'a self, item: &'a Item) -> &'a [u8] {
        match &item.body {
            Body::Known(bytes) => bytes,
            Body::Blob(digest) => &self.blobs[digest],
        }
    }

    /// The archive of `images`, as a whole file.
    pub(crate) fn archive(&self, images: &[Image]) -> Vec<u8> {
        let items = items(images);
        filled(&table_of(&items).unwrap(), items.iter().map(|item| self.bytes(item)))
    }
}

pub(crate) fn part(json: &Value) -> Part {
    let manifest = Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap();
    Part { manifest: Arc::new(manifest), with_layers: true }
}

/// How an index names a manifest.
pub(crate) fn entry(part: &Part, platform: &Value) -> Value {
    let manifest = &part.manifest;
    json!({
        "mediaType": manifest.media_type, "digest": manifest.digest.as_str(), "size": manifest.bytes.len(),
        "platform": platform,
    })
}

/// What an archive of `images` has, with all of its documents.
pub(crate) fn items(images: &[Image]) -> Vec<Item> {
    let contents = Contents::of(images, |_| false).unwrap();
    let docker = docker::list(images, &"linux/amd64".parse().unwrap(), |digest| contents.has(digest));
    let documents = [(Document::Layout, DOCUMENT.into()), (Document::Index, index(images))];
    contents.items(documents.into_iter().chain(docker.map(|list| (Document::Docker, list))))
}

fn index(images: &[Image]) -> Bytes {
    let entries = images.iter().flat_map(|image| {
        let root = image.root().unwrap();
        image.names.iter().map(|name| {
            json!({
                "mediaType": root.media_type, "digest": root.digest.as_str(), "size": root.bytes.len(),
                "annotations": {
                    "io.containerd.image.name": name, "org.opencontainers.image.ref.name": name,
                },
            })
        })
    });
    let entries: Vec<Value> = entries.collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }).to_string().into()
}

/// The whole tar of a table, with its entries' contents.
pub(crate) fn filled<'c>(table: &Table, contents: impl IntoIterator<Item = &'c [u8]>) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut contents = contents.into_iter();
    for (at, gap) in table.gaps() {
        assert_eq!(at, tar.len() as u64);
        tar.extend(gap);
        tar.extend(contents.next().into_iter().flatten());
    }
    assert_eq!(tar.len() as u64, table.size());
    tar
}
