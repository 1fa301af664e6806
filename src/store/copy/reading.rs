//! The place that a blob is read from, and which is next where one fails.

use super::BlobOrder;
use crate::error::{Error, Kind, Side};
use crate::store::Origin;

/// Most repositories of one host that a blob is tried to be read from with all patience.
const REPOSITORIES_MAX: usize = 2;

/// Where the blob is read from, and how.
pub(super) struct Reading {
    /// The first is the one that is read from.
    pub sources: Vec<Origin>,
    pub past_caches: bool,
    /// Hosts of the places that were tried with all patience and given up.
    given_up: Vec<String>,
    /// Most of one host that are tried so.
    repositories_max: usize,
}

impl Reading {
    pub(super) fn new(order: &BlobOrder) -> Self {
        let repositories_max = if order.tried_before { 1 } else { REPOSITORIES_MAX };
        Self { sources: order.sources.to_vec(), past_caches: false, given_up: Vec::new(), repositories_max }
    }

    /// Whether there is another way to read it, at once and besides all patience: once past all caches, since a copy in
    /// one of them may be damaged; and where several repositories have the blob, one that fails for good is passed
    /// over. What might have passed, and did not, is its host's trouble.
    pub(super) fn otherwise(&mut self, error: &Error) -> bool {
        if error.side != Side::Source {
            return false;
        }
        if error.kind == Kind::Corrupt && !std::mem::replace(&mut self.past_caches, true) {
            return true;
        }
        let another = !error.kind.may_pass() && self.sources.len() > 1;
        if another {
            self.sources.remove(0);
        }
        another
    }

    /// Gives up the place that was read from with all patience. Other hosts come next. A host that is out of reach is so
    /// for all of its repositories; of one that answers another repository may be in no trouble: one more is tried.
    pub(super) fn turn_to_another(&mut self, error: &Error) -> bool {
        if error.side != Side::Source {
            return false;
        }
        let failed = self.sources.remove(0).host().to_owned();
        self.given_up.push(failed.clone());
        let tried = self.given_up.iter().filter(|host| **host == failed).count();
        let (same, mut others): (Vec<Origin>, Vec<Origin>) =
            self.sources.drain(..).partition(|origin| origin.host() == failed);
        if !error.is_out_of_reach() && tried < self.repositories_max {
            others.extend(same);
        }
        self.sources = others;
        !self.sources.is_empty()
    }
}
