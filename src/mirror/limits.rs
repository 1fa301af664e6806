//! How much may be under way at once.

use std::num::NonZeroUsize;

use crate::events::Listener;
use crate::plan::Rules;
use crate::store::registry::REQUESTS_PER_HOST;
use crate::store::{Inspector, Target};

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Large blobs.
    pub large: NonZeroUsize,
    /// Small blobs, mounts and manifests: requests rather than transfers. Also the resolver that one host is asked.
    pub small: NonZeroUsize,
    /// Most of the small ones, however far away the target is.
    most_small: usize,
}

impl Limits {
    /// `parallel` images at a time have about so many blobs under way. Each large one costs about a MiB of memory;
    /// ten fill a fast line, so beyond them their number grows more slowly.
    pub fn for_images(parallel: NonZeroUsize) -> Self {
        const TEN: NonZeroUsize = NonZeroUsize::new(10).unwrap();
        const TWELVE: NonZeroUsize = NonZeroUsize::new(12).unwrap();
        const MOST: NonZeroUsize = NonZeroUsize::new(128).unwrap();
        let beyond_ten = parallel.get().saturating_sub(10);
        let large = parallel.min(TEN).saturating_add(beyond_ten / 3);
        Self { large, small: parallel.saturating_mul(TWELVE).min(MOST), most_small: usize::MAX }
    }

    /// How many small ones go at once to a target that may be busy with so many requests.
    pub(crate) fn small_for(self, requests_at_a_time: usize) -> usize {
        let small = self.small.get().saturating_mul(requests_at_a_time) / REQUESTS_PER_HOST;
        small.clamp(1, self.most_small)
    }

    /// Whoever looks at blobs that should be at the target, if `rules` want that.
    pub(crate) fn inspector(self, target: &Target, rules: Rules, listener: &Listener) -> Option<Inspector> {
        let depth = rules.deep?;
        Some(Inspector::new(target.clone(), depth, self.large, self.small, listener.clone()))
    }

    /// The same where only so many files may be open: a transfer has two connections, and idle ones stay open for a
    /// while.
    #[must_use]
    pub fn within(self, open_files: u64) -> Self {
        let transfers = usize::try_from(open_files.saturating_sub(24) / 2).unwrap_or(usize::MAX);
        let at_most = |limit: NonZeroUsize, most: usize| {
            limit.min(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN))
        };
        let most_small = (transfers / 2).max(1);
        Self { large: at_most(self.large, transfers / 4), small: at_most(self.small, most_small), most_small }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distant_target_gets_more_small_things_at_once_within_what_may_be_open() {
        let limits = Limits::for_images(NonZeroUsize::new(10).unwrap());
        assert_eq!(limits.small_for(REQUESTS_PER_HOST), limits.small.get());
        assert_eq!(limits.small_for(2 * REQUESTS_PER_HOST), 2 * limits.small.get());
        for open_files in [0, 64, 256, 1024] {
            let within = limits.within(open_files);
            let most = usize::try_from(open_files / 4).unwrap().max(1);
            assert!((1..=most).contains(&within.small_for(2 * REQUESTS_PER_HOST)), "{open_files}");
        }
    }
}
