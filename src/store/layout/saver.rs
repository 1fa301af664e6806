//! An archive that is being written: each blob at the place that it will have, as it comes.

mod incomplete;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;

use self::incomplete::Rest;
use super::LayoutError;
use super::archive::Archive;
use super::archive::contents::{Body, Contents, Image, Item, Part, table_of};
use super::archive::names::{Document, Known};
use super::archive::partial::{self, Left, NOTE_EVERY, Partial};
use super::directory::LAYOUT_FILE;
use super::docker;
use super::files::Piece;
use super::index::Index;
use super::lock;
use crate::image::manifest::Descriptor;
use crate::image::platforms::Platform;
use crate::image::reference::{Digest, Hasher, Location};
use crate::record::{Draft, Made};
use crate::store::{Ending, Incoming, Prefix};

/// An archive that is to be made.
#[derive(Debug)]
pub(super) struct Saver {
    path: PathBuf,
    /// Whose images docker's own list has.
    platform: Platform,
    /// What its lock says of who made it.
    made: Made,
    saving: OnceLock<Arc<Saving>>,
}

/// One of which all is known that will be in it.
#[derive(Debug)]
pub(super) struct Saving {
    partial: Partial,
    /// By digest, where a blob or a manifest is to be, and its bytes. Manifests are there already.
    places: HashMap<Digest, (u64, u64)>,
    manifests: HashSet<Digest>,
    /// The same of documents.
    documents: Vec<(Document, u64, u64)>,
    left: Left,
    /// How far blobs are that were begun, in bytes.
    reached: Mutex<HashMap<Digest, u64>>,
    donors: Vec<Archive>,
    /// Names whose images are whole by now, and all that there are to be.
    named: Mutex<HashSet<Location>>,
    wanted: HashSet<Location>,
}

/// A blob on its way to its place.
pub(super) struct Slot {
    saving: Arc<Saving>,
    digest: Digest,
    start: u64,
    /// How far it is, and how far it was noted to be, in bytes.
    reached: AtomicU64,
    noted: AtomicU64,
    pub prefix: Prefix,
}

impl Saver {
    pub(super) fn new(path: &Path, platform: Platform, made: Made) -> Self {
        Self { path: path.to_owned(), platform, made, saving: OnceLock::new() }
    }

    /// `None` until all is known.
    pub(super) fn saving(&self) -> Option<&Arc<Saving>> {
        self.saving.get()
    }

    /// Makes the file in its whole size. Images that cannot be in it together with others are left out, and lack in the
    /// end.
    ///
    /// # Errors
    /// There is no room for it, another run is writing it, or it cannot be written.
    pub(super) fn prepare(&self, images: Vec<Incoming>) -> Result<(), LayoutError> {
        let io = |error| LayoutError::Io(self.path.clone(), error);
        let wanted = images.iter().flat_map(|image| image.names.iter().cloned()).collect();
        let items = self.items(images);
        let table = table_of(&items).map_err(|error| io(io::Error::other(error)))?;
        let (partial, left) = Partial::begin(&self.path, &table)
            .map_err(|error| LayoutError::Partial(self.path.clone(), error))?;
        let mut places = HashMap::new();
        let (mut manifests, mut documents) = (HashSet::new(), Vec::new());
        for (item, placed) in items.into_iter().zip(table.entries()) {
            let place = (placed.data, placed.size);
            match (item.body, Known::parse(&item.path)) {
                (Body::Known(bytes), known) => {
                    partial.file().write_all_at(&bytes, placed.data).map_err(io)?;
                    match known {
                        Some(Known::Blob(digest)) => {
                            manifests.insert(digest.clone());
                            places.insert(digest, place);
                        }
                        Some(Known::Document(document)) => {
                            documents.push((document, placed.data, placed.size));
                        }
                        _ => {}
                    }
                }
                (Body::Blob(digest), _) => _ = places.insert(digest, place),
            }
        }
        let donors = partial::donors(&self.path);
        let donors =
            donors.into_iter().filter_map(|path| Archive::open(&path).ok()).map(|(archive, _)| archive);
        let (donors, named) = (donors.collect(), Mutex::default());
        let reached = Mutex::new(left.reached.clone());
        let saving = Saving { partial, places, manifests, documents, left, reached, donors, named, wanted };
        // Nobody else prepares it.
        let _ = self.saving.set(Arc::new(saving));
        Ok(())
    }

