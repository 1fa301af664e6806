//! All content of a layout, whoever names it, read and hashed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::archive::names::Document;
use super::archive::scan::ScanError;
use super::docker;
use super::files::Files;
use super::index::Entry;
use super::{Layout, blocking};
use crate::error::Error;
use crate::events::{Event, Listener};
use crate::image::reference::{Digest, Hasher};
use crate::store::Flaw;

/// Content of more bytes than this is read first, the largest before all, so that nobody waits for it at the end.
const LARGE: u64 = 1 << 20;

/// Content by the name that it has.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Where it begins, in bytes, among what is in one file with it.
    pub start: u64,
}

/// What came of reading and hashing everything.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    /// How many bytes each of them has.
    pub sizes: HashMap<Digest, u64>,
    /// Those that are not what their names say.
    pub flawed: HashMap<Digest, Flaw>,
    /// What lies among blobs and is none.
    pub strays: Vec<String>,
    /// Layers that are left out by the layout's own lock, and their sizes.
    pub left_out: HashMap<Digest, u64>,
}

impl Layout {
    /// What its index names.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.lock().index.entries().to_vec()
    }

    /// Reads everything that is there under a digest, on all processors, and hashes it.
    ///
    /// # Errors
    /// What there is cannot be listed.
    pub(crate) async fn hash_everything(&self, listener: &Listener) -> Result<Hashed, Error> {
        let action = || "list what it holds".to_owned();
        let left_out = self.base.iter().map(|(digest, blob)| (digest.clone(), blob.0)).collect();
        let mut hashed = Hashed { left_out, ..Hashed::default() };
        for files in &self.files {
            let place = files.clone();
            let listed = blocking(move || place.holdings()).await;
            let (mut holdings, strays) = listed.map_err(|error| self.io_error(action(), &error))?;
            hashed.strays.extend(strays);
            hashed.sizes.extend(holdings.iter().map(|held| (held.digest.clone(), held.size)));
            let bytes = holdings.iter().fold(0, |sum: u64, held| sum.saturating_add(held.size));
            listener(Event::Planned { bytes, deliveries: 0 });
            holdings.sort_by_key(|held| {
                let is_large = held.size > LARGE;
                (!is_large, if is_large { u64::MAX - held.size } else { held.start })
            });
            let work = Arc::new(Work { files: files.clone(), holdings, next: AtomicUsize::new(0) });
            let threads = std::thread::available_parallelism().map_or(2, usize::from);
            let workers = (0..threads).map(|_| {
                let (work, listener) = (work.clone(), listener.clone());
                blocking(move || Ok(work.go_on(&listener)))
            });
            for flawed in join_all(workers).await {
                hashed.flawed.extend(flawed.map_err(|error| self.io_error(action(), &error))?);
            }
        }
        Ok(hashed)
    }

    /// What is wrong with docker's own list of the images, where there is one: it has no digest.
    pub(crate) fn docker_flaw(&self, hashed: &Hashed) -> Option<String> {
        let lists = self.files.iter().filter_map(|files| match &**files {
            Files::Archive(archive) => archive.document(Document::Docker).transpose(),
            Files::Directory(_) => None,
        });
        let flaw = |list: Result<Vec<u8>, ScanError>| match list {
            Ok(list) => docker::first_missing(&list, |digest| hashed.sizes.contains_key(digest)),
            Err(error) => Some(error.to_string()),
        };
        lists.filter_map(flaw).next().map(|why| format!("{}: {why}", Document::Docker.path()))
    }

    /// All bytes that are there by this digest, unverified; `None` if nothing is. Waits for the disk.
    ///
    /// # Errors
    /// They cannot be read, or are more than `most`.
    pub(crate) fn bytes_of(&self, digest: &Digest, most: usize) -> io::Result<Option<Vec<u8>>> {
        for files in &self.files {
            let Some(piece) = files.blob(digest)? else { continue };
            let length = usize::try_from(piece.length).ok().filter(|length| *length <= most);
            let too_long = || {
                let why = format!("it has {} bytes, which is more than a manifest may have", piece.length);
                io::Error::new(io::ErrorKind::FileTooLarge, why)
            };
            return piece.read(0, length.ok_or_else(too_long)?).map(Some);
        }
        Ok(None)
    }
}

/// What is to be hashed, by whoever has time.
struct Work {
    files: Arc<Files>,
    holdings: Vec<Holding>,
    next: AtomicUsize,
}

impl Work {
    /// Hashes one after the other until nothing is left; those that are not what they should be.
    fn go_on(&self, listener: &Listener) -> Vec<(Digest, Flaw)> {
        let mut flawed = Vec::new();
        loop {
            let transfer = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(held) = self.holdings.get(transfer) else { return flawed };
            listener(Event::Started { transfer, what: held.digest.short().to_owned(), size: held.size });
            if let Some(flaw) = self.look(held, |position| listener(Event::Moved { transfer, position })) {
                flawed.push((held.digest.clone(), flaw));
            }
            listener(Event::Ended { transfer, landed: held.size });
        }
    }

    fn look(&self, held: &Holding, moved: impl Fn(u64)) -> Option<Flaw> {
        let mut hasher = Hasher::new(held.digest.algorithm());
        let mut there = 0;
        let also = |piece: &[u8], position: u64| {
            there = position + piece.len() as u64;
            moved(there);
            Ok(())
        };
        let read = match self.files.blob(&held.digest) {
            Ok(Some(piece)) => piece.hash(piece.length, &mut hasher, also),
            // It was there a moment ago.
            Ok(None) => return Some(Flaw::Missing),
            Err(error) => Err(error),
        };
        match read {
            Ok(read) if read != held.size => Some(Flaw::Size { there: read }),
            Ok(_) if hasher.finish() == held.digest => None,
            Ok(_) => Some(Flaw::Damaged),
            Err(_) => Some(Flaw::Unreadable { there }),
        }
    }
}
