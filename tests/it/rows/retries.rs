//! A: rate limits and server errors.

use std::time::{Duration, Instant, SystemTime};

use crate::scene::{Scene, gets_of, own_layer, puts_of, statuses, two};
use crate::support::content::Child;
use crate::support::journal::{Entry, Journal};
use crate::support::registry::Auth;
use crate::support::{Cut, Fault, Image, Kind, Net, Op, Rule, any, on};

const SECOND: Duration = Duration::from_secs(1);

/// After each such answer of the host nobody asked it for anything until `gap` was over, but for what was on its way.
#[track_caller]
fn assert_left_alone(journal: &Journal, host: &str, status: u16, gap: Duration) {
    let (settled, rounding) = (Duration::from_millis(200), Duration::from_millis(20));
    let entries = journal.filter(|entry| entry.host == host);
    for limited in entries.iter().filter(|entry| entry.status == Some(status)) {
        let told = limited.done.unwrap_or(limited.at);
        let early = |e: &&Entry| e.at > told + settled && e.at + rounding < told + gap;
        if let Some(early) = entries.iter().find(early) {
            panic!("#{} came too soon after #{}\n{}", early.seq, limited.seq, journal.dump());
        }
    }
}

/// A net where both registries want tokens that anyone gets.
fn with_tokens() -> Scene {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
    let (source, target) = (Auth::Token(tokens.clone()), Auth::Token(tokens.clone()));
    let scene = Scene::with(net, &two(9_000), |s| s.auth(source), |t| t.auth(target));
    let host = scene.target.host();
    scene.login(&host, "u", "p")
}

fn retry_after_is_kept(status: u16) {
    let answer = &Fault::Status(status).retry_after("1");
    let scene = with_tokens().retries(0);
    for op in [Op::ManifestGet, Op::BlobGet] {
        scene.source.fault(on(op).times(1).then(answer.clone()));
    }
    scene.target.fault(on(Op::ManifestHead).times(1).then(answer.clone()));
    scene.target.fault(on(Op::Mount).or(Op::UploadStart).times(1).then(answer.clone()));
    scene.target.fault(on(Op::UploadPut).times(1).then(answer.clone()));
    scene.target.fault(on(Op::ManifestPut).times(1).then(answer.clone()));
    scene.run().done();
    for host in ["source", "target"] {
        assert_left_alone(scene.journal(), host, status, SECOND);
    }
    let limited = scene.journal().filter(|entry| entry.status == Some(status));
    assert_eq!(limited.len(), 6, "{}", scene.journal().dump());
}

#[test]
fn a01_retry_after_in_seconds_is_kept_on_every_kind_of_request_and_is_no_failed_try() {
    retry_after_is_kept(429);
}

#[test]
fn a01_a_503_that_names_a_wait_is_kept_like_a_429() {
    retry_after_is_kept(503);
}

#[test]
fn a01_retry_after_as_a_date_is_kept_on_every_kind_of_request_and_is_no_failed_try() {
    let scene = Scene::new(&two(9_000)).retries(0);
    let date = |seconds| Fault::Status(429).retry_after_date(seconds * SECOND);
    scene.source.fault(on(Op::ManifestGet).times(1).then(date(5)));
    scene.target.fault(on(Op::ManifestPut).times(1).then(date(8)));
    // A date is a whole second, rounded down.
    let run = scene.run().done();
    assert!(run.took >= 6 * SECOND, "{:?}", run.took);
}

#[test]
fn a01_retry_after_as_a_date_is_read_by_the_clock_of_the_server() {
    let hour = 3600 * SECOND;
    for its_now in [SystemTime::now() - hour, SystemTime::now() + hour] {
        let scene = Scene::new(&two(9_000)).retries(0);
        let busy = Fault::Status(429).header("Date", &httpdate::fmt_http_date(its_now));
        let busy = busy.header("Retry-After", &httpdate::fmt_http_date(its_now + 2 * SECOND));
        scene.source.fault(on(Op::ManifestGet).times(1).then(busy));
        let run = scene.run().done();
        assert!(run.took >= 2 * SECOND, "{:?}", run.took);
    }
}

