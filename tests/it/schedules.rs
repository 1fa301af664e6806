//! Random schedules: up to five faults of the table over a few small images that share blobs.
//!
//! `PROPTEST_CASES` asks for more of them. A failing schedule is printed, shrunk; it becomes a fixed one below.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::scene::Scene;
use crate::support::content::Child;
use crate::support::registry::{Auth, TokenService};
use crate::support::{Blob, Cut, Fault, Image, Kind, Net, Op, Rule, on};

const NAMES: [&str; 5] = [
    "quay.io/drawn/zero:1",
    "quay.io/drawn/one:1",
    "quay.io/drawn/two:1",
    "docker.io/drawn/three:1",
    "quay.io/drawn/four:1",
];
/// Sizes of the blobs that images draw from; the last one is beyond what counts as small.
const POOL: [u64; 6] = [0, 2, 3_000, 70_000, 300_000, 1_300_000];

#[derive(Clone, Debug)]
struct Schedule {
    /// For each image which blobs of the pool it has, and whether it has two platforms.
    images: Vec<(Vec<usize>, bool)>,
    /// Something else is at the target under the first name.
    occupied: bool,
    faults: Vec<Planned>,
}

#[derive(Clone, Debug)]
struct Planned {
    place: Place,
    what: What,
    image: usize,
    /// Matching requests that are spared before the first one that is hit.
    after: usize,
    times: usize,
    /// It never passes, where that is possible.
    for_ever: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    SourceManifest,
    SourceBlob,
    TargetHead,
    Start,
    Upload,
    Manifest,
    BlobHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Status(u16),
    Limited,
    HangUp(Cut),
    LoseAnswer(Cut),
    Late,
    Stall,
    /// Half of it, in thousandths, then the end.
    CutBody(u64, Cut),
    Unchunked(u64),
    Flip,
    DropSession,
    RefuseMount,
    Forget,
    Reset(u64),
    TokenGone,
    Closed,
}

fn what() -> impl Strategy<Value = What> {
    let cut = prop_oneof![Just(Cut::Fin), Just(Cut::Rst)];
    prop_oneof![
        prop::sample::select(vec![500, 502, 503, 504, 408, 520]).prop_map(What::Status),
        Just(What::Limited),
        cut.clone().prop_map(What::HangUp),
        cut.clone().prop_map(What::LoseAnswer),
        Just(What::Late),
        Just(What::Stall),
        (0..1000_u64, cut).prop_map(|(at, cut)| What::CutBody(at, cut)),
        (0..1000_u64).prop_map(What::Unchunked),
        Just(What::Flip),
        Just(What::DropSession),
        Just(What::RefuseMount),
        Just(What::Forget),
        (0..60_000_u64).prop_map(What::Reset),
        Just(What::TokenGone),
        Just(What::Closed),
    ]
}