    /// All entries in their order.
    fn items(&self, incoming: Vec<Incoming>) -> Vec<Item> {
        let include_foreign = incoming.iter().any(|image| image.include_foreign);
        let recorded = incoming.iter().filter_map(|image| image.record.as_ref());
        let base: HashSet<Digest> = recorded
            .flat_map(|(_, contents)| contents.base.iter().map(|(digest, _)| digest.clone()))
            .collect();
        let left_out =
            |layer: &Descriptor| !include_foreign && layer.is_foreign() || base.contains(&layer.digest);
        let mut incoming = incoming;
        let (images, contents) = loop {
            let images: Vec<Image> = incoming.iter().map(image_of).collect();
            match Contents::of(&images, left_out) {
                Ok(contents) => break (images, contents),
                // It lies, or an earlier one does: at the end there is no archive, and the run has told why.
                Err(error) => drop(incoming.remove(error.image)),
            }
        };
        let mut index = Index::default();
        for image in &incoming {
            let Some((root, _)) = image.manifests.last() else { continue };
            for name in &image.names {
                index.enter_image(name, image.refers_to.as_ref(), root);
            }
        }
        let docker = docker::list(&images, &self.platform, |digest| contents.has(digest));
        let documents = [
            Some((Document::Layout, Bytes::from_static(LAYOUT_FILE.as_bytes()))),
            Some((Document::Index, index.to_bytes().into())),
            docker.map(|list| (Document::Docker, list)),
            lock::document(&incoming, &self.made).map(|lock| (Document::Lock, lock)),
        ];
        contents.items(documents.into_iter().flatten())
    }

    /// Gives the archive its name, if all that it is to hold is there, or what is lacking is not waited for. `verified` are
    /// the blobs that are there, with their sizes in bytes, and `recorded` is what there is to say of the images.
    ///
    /// # Errors
    /// Something is lacking, so that there is no archive; what there is of it is kept.
    pub(super) fn finish(
        &self,
        ending: Ending,
        verified: &HashMap<Digest, u64>,
        recorded: &Draft,
    ) -> Result<(), LayoutError> {
        let io = |error| LayoutError::Io(self.path.clone(), error);
        let Some(saving) = self.saving() else { return Err(LayoutError::NothingSaved(self.path.clone())) };
        let named = saving.named.lock().expect("no code panics while it holds this lock").clone();
        match ending {
            Ending::Lacking if named.is_empty() => {
                return Err(LayoutError::NothingSaved(self.path.clone()));
            }
            Ending::Whole | Ending::Lacking if named == saving.wanted => {}
            Ending::Lacking => saving.leave_out(&named, verified, recorded).map_err(io)?,
            Ending::Whole | Ending::Open => {
                return Err(LayoutError::Incomplete(self.path.clone(), saving.partial.place().to_owned()));
            }
        }
        saving.partial.finish().map_err(io)
    }
}

fn image_of(incoming: &Incoming) -> Image {
    let parts = incoming.manifests.iter();
    let parts =
        parts.map(|(manifest, with_layers)| Part { manifest: manifest.clone(), with_layers: *with_layers });
    Image { names: incoming.names.iter().map(ToString::to_string).collect(), manifests: parts.collect() }
}

impl Saving {
    /// Takes note that an image is whole, if it is in the archive.
    pub(super) fn name(&self, location: &Location) -> bool {
        let is_wanted = self.wanted.contains(location);
        if is_wanted {
            self.named.lock().expect("no code panics while it holds this lock").insert(location.clone());
        }
        is_wanted
    }