#[test]
fn a01_retry_after_is_kept_by_a_token_service() {
    let net = Net::new();
    let tokens = net.token_service("auth").anonymous_pull().start();
    tokens.fault(on(Op::Token).times(1).then(Fault::Status(429).retry_after("1")));
    let scene = Scene::with(net, &two(9_000), |s| s.auth(Auth::Token(tokens)), |t| t).retries(0);
    scene.run().done();
    assert_left_alone(scene.journal(), "auth", 429, SECOND);
    assert_eq!(statuses(scene.journal(), "auth", Op::Token)[0], 429);
}

/// The first image is at `limited`, a registry of Docker Hub's name; the second is elsewhere.
fn one_limited_host(answer: Fault) -> (Scene, crate::support::Registry) {
    let images = [
        ("docker.io/group/first:1", Image::generated(Kind::Oci, 1, &[900])),
        ("quay.io/group/second:1", Image::generated(Kind::Oci, 2, &[900])),
    ];
    let scene = Scene::new(&images);
    let limited = scene.net.registry("limited").content(&scene.content).start();
    limited.fault(on(Op::ManifestGet).then(answer));
    (scene.elsewhere("docker.io", &limited), limited)
}

#[test]
fn a02_a_wait_beyond_all_patience_fails_that_hosts_images_at_once_and_no_others() {
    for wish in ["21600", "9999999999", "99999999999999999999999999"] {
        let (scene, limited) = one_limited_host(Fault::Status(429).retry_after(wish));
        let run = scene.run();
        let cause = run.failed_alone("group/first");
        assert!(run.took < 5 * SECOND, "{wish}: {:?}", run.took);
        assert!(cause.contains(&limited.host()) && cause.contains("rate limit"), "{cause}");
        assert!(wish != "21600" || cause.contains("6 h"), "{cause}");
        assert_eq!(scene.journal().requests("limited"), 1);
    }
}

#[test]
fn a02_the_user_says_how_long_a_wait_may_be() {
    for (patience, done) in [("--max-wait=2s", false), ("--max-wait=1m", true)] {
        let (scene, limited) = one_limited_host(Fault::Status(429).retry_after("3"));
        let scene = scene.flag(patience);
        if done {
            limited.clear_faults();
            limited.fault(on(Op::ManifestGet).times(1).then(Fault::Status(429).retry_after("3")));
            assert!(scene.run().done().took >= 3 * SECOND);
        } else {
            let run = scene.run();
            let cause = run.failed_alone("group/first");
            assert!(cause.contains("--max-wait") && run.took < 2 * SECOND, "{:?}: {cause}", run.took);
        }
    }
}

#[test]
fn a02_a_wait_that_makes_no_sense_is_an_ordinary_pause() {
    for wish in ["-1", "abc", "", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        let scene = Scene::new(&two(900));
        scene.source.fault(on(Op::ManifestGet).times(2).then(Fault::Status(429).retry_after(wish)));
        let run = scene.run().done();
        assert!(run.took < 10 * SECOND, "{wish}: {:?}", run.took);
    }
}

#[test]
fn a03_a_429_without_a_wish_and_with_any_body_is_waited_out() {
    let html = Fault::Status(429).html("<html><head><title>429 Too Many Requests</title></head></html>");
    let plain = Fault::Status(429).body("text/plain", "Too Many Requests (HAP429).\n");
    for answer in [Fault::Status(429), plain, html] {
        let scene = Scene::new(&two(900));
        scene.source.fault(on(Op::ManifestGet).repo("group/first").times(2).then(answer.clone()));
        scene.run().done();
        let asked = scene
            .journal()
            .filter(|e| e.host == "source" && e.op == Op::ManifestGet && e.repository == "group/first");
        assert_eq!(asked.len(), 3);
        assert!(asked.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(5)));
        // Where it never ends, what is said is the registry's, not a parser's.
        let scene = Scene::new(&two(900)).retries(2);
        scene.source.fault(on(Op::ManifestGet).repo("group/first").then(answer));
        let cause = scene.run().failed_alone("group/first");
        assert!(cause.contains("429") && !cause.contains("expected"), "{cause}");
    }
}

