//! What is written into a layout: names, once what they stand for is there.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::archive::partial::PartialError;
use super::directory::Directory;
use super::index::Index;
use super::{Layout, LayoutError, Written, blocking};
use crate::error::{Error, Kind, Remedy};
use crate::image::manifest::Manifest;
use crate::image::reference::{Digest, Location};
use crate::record::Draft;
use crate::store::{Ending, Incoming, Role};

/// How long names are gathered before they are written together, at least.
const GATHERING: Duration = Duration::from_millis(20);
/// How much longer names are gathered than writing them took the last time.
const GATHERING_FACTOR: u32 = 4;

/// The verbs of a target, as [`crate::store::Target`] describes them.
impl Layout {
    pub(in crate::store) async fn put_manifest(
        &self,
        location: &Location,
        manifest: &Manifest,
        role: Role,
    ) -> Result<(), Error> {
        let action = || format!("write manifest {location}");
        let directory = match &self.written {
            Written::Directory(directory) => directory.clone(),
            Written::Archive(saver) => {
                let is_named = |location: &_| saver.saving().is_some_and(|saving| saving.name(location));
                return self.name_in_archive(is_named, location, role);
            }
            Written::Stream(streamer) => {
                let is_named = |location: &_| streamer.streaming().is_some_and(|all| all.name(location));
                return self.name_in_archive(is_named, location, role);
            }
            Written::Nothing => {
                return Err(self.error(Kind::Invalid, action(), "it is only read".to_owned()));
            }
        };
        let (digest, bytes) = (manifest.digest.clone(), manifest.bytes.clone());
        let place = directory.clone();
        let put = blocking(move || {
            let there = place.blob(&digest)?.filter(|piece| piece.length == bytes.len() as u64);
            if there.map_or(Ok(false), |piece| piece.is(&digest))? {
                Ok(())
            } else {
                place.put(&digest, &bytes)
            }
        });
        put.await.map_err(|error| self.io_error(action(), &error))?;
        if role == Role::Part {
            return Ok(());
        }
        let mut index = Index::default();
        let subject =
            if role == Role::Referrer { manifest.as_referrer().map(|(subject, _)| subject) } else { None };
        index.enter_image(location, subject.as_ref(), manifest);
        let mine = {
            let mut state = self.lock();
            state.index.merge(&index);
            state.ours.merge(&index);
            state.entered += 1;
            state.entered
        };
        self.write_names(&directory, mine).await.map_err(|why| self.error(Kind::Invalid, action(), why))
    }

    /// The manifests of an archive are in it from the beginning: it only has to be known that an image is whole.
    fn name_in_archive(
        &self,
        is_named: impl FnOnce(&Location) -> bool,
        location: &Location,
        role: Role,
    ) -> Result<(), Error> {
        if role == Role::Part || is_named(location) {
            return Ok(());
        }
        let why = "it names content in another size than an earlier image does".to_owned();
        Err(self.error(Kind::Corrupt, format!("write manifest {location}"), why))
    }

    /// Writes what has been entered so far, together with what others enter meanwhile.
    async fn write_names(&self, directory: &Arc<Directory>, mine: u64) -> Result<(), String> {
        let mut took = self.turn.lock().await;
        if self.lock().written >= mine {
            return Ok(());
        }
        tokio::time::sleep(GATHERING.max(*took * GATHERING_FACTOR)).await;
        let (entered, ours) = {
            let state = self.lock();
            (state.entered, state.ours.clone())
        };
        let began = Instant::now();
        let directory = directory.clone();
        let written = blocking(move || Ok(directory.write_index(&ours))).await;
        *took = began.elapsed();
        match written {
            Ok(Ok(index)) => {
                let mut state = self.lock();
                state.written = entered;
                if state.entered == entered {
                    state.index = index;
                }
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The places of an archive's entries follow from all of them.
    pub(in crate::store) fn wants_all_first(&self) -> bool {
        matches!(self.written, Written::Archive(_) | Written::Stream(_))
    }

    /// Whoever reads what is written does so meanwhile, so that nothing of it can lack or change.
    pub(in crate::store) fn is_all_or_nothing(&self) -> bool {
        matches!(self.written, Written::Stream(_))
    }

    /// Why nothing more is put where something lacks that cannot.
    pub(in crate::store) fn lacking(&self) -> Error {
        let why = "an image has failed, and what is read while it is written cannot be without it".to_owned();
        self.error(Kind::Closed, "write the archive".to_owned(), why)
    }

    /// The one order in which blobs can come, once all is known.
    pub(in crate::store) fn sequence(&self) -> Option<Vec<Digest>> {
        match &self.written {
            Written::Stream(streamer) => Some(streamer.streaming()?.sequence().to_vec()),
            _ => None,
        }
    }

    pub(in crate::store) async fn prepare(&self, images: Vec<Incoming>, missing: Draft) -> Result<(), Error> {
        let prepare: Box<dyn FnOnce() -> Result<(), LayoutError> + Send> = match &self.written {
            Written::Archive(saver) => {
                let saver = saver.clone();
                Box::new(move || saver.prepare(images, missing))
            }
            Written::Stream(streamer) => {
                let streamer = streamer.clone();
                Box::new(move || streamer.prepare(images))
            }
            Written::Directory(_) | Written::Nothing => return Ok(()),
        };
        self.saved(blocking(move || Ok(prepare())).await)
    }

    pub(in crate::store) async fn finish(&self, ending: Ending, recorded: &Draft) -> Result<(), Error> {
        match &self.written {
            Written::Nothing => Ok(()),
            Written::Directory(directory) => {
                let (directory, ours, made) = (directory.clone(), recorded.clone(), self.made.clone());
                let written = blocking(move || Ok(directory.write_lock(ours, made))).await;
                self.saved(written)
            }
            Written::Archive(saver) => {
                let (saver, recorded) = (saver.clone(), recorded.clone());
                self.saved(blocking(move || Ok(saver.finish(ending, &recorded))).await)
            }
            Written::Stream(streamer) => {
                let streamer = streamer.clone();
                self.saved(blocking(move || Ok(streamer.finish(ending == Ending::Whole))).await)
            }
        }
    }

    fn saved(&self, done: io::Result<Result<(), LayoutError>>) -> Result<(), Error> {
        let action = || match self.written {
            Written::Archive(_) | Written::Stream(_) => "write the archive".to_owned(),
            Written::Nothing | Written::Directory(_) => "write the lock".to_owned(),
        };
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let (kind, remedy) = match &error {
                    LayoutError::Partial(PartialError::NoRoom { .. } | PartialError::NoQuota { .. }) => {
                        (Kind::Full, None)
                    }
                    LayoutError::Partial(PartialError::FileTooLarge { .. }) => {
                        (Kind::Full, Some(Remedy::SplitArchive))
                    }
                    LayoutError::Incomplete(..) => (Kind::Invalid, Some(Remedy::AllowIncomplete)),
                    LayoutError::Stream(_) => (Kind::Closed, None),
                    _ => (Kind::Invalid, None),
                };
                let error = self.error(kind, action(), error.to_string());
                Err(Error { remedy: remedy.map(Box::new), ..error })
            }
            Err(error) => Err(self.io_error(action(), &error)),
        }
    }
}
