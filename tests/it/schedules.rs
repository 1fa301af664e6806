//! Random schedules: faults over a few images of several hosts, with several tags to a repository and shared layers.
//!
//! What must be true of each: the report is the truth, a tag names only what is whole, whatever no fault touches for
//! good is copied, requests and bytes sent in vain are bounded, and a second run without faults completes all.
//!
//! `PROPTEST_CASES` asks for more of them, `SCHEDULES_SEED` for those from that number on. A failing one is shrunk and
//! printed with its number; it becomes a fixed one below.

mod draw;
mod faults;
mod images;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use mirror_images::output::report::{Exit, Status};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use self::draw::{Drawn, POOL, Place, Planned, Schedule, SetUp, What, schedule};
use self::faults::{Rations, effect};
use self::images::{Named, named};
use crate::scene::{Run, Scene};
use crate::support::registry::{Auth, Registry};
use crate::support::{Content, Cut, Fault, Image, Kind, Net, Op, on};

/// Sources besides the scene's own, with the host whose images they have.
const OTHERS: [(&str, &str); 2] = [("docker.io", "docker"), ("registry.k8s.io", "k8s")];

/// Most requests, and bytes, that a fault which stays may cost: all tries of some requests, or of a few blobs.
const REQUESTS_FOR_WHAT_STAYS: usize = 4_500;
const BYTES_FOR_WHAT_STAYS: u64 = 64 << 20;

/// The scene, and the sources besides its own.
struct Stage {
    scene: Scene,
    others: BTreeMap<&'static str, Registry>,
    realm: String,
}

fn host_of(reference: &str) -> &str {
    reference.split_once('/').expect("a host").0
}

