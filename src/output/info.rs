//! What a catalog spans, and how old it is.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use crate::image::reference::Reference;
use crate::selection::catalog::{Catalog, Pins};
use crate::util::text;

/// What `mirror-images catalog info` tells.
#[derive(Debug, Serialize)]
pub struct Info {
    pub kubernetes: Vec<Kubernetes>,
    pub kubeone: Vec<Release>,
    /// The day of the newest release of KubeOne in it, as YYYY-MM-DD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// Days that have passed since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_days: Option<u64>,
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
            days.push(release.released.as_str());
            days.extend(release.patches.iter().map(|patch| patch.released.as_str()));
            releases.push(Release {
                release: kubeone.to_string(),
                patch: release.patch.0.to_string(),
                released: text::printable(&release.released),
                patches: release.patches.len() + 1,
                kubernetes: supported.iter().map(ToString::to_string).collect(),
            });
        }
        let newest = days.into_iter().filter_map(|day| Some((day_number(day)?, day))).max();
        let all = catalog.references(None)?.references;
        let number = |is: fn(&Pins, &Reference) -> bool| all.keys().filter(|image| is(pins, image)).count();
        Ok(Self {
            kubernetes: kubernetes.collect(),
            kubeone: releases,
            newest: newest.map(|(_, day)| day.to_owned()),
            age_days: newest.map(|(number, _)| today.saturating_sub(number)),
            references: all.len(),
            gone: all.values().filter(|gone| gone.is_some()).count(),
            pins: Recorded {
                digests: number(|pins, image| pins.get(image).is_some_and(|pin| pin.wanted().is_some())),
                platforms: number(|pins, image| pins.get(image).is_some_and(|pin| !pin.platforms.is_empty())),
                moving: number(|pins, image| pins.get(image).is_some_and(|pin| pin.moving)),
            },
        })
    }
}

/// The day that it is, in days since 1970; 0 by a clock that is before that.
pub fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / (24 * 3600))
}

/// Days since 1970 of a YYYY-MM-DD, by the proleptic Gregorian calendar; `None` for what is no such day.
fn day_number(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let is_dashed = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok().filter(|month| (1..=12).contains(month))?;
    if !is_dashed || year < 1970 || !(1..=months[month - 1]).contains(&day) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Some(years + months[..month - 1].iter().sum::<u64>() + day - 1)
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
            let days = usize::try_from(days).unwrap_or(usize::MAX);
            writeln!(f, "Newest      {newest}, {} ago", text::count(days, "day"))?;
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
    fn days_are_counted_as_calendars_do() {
        for (day, number) in
            [("1970-01-01", 0), ("1972-03-01", 790), ("2000-02-29", 11_016), ("2026-08-13", 20_678)]
        {
            assert_eq!(day_number(day), Some(number), "{day}");
        }
        for wrong in [
            "",
            "2026",
            "2026-8-13",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026/08/13",
            "1969-12-31",
            "2026-08-1x",
            "2026-08-13 ",
            "٢٠٢٦-08-13",
            "+026-08-13",
        ] {
            assert_eq!(day_number(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_embedded_catalog_tells_its_span_and_its_age() {
        let catalog = Catalog::embedded().unwrap();
        let pins = Pins::embedded();
        let newest = Info::new(&catalog, &pins, 0).unwrap().newest.unwrap();
        let today = day_number(&newest).unwrap() + 12;
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
        // A clock that is wrong makes nobody fail.
        assert_eq!(Info::new(&catalog, &pins, 5).unwrap().age_days, Some(0));
    }
}
