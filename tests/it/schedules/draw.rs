//! What a schedule may be: images, the registries they are between, and faults.

use proptest::prelude::*;
use proptest::strategy::Union;

use crate::support::Cut;

/// Where the images come from: each host is a registry of its own.
pub const REPOSITORIES: [&str; 5] = [
    "quay.io/drawn/zero",
    "quay.io/drawn/one",
    "docker.io/drawn/two",
    "docker.io/drawn/three",
    "registry.k8s.io/drawn/four",
];
/// Sizes of the blobs that all images draw from; the last one is beyond what counts as small.
pub const POOL: [u64; 6] = [0, 2, 3_000, 70_000, 300_000, 1_300_000];

#[derive(Clone, Debug)]
pub struct Schedule {
    /// Each gets the next tag of its repository.
    pub images: Vec<Drawn>,
    pub set_up: SetUp,
    pub faults: Vec<Planned>,
}

#[derive(Clone, Debug, Default)]
pub struct Drawn {
    pub repository: usize,
    /// Which blobs of the pool it has.
    pub layers: Vec<usize>,
    /// It has two platforms.
    pub index: bool,
    /// It is the very image that the tag before has, in the same repository.
    pub twin: bool,
    /// Its manifest gives its first layer a wrong size, by so many bytes.
    pub lie: i64,
}

/// The registries, and how the program is called.
#[derive(Clone, Debug, Default)]
pub struct SetUp {
    /// The sources, and the target, want tokens.
    pub source_tokens: bool,
    pub target_tokens: bool,
    /// The target takes manifests that name what is not there.
    pub unverified: bool,
    /// The target takes no larger bodies, in bytes.
    pub body_limit: Option<u64>,
    pub mounts: Mounts,
    /// Something else is at the target under the first name.
    pub occupied: bool,
    /// One image after the other.
    pub single: bool,
}

/// What the target makes of mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    #[default]
    True,
    /// A session instead, into one repository or into all.
    Refused(Option<usize>),
    /// An error of this status.
    Error(u16, Option<usize>),
    /// It says that it mounts, in proper form or not, and mounts nothing after so many true ones.
    Lie { proper: bool, after: usize },
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub place: Place,
    pub what: What,
    pub repository: usize,
    /// Only this one's manifest, by its tag, or only its first layer.
    pub narrow: Option<usize>,
    /// Matching requests that are spared before the first one that is hit.
    pub after: usize,
    pub times: usize,
    /// It never passes, where that is possible.
    pub for_ever: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    SourceManifest,
    SourceBlob,
    TargetHead,
    Start,
    Upload,
    Piece,
    Manifest,
    BlobHead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An error that may pass.
    Status(u16),
    /// One that does not.
    Refusal(u16),
    /// 429 with `Retry-After: 0`.
    Limited,
    /// A web page instead of an answer.
    Page,
    HangUp(Cut),
    LoseAnswer(Cut),
    /// It is done, and called an error.
    FailAfterwards(u16),
    Late,
    Stall,
    /// A part of it, in thousandths, then the end.
    CutBody(u64, Cut),
    Unchunked(u64),
    Flip,
    WrongSize(u64),
    DropSession,
    Forget,
    Reset(u64),
    TokenGone,
    Closed,
    /// The source is out of reach.
    Down,
}

fn what() -> impl Strategy<Value = What> {
    let cut = || prop_oneof![Just(Cut::Fin), Just(Cut::Rst)];
    Union::new([
        prop::sample::select(vec![500, 502, 503, 504, 408, 520]).prop_map(What::Status).boxed(),
        prop::sample::select(vec![400, 401, 403, 404, 405, 415]).prop_map(What::Refusal).boxed(),
        Just(What::Limited).boxed(),
        Just(What::Page).boxed(),
        cut().prop_map(What::HangUp).boxed(),
        cut().prop_map(What::LoseAnswer).boxed(),
        prop::sample::select(vec![400, 409, 500]).prop_map(What::FailAfterwards).boxed(),
        Just(What::Late).boxed(),
        Just(What::Stall).boxed(),
        (0..1000_u64, cut()).prop_map(|(at, cut)| What::CutBody(at, cut)).boxed(),
        (0..1000_u64).prop_map(What::Unchunked).boxed(),
        Just(What::Flip).boxed(),
        (1..5_000_u64).prop_map(What::WrongSize).boxed(),
        Just(What::DropSession).boxed(),
        Just(What::Forget).boxed(),
        (0..60_000_u64).prop_map(What::Reset).boxed(),
        Just(What::TokenGone).boxed(),
        Just(What::Closed).boxed(),
        Just(What::Down).boxed(),
    ])
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
        Place::Piece,
        Place::Manifest,
        Place::BlobHead,
    ]);
    let narrow = prop::option::weighted(0.4, 0..8_usize);
    let odds = prop::bool::weighted(0.25);
    (place, what(), 0..8_usize, narrow, 0..4_usize, 1..4_usize, odds).prop_map(
        |(place, what, repository, narrow, after, times, for_ever)| Planned {
            place,
            what,
            repository,
            narrow,
            after,
            times,
            for_ever,
        },
    )
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let layers = prop::collection::vec(0..POOL.len(), 0..4);
    let lie = prop_oneof![14 => Just(0_i64), 1 => Just(-1), 1 => Just(1)];
    let twin = prop::bool::weighted(0.2);
    (0..REPOSITORIES.len(), layers, any::<bool>(), twin, lie)
        .prop_map(|(repository, layers, index, twin, lie)| Drawn { repository, layers, index, twin, lie })
}

fn mounts() -> impl Strategy<Value = Mounts> {
    let repository = || prop::option::of(0..REPOSITORIES.len());
    prop_oneof![
        3 => Just(Mounts::True),
        1 => repository().prop_map(Mounts::Refused),
        1 => (prop::sample::select(vec![401, 403, 404, 405, 500]), repository())
            .prop_map(|(status, repository)| Mounts::Error(status, repository)),
        1 => (any::<bool>(), 0..4_usize).prop_map(|(proper, after)| Mounts::Lie { proper, after }),
    ]
}

fn set_up() -> impl Strategy<Value = SetUp> {
    let limit = prop_oneof![2 => Just(None), 1 => Just(Some(1_000_000)), 1 => Just(Some(400_000))];
    (any::<[bool; 4]>(), prop::bool::weighted(0.3), limit, mounts()).prop_map(
        |([source_tokens, target_tokens, occupied, single], unverified, body_limit, mounts)| SetUp {
            source_tokens,
            target_tokens,
            unverified,
            body_limit,
            mounts,
            occupied,
            single,
        },
    )
}

pub fn schedule() -> impl Strategy<Value = Schedule> {
    (prop::collection::vec(drawn(), 3..=8), set_up(), prop::collection::vec(planned(), 0..=5))
        .prop_map(|(images, set_up, faults)| Schedule { images, set_up, faults })
}
