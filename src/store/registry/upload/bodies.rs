//! What a target takes in one body.

use std::collections::HashSet;

use reqwest::header::HeaderMap;

use crate::image::reference::Repository;

/// Bytes of a piece at first: what the pickiest of the large registries takes.
const PIECE: u64 = 4 << 20;
/// Smaller pieces than this are not tried, in bytes.
const PIECE_MIN: u64 = 256 << 10;
/// No piece is larger than this, in bytes, whatever is wished: each is held in memory.
const PIECE_MAX: u64 = 16 << 20;

/// Repositories that take no pieces, where none has taken any, until none is sent any more.
const NO_PIECES_MAX: usize = 3;

/// How a blob is sent. It stays so until the upload ends, whatever is learned meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    /// Of so many bytes, but for the last one.
    Pieces(u64),
}

impl Way {
    /// The most bytes that one body of a blob of `size` bytes has.
    pub(super) fn body(self, size: u64) -> u64 {
        match self {
            Way::Whole => size,
            Way::Pieces(length) => size.min(length),
        }
    }
}

/// What follows from the refusal of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lesson {
    /// There is no other way to send it.
    NoWay,
    /// The way is another by now.
    Known,
    /// From now on in pieces.
    Pieces,
    /// From now on in smaller pieces, of so many bytes.
    Smaller(u64),
}

#[derive(Debug)]
pub(super) struct Bodies {
    /// Bytes.
    limit: u64,
    /// Bytes of the smallest piece that it wants, but for the last one of a blob.
    least: u64,
    /// Bytes of the largest body that it has taken.
    taken: u64,
    /// It has taken a blob in one body.
    takes_wholes: bool,
    /// It has taken a blob in pieces.
    takes_pieces: bool,
    /// Repositories that do not take pieces.
    no_pieces: HashSet<Repository>,
    /// It takes pieces alone, however small the blob is.
    pieces_only: bool,
}

impl Default for Bodies {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            least: PIECE_MIN,
            taken: 0,
            takes_wholes: false,
            takes_pieces: false,
            no_pieces: HashSet::new(),
            pieces_only: false,
        }
    }
}

impl Bodies {
    /// How a blob of `size` bytes is to be sent into `repository`.
    pub(super) fn way(&self, repository: &Repository, size: u64) -> Way {
        let limit = self.limit();
        let wants_pieces = size > limit || self.pieces_only;
        if wants_pieces && !self.no_pieces.contains(repository) {
            Way::Pieces(limit.min(PIECE_MAX))
        } else {
            Way::Whole
        }
    }

    fn limit(&self) -> u64 {
        self.limit.max(self.least)
    }

    /// Whether pieces are of no use in `repository`, or nowhere.
    fn has_no_pieces(&self, repository: &Repository) -> bool {
        self.no_pieces.contains(repository) || self.no_pieces.len() >= NO_PIECES_MAX
    }

    /// A blob of `size` bytes was taken.
    pub(super) fn note_taken(&mut self, way: Way, size: u64) {
        self.taken = self.taken.max(way.body(size));
        match way {
            Way::Whole => self.takes_wholes = true,
            Way::Pieces(_) => self.takes_pieces = true,
        }
    }

    /// Whether it has taken a body of `bytes` or more before: that one is refused need not be for its size.
    pub(super) fn has_taken(&self, bytes: u64) -> bool {
        bytes <= self.taken
    }

    /// Notes how small pieces may be by the answer to the start of an upload (distribution-spec, "Pushing a blob in
    /// chunks", `OCI-Chunk-Min-Length`).
    pub(super) fn note_least(&mut self, headers: &HeaderMap) {
        let said = headers.get("oci-chunk-min-length").and_then(|l| l.to_str().ok()?.trim().parse().ok());
        if let Some(least) = said.filter(|least| *least <= PIECE_MAX) {
            self.least = self.least.max(least);
        }
    }

    /// A body of `tried` bytes was refused for its size, or broke off for no other reason that is known.
    pub(super) fn refuse_size(&mut self, repository: &Repository, tried: u64) -> Lesson {
        let limit = self.limit();
        if self.has_no_pieces(repository) {
            return Lesson::NoWay;
        }
        if tried > limit {
            // It was on its way when another one was refused: that smaller ones are too large is not known yet.
            return Lesson::Known;
        }
        let usual = PIECE.max(self.least);
        let next = if tried > usual { usual } else { tried / 2 };
        if next < self.least {
            return Lesson::NoWay;
        }
        let news = if self.limit == u64::MAX { Lesson::Pieces } else { Lesson::Smaller(next) };
        self.limit = self.limit.min(next);
        news
    }

    /// A piece was refused as a piece. True if a whole may be tried again: pieces that have made a blob before are no
    /// reason to. It concerns `repository`, until a few have none.
    pub(super) fn refuse_pieces(&mut self, repository: &Repository) -> bool {
        if self.takes_pieces {
            return false;
        }
        let in_pieces = self.limit < u64::MAX && !self.has_no_pieces(repository);
        self.no_pieces.insert(repository.clone());
        if self.no_pieces.len() >= NO_PIECES_MAX {
            self.limit = u64::MAX;
            self.pieces_only = false;
        }
        in_pieces
    }

