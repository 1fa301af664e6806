//! What goes wrong, how the program ends then, and what it says.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;

use crate::program::Ended;
use crate::stage::{
    ALWAYS, CONTROL_PLANE, EVERYTHING, Stage, assert_mirrored, closed_port, mirror_in_process,
};
use crate::support::content::SetOptions;
use crate::support::digest::sha256;
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::registry::{Auth, RegistryBuilder};
use crate::support::{Content, Cut, Fault, Image, Kind, Net, Op, on};

const PASSWORD: &str = "pa55word-canary";

#[test]
fn one_missing_image_fails_alone_and_is_named_with_its_target_and_cause() {
    let stage = Stage::new(ALWAYS);
    stage.source.delete_tag("kube-proxy", "v1.36.3");
    let run = stage.program().run().expect(1);
    let line = format!("  registry.k8s.io/kube-proxy:v1.36.3 → {}/kube-proxy:v1.36.3\n", stage.target.host());
    assert!(run.stdout.contains(&line), "{}", run.stdout);
    assert!(run.stdout.contains("404 MANIFEST_UNKNOWN"), "{}", run.stdout);
    assert!(run.stdout.contains("15 copied, 0 already there, 1 failed"), "{}", run.stdout);
    let asked = stage.net.journal().filter(|e| e.host == "source" && e.repository == "kube-proxy");
    assert_eq!(asked.len(), 1, "what does not exist is asked for once");
    assert_eq!(stage.target.digest_of("kube-proxy", "v1.36.3"), None);
    let mut wanted = stage.wanted();
    wanted.remove(&("kube-proxy".to_owned(), "v1.36.3".to_owned()));
    assert_mirrored(&stage.net, &stage.target.url(), &wanted);
}

#[test]
fn a_target_that_is_not_there_is_given_up_soon_and_no_source_is_asked() {
    let stage = Stage::new(EVERYTHING);
    let began = Instant::now();
    let run = stage.program_to(&closed_port()).args(&["--retries", "1"]).run().expect(3);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(run.stdout.contains("cannot connect"), "{}", run.stdout);
    assert_eq!(stage.net.journal().entries().len(), 0);
}

#[test]
fn a_target_that_is_always_busy_is_given_up_after_few_requests() {
    let stage = Stage::new(EVERYTHING);
    stage.target.fault(crate::support::any().then(Fault::Status(503)));
    let began = Instant::now();
    let run = stage.program().args(&["--retries", "1"]).run().expect(3);
    assert!(run.stdout.contains("503"), "{}", run.stdout);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let requests = stage.net.journal().requests("target");
    assert!(requests <= 2 * 109, "{requests} requests: tries must not multiply");
    assert_eq!(stage.net.journal().requests("source"), 0);
}

#[test]
fn a_target_that_wants_a_login_is_left_with_a_hint_how_to_get_one() {
    let options = SetOptions::default();
    let stage =
        Stage::with(EVERYTHING, &options, |source| source, |target| target.auth(Auth::basic("u", PASSWORD)));
    let run = stage.program().run().expect(3);
    let hint = format!("docker login {}", stage.target.host());
    assert!(run.stdout.contains(&hint) && run.stdout.contains("401"), "{}", run.stdout);
    assert_eq!(run.stdout.matches(&hint).count(), 1, "one cause is told once:\n{}", run.stdout);
    assert_eq!(stage.net.journal().requests("source"), 0);
}

#[track_caller]
fn assert_no_secret(run: &Ended) {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("u:{PASSWORD}"));
    for text in [&run.stdout, &run.stderr] {
        assert!(!text.contains("canary") && !text.contains(&pair), "{text}");
    }
}

#[test]
fn a_wrong_password_is_shown_to_four_repositories_and_no_more() {
    let options = SetOptions::default();
    let stage =
        Stage::with(EVERYTHING, &options, |source| source, |target| target.auth(Auth::basic("u", "right")));
    let program = stage.program().args(&["-vvv"]).login(&stage.target.host(), "u", PASSWORD);
    let run = program.run().expect(3);
    assert!(run.stdout.contains("401") && run.stdout.contains("config.json"), "{}", run.stdout);
    let journal = stage.net.journal();
    let shown = journal.filter(|entry| entry.header("authorization").is_some());
    // One of them could be kept from everybody.
    assert_eq!((shown.len(), journal.requests("target")), (4, 5), "{}", journal.dump());
    assert_no_secret(&run);
    assert_eq!(stage.net.journal().requests("source"), 0);
}

#[test]
fn a_token_service_that_refuses_the_password_is_asked_once_for_all_images() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "right").start();
    let options = SetOptions::default();
    let stage =
        Stage::on(net, EVERYTHING, &options, |source| source, |target| target.auth(Auth::Token(tokens)));
    let run = stage.program().args(&["-vvv"]).login(&stage.target.host(), "u", PASSWORD).run().expect(3);
    assert!(run.stdout.contains("the login from") && run.stdout.contains("was refused"), "{}", run.stdout);
    let journal = stage.net.journal();
    assert_eq!((journal.requests("auth"), journal.requests("target")), (1, 1), "{}", journal.dump());
    assert_no_secret(&run);
}