impl Stage {
    fn new(images: &[Named], set_up: &SetUp) -> Self {
        let net = Net::new();
        let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
        let auth = |wanted| if wanted { Auth::Token(tokens.clone()) } else { Auth::None };
        let mut others = BTreeMap::new();
        for (host, name) in OTHERS {
            let mut content = Content::new();
            for image in images.iter().filter(|image| host_of(image.reference) == host) {
                let (repository, tag) = crate::scene::place_of(image.reference);
                content.add(&repository, &tag, &image.image);
            }
            let registry = net.registry(name).content(&content).auth(auth(set_up.source_tokens));
            others.insert(host, registry.start());
        }
        let content: Vec<(&'static str, Image)> =
            images.iter().map(|image| (image.reference, image.image.clone())).collect();
        let (source, target) = (auth(set_up.source_tokens), auth(set_up.target_tokens));
        let mut scene = Scene::with(net, &content, |s| s.auth(source), |t| t.auth(target));
        for (host, name) in OTHERS {
            scene = scene.elsewhere(host, &others[host]).trusting(name);
        }
        let host = scene.target.host();
        scene = scene.login(&host, "u", "p").budget(Duration::from_secs(60));
        if set_up.single {
            scene = scene.flag("-p1");
        }
        if set_up.unverified {
            scene.target.take_unverified_manifests();
        }
        if let Some(limit) = set_up.body_limit {
            let too_large = on(Op::UploadPut).or(Op::UploadPatch).larger_than(limit);
            scene.target.fault(too_large.then(Fault::Status(413)));
        }
        if let Some(rule) = faults::mounts(set_up.mounts, images, set_up.unverified) {
            scene.target.fault(rule);
        }
        if set_up.occupied {
            let (repository, tag) = crate::scene::place_of(images[0].reference);
            let mut content = Content::new();
            content.add(&repository, &tag, &Image::generated(Kind::Oci, 4_242, &[3_000]));
            scene.target.add(&content);
        }
        Self { scene, others, realm: tokens.realm() }
    }

    fn source_of(&self, reference: &str) -> &Registry {
        self.others.get(host_of(reference)).unwrap_or(&self.scene.source)
    }
}

/// Runs a schedule; the scene's own judge looks at both runs.
fn play(schedule: &Schedule) {
    let images = named(&schedule.images);
    let set_up = &schedule.set_up;
    let stage = Stage::new(&images, set_up);
    let mut rations = Rations::default();
    // Images that cannot be copied, or need not be.
    let liars: BTreeSet<&str> = images.iter().filter(|i| i.is_lie).map(|i| i.reference).collect();
    let mut touched = liars.clone();
    let mut staying = liars.len();
    for planned in &schedule.faults {
        if planned.what == What::Down {
            let reference = images[planned.repository % images.len()].reference;
            stage.source_of(reference).go_down();
            staying += 1;
            let of_host = images.iter().filter(|i| host_of(i.reference) == host_of(reference));
            touched.extend(of_host.map(|i| i.reference));
            continue;
        }
        let is_source = matches!(planned.place, Place::SourceManifest | Place::SourceBlob);
        let has_tokens = if is_source { set_up.source_tokens } else { set_up.target_tokens };
        let realm = has_tokens.then_some(stage.realm.as_str());
        let Some(effect) = effect(planned, &images, realm, set_up.unverified, &mut rations) else { continue };
        let registry = match effect.at_source_of {
            Some(reference) => stage.source_of(reference),
            None => &stage.scene.target,
        };
        registry.fault(effect.rule);
        staying += usize::from(!effect.touched.is_empty());
        touched.extend(effect.touched);
    }
    let run = stage.scene.run_with(|policy| {
        policy.retries = if touched.is_empty() { 20 } else { 12 };
        policy.timing.longest_pause = Duration::from_millis(10);
        policy.timing.longest_wait = Duration::from_secs(15);
        for limit in [&mut policy.timing.answer, &mut policy.timing.stall, &mut policy.timing.commit] {
            *limit = Duration::from_secs(1);
        }
    });
    assert_untouched_are_copied(&stage, &run, &images, &touched);
    assert_little_in_vain(&stage, &images, set_up, rations.strikes, staying);

    let Stage { mut scene, others, .. } = stage;
    scene.source.come_up();
    for other in others.values() {
        other.come_up();
        other.clear_faults();
    }
    scene.references.retain(|reference| !liars.contains(reference.as_str()));
    // What is claimed of the order of requests is about one run.
    scene.journal().clear();
    if !scene.references.is_empty() {
        scene.heal();
    }
}

/// Whatever no fault touches for good is copied, and with it the run did something.
#[track_caller]
fn assert_untouched_are_copied(stage: &Stage, run: &Run, images: &[Named], touched: &BTreeSet<&str>) {
    let report = &run.report;
    for line in &report.images {
        let is_done = matches!(line.result, Status::Copied | Status::Present);
        assert!(
            is_done || touched.contains(line.source.as_str()),
            "{} was touched by nothing that stays\n{report}\n{}",
            line.source,
            stage.scene.journal().dump()
        );
    }
    if touched.len() < images.len() {
        assert_ne!(report.exit(), Exit::TargetRefused, "{report}");
    }
}

/// Requests and bytes are as many as the images explain, with the faults that pass and those that stay.
#[track_caller]
fn assert_little_in_vain(stage: &Stage, images: &[Named], set_up: &SetUp, strikes: usize, staying: usize) {
    const LARGEST: u64 = POOL[POOL.len() - 1];
    let journal = stage.scene.journal();
    let sources = ["source", "docker", "k8s"];
    let requests = sources.iter().map(|source| journal.requests(source)).sum::<usize>();
    let requests = requests + journal.requests("target");
    let sent = journal.bytes_read("target");
    let read: u64 = sources.iter().map(|source| journal.bytes_written(source)).sum();

    let most = 40 * images.len() + 30 * strikes + REQUESTS_FOR_WHAT_STAYS * staying;
    assert!(requests <= most, "{requests} requests, not {most}\n{}", journal.dump());
    let blobs = images.iter().flat_map(|image| image.image.all_blobs());
    let wanted: u64 = blobs.map(|blob| blob.size).sum();
    // A body that is too large is sent once for each image before its size is known, as is what a strike cuts.
    let too_large = if set_up.body_limit.is_some() { images.len() } else { 0 };
    let most = wanted + LARGEST * (1 + too_large + strikes) as u64 + BYTES_FOR_WHAT_STAYS * staying as u64;
    assert!(sent <= most, "{sent} bytes were sent, not {most}\n{}", journal.dump());
    assert!(read <= most + LARGEST, "{read} bytes were read, not {most}\n{}", journal.dump());
    if std::env::var_os("SCHEDULES_FIGURES").is_some() {
        println!(
            "FIGURES images {} staying {staying} strikes {strikes} requests {requests} wanted {wanted} sent {sent} read {read}",
            images.len()
        );
    }
}

#[test]
fn any_schedule_of_faults_ends_with_a_whole_mirror_or_a_true_report() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = number("PROPTEST_CASES").unwrap_or(24);
    let first = number("SCHEDULES_SEED").unwrap_or_else(rand_seed);
    let failed: Vec<String> = (first..first.saturating_add(cases)).filter_map(failure).collect();
    assert!(failed.is_empty(), "{} of {cases} failed:\n{}", failed.len(), failed.join("\n\n"));
}

