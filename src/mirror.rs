//! Moves images, from the first that is resolved.
//!
//! One loop owns all state. It hands out work orders, tasks that only do input and output and return a value, and acts
//! on what they bring back; no task waits for another, so nothing can deadlock. Each unique blob is streamed into the
//! first repository that needs it and mounted into the others. An image's manifests follow as soon as its last blob has
//! landed, children first, so that a tag never names what is not there; then they are forgotten.

mod admission;
mod before;
mod blobs;
mod deliveries;
mod interruption;
mod lanes;
mod limits;
mod on_their_way;
mod preparation;
mod publish;
mod put;
mod refusals;
mod report;
mod tally;
mod transfers;
mod under_way;
mod width;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

pub use self::limits::Limits;
pub use self::report::{Finished, Totals};

use self::before::Before;
use self::blobs::Brought;
use self::deliveries::Deliveries;
use self::lanes::{Lane, Lanes};
use self::on_their_way::OnTheirWay;
use self::put::Published;
use self::refusals::{Mark, Refusals};
use self::report::told;
use self::tally::Tally;
use self::transfers::Transfers;
use self::under_way::UnderWay;
use crate::error::Error;
use crate::events::{Listener, Outcome};
use crate::image::reference::Digest;
use crate::plan::{DeliveryId, ImageId, Plan, Request, Resolution, Rules, Step, Ticket};
use crate::record::{Blob, Contents};
use crate::store::Target;

