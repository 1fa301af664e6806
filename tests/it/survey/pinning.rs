//! `catalog pin`: what is recorded of all images of a catalog.

use std::time::{Duration, Instant};

use mirror_images::selection::catalog::Pins;
use serde_json::{Value, json};

use super::{CNI, HUB, MOVING, OTHER, Shelf, by_source, numbers, state, two_platforms};
use crate::support::content::Content;
use crate::support::{Fault, Image, Kind, Op, on};

#[test]
fn records_are_made_kept_and_renewed_where_a_tag_has_moved() {
    let shelf = Shelf::new();
    let path = shelf.path("mine.json");
    let pin =
        |more: &[&str]| shelf.program("pin").args(&[&path, "--retries", "0", "-o", "json"]).args(more).run();
    let read = || Pins::read(path.as_ref()).unwrap();
    let pinned = pin(&[]).expect(0).report();
    assert_eq!(numbers(&pinned, &["new", "kept", "moved", "missing", "failed", "gone"]), [10, 0, 0, 0, 0, 1]);
    assert_eq!(shelf.fetched(), 0);
    assert_eq!(read().digest(CNI).unwrap().as_str(), shelf.digest(CNI));
    // The program's own records are what a new file begins with.
    assert!(read().iter().any(|pin| pin.source.to_string().starts_with("quay.io/cilium/cilium:")));
    assert!(read().get(&MOVING.parse().unwrap()).unwrap().moving);
    let before = std::fs::read_to_string(&path).unwrap();

    let pinned = pin(&["--platforms"]).expect(0).report();
    assert_eq!(numbers(&pinned, &["new", "kept", "completed"]), [0, 0, 10], "{pinned}");
    // The index, both platforms and the attestation; the platforms' names stand in the index.
    assert_eq!(shelf.net.journal().count("source", Op::ManifestGet), 40);
    assert_eq!(shelf.net.journal().count("source", Op::BlobGet), 0);
    let record = read().get(&CNI.parse().unwrap()).unwrap().clone();
    let names: Vec<_> = record.platforms.iter().map(|platform| platform.platform.clone().unwrap()).collect();
    assert_eq!(names, ["linux/amd64", "linux/arm64"]);
    for platform in &record.platforms {
        let manifest = &shelf.content.manifests[platform.digest.as_str()];
        let value: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        let layers: u64 =
            value["layers"].as_array().unwrap().iter().map(|l| l["size"].as_u64().unwrap()).sum();
        let config = value["config"]["size"].as_u64().unwrap();
        assert_eq!(platform.bytes, layers + config + manifest.bytes.len() as u64);
    }

    shelf.net.journal().clear();
    let whole = std::fs::read_to_string(&path).unwrap();
    let pinned = pin(&["--platforms"]).expect(0).report();
    assert_eq!(numbers(&pinned, &["new", "kept"]), [0, 10], "{pinned}");
    assert_eq!(shelf.fetched(), 0, "what is recorded is not fetched again");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
    assert_ne!(before, whole);

    let mut content = Content::new();
    content.add("acme/cni", "v1", &two_platforms(77)).add("library/alpine", "3", &two_platforms(78));
    shelf.source.add(&content);
    shelf.source.delete_tag("pause", "3.99");
    shelf.source.fault(on(Op::ManifestHead).repo("etcd").then(Fault::Status(403)));
    let ended = shelf.program("pin").args(&[&path, "--platforms", "--retries", "0"]).run().expect(1);
    let moved = format!(
        "moved     {CNI}: {} was recorded of it, and it has {} now\n",
        shelf.digest(CNI),
        content.digest_of("acme/cni", "v1").unwrap()
    );
    for told in [
        moved.as_str(),
        "missing   registry.k8s.io/pause:3.99\n",
        "FAILED    registry.k8s.io/etcd:3.99.0-0: HEAD",
        "11 images: 1 new, 6 kept, 1 moved, 1 missing, 1 failed, 1 gone as the catalog says\n",
    ] {
        assert!(ended.stdout.contains(told), "{told}\n{ended:?}");
    }
    let renewed = read();
    assert_eq!(renewed.digest(CNI).unwrap().as_str(), content.digest_of("acme/cni", "v1").unwrap());
    for kept in ["registry.k8s.io/pause:3.99", "registry.k8s.io/etcd:3.99.0-0"] {
        assert_eq!(renewed.digest(kept).unwrap().as_str(), shelf.digest(kept));
    }
    let moving = renewed.get(&MOVING.parse().unwrap()).unwrap();
    assert_eq!(moving.digest.as_ref().unwrap().as_str(), content.digest_of("library/alpine", "3").unwrap());
    assert!(moving.moving);
}