#[test]
fn a03_a_429_of_the_host_that_a_registry_redirects_to_is_waited_out() {
    let net = Net::new();
    let cdn = net.cdn("cdn");
    cdn.fault(on(Op::BlobGet).times(2).then(Fault::Status(429).html("<html>")));
    let redirect = on(Op::BlobGet).then(Fault::redirect(&cdn));
    let scene = Scene::with(net, &two(9_000), |s| s.rule(redirect), |t| t);
    scene.run().done();
    assert_eq!(statuses(scene.journal(), "cdn", Op::BlobGet).iter().filter(|s| **s == 429).count(), 2);
}

/// An answer, and how often a request is made that gets it.
fn permanent_answers() -> Vec<(Fault, usize)> {
    let code = |status, code| Fault::Status(status).error(code, "no");
    let mut answers: Vec<(Fault, usize)> =
        [400, 403, 404, 405, 406, 415, 501].map(|status| (Fault::Status(status), 1)).into();
    answers.push((code(400, "NAME_INVALID"), 1));
    answers.push((code(400, "UNSUPPORTED"), 1));
    answers.push((Fault::Status(401), 1));
    answers
}

#[test]
fn a04_what_is_permanent_is_asked_once_at_the_source() {
    for (answer, times) in permanent_answers() {
        for op in [Op::ManifestGet, Op::BlobGet] {
            let scene = Scene::new(&two(9_000));
            scene.source.fault(on(op).repo("group/first").then(answer.clone()));
            let run = scene.run();
            assert!(run.took < 5 * SECOND, "{:?}", run.took);
            assert_eq!(run.cause("group/first").lines().count(), 1);
            let asked = scene.journal().filter(|e| e.op == op && e.repository == "group/first");
            let mut by_path = std::collections::BTreeMap::<&str, usize>::new();
            asked.iter().for_each(|e| *by_path.entry(&e.path).or_default() += 1);
            assert!(by_path.values().all(|n| *n <= times), "{}", scene.journal().dump());
            scene.heal();
        }
    }
}

#[test]
fn a04_what_is_permanent_is_asked_once_at_the_target() {
    let mut answers = permanent_answers();
    // What docker-registry answers to layers that it will never take.
    answers.push((Fault::Status(500).error("MANIFEST_BLOB_UNKNOWN", "invalid URL on layer"), 1));
    for (answer, times) in answers {
        let scene = Scene::new(&two(9_000));
        scene.target.fault(on(Op::ManifestPut).repo("group/first").then(answer));
        let run = scene.run();
        run.failed_alone("group/first");
        assert!(run.took < 5 * SECOND, "{:?}", run.took);
        let asked = scene.journal().filter(|e| e.op == Op::ManifestPut && e.repository == "group/first");
        assert_eq!(asked.len(), times, "{}", scene.journal().dump());
        scene.heal();
    }
}

#[test]
fn a04_a_token_that_is_refused_is_replaced_once() {
    let scene = with_tokens();
    let challenge = format!("Bearer realm=\"http://{}/token\",error=\"invalid_token\"", "127.0.0.1:1");
    let refusal = Fault::Status(401).header("WWW-Authenticate", &challenge);
    scene.source.fault(on(Op::ManifestGet).repo("group/first").with_header("authorization").then(refusal));
    let run = scene.run();
    run.cause("group/first");
    let shown = scene.journal().filter(|e| {
        e.host == "source"
            && e.op == Op::ManifestGet
            && e.repository == "group/first"
            && e.header("authorization").is_some()
    });
    assert!(shown.len() <= 2, "{}", scene.journal().dump());
}

