//! Why an image is selected, for people and for programs.

use semver::Version;
use serde::Serialize;

use super::catalog::{Group, Reason, SelectedImage, ranges};
use crate::util::text::list;

/// Why an image is there.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Why<'s> {
    Catalog(Asked<'s>),
    Named { named_by: &'s str },
}

impl Why<'_> {
    pub(crate) fn sentence(&self) -> String {
        match self {
            Why::Catalog(asked) => asked.sentence(),
            Why::Named { named_by } => format!("named by {named_by}"),
        }
    }
}

/// Reasons that differ in nothing but the version of Kubernetes, as one.
#[derive(Debug, Serialize)]
pub(crate) struct Asked<'s> {
    group: &'static str,
    resource: &'s str,
    addons: &'s [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    kubeone: Option<String>,
    #[serde(serialize_with = "as_text")]
    kubernetes: Vec<&'s Version>,
    /// False where `overwriteRegistry` does not reach it.
    #[serde(skip_serializing_if = "is_true")]
    overwritten: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_true(flag: &bool) -> bool {
    *flag
}

fn as_text<S: serde::Serializer>(versions: &[&Version], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(versions.iter().map(ToString::to_string))
}

/// Why an image is selected: reasons that differ in nothing but the version of Kubernetes as one.
pub(crate) fn explain(image: &SelectedImage) -> Vec<Why<'_>> {
    let mut whys: Vec<(&Reason, Asked<'_>)> = Vec::new();
    for reason in &image.reasons {
        let same = |other: &Reason| {
            (other.group, &other.resource, &other.addons, other.kubeone, other.overwritten)
                == (reason.group, &reason.resource, &reason.addons, reason.kubeone, reason.overwritten)
        };
        match whys.iter_mut().find(|(other, _)| same(other)) {
            Some((_, why)) => why.kubernetes.push(&reason.kubernetes),
            None => whys.push((reason, Asked::new(reason))),
        }
    }
    let named = image.named_by.iter().map(|named_by| Why::Named { named_by });
    whys.into_iter().map(|(_, asked)| Why::Catalog(asked)).chain(named).collect()
}

impl<'s> Asked<'s> {
    fn new(reason: &'s Reason) -> Self {
        Self {
            group: reason.group.as_str(),
            resource: &reason.resource,
            addons: &reason.addons,
            kubeone: reason.kubeone.map(|release| release.to_string()),
            kubernetes: vec![&reason.kubernetes],
            overwritten: reason.overwritten,
        }
    }

    fn sentence(&self) -> String {
        let by = match &self.kubeone {
            Some(release) if self.resource == "etcd" => format!("KubeOne {release} in place of kubeadm's"),
            Some(release) => format!("KubeOne {release}"),
            None => "kubeadm".to_owned(),
        };
        let addons = match self.addons {
            [] if self.group == Group::ControlPlane.as_str() => String::new(),
            [] => " of no addon".to_owned(),
            addons => format!(" of {}", list(addons)),
        };
        let reach = if self.overwritten { "" } else { ", not reached by overwriteRegistry" };
        let kubernetes = ranges(&self.kubernetes);
        format!("{} {}{addons}: {by}, Kubernetes {kubernetes}{reach}", self.group, self.resource)
    }
}
