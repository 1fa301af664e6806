//! `--check` of a layout alone: everything that it holds is read and hashed, and nobody is asked.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde_json::Value;

use crate::program::{Ended, Program};
use crate::saved::{Saved, json};
use crate::stage::{ALWAYS, Stage};
use crate::support::digest::sha256;

fn check(name: &str) -> Program {
    Program::new(&["--check", name])
}

/// Where a text stands in a file for the last time.
fn find(file: &Path, text: &str) -> u64 {
    let bytes = fs::read(file).unwrap();
    bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).unwrap() as u64
}

fn broken(run: &Ended) -> Vec<Value> {
    let report = run.report();
    let lines = report["images"].as_array().unwrap().iter();
    lines.filter(|line| line["state"] == "broken").cloned().collect()
}

#[test]
fn everything_that_was_saved_is_hashed_and_nobody_is_asked() {
    let saved = Saved::new(&[]);
    for name in saved.names() {
        let run = check(&name).args(&["-o", "json"]).run().expect(0);
        assert_eq!((run.number("whole"), run.number("broken")), (7, 0), "{}", run.stdout);
        assert_eq!(run.report()["unnamed"]["blobs"], 0);
        assert_eq!(run.number("blobs") as usize, saved.stage.content.blobs.len() + manifests(&saved));
        let report = saved.home.path().join("report");
        let run = check(&name).args(&["--report", report.to_str().unwrap()]).run().expect(0);
        assert_eq!(json(&report)["layout"], name.as_str());
        assert!(run.stdout.contains("whole   registry.k8s.io/pause:3.10.2\n"), "{}", run.stdout);
        assert!(run.stdout.contains("7 images, 7 whole, 0 broken\n"), "{}", run.stdout);
    }
    assert_eq!(saved.stage.net.journal().requests("source"), 0);
}

