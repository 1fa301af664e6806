//! How much is under way at the target.

use super::lanes::Lane;

/// Most things that are under way until the target is seen to take blobs.
const UNTIL_FIRST_BLOB: usize = 8;

#[derive(Debug)]
pub(super) struct Load {
    /// Most small things at a time.
    small_max: usize,
    large: usize,
    small: usize,
}

impl Load {
    pub(super) fn new(small_max: usize) -> Self {
        Self { small_max, large: 0, small: 0 }
    }

    /// A blob begins in its lane, or manifests in the small one.
    pub(super) fn began(&mut self, lane: Lane) {
        *self.of(lane) += 1;
    }

    pub(super) fn ended(&mut self, lane: Lane) {
        *self.of(lane) -= 1;
    }

    fn of(&mut self, lane: Lane) -> &mut usize {
        match lane {
            Lane::Large => &mut self.large,
            Lane::Small => &mut self.small,
        }
    }

    pub(super) fn has_room_for_small(&self) -> bool {
        self.small < self.small_max
    }

    /// Whether one more large blob may begin where so many of them are allowed.
    pub(super) fn has_room_for_large(&self, allowed: usize) -> bool {
        self.large < allowed
    }

    /// Whether that is as much as a target gets that may take none.
    pub(super) fn is_enough_for_a_stranger(&self) -> bool {
        self.large + self.small >= UNTIL_FIRST_BLOB
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.large + self.small == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_has_room_of_its_own_and_a_target_that_may_take_nothing_gets_little_of_both() {
        let mut load = Load::new(12);
        (0..12).for_each(|_| load.began(Lane::Small));
        assert!(!load.has_room_for_small() && load.has_room_for_large(1));
        load.began(Lane::Large);
        assert!(!load.has_room_for_large(1) && load.has_room_for_large(2));
        load.ended(Lane::Small);
        assert!(load.has_room_for_small() && load.is_enough_for_a_stranger());
        (0..5).for_each(|_| load.ended(Lane::Small));
        assert_eq!((load.large, load.small), (1, 6));
        assert!(!load.is_enough_for_a_stranger() && !load.is_nothing());
        (0..6).for_each(|_| load.ended(Lane::Small));
        load.ended(Lane::Large);
        assert!(load.is_nothing());
    }
}
