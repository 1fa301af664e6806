//! Debian's docker-registry as a target in the states that one meets: behind TLS and tokens, damaged, full, gone.

use std::time::Duration;

use crate::set_ups::{mirror_all, wanted};
use crate::stage::{ALWAYS, CONTROL_PLANE, Stage, assert_mirrored};
use crate::support::content::{Content, SetOptions};
use crate::support::nginx::{self, Nginx};
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::{Fault, Image, Kind, Net, Op, on};

#[test]
fn a_docker_registry_behind_tls_is_trusted_by_its_authority() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    let identity = stage.net.ca().issue(&["127.0.0.1".to_owned()]);
    let target = DockerRegistry::start(&Setup { tls: Some(&identity), ..Setup::default() }).unwrap();
    let refused = stage.program_to(&target.host()).run().expect(3);
    assert!(refused.stdout.contains("its certificate is not trusted"), "{}", refused.stdout);
    assert!(refused.stdout.contains("--ca-file"), "{}", refused.stdout);
    let ca = stage.net.ca_file();
    stage.program_to(&target.host()).args(&["--ca-file", ca.to_str().unwrap()]).run().expect(0);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

#[test]
fn a_docker_registry_with_tokens_lets_blobs_be_mounted_between_repositories() {
    if !require("docker-registry") {
        return;
    }
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").signed().start();
    let realm = tokens.realm();
    let setup = Setup { token: Some(tokens.setup(&realm, "real")), ..Setup::default() };
    let target = DockerRegistry::start(&setup).unwrap();
    let stage = Stage::on(net, ALWAYS, &SetOptions::default(), |source| source, |target| target);
    let program = stage.program_to(&target.host()).args(&["-o", "json"]);
    let run = program.login(&target.host(), "u", "p").run().expect(0);
    assert_eq!(run.number("copied"), 16);
    assert!(run.number("blobs_mounted") > 30, "{}", run.stdout);
    std::thread::sleep(Duration::from_millis(100));
    let refused = target.accesses().into_iter().filter(|access| access.status == 401).count();
    assert_eq!(refused, 1, "one challenge teaches all");
}

