//! Sources that answer strangely or not at all, and what is left of a survey that is interrupted.

use super::{CNI, HUB, Shelf, state};
use crate::support::{Fault, Op, on};

#[test]
fn a_success_without_an_image_is_none() {
    let shelf = Shelf::new();
    for repository in ["acme/cni", "acme/hub"] {
        shelf.source.fault(on(Op::ManifestHead).repo(repository).then(Fault::ChangeStatus(204)));
    }
    let found = shelf.verify(&[]).expect(1).report();
    // What it has is told by its bytes, which are not asked for at the price of a pull.
    assert_eq!((state(&found, CNI).as_str(), state(&found, HUB).as_str()), ("there", "failed"), "{found}");
    assert_eq!(shelf.net.journal().count("source", Op::ManifestGet), 1);
    shelf.source.fault(on(Op::ManifestGet).repo("acme/cni").then(Fault::ChangeStatus(204)));
    let found = shelf.verify(&[]).expect(1).report();
    assert_eq!(state(&found, CNI), "failed", "{found}");
}
