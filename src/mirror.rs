//! Carries a plan out.
//!
//! One loop owns all state. It hands out work orders, tasks that only do input and output and return a value, and
//! acts on what they bring back; no task waits for another, so nothing can deadlock. Each unique blob is streamed
//! into the first repository that needs it and mounted into the others. An image's manifests follow as soon as its
//! last blob has landed, children first, so that a tag never names what is not there.

mod lore;
mod publish;
mod queue;
mod transfer;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use self::lore::Lore;
use self::publish::{Published, put_manifests};
use self::queue::{Bring, Queue, SMALL};
use self::transfer::{Landing, Lesson, Opening, Transfer};
use crate::events::{Delivered, Event, Listener, Outcome, TransferId};
use crate::manifest::{Extent, Manifest};
use crate::plan::{Plan, State};
use crate::reference::{Digest, Host, Repository, Spot};
use crate::registry::{Error, Kind, Peer, REQUESTS_PER_HOST, Side};

/// Deliveries that failed at the target for one cause, with none that succeeded between, until it is given up.
const REFUSALS_MAX: u32 = 3;
/// How often content that a target misses after all is sent again before its image is given up.
const AMENDS_MAX: u32 = 2;

/// How much may be under way at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Large blobs.
    pub large: NonZeroUsize,
    /// Small blobs, mounts, manifests, questions: requests rather than transfers.
    pub small: NonZeroUsize,
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
        Self { large, small: parallel.saturating_mul(TWELVE).min(MOST) }
    }

    /// The same where only so many files may be open: a transfer has two connections, and idle ones stay open for a
    /// while.
    #[must_use]
    pub fn within(self, open_files: u64) -> Self {
        let transfers = usize::try_from(open_files.saturating_sub(24) / 2).unwrap_or(usize::MAX);
        let at_most = |limit: NonZeroUsize, most: usize| {
            limit.min(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN))
        };
        Self { large: at_most(self.large, transfers / 4), small: at_most(self.small, transfers / 2) }
    }
}

/// What a run moved, in bytes and numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Blobs streamed, and their bytes.
    pub blobs_copied: usize,
    pub bytes_copied: u64,
    /// Mounted from another repository of the target instead of sent again.
    pub blobs_mounted: usize,
    pub bytes_mounted: u64,
    /// Found at the target, from an earlier run.
    pub blobs_found: usize,
    pub bytes_found: u64,
    /// Manifests pushed, and their bytes.
    pub manifests_copied: usize,
    pub manifest_bytes: u64,
    /// What copying every image on its own would have moved beyond what was moved.
    pub bytes_shared: u64,
}

/// How it all ended.
#[derive(Debug)]
pub struct Finished {
    /// In the plan's order: for each image each of its names at the target.
    pub deliveries: Vec<Delivered>,
    pub totals: Totals,
    /// The cause for which the target was given up.
    pub gave_up: Option<Error>,
    pub interrupted: bool,
}

/// Moves everything that `plan` wants moved. `interrupted` ends the run early: nothing new is begun, and what is
/// under way gets a little time.
pub async fn carry_out(
    plan: &Plan,
    target: Arc<Peer>,
    limits: Limits,
    listener: Listener,
    interrupted: impl Future<Output = ()>,
) -> Finished {
    let (lessons, mut heard) = mpsc::unbounded_channel();
    let mut run = Run::new(plan, target, limits, listener, lessons);
    tokio::pin!(interrupted);
    while !run.is_over() {
        run.begin_what_fits();
        if run.tasks.is_empty() {
            // What was left to begin was for images that have failed meanwhile: nobody will report.
            continue;
        }
        tokio::select! {
            Some(done) = run.tasks.join_next() => {
                // What a task has taught came before its end.
                while let Ok(lesson) = heard.try_recv() {
                    run.lore.learn(lesson);
                }
                run.take_in(done);
            }
            Some(lesson) = heard.recv() => run.lore.learn(lesson),
            () = &mut interrupted => {
                run.say_goodbye().await;
                break;
            }
        }
    }
    run.finish()
}

