//! Callbacks at a given request, for harnesses that kill or stop something then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Act = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct Hooks {
    seen: AtomicUsize,
    acts: Mutex<Vec<(usize, Act)>>,
}

impl Hooks {
    /// Counts from now, so that a second run can be hooked as well.
    pub fn at_request(&self, k: usize, act: impl FnOnce() + Send + 'static) {
        let at = self.seen.load(Ordering::SeqCst) + k;
        self.acts.lock().expect("no hook panics here").push((at, Box::new(act)));
    }

    pub fn arrived(&self) {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let mut acts = self.acts.lock().expect("no hook panics here");
        let due: Vec<_> = acts.extract_if(.., |(at, _)| *at == seen).collect();
        drop(acts);
        due.into_iter().for_each(|(_, act)| act());
    }
}
