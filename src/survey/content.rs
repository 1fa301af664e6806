//! What an image consists of, as far as a record tells it.

use super::Question;
use crate::error::{Error, Kind};
use crate::image::manifest::{Content, Descriptor, Manifest};
use crate::image::platforms::Platform;
use crate::image::reference::{Location, TagOrDigest};
use crate::selection::catalog::PinnedPlatform;

/// Most platforms of one image.
const PLATFORMS_MAX: usize = 128;
/// Largest config that is read, in bytes.
const CONFIG_MAX: u64 = 4 << 20;
/// Configs that name a platform (image-spec, "Image Configuration").
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// The platform of what is for none, such as an attestation.
const NO_PLATFORM: &str = "unknown/unknown";

impl Question {
    /// The platforms that `manifest` has, by name.
    pub(super) async fn platforms_of(&self, manifest: &Manifest) -> Result<Vec<String>, Error> {
        match &manifest.content {
            Content::Index(_) => {
                let entries = self.entries(manifest)?;
                Ok(entries.into_iter().filter_map(|entry| named(entry.platform.as_deref()?)).collect())
            }
            Content::Image(blobs) => Ok(self.platform_of_config(blobs).await?.into_iter().collect()),
        }
    }

    /// The platforms that `manifest` has, with their sizes.
    pub(super) async fn record_of(&self, manifest: &Manifest) -> Result<Vec<PinnedPlatform>, Error> {
        let Content::Image(blobs) = &manifest.content else {
            let mut platforms = Vec::new();
            for entry in self.entries(manifest)? {
                let name = TagOrDigest::Digest(entry.digest.clone());
                let location = Location { name, ..self.location() };
                let child = self.fetch(&location, Some(entry)).await?;
                let platform = match (entry.platform.as_deref().and_then(named), &child.content) {
                    (None, Content::Image(blobs)) => self.platform_of_config(blobs).await?,
                    (platform, _) => platform,
                };
                platforms.push(PinnedPlatform {
                    platform,
                    digest: entry.digest.clone(),
                    bytes: size_of(&child),
                });
            }
            return Ok(platforms);
        };
        let platform = self.platform_of_config(blobs).await?;
        Ok(vec![PinnedPlatform { platform, digest: manifest.digest.clone(), bytes: size_of(manifest) }])
    }

    /// The entries of an index that are for a platform, or do not say.
    fn entries<'m>(&self, index: &'m Manifest) -> Result<Vec<&'m Descriptor>, Error> {
        let Content::Index(entries) = &index.content else { return Ok(Vec::new()) };
        let is_image =
            |entry: &&Descriptor| entry.attests.is_none() && entry.platform.as_deref() != Some(NO_PLATFORM);
        let entries: Vec<&Descriptor> = entries.iter().filter(is_image).collect();
        if entries.len() > PLATFORMS_MAX {
            let action = format!("GET manifest {}", self.location());
            let why = format!("it names more than {PLATFORMS_MAX} platforms");
            return Err(self.place.store.error(Kind::Invalid, action, why));
        }
        Ok(entries)
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
        Ok(named(&format!("{os}/{architecture}{variant}")))
    }
}

/// A platform by the name that a user would give it; none for what no user could name.
fn named(platform: &str) -> Option<String> {
    let is_platform = platform != NO_PLATFORM && platform.parse::<Platform>().is_ok();
    is_platform.then(|| platform.to_owned())
}

/// Bytes of a manifest and of what it names, but for layers that are not to be distributed.
fn size_of(manifest: &Manifest) -> u64 {
    let (Content::Image(parts) | Content::Index(parts)) = &manifest.content;
    let parts = parts.iter().filter(|part| !part.is_foreign()).map(|part| part.size);
    parts.fold(manifest.bytes.len() as u64, u64::saturating_add)
}