#[test]
fn the_right_password_opens_a_docker_registry() {
    if !require("docker-registry") || !require("htpasswd") {
        return;
    }
    let stage = Stage::new(CONTROL_PLANE);
    let setup = Setup { htpasswd: Some(("u", PASSWORD)), ..Setup::default() };
    let target = DockerRegistry::start(&setup).unwrap();
    let run =
        stage.program_to(&target.host()).args(&["-vvv"]).login(&target.host(), "u", PASSWORD).run().expect(0);
    assert_no_secret(&run);
    assert!(run.stdout.contains("8 copied"), "{}", run.stdout);
    let anonymous = stage.program_to(&target.host()).run().expect(3);
    assert!(anonymous.stdout.contains(&format!("docker login {}", target.host())), "{}", anonymous.stdout);
}

#[test]
fn a_read_only_target_is_given_up_after_few_requests() {
    if !require("docker-registry") {
        return;
    }
    let stage = Stage::new(EVERYTHING);
    let target = DockerRegistry::start(&Setup { read_only: true, ..Setup::default() }).unwrap();
    let run = stage.program_to(&target.host()).run().expect(3);
    assert!(run.stdout.contains("405") && run.stdout.contains("read-only"), "{}", run.stdout);
    let writes = target.accesses().into_iter().filter(|access| access.method != "HEAD").count();
    // Two for each of the repositories until it is suspected, and those that were under way beside them, which are more
    // where answers come late; some hundreds would follow.
    assert!(writes <= 80, "{writes} requests that write");
}

#[test]
fn a_source_that_is_busy_twice_is_asked_a_third_time() {
    let stage = Stage::new(CONTROL_PLANE);
    stage.source.fault(on(Op::ManifestGet).tag("3.10.2").times(2).then(Fault::Status(503)));
    stage.source.fault(on(Op::BlobGet).repo("etcd").times(2).then(Fault::Status(502).html("<html>")));
    stage.run().expect(0);
    let asked = stage.net.journal().filter(|e| e.op == Op::ManifestGet && e.reference == "3.10.2");
    assert_eq!(asked.iter().map(|e| e.status).collect::<Vec<_>>(), [Some(503), Some(503), Some(200)]);
    stage.assert_mirrored();
}

#[test]
fn what_a_registry_says_about_waiting_is_kept_and_is_no_failed_try() {
    let stage = Stage::new(CONTROL_PLANE);
    let wait = || Fault::Status(429).retry_after("1");
    let source = on(Op::ManifestGet).tag("3.10.2").times(1).then(wait());
    let target = on(Op::ManifestPut).repo("pause").times(1).then(wait());
    stage.source.fault(source);
    stage.target.fault(target);
    let run = stage.program().args(&["--retries", "0"]).run().expect(0);
    let second = Duration::from_secs(1);
    for (host, op) in [("source", Op::ManifestGet), ("target", Op::ManifestPut)] {
        let entries = stage.net.journal().of(host, op);
        let limited = entries.iter().find(|entry| entry.status == Some(429)).expect("one was refused");
        let again =
            entries.iter().find(|e| e.path == limited.path && e.seq > limited.seq).expect("asked again");
        assert!(again.at - limited.at >= second, "{host}: {:?}", again.at - limited.at);
        let told = if host == "source" { stage.source.host() } else { stage.target.host() };
        let line = run.stderr.lines().find(|line| line.contains(&told) && line.contains("waiting 1"));
        assert!(line.is_some(), "{}", run.stderr);
    }
    stage.assert_mirrored();
}

/// Two images in two repositories, of which the first has a layer of its own: its size, and the digest of it.
fn two_images(size: u64) -> (Content, String, &'static [&'static str]) {
    let bad = Image::generated(Kind::Oci, 1, &[4_000, size]);
    let layer = bad.blobs[2].digest.clone();
    let mut content = Content::new();
    content.add("group/bad", "1", &bad).add(
        "group/good",
        "1",
        &Image::generated(Kind::Oci, 2, &[4_000, 7_000]),
    );
    (content, layer, &["quay.io/group/bad:1", "quay.io/group/good:1"])
}

