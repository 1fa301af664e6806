//! Whether a target's copies of blobs are whole: by their sizes, or by all of their bytes.
//!
//! A blob is asked for once in each repository that is to have it, however many images name it. Its bytes are read
//! through one repository, and the others are only asked for its size.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{OnceCell, Semaphore};

use super::{Holds, Target};
use crate::error::Cause;
use crate::error::{Error, Kind};
use crate::events::{Event, Listener, TransferId};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::store::patience::Patience;
use crate::store::{Held, Trial};

/// Blobs of more bytes than this count as large.
const LARGE: u64 = 1 << 20;

/// How closely the blobs of a target are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether they are there, in their sizes.
    Size,
    /// All of their bytes are held against their digests as well.
    Bytes,
}

/// What is wrong with a repository's copy of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "flaw")]
pub enum Flaw {
    Missing,
    /// So many bytes are there, and others should be.
    Size {
        there: u64,
    },
    /// It has the right size and other bytes.
    Damaged,
    /// It has the right size by the target's word, and reading it ends after so many bytes, however often it is tried. A
    /// registry may remember the size of a file that is lost or cut (distribution's `blobdescriptor` cache).
    Unreadable {
        there: u64,
    },
}

/// How many blobs are under way at once, by the limits of a transfer.
#[derive(Debug)]
struct Room {
    large: Semaphore,
    small: Semaphore,
}

type Cells<K, V> = Mutex<HashMap<K, Arc<OnceCell<V>>>>;

/// The place for what is found out about `key`: whoever comes first finds it out, all others wait for that.
fn cell<K: Eq + Hash, V>(cells: &Cells<K, V>, key: K) -> Arc<OnceCell<V>> {
    cells.lock().expect("no code panics while it holds this lock").entry(key).or_default().clone()
}

/// Whoever looks at the blobs of a target.
pub(crate) struct Inspector {
    target: Target,
    depth: Depth,
    room: Room,
    listener: Listener,
    /// By repository, where they differ in what they have; digest and size in bytes.
    asked: Cells<(Option<Repository>, Digest, u64), Option<Flaw>>,
    /// Blobs that were read through some repository and are whole.
    read: Cells<(Digest, u64), ()>,
    /// Counts down, for whoever moves blobs counts up.
    next_id: AtomicUsize,
}

impl std::fmt::Debug for Inspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspector").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// Why a blob was not read to its verified end.
enum Unread {
    Flawed(Flaw),
    Failed(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Failed(error)
    }
}

impl Inspector {
    /// At most so many `large` and `small` blobs are under way at a time.
    pub(crate) fn new(
        target: Target,
        depth: Depth,
        large: NonZeroUsize,
        small: NonZeroUsize,
        listener: Listener,
    ) -> Self {
        Self {
            target,
            depth,
            room: Room { large: Semaphore::new(large.get()), small: Semaphore::new(small.get()) },
            listener,
            asked: Mutex::default(),
            read: Mutex::default(),
            next_id: AtomicUsize::new(TransferId::MAX),
        }
    }

