//! What a run will do, known before the first blob moves.
//!
//! Resolving asks both sides what they have and fetches the manifests of what the target lacks. The result is a
//! value: for each image the manifests to push, over all images each unique blob once, with its size, the places
//! that have it and the repositories that need it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Url;
use tokio::sync::Semaphore;

use self::questions::{Found, Questions};
use crate::manifest::{Content, Descriptor, Extent, Manifest, Trimmed};
use crate::platforms::Platforms;
use crate::reference::{Digest, Reference, Repository, Spot};
use crate::registry::{Error, Kind, Peer};

mod foreign;
mod parts;
mod questions;
mod referrers;
mod tree;

/// A place that repositories are in: a host, or a path on one.
#[derive(Debug, Clone)]
pub struct Place {
    pub peer: Arc<Peer>,
    pub prefix: Option<Repository>,
}

impl Place {
    /// `spot` as it is called here.
    pub fn place(&self, spot: &Spot) -> Spot {
        Spot { repository: spot.repository.below(self.prefix.as_ref()), name: spot.name.clone() }
    }
}

/// What the user lets a run do, or not, with all images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// A name that the target has with other content stays as it is.
    pub no_clobber: bool,
    /// Layers that are marked as not to be distributed are copied too.
    pub include_foreign: bool,
    /// What refers to an image, such as its signatures, is copied with it.
    pub referrers: bool,
}

/// An image to be mirrored: where it comes from and is to go, by name.
#[derive(Debug, Clone)]
pub struct Request {
    pub reference: Reference,
    pub source: Place,
    /// The names at the target, already with the target's path in front.
    pub destinations: Vec<Spot>,
    pub platforms: Arc<Platforms>,
    /// The image that it is about, for signatures and the like.
    pub refers_to: Option<Digest>,
}

/// An image after both sides were asked.
#[derive(Debug)]
pub struct PlannedImage {
    pub reference: Reference,
    /// The image that it is about, for signatures and the like.
    pub refers_to: Option<Digest>,
    pub deliveries: Vec<Delivery>,
    /// What the image consists of; `None` if it is there already or could not be resolved.
    pub tree: Option<Tree>,
}

/// One name that an image is to have at the target.
#[derive(Debug)]
pub struct Delivery {
    pub spot: Spot,
    /// In full, as one would pull it.
    pub name: String,
    pub state: State,
}

/// What is known of a delivery before anything moves.
#[derive(Debug)]
pub enum State {
    /// The target has the source's very digest under this name.
    Present(Digest),
    /// It has the source's index, and below it what is wanted of it and no more.
    Sparse(Digest),
    /// It has the source's index without what is not wanted, as a run before this one put it there.
    Trimmed(Trimmed),
    /// It has the source's manifest, but not all of what is wanted with it.
    Partial(Lack),
    /// Nothing is there under this name.
    Missing,
    /// Something else is there.
    Different,
    /// It could not be found out, or the source does not have it.
    Failed(Error),
}

/// What the target is without, where it has an image's manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lack {
    /// Wanted platforms of an index.
    Platforms,
    /// Layers that are not to be distributed, where they are wanted.
    Layers,
    /// An entry in the list of what refers to an image.
    Listing,
}

impl State {
    pub fn is_wanted(&self) -> bool {
        matches!(self, State::Missing | State::Partial(_) | State::Different)
    }

    /// What is there, where nothing is to be done.
    fn digest_there(&self) -> Option<&Digest> {
        match self {
            State::Present(digest) | State::Sparse(digest) => Some(digest),
            State::Trimmed(trimmed) => Some(&trimmed.target),
            State::Partial(_) | State::Missing | State::Different | State::Failed(_) => None,
        }
    }

    fn present(digest: Digest, extent: &Extent) -> Self {
        if extent.is_sparse() { State::Sparse(digest) } else { State::Present(digest) }
    }
}

/// An image's manifests, each before all that name it, and the blobs that they name.
#[derive(Debug, Clone)]
pub struct Tree {
    /// Children first; the root, which gets the tag, is the last. Those of one level do not depend on each other.
    pub levels: Vec<Vec<Arc<Manifest>>>,
    /// Index into [`Plan::blobs`], each once.
    pub blobs: Vec<usize>,
}

impl Tree {
    pub fn root(&self) -> &Arc<Manifest> {
        self.levels.last().and_then(|level| level.first()).expect("a tree is built from its root")
    }

