//! Images that have been resolved enter the run.

use super::Run;
use crate::events::Outcome;
use crate::image::manifest::Extent;
use crate::plan::{DeliveryId, Found, ImageId, News, State};

impl Run {
    pub(super) fn on_news(&mut self, news: News) {
        match news {
            News::Found(image, found) => self.admit(image, found),
            News::Joined(image) => {
                let deliveries = self.resolution.request(image).destinations.len();
                self.tally.expect(deliveries.cast_signed());
            }
            News::Held(repository, blobs) => {
                let repository = self.plan.ledger.repository_id(&repository);
                self.before.note_repository(repository);
                for (digest, size) in blobs {
                    let (spared, steps) = self.plan.ledger.held_before(&digest, size, repository);
                    spared.into_iter().for_each(|blob| self.announce(blob, false));
                    self.take(steps);
                }
            }
        }
        if self.resolution.is_over() {
            self.give_up_lost();
        }
        self.judge_target();
    }

    /// Takes in an image that has been resolved.
    fn admit(&mut self, image: ImageId, found: Found) {
        let request = self.resolution.request(image).clone();
        if let Some(contents) = &found.contents {
            self.contents.insert(image, contents.clone());
        }
        let left_out = request.destinations.len() - found.states.len();
        self.note_lacking(&request, &found.states);
        let admitted = self.plan.admit(&request, found);
        if admitted.tree.is_some() {
            self.resolution.look_for_held();
        }
        for blob in admitted.news {
            if !self.plan.ledger.is_held(blob) {
                self.announce(blob, true);
            }
        }
        self.deliveries.enter(image, admitted.deliveries.iter().map(|(id, _)| *id));
        if let Some(tree) = admitted.tree {
            let wanted = admitted.deliveries.iter().filter(|(_, state)| state.is_wanted());
            self.on_their_way.enter(image, tree, wanted.map(|(id, _)| *id));
        }
        self.tally.expect(-left_out.cast_signed());
        for (delivery, state) in admitted.deliveries {
            self.take_state(delivery, state);
        }
        self.take(admitted.steps);
        self.tally.resolved(self.resolution.total());
    }

    fn take_state(&mut self, delivery: DeliveryId, state: State) {
        let outcome = match state {
            State::Present(_) => Outcome::Present(Extent::Whole),
            State::Sparse(_) => Outcome::Present(Extent::Sparse),
            State::Trimmed(trimmed) => Outcome::Present(Extent::Trimmed(trimmed)),
            State::Failed(error) => {
                let repository = self.plan.ledger.repository_of(delivery);
                self.refusals.no_answer(&error, repository);
                Outcome::Failed(Box::new(error))
            }
            State::Damaged(damage) => {
                let (number, bytes) = damage.whole();
                self.tally.found(number, bytes);
                return self.refusals.answered();
            }
            State::Missing | State::Partial(_) | State::Different(_) => return self.refusals.answered(),
        };
        if matches!(outcome, Outcome::Present(_)) {
            self.refusals.answered();
        }
        self.settle(delivery, outcome);
    }
}
