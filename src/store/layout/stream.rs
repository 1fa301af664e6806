//! An archive that is written to standard output, byte for byte as a file would have it.
//!
//! Nothing of it can be written twice or at another place: blobs come in the archive's order, one at a time, and those that
//! come early wait in memory. Whatever fails ends it for good. What was written by then ends within the content of an entry,
//! of which the last bytes are held back until the next one begins, so that no reader takes it for whole.

mod feed;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use tokio::sync::{Semaphore, watch};

pub(super) use self::feed::Feed;
use super::LayoutError;
use super::archive::contents::{Body, Item, table_of};
use super::saver::items_of;
use crate::image::platforms::Platform;
use crate::image::reference::{Digest, Location};
use crate::record::{Draft, Made};
use crate::store::Incoming;

/// Most bytes that are read before it is their turn.
const AHEAD_MAX: usize = 16 << 20;
/// Bytes of a blob that are held back.
const HELD_BACK: usize = 512;

/// An archive that is to be written to standard output.
pub(super) struct Streamer {
    /// Whose images docker's own list has.
    platform: Platform,
    /// What its lock says of who made it.
    made: Made,
    streaming: OnceLock<Arc<Streaming>>,
}

/// One of which all is known that will be in it.
pub(super) struct Streaming {
    /// By digest, the number of a blob and its bytes.
    blobs: HashMap<Digest, (usize, u64)>,
    sequence: Vec<Digest>,
    /// What stands before the content of each blob, and behind the last one.
    between: Mutex<Vec<Vec<u8>>>,
    /// The number of the blob whose turn it is.
    turn: watch::Sender<usize>,
    /// Bytes that may be read ahead.
    ahead: Arc<Semaphore>,
    output: Mutex<Output>,
    /// Names whose images are whole by now, and all that there are to be.
    named: Mutex<HashSet<Location>>,
    wanted: HashSet<Location>,
}

impl Streamer {
    pub(super) fn new(platform: Platform, made: Made) -> Self {
        Self { platform, made, streaming: OnceLock::new() }
    }

    /// `None` until all is known.
    pub(super) fn streaming(&self) -> Option<&Arc<Streaming>> {
        self.streaming.get()
    }

    /// Lays the archive out. Nothing is written before the first blob comes.
    ///
    /// # Errors
    /// Some of its images cannot be in it together, it would be too large, or there is no standard output.
    pub(super) fn prepare(&self, images: Vec<Incoming>) -> Result<(), LayoutError> {
        let wanted = images.iter().flat_map(|image| image.names.iter().cloned()).collect();
        let output = io::stdout().as_fd().try_clone_to_owned().map_err(LayoutError::Stream)?;
        let streaming = Streaming::new(
            &items_of(images, Draft::default(), &self.platform, &self.made),
            wanted,
            File::from(output),
        )?;
        // Nobody else prepares it.
        let _ = self.streaming.set(Arc::new(streaming));
        Ok(())
    }

    /// Ends the archive, if all that it is to hold is there.
    ///
    /// # Errors
    /// Something is lacking, or whoever reads it does not take the end.
    pub(super) fn finish(&self, is_whole: bool) -> Result<(), LayoutError> {
        match self.streaming() {
            Some(streaming) if is_whole => streaming.finish(),
            Some(streaming) if streaming.lock_output().written > 0 => Err(LayoutError::CutShort),
            _ => Err(LayoutError::NothingStreamed),
        }
    }
}

impl Streaming {
    fn new(items: &[Item], wanted: HashSet<Location>, output: File) -> Result<Self, LayoutError> {
        let table = table_of(items).map_err(|error| LayoutError::TooLarge("-".into(), error))?;
        let (mut between, mut blobs, mut sequence) = (vec![Vec::new()], HashMap::new(), Vec::new());
        let mut items = items.iter();
        for (_, gap) in table.gaps() {
            let last = between.last_mut().expect("it has one from the beginning");
            last.extend(gap);
            match items.next().map(|item| (&item.body, item.size)) {
                Some((Body::Known(bytes), _)) => last.extend_from_slice(bytes),
                Some((Body::Blob(digest), size)) => {
                    blobs.insert(digest.clone(), (sequence.len(), size));
                    sequence.push(digest.clone());
                    between.push(Vec::new());
                }
                None => {}
            }
        }
        Ok(Self {
            blobs,
            sequence,
            between: Mutex::new(between),
            turn: watch::Sender::new(0),
            ahead: Arc::new(Semaphore::new(AHEAD_MAX)),
            output: Mutex::new(Output { file: output, held: Vec::new(), written: 0 }),
            named: Mutex::default(),
            wanted,
        })
    }

    /// All blobs, in the order in which they have to come.
    pub(super) fn sequence(&self) -> &[Digest] {
        &self.sequence
    }

    /// Takes note that an image is whole, if it is in the archive.
    pub(super) fn name(&self, location: &Location) -> bool {
        let is_wanted = self.wanted.contains(location);
        if is_wanted {
            self.lock_named().insert(location.clone());
        }
        is_wanted
    }

    fn lock_named(&self) -> MutexGuard<'_, HashSet<Location>> {
        self.named.lock().expect("no code panics while it holds this lock")
    }

    fn lock_output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().expect("no code panics while it holds this lock")
    }

    /// What stands before the content of a blob; only once.
    fn take_between(&self, number: usize) -> Vec<u8> {
        std::mem::take(&mut self.between.lock().expect("no code panics while it holds this lock")[number])
    }

    /// Writes some of a blob.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.lock_output().write(bytes)
    }

    /// Writes what stands before the content of a blob. Many readers take what ends before a header for whole, so this goes
    /// with all that was held back.
    fn write_before(&self, number: usize) -> io::Result<()> {
        let before = self.take_between(number);
        let mut output = self.lock_output();
        output.write(&before)?;
        output.end()
    }

    fn finish(&self) -> Result<(), LayoutError> {
        let all = self.sequence.len();
        let is_whole = *self.turn.borrow() == all && *self.lock_named() == self.wanted;
        if !is_whole {
            return Err(LayoutError::CutShort);
        }
        let end = self.take_between(all);
        let mut output = self.lock_output();
        output.write(&end).and_then(|()| output.end()).map_err(LayoutError::Stream)
    }
}

/// What is written, but for the last bytes of a blob.
struct Output {
    file: File,
    held: Vec<u8>,
    /// Bytes that somebody may have read.
    written: u64,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (now, later) = bytes.split_at(bytes.len().saturating_sub(HELD_BACK));
        let too_many = (self.held.len() + later.len()).saturating_sub(HELD_BACK);
        let held: Vec<u8> = if now.is_empty() {
            self.held.drain(..too_many).collect()
        } else {
            std::mem::take(&mut self.held)
        };
        for piece in [&held[..], now] {
            self.file.write_all(piece)?;
            self.written += piece.len() as u64;
        }
        self.held.extend_from_slice(later);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.file.write_all(&held)?;
        self.written += held.len() as u64;
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;
