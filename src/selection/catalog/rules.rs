//! What a KubeOne release does with a cluster's manifest: data of that release.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Full, Minor};

/// Which addons a manifest brings, and what KubeOne wants to see for it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The values of `apiVersion` that it deploys.
    pub manifests: Vec<String>,
    /// Addons that a field of the manifest switches.
    pub fields: BTreeSet<String>,
    /// Addons that every cluster gets.
    #[serde(default)]
    pub always: BTreeSet<String>,
    /// The first Kubernetes whose clouds are external whatever the manifest says (`SetDefaults_CloudProvider`).
    pub external_from: Option<Minor>,
    pub providers: BTreeMap<String, Provider>,
    /// Deployed with any CSI driver.
    #[serde(default)]
    pub beside_drivers: BTreeSet<String>,
    /// Addons that KubeOne alone decides on (`embeddedAddons`): a directory of that name replaces what it would deploy,
    /// and deploys nothing where it would not; to name them does nothing.
    pub embedded: BTreeSet<String>,
    /// Those of `embedded` that it deploys where they are named.
    #[serde(default)]
    pub on_request: BTreeSet<String>,
    #[serde(default)]
    pub addons: AddonFields,
    /// Whether `addons.globalParams` has an effect.
    #[serde(default)]
    pub global_params: bool,
}

/// What one cloud provider brings along.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Whether the cloud is external only where the manifest says so.
    external: Option<Asked>,
    /// The addon of the external cloud controller manager.
    manager: Option<String>,
    /// The addons of the CSI drivers.
    #[serde(default)]
    drivers: BTreeSet<String>,
    /// When the drivers are deployed with a cloud that is not external; always where this is missing.
    drivers_from: Option<DriversFrom>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Asked,
}

/// `external`, or the first Kubernetes that leaves volumes to the drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum DriversFrom {
    External,
    Kubernetes(Minor),
}

impl TryFrom<String> for DriversFrom {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "external" { Ok(Self::External) } else { text.parse().map(Self::Kubernetes) }
    }
}

/// When `addons.addons` and `addons.path` are looked at.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AddonFields {
    /// Each of them in any case.
    #[default]
    Either,
    /// Both where `addons.enable` is true.
    Enabled,
    /// The path where there is an entry of `addons.addons`.
    Listed,
    /// As `Listed`, up to this patch release of KubeOne.
    ListedTo(Full),
}

/// What a manifest says, with KubeOne's defaults, of what decides on addons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    /// The provider, as the manifest spells it.
    pub provider: String,
    /// The cloud is external by the manifest.
    pub external: bool,
    pub drivers: bool,
    /// The addon of the CNI, if KubeOne deploys one.
    pub cni: Option<String>,
    /// Addons whose fields are on; those of which a release has no field count for nothing there.
    pub fields: BTreeSet<String>,
}

impl Provider {
    pub(super) fn addons(&self) -> impl Iterator<Item = &String> {
        self.manager.iter().chain(&self.drivers)
    }
}

impl Rules {
    /// The addons that are deployed for `features`, without being named.
    pub fn deployed(&self, features: &Features, kubernetes: Minor) -> BTreeSet<String> {
        let mut addons = self.always.clone();
        addons.extend(self.fields.intersection(&features.fields).cloned());
        addons.extend(features.cni.clone());
        let Some(provider) = self.providers.get(&features.provider) else { return addons };
        let unasked =
            self.external_from.is_some_and(|from| kubernetes >= from) && provider.external.is_none();
        let external = features.external || unasked;
        if external {
            addons.extend(provider.manager.clone());
        }
        let has_drivers = match provider.drivers_from {
            None => true,
            Some(DriversFrom::External) => external,
            Some(DriversFrom::Kubernetes(from)) => external || kubernetes >= from,
        };
        if features.drivers && has_drivers && !provider.drivers.is_empty() {
            addons.extend(provider.drivers.union(&self.beside_drivers).cloned());
        }
        addons
    }

    /// Whether an entry of `addons.addons` deploys that addon.
    pub fn is_deployed_by_name(&self, addon: &str) -> bool {
        !self.embedded.contains(addon) || self.on_request.contains(addon)
    }

    /// The first rule that is broken.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.on_request.difference(&self.embedded).next() {
            Some(addon) => Err(format!("{addon} is `on_request` and not `embedded`")),
            None => Ok(()),
        }
    }
}
