//! An archive that is being written: each blob at the place that it will have, as it comes.

mod incomplete;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;

use self::incomplete::Rest;
use super::LayoutError;
use super::archive::Archive;
use super::archive::contents::{Contents, Image, Item, Part, table_of};
use super::archive::names::Document;
use super::archive::partial::{MARK, Partial, Slot as Place};
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
pub(super) struct Saver {
    path: PathBuf,
    /// Most bytes of a part; `None` for one file.
    limit: Option<u64>,
    /// Whose images docker's own list has.
    platform: Platform,
    /// What its lock says of who made it.
    made: Made,
    saving: OnceLock<Arc<Saving>>,
}

/// One of which all is known that will be in it.
pub(super) struct Saving {
    partial: Partial,
    /// What is there of blobs that were looked for or begun.
    begun: Mutex<HashMap<Digest, Prefix>>,
    /// What was whole under the archive's name before.
    donor: Option<Archive>,
    /// Names whose images are whole by now, and all that there are to be.
    named: Mutex<HashSet<Location>>,
    wanted: HashSet<Location>,
}

/// A blob on its way to its place.
pub(super) struct Slot {
    saving: Arc<Saving>,
    place: Place,
    /// What there is of it, and how much of that is noted, in bytes.
    written: Mutex<(Prefix, u64)>,
    pub prefix: Prefix,
}

impl Saver {
    /// In parts of at most `limit` bytes, if there is one.
    pub(super) fn new(path: &Path, limit: Option<u64>, platform: Platform, made: Made) -> Self {
        Self { path: path.to_owned(), limit, platform, made, saving: OnceLock::new() }
    }

    /// `None` until all is known.
    pub(super) fn saving(&self) -> Option<&Arc<Saving>> {
        self.saving.get()
    }

    /// Makes the file in its whole size, or goes on with what an earlier run has left of it. Images that cannot be in it
    /// together with others are left out, and lack in the end.
    ///
    /// # Errors
    /// There is no room for it, another run is writing it, something else is in its place, or it cannot be written.
    pub(super) fn prepare(&self, images: Vec<Incoming>, missing: Draft) -> Result<(), LayoutError> {
        let wanted = images.iter().flat_map(|image| image.names.iter().cloned()).collect();
        let items = items_of(images, missing, &self.platform, &self.made);
        let table = table_of(&items).map_err(|error| LayoutError::TooLarge(self.path.clone(), error))?;
        let mut partial = Partial::open(&self.path, table, self.limit)?;
        let mut begun = HashMap::new();
        if partial.has_earlier() {
            // It is away once there is room for all of this one.
            for place in partial.slots() {
                begun.insert(place.digest.clone(), partial.regain(place)?);
            }
        }
        partial.prepare(&items)?;
        let donor = Archive::open(&self.path).ok().map(|(archive, _)| archive);
        let (begun, named) = (Mutex::new(begun), Mutex::default());
        let saving = Saving { partial, begun, donor, named, wanted };
        // Nobody else prepares it.
        let _ = self.saving.set(Arc::new(saving));
        Ok(())
    }

    /// Gives the archive its name, if all that it is to hold is there, or what is lacking is not waited for. `recorded` is
    /// what there is to say of the images.
    ///
    /// # Errors
    /// Something is lacking, so that there is no archive; what there is of it is kept.
    pub(super) fn finish(&self, ending: Ending, recorded: &Draft) -> Result<(), LayoutError> {
        let Some(saving) = self.saving() else { return Err(LayoutError::NothingSaved(self.path.clone())) };
        let named = saving.named.lock().expect("no code panics while it holds this lock").clone();
        match ending {
            Ending::Lacking if named.is_empty() => {
                return Err(LayoutError::NothingSaved(self.path.clone()));
            }
            Ending::Whole | Ending::Lacking if named == saving.wanted => {}
            Ending::Lacking => {
                saving
                    .leave_out(&named, &lock::of_rest(recorded, &self.made))
                    .map_err(|error| LayoutError::Io(self.path.clone(), error))?;
            }
            Ending::Whole | Ending::Open => {
                return Err(LayoutError::Incomplete(self.path.clone(), saving.partial.place()));
            }
        }
        Ok(saving.partial.finish(|_| {})?)
    }
}

