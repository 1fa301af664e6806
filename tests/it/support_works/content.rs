use std::time::Instant;

use crate::support::content::{Blob, SetOptions, load, mirror_set, odd_shapes};
use crate::support::digest::sha256;
use crate::support::reader::{Depth, Reader};
use crate::support::{Keep, Net};

pub(super) fn references(count: usize) -> Vec<(String, String, String)> {
    let host = |n: usize| ["quay.io", "registry.k8s.io", "docker.io"][n % 3].to_owned();
    (0..count).map(|n| (host(n), format!("group/image-{n}"), format!("v1.{n}"))).collect()
}

#[test]
fn a_generated_blob_reads_the_same_from_any_offset() {
    let blob = Blob::generated(7, 300_001);
    let whole = blob.bytes();
    assert_eq!(sha256(&whole), blob.digest);
    for start in [0, 1, 15, 16, 17, 65_535, 65_536, 65_540, 262_144, 300_000] {
        let part: Vec<u8> = blob.chunks(start..blob.size).flatten().collect();
        assert_eq!(part, whole[start as usize..]);
        assert_eq!(blob.read(start..start + 1), whole[start as usize..=start as usize]);
    }
    assert_ne!(Blob::generated(8, 300_001).digest, blob.digest);
}

#[test]
fn a_mirror_set_is_deterministic_and_shares_layers() {
    let start = Instant::now();
    let options = SetOptions::default();
    let one = mirror_set(&references(108), &options);
    eprintln!("108 images, {} bytes: {:?}", one.blob_bytes(), start.elapsed());
    let two = mirror_set(&references(108), &options);
    assert_eq!(one.repositories, two.repositories);
    assert_eq!(one.tags().count(), 108);
    let links: usize = one.repositories.values().map(|r| r.blobs.len()).sum();
    assert!(links > one.blobs.len(), "some blobs are shared");
}

#[test]
fn the_odd_shapes_have_names_and_digests_of_their_own() {
    let shapes = odd_shapes();
    let mut digests: Vec<_> = shapes.iter().map(|shape| shape.image.digest()).collect();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), shapes.len());
}

#[test]
#[ignore = "a measurement: run it in release"]
fn a_large_set_costs_time_but_no_memory() {
    let options = SetOptions { layer_size: 5_000_000..=40_000_000, ..SetOptions::default() };
    let start = Instant::now();
    let content = mirror_set(&references(30), &options);
    eprintln!("{} bytes: {:?}", content.blob_bytes(), start.elapsed());
    eprintln!("{}", peak());
    let net = Net::new();
    // A target that keeps no bytes can still serve what another registry here has.
    let _source = net.registry("source").content(&content).start();
    let target = net.registry("target").keep(Keep::Digests).start();
    let start = Instant::now();
    net.block_on(load(&content, &net.client(), &target.url(), None)).unwrap();
    eprintln!("{} bytes pushed: {:?}", net.journal().bytes_read("target"), start.elapsed());
    eprintln!("{}", peak());
    let start = Instant::now();
    let reader = Reader::new(net.client(), &target.url());
    for (repository, tag, _) in content.tags() {
        net.block_on(reader.read(repository, tag, Depth::Bytes)).unwrap();
    }
    eprintln!("{} bytes read: {:?}", net.journal().bytes_written("target"), start.elapsed());
    eprintln!("{}", peak());
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("").to_owned()
}