#[test]
fn a_layer_that_is_damaged_at_the_source_fails_its_image_alone_and_never_lands() {
    for size in [9_000, 3_000_000] {
        let net = Net::new();
        let (content, layer, references) = two_images(size);
        let source = net.registry("source").content(&content).start();
        source.fault(on(Op::BlobGet).digest(&layer).then(Fault::FlipByte { at: 1_234 }));
        let target = net.registry("target").start();
        let report = mirror_in_process(&net, references, &source.host(), &target.host());
        assert_eq!((report.copied, report.failed), (1, 1), "{report}");
        let cause = report.images[0].cause.clone().unwrap();
        let mut bytes = content.blobs[&layer].bytes().to_vec();
        bytes[1_234] ^= 1;
        assert!(cause.contains(&layer) && cause.contains(&sha256(&bytes)), "{cause}");
        let landed = net.journal().filter(|e| e.digest.as_ref() == Some(&layer) && e.status == Some(201));
        assert!(landed.is_empty(), "{}", net.journal().dump());
        assert_eq!(target.blob_size("group/bad", &layer), None);
        assert_eq!(target.digest_of("group/bad", "1"), None);
        assert_eq!(target.digest_of("group/good", "1").as_ref(), content.digest_of("group/good", "1"));
        let asked = net.journal().filter(|e| e.op == Op::BlobGet && e.reference == layer);
        assert!(asked.len() <= 2, "damage is no reason to pull {} times", asked.len());
    }
}

#[test]
fn a_download_that_breaks_is_continued_where_it_broke_inside_the_same_upload() {
    for how in [Cut::Fin, Cut::Rst] {
        let net = Net::new();
        let (content, layer, references) = two_images(3_000_000);
        let source = net.registry("source").content(&content).start();
        let cut = Fault::CutBody { after: 1_000_000, how };
        source.fault(on(Op::BlobGet).digest(&layer).range(false).then(cut));
        let target = net.registry("target").start();
        let report = mirror_in_process(&net, references, &source.host(), &target.host());
        assert_eq!((report.copied, report.failed), (2, 0), "{report}");
        let journal = net.journal();
        let pulls = journal.filter(|e| e.op == Op::BlobGet && e.reference == layer);
        assert_eq!(pulls.len(), 2, "{}", journal.dump());
        let range = pulls[1].header("range").expect("only the rest is asked for");
        assert!(range.ends_with("-2999999") && range != "bytes=0-2999999", "{range}");
        let starts = journal.of("target", Op::Mount).into_iter().chain(journal.of("target", Op::UploadStart));
        let starts = starts.filter(|e| e.digest.as_ref() == Some(&layer));
        assert_eq!(starts.count(), 1, "{}", journal.dump());
        let puts = journal.filter(|e| e.op == Op::UploadPut && e.digest.as_ref() == Some(&layer));
        assert_eq!(puts.iter().map(|e| e.status).collect::<Vec<_>>(), [Some(201)]);
        assert_eq!(target.incomplete_tags(), Vec::<String>::new());
    }
}

#[test]
fn a_storage_host_that_blobs_are_redirected_to_sees_no_credentials() {
    let net = Net::new();
    let cdn = net.cdn("cdn");
    let tokens = net.token_service("auth").user("u", PASSWORD).start();
    let options = SetOptions::default();
    let redirect = on(Op::BlobGet).then(Fault::redirect(&cdn));
    let source = |source: RegistryBuilder| source.auth(Auth::Token(tokens)).rule(redirect);
    let stage = Stage::on(net, CONTROL_PLANE, &options, source, |target| target);
    let run = stage.program().args(&["-vvv"]).login(&stage.source.host(), "u", PASSWORD).run().expect(0);
    let journal = stage.net.journal();
    let pulled: BTreeSet<String> = journal.of("cdn", Op::BlobGet).into_iter().map(|e| e.reference).collect();
    assert_eq!(pulled.len(), stage.content.blobs.len());
    journal.assert_no_authorization_outside(&["source", "auth"]);
    assert!(!run.stderr.contains("s1gnature"), "a signed address is a credential too:\n{}", run.stderr);
    assert_no_secret(&run);
    stage.assert_mirrored();
}

#[test]
fn a_manifest_that_the_target_refuses_fails_its_image_alone() {
    let stage = Stage::new(CONTROL_PLANE);
    let refusal = Fault::Status(400).error("MANIFEST_INVALID", "not today");
    stage.target.fault(on(Op::ManifestPut).repo("pause").then(refusal));
    let run = stage.run().expect(1);
    assert_eq!(run.sources_by_result()["failed"], ["registry.k8s.io/pause:3.10.2"]);
    assert_eq!(run.number("copied"), 7);
    assert!(run.stdout.contains("MANIFEST_INVALID not today"), "{}", run.stdout);
}

#[test]
fn a_good_login_that_is_not_enough_for_one_repository_serves_all_others() {
    let options = SetOptions::default();
    let target = |target: RegistryBuilder| target.auth(Auth::basic("u", PASSWORD));
    let stage = Stage::with(CONTROL_PLANE, &options, |source| source, target);
    let refusal = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    stage
        .target
        .fault(on(Op::UploadStart).or(Op::Mount).or(Op::ManifestPut).repo("kube-proxy").then(refusal));
    let run =
        stage.program().args(&["-o", "json"]).login(&stage.target.host(), "u", PASSWORD).run().expect(1);
    assert_eq!(run.sources_by_result()["failed"], ["registry.k8s.io/kube-proxy:v1.36.3"]);
    assert_eq!(run.number("copied"), 7);
}
