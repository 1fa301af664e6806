//! What each blob, manifest and delivery of a run waits for, and what follows from each event.
//!
//! The ledger knows no network and no time. The loop tells it what has happened, and it answers with the next steps.
//! A tag is published only once all blobs of its image are in its repository and no manifest of it is on its way by
//! another tag; a blob is sent to one repository and mounted into the others.

mod distrust;
mod publication;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use crate::image::reference::{Digest, Repository};
use crate::store::Holds;

pub(crate) use self::publication::Part;
use self::publication::PartState;
use super::ids::{BlobId, DeliveryId, RepositoryId};

/// Most repositories that are noted as likely holders of what one repository wants.
const LIKELY_HOLDERS_MAX: usize = 16;

/// A blob and the repository that is to have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub blob: BlobId,
    pub repository: RepositoryId,
}

/// What can be begun now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step<E> {
    /// The blob's bytes are wanted in the repository.
    Send(Ticket),
    /// Another repository holds the blob.
    Mount(Ticket),
    /// All blobs of the delivery are in its repository.
    Publish(DeliveryId),
    /// The delivery has failed.
    Fail(DeliveryId, E),
}

/// How a ticket is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `must`: the target lacks the blob, whatever it says.
    Send { must: bool },
    /// `ours`: this run has put the blob into `from`, or has seen it there.
    Mount { from: RepositoryId, ours: bool },
}

/// What becomes of a ticket whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<E> {
    Go(How),
    /// Nobody waits for the blob there any more.
    Pass(Vec<Step<E>>),
}

/// Why a ticket could not be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Failure<E> {
    pub error: E,
    /// No source served the blob; a repository that did not take it says nothing of the others.
    pub no_source: bool,
    /// The same would happen again.
    pub lasting: bool,
    /// It was the first try to get the blob, and from one place.
    pub tried_one: bool,
    /// The target took the blob, and keeps a damaged copy all the same.
    pub stays_damaged: bool,
}

#[derive(Debug)]
struct Blob<E> {
    state: BlobState<E>,
    needs: Vec<Need<E>>,
    /// None of the needs before this one waits.
    first_waiting: usize,
    /// A source has turned up since it was begun to be sent.
    has_new_source: bool,
    /// A repository of the target was found to hold it.
    held_before: bool,
    /// A copy at the target was seen to be missing or damaged, so that no manifest's word is taken for another.
    doubted: bool,
    /// Why what is damaged stays so, whatever is sent.
    beyond_repair: Option<Box<E>>,
}

#[derive(Debug)]
enum BlobState<E> {
    /// No repository is known to hold it, and none is being sent it.
    Wanted,
    /// It is being sent to one repository; the others wait for that.
    Moving,
    Held {
        by: RepositoryId,
        ours: bool,
    },
    /// None of its sources served it. Another one may turn up with an image that is not resolved yet.
    Lost(Box<Failure<E>>),
}

/// A repository that is to have a blob.
#[derive(Debug)]
struct Need<E> {
    repository: RepositoryId,
    /// Those that wait for it.
    deliveries: Vec<DeliveryId>,
    state: NeedState<E>,
    /// The target has said that it mounted the blob here, and none was sent since.
    is_mounted: bool,
    /// When the blob landed here last, in landings.
    landed: u64,
}

#[derive(Debug)]
enum NeedState<E> {
    Waiting,
    /// A ticket is out.
    Moving(Errand),
    Held,
    /// The repository does not take it, and will not.
    Refused(Box<E>),
}

/// What a ticket is out for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Errand {
    what: What,
    /// Its turn has come.
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Mount,
    Send,
    /// The target lacks the blob, whatever it says.
    MustSend,
}

impl Errand {
    fn to(what: What) -> Self {
        Self { what, has_begun: false }
    }
}

#[derive(Debug)]
struct Delivery {
    repository: RepositoryId,
    /// Manifests below the root, and the list that the image is to be in.
    parts: Vec<Part>,
    rounds: u32,
    /// When its manifests were begun to be put last, in landings.
    began: u64,
    state: DeliveryState,
}

