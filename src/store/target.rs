//! The verbs of a place that is written to.

use std::ops::Deref;
use std::sync::Arc;

use super::copy::{BlobOrder, Put};
#[cfg(test)]
use super::memory;
use super::{Ending, Holds, Incoming, Role, Source, layout};
#[cfg(test)]
use crate::error::Side;
use crate::error::{Error, Remedy};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::reference::{Digest, Location, Repository, TagOrDigest};
use crate::record::Draft;
use crate::store::patience::Policy;
use crate::store::registry::{DELETE_DAMAGED, Ladder, Registry};
use crate::store::{Head, Held};

/// A place to write images to. All that can be written to can be read from, by the verbs of [`Source`].
#[derive(Debug, Clone)]
pub(crate) struct Target(Source);

impl Deref for Target {
    type Target = Source;

    fn deref(&self) -> &Source {
        &self.0
    }
}

impl Target {
    pub(crate) fn registry(registry: Arc<Registry>) -> Self {
        Self(Source::Registry(registry))
    }

    pub(crate) fn layout(layout: Arc<layout::Layout>) -> Self {
        Self(Source::Layout(layout))
    }

    #[cfg(test)]
    pub(crate) fn memory(store: &Arc<memory::Store>) -> Self {
        Self(Source::Memory(store.clone(), Side::Target))
    }

    /// The same place, to be read from.
    pub(crate) fn as_source(&self) -> &Source {
        &self.0
    }

    /// How patiently it is dealt with.
    pub(crate) fn policy(&self) -> &Policy {
        match &self.0 {
            Source::Registry(registry) => registry.policy(),
            Source::Layout(layout) => layout.policy(),
            #[cfg(test)]
            Source::Memory(store, _) => store.policy(),
        }
    }

    /// Whether a blob that has landed in one repository is in the others too.
    pub(crate) fn holds(&self) -> Holds {
        match &self.0 {
            Source::Registry(_) => Holds::PerRepository,
            Source::Layout(_) => Holds::Shared,
            #[cfg(test)]
            Source::Memory(store, _) => store.holds(),
        }
    }

    /// Which digest has the name that an image is to have. Content that is there without being named so has it not.
    ///
    /// # Errors
    /// The place cannot be asked. That nothing is named so is no error.
    pub(crate) async fn named(&self, location: &Location) -> Result<Head, Error> {
        match &self.0 {
            Source::Layout(layout) => Ok(layout.named(location)),
            other => other.resolve(location).await,
        }
    }

    /// What `repository` holds of `blob`.
    ///
    /// # Errors
    /// The place cannot be asked.
    pub(crate) async fn has(&self, repository: &Repository, blob: &Descriptor) -> Result<Held, Error> {
        match &self.0 {
            Source::Registry(registry) => registry.held_blob(repository, &blob.digest).await,
            Source::Layout(layout) => layout.has(blob).await,
            #[cfg(test)]
            Source::Memory(store, _) => {
                Ok(store.has(repository, &blob.digest).await?.map_or(Held::Nothing, Held::Bytes))
            }
        }
    }

    /// The putting of a blob, to be tried with one source after the other; [`super::copy_blob`] does that.
    pub(super) fn put_blob<'a>(&'a self, order: &'a BlobOrder) -> Put<'a> {
        match &self.0 {
            Source::Registry(registry) => Put::Registry(Box::new(Ladder::new(registry, order))),
            Source::Layout(layout) => Put::Layout(layout::Put::new(layout, order)),
            #[cfg(test)]
            Source::Memory(store, _) => Put::Memory(memory::Put::new(store, order)),
        }
    }

