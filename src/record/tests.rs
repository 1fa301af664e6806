use serde_json::{Value, json};

use super::*;
use crate::image::manifest::{DOCKER_LIST, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::image::platforms::Platforms;
use crate::image::reference::Algorithm;
use crate::util::schema::complaint;

fn digest(letter: &str) -> Digest {
    format!("sha256:{}", letter.repeat(64)).parse().unwrap()
}

fn image(source: &str, name: &str, letter: &str) -> Value {
    json!({
        "source": source, "names": [name], "digest": digest(letter), "mediaType": OCI_INDEX, "size": 500,
        "platforms": [{"platform": "linux/amd64", "digest": digest("b"), "bytes": 300}],
    })
}

fn document(images: Value) -> Value {
    json!({"version": 1, "kind": "lock", "images": images, "blobs": {}, "base": {}})
}

fn read(document: &Value) -> Result<Inventory, String> {
    read_text(&document.to_string())
}

fn read_text(text: &str) -> Result<Inventory, String> {
    Inventory::from_json(text, "f", &[Kind::Lock]).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(document: &Value, told: &str) {
    let error = read(document).unwrap_err();
    assert!(error.starts_with("f: ") && error.contains(told), "{error}");
}

fn sound() -> Value {
    let mut sound = document(json!([image("q.io/b/b:1", "b/b:1", "a"), image("q.io/a/a:1", "a/a:1", "c")]));
    sound["made"] = json!({"tool": "1", "kubeone": "v1.14.2", "catalog": digest("d"), "time": 7});
    sound["missing"] = json!([{"source": "q.io/c/c:1", "names": ["c/c:1"], "cause": "no"}]);
    sound["blobs"] = json!({digest("e").as_str(): [7, "a/a"]});
    sound["base"] = json!({digest("f").as_str(): [8, "b/b"]});
    sound
}

#[test]
fn a_document_is_read_as_it_is_written_sorted_and_a_line_for_each_record() {
    let read_once = read(&sound()).unwrap();
    let written = read_once.to_json();
    assert_eq!(read_text(&written).unwrap(), read_once);
    assert_eq!(read_text(&written).unwrap().to_json(), written);
    let lines: Vec<&str> = written.lines().collect();
    assert!(lines[1] == "\"images\": [" && lines[2].contains("q.io/a/a:1"), "{written}");
    assert!(lines[3].contains("q.io/b/b:1") && lines.len() == 14, "{written}");
    let empty = Inventory { images: BTreeMap::new(), missing: BTreeMap::new(), ..read_once };
    let empty = Inventory { blobs: BTreeMap::new(), base: BTreeMap::new(), ..empty };
    assert_eq!(read_text(&empty.to_json()).unwrap(), empty);
}

#[test]
fn the_published_schema_takes_what_is_written_and_refuses_what_is_refused() {
    let root: Value = serde_json::from_str(&json_schema()).unwrap();
    let complains = |document: &Value| complaint(&root, &root, document, "");
    let written: Value = serde_json::from_str(&read(&sound()).unwrap().to_json()).unwrap();
    assert_eq!(complains(&written), None);
    for (path, wrong) in [
        ("/images/0/source", json!("alpine")),
        ("/images/0/digest", json!("sha256:aa")),
        ("/images/0/names/0", json!("a")),
        ("/images/0/platforms/0/bytes", json!("7")),
        ("/kind", json!("pins")),
        ("/images", json!({})),
    ] {
        let mut document = written.clone();
        *document.pointer_mut(path).unwrap() = wrong;
        assert!(complains(&document).is_some() && read(&document).is_err(), "{path}");
    }
}

#[test]
fn what_a_newer_program_has_added_is_passed_over_and_another_version_is_not() {
    let mut document = sound();
    document["news"] = json!({"x": [1]});
    document["images"][0]["news"] = json!(1);
    assert_eq!(read(&document), read(&sound()));
    for (version, told) in
        [(json!(2), "its version is 2, and this program reads 1"), (json!(1e99), "its version is 1e+99")]
    {
        document["version"] = version;
        // Whatever has become of the rest.
        document["images"] = json!(3);
        refused(&document, told);
    }
    let mut pins = sound();
    pins["kind"] = json!("pins");
    refused(&pins, "its kind is \"pins\", and not lock: --pins takes such a file");
    let mut inventory = sound();
    inventory["kind"] = json!("inventory");
    refused(&inventory, "its kind is \"inventory\", and not lock");
    let kinds = [Kind::Lock, Kind::Inventory];
    assert!(Inventory::from_json(&inventory.to_string(), "f", &kinds).is_ok());
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let twice = document(json!([image("q.io/a:1", "a:1", "a"), image("q.io/a:1", "a:1", "a")]));
    refused(&twice, "the image q.io/a:1: it is there twice");
    let one_name = document(json!([image("q.io/a:1", "a:1", "a"), image("r.io/a:1", "a:1", "c")]));
    refused(&one_name, "another image has the name a:1, with another digest");
    let same = document(json!([image("q.io/a:1", "a:1", "a"), image("r.io/a:1", "a:1", "a")]));
    assert_eq!(read(&same).unwrap().images.len(), 2);
    let text = sound().to_string();
    for (from, to) in [
        ("\"version\":1", "\"version\":1,\"version\":1"),
        ("\"size\":500", "\"size\":500,\"size\":501"),
        ("\"kind\":\"lock\"", "\"kind\":\"inventory\",\"kind\":\"lock\""),
    ] {
        assert!(text.contains(from));
        let error = read_text(&text.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains("duplicate field"), "{error}");
    }
    let blob = format!("\"{}\":[7,\"a/a\"]", digest("e"));
    let error = read_text(&text.replacen(&blob, &format!("{blob},{blob}"), 1)).unwrap_err();
    assert!(error.contains("is there twice"), "{error}");
    let mut two_sizes = sound();
    two_sizes["base"] = json!({digest("e").as_str(): [8, "b/b"]});
    refused(&two_sizes, "it has two sizes");
}

#[test]
fn names_digests_sizes_and_platforms_are_what_they_are_said_to_be() {
    let pinned = format!("q.io/a@{}", digest("e"));
    for (path, wrong, told) in [
        ("/images/0/source", json!("a:1"), "to be written in full"),
        ("/images/0/source", json!("q.io/../../etc/passwd:1"), "is not a valid image reference"),
        ("/images/0/source", json!("q.io/a\u{1b}[2J:1"), "is not a valid image reference"),
        ("/images/0/source", json!(pinned), "its digest is not the one that its source names"),
        ("/images/0/names", json!([]), "it has no name"),
        ("/images/0/names/0", json!("../etc:1"), "is not a valid name inside a registry"),
        ("/images/0/names/0", json!("a"), "neither tag nor digest"),
        ("/images/0/digest", json!("md5:00"), "is not a valid digest"),
        ("/images/0/digest", json!("sha256:../../../../etc/passwd"), "is not a valid digest"),
        ("/images/0/mediaType", json!("a\nb"), "its mediaType is none"),
        ("/images/0/size", json!((1_u64 << 53) - 100), "its sizes come to more than 2^53 bytes"),
        ("/images/0/size", json!(u64::MAX), "its sizes come to more than 2^53 bytes"),
        ("/images/0/size", json!(-1), "invalid value"),
        ("/images/0/size", json!(1e30), "invalid type"),
        ("/images/0/platforms/0/platform", json!("linux/amd64/../x"), "is not of the form os/arch"),
        ("/blobs", json!({digest("e").as_str(): [u64::MAX, "a"]}), "it has more than 2^53 bytes"),
        ("/blobs", json!({"../../x": [1, "a"]}), "is not a valid digest"),
        ("/base", json!({digest("e").as_str(): [1, "/etc/passwd"]}), "is not a valid repository"),
        ("/base", json!({digest("e").as_str(): [1]}), "invalid length"),
        ("/missing/0/names", json!(vec!["a:1"; 17]), "it is a list of more than 16"),
        ("/made/catalog", json!("x"), "is not a valid digest"),
    ] {
        let mut document = sound();
        *document.pointer_mut(path).unwrap() = wrong.clone();
        let error = read(&document).unwrap_err();
        assert!(error.contains(told), "{path} {wrong}: {error}");
        assert!(!error.contains(['\u{1b}', '\n']) && error.len() < 700, "{error}");
    }
}

#[test]
fn what_is_too_deep_too_long_or_too_much_ends_before_it_is_held() {
    for text in ["", "[", "null", "\u{0}\u{1b}[2J", "{\"version\":1}"] {
        let error = read_text(text).unwrap_err();
        assert!(!error.contains('\u{1b}'), "{error}");
    }
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read_text(&format!("{{\"version\": {nested}}}")).is_err());
    let images = format!("{{\"version\": 1, \"kind\": \"lock\", \"images\": {nested}}}");
    assert!(read_text(&images).is_err());
    // What is passed over is held nowhere.
    let unknown = sound().to_string().replacen('{', &format!("{{\"x\": {nested},"), 1);
    assert_eq!(read_text(&unknown), read(&sound()));
    let mut platforms = document(json!([image("q.io/a:1", "a:1", "a")]));
    let platform = platforms["images"][0]["platforms"][0].clone();
    platforms["images"][0]["platforms"] = vec![platform; 2001].into();
    refused(&platforms, "it is a list of more than 2000");
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((64 << 20) + 1).unwrap();
    let error = Inventory::read(file.path(), &[Kind::Lock]).unwrap_err().to_string();
    assert!(error.ends_with("it is larger than 64 MiB"), "{error}");
}

/// An image of two platforms and an attestation, the root last.
fn manifests() -> Vec<Manifest> {
    let layer = |letter: &str, size: u64, media_type: &str| json!({"digest": digest(letter), "size": size, "mediaType": media_type});
    let single = |config: &str, layers: Vec<Value>| {
        let config = layer(config, 10, "application/vnd.oci.image.config.v1+json");
        let json = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers});
        Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
    };
    let (tar, foreign) =
        ("application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar");
    let amd64 = single("1", vec![layer("2", 1_000, tar), layer("3", 2_000, tar)]);
    let arm64 = single("4", vec![layer("2", 1_000, tar), layer("5", 70_000, foreign)]);
    let about = single("6", vec![layer("7", 300, "application/vnd.in-toto+json")]);
    let entry = |manifest: &Manifest, os: &str, architecture: &str| {
        json!({
            "digest": manifest.digest, "size": manifest.bytes.len(), "mediaType": OCI_MANIFEST,
            "platform": {"os": os, "architecture": architecture},
        })
    };
    let mut attestation = entry(&about, "unknown", "unknown");
    attestation["annotations"] = json!({"vnd.docker.reference.digest": amd64.digest});
    let entries = [entry(&amd64, "linux", "amd64"), entry(&arm64, "linux", "arm64"), attestation];
    let index = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries});
    let index = Manifest::parse(index.to_string().into(), None, Algorithm::Sha256).unwrap();
    vec![amd64, arm64, about, index]
}

