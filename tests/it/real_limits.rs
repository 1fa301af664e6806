//! A real registry behind a limit of requests, and at the end of a thin line.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::program::Ended;
use crate::set_ups::{mirror_all, wanted};
use crate::stage::assert_mirrored;
use crate::support::content::Content;
use crate::support::line::Line;
use crate::support::nginx::{self, Nginx};
use crate::support::process::{DockerRegistry, Setup, require};
use crate::support::{Image, Kind, Net};

/// A docker-registry behind an nginx that lets 20 requests a second through and `burst` more at once, as people set it,
/// and that notes in `log` when it has answered what.
fn limited(registry: &DockerRegistry, burst: u32, log: &Path) -> Nginx {
    let http =
        "limit_req_zone $binary_remote_addr zone=all:1m rate=20r/s; log_format status '$msec $status';";
    let server = format!(
        "client_max_body_size 0; access_log {} status; limit_req zone=all burst={burst} nodelay;\n\
         limit_req_status 429; error_page 429 @busy;\n\
         location @busy {{ add_header Retry-After 1 always; return 429; }}",
        log.display()
    );
    let location = nginx::AS_THEY_ARE;
    let to = registry.addr();
    Nginx::start(&nginx::Setup { to, tls: None, client_ca: None, http, server: &server, location }).unwrap()
}

/// Images with a layer of more than a mebibyte, one that is small and one that is hardly more than a question.
fn images(count: u64) -> Content {
    let mut content = Content::new();
    for n in 0..count {
        let sizes = [1_200_000 + 10_000 * n, 150_000, 30_000];
        content.add(&format!("group/n{n}"), "1", &Image::generated(Kind::Oci, 900 + n, &sizes));
    }
    content
}

#[derive(Debug)]
struct Outcome {
    took: Duration,
    /// Bytes sent to the target, for each byte of the blobs.
    sent: f64,
    /// Requests that were refused, and those of them that were later than what was under way at the first refusal.
    refused: usize,
    refused_later: usize,
}

/// Mirrors 16 images to such a registry; all of them are there then.
#[track_caller]
fn mirror(burst: u32, parallel: &str) -> Outcome {
    let net = Net::new();
    let content = images(16);
    let bytes: u64 = content.blobs.values().map(|blob| blob.size).sum();
    let source = net.registry("source").content(&content).start();
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let nginx = limited(&registry, burst, &log);
    let line = Line::fast(&net, nginx.addr());
    let began = Instant::now();
    let run = mirror_all(&content, &source.url(), &line.host(), &["-p", parallel]).expect(0);
    let took = began.elapsed();
    assert_eq!(run.number("copied"), 16, "{}", run.stdout);
    assert_mirrored(&net, &registry.url(), &wanted(&content));
    let log = std::fs::read_to_string(&log).unwrap();
    let refused: Vec<f64> = log.lines().filter_map(|line| line.strip_suffix(" 429")?.parse().ok()).collect();
    let refused_later = refused.iter().filter(|at| **at > refused[0] + 0.9).count();
    let sent = line.carried() as f64 / bytes as f64;
    Outcome { took, sent, refused: refused.len(), refused_later }
}

#[test]
fn a_registry_behind_a_limit_of_requests_gets_all_and_hardly_a_byte_in_vain_however_many_go_at_once() {
    if !require("docker-registry") || !require("nginx") {
        return;
    }
    let (one, ten) = (mirror(20, "1"), mirror(20, "10"));
    println!("{one:?}\n{ten:?}");
    for outcome in [&one, &ten] {
        // One blob of the largest is a twentieth of all.
        assert!(outcome.sent <= 1.11, "{outcome:?}");
        // The limit has to be met for this to show anything.
        assert!(outcome.refused > 0 && outcome.refused_later <= 25, "{outcome:?}");
    }
    // Each lets one go in vain at most, where the machine is too busy to hear of a refusal in time.
    assert!(ten.sent <= one.sent + 0.06, "{one:?} {ten:?}");
    assert!(ten.took <= one.took.mul_f64(1.3) + Duration::from_secs(3), "{one:?} {ten:?}");
}

/// Images of a large layer each.
fn heavy(count: u64, size: u64) -> Content {
    let mut content = Content::new();
    for n in 0..count {
        content.add(&format!("group/n{n}"), "1", &Image::generated(Kind::Oci, 800 + n, &[size]));
    }
    content
}

/// What a run over a thin line to a docker-registry ends with. The line is fast once `meanwhile` is over.
#[track_caller]
fn over_thin_line(
    content: &Content,
    speed: u64,
    flags: &[&str],
    meanwhile: impl FnOnce(&Line) + Send,
) -> Ended {
    let net = Net::new();
    let source = net.registry("source").content(content).start();
    let registry = DockerRegistry::start(&Setup::default()).unwrap();
    let line = Line::thin(&net, registry.addr(), speed);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            meanwhile(&line);
            line.set_speed(None);
        });
        mirror_all(content, &source.url(), &line.host(), &[&["--retries=0"], flags].concat())
    });
    if run.code == Some(0) {
        assert_mirrored(&net, &registry.url(), &wanted(content));
    }
    run
}

#[test]
fn an_upload_over_a_line_that_stands_still_is_given_up_after_the_stall_timeout_and_not_before() {
    if !require("docker-registry") {
        return;
    }
    let content = heavy(1, 3_000_000);
    let stand_still = |line: &Line| {
        line.wait_for(500_000);
        line.set_speed(Some(0));
        std::thread::sleep(Duration::from_secs(5));
    };
    let run = over_thin_line(&content, 1_000_000, &["--stall-timeout=2"], stand_still).expect(3);
    assert!(run.stdout.contains("takes no more bytes"), "{}", run.stdout);
    over_thin_line(&content, 1_000_000, &["--stall-timeout=30"], stand_still).expect(0);
}

/// With all of them at once each waits for longer than it may until it is its turn again.
#[test]
fn large_blobs_that_a_thin_line_would_starve_wait_for_their_turn() {
    if !require("docker-registry") {
        return;
    }
    let meanwhile = |_: &Line| std::thread::sleep(Duration::from_secs(18));
    over_thin_line(&heavy(26, 1_500_000), 400_000, &["-p=60", "--stall-timeout=7"], meanwhile).expect(0);
}