#[derive(Debug, PartialEq, Eq)]
enum DeliveryState {
    Waits(HashSet<BlobId>),
    Ready,
    Putting,
    Settled,
}

#[derive(Debug)]
pub(crate) struct Ledger<E> {
    holds: Holds,
    repositories: Vec<Repository>,
    /// By repository, others that blobs are likely to be mounted from into it, a few at most.
    likely_holders: Vec<Vec<RepositoryId>>,
    repository_ids: HashMap<Repository, RepositoryId>,
    blobs: Vec<Blob<E>>,
    blob_ids: HashMap<(Digest, u64), BlobId>,
    /// By blob and repository, where the need stands among those of the blob.
    needs: HashMap<Ticket, u32>,
    /// What the target was found to hold, whether or not a delivery needs it.
    held: HashMap<(Digest, u64), RepositoryId>,
    /// Copies that were seen to be missing or damaged.
    distrusted: HashSet<Ticket>,
    deliveries: Vec<Delivery>,
    parts: HashMap<(RepositoryId, Part), PartState>,
    /// Blobs that are lost while another source may still turn up.
    lost: HashSet<BlobId>,
    unsettled: usize,
    /// How many blobs have landed.
    landings: u64,
}

impl<E: Clone> Ledger<E> {
    pub(crate) fn new(holds: Holds) -> Self {
        Self {
            holds,
            repositories: Vec::new(),
            likely_holders: Vec::new(),
            repository_ids: HashMap::new(),
            blobs: Vec::new(),
            blob_ids: HashMap::new(),
            needs: HashMap::new(),
            held: HashMap::new(),
            distrusted: HashSet::new(),
            deliveries: Vec::new(),
            parts: HashMap::new(),
            lost: HashSet::new(),
            unsettled: 0,
            landings: 0,
        }
    }

    pub(crate) fn repository_id(&mut self, repository: &Repository) -> RepositoryId {
        if let Some(id) = self.repository_ids.get(repository) {
            return *id;
        }
        let id = RepositoryId::new(self.repositories.len());
        self.repositories.push(repository.clone());
        self.likely_holders.push(Vec::new());
        self.repository_ids.insert(repository.clone(), id);
        id
    }

    pub(crate) fn repository(&self, id: RepositoryId) -> &Repository {
        &self.repositories[id.index()]
    }

    /// Repositories that blobs are likely to be mounted from into this one, as far as that is known.
    pub(crate) fn likely_holders(&self, id: RepositoryId) -> impl Iterator<Item = &Repository> {
        self.likely_holders[id.index()].iter().map(|holder| self.repository(*holder))
    }

    /// Notes which repository most likely has a blob by the time that another one wants it: the one that is known to hold
    /// it, or else the one that was the first to want it.
    fn note_likely_holder(&mut self, ticket: Ticket) {
        let blob = &self.blobs[ticket.blob.index()];
        let first = blob.needs.first().map(|need| need.repository);
        let Some(holder) = self.holder(ticket.blob).or(first) else { return };
        let known = &mut self.likely_holders[ticket.repository.index()];
        if holder != ticket.repository && known.len() < LIKELY_HOLDERS_MAX && !known.contains(&holder) {
            known.push(holder);
        }
    }

    /// The blob of this digest in this size (bytes), and whether it is new. What a manifest says of a blob's size
    /// concerns those who say the same: two sizes are two blobs, of which at most one can ever land.
    pub(crate) fn blob_id(&mut self, digest: &Digest, size: u64) -> (BlobId, bool) {
        match self.blob_ids.entry((digest.clone(), size)) {
            Entry::Occupied(known) => (*known.get(), false),
            Entry::Vacant(vacant) => {
                let id = BlobId::new(self.blobs.len());
                vacant.insert(id);
                let state = match self.held.get(&(digest.clone(), size)) {
                    Some(by) => BlobState::Held { by: *by, ours: false },
                    None => BlobState::Wanted,
                };
                let held_before = matches!(state, BlobState::Held { .. });
                let needs = Vec::new();
                self.blobs.push(Blob {
                    state,
                    needs,
                    first_waiting: 0,
                    has_new_source: false,
                    held_before,
                    doubted: false,
                    beyond_repair: None,
                });
                (id, true)
            }
        }
    }

