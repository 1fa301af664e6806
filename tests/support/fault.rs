//! Faults as data: `on(Op::BlobGet).repo("a/b").nth(2).then(Fault::Status(503))`.

mod answer;
pub(super) mod apply;
pub(super) mod body;
pub(super) mod cdn;
pub(super) mod hook;
mod location;
pub mod persona;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

pub use answer::Answer;
pub use cdn::Redirect;
pub use location::Form;

use super::digest::Digest;
use super::journal::Op;
use super::net::call::Call;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Fin,
    Rst,
}

#[derive(Clone)]
pub enum Fault {
    /// An error of this status with the usual JSON body.
    Status(u16),
    Answer(Answer),
    Redirect(Redirect),

    /// Waits before the request is looked at.
    DelayRequest(Duration),
    /// Waits with the answer; what was asked for has been done by then.
    DelayHeaders(Duration),
    /// The same until this is true.
    HoldHeaders(Arc<dyn Fn() -> bool + Send + Sync>),
    DelayBody(Duration),
    /// Does what was asked for and never answers.
    StallHeaders,
    /// Neither reads the body nor answers.
    StopReading,
    /// Waits before each piece of the body that it reads.
    ReadSlowly(Duration),
    /// Drops the connection instead of looking at the request.
    HangUp(Cut),
    /// Reads so many bytes of the body, then resets.
    ResetAfterReading(u64),
    /// Does what was asked for, then answers with an error of this status.
    FailAfterwards(u16),
    /// Does what was asked for and says so, with this status.
    ChangeStatus(u16),
    /// Does what was asked for, then drops the connection.
    LoseAnswer(Cut),
    /// Closes the connection after the answer without having said so.
    CloseAfterAnswer,
    /// Refuses connections for a time, beginning with this one.
    Down(Duration),

    StallBody {
        after: u64,
    },
    CutBody {
        after: u64,
        how: Cut,
    },
    Trickle {
        bytes: usize,
        every: Duration,
    },
    FlipByte {
        at: u64,
    },
    /// Another body; the headers but for type and length stay.
    SwapBody {
        content_type: &'static str,
        body: Bytes,
    },
    /// Goes on after the end with so many bytes.
    ExtraBytes(u64),
    Endless,
    /// Chunked, with no `Content-Length`.
    NoLength,
    /// Neither length nor chunks: the end is where the connection closes, here or earlier.
    CloseDelimited {
        after: Option<u64>,
    },
    ClaimLength(u64),
    /// These bytes instead of an HTTP answer.
    Raw(Bytes),

