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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::image::manifest::Manifest;
    use crate::image::reference::{Algorithm, Reference};
    use crate::record::{Contents, Missing};

    fn manifest(text: &str) -> Manifest {
        let digest = Digest::of(Algorithm::Sha256, text.as_bytes());
        let json = serde_json::json!({
            "schemaVersion": 2, "config": {"digest": digest.as_str(), "size": 2, "mediaType": "a/b"}, "layers": [],
        });
        Manifest::parse(json.to_string().into(), None, Algorithm::Sha256).unwrap()
    }

    fn blob(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    /// An image under a name, with a blob of its own and one that is left out.
    fn image(draft: &mut Draft, source: &str, manifest: &Manifest) {
        let reference: Reference = source.parse().unwrap();
        let contents = Contents {
            digest: manifest.digest.clone(),
            media_type: manifest.media_type.clone(),
            size: manifest.bytes.len() as u64,
            platforms: Vec::new(),
            more: 0,
            sparse: false,
            blobs: vec![(blob(source), 7)],
            base: vec![(blob("base"), Blob(9, "x".parse().unwrap()))],
        };
        draft.add(Image::new(&reference, reference.destinations(), &[], &contents), &contents);
    }

    fn sources(lock: &Inventory) -> Vec<String> {
        lock.images.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_earlier_runs_have_added_stays_as_long_as_it_is_so() {
        let (one, two) = (manifest("one"), manifest("two"));
        let mut index = Index::default();
        for (source, manifest) in [("q.io/a:1", &one), ("q.io/b:1", &one), ("q.io/c:1", &two)] {
            let reference: Reference = source.parse().unwrap();
            index.set(&reference.whole_names()[0], manifest);
        }
        let mut before = Draft::default();
        // Of these `b` has become another image since, and `d` is not there any more.
        for (source, manifest) in [("q.io/a:1", &one), ("q.io/b:1", &two), ("q.io/d:1", &one)] {
            image(&mut before, source, manifest);
        }
        let missing = |source: &str| Missing {
            source: source.parse().unwrap(),
            names: vec!["x:1".parse().unwrap()],
            cause: "no".to_owned(),
            reasons: Vec::new(),
        };
        before.miss(missing("q.io/c:1"));
        before.miss(missing("q.io/e:1"));
        let before = before.into_inventory(Kind::Lock, Made::default());
        let mut ours = Draft::default();
        image(&mut ours, "q.io/c:1", &two);
        // It could not be had this time, and is there from before.
        ours.miss(missing("q.io/a:1"));
        let made = Made { tool: "now".to_owned(), ..Made::default() };
        let has = |digest: &Digest, size| size == 7 && *digest != blob("q.io/d:1");
        let merged = merged(Some(before), ours, made, &index, has);
        assert_eq!(sources(&merged), ["q.io/a:1", "q.io/c:1"]);
        let missing: Vec<String> = merged.missing.keys().map(ToString::to_string).collect();
        assert_eq!((missing, merged.made.tool.as_str()), (vec!["q.io/e:1".to_owned()], "now"));
        let blobs: Vec<&Digest> = merged.blobs.keys().collect();
        assert!(blobs.len() == 3 && !blobs.contains(&&blob("q.io/d:1")), "{blobs:?}");
        assert_eq!(merged.base, BTreeMap::from([(blob("base"), Blob(9, "x".parse().unwrap()))]));
    }

    #[test]
    fn a_lock_that_cannot_be_understood_counts_for_nothing() {
        for bytes in [&b""[..], b"\xff\xfe", b"{}", b"{\"version\":1,\"kind\":\"inventory\",\"images\":[]}"] {
            assert_eq!(read(Path::new("x"), bytes), None);
        }
    }
}
