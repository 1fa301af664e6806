//! Places that hold images: what a run needs of one to read from, and of one to write to.
//!
//! A closed set of kinds, each behind the same verbs. Whoever copies knows the verbs and nothing of HTTP, upload
//! sessions or files; [`BlobReader`] verifies bytes wherever they come from.

mod copy;
mod inspect;
#[cfg(test)]
pub(crate) mod memory;
mod reader;
pub mod registry;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub(crate) use self::copy::{BlobOrder, Landed, copy_blob};
pub use self::inspect::{Depth, Flaw};
pub(crate) use self::inspect::{Inspector, damaged_copy};
pub(crate) use self::reader::BlobReader;

use self::copy::Put;
use self::reader::Stream;
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Digest, Location, Repository};
#[cfg(test)]
use crate::store::registry::Side;
use crate::store::registry::retry::Policy;
use crate::store::registry::{Download, Error, Head, Held, Kind, Ladder, Registry};

/// A place to read images from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Registry(Arc<Registry>),
    #[cfg(test)]
    Memory(Arc<memory::Store>),
}

/// A place to write images to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Registry(Arc<Registry>),
    #[cfg(test)]
    Memory(Arc<memory::Store>),
}

/// Which of a target's repositories a blob is in once it has landed in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// In that one alone.
    PerRepository,
    /// In all of them.
    Shared,
}

/// A place to get a blob from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub source: Source,
    pub repository: Repository,
    /// Not in the repository, but where its manifest says.
    pub url: Option<Arc<Url>>,
}

impl Origin {
    /// Whom to ask for it: a place, or another host with its port.
    pub(crate) fn host(&self) -> &str {
        self.url
            .as_ref()
            .map_or(self.source.place(), |url| &url[url::Position::BeforeHost..url::Position::AfterPort])
    }

    pub(crate) async fn open(&self, blob: &Descriptor, past_caches: bool) -> Result<BlobReader, Error> {
        self.source.open(&self.repository, blob, past_caches, self.url.as_deref().cloned()).await
    }
}

impl Source {
    /// The place's name, as a person knows it: a host with its port.
    pub(crate) fn place(&self) -> &str {
        match self {
            Source::Registry(registry) => registry.host.as_str(),
            #[cfg(test)]
            Source::Memory(store) => store.name(),
        }
    }

    /// How many requests it may be busy with at a time.
    pub(crate) fn requests_at_a_time(&self) -> usize {
        match self {
            Source::Registry(registry) => registry.requests_at_a_time(),
            #[cfg(test)]
            Source::Memory(_) => registry::REQUESTS_PER_HOST,
        }
    }

    /// So many requests are going to be made at once: makes ready for them, so that none waits for that on its way.
    pub(crate) fn expect(&self, requests: usize) {
        match self {
            Source::Registry(registry) => registry.expect(requests),
            #[cfg(test)]
            Source::Memory(_) => {}
        }
    }

    /// Which digest `location` has there.
    ///
    /// # Errors
    /// The place cannot be asked. That it has nothing there is no error.
    pub(crate) async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        match self {
            Source::Registry(registry) => registry.head_manifest(location).await,
            #[cfg(test)]
            Source::Memory(store) => store.resolve(Side::Source, location).await,
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
            #[cfg(test)]
            Source::Memory(store) => {
                store.manifest(Side::Source, location, pinned.map(|pinned| pinned.size)).await
            }
        }
    }

    /// Starts reading `blob`, from `url` if that is given, else from `repository`. `past_caches` asks for a copy that
    /// no cache on the way has kept.
    ///
    /// # Errors
    /// The place does not have the blob, or has something of another size.
    pub(crate) async fn open(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        past_caches: bool,
        url: Option<Url>,
    ) -> Result<BlobReader, Error> {
        let stream = match self {
            Source::Registry(registry) => {
                let (registry, repository) = (registry.clone(), repository.clone());
                Stream::Registry(Box::new(
                    Download::open(registry, repository, url, blob, past_caches).await?,
                ))
            }
            #[cfg(test)]
            Source::Memory(store) => Stream::Memory(store.open(repository, blob).await?),
        };
        BlobReader::new(stream, blob)
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
            #[cfg(test)]
            Source::Memory(store) => store.referrers(Side::Source, repository, subject).await,
        }
    }

    /// An error of something that was done here.
    pub(crate) fn error(&self, kind: Kind, doing: String, why: String) -> Error {
        match self {
            Source::Registry(registry) => registry.error(kind, doing, why),
            #[cfg(test)]
            Source::Memory(store) => store.error_of(Side::Source, kind, doing, why),
        }
    }

    /// Whether it has answered anything well of late.
    fn is_alive(&self) -> bool {
        match self {
            Source::Registry(registry) => registry.is_alive(),
            #[cfg(test)]
            Source::Memory(_) => false,
        }
    }

    /// Waits `pause` after `error`; together with all who talk to this place if that is its wish.
    async fn rest(&self, pause: Duration, error: &Error) {
        match self {
            Source::Registry(registry) => registry.pause(pause, error).await,
            #[cfg(test)]
            Source::Memory(_) => tokio::time::sleep(pause).await,
        }
    }
}

