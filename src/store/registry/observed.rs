//! What a host was seen to do, where the answer to one request saves others.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a host was seen to do so far.
#[derive(Debug, Default)]
pub(super) struct Observed {
    lists_referrers: AtomicBool,
    no_referrers_api: AtomicBool,
}

impl Observed {
    /// Whether it has listed what refers to a manifest (distribution-spec, "Listing Referrers").
    pub(super) fn lists_referrers(&self) -> bool {
        self.lists_referrers.load(Ordering::Relaxed)
    }

    pub(super) fn note_list(&self) {
        self.lists_referrers.store(true, Ordering::Relaxed);
    }

    /// Whether it is of no use to ask it for such a list.
    pub(super) fn has_no_referrers_api(&self) -> bool {
        self.no_referrers_api.load(Ordering::Relaxed)
    }

    /// Notes that it does not know of such lists; true if that is news.
    pub(super) fn note_no_referrers_api(&self) -> bool {
        !self.no_referrers_api.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_news_once() {
        let observed = Observed::default();
        assert!(!observed.lists_referrers() && !observed.has_no_referrers_api());
        assert!(observed.note_no_referrers_api() && !observed.note_no_referrers_api());
        observed.note_list();
        assert!(observed.lists_referrers() && observed.has_no_referrers_api());
    }
}
