//! Images that KubeOne names and that can be had nowhere any more.

use std::collections::BTreeSet;

use super::Day;
use super::select::Selection;
use crate::image::reference::{Host, Reference};
use crate::util::text;

/// Repositories that were deleted upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// What their names begin with: a host and one or more parts of a path.
    below: String,
    #[serde(rename = "gone")]
    pub since: Day,
    /// What happened, as a part of a sentence.
    pub why: String,
}

impl Gone {
    /// The first rule that it breaks.
    pub(super) fn check(&self) -> Result<(), String> {
        let has_path = self.below.split_once('/').is_some_and(|(host, path)| {
            host.parse::<Host>().is_ok() && !path.is_empty() && !path.ends_with('/')
        });
        if has_path {
            Ok(())
        } else {
            Err(format!("`gone` has a `below` of {:?}, which is no host with a path", self.below))
        }
    }

    pub(super) fn has(&self, image: &Reference) -> bool {
        let name = format!("{}/{}", image.host, image.repository);
        name.strip_prefix(&self.below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Selection {
    /// Moves what is gone from the images to [`Selection::gone`], with a warning, but for that which the user named or
    /// of whose host there `is_mirrored` a place that may have it still.
    pub fn leave_out_gone(&mut self, is_mirrored: impl Fn(&Host) -> bool) {
        self.gone = self
            .images
            .extract_if(.., |image| {
                image.gone.is_some() && image.named_by.is_empty() && !is_mirrored(&image.reference.host)
            })
            .collect();
        let causes: BTreeSet<&Gone> = self.gone.iter().filter_map(|image| image.gone.as_ref()).collect();
        for cause in causes {
            let images = self.gone.iter().filter(|image| image.gone.as_ref() == Some(cause));
            let images: Vec<&Reference> = images.map(|image| &image.reference).collect();
            let Some(first) = images.first() else { continue };
            let (which, are) = match images.len() {
                1 => (first.to_string(), "is"),
                number => (format!("{first} and {}", text::count(number - 1, "other image")), "are"),
            };
            self.warnings.push(format!(
                "{which} {are} left out, gone since {}: {}; a mirror that has kept them is named by --source-mirror {}=PLACE",
                cause.since, cause.why, first.host
            ));
        }
    }
}
