use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A host by a clock that only moves when it is told to.
struct Host {
    pace: Pace,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        Self { pace: Pace::new(500 * MS), now: Instant::now() }
    }

    fn later(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// The turn of somebody who does not wait for it.
    fn turn(&mut self, load: Load) -> Turn {
        let place = self.pace.queue(load);
        let turn = self.pace.turn(place, self.now);
        self.pace.leave(place);
        turn
    }

    fn pass(&mut self) -> Option<Pass> {
        match self.turn(Load::Question) {
            Turn::Go(pass) => Some(pass),
            Turn::At(_) | Turn::Later | Turn::AskFirst => None,
        }
    }

    /// As many as may go now.
    fn passes(&mut self) -> Vec<Pass> {
        std::iter::from_fn(|| self.pass()).take(REQUESTS_PER_HOST).collect()
    }

    fn take(&mut self, pass: Pass) {
        self.pace.taken(pass, self.now);
    }

    fn refuse(&mut self, pass: Pass) -> bool {
        self.pace.refused(pass, self.now)
    }

    fn close_for(&mut self, pause: Duration) {
        self.pace.close(self.now + pause, self.now);
    }

    /// Waits until the next may go, and asks.
    fn next(&mut self) -> Pass {
        loop {
            match self.turn(Load::Question) {
                Turn::Go(pass) => return pass,
                Turn::At(then) => self.now = then,
                Turn::Later | Turn::AskFirst => panic!("nobody else asks"),
            }
        }
    }

    /// So many at a time may be under way.
    fn window(&self) -> usize {
        self.pace.window.map_or(usize::MAX, |window| window as usize)
    }
}

/// A host that has refused one of `at_a_time` requests and asked for a pause of a second.
fn limited(at_a_time: usize) -> Host {
    let mut host = Host::new();
    let mut passes: Vec<Pass> = (0..at_a_time).filter_map(|_| host.pass()).collect();
    let refused = passes.pop().unwrap();
    host.later(10 * MS).refuse(refused);
    host.close_for(SECOND);
    passes.into_iter().for_each(|pass| host.pace.ended(pass));
    host
}

#[test]
fn a_host_that_refuses_nothing_is_asked_as_fast_as_may_be() {
    let mut host = Host::new();
    for _ in 0..10 {
        let passes = host.passes();
        assert_eq!(passes.len(), REQUESTS_PER_HOST);
        passes.into_iter().for_each(|pass| host.take(pass));
    }
    assert!(matches!(host.turn(Load::Blob), Turn::Go(_)));
}

#[test]
fn after_a_pause_one_asks_alone_and_then_half_of_those_that_were_there_before() {
    let mut host = limited(40);
    assert!(host.passes().is_empty());
    let probes = host.later(SECOND).passes();
    assert_eq!(probes.len(), 1, "one shows whether it takes requests again");
    host.later(10 * MS).take(probes[0]);
    assert_eq!(host.window(), 20);
}

#[test]
fn one_pause_halves_once_however_many_are_refused_for_it() {
    let mut host = Host::new();
    let passes: Vec<Pass> = (0..40).filter_map(|_| host.pass()).collect();
    let news: Vec<bool> = passes.into_iter().map(|pass| host.later(MS).refuse(pass)).collect();
    assert_eq!((news[0], news.iter().filter(|news| **news).count()), (true, 1));
    host.close_for(SECOND);
    host.close_for(SECOND);
    assert_eq!((host.window(), host.pace.refusals()), (20, 1));
}

#[test]
fn a_late_refusal_of_before_the_pause_halves_nothing_and_has_the_host_asked_again() {
    let mut host = Host::new();
    let (first, late) = (host.pass().unwrap(), host.pass().unwrap());
    let _others: Vec<Pass> = (0..6).filter_map(|_| host.pass()).collect();
    host.refuse(first);
    let probe = host.next();
    host.take(probe);
    assert_eq!(host.window(), 4);
    assert!(!host.refuse(late));
    assert_eq!((host.window(), host.pace.is_doubtful()), (4, true));
}

#[test]
fn it_grows_by_one_with_each_round_and_is_free_again_at_last() {
    let mut host = limited(16);
    let probe = host.later(SECOND).next();
    host.take(probe);
    let mut before = host.window();
    assert_eq!(before, 8);
    while host.window() < 20 {
        (0..before + 1).for_each(|_| {
            let pass = host.next();
            host.later(MS).take(pass);
        });
        assert!((before..=before + 1).contains(&host.window()), "{before} to {}", host.window());
        before = host.window();
    }
    for _ in 0..20_000 {
        let pass = host.next();
        host.take(pass);
    }
    assert_eq!(host.later(SECOND).passes().len(), REQUESTS_PER_HOST);
}