#[test]
fn an_image_of_one_platform_has_it_from_its_config() {
    let shelf = Shelf::new();
    let mut content = Content::new();
    content.add("acme/cni", "v1", &Image::generated(Kind::Docker, 500, &[100]));
    shelf.source.add(&content);
    let printed = shelf.program("pin").args(&["--platforms"]).run().expect(0);
    let pins = Pins::from_json(&printed.stdout, "printed").unwrap();
    let record = pins.get(&CNI.parse().unwrap()).unwrap();
    assert_eq!(record.platforms[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(Some(&record.platforms[0].digest), record.digest.as_ref());
    let found = shelf.verify(&["--platform", "linux/amd64"]).expect(0).report();
    assert_eq!(state(&found, CNI), "there");
}

#[test]
fn records_that_cannot_be_written_are_told_before_anybody_is_asked() {
    let shelf = Shelf::new();
    for file in ["/nowhere/pins.json", "-", "/proc"] {
        let ended = shelf.program("pin").args(&[file]).run().expect(2);
        assert!(ended.stdout.is_empty() && ended.stderr.starts_with("error: "), "{ended:?}");
    }
    std::fs::write(shelf.path("broken.json"), "[]").unwrap();
    shelf.program("pin").args(&[&shelf.path("broken.json")]).run().expect(2);
    assert_eq!(std::fs::read_to_string(shelf.path("broken.json")).unwrap(), "[]");
    assert_eq!(shelf.net.journal().entries().len(), 0);
    // What cannot be printed is told as well.
    for command in ["pin", "verify"] {
        let program = shelf.program(command);
        let full = program.after("exec >/dev/full").run();
        assert!(full.code != Some(0) && full.stderr.contains("cannot write to standard output"), "{full:?}");
    }
}

#[test]
fn an_interruption_keeps_what_is_recorded_by_then() {
    let shelf = Shelf::new();
    shelf.source.fault(on(Op::ManifestHead).repo("pause").then(Fault::StallHeaders));
    let path = shelf.path("mine.json");
    let running = shelf.program("pin").args(&[&path, "-vv"]).start();
    let patience = Instant::now() + Duration::from_secs(20);
    while shelf.net.journal().of("source", Op::ManifestHead).iter().filter(|h| h.done.is_some()).count() < 9 {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("INT");
    let ended = running.wait();
    assert_eq!(ended.code, Some(130));
    assert!(ended.stdout.ends_with("; interrupted before all were asked for\n"), "{ended:?}");
    assert!(Pins::read(path.as_ref()).unwrap().iter().count() > 82);
    shelf.source.clear_faults();
    shelf.source.fault(on(Op::ManifestHead).then(Fault::StallHeaders));
    let asked = shelf.net.journal().count("source", Op::ManifestHead);
    let running = shelf.program("verify").start();
    while shelf.net.journal().count("source", Op::ManifestHead) == asked {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("INT");
    let ended = running.wait();
    assert_eq!(ended.code, Some(130));
}

/// What became of an image, in a report.
fn result(report: &Value, source: &str) -> String {
    by_source(report)[source]["result"].as_str().expect("a result").to_owned()
}

#[test]
fn a_digest_is_recorded_although_its_platforms_cannot_be_had_and_they_follow_another_time() {
    let shelf = Shelf::new();
    let known = json!({"source": HUB, "digest": shelf.digest(HUB)});
    let moved = json!({"source": CNI, "digest": OTHER, "platforms": [
        {"platform": "linux/s390x", "digest": OTHER, "bytes": 1}]});
    let path = shelf.pins(&[known, moved]);
    let pin = || shelf.program("pin").args(&[&path, "--platforms", "--retries", "0"]);
    let read = |source: &str| {
        let pins = Pins::read(path.as_ref()).unwrap();
        let pin = pins.get(&source.parse().unwrap()).expect("a record").clone();
        (pin.digest.expect("a digest").to_string(), pin.platforms.len())
    };
    let etcd = "registry.k8s.io/etcd:3.99.0-0";
    let pause = "registry.k8s.io/pause:3.99";
    for repository in ["etcd", "acme/hub", "acme/cni"] {
        shelf.source.fault(on(Op::ManifestGet).repo(repository).then(Fault::Status(503)));
    }
    // Of a digest that is not there under itself nothing is recorded.
    shelf.source.fault(on(Op::ManifestGet).repo("pause").then(Fault::Status(404)));
    let ended = pin().args(&["-o", "json"]).run().expect(1);
    let pinned = ended.report();
    let sums = ["new", "kept", "moved", "missing", "failed", "gone", "platforms_unknown"];
    assert_eq!(numbers(&pinned, &sums), [7, 1, 1, 0, 1, 1, 3], "{pinned}");
    assert_eq!([etcd, HUB, CNI].map(|source| result(&pinned, source)), ["new", "kept", "moved"]);
    for source in [etcd, HUB, CNI] {
        assert_eq!(read(source), (shelf.digest(source), 0));
        let line = &by_source(&pinned)[source];
        assert_eq!((&line["platforms_unknown"], &line["may_pass"]), (&json!(true), &json!(true)), "{line}");
    }
    assert_eq!(result(&pinned, pause), "failed");
    assert_eq!(Pins::read(path.as_ref()).unwrap().get(&pause.parse().unwrap()), None);

    let ended = pin().run().expect(1);
    for told in [
        format!("kept      {CNI}: without its platforms: GET manifest acme/cni@"),
        "11 images: 0 new, 9 kept, 1 failed, 1 gone as the catalog says, 3 without their platforms\n"
            .to_owned(),
    ] {
        assert!(ended.stdout.contains(&told), "{told}\n{ended:?}");
    }
    shelf.source.clear_faults();
    let pinned = pin().args(&["-o", "json"]).run().expect(0).report();
    assert_eq!(numbers(&pinned, &sums), [1, 6, 0, 0, 0, 1, 0], "{pinned}");
    assert_eq!(pinned["completed"], 3);
    assert_eq!(read(CNI), (shelf.digest(CNI), 2));
}

#[test]
fn records_of_images_that_have_left_the_catalog_go_when_that_is_asked_for() {
    let shelf = Shelf::new();
    let left = "quay.io/acme/left:v1";
    let old = json!({"source": shelf.old(), "digest": OTHER});
    let path = shelf.pins(&[json!({"source": left, "digest": OTHER}), old]);
    let pin =
        |more: &[&str]| shelf.program("pin").args(&[&path, "-o", "json", "--retries", "0"]).args(more).run();
    let has = |source: &str| Pins::read(path.as_ref()).unwrap().get(&source.parse().unwrap()).is_some();
    assert_eq!(numbers(&pin(&[]).expect(0).report(), &["new", "pruned"]), [10, 0]);
    assert!(has(left));
    // What a part of the catalog does not have may be of another part.
    let refused = pin(&["--prune", "--kubeone-version", "1.18"]).expect(2);
    assert!(refused.stderr.contains("'--prune' cannot be used with '--kubeone-version"), "{refused:?}");

    // Whoever does not answer, or is missing, is of the catalog all the same.
    shelf.source.fault(on(Op::ManifestHead).repo("acme/cni").then(Fault::Status(503)));
    shelf.source.delete_tag("pause", "3.99");
    let pinned = pin(&["--prune"]).expect(1).report();
    let sums = ["kept", "missing", "failed", "gone", "pruned"];
    assert_eq!(numbers(&pinned, &sums), [8, 1, 1, 1, 1], "{pinned}");
    assert_eq!(result(&pinned, left), "pruned");
    assert!(!has(left));
    for kept in [CNI, "registry.k8s.io/pause:3.99", &shelf.old()] {
        assert!(has(kept), "{kept}");
    }

    // A new file begins with the program's own records.
    shelf.source.clear_faults();
    let printed = shelf.program("pin").args(&["--prune"]).run().expect(1);
    let told = "WARN pruned    quay.io/cilium/cilium:";
    assert!(printed.stderr.contains(told) && !printed.stdout.contains("cilium"), "{printed:?}");
}
