//! Digests and platforms recorded as they are now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;

use futures_util::stream::StreamExt as _;
use serde::Serialize;

use super::{Pulls, Question, Seen, answers, told, write_counts};
use crate::error::{Error, Kind};
use crate::events::{Event, Listener};
use crate::image::manifest::Manifest;
use crate::image::reference::Digest;
use crate::options::PinOptions;
use crate::output::report::Exit;
use crate::selection::catalog::{Change, Pin, Pins};
use crate::util::text;

/// What came of recording. As JSON it is what `catalog pin FILE -o json` gives.
#[derive(Debug, Serialize)]
pub struct Pinning {
    pub references: Vec<Record>,
    /// Recorded for the first time, or anew where a tag is meant to move.
    pub new: usize,
    /// Of the digest that was recorded, and with all that it consists of for the first time.
    pub completed: usize,
    /// As they were recorded.
    pub kept: usize,
    /// Recorded with another digest than before.
    pub moved: usize,
    /// Their record, if there was one, is kept.
    pub missing: usize,
    /// Likewise, as it could not be found out what they have.
    pub failed: usize,
    /// Left out, for they can be had nowhere any more.
    pub gone: usize,
    /// Records of images that the catalog does not have, removed.
    pub pruned: usize,
    /// Recorded without the platforms that were asked for, as those could not be found out.
    pub platforms_unknown: usize,
    /// Recorded anew without platforms, which the record before had and nobody asked for.
    pub platforms_lost: usize,
    pub interrupted: bool,
    /// All records, with those that nobody was asked about.
    #[serde(skip)]
    pub pins: Pins,
    /// What becomes of them, by image.
    #[serde(skip)]
    pub changes: BTreeMap<String, Change>,
}

/// One image.
#[derive(Debug, Serialize)]
pub struct Record {
    pub source: String,
    pub result: Recorded,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The digest that was recorded before, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<Digest>,
    /// Its platforms could not be found out, for this cause.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub platforms_unknown: bool,
    /// The record before had platforms, and this one has none, for nobody asked for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub platforms_lost: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_pass: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recorded {
    New,
    Completed,
    Kept,
    Moved,
    Missing,
    Failed,
    Gone,
    Pruned,
}

/// Records all of `questions`. `interrupted` ends that early, with what is known by then.
pub(crate) async fn pin(
    options: &PinOptions,
    questions: Vec<Question>,
    listener: &Listener,
    interrupted: impl Future<Output = ()>,
) -> Pinning {
    let total = questions.len();
    listener(Event::Asking { done: 0, total });
    let named: Option<BTreeSet<String>> =
        options.prune.then(|| questions.iter().map(|question| question.reference.to_string()).collect());
    let (gone, questions): (Vec<Question>, Vec<Question>) =
        questions.into_iter().partition(|question| question.gone.is_some() && !question.is_mirrored);
    let mut pinning = Pinning::new(Pins::clone(&options.pins));
    gone.iter().for_each(|question| pinning.take(question.record(Recorded::Gone), None));
    let ask = |question: Question| async move { question.pin(options.platforms).await };
    let mut answers = std::pin::pin!(answers(questions, options.asked.parallel, ask));
    let mut interrupted = std::pin::pin!(interrupted);
    loop {
        tokio::select! {
            answer = answers.next() => match answer {
                Some((record, pin)) => pinning.take(record, pin),
                None => break,
            },
            () = &mut interrupted => {
                pinning.interrupted = true;
                break;
            }
        }
        listener(Event::Asking { done: pinning.references.len(), total });
    }
    if let Some(named) = named {
        pinning.prune(&named);
    }
    pinning.references.sort_by(|a, b| a.source.cmp(&b.source));
    pinning
}

