//! Answers that are not what they look like.

use std::time::Duration;

use serde_json::json;

use crate::scene::{Scene, own_layer, puts_of, two};
use crate::single::Single;
use crate::support::content::{Child, media};
use crate::support::fault::any;
use crate::support::registry::Auth;
use crate::support::{Blob, Fault, Image, Kind, Net, Op, on};

/// A scene of two images whose target has these rules; the first image's own layer has 3 MB.
fn scene(rule: crate::support::fault::Rule) -> Scene {
    Scene::with(Net::new(), &two(3_000_000), |s| s, |t| t.rule(rule))
}

#[test]
fn a_success_that_is_not_201_stores_neither_blob_nor_manifest() {
    let page = "<html><title>Down for maintenance</title>";
    let answers = [
        Fault::Status(200).html(page),
        Fault::Status(201).html(page),
        Fault::Status(200),
        Fault::Status(204),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        for op in [Op::UploadPut, Op::ManifestPut] {
            let run = scene(on(op).then(answer.clone())).run();
            assert_eq!((run.report.copied, run.report.failed), (0, 2), "{n} {op:?}: {}", run.report);
            let words = if n < 2 { "web page" } else { "stored" };
            assert!(run.cause("group/first").contains(words), "{n} {op:?}: {}", run.report);
        }
    }
}

#[test]
fn a_manifest_is_stored_by_200_and_204_only_with_its_digest() {
    for status in [200, 204] {
        let scene = scene(on(Op::ManifestPut).then(Fault::ChangeStatus(status)));
        scene.run().done();
        assert_eq!(scene.journal().count("target", Op::ManifestHead), 2, "{}", scene.journal().dump());
    }
}

#[test]
fn a_manifest_whose_digest_is_not_told_is_asked_for() {
    let silent = || on(Op::ManifestPut).then(Fault::RemoveHeader("docker-content-digest"));
    let scene = scene(silent());
    scene.run().done();
    // Before and after.
    assert_eq!(scene.journal().count("target", Op::ManifestHead), 4, "{}", scene.journal().dump());
    // One that has neither in its answers to HEAD is read.
    let silent = silent().or(Op::ManifestHead);
    let scene = self::scene(silent);
    scene.run().done();
    // One that says yes and stores nothing.
    let scene = self::scene(on(Op::ManifestPut).then(Fault::Status(201)));
    let run = scene.run();
    assert_eq!((run.report.copied, run.report.failed), (0, 2), "{}", run.report);
    assert!(run.cause("group/first").contains("has not stored it"), "{}", run.report);
}

#[test]
fn a_201_before_the_blob_was_sent_to_its_end_does_not_count() {
    let early = || Fault::Status(201).early(64 << 10, Duration::from_millis(300));
    // More than all buffers on the way hold.
    let images = two(30 << 20);
    let layer = own_layer(&images);
    let scene = |rule| Scene::with(Net::new(), &images, |s| s, |t| t.rule(rule));
    let once = scene(on(Op::UploadPut).digest(&layer).times(1).then(early()));
    once.run().done();
    assert_eq!(puts_of(once.journal(), &layer).len(), 2, "{}", once.journal().dump());
    let always = scene(on(Op::UploadPut).digest(&layer).then(early())).retries(2);
    let cause = always.run().failed_alone("group/first");
    assert!(cause.contains("before it was sent to its end"), "{cause}");
    assert_eq!(puts_of(always.journal(), &layer).len(), 3, "{}", always.journal().dump());
}

#[test]
fn a_blob_that_has_landed_is_there_whatever_the_closing_request_was_answered() {
    for status in [400, 409, 500, 200] {
        let scene = scene(on(Op::UploadPut).then(Fault::FailAfterwards(status)));
        scene.run().done();
        let (puts, blobs) = (scene.journal().count("target", Op::UploadPut), scene.content.blobs.len());
        assert_eq!(puts, blobs, "{status}: {}", scene.journal().dump());
    }
}

