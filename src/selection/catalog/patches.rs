//! The earlier patch releases of a KubeOne release, by what they have other than the newest one.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::Deserialize;

use super::schema::Broken;
use super::{Day, Full, Image, Minor, Release, Resources};

/// One that is not the newest.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchRelease {
    pub patch: Full,
    /// Its day.
    pub released: Day,
    /// The minors of Kubernetes that it supports, where they are not those of the newest one.
    pub kubernetes: Option<Vec<Minor>>,
}

/// What the patch releases `from` to `to` have in place of the newest one's.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    pub from: Full,
    pub to: Full,
    /// By resource of the newest one; `None` where they do not have it yet.
    #[serde(default)]
    pub images: BTreeMap<String, Option<Image>>,
    /// Resources that the newest one has no more.
    #[serde(default)]
    pub base: Resources,
    #[serde(default)]
    pub optional: Resources,
}

impl Earlier {
    fn holds_for(&self, patch: &Version) -> bool {
        self.from.0 <= *patch && *patch <= self.to.0
    }
}

impl Release {
    /// This release as of an earlier patch release, if that is known.
    pub fn at(&self, patch: &Version) -> Option<Self> {
        let known = self.patches.iter().find(|known| known.patch.0 == *patch)?;
        let mut release = self.clone();
        release.patch = known.patch.clone();
        release.released.clone_from(&known.released);
        if let Some(kubernetes) = &known.kubernetes {
            release.kubernetes.clone_from(kubernetes);
        }
        for earlier in self.earlier.iter().filter(|earlier| earlier.holds_for(patch)) {
            for (resources, more) in
                [(&mut release.base, &earlier.base), (&mut release.optional, &earlier.optional)]
            {
                resources.0.retain(|(name, _)| !matches!(earlier.images.get(name), Some(None)));
                for (name, resource) in &mut resources.0 {
                    if let Some(Some(image)) = earlier.images.get(name) {
                        resource.image.clone_from(image);
                    }
                }
                resources.0.extend(more.0.iter().cloned());
            }
        }
        Some(release)
    }

    /// The first rule that its patch releases break.
    pub(super) fn check_patches(&self) -> Result<(), Broken> {
        let broken = |key: &str, why| Err(Broken::at([&key], why));
        let versions: Vec<&Full> =
            self.patches.iter().map(|known| &known.patch).chain([&self.patch]).collect();
        let is_of_release = |version: &&Full| Minor::of(&version.0) == self.kubeone;
        if !versions.is_sorted_by(|a, b| a < b) || !versions.iter().all(is_of_release) {
            return broken(
                "patches",
                "`patches` lists those before `patch`, each once and ascending".to_owned(),
            );
        }
        for Earlier { from, to, images, base, optional } in &self.earlier {
            let at = format!("what `earlier` has from {} to {}", from.0, to.0);
            let known = |end: &Full| self.patches.iter().any(|known| known.patch == *end);
            if from > to || !known(from) || !known(to) {
                return broken("earlier", format!("{at} is not of `patches`"));
            }
            let names: BTreeSet<&String> =
                self.base.0.iter().chain(&self.optional.0).map(|(name, _)| name).collect();
            if let Some(name) = images.keys().find(|name| !names.contains(name)) {
                return broken("earlier", format!("{at} names {name}, which the release does not have"));
            }
            if let Some((name, _)) = base.0.iter().chain(&optional.0).find(|(name, _)| names.contains(name)) {
                return broken(
                    "earlier",
                    format!("{at} has {name} anew: it stands in `images` for what the release has"),
                );
            }
        }
        for patch in &self.patches {
            let Some(release) = self.at(&patch.patch.0) else { continue };
            let resources = release.base.0.iter().chain(&release.optional.0);
            let lacks = |image: &Image, minor: &&Minor| matches!(image, Image::ByMinor(images) if !images.contains_key(minor));
            for (name, resource) in resources {
                if let Some(minor) = release.kubernetes.iter().find(|minor| lacks(&resource.image, minor)) {
                    return broken(
                        "earlier",
                        format!("{} has no {name} for Kubernetes {minor}", patch.patch.0),
                    );
                }
            }
        }
        Ok(())
    }
}
