//! The loop between two stores in memory, by a clock that does not tick while somebody works.

mod base;
mod lines;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::*;
use crate::error::Kind;
use crate::image::manifest::Manifest;
use crate::image::reference::{Algorithm, Digest, Location, Repository, TagOrDigest};
use crate::plan::Place;
use crate::store::Source;
use crate::store::memory::{Act, Entry, Fault, Store};

const SECOND: Duration = Duration::from_secs(1);

fn store(name: &str) -> Arc<Store> {
    Arc::new(Store::new(name))
}

/// Some bytes of which no other number makes the same.
fn bytes(number: usize, size: usize) -> Vec<u8> {
    let mut bytes = number.to_string().into_bytes();
    bytes.resize(size.max(bytes.len()), b'.');
    bytes
}

/// Puts an image of these blobs into a store: numbers and sizes, the first of them the config.
fn image(store: &Store, repository: &str, tag: &str, blobs: &[(usize, usize)]) -> Digest {
    padded(store, repository, tag, blobs, 0)
}

/// The same with a manifest that is so many bytes longer.
fn padded(store: &Store, repository: &str, tag: &str, blobs: &[(usize, usize)], padding: usize) -> Digest {
    let repository: Repository = repository.parse().unwrap();
    let mut described: Vec<serde_json::Value> = blobs
        .iter()
        .map(|(number, size)| {
            let blob = store.add_blob(&repository, bytes(*number, *size));
            serde_json::json!({ "digest": blob.digest.as_str(), "size": blob.size })
        })
        .collect();
    let config = described.remove(0);
    let annotations = serde_json::json!({ "padding": ".".repeat(padding) });
    let json = serde_json::json!({
        "schemaVersion": 2, "config": config, "layers": described, "annotations": annotations,
    });
    let manifest = Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap();
    store.add_manifest(&location(repository.as_str(), tag), &manifest);
    manifest.digest
}

fn location(repository: &str, tag: &str) -> Location {
    format!("host.example/{repository}:{tag}")
        .parse::<crate::image::reference::Reference>()
        .unwrap()
        .location()
}

fn digest(number: usize, size: usize) -> Digest {
    Digest::of(Algorithm::Sha256, &bytes(number, size))
}

fn request(source: &Arc<Store>, repository: &str, tag: &str) -> Request {
    Request {
        reference: format!("host.example/{repository}:{tag}").parse().unwrap(),
        source: Place { store: Source::memory(source), prefix: None },
        destinations: vec![location(repository, tag)],
        platforms: Arc::default(),
        refers_to: None,
        pinned: None,
        elsewhere: Arc::default(),
        assumed: None,
        locked: None,
        purpose: None,
    }
}

async fn run(requests: Vec<Request>, target: &Arc<Store>) -> Finished {
    let limits = Limits::for_images(NonZeroUsize::new(10).unwrap());
    let target = Target::memory(target);
    let listener: Listener = Arc::new(|_| {});
    mirror(requests, target, Rules::default(), limits, listener, std::future::pending()).await
}

/// The targets of what was copied, and those of what failed.
fn outcomes(finished: &Finished) -> (Vec<&str>, Vec<&str>) {
    let names = |wanted: fn(&Outcome) -> bool| {
        let those = finished.deliveries.iter().filter(|told| wanted(&told.outcome));
        those.map(|told| told.target.as_str()).collect()
    };
    (
        names(|outcome| matches!(outcome, Outcome::Copied { .. })),
        names(|outcome| matches!(outcome, Outcome::Failed(_))),
    )
}

/// When a manifest was put under this tag, after the beginning.
fn put_after(target: &Store, began: Instant, wanted: &Location) -> Duration {
    let is_it = |act: &Act| matches!(act, Act::PutManifest(location, _) if location == wanted);
    let entry = target.journal().into_iter().find(|entry| entry.done && is_it(&entry.act));
    entry.expect("it was put").at - began
}

