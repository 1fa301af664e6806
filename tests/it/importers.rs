//! What reads image archives on a node takes what was saved, as it is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::program::Program;
use crate::stage::{ALWAYS, EVERYTHING, Stage};
use crate::support::containerd::{Containerd, is_root, podman};
use crate::support::content::{Blob, Child, config_for};
use crate::support::process::require;
use crate::support::{Content, Image, Kind, Net};

fn archive(stage: &Stage, file: &Path, more: &[&str]) {
    let target = format!("oci-archive:{}", file.display());
    // What is pinned cannot be had: nothing that is generated has its digest.
    let references: Vec<String> = stage.good_lines().map(|line| format!("--image={}", line.source)).collect();
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    stage.program_with(&target, &references).args(more).run().expect(0);
}

/// Whole names and digests of all images that can be saved.
fn wanted(stage: &Stage) -> BTreeMap<String, String> {
    let digest = |repository: &str, tag: &str| stage.content.digest_of(repository, tag).unwrap().clone();
    stage.good_lines().map(|line| (line.source.clone(), digest(&line.repository, &line.tag))).collect()
}

/// Names and digests of what is in containerd.
fn listed(containerd: &Containerd) -> BTreeMap<String, String> {
    let lines = containerd.ctr(&["images", "ls"]).unwrap();
    let words = lines.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.map(|words| (words[0].to_owned(), words[2].to_owned())).collect()
}

#[test]
fn containerd_imports_all_images_of_a_version_with_all_platforms() {
    if !require("containerd") || !require("ctr") || !is_root() {
        return;
    }
    let stage = Stage::new(EVERYTHING);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    archive(&stage, &file, &[]);
    let containerd = Containerd::start().unwrap();
    containerd.ctr(&["images", "import", "--all-platforms", "--no-unpack", file.to_str().unwrap()]).unwrap();
    assert_eq!(listed(&containerd), wanted(&stage));
    let checked = containerd.ctr(&["images", "check"]).unwrap();
    let complete = checked.lines().filter(|line| line.contains(" complete ")).count();
    assert_eq!(complete, wanted(&stage).len(), "{checked}");
}

#[test]
fn containerd_imports_an_archive_of_one_platform() {
    if !require("containerd") || !require("ctr") || !is_root() {
        return;
    }
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let (whole, one) = (home.path().join("whole.tar"), home.path().join("one.tar"));
    archive(&stage, &whole, &[]);
    archive(&stage, &one, &["--platform", "linux/amd64"]);
    let size = |file: &Path| file.metadata().unwrap().len();
    assert!(size(&one) < size(&whole) * 4 / 5, "{} of {} bytes", size(&one), size(&whole));
    let containerd = Containerd::start().unwrap();
    for more in [&[][..], &["--all-platforms"]] {
        let arguments = [&["images", "import", "--no-unpack"], more, &[one.to_str().unwrap()]].concat();
        containerd.ctr(&arguments).unwrap();
        assert_eq!(listed(&containerd), wanted(&stage));
    }
}

/// A layer with one file in it.
fn layer(name: &str) -> Blob {
    let mut header = tar::Header::new_ustar();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_data(&mut header, name, name.as_bytes()).unwrap();
    Blob::literal(layer.into_inner().unwrap())
}

#[test]
fn podman_loads_all_images_and_unpacks_them() {
    if !require("podman") || !is_root() {
        return;
    }
    let mut content = Content::new();
    let mut references = Vec::new();
    for name in ["one", "two", "three"] {
        let children = ["amd64", "arm64"].map(|architecture| {
            let layers = vec![layer("base"), layer(&format!("{name}-{architecture}"))];
            let config = config_for(architecture, name, &layers);
            Child::platform(&format!("linux/{architecture}"), Image::single(Kind::Docker, config, layers))
        });
        content.add(&format!("group/{name}"), "1", &Image::index(Kind::Docker, children.into()));
        references.push(format!("quay.io/group/{name}:1"));
    }
    let net = Net::new();
    let source = net.registry("source").content(&content).start();
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a.tar");
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    let images: Vec<String> = references.iter().map(|name| format!("--image={name}")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    Program::new(&[&format!("oci-archive:{}", file.display()), &mirror]).args(&images).run().expect(0);
    podman(home.path(), &["load", "--input", file.to_str().unwrap()]).unwrap();
    let listed = podman(home.path(), &["images", "--format", "{{.Repository}}:{{.Tag}}"]).unwrap();
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    references.sort_unstable();
    assert_eq!(listed, references);
}
