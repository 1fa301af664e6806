//! Limits of so many requests a second, as gateways before registries set them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mirror_images::store::patience::Policy;

use crate::scene::{Run, Scene};
use crate::support::journal::Entry;
use crate::support::net::call::Call;
use crate::support::{Fault, Image, Kind, Op, any, on};

/// Requests a second, and as many at once after a pause.
const RATE: u32 = 20;

/// Says which requests are too many.
fn bucket() -> impl Fn(&Call) -> bool + Send + Sync + 'static {
    let rate = f64::from(RATE);
    let filled = Mutex::new((Instant::now(), rate));
    move |_| {
        let mut filled = filled.lock().unwrap();
        let (since, left) = *filled;
        let left = (left + since.elapsed().as_secs_f64() * rate).min(rate);
        *filled = (Instant::now(), if left >= 1.0 { left - 1.0 } else { left });
        left < 1.0
    }
}

#[test]
fn a_body_is_held_back_where_its_head_may_be_refused() {
    for parallel in ["-p=1", "-p=10"] {
        let scene = Scene::new(&images(12, 150_000)).flag(parallel);
        // Questions are refused first, and then blobs by their heads, far sooner than they.
        let by_head = Fault::Status(429).retry_after("0").early(0, Duration::from_secs(2));
        scene
            .target
            .fault(on(Op::ManifestHead).times(2).then(Fault::DelayRequest(Duration::from_millis(450))));
        scene.target.fault(on(Op::ManifestHead).times(2).then(Fault::Status(429).retry_after("0")));
        scene.target.fault(on(Op::UploadPut).larger_than(100_000).times(6).then(by_head));
        scene.run().done();
        let refused = at_target(&scene, |entry| entry.op == Op::UploadPut && entry.status == Some(429)).len();
        assert_eq!(refused, 6, "{parallel}");
        let discarded = scene.journal().discarded("target");
        assert!(discarded <= 5_000, "{parallel}: {discarded} bytes");
    }
}

/// Images with a blob of so many bytes each.
fn images(count: usize, size: u64) -> Vec<(&'static str, Image)> {
    let image = |n: usize| {
        let reference: &'static str = format!("quay.io/group/n{n}:1").leak();
        (reference, Image::generated(Kind::Oci, 500 + n as u64, &[size]))
    };
    (0..count).map(image).collect()
}

/// Mirrors to a target that has a limit, if it has an answer to what is too much.
fn limited(parallel: &'static str, answer: Option<&Fault>) -> (Scene, Run) {
    // The questions at the beginning are too many already, and the blobs too large to be sent in vain.
    let scene = Scene::new(&images(26, 150_000)).flag(parallel);
    answer.into_iter().for_each(|answer| _ = scene.target.fault(any().when(bucket()).then(answer.clone())));
    let pauses = |policy: &mut Policy| {
        policy.timing.first_pause = Duration::from_millis(100);
        policy.timing.longest_pause = Duration::from_secs(2);
    };
    let run = scene.run_with(pauses).done();
    (scene, run)
}

fn at_target(scene: &Scene, wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
    scene.journal().filter(|entry| entry.host == "target" && wanted(entry))
}

/// Bytes of blobs that the target was sent, for each byte that it has been sent well.
fn sent(scene: &Scene) -> f64 {
    let bytes = |entries: Vec<Entry>| entries.iter().map(|entry| entry.read).sum::<u64>() as f64;
    let all = at_target(scene, |entry| entry.op == Op::UploadPut);
    bytes(all) / bytes(at_target(scene, |entry| entry.op == Op::UploadPut && entry.succeeded()))
}

/// Seconds that the requests which the target has answered take at its limit.
fn fair(scene: &Scene) -> f64 {
    let taken = at_target(scene, |entry| entry.status != Some(429)).len();
    (taken as f64 - f64::from(RATE)) / f64::from(RATE)
}

fn told(scene: &Scene, run: &Run) -> String {
    let refused = at_target(scene, |entry| entry.status == Some(429)).len();
    format!(
        "{:.2} s of {:.2} s, {refused} refused, {:.3} times the bytes",
        run.took.as_secs_f64(),
        fair(scene),
        sent(scene)
    )
}

#[track_caller]
fn assert_limit_is_used(answer: &Fault) {
    let mut took = Vec::new();
    for parallel in ["-p=1", "-p=10"] {
        // On a busy machine all that has no limit takes its time as well.
        let free = limited(parallel, None).1.took.as_secs_f64();
        let (scene, run) = limited(parallel, Some(answer));
        let told = format!("{parallel}: {}, {free:.2} s without a limit", told(&scene, &run));
        println!("{told}");
        assert!(sent(&scene) <= 1.1, "{told}");
        // The last pause may have been for nothing.
        assert!(run.took.as_secs_f64() <= 1.2 * fair(&scene) + 1.0 + 2.0 * free, "{told}");
        took.push((run.took.as_secs_f64(), free));
    }
    let [(one, free_one), (ten, free_ten)] = took[..] else { unreachable!() };
    assert!(ten <= 1.1 * one + 0.5 + 2.0 * (free_one + free_ten), "{took:?}");
}

#[test]
fn a_limit_of_requests_a_second_is_used_up_and_hardly_a_byte_is_sent_in_vain() {
    assert_limit_is_used(&Fault::Status(429).retry_after("1"));
}

#[test]
fn a_limit_that_names_no_wait_is_used_up_as_well() {
    assert_limit_is_used(&Fault::Status(429));
}

#[test]
fn after_a_pause_one_asks_alone_and_then_half_of_those_before() {
    // More than the 96 that ask at once, none of which is answered for a while but one.
    let scene = Scene::new(&images(200, 900));
    let asked = AtomicUsize::new(0);
    let taken = move |_: &Call| asked.fetch_add(1, Ordering::SeqCst) != 40;
    scene.target.fault(any().when(taken).then(Fault::DelayHeaders(Duration::from_millis(100))));
    scene.target.fault(any().after(40).times(1).then(Fault::Status(429).retry_after("5")));
    scene.run().done();
    let refused = &at_target(&scene, |entry| entry.status == Some(429))[0];
    let told = refused.done.unwrap();
    // What was under way before takes its time on a busy machine.
    let after = at_target(&scene, |entry| entry.at > told + Duration::from_millis(4500));
    let (probe, next) = (&after[0], &after[1]);
    assert!(next.at >= probe.done.unwrap(), "{}", scene.journal().dump());
    let at_once = after[1..].iter().filter(|entry| entry.at < after[1].done.unwrap()).count();
    // Whoever is answered meanwhile makes room for another; the halving to the number is held by tests of the pace.
    assert!(at_once <= 96 * 3 / 4, "{at_once} at once\n{}", scene.journal().dump());
}
