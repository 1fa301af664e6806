//! An image layout as a directory (image-spec, "Image Layout").
//!
//! What is on its way lies below `.mirror-images`, and gets its place among the blobs by a rename once it is verified.
//! Nothing is named in `index.json` before all of it is on the disk. Several runs may add to one directory at once: a
//! blob that another one is writing is written beside it, and `index.json` is read, merged and replaced under a lock.
//! A link is never followed where content is read or written: whoever made the layout has no say in what else is read.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::LayoutError;
use super::archive::names::{Document, Known};
use super::files::{Piece, is_at, open_regular};
use super::holdings::Holding;
use super::index::{DOCUMENT_MAX, Index};
use super::lock;
use crate::image::reference::{Digest, Hasher};
use crate::record::{self, Draft, Made};
use crate::store::Prefix;

/// What is on its way, and the lock.
const WORK: &str = ".mirror-images";
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Where blobs are, by the algorithm of their names.
const BLOBS: [&str; 2] = ["blobs/sha256", "blobs/sha512"];
/// Most files that a layout may have.
const FILES_MAX: usize = 1_000_000;
/// Most of what is no blob that is told.
const STRAYS_MAX: usize = 1000;
const LOCK: &str = Document::Lock.path();
/// The one version that there is (image-spec, "oci-layout file").
pub(super) const LAYOUT_FILE: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
}

/// A blob on its way into the directory.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    /// No later run would find it.
    is_lone: bool,
    /// What is there from an earlier try.
    pub prefix: Prefix,
}