/// What a task brings back.
enum Done {
    Brought(TransferId, Bring, Lane, Result<Landing, Error>),
    /// A delivery, what it was to put below its root, what it did put.
    Published(usize, Vec<(Repository, Digest)>, Published),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Large,
    Small,
}

/// One name at the target on its way to completeness.
struct Delivery {
    image: usize,
    spot: Spot,
    source: String,
    name: String,
    /// Blobs that have not landed yet.
    missing: usize,
    amends: u32,
    outcome: Option<Outcome>,
}

/// Where a blob is by now.
struct Whereabouts {
    /// A repository of the target that has it.
    holder: Option<Repository>,
    /// This run has put it there, or seen it there in the right size.
    trusted: bool,
    /// Its bytes are part of what was announced to be moved, and have not moved yet.
    announced: bool,
    /// All its other needs are in the queue, as mounts.
    spread: bool,
}

/// The manifests below the root, in their repository.
fn parts(
    repository: &Repository,
    levels: &[Vec<Arc<Manifest>>],
) -> impl Iterator<Item = (Repository, Digest)> {
    let below = levels.split_last().map_or(&[][..], |(_, below)| below);
    below.iter().flatten().map(|manifest| (repository.clone(), manifest.digest.clone()))
}

struct Run<'p> {
    plan: &'p Plan,
    target: Arc<Peer>,
    limits: Limits,
    listener: Listener,
    lessons: mpsc::UnboundedSender<Lesson>,
    deliveries: Vec<Delivery>,
    /// By image, where its deliveries begin in `deliveries`.
    first_delivery: Vec<usize>,
    /// By blob of the plan.
    blobs: Vec<Whereabouts>,
    queue: Queue,
    tasks: JoinSet<Done>,
    large_under_way: usize,
    small_under_way: usize,
    /// Transfers under way by the host they come from.
    busy: HashMap<&'p Host, usize>,
    last_id: TransferId,
    lore: Lore,
    /// Manifests that are there, by this run's doing.
    put: HashSet<(Repository, Digest)>,
    /// Those on their way there, and the deliveries that wait for one of them.
    putting: HashSet<(Repository, Digest)>,
    put_later: Vec<usize>,
    totals: Totals,
    /// How many deliveries the target refused in a row, and for what.
    refusals: (u32, Option<Kind>),
    gave_up: Option<Error>,
    interrupted: bool,
}

impl<'p> Run<'p> {
    fn new(
        plan: &'p Plan,
        target: Arc<Peer>,
        limits: Limits,
        listener: Listener,
        lessons: mpsc::UnboundedSender<Lesson>,
    ) -> Self {
        let mut run = Self {
            plan,
            target,
            limits,
            listener,
            lessons,
            deliveries: Vec::new(),
            first_delivery: Vec::new(),
            blobs: Vec::new(),
            queue: Queue::default(),
            tasks: JoinSet::new(),
            large_under_way: 0,
            small_under_way: 0,
            busy: HashMap::new(),
            last_id: 0,
            lore: Lore::default(),
            put: HashSet::new(),
            putting: HashSet::new(),
            put_later: Vec::new(),
            totals: Totals::default(),
            refusals: (0, None),
            gave_up: None,
            interrupted: false,
        };
        run.enter_deliveries();
        run.enter_blobs();
        run
    }

    fn enter_deliveries(&mut self) {
        for (image, planned) in self.plan.images.iter().enumerate() {
            self.first_delivery.push(self.deliveries.len());
            let missing = planned.tree.as_ref().map_or(0, |tree| tree.blobs.len());
            for delivery in &planned.deliveries {
                let number = self.deliveries.len();
                self.deliveries.push(Delivery {
                    image,
                    spot: delivery.spot.clone(),
                    source: planned.reference.to_string(),
                    name: delivery.name.clone(),
                    missing,
                    amends: 0,
                    outcome: None,
                });
                match &delivery.state {
                    State::Present(_) => _ = self.settle(number, Outcome::Present(Extent::Whole)),
                    State::Sparse(_) => _ = self.settle(number, Outcome::Present(Extent::Sparse)),
                    State::Trimmed(trimmed) => {
                        self.settle(number, Outcome::Present(Extent::Trimmed(trimmed.clone())));
                    }
                    State::Failed(error) => self.fail_before_start(number, error),
                    State::Missing | State::Partial(_) | State::Different => {
                        if missing == 0 {
                            self.queue.add_publication(number);
                        }
                    }
                }
            }
        }
    }

