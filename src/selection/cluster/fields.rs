//! Which of the fields of `addons` are looked at, by the rules of the releases that deploy a cluster.

use std::collections::BTreeSet;

use super::{Api, Cluster};
use crate::selection::catalog::{AddonFields, Deployment, Minor};
use crate::util::text::list;

/// Those of `addons` that count.
#[derive(Debug, Default)]
pub struct Fields {
    pub addons: bool,
    pub path: bool,
    pub params: bool,
    /// What is not looked at, and what the user may not expect, a sentence each.
    pub warnings: Vec<String>,
}

impl Fields {
    /// What at least one of the `deployments` looks at.
    pub fn of(cluster: &Cluster, deployments: &[Deployment<'_>]) -> Self {
        let addons = &cluster.addons;
        // v1beta3 has no such field.
        let enabled = cluster.api == Api::V1Beta3 || addons.enable.is_some_and(|(enable, _)| enable);
        let mut fields = Self::default();
        let mut needs_enable = deployments.iter().any(|deployment| deployment.rules.is_some());
        for (release, rules) in deployments.iter().filter_map(|d| Some((d.release()?, d.rules?))) {
            let is_listed_first = match &rules.addons {
                AddonFields::Enabled => {
                    fields.addons |= enabled;
                    fields.path |= enabled;
                    fields.params |= rules.global_params;
                    continue;
                }
                AddonFields::Either => false,
                AddonFields::Listed => true,
                AddonFields::ListedTo(last) => release.patch <= *last,
            };
            needs_enable = false;
            fields.addons = true;
            fields.path |= addons.is_listed || !is_listed_first;
            fields.params |= rules.global_params;
        }
        fields.warn(cluster, &releases(deployments), needs_enable);
        fields
    }

    fn warn(&mut self, cluster: &Cluster, releases: &str, needs_enable: bool) {
        let (addons, name) = (&cluster.addons, &cluster.name);
        match addons.enable {
            None if needs_enable && !self.addons && (addons.has_path || addons.is_listed) => self.warnings.push(format!(
                "{name}: its addons are left out, for without addons.enable KubeOne {releases} does not deploy them"
            )),
            Some((false, line)) if self.addons && !needs_enable => self.warnings.push(format!(
                "{name}, line {line}: KubeOne {releases} does not look at addons.enable, so the addons are taken"
            )),
            _ => {}
        }
        if self.addons && !self.path && addons.has_path {
            self.warnings.push(format!(
                "{name}: addons.path is not read, for KubeOne {releases} does so only where addons.addons has an entry"
            ));
        }
        if !self.params && !addons.params.is_empty() && (self.addons || self.path) {
            self.warnings.push(format!("{name}: addons.globalParams has no effect in KubeOne {releases}"));
        }
    }
}

/// A sentence where no release that is chosen deploys a manifest of that version of the API.
pub fn not_deployed(cluster: &Cluster, deployments: &[Deployment<'_>]) -> Option<String> {
    let refuses = |d: &&Deployment<'_>| {
        d.rules.is_some_and(|rules| !rules.manifests.iter().any(|api| api == cluster.api.name()))
    };
    let refusing: Vec<_> = deployments.iter().filter(refuses).collect();
    (!refusing.is_empty()).then(|| {
        format!(
            "{}: KubeOne {} deploys no manifest of {}; its images are chosen as if it did",
            cluster.name,
            releases(refusing.into_iter()),
            cluster.api.name()
        )
    })
}

fn releases<'d>(deployments: impl IntoIterator<Item = &'d Deployment<'d>>) -> String {
    let releases: BTreeSet<Minor> =
        deployments.into_iter().filter_map(Deployment::release).map(|release| release.kubeone).collect();
    list(&releases.iter().map(ToString::to_string).collect::<Vec<_>>())
}
