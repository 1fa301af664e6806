//! Images whose name is right at the target, looked at down to their blobs.
//!
//! A right tag says nothing of what is below it: files are lost, and disks damage them. The target's own manifests tell
//! what should be there, so that no source is asked for an image that is whole.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use serde::Serialize;

use super::ledger::{Step, Ticket};
use super::resolver::{Found, Resolver};
use super::{BlobId, Lack, Levels, Plan, RepositoryId, Request, State};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Location, Repository, TagOrDigest};
use crate::store::{Flaw, Inspector};
use crate::util::text;

/// Most blobs that a text for people names.
const NAMED_MAX: usize = 3;

/// A blob that an image should have, and what is wrong with the target's copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blemish {
    pub digest: Digest,
    /// Bytes, as the manifest says.
    pub size: u64,
    #[serde(flatten)]
    pub flaw: Flaw,
}

/// What a repository of the target lacks of an image whose name it has.
#[derive(Debug)]
pub(crate) struct Damage {
    pub blobs: Vec<Blemish>,
    /// Blobs that are whole there, with their sizes in bytes.
    whole: HashSet<(Digest, u64)>,
    /// Why its manifests could not be read from there.
    manifests: Option<Error>,
    /// What it lacks besides.
    lack: Option<Lack>,
}

impl Damage {
    pub(crate) fn lack(&self) -> Lack {
        match (self.lack, &self.manifests) {
            (Some(lack), _) => lack,
            (None, Some(_)) => Lack::Manifests,
            (None, None) => Lack::Blobs,
        }
    }

    /// What is missing or damaged, in words; `None` if it is only the lack.
    pub(crate) fn told(&self) -> Option<String> {
        (self.manifests.is_some() || !self.blobs.is_empty()).then(|| self.to_string())
    }

    /// Blobs that are whole there, and their bytes.
    pub(crate) fn whole(&self) -> (usize, u64) {
        let bytes = self.whole.iter().fold(0, |sum: u64, (_, size)| sum.saturating_add(*size));
        (self.whole.len(), bytes)
    }
}

