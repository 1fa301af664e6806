//! KubeOne's rules: which addons it deploys for what, as data.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::selection::catalog::{Catalog, Minor, Only};
use crate::util::text::{list, printable};

/// What one cloud provider brings along.
#[derive(Debug)]
pub struct Provider {
    /// As the manifest spells it.
    pub name: &'static str,
    /// By release; only one of them exists in each.
    pub controller_manager: &'static [&'static str],
    pub drivers: &'static [&'static str],
    deployed: Deployed,
}

/// When the CSI drivers of a provider are deployed.
#[derive(Debug)]
enum Deployed {
    Always,
    /// Since the version of Kubernetes that leaves volumes to them; before, beside the controller manager.
    SinceMigration,
    /// Beside the controller manager.
    External,
}

const fn provider(
    name: &'static str,
    controller_manager: &'static [&'static str],
    drivers: &'static [&'static str],
) -> Provider {
    Provider { name, controller_manager, drivers, deployed: Deployed::Always }
}

/// From this version on Kubernetes has no cloud provider of its own, and KubeOne takes every cloud for external,
/// whatever the manifest says (its `SetDefaults_CloudProvider`, 1.8 to 1.14).
const ALWAYS_EXTERNAL: Minor = Minor { major: 1, minor: 29 };
/// From this version on KubeOne deploys the drivers of the largest clouds (its `ensureCSIAddons`, 1.4 to 1.7).
const MIGRATION: Minor = Minor { major: 1, minor: 23 };

const PROVIDERS: &[Provider] = &[
    provider("aws", &["ccm-aws"], &["csi-aws-ebs"]).drivers(Deployed::SinceMigration),
    provider("azure", &["ccm-azure"], &["csi-azuredisk", "csi-azurefile"]).drivers(Deployed::SinceMigration),
    provider("digitalocean", &["ccm-digitalocean"], &["csi-digitalocean"]),
    provider("equinixmetal", &["ccm-equinixmetal", "ccm-packet"], &[]),
    provider("gce", &["ccm-gcp"], &["csi-gcp-compute-persistent"]).drivers(Deployed::SinceMigration),
    provider("hetzner", &["ccm-hetzner"], &["csi-hetzner"]),
    provider("kubevirt", &["ccm-kubevirt"], &["csi-kubevirt"]),
    provider("none", &[], &[]),
    provider("nutanix", &["ccm-nutanix"], &["csi-nutanix"]),
    provider("openstack", &["ccm-openstack"], &["csi-openstack-cinder"]),
    provider("vmwareCloudDirector", &[], &["csi-vmware-cloud-director"]),
    provider("vsphere", &["ccm-vsphere"], &["csi-vsphere"]).drivers(Deployed::External),
];

/// Deployed beside any CSI driver.
const SNAPSHOTTER: &str = "csi-external-snapshotter";

/// The CNI where none is chosen.
pub(super) const DEFAULT_CNI: &str = "canal";
/// The CNI of a cluster whose owner installs one.
pub(super) const NO_CNI: &str = "external";
/// The provider of a cluster on machines that nobody manages.
pub(super) const NO_PROVIDER: &str = "none";

/// Addons that hold no images.
const WITHOUT_IMAGES: [&str; 2] = ["coredns-pdb", "default-storage-class"];

/// The provider that a manifest calls `name`; Equinix Metal was Packet once.
pub(super) fn find_provider(name: &str) -> Option<&'static Provider> {
    let name = if name == "packet" { "equinixmetal" } else { name };
    PROVIDERS.iter().find(|provider| provider.name.eq_ignore_ascii_case(name))
}

pub(super) fn provider_names() -> Vec<&'static str> {
    PROVIDERS.iter().map(|provider| provider.name).collect()
}

impl Provider {
    const fn drivers(self, deployed: Deployed) -> Self {
        Self { deployed, ..self }
    }

    /// Whether KubeOne deploys the external cloud controller manager unasked.
    fn is_external(&self, kubernetes: Minor) -> bool {
        kubernetes >= ALWAYS_EXTERNAL && ![NO_PROVIDER, "vmwareCloudDirector"].contains(&self.name)
    }

    fn has_drivers(&self, kubernetes: Minor, external: bool) -> bool {
        !self.drivers.is_empty()
            && match self.deployed {
                Deployed::Always => true,
                Deployed::SinceMigration => external || kubernetes >= MIGRATION,
                Deployed::External => external,
            }
    }

    /// Whether KubeOne has machine-controller make its machines by default.
    pub fn has_machines(&self) -> bool {
        self.name != NO_PROVIDER
    }

    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.controller_manager.iter().chain(self.drivers).copied()
    }
}

/// What decides on the embedded addons of a cluster.
#[derive(Debug)]
pub struct Features {
    pub provider: &'static Provider,
    /// The external cloud controller manager is asked for.
    pub external: bool,
    pub drivers: bool,
    /// `canal`, `cilium`, `weavenet`, or `external` for none.
    pub cni: String,
    pub metrics_server: bool,
    pub node_local_dns: bool,
    pub machine_controller: bool,
    pub operating_system_manager: bool,
}

