use super::*;
use crate::image::reference::Algorithm;

fn manifest(text: &str) -> Manifest {
    let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
    let config = json!({ "digest": digest.as_str(), "size": 2, "mediaType": "a/b" });
    let json = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
}

fn location(text: &str) -> Location {
    let reference: Reference = text.parse().unwrap();
    reference.whole_names().remove(0)
}

fn written(index: &Index) -> Value {
    serde_json::from_slice(&index.to_bytes()).unwrap()
}

#[test]
fn a_name_is_written_for_all_readers_and_found_again() {
    let (one, two) = (manifest("one"), manifest("two"));
    let mut index = Index::default();
    index.set(&location("registry.k8s.io/pause:3"), &one);
    index.set(&location("127.0.0.1:5000/a:1"), &one);
    index.set(&location("registry.k8s.io/pause:3"), &two);
    let document = written(&index);
    let annotations = &document["manifests"][1]["annotations"];
    assert_eq!(annotations[IMAGE_NAME], "registry.k8s.io/pause:3");
    assert_eq!(annotations[REF_NAME], "registry.k8s.io/pause:3");
    let again = Index::read(&index.to_bytes()).unwrap();
    assert_eq!(again.entries().len(), 2);
    assert_eq!(again.find("registry.k8s.io/pause:3").unwrap().digest, two.digest);
    assert_eq!(again.find("127.0.0.1:5000/a:1").unwrap().digest, one.digest);
    assert_eq!(again.to_bytes(), index.to_bytes());
}

#[test]
fn what_others_have_written_stays_and_a_short_name_is_no_name() {
    let digest = Digest::of(Algorithm::Sha256, b"x");
    let entry = |annotations: Value| json!({ "digest": digest.as_str(), "size": 7, "x": 1, "annotations": annotations });
    let document = json!({ "schemaVersion": 2, "own": true, "manifests": [
        entry(json!({ REF_NAME: "3" })),
        entry(json!({ REF_NAME: "alpine:3" })),
        entry(json!({ REF_NAME: "latest", IMAGE_NAME: "docker.io/library/alpine:3" })),
        entry(json!({ REF_NAME: "quay.io/a/b" })),
        entry(json!({ SUBJECT: digest.as_str() })),
    ]});
    let mut index = Index::read(document.to_string().as_bytes()).unwrap();
    let names: Vec<_> = index.entries().iter().filter_map(|entry| entry.name.as_deref()).collect();
    assert_eq!(names, ["docker.io/library/alpine:3", "quay.io/a/b:latest"]);
    assert_eq!(index.entries()[0].short_name.as_deref(), Some("3"));
    assert_eq!(index.entries()[4].subject.as_ref(), Some(&digest));
    index.set(&location("alpine:4"), &manifest("one"));
    let document = written(&index);
    assert_eq!((document["own"].as_bool(), document["manifests"].as_array().unwrap().len()), (Some(true), 6));
    assert!(document["manifests"].as_array().unwrap().iter().filter(|entry| entry["x"] == 1).count() == 5);
}

#[test]
fn two_savers_names_come_together_and_the_later_one_goes_before() {
    let (one, two) = (manifest("one"), manifest("two"));
    let (mut a, mut b) = (Index::default(), Index::default());
    a.set(&location("a.io/a:1"), &one);
    a.set(&location("a.io/b:1"), &one);
    b.set(&location("a.io/b:1"), &two);
    b.add_referrer(&one.digest, &two);
    a.merge(&b);
    a.merge(&b);
    assert_eq!(a.entries().len(), 3);
    assert_eq!(a.find("a.io/b:1").unwrap().digest, two.digest);
}

