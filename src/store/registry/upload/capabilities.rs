//! What a target was seen to do with uploads and mounts, and what follows from it for the next one.

use std::collections::HashSet;

use super::offers::{Offers, Refusal};
use crate::image::reference::Repository;

/// Questions that were not answered in a row, until nothing mentions a mount any more.
const UNANSWERED_MAX: i32 = 3;
/// Most failures that the good answers before them make up for.
const CREDIT_MAX: i32 = 10;
/// Repositories that took nothing in a row, until others are not asked twice for each upload either.
const CLOSED_MAX: usize = 2;
/// Repositories that answered the question with an error, where none answered it well, until none is asked any more.
const OBJECTIONS_MAX: usize = 3;

/// What the answer to the start of an upload shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observation<'a> {
    /// It answered the question whether it has a blob: there it was, or not.
    Asked { there: bool },
    /// It answers the question with an error in this repository, and takes uploads there.
    Objects(&'a Repository),
    /// It answers all that begins an upload with an error in this repository.
    Closed(&'a Repository),
    /// It gives no answer to the question, or none that can be used.
    Unheard,
    /// It would not mount a blob that was known to be in another repository.
    Refused { from: &'a Repository, into: &'a Repository, refusal: Refusal },
    /// It mounted one, by its word; or also as a look at it has shown.
    Mounted { from: &'a Repository, into: &'a Repository, seen: bool },
    /// The look at what it mounted was refused.
    Unseen,
    /// What it said to have mounted is not there.
    Lied,
    /// It began an upload that does not mention a mount.
    Accepts,
}

/// How the request that starts an upload is to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Only a session: this target does not do mounts, or its word counts for nothing now.
    Plain,
    /// With the question whether the repository has the blob by now.
    Ask,
    /// With the offer to take it from a repository that has it.
    Mount,
}

#[derive(Debug, Default)]
pub(super) struct Capabilities {
    /// It has begun an upload, or said that it has the blob.
    accepts: bool,
    /// The last such answer was no: most likely it lacks the next one too.
    lacks: bool,
    /// It has answered the question well.
    answers: bool,
    /// Repositories where it answered it with an error: nothing that mentions a mount is sent there.
    objecting: HashSet<Repository>,
    /// Repositories that took nothing since the last good answer of any.
    closed: HashSet<Repository>,
    /// In a row; below zero are good answers before, which make up for as many.
    unanswered: i32,
    offers: Offers,
}

impl Capabilities {
    pub(super) fn observe(&mut self, observation: Observation<'_>) {
        match observation {
            Observation::Accepts => self.note_taken(),
            Observation::Asked { there } => {
                self.lacks = !there;
                self.answers = true;
                self.note_answer();
            }
            Observation::Objects(repository) => {
                self.objecting.insert(repository.clone());
            }
            Observation::Closed(repository) => {
                self.closed.insert(repository.clone());
            }
            Observation::Unheard => self.unanswered += 1,
            Observation::Refused { from, into, refusal } => {
                if refusal == Refusal::Session {
                    self.note_answer();
                }
                self.offers.refused(from, into, refusal);
            }
            Observation::Mounted { from, into, seen } => {
                self.note_answer();
                self.offers.granted(from, into, seen);
            }
            Observation::Unseen => self.offers.looked_in_vain(),
            Observation::Lied => self.offers.lied(),
        }
    }

    fn note_taken(&mut self) {
        self.accepts = true;
        self.closed.clear();
    }

    /// It has answered what mentions a mount as it should.
    fn note_answer(&mut self) {
        self.note_taken();
        self.unanswered = (self.unanswered.min(0) - 1).max(-CREDIT_MAX);
    }

    /// Whether what mentions a mount is sent at all.
    fn mentions(&self) -> bool {
        let objects = !self.answers && self.objecting.len() >= OBJECTIONS_MAX;
        !objects && self.unanswered < UNANSWERED_MAX && self.offers.are_made()
    }

    /// Whether uploads need no longer wait for each other: until the target has taken one, its answer decides how
    /// others are begun, and one that takes none is not asked a hundred times at once.
    pub(super) fn uploads_are_settled(&self) -> bool {
        self.accepts
    }

    /// Whether mounts need no longer wait for each other: one has succeeded, or there will be none.
    pub(super) fn mounts_are_settled(&self) -> bool {
        !self.mentions() || self.offers.are_settled()
    }

    /// Whether mounts are offered to any repository.
    pub(super) fn mounts_are_made(&self) -> bool {
        self.offers.are_made()
    }

    /// Whether the target's word that it has mounted a blob is enough.
    pub(super) fn mounts_are_trusted(&self) -> bool {
        self.offers.are_trusted()
    }

    /// Whether one token has to be enough for the offer of a mount.
    pub(super) fn tokens_are_in_doubt(&self) -> bool {
        self.offers.doubt_tokens()
    }

    /// Whether a mount from this repository is worth an offer.
    pub(super) fn may_mount_from(&self, from: &Repository) -> bool {
        self.offers.are_made_from(from)
    }

    /// How to begin the upload of a blob into `repository` that another repository is `known_elsewhere` to have, or not.
    pub(super) fn opening(&self, repository: &Repository, known_elsewhere: bool) -> Opening {
        match known_elsewhere {
            _ if !self.mentions() || self.is_closed(repository) => Opening::Plain,
            false => Opening::Ask,
            true if self.offers.are_made_into(repository) => Opening::Mount,
            true => Opening::Plain,
        }
    }

