//! What is recorded of the images of a plan, for a lock.

use std::sync::Arc;

use super::resolver::Resolver;
use super::{Levels, Request};
use crate::image::manifest::{Extent, Manifest};
use crate::image::reference::{Digest, Location};
use crate::record::{Contents, Draft, Image, Missing};

/// What has become of one of an image's names.
pub(crate) enum Fate {
    /// The name has the image; or with this digest one without what is not wanted of it.
    There(Option<Digest>),
    /// It has not, for this cause.
    Missing(String),
}

impl Fate {
    pub(crate) fn there(extent: &Extent) -> Self {
        match extent {
            Extent::Whole | Extent::Sparse => Self::There(None),
            Extent::Trimmed(trimmed) => Self::There(Some(trimmed.target.clone())),
        }
    }
}

impl Resolver {
    /// What the image of `levels` consists of, if that is to be recorded.
    pub(super) fn contents(&self, request: &Request, levels: &Levels) -> Option<Arc<Contents>> {
        request.purpose.as_ref()?;
        let manifests: Vec<&Manifest> = levels.iter().flatten().map(AsRef::as_ref).collect();
        let blobs = request.all_blobs_in(levels, self.rules.include_foreign);
        Contents::of(&manifests, &request.platforms, blobs).map(Arc::new)
    }
}

impl Request {
    /// The record of the image where it has these `names` of all that it is to have.
    pub(crate) fn image(&self, names: Vec<Location>, contents: &Contents) -> Image {
        let reasons = self.purpose.as_ref().map_or(&[][..], |purpose| &purpose.reasons);
        let image = Image::new(&self.reference, names, reasons, contents);
        Image { refers_to: self.refers_to.clone(), ..image }
    }

    /// All names that it is to have, as they are recorded.
    pub(crate) fn names(&self) -> Vec<Location> {
        self.purpose.as_ref().map_or(Vec::new(), |purpose| purpose.names.clone())
    }

    /// Enters into `draft` what has become of the image's names, in their order.
    pub(crate) fn record(&self, draft: &mut Draft, contents: Option<&Contents>, fates: Vec<Fate>) {
        let Some(purpose) = &self.purpose else { return };
        // Where a place has other names for it, it has all of them or none.
        let is_one_by_one = fates.len() == purpose.names.len();
        let (mut there, mut lacking, mut target, mut cause) = (Vec::new(), Vec::new(), None, None);
        if fates.is_empty() {
            cause = Some("it has none of the wanted platforms".to_owned());
        }
        for (number, fate) in fates.into_iter().enumerate() {
            let name = purpose.names.get(number).filter(|_| is_one_by_one).cloned();
            match fate {
                Fate::There(trimmed) => {
                    there.extend(name);
                    target = target.or(trimmed);
                }
                Fate::Missing(why) => {
                    lacking.extend(name);
                    cause.get_or_insert(why);
                }
            }
        }
        if !is_one_by_one {
            *(if cause.is_some() { &mut lacking } else { &mut there }) = purpose.names.clone();
        }
        if !there.is_empty() && contents.is_none() {
            lacking.append(&mut there);
            cause.get_or_insert_with(|| "what it consists of could not be found out".to_owned());
        }
        if let (false, Some(contents)) = (there.is_empty(), contents) {
            draft.add(Image { trimmed: target, ..self.image(there, contents) }, contents);
        }
        if let Some(cause) = cause {
            let (source, reasons) = (self.reference.clone(), purpose.reasons.clone());
            draft.miss(Missing { source, names: lacking, cause, reasons });
        }
    }
}
