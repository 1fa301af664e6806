//! Both sides asked about all images, each of which is handed out as soon as it is known.
//!
//! The target is asked first, for all names: what its manifests hold decides which blobs have to move at all. Each
//! source has a queue of its own, so that one which is slow, or asks to wait, keeps nobody from the others.

mod queue;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::queue::Queue;
use super::referrers::{DEPTH_MAX, Places, Referrer, too_many};
use super::resolver::{AtTarget, Found, Resolver};
use super::{ImageId, Request, Rules, SourceId};
use crate::image::platforms::Platforms;
use crate::image::reference::{Digest, Location, Repository, TagOrDigest};
use crate::store::REFERRERS_MAX;
use crate::store::{Inspector, Target};

/// So long after the target's first answer its other ones are waited for before blobs move: a repository that takes
/// its time, or fails for a while, costs a mount at the most.
const LATECOMERS: Duration = Duration::from_secs(3);

/// How many more requests go to either side at once for each image that is moved, about.
const PER_IMAGE: usize = 2;

/// What has been found out.
#[derive(Debug)]
pub(crate) enum News {
    Found(ImageId, Found),
    /// Something refers to an image, and is an image of its own.
    Joined(ImageId),
    /// A repository of the target holds these blobs, with their sizes in bytes, by the word of a manifest there.
    Held(Repository, Vec<(Digest, u64)>),
}

enum Done {
    Asked(ImageId, Vec<AtTarget>),
    Found(ImageId, Found),
    Referrers(ImageId, Vec<Referrer>),
    Held(Repository, Vec<(Digest, u64)>),
}

#[derive(Debug)]
struct Image {
    request: Arc<Request>,
    /// What the target has under its names, until the source is asked.
    at_target: Vec<AtTarget>,
    /// The image that it is about in the end, and by how many steps.
    about: Option<(ImageId, usize)>,
}

#[derive(Debug)]
pub(crate) struct Resolution {
    resolver: Arc<Resolver>,
    /// Most images that one host is asked about at a time.
    parallel: usize,
    images: Vec<Image>,
    to_ask: VecDeque<ImageId>,
    asking: usize,
    /// By source; and those that wait for one that has room, the least busy first.
    queues: Vec<Queue>,
    sources: HashMap<String, SourceId>,
    next_sources: BTreeSet<(usize, SourceId)>,
    /// Sources of which an image has been found that waits for an earlier one.
    waited_for: BTreeSet<SourceId>,
    /// Known without asking.
    settled: VecDeque<News>,
    first_answer: Option<Instant>,
    /// What the target has under the names of the run, whatever the source has.
    there: HashSet<(Repository, Digest)>,
    /// It has something under one of them.
    has_any: bool,
    holdings: Holdings,
    places: Places,
    /// By image, how many things refer to it.
    referrers: HashMap<ImageId, usize>,
    tasks: JoinSet<Done>,
}

/// What the target's manifests say of blobs there.
#[derive(Debug)]
enum Holdings {
    /// Nothing is to be moved so far.
    NotNeeded,
    /// As soon as all names have been asked for.
    Wanted,
    /// These manifests are still to be read, beside so many that are being read.
    Reading(Vec<(Repository, Digest)>, usize),
    Known,
}

impl Resolution {
    pub(crate) fn new(
        requests: Vec<Request>,
        target: Target,
        rules: Rules,
        parallel: NonZeroUsize,
        inspector: Option<Inspector>,
    ) -> Self {
        let images: Vec<Image> = requests
            .into_iter()
            .map(|request| Image { request: Arc::new(request), at_target: Vec::new(), about: None })
            .collect();
        let mut resolution = Self {
            resolver: Arc::new(Resolver::new(target, rules, parallel, inspector)),
            parallel: parallel.get(),
            to_ask: (0..images.len()).map(ImageId::new).collect(),
            asking: 0,
            images,
            queues: Vec::new(),
            sources: HashMap::new(),
            next_sources: BTreeSet::new(),
            waited_for: BTreeSet::new(),
            settled: VecDeque::new(),
            first_answer: None,
            there: HashSet::new(),
            has_any: false,
            holdings: Holdings::NotNeeded,
            places: Places::default(),
            referrers: HashMap::new(),
            tasks: JoinSet::new(),
        };
        resolution.images().for_each(|id| resolution.enter_order(id));
        resolution.announce();
        resolution
    }

    /// Tells both sides how much they are going to be asked.
    fn announce(&self) {
        let names = self.images.iter().map(|image| image.request.destinations.len()).sum();
        self.resolver.target.expect(names);
        for queue in &self.queues {
            if let Some(first) = queue.order.first() {
                self.request(*first).source.store.expect(queue.order.len());
            }
        }
    }

    fn enter_order(&mut self, id: ImageId) {
        let source = self.source_of(id);
        self.queues[source.index()].order.insert(id);
    }

    pub(crate) fn request(&self, id: ImageId) -> &Arc<Request> {
        &self.images[id.index()].request
    }