impl Features {
    /// The embedded addons that KubeOne deploys for a cluster of that version.
    pub fn addons(&self, kubernetes: Minor) -> BTreeSet<String> {
        let external = self.external || self.provider.is_external(kubernetes);
        let mut addons = BTreeSet::new();
        let switched = [
            (self.metrics_server, "metrics-server"),
            (self.node_local_dns, "nodelocaldns"),
            (self.machine_controller, "machinecontroller"),
            (self.operating_system_manager, "operating-system-manager"),
        ];
        addons.extend(switched.into_iter().filter(|(on, _)| *on).map(|(_, addon)| addon.to_owned()));
        addons.extend(cni_addon(&self.cni));
        if external {
            addons.extend(self.provider.controller_manager.iter().map(|addon| (*addon).to_owned()));
        }
        if self.drivers && self.provider.has_drivers(kubernetes, external) {
            addons
                .extend(self.provider.drivers.iter().chain([&SNAPSHOTTER]).map(|addon| (*addon).to_owned()));
        }
        addons
    }
}

fn cni_addon(cni: &str) -> Option<String> {
    (cni != NO_CNI).then(|| format!("cni-{}", cni.to_ascii_lowercase()))
}

/// Addons that KubeOne itself decides on: a directory of that name replaces what it would deploy, and deploys
/// nothing where it would not; naming them does nothing.
pub fn is_always_embedded(addon: &str) -> bool {
    /// Missing in KubeOne's own list (`embeddedAddons`), so that they are like any other addon.
    const NOT_LISTED: [&str; 3] = ["ccm-gcp", "ccm-kubevirt", "ccm-nutanix"];
    const OTHERS: [&str; 8] = [
        SNAPSHOTTER,
        "metrics-server",
        "nodelocaldns",
        "machinecontroller",
        "operating-system-manager",
        "cni-canal",
        "cni-cilium",
        "cni-weavenet",
    ];
    let of_provider = || PROVIDERS.iter().any(|provider| provider.all().any(|name| name == addon));
    OTHERS.contains(&addon) || (!NOT_LISTED.contains(&addon) && of_provider())
}

/// Whether there is nothing to mirror for an addon.
pub(super) fn has_no_images(addon: &str) -> bool {
    WITHOUT_IMAGES.contains(&addon)
}

/// A cluster described by flags.
#[derive(Debug, Default)]
pub struct ByHand {
    pub providers: Vec<String>,
    pub cnis: Vec<String>,
    pub addons: Vec<String>,
}

impl ByHand {
    pub fn is_empty(&self) -> bool {
        self.providers.is_empty() && self.cnis.is_empty() && self.addons.is_empty()
    }
}

/// The addons of a cluster that is described by flags, with KubeOne's defaults for what is not.
///
/// # Errors
/// A name that the catalog does not have, with those that it has.
pub fn by_hand(flags: &ByHand, catalog: &Catalog) -> Result<Only> {
    let known = catalog.addons()?;
    let mut only = Only::default();
    let default = [NO_PROVIDER.to_owned()];
    let providers: &[String] = if flags.providers.is_empty() { &default } else { &flags.providers };
    for name in providers {
        let provider = known_provider(name, &known)?;
        let machines = flags.providers.is_empty() || provider.has_machines();
        let features = Features {
            provider,
            external: true,
            drivers: true,
            cni: NO_CNI.to_owned(),
            metrics_server: true,
            node_local_dns: true,
            machine_controller: machines,
            operating_system_manager: machines,
        };
        only.addons.append(&mut features.addons(ALWAYS_EXTERNAL));
    }
    for name in &flags.cnis {
        let addon = known_cni(name, &known)?;
        only.named.extend(addon);
    }
    if flags.cnis.is_empty() {
        only.addons.extend(cni_addon(DEFAULT_CNI));
    }
    for name in &flags.addons {
        if !known.contains(name.as_str()) {
            let names: Vec<&str> = known.iter().copied().collect();
            bail!("--addon: there is no addon {}; there are {}", printable(name), list(&names));
        }
        only.named.insert(name.clone());
    }
    only.addons.extend(only.named.iter().cloned());
    Ok(only)
}

fn known_provider(name: &str, known: &BTreeSet<&str>) -> Result<&'static Provider> {
    let has_addons = |p: &Provider| p.name == NO_PROVIDER || p.all().any(|addon| known.contains(addon));
    match find_provider(name).filter(|provider| has_addons(provider)) {
        Some(provider) => Ok(provider),
        None => {
            let names: Vec<_> = PROVIDERS.iter().filter(|p| has_addons(p)).map(|p| p.name).collect();
            bail!("--provider: there is no provider {}; there are {}", printable(name), list(&names))
        }
    }
}

fn known_cni(name: &str, known: &BTreeSet<&str>) -> Result<Option<String>> {
    let lower = name.to_ascii_lowercase();
    match cni_addon(&lower) {
        Some(addon) if !known.contains(addon.as_str()) => {
            let names = known.iter().filter_map(|addon| addon.strip_prefix("cni-"));
            let names: Vec<&str> = names.chain([NO_CNI]).collect();
            bail!("--cni: there is no CNI {}; there are {}", printable(name), list(&names))
        }
        addon => Ok(addon),
    }
}
