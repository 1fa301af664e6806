//! From what a user asks for to the images that it takes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use semver::Version;
use thiserror::Error;

use super::deployment::{Deployment, Picked, carried_over, unknown_addon};
use super::minor::enumerate;
use super::{Catalog, CatalogError, Edition, Features, Gone, Minor, Release, Rules};
use crate::image::reference::{Host, Reference};
use crate::util::text::list;

/// KubeOne's division of images. Each group is exactly itself; ordered as a selection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// What KubeOne deploys by default: CNI, machine-controller, metrics-server and the like.
    Base,
    /// What depends on the cloud provider or is asked for by name.
    Optional,
    /// What kubeadm pulls, and the sandbox image of containerd.
    ControlPlane,
}

impl Group {
    pub const ALL: [Group; 3] = [Group::Base, Group::Optional, Group::ControlPlane];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Group::Base => "base",
            Group::Optional => "optional",
            Group::ControlPlane => "control-plane",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a group of images; there are base, optional and control-plane")]
pub struct UnknownGroup(String);

impl FromStr for Group {
    type Err = UnknownGroup;

    fn from_str(text: &str) -> Result<Self, UnknownGroup> {
        Group::ALL.into_iter().find(|g| g.as_str() == text).ok_or_else(|| UnknownGroup(text.to_owned()))
    }
}

/// What a user asks for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The union of these; empty means all.
    pub groups: Vec<Group>,
    /// `v1.29.4`, `1.28.8`, or a bare minor `1.34` for its newest known patch. Empty means every known patch of the
    /// minors that the named KubeOne release supports, or the newest one if none is named.
    pub kubernetes: Vec<String>,
    /// `1.8` or `v1.8` for its newest patch release, or `1.8.3`. Without, each version of Kubernetes gets the newest
    /// KubeOne release that supports it.
    pub kubeone: Option<String>,
    /// What to take of the groups base and optional; without, all.
    pub only: Option<Only>,
}

impl Query {
    fn groups(&self) -> BTreeSet<Group> {
        match self.groups.as_slice() {
            [] => Group::ALL.into(),
            some => some.iter().copied().collect(),
        }
    }
}

/// The part of base and optional that a cluster deploys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only {
    /// The clusters for which each release has its rules.
    pub features: Vec<Features>,
    /// Addons that a manifest names, which a release deploys if it does not decide on them alone.
    pub named: BTreeSet<String>,
    /// Addons that are taken in any case.
    pub added: BTreeSet<String>,
    /// Addons whose place others take.
    pub replaced: BTreeSet<String>,
    /// Resources that are left out all the same.
    pub without: BTreeSet<String>,
}

/// The images that a query takes, each once: by group, by version, then in the catalog's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub images: Vec<SelectedImage>,
    /// What is left out, because it can be had nowhere any more.
    pub gone: Vec<SelectedImage>,
    /// What the user should know about the answer, a sentence each.
    pub warnings: Vec<String>,
    /// The versions of Kubernetes, ascending.
    pub kubernetes: Vec<Version>,
    /// The catalog that was asked, if any was.
    pub catalog: Option<Edition>,
}

