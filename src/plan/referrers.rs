//! What refers to the images of a plan, such as signatures and SBOMs, as further images of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

use super::resolver::{AtTarget, Found, Resolver};
use super::{Request, State};
use crate::error::{Error, Kind};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Reference, Repository, Tag, TagOrDigest};
use crate::record::Purpose;
use crate::store::Head;
use crate::store::REFERRERS_MAX;

/// How deep it is looked: what refers to a signature of an SBOM of an image is not found any more.
pub(super) const DEPTH_MAX: usize = 2;
/// What cosign adds to the tag that it makes of an image's digest, for signatures, attestations and SBOMs.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// Something that refers to an image, or why that could not be found out.
#[derive(Debug)]
pub(super) struct Referrer {
    pub request: Request,
    pub trouble: Option<Error>,
}

/// Which places at the target are for what refers to an image, and of whom.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<Location, Reference>);

impl Places {
    /// Leaves out what has its place already, by another name of the same image. Two things that want one tag cannot
    /// both have it.
    pub(super) fn take(&mut self, mut referrer: Referrer) -> Option<Referrer> {
        if referrer.trouble.is_some() {
            return Some(referrer);
        }
        let reference = referrer.request.reference.clone();
        let mut rival = None;
        referrer.request.destinations.retain(|location| match self.0.entry(location.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(reference.clone());
                true
            }
            Entry::Occupied(taken)
                if matches!(location.name, TagOrDigest::Digest(_)) || *taken.get() == reference =>
            {
                false
            }
            Entry::Occupied(taken) => {
                rival = Some(taken.get().clone());
                true
            }
        });
        referrer.trouble = rival.map(|rival| {
            let why = format!("{rival} has the same name at the target");
            referrer.request.source.store.error(Kind::Invalid, format!("copy {reference}"), why)
        });
        (!referrer.request.destinations.is_empty()).then_some(referrer)
    }
}

/// That more refers to the image of `request` than anyone needs.
pub(super) fn too_many(request: &Request, subject: &Digest) -> Referrer {
    let why = format!("more than {REFERRERS_MAX} things refer to it");
    let doing = format!("list what refers to {}", request.reference);
    in_trouble(request, subject, request.source.store.error(Kind::Corrupt, doing, why))
}

impl Resolver {
    /// What is to be done for something that a registry lists as a referrer.
    pub(super) async fn resolve_referrer(&self, request: &Request, at_target: Vec<AtTarget>) -> Found {
        let found = self.resolve_image(request, at_target).await;
        let root = found.levels.as_ref().and_then(|levels| levels.last()?.first());
        let about = root.map(|root| root.as_referrer().map(|(subject, _)| subject));
        match about {
            // Cosign's tags say what they are about, and no manifest need.
            Some(about) if request.reference.digest.is_some() && about != request.refers_to => {
                tracing::warn!(
                    "{} is listed as a referrer and is none, so it is left out",
                    request.reference
                );
                Found { states: Vec::new(), levels: None, contents: None }
            }
            _ => found,
        }
    }

    /// All that refers to an image or to one of its platforms.
    pub(super) async fn referrers_of(&self, request: &Request, found: &Found) -> Vec<Referrer> {
        // What cosign's tags name refers to nothing, and nothing refers to it.
        if request.refers_to.is_some() && request.reference.tag.is_some() {
            return Vec::new();
        }
        // Where the image itself is not to be, nothing about it is.
        let mut request = request.clone();
        let mut states = found.states.iter();
        request
            .destinations
            .retain(|_| states.next().is_some_and(|state| !matches!(state, State::Failed(_))));
        if request.destinations.is_empty() {
            return Vec::new();
        }
        let subjects = match self.subjects(&request, found).await {
            Ok(subjects) => subjects,
            Err((subject, error)) => return vec![in_trouble(&request, &subject, error)],
        };
        let asked = subjects.iter().map(|subject| async {
            let (mut listed, tagged) =
                tokio::join!(self.listed(&request, subject), self.tagged(&request, subject));
            listed.extend(tagged);
            listed
        });
        let all: Vec<Referrer> = join_all(asked).await.into_iter().flatten().collect();
        if all.len() > REFERRERS_MAX {
            let root = subjects.last().expect("something refers to one of them");
            return vec![too_many(&request, root)];
        }
        all
    }

    /// The digests that something may refer to: the platforms and the image itself, or that one and what kept the
    /// others from being known.
    async fn subjects(&self, request: &Request, found: &Found) -> Result<Vec<Digest>, (Digest, Error)> {
        if let Some(levels) = &found.levels {
            return Ok(subjects_in(levels));
        }
        // It is at the target already, which is asked rather than the source.
        let present = found.states.iter().zip(&request.destinations);
        let present =
            present.filter_map(|(state, location)| Some((state, state.digest_there()?, location))).next();
        let Some((state, digest, location)) = present else { return Ok(Vec::new()) };
        let here = self.here();
        let location = Location { name: TagOrDigest::Digest(digest.clone()), ..location.clone() };
        let there = match self.fetch_tree(&here, &location, &request.platforms, false).await {
            Ok(levels) => subjects_in(&levels),
            // It may have a part of its platforms only.
            Err(_) => {
                let location = request.source.place(&request.reference.location());
                let tree = self.fetch_tree(&request.source, &location, &request.platforms, false).await;
                subjects_in(&tree.map_err(|error| (digest.clone(), error))?)
            }
        };
        Ok(match state {
            // The source knows it by the digest that it has there.
            State::Trimmed(trimmed) => {
                let source = |digest| if digest == trimmed.target { trimmed.source.clone() } else { digest };
                there.into_iter().map(source).collect()
            }
            _ => there,
        })
    }

