//! C: uploads and mounts.

use std::time::Duration;

use crate::scene::{Scene, gets_of, own_layer, parameter, place_of, puts_of, statuses, two};
use crate::support::fault::Form;
use crate::support::registry::{Auth, Keep, RegistryBuilder};
use crate::support::{Blob, Cut, Fault, Image, Kind, Net, Op, on};

const SECOND: Duration = Duration::from_secs(1);

/// A scene whose target writes its upload locations in this form.
fn with_locations(form: Form, target: impl FnOnce(RegistryBuilder) -> RegistryBuilder) -> Scene {
    let rule = on(Op::UploadStart).or(Op::Mount).then(Fault::Location(form));
    Scene::with(Net::new(), &two(9_000), |s| s, |t| target(t.rule(rule)))
}

#[test]
fn c01_upload_locations_are_resolved_however_they_are_written() {
    let forms = [
        Form::PathOnly,
        Form::NoLeadingSlash,
        Form::SchemeRelative,
        Form::Scheme("http"),
        Form::ExtraQuery("&x=1&x=2&plus=a+b&slash=%2F&empty=&flag"),
        Form::Fragment,
    ];
    for form in forms {
        let scene = with_locations(form.clone(), |t| t);
        scene.run().done();
        for put in scene.journal().of("target", Op::UploadPut) {
            let query = put.query.clone().unwrap();
            let (given, digest) = query.rsplit_once("&digest=").expect("the digest comes last");
            assert!(given.starts_with("_state=") && given.contains("%3D%3D"), "{query}");
            assert_eq!(given.ends_with("&empty=&flag"), matches!(form, Form::ExtraQuery(_)), "{query}");
            assert!(digest.starts_with("sha256:") || digest.starts_with("sha256%3A"), "{query}");
        }
    }
}

#[test]
fn c01_a_plain_http_location_of_an_https_host_is_used_over_https() {
    let scene = with_locations(Form::Scheme("http"), RegistryBuilder::tls);
    scene.run().done();
    // As a registry behind a proxy says it that does not know its own port.
    let without_port = Form::custom(|location| {
        let path = location.find("/v2/").expect("an API path");
        format!("http://127.0.0.1{}", &location[path..])
    });
    let scene = with_locations(without_port, RegistryBuilder::tls);
    scene.run().done();
}

#[test]
fn c01_a_location_at_plain_http_on_another_host_is_refused() {
    let net = Net::new();
    let trap = net.trap("trap");
    let form = Form::custom({
        let host = trap.host();
        move |location| format!("http://{host}{}", &location[location.find("/v2/").expect("a path")..])
    });
    let rule = on(Op::UploadStart).or(Op::Mount).then(Fault::Location(form));
    let scene = Scene::with(net, &two(9_000), |s| s, |t| t.tls().rule(rule));
    let run = scene.run();
    assert_eq!(run.report.failed, 2, "{}", run.report);
    assert!(run.cause("group/first").contains("plain HTTP"), "{}", run.report);
    assert_eq!(scene.journal().requests("trap"), 0);
}

#[test]
fn c01_a_location_on_another_host_gets_the_bytes_and_no_credentials() {
    let net = Net::new();
    let scene = Scene::with(net, &two(9_000), |s| s, |t| t.auth(Auth::basic("u", "p")));
    let store = scene.net.registry("store").share(&scene.target).start();
    let form = Form::Host(store.host());
    scene.target.fault(on(Op::UploadStart).or(Op::Mount).then(Fault::Location(form)));
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    // What another host has taken is confirmed by it, not by the target: that is judged here, by the tree.
    let report = scene.run_unjudged();
    assert_eq!((report.copied, report.failed), (2, 0), "{report}");
    assert_eq!(scene.target.incomplete_tags(), Vec::<String>::new());
    scene.journal().assert_no_authorization_outside(&["target"]);
    assert_eq!(scene.journal().count("store", Op::UploadPut), scene.content.blobs.len());
}

