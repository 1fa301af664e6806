//! What refers to the images of a plan, such as signatures and SBOMs, as further images of it.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;

use super::questions::{Found, Questions};
use super::{Place, Request, State};
use crate::manifest::{Content, Descriptor, Manifest};
use crate::platforms::Platforms;
use crate::reference::{Digest, Host, Name, Reference, Repository, Spot, Tag};
use crate::registry::{Error, Head};

/// How deep it is looked: what refers to a signature of an SBOM of an image is not found any more.
const DEPTH_MAX: usize = 2;
/// What cosign adds to the tag that it makes of an image's digest, for signatures, attestations and SBOMs.
const COSIGN: [&str; 3] = ["sig", "att", "sbom"];

/// Something that refers to an image, or why that could not be found out.
struct Referrer {
    request: Request,
    trouble: Option<Error>,
}

impl Questions<'_> {
    /// Adds a request for each thing that refers to what `requests` ask for, and what was found about it.
    pub(super) async fn add_referrers(&self, requests: &mut Vec<Request>, found: &mut Vec<Found>) {
        let mut seen: HashSet<(Host, Spot)> = HashSet::new();
        let mut from = 0;
        for _ in 0..DEPTH_MAX {
            let asked = requests[from..].iter().zip(&found[from..]);
            let referrers = join_all(asked.map(|(request, found)| self.referrers_of(request, found))).await;
            let mut news: Vec<Referrer> = referrers.into_iter().flatten().collect();
            news.retain(|one| {
                let reference = &one.request.reference;
                seen.insert((reference.host.clone(), reference.spot()))
            });
            from = requests.len();
            found.extend(join_all(news.iter().map(|one| self.resolve_referrer(one))).await);
            requests.extend(news.into_iter().map(|one| one.request));
        }
    }

    async fn resolve_referrer(&self, referrer: &Referrer) -> Found {
        match &referrer.trouble {
            None => self.resolve_image(&referrer.request).await,
            Some(error) => {
                let states = referrer.request.destinations.iter().map(|_| State::Failed(error.clone()));
                Found { states: states.collect(), levels: None }
            }
        }
    }

    async fn referrers_of(&self, request: &Request, found: &Found) -> Vec<Referrer> {
        // What cosign's tags name refers to nothing, and nothing refers to it.
        if request.refers_to.is_some() && request.reference.tag.is_some() {
            return Vec::new();
        }
        let subjects = self.subjects(request, found).await;
        let asked = subjects.iter().map(|subject| async {
            let (mut listed, tagged) =
                tokio::join!(self.listed(request, subject), self.tagged(request, subject));
            listed.extend(tagged);
            listed
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The digests that something may refer to: the image and its platforms.
    async fn subjects(&self, request: &Request, found: &Found) -> Vec<Digest> {
        if let Some(levels) = &found.levels {
            return subjects_in(levels);
        }
        // It is at the target already, which is asked rather than the source.
        let present = found.states.iter().zip(&request.destinations);
        let present = present.filter_map(|(state, spot)| Some((state, state.digest_there()?, spot))).next();
        let Some((state, digest, spot)) = present else { return Vec::new() };
        let here = Place { peer: self.target.clone(), prefix: None };
        let spot = Spot { name: Name::Digest(digest.clone()), ..spot.clone() };
        let there = match self.fetch_tree(&here, &spot, &request.platforms, false).await {
            Ok(levels) => subjects_in(&levels),
            Err(_) => vec![digest.clone()],
        };
        match state {
            // The source knows it by the digest that it has there.
            State::Trimmed(trimmed) => {
                let source = |digest| if digest == trimmed.target { trimmed.source.clone() } else { digest };
                there.into_iter().map(source).collect()
            }
            _ => there,
        }
    }

    /// What the source lists as referring to `subject`.
    async fn listed(&self, request: &Request, subject: &Digest) -> Vec<Referrer> {
        let source = self.at_source(request);
        let _permit = self.permit().await;
        match request.source.peer.referrers(&source, subject).await {
            Ok(listed) => {
                let one = |entry: &Descriptor| referrer(request, subject, Name::Digest(entry.digest.clone()));
                listed.iter().map(one).collect()
            }
            Err(error) => {
                let unknown = referrer(request, subject, Name::Digest(subject.clone()));
                vec![Referrer { trouble: Some(error), ..unknown }]
            }
        }
    }

    /// What cosign has put beside it.
    async fn tagged(&self, request: &Request, subject: &Digest) -> Vec<Referrer> {
        let asked = COSIGN.iter().map(|kind| async move {
            let tag: Tag = format!("{}.{kind}", subject.as_str().replacen(':', "-", 1)).parse().ok()?;
            let name = Name::Tag(tag);
            let spot = Spot { repository: self.at_source(request), name: name.clone() };
            let _permit = self.permit().await;
            match request.source.peer.head_manifest(&spot).await {
                Ok(Head::Found(_) | Head::Mute) => Some(referrer(request, subject, name)),
                Ok(Head::Absent) => None,
                Err(error) => Some(Referrer { trouble: Some(error), ..referrer(request, subject, name) }),
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    fn at_source(&self, request: &Request) -> Repository {
        request.source.place(&request.reference.spot()).repository
    }

    /// Whether the target can tell that this is there from what it refers to.
    pub(super) async fn is_registered(&self, request: &Request) -> bool {
        let (Some(subject), Some(digest)) = (&request.refers_to, &request.reference.digest) else {
            return true;
        };
        let looks = request.destinations.iter().map(|spot| async move {
            let _permit = self.permit().await;
            let listed = self.target.referrers(&spot.repository, subject).await;
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

/// The request for what has this name beside the image of `request`: into every repository that the image goes to.
fn referrer(request: &Request, subject: &Digest, name: Name) -> Referrer {
    let mut destinations: Vec<Spot> = Vec::new();
    for repository in request.destinations.iter().map(|spot| spot.repository.clone()) {
        let spot = Spot { repository, name: name.clone() };
        if !destinations.contains(&spot) {
            destinations.push(spot);
        }
    }
    let (tag, digest) = match name {
        Name::Tag(tag) => (Some(tag), None),
        Name::Digest(digest) => (None, Some(digest)),
    };
    let reference = Reference { tag, digest, ..request.reference.clone() };
    let request = Request {
        reference,
        source: request.source.clone(),
        destinations,
        platforms: Arc::new(Platforms::default()),
        refers_to: Some(subject.clone()),
    };
    Referrer { request, trouble: None }
}
