//! Evidence about mounts between repositories: whether they are worth an offer, and from and into which.
//!
//! A refusal concerns the pair of repositories that it names. The host is held to do no mounts only where three
//! repositories were refused one and none was ever given one; a mount that goes well takes the bad news back.

use std::collections::{HashMap, HashSet};

use crate::image::reference::Repository;

/// Weight of the refusals after which nothing more is offered: to a host that has never mounted anything, and into one
/// repository of a host that has.
const REFUSALS_MAX: u32 = 3;
/// The same from one repository that nothing was ever mounted from.
const REFUSALS_OF_HOLDER_MAX: u32 = 2;
/// Offers in a row that were not answered, until none is made any more.
const UNANSWERED_MAX: u32 = 3;
/// Looks at mounts that come to nothing, until the target's word is all that there is.
const BLIND_LOOKS_MAX: u32 = 3;

/// How an offer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// By a session for the bytes, which costs nothing more.
    Session,
    /// By an error, after which an upload without a mount was begun.
    Error,
    /// The same by 401, whatever was shown: it counts twice, since some hosts lock whoever knocks too often.
    NotLetIn,
    /// By no answer, or one that may pass.
    Silence,
}

impl Refusal {
    fn weight(self) -> u32 {
        if self == Self::NotLetIn { 2 } else { 1 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Offers {
    /// A mount went well, and a look at the blob has shown it.
    proven: bool,
    /// A mount was said to have gone well, and the blob is not there.
    lied: bool,
    blind_looks: u32,
    /// In a row.
    unanswered: u32,
    /// Of all refusals, each repository counted once, before the first mount went well.
    refused: u32,
    /// An offer was not let in with two tokens.
    tokens_refused: bool,
    /// Weight of the refusals of offers into a repository.
    into: HashMap<Repository, u32>,
    /// The same of offers from one, each repository that was refused counted once.
    from: HashMap<Repository, u32>,
    /// Repositories that something was mounted from.
    served: HashSet<Repository>,
}

impl Offers {
    /// Whether any offer is made.
    pub(super) fn are_made(&self) -> bool {
        let refuses = !self.proven && self.refused >= REFUSALS_MAX;
        !self.lied && !refuses && self.unanswered < UNANSWERED_MAX
    }

    /// Whether mounts need no longer wait for each other: one went well, or there will be none.
    pub(super) fn are_settled(&self) -> bool {
        self.proven || !self.are_made()
    }

    /// Whether a mount is believed without a look at the blob.
    pub(super) fn are_trusted(&self) -> bool {
        self.proven
    }

    /// Whether one token has to be enough for an offer.
    pub(super) fn doubt_tokens(&self) -> bool {
        self.tokens_refused
    }

    pub(super) fn are_made_into(&self, repository: &Repository) -> bool {
        // Until one has gone well no repository is asked twice, so that few are asked in vain.
        let most = if self.proven { REFUSALS_MAX } else { 1 };
        self.are_made() && self.into.get(repository).is_none_or(|refused| *refused < most)
    }

    pub(super) fn are_made_from(&self, repository: &Repository) -> bool {
        let refused = self.from.get(repository).is_some_and(|refused| *refused >= REFUSALS_OF_HOLDER_MAX);
        self.served.contains(repository) || !refused
    }

    pub(super) fn refused(&mut self, from: &Repository, into: &Repository, refusal: Refusal) {
        self.tokens_refused |= refusal == Refusal::NotLetIn;
        self.unanswered = if refusal == Refusal::Silence { self.unanswered + 1 } else { 0 };
        if refusal == Refusal::Session && self.proven {
            return;
        }
        let weight = self.into.entry(into.clone()).or_default();
        if *weight == 0 {
            self.refused += refusal.weight();
            *self.from.entry(from.clone()).or_default() += refusal.weight();
        }
        *weight += refusal.weight();
    }

    /// A mount went well, by the target's word or, if it was `seen`, by a look.
    pub(super) fn granted(&mut self, from: &Repository, into: &Repository, seen: bool) {
        self.proven |= seen;
        self.tokens_refused = false;
        self.unanswered = 0;
        self.into.remove(into);
        if self.served.insert(from.clone()) {
            self.from.remove(from);
        }
    }

    /// A mount went well by the target's word, and the look at it was refused.
    pub(super) fn looked_in_vain(&mut self) {
        self.blind_looks += 1;
        self.proven |= self.blind_looks >= BLIND_LOOKS_MAX;
    }

    /// A blob that was said to be mounted is not there: no word of this target about mounts counts any more.
    pub(super) fn lied(&mut self) {
        self.lied = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        name.parse().unwrap()
    }

    fn refused(offers: &mut Offers, from: &str, into: &str, refusal: Refusal) {
        assert!(offers.are_made_into(&repository(into)), "{from} {into}");
        offers.refused(&repository(from), &repository(into), refusal);
    }

    fn granted(offers: &mut Offers, from: &str, into: &str) {
        offers.granted(&repository(from), &repository(into), true);
    }

    #[test]
    fn a_host_that_refuses_three_repositories_and_has_given_none_a_mount_is_offered_no_more() {
        for refusal in [Refusal::Session, Refusal::Error, Refusal::Silence] {
            let mut offers = Offers::default();
            for (from, into) in [("a", "b"), ("a", "c"), ("b", "d")] {
                assert!(offers.are_made() && !offers.are_settled());
                refused(&mut offers, from, into, refusal);
                assert!(!offers.are_made_into(&repository(into)));
            }
            assert!(offers.are_settled() && !offers.are_made());
        }
        let mut offers = Offers::default();
        refused(&mut offers, "a", "b", Refusal::NotLetIn);
        assert!(offers.are_made() && offers.doubt_tokens());
        refused(&mut offers, "b", "c", Refusal::NotLetIn);
        assert!(!offers.are_made());
    }

    #[test]
    fn a_mount_that_goes_well_leaves_each_repository_to_itself() {
        let mut offers = Offers::default();
        refused(&mut offers, "a", "b", Refusal::Error);
        granted(&mut offers, "a", "c");
        assert!(offers.are_settled() && offers.are_trusted());
        refused(&mut offers, "a", "b", Refusal::Error);
        refused(&mut offers, "a", "b", Refusal::Error);
        assert!(!offers.are_made_into(&repository("b")), "it has refused three");
        for into in ["d", "e", "f", "g"] {
            refused(&mut offers, "a", into, Refusal::Error);
        }
        assert!(offers.are_made() && offers.are_made_from(&repository("a")), "others were given theirs");
        granted(&mut offers, "a", "b");
        assert!(offers.are_made_into(&repository("b")));
        (0..9).for_each(|_| refused(&mut offers, "a", "c", Refusal::Session));
        assert!(offers.are_made_into(&repository("c")), "a session costs nothing");
    }

    #[test]
    fn what_nothing_was_ever_mounted_from_gives_way() {
        let mut offers = Offers::default();
        refused(&mut offers, "a", "b", Refusal::Error);
        assert!(offers.are_made_from(&repository("a")));
        refused(&mut offers, "a", "c", Refusal::Error);
        assert!(!offers.are_made_from(&repository("a")) && offers.are_made_from(&repository("b")));
        assert!(offers.are_made());
        granted(&mut offers, "b", "d");
        assert!(!offers.are_made_from(&repository("a")));
    }

    #[test]
    fn offers_without_an_answer_end_in_a_row_of_three() {
        let mut offers = Offers::default();
        granted(&mut offers, "a", "b");
        for _ in 0..4 {
            refused(&mut offers, "a", "c", Refusal::Silence);
            granted(&mut offers, "a", "c");
        }
        for into in ["c", "d", "e"] {
            refused(&mut offers, "a", into, Refusal::Silence);
        }
        assert!(!offers.are_made());
    }

    #[test]
    fn one_lie_ends_all_offers_and_looks_that_nobody_answers_prove_as_much_as_can_be_proven() {
        let mut offers = Offers::default();
        for _ in 0..3 {
            assert!(!offers.are_trusted());
            offers.granted(&repository("a"), &repository("b"), false);
            offers.looked_in_vain();
        }
        assert!(offers.are_trusted() && offers.are_settled());
        offers.lied();
        assert!(!offers.are_made() && !offers.are_made_into(&repository("b")));
    }
}
