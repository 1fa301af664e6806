//! The main job against real registries: the whole selection of one Kubernetes version.

use crate::program::Program;
use crate::support::content::{SetOptions, mirror_set};
use crate::support::net::Net;

/// The hosts that the catalog's images come from.
const UPSTREAMS: [&str; 8] = [
    "registry.k8s.io",
    "quay.io",
    "docker.io",
    "ghcr.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "projects.registry.vmware.com",
    "gcr.io",
];

fn mirror_flags(place: &str) -> Vec<String> {
    UPSTREAMS.iter().map(|host| format!("--source-mirror={host}=http://{place}")).collect()
}

#[test]
fn smoke() {
    let dry = Program::new(&["--dry-run", "-o", "json", "-k", "1.36.3", "t:1"]).run().expect(0);
    let pairs: Vec<serde_json::Value> = serde_json::from_str(&dry.stdout).unwrap();
    let references: Vec<String> = pairs.iter().map(|p| p["source"].as_str().unwrap().to_owned()).collect();
    let named: Vec<(String, String, String)> = references
        .iter()
        .map(|r| {
            let r = r.split('@').next().unwrap();
            let (name, tag) = r.rsplit_once(':').unwrap();
            let (host, repository) = name.split_once('/').unwrap();
            (host.to_owned(), repository.to_owned(), tag.to_owned())
        })
        .collect();
    let named: Vec<(&str, &str, &str)> =
        named.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    let net = Net::new();
    let content = mirror_set(&named, &SetOptions::default());
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let run = || {
        Program::new(&["-k", "1.36.3", &target.host()])
            .args(&mirror_flags(&source.host()).iter().map(String::as_str).collect::<Vec<_>>())
            .run()
    };
    let first = run();
    println!("{}\n{}", first.stderr, first.stdout);
    println!("source {} target {}", net.journal().requests("source"), net.journal().requests("target"));
    net.journal().assert_tag_last("target");
    net.journal().assert_each_blob_fetched_once("source");
    let again = run();
    println!("{}", again.stdout);
}