/// A number that no run before had.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) >> 32
}

/// What is wrong with the schedule of this number, shrunk.
fn failure(seed: u64) -> Option<String> {
    let config = Config {
        cases: 1,
        max_shrink_iters: 40,
        max_shrink_time: 120_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let outcome = runner.run(&schedule(), |schedule| {
        let played = catch_unwind(AssertUnwindSafe(|| play(&schedule)));
        played.map_err(|panic| TestCaseError::fail(words_of(&*panic)))
    });
    let failure = outcome.err().map(|error| format!("SCHEDULES_SEED={seed} PROPTEST_CASES=1: {error}"));
    failure.iter().for_each(|failure| println!("{failure}"));
    failure
}

fn images_in(repositories: &[usize], layers: &[usize]) -> Vec<Drawn> {
    let image =
        |repository: &usize| Drawn { repository: *repository, layers: layers.to_vec(), ..Drawn::default() };
    repositories.iter().map(image).collect()
}

fn for_ever(place: Place, what: What) -> Planned {
    Planned { place, what, repository: 0, narrow: None, after: 0, times: 1, for_ever: true }
}

/// A blob is wanted by two images of one host, and the repository of the first does not give it.
#[test]
fn a_blob_that_one_repository_does_not_give_comes_from_another_of_its_host() {
    for what in [What::Status(500), What::HangUp(Cut::Rst), What::Limited, What::Refusal(403), What::Flip] {
        let faults = vec![for_ever(Place::SourceBlob, what)];
        play(&Schedule { images: images_in(&[0, 1], &[3]), set_up: SetUp::default(), faults });
    }
}

/// A target with a body limit takes pieces, but not in the repository of the first image.
#[test]
fn pieces_that_one_repository_refuses_are_taken_by_others() {
    for status in [405, 400] {
        let set_up = SetUp { body_limit: Some(400_000), single: true, ..SetUp::default() };
        let images = vec![
            Drawn { layers: vec![5], ..Drawn::default() },
            Drawn { repository: 2, layers: vec![5, 4], ..Drawn::default() },
        ];
        play(&Schedule { images, set_up, faults: vec![for_ever(Place::Piece, What::Refusal(status))] });
    }
}

/// Found by the schedules: the first contact by plain HTTP was answered by a challenge, and then lost.
#[test]
fn a_connection_that_is_lost_after_the_first_challenge_is_made_again_the_same_way() {
    for place in [Place::TargetHead, Place::SourceManifest] {
        let hang_up = Planned {
            place,
            what: What::HangUp(Cut::Fin),
            repository: 0,
            narrow: None,
            after: 1,
            times: 1,
            for_ever: false,
        };
        let set_up = SetUp { source_tokens: true, target_tokens: true, ..SetUp::default() };
        play(&Schedule { images: images_in(&[0, 1, 2], &[]), set_up, faults: vec![hang_up] });
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
