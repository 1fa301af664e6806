//! When a target is given up.
//!
//! A target that refuses one thing after the other for one cause is not asked a hundred times more. Whatever goes well
//! there speaks for it: a failure during which something else went well concerns what it names and nothing beyond. That
//! it answers questions says nothing of its taking what is sent, for it may be read-only.

use std::collections::HashSet;

use crate::plan::RepositoryId;
use crate::registry::{Error, Kind, Side};

/// Repositories that refused for one cause, with nothing that went well between, until the target is given up.
const REFUSALS_MAX: usize = 3;

/// How much the target had taken when some work began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How often it took something, and whether it has answered a question.
    taken: u64,
    answered: bool,
    cause: Option<Kind>,
    by: HashSet<RepositoryId>,
    gave_up: Option<Error>,
}

impl Refusals {
    pub fn mark(&self) -> Mark {
        Mark(self.taken)
    }

    /// The target has a blob or a manifest by now.
    pub fn took(&mut self) {
        self.taken += 1;
        self.cause = None;
        self.by.clear();
    }

    /// The target has said what it has under some name.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// The target could not be asked what it has in `repository`. All names are asked for at the beginning, so that
    /// nobody began to ask after something went well.
    pub fn no_answer(&mut self, error: &Error, repository: RepositoryId) {
        if !self.answered && self.taken == 0 {
            self.note(error, repository, self.mark());
        }
    }

    /// Something was not taken into `repository` that was begun at `mark`.
    pub fn note(&mut self, error: &Error, repository: RepositoryId, mark: Mark) {
        // That it denies or lacks a repository says nothing about the next one.
        let general = matches!(
            error.kind,
            Kind::Transient
                | Kind::Busy
                | Kind::Unreachable
                | Kind::Unauthorized
                | Kind::Unsupported
                | Kind::Untrusted
        );
        if error.side != Side::Target || !general || mark != self.mark() {
            return;
        }
        if self.cause.as_ref() != Some(&error.kind) {
            self.by.clear();
            self.cause = Some(error.kind.clone());
        }
        self.by.insert(repository);
        if self.by.len() >= REFUSALS_MAX {
            self.gave_up.get_or_insert_with(|| error.clone());
        }
    }

    /// The cause for which the target is given up.
    pub fn gave_up(&self) -> Option<&Error> {
        self.gave_up.as_ref()
    }
}