    fn fail_before_start(&mut self, number: usize, error: &Error) {
        self.settle(number, Outcome::Failed(error.clone()));
        self.note_refusal(error);
    }

    fn enter_blobs(&mut self) {
        for (blob, planned) in self.plan.blobs.iter().enumerate() {
            let held = planned.held_by.is_some();
            self.blobs.push(Whereabouts {
                holder: planned.held_by.clone(),
                trusted: false,
                announced: !held,
                spread: held,
            });
            match held {
                true => self.enter_mounts(blob, 0),
                false => self.enter(Bring { blob, need: 0, session: None, plainly: false }),
            }
        }
    }

    fn enter(&mut self, bring: Bring) {
        self.queue.add(self.plan.blobs[bring.blob].descriptor.size, bring);
    }

    fn enter_mounts(&mut self, blob: usize, from_need: usize) {
        for need in from_need..self.plan.blobs[blob].needs.len() {
            self.queue.add_mount(Bring { blob, need, session: None, plainly: false });
        }
    }

    fn is_over(&self) -> bool {
        self.gave_up.is_some() || (self.tasks.is_empty() && self.queue.is_empty())
    }

    /// What finishes images comes first: manifests, then mounts, then blobs.
    fn begin_what_fits(&mut self) {
        if !self.lore.mounts() {
            let plan = self.plan;
            self.queue.stream_mounts(|blob| plan.blobs[blob].descriptor.size);
        }
        while self.small_under_way < self.limits.small.get() {
            if let Some(delivery) = self.queue.next_publication() {
                self.publish(delivery);
            } else if let Some(mount) = self.lore.may_mount_now().then(|| self.queue.next_mount()).flatten() {
                self.begin(mount, Lane::Small);
            } else if let Some(blob) = self.next_blob(Lane::Small) {
                self.begin(blob, Lane::Small);
            } else {
                break;
            }
        }
        while self.large_under_way < self.limits.large.get() {
            let Some(blob) = self.next_blob(Lane::Large) else { break };
            self.begin(blob, Lane::Large);
        }
    }

    /// The next blob whose source is not busy with too many others.
    fn next_blob(&mut self, lane: Lane) -> Option<Bring> {
        if !self.may_upload_now() {
            return None;
        }
        let fits =
            |bring: &Bring| self.busy.get(source_of(self.plan, bring)).is_none_or(|n| *n < REQUESTS_PER_HOST);
        match lane {
            Lane::Large => self.queue.next_large(fits),
            Lane::Small => self.queue.next_small(fits),
        }
    }

    fn may_upload_now(&self) -> bool {
        self.lore.may_upload_now(self.large_under_way + self.small_under_way)
    }

    fn begin(&mut self, bring: Bring, lane: Lane) {
        let need = &self.plan.blobs[bring.blob].needs[bring.need];
        if need.deliveries.iter().all(|d| self.deliveries[self.number(*d)].outcome.is_some()) {
            // Nobody is waiting for it any more.
            self.pass_on(&bring);
            return;
        }
        self.last_id += 1;
        let id = self.last_id;
        let transfer = self.work_order(id, &bring);
        if matches!(transfer.opening, Opening::Mount(_)) {
            self.lore.began_mount(id);
        }
        match lane {
            Lane::Large => self.large_under_way += 1,
            Lane::Small => self.small_under_way += 1,
        }
        *self.busy.entry(source_of(self.plan, &bring)).or_default() += 1;
        let (listener, size) = (self.listener.clone(), transfer.blob.size);
        self.tasks.spawn(async move {
            let result = transfer.run().await;
            let landed = if matches!(result, Ok(Landing::Streamed)) { size } else { 0 };
            listener(Event::Ended { transfer: id, landed });
            Done::Brought(id, bring, lane, result)
        });
    }

