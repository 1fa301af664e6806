//! How many requests and bytes a run costs, counted by the hosts that answer them.

use std::collections::{BTreeMap, BTreeSet};

use crate::stage::{ALWAYS, CONTROL_PLANE, EVERYTHING, Stage};
use crate::support::content::SetOptions;
use crate::support::journal::{Entry, Journal};
use crate::support::net::call::Call;
use crate::support::registry::{Auth, RegistryBuilder};
use crate::support::{Content, Fault, Image, Kind, Net, Op, on};

type Tally = BTreeMap<Op, usize>;

/// Requests by kind. A mount from the repository itself is the question whether the blob is there.
fn tally(journal: &Journal, host: &str) -> Tally {
    let mut tally = Tally::new();
    for entry in journal.filter(|entry| entry.host == host) {
        let op = if entry.is_question() { Op::UploadStart } else { entry.op };
        *tally.entry(op).or_default() += 1;
    }
    tally
}

fn is_mount(entry: &Entry) -> bool {
    entry.op == Op::Mount && !entry.is_question()
}

fn tally_of(expected: &[(Op, usize)]) -> Tally {
    expected.iter().copied().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn a_fresh_target_costs_exactly_the_requests_that_the_plan_needs() {
    let stage = Stage::new(EVERYTHING);
    stage.run().expect(1);
    let journal = stage.net.journal();
    let wanted = stage.wanted_repositories();
    let pairs: usize = wanted.values().map(|repository| repository.blobs.len()).sum();
    let blobs: BTreeSet<&String> = wanted.values().flat_map(|repository| &repository.blobs).collect();
    let manifests: usize = wanted.values().map(|repository| repository.manifests.len()).sum();
    let same = |tags: &BTreeMap<String, String>| tags.len() - tags.values().collect::<BTreeSet<_>>().len();
    let extra_tags: usize = wanted.values().map(|repository| same(&repository.tags)).sum();
    let target = tally_of(&[
        (Op::ManifestHead, 109),
        (Op::UploadStart, blobs.len()),
        (Op::UploadPut, blobs.len()),
        (Op::Mount, pairs - blobs.len()),
        // The first mount is looked at.
        (Op::BlobHead, 1),
        (Op::ManifestPut, manifests + extra_tags),
    ]);
    assert_eq!(tally(journal, "target"), target);

    let sources: BTreeSet<&str> = stage.good_lines().map(|line| line.repository.as_str()).collect();
    let at_source = sources.iter().map(|name| &stage.content.repositories[*name].manifests);
    let manifests: Vec<&String> = at_source.flatten().collect();
    // Seven pins are asked for in vain.
    let source = tally_of(&[(Op::ManifestGet, manifests.len() + 7), (Op::BlobGet, blobs.len())]);
    assert_eq!(tally(journal, "source"), source);

    let of_blobs: u64 = blobs.iter().map(|digest| stage.content.blobs[*digest].size).sum();
    let of_manifests: usize =
        manifests.iter().map(|digest| stage.content.manifests[*digest].bytes.len()).sum();
    let served = journal.filter(|entry| entry.host == "source" && entry.succeeded());
    let bytes: u64 = served.iter().map(|entry| entry.written).sum();
    assert_eq!(bytes, of_blobs + of_manifests as u64);
    journal.assert_tag_last("target");
    stage.assert_mirrored();
}

#[test]
fn a_second_run_asks_each_side_once_for_each_name_and_writes_nothing() {
    let stage = Stage::new(ALWAYS);
    stage.run().expect(0);
    stage.net.journal().clear();
    let again = stage.run().expect(0);
    assert_eq!((again.number("present"), again.number("copied"), again.number("bytes_copied")), (16, 0, 0));
    assert_eq!(tally(stage.net.journal(), "target"), tally_of(&[(Op::ManifestHead, 16)]));
    assert_eq!(tally(stage.net.journal(), "source"), tally_of(&[(Op::ManifestHead, 15)]));
    stage.net.journal().assert_read_only();
}

#[test]
fn what_a_target_lost_is_put_back_without_moving_a_blob_that_it_kept() {
    let stage = Stage::new(ALWAYS);
    stage.run().expect(0);
    for name in ["kube-apiserver", "calico/cni"] {
        let tag = stage.lines.iter().find(|line| line.to.0 == name).unwrap().to.1.clone();
        stage.target.delete_tag(name, &tag);
    }
    for digest in &stage.wanted_repositories()["coredns"].manifests {
        stage.target.delete_manifest("coredns", digest);
    }
    stage.net.journal().clear();
    let again = stage.run().expect(0);
    assert_eq!((again.number("copied"), again.number("present"), again.number("bytes_copied")), (3, 13, 0));
    let journal = stage.net.journal();
    assert_eq!(journal.count("source", Op::BlobGet) + journal.count("target", Op::UploadPut), 0);
    stage.assert_mirrored();
}

#[test]
fn two_tags_of_one_image_cost_one_image_and_a_tag() {
    let net = Net::new();
    let image = Image::index(
        Kind::Oci,
        (0..4)
            .map(|n| crate::support::content::Child::plain(Image::generated(Kind::Oci, n, &[9_000])))
            .collect(),
    );
    let mut content = Content::new();
    content.add("library/alpine", "3.23", &image).add("library/alpine", "3", &image);
    let source = net.registry("source").content(&content).start();
    let target = net.registry("target").start();
    let report = crate::stage::mirror_in_process(
        &net,
        &["docker.io/library/alpine:3", "docker.io/library/alpine:3.23"],
        &source.host(),
        &target.host(),
    );
    assert_eq!(report.copied, 2, "{report}");
    let journal = net.journal();
    // The root goes under both tags; what is below it goes once.
    assert_eq!(journal.count("target", Op::ManifestPut), 4 + 2);
    assert_eq!(journal.count("target", Op::UploadPut), content.blobs.len());
    assert_eq!(journal.count("source", Op::BlobGet), content.blobs.len());
    assert_eq!(journal.count("source", Op::ManifestGet), 4 + 2);
}

#[test]
fn a_target_that_ignores_mounts_is_offered_three_and_then_streamed_to() {
    let stage = Stage::with(
        ALWAYS,
        &SetOptions::default(),
        |source| source,
        |target| target.rule(on(Op::Mount).then(Fault::IgnoreMount)),
    );
    stage.run().expect(0);
    assert_streamed_without_mounts(&stage, 3);
}

#[test]
fn a_target_that_answers_mounts_with_an_error_is_streamed_to() {
    for status in [400, 401, 403, 404, 405, 500, 501] {
        let stage = Stage::with(
            ALWAYS,
            &SetOptions::default(),
            |source| source,
            |target| target.rule(on(Op::Mount).then(Fault::Status(status))),
        );
        let run = stage.run();
        assert_eq!(run.code, Some(0), "{status}: {run:?}");
        assert_streamed_without_mounts(&stage, 3);
    }
}

/// Mounts between repositories were offered at most `most` times; what had to be streamed was pulled once for
/// each upload.
#[track_caller]
fn assert_streamed_without_mounts(stage: &Stage, most: usize) {
    let journal = stage.net.journal();
    let mounts = journal.filter(|entry| entry.host == "target" && is_mount(entry));
    assert!(mounts.len() <= most, "{} mounts were offered\n{}", mounts.len(), journal.dump());
    let pairs: usize = stage.wanted_repositories().values().map(|repository| repository.blobs.len()).sum();
    assert_eq!(journal.count("target", Op::UploadPut), pairs);
    assert!(journal.count("source", Op::BlobGet) <= pairs);
    journal.assert_tag_last("target");
    stage.assert_mirrored();
}

#[test]
fn the_session_that_a_refused_mount_opens_is_used_and_not_asked_for_again() {
    // Large enough not to be streamed at once where a mount is expected.
    let options =
        SetOptions { layer_size: 1_100_000..=1_300_000, bases: 2, own_layers: 1, ..SetOptions::default() };
    let rule = on(Op::Mount).then(Fault::IgnoreMount);
    let stage = Stage::with(CONTROL_PLANE, &options, |source| source, |target| target.rule(rule));
    stage.run().expect(0);
    assert_streamed_without_mounts(&stage, 3);
    let journal = stage.net.journal();
    let starts = journal.count("target", Op::Mount) + journal.count("target", Op::UploadStart);
    assert_eq!(starts, journal.count("target", Op::UploadPut), "{}", journal.dump());
    assert_eq!(stage.target.open_sessions(), 0, "no session is left behind");
}

#[test]
fn a_mount_that_no_token_is_good_for_is_given_up_without_a_storm() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").start();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"target\",scope=\"repository:elsewhere:pull\",error=\"insufficient_scope\"",
        tokens.realm()
    );
    let between = |call: &Call| call.param("from").is_some_and(|from| from != call.repository);
    let refusal = Fault::Status(401).header("WWW-Authenticate", &challenge);
    let rule = on(Op::Mount).when(between).then(refusal);
    let target = |target: RegistryBuilder| target.auth(Auth::Token(tokens)).rule(rule);
    let stage = Stage::on(net, ALWAYS, &SetOptions::default(), |source| source, target);
    let run = stage.program().args(&["-o", "json"]).login(&stage.target.host(), "u", "p").run().expect(0);
    assert_eq!((run.number("copied"), run.number("blobs_mounted")), (16, 0));
    let refused = stage.net.journal().filter(|e| e.host == "target" && e.status == Some(401));
    assert!(refused.len() <= 4, "{} refusals\n{}", refused.len(), stage.net.journal().dump());
    stage.net.journal().assert_tag_last("target");
}

#[test]
fn each_token_is_fetched_once_and_each_host_refuses_once() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
    let stage = Stage::on(
        net,
        ALWAYS,
        &SetOptions::default(),
        |source| source.auth(Auth::Token(tokens.clone())),
        |target| target.auth(Auth::Token(tokens.clone())),
    );
    let run = stage.program().args(&["-o", "json"]).login(&stage.target.host(), "u", "p").run().expect(0);
    assert_eq!(run.number("copied"), 16);
    let journal = stage.net.journal();
    let asked: Vec<String> = journal.of("auth", Op::Token).iter().map(|e| e.query.clone().unwrap()).collect();
    let distinct: BTreeSet<&String> = asked.iter().collect();
    assert_eq!(asked.len(), distinct.len(), "a token was asked for twice: {asked:#?}");
    for host in ["source", "target"] {
        let refused = journal.filter(|entry| entry.host == host && entry.status == Some(401));
        assert_eq!(refused.len(), 1, "{host}\n{}", journal.dump());
    }
    journal.assert_tag_last("target");
}
