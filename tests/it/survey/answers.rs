//! Sources that answer strangely or not at all, and what is left of a survey that is interrupted.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{CNI, HUB, SUMS, Shelf, by_source, numbers, state};
use crate::support::{Fault, Op, on};

#[test]
fn a_host_that_answers_nothing_is_given_up_after_some_images() {
    let shelf = Shelf::new();
    shelf.source.fault(on(Op::ManifestHead).then(Fault::StallHeaders));
    let flags = ["--stall-timeout", "1s", "--retries", "0", "-p", "1"];
    let began = Instant::now();
    let found = shelf.program("verify").args(&flags).args(&["-o", "json"]).run().expect(1).report();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(numbers(&found, &["failed"]), [11], "{found}");
    let asked = shelf.net.journal().count("source", Op::ManifestHead);
    assert_eq!(asked, 3, "{}", shelf.net.journal().dump());
    for (source, line) in by_source(&found) {
        let (cause, (_, path)) = (line["cause"].as_str().unwrap(), source.split_once('/').unwrap());
        assert!(cause.contains(path) && cause.contains("no answer within 1.0 s"), "{source}: {cause}");
        assert_eq!(line["may_pass"], true, "{cause}");
    }
    // The same holds for records, which stay what they are.
    let pins = shelf.pins(&[json!({"source": CNI, "digest": shelf.digest(CNI)})]);
    let before = std::fs::read_to_string(&pins).unwrap();
    shelf.net.journal().clear();
    shelf.program("pin").args(&[&pins]).args(&flags).run().expect(1);
    assert_eq!(shelf.net.journal().count("source", Op::ManifestHead), 3);
    let after = std::fs::read_to_string(&pins).unwrap();
    assert!(before.contains(&shelf.digest(CNI)) && after.contains(&shelf.digest(CNI)), "{after}");
}

#[test]
fn manifests_that_never_come_give_a_host_up_although_it_answers_whether_they_are_there() {
    let shelf = Shelf::new();
    shelf.source.fault(on(Op::ManifestGet).then(Fault::StallHeaders));
    let flags = ["--stall-timeout", "1s", "-p", "1", "--platform", "linux/amd64"];
    let found = shelf.verify(&flags).expect(1).report();
    assert_eq!(shelf.net.journal().count("source", Op::ManifestGet), 3, "{found}");
}

#[test]
fn a_host_that_fails_some_images_by_its_silence_is_asked_for_all_others() {
    let shelf = Shelf::new();
    for repository in ["coredns/coredns", "kube-apiserver", "kube-proxy", "pause"] {
        shelf.source.fault(on(Op::ManifestHead).repo(repository).then(Fault::StallHeaders));
    }
    let found = shelf.verify(&["--stall-timeout", "1s", "-p", "1"]).expect(1).report();
    assert_eq!(numbers(&found, &SUMS), [6, 0, 0, 0, 4, 1, 0], "{found}");
}

#[test]
fn a_success_without_an_image_is_none() {
    let shelf = Shelf::new();
    for repository in ["acme/cni", "acme/hub"] {
        shelf.source.fault(on(Op::ManifestHead).repo(repository).then(Fault::ChangeStatus(204)));
    }
    let found = shelf.verify(&[]).expect(1).report();
    // What it has is told by its bytes, which are not asked for at the price of a pull.
    assert_eq!((state(&found, CNI).as_str(), state(&found, HUB).as_str()), ("there", "failed"), "{found}");
    assert_eq!(shelf.net.journal().count("source", Op::ManifestGet), 1);
    shelf.source.fault(on(Op::ManifestGet).repo("acme/cni").then(Fault::ChangeStatus(204)));
    let found = shelf.verify(&[]).expect(1).report();
    assert_eq!(state(&found, CNI), "failed", "{found}");
}

#[test]
fn what_is_known_when_a_verification_is_interrupted_is_told() {
    let shelf = Shelf::new();
    shelf.source.fault(on(Op::ManifestHead).repo("pause").then(Fault::StallHeaders));
    shelf.source.delete_tag("etcd", "3.99.0-0");
    let answered = || {
        let heads = shelf.net.journal().of("source", Op::ManifestHead);
        heads.iter().filter(|head| head.done.is_some()).count()
    };
    let interrupted = |more: &[&str]| {
        shelf.net.journal().clear();
        let running = shelf.program("verify").args(more).start();
        let patience = Instant::now() + Duration::from_secs(20);
        while answered() < 10 {
            assert!(Instant::now() < patience);
            std::thread::sleep(Duration::from_millis(10));
        }
        // The last answer has still to be heard.
        std::thread::sleep(Duration::from_millis(200));
        running.signal("INT");
        running.wait().expect(130)
    };
    let text = interrupted(&[]).stdout;
    let told = "missing   registry.k8s.io/etcd:3.99.0-0\n\n10 images: 8 there, 1 missing, 1 gone as the catalog says; \
                0 compared with a recorded digest\nInterrupted: nothing is known of 1 of 11 images.\n";
    assert_eq!(text, told);
    let report = shelf.path("report.json");
    let printed = interrupted(&["-o", "json", "--report", &report]);
    assert_eq!(std::fs::read_to_string(&report).unwrap(), printed.stdout);
    let found = printed.report();
    assert_eq!((&found["interrupted"], &found["unknown"]), (&json!(true), &json!(1)), "{found}");
    assert_eq!(numbers(&found, &SUMS), [8, 1, 0, 0, 0, 1, 0], "{found}");
    shelf.source.clear_faults();
    let found = shelf.verify(&[]).expect(1).report();
    assert_eq!((&found["interrupted"], &found["unknown"]), (&json!(false), &json!(0)), "{found}");
}
