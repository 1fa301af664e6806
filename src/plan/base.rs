//! Layers that a layout leaves out, for the target is said to have them: a delta.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use futures_util::stream::{self, StreamExt as _};

use super::{BlobId, Plan};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::record::Blob;
use crate::store::{Holds, Origin, Target, read_through};
use crate::util::text;

/// Most layers that a text for people names.
const NAMED_MAX: usize = 3;
/// Most repositories that are asked for one layer.
const ASKED_MAX: usize = 8;

/// What the target has of what is left out.
#[derive(Debug, Default)]
pub(crate) struct Base {
    /// A repository that has it.
    pub there: Vec<(BlobId, Repository)>,
    pub missing: Vec<(Digest, Blob)>,
}

impl Base {
    /// What is missing, in words; `None` if nothing is.
    pub(crate) fn told(&self, target: &str) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let named: Vec<String> = self
            .missing
            .iter()
            .take(NAMED_MAX)
            .map(|(digest, Blob(size, repository))| {
                format!("{digest} ({}) of {repository}", text::bytes(*size))
            })
            .collect();
        let more = match self.missing.len() - named.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (number, all) = (self.missing.len(), self.missing.len() + self.there.len());
        Some(format!(
            "{number} of {} that it leaves out, and takes to be at {target}, {} not there: {}{more}",
            text::count(all, "layer"),
            if number == 1 { "is" } else { "are" },
            named.join(", ")
        ))
    }
}

/// Whether the blob is there. What files have counts only once it was read: nobody else looks at it before it is named.
async fn has(target: &Target, place: &Repository, blob: &Descriptor) -> Result<bool, Error> {
    match target.holds() {
        Holds::PerRepository => Ok(target.has(place, blob).await?.may_be(blob.size)),
        Holds::Shared => Ok(read_through(target, place, blob, |_| {}).await?.is_none()),
    }
}

impl Plan {
    /// Asks the target for all layers of the plan that are `assumed` to be there, each in the repository that is named,
    /// or else in those that are to get it.
    ///
    /// # Errors
    /// The target cannot be asked.
    pub(crate) async fn look_for_base(
        &self,
        assumed: &BTreeMap<Digest, Blob>,
        target: &Target,
        parallel: NonZeroUsize,
    ) -> Result<Base, Error> {
        let looks = self.blobs().filter_map(|(id, blob)| {
            let named = assumed.get(&blob.digest).filter(|named| named.0 == blob.size)?;
            let needs = self.ledger.holder(id).into_iter().chain(self.ledger.needs(id));
            self.ledger.needs(id).next()?;
            let mut places = vec![named.1.clone()];
            for place in needs.map(|id| self.ledger.repository(id)).take(ASKED_MAX) {
                if !places.contains(place) {
                    places.push(place.clone());
                }
            }
            Some(async move {
                let descriptor = blob.descriptor();
                for place in places {
                    match has(target, &place, &descriptor).await {
                        Ok(true) => return Ok((id, Ok(place))),
                        // Several registries say so of a repository that is not there.
                        Err(error) if error.kind != Kind::Denied => return Err(error),
                        Ok(false) | Err(_) => {}
                    }
                }
                Ok((id, Err((blob.digest.clone(), named.clone()))))
            })
        });
        let found: Vec<Result<_, Error>> =
            stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(parallel.get()).collect().await;
        let mut found = found.into_iter().collect::<Result<Vec<_>, Error>>()?;
        found.sort_by_key(|(id, _)| *id);
        let mut base = Base::default();
        for (id, place) in found {
            match place {
                Ok(place) => base.there.push((id, place)),
                Err(missing) => base.missing.push(missing),
            }
        }
        Ok(base)
    }

    /// A blob is to be had from a repository of the target, and from nowhere else.
    pub(crate) fn have_from_target(&mut self, id: BlobId, target: &Target, repository: &Repository) {
        let before = self.blobs[id.index()].number_of_origins();
        let origin = Origin { source: target.as_source().clone(), repository: repository.clone(), url: None };
        if self.blobs[id.index()].add(|| self.origins.enter(origin)) {
            self.rule_out(id, before);
        }
    }
}
