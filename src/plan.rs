//! What a run will do, as a value that grows image by image.
//!
//! Resolving asks both sides what they have and fetches the manifests of what the target lacks. Each image is admitted
//! as soon as it is resolved: its manifests are kept until they are pushed, each unique blob is there once, with its
//! size, the places that have it and the repositories that need it.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;

use crate::image::manifest::{Content, Descriptor, Extent, Manifest, Trimmed};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Reference, Repository};
use crate::store::registry::Error;
use crate::store::{Depth, Origin, Source, Target};

mod deep;
mod foreign;
mod ids;
mod ledger;
mod pins;
mod platforms;
mod referrers;
mod resolve;
mod resolver;
mod tree;

pub use deep::Blemish;
pub(crate) use deep::Damage;
pub(crate) use ids::{BlobId, DeliveryId, ImageId, RepositoryId, SourceId};
pub(crate) use ledger::{Failure, How, Ledger, Part, Step, Ticket, Turn};
pub(crate) use resolve::{News, Resolution};
pub(crate) use resolver::Found;

/// A place that repositories are in: a store, or a path in one.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub store: Source,
    pub prefix: Option<Repository>,
}

impl Place {
    /// `location` as it is called here.
    pub(crate) fn place(&self, location: &Location) -> Location {
        Location { repository: location.repository.below(self.prefix.as_ref()), name: location.name.clone() }
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
    /// A tag that has another digest than is recorded of it is taken all the same.
    pub accept_moved: bool,
    /// Images whose name is right are looked at down to their blobs, so closely.
    pub deep: Option<Depth>,
}

/// An image to be mirrored: where it comes from and is to go, by name.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub reference: Reference,
    pub source: Place,
    /// The names at the target, already with the target's path in front.
    pub destinations: Vec<Location>,
    pub platforms: Arc<Platforms>,
    /// The image that it is about, for signatures and the like.
    pub refers_to: Option<Digest>,
    /// The digest that it has to have at its source, by a record of it.
    pub pinned: Option<Digest>,
}

/// What is known of one name at the target before anything moves.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// The target has the source's very digest under this name.
    Present(Digest),
    /// It has the source's index, and below it what is wanted of it and no more.
    Sparse(Digest),
    /// It has the source's index without what is not wanted, as a run before this one put it there.
    Trimmed(Trimmed),
    /// It has the source's manifest, but not all of what is wanted with it.
    Partial(Lack),
    /// It has the source's manifest, and something below it is missing or damaged.
    Damaged(Arc<Damage>),
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
    /// Manifests that are what their digests say.
    Manifests,
    /// Blobs that are what their digests and sizes say.
    Blobs,
}

impl State {
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, State::Missing | State::Partial(_) | State::Damaged(_) | State::Different)
    }

    /// What is there, where nothing is to be done.
    fn digest_there(&self) -> Option<&Digest> {
        match self {
            State::Present(digest) | State::Sparse(digest) => Some(digest),
            State::Trimmed(trimmed) => Some(&trimmed.target),
            State::Partial(_) | State::Damaged(_) | State::Missing | State::Different | State::Failed(_) => {
                None
            }
        }
    }

    fn present(digest: Digest, extent: &Extent) -> Self {
        if extent.is_sparse() { State::Sparse(digest) } else { State::Present(digest) }
    }
}

/// An image's manifests, children first; the root, which gets the tag, is alone on the last level. Those of one level
/// do not depend on each other.
pub(crate) type Levels = Vec<Vec<Arc<Manifest>>>;

/// The manifests of an image that is on its way, and the blobs that they name.
#[derive(Debug)]
pub(crate) struct Tree {
    pub levels: Levels,
    /// Each once.
    pub blobs: Vec<BlobId>,
}

impl Tree {
    pub(crate) fn root(&self) -> &Arc<Manifest> {
        self.levels.last().and_then(|level| level.first()).expect("a tree is built from its root")
    }

    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.levels.iter().flatten()
    }

    /// Bytes of all manifests.
    pub(crate) fn manifest_bytes(&self) -> usize {
        self.manifests().map(|manifest| manifest.bytes.len()).sum()
    }
}