impl Question {
    /// What to tell of it, and its record if that is to be another.
    async fn pin(self, platforms: bool) -> (Record, Option<Pin>) {
        let seen = match self.look(self.algorithm(), Pulls::Spent).await {
            Ok(seen) => seen,
            Err(error) => return (self.failure(&error), None),
        };
        let Seen::Digest(digest, manifest) = seen else {
            let result = if self.gone.is_some() { Recorded::Gone } else { Recorded::Missing };
            return (self.record(result), None);
        };
        let was = self.pin.as_ref().and_then(|pin| pin.digest.as_ref());
        let is_same = was == Some(&digest);
        let is_whole = self.pin.as_ref().is_some_and(|pin| pin.more.is_some());
        let moving = self.is_moving || self.pin.as_ref().is_some_and(|pin| pin.moving);
        if is_same && (is_whole || !platforms) {
            // That the catalog lets it move may be new.
            let marked = self.pin.as_ref().filter(|pin| pin.moving != moving);
            let marked = marked.map(|pin| Pin { moving, ..pin.clone() });
            return (Record { digest: Some(digest), ..self.record(Recorded::Kept) }, marked);
        }
        let mut pin = Pin {
            source: self.reference.clone(),
            digest: Some(digest.clone()),
            moving,
            media_type: None,
            size: None,
            platforms: Vec::new(),
            more: None,
        };
        let result = match was {
            Some(_) if is_same => Recorded::Completed,
            Some(_) if !pin.moving => Recorded::Moved,
            // A moving tag is meant to.
            _ => Recorded::New,
        };
        let was = was.filter(|_| !is_same).cloned();
        let record = Record { digest: Some(digest.clone()), was, ..self.record(result) };
        if !platforms {
            let platforms_lost = self.pin.as_ref().is_some_and(Pin::has_sizes);
            return (Record { platforms_lost, ..record }, Some(pin));
        }
        match self.describe(&mut pin, &digest, manifest).await {
            Ok(()) => (record, Some(pin)),
            // The digest is known all the same, and the next time asks for the platforms again.
            Err(error) if error.kind.may_pass() => {
                let (cause, may_pass) = told(&error);
                let record = Record { platforms_unknown: true, cause, may_pass, ..record };
                if is_same {
                    (Record { result: Recorded::Kept, ..record }, None)
                } else {
                    (record, Some(pin))
                }
            }
            Err(error) => (self.failure(&error), None),
        }
    }

    /// Fills in what only the manifests tell.
    async fn describe(&self, pin: &mut Pin, digest: &Digest, fetched: Option<Manifest>) -> Result<(), Error> {
        let manifest = match fetched {
            Some(manifest) => manifest,
            None => match self.manifest(digest).await {
                Err(error) if error.kind == Kind::NotFound => {
                    let why = "it was there a moment ago, and is not there by its digest".to_owned();
                    let action = format!("GET manifest {}", self.location());
                    return Err(self.place.store.error(Kind::Invalid, action, why));
                }
                fetched => fetched?,
            },
        };
        let consists = self.parts_of(&manifest).await?;
        (pin.platforms, pin.more) = (consists.platforms, Some(consists.more));
        pin.size = Some(manifest.bytes.len() as u64);
        pin.media_type = Some(manifest.media_type);
        Ok(())
    }

    fn record(&self, result: Recorded) -> Record {
        Record::new(self.reference.to_string(), result)
    }

    fn failure(&self, error: &Error) -> Record {
        let (cause, may_pass) = told(error);
        Record { cause, may_pass, ..self.record(Recorded::Failed) }
    }
}

impl Pinning {
    fn new(pins: Pins) -> Self {
        Self {
            references: Vec::new(),
            new: 0,
            completed: 0,
            kept: 0,
            moved: 0,
            missing: 0,
            failed: 0,
            gone: 0,
            pruned: 0,
            platforms_unknown: 0,
            platforms_lost: 0,
            interrupted: false,
            pins,
            changes: BTreeMap::new(),
        }
    }

