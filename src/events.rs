//! What happens during a run, told as values. Whoever moves bytes tells; the terminal listens.

use std::sync::Arc;

use crate::error::Error;
use crate::image::manifest::Extent;
use crate::image::reference::Digest;

/// Tells one transfer from another in events.
pub type TransferId = usize;

/// Something that happened. Positions and totals are absolute, so that a restarted transfer simply goes back.
#[derive(Debug, Clone)]
pub enum Event {
    /// Both sides are being asked, and for so many images have told all.
    Resolving { done: usize, total: usize },
    /// Sources alone are being asked, and for so many images have told all.
    Asking { done: usize, total: usize },
    /// What is to be done, as far as it is known at the beginning: bytes of blobs to move, deliveries to make.
    Planned { bytes: u64, deliveries: usize },
    /// A blob begins to move.
    Started { transfer: TransferId, what: String, size: u64 },
    /// Bytes of it that have moved.
    Moved { transfer: TransferId, position: u64 },
    /// So many bytes of it are there from an earlier run, and have not moved in this one.
    Resumed { transfer: TransferId, bytes: u64 },
    /// It is there, or given up; `landed` bytes count as done.
    Ended { transfer: TransferId, landed: u64 },
    /// So many bytes and deliveries more, or fewer, are to be made than was announced.
    Replanned { bytes: i64, deliveries: isize },
    /// A name at the target is settled.
    Delivered(Delivered),
}

/// How one image fared under one name at the target.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub source: String,
    pub target: String,
    /// The image that it is about, for signatures and the like.
    pub refers_to: Option<Digest>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// Pushed; bytes of its blobs that it alone had to wait for do not tell much, so its whole size is given.
    Copied {
        size: u64,
        extent: Extent,
    },
    /// It was there already.
    Present(Extent),
    Failed(Box<Error>),
    /// Not tried, because the run ended before.
    Left(String),
}

/// Where events go. Called from many tasks; must not block.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;
