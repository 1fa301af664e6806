//! The shapes a mirror must carry byte for byte, odd ones included.

use serde_json::{Value, json};

use super::Blob;
use super::image::{Child, Image, Kind, config_for, descriptor, manifest_value, media};

pub struct Shape {
    pub name: &'static str,
    pub image: Image,
    /// distribution 2.8.2 answers 400 to a few of them, for reasons of its own.
    pub distribution_takes_it: bool,
}

/// One image of each shape; names are valid tags.
pub fn odd_shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (name, image) in trees().into_iter().chain(manifests()).chain(spellings()) {
        shapes.push(Shape { name, image, distribution_takes_it: name != "schema-version-as-2.0" });
    }
    shapes
}

fn trees() -> Vec<(&'static str, Image)> {
    let amd64 = Image::generated(Kind::Oci, 101, &[700, 900]);
    let arm64 = Image::generated(Kind::Oci, 102, &[700, 901]);
    let platforms =
        vec![Child::platform("linux/amd64", amd64.clone()), Child::platform("linux/arm64/v8", arm64.clone())];
    let mut attested = platforms.clone();
    attested.push(Child::attestation(&amd64, 1));
    attested.push(Child::attestation(&arm64, 2));
    let index = Image::index(Kind::Oci, platforms.clone());
    let middle = Image::index(Kind::Oci, vec![Child::plain(index.clone())]);
    let nested = vec![Child::plain(middle), Child::platform("linux/amd64", amd64)];
    vec![
        ("index", index),
        ("attestations", Image::index(Kind::Oci, attested)),
        ("nested-index", Image::index(Kind::Oci, nested)),
        ("empty-index", Image::index(Kind::Oci, vec![])),
        ("docker-list-of-oci", Image::index(Kind::Docker, platforms)),
        ("same-child-twice", same_child_twice(arm64)),
    ]
}

fn same_child_twice(image: Image) -> Image {
    let first = Child::platform("linux/arm64", image.clone());
    let second = Child::platform("linux/arm64/v8", image);
    Image::index(Kind::Oci, vec![first, second])
}

fn manifests() -> Vec<(&'static str, Image)> {
    vec![
        ("docker-manifest", Image::generated(Kind::Docker, 103, &[1200])),
        ("no-layers", Image::generated(Kind::Oci, 104, &[])),
        ("zero-byte-layer", Image::generated(Kind::Oci, 105, &[0, 10])),
        ("duplicate-layers", duplicate_layers()),
        ("artifact", artifact()),
        ("subject", with(106, |value| value["subject"] = absent())),
        ("descriptor-data", with(107, add_data)),
        ("unknown-fields", with(108, add_unknown_fields)),
        ("non-ascii", with(109, add_non_ascii)),
        ("no-media-type", with(110, remove_media_type)),
        ("large", with(111, pad_to_nearly_four_mebibytes)),
    ]
}

/// The same JSON written in ways a serialiser would not keep.
fn spellings() -> Vec<(&'static str, Image)> {
    vec![
        ("trailing-newline", respelled(120, |text| text + "\n")),
        ("crlf", respelled(121, |text| text.replace('\n', "\r\n"))),
        ("tabs", respelled(122, |text| text.replace("  ", "\t"))),
        ("keys-in-odd-order", respelled(123, keys_in_odd_order)),
        ("schema-version-as-2.0", respelled(124, version_as_float)),
    ]
}

fn duplicate_layers() -> Image {
    let layer = Blob::generated(1005, 512);
    let layers = vec![layer.clone(), layer];
    Image::single(Kind::Oci, config_for("amd64", "twice", &layers), layers)
}

fn artifact() -> Image {
    let empty = Blob::literal("{}");
    let payload = Blob::literal("any bytes at all");
    let value = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/vnd.example.thing",
        "config": descriptor(media::OCI_EMPTY, &empty),
        "layers": [descriptor("text/plain; charset=utf-8", &payload)],
    });
    Image::from_value(media::OCI_MANIFEST, &value, vec![empty, payload], vec![])
}

fn parts(seed: u64) -> (Value, Vec<Blob>) {
    let layers = vec![Blob::generated(seed, 600)];
    let config = config_for("amd64", &seed.to_string(), &layers);
    let value = manifest_value(Kind::Oci, &config, &layers);
    (value, [vec![config], layers].concat())
}

fn with(seed: u64, change: impl FnOnce(&mut Value)) -> Image {
    let (mut value, blobs) = parts(seed);
    change(&mut value);
    Image::from_value(media::OCI_MANIFEST, &value, blobs, vec![])
}

fn respelled(seed: u64, change: impl FnOnce(String) -> String) -> Image {
    let (value, blobs) = parts(seed);
    let text = serde_json::to_string_pretty(&value).expect("a JSON value serialises");
    Image::raw(media::OCI_MANIFEST, change(text), blobs, vec![])
}

fn absent() -> Value {
    descriptor(media::OCI_MANIFEST, &Blob::literal("a manifest nobody has"))
}

fn add_data(value: &mut Value) {
    value["layers"][0]["data"] = "aGVsbG8=".into();
}

fn add_unknown_fields(value: &mut Value) {
    value["org.example.future"] = json!({ "a": [1, null, 1.50] });
    value["config"]["unheard"] = true.into();
}

fn add_non_ascii(value: &mut Value) {
    value["annotations"] = json!({ "title": "Größe ≠ 大小 🚢" });
}

fn remove_media_type(value: &mut Value) {
    value.as_object_mut().expect("an object").remove("mediaType");
}

fn pad_to_nearly_four_mebibytes(value: &mut Value) {
    value["annotations"] = json!({ "padding": "x".repeat(3_900 * 1024) });
}

fn keys_in_odd_order(text: String) -> String {
    text.replacen('{', "{ \"zz\" : 0 ,\n\n ", 1)
}

fn version_as_float(text: String) -> String {
    text.replacen("\"schemaVersion\": 2", "\"schemaVersion\": 2.0", 1)
}
