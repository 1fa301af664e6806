//! The images of one source on their way to being known, handed out in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::ImageId;
use crate::plan::resolver::Found;

/// So long an image waits for those of its source that were asked for earlier. In their order the first repository that
/// needs a blob is the same in each run, so that what an interrupted one has sent there is found by the next.
const IN_ORDER: Duration = Duration::from_secs(1);

/// Images of one source.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// All that were not handed out, in the order in which they were asked for.
    pub order: BTreeSet<ImageId>,
    /// Those that the source can be asked about now.
    pub waiting: BTreeSet<ImageId>,
    pub under_way: usize,
    /// What has been found, and when, of those that wait for earlier ones.
    pub found: BTreeMap<ImageId, (Instant, Found)>,
}

impl Queue {
    /// How many images take the room of one that is being asked about.
    pub(super) fn occupied(&self) -> usize {
        self.under_way + self.found.len()
    }

    /// The next image that need not wait for those before it any more.
    pub(super) fn next(&mut self) -> Option<(ImageId, Found)> {
        let first = *self.order.first()?;
        let is_late = |(since, _): &(Instant, Found)| since.elapsed() >= IN_ORDER;
        let next = if self.found.contains_key(&first) || self.found.values().any(is_late) {
            self.found.pop_first()
        } else {
            None
        };
        let (id, (_, found)) = next?;
        self.order.remove(&id);
        Some((id, found))
    }

    /// When an image that has been found need not wait any more.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.found.values().map(|(since, _)| *since + IN_ORDER).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ImageId {
        ImageId::new(number)
    }

    fn queue(images: usize, found: &[usize]) -> Queue {
        let nothing = || Found { states: Vec::new(), levels: None, contents: None };
        Queue {
            order: (0..images).map(id).collect(),
            found: found.iter().map(|number| (id(*number), (Instant::now(), nothing()))).collect(),
            ..Queue::default()
        }
    }

    fn handed_out(queue: &mut Queue) -> Vec<ImageId> {
        std::iter::from_fn(|| queue.next()).map(|(id, _)| id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn images_are_handed_out_in_their_order() {
        let mut queue = queue(4, &[0, 1, 3]);
        assert_eq!(handed_out(&mut queue), [id(0), id(1)]);
        assert_eq!(queue.occupied(), 1);
        queue
            .found
            .insert(id(2), (Instant::now(), Found { states: Vec::new(), levels: None, contents: None }));
        assert_eq!(handed_out(&mut queue), [id(2), id(3)]);
        assert_eq!(queue.patience_ends(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_its_time_holds_up_the_others_only_for_a_moment() {
        let mut queue = queue(3, &[1, 2]);
        assert_eq!(handed_out(&mut queue), []);
        tokio::time::advance(queue.patience_ends().expect("some wait") - Instant::now()).await;
        assert_eq!(handed_out(&mut queue), [id(1), id(2)]);
        queue
            .found
            .insert(id(0), (Instant::now(), Found { states: Vec::new(), levels: None, contents: None }));
        assert_eq!(handed_out(&mut queue), [id(0)]);
    }
}
