//! Mounts between repositories of the target: who refuses them, who only says that they went well, and what they cost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::program::Ended;
use crate::scene::{Scene, parameter, puts_of};
use crate::stage::{EVERYTHING, Stage};
use crate::support::content::SetOptions;
use crate::support::fault::{Cut, Rule};
use crate::support::journal::Entry;
use crate::support::net::call::Call;
use crate::support::{Auth, Blob, Fault, Image, Kind, Net, Op, on};

fn base() -> Blob {
    Blob::generated(77, 50_000)
}

/// Images in repositories of their own that share a layer.
fn sharing(count: u64) -> Vec<(&'static str, Image)> {
    let image = |n: u64| {
        let reference: &'static str = format!("quay.io/sharing/n{n}:1").leak();
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        (reference, Image::single(Kind::Oci, config, vec![base(), Blob::generated(300 + n, 2_000)]))
    };
    (0..count).map(image).collect()
}

/// Offers of mounts from one repository into another.
fn between() -> Rule {
    on(Op::Mount).when(|call: &Call| call.param("from").as_ref() != Some(&call.repository))
}

fn offers(scene: &Scene) -> Vec<Entry> {
    let mounts = scene.journal().of("target", Op::Mount).into_iter();
    mounts.filter(|mount| parameter(mount, "from").as_ref() != Some(&mount.repository)).collect()
}

#[test]
fn a_repository_that_answers_mounts_with_an_error_ends_those_of_no_other() {
    for (status, name) in [(403, "sharing/n0"), (404, "sharing/n5"), (404, "sharing/n0"), (403, "sharing/n5")]
    {
        let scene = Scene::new(&sharing(12));
        scene.target.fault(on(Op::Mount).repo(name).then(Fault::Status(status)));
        scene.run().done();
        let puts = puts_of(scene.journal(), &base().digest).len();
        let dump = || scene.journal().dump();
        assert!(puts <= 2, "{status} of {name}: {puts} uploads of what eleven could be given\n{}", dump());
        let refused = scene.journal().filter(|e| e.op == Op::Mount && e.status == Some(status));
        assert!(refused.len() <= 3, "{status} of {name}: {} refused\n{}", refused.len(), dump());
    }
}

#[test]
fn a_repository_that_nothing_is_mounted_from_gives_way_to_another_that_has_the_blob() {
    let scene = Scene::new(&sharing(12)).flag("-p1");
    scene.target.fault(
        on(Op::Mount)
            .when(|call: &Call| {
                call.param("from").as_deref() == Some("sharing/n0") && call.repository != "sharing/n0"
            })
            .then(Fault::Status(403)),
    );
    scene.run().done();
    let puts = puts_of(scene.journal(), &base().digest).len();
    assert!(puts <= 4, "{puts} uploads\n{}", scene.journal().dump());
}

#[test]
fn a_host_where_no_mount_goes_well_is_offered_three_however_it_refuses() {
    for status in [202, 401, 403, 404, 500] {
        let scene = Scene::new(&sharing(12));
        scene.target.fault(between().then(Fault::Status(status)));
        scene.run().done();
        assert!(offers(&scene).len() <= 3, "{status}\n{}", scene.journal().dump());
    }
}

#[test]
fn a_host_that_is_away_for_a_while_has_blobs_mounted_afterwards() {
    let scene = Scene::new(&sharing(12));
    // More offers than it takes to make none any more, and with each the upload that would do without.
    for op in [between(), on(Op::UploadStart)] {
        scene.target.fault(op.times(4).then(Fault::HangUp(Cut::Rst)));
    }
    let run = scene.run().done();
    assert_eq!(run.report.totals.blobs_mounted, 11, "{}", scene.journal().dump());
}

#[test]
fn mounts_that_are_none_are_found_out_where_manifests_are_taken_unseen() {
    let digest = base().digest;
    let lies = [
        between().then(Fault::Status(201)),
        between().then(Fault::ForgetBlob),
        // After a few true ones, and in no proper form.
        between().after(3).then(Fault::Status(201)),
        between().after(3).then(Fault::Status(201).header("Docker-Content-Digest", "sha256:00")),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let scene = Scene::new(&sharing(8));
        scene.target.take_unverified_manifests();
        scene.target.fault(lie);
        let run = scene.run().done();
        assert_eq!(run.report.copied, 8);
        let offered = offers(&scene).len();
        assert!(n >= 2 || offered == 1, "{offered} offers after the first lie\n{}", scene.journal().dump());
        assert!(puts_of(scene.journal(), &digest).len() >= 2);
    }
}

