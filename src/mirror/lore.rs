//! What the target has taught so far, and what follows from it for the next upload.

use super::transfer::{Lesson, Opening};
use crate::events::TransferId;
use crate::reference::Repository;

/// Mounts that were refused in a row, until no more are tried.
const REFUSALS_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Lore {
    /// It has begun an upload, or said that it has the blob. Until then uploads are begun one at a time.
    accepts: bool,
    /// The last such answer was no: most likely it lacks the next one too.
    lacks: bool,
    /// Nothing that mentions a mount is sent any more.
    objects: bool,
    mounts_proven: bool,
    /// The mount whose answer decides whether there will be others.
    probing: Option<TransferId>,
    refusals: u32,
}

impl Lore {
    pub fn learn(&mut self, lesson: Lesson) {
        self.accepts |= !matches!(lesson, Lesson::Objects | Lesson::Unanswered);
        match lesson {
            Lesson::Accepts => {}
            Lesson::Asked { there } => self.lacks = !there,
            Lesson::Mounted(true) => {
                self.mounts_proven = true;
                self.refusals = 0;
                self.probing = None;
            }
            Lesson::Mounted(false) | Lesson::Unanswered => {
                self.refusals += 1;
                self.probing = None;
            }
            Lesson::Objects => {
                self.objects = true;
                self.probing = None;
            }
        }
    }

    pub fn mounts(&self) -> bool {
        !self.objects && self.refusals < REFUSALS_MAX
    }

    /// Until one mount has succeeded, they go one at a time.
    pub fn may_mount_now(&self) -> bool {
        self.mounts() && (self.mounts_proven || self.probing.is_none())
    }

    /// Until the target has taken one, uploads go one at a time: its answer decides how others are begun, and one
    /// that takes none is not asked a hundred times at once.
    pub fn may_upload_now(&self, under_way: usize) -> bool {
        self.accepts || under_way == 0
    }

    /// How to begin the upload of a blob to `repository` that `holder` has already.
    pub fn opening(&self, repository: &Repository, holder: Option<&Repository>) -> Opening {
        match holder {
            _ if !self.mounts() => Opening::Plain,
            Some(holder) if holder != repository => Opening::Mount(holder.clone()),
            _ => Opening::Ask,
        }
    }

    /// Whether to ask the source for the bytes before the target has said that it wants them.
    pub fn hurry(&self, opening: &Opening) -> bool {
        match opening {
            Opening::Plain => true,
            Opening::Ask => self.lacks,
            Opening::Mount(_) => false,
        }
    }

    pub fn began_mount(&mut self, transfer: TransferId) {
        if !self.mounts_proven {
            self.probing = Some(transfer);
        }
    }

    /// A transfer that ended without a lesson must not keep others waiting.
    pub fn ended(&mut self, transfer: TransferId) {
        if self.probing == Some(transfer) {
            self.probing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_go_one_at_a_time_until_one_succeeds_and_stop_after_three_refusals() {
        let mut lore = Lore::default();
        for transfer in 0..3 {
            assert!(lore.may_mount_now());
            lore.began_mount(transfer);
            assert!(!lore.may_mount_now());
            lore.learn(Lesson::Mounted(false));
        }
        assert!(!lore.mounts());
        assert_eq!(lore.opening(&"a".parse().unwrap(), Some(&"b".parse().unwrap())), Opening::Plain);
    }

    #[test]
    fn a_mount_that_succeeds_opens_the_way_for_all() {
        let mut lore = Lore::default();
        lore.began_mount(1);
        lore.learn(Lesson::Mounted(true));
        lore.began_mount(2);
        assert!(lore.may_mount_now());
    }

    #[test]
    fn uploads_go_one_at_a_time_until_one_is_taken() {
        let mut lore = Lore::default();
        assert!(lore.may_upload_now(0) && !lore.may_upload_now(1));
        lore.learn(Lesson::Objects);
        assert!(lore.may_upload_now(0) && !lore.may_upload_now(1));
        lore.learn(Lesson::Accepts);
        assert!(lore.may_upload_now(1));
    }

    #[test]
    fn the_source_is_asked_early_only_where_the_target_lacks_things() {
        let mut lore = Lore::default();
        assert!(!lore.hurry(&Opening::Ask) && lore.hurry(&Opening::Plain));
        lore.learn(Lesson::Asked { there: false });
        assert!(lore.hurry(&Opening::Ask));
        lore.learn(Lesson::Asked { there: true });
        assert!(!lore.hurry(&Opening::Ask));
    }
}