fn contents(manifests: &[&Manifest], platforms: &Platforms, elsewhere: &str) -> Contents {
    let blobs = manifests.iter().flat_map(|manifest| match &manifest.content {
        crate::image::manifest::Content::Image(blobs) => blobs.as_slice(),
        crate::image::manifest::Content::Index(_) => &[],
    });
    let there = Blob(1_000, "elsewhere".parse().unwrap());
    let blobs = blobs.filter(|blob| !blob.is_foreign()).map(|blob| {
        let is_elsewhere = elsewhere.contains(&blob.digest.as_str()[7..8]);
        (blob, is_elsewhere.then_some(&there))
    });
    Contents::of(manifests, platforms, blobs).unwrap()
}

#[test]
fn an_image_consists_of_its_platforms_and_of_all_else() {
    let all = manifests();
    let whole = contents(&all.iter().collect::<Vec<_>>(), &Platforms::default(), "2");
    let sizes: Vec<u64> = all.iter().map(|manifest| manifest.bytes.len() as u64).collect();
    let platforms: Vec<(&str, u64)> =
        whole.platforms.iter().map(|one| (one.platform.as_deref().unwrap(), one.bytes)).collect();
    assert_eq!(platforms, [("linux/amd64", 3_010 + sizes[0]), ("linux/arm64", 1_010 + sizes[1])]);
    assert_eq!((whole.more, whole.size, whole.sparse), (310 + sizes[2] + sizes[3], sizes[3], false));
    assert_eq!((whole.digest.clone(), whole.media_type.as_str()), (all[3].digest.clone(), DOCKER_LIST));
    let letters = |blobs: &[(Digest, u64)]| {
        blobs.iter().map(|(digest, _)| digest.as_str()[7..8].to_owned()).collect::<String>()
    };
    assert_eq!((letters(&whole.blobs), whole.base.len()), ("13467".to_owned(), 1));
    assert_eq!(whole.base[0], (digest("2"), Blob(1_000, "elsewhere".parse().unwrap())));

    // Of a platform that is not there nothing is told, but that it lacks.
    let part = contents(&[&all[0], &all[2], &all[3]], &Platforms::default(), "");
    assert_eq!((part.platforms.len(), part.sparse), (1, true));
    // Where only layers are left out the manifests are there, and count.
    let named = Platforms::new(vec!["linux/amd64".parse().unwrap()], false).with_all_manifests();
    let bare = contents(&all.iter().collect::<Vec<_>>(), &named, "");
    assert_eq!((bare.platforms.len(), bare.sparse), (1, true));
    assert_eq!(bare.more, 310 + sizes[1] + sizes[2] + sizes[3]);
    let single = contents(&[&all[0]], &Platforms::default(), "");
    assert_eq!((single.platforms[0].platform.as_deref(), single.more, single.sparse), (None, 0, false));
}

