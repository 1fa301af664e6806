//! What a catalog spans, and how old it is.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::image::reference::Reference;
use crate::selection::catalog::{Catalog, Pin, Pins, References};
use crate::util::text;

/// What `mirror-images catalog info` tells.
#[derive(Debug, Serialize)]
pub struct Info {
    pub kubernetes: Vec<Kubernetes>,
    pub kubeone: Vec<Release>,
    /// The day of the newest release of KubeOne in it, as YYYY-MM-DD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// Days that have passed since then; negative for a day that is to come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_days: Option<i64>,
    /// Images, each once.
    pub references: usize,
    /// Those of them that can be had nowhere any more.
    pub gone: usize,
    pub pins: Recorded,
}

/// A minor of Kubernetes.
#[derive(Debug, Serialize)]
pub struct Kubernetes {
    pub minor: String,
    /// Its newest known patch.
    pub latest: String,
    /// The newest patch whose images somebody has looked at, where that is not `latest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<String>,
}

/// A release of KubeOne.
#[derive(Debug, Serialize)]
pub struct Release {
    pub release: String,
    /// Its newest patch release, and the day of that.
    pub patch: String,
    pub released: String,
    /// How many patch releases of it are known.
    pub patches: usize,
    pub kubernetes: Vec<String>,
}

/// How much is recorded of the images of the catalog.
#[derive(Debug, Serialize)]
pub struct Recorded {
    pub digests: usize,
    pub platforms: usize,
    /// Tags that are meant to move, and are not compared.
    pub moving: usize,
}

impl Info {
    /// What there is to tell of `catalog` on the day that is `today`, in days since 1970.
    ///
    /// # Errors
    /// A document of the catalog is broken.
    pub fn new(catalog: &Catalog, pins: &Pins, today: u64) -> Result<Self> {
        let minors = catalog.kubernetes().minors.iter();
        let kubernetes = minors.map(|(minor, patches)| Kubernetes {
            minor: minor.to_string(),
            latest: patches.latest.0.to_string(),
            verified: patches.verified.as_ref().map(|verified| verified.0.to_string()),
        });
        let mut releases = Vec::new();
        let mut days = Vec::new();
        for (kubeone, supported) in catalog.releases() {
            let Some(release) = catalog.release(kubeone)? else { continue };
            days.push(release.released.clone());
            days.extend(release.patches.iter().map(|patch| patch.released.clone()));
            releases.push(Release {
                release: kubeone.to_string(),
                patch: release.patch.0.to_string(),
                released: release.released.to_string(),
                patches: release.patches.len() + 1,
                kubernetes: supported.iter().map(ToString::to_string).collect(),
            });
        }
        let newest = days.into_iter().max();
        let References { references: all, moving, .. } = catalog.references(None)?;
        let is_moving =
            |image: &Reference| moving.contains(image) || pins.get(image).is_some_and(|pin| pin.moving);
        let number = |is: &dyn Fn(&Reference) -> bool| all.keys().filter(|image| is(image)).count();
        Ok(Self {
            kubernetes: kubernetes.collect(),
            kubeone: releases,
            age_days: newest.as_ref().map(|day| today.cast_signed().saturating_sub_unsigned(day.number())),
            newest: newest.map(|day| day.to_string()),
            references: all.len(),
            gone: all.values().filter(|gone| gone.is_some()).count(),
            pins: Recorded {
                digests: number(&|image| {
                    !is_moving(image) && pins.get(image).is_some_and(|pin| pin.wanted().is_some())
                }),
                platforms: number(&|image| {
                    let is_whole = |pin: &Pin| pin.wanted().is_some() && !pin.platforms.is_empty();
                    !is_moving(image) && pins.get(image).is_some_and(is_whole)
                }),
                moving: number(&is_moving),
            },
        })
    }
}

/// The day that it is, in days since 1970; 0 by a clock that is before that.
pub fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / (24 * 3600))
}

/// For people.
impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(first), Some(last)) = (self.kubernetes.first(), self.kubernetes.last()) {
            let minors = text::count(self.kubernetes.len(), "minor");
            writeln!(f, "Kubernetes  {} to {} ({minors})", first.minor, last.latest)?;
            let unverified: Vec<&str> = self
                .kubernetes
                .iter()
                .filter(|minor| minor.verified.is_some())
                .map(|minor| minor.latest.as_str())
                .collect();
            if !unverified.is_empty() {
                writeln!(f, "            images of {} not verified", text::list(&unverified))?;
            }
        }
        for (number, release) in self.kubeone.iter().enumerate() {
            let name = if number == 0 { "KubeOne" } else { "" };
            let patches = text::count(release.patches, "patch release");
            let kubernetes = text::list(&release.kubernetes);
            let Release { patch, released, .. } = release;
            writeln!(f, "{name:<12}{patch:<8}{released}, {patches}, for Kubernetes {kubernetes}")?;
        }
        if let (Some(newest), Some(days)) = (&self.newest, self.age_days) {
            let number = text::count(usize::try_from(days.unsigned_abs()).unwrap_or(usize::MAX), "day");
            match days {
                0.. => writeln!(f, "Newest      {newest}, {number} ago")?,
                _ => writeln!(f, "Newest      {newest}, which is to come in {number}")?,
            }
        }
        write!(f, "Images      {}", self.references)?;
        if self.gone > 0 {
            write!(f, ", {} of them gone upstream", self.gone)?;
        }
        let Recorded { digests, platforms, moving } = &self.pins;
        writeln!(f)?;
        write!(f, "Pins        {}, {platforms} of them with platforms", text::count(*digests, "digest"))?;
        match moving {
            0 => writeln!(f),
            moving => writeln!(f, "; {} not compared", text::count(*moving, "moving tag")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_catalog_tells_its_span_and_its_age() {
        let catalog = Catalog::embedded().unwrap();
        let pins = Pins::embedded();
        let at_first = Info::new(&catalog, &pins, 0).unwrap();
        let newest = at_first.newest.clone().unwrap();
        let released = at_first.age_days.unwrap().unsigned_abs();
        let today = released + 12;
        let info = Info::new(&catalog, &pins, today).unwrap();
        assert_eq!(info.age_days, Some(12));
        assert_eq!(info.kubeone.iter().map(|release| release.patches).sum::<usize>(), 80);
        let told = info.to_string();
        assert!(told.contains(&format!("{newest}, 12 days ago\n")), "{told}");
        assert!(told.starts_with("Kubernetes  1.19 to 1."), "{told}");
        assert!(
            told.contains(&format!("Images      {}, {} of them gone upstream\n", info.references, info.gone))
                && told
                    .contains(&format!("; {} not compared\n", text::count(info.pins.moving, "moving tag"))),
            "{told}"
        );
        // A clock that is wrong, or a release that is to come, makes nobody fail.
        let before = Info::new(&catalog, &pins, released - 3).unwrap();
        assert_eq!(before.age_days, Some(-3));
        assert!(before.to_string().contains(&format!("{newest}, which is to come in 3 days\n")), "{before}");
    }
}