#[test]
fn an_index_that_can_be_read_in_two_ways_or_not_at_all_is_refused() {
    let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
    let entry = |of: &str| json!({ "digest": digest(of).as_str(), "size": 7, "annotations": { REF_NAME: "a.io/a:1" } });
    let read =
        |document: Value| Index::read(document.to_string().as_bytes()).map(|index| index.entries().len());
    assert_eq!(read(json!({ "manifests": null })), Ok(0));
    assert_eq!(read(json!({ "manifests": [entry("1"), entry("1")] })), Ok(1));
    assert!(matches!(read(json!({ "manifests": [entry("1"), entry("2")] })), Err(IndexError::Twice(_))));
    assert_eq!(read(json!({ "manifests": [{ "size": 1 }] })), Err(IndexError::Entry(1)));
    assert_eq!(
        read(json!({ "manifests": [{ "digest": "sha256:../..", "size": 1 }] })),
        Err(IndexError::Entry(1))
    );
    let pinned = json!({ "digest": digest("1").as_str(), "size": 7, "annotations": { REF_NAME: format!("a.io/a@{}", digest("2")) } });
    assert!(matches!(read(json!({ "manifests": [pinned] })), Err(IndexError::Digest(_))));
    assert_eq!(read(json!({ "manifests": {} })), Err(IndexError::NoManifests));
    assert_eq!(read(json!([])), Err(IndexError::NoManifests));
    assert!(matches!(Index::read(b"{"), Err(IndexError::NotJson(_))));
}

#[test]
fn each_of_docker_hubs_names_is_a_whole_one() {
    let digest = Digest::of(Algorithm::Sha256, b"x");
    for host in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
        let annotations =
            json!({ IMAGE_NAME: format!("{host}/library/busybox:1"), REF_NAME: "library/busybox:1" });
        let entry = json!({ "digest": digest.as_str(), "size": 7, "annotations": annotations });
        let index = Index::read(json!({ "manifests": [entry] }).to_string().as_bytes()).unwrap();
        assert!(index.find("docker.io/library/busybox:1").is_some(), "{host}");
    }
}

/// hauler's store, as its versions 1 and 2 write it.
#[test]
fn what_hauler_has_under_an_images_name_gets_its_own() {
    let of = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
    for whose in ["dev.hauler", "dev.cosignproject.cosign"] {
        let entry = |text: &str, name: &str, kind: &str| {
            let annotations = json!({ IMAGE_NAME: name, REF_NAME: name.split_once('/').unwrap().1, "kind": format!("{whose}/{kind}") });
            json!({ "digest": of(text).as_str(), "size": 7, "annotations": annotations })
        };
        let pinned = format!("quay.io/a/c@{}", of("pinned"));
        let document = json!({ "schemaVersion": 2, "manifests": [
            entry("signature", "quay.io/a/b:1", "sigs"),
            entry("image", "quay.io/a/b:1", "imageIndex"),
            entry("attestation", "quay.io/a/b:1", "atts"),
            entry("contents", "quay.io/a/b:1", "sboms"),
            entry("bundle", "quay.io/a/b:1", "referrers/0123"),
            entry("other bundle", "quay.io/a/b:1", "referrers/4567"),
            entry("pinned", &pinned, "image"),
            entry("its signature", &pinned, "sigs"),
            entry("lost", "quay.io/a/gone:1", "sigs"),
        ]});
        let index = Index::read(document.to_string().as_bytes()).unwrap();
        let digest = |name: &str| index.find(name).map(|entry| entry.digest.clone());
        assert_eq!(digest("quay.io/a/b:1"), Some(of("image")));
        let beside = |text: &str, kind: &str| format!("{}.{kind}", of(text).as_str().replace(':', "-"));
        assert_eq!(digest(&format!("quay.io/a/b:{}", beside("image", "sig"))), Some(of("signature")));
        assert_eq!(digest(&format!("quay.io/a/b:{}", beside("image", "att"))), Some(of("attestation")));
        assert_eq!(digest(&format!("quay.io/a/b:{}", beside("image", "sbom"))), Some(of("contents")));
        assert_eq!(digest(&pinned), Some(of("pinned")));
        assert_eq!(digest(&format!("quay.io/a/c:{}", beside("pinned", "sig"))), Some(of("its signature")));
        let nameless = index.entries().iter().filter(|entry| entry.name.is_none());
        let mut nameless: Vec<_> = nameless.map(|entry| entry.digest.clone()).collect();
        nameless.sort();
        let mut wanted = [of("bundle"), of("other bundle"), of("lost")];
        wanted.sort();
        assert_eq!(nameless, wanted);
        let bundles = index.entries().iter().filter(|entry| entry.subject == Some(of("image")));
        assert_eq!(bundles.count(), 2);
    }
}