    /// Whether a repository of the target is known to hold the blob.
    pub(crate) fn is_held(&self, blob: BlobId) -> bool {
        self.holder(blob).is_some()
    }

    /// A repository of the target that is known to hold the blob.
    pub(crate) fn holder(&self, blob: BlobId) -> Option<RepositoryId> {
        match self.blobs[blob.index()].state {
            BlobState::Held { by, .. } => Some(by),
            BlobState::Wanted | BlobState::Moving | BlobState::Lost(_) => None,
        }
    }

    /// Whether the target was found to hold the blob, by an earlier run or by other means.
    pub(crate) fn was_held_before(&self, blob: BlobId) -> bool {
        self.blobs[blob.index()].held_before
    }

    /// The repository that a delivery is for.
    pub(crate) fn repository_of(&self, id: DeliveryId) -> RepositoryId {
        self.deliveries[id.index()].repository
    }

    /// The repositories that are to get the blob, and do not have it as far as is known.
    pub(crate) fn needs(&self, blob: BlobId) -> impl Iterator<Item = RepositoryId> {
        let open = |need: &&Need<E>| !matches!(need.state, NeedState::Held);
        self.blobs[blob.index()].needs.iter().filter(open).map(|need| need.repository)
    }

    /// Takes in that `repository` of the target holds a blob from an earlier run, as a manifest there says. The blob,
    /// if it was to be sent so far, and the steps that follow.
    pub(crate) fn held_before(
        &mut self,
        digest: &Digest,
        size: u64,
        repository: RepositoryId,
    ) -> (Option<BlobId>, Vec<Step<E>>) {
        let key = (digest.clone(), size);
        let id = self.blob_ids.get(&key).copied();
        self.held.entry(key).or_insert(repository);
        let Some(id) = id else { return (None, Vec::new()) };
        let blob = &mut self.blobs[id.index()];
        blob.held_before = true;
        if blob.doubted || !matches!(blob.state, BlobState::Wanted | BlobState::Moving) {
            return (None, Vec::new());
        }
        blob.state = BlobState::Held { by: repository, ours: false };
        (Some(id), self.wake(id))
    }

    /// Enters a delivery that needs `blobs` in `repository`, and puts `parts` below its root.
    pub(crate) fn admit(
        &mut self,
        repository: RepositoryId,
        blobs: &[BlobId],
        parts: Vec<Part>,
    ) -> (DeliveryId, Vec<Step<E>>) {
        let id = DeliveryId::new(self.deliveries.len());
        self.deliveries.push(Delivery {
            repository,
            parts,
            rounds: 0,
            began: 0,
            state: DeliveryState::Waits(HashSet::new()),
        });
        self.unsettled += 1;
        let mut steps = Vec::new();
        for blob in blobs {
            if let Err(error) = self.wait_for(id, Ticket { blob: *blob, repository }, &mut steps) {
                steps.extend(self.settle_failed(id, &error));
                return (id, steps);
            }
        }
        self.publish_if_ready(id, &mut steps);
        (id, steps)
    }

    /// Enters a delivery that needs nothing: it is there, or cannot be.
    pub(crate) fn admit_settled(&mut self, repository: RepositoryId) -> DeliveryId {
        let id = DeliveryId::new(self.deliveries.len());
        let state = DeliveryState::Settled;
        self.deliveries.push(Delivery { repository, parts: Vec::new(), rounds: 0, began: 0, state });
        id
    }

