//! Moves images, from the first that is resolved.
//!
//! One loop owns all state. It hands out work orders, tasks that only do input and output and return a value, and acts
//! on what they bring back; no task waits for another, so nothing can deadlock. Each unique blob is streamed into the
//! first repository that needs it and mounted into the others. An image's manifests follow as soon as its last blob has
//! landed, children first, so that a tag never names what is not there; then they are forgotten.

mod lanes;
mod limits;
mod publish;
mod refusals;
mod report;
mod transfers;
mod width;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

pub use self::limits::Limits;
pub use self::report::{Finished, Totals};

use self::lanes::{Lane, Lanes};
use self::publish::{Proof, Published, put_manifests};
use self::refusals::{Mark, Refusals};
use self::transfers::{Position, Transfer, Transfers, followed};
use crate::error::Cause;
use crate::events::{Event, Listener, Outcome, TransferId};
use crate::image::manifest::{Extent, Manifest};
use crate::image::reference::Digest;
use crate::plan::{
    BlobId, DeliveryId, Failure, Found, How, ImageId, News, Plan, RepositoryId, Request, Resolution, Rules,
    SourceId, State, Step, Ticket, Tree, Turn,
};
use crate::store::registry::{Error, Kind, Side};
use crate::store::{BlobOrder, Landed, Target, copy_blob};

/// What images on their way may occupy, roughly, in bytes: beyond it no source is asked for more.
const ON_THEIR_WAY_MAX: usize = 8 << 20;
/// Most things that are under way until the target is seen to take blobs.
const UNTIL_FIRST_BLOB: usize = 8;
/// Most mounts that are under way until one is seen to go well: the others would wait for its answer, in lanes that blobs
/// can use meanwhile.
const UNTIL_FIRST_MOUNT: usize = 4;
/// What an image occupies besides its manifests, roughly, and what they occupy once read, for each byte of theirs.
const IMAGE_COST: usize = 4 << 10;
const MANIFEST_COST: usize = 4;

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
    tokio::pin!(interrupted);
    while !run.is_over() {
        run.begin_what_fits();
        let go_on = run.can_hold_more();
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
                run.drain().await;
                break;
            }
        }
    }
    run.target.release().await;
    run.finish()
}

/// What a task brings back.
enum Done {
    /// Of a blob that counts against a source, which one and in which lane.
    Brought(Brought),
    Published(DeliveryId, Mark, Published),
}

/// A blob that was brought, or was not.
struct Brought {
    id: TransferId,
    ticket: Ticket,
    /// What it counts against, if it does.
    source: Option<(SourceId, Lane)>,
    lane: Lane,
    mark: Mark,
    /// How many places it could be had from when it was begun.
    origins: usize,
    /// The repository of the target that it was to be mounted from.
    from: Option<RepositoryId>,
    result: Result<Landed, Error>,
}

/// An image whose manifests wait for its blobs.
struct OnItsWay {
    tree: Tree,
    /// Deliveries that are not settled.
    open: usize,
}

impl OnItsWay {
    /// What it occupies, roughly, in bytes.
    fn cost(&self) -> usize {
        IMAGE_COST + MANIFEST_COST * self.tree.manifest_bytes()
    }
}

/// One name at the target.
struct Delivery {
    image: ImageId,
    /// Which of the image's names.
    name: usize,
    /// The image's manifests are kept for it.
    is_wanted: bool,
    outcome: Option<Outcome>,
}

struct Run {
    target: Target,
    rules: Rules,
    limits: Limits,
    listener: Listener,
    resolution: Resolution,
    plan: Plan,
    lanes: Lanes,
    transfers: Transfers,
    tasks: JoinSet<Done>,
    large_under_way: usize,
    small_under_way: usize,
    mounts_under_way: usize,
    last_id: TransferId,
    /// By id of the plan.
    deliveries: Vec<Delivery>,
    /// By image, the first of its deliveries and their number, once it is resolved.
    names: HashMap<ImageId, (DeliveryId, usize)>,
    on_their_way: HashMap<ImageId, OnItsWay>,
    /// What they occupy, roughly, in bytes.
    occupied: usize,
    resolved: usize,
    /// By blob, whether its bytes were announced to be moved, and have not moved yet.
    announced: Vec<bool>,
    totals: Totals,
    /// Bytes of the images that were copied, each counted whole.
    bytes_of_copied: u64,
    refusals: Refusals,
    /// What the target had before this run: repositories, and blobs.
    old_repositories: HashSet<RepositoryId>,
    old_blobs: HashSet<BlobId>,
    interrupted: bool,
}

