//! How a try at a blob failed.

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
