//! Images as files: the OCI image layout, as a directory or as one tar file.
//!
//! A blob is there for all names, and a name is whole: its host stands in front.

mod archive;
mod directory;
mod docker;
mod files;
mod index;
mod put;
mod saver;

use std::collections::HashSet;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use thiserror::Error as ThisError;

pub(crate) use self::put::Put;

use self::archive::Archive;
use self::archive::partial::PartialError;
use self::archive::scan::ScanError;
use self::directory::Directory;
use self::files::{Files, Piece};
use self::index::{Entry, Index, IndexError};
use self::saver::Saver;
use super::name::{Form, LayoutName};
use super::{Head, Held, Incoming, Role};
use crate::error::{Error, Kind, Side};
use crate::image::manifest::{Descriptor, Manifest};
use crate::image::platforms::Platform;
use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::store::Trial;
use crate::store::patience::Policy;

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;
/// How long names are gathered before they are written together, at least.
const GATHERING: Duration = Duration::from_millis(20);
/// How much longer names are gathered than writing them took the last time.
const GATHERING_FACTOR: u32 = 4;

/// Why there is no layout to be had.
#[derive(Debug, ThisError)]
pub enum LayoutError {
    #[error("{}: there is no image layout: it has no file oci-layout, or no index.json", .0.display())]
    NoLayout(PathBuf),
    #[error("{}: it is not empty, and no image layout: name a new directory, or one that holds a layout", .0.display())]
    SomethingElse(PathBuf),
    #[error("{}: it is a link or a file, where a directory of the layout should be", .0.display())]
    Link(PathBuf),
    #[error("{}: its oci-layout is not of version 1.0.0: {}", .0.display(), .1)]
    Version(PathBuf, String),
    #[error("{}: {}", .0.display(), .1)]
    Index(PathBuf, #[source] IndexError),
    #[error("{}: more names than readers take in one index.json, which is 20 MiB", .0.display())]
    TooManyNames(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Archive(PathBuf, #[source] ScanError),
    #[error("{}: it is no file: an archive is read at many places, so that it cannot come by a pipe", .0.display())]
    NoFile(PathBuf),
    #[error("{}: it is a directory: name a file, or oci:DIR", .0.display())]
    IsDirectory(PathBuf),
    #[error("{}: {}", .0.display(), .1)]
    Partial(PathBuf, #[source] PartialError),
    #[error("{} is not written, for it would lack images; what there is of it is in {}, and the next run goes on from that", .0.display(), .1.display())]
    Incomplete(PathBuf, PathBuf),
    #[error("{} is not written, for there is no image to put into it", .0.display())]
    NothingSaved(PathBuf),
    #[error("two layouts have different images under the name {0}: load one after the other")]
    Contradiction(String),
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, #[source] io::Error),
}

/// The one version that there is (image-spec, "oci-layout file").
fn check_version(document: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(rename = "imageLayoutVersion")]
        version: String,
    }
    match serde_json::from_slice::<File>(document) {
        Ok(file) if file.version == "1.0.0" => Ok(()),
        Ok(file) => Err(crate::util::text::quoted(&file.version)),
        Err(error) => Err(error.to_string()),
    }
}

/// The content and the names of the layout called `name`.
fn open_files(name: &LayoutName) -> Result<(Files, Index), LayoutError> {
    match name.form {
        Form::Directory => {
            Directory::open(&name.path).map(|(directory, index)| (Files::Directory(directory), index))
        }
        Form::Archive => Archive::open(&name.path).map(|(archive, index)| (Files::Archive(archive), index)),
    }
}

/// An archive takes the place of no directory, and is put into one that is there.
fn check_file(path: &std::path::Path) -> Result<(), LayoutError> {
    if path.is_dir() {
        return Err(LayoutError::IsDirectory(path.to_owned()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(std::path::Path::new("."));
    std::fs::metadata(parent).map(drop).map_err(|error| LayoutError::Io(parent.to_owned(), error))
}

/// A place of images that is files.
pub struct Layout {
    side: Side,
    name: String,
    policy: Policy,
    /// Where content is read from.
    files: Vec<Arc<Files>>,
    /// Where it is written to, if anything is.
    written: Written,
    state: Mutex<State>,
    /// Held by whoever writes the names that were entered.
    turn: tokio::sync::Mutex<Duration>,
}

/// What is written, by the form that it has.
enum Written {
    Nothing,
    Directory(Arc<Directory>),
    Archive(Arc<Saver>),
}

#[derive(Default)]
struct State {
    /// All names, with those that are not written yet.
    index: Index,
    /// What this run has entered.
    ours: Index,
    /// How many times something was entered, and how many of them are written.
    entered: u64,
    written: u64,
    /// Blobs whose bytes have been seen to be right.
    verified: HashSet<Digest>,
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Layout {
    /// The layouts called `names`, to be read as one.
    ///
    /// # Errors
    /// There is none, or two of them have different images under one name.
    pub(crate) fn open(names: &[LayoutName], policy: Policy) -> Result<Self, LayoutError> {
        let mut index = Index::default();
        let mut files = Vec::new();
        for name in names {
            let (found, names) = open_files(name)?;
            if let Some(name) = index.contradiction(&names) {
                return Err(LayoutError::Contradiction(name));
            }
            index.merge(&names);
            files.push(found);
        }
        let name = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        Ok(Self::new(Side::Source, name, policy, files, index, Written::Nothing))
    }

    /// The layout called `name`, to be written to. In an archive docker's own list is of `platform`.
    ///
    /// # Errors
    /// It cannot be made, or something else is there.
    pub(crate) fn create(name: &LayoutName, policy: Policy, platform: Platform) -> Result<Self, LayoutError> {
        let (written, files, index) = match name.form {
            Form::Directory => {
                let (directory, index) = Directory::create(&name.path)?;
                let files = vec![Files::Directory(directory.clone())];
                (Written::Directory(Arc::new(directory)), files, index)
            }
            Form::Archive => {
                check_file(&name.path)?;
                let saver = Saver::new(&name.path, platform);
                (Written::Archive(Arc::new(saver)), Vec::new(), Index::default())
            }
        };
        Ok(Self::new(Side::Target, name.to_string(), policy, files, index, written))
    }

    /// The layout called `name`, to be compared with; one that is not there is empty.
    ///
    /// # Errors
    /// Something else is there.
    pub(crate) fn look(name: &LayoutName, policy: Policy) -> Result<Self, LayoutError> {
        let (files, index) = match std::fs::exists(&name.path) {
            Ok(false) => (Vec::new(), Index::default()),
            _ => {
                let (files, index) = open_files(name)?;
                (vec![files], index)
            }
        };
        Ok(Self::new(Side::Target, name.to_string(), policy, files, index, Written::Nothing))
    }

    fn new(
        side: Side,
        name: String,
        policy: Policy,
        files: Vec<Files>,
        index: Index,
        written: Written,
    ) -> Self {
        Self {
            side,
            name,
            policy,
            files: files.into_iter().map(Arc::new).collect(),
            written,
            state: Mutex::new(State { index, ..State::default() }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it is the one that is called `name`.
    pub(crate) fn is(&self, name: &LayoutName) -> bool {
        self.files.iter().any(|files| files.is_at(&name.path))
    }

    /// How it is called.
    pub(crate) fn place(&self) -> &str {
        &self.name
    }

    /// The whole names in it, with the digests that they stand for, and what else it holds under no whole name.
    pub(crate) fn names(&self) -> (Vec<(String, Digest)>, Vec<String>) {
        let state = self.lock();
        let entries = || state.index.entries().iter();
        let names = entries().filter_map(|entry| Some((entry.name.clone()?, entry.digest.clone()))).collect();
        let unnamed = |entry: &Entry| match (&entry.name, &entry.subject) {
            (None, None) => Some(entry.short_name.clone().unwrap_or_else(|| entry.digest.to_string())),
            _ => None,
        };
        (names, entries().filter_map(unnamed).collect())
    }
}

/// The verbs, as [`super::Source`] and [`super::Target`] describe them.
impl Layout {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What a name stands for, or what is there by its digest.
    pub(super) async fn resolve(&self, location: &Location) -> Result<Head, Error> {
        let named = self.named(location);
        let TagOrDigest::Digest(digest) = &location.name else { return Ok(named) };
        if named != Head::Absent {
            return Ok(named);
        }
        let file = self.file(digest, &format!("look for manifest {location}")).await?;
        Ok(file.map_or(Head::Absent, |_| Head::Found(digest.clone())))
    }

    /// What a name stands for, or what has no name and is there under no other.
    pub(super) fn named(&self, location: &Location) -> Head {
        let state = self.lock();
        let named = state.index.find(&location.to_string());
        let found = named.or_else(|| match &location.name {
            TagOrDigest::Digest(digest) => {
                state.index.entries().iter().find(|entry| entry.name.is_none() && entry.digest == *digest)
            }
            TagOrDigest::Tag(_) => None,
        });
        found.map_or(Head::Absent, |entry| Head::Found(entry.digest.clone()))
    }

    pub(super) async fn manifest(
        &self,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        let action = || format!("read manifest {location}");
        let entry = self.lock().index.find(&location.to_string()).cloned();
        let digest = match (&location.name, &entry) {
            (TagOrDigest::Digest(digest), _) => digest.clone(),
            (TagOrDigest::Tag(_), Some(entry)) => entry.digest.clone(),
            (TagOrDigest::Tag(_), None) => {
                let why = "it has no image of this name".to_owned();
                return Err(self.error(Kind::NotFound, action(), why));
            }
        };
        let size = pinned.map(|pinned| pinned.size).or(entry.as_ref().map(|entry| entry.size));
        let bytes = self.document(&digest, size, &action()).await?;
        let named = pinned.map(|pinned| pinned.media_type.as_str());
        let named = named.or(entry.as_ref().and_then(|entry| entry.media_type.as_deref()));
        let parsed = match Manifest::parse(bytes.clone(), named, digest.algorithm()) {
            Err(_) if pinned.is_some() => Manifest::parse(bytes, None, digest.algorithm()),
            parsed => parsed,
        };
        parsed.map_err(|error| self.error(Kind::Invalid, action(), error.to_string()))
    }

    /// The verified bytes of a manifest.
    async fn document(&self, digest: &Digest, size: Option<u64>, action: &str) -> Result<Bytes, Error> {
        let fail = |kind, why: String| self.error(kind, action.to_owned(), why);
        let Some(piece) = self.file(digest, action).await? else {
            return Err(fail(Kind::NotFound, "it is not there".to_owned()));
        };
        let length = piece.length;
        if size.is_some_and(|size| size != length) {
            let why = format!("it has {length} bytes where {} are named", size.unwrap_or_default());
            return Err(fail(Kind::Corrupt, why));
        }
        if length > self.policy.manifest_max as u64 {
            let why = format!("it has {length} bytes, which is more than a manifest may have");
            return Err(fail(Kind::Invalid, why));
        }
        let mut stream = Stream::new(self, piece, action.to_owned());
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next().await.map_err(Trial::into_error)? {
            bytes.extend_from_slice(&piece);
        }
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(fail(Kind::Corrupt, format!("its bytes are damaged: they have the digest {actual}")));
        }
        Ok(bytes.freeze())
    }

    async fn file(&self, digest: &Digest, action: &str) -> Result<Option<Piece>, Error> {
        if let Written::Archive(saver) = &self.written
            && let Some(saving) = saver.saving()
        {
            return saving.blob(digest).map_err(|error| self.io_error(action.to_owned(), &error));
        }
        let (files, wanted) = (self.files.clone(), digest.clone());
        let opened = blocking(move || {
            for files in &files {
                if let Some(found) = files.blob(&wanted)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        });
        opened.await.map_err(|error| self.io_error(action.to_owned(), &error))
    }

    pub(super) async fn open_blob(&self, blob: &Descriptor, position: u64) -> Result<Stream, Error> {
        let action = format!("read blob {}", blob.digest);
        match self.file(&blob.digest, &action).await? {
            None => Err(self.error(Kind::NotFound, action, "it is not there".to_owned())),
            Some(piece) if piece.length != blob.size => {
                let why = format!("it has {} bytes where its manifest says {}", piece.length, blob.size);
                Err(self.error(Kind::Corrupt, action, why))
            }
            Some(piece) => Ok(Stream { position, ..Stream::new(self, piece, action) }),
        }
    }

    /// The manifests that are about `subject`, by the layout's word or their own.
    pub(super) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let entries: Vec<Entry> = self.lock().index.entries().to_vec();
        let mut found: Vec<Descriptor> = Vec::new();
        for entry in entries {
            let is_about = match &entry.subject {
                Some(about) => about == subject,
                None => {
                    let action = format!("read manifest {}", entry.digest);
                    let bytes = self.document(&entry.digest, Some(entry.size), &action).await?;
                    let manifest =
                        Manifest::parse(bytes, entry.media_type.as_deref(), entry.digest.algorithm());
                    let about = manifest.ok().and_then(|manifest| manifest.as_referrer());
                    about.is_some_and(|(about, _)| about == *subject)
                }
            };
            if is_about && !found.iter().any(|known| known.digest == entry.digest) {
                let media_type = entry.media_type.unwrap_or_default();
                found.push(Descriptor { media_type, ..Descriptor::of_blob(entry.digest, entry.size) });
            }
        }
        Ok(found)
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<Held, Error> {
        let action = format!("look for blob {}", blob.digest);
        Ok(self.file(&blob.digest, &action).await?.map_or(Held::Nothing, |piece| Held::Bytes(piece.length)))
    }

    pub(super) async fn put_manifest(
        &self,
        location: &Location,
        manifest: &Manifest,
        role: Role,
    ) -> Result<(), Error> {
        let action = || format!("write manifest {location}");
        let directory = match &self.written {
            Written::Directory(directory) => directory.clone(),
            Written::Archive(saver) => return self.name_in_archive(saver, location, role),
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
    fn name_in_archive(&self, saver: &Saver, location: &Location, role: Role) -> Result<(), Error> {
        let is_there = role == Role::Part || saver.saving().is_some_and(|saving| saving.name(location));
        if is_there {
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
    pub(super) fn wants_all_first(&self) -> bool {
        matches!(self.written, Written::Archive(_))
    }

    pub(super) async fn prepare(&self, images: Vec<Incoming>) -> Result<(), Error> {
        let Written::Archive(saver) = &self.written else { return Ok(()) };
        let saver = saver.clone();
        self.saved(blocking(move || Ok(saver.prepare(images))).await)
    }

    pub(super) async fn finish(&self, is_whole: bool) -> Result<(), Error> {
        let Written::Archive(saver) = &self.written else { return Ok(()) };
        let saver = saver.clone();
        self.saved(blocking(move || Ok(saver.finish(is_whole))).await)
    }

    fn saved(&self, done: io::Result<Result<(), LayoutError>>) -> Result<(), Error> {
        let action = || "write the archive".to_owned();
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let is_full = matches!(&error, LayoutError::Partial(_, PartialError::NoRoom { .. }));
                let kind = if is_full { Kind::Full } else { Kind::Invalid };
                Err(self.error(kind, action(), error.to_string()))
            }
            Err(error) => Err(self.io_error(action(), &error)),
        }
    }

    pub(super) fn error(&self, kind: Kind, doing: String, why: String) -> Error {
        let (side, place, redactor) = (self.side, self.name.clone(), Arc::default());
        let (cause, remedy, status) = (why.into(), None, None);
        Error { side, kind, place, action: doing, cause, remedy, status, redactor }
    }

    fn io_error(&self, doing: String, error: &io::Error) -> Error {
        let kind = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem => Kind::Full,
            _ => Kind::Invalid,
        };
        self.error(kind, doing, error.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

/// A blob being read from a file.
pub(crate) struct Stream {
    side: Side,
    place: String,
    action: String,
    piece: Piece,
    /// Bytes read so far.
    position: u64,
}

impl Stream {
    fn new(layout: &Layout, piece: Piece, action: String) -> Self {
        Self { side: layout.side, place: layout.name.clone(), action, piece, position: 0 }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        let wanted = (self.piece.length - self.position).min(PIECE as u64) as usize;
        if wanted == 0 {
            return Ok(None);
        }
        let (piece, position) = (self.piece.clone(), self.position);
        let read = blocking(move || piece.read(position, wanted).map(Bytes::from));
        match read.await {
            Ok(piece) => {
                self.position += piece.len() as u64;
                Ok(Some(piece))
            }
            Err(error) => Err(self.error(Kind::Corrupt, error.to_string()).into()),
        }
    }

    pub(super) fn error(&self, kind: Kind, why: String) -> Error {
        let (place, action, redactor) = (self.place.clone(), self.action.clone(), Arc::default());
        Error {
            side: self.side,
            kind,
            place,
            action,
            cause: why.into(),
            remedy: None,
            status: None,
            redactor,
        }
    }
}

/// Does what waits for a disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests;