/// All entries in their order.
pub(super) fn items_of(
    incoming: Vec<Incoming>,
    missing: Draft,
    platform: &Platform,
    made: &Made,
) -> Vec<Item> {
    let include_foreign = incoming.iter().any(|image| image.include_foreign);
    let recorded = incoming.iter().filter_map(|image| image.record.as_ref());
    let base: HashSet<Digest> =
        recorded.flat_map(|(_, contents)| contents.base.iter().map(|(digest, _)| digest.clone())).collect();
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
    let docker = docker::list(&images, platform, |digest| contents.has(digest));
    let documents = [
        Some((Document::Layout, Bytes::from_static(LAYOUT_FILE.as_bytes()))),
        Some((Document::Index, index.to_bytes().into())),
        docker.map(|list| (Document::Docker, list)),
        lock::document(&incoming, missing, made).map(|lock| (Document::Lock, lock)),
    ];
    contents.items(documents.into_iter().flatten())
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

    /// Leaves all out but the images that are `named`, of which one of these `locks` tells.
    fn leave_out(&self, named: &HashSet<Location>, locks: &[Vec<u8>]) -> io::Result<()> {
        let lacking: HashMap<&Digest, &Place> = self
            .partial
            .slots()
            .filter(|place| !self.partial.is_done(place))
            .map(|place| (&place.digest, place))
            .collect();
        let rest = Rest { named, is_lacking: &|digest| lacking.contains_key(digest), locks };
        for (document, start, length) in self.partial.documents() {
            let piece = Piece { bytes: self.partial.space().clone(), start, length };
            let bytes = piece.read(0, usize::try_from(length).map_err(io::Error::other)?)?;
            if let Some(bytes) = rest.document(document, &bytes)? {
                self.partial.overwrite(start, &bytes)?;
            }
        }
        for (digest, place) in lacking {
            self.partial.do_without(place, &Rest::header(digest, place.size))?;
        }
        Ok(())
    }

    /// What is, or will be, in the archive by this digest.
    pub(super) fn blob(&self, digest: &Digest) -> Option<Piece> {
        self.partial.slot(digest).map(|place| self.piece(place))
    }

    fn piece(&self, place: &Place) -> Piece {
        Piece { bytes: self.partial.space().clone(), start: place.offset(), length: place.size }
    }

    /// Where the blob is to be, if it is to be there in this size.
    fn place(&self, digest: &Digest, size: u64) -> Option<&Place> {
        self.partial.slot(digest).filter(|place| place.size == size)
    }

    fn lock_begun(&self) -> MutexGuard<'_, HashMap<Digest, Prefix>> {
        self.begun.lock().expect("no code panics while it holds this lock")
    }

    /// What there is of a blob, by an earlier run or an earlier try.
    fn prefix(&self, place: &Place) -> io::Result<Prefix> {
        if let Some(prefix) = self.lock_begun().get(&place.digest) {
            return Ok(prefix.clone());
        }
        let prefix = self.partial.regain(place).map_err(io::Error::other)?;
        self.lock_begun().insert(place.digest.clone(), prefix.clone());
        Ok(prefix)
    }

    /// Whether the blob is in its place already, by an earlier run, or can be had from the archive that was here before.
    pub(super) fn is_there(&self, digest: &Digest, size: u64) -> io::Result<bool> {
        let Some(place) = self.place(digest, size) else { return Ok(false) };
        let Prefix { length, mut hasher } = self.prefix(place)?;
        if self.partial.is_done(place) {
            return Ok(true);
        }
        let donor = self.donor.as_ref().and_then(|donor| donor.blob(digest));
        let Some(piece) = donor.filter(|piece| piece.length == size) else { return Ok(false) };
        // What is there of it stays as it is, for the donor's bytes may be others.
        let rest = Piece { start: piece.start + length, length: size - length, ..piece };
        let write = |bytes: &[u8], at| self.partial.write_at(place, bytes, length + at);
        let is_right =
            rest.hash(rest.length, &mut hasher, write)? == rest.length && hasher.finish() == *digest;
        if is_right {
            self.partial.done(place)?;
        }
        Ok(is_right)
    }

    /// Begins the blob, or goes on with what there is of it; `None` if it has no place of this size.
    pub(super) fn begin(self: &Arc<Self>, digest: &Digest, size: u64) -> io::Result<Option<Slot>> {
        let Some(place) = self.place(digest, size) else { return Ok(None) };
        let prefix = self.prefix(place)?;
        let (place, written) = (place.clone(), Mutex::new((prefix.clone(), prefix.length)));
        Ok(Some(Slot { saving: self.clone(), place, written, prefix }))
    }
}

impl Slot {
    pub(super) fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.saving.partial.write_at(&self.place, bytes, position)
    }

    /// All up to the end of `prefix` is written.
    pub(super) fn reached(&self, prefix: Prefix) -> io::Result<()> {
        let mut written = self.lock_written();
        let (_, noted) = *written;
        let noted = if prefix.length >= noted + MARK { self.note(&prefix)? } else { noted };
        *written = (prefix, noted);
        Ok(())
    }

    fn lock_written(&self) -> MutexGuard<'_, (Prefix, u64)> {
        self.written.lock().expect("no code panics while it holds this lock")
    }

    fn note(&self, prefix: &Prefix) -> io::Result<u64> {
        let sum = prefix.hasher.clone().finish();
        self.saving.partial.mark(&self.place, prefix.length, &sum)?;
        Ok(prefix.length)
    }

    /// Begins from the beginning the next time.
    pub(super) fn forget(&self) -> io::Result<()> {
        let nothing = Prefix { length: 0, hasher: Hasher::new(self.place.digest.algorithm()) };
        *self.lock_written() = (nothing, 0);
        self.saving.partial.forget(&self.place)
    }

    pub(super) fn keep(&self) -> io::Result<()> {
        let mut written = self.lock_written();
        written.1 = written.0.length;
        self.saving.partial.done(&self.place)
    }
}

impl Drop for Slot {
    /// What has come is kept for the next try, however this one ended.
    fn drop(&mut self) {
        let (prefix, noted) = self.lock_written().clone();
        if prefix.length > noted {
            // It would only have to come again.
            let _ = self.note(&prefix);
        }
        self.saving.lock_begun().insert(self.place.digest.clone(), prefix);
    }
}
