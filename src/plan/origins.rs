//! The places that blobs can be had from.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;

use super::ids::{OriginId, SourceId};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::store::Origin;

/// Most places that one blob is tried to be had from.
const ORIGINS_MAX: usize = 16;

/// A blob that some delivery needs.
#[derive(Debug)]
pub(crate) struct PlannedBlob {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where it can be had; the next one where one fails.
    origins: Vec<OriginId>,
    /// So many of them, from the first, do not serve it.
    ruled_out: u8,
}

impl PlannedBlob {
    /// As a manifest describes it, as far as that matters to whoever moves it.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::of_blob(self.digest.clone(), self.size)
    }

    pub(super) fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size, origins: Vec::new(), ruled_out: 0 }
    }

    /// Adds a place to have it from; `false` if it is known to have the blob, or no further one is needed.
    pub(super) fn add(&mut self, origin: impl FnOnce() -> OriginId) -> bool {
        if self.origins.len() >= ORIGINS_MAX {
            return false;
        }
        let origin = origin();
        let is_new = !self.origins.contains(&origin);
        if is_new {
            // Most blobs come from one place, and a first push would make room for four.
            if self.origins.is_empty() {
                self.origins.reserve_exact(1);
            }
            self.origins.push(origin);
        }
        is_new
    }

    /// Does without the first `number` of its places as soon as there are others: they do not serve it.
    pub(super) fn rule_out(&mut self, number: usize) {
        let number = number.min(self.origins.len()) as u8;
        self.ruled_out = self.ruled_out.max(number);
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
    pub(super) fn hopeful(&self) -> &[OriginId] {
        match &self.origins[usize::from(self.ruled_out)..] {
            [] => &self.origins,
            others => others,
        }
    }
}

/// All places that blobs come from, each once.
#[derive(Debug, Default)]
pub(super) struct Origins {
    all: Vec<(Origin, SourceId)>,
    known: HashMap<(SourceId, Repository), OriginId>,
    /// Those that are not in a repository.
    elsewhere: HashMap<(SourceId, Repository, Arc<Url>), OriginId>,
    /// By the name of the place.
    sources: HashMap<String, SourceId>,
}

impl Origins {
    pub(super) fn enter(&mut self, origin: Origin) -> OriginId {
        let next = SourceId::new(self.sources.len());
        let place = origin.source.place();
        let source = match self.sources.get(place) {
            Some(source) => *source,
            None => *self.sources.entry(place.to_owned()).or_insert(next),
        };
        let next = OriginId::new(self.all.len());
        let repository = origin.repository.clone();
        let id = match &origin.url {
            Some(url) => *self.elsewhere.entry((source, repository, url.clone())).or_insert(next),
            None => *self.known.entry((source, repository)).or_insert(next),
        };
        if id == next {
            self.all.push((origin, source));
        }
        id
    }

    pub(super) fn origin(&self, id: OriginId) -> &Origin {
        &self.all[id.index()].0
    }

    pub(super) fn source(&self, id: OriginId) -> SourceId {
        self.all[id.index()].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Algorithm;
    use crate::store::Source;
    use crate::store::memory::Store;

    fn id(index: usize) -> OriginId {
        OriginId::new(index)
    }

    #[test]
    fn a_blob_has_each_place_once_and_a_few_at_most_and_goes_back_to_all_where_none_served_it() {
        let mut blob = PlannedBlob::new(Digest::of(Algorithm::Sha256, b"a"), 1);
        assert!(blob.add(|| id(0)) && blob.add(|| id(1)) && !blob.add(|| id(0)));
        assert_eq!(blob.hopeful(), [id(0), id(1)]);
        blob.rule_out(1);
        blob.rule_out(0);
        assert_eq!((blob.hopeful(), blob.was_tried()), (&[id(1)][..], true));
        blob.rule_out(2);
        assert_eq!(blob.hopeful(), [id(0), id(1)]);
        (2..99).for_each(|number| _ = blob.add(|| id(number)));
        assert_eq!(blob.number_of_origins(), ORIGINS_MAX);
        assert_eq!(blob.hopeful()[0], id(2));
    }

    #[test]
    fn a_place_is_one_source_with_all_of_its_repositories() {
        let stores = ["a", "b"].map(|name| Source::memory(&Arc::new(Store::new(name))));
        let mut origins = Origins::default();
        let mut enter = |store: &Source, repository: &str| {
            let repository = repository.parse().unwrap();
            origins.enter(Origin { source: store.clone(), repository, url: None })
        };
        let [first, second, other] =
            [enter(&stores[0], "one"), enter(&stores[0], "two"), enter(&stores[1], "one")];
        assert_eq!(enter(&stores[0], "two"), second);
        assert_eq!(origins.source(first), origins.source(second));
        assert_ne!(origins.source(first), origins.source(other));
        assert_eq!(origins.origin(other).source.place(), "b");
    }
}
