//! Archives that are written although an image failed: only where that is asked for, and never with what is not there.

use std::fs;
use std::path::Path;

use crate::program::{Ended, Program};
use crate::stage::{CONTROL_PLANE, NO_PINS, Stage};
use crate::support::Op;
use crate::support::containerd::{Containerd, is_root};
use crate::support::fault::{Fault, on};
use crate::support::process::{require, skopeo};

const ALLOWED: &str = "--allow-incomplete";

/// Seven images, one of which cannot be had.
struct Scene {
    stage: Stage,
    home: tempfile::TempDir,
    /// As it is asked for.
    lost: String,
}

impl Scene {
    /// A blob of one image cannot be read, which shows only once all the others are under way.
    fn new() -> Self {
        let stage = Stage::new(CONTROL_PLANE);
        let line = stage.lines.iter().find(|line| line.repository == "kube-proxy").unwrap();
        let lost = line.source.clone();
        let repository = &stage.content.repositories["kube-proxy"];
        let others = stage.content.repositories.iter().filter(|(name, _)| *name != "kube-proxy");
        let others: Vec<_> = others.flat_map(|(_, repository)| &repository.blobs).collect();
        // The largest, which is a layer.
        let own = repository.blobs.iter().filter(|blob| !others.contains(blob));
        let own = own.max_by_key(|blob| stage.content.blobs[*blob].size).unwrap();
        stage.source.fault(on(Op::BlobGet).digest(own).then(Fault::Status(500)));
        Self { stage, home: tempfile::tempdir().unwrap(), lost }
    }

    fn file(&self) -> std::path::PathBuf {
        self.home.path().join("a.tar")
    }

    fn name(&self) -> String {
        format!("oci-archive:{}", self.file().display())
    }

    fn save(&self, more: &[&str]) -> Ended {
        self.stage.program_to(&self.name()).args(&["--retries", "0", "-o", "json"]).args(more).run()
    }

    fn load(&self) -> Ended {
        let target = self.stage.target.host();
        Program::new(&["--from", &self.name(), &target, NO_PINS, "-o", "json"]).run()
    }
}