    fn work_order(&self, id: TransferId, bring: &Bring) -> Transfer {
        let planned = &self.plan.blobs[bring.blob];
        let repository = planned.needs[bring.need].repository.clone();
        let whereabouts = &self.blobs[bring.blob];
        let opening = match bring.plainly {
            true => Opening::Plain,
            false => self.lore.opening(&repository, whereabouts.holder.as_ref()),
        };
        let mounting = matches!(opening, Opening::Mount(_));
        // The image that first asked for the blob: `kube-apiserver 0123456789ab`.
        let name = repository.as_str().rsplit('/').next().unwrap_or_default();
        Transfer {
            id,
            target: self.target.clone(),
            sources: planned.sources.clone(),
            blob: planned.descriptor.clone(),
            hurry: self.lore.hurry(&opening),
            only_mount: mounting && planned.descriptor.size > SMALL,
            trusted: mounting && whereabouts.trusted,
            suspect: false,
            tried: 0,
            what: format!("{name} {}", planned.descriptor.digest.short()),
            repository,
            opening,
            session: bring.session.clone(),
            sending: false,
            listener: self.listener.clone(),
            lessons: self.lessons.clone(),
        }
    }

    fn publish(&mut self, number: usize) {
        let delivery = &self.deliveries[number];
        let Some(tree) = &self.plan.images[delivery.image].tree else { return };
        if delivery.outcome.is_some() {
            return;
        }
        let is_there =
            |m: &Manifest| self.put.contains(&(delivery.spot.repository.clone(), m.digest.clone()));
        let (root, below) = tree.levels.split_last().expect("a tree has its root's level");
        let below = below.iter().map(|level| level.iter().filter(|m| !is_there(m)).cloned().collect());
        // The root is put in any case, under its name.
        let levels: Vec<Vec<Arc<Manifest>>> = below.chain([root.clone()]).collect();
        let refers_to = self.plan.images[delivery.image].refers_to.clone();
        // The list of what refers to an image is read and written back: one at a time.
        let list = refers_to.iter().map(|subject| (delivery.spot.repository.clone(), subject.clone()));
        let parts: Vec<_> = parts(&delivery.spot.repository, &levels).chain(list).collect();
        if parts.iter().any(|part| self.putting.contains(part)) {
            // Another tag of the same image is about to bring what they share.
            self.put_later.push(number);
            return;
        }
        self.putting.extend(parts.iter().cloned());
        let (target, spot) = (self.target.clone(), delivery.spot.clone());
        self.small_under_way += 1;
        self.tasks.spawn(async move {
            let published = put_manifests(&target, &spot, levels, refers_to.is_some()).await;
            Done::Published(number, parts, published)
        });
    }

    fn take_in(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Brought(transfer, bring, lane, result)) => {
                self.lore.ended(transfer);
                if let Some(number) = self.busy.get_mut(source_of(self.plan, &bring)) {
                    *number -= 1;
                }
                match lane {
                    Lane::Large => self.large_under_way -= 1,
                    Lane::Small => self.small_under_way -= 1,
                }
                self.take_in_blob(&bring, result);
            }
            Ok(Done::Published(delivery, parts, published)) => {
                self.small_under_way -= 1;
                parts.iter().for_each(|part| _ = self.putting.remove(part));
                std::mem::take(&mut self.put_later).into_iter().for_each(|d| self.queue.add_publication(d));
                self.take_in_manifests(delivery, published);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }

    fn take_in_blob(&mut self, bring: &Bring, result: Result<Landing, Error>) {
        match result {
            Ok(Landing::Wanted(session)) => {
                self.enter(Bring { session: Some(session), plainly: true, ..*bring });
                return;
            }
            Ok(landing) => {
                self.count(&landing, bring.blob);
                self.landed(bring, &landing);
            }
            Err(error) => self.fail(bring, &error),
        }
        self.pass_on(bring);
    }

