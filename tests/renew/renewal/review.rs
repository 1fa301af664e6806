//! What a reviewer has to look at: the differences to the catalog as it was, and what only a person can judge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use mirror_images::selection::catalog::{self, Group, Image, Minor};

use super::addons::Written;
use super::images::Images;
use super::kubeadm::Known;
use super::kubeone::Release;

/// Findings under the names of what they are about, in Markdown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Review {
    pub sections: Vec<(String, Vec<String>)>,
}

impl Review {
    pub fn add(&mut self, name: impl Into<String>, findings: Vec<String>) {
        if !findings.is_empty() {
            self.sections.push((name.into(), findings));
        }
    }
}

impl Display for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sections.is_empty() {
            return writeln!(f, "The catalog is what upstream has.");
        }
        for (number, (name, findings)) in self.sections.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            writeln!(f, "## {name}\n")?;
            for finding in findings {
                writeln!(f, "- {finding}")?;
            }
        }
        Ok(())
    }
}

/// How a release's document is other than it was.
pub fn release(before: &catalog::Release, now: &Release) -> Vec<String> {
    let mut findings = Vec::new();
    let newest = &now.newest;
    if before.patch.0 != newest.tag.version {
        findings.push(format!("newest patch release: v{} → {}", before.patch.0, newest.tag.name));
    }
    if before.kubernetes != newest.kubernetes {
        findings.push(format!(
            "supports Kubernetes {} → {}",
            list(&before.kubernetes),
            list(&newest.kubernetes)
        ));
    }
    let groups = [(Group::Base, &newest.listed.base), (Group::Optional, &newest.listed.optional)];
    for (group, resources) in groups {
        let known: BTreeMap<_, _> =
            before.resources(group).iter().map(|(name, resource)| (name.as_str(), resource)).collect();
        for (name, images) in resources {
            let addons = now.addons_of(name);
            let Some(resource) = known.get(name.as_str()) else {
                let by = if addons.is_empty() { "no addon".to_owned() } else { addons.join(", ") };
                findings.push(format!("added: {name} ({by}): {}", shown(images)));
                continue;
            };
            findings.extend(changed(name, &resource.image, images));
            if resource.addons != addons {
                let (before, now) = (resource.addons.join(", "), addons.join(", "));
                findings.push(format!("{name} has other addons: [{before}] → [{now}]"));
            }
        }
        let gone = known.keys().filter(|name| !resources.iter().any(|(known, _)| known == *name));
        findings.extend(gone.map(|name| format!("gone: {name}")));
    }
    let sandbox = |images: Option<Vec<(String, String)>>| match images {
        Some(images) => {
            images.iter().map(|(minor, image)| format!("{minor} {image}")).collect::<Vec<_>>().join(", ")
        }
        None => "none".to_owned(),
    };
    let pairs = |(minor, image): (&Minor, &dyn Display)| (minor.to_string(), image.to_string());
    let was =
        sandbox(before.sandbox.as_ref().map(|images| images.iter().map(|(m, i)| pairs((m, i))).collect()));
    let is = sandbox(now.sandbox.as_ref().map(|images| images.iter().map(|(m, i)| pairs((m, i))).collect()));
    if was != is {
        findings.push(format!("sandbox: {was} → {is}"));
    }
    let was: Vec<_> = before.etcd.iter().map(|e| range(&e.from.0, &e.below.0, &e.image)).collect();
    let is: Vec<_> = now.etcd.iter().map(|e| range(&e.from, &e.below, &e.image)).collect();
    if was != is {
        findings.push(format!("etcd: [{}] → [{}]", was.join(", "), is.join(", ")));
    }
    findings
}

fn range(from: &dyn Display, below: &dyn Display, image: &dyn Display) -> String {
    format!("{from} to below {below}: {image}")
}

fn list(minors: &[Minor]) -> String {
    minors.iter().map(Minor::to_string).collect::<Vec<_>>().join(", ")
}

/// An image, or each with its minors.
fn shown(images: &Images) -> String {
    if let Some(same) = super::kubeone::same(images) {
        return same.to_owned();
    }
    let one =
        |(minor, image): (&Minor, &Option<String>)| format!("{minor} {}", image.as_deref().unwrap_or("none"));
    images.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn changed(name: &str, before: &Image, now: &Images) -> Option<String> {
    let before: Images = match before {
        Image::Same(image) => now.keys().map(|minor| (*minor, Some(image.to_string()))).collect(),
        Image::ByMinor(images) => {
            images.iter().map(|(minor, image)| (*minor, image.as_ref().map(ToString::to_string))).collect()
        }
    };
    (before != *now).then(|| format!("changed: {name}: {} → {}", shown(&before), shown(now)))
}

/// Images that addons name themselves, against `unlisted` of the catalog.
pub fn unlisted(before: &catalog::Release, now: &BTreeSet<Written>) -> Vec<String> {
    let listed: BTreeSet<Written> = before
        .unlisted
        .iter()
        .flat_map(|unlisted| {
            unlisted.addons.iter().map(|addon| Written {
                addon: addon.clone(),
                image: unlisted.image.to_string(),
                overwritten: unlisted.overwritten,
            })
        })
        .collect();
    let told = |written: &Written, what: &str| {
        let reach = if written.overwritten { "" } else { ", where overwriteRegistry does not reach it" };
        format!("`unlisted`: {} names {} itself{reach}: {what}", written.addon, written.image)
    };
    let new = now.difference(&listed).map(|written| told(written, "**to be added by hand**"));
    let gone = listed.difference(now).map(|written| told(written, "no more, **to be removed by hand**"));
    new.chain(gone).collect()
}

/// Addons on which KubeOne alone decides, against `rules.embedded` of the catalog.
pub fn embedded(before: &catalog::Release, now: &BTreeSet<String>) -> Vec<String> {
    let Some(rules) = &before.rules else { return Vec::new() };
    let new = now.difference(&rules.embedded).map(|addon| format!("`rules.embedded` lacks {addon}"));
    let gone =
        rules.embedded.difference(now).map(|addon| format!("`rules.embedded` has {addon}, KubeOne no more"));
    new.chain(gone).collect()
}

/// How the minors of Kubernetes are other than they were.
pub fn kubernetes(before: &BTreeMap<Minor, Known>, now: &BTreeMap<Minor, Known>) -> Vec<String> {
    let mut findings = Vec::new();
    for (minor, known) in now {
        let Some(was) = before.get(minor) else {
            findings.push(format!("added: {minor}, up to {minor}.{}", known.latest));
            continue;
        };
        if was.latest != known.latest {
            findings.push(format!("newest patch: {minor}.{} → {minor}.{}", was.latest, known.latest));
        }
        if was.verified != known.verified {
            let shown = |verified: Option<u64>| match verified {
                Some(verified) => format!("up to {minor}.{verified}"),
                None => "all".to_owned(),
            };
            findings.push(format!(
                "verified of {minor}: {} → {}",
                shown(was.verified),
                shown(known.verified)
            ));
        }
        let both = was.images.iter().zip(&known.images).enumerate();
        findings.extend(both.filter(|(_, (was, is))| was != is).map(|(patch, (was, is))| {
            let all =
                |images: &super::kubeadm::Images| [&*images.coredns, &images.etcd, &images.pause].join(" ");
            format!("changed: {minor}.{patch}: {} → {}", all(was), all(is))
        }));
    }
    findings
}