fn entries(file: &Path) -> Vec<String> {
    let output = std::process::Command::new("tar").arg("-tf").arg(file).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn lock(file: &Path) -> serde_json::Value {
    let arguments = ["-xOf", file.to_str().unwrap(), "mirror-images.lock.json"];
    let output = std::process::Command::new("tar").args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_archive_without_an_image_that_failed_is_a_layout_of_the_others() {
    let scene = Scene::new();
    let refused = scene.save(&[]).expect(1);
    assert!(!scene.file().exists() && scene.home.path().join("a.tar.partial").exists());
    assert!(refused.report()["unfinished"].as_str().unwrap().contains(ALLOWED), "{}", refused.stdout);

    let saved = scene.save(&[ALLOWED]).expect(1);
    assert_eq!((saved.number("failed"), saved.number("copied")), (1, 6), "{}", saved.stdout);
    assert_eq!(saved.report()["incomplete"], true);
    let warning = saved.stderr.lines().find(|line| line.contains("is written and not complete"));
    assert!(warning.is_some_and(|line| line.contains(&scene.lost)), "{}", saved.stderr);
    assert_eq!(fs::read_dir(scene.home.path()).unwrap().count(), 1, "nothing is left beside it");
    let entries = entries(&scene.file());
    assert_eq!(entries.iter().filter(|entry| entry.starts_with("lacks/sha256/")).count(), 1, "{entries:?}");
    let lock = lock(&scene.file());
    assert_eq!(lock["images"].as_array().unwrap().len(), 6);
    let [missing] = &lock["missing"].as_array().unwrap()[..] else { panic!("{lock}") };
    assert_eq!(missing["source"], scene.lost.as_str());

    // What it has is whole, and what it has not is named, to whoever checks it and to whoever loads it.
    let checked = Program::new(&["--check", &scene.name(), "-o", "json"]).run().expect(1);
    assert_eq!((checked.number("whole"), checked.number("broken")), (6, 0), "{}", checked.stdout);
    let told = checked.report()["lock"][0].to_string();
    assert!(told.contains(&format!("it was written without {}: ", scene.lost)), "{told}");
    let loaded = scene.load().expect(0);
    assert!(
        loaded.stderr.contains(&format!("was written without 1 image, by its lock: {}", scene.lost)),
        "{}",
        loaded.stderr
    );
    assert_eq!((loaded.number("failed"), loaded.number("copied")), (0, 7), "CoreDNS has two names there");
    assert_eq!(scene.stage.target.content().tags().count(), 7);

    // The next run takes what it has.
    scene.stage.source.clear_faults();
    scene.stage.net.journal().clear();
    scene.save(&[]).expect(0);
    assert_eq!(scene.stage.net.journal().count("source", Op::BlobGet), 1);
    scene.load().expect(0);
    scene.stage.assert_mirrored();
}

#[test]
fn an_image_that_is_not_there_at_all_is_left_out_too() {
    let stage = Stage::new(CONTROL_PLANE);
    let home = tempfile::tempdir().unwrap();
    let name = format!("oci-archive:{}", home.path().join("a.tar").display());
    let lost = ["--image", "registry.k8s.io/nothing:1"];
    let saved = stage.program_to(&name).args(&lost).args(&[ALLOWED]).run().expect(1);
    assert!(saved.stdout.contains("is not complete: it is without 1 name\n"), "{}", saved.stdout);
    assert!(saved.stderr.contains("it is without registry.k8s.io/nothing:1\n"), "{}", saved.stderr);
    let missing = &lock(&home.path().join("a.tar"))["missing"];
    assert_eq!(missing[0]["source"], "registry.k8s.io/nothing:1");
    assert!(missing[0]["cause"].as_str().unwrap().contains("404"), "{missing}");
    // But for that the same as if nobody had asked for it.
    let other = home.path().join("b.tar");
    stage.program_to(&format!("oci-archive:{}", other.display())).run().expect(0);
    assert_eq!(entries(&home.path().join("a.tar")), entries(&other));

    let none = stage.program_with(&name.replace("a.tar", "c.tar"), &lost).args(&[ALLOWED]).run().expect(1);
    assert!(!home.path().join("c.tar").exists(), "{}", none.stdout);
}

#[test]
fn an_interrupted_save_is_no_archive_whatever_is_allowed() {
    let scene = Scene::new();
    scene.stage.source.clear_faults();
    scene.stage.source.fault(on(Op::BlobGet).then(Fault::StallHeaders));
    let running = scene.stage.program_to(&scene.name()).args(&[ALLOWED]).start();
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while scene.stage.net.journal().count("source", Op::BlobGet) == 0 && std::time::Instant::now() < patience
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    assert!(!scene.file().exists() && scene.home.path().join("a.tar.partial").exists());
}

#[test]
fn only_an_archive_can_be_incomplete() {
    let home = tempfile::tempdir().unwrap();
    let directory = format!("oci:{}", home.path().join("d").display());
    let archive = format!("oci-archive:{}", home.path().join("a.tar").display());
    let image = ["--image", "alpine:3"];
    for arguments in [
        &["r"][..],
        &[&directory],
        &["oci-archive:-", image[0], image[1]],
        &["--check", &archive, image[0], image[1]],
    ] {
        let run = Program::new(arguments).args(&[ALLOWED]).run().expect(2);
        assert!(run.stderr.contains("oci-archive:FILE"), "{arguments:?}: {}", run.stderr);
    }
    Program::new(&["--dry-run", "--image", "alpine:3", &archive, ALLOWED]).run().expect(0);
}

#[test]
fn importers_take_an_incomplete_archive_as_it_is() {
    let scene = Scene::new();
    scene.save(&[ALLOWED]).expect(1);
    if require("skopeo") {
        let index = Program::new(&["--check", &scene.name(), "-o", "json"]).run().expect(1).report();
        let names = index["images"].as_array().unwrap().iter().map(|line| line["image"].as_str().unwrap());
        let read =
            names.filter(|name| skopeo(&["inspect", "--raw", &format!("{}:{name}", scene.name())]).is_ok());
        assert!(read.count() > 1);
        let lost = format!("{}:{}", scene.name(), scene.lost);
        assert!(skopeo(&["inspect", "--raw", &lost]).is_err());
    }
    if require("containerd") && require("ctr") && is_root() {
        let containerd = Containerd::start().unwrap();
        let file = scene.file();
        containerd
            .ctr(&["images", "import", "--all-platforms", "--no-unpack", file.to_str().unwrap()])
            .unwrap();
        let listed = containerd.ctr(&["images", "ls", "-q"]).unwrap();
        assert_eq!(listed.lines().count(), 6, "{listed}");
        assert!(!listed.contains(&scene.lost), "{listed}");
    }
}
