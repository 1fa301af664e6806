//! The registry against real programs, and the helpers that start them.

use crate::support::content::{SetOptions, load, mirror_set, odd_shapes};
use crate::support::process::{DockerRegistry, Setup, require, skopeo, skopeo_inspect_raw};
use crate::support::reader::{Depth, Reader};
use crate::support::{Content, Net};

use super::content::references;

#[tokio::test]
async fn skopeo_copies_from_one_to_the_other() {
    if !require("skopeo") {
        return;
    }
    let net = Net::new();
    let content = mirror_set(&references(6), &SetOptions::default());
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let reader = Reader::new(net.client(), &target.url());
    for (repository, tag, digest) in content.tags() {
        let from = format!("docker://{}/{repository}:{tag}", source.host());
        let to = format!("docker://{}/{repository}:{tag}", target.host());
        let plain = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        skopeo(&["copy", "--all", "--preserve-digests", plain[0], plain[1], &from, &to]).unwrap();
        let tree = reader.read(repository, tag, Depth::Bytes).await.unwrap();
        assert_eq!(tree.root, *digest);
        let raw = skopeo_inspect_raw(&format!("{}/{repository}:{tag}", target.host())).unwrap();
        assert_eq!(raw, content.manifests[digest].bytes);
    }
    net.journal().assert_tag_last("target");
}

#[tokio::test]
async fn docker_registry_takes_the_content_and_keeps_it_over_a_restart() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let mut content = mirror_set(&references(3), &SetOptions::default());
    let shapes = odd_shapes();
    for shape in shapes.iter().filter(|shape| shape.distribution_takes_it) {
        content.add("shapes", shape.name, &shape.image);
    }
    let mut registry = DockerRegistry::start(&Setup::default()).unwrap();
    load(&content, &net.client(), &registry.url(), None).await.unwrap();
    registry.restart().unwrap();
    let reader = Reader::new(net.client(), &registry.url());
    for (repository, tag, digest) in content.tags() {
        let tree = reader.read(repository, tag, Depth::Bytes).await.unwrap();
        assert_eq!(tree.root, *digest, "{tag}");
    }
    assert!(registry.count("PUT", "/manifests/") > 30);
    assert!(registry.blob_file(content.blobs.keys().next().unwrap()).exists());
}

#[tokio::test]
async fn docker_registry_refuses_what_is_said_to_be_refused() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    for shape in odd_shapes().iter().filter(|shape| !shape.distribution_takes_it) {
        let mut content = Content::new();
        content.add("shapes", shape.name, &shape.image);
        assert!(load(&content, &net.client(), &registry.url(), None).await.is_err());
    }
}

#[tokio::test]
async fn docker_registry_speaks_tls_and_asks_for_a_login() {
    if !require("docker-registry") || !require("htpasswd") {
        return;
    }
    let net = Net::new();
    let identity = net.ca().issue(&["127.0.0.1".to_owned()]);
    let setup = Setup { tls: Some(&identity), htpasswd: Some(("u", "p")), ..Setup::default() };
    let registry = DockerRegistry::start(&setup).unwrap();
    let content = mirror_set(&references(1), &SetOptions::default());
    let (client, url) = (net.client(), registry.url());
    assert!(load(&content, &client, &url, None).await.is_err());
    load(&content, &client, &url, Some(("u", "p"))).await.unwrap();
}

#[tokio::test]
async fn docker_registry_can_be_read_only() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let setup = Setup { read_only: true, ..Setup::default() };
    let registry = DockerRegistry::start(&setup).unwrap();
    let content = mirror_set(&references(1), &SetOptions::default());
    let error = load(&content, &net.client(), &registry.url(), None).await.unwrap_err();
    assert!(error.to_string().contains("405"), "{error}");
}
