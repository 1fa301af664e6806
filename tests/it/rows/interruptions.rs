//! What an interruption leaves of large blobs.

use std::time::Duration;

use crate::scene::{Scene, gets_of, puts_of};
use crate::support::{Fault, Image, Kind, Op, on};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_ends_in_time_after_an_interruption_is_kept_and_the_rest_is_not_waited_for() {
    let images = [
        ("quay.io/group/near:1", Image::generated(Kind::Oci, 1, &[1_500_000])),
        ("quay.io/group/far:1", Image::generated(Kind::Oci, 2, &[30_000_000])),
    ];
    let layer = |n: usize| images[n].1.blobs[1].digest.clone();
    let scene = Scene::new(&images);
    // Half a megabyte a second for each.
    let slow = Fault::Trickle { bytes: 25_000, every: Duration::from_millis(50) };
    scene.source.fault(on(Op::BlobGet).then(slow));
    let run = scene.run_until(async { tokio::time::sleep(3 * SECOND / 2).await }, |policy| {
        policy.timing.farewell = 20 * SECOND
    });
    assert_eq!((run.report.copied, run.report.left), (1, 1), "{}", run.report);
    assert!(run.took < 15 * SECOND, "{:?}", run.took);
    assert!(scene.target.digest_of("group/near", "1").is_some());
    scene.heal();
    assert_eq!(gets_of(scene.journal(), &layer(0)).len(), 1);
    assert_eq!(puts_of(scene.journal(), &layer(1)).iter().filter(|put| put.succeeded()).count(), 1);
}
