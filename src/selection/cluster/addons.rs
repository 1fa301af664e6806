//! What a manifest, or flags in its place, can name: providers, CNIs and addons.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::selection::catalog::{Catalog, Features, Only};
use crate::util::text::{list, printable};

/// The providers that a manifest can name, as it spells them.
const PROVIDERS: [&str; 12] = [
    "aws",
    "azure",
    "digitalocean",
    "equinixmetal",
    "gce",
    "hetzner",
    "kubevirt",
    NO_PROVIDER,
    "nutanix",
    "openstack",
    "vmwareCloudDirector",
    "vsphere",
];

/// The CNI where none is chosen.
pub(super) const DEFAULT_CNI: &str = "canal";
/// The CNI of a cluster whose owner installs one.
pub(super) const NO_CNI: &str = "external";
/// The provider of a cluster on machines that nobody manages.
const NO_PROVIDER: &str = "none";

// The addons that fields of a manifest switch.
pub(super) const METRICS_SERVER: &str = "metrics-server";
pub(super) const NODE_LOCAL_DNS: &str = "nodelocaldns";
pub(super) const NODE_LOCAL_DNS_OF_CILIUM: &str = "nodelocaldns-cilium";
pub(super) const MACHINE_CONTROLLER: &str = "machinecontroller";
pub(super) const OPERATING_SYSTEM_MANAGER: &str = "operating-system-manager";

/// Addons that hold no images.
const WITHOUT_IMAGES: [&str; 2] = ["coredns-pdb", "default-storage-class"];

/// The provider that a manifest calls `name`; Equinix Metal was Packet once.
pub(super) fn find_provider(name: &str) -> Option<&'static str> {
    let name = if name == "packet" { "equinixmetal" } else { name };
    PROVIDERS.into_iter().find(|provider| provider.eq_ignore_ascii_case(name))
}

pub(super) fn provider_names() -> &'static [&'static str] {
    &PROVIDERS
}

/// Whether KubeOne has machine-controller make the machines of that provider by default.
pub(super) fn has_machines(provider: &str) -> bool {
    provider != NO_PROVIDER
}

pub(super) fn cni_addon(cni: &str) -> Option<String> {
    (cni != NO_CNI).then(|| format!("cni-{}", cni.to_ascii_lowercase()))
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
    let known_providers: BTreeSet<&str> = catalog.providers()?.into_iter().chain([NO_PROVIDER]).collect();
    let mut only = Only::default();
    let default = [NO_PROVIDER.to_owned()];
    let providers: &[String] = if flags.providers.is_empty() { &default } else { &flags.providers };
    for name in providers {
        let provider = known_provider(name, &known_providers)?;
        let mut fields = vec![METRICS_SERVER, NODE_LOCAL_DNS];
        if flags.providers.is_empty() || has_machines(provider) {
            fields.extend([MACHINE_CONTROLLER, OPERATING_SYSTEM_MANAGER]);
        }
        only.features.push(Features {
            provider: provider.to_owned(),
            external: true,
            drivers: true,
            cni: flags.cnis.is_empty().then(|| cni_addon(DEFAULT_CNI)).flatten(),
            fields: fields.into_iter().map(str::to_owned).collect(),
        });
    }
    for name in &flags.cnis {
        let addon = known_cni(name, &known)?;
        only.added.extend(addon);
    }
    for name in &flags.addons {
        if !known.contains(name.as_str()) {
            let names: Vec<&str> = known.iter().copied().collect();
            bail!("--addon: there is no addon {}; there are {}", printable(name), list(&names));
        }
        only.added.insert(name.clone());
    }
    Ok(only)
}

fn known_provider<'n>(name: &'n str, known: &BTreeSet<&str>) -> Result<&'n str> {
    let found = find_provider(name).unwrap_or(name);
    if known.contains(found) {
        return Ok(found);
    }
    let names: Vec<&str> = known.iter().copied().collect();
    bail!("--provider: there is no provider {}; there are {}", printable(name), list(&names))
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
