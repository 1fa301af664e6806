//! The fields of a KubeOne manifest that decide on images; all others are left to KubeOne to judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::addons::{
    DEFAULT_CNI, MACHINE_CONTROLLER, METRICS_SERVER, NO_CNI, NODE_LOCAL_DNS, NODE_LOCAL_DNS_OF_CILIUM,
    OPERATING_SYSTEM_MANAGER, cni_addon, find_provider, has_machines, has_no_images, provider_names,
};
use super::{Api, Cluster, Filling, OverwriteRegistry};
use crate::image::reference::Target;
use crate::selection::catalog::Features;
use crate::selection::kubernetes::Named;
use crate::util::text::{list, printable};
use crate::util::yaml::{self, Node, Value};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<Spanned<String>>,
    kind: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    versions: Option<Versions>,
    cloud_provider: Option<Node>,
    cluster_network: Option<ClusterNetwork>,
    container_runtime: Option<Node>,
    features: Option<FeatureFields>,
    machine_controller: Option<Deploy>,
    operating_system_manager: Option<Deploy>,
    addons: Option<AddonsField>,
    helm_releases: Option<Node>,
    registry_configuration: Option<RegistryConfiguration>,
}

#[derive(Deserialize)]
struct Versions {
    kubernetes: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct ClusterNetwork {
    cni: Option<Node>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct FeatureFields {
    metrics_server: Option<Enable>,
    #[serde(rename = "nodeLocalDNS")]
    node_local_dns: Option<Deploy>,
    #[serde(rename = "coreDNS")]
    core_dns: Option<Node>,
}

#[derive(Deserialize)]
struct Enable {
    #[serde(default)]
    enable: bool,
}

#[derive(Deserialize)]
struct Deploy {
    #[serde(default)]
    deploy: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct AddonsField {
    enable: Option<Spanned<bool>>,
    path: Option<String>,
    addons: Option<Vec<Node>>,
    global_params: Option<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RegistryConfiguration {
    overwrite_registry: Option<Spanned<String>>,
    #[serde(default)]
    insecure_registry: bool,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Cluster> {
    let name = printable(&path.display().to_string());
    let head: Head = yaml::one(text).with_context(|| name.clone())?;
    let api = api(&head, &name)?;
    let manifest: Manifest = yaml::one(text).with_context(|| name.clone())?;
    let kubernetes = manifest.versions.and_then(|versions| versions.kubernetes);
    let Some(kubernetes) = kubernetes else { bail!("{name}: it lacks versions.kubernetes") };
    let core_dns = manifest.features.as_ref().and_then(|features| features.core_dns.clone());
    let features = FeatureSet {
        api,
        cloud: manifest.cloud_provider,
        cni: manifest.cluster_network.and_then(|network| network.cni),
        fields: manifest.features.unwrap_or_default(),
        machine_controller: manifest.machine_controller,
        operating_system_manager: manifest.operating_system_manager,
    };
    let mut cluster = Cluster {
        api,
        kubernetes: kubernetes.value,
        features: features.resolve(&name)?,
        addons: super::Addons::default(),
        without: features.switched_off(),
        sandbox: manifest.container_runtime.as_ref().map(|node| sandbox(node, &name)).transpose()?.flatten(),
        redirected: manifest.container_runtime.as_ref().map(redirected).unwrap_or_default(),
        registry: manifest.registry_configuration.map(|r| r.resolve(&name)).transpose()?.flatten(),
        warnings: Vec::new(),
        name,
    };
    cluster.add_addons(manifest.addons.unwrap_or_default(), path)?;
    cluster.warn_of_api(&head);
    cluster.warn_of_charts(manifest.helm_releases.as_ref());
    cluster.warn_of_core_dns(core_dns.as_ref());
    Ok(cluster)
}

fn api(head: &Head, name: &str) -> Result<Api> {
    const KNOWN: &str = "kubeone.io/v1beta1, kubeone.k8c.io/v1beta2 and kubeone.k8c.io/v1beta3";
    let Some(version) = &head.api_version else {
        bail!("{name}: it has no apiVersion and so is no KubeOne manifest; there are {KNOWN}");
    };
    let line = version.referenced.line();
    let api = match version.value.as_str() {
        "kubeone.k8c.io/v1beta1" | "kubeone.io/v1beta1" => Api::V1Beta1,
        "kubeone.k8c.io/v1beta2" => Api::V1Beta2,
        "kubeone.k8c.io/v1beta3" => Api::V1Beta3,
        other => {
            bail!("{name}, line {line}: the apiVersion {} is not known; there are {KNOWN}", printable(other))
        }
    };
    match &head.kind {
        Some(kind) if kind.value == "KubeOneCluster" => Ok(api),
        Some(kind) => {
            let (line, kind) = (kind.referenced.line(), printable(&kind.value));
            bail!("{name}, line {line}: the kind is {kind}, not KubeOneCluster")
        }
        None => bail!("{name}: it has no kind, which has to be KubeOneCluster"),
    }
}

impl RegistryConfiguration {
    fn resolve(self, name: &str) -> Result<Option<OverwriteRegistry>> {
        let Some(text) = self.overwrite_registry.filter(|text| !text.value.is_empty()) else {
            return Ok(None);
        };
        let at =
            || format!("{name}, line {}, registryConfiguration.overwriteRegistry", text.referenced.line());
        // The error quotes the text.
        ensure!(!text.value.contains('@'), "{}: a login does not belong there", at());
        let target: Target = text.value.parse().with_context(at)?;
        Ok(Some(OverwriteRegistry { target, insecure: self.insecure_registry }))
    }
}

/// The fields that decide on embedded addons.
struct FeatureSet {
    api: Api,
    cloud: Option<Node>,
    cni: Option<Node>,
    fields: FeatureFields,
    machine_controller: Option<Deploy>,
    operating_system_manager: Option<Deploy>,
}

impl FeatureSet {
    /// With KubeOne's defaults.
    fn resolve(&self, name: &str) -> Result<Features> {
        let provider = self.provider(name)?;
        let flag = |key: &str| self.cloud.as_ref().map_or(Ok(None), |cloud| flag(cloud, key, name));
        let machines = self.machine_controller.as_ref().map_or(has_machines(provider), |m| m.deploy);
        let systems = self.operating_system_manager.as_ref().map(|o| o.deploy);
        let switched = [
            (METRICS_SERVER, self.fields.metrics_server.as_ref().is_none_or(|feature| feature.enable)),
            (NODE_LOCAL_DNS, self.fields.node_local_dns.as_ref().is_none_or(|feature| feature.deploy)),
            (NODE_LOCAL_DNS_OF_CILIUM, self.cilium("enableLocalRedirectPolicy")),
            (MACHINE_CONTROLLER, machines),
            // v1beta1 has no such field, and deploys it where it is named.
            (OPERATING_SYSTEM_MANAGER, systems.unwrap_or(machines && self.api > Api::V1Beta1)),
        ];
        Ok(Features {
            provider: provider.to_owned(),
            external: flag("external")?.unwrap_or(false),
            drivers: !flag("disableBundledCSIDrivers")?.unwrap_or(false),
            cni: cni_addon(&self.cni(name)?),
            fields: switched.into_iter().filter(|(_, on)| *on).map(|(addon, _)| addon.to_owned()).collect(),
        })
    }

    /// Whether a field of Cilium is true.
    fn cilium(&self, field: &str) -> bool {
        let cilium = self.cni.as_ref().and_then(|cni| cni.get("cilium"));
        cilium
            .and_then(|cilium| cilium.get(field))
            .is_some_and(|node| matches!(node.value, Value::Bool(true)))
    }

    fn provider(&self, name: &str) -> Result<&'static str> {
        const OTHER_FIELDS: [&str; 5] =
            ["external", "disableBundledCSIDrivers", "cloudConfig", "csiConfig", "secretProviderClassName"];
        let known = || format!("there are {}", list(provider_names()));
        let entries = self.cloud.as_ref().map(Node::entries).unwrap_or_default();
        let mut named = entries.iter().filter(|(key, _)| !OTHER_FIELDS.contains(&key.as_str()));
        let Some((key, node)) = named.next() else {
            bail!("{name}: cloudProvider names no provider; {}", known());
        };
        if let Some((other, node)) = named.next() {
            let (key, other, line) = (printable(key), printable(other), node.line);
            bail!("{name}, line {line}: cloudProvider names two providers, {key} and {other}");
        }
        find_provider(key).ok_or_else(|| {
            let (line, key) = (node.line, printable(key));
            anyhow!("{name}, line {line}: cloudProvider.{key} is not known; {}", known())
        })
    }

    fn cni(&self, name: &str) -> Result<String> {
        let entries = self.cni.as_ref().map(Node::entries).unwrap_or_default();
        let Some((key, node)) = entries.first() else { return Ok(DEFAULT_CNI.to_owned()) };
        match key.as_str() {
            "canal" | "cilium" | "weaveNet" => Ok(key.to_ascii_lowercase()),
            "external" => Ok(NO_CNI.to_owned()),
            _ => bail!(
                "{name}, line {}: clusterNetwork.cni.{} is not known; there are canal, cilium, weaveNet and external",
                node.line,
                printable(key)
            ),
        }
    }

    /// Hubble, with the job that makes its certificates, is part of the addon of Cilium, and deployed only where it
    /// is asked for (KubeOne's `addons/cni-cilium/hubble.yaml`).
    fn switched_off(&self) -> BTreeSet<String> {
        const HUBBLE: [&str; 5] =
            ["CiliumCertGen", "HubbleProxy", "HubbleRelay", "HubbleUI", "HubbleUIBackend"];
        if self.cilium("enableHubble") { BTreeSet::new() } else { HUBBLE.map(str::to_owned).into() }
    }
}

/// The pause image of the user's own choice.
fn sandbox(runtime: &Node, name: &str) -> Result<Option<Named>> {
    let node = runtime.get("containerd").and_then(|containerd| containerd.get("sandboxImage"));
    let Some((text, node)) = node.and_then(|node| Some((node.as_text()?, node))) else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    let by = format!("{name}, line {}", node.line);
    let reference =
        text.parse().with_context(|| format!("{by}, containerRuntime.containerd.sandboxImage"))?;
    Ok(Some(Named { reference, by }))
}

/// The hosts for which containerd is told of a mirror.
fn redirected(runtime: &Node) -> BTreeSet<String> {
    let registries = runtime.get("containerd").and_then(|containerd| containerd.get("registries"));
    registries.map(Node::entries).unwrap_or_default().iter().map(|(host, _)| host.clone()).collect()
}

/// A map of texts, such as `params`; numbers and the like cannot be part of an image without quotes.
fn texts(node: Option<&Node>) -> BTreeMap<String, String> {
    let entries = node.map(Node::entries).unwrap_or_default().iter();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_text()?.to_owned()))).collect()
}

/// A field of `node` that is true or false.
fn flag(node: &Node, key: &str, name: &str) -> Result<Option<bool>> {
    match node.get(key).map(|node| (&node.value, node.line)) {
        None | Some((Value::Null, _)) => Ok(None),
        Some((Value::Bool(value), _)) => Ok(Some(*value)),
        Some((_, line)) => bail!("{name}, line {line}: {key} is neither true nor false"),
    }
}

impl Cluster {
    /// `addons`: those of the catalog by name, and the user's own.
    fn add_addons(&mut self, addons: AddonsField, manifest: &Path) -> Result<()> {
        self.addons.enable = addons.enable.map(|enable| (enable.value, enable.referenced.line()));
        self.addons.params = texts(addons.global_params.as_ref());
        for entry in addons.addons.unwrap_or_default() {
            self.addons.is_listed = true;
            self.add_entry(&entry)?;
        }
        if self.api == Api::V1Beta1 && self.addons.named.contains(OPERATING_SYSTEM_MANAGER) {
            self.features.fields.insert(OPERATING_SYSTEM_MANAGER.to_owned());
        }
        // With v1beta1 an enabled addon manager has a directory in any case.
        let old = self.api == Api::V1Beta1 && self.addons.enable.is_some_and(|(enable, _)| enable);
        let path = addons.path.filter(|path| !path.is_empty());
        self.addons.has_path = path.is_some();
        let path = path.or_else(|| old.then(|| "./addons".to_owned()));
        let bare = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect();
        let beside = |path| bare(&manifest.parent().unwrap_or(Path::new("")).join(path));
        self.addons.directory = path.map(beside);
        Ok(())
    }