/// A target that takes bodies of at most a few MiB, in this way.
fn with_limit(limit: u64, refusal: Fault) -> (Scene, String) {
    let images = two(9 << 20);
    let rule = on(Op::UploadPut).or(Op::UploadPatch).larger_than(limit).then(refusal);
    let layer = own_layer(&images);
    (Scene::with(Net::new(), &images, |s| s, |t| t.rule(rule)), layer)
}

/// It went in chunks that fit, each at the newest address, and nothing was tried whole again.
#[track_caller]
fn assert_chunked(scene: &Scene, layer: &str, limit: u64, whole_tries: usize) {
    let journal = scene.journal();
    let patches: Vec<_> =
        journal.of("target", Op::UploadPatch).into_iter().filter(|e| e.status == Some(202)).collect();
    assert!(patches.iter().all(|patch| patch.read <= limit), "{}", journal.dump());
    assert!(patches.iter().map(|patch| patch.read).sum::<u64>() > limit, "{}", journal.dump());
    for patch in &patches {
        let range = patch.header("content-range").unwrap_or_default();
        let (first, last) = range.split_once('-').unwrap_or_else(|| panic!("{range}: {patch}"));
        let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(last - first + 1, patch.read, "{range}: {patch}");
    }
    let refused = |e: &&crate::support::journal::Entry| e.status != Some(201);
    let whole = puts_of(journal, layer).iter().filter(refused).count();
    assert!(whole <= whole_tries, "{}", journal.dump());
}

#[test]
fn c05_a_413_is_answered_with_chunks_once_for_the_whole_host() {
    let html = "<html><head><title>413 Request Entity Too Large</title></head></html>";
    for refusal in [Fault::Status(413), Fault::Status(413).html(html).header("Connection", "close")] {
        let (scene, layer) = with_limit(6 << 20, refusal);
        scene.run().done();
        assert_chunked(&scene, &layer, 6 << 20, 1);
    }
}

#[test]
fn c05_a_413_that_is_lost_in_a_reset_is_guessed_after_two_of_them() {
    let reset = Fault::Status(413).early_reset(200_000);
    let (scene, layer) = with_limit(6 << 20, reset);
    scene.run().done();
    assert_chunked(&scene, &layer, 6 << 20, 3);
}

