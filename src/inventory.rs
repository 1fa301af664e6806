//! What a place holds of the images that are asked for, by its own manifests.
//!
//! A registry is asked for names by HEAD and for manifests, and for no blob: it takes no manifest whose blobs it lacks. In
//! files blobs can be looked at for nothing.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use anyhow::{Result, bail};
use futures_util::stream::{self, StreamExt as _};

use crate::error::{Error, Kind as ErrorKind};
use crate::events::{Event, Listener};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Reference, TagOrDigest};
use crate::options::Options;
use crate::output::report::Exit;
use crate::plan::manifests_below;
use crate::record::{Contents, Draft, Image, Inventory, Kind, Made, Missing};
use crate::store::layout::Layout;
use crate::store::name::{LayoutName, StoreName};
use crate::store::{Head, Held, Holds, Target};

/// An image that may be there.
#[derive(Debug, Clone)]
pub(crate) struct Sought {
    pub reference: Reference,
    /// The names that it has there.
    pub locations: Vec<Location>,
}

/// What was found, and how much was not found out.
#[derive(Debug)]
pub struct Taken {
    pub inventory: Inventory,
    /// Images that were asked for.
    pub asked: usize,
    /// Those of them that could not be asked for, and whether it is the place that refused each.
    pub failed: usize,
    pub refused: bool,
}

impl Taken {
    pub fn exit(&self) -> Exit {
        match self.failed {
            0 => Exit::Done,
            failed if failed == self.asked && self.refused => Exit::TargetRefused,
            _ => Exit::SomeFailed,
        }
    }
}

/// Asks for all of `sought`, so many at a time.
pub(crate) async fn take(
    store: &Target,
    sought: Vec<Sought>,
    parallel: NonZeroUsize,
    made: Made,
    listener: &Listener,
) -> Taken {
    let total = sought.len();
    listener(Event::Asking { done: 0, total });
    store.expect(total.min(parallel.get()));
    let looks = sought.into_iter().map(|image| async move {
        let found = look(store, &image).await;
        (image.reference, found)
    });
    let mut looks = stream::iter(looks).buffer_unordered(parallel.get());
    let (mut draft, mut done, mut failed, mut refused) = (Draft::default(), 0, 0, true);
    let mut all = Vec::new();
    while let Some((reference, found)) = looks.next().await {
        done += 1;
        listener(Event::Asking { done, total });
        match found {
            Ok(found) => all.extend(found.map(|(image, contents)| (reference, image, contents))),
            Err(error) => {
                failed += 1;
                refused &= error.is_refusal();
                tracing::warn!("{reference}: {error}");
                let (names, reasons) = (reference.destinations(), Vec::new());
                draft.miss(Missing { source: reference, names, cause: error.to_string(), reasons });
            }
        }
    }
    // Which repository is told of a blob that several have is no matter of who has answered first.
    all.sort_by(|(a, ..), (b, ..)| a.cmp(b));
    all.into_iter().for_each(|(_, image, contents)| draft.add(image, &contents));
    Taken { inventory: draft.into_inventory(Kind::Inventory, made), asked: total, failed, refused }
}

/// What a layout holds of all images that it names.
///
/// # Errors
/// It cannot be read.
pub(crate) async fn of_layout(name: &LayoutName, options: &Options) -> Result<Inventory> {
    let layout = Arc::new(Layout::open(std::slice::from_ref(name), options.policy.clone())?);
    let references = layout.names().0.into_iter().map(|(name, _)| name.parse::<Reference>());
    let store = StoreName::Layout(name.clone());
    let sought = references.map(|reference| {
        let reference = reference?;
        Ok(Sought { locations: store.destinations(&reference), reference })
    });
    let sought = sought.collect::<Result<Vec<_>>>()?;
    let base = layout.base().clone();
    let target = Target::layout(layout);
    let taken =
        take(&target, sought, options.parallel, Made::default(), &(Arc::new(|_| {}) as Listener)).await;
    if let Some(missing) = taken.inventory.missing.values().next() {
        bail!("{}: {}", missing.source, missing.cause);
    }
    Ok(Inventory { base, ..taken.inventory })
}

/// What is there of an image; `None` if it has no name there.
async fn look(store: &Target, sought: &Sought) -> Result<Option<(Image, Contents)>, Error> {
    let mut there: Vec<(usize, Digest)> = Vec::new();
    for (number, location) in sought.locations.iter().enumerate() {
        if let Some(digest) = digest_at(store, location).await? {
            there.push((number, digest));
        }
    }
    let Some((first, digest)) = there.first().cloned() else { return Ok(None) };
    let location = &sought.locations[first];
    let root = Location { name: TagOrDigest::Digest(digest.clone()), ..location.clone() };
    let mut manifests = manifests_below(store.as_source(), &root).await?;
    let mut blobs: Vec<Descriptor> = Vec::new();
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut lacking: HashSet<Digest> = HashSet::new();
    for manifest in &manifests {
        let Content::Image(named) = &manifest.content else { continue };
        for blob in named {
            let is_there = match store.holds() {
                Holds::PerRepository => !blob.is_foreign(),
                Holds::Shared => store.has(&location.repository, blob).await? == Held::Bytes(blob.size),
            };
            if is_there && seen.insert(blob.digest.clone()) {
                blobs.push(blob.clone());
            } else if !is_there && !blob.is_foreign() {
                lacking.insert(manifest.digest.clone());
            }
        }
    }
    manifests.retain(|manifest| !lacking.contains(&manifest.digest) || manifest.digest == digest);
    let manifests: Vec<&Manifest> = manifests.iter().collect();
    let contents = Contents::of(&manifests, &Platforms::every(), blobs.iter().map(|blob| (blob, None)));
    let Some(contents) = contents else { return Ok(None) };
    let all = sought.reference.destinations();
    // In files an image has other names, and all of them once it is there.
    let names = if all.len() == sought.locations.len() && store.holds() == Holds::PerRepository {
        there.iter().filter(|(_, other)| *other == digest).map(|(number, _)| all[*number].clone()).collect()
    } else {
        all
    };
    let sparse = contents.sparse || lacking.contains(&digest);
    Ok(Some((Image { sparse, ..Image::new(&sought.reference, names, &[], &contents) }, contents)))
}

async fn digest_at(store: &Target, location: &Location) -> Result<Option<Digest>, Error> {
    let answer = match store.named(location).await? {
        Head::Found(digest) => return Ok(Some(digest)),
        Head::Absent => return Ok(None),
        Head::Mute => store.manifest(location, None).await,
    };
    match answer {
        Ok(manifest) => Ok(Some(manifest.digest)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