    /// Where an image stands in a report: in the order in which images were asked for, then what refers to them.
    pub(crate) fn rank(&self, id: ImageId) -> (usize, ImageId, ImageId) {
        let (about, depth) = self.images[id.index()].about.unwrap_or((id, 0));
        (depth, about, id)
    }

    /// How many images there are, with those that have joined.
    pub(crate) fn total(&self) -> usize {
        self.images.len()
    }

    /// All that was asked for, and what has joined it.
    pub(crate) fn images(&self) -> impl Iterator<Item = ImageId> + use<> {
        (0..self.images.len()).map(ImageId::new)
    }

    /// Whether every image has been found and the target's holdings, where they are needed, are known.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_under_way() && self.next_sources.is_empty()
    }

    /// Whether there is something to wait for even if no source is asked for more.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.tasks.is_empty()
            || !self.settled.is_empty()
            || !self.to_ask.is_empty()
            || !self.waited_for.is_empty()
    }

    /// Something is to be moved: what the target holds already is of interest.
    pub(crate) fn look_for_held(&mut self) {
        if matches!(self.holdings, Holdings::NotNeeded) {
            self.holdings = Holdings::Wanted;
            self.begin_holdings();
        }
    }

    /// Whether all is known that decides which blobs have to be sent.
    pub(crate) fn knows_holdings(&self) -> bool {
        let late = self.first_answer.is_some_and(|first| first.elapsed() >= LATECOMERS);
        matches!(self.holdings, Holdings::Known) || late
    }

    /// Whether the target has nothing under any name of the run, as far as is known.
    pub(crate) fn has_found_nothing(&self) -> bool {
        !self.has_any
    }

    /// When blobs may move at the latest, whatever is still to be answered.
    pub(crate) fn latest(&self) -> Option<Instant> {
        self.first_answer.map(|first| first + LATECOMERS).filter(|_| !self.knows_holdings())
    }

    /// The next thing that is found out; sources are asked for more only if the caller can `go_on` with it. `None`
    /// where nothing is under way. May be dropped and called again.
    pub(crate) async fn next(&mut self, go_on: bool) -> Option<News> {
        loop {
            self.begin_what_fits(go_on);
            if let Some(news) = self.settled.pop_front() {
                return Some(news);
            }
            let patience_ends = self.patience_ends();
            tokio::select! {
                done = self.tasks.join_next() => {
                    if let Some(news) = self.on_finished(done?) {
                        return Some(news);
                    }
                }
                () = async { sleep_until(patience_ends.expect("only if there is an end")).await }, if patience_ends.is_some() => {
                    for source in self.waited_for.clone() {
                        self.hand_out(source);
                    }
                }
            }
        }
    }

    fn begin_what_fits(&mut self, go_on: bool) {
        while self.asking < self.parallel
            && let Some(id) = self.to_ask.pop_front()
        {
            self.asking += 1;
            let (resolver, request) = (self.resolver.clone(), self.request(id).clone());
            self.tasks.spawn(async move { Done::Asked(id, resolver.ask_target(&request).await) });
        }
        self.read_holdings();
        while go_on && let Some((_, source)) = self.next_sources.pop_first() {
            let queue = &mut self.queues[source.index()];
            let Some(id) = queue.waiting.pop_first() else { continue };
            queue.under_way += 1;
            self.enter_queue(source);
            self.resolve(id);
        }
    }

    fn resolve(&mut self, id: ImageId) {
        let image = &mut self.images[id.index()];
        let at_target = std::mem::take(&mut image.at_target);
        let (resolver, request) = (self.resolver.clone(), image.request.clone());
        self.tasks.spawn(async move {
            let found = match request.refers_to {
                Some(_) => resolver.resolve_referrer(&request, at_target).await,
                None => resolver.resolve_image(&request, at_target).await,
            };
            Done::Found(id, found)
        });
    }

    /// Takes note that a source has something waiting and room for it.
    fn enter_queue(&mut self, source: SourceId) {
        let queue = &self.queues[source.index()];
        // The one that all others wait for has room in any case.
        let is_waited_for = queue.waiting.first() == queue.order.first();
        if !queue.waiting.is_empty() && (queue.occupied() < self.parallel || is_waited_for) {
            self.next_sources.insert((queue.occupied(), source));
        }
    }

    fn source_of(&mut self, id: ImageId) -> SourceId {
        let place = self.images[id.index()].request.source.store.place();
        if let Some(source) = self.sources.get(place) {
            return *source;
        }
        let source = SourceId::new(self.queues.len());
        self.sources.insert(place.to_owned(), source);
        self.queues.push(Queue::default());
        source
    }

    fn on_finished(&mut self, done: Result<Done, JoinError>) -> Option<News> {
        match done {
            Ok(Done::Asked(id, answers)) => {
                self.on_asked(id, answers);
                None
            }
            Ok(Done::Found(id, found)) => {
                let source = self.source_of(id);
                self.ask_for_referrers(id, &found);
                self.leave_queue(source);
                let queue = &mut self.queues[source.index()];
                queue.under_way -= 1;
                queue.found.insert(id, (Instant::now(), found));
                self.hand_out(source);
                None
            }
            Ok(Done::Referrers(id, referrers)) => {
                self.join(id, referrers);
                None
            }
            Ok(Done::Held(repository, blobs)) => {
                if let Holdings::Reading(_, under_way) = &mut self.holdings {
                    *under_way -= 1;
                }
                self.end_holdings();
                Some(News::Held(repository, blobs))
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    fn leave_queue(&mut self, source: SourceId) {
        let occupied = self.queues[source.index()].occupied();
        self.next_sources.remove(&(occupied, source));
    }

    /// Hands out what has been found of a source's images, as far as it need not wait for others.
    fn hand_out(&mut self, source: SourceId) {
        self.leave_queue(source);
        while let Some((id, found)) = self.queues[source.index()].next() {
            self.settled.push_back(News::Found(id, found));
        }
        self.enter_queue(source);
        if self.queues[source.index()].patience_ends().is_some() {
            self.waited_for.insert(source);
        } else {
            self.waited_for.remove(&source);
        }
    }

    /// When an image that has been found need not wait for another any more.
    fn patience_ends(&self) -> Option<Instant> {
        self.waited_for.iter().filter_map(|source| self.queues[source.index()].patience_ends()).min()
    }

    fn on_asked(&mut self, id: ImageId, answers: Vec<AtTarget>) {
        self.asking -= 1;
        let answered = answers.iter().any(|answer| !matches!(answer, AtTarget::Failed(_)));
        if answered && self.first_answer.is_none() {
            self.first_answer = Some(Instant::now());
        }
        let image = &mut self.images[id.index()];
        for (answer, location) in answers.iter().zip(&image.request.destinations) {
            if let AtTarget::Digest(digest) = answer {
                self.has_any = true;
                self.there.insert((location.repository.clone(), digest.clone()));
            }
        }
        if answers.iter().any(|answer| matches!(answer, AtTarget::Nothing)) {
            // Its manifests and its blobs.
            image.request.source.store.expect(PER_IMAGE);
            self.resolver.target.expect(PER_IMAGE);
        }
        image.at_target = answers;
        let source = self.source_of(id);
        self.leave_queue(source);
        self.queues[source.index()].waiting.insert(id);
        self.enter_queue(source);
        self.begin_holdings();
    }

    fn begin_holdings(&mut self) {
        if matches!(self.holdings, Holdings::Wanted) && self.to_ask.is_empty() && self.asking == 0 {
            self.holdings = Holdings::Reading(std::mem::take(&mut self.there).into_iter().collect(), 0);
            self.read_holdings();
            self.end_holdings();
        }
    }

    fn read_holdings(&mut self) {
        // All images have the same platforms; those of a referrer are all it has.
        let Some(platforms) = self.images.first().map(|image| image.request.platforms.clone()) else {
            return;
        };
        let Holdings::Reading(left, under_way) = &mut self.holdings else { return };
        while *under_way < self.parallel
            && let Some((repository, digest)) = left.pop()
        {
            *under_way += 1;
            let (resolver, platforms): (_, Arc<Platforms>) = (self.resolver.clone(), platforms.clone());
            self.tasks.spawn(async move {
                let location = Location { repository: repository.clone(), name: TagOrDigest::Digest(digest) };
                Done::Held(repository, resolver.held_at(&location, &platforms).await)
            });
        }
    }

    fn end_holdings(&mut self) {
        if let Holdings::Reading(left, 0) = &self.holdings
            && left.is_empty()
        {
            self.holdings = Holdings::Known;
        }
    }

    fn ask_for_referrers(&mut self, id: ImageId, found: &Found) {
        let depth = self.images[id.index()].about.map_or(0, |(_, depth)| depth);
        if !self.resolver.rules.referrers || depth >= DEPTH_MAX {
            return;
        }
        let (resolver, request, found) = (self.resolver.clone(), self.request(id).clone(), found.clone());
        self.tasks.spawn(async move { Done::Referrers(id, resolver.referrers_of(&request, &found).await) });
    }

    /// Makes images of what refers to one.
    fn join(&mut self, id: ImageId, mut referrers: Vec<Referrer>) {
        let (root, depth) = self.images[id.index()].about.unwrap_or((id, 0));
        let count = self.referrers.entry(root).or_default();
        let before = *count;
        *count += referrers.len();
        if *count > REFERRERS_MAX && before <= REFERRERS_MAX {
            let request = self.request(root).clone();
            let subject = referrers.first().and_then(|referrer| referrer.request.refers_to.clone());
            referrers = subject.iter().map(|subject| too_many(&request, subject)).collect();
        } else if *count > REFERRERS_MAX {
            return;
        }
        for referrer in referrers {
            let Some(Referrer { request, trouble }) = self.places.take(referrer) else { continue };
            let joined = ImageId::new(self.images.len());
            let failed = trouble.map(|error| Found::failed(&request, &error));
            let about = Some((root, depth + 1));
            self.images.push(Image { request: Arc::new(request), at_target: Vec::new(), about });
            self.settled.push_back(News::Joined(joined));
            match failed {
                Some(found) => self.settled.push_back(News::Found(joined, found)),
                None => {
                    self.enter_order(joined);
                    self.to_ask.push_back(joined);
                }
            }
        }
    }
}