#[test]
fn a_blob_that_has_landed_is_asked_for_again_where_the_question_fails_for_once() {
    for status in [202, 409] {
        for trouble in [Fault::Status(502), Fault::HangUp(crate::support::Cut::Rst)] {
            let image = Image::generated(Kind::Oci, 7, &[40_000]);
            let layer = image.blobs[1].digest.clone();
            let answer =
                if status == 409 { Fault::FailAfterwards(status) } else { Fault::ChangeStatus(status) };
            let rule = on(Op::UploadPut).digest(&layer).then(answer);
            let images = [("quay.io/group/app:1", image)];
            let scene = Scene::with(Net::new(), &images, |s| s, |t| t.rule(rule));
            scene.target.fault(on(Op::BlobHead).digest(&layer).times(1).then(trouble));
            scene.run().done();
            assert_eq!(puts_of(scene.journal(), &layer).len(), 1, "{}", scene.journal().dump());
        }
    }
}

#[test]
fn a_blob_in_pieces_that_has_landed_is_there_too() {
    for status in [400, 409, 500] {
        let scene = Scene::with(
            Net::new(),
            &two(9 << 20),
            |s| s,
            |t| {
                let limit = on(Op::UploadPut).larger_than(6 << 20).then(Fault::Status(413));
                let closing = on(Op::UploadPut).when(|call| call.body_length() == Some(0));
                t.rule(limit).rule(closing.then(Fault::FailAfterwards(status)))
            },
        );
        scene.run().done();
        let closings =
            scene.journal().filter(|e| e.op == Op::UploadPut && e.read == 0 && e.status == Some(status));
        assert_eq!(closings.len(), 1, "{status}: {}", scene.journal().dump());
    }
}

#[test]
fn a_manifest_by_tag_has_the_digest_that_its_answer_names() {
    let spoilt = || Fault::FlipByte { at: 30 };
    let of_first = || on(Op::ManifestGet).repo("group/first");
    let scene = Scene::new(&two(9_000));
    scene.source.fault(of_first().times(1).then(spoilt()));
    scene.run().done();
    let asked = scene.journal().of("source", Op::ManifestGet);
    let asked: Vec<_> = asked.iter().filter(|entry| entry.repository == "group/first").collect();
    assert_eq!(asked.len(), 2, "{}", scene.journal().dump());
    assert_eq!(asked[1].header("cache-control"), Some("no-cache"));

    // A changed text that is a manifest all the same.
    let scene = Scene::new(&two(9_000));
    let right = scene.source.manifest(&scene.source.digest_of("group/first", "1").unwrap()).unwrap();
    let other = String::from_utf8(right.bytes.to_vec()).unwrap() + " ";
    let other = Fault::SwapBody { content_type: "application/json", body: other.into() };
    scene.source.fault(of_first().then(other));
    let cause = scene.run().failed_alone("group/first");
    assert!(cause.contains("digest that the answer names"), "{cause}");
    assert_eq!(scene.journal().count("target", Op::ManifestPut), 1, "{}", scene.journal().dump());
}

#[test]
fn json_that_does_not_parse_is_fetched_once_more() {
    let half = Fault::Status(200).body("application/json", "{\"schemaVersion\":2,\"con");
    for (times, failed) in [(1, 0), (9, 1)] {
        let scene = Scene::new(&two(9_000));
        scene.source.fault(on(Op::ManifestGet).repo("group/first").times(times).then(half.clone()));
        assert_eq!(scene.run().report.failed, failed);
        let asked = scene.journal().filter(|e| e.op == Op::ManifestGet && e.host == "source");
        assert_eq!(asked.iter().filter(|e| e.repository == "group/first").count(), 2);
    }
}

#[test]
fn a_blob_whose_size_head_does_not_tell_is_asked_for_otherwise() {
    let answers = [
        // The first byte tells.
        vec![],
        // It tells that there is one, and not of how many.
        vec![Fault::SetHeader("Content-Range", "bytes 0-0/*".to_owned()), Fault::NoLength],
    ];
    for faults in answers {
        let scene = Scene::new(&two(9_000));
        scene.run().done();
        for reference in ["group/first", "group/second"] {
            let digest = scene.target.digest_of(reference, "1").unwrap();
            scene.target.delete_manifest(reference, &digest);
        }
        scene.target.fault(on(Op::BlobHead).then(Fault::RemoveHeader("Content-Length")));
        let ranged = on(Op::BlobGet).range(true);
        scene.target.fault(faults.into_iter().fold(ranged, |rule, fault| rule.then(fault)));
        scene.journal().clear();
        scene.run().done();
        assert_eq!(scene.journal().count("target", Op::UploadPut), 0, "{}", scene.journal().dump());
        let read = scene.journal().filter(|e| e.host == "target" && e.op == Op::BlobGet);
        assert!(!read.is_empty() && read.iter().all(|e| e.header("range") == Some("bytes=0-0")));
    }
}