    pub fn manifests(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.levels.iter().flatten()
    }

    pub fn manifest_bytes(&self) -> u64 {
        self.manifests().map(|m| m.bytes.len() as u64).sum()
    }
}

/// A blob that some delivery needs.
#[derive(Debug)]
pub struct PlannedBlob {
    pub descriptor: Descriptor,
    /// Where it can be had; the next one where one fails. Never empty.
    pub sources: Vec<Origin>,
    /// Repositories that are to have it at the target, in the order of the selection.
    pub needs: Vec<Need>,
    /// A repository at the target that has it already, by the manifests there.
    pub held_by: Option<Repository>,
}

/// A place to get a blob from.
#[derive(Debug, Clone)]
pub struct Origin {
    pub peer: Arc<Peer>,
    pub repository: Repository,
    /// Not in the repository, but where its manifest says.
    pub url: Option<Url>,
}

impl Origin {
    /// Whom to ask for it: a host with its port.
    pub fn host(&self) -> &str {
        self.url
            .as_ref()
            .map_or(self.peer.host.as_str(), |url| &url[url::Position::BeforeHost..url::Position::AfterPort])
    }

    fn is_same(&self, other: &Self) -> bool {
        self.peer.host == other.peer.host && self.repository == other.repository && self.url == other.url
    }
}

/// A repository that is to have a blob, for these deliveries (image, delivery of it).
#[derive(Debug)]
pub struct Need {
    pub repository: Repository,
    pub deliveries: Vec<(usize, usize)>,
}

/// All that a run will do.
#[derive(Debug)]
pub struct Plan {
    pub images: Vec<PlannedImage>,
    pub blobs: Vec<PlannedBlob>,
}

