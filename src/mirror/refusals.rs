//! When a target is given up.
//!
//! A target that refuses one thing after the other for one cause is not asked a hundred times more: it is suspected,
//! and one thing at a time is tried beside what is under way. Whatever goes well there speaks for it, and failures concern
//! what they name and nothing beyond. If nothing does until nothing is under way any more, it is given up. That it answers
//! resolver says nothing of its taking what is sent, for it may be read-only.

use std::collections::HashSet;

use crate::error::{Error, Kind, Side};
use crate::plan::RepositoryId;

/// Repositories that refused for one cause, with nothing that went well between, until the target is suspected.
/// A few of a registry's projects may be missing, and their names come first.
const REFUSALS_MAX: usize = 8;
/// The same where the cause is the host's by its nature.
const REFUSALS_OF_HOST_MAX: usize = 3;

/// When some work began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// How much the target had taken by then.
    taken: u64,
    /// The target was suspected.
    is_probe: bool,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How often it took something, and whether it has answered a question.
    taken: u64,
    answered: bool,
    /// What it refused for of late, and where.
    cause: Option<Error>,
    by: HashSet<RepositoryId>,
    /// What tries a target that is suspected is under way.
    probing: bool,
    gave_up: Option<Error>,
}

impl Refusals {
    /// Whether more may be begun at the target just now.
    pub(super) fn may_begin(&self) -> bool {
        !self.suspects() || !self.probing
    }

    /// Something begins.
    pub(super) fn begin(&mut self) -> Mark {
        self.probing |= self.suspects();
        Mark { taken: self.taken, is_probe: self.suspects() }
    }

    /// What began at `mark` has ended.
    pub(super) fn ended(&mut self, mark: Mark) {
        self.probing &= !mark.is_probe;
    }

    fn suspects(&self) -> bool {
        let most = match self.cause.as_ref().map(|cause| &cause.kind) {
            Some(Kind::Unreachable | Kind::Untrusted | Kind::Full) => REFUSALS_OF_HOST_MAX,
            _ => REFUSALS_MAX,
        };
        self.by.len() >= most
    }

    /// Nothing that could speak for the target is under way.
    pub(super) fn nothing_under_way(&mut self) {
        if self.suspects() {
            self.gave_up = self.cause.take();
        }
    }

    /// The target has a blob or a manifest by now.
    pub(super) fn took(&mut self) {
        self.taken += 1;
        self.cause = None;
        self.by.clear();
    }

    /// The target has said what it has under some name.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// The target could not be asked what it has in `repository`. All names are asked for at the beginning, so that
    /// nobody began to ask after something went well.
    pub(super) fn no_answer(&mut self, error: &Error, repository: RepositoryId) {
        if !self.answered && self.taken == 0 {
            self.note(error, repository, Mark { taken: 0, is_probe: false });
        }
    }

    /// Something was not taken into `repository` that was begun at `mark`.
    pub(super) fn note(&mut self, error: &Error, repository: RepositoryId, mark: Mark) {
        if error.side == Side::Target && error.kind == Kind::Closed {
            return self.give_up(error.clone());
        }
        // That it denies or lacks a repository says nothing about the next one.
        let general = matches!(
            error.kind,
            Kind::Transient
                | Kind::Busy
                | Kind::Unreachable
                | Kind::Unauthorized
                | Kind::Unsupported
                | Kind::Untrusted
                | Kind::Full
        );
        // What is tried for a while ends late; what went well meanwhile went well beside it.
        let is_late = matches!(error.kind, Kind::Transient | Kind::Busy) && mark.taken != self.taken;
        if error.side != Side::Target || !general || is_late {
            return;
        }
        if self.cause.as_ref().is_none_or(|cause| cause.kind != error.kind) {
            self.by.clear();
            self.cause = Some(error.clone());
        }
        self.by.insert(repository);
    }

    /// The target can take nothing at all.
    pub(super) fn give_up(&mut self, error: Error) {
        self.gave_up = Some(error);
    }

    /// The cause for which the target is given up.
    pub(super) fn gave_up(&self) -> Option<&Error> {
        self.gave_up.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(number: usize) -> RepositoryId {
        RepositoryId::new(number)
    }

    fn refusal(kind: Kind) -> Error {
        Error::of_test(Side::Target, kind, "target", "PUT".to_owned(), "no".to_owned())
    }

    fn refused(refusals: &mut Refusals, kind: &Kind, repositories: std::ops::Range<usize>) {
        for number in repositories {
            let mark = refusals.begin();
            refusals.ended(mark);
            refusals.note(&refusal(kind.clone()), repository(number), mark);
        }
    }

    #[test]
    fn repositories_that_refuse_make_a_suspect_that_is_tried_one_by_one_and_then_given_up() {
        let mut refusals = Refusals::default();
        refused(&mut refusals, &Kind::Unauthorized, 0..7);
        assert!(refusals.may_begin());
        refusals.begin();
        assert!(refusals.may_begin(), "seven may be a few that are missing");
        refused(&mut refusals, &Kind::Unauthorized, 7..8);
        assert!(refusals.may_begin() && refusals.gave_up().is_none());
        let probe = refusals.begin();
        assert!(!refusals.may_begin());
        refusals.ended(probe);
        assert!(refusals.may_begin());
        refusals.nothing_under_way();
        assert!(refusals.gave_up().is_some());
    }

    #[test]
    fn whatever_goes_well_speaks_for_the_target() {
        let mut refusals = Refusals::default();
        refused(&mut refusals, &Kind::Unauthorized, 0..9);
        refusals.took();
        refused(&mut refusals, &Kind::Unauthorized, 9..16);
        refusals.nothing_under_way();
        assert!(refusals.gave_up().is_none() && refusals.may_begin());
        // Another cause is another matter.
        refused(&mut refusals, &Kind::Unsupported, 20..27);
        refusals.nothing_under_way();
        assert!(refusals.gave_up().is_none());
    }

    #[test]
    fn what_was_tried_again_while_other_things_went_well_is_no_general_refusal() {
        let mut refusals = Refusals::default();
        let marks: Vec<Mark> = (0..5).map(|_| refusals.begin()).collect();
        refusals.took();
        for (number, mark) in marks.into_iter().enumerate() {
            refusals.note(&refusal(Kind::Transient), repository(number), mark);
        }
        refusals.nothing_under_way();
        assert!(refusals.gave_up().is_none());
    }

    #[test]
    fn one_repository_and_what_concerns_one_alone_end_nothing() {
        let mut refusals = Refusals::default();
        (0..9).for_each(|_| refused(&mut refusals, &Kind::Transient, 0..1));
        refused(&mut refusals, &Kind::Denied, 0..9);
        refused(&mut refusals, &Kind::NotFound, 0..9);
        refusals.nothing_under_way();
        assert!(refusals.gave_up().is_none());
    }

    #[test]
    fn names_that_cannot_be_asked_for_end_the_run_only_where_none_can() {
        for answered in [false, true] {
            let mut refusals = Refusals::default();
            if answered {
                refusals.answered();
            }
            (0..8).for_each(|number| refusals.no_answer(&refusal(Kind::Unauthorized), repository(number)));
            refusals.nothing_under_way();
            assert_eq!(refusals.gave_up().is_none(), answered);
        }
    }
}
