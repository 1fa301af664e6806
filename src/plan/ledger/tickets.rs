//! Tickets: how each is carried out, and what follows from how that ended.

use super::states::{BlobState, DeliveryState, Errand, Need, NeedState, What};
use super::{Failure, How, Ledger, Step, Ticket, Turn};
use crate::plan::ids::{BlobId, DeliveryId, RepositoryId};
use crate::store::Holds;

impl<E: Clone> Ledger<E> {
    /// The step that a need which waits can take now, if any.
    pub(super) fn bring(&mut self, ticket: Ticket, at: usize) -> Option<Step<E>> {
        let must_send = self.is_distrusted(ticket);
        let blob = &mut self.blobs[ticket.blob.index()];
        let (what, step) = match &blob.state {
            BlobState::Held { .. } => (What::Mount, Step::Mount(ticket)),
            BlobState::Wanted => (What::Send, Step::Send(ticket)),
            BlobState::Lost(failure) if !failure.lasting && !self.lost.contains(&ticket.blob) => {
                (What::Send, Step::Send(ticket))
            }
            // What carries it, or another source, will wake those who wait.
            BlobState::Moving | BlobState::Lost(_) => return None,
        };
        if matches!(step, Step::Send(_)) {
            blob.state = BlobState::Moving;
        }
        let what = if must_send { What::MustSend } else { what };
        blob.needs[at].state = NeedState::Moving(Errand::to(what));
        Some(step)
    }

    /// A ticket's turn has come.
    pub(crate) fn begin(&mut self, ticket: Ticket) -> Turn<E> {
        let at = self.need_at(ticket);
        let blob = &self.blobs[ticket.blob.index()];
        let need = &blob.needs[at];
        let NeedState::Moving(errand) = need.state else { return Turn::Pass(Vec::new()) };
        if !need.deliveries.iter().any(|delivery| self.waits(*delivery, ticket.blob)) {
            return Turn::Pass(self.abandon(ticket, at));
        }
        let is_distrusted = self.is_distrusted(ticket);
        let how = match blob.state {
            BlobState::Held { by, ours } if errand.what != What::MustSend => How::Mount { from: by, ours },
            // What is mounted is looked at once more, since a copy is there that may stay.
            BlobState::Held { by, ours: true } if is_distrusted => How::Mount { from: by, ours: false },
            // Meanwhile that is not given away any more which was to be mounted.
            _ if errand.what == What::Mount => return Turn::Pass(self.put_off(ticket, at)),
            _ => How::Send { must: errand.what == What::MustSend },
        };
        let blob = &mut self.blobs[ticket.blob.index()];
        blob.has_new_source = false;
        blob.needs[at].state = NeedState::Moving(Errand { has_begun: true, ..errand });
        Turn::Go(how)
    }

    fn waits(&self, id: DeliveryId, blob: BlobId) -> bool {
        matches!(&self.deliveries[id.index()].state, DeliveryState::Waits(waits) if waits.contains(&blob))
    }

    /// Nobody waits for the blob in one repository any more: another one may be sent it.
    fn abandon(&mut self, ticket: Ticket, at: usize) -> Vec<Step<E>> {
        let blob = &mut self.blobs[ticket.blob.index()];
        blob.needs[at].state = NeedState::Waiting;
        blob.needs[at].deliveries = Vec::new();
        if matches!(blob.state, BlobState::Moving) {
            blob.state = BlobState::Wanted;
            return self.wake(ticket.blob);
        }
        Vec::new()
    }

    /// The blob is in the repository now.
    pub(crate) fn landed(&mut self, ticket: Ticket) -> Vec<Step<E>> {
        let at = self.need_at(ticket);
        self.distrusted.remove(&ticket);
        let shared = self.holds == Holds::Shared;
        let blob = &mut self.blobs[ticket.blob.index()];
        let spread = !matches!(blob.state, BlobState::Held { .. });
        // A holder of this run's making is better than one that a manifest speaks of.
        if !matches!(blob.state, BlobState::Held { ours: true, .. }) {
            blob.state = BlobState::Held { by: ticket.repository, ours: true };
        }
        let reached = if shared { 0..blob.needs.len() } else { at..at + 1 };
        let mut waiting = Vec::new();
        self.landings += 1;
        for need in &mut blob.needs[reached] {
            need.state = NeedState::Held;
            need.landed = self.landings;
            // Most are never waited for again, and would keep their room to the end.
            waiting.extend(std::mem::take(&mut need.deliveries));
        }
        let mut steps = Vec::new();
        for delivery in waiting {
            if let DeliveryState::Waits(waits) = &mut self.deliveries[delivery.index()].state
                && waits.remove(&ticket.blob)
            {
                self.publish_if_ready(delivery, &mut steps);
            }
        }
        self.lost.remove(&ticket.blob);
        if spread && !shared {
            steps.extend(self.wake(ticket.blob));
        }
        steps
    }

