use std::cell::Cell;
use std::collections::HashMap;

use serde_json::{Value, json};

use super::walk::STEPS_MAX;
use super::*;
use crate::image::manifest::{OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::Algorithm;
use crate::store::layout::Hashed;

/// Content by digest, and what was found when it was hashed.
#[derive(Default)]
struct Place {
    content: HashMap<Digest, Vec<u8>>,
    hashed: Hashed,
}

impl Place {
    fn add(&mut self, media_type: &str, content: impl AsRef<[u8]>) -> Value {
        let bytes = content.as_ref().to_vec();
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() });
        self.hashed.sizes.insert(digest.clone(), bytes.len() as u64);
        self.content.insert(digest, bytes);
        descriptor
    }

    fn image(&mut self, layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers.iter().map(|layer| self.add("layer", layer)).collect();
        let config = self.add("config", format!("{{\"of\":{}}}", json!(layers)));
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.add(OCI_MANIFEST, manifest.to_string())
    }

    fn index(&mut self, children: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
        self.add(OCI_INDEX, index.to_string())
    }

    /// Takes away what is called so.
    fn lose(&mut self, content: &str) {
        self.hashed.sizes.remove(&Digest::of(Algorithm::Sha256, content.as_bytes())).unwrap();
    }

    fn damage(&mut self, content: &str, flaw: Flaw) {
        self.hashed.flawed.insert(Digest::of(Algorithm::Sha256, content.as_bytes()), flaw);
    }

    fn entry(&self, descriptor: &Value) -> Entry {
        let mut descriptor = descriptor.clone();
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "q.io/a:1" });
        Entry::read(descriptor).unwrap()
    }

    fn verdict_for(&self, root: &Value, platforms: &Platforms) -> Verdict {
        let entries = [self.entry(root)];
        let read = |digest: &Digest| Ok(self.content[digest].clone().into());
        let mut walk = Walk::new(&self.hashed, &entries, platforms, false, &read).unwrap();
        walk.verdict(&entries[0]).unwrap()
    }

    fn verdict(&self, root: &Value) -> Verdict {
        self.verdict_for(root, &Platforms::default())
    }
}

fn of(platform: &str, mut manifest: Value) -> Value {
    let (system, architecture) = platform.split_once('/').unwrap();
    manifest["platform"] = json!({ "os": system, "architecture": architecture });
    manifest
}

