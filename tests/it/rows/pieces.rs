//! C: uploads in pieces to targets in trouble, and what uploads leave behind or hold up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::scene::{Scene, gets_of, own_layer, place_of, puts_of, two};
use crate::support::journal::Entry;
use crate::support::{Blob, Cut, Fault, Image, Kind, Net, Op, on};

const MIB: u64 = 1 << 20;
/// Bytes of the smallest piece that is tried.
const LEAST: u64 = 256 << 10;

/// A target that takes bodies of up to `limit` bytes, and a source whose first image has a layer of `size` bytes.
fn limited(size: u64, limit: u64) -> (Scene, String) {
    let images = two(size);
    let layer = own_layer(&images);
    let rule = on(Op::UploadPut).or(Op::UploadPatch).larger_than(limit).then(Fault::Status(413));
    (Scene::with(Net::new(), &images, |s| s, |t| t.rule(rule)), layer)
}

/// Pieces that are small enough for the target, and so not refused for their size.
fn pieces(scene: &Scene, limit: u64) -> Vec<Entry> {
    let sent = |e: &Entry| e.header("content-length").and_then(|l| l.parse::<u64>().ok());
    scene.journal().filter(|e| e.op == Op::UploadPatch && sent(e).is_some_and(|bytes| bytes <= limit))
}

/// The layer came from the source once for each way to send it that was tried, and not for a piece that failed.
#[track_caller]
fn assert_read_once(scene: &Scene, layer: &str) {
    let refused = scene.journal().filter(|e| e.host == "target" && e.status == Some(413)).len();
    assert_eq!(gets_of(scene.journal(), layer).len(), 1 + refused, "{}", scene.journal().dump());
    assert_eq!(puts_of(scene.journal(), layer).last().unwrap().status, Some(201));
}

#[test]
fn c24_pieces_that_fail_now_and_then_are_sent_again_and_the_source_is_read_once() {
    let faults = [
        vec![Fault::Status(503)],
        vec![Fault::Status(500)],
        vec![Fault::Status(429).header("Retry-After", "0")],
        vec![Fault::ResetAfterReading(70_000)],
        vec![Fault::HangUp(Cut::Fin)],
    ];
    for faults in faults {
        let (scene, layer) = limited(30 * MIB, LEAST);
        let bad = on(Op::UploadPatch).when(|call| call.body_length().is_some_and(|l| l <= LEAST));
        let bad = faults.into_iter().fold(bad.chance(0.03, 11), |rule, fault| rule.then(fault));
        let fired = bad.fired();
        scene.target.fault(bad);
        scene.run().done();
        assert!(fired.get() >= 2, "{} of {}", fired.get(), pieces(&scene, LEAST).len());
        assert_read_once(&scene, &layer);
        assert_eq!(scene.journal().count("target", Op::UploadStatus), fired.get());
        assert_eq!(pieces(&scene, LEAST).len(), 120 + fired.get(), "{}", scene.journal().dump());
    }
}

#[test]
fn c24_a_target_that_fails_at_every_piece_is_given_up_after_the_usual_tries_of_one() {
    let (scene, layer) = limited(9 * MIB, 5 * MIB);
    let scene = scene.retries(2);
    scene.target.fault(on(Op::UploadPatch).then(Fault::Status(500)));
    scene.run().failed_alone("group/first");
    let sent = scene.journal().count("target", Op::UploadPatch);
    assert_eq!(sent, 3, "tries of a piece and of a blob do not multiply\n{}", scene.journal().dump());
    assert_eq!(gets_of(scene.journal(), &layer).len(), 2);
}

#[test]
fn c24_where_a_session_does_not_say_how_far_it_is_the_blob_is_sent_again() {
    let answers = [
        Fault::Status(404).error("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry"),
        Fault::Status(405),
        Fault::RemoveHeader("range"),
        Fault::SetHeader("Range", "0-99".to_owned()),
    ];
    for answer in answers {
        let (scene, layer) = limited(9 * MIB, 5 * MIB);
        scene.target.fault(on(Op::UploadPatch).nth(2).then(Fault::Status(503)));
        scene.target.fault(on(Op::UploadStatus).then(answer));
        scene.run().done();
        assert_eq!(gets_of(scene.journal(), &layer).len(), 3, "{}", scene.journal().dump());
    }
}

#[test]
fn c24_the_closing_request_is_sent_again_by_itself() {
    let (scene, layer) = limited(9 * MIB, 5 * MIB);
    let closing = on(Op::UploadPut).digest(&layer).when(|call| call.body_length() == Some(0));
    scene.target.fault(closing.times(2).then(Fault::Status(503)));
    scene.run().done();
    assert_read_once(&scene, &layer);
}

