//! What an image consists of, as far as a record tells it.

use std::collections::{HashSet, VecDeque};

use super::Question;
use crate::error::{Error, Kind};
use crate::image::manifest::{Content, DOCKER_LIST, Descriptor, Manifest, OCI_INDEX};
use crate::image::reference::{Digest, Location, TagOrDigest};
use crate::plan::{DEPTH_MAX, MANIFESTS_MAX};
use crate::record::{PinnedPlatform, is_image, named_platform, size_of};

/// Largest config that is read, in bytes.
const CONFIG_MAX: u64 = 4 << 20;
/// Configs that name a platform (image-spec, "Image Configuration").
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An image, by what a run moves for it.
#[derive(Debug, Default)]
pub(super) struct Consists {
    pub platforms: Vec<PinnedPlatform>,
    /// Bytes of all else: of its indexes, and of what is for no platform.
    pub more: u64,
}

/// An entry, how deep it is, and whether it is within another one that says of a platform, by which it is taken or not.
type Waiting = (Descriptor, usize, bool);

/// The entries of indexes that are to be looked at, each once for each platform, with how deep they are.
#[derive(Debug, Default)]
struct Entries {
    waiting: VecDeque<Waiting>,
    seen: HashSet<(Digest, Option<String>)>,
}

impl Question {
    /// The platforms that `manifest` has, by name.
    pub(super) async fn platforms_of(&self, manifest: &Manifest) -> Result<Vec<String>, Error> {
        let index = match &manifest.content {
            Content::Index(index) => index,
            Content::Image(blobs) => return Ok(self.platform_of_config(blobs).await?.into_iter().collect()),
        };
        let mut names = Vec::new();
        let mut entries = Entries::default();
        self.add_entries(&mut entries, index, 1, false)?;
        while let Some((entry, depth, is_within)) = entries.waiting.pop_front() {
            if [OCI_INDEX, DOCKER_LIST].contains(&entry.media_type.as_str()) {
                if let Content::Index(inner) = &self.part(&entry).await?.content {
                    self.add_entries(&mut entries, inner, depth + 1, is_within || entry.platform.is_some())?;
                }
            } else if is_image(&entry) {
                names.extend(entry.platform.as_deref().and_then(named_platform));
            }
        }
        Ok(names)
    }

    /// All that `manifest` has, with its sizes.
    pub(super) async fn parts_of(&self, manifest: &Manifest) -> Result<Consists, Error> {
        let mut all = Consists::default();
        let index = match &manifest.content {
            Content::Index(index) => index,
            Content::Image(blobs) => {
                let platform = self.platform_of_config(blobs).await?;
                let (digest, bytes) = (manifest.digest.clone(), size_of(manifest));
                all.platforms.push(PinnedPlatform { platform, digest, bytes, undivided: true });
                return Ok(all);
            }
        };
        all.more = size_of(manifest);
        let mut entries = Entries::default();
        self.add_entries(&mut entries, index, 1, false)?;
        while let Some((entry, depth, is_within)) = entries.waiting.pop_front() {
            let part = self.part(&entry).await?;
            let bytes = size_of(&part);
            match &part.content {
                Content::Image(blobs) if is_image(&entry) => {
                    let platform = match entry.platform.as_deref().and_then(named_platform) {
                        Some(platform) => Some(platform),
                        None => self.platform_of_config(blobs).await?,
                    };
                    let undivided = is_within || entry.platform.is_none();
                    all.platforms.push(PinnedPlatform { platform, digest: entry.digest, bytes, undivided });
                }
                Content::Image(_) => all.more = all.more.saturating_add(bytes),
                Content::Index(inner) => {
                    all.more = all.more.saturating_add(bytes);
                    self.add_entries(&mut entries, inner, depth + 1, is_within || entry.platform.is_some())?;
                }
            }
        }
        Ok(all)
    }

    fn add_entries(
        &self,
        entries: &mut Entries,
        index: &[Descriptor],
        depth: usize,
        is_within: bool,
    ) -> Result<(), Error> {
        let key = |entry: &Descriptor| (entry.digest.clone(), entry.platform.clone());
        let new = index.iter().filter(|entry| entries.seen.insert(key(entry)));
        entries.waiting.extend(new.map(|entry| (entry.clone(), depth, is_within)));
        // The bounds of a run, with its image itself among the manifests and the levels.
        if entries.seen.len() >= MANIFESTS_MAX || (depth >= DEPTH_MAX && !index.is_empty()) {
            let action = format!("GET manifest {}", self.location());
            let why = format!(
                "its indexes are nested deeper than {DEPTH_MAX}, or name more than {MANIFESTS_MAX} manifests"
            );
            return Err(self.place.store.error(Kind::Invalid, action, why));
        }
        Ok(())
    }

    /// What an index describes.
    async fn part(&self, entry: &Descriptor) -> Result<Manifest, Error> {
        let name = TagOrDigest::Digest(entry.digest.clone());
        self.fetch(&Location { name, ..self.location() }, Some(entry)).await
    }

    /// The platform that an image's config names, if it has such a config.
    async fn platform_of_config(&self, blobs: &[Descriptor]) -> Result<Option<String>, Error> {
        #[derive(serde::Deserialize)]
        struct Config {
            os: String,
            architecture: String,
            variant: Option<String>,
        }
        let is_config = |blob: &&Descriptor| {
            CONFIGS.contains(&blob.media_type.as_str()) && (1..=CONFIG_MAX).contains(&blob.size)
        };
        let Some(config) = blobs.first().filter(is_config) else { return Ok(None) };
        let repository = self.location().repository;
        let mut reader = self.place.store.open(&repository, config, false, None, None).await?;
        let length = usize::try_from(config.size).unwrap_or_default();
        let bytes = reader.next_exactly(length).await.map_err(crate::store::Trial::into_error)?;
        let Ok(Config { os, architecture, variant }) = serde_json::from_slice(&bytes) else {
            return Ok(None);
        };
        let variant = variant.filter(|variant| !variant.is_empty());
        let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
        Ok(named_platform(&format!("{os}/{architecture}{variant}")))
    }
}
