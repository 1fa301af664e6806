//! Images at the target held against a lock, with nobody else to be asked.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::resolver::{AtTarget, Found, Resolver};
use super::{Lack, Levels, Request, State};
use crate::image::manifest::{Extent, Trimmed};
use crate::image::reference::{Digest, Location};
use crate::record::Image;

impl Resolver {
    /// What the target has of an image under its names, by its own manifests.
    pub(super) async fn compare_with_lock(
        &self,
        request: &Request,
        locked: &Image,
        at_target: Vec<AtTarget>,
    ) -> Found {
        let names = at_target.into_iter().zip(&request.destinations);
        let states = names.map(|(answer, location)| async move {
            match answer {
                AtTarget::Failed(error) => State::Failed(error),
                AtTarget::Nothing => State::Missing,
                AtTarget::Digest(there) => self.compare_name(request, locked, location, there).await,
            }
        });
        Found { states: join_all(states).await, levels: None, contents: None }
    }

    async fn compare_name(
        &self,
        request: &Request,
        locked: &Image,
        location: &Location,
        there: Digest,
    ) -> State {
        let is_trimmed = locked.trimmed.as_ref() == Some(&there);
        // A registry may name it by another algorithm than the lock does: then its bytes tell.
        let is_told = there.algorithm() == locked.digest.algorithm();
        if !is_trimmed && is_told && there != locked.digest {
            return State::Different(there);
        }
        let levels = match self.fetch_there(request, location, &there).await {
            Ok(levels) => levels,
            Err(error) => return self.state_of_unread(error),
        };
        let Some(root) = levels.last().and_then(|level| level.first()) else {
            return State::Partial(Lack::Platforms);
        };
        if !is_told && Digest::of(locked.digest.algorithm(), &root.bytes) != locked.digest {
            return State::Different(there);
        }
        if !has_platforms(request, locked, &levels) {
            return State::Partial(Lack::Platforms);
        }
        if !self.has_foreign_layers(request, &location.repository, &levels).await {
            return State::Partial(Lack::Layers);
        }
        let extent = if locked.sparse { Extent::Sparse } else { root.extent() };
        let state = if is_trimmed {
            State::Trimmed(Trimmed { source: locked.digest.clone(), target: there })
        } else {
            State::present(there, &extent)
        };
        self.inspect_tree(request, location, state, &levels).await
    }
}

/// Whether all platforms that the lock has, and that are wanted, are among the manifests.
fn has_platforms(request: &Request, locked: &Image, levels: &Levels) -> bool {
    let there: HashSet<&Digest> = levels.iter().flatten().map(|manifest| &manifest.digest).collect();
    let is_wanted = |name: &Option<String>| name.as_ref().is_none_or(|name| request.platforms.includes(name));
    let wanted = locked.platforms.iter().filter(|one| is_wanted(&one.platform));
    // One manifest alone is what the digest says.
    there.len() == 1 || wanted.map(|one| &one.digest).all(|digest| there.contains(digest))
}