impl Directory {
    /// The layout at `path`, to be read.
    ///
    /// # Errors
    /// There is none, or none that can be read.
    pub(super) fn open(path: &Path) -> Result<(Self, Index), LayoutError> {
        let directory = Self { path: path.to_owned() };
        directory.check_version()?;
        for below in ["blobs"].iter().chain(&BLOBS).map(|below| path.join(below)) {
            match fs::symlink_metadata(&below) {
                Ok(there) if !there.is_dir() => return Err(LayoutError::Link(below)),
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(LayoutError::Io(below, error));
                }
                _ => {}
            }
        }
        let index = directory.read_index()?.ok_or_else(|| directory.no_layout())?;
        Ok((directory, index))
    }

    /// The layout at `path`, to be written to; made if there is nothing.
    ///
    /// # Errors
    /// Something else is there, or the place cannot be written to.
    pub(super) fn create(path: &Path) -> Result<(Self, Index), LayoutError> {
        let directory = Self { path: path.to_owned() };
        let io = |what: &Path| {
            let what = what.to_owned();
            move |error| LayoutError::Io(what, error)
        };
        fs::create_dir_all(path).map_err(io(path))?;
        if fs::exists(path.join(LAYOUT)).map_err(io(path))? {
            directory.check_version()?;
        } else {
            // Another run may be making it at this moment, or have been killed while it did.
            let is_ours = |name: &OsStr| [WORK, LAYOUT, INDEX, LOCK, "blobs"].iter().any(|own| name == *own);
            let mut others = fs::read_dir(path).map_err(io(path))?;
            let is_another = others.any(|entry| entry.is_ok_and(|entry| !is_ours(&entry.file_name())));
            if is_another
                || fs::exists(path.join(INDEX)).map_err(io(path))?
                    && !fs::exists(path.join(LAYOUT)).map_err(io(path))?
            {
                return Err(LayoutError::SomethingElse(path.to_owned()));
            }
        }
        for below in [WORK, "blobs", "blobs/sha256"] {
            let below = path.join(below);
            match fs::create_dir(&below) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(LayoutError::Io(below, error));
                }
                _ => {}
            }
            if !fs::symlink_metadata(&below).map_err(io(&below))?.is_dir() {
                return Err(LayoutError::Link(below));
            }
        }
        let layout = path.join(LAYOUT);
        if !fs::exists(&layout).map_err(io(&layout))? {
            directory.replace(LAYOUT, LAYOUT_FILE.as_bytes()).map_err(io(&layout))?;
        }
        let index = directory.read_index()?.unwrap_or_default();
        Ok((directory, index))
    }

    fn check_version(&self) -> Result<(), LayoutError> {
        let path = self.path.join(LAYOUT);
        let bytes = match self.document(&path, DOCUMENT_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.no_layout()),
            Err(error) => return Err(LayoutError::Io(path, error)),
        };
        super::check_version(&bytes).map_err(|why| LayoutError::Version(self.path.clone(), why))
    }

    fn no_layout(&self) -> LayoutError {
        LayoutError::NoLayout(self.path.clone())
    }

    fn read_index(&self) -> Result<Option<Index>, LayoutError> {
        let path = self.path.join(INDEX);
        match self.document(&path, DOCUMENT_MAX) {
            Ok(bytes) => Ok(Some(Index::read(&bytes).map_err(|error| LayoutError::Index(path, error))?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LayoutError::Io(path, error)),
        }
    }

    fn document(&self, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let file = open_regular(path)?;
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            let why = format!("it is larger than {} MiB", max >> 20);
            return Err(io::Error::new(ErrorKind::FileTooLarge, why));
        }
        Ok(bytes)
    }

    pub(super) fn place_of(&self, digest: &Digest) -> PathBuf {
        let (algorithm, hex) = digest.as_str().split_once(':').expect("a digest has a colon");
        self.path.join("blobs").join(algorithm).join(hex)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The blob's file.
    pub(super) fn blob(&self, digest: &Digest) -> io::Result<Option<Piece>> {
        match open_regular(&self.place_of(digest)) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some(Piece { bytes: Arc::new(file), start: 0, length }))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All files that are called as a blob is, and the names of what else lies among them.
    pub(super) fn holdings(&self) -> io::Result<(Vec<Holding>, Vec<String>)> {
        let (mut holdings, mut strays) = (Vec::new(), Vec::new());
        for below in BLOBS {
            let files = match fs::read_dir(self.path.join(below)) {
                Ok(files) => files,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for file in files {
                let file = file?;
                let name = format!("{below}/{}", file.file_name().to_string_lossy());
                let about = fs::symlink_metadata(file.path())?;
                match Known::parse(&name) {
                    Some(Known::Blob(digest)) if about.is_file() => {
                        holdings.push(Holding { digest, size: about.len(), start: 0 });
                    }
                    _ if strays.len() < STRAYS_MAX => strays.push(name),
                    _ => {}
                }
                if holdings.len() > FILES_MAX {
                    let why = format!("it has more than {FILES_MAX} blobs");
                    return Err(io::Error::new(ErrorKind::FileTooLarge, why));
                }
            }
        }
        holdings.sort_by(|a, b| a.digest.cmp(&b.digest));
        strays.sort();
        Ok((holdings, strays))
    }

    /// Begins a blob, or goes on with what an earlier run has of it.
    pub(super) fn begin(&self, digest: &Digest, size: u64) -> io::Result<Part> {
        let path = self.path.join(WORK).join(format!("{}.part", digest.as_str().replace(':', "-")));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)?;
        let mut hasher = Hasher::new(digest.algorithm());
        if file.try_lock().is_err() || !is_at(&file, &path)? {
            // Another run is writing it, or has just put it in its place: one of the two will be the first.
            let (file, path) =
                tempfile::Builder::new().suffix(".part").tempfile_in(self.path.join(WORK))?.keep()?;
            return Ok(Part { file, path, is_lone: true, prefix: Prefix { length: 0, hasher } });
        }
        let mut length = file.metadata()?.len();
        if length > size {
            file.set_len(0)?;
            length = 0;
        }
        let piece = Piece { bytes: Arc::new(file.try_clone()?), start: 0, length };
        piece.hash(length, &mut hasher, |_, _| Ok(()))?;
        Ok(Part { file, path, is_lone: false, prefix: Prefix { length, hasher } })
    }

    /// Puts a verified blob in its place.
    pub(super) fn keep(&self, part: &Part, digest: &Digest) -> io::Result<()> {
        let place = self.place_of(digest);
        self.make_room_for(&place)?;
        fs::rename(&part.path, place)
    }

    /// Puts a blob that is at hand.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let place = self.place_of(digest);
        self.make_room_for(&place)?;
        let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(self.path.join(WORK))?;
        file.write_all(bytes)?;
        file.persist(place)?;
        Ok(())
    }

    /// The directory of blobs of one algorithm, which is no link.
    fn make_room_for(&self, place: &Path) -> io::Result<()> {
        let parent = place.parent().expect("a blob is in a directory");
        match fs::symlink_metadata(parent) {
            Ok(there) if there.is_dir() => Ok(()),
            Ok(_) => Err(io::Error::new(ErrorKind::NotADirectory, "it is no directory")),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir(parent),
            Err(error) => Err(error),
        }
    }

    /// Adds `ours` to what `index.json` says, once all blobs are on the disk. What it says after that.
    ///
    /// # Errors
    /// It cannot be written, or what is there is none: then nothing is changed.
    pub(super) fn write_index(&self, ours: &Index) -> Result<Index, LayoutError> {
        let path = self.path.join(INDEX);
        let io = |error| LayoutError::Io(path.clone(), error);
        let turn = self.turn().map_err(io)?;
        sync_file_system(&turn).map_err(io)?;
        turn.lock().map_err(io)?;
        let mut index = self.read_index()?.unwrap_or_default();
        index.merge(ours);
        let bytes = index.to_bytes();
        if bytes.len() as u64 > DOCUMENT_MAX {
            return Err(LayoutError::TooManyNames(self.path.clone()));
        }
        self.replace(INDEX, &bytes).map_err(io)?;
        Ok(index)
    }

    /// What whoever changes a document locks meanwhile.
    fn turn(&self) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false).custom_flags(flags);
        options.open(self.path.join(WORK).join("lock"))
    }

    /// The bytes of its lock, if it has one.
    pub(super) fn lock(&self) -> Result<Option<Vec<u8>>, LayoutError> {
        let path = self.path.join(LOCK);
        match self.document(&path, record::DOCUMENT_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LayoutError::Io(path, error)),
        }
    }

    /// Adds `ours` to what the lock says, as far as that is still so: others may have changed the layout since.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write_lock(&self, ours: Draft, made: Made) -> Result<(), LayoutError> {
        let path = self.path.join(LOCK);
        let io = |error| LayoutError::Io(path.clone(), error);
        let turn = self.turn().map_err(io)?;
        turn.lock().map_err(io)?;
        let index = self.read_index()?.unwrap_or_default();
        let before = self.lock()?.and_then(|bytes| lock::read(&path, &bytes));
        let has =
            |digest: &Digest, size| matches!(self.blob(digest), Ok(Some(piece)) if piece.length == size);
        let lock = lock::merged(before, ours, made, &index, has);
        self.replace(LOCK, lock.to_json().as_bytes()).map_err(io)
    }

    /// Replaces a document at once and for good.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(self.path.join(WORK))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

impl Part {
    pub(super) fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    /// Forgets what was there before.
    pub(super) fn forget(&self) -> io::Result<()> {
        self.file.set_len(0)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_lone {
            // Once it is in its place it is not here any more.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Others read what is here: nothing in it is secret.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

/// All blobs of the file system that `file` is on are on the disk, before anything names them.
fn sync_file_system(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(file)?;
    #[cfg(not(target_os = "linux"))]
    file.sync_all()?;
    Ok(())
}
