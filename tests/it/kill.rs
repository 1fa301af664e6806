//! Runs that are killed or interrupted, and those that come after them.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::program::{Ended, send_signal};
use crate::stage::{ALWAYS, CONTROL_PLANE, Stage, assert_mirrored};
use crate::support::content::SetOptions;
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::reader::{Depth, Reader};
use crate::support::{Fault, Op, on};

/// Runs the program and kills it when the `k`-th request of the net arrives.
fn run_until(stage: &Stage, k: usize) -> Ended {
    let (tell, hear) = mpsc::channel();
    stage.net.at_request(k, move || {
        if let Ok(process) = hear.recv() {
            send_signal(process, "KILL");
        }
    });
    let running = stage.program().start();
    let _ = tell.send(running.child.id());
    running.wait()
}

/// Waits until `holds`, or fails.
#[track_caller]
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < patience, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Requests that were under way when the client died have come to their ends.
fn wait_until_quiet(stage: &Stage) {
    let seen = || {
        let entries = stage.net.journal().entries();
        (entries.len(), entries.iter().filter(|entry| entry.status.is_some()).count())
    };
    let mut before = seen();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = seen();
        if now == before {
            return;
        }
        before = now;
    }
}

fn uploaded(stage: &Stage) -> Vec<String> {
    let puts = stage.net.journal().of("target", Op::UploadPut).into_iter();
    puts.filter(|put| put.status == Some(201)).filter_map(|put| put.digest).collect()
}

/// Requests from the first to the last but a few: how many there are differs a little from run to run. One of each
/// equal part, so that they lie everywhere; failures name them.
fn random_points(number: usize, requests: usize) -> Vec<usize> {
    let part = requests * 98 / 100 / number;
    let random = |n: usize| RandomState::new().hash_one(n) as usize % part;
    (0..number).map(|n| 1 + n * part + random(n)).collect()
}

#[test]
fn killed_anywhere_it_leaves_no_broken_tag_and_the_next_run_sends_no_finished_blob_again() {
    let whole = Stage::new(ALWAYS);
    whole.run().expect(0);
    let requests = whole.net.journal().entries().len();
    drop(whole);
    let mut killed_with_blobs = 0;
    for point in random_points(20, requests) {
        let stage = Stage::new(ALWAYS);
        let killed = run_until(&stage, point);
        assert_eq!(killed.code, None, "it was killed at request {point}: {killed:?}");
        wait_until_quiet(&stage);
        let journal = stage.net.journal();
        assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new(), "at request {point}");
        journal.assert_tag_last("target");
        let finished: BTreeSet<String> = uploaded(&stage).into_iter().collect();
        killed_with_blobs += usize::from(!finished.is_empty() && finished.len() < stage.content.blobs.len());

        journal.clear();
        stage.run().expect(0);
        let again = uploaded(&stage);
        let twice: Vec<&String> = again.iter().filter(|digest| finished.contains(*digest)).collect();
        assert!(twice.is_empty(), "at request {point}: {twice:?} were sent again\n{}", journal.dump());
        assert_eq!(again.len() + finished.len(), stage.content.blobs.len(), "at request {point}");
        journal.assert_tag_last("target");
        stage.assert_mirrored();
    }
    assert!(killed_with_blobs >= 3, "only {killed_with_blobs} runs were killed between blobs");
}

#[test]
fn killed_half_way_to_a_docker_registry_it_is_repaired_by_running_it_again() {
    if !require("docker-registry") {
        return;
    }
    let options = SetOptions { layer_size: 500_000..=2_500_000, own_layers: 1, ..SetOptions::default() };
    let stage = Stage::with(ALWAYS, &options, |source| source, |target| target);
    let target = DockerRegistry::start(&Setup::default()).unwrap();
    let mut running = stage.program_to(&target.host()).args(&["-p", "2"]).start();
    running.hear("[2/16] copied ");
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
    // The registry goes on with what it has got for a moment.
    std::thread::sleep(Duration::from_millis(300));

    let reader = Reader::new(stage.net.client(), &target.url());
    let mut there = 0;
    for ((repository, tag), digest) in &stage.wanted() {
        if stage.net.block_on(reader.digest_of(repository, tag)).is_some() {
            let tree = stage.net.block_on(reader.read(repository, tag, Depth::Bytes)).unwrap();
            assert_eq!(tree.root, *digest);
            there += 1;
        }
    }
    assert!((2..16).contains(&there), "{there} tags were there");
    let put = |log: &DockerRegistry| -> BTreeSet<String> {
        let accesses = log.accesses().into_iter().filter(|a| a.method == "PUT" && a.status == 201);
        let digests = accesses.filter_map(|a| Some(a.path.split_once("digest=")?.1.to_owned()));
        digests.map(|digest| digest.replace("%3A", ":")).collect()
    };
    let finished = put(&target);
    assert!(!finished.is_empty());

    target.clear_log();
    let again = stage.program_to(&target.host()).args(&["-o", "json"]).run().expect(0);
    assert_eq!(again.number("present") as usize, there);
    let twice: Vec<String> = put(&target).intersection(&finished).cloned().collect();
    assert!(twice.is_empty(), "{twice:?} were sent again");
    assert_mirrored(&stage.net, &target.url(), &stage.wanted());
}