#[test]
fn c05_many_large_blobs_at_once_learn_the_limit_together() {
    let images: Vec<(&'static str, Image)> = (0..8)
        .map(|n| {
            let reference: &'static str = format!("quay.io/many/n{n}:1").leak();
            (reference, Image::generated(Kind::Oci, 700 + n, &[5 << 20, (5 << 20) + 1]))
        })
        .collect();
    let refusal = Fault::Status(413).html("<html>").header("Connection", "close");
    let rule = on(Op::UploadPut).or(Op::UploadPatch).larger_than((4 << 20) + 1_000).then(refusal);
    let scene = Scene::with(Net::new(), &images, |s| s, |t| t.keep(Keep::Digests).rule(rule));
    scene.run().done();
    let patches = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
    assert_eq!(
        patches.len(),
        2 * 16,
        "pieces are no smaller than they have to be: {}",
        scene.journal().dump()
    );
}

#[test]
fn c07_a_target_that_takes_neither_wholes_nor_pieces_is_told_so_and_others_are_done() {
    for refusal in [Fault::Status(405), Fault::Status(501), Fault::Status(404).error("UNSUPPORTED", "no")] {
        let (scene, _) = with_limit(6 << 20, Fault::Status(413));
        scene.target.fault(on(Op::UploadPatch).then(refusal));
        scene.run().failed_alone("group/first");
        assert!(scene.journal().count("target", Op::UploadPatch) <= 7, "{}", scene.journal().dump());
    }
}

#[test]
fn c09_what_a_target_says_of_the_bytes_it_has_got_is_not_trusted_blindly() {
    let said = |range: &str| Fault::SetHeader("Range", range.to_owned());
    let answers = [
        said("0-10485759"),
        said("0-0"),
        said("bytes=0-4194303"),
        said("nonsense"),
        Fault::RemoveHeader("range"),
    ];
    for answer in answers {
        let (scene, _) = with_limit(6 << 20, Fault::Status(413));
        scene.target.fault(on(Op::UploadPatch).then(answer));
        scene.run().done();
    }
}

#[test]
fn c09_what_is_left_of_a_piece_that_was_taken_in_part_is_sent_and_the_source_is_read_once() {
    let in_part = || Fault::AcceptOnly(1_000_000);
    for rule in [on(Op::UploadPatch).nth(1).then(in_part()), on(Op::UploadPatch).then(in_part())] {
        let (scene, layer) = with_limit(6 << 20, Fault::Status(413));
        scene.target.fault(rule);
        scene.run().done();
        assert_eq!(puts_of(scene.journal(), &layer).last().unwrap().status, Some(201));
        // Once as a whole, which is refused, and once in pieces.
        assert_eq!(gets_of(scene.journal(), &layer).len(), 2, "{}", scene.journal().dump());
    }
}

#[test]
fn c09_a_target_that_takes_little_of_each_piece_is_given_up() {
    let (scene, layer) = with_limit(6 << 20, Fault::Status(413));
    let scene = scene.retries(1);
    scene.target.fault(on(Op::UploadPatch).then(Fault::AcceptOnly(5_000)));
    scene.run().failed_alone("group/first");
    let patches = scene.journal().count("target", Op::UploadPatch);
    assert!(patches <= 400, "{patches} pieces of {layer}");
}

#[test]
fn c10_pieces_are_as_large_as_the_target_wants_them_at_least() {
    let (scene, _) = with_limit(6 << 20, Fault::Status(413));
    let least = Fault::SetHeader("OCI-Chunk-Min-Length", (5 << 20).to_string());
    scene.target.fault(on(Op::UploadStart).or(Op::Mount).then(least));
    scene.run().done();
    let patches = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
    let (last, others) = patches.split_last().unwrap();
    assert!(others.iter().all(|patch| patch.read >= 5 << 20), "{}", scene.journal().dump());
    assert!(last.read <= 6 << 20);
}

#[test]
fn c10_a_target_that_wants_larger_pieces_than_it_takes_is_given_up() {
    let (scene, _) = with_limit(2 << 20, Fault::Status(413));
    let least = Fault::SetHeader("OCI-Chunk-Min-Length", (5 << 20).to_string());
    scene.target.fault(on(Op::UploadStart).or(Op::Mount).then(least));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("body size limit"), "{cause}");
}

#[test]
fn c11_pieces_are_labelled_with_first_and_last_byte_and_nothing_else() {
    let (scene, _) = with_limit(6 << 20, Fault::Status(413));
    scene.run().done();
    for patch in scene.journal().of("target", Op::UploadPatch) {
        let range = patch.header("content-range").unwrap();
        assert!(range.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'), "{range}");
    }
}

#[test]
fn c05_a_limit_below_all_chunks_is_said_with_what_to_do() {
    let (scene, _) = with_limit(100_000, Fault::Status(413).html("<html>"));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("body size limit") && cause.contains("client_max_body_size"), "{cause}");
}

#[test]
fn c03_each_chunk_goes_to_the_newest_address() {
    let (scene, _) = with_limit(6 << 20, Fault::Status(413));
    scene.run().done();
    let stale = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(404));
    assert!(stale.is_empty(), "{}", scene.journal().dump());
}

#[test]
fn c06_a_416_for_a_chunk_that_is_too_large_makes_smaller_ones() {
    let (scene, _) = with_limit(6 << 20, Fault::Status(413));
    let message = "request body is too large. The limit is 2.00MiB";
    let refusal = Fault::Status(416).error("SIZE_INVALID", message);
    scene.target.fault(on(Op::UploadPatch).larger_than(2 << 20).then(refusal));
    scene.run().done();
    let patches = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
    assert!(patches.iter().all(|patch| patch.read <= 2 << 20), "{}", scene.journal().dump());
}

