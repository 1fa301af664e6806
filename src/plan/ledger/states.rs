//! In which states blobs, needs and deliveries are.

use std::collections::HashSet;

use super::{Failure, Part};
use crate::plan::ids::{BlobId, DeliveryId, RepositoryId};

#[derive(Debug)]
pub(super) struct Blob<E> {
    pub state: BlobState<E>,
    pub needs: Vec<Need<E>>,
    /// None of the needs before this one waits.
    pub first_waiting: usize,
    /// A source has turned up since it was begun to be sent.
    pub has_new_source: bool,
    /// A repository of the target was found to hold it.
    pub held_before: bool,
    /// A copy at the target was seen to be missing or damaged, so that no manifest's word is taken for another.
    pub doubted: bool,
    /// Why what is damaged stays so, whatever is sent.
    pub beyond_repair: Option<Box<E>>,
}

#[derive(Debug)]
pub(super) enum BlobState<E> {
    /// No repository is known to hold it, and none is being sent it.
    Wanted,
    /// It is being sent to one repository; the others wait for that.
    Moving,
    Held {
        by: RepositoryId,
        ours: bool,
    },
    /// None of its sources served it. Another one may turn up with an image that is not resolved yet.
    Lost(Box<Failure<E>>),
}

/// A repository that is to have a blob.
#[derive(Debug)]
pub(super) struct Need<E> {
    pub repository: RepositoryId,
    /// Those that wait for it.
    pub deliveries: Vec<DeliveryId>,
    pub state: NeedState<E>,
    /// The target has said that it mounted the blob here, and none was sent since.
    pub is_mounted: bool,
    /// When the blob landed here last, in landings.
    pub landed: u64,
}

#[derive(Debug)]
pub(super) enum NeedState<E> {
    Waiting,
    /// A ticket is out.
    Moving(Errand),
    Held,
    /// The repository does not take it, and will not.
    Refused(Box<E>),
}

/// What a ticket is out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Errand {
    pub what: What,
    /// Its turn has come.
    pub has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Mount,
    Send,
    /// The target lacks the blob, whatever it says.
    MustSend,
}

impl<E> Blob<E> {
    /// One that no repository is known to hold, or that one of them was found to.
    pub(super) fn new(held_by: Option<RepositoryId>) -> Self {
        let state = held_by.map_or(BlobState::Wanted, |by| BlobState::Held { by, ours: false });
        Self {
            held_before: held_by.is_some(),
            state,
            needs: Vec::new(),
            first_waiting: 0,
            has_new_source: false,
            doubted: false,
            beyond_repair: None,
        }
    }
}

impl<E> Need<E> {
    pub(super) fn new(repository: RepositoryId) -> Self {
        let state = NeedState::Waiting;
        Self { repository, deliveries: Vec::new(), state, is_mounted: false, landed: 0 }
    }
}

impl Delivery {
    pub(super) fn new(repository: RepositoryId, parts: Vec<Part>, state: DeliveryState) -> Self {
        Self { repository, parts, rounds: 0, began: 0, state }
    }
}

impl Errand {
    pub(super) fn to(what: What) -> Self {
        Self { what, has_begun: false }
    }
}

#[derive(Debug)]
pub(super) struct Delivery {
    pub repository: RepositoryId,
    /// Manifests below the root, and the list that the image is to be in.
    pub parts: Vec<Part>,
    pub rounds: u32,
    /// When its manifests were begun to be put last, in landings.
    pub began: u64,
    pub state: DeliveryState,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeliveryState {
    Waits(HashSet<BlobId>),
    Ready,
    Putting,
    Settled,
}