/// Moves everything that `requests` want and the target lacks. `interrupted` ends the run early: nothing new is begun,
/// and what is under way gets a little time.
pub(crate) async fn mirror(
    requests: Vec<Request>,
    target: Target,
    rules: Rules,
    limits: Limits,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Finished {
    let mut run = Run::new(requests, target, rules, limits, listener);
    let mut was_interrupted = false;
    tokio::pin!(interrupted);
    while !run.is_over() {
        run.prepare_once_all_is_known().await;
        run.begin_what_fits();
        let go_on = run.on_their_way.has_room() || run.waits_for_all;
        let asking = run.resolution.is_under_way() || go_on && !run.resolution.is_over();
        if run.tasks.is_empty() && !asking {
            // What was left to begin was for images that have failed meanwhile, or waits for a source that will not come.
            run.give_up_lost();
            continue;
        }
        let latest = run.resolution.latest();
        let look = run.transfers.next_look();
        tokio::select! {
            Some(done) = run.tasks.join_next() => run.on_finished(done),
            news = run.resolution.next(go_on), if asking => news.into_iter().for_each(|news| run.on_news(news)),
            () = async { sleep_until(latest.expect("only if there is one")).await }, if latest.is_some() => {}
            () = async { sleep_until(look.expect("only if there is one")).await }, if look.is_some() => run.look(),
            () = &mut interrupted => {
                was_interrupted = true;
                run.drain().await;
                break;
            }
        }
    }
    run.finish(was_interrupted).await
}

/// What a task brings back.
enum Done {
    /// Of a blob that counts against a source, which one and in which lane.
    Brought(Brought),
    Published(DeliveryId, Mark, Published),
}

/// A run, and all that it knows.
struct Run {
    target: Target,
    /// Nothing is moved before all that will be is known, and the target has been told of it.
    waits_for_all: bool,
    /// Layers that the source leaves out, for the target is said to have them.
    assumed: Option<Arc<BTreeMap<Digest, Blob>>>,
    /// How many small things are asked for at a time.
    small: NonZeroUsize,
    /// Images that cannot be had whole, until that is told.
    lacking: Vec<String>,
    /// The one order in which the target takes blobs, if there is but one.
    sequence: Option<HashMap<Digest, usize>>,
    /// Which images there are, and what both sides have of them.
    resolution: Resolution,
    /// What has to move, and what waits for what.
    plan: Plan,
    /// What can be begun.
    lanes: Lanes,
    /// What was begun: how much, what it moves, and what it brings back.
    under_way: UnderWay,
    transfers: Transfers,
    tasks: JoinSet<Done>,
    on_their_way: OnTheirWay,
    deliveries: Deliveries,
    before: Before,
    refusals: Refusals,
    tally: Tally,
    /// What images consist of that are to be recorded.
    contents: HashMap<ImageId, Arc<Contents>>,
}

impl Run {
    fn new(requests: Vec<Request>, target: Target, rules: Rules, limits: Limits, listener: Listener) -> Self {
        let deliveries = requests.iter().map(|request| request.destinations.len()).sum();
        let tally = Tally::new(listener, deliveries);
        let inspector = limits.inspector(&target, rules, tally.listener());
        let assumed = requests.first().and_then(|request| request.assumed.clone());
        Self {
            plan: Plan::new(&target, rules),
            waits_for_all: preparation::has_to_know_all(&target, &requests),
            lacking: Vec::new(),
            assumed,
            small: limits.small,
            sequence: None,
            resolution: Resolution::new(requests, target.clone(), rules, limits.small, inspector),
            target,
            lanes: Lanes::default(),
            under_way: UnderWay::new(limits),
            transfers: Transfers::new(limits.large.get()),
            tasks: JoinSet::new(),
            on_their_way: OnTheirWay::default(),
            deliveries: Deliveries::default(),
            before: Before::default(),
            refusals: Refusals::default(),
            tally,
            contents: HashMap::new(),
        }
    }

    fn is_over(&self) -> bool {
        let nothing_left = self.tasks.is_empty() && self.lanes.is_empty() && !self.plan.ledger.has_lost();
        self.refusals.gave_up().is_some() || nothing_left && self.resolution.is_over()
    }

    /// A target that may take none is not asked a hundred times at once.
    fn waits_for_first_blob(&self) -> bool {
        self.under_way.is_enough_for_a_stranger() && !self.target.takes_blobs()
    }

    /// The next blob to be mounted, unless it would wait for what another mount shows.
    fn next_mount(&mut self) -> Option<Ticket> {
        let waits = self.under_way.has_mounts_to_learn_from() && !self.target.has_settled_mounts();
        if waits { None } else { self.lanes.next_mount() }
    }

    /// What finishes images comes first: manifests, then mounts, then blobs.
    fn begin_what_fits(&mut self) {
        // In one order of all blobs a small one may wait behind a large one.
        while !self.waits_for_all && self.begin_more() && self.sequence.is_some() {}
    }

    /// Whether any large blob was begun.
    fn begin_more(&mut self) -> bool {
        let blobs_may_move = self.resolution.knows_holdings();
        let requests_at_a_time = self.target.requests_at_a_time();
        while self.under_way.has_room_for_small(requests_at_a_time) && self.refusals.may_begin() {
            if let Some(delivery) = self.lanes.next_publication() {
                self.publish(delivery);
            } else if !blobs_may_move || self.waits_for_first_blob() {
                break;
            } else if let Some(ticket) = self.next_mount() {
                self.bring(ticket, None, Lane::Small);
            } else if let Some((ticket, source)) = self.lanes.next(Lane::Small) {
                self.bring(ticket, Some((source, Lane::Small)), Lane::Small);
            } else {
                break;
            }
        }
        let mut has_begun = false;
        while blobs_may_move
            && self.under_way.has_room_for_large(self.transfers.allowed())
            && self.refusals.may_begin()
            && !self.waits_for_first_blob()
        {
            let Some((ticket, source)) = self.lanes.next(Lane::Large) else { break };
            self.bring(ticket, Some((source, Lane::Large)), Lane::Large);
            has_begun = true;
        }
        has_begun
    }

    fn take(&mut self, steps: Vec<Step<Error>>) {
        for step in steps {
            match step {
                Step::Send(ticket) => self.enter(ticket),
                Step::Mount(ticket) => self.lanes.add_mount(ticket),
                Step::Publish(delivery) => self.lanes.add_publication(delivery),
                Step::Fail(delivery, error) => self.settle(delivery, Outcome::Failed(Box::new(error))),
            }
        }
    }

    fn enter(&mut self, ticket: Ticket) {
        let source = self.plan.source(ticket.blob);
        self.lanes.set_room(source, self.plan.room_of_source(ticket.blob));
        let blob = self.plan.blob(ticket.blob);
        match &self.sequence {
            None => self.lanes.add(ticket, blob.size, source),
            Some(sequence) => {
                let place = sequence.get(&blob.digest).copied().unwrap_or(usize::MAX);
                self.lanes.add_at(place, ticket, blob.size, source);
            }
        }
    }

    /// Lets more large blobs go, or fewer, by what the lines move.
    fn look(&mut self) {
        for (source, width) in self.transfers.look(Instant::now()) {
            self.lanes.set_width(source, width);
        }
    }

    fn on_finished(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Brought(brought)) => {
                self.transfers.ended(brought.id);
                brought.source.into_iter().for_each(|(source, lane)| self.lanes.ended(source, lane));
                match brought.source {
                    Some(_) => self.under_way.ended(brought.lane),
                    None => self.under_way.ended_mount(),
                }
                self.refusals.ended(&brought.mark);
                self.on_brought(brought);
            }
            Ok(Done::Published(delivery, mark, published)) => {
                self.under_way.ended(Lane::Small);
                self.refusals.ended(&mark);
                self.on_published(delivery, &mark, published);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
        self.judge_target();
    }

    /// Gives the target up where all that is under way has ended and nothing spoke for it.
    fn judge_target(&mut self) {
        if self.under_way.is_nothing() {
            let is_left = !self.lanes.is_empty() || !self.resolution.is_over();
            self.refusals.nothing_under_way(is_left);
        }
    }

    /// Fails what waits for a source that will not turn up any more.
    fn give_up_lost(&mut self) {
        let steps = self.plan.ledger.no_more_sources();
        self.take(steps);
    }

    /// Notes what has become of a delivery, unless that is known.
    fn settle(&mut self, id: DeliveryId, outcome: Outcome) {
        self.plan.ledger.settle(id);
        if !self.deliveries.settle(id, &outcome) {
            return;
        }
        if matches!(outcome, Outcome::Failed(_)) && self.refusals.gave_up().is_none() {
            self.target.lacking().into_iter().for_each(|error| self.refusals.give_up(error));
        }
        let (image, name) = self.deliveries.image_and_name(id);
        self.tally.delivered(told(&self.target, self.resolution.request(image), name, outcome));
        self.on_their_way.settled(image, id);
    }
}

#[cfg(test)]
mod tests;
