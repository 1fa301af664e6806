//! G: the run as a whole.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mirror_images::output::report::{Exit, Report, Status};

use crate::program::Program;
use crate::scene::{Scene, place_of};
use crate::stage::{ALWAYS, CONTROL_PLANE, Stage, assert_mirrored};
use crate::support::content::SetOptions;
use crate::support::registry::Auth;
use crate::support::{Blob, Fault, Image, Kind, Net, Op, any, on};

const SECOND: Duration = Duration::from_secs(1);

/// `count` images that share one layer, every fifth of another host.
fn many(count: u64) -> Vec<(&'static str, Image)> {
    let base = Blob::generated(1, 6_000);
    let image = |n: u64| {
        let host = if n.is_multiple_of(5) { "docker.io" } else { "quay.io" };
        let reference: &'static str = format!("{host}/many/n{n}:1").leak();
        let config = Blob::literal(format!("{{\"n\":{n}}}"));
        let own = Blob::generated(100 + n, 2_000);
        (reference, Image::single(Kind::Oci, config, vec![base.clone(), own]))
    };
    (1..=count).map(image).collect()
}

#[test]
fn g03_wrong_use_ends_with_2_before_any_request() {
    let net = Net::new();
    let target = net.registry("target").start();
    let host = target.host();
    let cases: &[&[&str]] = &[
        &["--no-such-flag"],
        &["-k", "9.99"],
        &["--kubeone-version", "0.1"],
        &["--images-from", "/nonexistent/list"],
        &["--image", "a//b"],
        &["--image", "quay.io/x/y@sha256:abc"],
        &["--parallel", "0"],
        &["--authfile", "/nonexistent/auth.json"],
        &["--ca-file", "/nonexistent/ca.pem"],
    ];
    for arguments in cases {
        let ended = Program::new(&[&host]).args(arguments).run().expect(2);
        assert!(!ended.stderr.trim().is_empty() && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    assert_eq!(net.journal().entries().len(), 0);
}

#[test]
fn g04_three_of_thirty_fail_in_three_ways_and_all_others_are_done() {
    let images = many(30);
    let scene = Scene::new(&images);
    scene.source.delete_tag("many/n7", "1");
    let damaged = images[11].1.blobs[2].digest.clone();
    scene.source.flip_blob(&damaged, 5);
    let refusal = Fault::Status(403).error("DENIED", "not into this one");
    let starts = on(Op::Mount).or(Op::UploadStart).or(Op::ManifestPut).repo("many/n20");
    scene.target.fault(starts.then(refusal));
    let run = scene.run();
    let report = &run.report;
    assert_eq!((report.copied, report.failed, report.left), (27, 3, 0), "{report}");
    assert_eq!(report.exit(), Exit::SomeFailed);
    let failed = report.images.iter().filter(|line| line.result == Status::Failed);
    let names: BTreeSet<String> = failed.map(|line| place_of(&line.source).0).collect();
    assert_eq!(names, ["many/n12", "many/n20", "many/n7"].map(str::to_owned).into());
    assert!(run.cause("many/n7").contains("404"), "{report}");
    assert!(run.cause("many/n12").contains(&damaged), "{report}");
    assert!(run.cause("many/n20").contains("not into this one"), "{report}");
    let text = report.to_string();
    for name in &names {
        assert!(text.contains(&format!("{name}:1 → {}/{name}:1", scene.target.host())), "{text}");
    }
    assert!(
        report.images.iter().filter(|line| line.result == Status::Failed).all(|l| l.may_pass == Some(false))
    );

    // G05: only what failed moves in the next run.
    scene.source.add(&scene.content);
    scene.target.clear_faults();
    scene.journal().clear();
    let again = scene.run().done();
    assert_eq!((again.report.present, again.report.copied), (27, 3));
    let of_failed =
        |digest: &String| names.iter().any(|name| scene.content.repositories[name].blobs.contains(digest));
    let moved = scene.journal().of("source", Op::BlobGet);
    assert!(moved.iter().all(|get| of_failed(&get.reference)), "{}", scene.journal().dump());
}

#[test]
fn g05_after_a_failure_only_the_failed_image_moves_bytes() {
    let images = many(12);
    let scene = Scene::new(&images);
    let own = images[11].1.blobs[2].digest.clone();
    scene.source.fault(on(Op::BlobGet).digest(&own).then(Fault::Status(404)));
    scene.run().failed_alone("many/n12");
    scene.source.clear_faults();
    scene.journal().clear();
    let again = scene.run().done();
    assert_eq!(again.report.copied, 1);
    assert!(again.report.totals.bytes_copied <= 2_000 + 100, "{}", again.report.totals.bytes_copied);
    assert!(scene.journal().bytes_read("target") < 5_000, "{}", scene.journal().dump());
}

#[test]
fn g06_two_runs_at_once_do_each_other_no_harm() {
    for other in [ALWAYS, CONTROL_PLANE] {
        let stage = Stage::new(ALWAYS);
        let second = stage.program_of(other);
        let first = stage.program().start();
        let second = second.start();
        first.wait().expect(0);
        second.wait().expect(0);
        stage.assert_mirrored();
        assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    }
}

/// What the target says from the `after`-th request that writes on, for ever.
fn spoiled(after: usize, answer: Fault) -> Scene {
    let scene = Scene::new(&many(200)).retries(1);
    let writes = on(Op::Mount).or(Op::UploadStart).or(Op::UploadPut).or(Op::ManifestPut);
    scene.target.fault(writes.after(after).then(answer));
    scene
}

/// The exit status of a run whose target was given up: not the one that says that it took nothing, if it took something.
fn refused_or_some(report: &Report) -> Exit {
    if report.copied + report.present == 0 { Exit::TargetRefused } else { Exit::SomeFailed }
}

#[test]
fn g08_a_target_that_takes_nothing_any_more_is_given_up_with_its_words() {
    let full = Fault::Status(500).error("UNKNOWN", "write: no space left on device");
    let read_only = Fault::Status(405).body("text/plain", "Method not allowed\n");
    let revoked = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    for (answer, words) in [(full, "no space left"), (read_only, "read-only"), (revoked, "401")] {
        for after in [0, 30] {
            let scene = spoiled(after, answer.clone());
            let run = scene.run();
            assert_eq!(run.report.exit(), refused_or_some(&run.report), "{}", run.report);
            let gave_up = run.report.gave_up.clone().expect("it was given up");
            assert!(gave_up.contains(words), "{gave_up}");
            let refused = scene.journal().filter(|e| {
                e.host == "target" && e.op.writes() && e.status.is_some_and(|status| status >= 400)
            });
            println!("{words} after {after}: {} requests after the end in {:?}", refused.len(), run.took);
            // At most 130 things were under way, or 8 at first. Eight images show that it is the end, each by one of a few
            // blobs, and for each that fails until then another begins. Each is tried twice, by a question and an upload.
            let under_way = if after == 0 { 8 } else { 130 };
            let most = (under_way + 5 * 8) * 2 * 2;
            assert!(refused.len() <= most, "{} requests after the end: {gave_up}", refused.len());
            if after == 0 {
                scene.heal();
            }
        }
    }
}

#[test]
fn g08_a_target_that_goes_away_for_good_is_given_up() {
    let scene = Scene::new(&many(200)).retries(1);
    // What is asked over a connection that is there already may still be served.
    scene.target.fault(on(Op::ManifestPut).after(2).then(Fault::Down(60 * SECOND)));
    let run = scene.run();
    assert_eq!(run.report.exit(), refused_or_some(&run.report), "{}", run.report);
    assert!(
        run.report.gave_up.as_ref().is_some_and(|cause| cause.contains("cannot connect")),
        "{}",
        run.report
    );
    // Long before it comes back, however busy the machine is.
    assert!(run.took < 30 * SECOND, "{:?}", run.took);
    scene.target.come_up();
    scene.heal();
}

#[test]
fn g08_a_target_that_restarts_without_its_sessions_is_ridden_through() {
    let scene = Scene::new(&many(40));
    scene.target.fault(on(Op::UploadPut).nth(20).then(Fault::DropSession).then(Fault::Down(SECOND)));
    scene
        .run_with(|policy| {
            policy.timing.first_pause = Duration::from_millis(200);
            policy.timing.longest_pause = SECOND;
        })
        .done();
}

#[test]
fn g08_credentials_that_are_withdrawn_half_way_end_the_run() {
    let net = Net::new();
    let scene = Scene::with(net, &many(40), |s| s, |t| t.auth(Auth::basic("u", "p"))).retries(1);
    let host = scene.target.host();
    let scene = scene.login(&host, "u", "p");
    let refusal = Fault::Status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    scene.target.fault(any().after(200).then(refusal));
    let run = scene.run();
    assert_eq!(run.report.exit(), refused_or_some(&run.report), "{}", run.report);
    assert!(run.report.gave_up.as_ref().is_some_and(|cause| cause.contains("401")), "{}", run.report);
    let refused = scene.journal().filter(|e| e.host == "target" && e.status == Some(401));
    // What was under way, and what tried the suspect beside it.
    assert!(refused.len() <= 140, "{}", refused.len());
}

#[test]
fn g10_a_dry_run_makes_no_request_and_a_check_none_that_writes() {
    let stage = Stage::new(CONTROL_PLANE);
    let dry = stage.program().args(&["--dry-run"]).run().expect(0);
    assert_eq!(dry.stdout.lines().count(), stage.lines.len());
    assert_eq!(stage.net.journal().entries().len(), 0);
    stage.program().args(&["--check"]).run().expect(1);
    stage.net.journal().assert_read_only();
}

#[test]
fn g12_a_slow_host_does_not_starve_the_others() {
    let images = many(40);
    let scene = Scene::new(&images);
    let slow = scene.net.registry("slow").content(&scene.content).start();
    slow.fault(any().then(Fault::DelayRequest(SECOND / 2)));
    let scene = scene.elsewhere("docker.io", &slow);
    let began = scene.journal().now();
    scene.run().done();
    let tags: Vec<_> = scene.journal().of("target", Op::ManifestPut);
    let slow_ones: BTreeSet<String> =
        images.iter().filter(|(r, _)| r.starts_with("docker.io")).map(|(r, _)| place_of(r).0).collect();
    let last = |of_slow: bool| {
        let ones = tags.iter().filter(|put| slow_ones.contains(&put.repository) == of_slow);
        ones.map(|put| put.at).max().unwrap() - began
    };
    assert!(last(true) >= SECOND, "{:?}", last(true));
    assert!(last(false) < last(true) + SECOND, "{:?} {:?}", last(false), last(true));
}

#[test]
fn g12_few_file_descriptors_are_enough() {
    let stage = Stage::new(ALWAYS);
    let ended = stage.program().args(&["-p", "50"]).with_files(64).run().expect(0);
    assert!(!ended.stderr.contains("Too many open files"), "{}", ended.stderr);
    stage.assert_mirrored();
}

#[test]
fn g13_a_run_that_is_killed_leaves_the_old_report_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let stage = Stage::new(CONTROL_PLANE);
    let report = format!("--report={}", path.display());
    stage.program().args(&[&report]).run().expect(0);
    let before = std::fs::read_to_string(&path).unwrap();
    serde_json::from_str::<serde_json::Value>(&before).unwrap();
    stage.source.fault(on(Op::ManifestHead).then(Fault::StallHeaders));
    let running = stage.program().args(&[&report]).start();
    std::thread::sleep(SECOND / 2);
    running.signal("KILL");
    running.wait();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn g13_a_report_that_cannot_be_written_in_the_end_is_told_and_no_wrong_use() {
    let stage = Stage::new(ALWAYS);
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("reports");
    std::fs::create_dir(&place).unwrap();
    stage.source.fault(on(Op::BlobGet).times(1).then(Fault::DelayBody(SECOND)));
    let path = place.join("run.json");
    let mut running = stage.program().args(&["--report", path.to_str().unwrap()]).start();
    running.hear("copied ");
    std::fs::remove_dir(&place).unwrap();
    let ended = running.wait();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("run.json") && ended.stdout.contains(" copied"), "{ended:?}");
    stage.assert_mirrored();
}

#[test]
fn g14_images_that_never_existed_cost_one_request_each_and_nothing_else() {
    let images = many(10);
    let scene = Scene::new(&images);
    for name in ["many/n3", "many/n4"] {
        scene.source.delete_tag(name, "1");
    }
    let began = Instant::now();
    let run = scene.run();
    assert_eq!((run.report.copied, run.report.failed), (8, 2));
    assert!(began.elapsed() < 3 * SECOND);
    for name in ["many/n3", "many/n4"] {
        assert!(run.cause(name).contains("404"), "{}", run.report);
        let asked = scene.journal().filter(|e| e.host == "source" && e.repository == name);
        assert_eq!(asked.len(), 1);
    }
}

#[test]
fn g06_a_blob_that_another_run_has_just_brought_is_not_sent_twice() {
    let options = SetOptions { layer_size: 100_000..=300_000, ..SetOptions::default() };
    let stage = Stage::with(CONTROL_PLANE, &options, |s| s, |t| t);
    stage.run().expect(0);
    for line in &stage.lines {
        stage.target.delete_tag(&line.to.0, &line.to.1);
    }
    stage.net.journal().clear();
    let run = stage.run().expect(0);
    assert_eq!(run.number("bytes_copied"), 0);
    assert_mirrored(&stage.net, &stage.target.url(), &stage.wanted());
}
