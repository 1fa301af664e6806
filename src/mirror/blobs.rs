//! Blobs are brought into repositories of the target.

use std::sync::atomic::Ordering;

use super::lanes::Lane;
use super::refusals::Mark;
use super::transfers::{Position, Transfer, followed};
use super::{Done, Run};
use crate::error::{Cause, Error, Kind, Side};
use crate::events::{Event, TransferId};
use crate::plan::{BlobId, Failure, How, RepositoryId, SourceId, Step, Ticket, Turn};
use crate::store::{BlobOrder, Landed, Tries, copy_blob};

/// A blob that was brought, or was not.
pub(super) struct Brought {
    pub id: TransferId,
    pub ticket: Ticket,
    /// What it counts against, if it does.
    pub source: Option<(SourceId, Lane)>,
    pub lane: Lane,
    pub mark: Mark,
    /// How many places it could be had from when it was begun.
    pub origins: usize,
    /// The repository of the target that it was to be mounted from.
    pub from: Option<RepositoryId>,
    pub result: Result<Landed, Error>,
    /// Bytes of it that were there from an earlier run.
    pub resumed: u64,
}

impl Run {
    /// Tells whether the bytes of a blob are to be moved.
    pub(super) fn announce(&mut self, blob: BlobId, to_be_moved: bool) {
        self.tally.announce(blob, self.plan.blob(blob).size, to_be_moved);
    }

    /// Begins to bring a blob into a repository, in a lane and perhaps from a source that it counts against.
    pub(super) fn bring(&mut self, ticket: Ticket, source: Option<(SourceId, Lane)>, lane: Lane) {
        let how = match self.plan.ledger.begin(ticket) {
            Turn::Go(how) => how,
            Turn::Pass(steps) => {
                source.into_iter().for_each(|(source, lane)| self.lanes.ended(source, lane));
                self.take(steps);
                return;
            }
        };
        let from = match how {
            How::Mount { from, .. } => Some(from),
            How::Send { .. } => None,
        };
        let (position, resumed) = (Position::default(), Position::default());
        let mark = self.refusals.begin();
        let order = self.order(ticket, how, lane, &position, &resumed, mark.tries.clone());
        match source {
            Some(_) => self.under_way.began(lane),
            None => self.under_way.began_mount(),
        }
        let (target, listener) = (self.target.clone(), self.tally.listener().clone());
        let (id, size) = (order.id, order.blob.size);
        let origins = self.plan.blob(ticket.blob).number_of_origins();
        let handle = self.tasks.spawn(async move {
            let result = copy_blob(&target, order).await;
            let landed = if matches!(result, Ok(Landed::Streamed)) { size } else { 0 };
            listener(Event::Ended { transfer: id, landed });
            let resumed = resumed.load(Ordering::Relaxed);
            Done::Brought(Brought { id, ticket, source, lane, mark, origins, from, result, resumed })
        });
        if let Some((source, lane)) = source {
            self.transfers.began(id, Transfer::new(source, lane, size, position, handle));
        }
    }

    fn order(
        &mut self,
        ticket: Ticket,
        how: How,
        lane: Lane,
        position: &Position,
        resumed: &Position,
        tries: Tries,
    ) -> BlobOrder {
        let id = self.transfers.next_id();
        let blob = self.plan.blob(ticket.blob);
        let repository = self.plan.ledger.repository(ticket.repository);
        let ledger = &self.plan.ledger;
        let (known_in, trusted, beside) = match how {
            How::Mount { from, ours } => {
                let beside = ledger.likely_holders(ticket.repository);
                (Some(ledger.repository(from).clone()), ours, beside.cloned().collect())
            }
            How::Send { .. } => (None, false, Vec::new()),
        };
        // The image that first asked for the blob: `kube-apiserver 0123456789ab`.
        let name = repository.as_str().rsplit('/').next().unwrap_or_default();
        BlobOrder {
            id,
            what: format!("{name} {}", blob.digest.short()),
            blob: blob.descriptor(),
            repository: repository.clone(),
            sources: self.plan.origins(ticket.blob).into(),
            known_in,
            trusted,
            beside,
            must_send: how == How::Send { must: true },
            likely_absent: self.resolution.has_found_nothing(),
            // A large blob that is not mounted after all waits for its turn among the large ones.
            may_send: lane == Lane::Large || Lane::of(blob.size) == Lane::Small,
            suspect: self.plan.ledger.is_distrusted(ticket),
            tried_before: blob.was_tried(),
            look: self.plan.rules().deep,
            tries,
            listener: followed(self.tally.listener(), position, resumed),
        }
    }

    pub(super) fn on_brought(&mut self, brought: Brought) {
        let Brought { ticket, lane, mark, origins, result, from, resumed, .. } = brought;
        let steps = match result {
            Ok(Landed::Refused) => return self.enter(ticket),
            Ok(Landed::Unoffered) => self.plan.ledger.not_given_away(ticket, from),
            Ok(landed) => {
                self.refusals.took(&mark, lane == Lane::Large);
                self.tally.landed(landed, ticket.blob, self.plan.blob(ticket.blob).size, resumed);
                match landed {
                    Landed::Streamed => self.plan.ledger.sent(ticket),
                    Landed::Mounted => self.plan.ledger.mounted(ticket),
                    Landed::Found | Landed::Refused | Landed::Unoffered => {}
                }
                if landed == Landed::Found {
                    self.before.note_blob(ticket);
                }
                self.plan.ledger.landed(ticket)
            }
            Err(error) => {
                if self.sequence.is_some() {
                    // All that come behind it would wait for it.
                    let is_closed = error.kind == Kind::Closed;
                    let why = if is_closed { Some(error.clone()) } else { self.target.lacking() };
                    why.into_iter().for_each(|why| self.refusals.give_up(why));
                }
                let (no_source, lasting) = (error.side == Side::Source, !error.kind.may_pass());
                let tried_one = !(self.plan.blob(ticket.blob).was_tried() || origins > 1);
                if no_source {
                    self.plan.rule_out(ticket.blob, origins);
                }
                let stays_damaged = matches!(error.cause, Cause::DamagedCopy(_));
                let failure = Failure { error: error.clone(), no_source, lasting, tried_one, stays_damaged };
                let more_to_come = !self.resolution.is_over();
                let steps = self.plan.ledger.failed(ticket, failure, more_to_come);
                // What else is under way for an image that has failed says nothing new.
                if steps.iter().any(|step| matches!(step, Step::Fail(..))) {
                    self.refusals.note(&error, ticket.repository, &mark);
                }
                steps
            }
        };
        self.take(steps);
    }
}
