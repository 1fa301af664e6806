//! One version of Kubernetes, and all that its KubeOne release has for it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use semver::Version;

use super::minor::{enumerate, ranges};
use super::select::{Group, Only, Reason, SelectedImage, UNLISTED};
use super::{Features, Minor, Patches, Release, Rules, Unlisted};
use crate::image::reference::Reference;
use crate::util::text::printable;

/// The images that kubeadm names after the version.
pub(super) const VERSIONED: [&str; 4] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"];

/// Versions of Kubernetes whose kubeadm pulls from k8s.gcr.io, in their first patches at least
/// ([kubeadm#2671](https://github.com/kubernetes/kubeadm/issues/2671)).
const KUBEADM_WITH_FORMER_NAMES: RangeInclusive<Minor> =
    Minor { major: 1, minor: 0 }..=Minor { major: 1, minor: 24 };

/// A version of Kubernetes with all that the catalog knows of it.
#[derive(Debug)]
pub struct Deployment<'a> {
    pub version: Version,
    pub minor: Minor,
    pub patches: &'a Patches,
    /// The release that deploys it, if one does.
    pub release: Option<Cow<'a, Release>>,
    /// What that release does with a manifest.
    pub rules: Option<&'a Rules>,
}

/// What is said of versions whose images nobody has looked at, once for all.
pub(super) fn carried_over(deployments: &[Deployment<'_>]) -> Option<String> {
    let is_carried_over = |d: &&Deployment<'_>| d.patches.is_carried_over(&d.version);
    let versions: Vec<&Version> = deployments.iter().filter(is_carried_over).map(|d| &d.version).collect();
    (!versions.is_empty()).then(|| {
        format!(
            "the etcd, CoreDNS and pause images of Kubernetes {} are not verified: those of the patch before are taken",
            ranges(&versions)
        )
    })
}

impl Deployment<'_> {
    pub fn release(&self) -> Option<&Release> {
        self.release.as_deref()
    }

    /// The addons that `features` bring unasked, and those of `named` that naming deploys.
    pub fn addons(&self, features: &[Features], named: &BTreeSet<String>) -> BTreeSet<String> {
        let Some(rules) = self.rules else { return BTreeSet::new() };
        let unasked = features.iter().flat_map(|features| rules.deployed(features, self.minor));
        unasked.chain(named.iter().filter(|addon| rules.is_deployed_by_name(addon)).cloned()).collect()
    }

    /// Those that `only` takes.
    fn taken(&self, only: &Only) -> BTreeSet<String> {
        let mut addons = self.addons(&only.features, &only.named);
        addons.retain(|addon| !only.replaced.contains(addon));
        addons.extend(only.added.iter().cloned());
        addons
    }

    pub(super) fn warning(&self) -> Option<String> {
        let (version, latest) = (&self.version, &self.patches.latest.0);
        (version > latest).then(|| {
            format!(
                "Kubernetes {version} is newer than the catalog, which knows up to {latest}; \
                 taking the etcd, CoreDNS and pause images of {latest}"
            )
        })
    }

    pub(super) fn images(&self, group: Group, only: Option<&Only>, picked: &mut Picked) {
        let reason = |resource: &str, addons: &[String], release: Option<&Release>| Reason {
            group,
            resource: resource.to_owned(),
            addons: addons.to_vec(),
            kubeone: release.map(|release| release.kubeone),
            kubernetes: self.version.clone(),
            overwritten: true,
        };
        let taken = only.map(|only| (only, self.taken(only)));
        let wanted = |resource: &str, addons: &[String]| wanted(taken.as_ref(), resource, addons);
        if let (Group::Base | Group::Optional, Some(release)) = (group, self.release()) {
            for (name, resource) in release.resources(group) {
                if let Some(image) = resource.image.of(self.minor)
                    && let Some(addons) = wanted(name, &resource.addons)
                {
                    picked.add(image, reason(name, &addons, self.release()), self.release());
                }
            }
        }
        if let (Group::Optional, Some(release)) = (group, self.release()) {
            for Unlisted { addons, image, overwritten } in &release.unlisted {
                // KubeOne's list is all that is taken where no addon is asked for.
                if (only.is_some() || picked.has(image))
                    && let Some(addons) = wanted(UNLISTED, addons)
                {
                    let reason =
                        Reason { overwritten: *overwritten, ..reason(UNLISTED, &addons, self.release()) };
                    picked.add(image, reason, self.release());
                }
            }
        }
        if group == Group::ControlPlane {
            for name in VERSIONED {
                picked.add(&versioned(name, &self.version), reason(name, &[], None), None);
            }
            for (name, image) in self.patches.images(&self.version) {
                picked.add(image, reason(name, &[], None), None);
            }
            if let Some(image) = self.release().and_then(|release| release.etcd(&self.version)) {
                picked.add(image, reason("etcd", &[], self.release()), self.release());
            }
            let sandbox = self.release().and_then(|release| release.sandbox.as_ref()?.get(&self.minor));
            if let Some(image) = sandbox {
                picked.add(image, reason("sandbox", &[], self.release()), self.release());
            }
        }
    }
}