    /// Removes the records of all images but those that are `named`.
    fn prune(&mut self, named: &BTreeSet<String>) {
        for source in self.pins.keep(named) {
            self.changes.insert(source.clone(), Change::Remove);
            self.take(Record::new(source, Recorded::Pruned), None);
        }
    }

    fn take(&mut self, record: Record, pin: Option<Pin>) {
        *match record.result {
            Recorded::New => &mut self.new,
            Recorded::Completed => &mut self.completed,
            Recorded::Kept => &mut self.kept,
            Recorded::Moved => &mut self.moved,
            Recorded::Missing => &mut self.missing,
            Recorded::Failed => &mut self.failed,
            Recorded::Gone => &mut self.gone,
            Recorded::Pruned => &mut self.pruned,
        } += 1;
        self.platforms_unknown += usize::from(record.platforms_unknown);
        self.platforms_lost += usize::from(record.platforms_lost);
        let kept =
            (record.result == Recorded::Kept && pin.is_none()).then(|| self.pins.named(&record.source));
        if let Some(kept) = kept.flatten().cloned() {
            self.changes.insert(record.source.clone(), Change::Keep(kept));
        }
        self.references.push(record);
        if let Some(pin) = pin {
            self.changes.insert(pin.source.to_string(), Change::Put(pin.clone()));
            self.pins.put(pin);
        }
    }

    pub fn exit(&self) -> Exit {
        match self.missing + self.failed + self.platforms_unknown {
            _ if self.interrupted => Exit::Interrupted,
            0 => Exit::Done,
            _ => Exit::SomeFailed,
        }
    }
}

impl Record {
    /// A record of which nothing else is known.
    fn new(source: String, result: Recorded) -> Self {
        Self {
            source,
            result,
            digest: None,
            was: None,
            platforms_unknown: false,
            platforms_lost: false,
            cause: None,
            may_pass: None,
        }
    }

    /// Whether a person should know.
    pub fn is_told(&self) -> bool {
        use Recorded::{Failed, Missing, Moved, Pruned};
        self.platforms_unknown
            || self.platforms_lost
            || matches!(self.result, Moved | Missing | Failed | Pruned)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match self.result {
            Recorded::New => "new",
            Recorded::Completed => "completed",
            Recorded::Kept => "kept",
            Recorded::Moved => "moved",
            Recorded::Missing => "missing",
            Recorded::Failed => "FAILED",
            Recorded::Gone => "gone",
            Recorded::Pruned => "pruned",
        };
        write!(f, "{result:<10}{}", self.source)?;
        let mut told = Vec::new();
        if let (Recorded::Moved, Some(was), Some(digest)) = (self.result, &self.was, &self.digest) {
            told.push(format!("{was} was recorded of it, and it has {digest} now"));
        }
        let without = if self.platforms_unknown { "without its platforms: " } else { "" };
        if self.platforms_lost {
            told.push("its platforms are not recorded any more, which --platforms does".to_owned());
        }
        told.extend(self.cause.as_ref().map(|cause| format!("{without}{cause}")));
        if told.is_empty() { Ok(()) } else { write!(f, ": {}", told.join("; ")) }
    }
}

/// For people: a line for each image of which something is to be said, then the sums.
impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.references.iter().filter(|record| record.is_told()) {
            writeln!(f, "{line}")?;
        }
        if self.references.iter().any(Record::is_told) {
            writeln!(f)?;
        }
        write!(f, "{}: {} new, {} kept", text::count(self.references.len(), "image"), self.new, self.kept)?;
        let others = [
            (self.completed, "completed by their platforms"),
            (self.moved, "moved"),
            (self.missing, "missing"),
            (self.failed, "failed"),
            (self.gone, "gone as the catalog says"),
            (self.platforms_unknown, "without their platforms"),
            (self.platforms_lost, "without the platforms that they had"),
            (self.pruned, "pruned"),
        ];
        write_counts(f, &others)?;
        writeln!(f, "{}", if self.interrupted { "; interrupted before all were asked for" } else { "" })
    }
}