/// A blob that some delivery needs.
#[derive(Debug)]
pub(crate) struct PlannedBlob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where it can be had; the next one where one fails.
    origins: Vec<u32>,
    /// So many of them, from the first, do not serve it.
    ruled_out: usize,
}

impl PlannedBlob {
    /// As a manifest describes it, as far as that matters to whoever moves it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::of_blob(self.digest.clone(), self.size)
    }

    /// How many places it can be had from, as far as is known.
    pub(crate) fn number_of_origins(&self) -> usize {
        self.origins.len()
    }

    /// Whether places that it can be had from were tried, and have not served it.
    pub(crate) fn was_tried(&self) -> bool {
        self.ruled_out > 0
    }

    /// Those that are worth asking: all of them where none served it, since one may have got it meanwhile.
    fn hopeful(&self) -> &[u32] {
        match &self.origins[self.ruled_out..] {
            [] => &self.origins,
            others => others,
        }
    }
}

/// Most places that one blob is tried to be had from.
const ORIGINS_MAX: usize = 16;

/// All places that blobs come from, each once.
#[derive(Debug, Default)]
struct Origins {
    all: Vec<(Origin, SourceId)>,
    known: HashMap<(String, Repository, Option<Url>), u32>,
    /// By the name of the place.
    sources: HashMap<String, SourceId>,
}

impl Origins {
    fn number(&mut self, origin: Origin) -> u32 {
        let key = (origin.source.place().to_owned(), origin.repository.clone(), origin.url.clone());
        if let Some(number) = self.known.get(&key) {
            return *number;
        }
        let next = SourceId::new(self.sources.len());
        let source = *self.sources.entry(key.0.clone()).or_insert(next);
        let number = u32::try_from(self.all.len()).expect("fewer than 2^32 of them fit into memory");
        self.all.push((origin, source));
        self.known.insert(key, number);
        number
    }
}

/// All that a run will do, as far as it is known.
#[derive(Debug)]
pub(crate) struct Plan {
    pub ledger: Ledger<Error>,
    rules: Rules,
    /// The target's name: images may come from other repositories there.
    place: String,
    blobs: Vec<PlannedBlob>,
    origins: Origins,
}

/// What an image has brought into the plan.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// What the image consists of; `None` if nothing of it is to be pushed.
    pub tree: Option<Tree>,
    /// In the order of the image's names at the target.
    pub deliveries: Vec<(DeliveryId, State)>,
    /// Blobs that no image before needed.
    pub news: Vec<BlobId>,
    pub steps: Vec<Step<Error>>,
}

impl Plan {
    pub(crate) fn new(target: &Target, rules: Rules) -> Self {
        Self {
            ledger: Ledger::new(target.holds()),
            rules,
            place: target.place().to_owned(),
            blobs: Vec::new(),
            origins: Origins::default(),
        }
    }

    pub(crate) fn blob(&self, id: BlobId) -> &PlannedBlob {
        &self.blobs[id.index()]
    }