#[test]
fn c07_nothing_is_sent_in_chunks_unasked() {
    let refusal = Fault::Status(405).error("UNSUPPORTED", "chunked upload");
    let rule = on(Op::UploadPatch).then(refusal);
    let scene = Scene::with(Net::new(), &two(9 << 20), |s| s, |t| t.rule(rule));
    scene.run().done();
    assert_eq!(scene.journal().count("target", Op::UploadPatch), 0);
    assert!(scene.journal().of("target", Op::UploadPut).iter().all(|put| put.status == Some(201)));
}

#[test]
fn c08_a_session_that_is_gone_is_replaced_and_the_blob_sent_again() {
    let code = |status, code| Fault::Status(status).error(code, "blob upload unknown to registry");
    let gone = [
        code(404, "BLOB_UPLOAD_UNKNOWN"),
        code(404, "BLOB_UPLOAD_INVALID"),
        Fault::Status(400),
        Fault::Status(404).html("<html>"),
        Fault::Status(410),
        Fault::DropSession,
    ];
    for fault in gone {
        let images = two(2_000_000);
        let scene = Scene::new(&images);
        let layer = own_layer(&images);
        scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(fault));
        scene.run().done();
        let puts = puts_of(scene.journal(), &layer);
        assert_eq!(puts.len(), 2, "{}", scene.journal().dump());
        assert_ne!(puts[0].path, puts[1].path, "a new session");
        assert_eq!(puts[1].status, Some(201));
    }
}

#[test]
fn c08_a_target_that_always_loses_its_sessions_is_not_called_an_unknown_repository() {
    let scene = Scene::new(&two(9_000)).retries(2);
    let gone = Fault::Status(404).error("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
    scene.target.fault(on(Op::UploadPut).repo("group/first").then(gone));
    let run = scene.run();
    let cause = run.cause("group/first");
    assert!(cause.contains("BLOB_UPLOAD_UNKNOWN") && !cause.contains("NAME_UNKNOWN"), "{cause}");
}

/// Five images that share a layer.
fn sharing() -> Vec<(&'static str, Image)> {
    let base = Blob::generated(500, 40_000);
    let names = [
        "quay.io/group/a:1",
        "quay.io/group/b:1",
        "quay.io/group/c:1",
        "quay.io/group/d:1",
        "quay.io/group/e:1",
    ];
    let image = |n: usize| {
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        Image::single(Kind::Oci, config, vec![base.clone(), Blob::generated(600 + n as u64, 900)])
    };
    names.iter().enumerate().map(|(n, name)| (*name, image(n))).collect()
}

/// Mounts from one repository into another.
fn offers(scene: &Scene) -> usize {
    let mounts = scene.journal().of("target", Op::Mount).into_iter();
    mounts.filter(|mount| parameter(mount, "from").as_ref() != Some(&mount.repository)).count()
}

#[test]
fn c12_a_mount_that_is_refused_in_any_way_becomes_an_upload() {
    let refusals = [
        Fault::IgnoreMount,
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(400),
        Fault::Status(405),
        Fault::Status(500),
        Fault::Status(202),
    ];
    for refusal in refusals {
        let scene = Scene::new(&sharing());
        let other = on(Op::Mount).when(|call| call.param("from").as_deref() != Some(&call.repository));
        scene.target.fault(other.then(refusal));
        scene.run().done();
        assert!(offers(&scene) <= 3, "{}", scene.journal().dump());
    }
}

#[test]
fn c12_a_mount_whose_scope_no_token_is_enough_for_becomes_an_upload() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").start();
    let scope = "repository:group/b:pull,push repository:group/a:pull";
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"target\",scope=\"{scope}\",error=\"insufficient_scope\"",
        tokens.realm()
    );
    let scene = Scene::with(net, &sharing(), |s| s, |t| t.auth(Auth::Token(tokens)));
    let other = on(Op::Mount).when(|call| call.param("from").as_deref() != Some(&call.repository));
    scene.target.fault(other.then(Fault::Status(401).header("WWW-Authenticate", &challenge)));
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    scene.run().done();
    assert!(offers(&scene) <= 6, "each is shown a fresh token once: {}", scene.journal().dump());
}

