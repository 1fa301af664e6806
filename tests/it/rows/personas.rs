//! F: registries of the world, each with what it is known for.

use std::time::Duration;

use crate::scene::{Run, Scene, parameter, statuses};
use crate::support::fault::persona;
use crate::support::registry::Auth;
use crate::support::{Blob, Fault, Image, Kind, Net, Op, Rule, on};

/// Three images that share a layer; one of them is large enough for limits to matter.
fn three() -> Vec<(&'static str, Image)> {
    sized(6 << 20)
}

fn sized(largest: u64) -> Vec<(&'static str, Image)> {
    let base = Blob::generated(800, 30_000);
    let image = |n: u64, size: u64| {
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        Image::single(Kind::Oci, config, vec![base.clone(), Blob::generated(810 + n, size)])
    };
    vec![
        ("docker.io/team/one:1", image(1, 9_000)),
        ("docker.io/team/two:1", image(2, 2_000_000)),
        ("docker.io/team/three:1", image(3, largest)),
    ]
}

/// As a target, with these rules.
fn at_target(images: &[(&'static str, Image)], rules: Vec<Rule>) -> (Scene, Run) {
    let scene = Scene::with(Net::new(), images, |s| s, |t| t.rules(rules));
    let run = scene.run();
    (scene, run)
}

#[test]
fn f01_ecr_takes_three_images_into_repositories_that_exist() {
    let net = Net::new();
    let storage = net.cdn("s3");
    let existing = ["team/one", "team/two", "team/three"];
    let rules = persona::ecr(&existing, &storage);
    let scene = Scene::with(net, &three(), |s| s, |t| t.rules(rules).auth(Auth::basic("AWS", "secret")));
    let busy = Fault::Status(429).error("TOOMANYREQUESTS", "Rate exceeded");
    scene.target.fault(on(Op::ManifestPut).times(2).then(busy));
    let host = scene.target.host();
    scene.login(&host, "AWS", "secret").run().done();
}

#[test]
fn f01_ecr_says_which_repositories_have_to_be_made_and_how() {
    let net = Net::new();
    let storage = net.cdn("s3");
    let rules = persona::ecr(&["team/one"], &storage);
    let scene = Scene::with(net, &three(), |s| s, |t| t.rules(rules));
    let run = scene.run();
    assert_eq!((run.report.copied, run.report.failed), (1, 2), "{}", run.report);
    for name in ["team/two", "team/three"] {
        let cause = run.cause(name);
        let command = format!("aws ecr create-repository --repository-name {name}");
        assert!(cause.contains("NAME_UNKNOWN") && cause.contains(&command), "{cause}");
    }
    let sent = scene.journal().filter(|e| e.op == Op::UploadPut && e.repository != "team/one");
    assert!(sent.is_empty(), "{}", scene.journal().dump());
}

#[test]
fn f01_ecr_as_a_source_sends_blobs_from_its_storage() {
    let net = Net::new();
    let storage = net.cdn("s3");
    let rules = persona::ecr(&[], &storage);
    let scene = Scene::with(net, &three(), |s| s.rules(rules).auth(Auth::basic("AWS", "secret")), |t| t);
    let host = scene.source.host();
    let scene = scene.login(&host, "AWS", "secret");
    scene.run().done();
    assert_eq!(scene.journal().count("s3", Op::BlobGet), scene.content.blobs.len());
}

#[test]
fn f02_ghcr_takes_three_images_whole() {
    let (scene, run) = at_target(&three(), persona::ghcr());
    run.done();
    assert_eq!(scene.journal().count("target", Op::UploadPatch), 0);
}

#[test]
fn f03_docker_hub_is_pulled_from_by_its_other_name_with_a_token_and_a_quota() {
    let net = Net::new();
    let cdn = net.cdn("cdn");
    let tokens = net.token_service("auth").anonymous_pull().start();
    tokens.fault(on(Op::Token).nth(1).then(Fault::Status(429).body("text/plain", "slow down")));
    let rules = persona::docker_hub(&cdn);
    let mut images = three();
    images.push(("docker.io/library/alpine:3", Image::generated(Kind::Docker, 5, &[900])));
    let scene = Scene::with(net, &images, |s| s.rules(rules).auth(Auth::Token(tokens)), |t| t);
    scene.run().done();
    assert_eq!(scene.journal().count("cdn", Op::BlobGet), scene.content.blobs.len());
    let asked = scene.journal().of("auth", Op::Token);
    let scopes: Vec<String> = asked.iter().filter_map(|e| parameter(e, "scope")).collect();
    assert!(scopes.contains(&"repository:library/alpine:pull".to_owned()), "{scopes:?}");
    scene.journal().clear();
    // What counts against the quota is a GET: there is none.
    scene.run().done();
    assert_eq!(scene.journal().count("source", Op::ManifestGet), 0);
}

#[test]
fn f04_quay_is_pulled_from_through_its_bursts_of_errors() {
    let net = Net::new();
    let cdn = net.cdn("cdn");
    let rules = persona::quay(&cdn);
    Scene::with(net, &three(), |s| s.rules(rules), |t| t).run().done();
    let (scene, run) = at_target(&three(), {
        vec![on(Op::Mount).when(|call| call.param("from").is_none()).then(Fault::Status(400))]
    });
    run.done();
    assert!(statuses(scene.journal(), "target", Op::Mount).iter().all(|status| *status != 400));
}

#[test]
fn f05_harbor_takes_three_images_into_a_project_through_its_proxy() {
    // A limit of 5 MiB, below the largest layer.
    let (scene, run) = at_target(&three(), persona::harbor(&["team"], 5 << 20));
    run.done();
    let large = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
    assert!(large.len() >= 2, "{}", scene.journal().dump());
}

#[test]
fn f05_harbor_without_the_project_says_that_it_has_to_be_made() {
    let (scene, run) = at_target(&three(), persona::harbor(&["other"], 5 << 20));
    assert_eq!(run.report.failed, 3, "{}", run.report);
    let cause = run.cause("team/one");
    assert!(cause.contains("project"), "{cause}");
    assert_eq!(scene.journal().count("target", Op::UploadPut), 0);
}

#[test]
fn f05_harbor_that_is_full_says_so() {
    let quota = Fault::Status(412).error(
        "PRECONDITION",
        "adding 5 MiB of storage resource, which will exceed the configured upper limit",
    );
    let (_, run) = at_target(&three(), vec![on(Op::UploadPut).repo("team/two").then(quota)]);
    let cause = run.failed_alone("team/two");
    assert!(cause.contains("exceed the configured upper limit"), "{cause}");
}

#[test]
fn f06_artifactory_takes_three_images_in_pieces_and_loses_some() {
    let (scene, run) = at_target(&three(), persona::artifactory());
    run.done();
    let wholes = scene.journal().filter(|e| e.op == Op::UploadPut && e.read > 0);
    assert!(wholes.len() <= 2 * scene.content.blobs.len(), "{}", scene.journal().dump());
    assert!(scene.journal().count("target", Op::UploadPatch) > 0);
    // What is found out once is known to the end of the run.
    let last = scene.journal().of("target", Op::UploadPut).pop().expect("some blob came last");
    assert_eq!((last.read, last.status), (0, Some(201)));
}

#[test]
fn f07_nexus_is_pushed_to_though_it_stumbles_over_shared_layers() {
    let (_, run) = at_target(&three(), persona::nexus());
    run.done();
}

#[test]
fn f08_gitlab_with_short_tokens_from_another_host_takes_three_images() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").lifetime(Duration::from_secs(1)).start();
    let rules = persona::gitlab();
    let scene = Scene::with(net, &three(), |s| s, |t| t.rules(rules).auth(Auth::Token(tokens)));
    scene.target.fault(on(Op::UploadPut).then(Fault::DelayRequest(Duration::from_millis(600))));
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    scene.run().done();
    assert!(scene.journal().count("auth", Op::Token) > 3, "{}", scene.journal().dump());
}

#[test]
fn f15_a_distribution_3_that_insists_on_the_order_of_pieces_takes_three_images() {
    let (scene, run) = at_target(&three(), persona::distribution_3(4 << 20));
    run.done();
    let pieces = scene.journal().filter(|e| e.op == Op::UploadPatch);
    assert!(pieces.len() >= 2 && pieces.iter().all(|e| e.status == Some(202)), "{}", scene.journal().dump());
}

#[test]
fn f09_acr_resets_what_is_too_large_and_storage_sees_no_credentials() {
    let net = Net::new();
    let storage = net.cdn("storage");
    let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
    let rules = persona::acr(&storage);
    let images = sized(24 << 20);
    let auth = Auth::Token(tokens);
    let scene = Scene::with(net, &images, |s| s, |t| t.rules(rules).auth(auth));
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    scene.run().done();
    let chunks = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
    assert!(chunks.len() >= 6, "{}", scene.journal().dump());
}

#[test]
fn f10_google_takes_three_images_without_chunks_and_mounts() {
    let (scene, run) = at_target(&three(), persona::gar());
    run.done();
    assert_eq!(scene.journal().count("target", Op::UploadPatch), 0);
    let long = scene.journal().of("target", Op::UploadPut);
    assert!(long.iter().all(|put| parameter(put, "upload_id").is_some_and(|id| id.len() == 700)));
}

#[test]
fn f12_registry_k8s_io_is_pulled_from_through_redirects_and_bursts() {
    let net = Net::new();
    let bucket = net.cdn("bucket");
    let rules = persona::registry_k8s_io(&bucket);
    let scene = Scene::with(net, &three(), |s| s.rules(rules), |t| t);
    scene.run().done();
    assert!(scene.journal().count("bucket", Op::BlobGet) >= scene.content.blobs.len());
    scene.run().done();
}

#[test]
fn f12_registry_k8s_io_with_one_region_that_refuses_still_delivers() {
    let net = Net::new();
    let bucket = net.cdn("bucket");
    let refusal = Fault::Status(403).body("application/xml", "<Error><Code>AccessDenied</Code></Error>");
    bucket.fault(on(Op::BlobGet).every(4).then(refusal));
    let busy = Fault::Status(429).html("<html>429</html>");
    let rules = persona::registry_k8s_io(&bucket);
    let scene = Scene::with(net, &three(), |s| s.rules(rules), |t| t);
    scene.source.fault(on(Op::ManifestGet).nth(2).then(busy));
    scene.run().done();
}

#[test]
fn f13_a_registry_without_digests_in_its_headers_is_read_by_its_bytes() {
    let rules = || {
        vec![
            on(Op::ManifestHead)
                .or(Op::ManifestGet)
                .or(Op::ManifestPut)
                .then(Fault::RemoveHeader("docker-content-digest")),
        ]
    };
    let scene = Scene::with(Net::new(), &three(), |s| s.rules(rules()), |t| t.rules(rules()));
    scene.run().done();
    assert_eq!(scene.run().done().report.present, 3);
}
