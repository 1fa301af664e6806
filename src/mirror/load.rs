//! How much is under way at the target.

use super::Limits;
use super::lanes::Lane;

/// Most things that are under way until the target is seen to take blobs.
const UNTIL_FIRST_BLOB: usize = 8;
/// Most mounts that are under way until one is seen to go well: the others would wait for its answer, in lanes that blobs
/// can use meanwhile.
const UNTIL_FIRST_MOUNT: usize = 4;

#[derive(Debug)]
pub(super) struct Load {
    limits: Limits,
    large: usize,
    small: usize,
    /// Mounts among the small things.
    mounts: usize,
}

impl Load {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, large: 0, small: 0, mounts: 0 }
    }

    /// A blob begins in its lane, or manifests in the small one.
    pub(super) fn began(&mut self, lane: Lane) {
        *self.of(lane) += 1;
    }

    pub(super) fn ended(&mut self, lane: Lane) {
        *self.of(lane) -= 1;
    }

    pub(super) fn began_mount(&mut self) {
        self.mounts += 1;
        self.began(Lane::Small);
    }

    pub(super) fn ended_mount(&mut self) {
        self.mounts -= 1;
        self.ended(Lane::Small);
    }

    fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Large => &mut self.large,
            Lane::Small => &mut self.small,
        }
    }

    /// Whether one more small thing may begin at a target that may be busy with so many requests.
    pub(super) fn has_room_for_small(&self, requests_at_a_time: usize) -> bool {
        self.small < self.limits.small_for(requests_at_a_time)
    }

    /// Whether one more large blob may begin where so many of them are allowed.
    pub(super) fn has_room_for_large(&self, allowed: usize) -> bool {
        self.large < allowed
    }

    /// Whether that is as much as a target gets that may take none.
    pub(super) fn is_enough_for_a_stranger(&self) -> bool {
        self.large + self.small >= UNTIL_FIRST_BLOB
    }

    /// The same of mounts, at one that has given none.
    pub(super) fn has_mounts_to_learn_from(&self) -> bool {
        self.mounts >= UNTIL_FIRST_MOUNT
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.large + self.small == 0
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::store::registry::REQUESTS_PER_HOST;

    #[test]
    fn each_lane_has_room_of_its_own_and_a_target_that_may_take_nothing_gets_little_of_both() {
        let mut load = Load::new(Limits::for_images(NonZeroUsize::MIN));
        (0..12).for_each(|_| load.began(Lane::Small));
        assert!(!load.has_room_for_small(REQUESTS_PER_HOST) && load.has_room_for_large(1));
        load.began(Lane::Large);
        assert!(!load.has_room_for_large(1) && load.has_room_for_large(2));
        load.ended(Lane::Small);
        assert!(load.has_room_for_small(REQUESTS_PER_HOST) && load.is_enough_for_a_stranger());
        (0..5).for_each(|_| load.ended(Lane::Small));
        assert_eq!((load.large, load.small), (1, 6));
        assert!(!load.is_enough_for_a_stranger() && !load.is_nothing());
        (0..6).for_each(|_| load.ended(Lane::Small));
        load.ended(Lane::Large);
        assert!(load.is_nothing());
        (0..UNTIL_FIRST_MOUNT).for_each(|_| load.began_mount());
        assert!(load.has_mounts_to_learn_from() && load.has_room_for_small(REQUESTS_PER_HOST));
        load.ended_mount();
        assert!(!load.has_mounts_to_learn_from() && !load.is_nothing());
    }
}