    fn wait_for(&mut self, id: DeliveryId, ticket: Ticket, steps: &mut Vec<Step<E>>) -> Result<(), E> {
        let at = self.need_at(ticket);
        self.note_likely_holder(ticket);
        let shared = self.holds == Holds::Shared;
        let blob = &mut self.blobs[ticket.blob.index()];
        let is_held = matches!(blob.state, BlobState::Held { .. });
        if shared && is_held && matches!(blob.needs[at].state, NeedState::Waiting) {
            blob.needs[at].state = NeedState::Held;
        }
        match &blob.needs[at].state {
            NeedState::Held => return Ok(()),
            NeedState::Refused(error) => return Err(E::clone(error)),
            NeedState::Waiting | NeedState::Moving(_) => {}
        }
        if let BlobState::Lost(failure) = &blob.state
            && failure.lasting
            && !self.lost.contains(&ticket.blob)
        {
            return Err(failure.error.clone());
        }
        if let Some(error) = &blob.beyond_repair
            && self.distrusted.contains(&ticket)
        {
            return Err(E::clone(error));
        }
        blob.needs[at].deliveries.push(id);
        blob.first_waiting = blob.first_waiting.min(at);
        if let DeliveryState::Waits(waits) = &mut self.deliveries[id.index()].state {
            waits.insert(ticket.blob);
        }
        if matches!(self.blobs[ticket.blob.index()].needs[at].state, NeedState::Waiting) {
            steps.extend(self.bring(ticket, at));
        }
        Ok(())
    }

    fn need_at(&mut self, ticket: Ticket) -> usize {
        let needs = &mut self.blobs[ticket.blob.index()].needs;
        match self.needs.entry(ticket) {
            Entry::Occupied(known) => *known.get() as usize,
            Entry::Vacant(vacant) => {
                vacant.insert(u32::try_from(needs.len()).expect("fewer than 2^32 of them fit into memory"));
                let state = NeedState::Waiting;
                needs.push(Need {
                    repository: ticket.repository,
                    deliveries: Vec::new(),
                    state,
                    is_mounted: false,
                    landed: 0,
                });
                needs.len() - 1
            }
        }
    }

    /// The step that a need which waits can take now, if any.
    fn bring(&mut self, ticket: Ticket, at: usize) -> Option<Step<E>> {
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

    /// A further source has the blob.
    pub(crate) fn new_source(&mut self, id: BlobId) -> Vec<Step<E>> {
        let blob = &mut self.blobs[id.index()];
        blob.has_new_source = !matches!(blob.state, BlobState::Lost(_));
        if !blob.has_new_source {
            blob.state = BlobState::Wanted;
            self.lost.remove(&id);
            return self.wake(id);
        }
        Vec::new()
    }

    /// All sources are known that there will ever be.
    pub(crate) fn no_more_sources(&mut self) -> Vec<Step<E>> {
        let mut steps = Vec::new();
        for id in std::mem::take(&mut self.lost) {
            let blob = &mut self.blobs[id.index()];
            let BlobState::Lost(failure) = &blob.state else { continue };
            let error = failure.error.clone();
            blob.first_waiting = 0;
            let waiting: Vec<DeliveryId> =
                blob.needs.iter_mut().flat_map(|need| std::mem::take(&mut need.deliveries)).collect();
            for delivery in waiting {
                steps.extend(self.settle_failed(delivery, &error));
            }
        }
        steps
    }

    /// Whether blobs are lost while another source may still turn up.
    pub(crate) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
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
        blob.needs[at].deliveries.clear();
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
            waiting.append(&mut need.deliveries);
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
    fn wake(&mut self, id: BlobId) -> Vec<Step<E>> {
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

    fn publish_if_ready(&mut self, id: DeliveryId, steps: &mut Vec<Step<E>>) {
        let delivery = &mut self.deliveries[id.index()];
        if matches!(&delivery.state, DeliveryState::Waits(waits) if waits.is_empty()) {
            delivery.state = DeliveryState::Ready;
            steps.push(Step::Publish(id));
        }
    }

    /// The delivery is done, or has failed; what follows for others comes from other events.
    pub(crate) fn settle(&mut self, id: DeliveryId) -> bool {
        let delivery = &mut self.deliveries[id.index()];
        if delivery.state == DeliveryState::Settled {
            return false;
        }
        delivery.state = DeliveryState::Settled;
        delivery.parts = Vec::new();
        self.unsettled -= 1;
        true
    }

    fn settle_failed(&mut self, id: DeliveryId, error: &E) -> Option<Step<E>> {
        self.settle(id).then(|| Step::Fail(id, error.clone()))
    }

    /// Deliveries that are neither done nor failed.
    #[cfg(test)]
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests;
