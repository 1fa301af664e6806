//! Images held to the digests that are recorded of them.

use super::resolver::Resolver;
use super::{Levels, Request};
use crate::error::{Error, Kind, Remedy};
use crate::image::reference::Digest;

impl Resolver {
    /// Whether an image that has this digest at its source is what a record of it, if there is one, lets it be.
    pub(super) fn may_be_taken(&self, request: &Request, digest: &Digest) -> bool {
        self.rules.accept_moved || request.pinned.as_ref().is_none_or(|pinned| pinned == digest)
    }

    /// The manifests that came from the source, whose root has the recorded digest or may have another one.
    ///
    /// # Errors
    /// The tag has moved.
    pub(super) fn hold_to_pin(&self, request: &Request, levels: Levels) -> Result<Levels, Error> {
        let (Some(pinned), Some(root)) = (&request.pinned, levels.last().and_then(|level| level.first()))
        else {
            return Ok(levels);
        };
        // A record may name it by another algorithm than the registry does.
        let digest = Digest::of(pinned.algorithm(), &root.bytes);
        if !self.may_be_taken(request, &digest) {
            let location = request.source.place(&request.reference.location());
            let why = format!("it has moved: {pinned} is recorded of it, and it has {digest} now");
            let error = request.source.store.error(Kind::Invalid, format!("GET manifest {location}"), why);
            return Err(error.with_remedy(Remedy::Moved));
        }
        self.tell_if_moved(request, &digest);
        Ok(levels)
    }

    /// Says of an image that is taken with another digest than the recorded one that it is.
    pub(super) fn tell_if_moved(&self, request: &Request, digest: &Digest) {
        if let Some(pinned) = request.pinned.as_ref().filter(|pinned| *pinned != digest) {
            tracing::warn!(
                "{} has moved: {pinned} is recorded of it, and {digest} is taken",
                request.reference
            );
        }
    }
}