    /// What is wrong with the copy of `blob` in `repository`; `None` if it is whole, as far as the depth tells.
    ///
    /// # Errors
    /// The target cannot be asked.
    pub(crate) async fn inspect(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Option<Flaw>, Error> {
        let part = match self.target.holds() {
            Holds::PerRepository => Some(repository.clone()),
            Holds::Shared => None,
        };
        let cell = cell(&self.asked, (part, blob.digest.clone(), blob.size));
        cell.get_or_try_init(|| self.look(repository, blob)).await.copied()
    }

    async fn look(&self, repository: &Repository, blob: &Descriptor) -> Result<Option<Flaw>, Error> {
        // Of an empty blob there is nothing to read.
        if self.depth == Depth::Size || blob.size == 0 {
            return self.ask(repository, blob).await;
        }
        let mut read_here = false;
        let cell = cell(&self.read, (blob.digest.clone(), blob.size));
        let read = cell.get_or_try_init(|| {
            read_here = true;
            self.read(repository, blob)
        });
        match read.await {
            Ok(()) if read_here => Ok(None),
            Ok(()) => self.ask(repository, blob).await,
            Err(Unread::Flawed(flaw)) => Ok(Some(flaw)),
            Err(Unread::Failed(error)) => Err(error),
        }
    }

    async fn ask(&self, repository: &Repository, blob: &Descriptor) -> Result<Option<Flaw>, Error> {
        let _permit = self.room.small.acquire().await.expect("the semaphore is never closed");
        Ok(flaw_by_size(self.target.has(repository, blob).await?, blob.size))
    }

    /// Reads a blob, which is shown as a transfer.
    async fn read(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Unread> {
        let (listener, size) = (&self.listener, blob.size);
        listener(Event::Replanned { bytes: size.cast_signed(), deliveries: 0 });
        let room = if size > LARGE { &self.room.large } else { &self.room.small };
        let _permit = room.acquire().await.expect("the semaphore is never closed");
        let transfer = self.next_id.fetch_sub(1, Ordering::Relaxed);
        let name = repository.as_str().rsplit('/').next().unwrap_or_default();
        listener(Event::Started { transfer, what: format!("{name} {}", blob.digest.short()), size });
        let moved = |position| listener(Event::Moved { transfer, position });
        let found = read_through(&self.target, repository, blob, moved).await;
        listener(Event::Ended { transfer, landed: size });
        found?.map_or(Ok(()), |flaw| Err(Unread::Flawed(flaw)))
    }
}

/// That a blob was sent, and the target's copy is none the better for it; `advice` says what helps there.
pub(crate) fn damaged_copy(blob: &Descriptor, flaw: Flaw, advice: &str) -> Cause {
    let (digest, size) = (&blob.digest, blob.size);
    let actual = match flaw {
        Flaw::Missing => format!("nothing instead of {size} bytes"),
        Flaw::Size { there } => format!("{there} bytes instead of {size} bytes"),
        Flaw::Damaged => format!("{size} bytes that are not its own"),
        Flaw::Unreadable { there } => format!("of which {there} of {size} bytes can be read"),
    };
    Cause::DamagedCopy(format!("it holds a damaged copy of {digest}, {actual}; {advice}"))
}

fn flaw_by_size(held: Held, size: u64) -> Option<Flaw> {
    match held {
        held if held.may_be(size) => None,
        Held::Bytes(there) => Some(Flaw::Size { there }),
        Held::Nothing | Held::Something => Some(Flaw::Missing),
    }
}

/// Reads all bytes of the copy of `blob` in `repository`, and says what is wrong with it. `moved` hears of each position
/// that is reached.
///
/// # Errors
/// The target does not serve the blob, and may have it whole.
pub(crate) async fn read_through(
    target: &Target,
    repository: &Repository,
    blob: &Descriptor,
    moved: impl Fn(u64),
) -> Result<Option<Flaw>, Error> {
    let mut patience = Patience::new(target.policy());
    let mut past_caches = false;
    let position = AtomicU64::new(0);
    let moved = |reached| {
        position.store(reached, Ordering::Relaxed);
        moved(reached);
    };
    loop {
        let trial = match read_once(target, repository, blob, past_caches, &moved).await {
            Ok(()) => return Ok(None),
            Err(trial) => trial,
        };
        let error = trial.error();
        match error.kind {
            // A copy in a cache on the way may be damaged.
            Kind::Corrupt if !std::mem::replace(&mut past_caches, true) => continue,
            Kind::Corrupt => {
                let held = target.has(repository, blob).await?;
                return Ok(Some(flaw_by_size(held, blob.size).unwrap_or(Flaw::Damaged)));
            }
            Kind::NotFound => return Ok(Some(Flaw::Missing)),
            _ => {}
        }
        let pause = match &trial {
            Trial::Again(error) => patience.next(&error.kind, target.is_alive()),
            Trial::Over(_) => None,
        };
        match pause {
            Some(pause) => target.rest(pause, error).await,
            None if is_cut_off(error) && target.is_alive() => {
                return Ok(Some(Flaw::Unreadable { there: position.load(Ordering::Relaxed) }));
            }
            None => return Err(trial.into_error()),
        }
    }
}

/// Whether an answer has begun and not come to its end.
fn is_cut_off(error: &Error) -> bool {
    error.kind == Kind::Transient && error.status.is_none() && !error.is_out_of_reach()
}

async fn read_once(
    target: &Target,
    repository: &Repository,
    blob: &Descriptor,
    past_caches: bool,
    moved: &impl Fn(u64),
) -> Result<(), Trial> {
    let mut reader = target.as_source().open(repository, blob, past_caches, None, None).await?;
    while reader.next().await?.is_some() {
        moved(reader.position());
    }
    Ok(())
}
