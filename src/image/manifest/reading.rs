//! How a manifest is read: the type that it is of, and the descriptors in it, bounded and without ambiguity.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;
use url::Url;

use super::keys::{Exact, Keys};
use super::{
    Content, DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Manifest, ManifestError, OCI_INDEX, OCI_MANIFEST,
    StandIn,
};
use crate::image::reference::{Algorithm, Digest};
use crate::util::text;

/// Most descriptors in one manifest.
pub(super) const DESCRIPTORS_MAX: usize = 100_000;
/// Largest size of a piece of content, and of all that one manifest names, in bytes: the largest that every JSON reader
/// takes as it is (RFC 8259, section 6).
const SIZE_MAX: u64 = 1 << 53;
/// Most addresses of one descriptor that are looked at, and their greatest length in bytes.
const URLS_MAX: usize = 4;
const URL_MAX: usize = 2048;

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
}

fn explain(bytes: &[u8], error: &serde_json::Error) -> ManifestError {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return ManifestError::WebPage;
    }
    ManifestError::NotJson(text::printable(&error.to_string()))
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
            let body = text::printable(body);
            return Err(ManifestError::Contradiction { header: text::printable(&header), body });
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
        false => Err(ManifestError::UnknownType(text::printable(&chosen))),
    }
}

/// What an object holds, where all readers find the same in it.
fn plain<T>(object: Exact<T>) -> Result<T, ManifestError> {
    match object.ambiguous {
        None => Ok(object.value),
        Some(key) => Err(ManifestError::Key(text::quoted(&key))),
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
    text::printable(&format!("{}/{}{variant}", raw.os, raw.architecture))
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
