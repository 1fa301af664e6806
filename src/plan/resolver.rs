//! What both sides have of an image, asked with as few requests as will do.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::tree::Fetched;
use super::{Lack, Levels, Place, Request, Rules, State};
use crate::error::{Error, Kind, Remedy};
use crate::image::manifest::{Descriptor, Extent, Manifest};
use crate::image::platforms::Platforms;
use crate::image::reference::{Algorithm, Digest, Location, Repository, TagOrDigest};
use crate::record::Contents;
use crate::store::{Head, Inspector, Source, Target};

/// What asking about one image brought.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// In the order of the image's names at the target.
    pub states: Vec<State>,
    /// The image's manifests, if one of its names is to get them.
    pub levels: Option<Levels>,
    /// What it consists of, where that is to be recorded and is known.
    pub contents: Option<Arc<Contents>>,
}

impl Found {
    /// Nothing can be done for any of the image's names.
    pub(crate) fn failed(request: &Request, error: &Error) -> Self {
        let states = request.destinations.iter().map(|_| State::Failed(error.clone()));
        Self { states: states.collect(), levels: None, contents: None }
    }
}

/// The digest under a name, as far as can be told.
#[derive(Debug, Clone)]
pub(super) enum AtTarget {
    Digest(Digest),
    Nothing,
    Failed(Error),
}

impl AtTarget {
    pub(super) fn digest(&self) -> Option<&Digest> {
        match self {
            AtTarget::Digest(digest) => Some(digest),
            AtTarget::Nothing | AtTarget::Failed(_) => None,
        }
    }
}

/// Whoever asks while a plan is made.
#[derive(Debug)]
pub(super) struct Resolver {
    pub target: Target,
    pub rules: Rules,
    /// Most resolver that one host is asked at a time.
    pub parallel: NonZeroUsize,
    /// Held for one question each, by whoever asks it, and for nothing else: of the target, and by source.
    of_target: Arc<Semaphore>,
    of_sources: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// What indexes name, so that two tags of one image fetch it once.
    pub fetched: Fetched,
    /// Who looks at blobs that should be there, if anybody does.
    pub inspector: Option<Inspector>,
}

impl Resolver {
    pub(super) fn new(
        target: Target,
        rules: Rules,
        parallel: NonZeroUsize,
        inspector: Option<Inspector>,
    ) -> Self {
        Self {
            target,
            rules,
            parallel,
            of_target: Arc::new(Semaphore::new(parallel.get())),
            of_sources: Mutex::default(),
            fetched: Fetched::default(),
            inspector,
        }
    }