fn about(subject: &Value, mut manifest: Value) -> Value {
    manifest["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    manifest["annotations"] = json!({ "vnd.docker.reference.digest": subject["digest"] });
    manifest
}

fn told(verdict: &Verdict) -> Vec<String> {
    verdict.faults.listed.iter().map(ToString::to_string).collect()
}

/// An image for two platforms with a layer in common, and an attestation about each.
fn two(place: &mut Place) -> Value {
    let amd = of("linux/amd64", place.image(&["shared", "amd"]));
    let arm = of("linux/arm64", place.image(&["shared", "arm", "arm 2"]));
    let about_amd = about(&amd, place.image(&["about amd"]));
    let about_arm = about(&arm, place.image(&["about arm"]));
    place.index(&[amd, arm, about_amd, about_arm])
}

#[test]
fn layers_of_a_whole_platform_may_be_left_out_and_are_told() {
    let mut place = Place::default();
    let root = two(&mut place);
    assert_eq!(place.verdict(&root).faults.number, 0);
    assert!(place.verdict(&root).without.is_empty());
    for layer in ["arm", "arm 2", "about arm"] {
        place.lose(layer);
    }
    let verdict = place.verdict(&root);
    assert_eq!((verdict.faults.number, verdict.without), (0, vec!["linux/arm64".to_owned()]));
    // Whoever names platforms wants those, whatever the others lack.
    let wanted = |platform: &str| Platforms::new(vec![platform.parse().unwrap()], false);
    assert_eq!(place.verdict_for(&root, &wanted("linux/amd64")).faults.number, 0);
    assert_eq!(place.verdict_for(&root, &wanted("linux/arm64")).faults.number, 3);
    assert_eq!(place.verdict_for(&root, &Platforms::every()).faults.number, 3);
}

#[test]
fn a_platform_that_has_some_of_its_own_layers_is_broken() {
    let mut place = Place::default();
    let root = two(&mut place);
    place.lose("arm");
    let verdict = place.verdict(&root);
    assert_eq!(verdict.faults.number, 1);
    assert!(told(&verdict)[0].ends_with("(3 bytes) is missing (linux/arm64)"), "{verdict:?}");
    // An attestation about what is there.
    let mut place = Place::default();
    let root = two(&mut place);
    place.lose("about amd");
    assert_eq!(place.verdict(&root).faults.number, 1);
}

#[test]
fn an_image_without_one_whole_platform_is_broken() {
    let mut place = Place::default();
    let root = two(&mut place);
    for layer in ["shared", "amd", "arm", "arm 2", "about amd", "about arm"] {
        place.lose(layer);
    }
    let verdict = place.verdict(&root);
    assert_eq!((verdict.faults.number, verdict.without.len()), (7, 0), "{verdict:?}");
    // One that is not divided into platforms has nothing that could be left out.
    let mut place = Place::default();
    let root = place.image(&["a", "b"]);
    place.lose("b");
    assert_eq!(place.verdict(&root).faults.number, 1);
}

#[test]
fn damage_counts_wherever_it_is_and_sizes_are_those_of_the_manifest() {
    let mut place = Place::default();
    let root = two(&mut place);
    place.damage("arm", Flaw::Damaged);
    let verdict = place.verdict(&root);
    assert!(told(&verdict)[0].contains("has other bytes"), "{verdict:?}");
    place.hashed.sizes.insert(Digest::of(Algorithm::Sha256, b"amd"), 2);
    let verdict = place.verdict(&root);
    assert_eq!(verdict.faults.number, 2);
    assert!(told(&verdict).iter().any(|told| told.contains("has 2 bytes instead of 3")), "{verdict:?}");
    // Of other platforms than the wanted ones only what is missing is passed over.
    let amd = Platforms::new(vec!["linux/s390x".parse().unwrap()], false);
    assert_eq!(place.verdict_for(&root, &amd).faults.number, 2);
}

#[test]
fn manifests_and_configs_of_all_platforms_have_to_be_there() {
    let mut place = Place::default();
    let amd = of("linux/amd64", place.image(&["amd"]));
    let arm = of("linux/arm64", place.image(&["arm"]));
    let root = place.index(&[amd, arm.clone()]);
    let digest: Digest = arm["digest"].as_str().unwrap().parse().unwrap();
    place.hashed.sizes.remove(&digest);
    let verdict = place.verdict(&root);
    assert!(told(&verdict)[0].starts_with("manifest sha256:"), "{verdict:?}");
    let amd = Platforms::new(vec!["linux/amd64".parse().unwrap()], false);
    let verdict = place.verdict_for(&root, &amd);
    assert_eq!((verdict.faults.number, verdict.without), (0, vec!["linux/arm64".to_owned()]));
}

#[test]
fn what_no_image_has_is_found_and_what_is_no_manifest_is_told() {
    let mut place = Place::default();
    let root = two(&mut place);
    let letter = place.add("text/plain", "a letter");
    let entries = [place.entry(&root)];
    let read = |digest: &Digest| Ok(place.content[digest].clone().into());
    let platforms = Platforms::default();
    let walk = Walk::new(&place.hashed, &entries, &platforms, false, &read).unwrap();
    let unnamed: Vec<&str> = walk.unnamed().iter().map(|(digest, ..)| digest.as_str()).collect();
    assert_eq!(unnamed, [letter["digest"].as_str().unwrap()]);
    let verdict = place.verdict(&letter);
    assert_eq!(verdict.faults.number, 1);
    assert!(verdict.cause.unwrap().contains("it is no manifest"));
}

#[test]
fn each_manifest_is_read_once_and_work_has_an_end() {
    let mut place = Place::default();
    let shared = of("linux/amd64", place.image(&["a"]));
    let many = place.index(&vec![shared; 500]);
    let entries: Vec<Entry> = (0..30).map(|_| place.entry(&many)).collect();
    let reads = Cell::new(0);
    let read = |digest: &Digest| {
        reads.set(reads.get() + 1);
        Ok(place.content[digest].clone().into())
    };
    let platforms = Platforms::default();
    let mut walk = Walk::new(&place.hashed, &entries, &platforms, false, &read).unwrap();
    assert_eq!(reads.get(), 2);
    walk.steps = STEPS_MAX - 29 * 500;
    let judged: Result<Vec<_>, _> = entries.iter().map(|entry| walk.verdict(entry)).collect();
    assert!(judged.unwrap_err().contains("more than"), "the same over and over");
}
