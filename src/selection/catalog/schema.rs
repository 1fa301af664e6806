//! What the YAML documents of a catalog hold, and the rules that each must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use semver::Version;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{Day, Earlier, Gone, Group, Minor, PatchRelease, Rules};
use crate::image::reference::Reference;

/// No minor has come near it; a typing error easily goes beyond.
const PATCH_MAX: u64 = 199;

/// The `kubernetes` document: what kubeadm needs beside the four images that are named after the version.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    #[serde(rename = "kubernetes")]
    pub minors: BTreeMap<Minor, Patches>,
}

/// The patches of one minor of Kubernetes.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Patches {
    /// The newest one known.
    pub latest: Full,
    /// The newest one whose images somebody has looked at, where that is not `latest`.
    pub verified: Option<Full>,
    /// Those that changed an image; the first, X.Y.0, names all three.
    pub since: BTreeMap<Full, Changes>,
}

/// What a patch changed.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Changes {
    pub coredns: Option<Reference>,
    pub etcd: Option<Reference>,
    pub pause: Option<Reference>,
}

impl Patches {
    /// Whether the images of `version` are taken over from an older patch, and nobody has looked at its own.
    pub(super) fn is_carried_over(&self, version: &Version) -> bool {
        self.verified.as_ref().is_some_and(|verified| verified.0 < *version && *version <= self.latest.0)
    }

    /// The images of `version`, which is of this minor, by the names that kubeadm has for them.
    pub fn images(&self, version: &Version) -> impl Iterator<Item = (&'static str, &Reference)> {
        let newest = |field: fn(&Changes) -> Option<&Reference>| {
            self.since
                .iter()
                .rev()
                .filter(|(since, _)| since.0 <= *version)
                .find_map(|(_, changes)| field(changes))
        };
        [
            ("etcd", newest(|c| c.etcd.as_ref())),
            ("coredns", newest(|c| c.coredns.as_ref())),
            ("pause", newest(|c| c.pause.as_ref())),
        ]
        .into_iter()
        .filter_map(|(name, image)| Some((name, image?)))
    }
}

/// A document of one KubeOne release.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    pub kubeone: Minor,
    /// The patch release whose images these are.
    pub patch: Full,
    /// The day of that patch release.
    pub released: Day,
    /// The minors of Kubernetes it supports, ascending.
    pub kubernetes: Vec<Minor>,
    /// The pause image it configures in containerd; releases before 1.7 leave that alone.
    pub sandbox: Option<BTreeMap<Minor, Reference>>,
    /// The etcd that it has kubeadm run in place of kubeadm's own (`etcdVersionCorruptCheckExtraArgs`, 1.3 to 1.8).
    #[serde(default)]
    pub etcd: Vec<EtcdImage>,
    /// What it does with a manifest; the same as the newest embedded release where this is missing.
    pub rules: Option<Rules>,
    /// The newest patch release that names images by k8s.gcr.io, the former name of registry.k8s.io; this document has the
    /// present one.
    pub former_names_until: Option<Full>,
    /// What can be had nowhere any more.
    #[serde(default)]
    pub gone: Vec<Gone>,
    pub base: Resources,
    pub optional: Resources,
    /// Tags that are meant to move: nobody holds them to the digest that is recorded of them.
    #[serde(default)]
    pub moving: Vec<Reference>,
    /// Images of addons that KubeOne's own list lacks.
    #[serde(default)]
    pub unlisted: Vec<Unlisted>,
    /// The patch releases before `patch`.
    #[serde(default)]
    pub patches: Vec<PatchRelease>,
    /// What they have other than this one.
    #[serde(default)]
    pub earlier: Vec<Earlier>,
}

impl Release {
    /// The resources of a group; the control plane is kubeadm's and has none here.
    pub fn resources(&self, group: Group) -> &[(String, Resource)] {
        match group {
            Group::Base => &self.base.0,
            Group::Optional => &self.optional.0,
            Group::ControlPlane => &[],
        }
    }

    /// The names of all its addons, some of them repeatedly.
    pub fn addons(&self) -> impl Iterator<Item = &str> {
        let listed = self.base.0.iter().chain(&self.optional.0).map(|(_, resource)| &resource.addons);
        listed.chain(self.unlisted.iter().map(|unlisted| &unlisted.addons)).flatten().map(String::as_str)
    }

    /// Whether its addons name images by their registries' former names.
    pub(super) fn uses_former_names(&self) -> bool {
        self.former_names_until.as_ref().is_some_and(|until| self.patch <= *until)
    }

    /// The etcd that runs with that version of Kubernetes, where it is not kubeadm's.
    pub fn etcd(&self, kubernetes: &Version) -> Option<&Reference> {
        let sets = |etcd: &&EtcdImage| etcd.from.0 <= *kubernetes && *kubernetes < etcd.below.0;
        self.etcd.iter().find(sets).map(|etcd| &etcd.image)
    }
}

/// The etcd of some versions of Kubernetes: of `from` and newer ones, up to those before `below`.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EtcdImage {
    pub from: Full,
    pub below: Full,
    pub image: Reference,
}

/// An image that addons name themselves.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unlisted {
    #[schemars(length(min = 1))]
    pub addons: Vec<String>,
    pub image: Reference,
    /// Whether `registryConfiguration.overwriteRegistry` changes its registry.
    #[serde(default = "yes")]
    pub overwritten: bool,
}

fn yes() -> bool {
    true
}

/// KubeOne's names of resources and what they are, in the order of the document.
#[derive(Debug, Clone, Default)]
pub struct Resources(pub Vec<(String, Resource)>);