/// One fault for each kind of request that a run makes.
fn on_each_kind(times: usize, answer: &Fault) -> (Vec<Rule>, Vec<Rule>) {
    let rules = |kinds: &[&[Op]]| {
        let rule = |kinds: &&[Op]| {
            let first = on(kinds[0]);
            let rule = kinds[1..].iter().fold(first, |rule, op| rule.or(*op));
            rule.repo("group/first").times(times).then(answer.clone())
        };
        kinds.iter().map(rule).collect()
    };
    (
        rules(&[&[Op::ManifestGet], &[Op::BlobGet]]),
        rules(&[&[Op::ManifestHead], &[Op::UploadPut], &[Op::ManifestPut]]),
    )
}

#[test]
fn a05_errors_of_servers_are_tried_again_with_growing_pauses() {
    for status in [500, 502, 503, 504, 408, 499, 520, 521, 522, 523, 524] {
        let (source, target) = on_each_kind(2, &Fault::Status(status).html("<html>busy</html>"));
        let scene = Scene::with(Net::new(), &two(9_000), |s| s.rules(source), |t| t.rules(target));
        scene
            .run_with(|policy| {
                policy.timing.first_pause = Duration::from_millis(40);
                policy.timing.longest_pause = SECOND;
            })
            .done();
        let asked = scene
            .journal()
            .filter(|e| e.host == "source" && e.op == Op::ManifestGet && e.repository == "group/first");
        let pauses: Vec<Duration> = asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
        assert_eq!(pauses.len(), 2, "{status}: {}", scene.journal().dump());
        // Between half and all of 40 ms, then of 80 ms; what a busy machine adds to one it takes from the next.
        assert!(pauses[0] >= Duration::from_millis(15), "{pauses:?}");
        assert!(pauses[1] >= Duration::from_millis(30), "{pauses:?}");
    }
}

#[test]
fn a05_the_start_of_an_upload_is_tried_again() {
    for status in [500, 502, 503, 504] {
        let scene = Scene::new(&two(9_000));
        scene.target.fault(on(Op::Mount).or(Op::UploadStart).times(3).then(Fault::Status(status)));
        scene.run().done();
    }
}

