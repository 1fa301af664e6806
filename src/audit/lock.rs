//! What a layout's own lock says of it, held against what is there.

use std::collections::HashMap;

use crate::image::reference::Digest;
use crate::record::{Blob, Image, Inventory, Missing};
use crate::store::layout::Entry;
use crate::util::text;

/// What `locks` have and is not so, a sentence each: images that `entries` do not name, content that is not there, and
/// what was missing from the beginning.
pub(super) fn contradictions(
    locks: &[Inventory],
    entries: &[Entry],
    is_there: impl Fn(&Digest) -> bool,
) -> Vec<String> {
    let mut all = Vec::new();
    let names = entries.iter().filter_map(|entry| Some((entry.name.as_deref()?, &entry.digest)));
    let names: HashMap<&str, &Digest> = names.collect();
    for lock in locks {
        for missing in lock.missing.values().filter(|missing| !locks.iter().any(|lock| has(lock, missing))) {
            let why = if missing.cause.is_empty() { "" } else { ": " };
            let cause = text::printable(&missing.cause);
            all.push(format!("it was written without {}{why}{cause}", missing.source));
        }
        let images = lock.images.values().filter(|image| image.refers_to.is_none());
        let changed = images.filter(|image| !is_named(image, &names));
        all.extend(changed.map(|image| {
            format!(
                "{} is not in index.json with the digest that its lock has, {}",
                image.source, image.digest
            )
        }));
        let lost = lock.blobs.iter().filter(|(digest, _)| !is_there(digest));
        all.extend(lost.map(|(digest, Blob(size, repository))| {
            format!(
                "blob {digest} of {repository}, {}, is in its lock and not in it: it was lost",
                text::bytes(*size)
            )
        }));
    }
    all
}

fn has(lock: &Inventory, missing: &Missing) -> bool {
    lock.images.contains_key(&missing.source)
}

/// Whether each of the image's `names` is that of its digest.
fn is_named(image: &Image, names: &HashMap<&str, &Digest>) -> bool {
    let whole_names = image.source.whole_names();
    whole_names.iter().all(|name| names.get(name.to_string().as_str()) == Some(&&image.digest))
}
