//! The manifests that an image consists of, asked for one after the other.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use tokio::sync::OnceCell;

use super::Place;
use super::resolver::Resolver;
use crate::error::{Error, Kind};
use crate::image::manifest::{Content, Descriptor, Manifest, StandIn};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Repository, TagOrDigest};
use crate::store::Source;
use crate::util::text;

/// Deepest nesting of indexes that is followed.
pub(crate) const DEPTH_MAX: usize = 8;
/// Most manifests that one image may consist of, and their bytes.
pub(crate) const MANIFESTS_MAX: usize = 2000;
const BYTES_MAX: u64 = 64 << 20;
/// Most descriptors in all of them.
const DESCRIPTORS_MAX: usize = 100_000;
/// Bytes of manifests that are fetched at a time until their descriptors are counted; a single one may have more.
const BATCH: u64 = 4 << 20;

/// Bytes of manifests that are remembered, in the hope that another tag names them too.
const REMEMBERED_MAX: u64 = 16 << 20;

/// A manifest as an index names it: where, which, and how many bytes it should have.
type Named = (String, Repository, Digest, u64);

type Cell = Arc<OnceCell<Arc<Manifest>>>;

/// Manifests that were fetched of late, or are being fetched.
#[derive(Debug, Default)]
pub(super) struct Fetched(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    cells: HashMap<Named, Cell>,
    /// The oldest first.
    order: VecDeque<Named>,
    bytes: u64,
}

impl Fetched {
    /// The place for one manifest: whoever comes first fetches it, all others wait for that one request.
    fn cell(&self, named: Named) -> Cell {
        let mut remembered = self.0.lock().expect("no code panics while it holds this lock");
        if let Some(cell) = remembered.cells.get(&named) {
            return cell.clone();
        }
        remembered.bytes = remembered.bytes.saturating_add(named.3);
        remembered.order.push_back(named.clone());
        while remembered.bytes > REMEMBERED_MAX && remembered.order.len() > 1 {
            let Some(oldest) = remembered.order.pop_front() else { break };
            remembered.bytes = remembered.bytes.saturating_sub(oldest.3);
            remembered.cells.remove(&oldest);
        }
        remembered.cells.entry(named).or_default().clone()
    }
}

impl Resolver {
    /// The manifests below `location`, by level, the root last. Everything after the root is asked for by digest, so
    /// that a tag that moves meanwhile cannot mix two images. None at all for an image without a wanted platform.
    pub(super) async fn fetch_tree(
        &self,
        source: &Place,
        location: &Location,
        platforms: &Platforms,
        pinned: bool,
    ) -> Result<Vec<Vec<Arc<Manifest>>>, Error> {
        let root = {
            let _permit = self.permit_for(&source.store).await;
            source.store.manifest(location, None).await?
        };
        if platforms.has_none(&root) {
            return Ok(Vec::new());
        }
        let root = platforms.prepare(root, pinned);
        let mut seen = HashSet::from([root.digest.clone()]);
        let mut levels = vec![vec![Arc::new(root)]];
        let mut bytes = 0;
        let mut descriptors = levels[0][0].content.descriptors();
        loop {
            let above = levels.last().expect("the root's level is there");
            let mut children: Vec<&Descriptor> = Vec::new();
            for manifest in above {
                if let Content::Index(entries) = &manifest.content {
                    let kept = platforms.children(entries).into_iter();
                    children.extend(kept.filter(|child| seen.insert(child.digest.clone())));
                }
            }
            if children.is_empty() {
                let is_cut = |manifest: &Arc<Manifest>| manifest.stand_in != StandIn::None;
                if levels.iter().flatten().any(is_cut) && !is_cut(&levels[0][0]) {
                    let root = Manifest { stand_in: StandIn::Nested, ..Manifest::clone(&levels[0][0]) };
                    levels[0][0] = Arc::new(root);
                }
                levels.reverse();
                return Ok(order(levels));
            }
            bytes = children.iter().fold(bytes, |sum: u64, child| sum.saturating_add(child.size));
            let invalid = |why| source.store.error(Kind::Invalid, format!("GET manifest {location}"), why);
            if levels.len() >= DEPTH_MAX || seen.len() > MANIFESTS_MAX || bytes > BYTES_MAX {
                return Err(invalid(format!(
                    "its indexes are nested deeper than {DEPTH_MAX}, or name over {MANIFESTS_MAX} manifests or {} of \
                     them",
                    text::bytes(BYTES_MAX)
                )));
            }
            let mut level = Vec::with_capacity(children.len());
            for batch in batches(&children) {
                if descriptors > DESCRIPTORS_MAX {
                    break;
                }
                let fetched = batch.iter().map(|child| self.fetch_child(source, location, child));
                for child in join_all(fetched).await {
                    let child = child?;
                    descriptors += child.content.descriptors();
                    level.push(platforms.prepare_inner(child));
                }
            }
            if descriptors > DESCRIPTORS_MAX {
                let why = format!("its manifests name over {DESCRIPTORS_MAX} manifests and blobs");
                return Err(invalid(why));
            }
            levels.push(level);
        }
    }