    /// Every blob that is needed.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = (BlobId, &PlannedBlob)> {
        self.blobs.iter().enumerate().map(|(index, blob)| (BlobId::new(index), blob))
    }

    /// Where a blob can be had, best first.
    pub(crate) fn origins(&self, id: BlobId) -> Vec<Origin> {
        let numbers = self.blob(id).hopeful().iter();
        numbers.map(|number| self.origins.all[*number as usize].0.clone()).collect()
    }

    /// Does without the first `number` places to have a blob from, as soon as there are others: they do not serve it.
    pub(crate) fn rule_out(&mut self, id: BlobId, number: usize) {
        let blob = &mut self.blobs[id.index()];
        blob.ruled_out = blob.ruled_out.max(number);
    }

    /// The source that a blob most likely comes from.
    pub(crate) fn source(&self, id: BlobId) -> SourceId {
        let first = *self.blob(id).hopeful().first().expect("a blob is planned with an origin");
        self.origins.all[first as usize].1
    }

    /// Takes in an image that has been resolved.
    pub(crate) fn admit(&mut self, request: &Request, found: Found) -> Admitted {
        let mut steps = Vec::new();
        let mut news = Vec::new();
        let tree = found.levels.map(|levels| {
            let blobs = self.enter_blobs(request, &levels, &mut news, &mut steps);
            Tree { levels, blobs }
        });
        let mut deliveries = Vec::new();
        for (location, state) in request.destinations.iter().zip(found.states) {
            let repository = self.ledger.repository_id(&location.repository);
            let id = match tree.as_ref().filter(|_| state.is_wanted()) {
                Some(tree) => {
                    if let State::Damaged(damage) = &state {
                        steps.extend(self.enter_damage(damage, &tree.blobs, repository));
                    }
                    let parts = parts_of(tree, request);
                    let (id, next) = self.ledger.admit(repository, &tree.blobs, parts);
                    steps.extend(next);
                    id
                }
                None => self.ledger.admit_settled(repository),
            };
            deliveries.push((id, state));
        }
        Admitted { tree, deliveries, news, steps }
    }

    /// The blobs that these manifests name, each once, with the places that have them.
    fn enter_blobs(
        &mut self,
        request: &Request,
        levels: &Levels,
        news: &mut Vec<BlobId>,
        steps: &mut Vec<Step<Error>>,
    ) -> Vec<BlobId> {
        let repository = request.source.place(&request.reference.location()).repository;
        let is_at_target = request.source.store.place() == self.place;
        let mut blobs = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let include_foreign = self.rules.include_foreign;
        let manifests = levels.iter().flatten();
        for descriptor in manifests.flat_map(|manifest| blobs_of(manifest, include_foreign)) {
            if is_at_target && !descriptor.is_foreign() {
                let holder = self.ledger.repository_id(&repository);
                let (_, next) = self.ledger.held_before(&descriptor.digest, descriptor.size, holder);
                steps.extend(next);
            }
            let (id, is_new) = self.ledger.blob_id(&descriptor.digest, descriptor.size);
            if is_new {
                let digest = descriptor.digest.clone();
                self.blobs.push(PlannedBlob {
                    digest,
                    size: descriptor.size,
                    origins: Vec::new(),
                    ruled_out: 0,
                });
                news.push(id);
            }
            if !seen.insert(id) {
                continue;
            }
            blobs.push(id);
            let urls = if descriptor.is_foreign() { descriptor.urls.as_slice() } else { &[] };
            let mut more = false;
            for url in [None].into_iter().chain(urls.iter().cloned().map(Some)) {
                let (source, repository) = (request.source.store.clone(), repository.clone());
                more |= self.add_origin(id, Origin { source, repository, url });
            }
            if more && !is_new {
                steps.extend(self.ledger.new_source(id));
            }
        }
        blobs
    }

    /// False if the place is known to have the blob, or no further one is needed.
    fn add_origin(&mut self, id: BlobId, origin: Origin) -> bool {
        if self.blobs[id.index()].origins.len() >= ORIGINS_MAX {
            return false;
        }
        let number = self.origins.number(origin);
        let known = &mut self.blobs[id.index()].origins;
        let is_new = !known.contains(&number);
        if is_new {
            known.push(number);
        }
        is_new
    }
}

/// What a delivery of `tree` puts besides its root, and may share with others.
fn parts_of(tree: &Tree, request: &Request) -> Vec<Part> {
    let below = tree.levels.split_last().map_or(&[][..], |(_, below)| below);
    let manifests = below.iter().flatten().map(|manifest| Part::Manifest(manifest.digest.clone()));
    // The list of what refers to an image is read and written back: by one at a time.
    manifests.chain(request.refers_to.iter().cloned().map(Part::Referrers)).collect()
}

/// The blobs that are to be beside a manifest at the target.
pub(crate) fn blobs_of(manifest: &Manifest, include_foreign: bool) -> impl Iterator<Item = &Descriptor> {
    let blobs = match &manifest.content {
        Content::Image(blobs) => blobs.as_slice(),
        Content::Index(_) => &[],
    };
    blobs.iter().filter(move |blob| include_foreign || !blob.is_foreign())
}
