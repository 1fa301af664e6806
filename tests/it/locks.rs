//! What is recorded of a run's images, and runs that are held to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{ALWAYS, NO_PINS, Stage};
use crate::support::content::{Child, Content, Image, Kind};
use crate::support::fault::{Fault, on};
use crate::support::{Net, Op};

/// Layouts by the name of their form.
fn archive(file: &Path) -> String {
    format!("oci-archive:{}", file.display())
}

fn directory(directory: &Path) -> String {
    format!("oci:{}", directory.display())
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The lock that an archive holds, by another program.
fn in_archive(file: &Path) -> Vec<u8> {
    let output = std::process::Command::new("tar")
        .arg("-xOf")
        .arg(file)
        .arg("mirror-images.lock.json")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn images(lock: &Value) -> BTreeMap<&str, &Value> {
    let images = lock["images"].as_array().unwrap();
    images.iter().map(|image| (image["source"].as_str().unwrap(), image)).collect()
}

/// What the lock should say of each image: digest, and names at a registry.
fn wanted(stage: &Stage) -> BTreeMap<String, (String, Vec<String>)> {
    let mut wanted: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for line in stage.good_lines() {
        let digest = stage.content.digest_of(&line.repository, &line.tag).unwrap();
        let entry = wanted.entry(line.source.clone()).or_insert_with(|| (digest.clone(), Vec::new()));
        entry.1.push(format!("{}:{}", line.to.0, line.to.1));
    }
    wanted
}

#[track_caller]
fn assert_says(stage: &Stage, lock: &Value) {
    let said: BTreeMap<String, (String, Vec<String>)> = images(lock)
        .iter()
        .map(|(source, image)| {
            let names =
                image["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            ((*source).to_owned(), (image["digest"].as_str().unwrap().to_owned(), names))
        })
        .collect();
    let mut wanted = wanted(stage);
    wanted.values_mut().for_each(|(_, names)| names.sort_unstable());
    assert_eq!(said, wanted);
}

#[test]
fn a_run_records_its_images_with_all_that_they_consist_of() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let [first, second, check] = ["a", "b", "c"].map(|name| home.path().join(name));
    let flag = |file: &Path| format!("--lock-out={}", file.display());
    stage.program().args(&[&flag(&first)]).run().expect(0);
    let lock = read(&first);
    assert_says(&stage, &lock);
    assert_eq!((&lock["version"], &lock["kind"]), (&json!(1), &json!("lock")));
    assert_eq!(lock.get("missing"), None);
    assert!(lock["made"]["kubeone"].as_str().unwrap().starts_with("v1."), "{}", lock["made"]);
    assert!(lock["made"]["catalog"].as_str().unwrap().starts_with("sha256:"));
    let all = images(&lock);
    let (pause, coredns) = (
        all.iter().find(|(source, _)| source.contains("/pause:")).unwrap().1,
        all.iter().find(|(source, _)| source.contains("/coredns:")).unwrap().1,
    );
    assert_eq!(coredns["names"].as_array().unwrap().len(), 2);
    assert_eq!(pause["reasons"][0], "control-plane pause: kubeadm, Kubernetes 1.36.3");
    // Every blob of the content is somewhere, in its size.
    for (digest, blob) in lock["blobs"].as_object().unwrap() {
        assert_eq!(blob[0], stage.content.blobs[digest].size, "{digest}");
        let repository = blob[1].as_str().unwrap();
        let has = |content: &Content| content.repositories[repository].blobs.contains(digest);
        assert!(has(&stage.target.content()), "{digest} in {repository}");
    }
    let at_target: std::collections::BTreeSet<String> =
        stage.target.content().repositories.values().flat_map(|one| one.blobs.iter().cloned()).collect();
    assert_eq!(lock["blobs"].as_object().unwrap().len(), at_target.len());
    for image in all.values() {
        let index: Value =
            serde_json::from_slice(&stage.content.manifests[image["digest"].as_str().unwrap()].bytes)
                .unwrap();
        let platforms = image["platforms"].as_array().unwrap();
        match index["manifests"].as_array() {
            Some(entries) => {
                let named = entries.iter().filter(|entry| entry["platform"]["os"] == "linux");
                let digests: Vec<&Value> = named.map(|entry| &entry["digest"]).collect();
                assert_eq!(platforms.iter().map(|one| &one["digest"]).collect::<Vec<_>>(), digests);
                assert!(platforms.iter().all(|one| one["platform"].as_str().unwrap().starts_with("linux/")));
            }
            None => assert_eq!(platforms[0]["digest"], image["digest"]),
        }
        assert!(platforms.iter().all(|one| one["bytes"].as_u64().unwrap() > 2_000), "{image}");
    }

    // Where all is there the same is found out by the target's own manifests, and by a check.
    stage.net.journal().clear();
    stage.program().args(&[&flag(&second)]).run().expect(0);
    assert_eq!(stage.net.journal().count("source", Op::ManifestGet), 0);
    stage.program().args(&["--check", &flag(&check)]).run().expect(0);
    assert_eq!(fs::read(&first).unwrap(), fs::read(&second).unwrap());
    assert_eq!(fs::read(&first).unwrap(), fs::read(&check).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing else stays");
}

#[test]
fn what_has_failed_is_in_the_lock_as_missing() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a");
    let flag = format!("--lock-out={}", file.display());
    let failing = stage.good_lines().find(|line| line.source.contains("/pause:")).unwrap();
    let put = on(Op::ManifestPut).repo(&failing.to.0);
    stage.target.fault(put.then(Fault::Status(403)));
    let extra = ["--image", "registry.k8s.io/nothing:1", &flag];
    stage.program().args(&extra).run().expect(1);
    let lock = read(&file);
    let missing: BTreeMap<&str, &Value> = lock["missing"]
        .as_array()
        .unwrap()
        .iter()
        .map(|missing| (missing["source"].as_str().unwrap(), missing))
        .collect();
    assert_eq!(missing.len(), 2, "{}", lock["missing"]);
    assert_eq!(missing["registry.k8s.io/nothing:1"]["names"], json!(["nothing:1"]));
    assert_eq!(missing["registry.k8s.io/nothing:1"]["reasons"], json!(["named by --image"]));
    assert!(missing[failing.source.as_str()]["cause"].as_str().unwrap().contains("403"));
    assert_eq!(images(&lock).len(), wanted(&stage).len() - 1);
    assert!(!images(&lock).contains_key(failing.source.as_str()));
}

#[test]
fn every_layout_has_a_lock_of_its_own_and_a_time_only_by_the_environment() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let [tar, again, dated] = ["a.tar", "b.tar", "c.tar"].map(|name| home.path().join(name));
    let layout = home.path().join("images");
    stage.program_to(&archive(&tar)).run().expect(0);
    stage.program_to(&archive(&again)).run().expect(0);
    assert_eq!(fs::read(&tar).unwrap(), fs::read(&again).unwrap());
    let lock: Value = serde_json::from_slice(&in_archive(&tar)).unwrap();
    assert_says(&stage, &lock);
    let listed = std::process::Command::new("tar").arg("-tf").arg(&tar).output().unwrap().stdout;
    let listed = String::from_utf8(listed).unwrap();
    let first: Vec<&str> = listed.lines().take(4).collect();
    assert_eq!(first, ["oci-layout", "index.json", "manifest.json", "mirror-images.lock.json"]);
    assert_eq!(lock["made"].get("time"), None);
    stage.program_to(&archive(&dated)).env("SOURCE_DATE_EPOCH", "1700000000").run().expect(0);
    let dated: Value = serde_json::from_slice(&in_archive(&dated)).unwrap();
    assert_eq!(dated["made"]["time"], 1_700_000_000);
    let wrong = stage.program_to(&archive(&tar)).env("SOURCE_DATE_EPOCH", "yesterday").run().expect(2);
    assert!(wrong.stderr.contains("SOURCE_DATE_EPOCH is \"yesterday\""), "{}", wrong.stderr);

    // A directory's is added to by each run, and says no more than is still so.
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "base"]).run().expect(0);
    let own = layout.join("mirror-images.lock.json");
    let base = read(&own);
    assert!(images(&base).len() < images(&lock).len());
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "control-plane"]).run().expect(0);
    assert_says(&stage, &read(&own));
    let mut index = read(&layout.join("index.json"));
    let gone = index["manifests"].as_array_mut().unwrap().remove(0);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "control-plane"]).run().expect(0);
    let name = gone["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    let after = read(&own);
    let is_of_base = images(&base).contains_key(name);
    assert_eq!(images(&after).contains_key(name), !is_of_base, "{name}");
    // One that is none is told, and made anew.
    fs::write(&own, "{\"version\": 9, \"kind\": \"lock\"}").unwrap();
    let told = stage.program_with(&directory(&layout), &["-k", "1.36.3", "--filter", "base"]).run().expect(0);
    assert!(told.stderr.contains("its version is 9"), "{}", told.stderr);
    assert_eq!(images(&read(&own)).len(), images(&base).len());
}