impl Target {
    /// The place's name, as a person knows it: a host with its port.
    pub(crate) fn place(&self) -> &str {
        match self {
            Target::Registry(registry) => registry.host.as_str(),
            #[cfg(test)]
            Target::Memory(store) => store.name(),
        }
    }

    /// How patiently it is dealt with.
    pub(crate) fn policy(&self) -> &Policy {
        match self {
            Target::Registry(registry) => registry.policy(),
            #[cfg(test)]
            Target::Memory(store) => store.policy(),
        }
    }

    /// Whether a blob that has landed in one repository is in the others too.
    pub(crate) fn holds(&self) -> Holds {
        match self {
            Target::Registry(_) => Holds::PerRepository,
            #[cfg(test)]
            Target::Memory(store) => store.holds(),
        }
    }

    /// How many requests it may be busy with at a time.
    pub(crate) fn requests_at_a_time(&self) -> usize {
        match self {
            Target::Registry(registry) => registry.requests_at_a_time(),
            #[cfg(test)]
            Target::Memory(_) => registry::REQUESTS_PER_HOST,
        }
    }

    /// So many requests are going to be made at once: makes ready for them, so that none waits for that on its way.
    pub(crate) fn expect(&self, requests: usize) {
        match self {
            Target::Registry(registry) => registry.expect(requests),
            #[cfg(test)]
            Target::Memory(_) => {}
        }
    }