fn planned() -> impl Strategy<Value = Planned> {
    let place = prop::sample::select(vec![
        Place::SourceManifest,
        Place::SourceBlob,
        Place::SourceBlob,
        Place::TargetHead,
        Place::Start,
        Place::Upload,
        Place::Upload,
        Place::Manifest,
        Place::BlobHead,
    ]);
    let odds = prop::bool::weighted(0.08);
    (place, what(), 0..5_usize, 0..4_usize, 1..4_usize, odds).prop_map(
        |(place, what, image, after, times, for_ever)| Planned { place, what, image, after, times, for_ever },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let image = (prop::collection::vec(0..POOL.len(), 0..4), any::<bool>());
    let images = prop::collection::vec(image, 3..=5);
    (images, any::<bool>(), prop::collection::vec(planned(), 0..=5))
        .prop_map(|(images, occupied, faults)| Schedule { images, occupied, faults })
}

fn images(schedule: &Schedule) -> Vec<(&'static str, Image)> {
    let pool: Vec<Blob> =
        POOL.iter().enumerate().map(|(n, size)| Blob::generated(900 + n as u64, *size)).collect();
    let image = |(n, (layers, index)): (usize, &(Vec<usize>, bool))| {
        let layers: Vec<Blob> = layers.iter().map(|layer| pool[*layer].clone()).collect();
        let single = |platform: usize| {
            let config = Blob::literal(format!("{{\"image\":{n},\"platform\":{platform}}}"));
            Image::single(Kind::Oci, config, layers.clone())
        };
        let image = match index {
            false => single(0),
            true => Image::index(
                Kind::Oci,
                vec![Child::platform("linux/amd64", single(0)), Child::platform("linux/arm64", single(1))],
            ),
        };
        (NAMES[n], image)
    };
    schedule.images.iter().enumerate().map(image).collect()
}

/// Which requests a fault is for, of which repository, and whether at the source.
fn requests(planned: &Planned, schedule: &Schedule) -> (Rule, bool, String) {
    let name = NAMES[planned.image % schedule.images.len()];
    let (repository, _) = crate::scene::place_of(name);
    let (rule, at_source) = match planned.place {
        Place::SourceManifest => (on(Op::ManifestGet), true),
        Place::SourceBlob => (on(Op::BlobGet), true),
        Place::TargetHead => (on(Op::ManifestHead), false),
        Place::Start => (on(Op::Mount).or(Op::UploadStart), false),
        Place::Upload => (on(Op::UploadPut), false),
        Place::Manifest => (on(Op::ManifestPut), false),
        Place::BlobHead => (on(Op::BlobHead), false),
    };
    (rule.repo(&repository).after(planned.after), at_source, repository)
}

/// What a run can only be expected to survive so often.
#[derive(Default)]
struct Rations {
    flips: usize,
    forgotten: usize,
    tokens: usize,
}

/// The fault, where it makes sense at its place, and how often it may strike.
fn fault(planned: &Planned, repository: &str, realm: &str, rations: &mut Rations) -> Option<(Fault, usize)> {
    let body = matches!(planned.place, Place::SourceBlob);
    let once = |count: &mut usize, most: usize| {
        *count += 1;
        *count <= most
    };
    let times = planned.times;
    let fault = match planned.what {
        What::Status(status) => (Fault::Status(status).html("<html>busy</html>"), times),
        What::Limited => (Fault::Status(429).retry_after("0"), times),
        What::HangUp(how) => (Fault::HangUp(how), times),
        What::LoseAnswer(how) => (Fault::LoseAnswer(how), times),
        What::Late => (Fault::DelayHeaders(Duration::from_millis(60)), times),
        What::Closed => (Fault::CloseAfterAnswer, times),
        What::Stall if body => (Fault::StallBody { after: 500 }, 1),
        What::Stall => (Fault::StallHeaders, 1),
        What::CutBody(at, how) if body => (Fault::CutBody { after: at * 300, how }, times),
        What::Unchunked(at) if body => (Fault::CloseDelimited { after: Some(at * 3) }, times),
        What::Flip if body && once(&mut rations.flips, 1) => (Fault::FlipByte { at: 1 }, 1),
        What::DropSession if planned.place == Place::Upload => (Fault::DropSession, times),
        What::RefuseMount if planned.place == Place::Start => (Fault::IgnoreMount, 1_000),
        What::Forget if planned.place == Place::Upload && once(&mut rations.forgotten, 1) => {
            (Fault::ForgetBlob, 1)
        }
        What::Reset(after) if planned.place == Place::Upload => (Fault::ResetAfterReading(after), times),
        What::TokenGone if once(&mut rations.tokens, 1) => {
            let actions = match planned.place {
                Place::SourceManifest | Place::SourceBlob => "pull",
                _ => "pull,push",
            };
            let challenge = format!(
                "Bearer realm=\"{realm}\",service=\"x\",scope=\"repository:{repository}:{actions}\",error=\"invalid_token\""
            );
            (Fault::Status(401).header("WWW-Authenticate", &challenge), 1)
        }
        _ => return None,
    };
    Some(fault)
}

/// What may stay for ever without a tag being moved behind the program's back.
fn can_be_permanent(planned: &Planned) -> bool {
    let place = matches!(planned.place, Place::SourceManifest | Place::SourceBlob | Place::Upload);
    planned.for_ever && place && matches!(planned.what, What::Status(_) | What::HangUp(_) | What::Flip)
}

fn with_tokens(net: Net, schedule: &Schedule, tokens: &TokenService) -> Scene {
    let auth = || Auth::Token(tokens.clone());
    let scene = Scene::with(net, &images(schedule), |s| s.auth(auth()), |t| t.auth(auth()));
    let host = scene.target.host();
    scene.login(&host, "u", "p").retries(20).budget(Duration::from_secs(60))
}

/// Runs a schedule; the scene's own judge looks at both runs.
fn play(schedule: &Schedule) {
    let net = Net::new();
    let tokens = net.token_service("auth").user("u", "p").anonymous_pull().start();
    let scene = with_tokens(net, schedule, &tokens);
    if schedule.occupied {
        let mut content = crate::support::Content::new();
        content.add("drawn/zero", "1", &Image::generated(Kind::Oci, 4_242, &[3_000]));
        scene.target.add(&content);
    }
    let mut rations = Rations::default();
    let mut all_pass = true;
    for planned in &schedule.faults {
        let (rule, at_source, repository) = requests(planned, schedule);
        let Some((fault, times)) = fault(planned, &repository, &tokens.realm(), &mut rations) else {
            continue;
        };
        let permanent = can_be_permanent(planned);
        all_pass &= !permanent;
        let rule = if permanent { rule } else { rule.times(times) }.then(fault);
        let registry = if at_source { &scene.source } else { &scene.target };
        registry.fault(rule);
    }
    let run = scene.run_with(|policy| {
        if !all_pass {
            policy.retries = 4;
        }
        policy.timing.longest_pause = Duration::from_millis(20);
        for limit in [&mut policy.timing.answer, &mut policy.timing.stall, &mut policy.timing.commit] {
            *limit = Duration::from_secs(1);
        }
    });
    if all_pass {
        run.done();
    }
    scene.heal();
}

#[test]
fn any_schedule_of_faults_ends_with_a_whole_mirror_or_a_true_report() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24);
    let config = Config { cases, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&schedule(), |schedule| {
        let played = std::panic::catch_unwind(|| play(&schedule));
        played.map_err(|panic| TestCaseError::fail(words_of(&*panic)))
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Found by the schedules: the first contact by plain HTTP was answered by a challenge, and then lost.
#[test]
fn a_connection_that_is_lost_after_the_first_challenge_is_made_again_the_same_way() {
    let hang_up = Planned {
        place: Place::TargetHead,
        what: What::HangUp(Cut::Fin),
        image: 0,
        after: 1,
        times: 1,
        for_ever: false,
    };
    for place in [Place::TargetHead, Place::SourceManifest] {
        let faults = vec![Planned { place, ..hang_up.clone() }];
        play(&Schedule { images: vec![(vec![], false); 3], occupied: false, faults });
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