/// An image of two platforms, each with a layer of its own.
fn two_platforms() -> Image {
    let children = [("linux/amd64", 1), ("linux/arm64", 2)]
        .map(|(platform, seed)| Child::platform(platform, Image::generated(Kind::Oci, seed, &[9_000])));
    Image::index(Kind::Oci, children.into())
}

#[test]
fn of_platforms_that_are_left_out_nothing_is_recorded_but_that_they_are() {
    let mut content = Content::new();
    content.add("group/two", "1", &two_platforms());
    let net = Net::new();
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let home = tempfile::tempdir().unwrap();
    let mirror = format!("--source-mirror=quay.io={}", source.url());
    let file = home.path().join("lock");
    let flag = format!("--lock-out={}", file.display());
    let run = |target: &str, more: &[&str]| {
        Program::new(&[target, &mirror, "--image=quay.io/group/two:1", NO_PINS, &flag])
            .args(more)
            .run()
            .expect(0);
        let lock = read(&file);
        let image = lock["images"][0].clone();
        let platforms = image["platforms"].as_array().unwrap().iter();
        let platforms: Vec<String> =
            platforms.map(|one| one["platform"].as_str().unwrap().to_owned()).collect();
        (
            image["sparse"] == true,
            platforms,
            image["trimmed"].is_string(),
            lock["blobs"].as_object().unwrap().len(),
        )
    };
    let amd64 = vec!["linux/amd64".to_owned()];
    let all = vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()];
    let one = ["--platform", "linux/amd64"];
    // This target takes no index that names what is not there.
    assert_eq!(run(&target.host(), &one), (true, amd64.clone(), true, 2));
    // In a layout only layers are left out.
    let tar = home.path().join("a.tar");
    assert_eq!(run(&archive(&tar), &one), (true, amd64, false, 3));
    // Whoever records an image sees to it that what is recorded is there.
    assert_eq!(run(&target.host(), &[]), (false, all, false, 4));
    assert_eq!(target.content().repositories["group/two"].manifests.len(), 3);
}

#[test]
fn what_keeps_a_lock_from_being_written_is_told() {
    let home = tempfile::tempdir().unwrap();
    let images = home.path().join("images");
    let inside = format!("--lock-out={}/x", images.display());
    let nowhere = format!("--lock-out={}/no/x", home.path().display());
    let table: &[(&[&str], &str)] = &[
        (&["--dry-run", "--lock-out=x"], "--dry-run uses no network"),
        (&["--lock-out=-"], "a file of that name is ./-"),
        (&[&nowhere], "cannot write the lock to"),
        (&[&directory(&images), &inside], "would be written into oci:"),
    ];
    for (arguments, told) in table {
        let target =
            if arguments.len() == 2 && arguments[0].starts_with("oci:") { vec![] } else { vec!["r.invalid"] };
        let run = Program::new(&target).args(&["--image=r.invalid/a:1"]).args(arguments).run().expect(2);
        assert!(run.stderr.contains(told), "{arguments:?}: {}", run.stderr);
    }
}