    /// The blob was sent to the repository, whatever others hold it: that is where it is best mounted from now.
    pub(crate) fn sent(&mut self, ticket: Ticket) {
        let at = self.need_at(ticket);
        let blob = &mut self.blobs[ticket.blob.index()];
        blob.needs[at].is_mounted = false;
        if matches!(blob.state, BlobState::Held { .. }) {
            blob.state = BlobState::Held { by: ticket.repository, ours: true };
        }
    }

    /// The blob was mounted into the repository, by the target's word.
    pub(crate) fn mounted(&mut self, ticket: Ticket) {
        let at = self.need_at(ticket);
        self.blobs[ticket.blob.index()].needs[at].is_mounted = true;
    }

    /// Whether nothing but the target's word for a mount says that the repository has the blob.
    pub(crate) fn is_mounted(&self, ticket: Ticket) -> bool {
        let at = self.needs.get(&ticket).map(|at| *at as usize);
        at.is_some_and(|at| self.blobs[ticket.blob.index()].needs[at].is_mounted)
    }

    /// Nothing is mounted from the repository that was known to hold the blob. Another one that holds it by now takes its
    /// place, or one that it is on its way to; or else the blob is sent once more.
    pub(crate) fn not_given_away(&mut self, ticket: Ticket, from: Option<RepositoryId>) -> Vec<Step<E>> {
        let at = self.need_at(ticket);
        let what = if self.is_distrusted(ticket) { What::MustSend } else { What::Mount };
        let blob = &mut self.blobs[ticket.blob.index()];
        if matches!(blob.state, BlobState::Held { by, .. } if Some(by) != from) {
            blob.needs[at].state = NeedState::Moving(Errand::to(what));
            return vec![Step::Mount(ticket)];
        }
        self.put_off(ticket, at)
    }

    /// A mount waits until the blob has come to another repository, if it is on its way to one.
    fn put_off(&mut self, ticket: Ticket, at: usize) -> Vec<Step<E>> {
        let blob = &mut self.blobs[ticket.blob.index()];
        blob.needs[at].state = NeedState::Waiting;
        blob.first_waiting = blob.first_waiting.min(at);
        let is_out = |need: &Need<E>| matches!(need.state, NeedState::Moving(errand) if errand.what != What::Mount || errand.has_begun);
        blob.state = if blob.needs.iter().any(is_out) { BlobState::Moving } else { BlobState::Wanted };
        self.lost.remove(&ticket.blob);
        self.wake(ticket.blob)
    }

    /// Steps for the needs of a blob that wait, after its state has changed.
    pub(super) fn wake(&mut self, id: BlobId) -> Vec<Step<E>> {
        let mut steps = Vec::new();
        let mut at = self.blobs[id.index()].first_waiting;
        while let Some(need) = self.blobs[id.index()].needs.get(at) {
            if matches!(need.state, NeedState::Waiting) && !need.deliveries.is_empty() {
                let ticket = Ticket { blob: id, repository: need.repository };
                match self.bring(ticket, at) {
                    Some(step) => steps.push(step),
                    // One of them is sent the blob, the others wait for that.
                    None => break,
                }
            }
            at += 1;
        }
        self.blobs[id.index()].first_waiting = at;
        steps
    }

    /// A ticket could not be carried out. Another source may turn up later if there is `more_to_come`.
    pub(crate) fn failed(&mut self, ticket: Ticket, failure: Failure<E>, more_to_come: bool) -> Vec<Step<E>> {
        let at = self.need_at(ticket);
        let blob = &mut self.blobs[ticket.blob.index()];
        let need = &mut blob.needs[at];
        if failure.no_source && !matches!(blob.state, BlobState::Held { .. }) {
            need.state = NeedState::Waiting;
            blob.first_waiting = blob.first_waiting.min(at);
            // What might have passed, and did not, is the host's trouble where a second place was of no more use.
            if blob.has_new_source && (failure.lasting || failure.tried_one) {
                blob.state = BlobState::Wanted;
                return self.wake(ticket.blob);
            }
            blob.state = BlobState::Lost(Box::new(failure));
            self.lost.insert(ticket.blob);
            return if more_to_come { Vec::new() } else { self.no_more_sources() };
        }
        let error = failure.error.clone();
        need.state =
            if failure.lasting { NeedState::Refused(Box::new(failure.error)) } else { NeedState::Waiting };
        let mut concerned = std::mem::take(&mut need.deliveries);
        if failure.stays_damaged {
            concerned.extend(self.give_up_repair(ticket.blob, &error));
        }
        let mut steps = Vec::new();
        for delivery in concerned {
            steps.extend(self.settle_failed(delivery, &error));
        }
        let blob = &mut self.blobs[ticket.blob.index()];
        if matches!(blob.state, BlobState::Moving) {
            // What one repository refuses, the next one may take.
            blob.state = BlobState::Wanted;
            steps.extend(self.wake(ticket.blob));
        }
        steps
    }
}
