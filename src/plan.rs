//! What a run will do, as a value that grows image by image.
//!
//! Resolving asks both sides what they have and fetches the manifests of what the target lacks. Each image is admitted
//! as soon as it is resolved: its manifests are kept until they are pushed, each unique blob is there once, with its
//! size, the places that have it and the repositories that need it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::error::Error;
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Reference, Repository};
use crate::record::{Blob, Image, Purpose};
use crate::store::{Depth, Origin, Source, Target};

mod base;
mod deep;
mod foreign;
mod ids;
mod ledger;
mod locked;
mod origins;
mod pins;
mod platforms;
mod records;
mod referrers;
mod resolve;
mod resolver;
mod state;
mod tree;

pub use deep::Blemish;
pub(crate) use deep::Damage;
use ids::OriginId;
pub(crate) use ids::{BlobId, DeliveryId, ImageId, RepositoryId, SourceId};
pub(crate) use ledger::{Failure, How, Ledger, Part, Step, Ticket, Turn};
use origins::{Origins, PlannedBlob};
pub(crate) use records::Fate;
pub(crate) use resolve::{News, Resolution};
pub(crate) use resolver::Found;
pub use state::Lack;
pub(crate) use state::State;
pub(crate) use tree::{DEPTH_MAX, MANIFESTS_MAX, manifests_below};

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
    /// A target that is whole or nothing is made without images that have failed.
    pub allow_incomplete: bool,
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
    /// Layers that are somewhere else already, and are not wanted for it.
    pub elsewhere: Arc<BTreeMap<Digest, Blob>>,
    /// Layers that its source leaves out, for the target is said to have them.
    pub assumed: Option<Arc<BTreeMap<Digest, Blob>>>,
    /// What a lock says of it, where nothing else is to be compared with.
    pub locked: Option<Arc<Image>>,
    /// What it is recorded for, if it is.
    pub purpose: Option<Arc<Purpose>>,
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

    pub(crate) fn rules(&self) -> Rules {
        self.rules
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
        let hopeful = self.blob(id).hopeful().iter();
        hopeful.map(|id| self.origins.origin(*id).clone()).collect()
    }

    /// Does without the first `number` places to have a blob from, as soon as there are others: they do not serve it.
    pub(crate) fn rule_out(&mut self, id: BlobId, number: usize) {
        self.blobs[id.index()].rule_out(number);
    }

    /// The source that a blob most likely comes from.
    pub(crate) fn source(&self, id: BlobId) -> SourceId {
        self.origins.source(self.first_origin(id))
    }

    /// How many requests the source of a blob may be busy with at a time.
    pub(crate) fn room_of_source(&self, id: BlobId) -> usize {
        self.origins.origin(self.first_origin(id)).source.requests_at_a_time()
    }

    fn first_origin(&self, id: BlobId) -> OriginId {
        *self.blob(id).hopeful().first().expect("a blob is planned with an origin")
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
        let mut seen = HashSet::new();
        let include_foreign = self.rules.include_foreign;
        for descriptor in request.blobs_in(levels, include_foreign) {
            if is_at_target && !descriptor.is_foreign() {
                let holder = self.ledger.repository_id(&repository);
                let (_, next) = self.ledger.held_before(&descriptor.digest, descriptor.size, holder);
                steps.extend(next);
            }
            let (id, is_new) = self.ledger.blob_id(&descriptor.digest, descriptor.size);
            if is_new {
                self.blobs.push(PlannedBlob::new(descriptor.digest.clone(), descriptor.size));
                news.push(id);
            }
            if !seen.insert(id) {
                continue;
            }
            blobs.push(id);
            let urls = if descriptor.is_foreign() { descriptor.urls.as_slice() } else { &[] };
            let mut more = false;
            for url in [None].into_iter().chain(urls.iter().cloned().map(Arc::new).map(Some)) {
                let (source, repository) = (request.source.store.clone(), repository.clone());
                let origin = Origin { source, repository, url };
                more |= self.blobs[id.index()].add(|| self.origins.enter(origin));
            }
            if more && !is_new {
                steps.extend(self.ledger.new_source(id));
            }
        }
        blobs
    }
}

/// What a delivery of `tree` puts besides its root, and may share with others.
fn parts_of(tree: &Tree, request: &Request) -> Vec<Part> {
    let below = tree.levels.split_last().map_or(&[][..], |(_, below)| below);
    let manifests = below.iter().flatten().map(|manifest| Part::Manifest(manifest.digest.clone()));
    // The list of what refers to an image is read and written back: by one at a time.
    manifests.chain(request.refers_to.iter().cloned().map(Part::Referrers)).collect()
}

impl Request {
    /// The blobs that are to be beside the manifests of the image at the target.
    fn blobs_in<'l>(
        &'l self,
        levels: &'l Levels,
        include_foreign: bool,
    ) -> impl Iterator<Item = &'l Descriptor> {
        let all = self.all_blobs_in(levels, include_foreign);
        all.filter(|(_, elsewhere)| elsewhere.is_none()).map(|(blob, _)| blob)
    }

    /// The same with layers that are somewhere else already, and where those are.
    fn all_blobs_in<'l>(
        &'l self,
        levels: &'l Levels,
        include_foreign: bool,
    ) -> impl Iterator<Item = (&'l Descriptor, Option<&'l Blob>)> {
        let manifests: Vec<&Manifest> = levels.iter().flatten().map(AsRef::as_ref).collect();
        let bare = self.platforms.without_layers(&manifests);
        manifests.into_iter().flat_map(move |manifest| {
            // The config is the first of them.
            let most = if bare.contains(&manifest.digest) { 1 } else { usize::MAX };
            let blobs = blobs_of(manifest, include_foreign).take(most).enumerate();
            blobs.map(|(number, blob)| (blob, self.elsewhere(blob).filter(|_| number > 0)))
        })
    }

    fn elsewhere(&self, layer: &Descriptor) -> Option<&Blob> {
        self.elsewhere.get(&layer.digest).filter(|there| there.0 == layer.size)
    }
}

/// The blobs that are to be beside a manifest at the target.
fn blobs_of(manifest: &Manifest, include_foreign: bool) -> impl Iterator<Item = &Descriptor> {
    let blobs = match &manifest.content {
        Content::Image(blobs) => blobs.as_slice(),
        Content::Index(_) => &[],
    };
    blobs.iter().filter(move |blob| include_foreign || !blob.is_foreign())
}