#[test]
fn c12_a_mount_that_hangs_becomes_an_upload() {
    let scene = Scene::new(&sharing()).retries(1);
    let other = on(Op::Mount).when(|call| call.param("from").as_deref() != Some(&call.repository));
    scene.target.fault(other.then(Fault::StallHeaders));
    let run = scene.run_with(|policy| policy.timing.answer = SECOND / 3).done();
    assert!(offers(&scene) <= 6 && run.took < 10 * SECOND, "{:?}\n{}", run.took, scene.journal().dump());
}

#[test]
fn c12_a_mount_that_was_no_mount_is_made_good_for_by_an_upload() {
    let scene = Scene::new(&sharing());
    let other = on(Op::Mount).when(|call| call.param("from").as_deref() != Some(&call.repository));
    scene.target.fault(other.nth(1).then(Fault::Status(201)));
    // What was confirmed falsely is no proof; the tree is.
    let report = scene.run_unjudged();
    assert_eq!((report.copied, report.failed), (5, 0), "{report}");
    assert_eq!(scene.target.incomplete_tags(), Vec::<String>::new());
}

#[test]
fn c12_a_mount_that_meets_a_busy_moment_does_not_end_all_mounts() {
    let scene = Scene::new(&sharing());
    scene.target.fault(
        on(Op::Mount)
            .when(|call| call.param("from").is_some_and(|from| from != call.repository))
            .times(1)
            .then(Fault::Status(503)),
    );
    scene.run().done();
    let base = Blob::generated(500, 40_000).digest;
    assert!(puts_of(scene.journal(), &base).len() <= 2, "{}", scene.journal().dump());
}

#[test]
fn c16_a_question_that_is_never_answered_is_asked_only_so_often() {
    let images = two(9_000);
    let layer = own_layer(&images);
    let scene = Scene::new(&images).retries(2);
    let mut content = crate::support::Content::new();
    content.add("group/first", "0", &images[0].1);
    scene.target.add(&content);
    scene.target.fault(on(Op::BlobHead).digest(&layer).then(Fault::Status(503)));
    scene.run().failed_alone("group/first");
    let asked = scene.journal().filter(|e| e.op == Op::BlobHead && e.reference == layer);
    assert!((3..=23).contains(&asked.len()), "{}", asked.len());
}

#[test]
fn a07_a_host_that_breaks_off_is_not_tried_once_for_each_repository_that_shares_the_blob() {
    let scene = Scene::new(&sharing()).retries(1);
    let base = Blob::generated(500, 40_000).digest;
    scene.source.fault(on(Op::BlobGet).digest(&base).then(Fault::CutBody { after: 100, how: Cut::Fin }));
    assert_eq!(scene.run().report.failed, 5);
    let asked = gets_of(scene.journal(), &base).len();
    assert!(asked <= 4, "{asked}: {}", scene.journal().dump());
}

#[test]
fn c13_and_c15_mounts_name_a_repository_of_the_target_and_never_none() {
    // The judge looks at every mount of every scene; here the names differ on both sides.
    let scene = Scene::new(&sharing()).below("deep/er");
    scene.run().done();
    let mounts = scene.journal().of("target", Op::Mount);
    assert!(mounts.iter().any(|mount| mount.status == Some(201)));
    assert!(mounts.iter().all(|mount| parameter(mount, "from").unwrap().starts_with("deep/er/")));
}

#[test]
fn c14_what_another_repository_has_is_mounted_with_the_scopes_for_it() {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").start();
    let (first, second) = (sharing(), sharing());
    let scene = Scene::with(net, &first[..1], |s| s, |t| t.auth(Auth::Token(tokens)));
    let host = scene.target.host();
    let mut scene = scene.login(&host, "u", "p");
    scene.run().done();
    let image = second[0].1.clone();
    scene.content.add("group/copy", "1", &image);
    scene.source.add(&scene.content);
    scene.references.push("quay.io/group/copy:1".to_owned());
    scene.journal().clear();
    scene.run().done();
    let journal = scene.journal();
    assert_eq!(journal.count("target", Op::UploadPut) + journal.count("source", Op::BlobGet), 0);
    let asked = journal.of("auth", Op::Token).into_iter().filter_map(|e| e.query).collect::<String>();
    let decoded = asked.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
    assert!(decoded.contains("repository:group/first:pull") || decoded.contains("group/a:pull"), "{decoded}");
    assert!(decoded.contains("group/copy:pull,push"), "{decoded}");
}