fn manifests(saved: &Saved) -> usize {
    let all = saved.stage.content.repositories.values().flat_map(|repository| &repository.manifests);
    all.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn what_is_missing_damaged_or_of_another_size_is_told_with_its_image() {
    let saved = Saved::new(&[]);
    let (layer, image) = saved.layers_of_one().remove(0);
    let [directory, archive] = saved.names();
    let path = saved.blob(&layer);
    let whole = fs::read(&path).unwrap();
    let flaws: [(&str, &dyn Fn()); 3] = [
        ("damaged", &|| fs::write(&path, vec![0; whole.len()]).unwrap()),
        ("size", &|| fs::write(&path, &whole[1..]).unwrap()),
        ("missing", &|| fs::remove_file(&path).unwrap()),
    ];
    for (flaw, make) in flaws {
        make();
        let run = check(&directory).args(&["-o", "json"]).run().expect(1);
        let [line] = &broken(&run)[..] else { panic!("{}", run.stdout) };
        assert_eq!((&line["image"], &line["faults"]), (&image.as_str().into(), &1.into()));
        let fault = &line["damaged"][0];
        let named = [&fault["digest"], &fault["flaw"], &fault["content"]];
        assert_eq!(named, [&layer, flaw, "layer"], "{fault}");
        let text = check(&directory).run().expect(1).stdout;
        assert!(text.contains(&format!("BROKEN  {image}: layer {layer} ")), "{text}");
    }

    // The same in one file, where nothing can be missing without its entry.
    let file = fs::OpenOptions::new().write(true).open(saved.file()).unwrap();
    let hex = layer.strip_prefix("sha256:").unwrap();
    let at = find(&saved.file(), &format!("blobs/sha256/{hex}")) + 512;
    file.write_all_at(b"other", at).unwrap();
    let run = check(&archive).args(&["-o", "json"]).run().expect(1);
    let [line] = &broken(&run)[..] else { panic!("{}", run.stdout) };
    assert_eq!((&line["damaged"][0]["flaw"], &line["image"]), (&"damaged".into(), &image.as_str().into()));
    // docker's own list has no digest, but has to name what is there.
    let list = find(&saved.file(), "\"Layers\":[\"blobs/sha256/");
    file.write_all_at(b"0000", list + 24).unwrap();
    let text = check(&archive).run().expect(1).stdout;
    assert!(text.contains("manifest.json: it names blobs/sha256/0000"), "{text}");
}

/// An image whose layers of one platform are gone looks as one that was saved for the other alone: the lock knows better.
#[test]
fn what_a_layout_has_lost_since_its_lock_was_written_is_told() {
    let saved = Saved::new(&[]);
    let [directory, _] = saved.names();
    let layers: Vec<String> = saved.layers_of_one().into_iter().map(|(layer, _)| layer).collect();
    let index = saved.directory().join("index.json");
    let before = fs::read(&index).unwrap();
    let mut less = json(&index);
    let gone = less["manifests"].as_array_mut().unwrap().pop().unwrap();
    fs::write(&index, less.to_string()).unwrap();
    let name = gone["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap();
    let told = check(&directory).run().expect(1).stdout;
    assert!(
        told.contains(&format!("{name} is not in index.json with the digest that its lock has")),
        "{told}"
    );
    fs::write(&index, before).unwrap();
    check(&directory).run().expect(0);
    let mut root = json(&saved.directory().join("mirror-images.lock.json"));
    let blobs = root["blobs"].as_object_mut().unwrap();
    assert!(layers.iter().all(|layer| blobs.contains_key(layer)));
    fs::remove_file(saved.blob(&layers[0])).unwrap();
    let told = check(&directory).run().expect(1).stdout;
    assert!(told.contains(&format!("blob {} of ", layers[0])) && told.contains("it was lost"), "{told}");
}

#[test]
fn damaged_manifests_and_configs_are_told_as_what_they_are() {
    let saved = Saved::new(&[]);
    let index = json(&saved.directory().join("index.json"));
    let entry = |name: &str| {
        let all = index["manifests"].as_array().unwrap().iter();
        let mut named =
            all.filter(|e| e["annotations"]["io.containerd.image.name"].as_str().unwrap().contains(name));
        named.next().unwrap()["digest"].as_str().unwrap().to_owned()
    };
    let (root, other) = (entry("kube-apiserver"), entry("etcd"));
    let child = json(&saved.blob(&other))["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let config = json(&saved.blob(&child))["config"]["digest"].as_str().unwrap().to_owned();
    fs::write(saved.blob(&root), "{}").unwrap();
    fs::remove_file(saved.blob(&config)).unwrap();
    let text = check(&saved.names()[0]).run().expect(1).stdout;
    assert!(text.contains(&format!("kube-apiserver:v1.36.3: manifest {root} has 2 bytes")), "{text}");
    assert!(text.contains(&format!(": config {config} ")) && text.contains("5 whole, 2 broken"), "{text}");
    // What that manifest names has no name any more.
    assert!(text.contains("blobs that no image has"), "{text}");
}

#[test]
fn layers_that_were_left_out_on_purpose_are_said_to_be_and_break_nothing() {
    let saved = Saved::new(&["--platform", "linux/amd64"]);
    for name in saved.names() {
        let run = check(&name).args(&["-o", "json"]).run().expect(0);
        let report = run.report();
        let without = report["images"].as_array().unwrap().iter().filter(|line| {
            line["without"].as_array().is_some_and(|all| all.iter().any(|one| one == "linux/arm64"))
        });
        assert!(without.count() > 3, "{}", run.stdout);
        let text = check(&name).run().expect(0).stdout;
        assert!(text.contains("linux/arm64") && text.contains("are not in it)"), "{text}");
        check(&name).args(&["--platform", "linux/amd64"]).run().expect(0);
        let run = check(&name).args(&["--platform", "all", "-o", "json"]).run().expect(1);
        assert!(broken(&run).len() > 3, "{}", run.stdout);
        check(&name).args(&["--platform", "linux/arm64"]).run().expect(1);
        let mistyped = check(&name).args(&["--platform", "linux/amd46"]).run().expect(1);
        assert!(mistyped.stdout.contains("No image has the platform linux/amd46"), "{}", mistyped.stdout);
    }
    assert_eq!(saved.stage.net.journal().requests("source"), 0);
}

#[test]
fn what_no_image_has_is_told_and_counts_only_if_it_is_damaged() {
    let saved = Saved::new(&[]);
    let [directory, _] = saved.names();
    let letter = sha256(b"a letter");
    fs::write(saved.blob(&letter), "a letter").unwrap();
    fs::write(saved.directory().join("blobs/sha256/notes"), "x").unwrap();
    let elsewhere = saved.home.path().join("elsewhere");
    fs::write(&elsewhere, "elsewhere").unwrap();
    std::os::unix::fs::symlink(&elsewhere, saved.blob(&sha256(b"elsewhere"))).unwrap();
    let text = check(&directory).run().expect(0).stdout;
    assert!(text.contains(&format!("1 blob that no image has, 8 B: {letter}\n")), "{text}");
    assert!(text.contains("\"blobs/sha256/notes\" lies among the blobs and is none"), "{text}");
    assert_eq!(text.matches("is none\n").count(), 2, "a link is no blob: {text}");
    fs::write(saved.blob(&letter), "a better").unwrap();
    let run = check(&directory).args(&["-o", "json"]).run().expect(1);
    assert_eq!((run.number("broken"), &run.report()["unnamed"]["damaged"]), (0, &1.into()));
}

#[test]
fn what_is_no_whole_layout_is_told_and_what_is_not_there_is_wrong_use() {
    let saved = Saved::new(&[]);
    let [directory, archive] = saved.names();
    let length = saved.file().metadata().unwrap().len();
    fs::OpenOptions::new().write(true).open(saved.file()).unwrap().set_len(length / 2).unwrap();
    let run = check(&archive).args(&["-o", "json"]).run().expect(1);
    assert!(run.report()["unreadable"].as_str().unwrap().contains("cut off"), "{}", run.stdout);
    assert!(check(&archive).run().expect(1).stdout.contains("cannot be read"));
    fs::write(saved.directory().join("index.json"), "{").unwrap();
    let run = check(&directory).run().expect(1);
    assert!(run.stdout.contains("index.json"), "{}", run.stdout);
    fs::write(saved.directory().join("index.json"), r#"{"manifests":[]}"#).unwrap();
    assert!(check(&directory).run().expect(1).stdout.contains("0 images"), "an empty one proves nothing");
    for name in ["oci:nowhere", "oci-archive:nowhere", &format!("oci:{}", saved.home.path().display())] {
        check(name).run().expect(2);
    }
}

#[test]
fn with_a_selection_a_layout_is_compared_with_the_sources() {
    let stage = Stage::new(ALWAYS);
    let home = tempfile::tempdir().unwrap();
    let name = format!("oci-archive:{}", home.path().join("a.tar").display());
    stage.program_to(&name).run().expect(0);
    stage.net.journal().clear();
    let run = stage.program_to(&name).args(&["--check", "-o", "json"]).run().expect(0);
    assert_eq!(run.number("there") as usize, stage.good_lines().count() - 1);
    assert!(stage.net.journal().requests("source") > 0);
}