#[test]
fn a_damaged_blob_at_the_target_is_found_out_and_never_built_upon() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    stage.program_to(&target.host()).run().expect(0);
    // A layer of all images of one base, cut off; a layer of kube-proxy alone, gone. Both tags are gone.
    let wanted = stage.wanted_repositories();
    let users = |digest: &String| wanted.values().filter(|r| r.blobs.contains(digest)).count();
    let size = |digest: &String| stage.content.blobs[digest].size;
    let own = |name: &str| wanted[name].blobs.iter().find(|d| users(d) == 1 && size(d) > 2_000).unwrap();
    let (cut, gone) = (own("etcd"), own("kube-proxy"));
    let file = std::fs::OpenOptions::new().write(true).open(target.blob_file(cut)).unwrap();
    file.set_len(100).unwrap();
    std::fs::remove_file(target.blob_file(gone)).unwrap();
    stage.delete_manifest(&target.url(), "etcd", "3.6.8-0");
    stage.delete_manifest(&target.url(), "kube-proxy", "v1.36.3");

    let run = stage.program_to(&target.host()).args(&["-o", "json"]).run().expect(1);
    let results = run.sources_by_result();
    assert_eq!(results["failed"], ["registry.k8s.io/etcd:3.6.8-0"]);
    assert_eq!(results["copied"], ["registry.k8s.io/kube-proxy:v1.36.3"], "what is gone is sent again");
    let cause = run.report()["images"][4]["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains(cut) && cause.contains("delete it there"), "{cause}");

    std::fs::remove_file(target.blob_file(cut)).unwrap();
    stage.program_to(&target.host()).run().expect(0);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

#[test]
fn a_full_target_keeps_what_fits_and_takes_the_rest_once_there_is_room() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    // Files of at most 51200 bytes: some layers do not fit.
    let mut target = DockerRegistry::start(&Setup { file_limit: Some(100), ..Setup::default() }).unwrap();
    let run = stage.program_to(&target.host()).args(&["--retries", "0"]).run();
    assert!(matches!(run.code, Some(1 | 3)), "{run:?}");
    assert!(run.stdout.contains("500 UNKNOWN"), "{}", run.stdout);
    let reader = crate::support::reader::Reader::new(stage.net.client(), &target.url());
    for ((repository, tag), digest) in &stage.wanted() {
        if let Some(there) = stage.net.block_on(reader.digest_of(repository, tag)) {
            assert_eq!(there, *digest);
            let depth = crate::support::reader::Depth::Bytes;
            stage.net.block_on(reader.read(repository, tag, depth)).expect("a tag that is there is whole");
        }
    }
    target.restart_with_room().unwrap();
    stage.program_to(&target.host()).run().expect(0);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

#[test]
fn a_target_that_restarts_half_way_and_forgets_its_sessions_gets_everything() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(ALWAYS);
    stage.source.fault(on(Op::BlobGet).then(Fault::DelayBody(Duration::from_millis(30))));
    let mut target = DockerRegistry::start(&Setup::default()).unwrap();
    let mut running = stage.program_to(&target.host()).args(&["-p", "1", "-o", "json"]).start();
    running.hear("copied ");
    target.restart().unwrap();
    let ended = running.wait().expect(0);
    assert_eq!(ended.number("copied"), 16);
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

/// As zot does without its compatibility with Docker.
#[test]
fn a_registry_that_takes_oci_types_alone_gets_those_images_and_refuses_the_others_one_by_one() {
    if !require("docker-registry") || !require("nginx") {
        return;
    }
    let http = "map \"$request_method $content_type\" $foreign {\n\
                default 0; \"~^PUT application/vnd\\.docker\\.distribution\\.manifest\" 1; }";
    let server = "client_max_body_size 0; if ($foreign) { return 415; }";
    for parallel in ["1", "10"] {
        let net = Net::new();
        // Those that are refused come first and last.
        let is_oci = |n: u64| (6..20).contains(&n);
        let (mut content, mut oci) = (Content::new(), Content::new());
        for n in 0..30 {
            let name = format!("group/n{n:02}");
            let image =
                Image::generated(if is_oci(n) { Kind::Oci } else { Kind::Docker }, 700 + n, &[20_000]);
            content.add(&name, "1", &image);
            if is_oci(n) {
                oci.add(&name, "1", &image);
            }
        }
        let source = net.registry("source").content(&content).start();
        let registry = DockerRegistry::start(&Setup::default()).unwrap();
        let (to, location) = (registry.addr(), nginx::AS_THEY_ARE);
        let nginx =
            Nginx::start(&nginx::Setup { to, tls: None, client_ca: None, http, server, location }).unwrap();
        let run = mirror_all(&content, &source.url(), &nginx.host(), &["-p", parallel]).expect(1);
        assert_eq!((run.number("copied"), run.number("failed"), run.number("left")), (14, 16, 0));
        assert_mirrored(&net, &registry.url(), &wanted(&oci));
        let report = run.report();
        let failed: Vec<&serde_json::Value> =
            report["images"].as_array().unwrap().iter().filter(|image| image["result"] == "failed").collect();
        for image in &failed {
            let (name, cause) = (image["source"].as_str().unwrap(), image["cause"].as_str().unwrap());
            let number: u64 = name["quay.io/group/n".len()..][..2].parse().unwrap();
            assert!(!is_oci(number), "{image}");
            let path = name.strip_prefix("quay.io/").unwrap();
            assert!(cause.contains("415") && cause.contains(path), "{image}");
            assert!(cause.contains("application/vnd.docker.distribution.manifest.v2+json"), "{image}");
            assert!(cause.contains("let it take Docker's types"), "{image}");
        }
        assert_eq!(failed.len(), 16);
    }
}