#[test]
fn c16_a_blob_of_the_wrong_size_at_the_target_is_sent_again_and_then_said_to_be_damaged() {
    for short in [0, 100] {
        let images = two(9_000);
        let scene = Scene::new(&images);
        let layer = own_layer(&images);
        scene.run().done();
        scene.target.truncate_blob(&layer, short);
        // The old tag stays what it was; a new one needs the layer.
        let newer =
            Image::single(Kind::Oci, Blob::literal("{\"new\":1}"), vec![images[0].1.blobs[2].clone()]);
        let mut scene = scene;
        let old = scene.target.digest_of("group/first", "1");
        scene.content.add("group/first", "1", &newer);
        scene.source.add(&scene.content);
        scene.journal().clear();
        let run = scene.run();
        let cause = run.failed_alone("group/first");
        let sizes = [format!("{short} bytes"), "9000 bytes".to_owned()];
        assert!(cause.contains(&layer) && cause.contains("delete it there"), "{cause}");
        assert!(sizes.iter().all(|size| cause.contains(size)), "{cause}");
        assert_eq!(scene.target.digest_of("group/first", "1"), old);
        assert_eq!(puts_of(scene.journal(), &layer).len(), 1, "{}", scene.journal().dump());
        scene.target.delete_blob(&layer);
        scene.heal();
    }
}

#[test]
fn c16_a_target_that_tells_no_size_gets_the_blob_again() {
    let images = two(9_000);
    let scene = Scene::new(&images);
    let layer = own_layer(&images);
    scene.run().done();
    scene.target.delete_tag("group/first", "1");
    scene.target.delete_manifest("group/first", &images[0].1.digest());
    scene.journal().clear();
    scene.target.fault(on(Op::BlobHead).digest(&layer).times(1).then(Fault::RemoveHeader("content-length")));
    scene.run().done();
}

#[test]
fn c17_what_the_target_lacks_after_all_is_sent_again_once() {
    let images = two(9_000);
    let scene = Scene::new(&images);
    let layer = own_layer(&images);
    let unknown =
        Fault::Status(400).error_detail("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", &layer);
    scene.target.fault(on(Op::ManifestPut).repo("group/first").times(1).then(unknown.clone()));
    scene.run().done();
    assert_eq!(puts_of(scene.journal(), &layer).len(), 2, "{}", scene.journal().dump());
    assert_eq!(scene.journal().count("target", Op::UploadPut), scene.content.blobs.len() + 1);

    let scene = Scene::new(&images);
    scene.target.fault(on(Op::ManifestPut).repo("group/first").then(unknown));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("MANIFEST_BLOB_UNKNOWN"), "{cause}");
    let puts = scene.journal().filter(|e| e.op == Op::ManifestPut && e.repository == "group/first");
    assert_eq!(puts.len(), 3, "two rounds more, and no others");
}

#[test]
fn c17_a_blob_that_is_collected_right_after_it_was_confirmed_is_sent_again() {
    let images = two(9_000);
    let scene = Scene::new(&images);
    let layer = own_layer(&images);
    scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(Fault::ForgetBlob));
    scene.run().done();
    assert_eq!(puts_of(scene.journal(), &layer).len(), 2, "{}", scene.journal().dump());
}

/// Two tags of one repository that share their base layer; the second's own layer, and a scene of both whose target says
/// once that it lacks the base.
fn two_tags_of_which_one_lacks_its_base() -> (Scene, String) {
    let base = Blob::generated(77, 5_000);
    let image = |seed: u64| {
        let config = Blob::literal(format!("{{\"architecture\":\"amd64\",\"n\":{seed}}}"));
        Image::single(Kind::Oci, config, vec![base.clone(), Blob::generated(seed, 7_000)])
    };
    let (first, second) = (image(1), image(2));
    let own = second.blobs[2].digest.clone();
    let scene = Scene::new(&[("quay.io/group/both:1", first), ("quay.io/group/both:2", second)]);
    let lacks =
        Fault::Status(400).error_detail("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", &base.digest);
    scene.target.fault(on(Op::ManifestPut).tag("1").times(1).then(lacks));
    (scene, own)
}