    /// Whether what mentions a mount is of no use in `repository`, or nothing is: then one request has to be enough to
    /// find out that it is so again.
    fn is_closed(&self, repository: &Repository) -> bool {
        self.objecting.contains(repository)
            || self.closed.contains(repository)
            || self.closed.len() >= CLOSED_MAX
    }

    /// Whether to ask the source for the bytes before the target has said that it wants them.
    pub(super) fn hurries(&self, opening: Opening) -> bool {
        match opening {
            Opening::Plain => true,
            Opening::Ask => self.lacks,
            Opening::Mount => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        name.parse().unwrap()
    }

    fn refuse(seen: &mut Capabilities, into: &str) {
        let (from, into) = (&repository("a"), &repository(into));
        seen.observe(Observation::Refused { from, into, refusal: Refusal::Session });
    }

    #[test]
    fn mounts_wait_for_each_other_until_one_succeeds_and_stop_after_three_refusals() {
        let mut seen = Capabilities::default();
        for into in ["b", "c", "d"] {
            assert!(!seen.mounts_are_settled());
            assert_eq!(seen.opening(&repository(into), true), Opening::Mount);
            refuse(&mut seen, into);
            assert_eq!(seen.opening(&repository(into), true), Opening::Plain);
        }
        assert!(seen.mounts_are_settled());
        let e = repository("e");
        assert_eq!((seen.opening(&e, true), seen.opening(&e, false)), (Opening::Plain, Opening::Plain));
    }

    #[test]
    fn a_mount_that_succeeds_opens_the_way_for_all_and_forgives_refusals() {
        let mut seen = Capabilities::default();
        refuse(&mut seen, "b");
        let (from, into) = (&repository("a"), &repository("c"));
        seen.observe(Observation::Mounted { from, into, seen: false });
        assert!(!seen.mounts_are_settled() && !seen.mounts_are_trusted(), "it is to be looked at");
        seen.observe(Observation::Mounted { from, into, seen: true });
        assert!(seen.mounts_are_settled() && seen.mounts_are_trusted());
        ["d", "e", "f"].into_iter().for_each(|into| refuse(&mut seen, into));
        assert_eq!(seen.opening(&repository("g"), true), Opening::Mount);
        seen.observe(Observation::Lied);
        assert_eq!(seen.opening(&repository("g"), true), Opening::Plain);
    }

    #[test]
    fn an_error_instead_of_an_answer_concerns_its_repository_until_three_have_none() {
        let mut seen = Capabilities::default();
        for name in ["a", "b", "c"] {
            assert_eq!(seen.opening(&repository(name), false), Opening::Ask);
            seen.observe(Observation::Objects(&repository(name)));
            assert_eq!(seen.opening(&repository(name), false), Opening::Plain);
            assert_eq!(seen.opening(&repository(name), true), Opening::Plain);
        }
        assert_eq!(seen.opening(&repository("d"), false), Opening::Plain);
        seen.observe(Observation::Asked { there: false });
        assert_eq!(seen.opening(&repository("d"), false), Opening::Ask);
        assert_eq!(seen.opening(&repository("a"), false), Opening::Plain);
    }

    #[test]
    fn where_repositories_take_nothing_one_request_is_enough_until_something_is_taken() {
        let mut seen = Capabilities::default();
        let opening = |seen: &Capabilities, name: &str| seen.opening(&repository(name), false);
        seen.observe(Observation::Closed(&repository("a")));
        assert_eq!((opening(&seen, "a"), opening(&seen, "b")), (Opening::Plain, Opening::Ask));
        seen.observe(Observation::Closed(&repository("b")));
        assert_eq!(opening(&seen, "c"), Opening::Plain);
        seen.observe(Observation::Accepts);
        assert_eq!((opening(&seen, "a"), opening(&seen, "c")), (Opening::Ask, Opening::Ask));
    }

    #[test]
    fn a_good_answer_forgets_those_that_did_not_come_and_makes_up_for_another() {
        let mut seen = Capabilities::default();
        for _ in 0..5 {
            (0..3).for_each(|_| seen.observe(Observation::Asked { there: false }));
            (0..5).for_each(|_| seen.observe(Observation::Unheard));
            assert!(seen.mentions());
        }
        seen.observe(Observation::Unheard);
        assert!(!seen.mentions());
    }

    #[test]
    fn uploads_wait_for_each_other_until_one_is_taken() {
        let mut seen = Capabilities::default();
        assert!(!seen.uploads_are_settled());
        seen.observe(Observation::Objects(&repository("a")));
        assert!(!seen.uploads_are_settled() && !seen.mounts_are_settled());
        seen.observe(Observation::Accepts);
        assert!(seen.uploads_are_settled());
    }

    #[test]
    fn the_source_is_asked_early_only_where_the_target_lacks_things() {
        let mut seen = Capabilities::default();
        assert!(!seen.hurries(Opening::Ask) && seen.hurries(Opening::Plain));
        seen.observe(Observation::Asked { there: false });
        assert!(seen.hurries(Opening::Ask) && !seen.hurries(Opening::Mount));
        seen.observe(Observation::Asked { there: true });
        assert!(!seen.hurries(Opening::Ask));
    }
}