#[test]
fn c25_pieces_stay_as_long_as_they_were_when_another_transfer_learns_that_there_are_none() {
    let image = |seed: u64| {
        let config = Blob::literal(format!("{{\"architecture\":\"amd64\",\"n\":{seed}}}"));
        Image::single(Kind::Oci, config, vec![Blob::generated(seed, 24 * MIB)])
    };
    let images = [("quay.io/group/first:1", image(1)), ("quay.io/group/second:1", image(2))];
    let too_large = on(Op::UploadPut).larger_than(6 * MIB).then(Fault::Status(413));
    // The second one's pieces begin, and are refused, while the first one's are going.
    let begun = Arc::new(AtomicBool::new(false));
    let (begin, seen) = (begun.clone(), begun);
    let begin = Fault::Run(Arc::new(move |_| begin.store(true, Ordering::SeqCst)));
    let slow = on(Op::UploadPatch).repo("group/first").nth(1).then(begin);
    let slow = slow.then(Fault::DelayHeaders(Duration::from_secs(2)));
    let none = on(Op::UploadPatch).repo("group/second").then(Fault::Status(405));
    let late = on(Op::BlobGet).digest(&images[1].1.blobs[1].digest);
    let late = late.when(move |_| !seen.load(Ordering::SeqCst)).then(Fault::Status(503));
    let scene =
        Scene::with(Net::new(), &images, |s| s.rule(late), |t| t.rule(too_large).rule(slow).rule(none));
    scene.run().failed_alone("group/second");
    let sent = scene.journal().of("target", Op::UploadPatch);
    let first: Vec<u64> = sent.iter().filter(|e| e.repository == "group/first").map(|e| e.read).collect();
    assert_eq!(first, [4 * MIB; 6], "{}", scene.journal().dump());
    let refused = sent.iter().rposition(|e| e.repository == "group/second").expect("it was tried");
    let last = sent.iter().rposition(|e| e.repository == "group/first").expect("it was sent");
    assert!(refused < last, "{}", scene.journal().dump());
}

#[test]
fn c26_a_target_that_does_not_answer_the_first_upload_holds_up_no_other_repository() {
    let names = ["quay.io/group/a:1", "quay.io/group/b:1", "quay.io/group/c:1"];
    let images: Vec<(&'static str, Image)> = names
        .iter()
        .zip(0_u64..)
        .map(|(name, n)| (*name, Image::generated(Kind::Oci, 30 + n, &[9_000])))
        .collect();
    let scene = Scene::new(&images);
    scene.target.fault(on(Op::Mount).or(Op::UploadStart).repo("group/a").times(1).then(Fault::StallHeaders));
    scene.run_with(|policy| policy.timing.answer = Duration::from_secs(8)).done();
    let journal = scene.journal();
    // Once it is given up to be answered, the session is asked for without a question.
    let again = journal.filter(|e| e.op == Op::UploadStart && e.repository == "group/a");
    for (name, image) in &images[1..] {
        for blob in &image.blobs {
            let put = puts_of(journal, &blob.digest).pop().unwrap_or_else(|| panic!("{name}"));
            assert_eq!(put.repository, place_of(name).0);
            assert!(put.seq < again[0].seq, "{name} has waited\n{}", journal.dump());
        }
    }
}

#[test]
fn c22_a_session_that_a_refused_mount_has_opened_and_nobody_uses_is_deleted() {
    let base = Blob::generated(5, 3 * MIB);
    let image = |seed: u64, layers: Vec<Blob>| {
        let config = Blob::literal(format!("{{\"architecture\":\"amd64\",\"n\":{seed}}}"));
        Image::single(Kind::Oci, config, layers)
    };
    let (lost, slow) = (Blob::generated(6, 700), Blob::generated(7, 2 * MIB));
    let images = [
        ("quay.io/group/first:1", image(1, vec![base.clone()])),
        ("quay.io/group/second:1", image(2, vec![base, lost.clone()])),
        ("quay.io/group/third:1", image(3, vec![slow.clone()])),
    ];
    let scene = Scene::new(&images).flag("--parallel=1");
    // The second image fails once its mount was refused, while another large blob has the one lane there is.
    let refused = Arc::new(AtomicBool::new(false));
    let (refuse, before, after) = (refused.clone(), refused.clone(), refused);
    let between = on(Op::Mount).when(|call| call.param("from").as_deref() != Some(&call.repository));
    let refuse = Fault::Run(Arc::new(move |_| refuse.store(true, Ordering::SeqCst)));
    scene.target.fault(between.then(Fault::IgnoreMount).then(refuse));
    let get_lost = on(Op::BlobGet).digest(&lost.digest);
    let wait = get_lost.clone().when(move |_| !before.load(Ordering::SeqCst)).then(Fault::Status(503));
    scene.source.fault(wait);
    scene.source.fault(get_lost.when(move |_| after.load(Ordering::SeqCst)).then(Fault::Status(404)));
    let late = Fault::DelayBody(Duration::from_secs(3));
    scene.source.fault(on(Op::BlobGet).digest(&slow.digest).then(late));
    scene.run().failed_alone("group/second");
    // The other one is of the upload that the source had nothing for.
    assert_eq!(scene.journal().count("target", Op::UploadDelete), 2, "{}", scene.journal().dump());
    assert_eq!(scene.target.open_sessions(), 0);
}

#[test]
fn c24_a_size_limit_on_what_has_no_body_is_no_reason_to_try_for_ever() {
    let scene = Scene::new(&two(3 * MIB));
    let start = on(Op::Mount).or(Op::UploadStart).repo("group/first");
    scene.target.fault(start.then(Fault::Status(413)));
    scene.run().failed_alone("group/first");
    let starts = scene.journal().filter(|e| e.status == Some(413));
    assert!(starts.len() <= 12, "{}", scene.journal().dump());
}