#[test]
fn c17_a_blob_that_lands_twice_counts_once_for_each_tag_that_needs_it() {
    let (scene, own) = two_tags_of_which_one_lacks_its_base();
    let late = Fault::DelayBody(SECOND);
    scene.source.fault(on(Op::BlobGet).digest(&own).then(late));
    scene.run().done();
    let puts = scene.journal().filter(|e| e.op == Op::ManifestPut && e.reference == "2");
    assert_eq!(puts.len(), 1, "only once its own layer was there\n{}", scene.journal().dump());
    assert_eq!(puts_of(scene.journal(), &own).len(), 1, "{}", scene.journal().dump());
}

#[test]
fn c17_a_blob_that_lands_twice_does_not_stand_in_for_one_that_never_comes() {
    let (scene, own) = two_tags_of_which_one_lacks_its_base();
    scene.target.take_unverified_manifests();
    let gone = on(Op::BlobGet).digest(&own).then(Fault::DelayRequest(SECOND)).then(Fault::Status(404));
    scene.source.fault(gone);
    let report = scene.run().report;
    assert_eq!((report.copied, report.failed), (1, 1), "{report}");
}

#[test]
fn c18_what_is_shared_is_fetched_once_and_sent_once() {
    let layer = Blob::generated(9, 30_000);
    let config = Blob::literal("{}");
    let doubled = Image::single(Kind::Oci, config, vec![layer.clone(), layer.clone()]);
    let mut images = sharing();
    images.push(("quay.io/group/doubled:1", doubled));
    let scene = Scene::new(&images);
    scene.run().done();
    scene.journal().assert_each_blob_fetched_once("source");
    for digest in scene.content.blobs.keys() {
        assert_eq!(gets_of(scene.journal(), digest).len(), 1);
        assert_eq!(puts_of(scene.journal(), digest).len(), 1, "one upload; all others are mounts");
    }
    for (name, _) in &images {
        let (repository, _) = place_of(name);
        let starts = scene
            .journal()
            .filter(|e| matches!(e.op, Op::Mount | Op::UploadStart) && e.repository == repository);
        assert_eq!(starts.len(), scene.content.repositories[&repository].blobs.len(), "{repository}");
    }
}

#[test]
fn c19_empty_blobs_and_images_without_layers_are_whole_too() {
    let empty = Image::single(Kind::Oci, Blob::literal("{}"), vec![Blob::literal("")]);
    let none = Image::single(Kind::Oci, Blob::literal("{}"), vec![]);
    let scene = Scene::new(&[("quay.io/group/empty:1", empty.clone()), ("quay.io/group/none:1", none)]);
    scene.run().done();
    assert_eq!(scene.target.blob_size("group/empty", &empty.blobs[1].digest), Some(0));
    let put = &puts_of(scene.journal(), &empty.blobs[1].digest)[0];
    assert_eq!((put.header("content-length"), put.read), (Some("0"), 0));
    assert_eq!(scene.journal().count("target", Op::UploadPatch), 0);
}

#[test]
fn c21_a_target_that_loses_patience_with_a_stalled_source_gets_the_blob_again() {
    let images = two(3_000_000);
    let scene = Scene::new(&images);
    let layer = own_layer(&images);
    scene.source.fault(on(Op::BlobGet).digest(&layer).times(1).then(Fault::StallBody { after: 400_000 }));
    // It has got less than the source sent when it closes.
    scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(Fault::ResetAfterReading(200_000)));
    let run = scene.run_with(|policy| policy.timing.stall = SECOND).done();
    assert!(run.took < 8 * SECOND, "{:?}", run.took);
    assert_eq!(puts_of(scene.journal(), &layer).last().unwrap().status, Some(201));
}