#[test]
fn redirects_that_keep_the_method_are_followed_with_the_body() {
    for status in [307, 308] {
        let net = Net::new();
        let scene = Scene::with(net, &two(9_000), |s| s, |t| t.auth(Auth::basic("u", "p")));
        let store = scene.net.registry("store").share(&scene.target).start();
        for op in [Op::UploadStart, Op::ManifestPut] {
            let elsewhere = Fault::redirect_to_host(&store.url()).status(status);
            scene.target.fault(on(op).or(Op::Mount).then(elsewhere));
        }
        let host = scene.target.host();
        let scene = scene.login(&host, "u", "p");
        let report = scene.run_unjudged();
        assert_eq!((report.copied, report.failed), (2, 0), "{report}\n{}", scene.journal().dump());
        assert_eq!(scene.target.incomplete_tags(), Vec::<String>::new());
        assert_eq!(scene.journal().count("store", Op::ManifestPut), 2);
        scene.journal().assert_no_authorization_outside(&["target"]);
    }
}

#[test]
fn the_closing_request_of_a_blob_is_sent_again_to_where_it_is_redirected() {
    let scene = Scene::new(&two(9_000));
    let store = scene.net.registry("store").share(&scene.target).start();
    scene.target.fault(on(Op::UploadPut).then(Fault::redirect_to_host(&store.url())));
    let report = scene.run_unjudged();
    assert_eq!((report.copied, report.failed), (2, 0), "{report}\n{}", scene.journal().dump());
    assert_eq!(scene.journal().count("store", Op::UploadPut), scene.content.blobs.len());
    // Round and round.
    let scene = Scene::new(&two(9_000));
    scene
        .target
        .fault(on(Op::UploadPut).repo("group/first").then(Fault::redirect_to_host(&scene.target.url())));
    let layer = own_layer(&two(9_000));
    let run = scene.run();
    assert!(run.cause("group/first").contains("redirects"), "{}", run.report);
    assert!(puts_of(scene.journal(), &layer).len() <= 4, "{}", scene.journal().dump());
}

#[test]
fn a_piece_that_is_taken_without_an_address_goes_on_at_the_known_one() {
    for silence in [Fault::RemoveHeader("location"), Fault::SetHeader("Location", String::new())] {
        let fixed = on(Op::UploadPatch).then(silence).then(Fault::KeepAddress);
        let limit = on(Op::UploadPut).larger_than(6 << 20).then(Fault::Status(413));
        let scene = Scene::with(Net::new(), &two(9 << 20), |s| s, |t| t.rule(limit).rule(fixed));
        scene.run().done();
        let patches = scene.journal().filter(|e| e.op == Op::UploadPatch && e.status == Some(202));
        assert!(patches.len() > 2, "{}", scene.journal().dump());
    }
}

#[test]
fn an_empty_upload_location_is_told_at_once() {
    let scene = scene(on(Op::UploadStart).or(Op::Mount).then(Fault::SetHeader("Location", String::new())));
    let run = scene.run();
    assert!(run.cause("group/first").contains("no upload location"), "{}", run.report);
    assert_eq!(scene.journal().count("target", Op::UploadPut), 0, "{}", scene.journal().dump());
}

#[test]
fn a_manifest_that_was_damaged_on_its_way_is_sent_once_more() {
    let damaged = Fault::Status(400).error("DIGEST_INVALID", "provided digest did not match");
    for (times, failed) in [(1, 0), (9, 1)] {
        let rule = on(Op::ManifestPut).repo("group/first").times(times).then(damaged.clone());
        let scene = scene(rule);
        let run = scene.run();
        assert_eq!(run.report.failed, failed, "{}", run.report);
        let puts = scene.journal().of("target", Op::ManifestPut);
        assert_eq!(puts.iter().filter(|e| e.repository == "group/first").count(), 2);
        if failed > 0 {
            assert!(!run.cause("group/first").contains("may not accept"), "{}", run.report);
        }
    }
}

