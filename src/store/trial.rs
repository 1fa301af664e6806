//! Tries at a place: how one failed, and in which order they began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// A failure below a blob, and what is left to be tried. The unit of another try is the request, the piece or the
/// download where one can be repeated by itself, else the blob; the two never multiply.
#[derive(Debug)]
pub(crate) enum Trial {
    /// Nothing was repeated yet: the blob as a whole may be tried again.
    Again(Error),
    /// All tries that this is worth have been made.
    Over(Error),
}

impl Trial {
    pub(crate) fn error(&self) -> &Error {
        let (Trial::Again(error) | Trial::Over(error)) = self;
        error
    }

    pub(crate) fn into_error(self) -> Error {
        let (Trial::Again(error) | Trial::Over(error)) = self;
        error
    }
}

impl From<Error> for Trial {
    fn from(error: Error) -> Self {
        Trial::Again(error)
    }
}

/// The tries of one piece of work, numbered among all tries at its place in the order in which they begin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tries {
    all: Arc<AtomicU64>,
    last: Arc<AtomicU64>,
}

impl Tries {
    /// Those of another piece of work at the same place, whose first try begins.
    pub(crate) fn begin(&self) -> Self {
        let tries = Self { all: self.all.clone(), last: Arc::default() };
        tries.next();
        tries
    }

    /// Another try begins.
    pub(crate) fn next(&self) {
        self.last.store(self.all.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The number of the last try.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The number of the last try of all at the place.
    pub(crate) fn last_of_all(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}