    /// `{name, delete}`, in v1beta3 as `addon`, with `helmRelease` beside it.
    fn add_entry(&mut self, entry: &Node) -> Result<()> {
        let at = format!("{}, line {}", self.name, entry.line);
        if let Some(release) = entry.get("helmRelease") {
            self.warnings.push(chart(release, &at));
            return Ok(());
        }
        let addon = entry.get("addon").unwrap_or(entry);
        let Some(name) = addon.get("name").and_then(Node::as_text) else {
            bail!("{at}: an entry of addons.addons has no name");
        };
        let deleted = flag(addon, "delete", &self.name)?.unwrap_or(false);
        let plain = flag(addon, "disableTemplating", &self.name)?.unwrap_or(false);
        self.addons.fillings.insert(name.to_owned(), Filling { params: texts(addon.get("params")), plain });
        if !deleted && !has_no_images(name) {
            self.addons.named.insert(name.to_owned());
        }
        Ok(())
    }

    /// kubeadm puts `/coredns` behind such a repository, wherever it is: the cluster asks neither upstream nor a mirror of
    /// upstream for CoreDNS.
    fn warn_of_core_dns(&mut self, feature: Option<&Node>) {
        let repository = feature.and_then(|feature| feature.get("imageRepository"));
        let Some((node, text)) = repository.and_then(|node| Some((node, node.as_text()?))) else { return };
        if !text.is_empty() {
            self.warnings.push(format!(
                "{}, line {}: the cluster pulls CoreDNS from {}/coredns, whatever else it is told; mirrored is the one \
                 of registry.k8s.io",
                self.name,
                node.line,
                printable(text.trim_end_matches('/'))
            ));
        }
    }

    /// There never was a v1beta1 of the newer group; it is taken for what was meant.
    fn warn_of_api(&mut self, head: &Head) {
        let Some(version) = head.api_version.as_ref().filter(|_| self.api == Api::V1Beta1) else { return };
        if version.value != self.api.name() {
            self.warnings.push(format!(
                "{}, line {}: KubeOne reads no {}; its v1beta1 is {}",
                self.name,
                version.referenced.line(),
                version.value,
                self.api.name()
            ));
        }
    }

    fn warn_of_charts(&mut self, releases: Option<&Node>) {
        for release in releases.map(Node::items).unwrap_or_default() {
            self.warnings.push(chart(release, &format!("{}, line {}", self.name, release.line)));
        }
    }
}

fn chart(release: &Node, at: &str) -> String {
    let text = |key| release.get(key).and_then(Node::as_text).map(printable);
    let name = text("releaseName").or_else(|| text("chart")).unwrap_or_else(|| "without a name".to_owned());
    format!(
        "{at}: the images of the Helm release {name} are not known: name them by --image or --images-from"
    )
}