    SetHeader(&'static str, String),
    RemoveHeader(&'static str),
    Location(Form),
    /// Takes only the first bytes of the body, and says so.
    AcceptOnly(u64),
    /// A chunked upload keeps only what came last.
    KeepLastPatchOnly,
    /// The address of an upload stays what it was.
    KeepAddress,
    /// A session instead of a mount, as if the registry knew no mounts.
    IgnoreMount,
    DropSession,
    /// Answers, then forgets the blob in this repository.
    ForgetBlob,
    /// Answers, then moves the tag.
    MoveTag(Digest),
    /// Anything else.
    Run(Arc<dyn Fn(&Call) + Send + Sync>),
}

type Predicate = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// When faults strike. Matching requests are counted; the limits apply to that count.
#[derive(Clone)]
pub struct Rule {
    ops: Vec<Op>,
    repository: Option<String>,
    reference: Option<String>,
    digest: Option<Digest>,
    has_header: Option<&'static str>,
    range: Option<bool>,
    predicates: Vec<Predicate>,
    after: usize,
    nth: Option<usize>,
    every: Option<usize>,
    times: Option<usize>,
    chance: Option<(f64, u64)>,
    faults: Vec<Fault>,
    matched: Arc<AtomicUsize>,
    fired: Fired,
}

/// How often a rule struck.
#[derive(Clone, Debug, Default)]
pub struct Fired(Arc<AtomicUsize>);

impl Fired {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A rule for one operation.
pub fn on(op: Op) -> Rule {
    Rule::new(vec![op])
}

/// A rule for all requests.
pub fn any() -> Rule {
    Rule::new(Vec::new())
}

impl Rule {
    fn new(ops: Vec<Op>) -> Self {
        Self {
            ops,
            repository: None,
            reference: None,
            digest: None,
            has_header: None,
            range: None,
            predicates: Vec::new(),
            after: 0,
            nth: None,
            every: None,
            times: None,
            chance: None,
            faults: Vec::new(),
            matched: Arc::default(),
            fired: Fired::default(),
        }
    }

    pub fn or(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    pub fn repo(mut self, repository: &str) -> Self {
        self.repository = Some(repository.to_owned());
        self
    }

    /// The tag (or digest) in a manifest's path.
    pub fn tag(mut self, tag: &str) -> Self {
        self.reference = Some(tag.to_owned());
        self
    }

    /// In the path, or as `?digest=` or `?mount=`.
    pub fn digest(mut self, digest: &str) -> Self {
        self.digest = Some(digest.to_owned());
        self
    }

    pub fn with_header(mut self, name: &'static str) -> Self {
        self.has_header = Some(name);
        self
    }

    /// Only requests with (or without) a `Range`.
    pub fn range(mut self, present: bool) -> Self {
        self.range = Some(present);
        self
    }

    /// Only bodies larger than this, or whose length is not announced.
    pub fn larger_than(self, bytes: u64) -> Self {
        self.when(move |call| call.body_length().is_none_or(|length| length > bytes))
    }

    pub fn when(mut self, predicate: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// Only the `n`-th match, from 1.
    pub fn nth(mut self, n: usize) -> Self {
        self.nth = Some(n);
        self
    }

    pub fn every(mut self, n: usize) -> Self {
        self.every = Some(n);
        self
    }

    /// Spares the first `n` matches.
    pub fn after(mut self, n: usize) -> Self {
        self.after = n;
        self
    }

    pub fn times(mut self, n: usize) -> Self {
        self.times = Some(n);
        self
    }

    /// With a probability, reproducibly.
    pub fn chance(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some((probability, seed));
        self
    }

    /// Adds a fault; several act together.
    pub fn then(mut self, fault: impl Into<Fault>) -> Self {
        self.faults.push(fault.into());
        self
    }

    pub fn fired(&self) -> Fired {
        self.fired.clone()
    }

    fn matches(&self, call: &Call) -> bool {
        (self.ops.is_empty() || self.ops.contains(&call.op))
            && self.repository.as_ref().is_none_or(|r| *r == call.repository)
            && self.reference.as_ref().is_none_or(|r| *r == call.reference)
            && self.digest.as_ref().is_none_or(|d| call.digest().as_ref() == Some(d))
            && self.has_header.is_none_or(|name| call.headers.contains_key(name))
            && self.range.is_none_or(|range| range == call.has_range())
            && self.predicates.iter().all(|predicate| predicate(call))
    }

    fn strikes(&self, call: &Call) -> bool {
        if !self.matches(call) {
            return false;
        }
        let count = self.matched.fetch_add(1, Ordering::SeqCst) + 1;
        let due = count > self.after
            && self.nth.is_none_or(|n| n == count)
            && self.every.is_none_or(|n| count.is_multiple_of(n))
            && self.chance.is_none_or(|(p, seed)| roll(seed, count) < p);
        let again = |fired| self.times.is_none_or(|times| fired < times).then_some(fired + 1);
        due && self.fired.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, again).is_ok()
    }
}

/// A number in 0..1 from a seed and a count.
fn roll(seed: u64, count: usize) -> f64 {
    let mut word = seed.wrapping_add((count as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((word ^ (word >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The rules of one host.
pub(super) struct Rules(Mutex<Vec<Rule>>);

impl Rules {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self(Mutex::new(rules))
    }

    pub fn add(&self, rule: Rule) {
        self.0.lock().expect("no rule panics").push(rule);
    }

    pub fn clear(&self) {
        self.0.lock().expect("no rule panics").clear();
    }

    /// The faults for this request, of all rules that strike.
    pub fn matching(&self, call: &Call) -> Vec<Fault> {
        let rules = self.0.lock().expect("no rule panics").clone();
        let striking = rules.into_iter().filter(|rule| rule.strikes(call));
        striking.flat_map(|rule| rule.faults).collect()
    }
}