    /// As [`Source::resolve`].
    ///
    /// # Errors
    /// As [`Source::resolve`] has them.
    pub(crate) async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        match self {
            Target::Registry(registry) => registry.head_manifest(location).await,
            #[cfg(test)]
            Target::Memory(store) => store.resolve(Side::Target, location).await,
        }
    }

    /// As [`Source::manifest`].
    ///
    /// # Errors
    /// As [`Source::manifest`] has them.
    pub(crate) async fn manifest(
        &self,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        match self {
            Target::Registry(registry) => registry.get_manifest(location, pinned).await,
            #[cfg(test)]
            Target::Memory(store) => {
                store.manifest(Side::Target, location, pinned.map(|pinned| pinned.size)).await
            }
        }
    }

    /// As [`Source::referrers`].
    ///
    /// # Errors
    /// As [`Source::referrers`] has them.
    pub(crate) async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, Error> {
        match self {
            Target::Registry(registry) => registry.referrers(repository, subject).await,
            #[cfg(test)]
            Target::Memory(store) => store.referrers(Side::Target, repository, subject).await,
        }
    }

    /// What `repository` holds of `blob`.
    ///
    /// # Errors
    /// The place cannot be asked.
    pub(crate) async fn has(&self, repository: &Repository, blob: &Descriptor) -> Result<Held, Error> {
        match self {
            Target::Registry(registry) => registry.held_blob(repository, &blob.digest).await,
            #[cfg(test)]
            Target::Memory(store) => {
                Ok(store.has(repository, &blob.digest).await?.map_or(Held::Nothing, Held::Bytes))
            }
        }
    }

    /// The putting of a blob, to be tried with one source after the other; [`copy_blob`] does that.
    fn put_blob<'a>(&'a self, order: &'a BlobOrder) -> Put<'a> {
        match self {
            Target::Registry(registry) => Put::Registry(Box::new(Ladder::new(registry, order))),
            #[cfg(test)]
            Target::Memory(store) => Put::Memory(memory::Put::new(store, order)),
        }
    }

    /// Puts a manifest under a tag or its digest, byte for byte. One that `refers` to another is made findable by it.
    ///
    /// # Errors
    /// The place refuses it ([`crate::store::registry::Kind::BlobUnknown`] if it misses content), or says that it stored
    /// something else.
    pub(crate) async fn put_manifest(
        &self,
        location: &Location,
        manifest: &Manifest,
        refers: bool,
    ) -> Result<(), Error> {
        match self {
            Target::Registry(registry) => {
                let stored = registry.put_manifest(location, manifest).await?;
                if refers && !stored.lists_referrers {
                    self.register_referrer(&location.repository, manifest).await?;
                }
                Ok(())
            }
            #[cfg(test)]
            Target::Memory(store) => store.put_manifest(location, manifest).await,
        }
    }

    /// Makes `manifest` findable by what it refers to, at a place that does not do so itself.
    ///
    /// # Errors
    /// The place does not take the list of what refers to something, or has something else there.
    pub(crate) async fn register_referrer(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<(), Error> {
        match self {
            Target::Registry(registry) => registry.register_referrer(repository, manifest).await,
            #[cfg(test)]
            // It looks at its manifests whenever it is asked.
            Target::Memory(_) => Ok(()),
        }
    }

    /// Whether it was seen to take blobs at all.
    pub(crate) fn takes_blobs(&self) -> bool {
        match self {
            Target::Registry(registry) => registry.takes_uploads(),
            #[cfg(test)]
            Target::Memory(_) => true,
        }
    }

    /// Whether mounts need not wait for what another one shows: one was seen to go well, or none is made any more.
    pub(crate) fn has_settled_mounts(&self) -> bool {
        match self {
            Target::Registry(registry) => registry.has_settled_mounts(),
            #[cfg(test)]
            Target::Memory(_) => true,
        }
    }

    /// A blob that it has said to have mounted is not there: nothing more is mounted, but sent.
    pub(crate) fn distrust_mounts(&self) {
        match self {
            Target::Registry(registry) => registry.distrust_mounts(),
            #[cfg(test)]
            // Whatever it says of mounts is true.
            Target::Memory(_) => {}
        }
    }

    /// Gives back what was kept for copies that were never asked for again; to be called once nothing is under way.
    pub(crate) async fn release(&self) {
        match self {
            Target::Registry(registry) => registry.release_uploads().await,
            #[cfg(test)]
            Target::Memory(_) => {}
        }
    }

    /// As [`Source::error`].
    pub(crate) fn error(&self, kind: Kind, doing: String, why: String) -> Error {
        match self {
            Target::Registry(registry) => registry.error(kind, doing, why),
            #[cfg(test)]
            Target::Memory(store) => store.error_of(Side::Target, kind, doing, why),
        }
    }

    /// The same place, to be read from.
    pub(crate) fn as_source(&self) -> Source {
        match self {
            Target::Registry(registry) => Source::Registry(registry.clone()),
            #[cfg(test)]
            Target::Memory(store) => Source::Memory(store.clone()),
        }
    }

    /// Whether it has answered anything well of late.
    fn is_alive(&self) -> bool {
        match self {
            Target::Registry(registry) => registry.is_alive(),
            #[cfg(test)]
            Target::Memory(_) => false,
        }
    }

    /// Waits `pause` after `error`; together with all who talk to this place if that is its wish.
    async fn rest(&self, pause: Duration, error: &Error) {
        match self {
            Target::Registry(registry) => registry.pause(pause, error).await,
            #[cfg(test)]
            Target::Memory(_) => tokio::time::sleep(pause).await,
        }
    }
}