impl fmt::Display for Blemish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, size, flaw } = self;
        match flaw {
            Flaw::Missing => write!(f, "{digest} ({size} bytes) is missing"),
            Flaw::Size { there } => write!(f, "{digest} has {there} bytes instead of {size}"),
            Flaw::Damaged => write!(f, "{digest} ({size} bytes) has other bytes"),
            Flaw::Unreadable { there } => write!(f, "{digest} can be read for {there} of {size} bytes"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.manifests {
            write!(f, "{error}{}", if self.blobs.is_empty() { "" } else { "; " })?;
        }
        if self.blobs.is_empty() {
            return Ok(());
        }
        let all = self.blobs.len() + self.whole.len();
        let is = if self.blobs.len() == 1 { "is" } else { "are" };
        let (number, all) = (self.blobs.len(), text::count(all, "blob"));
        write!(f, "{number} of its {all} {is} missing or damaged there: ")?;
        let named: Vec<String> = self.blobs.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        f.write_str(&named.join(", "))?;
        match self.blobs.len() - named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Resolver {
    /// Looks at the blobs of all names that the target has rightly, or in part, if that is wanted. `trees` are the
    /// manifests there, by name, as far as they were fetched already.
    pub(super) async fn inspect(&self, request: &Request, found: Found, trees: Vec<Levels>) -> Found {
        let Some(inspector) = &self.inspector else { return found };
        let Found { states, mut levels, contents } = found;
        let mut trees = trees.into_iter();
        let mut seen = Vec::with_capacity(states.len());
        for (state, location) in states.into_iter().zip(&request.destinations) {
            let look = Look { resolver: self, inspector, request, location };
            seen.push(look.at(state, trees.next(), &mut levels).await);
        }
        let levels = levels.filter(|_| seen.iter().any(State::is_wanted));
        Found { states: seen, levels, contents }
    }

    /// Looks at the blobs that `levels` name, which were read at the target, if that is wanted.
    pub(super) async fn inspect_tree(
        &self,
        request: &Request,
        location: &Location,
        state: State,
        levels: &Levels,
    ) -> State {
        let Some(inspector) = &self.inspector else { return state };
        let look = Look { resolver: self, inspector, request, location };
        match look.blobs_of(levels).await {
            Ok((blobs, _)) if blobs.is_empty() => state,
            Ok((blobs, whole)) => {
                State::Damaged(Arc::new(Damage { blobs, whole, manifests: None, lack: None }))
            }
            Err(error) => State::Failed(error),
        }
    }

    /// What a name has whose manifests could not be read.
    pub(super) fn state_of_unread(&self, error: Error) -> State {
        if !is_of_content(&error) {
            return State::Failed(error);
        }
        let (blobs, whole) = (Vec::new(), HashSet::new());
        State::Damaged(Arc::new(Damage { blobs, whole, manifests: Some(error), lack: None }))
    }

    /// The image's manifests at its source.
    pub(super) async fn fetch_source(&self, request: &Request) -> Result<Levels, Error> {
        let location = request.source.place(&request.reference.location());
        let pinned = request.reference.digest.is_some();
        self.fetch_tree(&request.source, &location, &request.platforms, pinned).await
    }

    /// The image's manifests at the target, under this digest.
    pub(super) async fn fetch_there(
        &self,
        request: &Request,
        location: &Location,
        root: &Digest,
    ) -> Result<Levels, Error> {
        let location = Location { name: TagOrDigest::Digest(root.clone()), ..location.clone() };
        let pinned = request.reference.digest.is_some();
        self.fetch_tree(&self.here(), &location, &request.platforms, pinned).await
    }
}

/// One look at an image under one name at the target.
struct Look<'l> {
    resolver: &'l Resolver,
    inspector: &'l Inspector,
    request: &'l Request,
    location: &'l Location,
}

impl Look<'_> {
    /// The state with what is seen of it. `levels` are the source's manifests as far as they are known, and will be
    /// known where there is something to repair; `tree` are those of the target.
    async fn at(&self, state: State, tree: Option<Levels>, levels: &mut Option<Levels>) -> State {
        match self.look(&state, tree, levels).await {
            Ok(Some(damage)) => State::Damaged(Arc::new(damage)),
            Ok(None) => state,
            Err(error) => State::Failed(error),
        }
    }

    async fn look(
        &self,
        state: &State,
        tree: Option<Levels>,
        levels: &mut Option<Levels>,
    ) -> Result<Option<Damage>, Error> {
        let (there, lack) = match (state, state.digest_there()) {
            (State::Partial(lack), _) => (None, Some(*lack)),
            (_, Some(digest)) => (Some(digest), None),
            (_, None) => return Ok(None),
        };
        let (tree, manifests) = match (tree, there) {
            (Some(tree), _) => (Some(tree), None),
            (None, Some(root)) => self.tree_of(root).await?,
            (None, None) => (None, None),
        };
        if tree.is_none() && levels.is_none() {
            *levels = Some(self.fetch_source().await?);
        }
        let looked_at = tree.as_ref().or(levels.as_ref()).expect("one of them was fetched");
        let (blobs, whole) = self.blobs_of(looked_at).await?;
        if blobs.is_empty() && manifests.is_none() && lack.is_none() {
            return Ok(None);
        }
        if levels.is_none() {
            let is_cut = matches!(state, State::Trimmed(_));
            *levels = if is_cut { Some(self.fetch_source().await?) } else { tree };
        }
        Ok(Some(Damage { blobs, whole, manifests, lack }))
    }

    /// The manifests at the source, of which something was wanted when it was asked first.
    async fn fetch_source(&self) -> Result<Levels, Error> {
        let levels = self.resolver.fetch_source(self.request).await?;
        if !levels.is_empty() {
            return Ok(levels);
        }
        let (source, doing) = (&self.request.source.store, format!("compare {}", self.request.reference));
        Err(source.error(Kind::Corrupt, doing, "it has none of the wanted platforms any more".to_owned()))
    }

    /// The manifests below the name at the target, or what is wrong with them.
    async fn tree_of(&self, root: &Digest) -> Result<(Option<Levels>, Option<Error>), Error> {
        match self.resolver.fetch_there(self.request, self.location, root).await {
            Ok(tree) => Ok((Some(tree), None)),
            Err(error) if is_of_content(&error) => Ok((None, Some(error))),
            Err(error) => Err(error),
        }
    }

    /// The blobs that `levels` name, each once, by what was seen of them.
    async fn blobs_of(&self, levels: &Levels) -> Result<(Vec<Blemish>, HashSet<(Digest, u64)>), Error> {
        let repository: &Repository = &self.location.repository;
        let mut seen = HashSet::new();
        let include_foreign = self.resolver.rules.include_foreign;
        let blobs = self.request.blobs_in(levels, include_foreign);
        let blobs: Vec<&Descriptor> =
            blobs.filter(|blob| seen.insert((blob.digest.clone(), blob.size))).collect();
        // Begun as there is room: an image may have very many.
        let (mut looks, mut waiting) = (FuturesOrdered::new(), blobs.iter());
        let mut seen_of = Vec::with_capacity(blobs.len());
        loop {
            while looks.len() < self.resolver.parallel.get()
                && let Some(blob) = waiting.next()
            {
                looks.push_back(self.inspector.inspect(repository, blob));
            }
            let Some(look) = looks.next().await else { break };
            seen_of.push(look?);
        }
        let mut blemishes = Vec::new();
        for (flaw, blob) in seen_of.into_iter().zip(blobs) {
            if let Some(flaw) = flaw {
                let (digest, size) = (blob.digest.clone(), blob.size);
                seen.remove(&(digest.clone(), size));
                blemishes.push(Blemish { digest, size, flaw });
            }
        }
        Ok((blemishes, seen))
    }
}

/// Whether a manifest is missing or damaged, and not only out of reach. Distribution answers 500 where the file is
/// empty.
fn is_of_content(error: &Error) -> bool {
    matches!(error.kind, Kind::NotFound | Kind::Corrupt | Kind::Invalid | Kind::BlobUnknown(_))
        || error.status == Some(500)
}

impl Plan {
    /// Takes in what was seen of an image's blobs in a repository: they are there, or have to be sent whatever the target
    /// says of them.
    pub(super) fn enter_damage(
        &mut self,
        damage: &Damage,
        blobs: &[BlobId],
        repository: RepositoryId,
    ) -> Vec<Step<Error>> {
        let mut steps = Vec::new();
        let flawed: HashSet<(&Digest, u64)> = damage.blobs.iter().map(|b| (&b.digest, b.size)).collect();
        for id in blobs {
            let ticket = Ticket { blob: *id, repository };
            let blob = &self.blobs[id.index()];
            if flawed.contains(&(&blob.digest, blob.size)) {
                self.ledger.distrust(ticket);
            } else if damage.whole.contains(&(blob.digest.clone(), blob.size)) {
                steps.extend(self.ledger.landed(ticket));
            }
        }
        steps
    }
}
