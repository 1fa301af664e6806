//! What hauler's store has beside an image: signatures, attestations, lists of contents, under that image's own name.
//!
//! A name is for one manifest. So these get the names that cosign gives them in a registry, and hauler too, or none but the
//! image as their subject.

use std::collections::HashMap;

use super::Entry;
use crate::image::reference::{Digest, Reference};

/// Where hauler says what an entry is.
const KIND: &str = "kind";
/// What such a word begins with, today and in its first version.
const WHOSE: [&str; 2] = ["dev.hauler/", "dev.cosignproject.cosign/"];

/// What an entry has to do with the image whose name it has.
#[derive(Clone, Copy)]
enum Beside {
    /// It is under a tag of its own in a registry, which ends in this.
    Tagged(&'static str),
    /// It has that image as its subject.
    Referring,
}

/// Gives each of `entries` that is about an image its own name instead of that image's.
pub(super) fn rename(entries: &mut [Entry]) {
    if !entries.iter().any(|entry| beside(entry).is_some()) {
        return;
    }
    let images = entries.iter().filter(|entry| beside(entry).is_none());
    let images: HashMap<String, Digest> =
        images.filter_map(|entry| Some((entry.name.clone()?, entry.digest.clone()))).collect();
    for entry in entries {
        let Some(beside) = beside(entry) else { continue };
        let Some(image) = entry.name.take() else { continue };
        let Some(digest) = images.get(&image) else { continue };
        match beside {
            Beside::Tagged(kind) => entry.name = tagged(&image, digest, kind),
            Beside::Referring => entry.subject = Some(digest.clone()),
        }
    }
}

fn beside(entry: &Entry) -> Option<Beside> {
    let kind = entry.descriptor.get("annotations")?.get(KIND)?.as_str()?;
    match WHOSE.iter().find_map(|whose| kind.strip_prefix(whose))? {
        "sigs" => Some(Beside::Tagged("sig")),
        "atts" => Some(Beside::Tagged("att")),
        "sboms" => Some(Beside::Tagged("sbom")),
        kind if kind.split('/').next() == Some("referrers") => Some(Beside::Referring),
        _ => None,
    }
}

/// What cosign calls it: `repository:sha256-HEX.sig`.
fn tagged(image: &str, digest: &Digest, kind: &str) -> Option<String> {
    let image: Reference = image.parse().ok()?;
    let tag = format!("{}.{kind}", digest.as_str().replacen(':', "-", 1)).parse().ok()?;
    Some(Reference { tag: Some(tag), digest: None, ..image }.to_string())
}
