//! What would be done, without a network; and why.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use crate::image::reference::Digest;
use crate::options::Options;
use crate::plan::Rules;
use crate::record::PinnedPlatform;
use crate::selection::catalog::{SelectedImage, Selection};
use crate::selection::why::{Why, explain};
use crate::util::text::{self, list};

/// What would be mirrored.
pub struct DryRun<'a> {
    pub options: &'a Options,
    pub selection: &'a Selection,
}

/// What is recorded of an image.
struct Recorded<'p> {
    digest: &'p Digest,
    /// Those that are wanted, each once.
    platforms: Vec<&'p PinnedPlatform>,
    /// Bytes of all else, where that is recorded.
    more: Option<u64>,
}

impl Recorded<'_> {
    /// Of the wanted platforms and all else.
    fn bytes(&self) -> u64 {
        self.platforms.iter().fold(self.more.unwrap_or(0), |sum, platform| sum.saturating_add(platform.bytes))
    }

    /// Whether it tells how much there is.
    fn has_sizes(&self) -> bool {
        self.more.is_some() || !self.platforms.is_empty()
    }
}

impl DryRun<'_> {
    fn recorded(&self, image: &SelectedImage) -> Option<Recorded<'_>> {
        let pin = self.options.pins.get(&image.reference)?;
        let digest = pin.wanted()?;
        let is_wanted = |platform: &&PinnedPlatform| {
            let named = platform.platform.as_ref().filter(|_| !platform.undivided);
            named.is_none_or(|name| self.options.platforms.includes(name))
        };
        let mut platforms: Vec<&PinnedPlatform> = pin.platforms.iter().filter(is_wanted).collect();
        let mut seen = HashSet::new();
        platforms.retain(|platform| seen.insert(&platform.digest));
        Some(Recorded { digest, platforms, more: pin.more })
    }

    /// How much there is to move at most, by what is recorded of the images; `None` where no sizes are.
    pub fn sizes(&self) -> Option<String> {
        let (mut counted, mut bytes, mut known, mut incomplete) = (HashSet::new(), 0_u64, 0, 0);
        for image in &self.selection.images {
            let Some(recorded) = self.recorded(image).filter(Recorded::has_sizes) else { continue };
            known += 1;
            incomplete += usize::from(recorded.more.is_none());
            for location in self.options.target.destinations(&image.reference) {
                // What one repository gets by two tags it gets once; another one may have to be sent all of it.
                let mut add = |digest, size: u64| {
                    if counted.insert((location.repository.clone(), digest)) {
                        bytes = bytes.saturating_add(size);
                    }
                };
                recorded.platforms.iter().for_each(|platform| add(&platform.digest, platform.bytes));
                add(recorded.digest, recorded.more.unwrap_or(0));
            }
        }
        let all = self.selection.images.len();
        let of = if known == all { text::count(all, "image") } else { format!("{known} of {all} images") };
        let mut without = Vec::new();
        match incomplete {
            0 => {}
            1 => without.push("what 1 image has beside its platforms".to_owned()),
            _ => without.push(format!("what {incomplete} images have beside their platforms")),
        }
        let Rules { include_foreign, referrers, accept_moved, .. } = self.options.rules;
        // Files have all manifests and configs of an index.
        let has_others = self.options.target.registry().is_none() && !self.options.platforms.is_all();
        without.extend(has_others.then(|| "manifests and configs of other platforms".to_owned()));
        without.extend(accept_moved.then(|| "what a tag has that has moved since".to_owned()));
        without.extend(include_foreign.then(|| "layers that are not to be distributed".to_owned()));
        without.extend(referrers.then(|| "what refers to the images".to_owned()));
        let bound = match without.as_slice() {
            [] => " at most".to_owned(),
            without => format!(" without {}, of which no size is recorded", list(without)),
        };
        (known > 0)
            .then(|| format!("{of}: {}{bound}, layers that they share counted for each", text::bytes(bytes)))
    }
}

/// One `SOURCE → TARGET` line for each image and name; with `-v`, below the last one of an image, who asks for it, and at
/// the end the images that are left out because they are gone.
impl fmt::Display for DryRun<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for image in &self.selection.images {
            for location in self.options.target.destinations(&image.reference) {
                writeln!(f, "{} → {}", image.reference, self.options.target.full_name(&location))?;
            }
            if self.options.output.verbose > 0 {
                write_reasons(f, image)?;
                self.write_recorded(f, image)?;
            }
        }
        for image in self.selection.gone.iter().filter(|_| self.options.output.verbose > 0) {
            let since = image.gone.as_ref().map_or("", |gone| gone.since.as_str());
            writeln!(f, "{} is left out, gone since {since}", image.reference)?;
            write_reasons(f, image)?;
        }
        Ok(())
    }
}

impl DryRun<'_> {
    fn write_recorded(&self, f: &mut fmt::Formatter<'_>, image: &SelectedImage) -> fmt::Result {
        let Some(recorded) = self.recorded(image) else { return Ok(()) };
        // One name may have several manifests, as Windows' has for each version of it.
        let mut by_name: Vec<(&str, u64)> = Vec::new();
        for platform in &recorded.platforms {
            let name = platform.platform.as_deref().unwrap_or("no platform");
            match by_name.iter_mut().find(|(known, _)| *known == name) {
                Some((_, bytes)) => *bytes = bytes.saturating_add(platform.bytes),
                None => by_name.push((name, platform.bytes)),
            }
        }
        by_name.extend(recorded.more.filter(|more| *more > 0).map(|more| ("all else", more)));
        let sizes: Vec<String> =
            by_name.iter().map(|(name, bytes)| format!("{name} {}", text::bytes(*bytes))).collect();
        match sizes.join(", ") {
            sizes if sizes.is_empty() => writeln!(f, "    {}", recorded.digest),
            sizes => writeln!(f, "    {}: {sizes}", recorded.digest),
        }
    }
}

fn write_reasons(f: &mut fmt::Formatter<'_>, image: &SelectedImage) -> fmt::Result {
    explain(image).iter().try_for_each(|why| writeln!(f, "    {}", why.sentence()))
}

/// The same as a list of `{"source": …, "target": …, "reasons": […]}`, with what is recorded of the image.
impl Serialize for DryRun<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.selection.images.iter().flat_map(|image| {
            let recorded = self.recorded(image);
            let bytes = recorded.as_ref().filter(|recorded| recorded.has_sizes()).map(Recorded::bytes);
            let more = recorded.as_ref().and_then(|recorded| recorded.more);
            let (pinned_digest, platforms) =
                recorded.map(|recorded| (recorded.digest, recorded.platforms)).unzip();
            let platforms = platforms.unwrap_or_default();
            let locations = self.options.target.destinations(&image.reference).into_iter();
            locations.map(move |location| Line {
                source: image.reference.to_string(),
                target: self.options.target.full_name(&location),
                reasons: explain(image),
                pinned_digest,
                bytes,
                platforms: platforms.clone(),
                more,
            })
        }))
    }
}

/// One image under one name at the target.
#[derive(Serialize)]
struct Line<'s> {
    source: String,
    target: String,
    reasons: Vec<Why<'s>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned_digest: Option<&'s Digest>,
    /// Of all its wanted platforms, and of all else.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<&'s PinnedPlatform>,
    /// Of all else, as far as that is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<u64>,
}