impl Run {
    fn new(requests: Vec<Request>, target: Target, rules: Rules, limits: Limits, listener: Listener) -> Self {
        let deliveries = requests.iter().map(|request| request.destinations.len()).sum();
        listener(Event::Planned { bytes: 0, deliveries });
        let inspector = limits.inspector(&target, rules, &listener);
        Self {
            plan: Plan::new(&target, rules),
            resolution: Resolution::new(requests, target.clone(), rules, limits.small, inspector),
            target,
            rules,
            limits,
            listener,
            lanes: Lanes::default(),
            transfers: Transfers::new(limits.large.get()),
            tasks: JoinSet::new(),
            large_under_way: 0,
            small_under_way: 0,
            mounts_under_way: 0,
            last_id: 0,
            deliveries: Vec::new(),
            names: HashMap::new(),
            on_their_way: HashMap::new(),
            occupied: 0,
            resolved: 0,
            announced: Vec::new(),
            totals: Totals::default(),
            bytes_of_copied: 0,
            refusals: Refusals::default(),
            old_repositories: HashSet::new(),
            old_blobs: HashSet::new(),
            interrupted: false,
        }
    }

    fn is_over(&self) -> bool {
        let nothing_left = self.tasks.is_empty() && self.lanes.is_empty() && !self.plan.ledger.has_lost();
        self.refusals.gave_up().is_some() || nothing_left && self.resolution.is_over()
    }

    /// Whether the manifests of further images can be held until their blobs have landed.
    fn can_hold_more(&self) -> bool {
        self.occupied < ON_THEIR_WAY_MAX
    }

    /// A target that may take none is not asked a hundred times at once.
    fn waits_for_first_blob(&self) -> bool {
        self.large_under_way + self.small_under_way >= UNTIL_FIRST_BLOB && !self.target.takes_blobs()
    }

    /// The next blob to be mounted, unless it would wait for what another mount shows.
    fn next_mount(&mut self) -> Option<Ticket> {
        let waits = self.mounts_under_way >= UNTIL_FIRST_MOUNT && !self.target.has_settled_mounts();
        if waits { None } else { self.lanes.next_mount() }
    }