#[test]
fn one_request_at_a_time_is_the_least() {
    let mut host = limited(1);
    for _ in 0..5 {
        let pass = host.later(SECOND).next();
        host.take(pass);
        let pass = host.next();
        host.refuse(pass);
        assert_eq!(host.window(), 1);
    }
    assert_eq!(host.later(SECOND).passes().len(), 1);
}

#[test]
fn a_probe_that_is_refused_halves_nothing_and_one_that_gets_no_answer_is_followed_by_another() {
    let mut host = limited(40);
    let probe = host.later(SECOND).next();
    assert!(host.refuse(probe));
    assert_eq!((host.pace.window, host.pace.refusals()), (Some(20.0), 2));
    let silent = host.next();
    assert_eq!(host.pass(), None);
    let another = host.later(OVERDUE).pass().unwrap();
    host.pace.ended(another);
    assert!(host.pass().is_some());
    host.pace.ended(silent);
}

#[test]
fn a_blob_goes_only_once_something_small_was_taken_and_then_before_all_questions() {
    let mut host = limited(40);
    host.later(SECOND);
    let (blob, question) = (host.pace.queue(Load::Blob), host.pace.queue(Load::Question));
    assert_eq!(host.pace.turn(blob, host.now), Turn::Later);
    let Turn::Go(probe) = host.pace.turn(question, host.now) else { panic!("no probe") };
    assert!(matches!(host.pace.turn(blob, host.now), Turn::At(_)));
    host.take(probe);
    let question = host.pace.queue(Load::Question);
    host.later(SECOND);
    assert_eq!(host.pace.turn(question, host.now), Turn::Later);
    assert!(matches!(host.pace.turn(blob, host.now), Turn::Go(_)));
}

#[test]
fn whether_a_host_takes_more_is_tried_by_what_costs_nothing() {
    let mut host = limited(40);
    let refused = host.now;
    host.later(SECOND);
    for _ in 0..60 {
        let pass = host.next();
        host.take(pass);
    }
    let Turn::At(question) = host.turn(Load::Question) else { panic!("it is not spaced") };
    let Turn::At(blob) = host.turn(Load::Blob) else { panic!("it is not spaced") };
    assert!(question < blob, "{:?} before", blob - question);
    // Of the 60 one at most was left when it refused.
    assert!(blob - host.now <= (host.now - refused) / 59 + MS, "{:?}", blob - host.now);
    host.now = blob;
    assert!(matches!(host.turn(Load::Blob), Turn::Go(_)));
}

#[test]
fn where_only_blobs_wait_one_of_them_is_sent_to_ask() {
    let mut host = limited(40);
    host.later(SECOND);
    let blobs = [host.pace.queue(Load::Blob), host.pace.queue(Load::Blob)];
    assert_eq!(host.pace.turn(blobs[0], host.now), Turn::AskFirst);
    host.pace.leave(blobs[0]);
    assert!(matches!(host.pace.turn(blobs[1], host.now), Turn::At(_)));
    let probe = host.pass().expect("the question");
    host.take(probe);
    host.later(SECOND);
    assert!(matches!(host.pace.turn(blobs[1], host.now), Turn::Go(_)));
    // A blob that costs no more than a question is one.
    let mut host = limited(40);
    assert!(matches!(host.later(SECOND).turn(Load::of(1_000)), Turn::Go(_)));
}

#[test]
fn what_is_under_way_for_long_keeps_nobody_waiting() {
    let mut host = limited(4);
    let probe = host.later(SECOND).next();
    host.take(probe);
    let long: Vec<Pass> = (0..2).map(|_| host.next()).collect();
    host.later(100 * MS);
    assert_eq!(host.pass(), None);
    assert!(host.later(OVERDUE).pass().is_some());
    long.into_iter().for_each(|pass| host.take(pass));
}

/// A bucket that holds `depth` requests and gets `rate` of them a second.
struct Bucket {
    depth: f64,
    rate: f64,
    filled: (Instant, f64),
}

impl Bucket {
    fn new(depth: f64, rate: f64, now: Instant) -> Self {
        Self { depth, rate, filled: (now, depth) }
    }

    fn takes(&mut self, now: Instant) -> bool {
        let (since, left) = self.filled;
        let left = (left + (now - since).as_secs_f64() * self.rate).min(self.depth);
        let takes = left >= 1.0;
        self.filled = (now, if takes { left - 1.0 } else { left });
        takes
    }
}

