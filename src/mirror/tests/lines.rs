//! Lines that many blobs share.

use std::collections::HashSet;

use tokio::time::sleep;

use super::*;

const KIB: f64 = 1024.0;

/// A line that moves so many bytes a second, whoever reads; a small blob is no matter.
fn line(rate: f64) -> impl FnMut(&Act) -> Vec<Fault> {
    let mut free = Instant::now();
    let small: HashSet<Digest> = (0..20).map(|number| digest(number, 10)).collect();
    move |act| match act {
        Act::Read(_, blob, _) if !small.contains(blob) => {
            free = free.max(Instant::now()) + Duration::from_secs_f64(64.0 * KIB / rate);
            vec![Fault::Delay(free - Instant::now())]
        }
        _ => vec![],
    }
}

/// Images of a large blob each, of so many bytes.
fn heavy(sizes: &[usize]) -> (Arc<Store>, Vec<Request>) {
    let source = store("source");
    let request = |(number, size): (usize, &usize)| {
        let name = format!("heavy{number}");
        image(&source, &name, "1", &[(number, 10), (100 + number, *size)]);
        request(&source, &name, "1")
    };
    let requests = sizes.iter().enumerate().map(request).collect();
    (source, requests)
}

/// A run that is interrupted after so many seconds, and how long it took to end.
async fn interrupted(requests: Vec<Request>, target: &Arc<Store>, seconds: u32) -> (Finished, Duration) {
    let limits = Limits::for_images(NonZeroUsize::new(10).unwrap());
    let (began, after) = (Instant::now(), seconds * SECOND);
    let (memory, interrupted) = (Target::memory(target), sleep(after));
    let finished = mirror(requests, memory, Rules::default(), limits, Arc::new(|_| {}), interrupted).await;
    assert!(finished.interrupted);
    (finished, began.elapsed() - after)
}

/// Most large blobs that were read at one time.
fn most_at_once(source: &Store, target: &Store) -> usize {
    let times = |store: &Store, change: fn(&Act) -> isize| -> Vec<(Instant, isize)> {
        store.journal().iter().map(|entry| (entry.at, change(&entry.act))).collect()
    };
    let mut all = times(source, |act| isize::from(matches!(act, Act::Read(_, _, 65_536))));
    // The small ones are there before.
    all.extend(times(target, |act| -isize::from(matches!(act, Act::PutManifest(..)))));
    all.sort();
    let (mut now, mut most) = (0_isize, 0);
    for (_, change) in all {
        now = (now + change).max(0);
        most = most.max(now);
    }
    most.unsigned_abs()
}

#[tokio::test(start_paused = true)]
async fn on_a_thin_line_few_large_blobs_go_at_once_and_an_interruption_loses_little() {
    let (source, requests) = heavy(&[4_000_000; 10]);
    source.script(line(200.0 * KIB));
    let target = store("target");
    let (finished, _) = interrupted(requests.clone(), &target, 115).await;
    let copied = outcomes(&finished).0.len();
    assert_eq!(copied, 6, "four were done, and two were near their end");
    let before = target.bytes_put();
    let finished = run(requests, &target).await;
    assert_eq!(outcomes(&finished).1, Vec::<&str>::new());
    assert_eq!(target.bytes_put() - before, 4 * 4_000_000, "the next run sends the rest");
}

#[tokio::test(start_paused = true)]
async fn an_interruption_leaves_the_line_to_what_ends_in_time() {
    let (source, requests) = heavy(&[4_000_000, 9_000_000]);
    source.script(line(200.0 * KIB));
    let target = store("target");
    let (finished, took) = interrupted(requests, &target, 28).await;
    assert_eq!(outcomes(&finished).0, ["target/heavy0:1"]);
    assert!(took < 7 * SECOND, "it was alone, and yet took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interruption_does_not_wait_for_what_does_not_end_in_time() {
    let (source, requests) = heavy(&[40_000_000]);
    source.script(line(200.0 * KIB));
    let (finished, took) = interrupted(requests, &store("target"), 30).await;
    assert_eq!(outcomes(&finished).0, Vec::<&str>::new());
    assert!(took < SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_line_has_as_many_large_blobs_as_are_allowed() {
    let (source, requests) = heavy(&[8_000_000; 14]);
    source.script(line(50_000.0 * KIB));
    let target = store("target");
    let began = Instant::now();
    run(requests, &target).await;
    assert_eq!(most_at_once(&source, &target), 10);
    assert!(began.elapsed() < 3 * SECOND, "{:?}", began.elapsed());
}