    fn count(&mut self, landing: &Landing, blob: usize) {
        let size = self.plan.blobs[blob].descriptor.size;
        let totals = &mut self.totals;
        let (number, bytes) = match landing {
            Landing::Streamed => (&mut totals.blobs_copied, &mut totals.bytes_copied),
            Landing::Mounted => (&mut totals.blobs_mounted, &mut totals.bytes_mounted),
            Landing::Found => (&mut totals.blobs_found, &mut totals.bytes_found),
            Landing::Wanted(_) => return,
        };
        *number += 1;
        *bytes += size;
        let announced = std::mem::take(&mut self.blobs[blob].announced);
        let change = match (landing, announced) {
            (Landing::Streamed, false) => size.cast_signed(),
            (Landing::Mounted | Landing::Found, true) => -size.cast_signed(),
            _ => return,
        };
        (self.listener)(Event::Replanned { bytes: change });
    }

    fn landed(&mut self, bring: &Bring, landing: &Landing) {
        let need = &self.plan.blobs[bring.blob].needs[bring.need];
        let whereabouts = &mut self.blobs[bring.blob];
        if whereabouts.holder.is_none() || (!whereabouts.trusted && matches!(landing, Landing::Streamed)) {
            whereabouts.holder = Some(need.repository.clone());
        }
        whereabouts.trusted = true;
        for delivery in &need.deliveries {
            let number = self.number(*delivery);
            let waiting = &mut self.deliveries[number];
            waiting.missing = waiting.missing.saturating_sub(1);
            if waiting.missing == 0 && waiting.outcome.is_none() {
                self.queue.add_publication(number);
            }
        }
    }

    /// A blob is done with in one repository, one way or the other: on to the others that need it.
    fn pass_on(&mut self, bring: &Bring) {
        let whereabouts = &mut self.blobs[bring.blob];
        if whereabouts.spread {
            return;
        }
        if whereabouts.holder.is_some() {
            whereabouts.spread = true;
            self.enter_mounts(bring.blob, bring.need + 1);
        } else if bring.need + 1 < self.plan.blobs[bring.blob].needs.len() {
            // It failed there; the next repository may take it.
            self.enter(Bring { need: bring.need + 1, session: None, ..*bring });
        }
    }

    fn fail(&mut self, bring: &Bring, error: &Error) {
        let needs = &self.plan.blobs[bring.blob].needs;
        // What no source serves can land nowhere; what one repository refuses, another may take.
        let nowhere = error.side == Side::Source && self.blobs[bring.blob].holder.is_none();
        let concerned = if nowhere { &needs[bring.need..] } else { &needs[bring.need..=bring.need] };
        let mut news = false;
        for delivery in concerned.iter().flat_map(|need| &need.deliveries) {
            news |= self.settle(self.number(*delivery), Outcome::Failed(error.clone()));
        }
        // What else is under way for an image that has failed says nothing new.
        if news {
            self.note_refusal(error);
        }
    }

    fn take_in_manifests(&mut self, number: usize, published: Published) {
        let repository = self.deliveries[number].spot.repository.clone();
        self.totals.manifests_copied += published.manifests.len();
        self.totals.manifest_bytes += published.bytes;
        self.put.extend(published.manifests.into_iter().map(|digest| (repository.clone(), digest)));
        match published.trouble {
            None => {
                self.refusals = (0, None);
                let size = self.size_of(number);
                let extent = published.extent.unwrap_or(Extent::Whole);
                self.settle(number, Outcome::Copied { size, extent });
            }
            Some(error) if self.make_amends(number, &error) => {}
            Some(error) => {
                self.settle(number, Outcome::Failed(error.clone()));
                self.note_refusal(&error);
            }
        }
    }

    /// The target lacks something that it said it had: it is sent again, without asking first.
    fn make_amends(&mut self, number: usize, error: &Error) -> bool {
        let Kind::BlobUnknown(unknown) = &error.kind else { return false };
        let delivery = &mut self.deliveries[number];
        let Some(tree) = &self.plan.images[delivery.image].tree else { return false };
        if delivery.amends >= AMENDS_MAX {
            return false;
        }
        delivery.amends += 1;
        tracing::info!("sending again what {} lacks after all: {error}", self.target.host);
        let repository = &delivery.spot.repository;
        let blobs = &self.plan.blobs;
        let blob =
            tree.blobs.iter().copied().find(|b| Some(&blobs[*b].descriptor.digest) == unknown.as_ref());
        let need = blob.and_then(|b| blobs[b].needs.iter().position(|n| n.repository == *repository));
        match blob.zip(need) {
            Some((blob, need)) => {
                delivery.missing += 1;
                self.enter(Bring { blob, need, session: None, plainly: true });
            }
            None => {
                // A child manifest, or nothing that is named: all manifests again.
                self.put.retain(|(there, _)| there != repository);
                self.queue.add_publication(number);
            }
        }
        true
    }