#[test]
fn c22_a_session_that_is_given_up_is_deleted_if_the_target_lets_it() {
    let challenge =
        "Bearer realm=\"http://127.0.0.1:9/token\",service=\"target\",error=\"insufficient_scope\"";
    let answers = [
        None,
        Some(Fault::Status(401).header("WWW-Authenticate", challenge)),
        Some(Fault::Status(405)),
        Some(Fault::StallHeaders),
        Some(Fault::HangUp(Cut::Rst)),
    ];
    for answer in answers {
        let images = two(2_000_000);
        let layer = own_layer(&images);
        let scene = Scene::new(&images).retries(1);
        scene.source.fault(on(Op::BlobGet).digest(&layer).then(Fault::FlipByte { at: 7 }));
        if let Some(answer) = answer {
            scene.target.fault(on(Op::UploadDelete).then(answer));
        }
        let run = scene.run();
        let cause = run.failed_alone("group/first");
        assert!(cause.contains("damaged"), "{cause}");
        // Once for the damaged copy, once for the one past all caches.
        assert_eq!(scene.journal().count("target", Op::UploadDelete), 2, "{}", scene.journal().dump());
        assert!(run.took < 10 * SECOND, "{:?}", run.took);
    }
}

#[test]
fn c22_a_session_that_has_got_nothing_yet_is_used_by_the_next_try() {
    let images = two(2_000_000);
    let layer = own_layer(&images);
    let scene = Scene::new(&images);
    scene.source.fault(on(Op::BlobGet).digest(&layer).times(2).then(Fault::Status(503)));
    scene.run().done();
    let journal = scene.journal();
    assert_eq!(journal.count("target", Op::UploadDelete), 0);
    assert_eq!(puts_of(journal, &layer).len(), 1);
    let sessions = journal.filter(|e| matches!(e.op, Op::UploadStart | Op::Mount) && e.status == Some(202));
    assert_eq!(sessions.len(), journal.count("target", Op::UploadPut), "{}", journal.dump());
}

#[test]
fn c23_an_answer_that_comes_while_the_body_is_sent_is_heard() {
    let images = two(12 << 20);
    let layer = own_layer(&images);
    let linger = SECOND;
    let scene = Scene::new(&images);
    let denied = Fault::Status(403).error("DENIED", "quota exceeded").early(100_000, linger);
    scene.target.fault(on(Op::UploadPut).digest(&layer).then(denied));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("403 DENIED quota exceeded"), "{cause}");
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);

    // A token that has run out.
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").start();
    let realm = tokens.realm();
    let scene = Scene::with(net, &images, |s| s, |t| t.auth(Auth::Token(tokens)));
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    let challenge = format!(
        "Bearer realm=\"{realm}\",service=\"target\",scope=\"repository:group/first:pull,push\",error=\"invalid_token\""
    );
    let late = Fault::Status(401).header("WWW-Authenticate", &challenge).early(100_000, linger);
    scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(late));
    scene.run().done();
    assert_eq!(
        puts_of(scene.journal(), &layer).iter().map(|e| e.status).collect::<Vec<_>>(),
        [Some(401), Some(201)]
    );
}

#[test]
fn c20_an_upload_whose_answer_is_lost_is_found_and_not_sent_again() {
    for how in [Cut::Fin, Cut::Rst] {
        let images = two(9_000);
        let scene = Scene::new(&images);
        let layer = own_layer(&images);
        scene.target.fault(on(Op::UploadPut).digest(&layer).times(1).then(Fault::LoseAnswer(how)));
        scene.run().done();
        assert_eq!(puts_of(scene.journal(), &layer).len(), 1, "{}", scene.journal().dump());
    }
}

#[test]
fn a_manifest_whose_answer_is_lost_is_put_again() {
    let scene = Scene::new(&two(9_000));
    scene.target.fault(on(Op::ManifestPut).times(2).then(Fault::LoseAnswer(Cut::Rst)));
    scene.run().done();
    assert!(statuses(scene.journal(), "target", Op::ManifestPut).iter().all(|status| *status == 201));
}
