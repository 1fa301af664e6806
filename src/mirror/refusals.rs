//! When a target is given up.
//!
//! A target that refuses one thing after the other for one cause is not asked a hundred times more: it is suspected,
//! and one thing at a time is tried beside what is under way. Whatever goes well there speaks for it, and failures concern
//! what they name and nothing beyond. If nothing does until nothing is under way any more, it is given up. That it answers
//! resolver says nothing of its taking what is sent, for it may be read-only.
//!
//! What is tried several times ends late, so good news and bad are ordered by when the tries began that they came of: at a
//! target that takes nothing any more whatever is under way speaks against it by its next try.

use std::collections::HashMap;

use crate::error::{Error, Kind, Side};
use crate::plan::RepositoryId;
use crate::store::Tries;

/// Repositories that refused for one cause, with nothing that went well between, until the target is suspected.
/// A few of a registry's projects may be missing, and their names come first.
const REFUSALS_MAX: usize = 8;
/// The same where the cause is the host's by its nature.
const REFUSALS_OF_HOST_MAX: usize = 3;

/// What is to be known of some work.
#[derive(Debug)]
pub(super) struct Mark {
    pub tries: Tries,
    /// The target was suspected when it began.
    is_probe: bool,
}

#[derive(Debug, Default)]
pub(super) struct Refusals {
    tries: Tries,
    /// The last of the tries that are known to have gone well, if any has, and whether it has answered a question.
    good: u64,
    answered: bool,
    /// What it refused for of late, and where, by which try.
    cause: Option<Error>,
    by: HashMap<RepositoryId, u64>,
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
        Mark { tries: self.tries.begin(), is_probe: self.suspects() }
    }

    /// What began at `mark` has ended.
    pub(super) fn ended(&mut self, mark: &Mark) {
        self.probing &= !mark.is_probe;
    }

    fn suspects(&self) -> bool {
        let most = match self.cause.as_ref().map(|cause| &cause.kind) {
            Some(Kind::Unreachable | Kind::Untrusted | Kind::Full) => REFUSALS_OF_HOST_MAX,
            _ => REFUSALS_MAX,
        };
        self.by.len() >= most
    }

    /// Whether what it refused for may pass.
    fn may_pass(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| passes(&cause.kind))
    }

    /// Nothing that could speak for the target is under way. Where nothing `is_left` to be begun a target that took all
    /// else is not given up for the few that were tried the longest.
    pub(super) fn nothing_under_way(&mut self, is_left: bool) {
        if self.suspects() && (is_left || self.good == 0 || !self.may_pass()) {
            self.gave_up = self.cause.take();
        }
    }

    /// The target has a blob or a manifest by now. One that `took_long` speaks for the moment when it ended.
    pub(super) fn took(&mut self, mark: &Mark, took_long: bool) {
        let good = if took_long { mark.tries.last_of_all() } else { mark.tries.last() };
        self.good = self.good.max(good);
        if self.may_pass() {
            self.by.retain(|_, tried| *tried > self.good);
        } else {
            self.by.clear();
        }
        if self.by.is_empty() {
            self.cause = None;
        }
    }

    /// The target has said what it has under some name.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// The target could not be asked what it has in `repository`. All names are asked for at the beginning, so that
    /// nobody began to ask after something went well.
    pub(super) fn no_answer(&mut self, error: &Error, repository: RepositoryId) {
        if !self.answered && self.good == 0 {
            self.note(error, repository, &Mark { tries: self.tries.begin(), is_probe: false });
        }
    }

    /// Something was not taken into `repository` that was begun at `mark`.
    pub(super) fn note(&mut self, error: &Error, repository: RepositoryId, mark: &Mark) {
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
        // What went well since its last try began went well beside it.
        let tried = mark.tries.last();
        let is_late = passes(&error.kind) && tried <= self.good;
        if error.side != Side::Target || !general || is_late {
            return;
        }
        if self.cause.as_ref().is_none_or(|cause| cause.kind != error.kind) {
            self.by.clear();
            self.cause = Some(error.clone());
        }
        self.by.insert(repository, tried);
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

/// Whether a failure of this kind is no refusal but trouble, which is tried for a while.
fn passes(kind: &Kind) -> bool {
    matches!(kind, Kind::Transient | Kind::Busy)
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
            refusals.ended(&mark);
            refusals.note(&refusal(kind.clone()), repository(number), &mark);
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
        refusals.ended(&probe);
        assert!(refusals.may_begin());
        refusals.nothing_under_way(true);
        assert!(refusals.gave_up().is_some());
    }

    #[test]
    fn whatever_goes_well_speaks_for_the_target() {
        let mut refusals = Refusals::default();
        let early = refusals.begin();
        refused(&mut refusals, &Kind::Unauthorized, 0..9);
        refusals.took(&early, false);
        refused(&mut refusals, &Kind::Unauthorized, 9..16);
        refusals.nothing_under_way(true);
        assert!(refusals.gave_up().is_none() && refusals.may_begin());
        // Another cause is another matter.
        refused(&mut refusals, &Kind::Unsupported, 20..27);
        refusals.nothing_under_way(true);
        assert!(refusals.gave_up().is_none());
    }

    /// Work that has failed in repositories of these numbers, each after a last try that begins now.
    fn tried_in_vain(refusals: &mut Refusals, marks: &[Mark]) {
        marks.iter().for_each(|mark| mark.tries.next());
        for (number, mark) in marks.iter().enumerate() {
            refusals.note(&refusal(Kind::Transient), repository(number), mark);
        }
    }

    #[test]
    fn what_was_tried_again_while_other_things_went_well_is_no_general_refusal() {
        let mut refusals = Refusals::default();
        let marks: Vec<Mark> = (0..9).map(|_| refusals.begin()).collect();
        let good = refusals.begin();
        for (number, mark) in marks.iter().enumerate() {
            refusals.note(&refusal(Kind::Transient), repository(number), mark);
        }
        refusals.took(&good, false);
        refusals.note(&refusal(Kind::Transient), repository(9), &marks[0]);
        refusals.nothing_under_way(true);
        assert!(refusals.may_begin() && refusals.gave_up().is_none());
    }

    #[test]
    fn what_fails_by_a_later_try_than_all_that_went_well_speaks_against_the_target() {
        for took_long in [false, true] {
            let mut refusals = Refusals::default();
            let marks: Vec<Mark> = (0..9).map(|_| refusals.begin()).collect();
            let good = refusals.begin();
            tried_in_vain(&mut refusals, &marks);
            // It is heard of late. What took long was under way all the while.
            refusals.took(&good, took_long);
            refusals.nothing_under_way(true);
            assert_eq!(refusals.gave_up().is_none(), took_long);
        }
    }

    #[test]
    fn the_last_few_that_fail_end_no_run_that_went_well() {
        for is_left in [false, true] {
            let mut refusals = Refusals::default();
            let marks: Vec<Mark> = (0..9).map(|_| refusals.begin()).collect();
            let good = refusals.begin();
            refusals.took(&good, false);
            tried_in_vain(&mut refusals, &marks);
            refusals.nothing_under_way(is_left);
            assert_eq!(refusals.gave_up().is_some(), is_left);
        }
    }

    #[test]
    fn one_repository_and_what_concerns_one_alone_end_nothing() {
        let mut refusals = Refusals::default();
        (0..9).for_each(|_| refused(&mut refusals, &Kind::Transient, 0..1));
        refused(&mut refusals, &Kind::Denied, 0..9);
        refused(&mut refusals, &Kind::NotFound, 0..9);
        refusals.nothing_under_way(true);
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
            refusals.nothing_under_way(true);
            assert_eq!(refusals.gave_up().is_none(), answered);
        }
    }
}
