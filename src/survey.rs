//! Sources asked about the images of a catalog, without a target.
//!
//! Each host is asked about several images at a time, and keeps nobody from asking another one. What goes wrong with
//! an image concerns that image alone.

mod content;
mod pin;
mod silence;
mod verify;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::stream::{self, Stream, StreamExt as _};

pub use self::pin::{Pinning, Record, Recorded};
pub use self::verify::{Line, Standing, Verification};

pub(crate) use self::pin::pin;
pub(crate) use self::verify::verify;

use self::silence::{Ask, Silence};
use crate::endpoints::{Sources, check_mirrors};
use crate::error::{Error, Kind};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Algorithm, Digest, Location, Reference, TagOrDigest};
use crate::options::Asked;
use crate::plan::Place;
use crate::selection::catalog::{Catalog, Gone, Pin, Pins};
use crate::store::Head;

/// One image to ask about.
#[derive(Debug)]
pub(crate) struct Question {
    reference: Reference,
    /// Why it can be had nowhere any more, where that is so.
    gone: Option<Gone>,
    /// A mirror is asked for it, which may have kept what is gone.
    is_mirrored: bool,
    /// What is recorded of it.
    pin: Option<Pin>,
    /// Its tag is meant to move, by the catalog, whatever the record says.
    is_moving: bool,
    place: Place,
    /// What the host of that place has left unanswered.
    silence: Arc<Silence>,
}

/// The images of a catalog, each with the place to ask.
///
/// # Errors
/// The catalog cannot be read, or does not know the release; mirrors of sources that contradict each other.
pub(crate) fn questions(asked: &Asked, pins: &Pins) -> Result<Vec<Question>> {
    let catalog = match &asked.catalog {
        Some(path) => Catalog::read(path).context("--catalog")?,
        None => Catalog::embedded()?,
    };
    let all = catalog.references(asked.kubeone.as_deref())?;
    for warning in &all.warnings {
        tracing::warn!("{warning}");
    }
    let hosts = all.references.keys().map(|reference| &reference.host).collect();
    check_mirrors(&asked.access.mirrors, &hosts)?;
    let moving = all.moving;
    let mut sources = Sources::new(asked.access.clone());
    let mut hosts: HashMap<String, Arc<Silence>> = HashMap::new();
    let questions = all.references.into_iter().map(|(reference, gone)| {
        let place = sources.place(&reference.host);
        Question {
            gone,
            is_mirrored: sources.is_mirrored(&reference.host),
            pin: pins.get(&reference).cloned(),
            is_moving: moving.contains(&reference),
            silence: hosts.entry(place.store.place().to_owned()).or_default().clone(),
            place,
            reference,
        }
    });
    Ok(questions.collect())
}

/// What `ask` says of each image, as soon as it is said. Of one place `parallel` images are asked for at a time, those of
/// one repository in a row.
pub(crate) fn answers<'a, T, F>(
    questions: Vec<Question>,
    parallel: NonZeroUsize,
    ask: impl Fn(Question) -> F + Copy + Send + 'a,
) -> impl Stream<Item = T> + 'a
where
    T: Send + 'a,
    F: Future<Output = T> + Send + 'a,
{
    let mut by_place: BTreeMap<String, Vec<Question>> = BTreeMap::new();
    for question in questions {
        by_place.entry(question.place.store.place().to_owned()).or_default().push(question);
    }
    let queues = by_place.into_values().map(move |questions| {
        if let Some(first) = questions.first() {
            first.place.store.expect(questions.len().min(parallel.get()));
        }
        stream::iter(questions).map(ask).buffer_unordered(parallel.get()).boxed()
    });
    stream::select_all(queues)
}

/// What a source has under an image's name.
#[derive(Debug, Clone)]
enum Seen {
    /// This digest; with the manifest, where that had to be fetched.
    Digest(Digest, Option<Manifest>),
    Absent,
    /// It is not told without a pull.
    Untold,
}

/// Who may spend what is rationed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulls {
    /// No manifest of Docker Hub is fetched, from wherever: each counts as a pull, and a cache has to pull as well.
    Spared,
    Spent,
}

/// Why an image failed, and whether asking again may help.
fn told(error: &Error) -> (Option<String>, Option<bool>) {
    (Some(error.to_string()), Some(error.kind.may_pass()))
}

/// Writes numbers of images for people, but those of which there are none.
fn write_counts(f: &mut fmt::Formatter<'_>, counts: &[(usize, &str)]) -> fmt::Result {
    counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .try_for_each(|(number, what)| write!(f, ", {number} {what}"))
}

impl Question {
    fn location(&self) -> Location {
        self.place.place(&self.reference.location())
    }

    fn may_fetch(&self, pulls: Pulls) -> bool {
        pulls == Pulls::Spent || !self.reference.host.is_docker_hub()
    }

    /// The digest under its name, by `algorithm` where the registry tells it by another. An image that is named by its
    /// digest has that one, or is not there.
    async fn look(&self, algorithm: Option<Algorithm>, pulls: Pulls) -> Result<Seen, Error> {
        let location = self.location();
        match (self.resolve(&location).await?, &self.reference.digest) {
            (Head::Absent, _) => return Ok(Seen::Absent),
            (Head::Found(_), Some(named)) => return Ok(Seen::Digest(named.clone(), None)),
            (Head::Found(digest), None) if algorithm.is_none_or(|wanted| wanted == digest.algorithm()) => {
                return Ok(Seen::Digest(digest, None));
            }
            (Head::Found(_) | Head::Mute, _) => {}
        }
        if !self.may_fetch(pulls) {
            return Ok(Seen::Untold);
        }
        match self.fetch(&location, None).await {
            Ok(manifest) => {
                let digest = match algorithm {
                    Some(algorithm) => Digest::of(algorithm, &manifest.bytes),
                    None => manifest.digest.clone(),
                };
                Ok(Seen::Digest(digest, Some(manifest)))
            }
            Err(error) if error.kind == Kind::NotFound => Ok(Seen::Absent),
            Err(error) => Err(error),
        }
    }

    /// The manifest of that digest.
    async fn manifest(&self, digest: &Digest) -> Result<Manifest, Error> {
        let location = Location { name: TagOrDigest::Digest(digest.clone()), ..self.location() };
        self.fetch(&location, None).await
    }

    async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        self.may_ask(|| format!("HEAD manifest {location}"))?;
        let answer = self.place.store.resolve(location).await;
        self.silence.note(Ask::Digest, &answer);
        answer
    }

    /// The manifest at `location`, or what an index describes there.
    async fn fetch(&self, location: &Location, part: Option<&Descriptor>) -> Result<Manifest, Error> {
        self.may_ask(|| format!("GET manifest {location}"))?;
        let answer = self.place.store.manifest(location, part).await;
        self.silence.note(Ask::Manifest, &answer);
        answer
    }

    /// # Errors
    /// The host has left so much unanswered that it is not asked any more.
    fn may_ask(&self, action: impl FnOnce() -> String) -> Result<(), Error> {
        self.silence.gave_up().map_or(Ok(()), |error| Err(Error { action: action(), ..error }))
    }

    /// The digest that it has to have.
    fn held_to(&self) -> Option<&Digest> {
        self.pin.as_ref().filter(|_| !self.is_moving)?.wanted()
    }

    /// The algorithm by which its digest is recorded.
    fn algorithm(&self) -> Option<Algorithm> {
        self.pin.as_ref()?.digest.as_ref().map(Digest::algorithm)
    }
}