    /// What the source lists as referring to `subject`.
    async fn listed(&self, request: &Request, subject: &Digest) -> Vec<Referrer> {
        let source = self.at_source(request);
        let _permit = self.permit_for(&request.source.store).await;
        match request.source.store.referrers(&source, subject).await {
            Ok(listed) => {
                let one = |entry: &Descriptor| {
                    referrer(request, subject, TagOrDigest::Digest(entry.digest.clone()))
                };
                listed.iter().map(one).collect()
            }
            Err(error) => vec![in_trouble(request, subject, error)],
        }
    }

    /// What cosign has put beside it.
    async fn tagged(&self, request: &Request, subject: &Digest) -> Vec<Referrer> {
        let asked = COSIGN.iter().map(|kind| async move {
            let tag: Tag = format!("{}.{kind}", subject.as_str().replacen(':', "-", 1)).parse().ok()?;
            let name = TagOrDigest::Tag(tag);
            let location = Location { repository: self.at_source(request), name: name.clone() };
            let _permit = self.permit_for(&request.source.store).await;
            let head = match request.source.store.resolve(&location).await {
                // Some do not do HEAD.
                Ok(Head::Mute) => match request.source.store.manifest(&location, None).await {
                    Ok(manifest) => Ok(Head::Found(manifest.digest)),
                    Err(error) if error.kind == Kind::NotFound => Ok(Head::Absent),
                    Err(error) => Err(error),
                },
                head => head,
            };
            match head {
                Ok(Head::Found(_)) => Some(referrer(request, subject, name)),
                Ok(Head::Absent | Head::Mute) => None,
                Err(error) => Some(in_trouble(request, subject, error)),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn at_source(&self, request: &Request) -> Repository {
        request.source.place(&request.reference.location()).repository
    }

    /// Whether the target can tell that this is there from what it refers to.
    pub(super) async fn is_registered(&self, request: &Request) -> bool {
        let (Some(subject), Some(digest)) = (&request.refers_to, &request.reference.digest) else {
            return true;
        };
        let looks = request.destinations.iter().map(|location| async move {
            let _permit = self.permit_for_target().await;
            let listed = self.target.referrers(&location.repository, subject).await;
            listed.is_ok_and(|listed| listed.iter().any(|entry| entry.digest == *digest))
        });
        join_all(looks).await.into_iter().all(|there| there)
    }
}

/// The manifests of a tree but for BuildKit's attestations, which belong to the image itself.
fn subjects_in(levels: &[Vec<Arc<Manifest>>]) -> Vec<Digest> {
    let manifests = || levels.iter().flatten();
    let mut attestations: HashSet<&Digest> = HashSet::new();
    for manifest in manifests() {
        if let Content::Index(entries) = &manifest.content {
            attestations.extend(entries.iter().filter(|e| e.attests.is_some()).map(|e| &e.digest));
        }
    }
    manifests().map(|m| &m.digest).filter(|digest| !attestations.contains(digest)).cloned().collect()
}

/// That it could not be found out what refers to `subject`.
fn in_trouble(request: &Request, subject: &Digest, error: Error) -> Referrer {
    Referrer { trouble: Some(error), ..referrer(request, subject, TagOrDigest::Digest(subject.clone())) }
}

/// The request for what has this name beside the image of `request`: into every repository that the image goes to.
fn referrer(request: &Request, subject: &Digest, name: TagOrDigest) -> Referrer {
    let mut destinations: Vec<Location> = Vec::new();
    for repository in request.destinations.iter().map(|location| location.repository.clone()) {
        let location = Location { repository, name: name.clone() };
        if !destinations.contains(&location) {
            destinations.push(location);
        }
    }
    let (tag, digest) = match name.clone() {
        TagOrDigest::Tag(tag) => (Some(tag), None),
        TagOrDigest::Digest(digest) => (None, Some(digest)),
    };
    let reference = Reference { tag, digest, ..request.reference.clone() };
    let request = Request {
        reference,
        source: request.source.clone(),
        destinations,
        platforms: Arc::new(Platforms::default()),
        refers_to: Some(subject.clone()),
        pinned: None,
        elsewhere: request.elsewhere.clone(),
        assumed: request.assumed.clone(),
        locked: None,
        purpose: request.purpose.as_ref().map(|purpose| Arc::new(beside(purpose, &name))),
    };
    Referrer { request, trouble: None }
}

/// The names that something has beside the image that it refers to.
fn beside(purpose: &Purpose, name: &TagOrDigest) -> Purpose {
    let mut names: Vec<Location> = Vec::new();
    for location in &purpose.names {
        let location = Location { repository: location.repository.clone(), name: name.clone() };
        if !names.contains(&location) {
            names.push(location);
        }
    }
    Purpose { names, reasons: Vec::new() }
}