#[test]
fn a_draft_names_one_repository_for_each_blob_and_nothing_twice() {
    let all = manifests();
    let whole: Vec<&Manifest> = all.iter().collect();
    let (mut draft, reasons) = (Draft::default(), ["because".to_owned()]);
    for (source, name, elsewhere) in [("q.io/x/b:1", "x/b:1", "2"), ("q.io/a:1", "a:1", "23")] {
        let contents = contents(&whole, &Platforms::default(), elsewhere);
        let image = Image::new(&source.parse().unwrap(), vec![name.parse().unwrap()], &reasons, &contents);
        draft.add(image, &contents);
    }
    let missing = Missing {
        source: "q.io/c:1".parse().unwrap(),
        names: vec!["c:1".parse().unwrap()],
        cause: "no".to_owned(),
        reasons: Vec::new(),
    };
    draft.miss(missing);
    let have = BTreeMap::from([(digest("2"), Blob(1_000, "elsewhere".parse().unwrap()))]);
    let lock = draft.into_inventory(Kind::Lock, Made::default());
    assert_eq!(lock.blobs[&digest("3")].1.as_str(), "x/b");
    assert_eq!(lock.base, have, "what is carried is in no base");
    assert_eq!(read_text(&lock.to_json()).unwrap(), lock);
}
