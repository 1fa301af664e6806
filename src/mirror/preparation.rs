//! What has to be known of all images before anything is written: by a target that has to know all that it is going to
//! hold, and by the user, where the source is files that lack something.

use super::Run;
use crate::error::{Error, Kind, Remedy, Side};
use crate::image::manifest::Manifest;
use crate::plan::{Fate, ImageId, Request, State};
use crate::record::Draft;
use crate::store::{Incoming, Target};
use crate::util::text;

/// Most images that a warning names; each is told where it fails as well.
const TOLD_MAX: usize = 5;

/// Whether nothing is to be written before all of `requests` are resolved.
pub(super) fn has_to_know_all(target: &Target, requests: &[Request]) -> bool {
    let waits = |request: &Request| request.assumed.is_some() || request.source.store.tells_what_it_lacks();
    target.wants_all_first() || requests.iter().any(waits)
}

impl Run {
    /// Takes note of an image that cannot be had whole, before anything is written.
    pub(super) fn note_lacking(&mut self, request: &Request, states: &[State]) {
        let is_lacking = |state: &State| matches!(state, State::Failed(error) if error.side == Side::Source);
        let may_be_told = self.waits_for_all && request.source.store.tells_what_it_lacks();
        if may_be_told && states.iter().any(is_lacking) {
            self.lacking.push(request.reference.to_string());
        }
    }

    /// Says at once how many images will not be had, and which.
    fn tell_what_is_lacking(&mut self) {
        let lacking = std::mem::take(&mut self.lacking);
        if lacking.is_empty() {
            return;
        }
        let more = match lacking.len().saturating_sub(TOLD_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tracing::warn!(
            "{} of {} cannot be had whole from where they are taken, and nothing of them is written: {}{more}",
            lacking.len(),
            text::count(self.resolution.total(), "image"),
            lacking[..lacking.len().min(TOLD_MAX)].join(", "),
        );
    }

    /// Begins, as soon as all images are known, if that is what is waited for; a target that has to know them is told of
    /// them at once.
    pub(super) async fn prepare_once_all_is_known(&mut self) {
        if !self.waits_for_all || !self.resolution.is_over() || self.refusals.gave_up().is_some() {
            return;
        }
        self.tell_what_is_lacking();
        if let Err(error) = self.find_base().await {
            return self.refusals.give_up(error);
        }
        if !self.target.wants_all_first() {
            self.waits_for_all = false;
            return;
        }
        let mut images: Vec<ImageId> = self.on_their_way.images().collect();
        images.sort_by_key(|image| self.resolution.rank(*image));
        let incoming = images.into_iter().filter_map(|image| self.incoming(image)).collect();
        match self.target.prepare(incoming, self.missing()).await {
            Ok(()) => {
                self.waits_for_all = false;
                self.follow_sequence();
            }
            Err(error) => self.refusals.give_up(error),
        }
    }

    /// Sees to it that the target has what the source leaves out, before anything is written.
    ///
    /// # Errors
    /// It has not, or cannot be asked.
    async fn find_base(&mut self) -> Result<(), Error> {
        let Some(assumed) = self.assumed.take() else { return Ok(()) };
        let base = self.plan.look_for_base(&assumed, &self.target, self.small).await?;
        if let Some(why) = base.told(self.target.place()) {
            let image = self.resolution.images().next().expect("a blob is of some image");
            let source = &self.resolution.request(image).source.store;
            let error = source.error(Kind::NotFound, "load images".to_owned(), why);
            return Err(error.with_remedy(Remedy::Base));
        }
        for (blob, repository) in base.there {
            self.plan.have_from_target(blob, &self.target, &repository);
            let (digest, size) = (self.plan.blob(blob).digest.clone(), self.plan.blob(blob).size);
            let repository = self.plan.ledger.repository_id(&repository);
            let (spared, steps) = self.plan.ledger.held_before(&digest, size, repository);
            spared.into_iter().for_each(|blob| self.announce(blob, false));
            self.take(steps);
        }
        Ok(())
    }

    /// What waits already goes in the one order that the target takes, and so does what comes later.
    fn follow_sequence(&mut self) {
        let Some(sequence) = self.target.sequence() else { return };
        self.sequence = Some(sequence.into_iter().zip(0..).collect());
        for ticket in self.lanes.take_blobs() {
            self.enter(ticket);
        }
    }

    /// What is known to be missing by now, where the target is made without it.
    fn missing(&self) -> Draft {
        let mut missing = Draft::default();
        if self.plan.rules().allow_incomplete {
            for image in self.resolution.images() {
                let causes = self.deliveries.failures(image).into_iter().flatten();
                let fates: Vec<Fate> = causes.map(|error| Fate::Missing(error.to_string())).collect();
                if !fates.is_empty() {
                    self.resolution.request(image).record(&mut missing, None, fates);
                }
            }
        }
        missing
    }

    fn incoming(&self, image: ImageId) -> Option<Incoming> {
        let request = self.resolution.request(image);
        let tree = self.on_their_way.tree(image)?;
        let manifests: Vec<&Manifest> = tree.manifests().map(AsRef::as_ref).collect();
        let bare = request.platforms.without_layers(&manifests);
        Some(Incoming {
            names: request.destinations.clone(),
            refers_to: request.refers_to.clone(),
            manifests: tree.manifests().map(|m| (m.clone(), !bare.contains(&m.digest))).collect(),
            include_foreign: self.plan.rules().include_foreign,
            record: self
                .contents
                .get(&image)
                .map(|contents| (request.image(request.names(), contents), contents.clone())),
        })
    }
}
