use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::image::reference::Algorithm;

type Steps = Vec<Step<&'static str>>;

fn digest(number: usize) -> Digest {
    Digest::of(Algorithm::Sha256, number.to_string().as_bytes())
}

fn part(number: usize) -> Part {
    Part::Manifest(digest(1_000 + number))
}

struct Book(Ledger<&'static str>);

impl Book {
    fn new() -> Self {
        Self(Ledger::new(Holds::PerRepository))
    }

    fn repository(&mut self, name: &str) -> RepositoryId {
        self.0.repository_id(&name.parse().unwrap())
    }

    fn blob(&mut self, number: usize) -> BlobId {
        self.0.blob_id(&digest(number), 1).0
    }

    fn admit(&mut self, repository: RepositoryId, blobs: &[BlobId]) -> (DeliveryId, Steps) {
        self.0.admit(repository, blobs, Vec::new())
    }
}

fn lasting(error: &'static str, no_source: bool) -> Failure<&'static str> {
    Failure { error, no_source, lasting: true, tried_one: false, stays_damaged: false }
}

#[test]
fn a_blob_is_sent_to_one_repository_and_mounted_into_the_others() {
    let mut book = Book::new();
    let (a, b, base) = (book.repository("a"), book.repository("b"), book.blob(1));
    let at = |repository| Ticket { blob: base, repository };
    let (first, steps) = book.admit(a, &[base]);
    assert_eq!(steps, [Step::Send(at(a))]);
    let (second, steps) = book.admit(b, &[base]);
    assert_eq!(steps, []);
    assert_eq!(book.0.begin(at(a)), Turn::Go(How::Send { must: false }));
    assert_eq!(book.0.landed(at(a)), [Step::Publish(first), Step::Mount(at(b))]);
    assert_eq!(book.0.begin(at(b)), Turn::Go(How::Mount { from: a, ours: true }));
    assert_eq!(book.0.landed(at(b)), [Step::Publish(second)]);
    // Whoever comes later finds it there.
    let (third, steps) = book.admit(b, &[base]);
    assert_eq!(steps, [Step::Publish(third)]);
}

#[test]
fn what_is_not_given_away_is_mounted_from_wherever_it_comes_next() {
    let mut book = Book::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| book.repository(name));
    let base = book.blob(1);
    let at = |repository| Ticket { blob: base, repository };
    for repository in [a, b, c, d] {
        book.admit(repository, &[base]);
    }
    book.0.begin(at(a));
    book.0.landed(at(a));
    assert_eq!(book.0.likely_holders(b).collect::<Vec<_>>(), [book.0.repository(a)]);
    for repository in [b, c] {
        assert_eq!(book.0.begin(at(repository)), Turn::Go(How::Mount { from: a, ours: true }));
    }
    // The mount into the first is refused, and the bytes are on their way; the second is not even offered one.
    assert_eq!(book.0.not_given_away(at(c), Some(a)), []);
    assert_eq!(book.0.begin(at(d)), Turn::Pass(vec![]));
    book.0.sent(at(b));
    assert_eq!(book.0.landed(at(b))[1..], [Step::Mount(at(c)), Step::Mount(at(d))]);
    assert_eq!(book.0.begin(at(c)), Turn::Go(How::Mount { from: b, ours: true }));
    // Where it is on its way to no other, it is sent once more.
    assert_eq!(book.0.not_given_away(at(c), Some(b)), [Step::Send(at(c))]);
}

#[test]
fn where_all_repositories_have_the_same_blobs_one_landing_is_enough() {
    let mut book = Book(Ledger::new(Holds::Shared));
    let (a, b, base) = (book.repository("a"), book.repository("b"), book.blob(1));
    let (first, _) = book.admit(a, &[base]);
    let (second, steps) = book.admit(b, &[base]);
    assert_eq!(steps, []);
    let steps = book.0.landed(Ticket { blob: base, repository: a });
    assert_eq!(steps, [Step::Publish(first), Step::Publish(second)]);
    let c = book.repository("c");
    let (third, steps) = book.admit(c, &[base]);
    assert_eq!(steps, [Step::Publish(third)]);
}

#[test]
fn a_blob_that_lands_twice_counts_once() {
    let mut book = Book::new();
    let (a, base, own) = (book.repository("a"), book.blob(1), book.blob(2));
    let (first, _) = book.admit(a, &[base]);
    let (second, _) = book.admit(a, &[base, own]);
    let base = Ticket { blob: base, repository: a };
    assert_eq!(book.0.landed(base), [Step::Publish(first)]);
    assert!(book.0.begin_publication(first));
    assert_eq!(book.0.ended_publication(first, vec![]), []);
    assert_eq!(book.0.lacks(first, &[base.blob]), Some(vec![Step::Send(base)]));
    assert_eq!(book.0.begin(base), Turn::Go(How::Send { must: true }));
    assert_eq!(book.0.landed(base), [Step::Publish(first)], "the second still lacks its own layer");
    assert_eq!(book.0.landed(Ticket { blob: own, repository: a }), [Step::Publish(second)]);
}

#[test]
fn what_a_target_lacks_is_sent_again_once_for_all_that_miss_it_and_only_so_often() {
    let mut book = Book::new();
    let (a, base) = (book.repository("a"), book.blob(1));
    let ticket = Ticket { blob: base, repository: a };
    let (first, _) = book.admit(a, &[base]);
    let (second, _) = book.admit(a, &[base]);
    book.0.landed(ticket);
    for delivery in [first, second] {
        assert!(book.0.begin_publication(delivery));
        book.0.ended_publication(delivery, vec![]);
    }
    assert_eq!(book.0.lacks(first, &[base]), Some(vec![Step::Send(ticket)]));
    assert_eq!(book.0.lacks(second, &[base]), Some(vec![]), "it is on its way");
    assert_eq!(book.0.landed(ticket), [Step::Publish(first), Step::Publish(second)]);
    for rounds_left in [true, false] {
        assert!(book.0.begin_publication(first));
        book.0.ended_publication(first, vec![]);
        assert_eq!(book.0.lacks(first, &[]).is_some(), rounds_left);
    }
}

#[test]
fn what_one_repository_refuses_another_is_sent_and_what_no_source_has_fails_all() {
    let mut book = Book::new();
    let (a, b, base) = (book.repository("a"), book.repository("b"), book.blob(1));
    let at = |repository| Ticket { blob: base, repository };
    let (first, _) = book.admit(a, &[base]);
    let (second, _) = book.admit(b, &[base]);
    let steps = book.0.failed(at(a), lasting("no room", false), false);
    assert_eq!(steps, [Step::Fail(first, "no room"), Step::Send(at(b))]);
    let steps = book.0.failed(at(b), lasting("gone", true), false);
    assert_eq!(steps, [Step::Fail(second, "gone")]);
    // Both verdicts hold for those who come later, until another source turns up.
    let (third, steps) = book.admit(b, &[base]);
    assert_eq!(steps, [Step::Fail(third, "gone")]);
    assert_eq!(book.0.new_source(base), []);
    let (_, steps) = book.admit(b, &[base]);
    assert_eq!(steps, [Step::Send(at(b))]);
    let (fifth, steps) = book.admit(a, &[base]);
    assert_eq!(steps, [Step::Fail(fifth, "no room")]);
    assert_eq!(book.0.unsettled(), 1);
}

#[test]
fn a_lost_blob_waits_for_the_source_of_an_image_that_is_not_resolved_yet() {
    let mut book = Book::new();
    let (a, base) = (book.repository("a"), book.blob(1));
    let ticket = Ticket { blob: base, repository: a };
    let (first, _) = book.admit(a, &[base]);
    assert_eq!(book.0.failed(ticket, lasting("gone", true), true), []);
    assert!(book.0.has_lost());
    assert_eq!(book.0.new_source(base), [Step::Send(ticket)]);
    assert_eq!(book.0.failed(ticket, lasting("gone here too", true), true), []);
    assert_eq!(book.0.no_more_sources(), [Step::Fail(first, "gone here too")]);
    assert!(!book.0.has_lost());
}

#[test]
fn what_landed_while_a_manifest_was_refused_is_not_sent_again_for_it() {
    let mut book = Book::new();
    let (a, base) = (book.repository("a"), book.blob(1));
    let ticket = Ticket { blob: base, repository: a };
    let (first, _) = book.admit(a, &[base]);
    let (second, _) = book.admit(a, &[base]);
    book.0.begin(ticket);
    assert_eq!(book.0.landed(ticket), [Step::Publish(first), Step::Publish(second)]);
    assert!(book.0.begin_publication(first) && book.0.begin_publication(second));
    book.0.ended_publication(first, vec![]);
    assert_eq!(book.0.lacks(first, &[base]), Some(vec![Step::Send(ticket)]));
    book.0.begin(ticket);
    assert_eq!(book.0.landed(ticket), [Step::Publish(first)]);
    book.0.ended_publication(second, vec![]);
    assert_eq!(book.0.lacks(second, &[base]), Some(vec![Step::Publish(second)]));
}

#[test]
fn a_source_that_turns_up_while_another_fails_is_tried() {
    let mut book = Book::new();
    let (a, base) = (book.repository("a"), book.blob(1));
    let ticket = Ticket { blob: base, repository: a };
    let (first, _) = book.admit(a, &[base]);
    assert_eq!(book.0.begin(ticket), Turn::Go(How::Send { must: false }));
    assert_eq!(book.0.new_source(base), []);
    assert_eq!(book.0.failed(ticket, lasting("gone", true), false), [Step::Send(ticket)]);
    assert_eq!(book.0.begin(ticket), Turn::Go(How::Send { must: false }));
    assert_eq!(book.0.failed(ticket, lasting("gone", true), false), [Step::Fail(first, "gone")]);
}

#[test]
fn what_may_pass_is_tried_again_for_an_image_that_comes_later() {
    let mut book = Book::new();
    let (a, base) = (book.repository("a"), book.blob(1));
    let ticket = Ticket { blob: base, repository: a };
    for no_source in [true, false] {
        let (delivery, steps) = book.admit(a, &[base]);
        assert_eq!(steps, [Step::Send(ticket)]);
        let failure = Failure { lasting: false, ..lasting("busy", no_source) };
        assert_eq!(book.0.failed(ticket, failure, false), [Step::Fail(delivery, "busy")]);
    }
    let (_, steps) = book.admit(a, &[base]);
    assert_eq!(steps, [Step::Send(ticket)]);
}

#[test]
fn what_the_target_holds_already_is_mounted_though_it_is_known_late() {
    let mut book = Book::new();
    let (a, b, c, base) = (book.repository("a"), book.repository("b"), book.repository("c"), book.blob(1));
    let at = |repository| Ticket { blob: base, repository };
    book.admit(a, &[base]);
    book.admit(b, &[base]);
    let (spared, steps) = book.0.held_before(&digest(1), 1, c);
    assert_eq!((spared, steps), (Some(base), vec![Step::Mount(at(b))]));
    assert_eq!(book.0.begin(at(a)), Turn::Go(How::Mount { from: c, ours: false }));
    // In another size it is another blob.
    assert_eq!(book.0.held_before(&digest(1), 2, c), (None, vec![]));
    assert!(book.0.is_held(base) && !book.0.blob_id(&digest(9), 2).1.eq(&false));
}

#[test]
fn a_ticket_for_whom_nobody_waits_is_passed_on() {
    let mut book = Book::new();
    let (a, b) = (book.repository("a"), book.repository("b"));
    let (base, bad) = (book.blob(1), book.blob(2));
    let (first, _) = book.admit(a, &[base, bad]);
    book.admit(b, &[base]);
    let steps = book.0.failed(Ticket { blob: bad, repository: a }, lasting("gone", true), false);
    assert_eq!(steps, [Step::Fail(first, "gone")]);
    let passed = book.0.begin(Ticket { blob: base, repository: a });
    assert_eq!(passed, Turn::Pass(vec![Step::Send(Ticket { blob: base, repository: b })]));
}

#[test]
fn two_tags_of_one_image_do_not_put_what_they_share_at_once() {
    let mut book = Book::new();
    let a = book.repository("a");
    let (first, steps) = book.0.admit(a, &[], vec![part(1), part(2)]);
    assert_eq!(steps, [Step::Publish(first)]);
    let (second, _) = book.0.admit(a, &[], vec![part(2)]);
    assert!(book.0.begin_publication(first) && !book.0.begin_publication(second));
    assert_eq!(book.0.ended_publication(first, vec![digest(1_002)]), [Step::Publish(second)]);
    assert!(book.0.settle(first) && !book.0.settle(first));
    assert!(book.0.begin_publication(second));
    assert!(book.0.is_put(second, &digest(1_002)) && !book.0.is_put(second, &digest(1_001)));
}

#[test]
fn a_tag_whose_root_is_below_two_indexes_leaves_none_of_them_waiting() {
    let mut book = Book::new();
    let a = book.repository("a");
    let (first, _) = book.0.admit(a, &[], vec![part(1)]);
    let (second, _) = book.0.admit(a, &[], vec![part(1)]);
    let (child, _) = book.0.admit(a, &[], Vec::new());
    assert!(book.0.begin_publication(first) && book.0.begin_publication(child));
    assert!(!book.0.begin_publication(second));
    assert_eq!(book.0.ended_publication(child, vec![digest(1_001)]), [Step::Publish(second)]);
    assert!(book.0.begin_publication(second));
    assert_eq!(book.0.ended_publication(first, vec![digest(1_001)]), []);
}

/// What happens next, drawn from all that can.
#[derive(Debug, Clone)]
struct Draw {
    which: Index,
    what: Index,
}

/// What one delivery is of.
#[derive(Debug, Clone)]
struct Wanted {
    repository: usize,
    blobs: BTreeSet<usize>,
    /// Manifests below the root.
    parts: BTreeSet<usize>,
    /// The root, where others have it below theirs.
    root: Option<usize>,
}

#[derive(Debug, Clone)]
struct Graph {
    shared: bool,
    deliveries: Vec<Wanted>,
    /// Blobs that a repository holds beforehand, known before anything else happens or later.
    held: Vec<(usize, usize, bool)>,
    draws: Vec<Draw>,
    /// Of ten draws so many are of things going wrong.
    trouble: usize,
}

fn graph() -> impl Strategy<Value = Graph> {
    let set = |most: usize| proptest::collection::btree_set(0..most, 0..4);
    let root = proptest::option::weighted(0.3, 0..3_usize);
    let wanted = (0..3_usize, set(6), set(3), root).prop_map(|(repository, blobs, mut parts, root)| {
        if root.is_some() {
            parts.clear();
        }
        Wanted { repository, blobs, parts, root }
    });
    let deliveries = proptest::collection::vec(wanted, 1..8);
    let held = proptest::collection::vec((0..6_usize, 0..4_usize, any::<bool>()), 0..3);
    let draw = (any::<Index>(), any::<Index>()).prop_map(|(which, what)| Draw { which, what });
    let draws = proptest::collection::vec(draw, 60..200);
    let nested = proptest::collection::vec((any::<Index>(), any::<Index>()), 0..4);
    (any::<bool>(), deliveries, nested, held, draws, 0..6_usize).prop_map(
        |(shared, mut deliveries, nested, held, draws, trouble)| {
            nested.into_iter().for_each(|(index, tag)| nest(&mut deliveries, index, tag));
            Graph { shared, deliveries, held, draws, trouble }
        },
    )
}

/// Makes an index hold the manifest of another tag of its repository.
fn nest(deliveries: &mut [Wanted], index: Index, tag: Index) {
    let (index, tag) = (index.index(deliveries.len()), tag.index(deliveries.len()));
    if index == tag || deliveries[index].root.is_some() {
        return;
    }
    let repository = deliveries[index].repository;
    let part = deliveries[tag].root.unwrap_or(index % 3);
    deliveries[index].parts.insert(part);
    let tag = &mut deliveries[tag];
    (tag.repository, tag.root) = (repository, Some(part));
    tag.parts.clear();
}

/// A target and a run against it, as a loop would do it in any order.
struct World {
    ledger: Ledger<&'static str>,
    shared: bool,
    tickets: Vec<Ticket>,
    under_way: Vec<(Ticket, How)>,
    ready: VecDeque<DeliveryId>,
    putting: Vec<DeliveryId>,
    /// What the target really has.
    there: BTreeSet<(usize, usize)>,
    parts_there: BTreeSet<(usize, usize)>,
    wanted: BTreeMap<DeliveryId, Wanted>,
    outcomes: BTreeMap<DeliveryId, Result<(), &'static str>>,
    sent: BTreeMap<(usize, usize), usize>,
    /// Reasons to send a blob again.
    reasons: BTreeMap<(usize, usize), usize>,
}

impl World {
    fn take(&mut self, steps: Steps) {
        for step in steps {
            match step {
                Step::Send(ticket) | Step::Mount(ticket) => {
                    let out = self.tickets.iter().chain(self.under_way.iter().map(|(ticket, _)| ticket));
                    assert!(!out.into_iter().any(|other| *other == ticket), "two tickets for one need");
                    self.tickets.push(ticket);
                }
                Step::Publish(delivery) => self.ready.push_back(delivery),
                Step::Fail(delivery, error) => {
                    assert!(self.outcomes.insert(delivery, Err(error)).is_none(), "settled twice");
                }
            }
        }
    }

    fn is_there(&self, repository: usize, blob: usize) -> bool {
        let anywhere = self.shared && self.there.iter().any(|(_, there)| *there == blob);
        anywhere || self.there.contains(&(repository, blob))
    }

    fn open(&self) -> usize {
        self.tickets.len() + self.under_way.len() + self.ready.len() + self.putting.len()
    }

    fn step(&mut self, draw: &Draw, trouble: usize, more_to_come: bool) {
        let bad = draw.what.index(10) < trouble;
        let mut at = draw.which.index(self.open());
        if at < self.tickets.len() {
            let ticket = self.tickets.swap_remove(at);
            match self.ledger.begin(ticket) {
                Turn::Go(how) => self.under_way.push((ticket, how)),
                Turn::Pass(steps) => self.take(steps),
            }
            return;
        }
        at -= self.tickets.len();
        if at < self.under_way.len() {
            let (ticket, how) = self.under_way.swap_remove(at);
            self.end_transfer(ticket, how, draw, bad, more_to_come);
            return;
        }
        at -= self.under_way.len();
        if at < self.ready.len() {
            let delivery = self.ready.remove(at).unwrap();
            if self.ledger.begin_publication(delivery) {
                self.putting.push(delivery);
            }
            return;
        }
        let delivery = self.putting.swap_remove(at - self.ready.len());
        self.end_publication(delivery, draw, bad);
    }

    fn end_transfer(&mut self, ticket: Ticket, how: How, draw: &Draw, bad: bool, more_to_come: bool) {
        let key = (ticket.repository.index(), ticket.blob.index());
        if let How::Mount { from, .. } = how
            && bad
            && draw.what.index(3) > 0
        {
            *self.reasons.entry(key).or_default() += 1;
            let steps = self.ledger.not_given_away(ticket, Some(from));
            return self.take(steps);
        }
        if bad {
            let error = ["refused", "gone", "busy", "busy source"][draw.what.index(4)];
            let no_source = matches!(error, "gone" | "busy source");
            let lasting = matches!(error, "refused" | "gone");
            *self.reasons.entry(key).or_default() += 1;
            let steps = self.ledger.failed(
                ticket,
                Failure { error, no_source, lasting, tried_one: !lasting, stays_damaged: false },
                more_to_come,
            );
            return self.take(steps);
        }
        if let How::Send { must } = how {
            self.ledger.sent(ticket);
            *self.sent.entry(key).or_default() += 1;
            let elsewhere = self.there.iter().filter(|(_, blob)| *blob == key.1).count();
            assert!(
                must || elsewhere == 0 || self.reasons.values().sum::<usize>() > 0,
                "sent though it is there"
            );
        }
        self.there.insert(key);
        let steps = self.ledger.landed(ticket);
        self.take(steps);
    }

    fn end_publication(&mut self, delivery: DeliveryId, draw: &Draw, bad: bool) {
        let Wanted { repository, blobs, parts, root } = self.wanted[&delivery].clone();
        for blob in &blobs {
            assert!(self.is_there(repository, *blob), "a tag before all that it names");
        }
        let put: Vec<usize> = parts
            .iter()
            .copied()
            .filter(|part| !self.ledger.is_put(delivery, &digest(1_000 + part)))
            .collect();
        if bad {
            return self.refuse_publication(delivery, repository, &blobs, &parts, draw);
        }
        self.parts_there.extend(put.iter().map(|part| (repository, *part)));
        for part in &parts {
            assert!(self.parts_there.contains(&(repository, *part)), "a tag before a manifest below it");
        }
        self.parts_there.extend(root.map(|root| (repository, root)));
        let put = put.iter().chain(&root).map(|part| digest(1_000 + part)).collect();
        let steps = self.ledger.ended_publication(delivery, put);
        self.take(steps);
        assert!(self.ledger.settle(delivery));
        assert!(self.outcomes.insert(delivery, Ok(())).is_none(), "settled twice");
    }

    fn refuse_publication(
        &mut self,
        delivery: DeliveryId,
        repository: usize,
        blobs: &BTreeSet<usize>,
        parts: &BTreeSet<usize>,
        draw: &Draw,
    ) {
        let steps = self.ledger.ended_publication(delivery, Vec::new());
        self.take(steps);
        let lost: Vec<usize> = blobs.iter().copied().take(draw.what.index(3)).collect();
        let ids: Vec<BlobId> = lost.iter().map(|blob| self.ledger.blob_id(&digest(*blob), 1).0).collect();
        match self.ledger.lacks(delivery, &ids) {
            Some(steps) => {
                if ids.is_empty() {
                    parts.iter().for_each(|part| _ = self.parts_there.remove(&(repository, *part)));
                }
                for id in &ids {
                    *self.reasons.entry((repository, id.index())).or_default() += 1;
                }
                self.take(steps);
            }
            None => {
                assert!(self.ledger.settle(delivery));
                self.outcomes.insert(delivery, Err("lacks things"));
            }
        }
    }
}

fn play(graph: &Graph) {
    let holds = if graph.shared { Holds::Shared } else { Holds::PerRepository };
    let mut world = World {
        ledger: Ledger::new(holds),
        shared: graph.shared,
        tickets: Vec::new(),
        under_way: Vec::new(),
        ready: VecDeque::new(),
        putting: Vec::new(),
        there: BTreeSet::new(),
        parts_there: BTreeSet::new(),
        wanted: BTreeMap::new(),
        outcomes: BTreeMap::new(),
        sent: BTreeMap::new(),
        reasons: BTreeMap::new(),
    };
    let repositories: Vec<RepositoryId> =
        (0..4).map(|n| world.ledger.repository_id(&format!("r{n}").parse().unwrap())).collect();
    // So that the numbers of blobs are those of the graph.
    for blob in 0..6 {
        assert_eq!(world.ledger.blob_id(&digest(blob), 1).0.index(), blob);
    }
    let hold = |world: &mut World, early: bool| {
        for (blob, repository, _) in graph.held.iter().filter(|(_, _, when)| *when == early) {
            world.there.insert((*repository, *blob));
            let (_, steps) = world.ledger.held_before(&digest(*blob), 1, repositories[*repository]);
            world.take(steps);
        }
    };
    hold(&mut world, true);
    let mut draws = graph.draws.iter().cycle();
    let admit = |world: &mut World, wanted: &Wanted| {
        let Wanted { repository, blobs, parts, .. } = wanted;
        let ids: Vec<BlobId> = blobs.iter().map(|blob| world.ledger.blob_id(&digest(*blob), 1).0).collect();
        for id in &ids {
            let steps = world.ledger.new_source(*id);
            world.take(steps);
        }
        let parts_of = parts.iter().map(|number| part(*number)).collect();
        let (id, steps) = world.ledger.admit(repositories[*repository], &ids, parts_of);
        world.wanted.insert(id, wanted.clone());
        world.take(steps);
    };
    let (early, late) = graph.deliveries.split_at(graph.deliveries.len() / 2);
    early.iter().for_each(|delivery| admit(&mut world, delivery));
    hold(&mut world, false);
    for delivery in late {
        for _ in 0..3 {
            if world.open() > 0 {
                world.step(draws.next().unwrap(), graph.trouble, true);
            }
        }
        admit(&mut world, delivery);
    }
    let steps = world.ledger.no_more_sources();
    world.take(steps);
    let mut left = 20_000;
    while world.open() > 0 {
        left -= 1;
        assert!(left > 0, "it comes to no end");
        world.step(draws.next().unwrap(), graph.trouble, false);
    }
    assert_eq!(world.ledger.unsettled(), 0, "the end is reached with all settled");
    assert_eq!(world.outcomes.len(), graph.deliveries.len());
    if graph.trouble == 0 {
        assert!(world.outcomes.values().all(Result::is_ok), "nothing fails where nothing goes wrong");
        assert!(world.sent.values().all(|times| *times == 1), "each blob is sent once");
        let blobs: BTreeSet<usize> = world.sent.keys().map(|(_, blob)| *blob).collect();
        assert_eq!(blobs.len(), world.sent.len(), "and to one repository");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_ends_with_no_tag_before_what_it_names_and_a_true_report(graph in graph()) {
        play(&graph);
    }
}

#[test]
fn a_copy_that_was_seen_to_be_damaged_is_sent_whatever_a_manifest_says_and_mounted_once_this_run_has_put_it()
{
    let mut book = Book::new();
    let (a, b, base) = (book.repository("a"), book.repository("b"), book.blob(1));
    let at = |repository| Ticket { blob: base, repository };
    assert_eq!(book.0.held_before(&digest(1), 1, b).1, []);
    for repository in [a, b] {
        book.0.distrust(at(repository));
    }
    // Neither what is said before nor what is said after counts.
    assert!(!book.0.is_held(base));
    assert_eq!(book.0.held_before(&digest(1), 1, a), (None, vec![]));
    let (first, steps) = book.admit(a, &[base]);
    assert_eq!(steps, [Step::Send(at(a))]);
    let (second, steps) = book.admit(b, &[base]);
    assert_eq!(steps, []);
    assert_eq!(book.0.begin(at(a)), Turn::Go(How::Send { must: true }));
    assert_eq!(book.0.landed(at(a)), [Step::Publish(first), Step::Mount(at(b))]);
    // What is mounted is not taken for sound.
    assert_eq!(book.0.begin(at(b)), Turn::Go(How::Mount { from: a, ours: false }));
    assert_eq!(book.0.landed(at(b)), [Step::Publish(second)]);
    assert!(!book.0.is_distrusted(at(b)));
    assert_eq!(book.0.needs(base).count(), 0);
}

#[test]
fn a_copy_that_stays_damaged_fails_all_whose_copies_are_damaged_and_nobody_else() {
    let mut book = Book::new();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| book.repository(name));
    let base = book.blob(1);
    let at = |repository| Ticket { blob: base, repository };
    [a, b, d].into_iter().for_each(|repository| book.0.distrust(at(repository)));
    let (first, _) = book.admit(a, &[base]);
    let (second, _) = book.admit(b, &[base]);
    let (third, _) = book.admit(c, &[base]);
    book.0.begin(at(a));
    let failure = Failure { stays_damaged: true, ..lasting("stays", false) };
    let steps = book.0.failed(at(a), failure, false);
    let expected = [Step::Fail(first, "stays"), Step::Fail(second, "stays"), Step::Send(at(c))];
    assert_eq!(steps, expected);
    let (fourth, steps) = book.admit(d, &[base]);
    assert_eq!(steps, [Step::Fail(fourth, "stays")]);
    assert_eq!(book.0.begin(at(c)), Turn::Go(How::Send { must: false }));
    assert_eq!(book.0.landed(at(c)), [Step::Publish(third)]);
    assert_eq!(book.0.unsettled(), 1);
}
