//! What a target was seen to do with uploads and mounts, and what follows from it for the next one.

/// Mounts that were refused in a row, until no more are tried.
const REFUSALS_MAX: u32 = 3;
/// Questions that were not answered in a row, until nothing mentions a mount any more.
const UNANSWERED_MAX: i32 = 3;
/// Most failures that the good answers before them make up for.
const CREDIT_MAX: i32 = 10;

/// What the answer to the start of an upload shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observation {
    /// It answered the question whether it has a blob: there it was, or not.
    Asked { there: bool },
    /// It mounted a blob that was known to be in another repository, or would not.
    Mounted(bool),
    /// It answers an upload that mentions a mount with an error.
    Objects,
    /// It gives no answer to the offer of a mount, or none that can be used.
    Unanswered,
    /// The same for the question whether it has a blob.
    Unheard,
    /// It began an upload that does not mention one.
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
    /// Nothing that mentions a mount is sent any more.
    objects: bool,
    mounts_proven: bool,
    refusals: u32,
    /// In a row; below zero are good answers before, which make up for as many.
    unanswered: i32,
}

impl Capabilities {
    pub(super) fn observe(&mut self, observation: Observation) {
        self.accepts |=
            !matches!(observation, Observation::Objects | Observation::Unanswered | Observation::Unheard);
        if matches!(observation, Observation::Asked { .. } | Observation::Mounted(_)) {
            self.unanswered = (self.unanswered.min(0) - 1).max(-CREDIT_MAX);
        }
        match observation {
            Observation::Accepts => {}
            Observation::Asked { there } => self.lacks = !there,
            Observation::Mounted(true) => {
                self.mounts_proven = true;
                self.refusals = 0;
            }
            Observation::Mounted(false) | Observation::Unanswered => self.refusals += 1,
            Observation::Unheard => self.unanswered += 1,
            Observation::Objects => self.objects = true,
        }
    }

    /// Whether what mentions a mount is sent at all.
    pub(super) fn mounts(&self) -> bool {
        !self.objects && self.refusals < REFUSALS_MAX && self.unanswered < UNANSWERED_MAX
    }

    /// Whether uploads need no longer wait for each other: until the target has taken one, its answer decides how
    /// others are begun, and one that takes none is not asked a hundred times at once.
    pub(super) fn uploads_are_settled(&self) -> bool {
        self.accepts
    }

    /// Whether mounts need no longer wait for each other: one has succeeded, or there will be none.
    pub(super) fn mounts_are_settled(&self) -> bool {
        self.mounts_proven || !self.mounts()
    }

    /// How to begin the upload of a blob that another repository is known to have, or not.
    pub(super) fn opening(&self, known_elsewhere: bool) -> Opening {
        match known_elsewhere {
            _ if !self.mounts() => Opening::Plain,
            true => Opening::Mount,
            false => Opening::Ask,
        }
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

    #[test]
    fn mounts_wait_for_each_other_until_one_succeeds_and_stop_after_three_refusals() {
        let mut seen = Capabilities::default();
        for _ in 0..3 {
            assert!(!seen.mounts_are_settled());
            assert_eq!(seen.opening(true), Opening::Mount);
            seen.observe(Observation::Mounted(false));
        }
        assert!(seen.mounts_are_settled());
        assert_eq!((seen.opening(true), seen.opening(false)), (Opening::Plain, Opening::Plain));
    }

    #[test]
    fn a_mount_that_succeeds_opens_the_way_for_all_and_forgives_refusals() {
        let mut seen = Capabilities::default();
        seen.observe(Observation::Mounted(false));
        seen.observe(Observation::Mounted(true));
        assert!(seen.mounts_are_settled());
        seen.observe(Observation::Mounted(false));
        seen.observe(Observation::Mounted(false));
        assert!(seen.mounts());
    }

    #[test]
    fn a_good_answer_forgets_those_that_did_not_come_and_makes_up_for_another() {
        let mut seen = Capabilities::default();
        for _ in 0..5 {
            (0..3).for_each(|_| seen.observe(Observation::Asked { there: false }));
            (0..5).for_each(|_| seen.observe(Observation::Unheard));
            assert!(seen.mounts());
        }
        seen.observe(Observation::Unheard);
        assert!(!seen.mounts());
    }

    #[test]
    fn uploads_wait_for_each_other_until_one_is_taken() {
        let mut seen = Capabilities::default();
        assert!(!seen.uploads_are_settled());
        seen.observe(Observation::Objects);
        assert!(!seen.uploads_are_settled() && seen.mounts_are_settled());
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
