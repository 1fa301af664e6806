//! How much is under way at the target.

use super::Limits;
use super::lanes::Lane;

/// Most things that are under way until the target is seen to take blobs.
const UNTIL_FIRST_BLOB: usize = 8;
/// Most mounts that are under way until one is seen to go well: the others would wait for its answer, in lanes that blobs
/// can use meanwhile.
const UNTIL_FIRST_MOUNT: usize = 4;

#[derive(Debug)]
pub(super) struct UnderWay {
    limits: Limits,
    large: usize,
    small: usize,
    /// Mounts among the small things.
    mounts: usize,
}

impl UnderWay {
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
        let mut under_way = UnderWay::new(Limits::for_images(NonZeroUsize::MIN));
        (0..12).for_each(|_| under_way.began(Lane::Small));
        assert!(!under_way.has_room_for_small(REQUESTS_PER_HOST) && under_way.has_room_for_large(1));
        under_way.began(Lane::Large);
        assert!(!under_way.has_room_for_large(1) && under_way.has_room_for_large(2));
        under_way.ended(Lane::Small);
        assert!(under_way.has_room_for_small(REQUESTS_PER_HOST) && under_way.is_enough_for_a_stranger());
        (0..5).for_each(|_| under_way.ended(Lane::Small));
        assert_eq!((under_way.large, under_way.small), (1, 6));
        assert!(!under_way.is_enough_for_a_stranger() && !under_way.is_nothing());
        (0..6).for_each(|_| under_way.ended(Lane::Small));
        under_way.ended(Lane::Large);
        assert!(under_way.is_nothing());
        (0..UNTIL_FIRST_MOUNT).for_each(|_| under_way.began_mount());
        assert!(under_way.has_mounts_to_learn_from() && under_way.has_room_for_small(REQUESTS_PER_HOST));
        under_way.ended_mount();
        assert!(!under_way.has_mounts_to_learn_from() && !under_way.is_nothing());
    }
}