#[test]
fn a_manifest_that_is_refused_for_lack_of_a_mounted_blob_ends_all_mounts() {
    let nothing_named = Fault::SwapBody {
        content_type: "application/json",
        body: r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#.into(),
    };
    for answer in [None, Some(nothing_named)] {
        let scene = Scene::new(&sharing(12));
        // The first ones are true, and so trusted; those after them are lies in proper form.
        scene.target.fault(between().after(2).then(Fault::ForgetBlob));
        answer.into_iter().for_each(|answer| _ = scene.target.fault(on(Op::ManifestPut).then(answer)));
        // Half of the images come once a lie was found out, and the blob sent again for that.
        let found_out = Arc::new(AtomicBool::new(false));
        let (seen, find_out) = (found_out.clone(), found_out);
        let find_out = Fault::Run(Arc::new(move |_| find_out.store(true, Ordering::SeqCst)));
        scene.target.fault(on(Op::UploadPut).digest(&base().digest).nth(2).then(find_out));
        let is_late = |call: &Call| call.repository[9..].parse::<u32>().is_ok_and(|n| n >= 6);
        let late = on(Op::ManifestGet).when(is_late).when(move |_| !seen.load(Ordering::SeqCst));
        scene.source.fault(late.then(Fault::Status(503)));
        scene.run().done();
        assert_eq!(offers(&scene).len(), 2 + 3, "{}", scene.journal().dump());
        let puts = puts_of(scene.journal(), &base().digest).len();
        assert_eq!(puts, 1 + 3 + 6, "{}", scene.journal().dump());
    }
}

#[test]
fn a_mount_is_looked_at_once_and_no_more() {
    let scene = Scene::new(&sharing(12));
    let run = scene.run().done();
    assert_eq!(run.report.totals.blobs_mounted, 11);
    assert_eq!(scene.journal().count("target", Op::BlobHead), 1, "{}", scene.journal().dump());
}

#[test]
fn blobs_go_on_while_the_others_wait_for_what_the_first_mount_shows() {
    let scene = Scene::new(&sharing(40)).flag("-p1").budget(Duration::from_secs(180));
    // The base layer once, and two blobs of each image.
    let left = Arc::new(AtomicUsize::new(1 + 2 * 40));
    let (counted, held) = (left.clone(), left.clone());
    scene.target.fault(on(Op::UploadPut).then(Fault::Run(Arc::new(move |_| {
        counted.fetch_sub(1, Ordering::SeqCst);
    }))));
    let began = Instant::now();
    let is_over = move || held.load(Ordering::SeqCst) == 0 || began.elapsed() > Duration::from_secs(60);
    scene.target.fault(between().then(Fault::HoldHeaders(Arc::new(is_over))));
    scene.run_with(|policy| policy.timing.answer = Duration::from_secs(120)).done();
    let shown = offers(&scene).iter().filter_map(|mount| mount.done).min().expect("one went well");
    let late = scene.journal().filter(|e| e.op == Op::UploadPut && e.at > shown);
    assert!(late.is_empty(), "{} blobs came after it\n{}", late.len(), scene.journal().dump());
}

#[test]
fn a_login_that_may_not_look_at_blobs_has_them_mounted_all_the_same() {
    for status in [403, 405, 500] {
        let scene = Scene::new(&sharing(12)).retries(1);
        scene.target.fault(on(Op::BlobHead).or(Op::BlobGet).then(Fault::Status(status)));
        let report = scene.run().done().report;
        assert_eq!(report.totals.blobs_mounted, 11, "{status}: {report}");
        let looks =
            scene.journal().filter(|e| e.host == "target" && matches!(e.op, Op::BlobHead | Op::BlobGet));
        assert!(looks.len() <= 6, "{status}: {} looks", looks.len());
    }
}

/// All images to a target with tokens, whose service answers as `rule` says where it applies.
fn with_tokens(rule: Option<Rule>) -> (Stage, Ended) {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
    rule.into_iter().for_each(|rule| _ = tokens.fault(rule));
    let options = SetOptions::default();
    let stage = Stage::on(net, EVERYTHING, &options, |source| source, |t| t.auth(Auth::Token(tokens)));
    let run = stage.program().args(&["-o", "json"]).login(&stage.target.host(), "u", "p").run().expect(1);
    assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    (stage, run)
}

/// The scopes that a token was asked for.
fn scopes(entry: &Entry) -> Vec<String> {
    let query = entry.query.as_deref().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.filter(|(key, _)| key == "scope").map(|(_, value)| value.into_owned()).collect()
}

#[test]
fn a_repository_asks_for_one_token_for_all_that_is_mounted_into_it() {
    let (stage, run) = with_tokens(None);
    let repositories: BTreeSet<&String> = stage.lines.iter().map(|line| &line.to.0).collect();
    let asked = stage.net.journal().of("auth", Op::Token);
    // One for the question what is there, and one for the mounts; a few more where an image turns up late.
    let most = repositories.len() + stage.wanted_repositories().len() + 5;
    let mounts = run.number("blobs_mounted");
    assert!(asked.len() <= most, "{} tokens for {mounts} mounts, not {most}", asked.len());
    assert!(asked.iter().all(|entry| scopes(entry).len() <= 1 + 16), "a token travels in a header");
}

#[test]
fn a_token_service_that_gives_none_for_many_repositories_at_once_is_asked_for_each() {
    let is_union = |call: &Call| call.params().into_iter().filter(|(key, _)| key == "scope").count() > 2;
    let (_, good) = with_tokens(None);
    let refusal = Fault::Status(403).error("DENIED", "access forbidden");
    let (stage, run) = with_tokens(Some(on(Op::Token).when(is_union).then(refusal)));
    assert_eq!(run.number("blobs_mounted"), good.number("blobs_mounted"), "{}", stage.net.journal().dump());
}