/// A target that takes a while for each blob.
fn slow_stage() -> Stage {
    let slow = on(Op::UploadPut).then(Fault::DelayRequest(Duration::from_millis(400)));
    Stage::with(ALWAYS, &SetOptions::default(), |source| source, |target| target.rule(slow))
}

#[test]
fn one_signal_ends_it_in_order_and_the_next_run_does_the_rest() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let stage = slow_stage();
        let running = stage.program().args(&["-p", "1"]).start();
        wait_until("some blobs", || uploaded(&stage).len() >= 5);
        let began = Instant::now();
        running.signal(signal);
        let ended = running.wait();
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(ended.stdout.contains(" left undone\n"), "{}", ended.stdout);
        assert!(ended.stdout.contains("Run the same command again"), "{}", ended.stdout);
        assert!(ended.stderr.contains("left undone registry.k8s.io/"), "{}", ended.stderr);
        assert!(ended.stderr.contains("once more ends at once"), "{}", ended.stderr);
        wait_until_quiet(&stage);
        assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
        let finished: BTreeSet<String> = uploaded(&stage).into_iter().collect();
        stage.net.journal().clear();
        stage.target.clear_faults();
        stage.run().expect(0);
        assert!(uploaded(&stage).iter().all(|digest| !finished.contains(digest)));
        stage.assert_mirrored();
    }
}

/// What this very test ignores, its children do too.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc(5)");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask").trim();
    u64::from_str_radix(ignored, 16).expect("hexadecimal") & 1 == 1
}

#[test]
fn a_terminal_that_goes_away_ends_it_in_order_unless_it_was_to_outlive_it() {
    for (before, code) in [("trap '' HUP", 0), (":", 129)] {
        let code = if ignores_hang_up() { 0 } else { code };
        let stage = slow_stage();
        let running = stage.program().args(&["-p", "1"]).after(before).start();
        wait_until("some blobs", || uploaded(&stage).len() >= 5);
        running.signal("HUP");
        stage.target.clear_faults();
        stage.source.clear_faults();
        let ended = running.wait();
        assert_eq!(ended.code, Some(code), "{before}: {ended:?}");
        assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
    }
}

#[test]
fn a_terminal_that_says_twice_that_it_goes_is_no_second_wish() {
    if ignores_hang_up() {
        return;
    }
    let stage = slow_stage();
    let mut running = stage.program().args(&["-p", "1"]).start();
    wait_until("some blobs", || uploaded(&stage).len() >= 5);
    running.signal("HUP");
    running.hear("stopping");
    running.signal("HUP");
    let ended = running.wait();
    assert_eq!(ended.code, Some(129), "{ended:?}");
    assert!(ended.stdout.contains(" left undone\n"), "{}", ended.stdout);
}

#[test]
fn a_signal_ends_it_in_order_though_nobody_reads_what_it_says() {
    let stage = slow_stage();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let mut running = stage.program().args(&["-p", "1", "--report", path.to_str().unwrap()]).start();
    wait_until("some blobs", || uploaded(&stage).len() >= 5);
    // As tee does that gets the same Ctrl-C.
    drop(running.child.stdout.take());
    drop(running.stderr.take());
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(report["interrupted"], true, "{report}");
    assert!(report["left"].as_u64() > Some(0), "{report}");
    wait_until_quiet(&stage);
    assert_eq!(stage.target.incomplete_tags(), Vec::<String>::new());
}

/// One layer never comes to its end.
fn stuck_stage() -> Stage {
    let stage = Stage::new(CONTROL_PLANE);
    stage.source.fault(on(Op::BlobGet).repo("etcd").nth(1).then(Fault::StallBody { after: 10 }));
    stage
}

#[test]
fn a_transfer_that_never_ends_does_not_keep_an_interrupted_run_alive() {
    let stage = stuck_stage();
    let mut running = stage.program().start();
    running.hear("copied ");
    let began = Instant::now();
    running.signal("INT");
    let ended = running.wait();
    assert_eq!(ended.code, Some(130));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(ended.stderr.contains("left undone registry.k8s.io/etcd"), "{}", ended.stderr);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let stage = stuck_stage();
    let mut running = stage.program().start();
    running.hear("copied ");
    running.signal("INT");
    running.hear("once more ends at once");
    let began = Instant::now();
    running.signal("INT");
    assert_eq!(running.wait().code, Some(130));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_run_that_is_interrupted_while_it_asks_leaves_everything_undone() {
    let stage = Stage::new(CONTROL_PLANE);
    stage.source.fault(on(Op::ManifestGet).then(Fault::StallHeaders));
    let running = stage.program().args(&["-o", "json"]).start();
    wait_until("a question", || stage.net.journal().count("source", Op::ManifestGet) > 0);
    let began = Instant::now();
    running.signal("INT");
    let ended = running.wait();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let ended = ended.expect(130);
    assert_eq!((ended.number("left"), ended.report()["interrupted"].as_bool()), (8, Some(true)));
    assert!(stage.net.journal().writes().is_empty());
}
