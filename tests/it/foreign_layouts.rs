//! Image layouts that other programs have written: what they name an image by, each in its own way.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{ALWAYS, NO_PINS, Stage};

const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layout of the program's own, whose `index.json` can be written as another program would.
struct Scene {
    stage: Stage,
    home: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { stage: Stage::new(ALWAYS), home: tempfile::tempdir().unwrap() };
        scene.stage.program_to(&scene.name()).run().expect(0);
        scene
    }

    fn directory(&self) -> PathBuf {
        self.home.path().join("images")
    }

    fn name(&self) -> String {
        format!("oci:{}", self.directory().display())
    }

    /// Gives each image the entries that `annotations` has for its name, such as `quay.io/a/b:1` or `quay.io/a/b@sha256:…`.
    fn rename(&self, annotations: impl Fn(&str) -> Vec<Value>) {
        let path = self.directory().join("index.json");
        let mut index = read(&path);
        let mut entries = Vec::new();
        for entry in index["manifests"].as_array().unwrap() {
            for annotations in annotations(entry["annotations"][REF_NAME].as_str().unwrap()) {
                let mut entry = entry.clone();
                entry["annotations"] = annotations;
                entries.push(entry);
            }
        }
        index["manifests"] = Value::Array(entries);
        fs::write(path, index.to_string()).unwrap();
    }

    fn load(&self) -> Program {
        Program::new(&["--from", &self.name(), &self.stage.target.host(), NO_PINS, "-o", "json"])
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn tag_of(name: &str) -> &str {
    name.rsplit_once(':').unwrap().1
}

#[test]
fn what_names_images_as_containerd_does_is_loaded_whole() {
    let scene = Scene::new();
    // ctr, docker save and regctl have the tag alone beside the whole name. An image that is pinned is known by its tag.
    scene.rename(|name| {
        if name.contains('@') {
            return Vec::new();
        }
        vec![json!({ IMAGE_NAME: name, REF_NAME: tag_of(name) })]
    });
    scene.load().run().expect(0);
    scene.stage.assert_mirrored();
}

#[test]
fn what_k0s_names_three_times_is_one_image() {
    let scene = Scene::new();
    let pinned: Vec<Value> =
        read(&scene.directory().join("index.json"))["manifests"].as_array().unwrap().clone();
    let digest_of = |name: &str| {
        let found = pinned.iter().find(|entry| entry["annotations"][REF_NAME] == name).unwrap();
        found["digest"].as_str().unwrap().to_owned()
    };
    scene.rename(|name| {
        let names = if name.contains('@') {
            vec![name.to_owned()]
        } else {
            // As if each had been asked for by both.
            let (repository, _) = name.rsplit_once(':').unwrap();
            let digest = digest_of(name);
            vec![format!("{name}@{digest}"), name.to_owned(), format!("{repository}@{digest}")]
        };
        names.into_iter().map(|name| json!({ REF_NAME: name })).collect()
    });
    let run = scene.load().run().expect(0);
    scene.stage.assert_mirrored();
    let tags = scene.stage.target.content().tags().count();
    assert_eq!(tags as u64, run.number("copied"), "no name of its own for a digest that a tag has");
}

#[test]
fn what_hauler_has_beside_an_image_gets_its_own_name() {
    let scene = Scene::new();
    let signed = "registry.k8s.io/kube-apiserver:v1.36.3";
    let path = scene.directory().join("index.json");
    let entry_of = |name: &str| {
        let index = read(&path);
        let found =
            index["manifests"].as_array().unwrap().iter().find(|e| e["annotations"][REF_NAME] == name);
        found.unwrap().clone()
    };
    let (image, mut signature) = (entry_of(signed), entry_of("registry.k8s.io/pause:3.10.2"));
    scene.rename(|name| {
        if name.contains('@') {
            return Vec::new();
        }
        let (host, short) = name.split_once('/').unwrap();
        let host = if host == "docker.io" { "index.docker.io" } else { host };
        vec![json!({
            IMAGE_NAME: format!("{host}/{short}"), REF_NAME: short, "kind": "dev.hauler/imageIndex",
        })]
    });
    signature["annotations"] =
        json!({ IMAGE_NAME: signed, REF_NAME: "kube-apiserver:v1.36.3", "kind": "dev.hauler/sigs" });
    let mut index = read(&path);
    index["manifests"].as_array_mut().unwrap().insert(0, signature.clone());
    fs::write(&path, index.to_string()).unwrap();
    scene.load().run().expect(0);
    let target = &scene.stage.target;
    let tag = format!("{}.sig", image["digest"].as_str().unwrap().replace(':', "-"));
    assert_eq!(target.digest_of("kube-apiserver", &tag).as_deref(), signature["digest"].as_str());
    target.delete_tag("kube-apiserver", &tag);
    scene.stage.assert_mirrored();
}

#[test]
fn what_has_tags_alone_is_told_how_to_be_named() {
    let scene = Scene::new();
    // oras and skopeo, where nobody gave them a whole name.
    scene.rename(|name| vec![json!({ REF_NAME: tag_of(name) })]);
    let run = scene.load().run().expect(2);
    assert!(run.stderr.contains(REF_NAME) && run.stderr.contains("index.json"), "{}", run.stderr);
    assert_eq!(scene.stage.target.content().tags().count(), 0);
}
