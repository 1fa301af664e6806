//! What a record tells of an image, and how it gets into a file.

use std::time::{Duration, Instant};

use mirror_images::selection::catalog::Pins;
use serde_json::json;

use super::{CNI, OTHER, Shelf, two_platforms};
use crate::program::Program;
use crate::support::content::Content;
use crate::support::{Fault, Op, on};

#[test]
fn two_that_record_into_one_file_lose_nothing() {
    let shelf = Shelf::new();
    let path = shelf.pins(&[json!({"source": "quay.io/acme/left:v1", "digest": OTHER})]);
    let other = shelf.path("other.yaml");
    let catalog =
        super::CATALOG.replace("SOURCE", &shelf.source.host()).replace("acme/cni:v1", "acme/other:v1");
    std::fs::write(&other, catalog).unwrap();
    let mut content = Content::new();
    content.add("acme/other", "v1", &two_platforms(55));
    shelf.source.add(&content);
    // The first one is slow, and the second one ends before it.
    let slow = Fault::DelayHeaders(Duration::from_secs(4));
    shelf.source.fault(on(Op::ManifestHead).repo("acme/cni").then(slow));
    let first = shelf.program("pin").args(&[&path]).start();
    let patience = Instant::now() + Duration::from_secs(20);
    while !shelf.net.journal().of("source", Op::ManifestHead).iter().any(|head| head.repository == "acme/cni")
    {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut second = vec![path.as_str(), "--platforms", "--prune"];
    let mirrors: Vec<String> =
        shelf.hosts.iter().map(|host| format!("--source-mirror={host}={}", shelf.source.host())).collect();
    second.extend(mirrors.iter().map(String::as_str));
    Program::new(&["catalog", "pin", "--catalog", &other]).args(&second).run().expect(0);
    assert!(Instant::now() < patience);
    first.wait().expect(0);
    let pins = Pins::read(path.as_ref()).unwrap();
    let has = |source: &str| pins.get(&source.parse().unwrap()).cloned();
    assert!(has(CNI).is_some() && has("quay.io/acme/other:v1").is_some());
    assert!(has("quay.io/acme/left:v1").is_none(), "what the second has removed comes back");
    // And of one digest the record stays that tells more.
    assert_eq!(has("registry.k8s.io/pause:3.99").unwrap().platforms.len(), 2);
}

#[test]
fn whoever_writes_records_waits_for_another_to_have_written() {
    let shelf = Shelf::new();
    let path = shelf.pins(&[]);
    let directory = std::fs::File::open(shelf.directory.path()).unwrap();
    directory.lock().unwrap();
    let mut running = shelf.program("pin").args(&[&path]).start();
    let patience = Instant::now() + Duration::from_secs(20);
    while shelf.net.journal().of("source", Op::ManifestHead).iter().filter(|head| head.done.is_some()).count()
        < 10
    {
        assert!(Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.child.try_wait().unwrap().is_none(), "it has not waited");
    // What the other one writes by then is not lost.
    shelf.pins(&[json!({"source": "quay.io/acme/left:v1", "digest": OTHER})]);
    drop(directory);
    running.wait().expect(0);
    let pins = Pins::read(path.as_ref()).unwrap();
    assert!(pins.digest(CNI).is_some() && pins.digest("quay.io/acme/left:v1").is_some());
}