    /// Puts a manifest under a tag or its digest, byte for byte. One that refers to another, by its `role`, is made
    /// findable by it.
    ///
    /// # Errors
    /// The place refuses it ([`crate::error::Kind::BlobUnknown`] if it misses content), or says that it stored
    /// something else.
    pub(crate) async fn put_manifest(
        &self,
        location: &Location,
        manifest: &Manifest,
        role: Role,
    ) -> Result<(), Error> {
        match &self.0 {
            Source::Registry(registry) => {
                let stored = registry.put_manifest(location, manifest).await?;
                if role == Role::Referrer && !stored.lists_referrers {
                    self.register_referrer(&location.repository, manifest).await?;
                }
                Ok(())
            }
            Source::Layout(layout) => layout.put_manifest(location, manifest, role).await,
            #[cfg(test)]
            Source::Memory(store, _) => store.put_manifest(location, manifest).await,
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
        match &self.0 {
            Source::Registry(registry) => registry.register_referrer(repository, manifest).await,
            // Its index says what is about what.
            Source::Layout(_) => Ok(()),
            #[cfg(test)]
            // It looks at its manifests whenever it is asked.
            Source::Memory(..) => Ok(()),
        }
    }

    /// What helps against a copy of a blob that stays damaged, however often it is sent.
    pub(super) fn advice_on_damage(&self, digest: &Digest) -> String {
        match &self.0 {
            Source::Registry(_) => DELETE_DAMAGED.to_owned(),
            Source::Layout(layout) => Remedy::UnsoundDisk(layout.file_of(digest)).to_string(),
            #[cfg(test)]
            Source::Memory(..) => DELETE_DAMAGED.to_owned(),
        }
    }

    /// The same against a manifest that stays damaged.
    pub(crate) fn remedy_for_damaged(&self, location: &Location) -> Remedy {
        match (&self.0, &location.name) {
            (Source::Layout(layout), TagOrDigest::Digest(digest)) => {
                Remedy::UnsoundDisk(layout.file_of(digest))
            }
            _ => Remedy::DeleteManifest(location.clone()),
        }
    }

    /// Whether every run looks for what is damaged there and sends it again.
    pub(crate) fn is_always_repaired(&self) -> bool {
        match &self.0 {
            Source::Registry(_) => false,
            Source::Layout(_) => true,
            #[cfg(test)]
            Source::Memory(..) => false,
        }
    }

    /// Whether it was seen to take blobs at all.
    pub(crate) fn takes_blobs(&self) -> bool {
        match &self.0 {
            Source::Registry(registry) => registry.takes_uploads(),
            Source::Layout(_) => true,
            #[cfg(test)]
            Source::Memory(..) => true,
        }
    }

    /// Whether mounts need not wait for what another one shows: one was seen to go well, or none is made any more.
    pub(crate) fn has_settled_mounts(&self) -> bool {
        match &self.0 {
            Source::Registry(registry) => registry.has_settled_mounts(),
            Source::Layout(_) => true,
            #[cfg(test)]
            Source::Memory(..) => true,
        }
    }

    /// A blob that it has said to have mounted is not there: nothing more is mounted, but sent.
    pub(crate) fn distrust_mounts(&self) {
        match &self.0 {
            Source::Registry(registry) => registry.distrust_mounts(),
            // It mounts nothing.
            Source::Layout(_) => {}
            #[cfg(test)]
            // Whatever it says of mounts is true.
            Source::Memory(..) => {}
        }
    }

    /// Whether it has to know all that it is going to hold before anything is put into it.
    pub(crate) fn wants_all_first(&self) -> bool {
        match &self.0 {
            Source::Registry(_) => false,
            Source::Layout(layout) => layout.wants_all_first(),
            #[cfg(test)]
            Source::Memory(store, _) => store.wants_all_first(),
        }
    }

    /// Why nothing more is put once an image has failed, where nothing of what is asked for can lack: it is read while it
    /// is written.
    pub(crate) fn lacking(&self) -> Option<Error> {
        match &self.0 {
            Source::Layout(layout) => layout.is_all_or_nothing().then(|| layout.lacking()),
            _ => None,
        }
    }

    /// The one order in which it takes blobs, if there is but one, once it was told of all images.
    pub(crate) fn sequence(&self) -> Option<Vec<Digest>> {
        match &self.0 {
            Source::Layout(layout) => layout.sequence(),
            _ => None,
        }
    }

    /// Makes ready for all these images, where [`Self::wants_all_first`]. `missing` are others, of which it is only said that
    /// they are not there.
    ///
    /// # Errors
    /// There is no room for them, or the place is not to be had.
    pub(crate) async fn prepare(&self, images: Vec<Incoming>, missing: Draft) -> Result<(), Error> {
        match &self.0 {
            Source::Registry(_) => Ok(()),
            Source::Layout(layout) => layout.prepare(images, missing).await,
            #[cfg(test)]
            Source::Memory(store, _) => store.prepare(images).await,
        }
    }

    /// Ends what was begun, once nothing is under way. What was kept for copies that were never asked for again is given
    /// back. `recorded` is what there is to say of the images.
    ///
    /// # Errors
    /// What was put is not to be had under the place's name: it lacks something, or could not be given its name.
    pub(crate) async fn finish(&self, ending: Ending, recorded: &Draft) -> Result<(), Error> {
        match &self.0 {
            Source::Registry(registry) => {
                registry.release_uploads().await;
                Ok(())
            }
            Source::Layout(layout) => layout.finish(ending, recorded).await,
            #[cfg(test)]
            Source::Memory(store, _) => store.finish(ending == Ending::Whole).await,
        }
    }
}