    /// What finishes images comes first: manifests, then mounts, then blobs.
    fn begin_what_fits(&mut self) {
        let blobs_may_move = self.resolution.knows_holdings();
        let most_small = self.limits.small_for(self.target.requests_at_a_time());
        while self.small_under_way < most_small && self.refusals.may_begin() {
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
        while blobs_may_move
            && self.large_under_way < self.transfers.allowed()
            && self.refusals.may_begin()
            && !self.waits_for_first_blob()
        {
            let Some((ticket, source)) = self.lanes.next(Lane::Large) else { break };
            self.bring(ticket, Some((source, Lane::Large)), Lane::Large);
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Found(image, found) => self.admit(image, found),
            News::Joined(image) => {
                let deliveries = self.resolution.request(image).destinations.len();
                (self.listener)(Event::Replanned { bytes: 0, deliveries: deliveries.cast_signed() });
            }
            News::Held(repository, blobs) => {
                let repository = self.plan.ledger.repository_id(&repository);
                self.old_repositories.insert(repository);
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
        let left_out = request.destinations.len() - found.states.len();
        let admitted = self.plan.admit(&request, found);
        if admitted.tree.is_some() {
            self.resolution.look_for_held();
        }
        for blob in admitted.news {
            self.announced.push(false);
            if !self.plan.ledger.is_held(blob) {
                self.announce(blob, true);
            }
        }
        self.names.insert(image, (DeliveryId::new(self.deliveries.len()), admitted.deliveries.len()));
        for (name, (_, state)) in admitted.deliveries.iter().enumerate() {
            let is_wanted = admitted.tree.is_some() && state.is_wanted();
            self.deliveries.push(Delivery { image, name, is_wanted, outcome: None });
        }
        if let Some(tree) = admitted.tree {
            let open = admitted.deliveries.iter().filter(|(_, state)| state.is_wanted()).count();
            let on_its_way = OnItsWay { tree, open };
            self.occupied += on_its_way.cost();
            self.on_their_way.insert(image, on_its_way);
        }
        if left_out > 0 {
            (self.listener)(Event::Replanned { bytes: 0, deliveries: -left_out.cast_signed() });
        }
        for (delivery, state) in admitted.deliveries {
            self.take_state(delivery, state);
        }
        self.take(admitted.steps);
        self.resolved += 1;
        let total = self.resolution.total();
        (self.listener)(Event::Resolving { done: self.resolved, total });
    }

    fn take_state(&mut self, delivery: DeliveryId, state: State) {
        let outcome = match state {
            State::Present(_) => Outcome::Present(Extent::Whole),
            State::Sparse(_) => Outcome::Present(Extent::Sparse),
            State::Trimmed(trimmed) => Outcome::Present(Extent::Trimmed(trimmed)),
            State::Failed(error) => {
                let repository = self.repository_of(delivery);
                self.refusals.no_answer(&error, repository);
                Outcome::Failed(Box::new(error))
            }
            State::Damaged(damage) => {
                let (number, bytes) = damage.whole();
                self.totals.blobs_found += number;
                self.totals.bytes_found = self.totals.bytes_found.saturating_add(bytes);
                return self.refusals.answered();
            }
            State::Missing | State::Partial(_) | State::Different => return self.refusals.answered(),
        };
        if matches!(outcome, Outcome::Present(_)) {
            self.refusals.answered();
        }
        self.settle(delivery, outcome);
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
        self.lanes.add(ticket, self.plan.blob(ticket.blob).size, source);
    }

    /// Tells whether the bytes of a blob are to be moved.
    fn announce(&mut self, blob: BlobId, to_be_moved: bool) {
        let size = self.plan.blob(blob).size.cast_signed();
        let was = std::mem::replace(&mut self.announced[blob.index()], to_be_moved);
        let bytes = match (was, to_be_moved) {
            (false, true) => size,
            (true, false) => -size,
            _ => return,
        };
        (self.listener)(Event::Replanned { bytes, deliveries: 0 });
    }

    /// Begins to bring a blob into a repository, in a lane and perhaps from a source that it counts against.
    fn bring(&mut self, ticket: Ticket, source: Option<(SourceId, Lane)>, lane: Lane) {
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
        let position = Position::default();
        let order = self.order(ticket, how, lane, &position);
        match lane {
            Lane::Large => self.large_under_way += 1,
            Lane::Small => self.small_under_way += 1,
        }
        self.mounts_under_way += usize::from(source.is_none());
        let (target, listener) = (self.target.clone(), self.listener.clone());
        let (id, size) = (order.id, order.blob.size);
        let origins = self.plan.blob(ticket.blob).number_of_origins();
        let mark = self.refusals.begin();
        let handle = self.tasks.spawn(async move {
            let result = copy_blob(&target, order).await;
            let landed = if matches!(result, Ok(Landed::Streamed)) { size } else { 0 };
            listener(Event::Ended { transfer: id, landed });
            Done::Brought(Brought { id, ticket, source, lane, mark, origins, from, result })
        });
        if let Some((source, lane)) = source {
            self.transfers.began(id, Transfer::new(source, lane, size, position, handle));
        }
    }

    /// Lets more large blobs go, or fewer, by what the lines move.
    fn look(&mut self) {
        for (source, width) in self.transfers.look(Instant::now()) {
            self.lanes.set_width(source, width);
        }
    }

    fn order(&mut self, ticket: Ticket, how: How, lane: Lane, position: &Position) -> BlobOrder {
        self.last_id += 1;
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
            id: self.last_id,
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
            look: self.rules.deep,
            listener: followed(&self.listener, position),
        }
    }

    fn publish(&mut self, delivery: DeliveryId) {
        let Delivery { image, name, .. } = self.deliveries[delivery.index()];
        let Some(on_its_way) = self.on_their_way.get(&image) else { return };
        if !self.plan.ledger.begin_publication(delivery) {
            return;
        }
        let (root, below) = on_its_way.tree.levels.split_last().expect("a tree has its root's level");
        let is_put = |manifest: &Manifest| self.plan.ledger.is_put(delivery, &manifest.digest);
        let to_put = |level: &Vec<Arc<Manifest>>| level.iter().filter(|m| !is_put(m)).cloned().collect();
        // The root is put in any case, under its name.
        let levels = below.iter().map(to_put).chain([root.clone()]).collect();
        let blobs = &on_its_way.tree.blobs;
        let from_before = blobs.iter().any(|blob| self.is_old(*blob))
            || self.old_repositories.contains(&self.plan.ledger.repository_of(delivery));
        let proof = match () {
            () if self.rules.deep.is_some() => Proof::Bytes,
            () if from_before => Proof::Head,
            () => Proof::Answer,
        };
        let request = self.resolution.request(image).clone();
        let (target, mark) = (self.target.clone(), self.refusals.begin());
        self.small_under_way += 1;
        self.tasks.spawn(async move {
            let (location, refers) = (&request.destinations[name], request.refers_to.is_some());
            let published = put_manifests(&target, location, levels, refers, proof).await;
            Done::Published(delivery, mark, published)
        });
    }

    /// Whether the target had the blob before this run.
    fn is_old(&self, blob: BlobId) -> bool {
        self.old_blobs.contains(&blob) || self.plan.ledger.was_held_before(blob)
    }

    /// An image whose last blob has landed gets its name, whatever has become of the others.
    fn publish_what_is_ready(&mut self) {
        while let Some(delivery) = self.lanes.next_publication() {
            self.publish(delivery);
        }
    }

    fn on_finished(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Brought(brought)) => {
                self.transfers.ended(brought.id);
                brought.source.into_iter().for_each(|(source, lane)| self.lanes.ended(source, lane));
                match brought.lane {
                    Lane::Large => self.large_under_way -= 1,
                    Lane::Small => self.small_under_way -= 1,
                }
                self.mounts_under_way -= usize::from(brought.source.is_none());
                self.refusals.ended(brought.mark);
                self.on_brought(brought);
            }
            Ok(Done::Published(delivery, mark, published)) => {
                self.small_under_way -= 1;
                self.refusals.ended(mark);
                self.on_published(delivery, mark, published);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
        self.judge_target();
    }

    /// Gives the target up where all that is under way has ended and nothing spoke for it.
    fn judge_target(&mut self) {
        if self.large_under_way + self.small_under_way == 0 {
            self.refusals.nothing_under_way();
        }
    }

    fn on_brought(&mut self, brought: Brought) {
        let Brought { ticket, mark, origins, result, from, .. } = brought;
        let steps = match result {
            Ok(Landed::Refused) => return self.enter(ticket),
            Ok(Landed::Unoffered) => self.plan.ledger.not_given_away(ticket, from),
            Ok(landed) => {
                self.refusals.took();
                self.count(landed, ticket.blob);
                match landed {
                    Landed::Streamed => self.plan.ledger.sent(ticket),
                    Landed::Mounted => self.plan.ledger.mounted(ticket),
                    Landed::Found | Landed::Refused | Landed::Unoffered => {}
                }
                if landed == Landed::Found {
                    self.old_repositories.insert(ticket.repository);
                    self.old_blobs.insert(ticket.blob);
                }
                self.plan.ledger.landed(ticket)
            }
            Err(error) => {
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
                    self.refusals.note(&error, ticket.repository, mark);
                }
                steps
            }
        };
        self.take(steps);
    }

    fn count(&mut self, landed: Landed, blob: BlobId) {
        let size = self.plan.blob(blob).size;
        let totals = &mut self.totals;
        let (number, bytes) = match landed {
            Landed::Streamed => (&mut totals.blobs_copied, &mut totals.bytes_copied),
            Landed::Mounted => (&mut totals.blobs_mounted, &mut totals.bytes_mounted),
            Landed::Found => (&mut totals.blobs_found, &mut totals.bytes_found),
            Landed::Refused | Landed::Unoffered => return,
        };
        *number += 1;
        *bytes = bytes.saturating_add(size);
        if landed == Landed::Streamed {
            // What is streamed was to be streamed: more than that was announced where a mount was refused.
            self.announce(blob, true);
            self.announced[blob.index()] = false;
        } else {
            self.announce(blob, false);
        }
    }

    fn on_published(&mut self, delivery: DeliveryId, mark: Mark, published: Published) {
        self.totals.manifests_copied += published.manifests.len();
        self.totals.manifest_bytes += published.bytes;
        let steps = self.plan.ledger.ended_publication(delivery, published.manifests);
        self.take(steps);
        match published.trouble {
            None => {
                self.refusals.took();
                let size = self.size_of(delivery);
                let extent = published.extent.unwrap_or(Extent::Whole);
                self.bytes_of_copied = self.bytes_of_copied.saturating_add(size);
                self.settle(delivery, Outcome::Copied { size, extent });
            }
            Some(error) => match self.resend(delivery, &error) {
                Some(steps) => self.take(steps),
                None => {
                    // Of a media type, or of this manifest; the blobs were taken.
                    if error.kind != Kind::Unsupported {
                        let repository = self.repository_of(delivery);
                        self.refusals.note(&error, repository, mark);
                    }
                    self.settle(delivery, Outcome::Failed(Box::new(error)));
                }
            },
        }
    }

    /// The steps that bring again what the target lacks after all, if there is hope.
    fn resend(&mut self, delivery: DeliveryId, error: &Error) -> Option<Vec<Step<Error>>> {
        let Kind::BlobUnknown(unknown) = &error.kind else { return None };
        let tree = &self.on_their_way.get(&self.deliveries[delivery.index()].image)?.tree;
        let repository = self.plan.ledger.repository_of(delivery);
        let is_mounted = |blob: &BlobId| self.plan.ledger.is_mounted(Ticket { blob: *blob, repository });
        // Where the target does not say what it lacks, it is what nothing but its own word speaks for.
        let is_lacking = |blob: &BlobId| {
            let digest: &Digest = &self.plan.blob(*blob).digest;
            if unknown.is_empty() { is_mounted(blob) } else { unknown.contains(digest) }
        };
        let blobs: Vec<BlobId> = tree.blobs.iter().copied().filter(is_lacking).collect();
        if blobs.iter().any(is_mounted) {
            self.target.distrust_mounts();
        }
        let steps = self.plan.ledger.lacks(delivery, &blobs)?;
        tracing::info!("sending again what {} lacks after all: {error}", self.target.place());
        Some(steps)
    }

    /// Bytes of the blobs of a delivery's image, each once.
    fn size_of(&self, delivery: DeliveryId) -> u64 {
        let on_its_way = self.on_their_way.get(&self.deliveries[delivery.index()].image);
        let blobs = on_its_way.iter().flat_map(|on_its_way| &on_its_way.tree.blobs);
        blobs.fold(0, |sum, blob| sum.saturating_add(self.plan.blob(*blob).size))
    }

    fn repository_of(&mut self, delivery: DeliveryId) -> RepositoryId {
        let Delivery { image, name, .. } = self.deliveries[delivery.index()];
        let location = &self.resolution.request(image).destinations[name];
        self.plan.ledger.repository_id(&location.repository)
    }

    /// Fails what waits for a source that will not turn up any more.
    fn give_up_lost(&mut self) {
        let steps = self.plan.ledger.no_more_sources();
        self.take(steps);
    }

    /// Notes what has become of a delivery, unless that is known.
    fn settle(&mut self, id: DeliveryId, outcome: Outcome) {
        self.plan.ledger.settle(id);
        let delivery = &mut self.deliveries[id.index()];
        if delivery.outcome.is_some() {
            return;
        }
        delivery.outcome = Some(outcome.clone());
        let Delivery { image, name, is_wanted, .. } = *delivery;
        (self.listener)(Event::Delivered(self.delivered(image, name, outcome)));
        if is_wanted && let Some(on_its_way) = self.on_their_way.get_mut(&image) {
            on_its_way.open -= 1;
            if on_its_way.open == 0 {
                self.occupied -= on_its_way.cost();
                self.on_their_way.remove(&image);
            }
        }
    }

    /// Nothing new begins; what is under way may end in the time that an interruption leaves, if it will.
    async fn drain(&mut self) {
        self.interrupted = true;
        self.lanes.keep_publications();
        let time = self.target.policy().timing.farewell;
        self.transfers.keep_what_ends_within(time, Instant::now());
        let farewell = sleep(time);
        tokio::pin!(farewell);
        loop {
            tokio::select! {
                done = self.tasks.join_next() => match done {
                    Some(done) => {
                        self.on_finished(done);
                        self.lanes.keep_publications();
                        self.publish_what_is_ready();
                    }
                    None => return,
                },
                () = &mut farewell => return,
            }
        }
    }
}

#[cfg(test)]
mod tests;