/// What some do at a host at a time, each of them a question and then a blob, in turn.
#[derive(Debug, Clone, Copy)]
enum Doing {
    Nothing,
    Waiting(Place, Load),
    Asking { until: Instant, pass: Pass, load: Load, taken: bool },
}

#[derive(Debug, Default)]
struct Outcome {
    seconds: f64,
    refused: usize,
    /// Blobs that were refused though the host was known to have a limit by then.
    blobs_refused: usize,
}

/// Makes `count` requests of some milliseconds each, up to `at_a_time` together, at a host with such a limit that wants
/// to be left alone for `pause`.
fn run(depth: f64, rate: f64, count: usize, at_a_time: usize, pause: Duration) -> Outcome {
    let mut host = Host::new();
    let mut bucket = Bucket::new(depth, rate, host.now);
    let (began, mut outcome, mut done, mut asked) = (host.now, Outcome::default(), 0, 0);
    let mut workers = vec![(Doing::Nothing, Load::Question); at_a_time];
    let mut is_known = false;
    while done < count {
        let mut is_still = false;
        while !std::mem::replace(&mut is_still, true) {
            for (doing, load) in &mut workers {
                let before = *doing;
                *doing = match *doing {
                    Doing::Nothing => Doing::Waiting(host.pace.queue(*load), *load),
                    Doing::Waiting(place, load) => match host.pace.turn(place, host.now) {
                        Turn::Go(pass) => {
                            asked += 1;
                            let taken = bucket.takes(host.now);
                            outcome.blobs_refused += usize::from(is_known && !taken && load == Load::Blob);
                            let until = host.now + (3 + asked * 7 % 10) * MS;
                            Doing::Asking { until, pass, load, taken }
                        }
                        Turn::AskFirst => {
                            host.pace.leave(place);
                            Doing::Waiting(host.pace.queue(Load::Question), Load::Question)
                        }
                        Turn::At(_) | Turn::Later => continue,
                    },
                    Doing::Asking { .. } => continue,
                };
                is_still &= std::mem::discriminant(&before) == std::mem::discriminant(doing);
            }
        }
        let now = host.later(MS).now;
        for (doing, next) in &mut workers {
            let Doing::Asking { until, pass, load, taken } = *doing else { continue };
            if until > now {
                continue;
            }
            *doing = Doing::Nothing;
            if taken {
                host.take(pass);
                // A question that a blob has to ask first is none of those that are counted.
                if load == *next {
                    done += 1;
                    *next = if load == Load::Blob { Load::Question } else { Load::Blob };
                }
            } else {
                outcome.refused += 1;
                is_known = true;
                host.refuse(pass);
                host.close_for(pause);
            }
        }
    }
    outcome.seconds = (host.now - began).as_secs_f64();
    outcome
}

#[test]
fn a_limit_of_requests_a_second_is_found_and_nearly_used_up() {
    for (depth, rate) in [(20.0, 20.0), (100.0, 100.0), (50.0, 20.0), (10.0, 5.0), (5.0, 20.0), (2.0, 20.0)] {
        for at_a_time in [1, 12, 40] {
            let count = 60 * rate as usize;
            let outcome = run(depth, rate, count, at_a_time, SECOND);
            let fair = (count as f64 - depth) / rate;
            let told = format!("{depth} {rate} {at_a_time}: {fair:.1} s were fair, {outcome:.1?} of {count}");
            // What is not stored while the host is left alone is lost.
            let lost = if depth < rate { 1.5 } else { 1.1 };
            assert!(outcome.seconds <= lost * fair, "{told}");
            assert!(outcome.refused <= 2 * at_a_time + count / 30, "{told}");
            assert!(outcome.blobs_refused <= 4 + count / 150, "{told}");
        }
    }
}

#[test]
fn how_long_a_refusal_takes_is_told_by_those_of_what_is_small() {
    let mut host = Host::new();
    assert_eq!(host.pace.refusal_takes(), None);
    for (takes, expected) in [(80, 80), (20, 20), (60, 30)] {
        let pass = host.next();
        host.later(takes * MS).refuse(pass);
        assert_eq!(host.pace.refusal_takes(), Some(expected * MS));
        let pass = host.next();
        host.take(pass);
    }
    let Turn::Go(blob) = host.later(SECOND).turn(Load::Blob) else { panic!("it takes requests") };
    host.later(2 * MS).refuse(blob);
    assert_eq!(host.pace.refusal_takes(), Some(30 * MS));
}