#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// The addons that deploy it; none for an image that KubeOne lists all the same.
    pub addons: Vec<String>,
    pub image: Image,
}

#[derive(Debug, Clone)]
pub enum Image {
    Same(Reference),
    /// Differs by minor of Kubernetes; `None` where KubeOne has none.
    ByMinor(BTreeMap<Minor, Option<Reference>>),
}

impl Image {
    pub fn of(&self, minor: Minor) -> Option<&Reference> {
        match self {
            Image::Same(reference) => Some(reference),
            Image::ByMinor(images) => images.get(&minor)?.as_ref(),
        }
    }
}

/// A rule that a document breaks: why, and the keys that lead to where it does.
#[derive(Debug)]
pub(super) struct Broken {
    pub path: Vec<String>,
    pub why: String,
}

impl Broken {
    pub(super) fn at<const N: usize>(path: [&dyn fmt::Display; N], why: String) -> Self {
        Self { path: path.map(ToString::to_string).into(), why }
    }
}

impl Kubernetes {
    /// The first rule that the document breaks.
    pub(super) fn check(&self) -> Result<(), Broken> {
        for (minor, patches) in &self.minors {
            let broken = |why| Err(Broken::at([&"kubernetes", minor], why));
            let first = patches.since.get(&Full(minor.patch(0)));
            if !first.is_some_and(|c| c.coredns.is_some() && c.etcd.is_some() && c.pause.is_some()) {
                return broken(format!(
                    "{minor} lacks a `since` of {minor}.0 that names coredns, etcd and pause"
                ));
            }
            // A query may ask for every patch up to it.
            if patches.latest.0.patch > PATCH_MAX {
                return broken(format!("the `latest` of {minor} is beyond {minor}.{PATCH_MAX}"));
            }
            for Full(version) in patches.since.keys().chain([&patches.latest]).chain(&patches.verified) {
                if Minor::of(version) != *minor {
                    return broken(format!("{version} stands below {minor}"));
                }
                if *version > patches.latest.0 {
                    return broken(format!("{version} is newer than the `latest` of {minor}"));
                }
            }
        }
        Ok(())
    }
}

impl Release {
    /// The first rule that the document breaks.
    pub(super) fn check(&self) -> Result<(), Broken> {
        if self.kubernetes.is_empty() || !self.kubernetes.is_sorted_by(|a, b| a < b) {
            let why = "`kubernetes` lists minors, each once and ascending".to_owned();
            return Err(Broken::at([&"kubernetes"], why));
        }
        if Minor::of(&self.patch.0) != self.kubeone {
            let why = format!("`patch` {} is not of KubeOne {}", self.patch.0, self.kubeone);
            return Err(Broken::at([&"patch"], why));
        }
        if let Some(Full(until)) = &self.former_names_until
            && Minor::of(until) != self.kubeone
        {
            let why = format!("`former_names_until` {until} is not of KubeOne {}", self.kubeone);
            return Err(Broken::at([&"former_names_until"], why));
        }
        let supported: BTreeSet<_> = self.kubernetes.iter().collect();
        let names = |of: &str, minors: BTreeSet<&Minor>| {
            if minors == supported {
                Ok(())
            } else {
                Err(format!("{of} must name exactly the minors of `kubernetes`"))
            }
        };
        if let Some(sandbox) = &self.sandbox {
            names("`sandbox`", sandbox.keys().collect()).map_err(|why| Broken::at([&"sandbox"], why))?;
        }
        for EtcdImage { from, below, .. } in &self.etcd {
            if from >= below {
                let why =
                    format!("`etcd` has a `from` of {} that is not before `below`, {}", from.0, below.0);
                return Err(Broken::at([&"etcd"], why));
            }
        }
        self.gone.iter().try_for_each(Gone::check).map_err(|why| Broken::at([&"gone"], why))?;
        if let Some(image) = self.moving.iter().find(|image| image.digest.is_some()) {
            let why = format!("`moving` has {image}, which is held to a digest by its name");
            return Err(Broken::at([&"moving"], why));
        }
        if let Some(unlisted) = self.unlisted.iter().find(|unlisted| unlisted.addons.is_empty()) {
            let why = format!("`unlisted` has {} of no addon", unlisted.image);
            return Err(Broken::at([&"unlisted"], why));
        }
        self.rules.iter().try_for_each(Rules::check).map_err(|why| Broken::at([&"rules"], why))?;
        let mut seen = BTreeSet::new();
        for (group, resources) in [("base", &self.base), ("optional", &self.optional)] {
            for (name, resource) in &resources.0 {
                if let Image::ByMinor(images) = &resource.image {
                    names(&format!("the image of {name}"), images.keys().collect())
                        .map_err(|why| Broken::at([&group, name], why))?;
                }
                if !seen.insert(name) {
                    return Err(Broken::at([&group, name], format!("{name} is in both groups")));
                }
            }
        }
        self.check_patches()
    }
}

/// A version of three numbers, with or without `v` in front, and no pre-release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Full(pub Version);

impl<'de> Deserialize<'de> for Full {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix('v').unwrap_or(&text).parse::<Version>() {
            Ok(version) if version.pre.is_empty() && version.build.is_empty() => Ok(Self(version)),
            _ => Err(D::Error::custom(format!("{text:?} is not a version such as 1.36.3"))),
        }
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Image;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an image reference, or one for each minor of Kubernetes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Image, E> {
                Reference::written_in_full(text).map(Image::Same).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Image, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(Image::ByMinor)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Resources;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from resources to their addons and image")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources, A::Error> {
                let mut resources = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    resources.push(entry);
                }
                Ok(Resources(resources))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