    async fn fetch_child(
        &self,
        source: &Place,
        location: &Location,
        child: &Descriptor,
    ) -> Result<Arc<Manifest>, Error> {
        let at = Location {
            repository: location.repository.clone(),
            name: TagOrDigest::Digest(child.digest.clone()),
        };
        let named =
            (source.store.place().to_owned(), at.repository.clone(), child.digest.clone(), child.size);
        let cell = self.fetched.cell(named);
        let fetch = || async {
            let _permit = self.permit_for(&source.store).await;
            source.store.manifest(&at, Some(child)).await.map(Arc::new)
        };
        match cell.get_or_try_init(fetch).await {
            Ok(manifest) => Ok(manifest.clone()),
            Err(error) => {
                let platform = child.platform.as_deref().unwrap_or("no platform");
                Err(Error { action: format!("{} ({platform}, a part of {location})", error.action), ..error })
            }
        }
    }
}

/// The manifests that a place has of the image at `location`, the root last, whatever else its indexes name.
///
/// # Errors
/// The place cannot be asked, or has more than an image may have.
pub(crate) async fn manifests_below(store: &Source, location: &Location) -> Result<Vec<Manifest>, Error> {
    let root = store.manifest(location, None).await?;
    let mut seen = HashSet::from([root.digest.clone()]);
    let (mut bytes, mut descriptors) = (0_u64, root.content.descriptors());
    let mut found = vec![(root, 1)];
    let mut next = 0;
    while let Some((manifest, depth)) = found.get(next) {
        next += 1;
        let (Content::Index(entries), depth) = (&manifest.content, depth + 1) else { continue };
        let entries = entries.iter().filter(|entry| seen.insert(entry.digest.clone()));
        for entry in entries.cloned().collect::<Vec<_>>() {
            bytes = bytes.saturating_add(entry.size);
            let is_too_much = depth > DEPTH_MAX || seen.len() > MANIFESTS_MAX || bytes > BYTES_MAX;
            if is_too_much || descriptors > DESCRIPTORS_MAX {
                let why = "it consists of more manifests than an image may have".to_owned();
                return Err(store.error(Kind::Invalid, format!("GET manifest {location}"), why));
            }
            let name = TagOrDigest::Digest(entry.digest.clone());
            match store.manifest(&Location { name, ..location.clone() }, Some(&entry)).await {
                Ok(child) => {
                    descriptors += child.content.descriptors();
                    found.push((child, depth));
                }
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found.into_iter().rev().map(|(manifest, _)| manifest).collect())
}

/// Manifests that can be fetched at a time, in order.
fn batches<'a, 'd>(children: &'a [&'d Descriptor]) -> Vec<&'a [&'d Descriptor]> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0_u64);
    for (at, child) in children.iter().enumerate() {
        if at > first && bytes.saturating_add(child.size) > BATCH {
            batches.push(&children[first..at]);
            (first, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(child.size);
    }
    batches.push(&children[first..]);
    batches
}

/// Moves every manifest behind all that it names: breadth-first levels put one that is named at two depths too late.
fn order(levels: Vec<Vec<Arc<Manifest>>>) -> Vec<Vec<Arc<Manifest>>> {
    let all: HashMap<Digest, Arc<Manifest>> =
        levels.iter().flatten().map(|m| (m.digest.clone(), m.clone())).collect();
    let mut heights: HashMap<Digest, usize> = HashMap::new();
    // Bounded by the depth that fetching allows; a digest cannot name itself.
    for _ in 0..levels.len() {
        for manifest in levels.iter().flatten() {
            let Content::Index(entries) = &manifest.content else { continue };
            let below = entries.iter().filter(|e| all.contains_key(&e.digest));
            let height = below.map(|e| heights.get(&e.digest).copied().unwrap_or(0) + 1).max().unwrap_or(0);
            heights.insert(manifest.digest.clone(), height);
        }
    }
    let mut ordered: BTreeMap<usize, Vec<Arc<Manifest>>> = BTreeMap::new();
    for manifest in levels.iter().flatten() {
        let height = heights.get(&manifest.digest).copied().unwrap_or(0);
        ordered.entry(height).or_default().push(manifest.clone());
    }
    ordered.into_values().collect()
}
