//! The main job against real registries: the whole selection of one Kubernetes version.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::program::{Ended, Program};
use crate::stage::{
    EVERYTHING, Line, assert_mirrored, content_for, lines_of, mirror_flags, mirror_in_process,
};
use crate::support::content::{self, Content, SetOptions};
use crate::support::net::Net;
use crate::support::process::{DockerRegistry, Setup, require, skopeo_inspect_raw};
use crate::support::{Image, Kind};

/// Puts all content into a real registry, several repositories at a time.
fn load(net: &Net, content: &Content, registry: &DockerRegistry) {
    let (client, url) = (net.client(), registry.url());
    let each =
        content.repositories.keys().map(|name| content::load_repository(content, name, &client, &url, None));
    let all = futures_util::stream::iter(each).buffer_unordered(8).collect::<Vec<_>>();
    net.block_on(all).into_iter().collect::<Result<(), _>>().expect("the source takes the content");
}

/// The access log, once it has come to the end of what was asked so far.
fn complete_log(net: &Net, registry: &DockerRegistry) -> Vec<(String, String, u16)> {
    let mark = format!("/v2/mark/manifests/m{}", registry.log().len());
    net.block_on(net.client().get(format!("{}{mark}", registry.url())).send()).expect("it answers");
    let patience = Instant::now() + Duration::from_secs(5);
    while registry.count("GET", &mark) == 0 && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Lines of answers that went out at about the same time.
    std::thread::sleep(Duration::from_millis(100));
    let told = registry.accesses().into_iter().filter(|access| !access.path.contains("/v2/mark/"));
    told.map(|access| (access.method, access.path, access.status)).collect()
}

/// How often each method was used, on manifests and on the rest.
fn tally(log: &[(String, String, u16)]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for (method, path, _) in log {
        let what = if path.contains("/manifests/") { "manifest" } else { "other" };
        *tally.entry(format!("{method} {what}")).or_default() += 1;
    }
    tally
}

fn mirror(lines: &[Line], source: &DockerRegistry, target: &DockerRegistry) -> Ended {
    let flags = mirror_flags(lines, &source.url());
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Program::new(&[&target.host(), "-o", "json"]).args(EVERYTHING).args(&flags).run()
}

#[test]
fn the_whole_selection_goes_from_one_docker_registry_to_another_byte_for_byte() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let lines = lines_of(EVERYTHING);
    let (net, content) =
        (Net::new(), content_for(&lines, &SetOptions { own_layers: 1, ..SetOptions::default() }));
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    load(&net, &content, &source);

    let first = mirror(&lines, &source, &target).expect(1);
    assert_pins_failed_alone(&first, &lines);
    assert_same_bytes_by_skopeo(&lines, &source, &target);
    let unpinned = lines.iter().filter(|line| !line.pinned);
    let wanted = unpinned
        .map(|line| (line.to.clone(), content.digest_of(&line.repository, &line.tag).unwrap().clone()));
    assert_mirrored(&net, &target.url(), &wanted.collect());

    complete_log(&net, &source);
    complete_log(&net, &target);
    source.clear_log();
    target.clear_log();
    let again = mirror(&lines, &source, &target).expect(1);
    assert_eq!((again.number("copied"), again.number("present"), again.number("failed")), (0, 102, 7));
    let expected = BTreeMap::from([("HEAD manifest".to_owned(), 109)]);
    assert_eq!(tally(&complete_log(&net, &target)), expected, "the target is asked for each name, no more");
    // CoreDNS is one reference with two names; what is pinned needs no HEAD, and these pins cannot be had.
    let expected = BTreeMap::from([("HEAD manifest".to_owned(), 101), ("GET manifest".to_owned(), 7)]);
    assert_eq!(
        tally(&complete_log(&net, &source)),
        expected,
        "the source is asked for each reference, no more"
    );
}

/// The catalog's pins name digests that no generated content has.
#[track_caller]
fn assert_pins_failed_alone(run: &Ended, lines: &[Line]) {
    assert_eq!(lines.len(), 109);
    let pinned: Vec<&Line> = lines.iter().filter(|line| line.pinned).collect();
    assert_eq!(pinned.len(), 7);
    let results = run.sources_by_result();
    let failed: Vec<&String> = results["failed"].iter().collect();
    assert_eq!(failed, pinned.iter().map(|line| &line.source).collect::<Vec<_>>());
    assert_eq!(results["copied"].len(), 102);
    assert_eq!(results.len(), 2, "nothing else happened: {:?}", results.keys());
    for line in run.report()["images"].as_array().unwrap().iter().filter(|line| line["result"] == "failed") {
        let cause = line["cause"].as_str().unwrap();
        let digest = line["source"].as_str().unwrap().split_once('@').unwrap().1;
        assert!(cause.contains(digest) && cause.contains("404"), "{cause}");
    }
}

/// By a program that knows nothing of this one, on both sides.
#[track_caller]
fn assert_same_bytes_by_skopeo(lines: &[Line], source: &DockerRegistry, target: &DockerRegistry) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let to = format!("{}/{}:{}", target.host(), line.to.0, line.to.1);
                    if line.pinned {
                        assert!(skopeo_inspect_raw(&to).is_err(), "{to} must not be something else");
                        continue;
                    }
                    let from = format!("{}/{}:{}", source.host(), line.repository, line.tag);
                    assert_eq!(skopeo_inspect_raw(&from).unwrap(), skopeo_inspect_raw(&to).unwrap(), "{to}");
                }
            });
        }
    });
}

#[test]
fn a_pinned_image_goes_under_its_tag_with_exactly_the_pinned_digest() {
    if !require("docker-registry") || !require("skopeo") {
        return;
    }
    let net = Net::new();
    let (pinned, newer) =
        (Image::generated(Kind::Oci, 1, &[5_000]), Image::generated(Kind::Oci, 2, &[5_000]));
    let mut content = Content::new();
    content.add_untagged("cilium/cilium", &pinned).add("cilium/cilium", "v1.19.6", &newer);
    let source = DockerRegistry::start(&Setup::default()).unwrap();
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    load(&net, &content, &source);

    let reference = format!("quay.io/cilium/cilium:v1.19.6@{}", pinned.digest());
    let run = || mirror_in_process(&net, &[&reference], &source.host(), &target.host());

    let report = run();
    assert_eq!((report.copied, report.failed), (1, 0), "{report}");
    let raw = skopeo_inspect_raw(&format!("{}/cilium/cilium:v1.19.6", target.host())).unwrap();
    assert_eq!(raw, pinned.manifest.bytes);
    source.clear_log();
    assert_eq!(run().present, 1);
    assert!(complete_log(&net, &source).is_empty(), "a pin that is there says all");
}
