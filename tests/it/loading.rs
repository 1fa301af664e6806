//! What is loaded from files: named before anything is written where it is not whole, and compared without upstream.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::program::Program;
use crate::saved::Saved;
use crate::stage::NO_PINS;
use crate::support::Op;
use crate::support::fault::{Fault, on};

fn load(from: &str, target: &str) -> Program {
    Program::new(&["--from", from, target, NO_PINS])
}

#[test]
fn what_files_lack_is_named_before_anything_is_written_and_the_others_are_loaded() {
    let saved = Saved::new(&[]);
    let layers = saved.layers_of_one();
    let (first, image) = layers[0].clone();
    let (second, other) = layers.iter().rev().find(|(_, other)| *other != image).unwrap().clone();
    fs::remove_file(saved.blob(&first)).unwrap();
    fs::write(saved.blob(&second), "short").unwrap();
    let target = &saved.stage.target;
    // One that is whole, and of which the target takes its time to answer.
    let mut names = saved.stage.lines.iter().filter(|line| ![&image, &other].contains(&&line.source));
    let slow = names.next_back().unwrap().to.0.clone();
    let answer = Duration::from_millis(800);
    target.fault(on(Op::ManifestHead).repo(&slow).then(Fault::DelayHeaders(answer)));
    let run = load(&saved.names()[0], &target.host()).args(&["-o", "json"]).run().expect(1);
    assert_eq!(
        run.number("failed"),
        run.report()["images"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| { [&image, &other].contains(&&line["source"].as_str().unwrap().to_owned()) })
            .count() as u64
    );
    assert!(run.number("copied") >= 5, "{}", run.stdout);

    // All questions first, then the message, then the first write.
    let entries = saved.stage.net.journal().filter(|entry| entry.host == "target");
    let asked = entries.iter().rposition(|entry| entry.op == Op::ManifestHead && entry.repository == slow);
    let wrote = entries.iter().position(|entry| entry.op.writes()).unwrap();
    assert!(asked.unwrap() < wrote, "{}", saved.stage.net.journal().dump());
    let waited = entries[wrote].at - entries[asked.unwrap()].at;
    assert!(waited >= answer, "written after {waited:?}");
    let line = |words: &[&str]| {
        let mut lines = run.stderr.lines();
        let found = lines.position(|line| words.iter().all(|word| line.contains(word)));
        found.unwrap_or_else(|| panic!("{words:?} are not in {}", run.stderr))
    };
    let told = line(&["WARN", "of 7 images cannot be had whole", &image, &other]);
    let copied = line(&["] copied "]);
    assert!(line(&["FAILED", &image, &first, "it is not there"]) < copied);
    assert!(line(&["FAILED", &other, &second, "it has 5 bytes where its manifest says"]) < copied);
    assert!(told < copied, "{}", run.stderr);
}

#[test]
fn all_blobs_that_an_image_lacks_are_named_together() {
    let saved = Saved::new(&[]);
    let layers = saved.layers_of_one();
    let image = &layers[0].1;
    let of_it: Vec<&String> =
        layers.iter().filter(|(_, owner)| owner == image).map(|(layer, _)| layer).collect();
    assert!(of_it.len() > 1);
    for layer in &of_it {
        fs::remove_file(saved.blob(layer)).unwrap();
    }
    let run = load(&saved.names()[0], &saved.stage.target.host()).args(&["--image", image]).run().expect(1);
    for layer in of_it.iter().take(10) {
        assert!(run.stdout.contains(layer.as_str()), "{layer}: {}", run.stdout);
    }
    saved.stage.net.journal().assert_read_only();
}

#[test]
fn a_check_against_files_asks_nobody_but_the_target() {
    let saved = Saved::new(&[]);
    let target = &saved.stage.target;
    // Whatever goes to another host goes through it.
    let elsewhere = saved.stage.net.registry("elsewhere").start();
    let second = tempfile::tempdir().unwrap();
    let directory = format!("oci:{}", second.path().join("copy").display());
    let archive = format!("oci-archive:{}", second.path().join("copy.tar").display());
    for from in saved.names() {
        let check = |to: &str, deep: &[&str]| {
            let run = load(&from, to).args(&["--check", "-o", "json"]).args(deep);
            run.env("HTTPS_PROXY", elsewhere.url()).env("HTTP_PROXY", elsewhere.url()).run()
        };
        for to in [&target.host(), &directory, &archive] {
            let before = check(to, &[]);
            if from == saved.names()[0] {
                before.expect(1);
                load(&from, to).run().expect(0);
            }
            for deep in [&[][..], &["--deep"], &["--deep=bytes"]] {
                let told = check(to, deep).expect(0);
                assert_eq!(told.number("missing") + told.number("different"), 0, "{to}: {}", told.stdout);
                assert!(told.number("there") >= 7);
            }
        }
        let selected = ["--image", "registry.k8s.io/pause:3.10.2"];
        assert_eq!(check(&target.host(), &selected).expect(0).number("there"), 1);
    }
    let hosts: BTreeSet<String> =
        saved.stage.net.journal().entries().into_iter().map(|entry| entry.host).collect();
    assert_eq!(hosts, BTreeSet::from(["target".to_owned()]));
}

#[test]
fn a_check_against_files_finds_what_differs_and_what_is_damaged() {
    let saved = Saved::new(&[]);
    let [from, _] = saved.names();
    let home = tempfile::tempdir().unwrap();
    let copy = home.path().join("copy");
    let to = format!("oci:{}", copy.display());
    load(&from, &to).run().expect(0);
    let (layer, image) = saved.layers_of_one().remove(0);
    let blob = copy.join("blobs").join(layer.replace(':', "/"));
    let length = blob.metadata().unwrap().len();
    fs::write(&blob, vec![0; length as usize]).unwrap();
    let check = |deep: &[&str]| load(&from, &to).args(&["--check"]).args(deep).run();
    let told = check(&["--deep=bytes"]).expect(1).stdout;
    let line = told.lines().find(|line| line.contains(&layer)).unwrap_or_else(|| panic!("{told}"));
    assert!(line.starts_with("partial") && line.contains(&image), "{line}");
    // Files are read by every run, so that nothing has to be asked for to have them mended.
    assert!(line.contains("a run writes again") && told.contains("A run would pull"), "{told}");
    assert!(!told.contains("--repair") && !told.contains("registry's"), "{told}");
    // To look at sizes alone is to be asked for.
    check(&["--deep"]).expect(0);
    fs::remove_file(&blob).unwrap();
    check(&["--deep"]).expect(1);
    load(&from, &to).run().expect(0);
    check(&["--deep=bytes"]).expect(0);
}

#[test]
fn images_that_would_share_a_name_in_a_registry_have_one_each_in_files() {
    let images = ["--image", "quay.io/group/app:1", "--image", "ghcr.io/group/app:1"];
    let dry = |target: &str| Program::new(&["--dry-run", target]).args(&images).run();
    let refused = dry("r.example.com").expect(2);
    assert!(refused.stderr.contains("would both become group/app:1"), "{}", refused.stderr);
    for target in ["oci:images", "oci-archive:images.tar"] {
        let lines = dry(target).expect(0).stdout;
        assert_eq!(lines.lines().count(), 2, "{lines}");
    }
    let config = Program::new(&["config", "r.example.com"]).args(&images).run().expect(2);
    assert!(config.stderr.contains("would both become"), "{}", config.stderr);
}
