//! The putting of a blob, by the kind of target.

use super::super::layout;
#[cfg(test)]
use super::super::memory;
use super::Landed;
use crate::error::{Error, Kind};
use crate::store::Origin;
use crate::store::Trial;
use crate::store::registry::Ladder;

/// The putting of one blob into one repository, over all the tries that it takes: what the kind of target knows of it.
pub(crate) enum Put<'a> {
    Registry(Box<Ladder<'a>>),
    Layout(layout::Put<'a>),
    #[cfg(test)]
    Memory(memory::Put<'a>),
}

impl Put<'_> {
    /// One try; `None` asks for another one, because something was learned.
    pub(super) async fn attempt(
        &mut self,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Option<Landed>, Trial> {
        match self {
            Put::Registry(ladder) => ladder.attempt(origin, past_caches).await,
            Put::Layout(put) => put.attempt(origin, past_caches).await,
            #[cfg(test)]
            Put::Memory(put) => put.attempt(origin, past_caches).await,
        }
    }

    /// Whether a copy that the target holds was seen to be damaged, so that the blob is sent whatever it says.
    pub(super) fn is_suspect(&self) -> bool {
        match self {
            Put::Registry(ladder) => ladder.is_suspect(),
            Put::Layout(put) => put.must_send,
            #[cfg(test)]
            Put::Memory(put) => put.must_send,
        }
    }

    /// The copy that it found is damaged.
    pub(super) async fn suspect(&mut self) {
        match self {
            Put::Registry(ladder) => ladder.suspect().await,
            Put::Layout(put) => put.must_send = true,
            #[cfg(test)]
            Put::Memory(put) => put.must_send = true,
        }
    }

    /// The last try failed; another one may follow.
    pub(super) async fn failed(&mut self, error: &Error) {
        match self {
            Put::Registry(ladder) => ladder.failed(error).await,
            Put::Layout(_) => {}
            #[cfg(test)]
            Put::Memory(_) => {}
        }
    }

    /// Whether there is another way to send it, at once and besides all patience.
    pub(super) fn otherwise(&mut self, trial: &Trial) -> bool {
        match self {
            Put::Registry(ladder) => ladder.otherwise(trial),
            Put::Layout(_) => false,
            #[cfg(test)]
            Put::Memory(_) => false,
        }
    }

    /// What an error means for the blob as a whole.
    pub(super) fn meaning(&mut self, error: &Error) -> Kind {
        match self {
            Put::Registry(ladder) => ladder.meaning(error),
            Put::Layout(_) => error.kind.clone(),
            #[cfg(test)]
            Put::Memory(_) => error.kind.clone(),
        }
    }

    /// Whether so many bytes were sent in vain that no more are.
    pub(super) fn is_spent(&self) -> bool {
        match self {
            Put::Registry(ladder) => ladder.is_spent(),
            Put::Layout(_) => false,
            #[cfg(test)]
            Put::Memory(_) => false,
        }
    }

    /// No other try will follow.
    pub(super) async fn give_up(&mut self, error: &Error) {
        match self {
            Put::Registry(ladder) => ladder.give_up(error).await,
            Put::Layout(_) => {}
            #[cfg(test)]
            Put::Memory(_) => {}
        }
    }
}
