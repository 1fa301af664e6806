//! Answers that are not what they look like.

use std::time::Duration;

use crate::scene::{Scene, own_layer, puts_of, two};
use crate::support::{Fault, Net, Op, on};

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
    let layer = own_layer(&two(3_000_000));
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