/// Those of `addons` for which the resource is wanted; `None` if it is not.
fn wanted(
    taken: Option<&(&Only, BTreeSet<String>)>,
    resource: &str,
    addons: &[String],
) -> Option<Vec<String>> {
    let Some((only, taken)) = taken else { return Some(addons.to_vec()) };
    if only.without.contains(resource) {
        return None;
    }
    let addons: Vec<String> = addons.iter().filter(|addon| taken.contains(*addon)).cloned().collect();
    (!addons.is_empty()).then_some(addons)
}

pub(super) fn unknown_addon(addon: &str, deployments: &[Deployment<'_>]) -> Option<String> {
    let releases: BTreeSet<Minor> = deployments.iter().filter_map(|d| Some(d.release()?.kubeone)).collect();
    let known = deployments
        .iter()
        .filter_map(Deployment::release)
        .any(|release| release.addons().any(|name| name == addon));
    let releases: Vec<Minor> = releases.into_iter().collect();
    (!known).then(|| {
        format!(
            "the catalog knows no image of the addon {} for KubeOne {}: name its images by --image or --images-from",
            printable(addon),
            enumerate(&releases)
        )
    })
}

/// An image of Kubernetes itself, e.g. `registry.k8s.io/kube-proxy:v1.36.3`.
pub(super) fn versioned(name: &str, version: &Version) -> Reference {
    format!("registry.k8s.io/{name}:v{version}")
        .parse()
        .expect("a release of three numbers makes a valid tag")
}

/// The images so far, each once.
#[derive(Default)]
pub(super) struct Picked {
    pub images: Vec<SelectedImage>,
    /// By their registries' present names.
    places: HashMap<Reference, usize>,
}

impl Picked {
    fn has(&self, reference: &Reference) -> bool {
        self.places.contains_key(reference.by_present_name().as_ref())
    }

    fn add(&mut self, reference: &Reference, reason: Reason, release: Option<&Release>) {
        let place = *self.places.entry(reference.by_present_name().into_owned()).or_insert_with(|| {
            let gone = release.and_then(|release| release.gone.iter().find(|gone| gone.has(reference)));
            self.images.push(SelectedImage { gone: gone.cloned(), ..SelectedImage::new(reference) });
            self.images.len() - 1
        });
        let image = &mut self.images[place];
        image.is_also(reference);
        let uses_former_names = match reason.group {
            Group::ControlPlane => KUBEADM_WITH_FORMER_NAMES.contains(&Minor::of(&reason.kubernetes)),
            Group::Base | Group::Optional => release.is_some_and(Release::uses_former_names),
        };
        if uses_former_names {
            image.other_hosts.extend(reference.host.former_name());
        }
        image.is_moving |= release.is_some_and(|release| release.moving.contains(reference));
        image.reasons.push(reason);
    }
}