    /// Leaves all out but the images that are `named`; of `verified` blobs all bytes are there.
    fn leave_out(
        &self,
        named: &HashSet<Location>,
        verified: &HashMap<Digest, u64>,
        recorded: &Draft,
    ) -> io::Result<()> {
        let is_lacking = |(digest, (_, size)): &(&Digest, &(u64, u64))| {
            !self.manifests.contains(*digest) && verified.get(*digest) != Some(size)
        };
        let lacking: HashSet<Digest> =
            self.places.iter().filter(is_lacking).map(|(digest, _)| digest.clone()).collect();
        let rest = Rest { named, lacking: &lacking, recorded };
        for (document, start, size) in &self.documents {
            let length = usize::try_from(*size).map_err(io::Error::other)?;
            let bytes = self.piece(*start, *size)?.read(0, length)?;
            if let Some(bytes) = rest.document(*document, &bytes)? {
                self.partial.file().write_all_at(&bytes, *start)?;
            }
        }
        for digest in &lacking {
            let (start, size) = self.places[digest];
            let header = Rest::header(digest, size);
            self.partial.file().write_all_at(&header, start - header.len() as u64)?;
        }
        Ok(())
    }

    /// What is, or will be, in the archive by this digest.
    pub(super) fn blob(&self, digest: &Digest) -> io::Result<Option<Piece>> {
        self.places.get(digest).map(|(start, length)| self.piece(*start, *length)).transpose()
    }

    /// Where the blob is to be, if it is to be there in this size.
    fn place(&self, digest: &Digest, size: u64) -> Option<u64> {
        self.places.get(digest).filter(|(_, known)| *known == size).map(|(start, _)| *start)
    }

    fn lock_reached(&self) -> MutexGuard<'_, HashMap<Digest, u64>> {
        self.reached.lock().expect("no code panics while it holds this lock")
    }

    fn piece(&self, start: u64, length: u64) -> io::Result<Piece> {
        Ok(Piece { file: Arc::new(self.partial.file().try_clone()?), start, length })
    }

    /// Whether the blob is in its place already, by an earlier run, or can be had from another archive here.
    pub(super) fn is_there(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        let Some(start) = self.place(digest, size) else { return Ok(false) };
        if self.left.done.contains(digest) && self.piece(start, size)?.is(digest)? {
            return Ok(true);
        }
        for donor in &self.donors {
            let Some(piece) = donor.blob(digest).filter(|piece| piece.length == size) else { continue };
            let mut hasher = Hasher::new(digest.algorithm());
            let file = self.partial.file();
            let read = piece.hash(size, &mut hasher, |bytes, at| file.write_all_at(bytes, start + at))?;
            if read == size && hasher.finish() == *digest {
                self.partial.note_done(digest)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins the blob, or goes on with what an earlier run has of it; `None` if it has no place of this size.
    pub(super) fn begin(self: &Arc<Self>, digest: &Digest, size: u64) -> io::Result<Option<Slot>> {
        let Some(start) = self.place(digest, size) else { return Ok(None) };
        let reached = self.lock_reached().get(digest).copied().unwrap_or(0).min(size);
        let mut hasher = Hasher::new(digest.algorithm());
        let length = self.piece(start, size)?.hash(reached, &mut hasher, |_, _| Ok(()))?;
        let (reached, noted) = (AtomicU64::new(length), AtomicU64::new(length));
        let (saving, digest) = (self.clone(), digest.clone());
        Ok(Some(Slot { saving, digest, start, reached, noted, prefix: Prefix { length, hasher } }))
    }
}

impl Slot {
    pub(super) fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.saving.partial.file().write_all_at(bytes, self.start + position)?;
        let reached = position + bytes.len() as u64;
        self.reached.store(reached, Ordering::Relaxed);
        if reached >= self.noted.load(Ordering::Relaxed) + NOTE_EVERY {
            self.note(reached)?;
        }
        Ok(())
    }

    fn note(&self, reached: u64) -> io::Result<()> {
        self.noted.store(reached, Ordering::Relaxed);
        self.saving.lock_reached().insert(self.digest.clone(), reached);
        self.saving.partial.note_reached(&self.digest, reached)
    }

    /// Begins from the beginning the next time.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.reached.store(0, Ordering::Relaxed);
        self.note(0)
    }

    pub(super) fn keep(&self) -> io::Result<()> {
        self.noted.store(self.reached.load(Ordering::Relaxed), Ordering::Relaxed);
        self.saving.partial.note_done(&self.digest)
    }
}

impl Drop for Slot {
    /// What has come is kept for the next try, however this one ended.
    fn drop(&mut self) {
        let reached = self.reached.load(Ordering::Relaxed);
        if reached != self.noted.load(Ordering::Relaxed) {
            // It would only have to come again.
            let _ = self.note(reached);
        }
    }
}