#[tokio::test(start_paused = true)]
async fn each_blob_is_sent_once_and_mounted_where_it_is_needed_besides() {
    let (source, target) = (store("source"), store("target"));
    for (name, own) in [("a", 1), ("b", 2), ("c", 3)] {
        image(&source, name, "1", &[(own, 10), (77, 5_000_000), (own + 10, 3_000)]);
    }
    let requests = ["a", "b", "c"].map(|name| request(&source, name, "1")).to_vec();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/a:1", "target/b:1", "target/c:1"], vec![]));
    assert_eq!(target.blobs_put(), 7, "six of their own and one for all");
    assert_eq!((finished.totals.blobs_copied, finished.totals.blobs_mounted), (7, 2));
    assert_eq!(target.bytes_put(), finished.totals.bytes_copied);
    assert_eq!(finished.totals.bytes_shared, 2 * 5_000_000);
    for name in ["a", "b", "c"] {
        assert_eq!(target.digest_of(&location(name, "1")), source.digest_of(&location(name, "1")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_repositories_have_the_same_blobs_is_asked_for_no_mount() {
    let (source, target) = (store("source"), Arc::new(Store::new("target").shared()));
    for (name, own) in [("a", 1), ("b", 2)] {
        image(&source, name, "1", &[(own, 10), (77, 5_000)]);
    }
    let finished = run(vec![request(&source, "a", "1"), request(&source, "b", "1")], &target).await;
    assert_eq!(outcomes(&finished).0.len(), 2);
    assert_eq!((target.blobs_put(), finished.totals.blobs_mounted), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_image_that_one_of_its_names_lacks_gets_it() {
    let (source, target) = (store("source"), store("target"));
    for store in [&source, &target] {
        image(store, "coredns/coredns", "1", &[(1, 10), (2, 3_000)]);
    }
    let mut both = request(&source, "coredns/coredns", "1");
    both.destinations.push(location("coredns", "1"));
    let finished = run(vec![both], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/coredns:1"], vec![]));
    assert!(matches!(finished.deliveries[0].outcome, Outcome::Present(_)));
    assert_eq!((target.blobs_put(), finished.totals.blobs_mounted), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_waits_holds_nobody() {
    let (slow, fast, target) = (store("slow"), store("fast"), store("target"));
    image(&slow, "slow", "1", &[(1, 10), (2, 3_000)]);
    slow.script(|act| match act {
        Act::GetManifest(_) => vec![Fault::Delay(900 * SECOND)],
        _ => vec![],
    });
    let mut requests = vec![request(&slow, "slow", "1")];
    for number in 0..50 {
        let name = format!("fast{number}");
        image(&fast, &name, "1", &[(100 + number, 10), (77, 3_000)]);
        requests.push(request(&fast, &name, "1"));
    }
    let began = Instant::now();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished).0.len(), 51);
    for number in 0..50 {
        let put = put_after(&target, began, &location(&format!("fast{number}"), "1"));
        assert!(put < SECOND, "{number} waited {put:?}");
    }
    assert!(put_after(&target, began, &location("slow", "1")) >= 900 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn blobs_of_a_slow_host_leave_lanes_to_another() {
    let (slow, fast, target) = (store("slow"), store("fast"), store("target"));
    slow.script(|act| match act {
        Act::Open(..) => vec![Fault::Delay(8 * SECOND)],
        _ => vec![],
    });
    let mut requests = Vec::new();
    for number in 0..30 {
        image(&slow, &format!("slow{number}"), "1", &[(number, 10), (200 + number, 3_000_000)]);
        requests.push(request(&slow, &format!("slow{number}"), "1"));
    }
    image(&fast, "fast", "1", &[(500, 10), (501, 2_000_000)]);
    requests.push(request(&fast, "fast", "1"));
    let began = Instant::now();
    run(requests, &target).await;
    let put = put_after(&target, began, &location("fast", "1"));
    assert!(put < 9 * SECOND, "it waited {put:?}, for more than one round of the slow host's blobs");
}

#[tokio::test(start_paused = true)]
async fn a_repository_of_the_target_that_takes_its_time_does_not_keep_blobs_for_ever() {
    let (source, target) = (store("source"), store("target"));
    for name in ["late", "other"] {
        image(&source, name, "1", &[(name.len(), 10), (100 + name.len(), 3_000)]);
    }
    target.script(|act| match act {
        Act::Resolve(at) if at.repository.as_str() == "late" => vec![Fault::Delay(60 * SECOND)],
        _ => vec![],
    });
    let began = Instant::now();
    let finished = run(vec![request(&source, "late", "1"), request(&source, "other", "1")], &target).await;
    assert_eq!(outcomes(&finished).0.len(), 2);
    let put = put_after(&target, began, &location("other", "1"));
    assert!(put < 5 * SECOND, "it waited {put:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_image_that_is_known_last_is_not_forgotten() {
    let (source, target) = (store("source"), store("target"));
    let mut requests = Vec::new();
    for number in 0..300 {
        let name = format!("r{number}");
        image(&source, &name, "1", &[(number, 10), (77, 3_000)]);
        requests.push(request(&source, &name, "1"));
    }
    // For all others there is room to be found before it is asked for.
    target.script(|act| match act {
        Act::Resolve(at) if at.repository.as_str() == "r0" => vec![Fault::Delay(SECOND / 2)],
        _ => vec![],
    });
    let began = Instant::now();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished).0.len(), 300);
    assert!(put_after(&target, began, &location("r0", "1")) < SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_an_older_tag_at_the_target_holds_is_not_sent_again() {
    let (source, target) = (store("source"), store("target"));
    image(&target, "app", "1", &[(1, 10), (77, 5_000)]);
    image(&source, "app", "1", &[(2, 10), (77, 5_000)]);
    image(&source, "other", "1", &[(3, 10), (77, 5_000)]);
    let finished = run(vec![request(&source, "app", "1"), request(&source, "other", "1")], &target).await;
    assert_eq!(outcomes(&finished).0.len(), 2);
    assert_eq!(target.blobs_put(), 2, "the configs alone");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_one_source_has_lost_comes_from_another() {
    let (first, second, target) = (store("first"), store("second"), store("target"));
    image(&first, "a", "1", &[(1, 10), (77, 5_000)]);
    first.remove_blob(&"a".parse().unwrap(), &digest(77, 5_000));
    image(&second, "b", "1", &[(2, 10), (77, 5_000)]);
    // The one that has it is known late.
    second.script(|act| match act {
        Act::GetManifest(_) => vec![Fault::Delay(30 * SECOND)],
        _ => vec![],
    });
    let finished = run(vec![request(&first, "a", "1"), request(&second, "b", "1")], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/a:1", "target/b:1"], vec![]));
    let opens = |entry: &Entry| matches!(&entry.act, Act::Open(_, d) if *d == digest(77, 5_000));
    assert_eq!(first.journal().iter().filter(|entry| opens(entry)).count(), 1, "it does not have it");
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_no_source_has_fails_those_that_need_it_and_no_others() {
    let (source, target) = (store("source"), store("target"));
    for (name, own) in [("a", 1), ("b", 2), ("c", 3)] {
        let layer = if name == "c" { 78 } else { 77 };
        image(&source, name, "1", &[(own, 10), (layer, 5_000)]);
        source.remove_blob(&name.parse().unwrap(), &digest(77, 5_000));
    }
    let requests = ["a", "b", "c"].map(|name| request(&source, name, "1")).to_vec();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/c:1"], vec!["target/a:1", "target/b:1"]));
}

#[tokio::test(start_paused = true)]
async fn what_the_target_lacks_after_all_is_sent_again() {
    let (source, target) = (store("source"), store("target"));
    for tag in ["1", "2"] {
        image(&source, "app", tag, &[(tag.len() + tag.parse::<usize>().unwrap(), 10), (77, 5_000)]);
    }
    let lacked = Mutex::new(0);
    target.script(move |act| {
        let mut lacked = lacked.lock().unwrap();
        match act {
            Act::PutManifest(..) if *lacked == 0 => {
                *lacked += 1;
                vec![Fault::Fail(Kind::BlobUnknown(vec![digest(77, 5_000)]))]
            }
            _ => vec![],
        }
    });
    let finished = run(vec![request(&source, "app", "1"), request(&source, "app", "2")], &target).await;
    assert_eq!(outcomes(&finished).0.len(), 2);
    let puts =
        target.done().into_iter().filter(|act| matches!(act, Act::PutBlob(_, d) if *d == digest(77, 5_000)));
    assert_eq!(puts.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_repository_that_refuses_ends_nothing_for_others() {
    let (source, target) = (store("source"), store("target"));
    let mut requests = Vec::new();
    for number in 0..30 {
        let name = format!("r{number}");
        image(&source, &name, "1", &[(number, 10), (100 + number, 3_000)]);
        requests.push(request(&source, &name, "1"));
    }
    target.script(|act| match act {
        Act::Resolve(at) if ["r3", "r4", "r5"].contains(&at.repository.as_str()) => {
            vec![Fault::Fail(Kind::Transient)]
        }
        _ => vec![],
    });
    let finished = run(requests, &target).await;
    assert!(finished.gave_up.is_none());
    assert_eq!(outcomes(&finished).1, ["target/r3:1", "target/r4:1", "target/r5:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_refuses_everything_is_given_up_soon() {
    let (source, target) = (store("source"), store("target"));
    let mut requests = Vec::new();
    for number in 0..300 {
        let name = format!("r{number}");
        image(&source, &name, "1", &[(number, 10), (1_000 + number, 3_000)]);
        requests.push(request(&source, &name, "1"));
    }
    target.script(|act| match act {
        Act::Has(..) | Act::PutBlob(..) => vec![Fault::Fail(Kind::Unsupported)],
        _ => vec![],
    });
    let finished = run(requests, &target).await;
    assert!(finished.gave_up.is_some());
    let asked = target.journal().iter().filter(|entry| matches!(entry.act, Act::Has(..))).count();
    assert!(asked <= 150, "{asked}");
}

/// Puts something that refers to `subject` into a store.
fn referrer(store: &Store, repository: &str, number: usize, subject: &Manifest) -> Manifest {
    let config = store.add_blob(&repository.parse().unwrap(), bytes(number, 0));
    let json = serde_json::json!({
        "schemaVersion": 2,
        "config": { "digest": config.digest.as_str(), "size": config.size },
        "layers": [],
        "subject": { "digest": subject.digest.as_str(), "size": subject.bytes.len() },
    });
    let manifest = Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap();
    let name = TagOrDigest::Digest(manifest.digest.clone());
    store.add_manifest(&Location { repository: repository.parse().unwrap(), name }, &manifest);
    manifest
}

#[tokio::test(start_paused = true)]
async fn at_most_a_thousand_things_that_refer_to_an_image_are_taken_however_they_refer_to_it() {
    let (source, target) = (store("source"), store("target"));
    image(&source, "a", "1", &[(1, 10)]);
    let root = Source::memory(&source).manifest(&location("a", "1"), None).await.unwrap();
    for subject in 0..3 {
        let direct = referrer(&source, "a", 10 + subject, &root);
        (0..400).for_each(|n| _ = referrer(&source, "a", 1_000 * (subject + 1) + n, &direct));
    }
    let rules = Rules { referrers: true, ..Rules::default() };
    let limits = Limits::for_images(NonZeroUsize::new(10).unwrap());
    let listener: Listener = Arc::new(|_| {});
    let requests = vec![request(&source, "a", "1")];
    let end = std::future::pending();
    let finished = mirror(requests, Target::memory(&target), rules, limits, listener, end).await;
    let (copied, failed) = outcomes(&finished);
    assert_eq!((copied.len(), failed.len()), (1 + 3 + 800, 1));
}

#[tokio::test(start_paused = true)]
async fn manifests_of_images_that_are_done_are_forgotten_and_of_those_to_come_not_fetched() {
    let (source, target) = (store("source"), store("target"));
    let mut requests = Vec::new();
    for number in 0..400 {
        let name = format!("r{number}");
        padded(&source, &name, "1", &[(number, 10), (10_000 + number, 20)], 70_000);
        requests.push(request(&source, &name, "1"));
    }
    // Until the clock moves, nothing lands.
    target.script(|act| match act {
        Act::PutBlob(..) => vec![Fault::Delay(60 * SECOND)],
        _ => vec![],
    });
    let began = Instant::now();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished).0.len(), 400);
    let early = source
        .journal()
        .into_iter()
        .filter(|entry| matches!(entry.act, Act::GetManifest(_)) && entry.at - began < 60 * SECOND);
    let early = early.count();
    assert!((20..200).contains(&early), "{early} manifests were fetched before anything had landed");
}

#[tokio::test(start_paused = true)]
async fn an_image_whose_blobs_have_landed_gets_its_name_though_the_run_is_interrupted() {
    let (source, target) = (store("source"), store("target"));
    image(&source, "quick", "1", &[(1, 10), (2, 3_000)]);
    image(&source, "never", "1", &[(3, 10), (4, 3_000)]);
    target.script(|act| match act {
        Act::PutBlob(at, _) if at.as_str() == "quick" => vec![Fault::Delay(5 * SECOND)],
        Act::PutBlob(..) => vec![Fault::Delay(5_000 * SECOND)],
        _ => vec![],
    });
    let limits = Limits::for_images(NonZeroUsize::new(10).unwrap());
    let requests = vec![request(&source, "never", "1"), request(&source, "quick", "1")];
    let interrupted = tokio::time::sleep(SECOND);
    let memory = Target::memory(&target);
    let finished = mirror(requests, memory, Rules::default(), limits, Arc::new(|_| {}), interrupted).await;
    assert!(finished.interrupted);
    assert_eq!(outcomes(&finished).0, ["target/quick:1"]);
    assert!(matches!(finished.deliveries[0].outcome, Outcome::Left(_)), "in the order of the requests");
}

#[derive(Debug, Clone)]
struct Case {
    /// Source, repository, blobs.
    images: Vec<(usize, usize, Vec<usize>)>,
    /// Acts that fail: which of all that are tried, how, and whether it passes after one time.
    faults: Vec<(usize, usize, bool)>,
    unverified: bool,
    shared: bool,
    mounts: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let blobs = prop::collection::btree_set(0..8_usize, 1..5).prop_map(|set| set.into_iter().collect());
    let images = prop::collection::vec((0..2_usize, 0..3_usize, blobs), 1..9);
    let faults = prop::collection::vec((0..40_usize, 0..5_usize, any::<bool>()), 0..4);
    (images, faults, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(images, faults, unverified, shared, mounts)| Case { images, faults, unverified, shared, mounts },
    )
}

const SIZES: [usize; 8] = [10, 900, 3_000, 70_000, 300_000, 1_200_000, 20, 2_500_000];

/// The image, as the source has it, is whole at the target.
fn is_whole(target: &Store, repository: &str, tag: &str, blobs: &[usize]) -> bool {
    let name: Repository = repository.parse().unwrap();
    let all = blobs.iter().all(|blob| target.blob(&name, &digest(*blob, SIZES[*blob])).is_some());
    all && target.digest_of(&location(repository, tag)).is_some()
}

async fn play(case: Case) {
    let sources = [store("first"), store("second")];
    let mut made = Store::new("target").retries(5);
    if case.shared {
        made = made.shared();
    }
    if case.unverified {
        made = made.taking_unverified();
    }
    if !case.mounts {
        made = made.without_mounts();
    }
    let target = Arc::new(made);
    let mut requests = Vec::new();
    for (number, (from, repository, blobs)) in case.images.iter().enumerate() {
        let (repository, tag) = (format!("r{repository}"), number.to_string());
        let sized: Vec<(usize, usize)> = blobs.iter().map(|blob| (*blob, SIZES[*blob])).collect();
        image(&sources[*from], &repository, &tag, &sized);
        requests.push(request(&sources[*from], &repository, &tag));
    }
    let touched = Arc::new(Mutex::new(Vec::<String>::new()));
    for (place, which) in [(&sources[0], 0), (&sources[1], 1), (&target, 2)] {
        let mut faults: Vec<(usize, usize, bool)> =
            case.faults.iter().filter(|(at, ..)| at % 3 == which).copied().collect();
        let mut tried = 0;
        let mut broken: Vec<(Act, Kind)> = Vec::new();
        let touched = touched.clone();
        place.script(move |act| {
            tried += 1;
            if let Some((_, kind)) = broken.iter().find(|(known, _)| known == act) {
                return vec![Fault::Fail(kind.clone())];
            }
            let Some(at) = faults.iter().position(|(at, ..)| *at < tried) else { return vec![] };
            let (_, kind, passes) = faults.remove(at);
            let kind =
                [Kind::Transient, Kind::NotFound, Kind::Denied, Kind::Invalid, Kind::Busy][kind].clone();
            // Only what moves blobs is tried again by the one who asks; the rest is left to the store.
            let is_tried_again =
                matches!(act, Act::Open(..) | Act::Read(..) | Act::PutBlob(..) | Act::Has(..));
            if !passes || !kind.may_pass() || !is_tried_again {
                touched.lock().unwrap().push(format!("{act:?}"));
            }
            if !passes || !kind.may_pass() {
                broken.push((act.clone(), kind.clone()));
            }
            vec![Fault::Fail(kind)]
        });
    }
    let finished = run(requests, &target).await;
    let touched = touched.lock().unwrap().join(" ");
    assert_eq!(finished.deliveries.len(), case.images.len());
    for (told, (number, (_, repository, blobs))) in
        finished.deliveries.iter().zip(case.images.iter().enumerate())
    {
        let repository = format!("r{repository}");
        let whole = is_whole(&target, &repository, &number.to_string(), blobs);
        match &told.outcome {
            Outcome::Copied { .. } => assert!(whole, "{} is told as copied", told.target),
            Outcome::Failed(_) => {
                let tag = target.digest_of(&location(&repository, &number.to_string()));
                assert_eq!(tag, None, "{} failed and has its tag", told.target);
                let named = format!("Repository(\"{repository}\")");
                let of_its_blobs =
                    blobs.iter().any(|blob| touched.contains(digest(*blob, SIZES[*blob]).as_str()));
                assert!(
                    touched.contains(&named) || of_its_blobs,
                    "{} failed by a fault of others: {touched}",
                    told.target
                );
            }
            other => panic!("{}: {other:?}", told.target),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_fault_does_not_touch_is_copied_and_the_report_is_true(case in case()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(play(case));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_wants_to_know_all_is_told_before_anything_is_put() {
    let source = store("source");
    let target = Arc::new(Store::new("target").shared().wanting_all_first());
    for (name, own) in [("a", 1), ("b", 2)] {
        image(&source, name, "1", &[(own, 10), (77, 5_000_000)]);
    }
    // The last one is late, and all wait for it.
    source.script(|act| match act {
        Act::GetManifest(at) if *at == location("b", "1") => vec![Fault::Delay(SECOND)],
        _ => Vec::new(),
    });
    let requests = ["a", "b"].map(|name| request(&source, name, "1")).to_vec();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/a:1", "target/b:1"], vec![]));
    let done = target.done();
    let is_put = |act: &Act| matches!(act, Act::PutBlob(..) | Act::PutManifest(..));
    let told = done.iter().position(|act| *act == Act::Prepare(vec![location("a", "1"), location("b", "1")]));
    assert!(told < done.iter().position(is_put) && told.is_some(), "{done:?}");
    assert_eq!(done.last(), Some(&Act::Finish { is_whole: true }));
    assert!(finished.unfinished.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_put_into_a_target_that_lacks_something_is_not_called_copied() {
    let source = store("source");
    let target = Arc::new(Store::new("target").shared().wanting_all_first());
    image(&source, "a", "1", &[(1, 10), (77, 5_000_000)]);
    let requests = ["a", "gone"].map(|name| request(&source, name, "1")).to_vec();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished), (vec![], vec!["target/gone:1"]));
    assert!(matches!(finished.deliveries[0].outcome, Outcome::Left(_)), "{finished:?}");
    assert!(finished.unfinished.is_some());
    assert_eq!(target.blobs_put(), 2, "what can be had is kept for the next run");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_has_no_room_for_all_is_given_up_before_a_blob_moves() {
    let source = store("source");
    let target = Arc::new(Store::new("target").shared().wanting_all_first());
    image(&source, "a", "1", &[(1, 10)]);
    target.script(|act| match act {
        Act::Prepare(_) => vec![Fault::Fail(Kind::Full)],
        _ => Vec::new(),
    });
    let finished = run(vec![request(&source, "a", "1")], &target).await;
    assert_eq!(finished.gave_up.map(|error| error.kind), Some(Kind::Full));
    assert!(!source.done().iter().any(|act| matches!(act, Act::Open(..))));
    assert!(matches!(finished.deliveries[0].outcome, Outcome::Left(_)));
}