impl Plan {
    /// Bytes of blobs that have to cross the network: each unique one that the target does not hold.
    pub fn bytes_to_move(&self) -> u64 {
        let sizes = self.blobs.iter().filter(|b| b.held_by.is_none()).map(|b| b.descriptor.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// How many names at the target are to be settled.
    pub fn deliveries(&self) -> usize {
        self.images.iter().map(|image| image.deliveries.len()).sum()
    }
}

/// Asks both sides about all of `requests`, at most `parallel` questions at a time, and makes the plan.
/// `progress` hears how many are done.
pub async fn resolve(
    requests: &[Request],
    target: &Arc<Peer>,
    rules: Rules,
    parallel: NonZeroUsize,
    progress: impl Fn(usize),
) -> Plan {
    let questions = Questions::new(target, rules, parallel);
    let mut asked: FuturesUnordered<_> = requests
        .iter()
        .enumerate()
        .map(|(number, request)| {
            let questions = &questions;
            async move { (number, questions.resolve_image(request).await) }
        })
        .collect();
    let mut found: Vec<Option<Found>> = requests.iter().map(|_| None).collect();
    let mut done = 0;
    while let Some((number, answer)) = asked.next().await {
        found[number] = Some(answer);
        done += 1;
        progress(done);
    }
    drop(asked);
    let mut found: Vec<Found> = found.into_iter().flatten().collect();
    let mut requests = requests.to_vec();
    if rules.referrers {
        questions.add_referrers(&mut requests, &mut found).await;
    }
    let mut plan = assemble(target, &requests, rules, found);
    let platforms = requests.first().map(|request| request.platforms.clone()).unwrap_or_default();
    questions.look_for_held(&mut plan, &platforms).await;
    plan
}

/// Looks which of the blobs that are to be moved the target has from an interrupted run, as a run itself would find
/// out while it moves them.
pub async fn look_for_found(plan: &mut Plan, target: &Arc<Peer>, parallel: NonZeroUsize) {
    let permits = Semaphore::new(parallel.get());
    let permits = &permits;
    let looks = plan.blobs.iter_mut().filter(|blob| blob.held_by.is_none()).map(|blob| async move {
        let _permit = permits.acquire().await.expect("the semaphore is never closed");
        let repository = &blob.needs[0].repository;
        let size = target.blob_size(repository, &blob.descriptor.digest).await;
        if matches!(size, Ok(Some(size)) if size == blob.descriptor.size) {
            blob.held_by = Some(repository.clone());
        }
    });
    join_all(looks).await;
}

/// The blobs that are to be beside a manifest at the target.
fn blobs_of(manifest: &Manifest, include_foreign: bool) -> impl Iterator<Item = &Descriptor> {
    let blobs = match &manifest.content {
        Content::Image(blobs) => blobs.as_slice(),
        Content::Index(_) => &[],
    };
    blobs.iter().filter(move |blob| include_foreign || !blob.is_foreign())
}

/// Brings all answers together: each blob once, with everyone who needs it.
fn assemble(target: &Peer, requests: &[Request], rules: Rules, found: Vec<Found>) -> Plan {
    let mut plan = Plan { images: Vec::new(), blobs: Vec::new() };
    let mut numbers: HashMap<Digest, usize> = HashMap::new();
    for (number, (request, found)) in requests.iter().zip(found).enumerate() {
        let mut deliveries: Vec<Delivery> = request
            .destinations
            .iter()
            .zip(found.states)
            .map(|(spot, state)| {
                let name = format!("{}/{spot}", target.host);
                Delivery { spot: spot.clone(), name, state }
            })
            .collect();
        let tree = found.levels.map(|levels| Tree { levels, blobs: Vec::new() });
        let tree = tree.and_then(|tree| {
            match plan.add_blobs(number, request, rules, &deliveries, tree, &mut numbers) {
                Ok(tree) => Some(tree),
                Err(error) => {
                    for delivery in deliveries.iter_mut().filter(|d| d.state.is_wanted()) {
                        delivery.state = State::Failed(error.clone());
                    }
                    None
                }
            }
        });
        plan.images.push(PlannedImage {
            reference: request.reference.clone(),
            refers_to: request.refers_to.clone(),
            deliveries,
            tree,
        });
    }
    plan
}

impl Plan {
    fn add_blobs(
        &mut self,
        image: usize,
        request: &Request,
        rules: Rules,
        deliveries: &[Delivery],
        mut tree: Tree,
        numbers: &mut HashMap<Digest, usize>,
    ) -> Result<Tree, Error> {
        let mut unique: Vec<Descriptor> = Vec::new();
        let mut sizes: HashMap<&Digest, u64> = HashMap::new();
        for blob in tree.manifests().flat_map(|m| blobs_of(m, rules.include_foreign)) {
            let known = numbers.get(&blob.digest).map(|n| self.blobs[*n].descriptor.size);
            let known = known.or_else(|| sizes.get(&blob.digest).copied());
            if known.is_some_and(|size| size != blob.size) {
                let why = format!("its manifests disagree about the size of {}", blob.digest);
                return Err(request.source.peer.error(
                    Kind::Invalid,
                    format!("plan {}", request.reference),
                    why,
                ));
            }
            if sizes.insert(&blob.digest, blob.size).is_none() {
                unique.push(blob.clone());
            }
        }
        let repository = request.source.place(&request.reference.spot()).repository;
        for descriptor in unique {
            let urls = if descriptor.is_foreign() { descriptor.urls.clone() } else { Vec::new() };
            let number = *numbers.entry(descriptor.digest.clone()).or_insert_with(|| {
                self.blobs.push(PlannedBlob { descriptor, sources: vec![], needs: vec![], held_by: None });
                self.blobs.len() - 1
            });
            let blob = &mut self.blobs[number];
            blob.add_sources(&request.source.peer, &repository, urls);
            for (which, delivery) in deliveries.iter().enumerate().filter(|(_, d)| d.state.is_wanted()) {
                blob.need(&delivery.spot.repository, (image, which));
            }
            tree.blobs.push(number);
        }
        Ok(tree)
    }
}

impl PlannedBlob {
    /// The repository, and the addresses that a manifest names for a foreign layer.
    fn add_sources(&mut self, peer: &Arc<Peer>, repository: &Repository, urls: Vec<Url>) {
        let urls = urls.into_iter().map(Some);
        for url in [None].into_iter().chain(urls) {
            let origin = Origin { peer: peer.clone(), repository: repository.clone(), url };
            if !self.sources.iter().any(|known| known.is_same(&origin)) {
                self.sources.push(origin);
            }
        }
    }

    fn need(&mut self, repository: &Repository, delivery: (usize, usize)) {
        match self.needs.iter_mut().find(|need| need.repository == *repository) {
            Some(need) => need.deliveries.push(delivery),
            None => self.needs.push(Need { repository: repository.clone(), deliveries: vec![delivery] }),
        }
    }
}
