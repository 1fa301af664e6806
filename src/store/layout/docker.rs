//! docker's own list of the images in an archive, `manifest.json`: one platform of each.
//!
//! docker with its classic store, and podman, read this file and nothing of the layout. What they would choke on is left
//! out of it, and is in the archive all the same: they load all of the list or nothing.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::archive::contents::Image;
use super::archive::names::{Known, blob_path};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::Platform;
use crate::image::reference::Digest;
use crate::util::text::printable;

/// Types of configs that say how a container runs. Anything else is an artifact that no docker can load.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Beginnings of the types of layers that are trees of files.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];

/// An image of the list, as docker writes it (moby, `image/tarexport`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Why a list cannot be what it should be: it is none, or names a blob that is not there. What it has from before there were
/// layouts is not looked at.
pub(super) fn first_missing(list: &[u8], is_there: impl Fn(&Digest) -> bool) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        config: String,
        layers: Option<Vec<String>>,
    }
    let listed: Vec<Listed> = match serde_json::from_slice(list) {
        Ok(listed) => listed,
        Err(error) => return Some(printable(&error.to_string())),
    };
    let named = listed
        .into_iter()
        .flat_map(|image| [image.config].into_iter().chain(image.layers.unwrap_or_default()));
    let is_missing = |path: &String| match Known::parse(path) {
        Some(Known::Blob(digest)) => !is_there(&digest),
        _ => false,
    };
    named
        .into_iter()
        .find(is_missing)
        .map(|path| format!("it names {}, which is not there", printable(&path)))
}

/// What is left of a list without some names, and without images of which something is not there.
///
/// # Errors
/// It is no such list.
pub(super) fn rest(
    list: &[u8],
    is_named: impl Fn(&str) -> bool,
    is_there: impl Fn(&Digest) -> bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut entries: Vec<Entry> = serde_json::from_slice(list)?;
    let has = |path: &String| matches!(Known::parse(path), Some(Known::Blob(digest)) if is_there(&digest));
    entries.retain_mut(|entry| {
        let had_tags = !entry.repo_tags.is_empty();
        entry.repo_tags.retain(|name| is_named(name));
        let is_wanted = !had_tags || !entry.repo_tags.is_empty();
        is_wanted && has(&entry.config) && entry.layers.iter().all(has)
    });
    serde_json::to_vec(&entries)
}

/// The list of those of `images` that have `platform`, or do not say for which one they are, and all their layers in
/// the archive; `None` if there are none.
pub(crate) fn list(
    images: &[Image],
    platform: &Platform,
    is_there: impl Fn(&Digest) -> bool,
) -> Option<Bytes> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: HashMap<&Digest, usize> = HashMap::new();
    for image in images {
        let chosen = choose(image, platform);
        let Some(manifest) = chosen.filter(|manifest| is_loadable(manifest, &is_there)) else { continue };
        let place = *places.entry(&manifest.digest).or_insert_with(|| {
            entries.push(Entry::of(manifest));
            entries.len() - 1
        });
        let tags = &mut entries[place].repo_tags;
        // For a name with a digest in it both refuse the whole list: they give none but tags. An image without a tag is
        // loaded, and its ID told, so that it can be tagged by hand.
        for name in image.names.iter().filter(|name| !name.contains('@')) {
            if !tags.contains(name) {
                tags.push(name.clone());
            }
        }
    }
    if entries.is_empty() { None } else { Some(serde_json::to_vec(&entries).ok()?.into()) }
}

/// The manifest of `platform`, or the only one: its config alone says for which platform it is.
fn choose<'i>(image: &'i Image, platform: &Platform) -> Option<&'i Manifest> {
    let manifests = image.manifests.iter().map(|part| &*part.manifest);
    let by_digest: HashMap<&Digest, &Manifest> =
        manifests.map(|manifest| (&manifest.digest, manifest)).collect();
    let mut next = vec![&**image.root()?];
    let mut seen = HashSet::new();
    while let Some(manifest) = next.pop() {
        let Content::Index(entries) = &manifest.content else { return Some(manifest) };
        let mut wanted: Vec<(u8, &Descriptor)> =
            entries.iter().filter_map(|entry| Some((rank(entry, platform)?, entry))).collect();
        // The best one is to be popped first.
        wanted.reverse();
        wanted.sort_by_key(|(rank, _)| Reverse(*rank));
        let below = wanted.into_iter().filter_map(|(_, entry)| by_digest.get(&entry.digest).copied());
        next.extend(below.filter(|manifest| seen.insert(&manifest.digest)));
    }
    None
}

/// How well an entry of an index suits, the least best; `None` if not at all. The very name of a platform goes before
/// what counts as the same, such as a variant of it.
fn rank(entry: &Descriptor, platform: &Platform) -> Option<u8> {
    match &entry.platform {
        _ if entry.attests.is_some() => None,
        Some(there) if *there == platform.to_string() => Some(0),
        Some(there) => platform.is(there).then_some(1),
        None => Some(2),
    }
}

/// Whether it is an image that can be run, and whole.
fn is_loadable(manifest: &Manifest, is_there: impl Fn(&Digest) -> bool) -> bool {
    let Content::Image(blobs) = &manifest.content else { return false };
    let Some((config, layers)) = blobs.split_first() else { return false };
    let is_layer = |blob: &Descriptor| LAYERS.iter().any(|start| blob.media_type.starts_with(start));
    CONFIGS.contains(&config.media_type.as_str())
        && layers.iter().all(is_layer)
        && blobs.iter().all(|blob| is_there(&blob.digest))
}

impl Entry {
    fn of(manifest: &Manifest) -> Self {
        let Content::Image(blobs) = &manifest.content else { unreachable!("it was looked at") };
        let mut paths = blobs.iter().map(|blob| blob_path(&blob.digest));
        Self { config: paths.next().unwrap_or_default(), repo_tags: Vec::new(), layers: paths.collect() }
    }
}

#[cfg(test)]
mod tests;