impl Selection {
    /// What to know of the images that `registryConfiguration.overwriteRegistry` does not reach, but for those of which a
    /// cluster `is_redirected` by other means.
    pub fn not_overwritten(&self, is_redirected: impl Fn(&Host) -> bool) -> Option<String> {
        let mut named = Vec::new();
        for image in self.images.iter().filter(|image| !is_redirected(&image.reference.host)) {
            let mut addons: Vec<&str> = image
                .reasons
                .iter()
                .filter(|reason| !reason.overwritten)
                .flat_map(|reason| reason.addons.iter().map(String::as_str))
                .collect();
            addons.dedup();
            if !addons.is_empty() {
                named.push(format!("{} of {}", image.reference, list(&addons)));
            }
        }
        (!named.is_empty()).then(|| {
            format!(
                "overwriteRegistry does not reach {}, whose registry KubeOne writes out: config --format \
                 kubeone-containerd prints what redirects all",
                list(&named)
            )
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectedImage {
    pub reference: Reference,
    /// Other names of its registry, by which a cluster asks for it.
    pub other_hosts: BTreeSet<Host>,
    /// Everything of the catalog that asked for it.
    pub reasons: Vec<Reason>,
    /// Who named it besides, such as `--image`.
    pub named_by: Vec<String>,
    /// Set where a release says that it can be had nowhere any more.
    pub gone: Option<Gone>,
    /// Its tag is meant to move, by the catalog.
    pub is_moving: bool,
}

impl SelectedImage {
    /// An image that nobody asks for yet.
    pub fn new(reference: &Reference) -> Self {
        Self {
            reference: reference.clone(),
            other_hosts: BTreeSet::new(),
            reasons: Vec::new(),
            named_by: Vec::new(),
            gone: None,
            is_moving: false,
        }
    }

    /// Notes that it is asked for by this name too, which is one of the same image. The registry's present name is the
    /// one to mirror it by.
    pub(in crate::selection) fn is_also(&mut self, reference: &Reference) {
        if self.reference == *reference {
            return;
        }
        let mut other = reference.clone();
        if self.reference.by_present_name().as_ref() == reference {
            std::mem::swap(&mut self.reference, &mut other);
        }
        self.other_hosts.insert(other.host);
    }
}

/// The resource of an image that KubeOne's own list lacks.
pub(super) const UNLISTED: &str = "unlisted";

/// Why an image is selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub group: Group,
    /// `CalicoCNI`, `kube-apiserver`, `etcd`, `sandbox` …
    pub resource: String,
    /// The addons that deploy it, of those asked for; none in the control plane.
    pub addons: Vec<String>,
    /// The KubeOne release that asks for it; none for what kubeadm asks for.
    pub kubeone: Option<Minor>,
    pub kubernetes: Version,
    /// Whether `registryConfiguration.overwriteRegistry` changes where the cluster pulls it from.
    pub overwritten: bool,
}

/// Why a query has no answer. The message names what would have one.
#[derive(Debug, Error)]
pub enum SelectError {
    #[error("{text:?} is not a Kubernetes version such as 1.36.3, v1.36.3 or 1.36; known are {}", enumerate(.known))]
    Version { text: String, known: Vec<Minor> },
    #[error("Kubernetes {version} is a pre-release, and only releases have known images; known are {}", enumerate(.known))]
    PreRelease { version: Version, known: Vec<Minor> },
    #[error("Kubernetes {asked} is not known; known are {}", enumerate(.known))]
    UnknownMinor { asked: String, known: Vec<Minor> },
    #[error("{text:?} is not a KubeOne version such as 1.14, v1.14 or 1.14.2; known are {}", enumerate(.known))]
    KubeoneVersion { text: String, known: Vec<Minor> },
    #[error("KubeOne {release} is not known; known are {}", enumerate(.known))]
    UnknownKubeone { release: Minor, known: Vec<Minor> },
    #[error("KubeOne {release} supports Kubernetes {}, not {asked}", enumerate(.supported))]
    Unsupported { release: String, asked: String, supported: Vec<Minor> },
    #[error(
        "no known KubeOne release supports Kubernetes {asked}, so only its control-plane images are known"
    )]
    NoRelease { asked: String },
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Catalog {
    /// The images that `query` takes.
    pub fn select(&self, query: &Query) -> Result<Selection, SelectError> {
        let groups = query.groups();
        let mut warnings = Vec::new();
        let deployments = self.deployments_warning(query, &mut warnings)?;
        if groups.contains(&Group::ControlPlane) {
            warnings.extend(deployments.iter().filter_map(Deployment::warning));
            warnings.extend(carried_over(&deployments));
        }
        let mut picked = Picked::default();
        for &group in &groups {
            for deployment in &deployments {
                deployment.images(group, query.only.as_ref(), &mut picked);
            }
        }
        if let Some(only) = &query.only
            && groups.iter().any(|group| *group != Group::ControlPlane)
        {
            let named = only.named.difference(&only.replaced).chain(&only.added);
            warnings.extend(named.filter_map(|addon| unknown_addon(addon, &deployments)));
        }
        let kubernetes = deployments.into_iter().map(|deployment| deployment.version).collect();
        Ok(Selection { images: picked.images, warnings, kubernetes, ..Selection::default() })
    }

    /// The versions of Kubernetes that `query` asks for, ascending, each with the release that deploys it.
    pub fn deployments(&self, query: &Query) -> Result<Vec<Deployment<'_>>, SelectError> {
        self.deployments_warning(query, &mut Vec::new())
    }

    fn deployments_warning(
        &self,
        query: &Query,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Deployment<'_>>, SelectError> {
        let named = match &query.kubeone {
            Some(text) => Some(self.named_release(text, warnings)?),
            None => None,
        };
        let (groups, named) = (query.groups(), named.as_ref());
        let versions = self.versions(query, named)?.into_iter();
        versions.map(|version| self.deployment(version, named, &groups)).collect()
    }

    /// All images of the clusters that `query` describes, by KubeOne's and kubeadm's names of the resources.
    pub fn by_resource(&self, query: &Query) -> Result<BTreeMap<String, BTreeSet<Reference>>, SelectError> {
        let whole = Query { groups: Vec::new(), only: None, ..query.clone() };
        let mut resources = BTreeMap::<String, BTreeSet<Reference>>::new();
        for image in self.select(&whole)?.images {
            for reason in image.reasons.into_iter().filter(|reason| reason.resource != UNLISTED) {
                resources.entry(reason.resource).or_default().insert(image.reference.clone());
            }
        }
        Ok(resources)
    }

    /// The release that a user named, as of the patch release that they named. A patch release that the catalog does not
    /// know is taken for the newest one, with a warning.
    pub(super) fn named_release(
        &self,
        text: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Named<'_>, SelectError> {
        let known = || self.releases.keys().copied().collect::<Vec<_>>();
        let (kubeone, patch) = parse(text)
            .ok_or_else(|| SelectError::KubeoneVersion { text: text.to_owned(), known: known() })?;
        let Some(entry) = self.releases.get(&kubeone) else {
            return Err(SelectError::UnknownKubeone { release: kubeone, known: known() });
        };
        let newest = entry.release()?;
        let rules = self.rules(newest);
        let held = &newest.patch.0;
        match patch.filter(|asked| asked != held) {
            None => Ok(Named { release: Cow::Borrowed(newest), rules, called: kubeone.to_string() }),
            Some(asked) => match newest.at(&asked) {
                Some(earlier) => Ok(Named { release: Cow::Owned(earlier), rules, called: asked.to_string() }),
                None => {
                    warnings.push(format!(
                        "the catalog has KubeOne {kubeone} as of {held}; KubeOne {asked} may deploy other versions of some images"
                    ));
                    Ok(Named { release: Cow::Borrowed(newest), rules, called: kubeone.to_string() })
                }
            },
        }
    }

    /// The versions of Kubernetes that are asked for.
    fn versions(&self, query: &Query, named: Option<&Named<'_>>) -> Result<BTreeSet<Version>, SelectError> {
        if !query.kubernetes.is_empty() {
            return query.kubernetes.iter().map(|text| self.version(text, named)).collect();
        }
        let minors = match named {
            Some(named) => &named.release.kubernetes,
            None => {
                self.releases.values().next_back().map_or(const { &Vec::new() }, |entry| &entry.kubernetes)
            }
        };
        let patches = minors.iter().filter_map(|minor| Some((minor, self.kubernetes.minors.get(minor)?)));
        Ok(patches
            .flat_map(|(minor, patches)| (0..=patches.latest.0.patch).map(|patch| minor.patch(patch)))
            .collect())
    }

    /// One version as a user writes it; a bare minor is its newest known patch.
    fn version(&self, text: &str, named: Option<&Named<'_>>) -> Result<Version, SelectError> {
        // The minors that would have an answer here.
        let known = || match named {
            Some(named) => named.release.kubernetes.clone(),
            None => self.kubernetes.minors.keys().copied().collect(),
        };
        if let Some(version) = pre_release(text) {
            return Err(SelectError::PreRelease { version, known: known() });
        }
        let (minor, patch) =
            parse(text).ok_or_else(|| SelectError::Version { text: text.to_owned(), known: known() })?;
        let asked = || patch.as_ref().map_or_else(|| minor.to_string(), Version::to_string);
        if let Some(named) = named
            && !known().contains(&minor)
        {
            let release = named.called.clone();
            return Err(SelectError::Unsupported { release, asked: asked(), supported: known() });
        }
        match self.kubernetes.minors.get(&minor) {
            Some(patches) => Ok(patch.unwrap_or_else(|| patches.latest.0.clone())),
            None => Err(SelectError::UnknownMinor { asked: asked(), known: known() }),
        }
    }

    /// What `version` is deployed by.
    fn deployment<'c>(
        &'c self,
        version: Version,
        named: Option<&Named<'c>>,
        groups: &BTreeSet<Group>,
    ) -> Result<Deployment<'c>, SelectError> {
        let minor = Minor::of(&version);
        let (release, rules) = if let Some(named) = named {
            (Some(named.release.clone()), Some(named.rules))
        } else {
            let entry = self.releases.values().rfind(|entry| entry.kubernetes.contains(&minor));
            let release = entry.map(|entry| entry.release()).transpose()?;
            (release.map(Cow::Borrowed), release.map(|release| self.rules(release)))
        };
        if release.is_none() && groups.iter().any(|group| *group != Group::ControlPlane) {
            return Err(SelectError::NoRelease { asked: version.to_string() });
        }
        Ok(Deployment { patches: &self.kubernetes.minors[&minor], release, rules, minor, version })
    }
}

/// The release that a user named.
pub(super) struct Named<'c> {
    pub release: Cow<'c, Release>,
    rules: &'c Rules,
    /// With its patch, where that is not the newest.
    called: String,
}

/// `v1.29.4` or `1.29` → its minor, and the full version where there is one.
pub(super) fn parse(text: &str) -> Option<(Minor, Option<Version>)> {
    let text = bare(text);
    if let Ok(minor) = text.parse::<Minor>() {
        return Some((minor, None));
    }
    let version: Version = text.parse().ok()?;
    (version.pre.is_empty() && version.build.is_empty()).then(|| (Minor::of(&version), Some(version)))
}

fn pre_release(text: &str) -> Option<Version> {
    let version: Version = bare(text).parse().ok()?;
    (!version.pre.is_empty()).then_some(version)
}

/// The minor of a version as a user writes it.
pub fn minor_of(text: &str) -> Option<Minor> {
    parse(text).map(|(minor, _)| minor)
}

/// Without the `v` in front and the spaces that a list leaves around its items.
fn bare(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('v').unwrap_or(text)
}