    pub(super) async fn permit_for_target(&self) -> OwnedSemaphorePermit {
        self.of_target.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// One source's being slow to answer keeps nobody from asking another.
    pub(super) async fn permit_for(&self, source: &Source) -> OwnedSemaphorePermit {
        let semaphore = {
            let mut permits = self.of_sources.lock().expect("no code panics while it holds this lock");
            let permit = || Arc::new(Semaphore::new(self.parallel.get()));
            permits.entry(source.place().to_owned()).or_insert_with(permit).clone()
        };
        semaphore.acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The target, to be read from.
    pub(super) fn here(&self) -> Place {
        Place { store: self.target.as_source().clone(), prefix: None }
    }

    /// Which digests the target has under the names of an image.
    pub(super) async fn ask_target(&self, request: &Request) -> Vec<AtTarget> {
        join_all(request.destinations.iter().map(|location| self.digest_at_target(location))).await
    }

    /// What is to be done for an image of which the target has said what it has.
    pub(super) async fn resolve_image(&self, request: &Request, at_target: Vec<AtTarget>) -> Found {
        if let Some(locked) = &request.locked {
            return self.compare_with_lock(request, locked, at_target).await;
        }
        let names: Vec<Option<Digest>> = at_target.iter().map(|answer| answer.digest().cloned()).collect();
        let mut found = self.find(request, at_target).await;
        if self.rules.no_clobber {
            self.keep_others(&mut found, request, &names);
        }
        found
    }

    async fn find(&self, request: &Request, at_target: Vec<AtTarget>) -> Found {
        // A target that cannot be asked cannot be pushed to: the source is left alone.
        if at_target.iter().all(|answer| matches!(answer, AtTarget::Failed(_))) {
            let at_target = self.name_what_is_damaged(request, at_target).await;
            return Found { states: compare(at_target, None), levels: None, contents: None };
        }
        // What is recorded of an image is to be true of all that it names.
        let closely = request.platforms.are_looked_for() || request.purpose.is_some();
        if let Some(wanted) = self.wanted_digest(request, &at_target).await
            && at_target.iter().all(|a| matches!(a, AtTarget::Digest(d) if *d == wanted))
            && let Some(trees) =
                if closely { self.trees_there(request, &wanted).await } else { Some(Vec::new()) }
            && !self.lacks_foreign_layers(request).await
            && self.is_registered(request).await
        {
            let root = trees.last().and_then(|levels| levels.last()?.first());
            let extent = root.map_or(Extent::Whole, |root| root.extent());
            self.tell_if_moved(request, &wanted);
            let present = || State::present(wanted.clone(), &extent);
            let states = at_target.iter().map(|_| present()).collect();
            let contents = trees.last().and_then(|levels| self.contents(request, levels));
            let found = Found { states, levels: None, contents };
            return self.inspect(request, found, trees).await;
        }
        let fetched = match self.fetch_source(request).await {
            Ok(levels) => self.check_blobs_at_source(request, &levels).await.map(|()| levels),
            error => error,
        };
        match fetched.and_then(|levels| self.hold_to_pin(request, levels)) {
            // For other platforms only: nothing is to be done for it.
            Ok(levels) if levels.is_empty() => {
                tracing::warn!("{} has none of the wanted platforms and is left out", request.reference);
                Found { states: Vec::new(), levels: None, contents: None }
            }
            Ok(levels) => {
                let states = if closely {
                    self.compare_parts(request, at_target, &levels).await
                } else {
                    compare_bytes(at_target, levels.last().and_then(|level| level.first()))
                };
                let states = self.compare_beyond(request, states, &levels).await;
                let contents = self.contents(request, &levels);
                let found = Found { states, levels: Some(levels), contents };
                let mut found = self.inspect(request, found, Vec::new()).await;
                found.levels = found.levels.filter(|_| found.states.iter().any(State::is_wanted));
                found
            }
            Err(error) => Found {
                states: at_target.iter().map(|_| State::Failed(error.clone())).collect(),
                levels: None,
                contents: None,
            },
        }
    }

    /// Nothing of an image is begun that cannot be had whole, where that can be known.
    async fn check_blobs_at_source(&self, request: &Request, levels: &Levels) -> Result<(), Error> {
        let blobs = request.blobs_in(levels, self.rules.include_foreign);
        request.source.store.check_blobs(blobs.filter(|blob| blob.urls.is_empty())).await
    }

    /// A registry answers 500 for a tag whose manifest's file is damaged, and does so whatever it is sent (distribution):
    /// names that manifest, if it is the one that is wanted.
    async fn name_what_is_damaged(&self, request: &Request, at_target: Vec<AtTarget>) -> Vec<AtTarget> {
        let is_broken =
            |answer: &AtTarget| matches!(answer, AtTarget::Failed(error) if error.status == Some(500));
        if !at_target.iter().any(is_broken) {
            return at_target;
        }
        let Some(wanted) = self.digest_at_source(request).await else { return at_target };
        let named = at_target.into_iter().zip(&request.destinations).map(|(answer, location)| async {
            if !is_broken(&answer) {
                return answer;
            }
            let manifest = |digest: &Digest| Location {
                repository: location.repository.clone(),
                name: TagOrDigest::Digest(digest.clone()),
            };
            let _permit = self.permit_for_target().await;
            let by_digest = manifest(&wanted);
            let Err(error) = self.target.resolve(&by_digest).await else { return answer };
            // Of a manifest that nobody has such a registry says that it is absent.
            let nothing = manifest(&Digest::of(Algorithm::Sha256, b""));
            if error.status != Some(500) || !matches!(self.target.resolve(&nothing).await, Ok(Head::Absent)) {
                return answer;
            }
            let error = Error { kind: Kind::Corrupt, ..error };
            AtTarget::Failed(error.with_remedy(self.target.remedy_for_damaged(&by_digest)))
        });
        join_all(named).await
    }

    /// Fails the names that other content has.
    fn keep_others(&self, found: &mut Found, request: &Request, names: &[Option<Digest>]) {
        for ((state, name), location) in found.states.iter_mut().zip(names).zip(&request.destinations) {
            if let (State::Different(_), Some(digest)) = (&state, name) {
                let why = format!("it has another image there, {digest}");
                let error = self.target.error(Kind::Immutable, format!("write manifest {location}"), why);
                *state = State::Failed(error.with_remedy(Remedy::NotClobbered));
            }
        }
        if !found.states.iter().any(State::is_wanted) {
            found.levels = None;
        }
    }

    /// Fails to find whole what its manifests alone do not make whole: foreign layers, where they are wanted, and the
    /// list that makes a referrer findable.
    async fn compare_beyond(&self, request: &Request, states: Vec<State>, levels: &Levels) -> Vec<State> {
        let any = states.iter().any(|state| state.digest_there().is_some());
        let registered = !any || self.is_registered(request).await;
        let compared = states.into_iter().zip(&request.destinations).map(|(state, location)| async move {
            match () {
                () if state.digest_there().is_none() => state,
                () if !registered => State::Partial(Lack::Listing),
                () if !self.has_foreign_layers(request, &location.repository, levels).await => {
                    State::Partial(Lack::Layers)
                }
                () => state,
            }
        });
        join_all(compared).await
    }

    /// What the target should have, if that can be told without fetching it: by the pin, or by a HEAD at the
    /// source, which is asked only where the target has something to compare it with.
    async fn wanted_digest(&self, request: &Request, at_target: &[AtTarget]) -> Option<Digest> {
        if request.reference.digest.is_none() && !at_target.iter().any(|a| matches!(a, AtTarget::Digest(_))) {
            return None;
        }
        self.digest_at_source(request).await
    }

    /// The digest that the image has by its pin, or by a HEAD at the source.
    async fn digest_at_source(&self, request: &Request) -> Option<Digest> {
        if let Some(pin) = &request.reference.digest {
            return Some(pin.clone());
        }
        let _permit = self.permit_for(&request.source.store).await;
        match request.source.store.resolve(&request.source.place(&request.reference.location())).await {
            // Of one that seems to have moved, the bytes tell.
            Ok(Head::Found(digest)) => Some(digest).filter(|digest| self.may_be_taken(request, digest)),
            // Some answer a HEAD wrongly; the GET that follows tells.
            Ok(Head::Absent | Head::Mute) | Err(_) => None,
        }
    }

    async fn digest_at_target(&self, location: &Location) -> AtTarget {
        let _permit = self.permit_for_target().await;
        match self.target.named(location).await {
            Ok(Head::Found(digest)) => AtTarget::Digest(digest),
            Ok(Head::Absent) => AtTarget::Nothing,
            Ok(Head::Mute) => match self.target.manifest(location, None).await {
                Ok(manifest) => AtTarget::Digest(manifest.digest),
                Err(error) if error.kind == Kind::NotFound => AtTarget::Nothing,
                Err(error) => AtTarget::Failed(error),
            },
            // Several registries say so of a repository that is not there yet; the push will show.
            Err(error) if error.kind == Kind::Denied && !self.rules.no_clobber => AtTarget::Nothing,
            Err(error) => AtTarget::Failed(error),
        }
    }

    /// The blobs that the target holds by the word of a manifest there, with their sizes in bytes. Not knowing costs
    /// bytes, not correctness. A foreign layer that a manifest names need not be there.
    pub(super) async fn held_at(&self, location: &Location, platforms: &Platforms) -> Vec<(Digest, u64)> {
        let tree = self.fetch_tree(&self.here(), location, platforms, false).await.unwrap_or_default();
        let manifests = tree.iter().flatten();
        let blobs = manifests.flat_map(|manifest| super::blobs_of(manifest, false));
        blobs.map(|blob| (blob.digest.clone(), blob.size)).collect()
    }

    /// Whether the target has a blob in its right size, as a run would find out while it moves it.
    pub(super) async fn has_blob(&self, repository: &Repository, blob: &Descriptor) -> bool {
        let _permit = self.permit_for_target().await;
        self.target.has(repository, blob).await.is_ok_and(|held| held.may_be(blob.size))
    }
}

/// The same against the bytes themselves: a registry may name them by another algorithm than the one asked by.
pub(super) fn compare_bytes(at_target: Vec<AtTarget>, root: Option<&Arc<Manifest>>) -> Vec<State> {
    let one = |answer: AtTarget| {
        let digest = match (&answer, root) {
            (AtTarget::Digest(there), Some(root)) => Some(Digest::of(there.algorithm(), &root.bytes)),
            _ => None,
        };
        compare(vec![answer], digest.as_ref())
    };
    at_target.into_iter().flat_map(one).collect()
}

/// What each destination lacks, against the digest that it should have.
fn compare(at_target: Vec<AtTarget>, wanted: Option<&Digest>) -> Vec<State> {
    let state = |answer| match answer {
        AtTarget::Failed(error) => State::Failed(error),
        AtTarget::Nothing => State::Missing,
        AtTarget::Digest(digest) if Some(&digest) == wanted => State::Present(digest),
        AtTarget::Digest(digest) => State::Different(digest),
    };
    at_target.into_iter().map(state).collect()
}