    /// Bytes of the blobs of a delivery's image, each once.
    fn size_of(&self, number: usize) -> u64 {
        let tree = self.plan.images[self.deliveries[number].image].tree.as_ref();
        tree.map_or(0, |tree| tree.blobs.iter().map(|b| self.plan.blobs[*b].descriptor.size).sum())
    }

    /// A target that refuses one thing after the other for one cause is not asked a hundred times more. That it
    /// denies or lacks a repository says nothing about the next one.
    fn note_refusal(&mut self, error: &Error) {
        let general = matches!(
            error.kind,
            Kind::Transient
                | Kind::Busy
                | Kind::Unreachable
                | Kind::Unauthorized
                | Kind::Unsupported
                | Kind::Untrusted
        );
        if error.side != Side::Target || !general {
            return;
        }
        let (times, cause) = &mut self.refusals;
        *times = if cause.as_ref() == Some(&error.kind) { *times + 1 } else { 1 };
        *cause = Some(error.kind.clone());
        if *times >= REFUSALS_MAX {
            self.gave_up.get_or_insert_with(|| error.clone());
        }
    }

    /// False if it is settled already.
    fn settle(&mut self, number: usize, outcome: Outcome) -> bool {
        let delivery = &mut self.deliveries[number];
        if delivery.outcome.is_some() {
            return false;
        }
        delivery.outcome = Some(outcome.clone());
        let refers_to = self.plan.images[delivery.image].refers_to.clone();
        let (source, target) = (delivery.source.clone(), delivery.name.clone());
        let told = Delivered { source, target, refers_to, outcome };
        (self.listener)(Event::Delivered(told));
        true
    }

    fn number(&self, (image, delivery): (usize, usize)) -> usize {
        self.first_delivery[image] + delivery
    }

    /// Nothing new begins; what is under way may end in the time that an interruption leaves.
    async fn say_goodbye(&mut self) {
        self.interrupted = true;
        self.queue.clear();
        let farewell = sleep(self.target.policy().timing.farewell);
        tokio::pin!(farewell);
        loop {
            tokio::select! {
                done = self.tasks.join_next() => match done {
                    Some(done) => self.take_in(done),
                    None => return,
                },
                () = &mut farewell => return,
            }
        }
    }

    fn finish(mut self) -> Finished {
        self.tasks.abort_all();
        let why = match (&self.gave_up, self.interrupted) {
            (Some(error), _) => format!("not tried: {} was given up", error.place),
            (None, true) => "not done before the interruption".to_owned(),
            (None, false) => "not done".to_owned(),
        };
        for number in 0..self.deliveries.len() {
            self.settle(number, Outcome::Left(why.clone()));
        }
        self.totals.bytes_shared = self.bytes_shared();
        let told = |d: Delivery| {
            let refers_to = self.plan.images[d.image].refers_to.clone();
            Some(Delivered { source: d.source, target: d.name, refers_to, outcome: d.outcome? })
        };
        Finished {
            deliveries: self.deliveries.into_iter().filter_map(told).collect(),
            totals: self.totals,
            gave_up: self.gave_up,
            interrupted: self.interrupted,
        }
    }

    fn bytes_shared(&self) -> u64 {
        let numbers = 0..self.deliveries.len();
        let copied = numbers.filter(|n| matches!(self.deliveries[*n].outcome, Some(Outcome::Copied { .. })));
        let separately: u64 = copied.map(|number| self.size_of(number)).sum();
        separately.saturating_sub(self.totals.bytes_copied + self.totals.bytes_found)
    }
}

/// The host that a blob most likely comes from.
fn source_of<'p>(plan: &'p Plan, bring: &Bring) -> &'p Host {
    &plan.blobs[bring.blob].sources.first().expect("a planned blob has a source").peer.host
}