    /// The target has lost one session after the other that got a blob in one body. [`Lesson::NoWay`] if that cannot be
    /// why: JFrog's answers 404 to such a body, and takes the same bytes by PATCH.
    pub(super) fn refuse_wholes(&mut self, repository: &Repository) -> Lesson {
        if self.takes_wholes
            || self.has_no_pieces(repository)
            || std::mem::replace(&mut self.pieces_only, true)
        {
            return Lesson::NoWay;
        }
        self.limit = self.limit.min(PIECE);
        Lesson::Pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn a() -> Repository {
        "a".parse().unwrap()
    }

    #[test]
    fn a_refused_whole_goes_in_pieces_and_refused_pieces_get_smaller_down_to_the_least() {
        let mut bodies = Bodies::default();
        assert_eq!(bodies.way(&a(), 100 * MIB), Way::Whole);
        assert_eq!(bodies.refuse_size(&a(), 100 * MIB), Lesson::Pieces);
        assert_eq!(bodies.way(&a(), 100 * MIB), Way::Pieces(4 * MIB));
        assert_eq!(bodies.way(&a(), 3 * MIB), Way::Whole);
        assert_eq!(bodies.refuse_size(&a(), 90 * MIB), Lesson::Known, "it was on its way");
        assert_eq!(bodies.refuse_size(&a(), 4 * MIB), Lesson::Smaller(2 * MIB));
        for length in [2 * MIB, MIB, MIB / 2] {
            assert_eq!(bodies.refuse_size(&a(), length), Lesson::Smaller(length / 2));
        }
        assert_eq!(bodies.refuse_size(&a(), MIB / 4), Lesson::NoWay);
    }

    #[test]
    fn no_piece_is_larger_than_memory_allows() {
        let mut bodies = Bodies { pieces_only: true, ..Bodies::default() };
        assert_eq!(bodies.way(&a(), 600 * MIB), Way::Pieces(PIECE_MAX));
        let wish = |least: u64| {
            HeaderMap::from_iter([(
                "oci-chunk-min-length".parse().unwrap(),
                least.to_string().parse().unwrap(),
            )])
        };
        bodies.note_least(&wish(u64::MAX));
        bodies.note_least(&wish(5 * MIB));
        bodies.refuse_size(&a(), 600 * MIB);
        assert_eq!(bodies.way(&a(), 600 * MIB), Way::Pieces(5 * MIB));
    }

    #[test]
    fn pieces_that_are_refused_at_first_are_given_up_for_a_whole_once() {
        let mut bodies = Bodies::default();
        bodies.refuse_size(&a(), 9 * MIB);
        assert!(bodies.refuse_pieces(&a()) && !bodies.refuse_pieces(&a()));
        assert_eq!(bodies.way(&a(), 9 * MIB), Way::Whole);
        assert_eq!(bodies.refuse_size(&a(), 9 * MIB), Lesson::NoWay);
    }

    #[test]
    fn pieces_that_one_repository_refuses_are_sent_to_others_until_three_have_refused_them() {
        let mut bodies = Bodies::default();
        bodies.refuse_size(&a(), 9 * MIB);
        for name in ["a", "b", "c"] {
            let repository = name.parse().unwrap();
            assert_eq!(bodies.way(&repository, 9 * MIB), Way::Pieces(PIECE));
            assert!(bodies.refuse_pieces(&repository));
            assert_eq!(bodies.way(&repository, 9 * MIB), Way::Whole);
            assert_eq!(bodies.refuse_size(&repository, 9 * MIB), Lesson::NoWay);
        }
        let d = "d".parse().unwrap();
        assert_eq!((bodies.way(&d, 9 * MIB), bodies.refuse_size(&d, 9 * MIB)), (Way::Whole, Lesson::NoWay));
    }

    #[test]
    fn pieces_that_have_worked_stay_known_to_work() {
        let mut bodies = Bodies::default();
        bodies.refuse_size(&a(), 9 * MIB);
        let way = bodies.way(&a(), 9 * MIB);
        bodies.note_taken(way, 9 * MIB);
        assert!(!bodies.refuse_pieces(&a()));
        assert_eq!(bodies.way(&a(), 9 * MIB), way);
        assert!(bodies.has_taken(4 * MIB) && !bodies.has_taken(5 * MIB));
    }

    #[test]
    fn wholes_are_given_up_for_lost_sessions_only_where_none_was_ever_taken() {
        let mut bodies = Bodies::default();
        assert_eq!(bodies.refuse_wholes(&a()), Lesson::Pieces);
        assert_eq!(bodies.way(&a(), 7), Way::Pieces(PIECE));
        assert_eq!(bodies.refuse_wholes(&a()), Lesson::NoWay);
        let mut bodies = Bodies::default();
        bodies.note_taken(Way::Whole, 7);
        assert_eq!((bodies.refuse_wholes(&a()), bodies.way(&a(), 7)), (Lesson::NoWay, Way::Whole));
    }
}
