//! The registry against real programs, and the helpers that start them.

use crate::support::content::{SetOptions, load, mirror_set, odd_shapes};
use crate::support::process::{DockerRegistry, Setup, require, skopeo, skopeo_inspect_raw};
use crate::support::reader::{Depth, Reader};
use crate::support::{Content, Image, Kind, Net};

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

#[tokio::test]
async fn docker_registry_accepts_signed_tokens_until_they_run_out() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").signed().start();
    let realm = tokens.realm();
    let setup = Setup { token: Some(tokens.setup(&realm, "real")), ..Setup::default() };
    let registry = DockerRegistry::start(&setup).unwrap();
    let client = net.client();
    let upload = format!("{}/v2/a/b/blobs/uploads/", registry.url());
    let refused = client.post(&upload).send().await.unwrap();
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().contains(&realm));
    let push = async || {
        let url = format!("{realm}?service=real&scope=repository:a/b:pull,push");
        let answer = client.get(url).header("Authorization", "Basic dTpw").send().await.unwrap();
        let value: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        format!("Bearer {}", value["token"].as_str().unwrap())
    };
    let bearer = push().await;
    let post = || client.post(&upload);
    assert_eq!(post().header("Authorization", &bearer).send().await.unwrap().status(), 202);
    tokens.set_lifetime(std::time::Duration::from_secs(1));
    let short = push().await;
    assert_eq!(post().header("Authorization", &short).send().await.unwrap().status(), 202);
    tokio::time::sleep(std::time::Duration::from_millis(2_200)).await;
    let late = post().header("Authorization", &short).send().await.unwrap();
    assert_eq!(late.status(), 401);
}

#[tokio::test]
async fn docker_registry_runs_out_of_room_and_gets_it_back() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let setup = Setup { file_limit: Some(100), ..Setup::default() };
    let mut registry = DockerRegistry::start(&setup).unwrap();
    let mut content = Content::new();
    content.add("a", "v1", &Image::generated(Kind::Oci, 1, &[200_000]));
    let error = load(&content, &net.client(), &registry.url(), None).await.unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    registry.restart_with_room().unwrap();
    load(&content, &net.client(), &registry.url(), None).await.unwrap();
}
