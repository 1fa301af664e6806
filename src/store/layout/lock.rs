//! The lock of a layout: which digest each name stood for where it is published, and why it was chosen.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use super::LayoutError;
use super::files::Files;
use super::index::Index;
use crate::image::reference::Digest;
use crate::record::{Blob, Draft, Image, Inventory, Kind, Made};
use crate::store::Incoming;
use crate::util::text::printable;

/// The lock of an archive that is going to hold `images`, and is said to be without what is `missing`; `None` where none of
/// them is recorded.
pub(super) fn document(images: &[Incoming], missing: Draft, made: &Made) -> Option<Bytes> {
    if images.iter().all(|image| image.record.is_none()) {
        return None;
    }
    let mut draft = missing;
    for (image, contents) in images.iter().filter_map(|image| image.record.as_ref()) {
        draft.add(image.clone(), contents);
    }
    Some(draft.into_inventory(Kind::Lock, made.clone()).to_json().into())
}

/// The lock of an archive that is without images which were to be in it, with the causes and without them.
pub(super) fn of_rest(recorded: &Draft, made: &Made) -> [Vec<u8>; 2] {
    [recorded.clone(), recorded.clone().without_causes()]
        .map(|draft| draft.into_inventory(Kind::Lock, made.clone()).to_json().into_bytes())
}

/// What the locks of these layouts say to be left out, and none of them has.
///
/// # Errors
/// A lock cannot be read.
pub(super) fn base_of(layouts: &[Files]) -> Result<BTreeMap<Digest, Blob>, LayoutError> {
    let mut base = BTreeMap::new();
    for files in layouts {
        if let Some(bytes) = files.lock()? {
            base.extend(read(files.path(), &bytes).map(|lock| lock.base).unwrap_or_default());
        }
    }
    base.retain(|digest, _| !layouts.iter().any(|files| matches!(files.blob(digest), Ok(Some(_)))));
    Ok(base)
}

/// What a lock says that is there already. One that cannot be understood is told, and counts for nothing.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Option<Inventory> {
    let name = printable(&path.display().to_string());
    match Inventory::from_json(&String::from_utf8_lossy(bytes), &name, &[Kind::Lock]) {
        Ok(lock) => Some(lock),
        Err(error) => {
            tracing::warn!("{error}; what it says counts for nothing");
            None
        }
    }
}

/// What was there `before` and is so still, by `index` and by what the layout `has`, with `ours`, which go before.
pub(super) fn merged(
    before: Option<Inventory>,
    ours: Draft,
    made: Made,
    index: &Index,
    has: impl Fn(&Digest, u64) -> bool,
) -> Inventory {
    let mut lock = ours.into_inventory(Kind::Lock, made);
    let Some(before) = before else { return lock };
    let is_named = |image: &Image| {
        let names = image.source.whole_names();
        names
            .iter()
            .any(|name| index.find(&name.to_string()).is_some_and(|entry| entry.digest == image.digest))
    };
    let is_about = |image: &Image| image.refers_to.is_some();
    for (source, image) in before.images {
        if is_about(&image) || is_named(&image) {
            lock.images.entry(source).or_insert(image);
        }
    }
    for (source, missing) in before.missing {
        lock.missing.entry(source).or_insert(missing);
    }
    // What an earlier run has brought is there, whatever became of it in this one.
    lock.missing.retain(|source, _| !lock.images.contains_key(source));
    for (digest, blob) in before.blobs {
        if has(&digest, blob.0) {
            lock.blobs.entry(digest).or_insert(blob);
        }
    }
    let (blobs, mut base) = (&lock.blobs, before.base);
    base.append(&mut lock.base);
    base.retain(|digest, Blob(..)| !blobs.contains_key(digest));
    lock.base = base;
    lock
}
