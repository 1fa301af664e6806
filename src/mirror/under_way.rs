//! How much is under way at the target.

use super::lanes::Lane;

/// Most things that are under way until the target is seen to take blobs.
const UNTIL_FIRST_BLOB: usize = 8;

#[derive(Debug)]
pub(super) struct UnderWay {
    /// Most small things at a time.
    small_max: usize,
    large: usize,
    small: usize,
}

impl UnderWay {
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
        let mut under_way = UnderWay::new(12);
        (0..12).for_each(|_| under_way.began(Lane::Small));
        assert!(!under_way.has_room_for_small() && under_way.has_room_for_large(1));
        under_way.began(Lane::Large);
        assert!(!under_way.has_room_for_large(1) && under_way.has_room_for_large(2));
        under_way.ended(Lane::Small);
        assert!(under_way.has_room_for_small() && under_way.is_enough_for_a_stranger());
        (0..5).for_each(|_| under_way.ended(Lane::Small));
        assert_eq!((under_way.large, under_way.small), (1, 6));
        assert!(!under_way.is_enough_for_a_stranger() && !under_way.is_nothing());
        (0..6).for_each(|_| under_way.ended(Lane::Small));
        under_way.ended(Lane::Large);
        assert!(under_way.is_nothing());
    }
}
