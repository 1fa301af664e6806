use serde_json::{Value, json};

use super::super::archive::tests::sample::{self, CONFIG, Maker};
use super::*;
use crate::image::manifest::{OCI_INDEX, OCI_MANIFEST};

fn listed(images: &[Image], platform: &str) -> Value {
    listed_with(images, platform, |_| true)
}

fn listed_with(images: &[Image], platform: &str, is_there: impl Fn(&Digest) -> bool) -> Value {
    let list = list(images, &platform.parse().unwrap(), is_there);
    list.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}

fn expected(image: &Image, manifest: usize, tags: &[&str]) -> Value {
    let Content::Image(blobs) = &image.manifests[manifest].manifest.content else { panic!() };
    let paths: Vec<String> = blobs.iter().map(|blob| blob_path(&blob.digest)).collect();
    json!({ "Config": paths[0], "RepoTags": tags, "Layers": paths[1..] })
}

fn single(names: &[&str], part: crate::store::layout::archive::contents::Part) -> Image {
    Image { names: names.iter().map(|name| (*name).to_owned()).collect(), manifests: vec![part] }
}

#[test]
fn it_has_one_platform_of_each_image_under_its_tags() {
    let mut maker = Maker::default();
    let pinned = format!("q.io/b@sha256:{}", "0".repeat(64));
    let images = [maker.multi(&["q.io/a:1"], "a"), maker.multi(&["q.io/b:1", &pinned], "b")];
    for (platform, place) in [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm64/v8", 1)] {
        let all =
            json!([expected(&images[0], place, &["q.io/a:1"]), expected(&images[1], place, &["q.io/b:1"])]);
        assert_eq!(listed(&images, platform), all, "{platform}");
    }
    assert_eq!(listed(&images, "windows/amd64"), Value::Null);
}

#[test]
fn an_image_of_one_platform_is_in_it_whichever_that_is() {
    let mut maker = Maker::default();
    let image = single(&["q.io/a:1"], maker.image("a", "s390x"));
    let all = json!([expected(&image, 0, &["q.io/a:1"])]);
    assert_eq!(listed(&[image], "linux/amd64"), all);
}

#[test]
fn what_is_one_image_has_all_its_tags_in_one_place() {
    let mut maker = Maker::default();
    let first = maker.multi(&["q.io/a:1"], "a");
    let second = Image { names: vec!["q.io/b:1".to_owned(), "q.io/a:1".to_owned()], ..first.clone() };
    let all = json!([expected(&first, 0, &["q.io/a:1", "q.io/b:1"])]);
    assert_eq!(listed(&[first, second], "linux/amd64"), all);
}

#[test]
fn what_cannot_be_loaded_is_left_out_alone() {
    let mut maker = Maker::default();
    let good = maker.multi(&["q.io/good:1"], "good");
    let all = json!([expected(&good, 0, &["q.io/good:1"])]);
    let mut image = |config: &str, layer: &str| {
        let (config, layer) = (maker.blob(config, "{}"), maker.blob(layer, "x"));
        single(
            &["q.io/other:1"],
            sample::part(&json!({
                "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer],
            })),
        )
    };
    let signature = image(CONFIG, "application/vnd.dev.cosign.simplesigning.v1+json");
    let chart = image(
        "application/vnd.cncf.helm.config.v1+json",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    );
    let no_config = single(&[], sample::part(&json!({ "schemaVersion": 2, "layers": [] })));
    assert_eq!(listed(&[signature, good.clone(), chart, no_config], "linux/amd64"), all);
    // One without a layer, such as a foreign one, as well.
    let incomplete = maker.multi(&["q.io/incomplete:1"], "incomplete");
    let Content::Image(blobs) = &incomplete.manifests[0].manifest.content else { panic!() };
    let lacking = blobs[2].digest.clone();
    assert_eq!(listed_with(&[incomplete, good], "linux/amd64", |digest| *digest != lacking), all);
}

#[test]
fn the_very_name_of_a_platform_goes_before_a_variant_and_an_index_may_be_within_another() {
    let mut maker = Maker::default();
    let parts = ["v2", "plain", "unnamed"].map(|text| maker.image(text, "amd64"));
    let platforms = [
        json!({ "os": "linux", "architecture": "amd64", "variant": "v2" }),
        json!({ "os": "linux", "architecture": "amd64" }),
        Value::Null,
    ];
    let index = |numbers: &[usize]| {
        let entries: Vec<Value> = numbers.iter().map(|n| sample::entry(&parts[*n], &platforms[*n])).collect();
        sample::part(&json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries }))
    };
    for (numbers, chosen) in [(&[0, 1][..], 1), (&[1, 0], 1), (&[2, 0], 0), (&[2], 2)] {
        let inner = index(numbers);
        let entries = [sample::entry(&inner, &Value::Null)];
        let outer = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
        let manifests = parts.iter().cloned().chain([inner, sample::part(&outer)]).collect();
        let image = Image { names: vec!["q.io/a:1".to_owned()], manifests };
        let all = json!([expected(&image, chosen, &["q.io/a:1"])]);
        assert_eq!(listed(&[image], "linux/amd64"), all, "{numbers:?}");
    }
}

#[test]
fn each_index_is_looked_into_once_however_many_name_it() {
    let mut below = vec![sample::part(&json!({ "schemaVersion": 2, "manifests": [], "annotations": {} }))];
    let mut manifests = below.clone();
    for level in 0..7 {
        let entries: Vec<Value> = below.iter().map(|part| sample::entry(part, &Value::Null)).collect();
        let index = |n| json!({ "schemaVersion": 2, "manifests": entries, "annotations": { "n": format!("{level} {n}") } });
        below = (0..60).map(|n| sample::part(&index(n))).collect();
        manifests.extend(below.iter().cloned());
    }
    let began = std::time::Instant::now();
    assert_eq!(listed(&[Image { names: Vec::new(), manifests }], "linux/amd64"), Value::Null);
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
}