#[test]
fn a_part_of_an_index_has_the_media_type_that_the_index_says() {
    let child = |seed| {
        let config = Blob::literal(format!("{{\"n\":{seed}}}"));
        let described = |blob: &Blob| json!({ "digest": blob.digest, "size": blob.size });
        let layer = Blob::generated(seed, 700);
        let value =
            json!({ "schemaVersion": 2, "config": described(&config), "layers": [described(&layer)] });
        Image::from_value(media::OCI_MANIFEST, &value, vec![config, layer], vec![])
    };
    let parts = vec![Child::platform("linux/amd64", child(1)), Child::platform("linux/arm64", child(2))];
    let scene = Scene::new(&[("quay.io/group/app:1", Image::index(Kind::Oci, parts))]);
    let other = Fault::SetHeader("Content-Type", media::DOCKER_MANIFEST.to_owned());
    let by_digest = on(Op::ManifestGet).when(|call| call.reference.contains(':'));
    scene.source.fault(by_digest.then(other));
    scene.run().done();
    let puts = scene.journal().of("target", Op::ManifestPut);
    let types: Vec<_> = puts.iter().filter_map(|put| put.header("content-type")).collect();
    assert_eq!(types, [media::OCI_MANIFEST, media::OCI_MANIFEST, media::OCI_INDEX]);
}

#[test]
fn a_check_finds_what_is_there_where_nobody_answers_head() {
    let parts = vec![
        Child::platform("linux/amd64", Image::generated(Kind::Oci, 1, &[900])),
        Child::platform("linux/arm64", Image::generated(Kind::Oci, 2, &[900])),
    ];
    let scene = Scene::new(&[("quay.io/group/app:1", Image::index(Kind::Oci, parts))]);
    scene.run().done();
    for registry in [&scene.source, &scene.target] {
        registry.fault(on(Op::ManifestHead).then(Fault::Status(405)));
    }
    let check = scene.flag("--check").check();
    assert_eq!((check.there, check.partial), (1, 0), "{check}");
}

#[test]
fn a_list_of_referrers_that_is_null_is_empty() {
    let list = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": null });
    let scene = Scene::new(&two(900)).flag("--referrers");
    scene.source.fault(on(Op::Referrers).then(Fault::Status(200).body(media::OCI_INDEX, list.to_string())));
    let run = scene.run().done();
    assert_eq!(run.report.images.len(), 2, "{}", run.report);
}

#[test]
fn all_blobs_that_the_target_misses_are_sent_again_at_once() {
    let layers = [1_000, 2_000, 3_000, 4_000, 5_000];
    let image = Image::generated(Kind::Oci, 5, &layers);
    let lost: Vec<String> = image.blobs.iter().skip(1).map(|blob| blob.digest.clone()).collect();
    assert!(lost.len() >= 4);
    let scene = Scene::new(&[("quay.io/group/app:1", image)]);
    for digest in &lost {
        scene.target.fault(on(Op::UploadPut).digest(digest).times(1).then(Fault::ForgetBlob));
    }
    scene.run().done();
    assert_eq!(scene.journal().count("target", Op::ManifestPut), 2, "{}", scene.journal().dump());
    for digest in &lost {
        assert_eq!(puts_of(scene.journal(), digest).len(), 2, "{}", scene.journal().dump());
    }
}

#[test]
fn what_a_registry_warns_of_is_shown_once() {
    let single = Single::new();
    let target = single.net.registry("target").start();
    let warning = |text: &str| Fault::SetHeader("Warning", format!("299 - \"{text}\""));
    single.source.fault(any().then(warning("anonymous pulls \u{9b}31mend soon")));
    target.fault(any().then(warning("read-only from Monday")));
    let run = single.program(&target.host()).run().expect(0);
    assert_eq!(run.stderr.matches("warns: read-only from Monday").count(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.matches("end soon").count(), 1, "{}", run.stderr);
    assert!(!run.stderr.contains('\u{9b}'), "{}", run.stderr);
}
