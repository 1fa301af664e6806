//! What a manifest names. The bytes travel as they came; only descriptors are read out of them.
//!
//! Formats: OCI image-spec 1.1 (image manifest, image index) and Docker's schema 2 (manifest, manifest list).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use self::keys::{Exact, Keys};
use crate::image::reference::{Algorithm, Digest};

mod keys;

/// Largest manifest that is read unless the user allows more, in bytes: what registries take (distribution-spec,
/// "Pushing Manifests").
pub const MANIFEST_MAX: usize = 4 << 20;
/// Most descriptors in one manifest.
const DESCRIPTORS_MAX: usize = 100_000;
/// Largest size of a piece of content, and of all that one manifest names, in bytes: the largest that every JSON reader
/// takes as it is (RFC 8259, section 6).
const SIZE_MAX: u64 = 1 << 53;
/// Most addresses of one descriptor that are looked at, and their greatest length in bytes.
const URLS_MAX: usize = 4;
const URL_MAX: usize = 2048;

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

#[derive(Deserialize)]
struct RawManifest {
    #[serde(rename = "schemaVersion")]
    schema_version: Option<f64>,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    manifests: Option<Vec<Exact<RawDescriptor>>>,
    config: Option<Exact<RawDescriptor>>,
    layers: Option<Vec<Exact<RawDescriptor>>>,
    /// Of the artifact manifest that image-spec 1.1 took back.
    blobs: Option<Vec<Exact<RawDescriptor>>>,
    subject: Option<Exact<RawSubject>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Keys for RawManifest {
    const KEYS: &[&str] = &[
        "schemaVersion",
        "mediaType",
        "artifactType",
        "manifests",
        "config",
        "layers",
        "blobs",
        "subject",
        "annotations",
        "fsLayers",
    ];
}

/// A descriptor of which only the keys are looked at here.
#[derive(Deserialize)]
struct RawSubject {}

const DESCRIPTOR_KEYS: &[&str] =
    &["mediaType", "artifactType", "digest", "size", "platform", "urls", "annotations", "data"];

impl Keys for RawSubject {
    const KEYS: &[&str] = DESCRIPTOR_KEYS;
}

impl Keys for RawDescriptor {
    const KEYS: &[&str] = DESCRIPTOR_KEYS;
}

impl Keys for RawPlatform {
    const KEYS: &[&str] = &["os", "os.version", "os.features", "architecture", "variant"];
}

#[derive(Deserialize)]
struct RawDescriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Exact<RawPlatform>>,
    urls: Option<Vec<String>>,
    annotations: Option<HashMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Manifest {
    /// Reads `bytes` that came with the `Content-Type` header `header`; `algorithm` names them.
    ///
    /// # Errors
    /// [`ManifestError`] for what cannot be mirrored byte for byte with its meaning kept.
    pub fn parse(bytes: Bytes, header: Option<&str>, algorithm: Algorithm) -> Result<Self, ManifestError> {
        let raw: Exact<RawManifest> = serde_json::from_slice(&bytes).map_err(|e| explain(&bytes, &e))?;
        let mut raw = plain(raw)?;
        raw.subject.take().map(plain).transpose()?;
        let media_type = media_type(&raw, header)?;
        let content =
            match (raw.manifests, raw.config.is_some() || raw.layers.is_some() || raw.blobs.is_some()) {
                (Some(_), true) => return Err(ManifestError::Ambiguous),
                (Some(manifests), false) => Content::Index(descriptors(manifests)?),
                (None, _) => {
                    let blobs = raw.layers.into_iter().chain(raw.blobs).flatten();
                    Content::Image(descriptors(raw.config.into_iter().chain(blobs).collect())?)
                }
            };
        let digest = Digest::of(algorithm, &bytes);
        Ok(Self { digest, bytes, media_type, content, stand_in: StandIn::None })
    }

    /// What a name has that has this, with all that is wanted below it.
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

fn explain(bytes: &[u8], error: &serde_json::Error) -> ManifestError {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return ManifestError::WebPage;
    }
    ManifestError::NotJson(crate::util::text::printable(&error.to_string()))
}

/// The type that the manifest is pushed under: the header's, where it is one; else the body's; else by structure.
fn media_type(raw: &RawManifest, header: Option<&str>) -> Result<String, ManifestError> {
    let known = |t: &str| [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&t);
    let header = header.map(|h| h.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let is_schema_one = |t: &str| t.starts_with("application/vnd.docker.distribution.manifest.v1+");
    if raw.schema_version == Some(1.0)
        || raw.fs_layers.is_some()
        || header.as_deref().is_some_and(is_schema_one)
    {
        return Err(ManifestError::SchemaOne);
    }
    // Generic types such as text/plain and application/json say nothing.
    let header = header.filter(|h| h.starts_with("application/vnd."));
    let by_structure = if raw.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
    let chosen = match (header, &raw.media_type) {
        (Some(header), Some(body)) if header != *body => {
            let body = crate::util::text::printable(body);
            return Err(ManifestError::Contradiction { header: crate::util::text::printable(&header), body });
        }
        (Some(header), _) => header,
        (None, Some(body)) => body.clone(),
        (None, None) => by_structure.to_owned(),
    };
    let index = matches!(chosen.as_str(), OCI_INDEX | DOCKER_LIST);
    let has_something =
        raw.manifests.is_some() || raw.config.is_some() || raw.layers.is_some() || raw.blobs.is_some();
    match known(&chosen) || chosen == "application/vnd.oci.artifact.manifest.v1+json" {
        true if has_something && index == raw.manifests.is_some() => Ok(chosen),
        true if has_something => Err(ManifestError::Ambiguous),
        true => Err(ManifestError::NotJson("it names neither manifests nor layers".to_owned())),
        false => Err(ManifestError::UnknownType(crate::util::text::printable(&chosen))),
    }
}

/// What an object holds, where all readers find the same in it.
fn plain<T>(object: Exact<T>) -> Result<T, ManifestError> {
    match object.ambiguous {
        None => Ok(object.value),
        Some(key) => Err(ManifestError::Key(crate::util::text::quoted(&key))),
    }
}

fn descriptors(raw: Vec<Exact<RawDescriptor>>) -> Result<Vec<Descriptor>, ManifestError> {
    if raw.len() > DESCRIPTORS_MAX {
        return Err(ManifestError::TooMany);
    }
    let mut whole: u64 = 0;
    let mut named = Vec::with_capacity(raw.len());
    for raw in raw {
        let raw = plain(raw)?;
        whole = whole.saturating_add(raw.size);
        if whole > SIZE_MAX {
            return Err(ManifestError::TooLarge);
        }
        let digest = raw.digest.parse().map_err(|e| ManifestError::Descriptor(format!("{e}")))?;
        let platform = raw.platform.map(plain).transpose()?.map(|p| platform(&p));
        let about = raw.annotations.as_ref().and_then(|a| a.get("vnd.docker.reference.digest")?.as_str());
        let attests = about.map(str::to_owned);
        let urls = raw.urls.as_deref().map(web_addresses).unwrap_or_default();
        named.push(Descriptor {
            digest,
            size: raw.size,
            media_type: raw.media_type,
            platform,
            attests,
            urls,
        });
    }
    Ok(named)
}

/// Those of `texts` that can be asked; the others are for other tools.
fn web_addresses(texts: &[String]) -> Vec<Url> {
    let short = texts.iter().take(URLS_MAX).filter(|text| text.len() <= URL_MAX);
    let addresses = short.filter_map(|text| text.parse::<Url>().ok());
    addresses.filter(|url| matches!(url.scheme(), "https" | "http")).collect()
}

fn platform(raw: &RawPlatform) -> String {
    let variant = raw.variant.as_deref().map(|v| format!("/{v}")).unwrap_or_default();
    crate::util::text::printable(&format!("{}/{}{variant}", raw.os, raw.architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str, header: Option<&str>) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::from(text.replace("DIGEST", D)), header, Algorithm::Sha256)
    }

    #[test]
    fn an_index_names_manifests_and_an_image_its_blobs() {
        let index = r#"{"schemaVersion":2,"manifests":[
            {"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"DIGEST","size":7,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}}]}"#;
        let Content::Index(children) = parse(index, Some(OCI_INDEX)).unwrap().content else { panic!() };
        assert_eq!(children[0].platform.as_deref(), Some("linux/arm64/v8"));
        let image = r#"{"schemaVersion":2,"config":{"digest":"DIGEST","size":0},"layers":[{"digest":"DIGEST","size":0},{"digest":"DIGEST","size":0}]}"#;
        let Content::Image(blobs) = parse(image, None).unwrap().content else { panic!() };
        assert_eq!(blobs.len(), 3);
    }

    #[test]
    fn the_type_is_the_headers_then_the_bodys_then_the_structures() {
        let image = r#"{"schemaVersion":2.0,"config":{"digest":"DIGEST","size":0},"layers":[]}"#;
        let own = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"digest":"DIGEST","size":0},"layers":[]}"#;
        let of = |text, header| parse(text, header).unwrap().media_type;
        assert_eq!(
            of(image, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")),
            OCI_MANIFEST
        );
        assert_eq!(of(image, Some("text/plain")), OCI_MANIFEST);
        assert_eq!(of(own, Some("application/json")), DOCKER_MANIFEST);
        assert_eq!(of(own, None), DOCKER_MANIFEST);
        assert_eq!(of(r#"{"schemaVersion":2,"manifests":[]}"#, None), OCI_INDEX);
    }

    #[test]
    fn what_cannot_be_mirrored_is_refused_with_its_reason() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        let own =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        assert_eq!(parse(both, None), Err(ManifestError::Ambiguous));
        assert!(matches!(parse(own, Some(OCI_MANIFEST)), Err(ManifestError::Contradiction { .. })));
        assert_eq!(parse(r#"{"schemaVersion":1,"fsLayers":[]}"#, None), Err(ManifestError::SchemaOne));
        assert_eq!(parse("<!DOCTYPE html><html>", None), Err(ManifestError::WebPage));
        assert!(matches!(parse("{", None), Err(ManifestError::NotJson(_))));
        assert!(matches!(parse("{}", None), Err(ManifestError::NotJson(_))));
        assert!(matches!(
            parse(r#"{"manifests":[]}"#, Some("application/vnd.x+json")),
            Err(ManifestError::UnknownType(_))
        ));
        let evil = r#"{"schemaVersion":2,"layers":[{"digest":"sha256:../../../etc/passwd","size":1}]}"#;
        assert!(matches!(parse(evil, None), Err(ManifestError::Descriptor(_))));
    }

    #[test]
    fn keys_that_some_readers_take_for_others_are_refused_at_every_depth() {
        let blob = r#"{"digest":"DIGEST","size":1}"#;
        let image = |layers: &str| format!(r#"{{"schemaVersion":2,"config":{blob},{layers}}}"#);
        let index = |entry: &str| format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#);
        let good = image(&format!(
            r#""layers":[{blob}],"annotations":{{"Layers":"","DIGEST":""}},"x":{{"Size":1}}"#
        ));
        assert!(parse(&good, None).is_ok());
        for wrong in [
            image(&format!(r#""Layers":[{blob}]"#)),
            image(&format!(r#""layers":[],"LAYERS":[{blob}]"#)),
            image(&format!(r#""layers":[],"layer\u017f":[{blob}]"#)),
            image(&format!(r#""layers":[],"SUBJECT":{blob}"#)),
            image(r#""layers":[],"subject":{"Digest":"DIGEST"}"#),
            image(r#""layers":[{"digest":"DIGEST","Digest":"DIGEST","size":1}]"#),
            image(r#""layers":[{"digest":"DIGEST","size":1,"\u212aind":1,"URLs":[]}]"#),
            index(r#"{"digest":"DIGEST","size":1,"platform":{"os":"linux","Architecture":"amd64"}}"#),
            r#"{"SchemaVersion":2,"manifests":[]}"#.to_owned(),
        ] {
            assert!(matches!(parse(&wrong, None), Err(ManifestError::Key(_))), "{wrong}");
        }
        let told = parse(&image(r#""layers":[],"Config":{}"#), None).unwrap_err().to_string();
        assert!(told.contains("ambiguous") && told.contains("\"Config\""), "{told}");
        // One key twice is refused as well.
        assert!(matches!(parse(&image(r#""layers":[],"layers":[]"#), None), Err(ManifestError::NotJson(_))));
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_and_so_are_their_sums() {
        let image = |sizes: &[u64]| {
            let layers = sizes.iter().map(|size| format!(r#"{{"digest":"DIGEST","size":{size}}}"#));
            format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, layers.collect::<Vec<_>>().join(","))
        };
        assert!(parse(&image(&[1 << 53]), None).is_ok());
        for sizes in [&[(1 << 53) + 1][..], &[u64::MAX, 2], &[1 << 52, 1 << 52, 1]] {
            assert_eq!(parse(&image(sizes), None), Err(ManifestError::TooLarge), "{sizes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_fail(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Manifest::parse(Bytes::from(bytes), None, Algorithm::Sha256);
        }

        #[test]
        fn no_json_makes_the_parser_fail(
            keys in proptest::collection::vec(
                "schemaVersion|mediaType|manifests|config|layers|blobs|fsLayers|.{0,5}", 0..6),
            values in proptest::collection::vec(
                "null|2|2.0|-1|1e400|\"DIGEST\"|\"x\"|\\[\\]|\\[1\\]|\\{\\}|\\[\\{\"digest\":\"(DIGEST|sha256:x)\",\"size\":(0|-1|99999999999999999999)\\}\\]", 6),
            header in "(application/vnd\\.(oci|docker)\\.[a-z.+]{0,50})?",
        ) {
            let members: Vec<String> =
                keys.iter().zip(&values).map(|(key, value)| format!("{key:?}:{value}")).collect();
            let text = format!("{{{}}}", members.join(","));
            let _ = parse(&text, Some(&header));
            let _ = parse(&text, None);
        }

        #[test]
        fn nesting_and_length_are_bounded(depth in 0..200_000_usize) {
            let _ = parse(&"[".repeat(depth), None);
            let _ = parse(&format!("{{\"manifests\":{}", "[".repeat(depth)), None);
        }
    }
}
