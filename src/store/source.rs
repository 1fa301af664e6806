//! The verbs of a place that is read from.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::layout::Layout;
#[cfg(test)]
use super::memory;
use super::reader::Stream;
use super::{BlobReader, Prefix};
#[cfg(test)]
use crate::error::Side;
use crate::error::{Error, Kind};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Digest, Location, Repository};
use crate::store::Head;
#[cfg(test)]
use crate::store::registry::REQUESTS_PER_HOST;
use crate::store::registry::{Download, Registry};

/// How many files are read or written at a time.
const FILES_AT_A_TIME: usize = 16;

/// A place to read images from, of whichever kind.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Registry(Arc<Registry>),
    Layout(Arc<Layout>),
    /// What it is for is told by its errors.
    #[cfg(test)]
    Memory(Arc<memory::Store>, Side),
}

impl Source {
    #[cfg(test)]
    pub(crate) fn memory(store: &Arc<memory::Store>) -> Self {
        Source::Memory(store.clone(), Side::Source)
    }

    /// The place's name, as a person knows it: a host with its port.
    pub(crate) fn place(&self) -> &str {
        match self {
            Source::Registry(registry) => registry.host.as_str(),
            Source::Layout(layout) => layout.name(),
            #[cfg(test)]
            Source::Memory(store, _) => store.name(),
        }
    }

    /// The full name of what has `location` there, as one would ask for it.
    pub(crate) fn full_name(&self, location: &Location) -> String {
        match self {
            Source::Registry(registry) => format!("{}/{location}", registry.host),
            Source::Layout(layout) => format!("{}:{location}", layout.name()),
            #[cfg(test)]
            Source::Memory(store, _) => format!("{}/{location}", store.name()),
        }
    }

    /// How many requests it may be busy with at a time.
    pub(crate) fn requests_at_a_time(&self) -> usize {
        match self {
            Source::Registry(registry) => registry.requests_at_a_time(),
            Source::Layout(_) => FILES_AT_A_TIME,
            #[cfg(test)]
            Source::Memory(..) => REQUESTS_PER_HOST,
        }
    }

    /// So many requests are going to be made at once: makes ready for them, so that none waits for that on its way.
    pub(crate) fn expect(&self, requests: usize) {
        match self {
            Source::Registry(registry) => registry.expect(requests),
            Source::Layout(_) => {}
            #[cfg(test)]
            Source::Memory(..) => {}
        }
    }

    /// Which digest `location` has there.
    ///
    /// # Errors
    /// The place cannot be asked. That it has nothing there is no error.
    pub(crate) async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        match self {
            Source::Registry(registry) => registry.head_manifest(location).await,
            Source::Layout(layout) => layout.resolve(location).await,
            #[cfg(test)]
            Source::Memory(store, side) => store.resolve(*side, location).await,
        }
    }

    /// The manifest at `location`, verified: against the digest that it is asked for by, and the descriptor that has
    /// `pinned` it.
    ///
    /// # Errors
    /// It does not exist, is damaged, or is no manifest that can be mirrored.
    pub(crate) async fn manifest(
        &self,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        match self {
            Source::Registry(registry) => registry.get_manifest(location, pinned).await,
            Source::Layout(layout) => layout.manifest(location, pinned).await,
            #[cfg(test)]
            Source::Memory(store, side) => {
                store.manifest(*side, location, pinned.map(|pinned| pinned.size)).await
            }
        }
    }

    /// Starts reading `blob`, behind the `prefix` that is there already, from `url` if that is given, else from
    /// `repository`. `past_caches` asks for a copy that no cache on the way has kept.
    ///
    /// # Errors
    /// The place does not have the blob, or has something of another size.
    pub(crate) async fn open(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        past_caches: bool,
        url: Option<Url>,
        prefix: Option<Prefix>,
    ) -> Result<BlobReader, Error> {
        let position = prefix.as_ref().map_or(0, |prefix| prefix.length);
        let stream = match self {
            Source::Registry(registry) => {
                let (registry, repository) = (registry.clone(), repository.clone());
                Stream::Registry(Box::new(
                    Download::open(registry, repository, url, blob, past_caches, position).await?,
                ))
            }
            Source::Layout(layout) => Stream::Layout(layout.open_blob(blob, position).await?),
            #[cfg(test)]
            Source::Memory(store, side) => {
                Stream::Memory(store.open(*side, repository, blob, position).await?)
            }
        };
        BlobReader::new(stream, blob, prefix)
    }

    /// Whether it tells what it lacks before anything is read: only files can be looked at for nothing.
    pub(crate) fn tells_what_it_lacks(&self) -> bool {
        match self {
            Source::Registry(_) => false,
            Source::Layout(_) => true,
            #[cfg(test)]
            Source::Memory(..) => false,
        }
    }

    /// Fails for those of `blobs` that the place is known not to have, where [`Self::tells_what_it_lacks`].
    ///
    /// # Errors
    /// Some of them are not there.
    pub(crate) async fn check_blobs(&self, blobs: impl Iterator<Item = &Descriptor>) -> Result<(), Error> {
        match self {
            Source::Registry(_) => Ok(()),
            Source::Layout(layout) => layout.check_blobs(blobs).await,
            #[cfg(test)]
            Source::Memory(..) => Ok(()),
        }
    }

    /// The descriptors of what refers to `subject`.
    ///
    /// # Errors
    /// The place cannot be asked. That nothing refers to it is no error.
    pub(crate) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        match self {
            Source::Registry(registry) => registry.referrers(repository, subject).await,
            Source::Layout(layout) => layout.referrers(subject).await,
            #[cfg(test)]
            Source::Memory(store, side) => store.referrers(*side, repository, subject).await,
        }
    }

    /// An error of something that was done here.
    pub(crate) fn error(&self, kind: Kind, doing: String, why: String) -> Error {
        match self {
            Source::Registry(registry) => registry.error(kind, doing, why),
            Source::Layout(layout) => layout.error(kind, doing, why),
            #[cfg(test)]
            Source::Memory(store, side) => store.error_of(*side, kind, doing, why),
        }
    }

    /// Whether it has answered anything well of late.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Source::Registry(registry) => registry.is_alive(),
            Source::Layout(_) => false,
            #[cfg(test)]
            Source::Memory(..) => false,
        }
    }

    /// Waits `pause` after `error`; together with all who talk to this place if that is its wish.
    pub(super) async fn rest(&self, pause: Duration, error: &Error) {
        match self {
            Source::Registry(registry) => registry.pause(pause, error).await,
            Source::Layout(_) => tokio::time::sleep(pause).await,
            #[cfg(test)]
            Source::Memory(..) => tokio::time::sleep(pause).await,
        }
    }
}