#[test]
fn a06_a_host_that_fails_most_of_the_time_is_worn_down() {
    for (at_source, seed) in [(true, 1), (false, 2), (true, 3), (false, 4), (true, 5), (false, 6)] {
        let images: Vec<(&'static str, Image)> = (0..6)
            .map(|n| {
                let reference: &'static str = format!("quay.io/group/n{n}:1").leak();
                (reference, Image::generated(Kind::Oci, 300 + n, &[900]))
            })
            .collect();
        let scene = Scene::new(&images);
        let registry = if at_source { &scene.source } else { &scene.target };
        registry.fault(any().chance(0.8, seed).then(Fault::Status(503)));
        scene.run().done();
    }
}

#[test]
fn a06_a_single_image_at_such_a_host_gets_through_too() {
    for (at_source, seed) in [(true, 7), (false, 8), (true, 9), (false, 10)] {
        let scene = Scene::new(&[("quay.io/group/alone:1", Image::generated(Kind::Oci, 300, &[900]))]);
        let registry = if at_source { &scene.source } else { &scene.target };
        // A host that has never answered is taken for one that is down.
        registry.fault(any().after(1).chance(0.8, seed).then(Fault::Status(503)));
        scene.run().done();
    }
}

#[test]
fn a07_tries_do_not_multiply() {
    for (op, host) in [
        (Op::ManifestGet, "source"),
        (Op::BlobGet, "source"),
        (Op::UploadPut, "target"),
        (Op::ManifestPut, "target"),
        (Op::ManifestHead, "target"),
    ] {
        for status in [500, 503] {
            let scene = Scene::new(&two(9_000)).retries(2);
            let registry = if host == "source" { &scene.source } else { &scene.target };
            registry.fault(on(op).then(Fault::Status(status)));
            let run = scene.run();
            assert!(run.report.failed > 0, "{}", run.report);
            // An overloaded host is asked up to ten times as often while it is alive.
            let most = if status == 503 { 3 + 20 } else { 3 };
            assert_tried(&scene, host, op, most);
            scene.heal();
        }
    }
}

/// Each object at the host was asked for so often at most.
#[track_caller]
fn assert_tried(scene: &Scene, host: &str, op: Op, most: usize) {
    let mut by_object = std::collections::BTreeMap::<String, usize>::new();
    for entry in scene.journal().of(host, op) {
        let object = entry.digest.unwrap_or(entry.path);
        *by_object.entry(format!("{object} in {}", entry.repository)).or_default() += 1;
    }
    assert!(by_object.values().all(|n| *n <= most), "{op:?}: {}", scene.journal().dump());
}

#[test]
fn a07_a_target_that_is_down_from_the_start_is_asked_only_so_often() {
    let scene = Scene::new(&two(9_000)).retries(2);
    scene.target.fault(any().then(Fault::Status(503)));
    scene.run();
    assert_tried(&scene, "target", Op::ManifestHead, 3);
    assert_eq!(scene.journal().requests("target"), scene.journal().count("target", Op::ManifestHead));
    let scene = Scene::new(&two(9_000)).retries(2);
    scene.target.fault(any().then(Fault::HangUp(Cut::Rst)));
    let run = scene.run();
    assert_eq!(run.report.copied, 0);
    assert!(scene.journal().requests("target") <= 2 * 3, "{}", scene.journal().dump());
}

#[test]
fn a09_a_second_run_gets_no_manifest_and_a_first_one_each_once() {
    let platforms = (0..12).map(|n| {
        let platform = format!("linux/arch{n}");
        Child::platform(&platform, Image::generated(Kind::Oci, 100 + n, &[700]))
    });
    let images = [("quay.io/group/many:1", Image::index(Kind::Oci, platforms.collect()))];
    let scene = Scene::new(&images);
    scene.run().done();
    assert_eq!(scene.journal().count("source", Op::ManifestGet), 13);
    scene.journal().clear();
    scene.run().done();
    assert_eq!(scene.journal().count("source", Op::ManifestGet), 0);
    assert_eq!(scene.journal().count("source", Op::ManifestHead), 1);
}

#[test]
fn a10_odd_error_bodies_are_told_in_short() {
    let many: Vec<_> = (0..1000)
        .map(|n| serde_json::json!({ "code": format!("code_{n}"), "message": format!("message {n}") }))
        .collect();
    let detail = "x".repeat(2 << 20);
    let bodies = [
        (serde_json::json!({ "errors": many }).to_string(), vec!["code_0 message 0", "code_2 message 2"]),
        (
            format!(
                "{{\"errors\":[{{\"code\":\"denied\",\"message\":\"not you\",\"detail\":\"{detail}\"}}]}}"
            ),
            vec!["denied", "not you"],
        ),
        (serde_json::json!({ "errors": null }).to_string(), vec!["400 Bad Request"]),
        ("[".repeat(100_000), vec!["400"]),
    ];
    for (body, words) in bodies {
        let scene = Scene::new(&two(900));
        let answer = Fault::Status(400).body("application/json", body);
        scene.target.fault(on(Op::ManifestPut).repo("group/first").then(answer));
        let cause = scene.run().failed_alone("group/first");
        assert!(words.iter().all(|word| cause.contains(word)), "{cause}");
        assert!(!cause.contains("code_3"), "{cause}");
    }
}

#[test]
fn a_blob_that_is_limited_again_and_again_is_still_uploaded_once() {
    let images = two(9_000);
    let scene = Scene::new(&images).retries(0);
    let layer = own_layer(&images);
    scene.source.fault(on(Op::BlobGet).digest(&layer).times(2).then(Fault::Status(429).retry_after("0")));
    let began = Instant::now();
    scene.run().done();
    assert!(began.elapsed() < 5 * SECOND);
    assert_eq!(gets_of(scene.journal(), &layer).len(), 3);
    assert_eq!(puts_of(scene.journal(), &layer).len(), 1);
}
