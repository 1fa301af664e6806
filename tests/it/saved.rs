//! Seven images, saved as a directory and as one file.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::stage::{CONTROL_PLANE, Stage};

/// A saved layout of each form, and where it came from.
pub struct Saved {
    pub stage: Stage,
    pub home: tempfile::TempDir,
}

impl Saved {
    pub fn new(more: &[&str]) -> Self {
        let saved = Self { stage: Stage::new(CONTROL_PLANE), home: tempfile::tempdir().unwrap() };
        for name in saved.names() {
            saved.stage.program_to(&name).args(more).run().expect(0);
        }
        saved.stage.net.journal().clear();
        saved
    }

    pub fn directory(&self) -> PathBuf {
        self.home.path().join("images")
    }

    pub fn file(&self) -> PathBuf {
        self.home.path().join("images.tar")
    }

    pub fn names(&self) -> [String; 2] {
        [format!("oci:{}", self.directory().display()), format!("oci-archive:{}", self.file().display())]
    }

    pub fn blob(&self, digest: &str) -> PathBuf {
        self.directory().join("blobs").join(digest.replace(':', "/"))
    }

    /// Layers that one image alone has, each with that image.
    pub fn layers_of_one(&self) -> Vec<(String, String)> {
        let index: Value = json(&self.directory().join("index.json"));
        let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for entry in index["manifests"].as_array().unwrap() {
            let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
            let mut next = vec![entry["digest"].as_str().unwrap().to_owned()];
            while let Some(digest) = next.pop() {
                let manifest = json(&self.blob(&digest));
                let digests = |key: &str| {
                    let all = manifest[key].as_array().cloned().unwrap_or_default();
                    all.iter().map(|all| all["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
                };
                next.extend(digests("manifests"));
                for layer in digests("layers") {
                    owners.entry(layer).or_default().insert(name.to_owned());
                }
            }
        }
        let of_one = owners.into_iter().filter(|(_, owners)| owners.len() == 1);
        of_one.map(|(layer, owners)| (layer, owners.into_iter().next().unwrap())).collect()
    }
}

/// A document of a layout.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
