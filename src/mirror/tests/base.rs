//! Layers that a source leaves out, for the target is said to have them.

use super::*;

/// A source with an image in `new`, one of whose layers it lacks, and what is assumed of that.
fn delta(named: &str) -> (Arc<Store>, Request) {
    let source = store("source");
    image(&source, "new", "1", &[(1, 10), (2, 3_000), (3, 4_000)]);
    source.remove_blob(&"new".parse().unwrap(), &digest(2, 3_000));
    let blob = Blob(3_000, named.parse().unwrap());
    let assumed = Some(Arc::new(BTreeMap::from([(digest(2, 3_000), blob)])));
    let request = Request { assumed, ..request(&source, "new", "1") };
    (source, request)
}

fn is_write(act: &Act) -> bool {
    matches!(act, Act::Mount(..) | Act::PutBlob(..) | Act::PutManifest(..))
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_asked_for_before_anything_is_written_and_mounted() {
    let (source, request) = delta("old");
    let target = store("target");
    target.add_blob(&"old".parse().unwrap(), bytes(2, 3_000));
    let finished = run(vec![request], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/new:1"], vec![]));
    let done = target.done();
    let asked = Act::Has("old".parse().unwrap(), digest(2, 3_000));
    let [asked, written] = [&|act: &Act| *act == asked, &is_write as &dyn Fn(&Act) -> bool]
        .map(|is| done.iter().position(is).expect("it was done"));
    assert!(asked < written, "{done:?}");
    let opened = source
        .done()
        .into_iter()
        .filter(|act| matches!(act, Act::Open(_, blob) if *blob == digest(2, 3_000)));
    assert_eq!(opened.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn where_it_is_not_nothing_is_written_and_it_is_named() {
    for has_another in [false, true] {
        let (_source, request) = delta("old");
        let target = store("target");
        if has_another {
            // Of another size, so that it is another one.
            target.add_blob(&"old".parse().unwrap(), bytes(2, 2_999));
        }
        let finished = run(vec![request], &target).await;
        assert!(!target.done().iter().any(is_write), "{:?}", target.done());
        let error = finished.gave_up.expect("it was given up");
        let told = error.to_string();
        assert!(told.contains(digest(2, 3_000).as_str()) && told.contains(" of old"), "{told}");
        assert!(told.contains("1 of 1 layer that it leaves out") && !error.is_refusal(), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_may_not_be_seen_is_passed_over_for_one_that_wants_the_layer() {
    let (_source, request) = delta("secret");
    let target = store("target");
    target.add_blob(&"new".parse().unwrap(), bytes(2, 3_000));
    target.script(|act| match act {
        Act::Has(repository, _) if repository.as_str() == "secret" => vec![Fault::Fail(Kind::Denied)],
        _ => vec![],
    });
    let finished = run(vec![request], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/new:1"], vec![]));
    // One that cannot be asked at all is another matter.
    let (_source, request) = delta("secret");
    let target = store("target");
    target.script(|act| match act {
        Act::Has(..) => vec![Fault::Fail(Kind::Unreachable)],
        _ => vec![],
    });
    let finished = run(vec![request], &target).await;
    assert!(finished.gave_up.is_some_and(|error| error.is_refusal()) && !target.done().iter().any(is_write));
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_mounted_it_is_read_from_the_target_itself() {
    let (_source, request) = delta("old");
    let target = Arc::new(Store::new("target").without_mounts());
    target.add_blob(&"old".parse().unwrap(), bytes(2, 3_000));
    let finished = run(vec![request], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/new:1"], vec![]));
    assert!(target.done().contains(&Act::Open("old".parse().unwrap(), digest(2, 3_000))));
}

#[tokio::test(start_paused = true)]
async fn what_is_elsewhere_is_not_brought() {
    let source = store("source");
    image(&source, "new", "1", &[(1, 10), (2, 3_000), (3, 4_000)]);
    let target = Arc::new(Store::new("target").taking_unverified());
    let there = |number, size: usize| (digest(number, size), Blob(size as u64, "old".parse().unwrap()));
    // The config is always in, and so is what has another size.
    let mut elsewhere = BTreeMap::from([there(1, 10), there(2, 3_000), there(3, 4_000)]);
    elsewhere.get_mut(&digest(3, 4_000)).unwrap().0 += 1;
    let request = Request { elsewhere: Arc::new(elsewhere), ..request(&source, "new", "1") };
    let finished = run(vec![request], &target).await;
    assert_eq!(outcomes(&finished), (vec!["target/new:1"], vec![]));
    let put: Vec<Digest> = target
        .done()
        .into_iter()
        .filter_map(|act| match act {
            Act::PutBlob(_, digest) => Some(digest),
            _ => None,
        })
        .collect();
    assert!(put.len() == 2 && !put.contains(&digest(2, 3_000)), "{put:?}");
}
