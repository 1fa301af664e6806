//! A gate before something that is tried by one, while the others wait for what it shows.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::image::reference::Repository;

/// An answer that takes longer is not waited for alone: another repository is tried beside it.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Whoever comes first probes, the others wait for its answer. A probe that ends or is dropped without an answer lets
/// the next one probe. One slow repository is no probe for all: a probe without an answer for [`ANSWER_MAX`] lets one
/// other repository probe beside it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    last_id: u64,
    probes: Vec<(u64, Repository, Instant)>,
}

/// Being the one whose answer others wait for; dropped, it is someone else's turn.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    gate: &'a Gate,
    id: u64,
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.gate.state.send_modify(|state| state.probes.retain(|(id, ..)| *id != self.id));
    }
}

impl Gate {
    /// Nobody waits any more.
    pub(super) fn open(&self) {
        self.state.send_if_modified(|state| !std::mem::replace(&mut state.open, true));
    }

    /// Waits until the gate is open (`None`), or it is the turn of `repository` to probe.
    pub(super) async fn enter(&self, repository: &Repository) -> Option<Probe<'_>> {
        let mut changes = self.state.subscribe();
        loop {
            // Looked at before the try: whatever changes after this ends the wait.
            let due = changes.borrow_and_update().due(repository);
            let mut entry = None;
            self.state.send_if_modified(|state| {
                entry = state.enter(repository);
                // Nobody may do more for it than before.
                false
            });
            match entry {
                Some(Entry::Open) => return None,
                Some(Entry::Probe(id)) => return Some(Probe { gate: self, id }),
                None => {}
            }
            // The sender lives in self: it cannot be gone.
            match due {
                Some(due) => _ = timeout_at(due, changes.changed()).await,
                None => _ = changes.changed().await,
            }
        }
    }
}

enum Entry {
    Open,
    Probe(u64),
}

impl State {
    fn enter(&mut self, repository: &Repository) -> Option<Entry> {
        if self.open {
            return Some(Entry::Open);
        }
        let overdue = self.probes.last().is_none_or(|(_, _, since)| since.elapsed() >= ANSWER_MAX);
        if !overdue || self.is_probing(repository) {
            return None;
        }
        self.last_id += 1;
        self.probes.push((self.last_id, repository.clone(), Instant::now()));
        Some(Entry::Probe(self.last_id))
    }

    fn is_probing(&self, repository: &Repository) -> bool {
        self.probes.iter().any(|(_, other, _)| other == repository)
    }

    /// When `repository` may probe beside those that do, if they go on without an answer.
    fn due(&self, repository: &Repository) -> Option<Instant> {
        let (.., since) = self.probes.last()?;
        (!self.is_probing(repository)).then(|| *since + ANSWER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    fn repository(n: usize) -> Repository {
        format!("r{n}").parse().unwrap()
    }

    /// Enters from `0..count`, each from a repository of its own; how many probed when, in seconds, if each takes
    /// `takes` and tells nothing.
    async fn probe_all(count: usize, takes: Duration) -> Vec<u64> {
        let gate = Arc::new(Gate::default());
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for n in 0..count {
            let gate = gate.clone();
            tasks.spawn(async move {
                let probe = gate.enter(&repository(n)).await;
                let entered = began.elapsed().as_secs();
                assert!(probe.is_some());
                sleep(takes).await;
                entered
            });
        }
        let mut entered = tasks.join_all().await;
        entered.sort_unstable();
        entered
    }

    #[tokio::test(start_paused = true)]
    async fn probes_without_an_answer_follow_one_another() {
        assert_eq!(probe_all(4, Duration::from_secs(2)).await, [0, 2, 4, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_probe_lets_one_further_repository_probe_beside_it() {
        assert_eq!(probe_all(4, Duration::from_secs(100)).await, [0, 3, 6, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_lets_all_pass_at_once() {
        let gate = Arc::new(Gate::default());
        let probe = gate.enter(&repository(0)).await;
        assert!(probe.is_some());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move {
                let began = Instant::now();
                assert!(gate.enter(&repository(1)).await.is_none());
                began.elapsed()
            }
        });
        sleep(Duration::from_secs(1)).await;
        gate.open();
        assert_eq!(waiting.await.unwrap(), Duration::from_secs(1));
        assert!(gate.enter(&repository(0)).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_repository_that_probes_slowly_does_not_probe_twice() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(&repository(0)).await;
        let second = tokio::time::timeout(Duration::from_secs(60), gate.enter(&repository(0))).await;
        assert!(second.is_err(), "it waits for its own answer");
        drop(first);
        assert!(gate.enter(&repository(0)).await.is_some());
    }
}
