//! Images as files: the OCI image layout, as a directory or as one tar file.
//!
//! A blob is there for all names, and a name is whole: its host stands in front.

mod archive;
mod directory;
mod docker;
mod error;
mod files;
mod holdings;
mod index;
mod lock;
mod put;
mod reading;
mod saver;
mod stream;
mod writing;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Deserialize;

pub use self::error::LayoutError;
pub(crate) use self::holdings::Hashed;
pub(crate) use self::index::Entry;
pub(crate) use self::put::Put;
pub(crate) use self::reading::Stream;

use self::archive::Archive;
use self::directory::Directory;
use self::files::Files;
use self::index::Index;
use self::saver::Saver;
use self::stream::Streamer;
use super::name::{Form, LayoutName};
use crate::error::{Error, Kind, Side};
use crate::image::platforms::Platform;
use crate::image::reference::Digest;
use crate::record::{Blob, Inventory, Made};
use crate::store::patience::Policy;

/// A place of images that is files.
pub struct Layout {
    side: Side,
    name: String,
    policy: Policy,
    /// Where content is read from.
    files: Vec<Arc<Files>>,
    /// Where it is written to, if anything is.
    written: Written,
    /// What its lock says of who made it.
    made: Made,
    /// Layers that are left out of it, by its lock, and what others are said to have of them.
    base: BTreeMap<Digest, Blob>,
    state: Mutex<State>,
    /// Held by whoever writes the names that were entered.
    turn: tokio::sync::Mutex<Duration>,
}

/// What is written, by the form that it has.
enum Written {
    Nothing,
    Directory(Arc<Directory>),
    Archive(Arc<Saver>),
    Stream(Arc<Streamer>),
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
    /// Blobs whose bytes have been seen to be right, with how many they are.
    verified: HashMap<Digest, u64>,
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
        let base = lock::base_of(&files)?;
        let name = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        Ok(Self { base, ..Self::new(Side::Source, name, policy, files, index, Written::Nothing) })
    }

    /// The layout called `name`, to be written to; an archive in parts of at most `limit` bytes, if there is one. In an
    /// archive docker's own list is of `platform`. What it holds is recorded in its lock, which says who `made` it.
    ///
    /// # Errors
    /// It cannot be made, or something else is there.
    pub(crate) fn create(
        name: &LayoutName,
        limit: Option<u64>,
        policy: Policy,
        platform: Platform,
        made: Made,
    ) -> Result<Self, LayoutError> {
        let (written, files, index) = match name.form {
            Form::Directory => {
                let (directory, index) = Directory::create(&name.path)?;
                let files = vec![Files::Directory(directory.clone())];
                (Written::Directory(Arc::new(directory)), files, index)
            }
            Form::Archive => {
                let saver = Saver::new(&place_of_file(&name.path)?, limit, platform, made.clone());
                (Written::Archive(Arc::new(saver)), Vec::new(), Index::default())
            }
            Form::Stream => (
                Written::Stream(Arc::new(Streamer::new(platform, made.clone()))),
                Vec::new(),
                Index::default(),
            ),
        };
        Ok(Self { made, ..Self::new(Side::Target, name.to_string(), policy, files, index, written) })
    }

    /// The layout called `name`, to be compared with; one that is not there is empty.
    ///
    /// # Errors
    /// Something else is there.
    pub(crate) fn look(name: &LayoutName, policy: Policy) -> Result<Self, LayoutError> {
        let is_there = match name.form {
            Form::Directory => std::fs::exists(&name.path),
            Form::Archive => archive::is_there(&name.path),
            Form::Stream => Ok(true),
        };
        let (files, index) = match is_there {
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
            made: Made::default(),
            base: BTreeMap::new(),
            state: Mutex::new(State { index, ..State::default() }),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Whether it is the one that is called `name`.
    pub(crate) fn is(&self, name: &LayoutName) -> bool {
        name.form != Form::Stream && self.files.iter().any(|files| files.is_at(&name.path))
    }

    /// How it is called.
    pub(crate) fn place(&self) -> &str {
        &self.name
    }

    /// Layers that are left out of it, and what others are said to have of them.
    pub(crate) fn base(&self) -> &BTreeMap<Digest, Blob> {
        &self.base
    }

    /// What its locks say that it holds, as far as they can be understood.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn locks(&self) -> Result<Vec<Inventory>, LayoutError> {
        let mut locks = Vec::new();
        for files in &self.files {
            locks.extend(files.lock()?.and_then(|bytes| lock::read(files.path(), &bytes)));
        }
        Ok(locks)
    }

    /// The file that has, or is to have, what is called so.
    pub(super) fn file_of(&self, digest: &Digest) -> String {
        let path = match &self.written {
            Written::Directory(directory) => directory.place_of(digest).display().to_string(),
            Written::Archive(_) | Written::Stream(_) | Written::Nothing => self.name.clone(),
        };
        crate::util::text::printable(&path)
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

impl Layout {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
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
        Form::Stream => Err(LayoutError::FromStream),
    }
}

/// Where an archive called `path` is to be written. One that is there is replaced, also where a link leads; nothing else
/// is.
fn place_of_file(path: &Path) -> Result<PathBuf, LayoutError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| LayoutError::Io(path, error)
    };
    let path = match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => std::fs::canonicalize(path).map_err(io(path))?,
        _ => path.to_owned(),
    };
    match std::fs::metadata(&path) {
        Ok(there) if there.is_dir() => return Err(LayoutError::IsDirectory(path)),
        Ok(there) if !there.is_file() => return Err(LayoutError::NoArchive(path)),
        _ => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::metadata(parent).map_err(io(parent))?;
    Ok(path)
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
