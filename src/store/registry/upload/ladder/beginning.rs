//! The rungs before any byte is sent: whose turn it is, the question and the offer of a mount, and whether the answer to
//! them is believed.

use super::super::super::blobs::Mount;
use super::super::super::retry::{Attempt, Rule};
use super::super::super::{Held, Registry, Start};
use super::super::capabilities::{Observation, Opening};
use super::super::gate::Gate;
use super::super::kept::Leftover;
use super::super::offers::Refusal;
use super::{Ladder, Wait};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::Trial;
use crate::store::patience::Patience;
use crate::store::registry::DELETE_DAMAGED;
use crate::store::{Flaw, Landed, damaged_copy};

/// The question for a plain upload.
struct Starting<'a> {
    target: &'a Registry,
    repository: &'a Repository,
    blob: &'a Descriptor,
}

impl Attempt for Starting<'_> {
    type Done = Start;
    const RULE: Rule = Rule::Upload;

    async fn make(&mut self, _: &mut Patience) -> Result<Start, Error> {
        self.target.start_upload(self.repository, self.blob, None).await
    }
}

impl<'a> Ladder<'a> {
    /// How to ask for the upload, once it is known that others need not answer first; `None` if nothing is mounted from
    /// where the blob is known to be.
    pub(super) async fn await_turn(&mut self) -> Option<Opening> {
        loop {
            let opening = self.wish()?;
            let uploads = &self.target.uploads;
            let (wait, gate): (Wait, &'a Gate) = match opening {
                Opening::Mount => (Wait::Mounts, &uploads.mounts),
                Opening::Plain if !self.order.may_send => return Some(opening),
                Opening::Plain | Opening::Ask => (Wait::Uploads, &uploads.starts),
            };
            if self.probe.as_ref().is_some_and(|(held, _)| *held == wait) {
                return Some(opening);
            }
            // Nothing is waited for with something in hand that others wait for.
            self.probe = None;
            self.probe = gate.enter(&self.order.repository).await.map(|probe| (wait, probe));
            if self.wish() == Some(opening) {
                return Some(opening);
            }
        }
    }

    fn wish(&self) -> Option<Opening> {
        if self.order.must_send || self.suspect {
            return Some(Opening::Plain);
        }
        let from = self.mount_from();
        let capabilities = self.target.uploads.capabilities();
        let opening = capabilities.opening(&self.order.repository, from.is_some());
        let is_given_away = from.is_none_or(|from| capabilities.may_mount_from(from));
        (opening != Opening::Mount || is_given_away).then_some(opening)
    }

    fn mount_from(&self) -> Option<&'a Repository> {
        let known_in = self.order.known_in.as_ref().filter(|_| !self.refused);
        known_in.filter(|known_in| **known_in != self.order.repository)
    }

    /// Starts the upload, with the question or the mount if that is still worth it. Of a request that is answered with an
    /// error only that is learned which an upload without a mount disproves: a repository may refuse both.
    pub(super) async fn start(&self) -> Result<Start, Trial> {
        let order = self.order;
        let into = &order.repository;
        let uploads = &self.target.uploads;
        let from = match self.opening {
            Opening::Plain => return self.start_plainly().await,
            Opening::Ask => into,
            Opening::Mount => self.mount_from().unwrap_or(into),
        };
        let one_token = uploads.capabilities().tokens_are_in_doubt();
        let mount = Mount { from, beside: &order.beside, one_token };
        let result = self.target.start_upload(into, &order.blob, Some(mount)).await;
        let error = match result {
            Ok(start) => {
                match (self.opening, &start) {
                    (Opening::Mount, Start::Session(_)) => {
                        uploads.observe(Observation::Refused { from, into, refusal: Refusal::Session });
                    }
                    // The look at it may show that it did not go well.
                    (Opening::Mount, Start::There { .. }) => {}
                    (_, start) => {
                        uploads.observe(Observation::Asked { there: matches!(start, Start::There { .. }) });
                    }
                }
                return Ok(start);
            }
            Err(error) => error,
        };
        let refusal = match (&error.kind, error.status) {
            // It would say so of anything just now.
            (Kind::Busy, _) => return self.start_plainly().await,
            // No connection would come about for anything else either.
            (Kind::Unreachable | Kind::RateLimited(_) | Kind::Untrusted, _) => {
                return Err(Trial::Again(error));
            }
            (Kind::Unauthorized, Some(_)) => Refusal::NotLetIn,
            // No answer may be this question's fault.
            (Kind::Transient, _) | (_, None) => Refusal::Silence,
            // It is an answer: an upload without a mount may still work.
            (_, Some(_)) => Refusal::Error,
        };
        let plain = self.start_plainly().await;
        match (self.opening, refusal) {
            // Nor was what mentions no mount heard: it is the host that is away.
            (_, Refusal::Silence) if plain.is_err() => {}
            (Opening::Mount, _) if plain.is_ok() => {
                uploads.observe(Observation::Refused { from, into, refusal });
            }
            (_, Refusal::Silence) => uploads.observe(Observation::Unheard),
            _ if plain.is_ok() => uploads.observe(Observation::Objects(into)),
            _ => uploads.observe(Observation::Closed(into)),
        }
        plain
    }

    /// A question to an overloaded host is asked again by itself: with the sending that follows, which is a gamble of
    /// its own there, it would be won too seldom.
    async fn start_plainly(&self) -> Result<Start, Trial> {
        let target = self.target;
        let starting = Starting { target, repository: &self.order.repository, blob: &self.order.blob };
        match target.retry(&mut Patience::new(target.policy()), starting).await {
            Ok(start) => {
                target.uploads.observe(Observation::Accepts);
                Ok(start)
            }
            Err(error) if error.kind == Kind::Busy => Err(Trial::Over(error)),
            Err(error) => Err(Trial::Again(error)),
        }
    }

    /// The target says that it has the blob. What was there before this run is believed only in the right size
    /// (a registry whose storage was damaged goes on saying that it has it). A mount is believed once the target was seen
    /// to tell the truth about one, and if the answer has `named` the blob.
    pub(super) async fn settle(&mut self, named: bool) -> Result<Option<Landed>, Trial> {
        let order = self.order;
        let uploads = &self.target.uploads;
        let from = self.mount_from().filter(|_| self.opening == Opening::Mount);
        let landed = if from.is_some() { Landed::Mounted } else { Landed::Found };
        let is_ours = from.is_some() && order.trusted;
        let granted = |seen| {
            if let Some(from) = from {
                uploads.observe(Observation::Mounted { from, into: &order.repository, seen });
            }
        };
        if is_ours && named && uploads.capabilities().mounts_are_trusted() {
            granted(false);
            return Ok(Some(landed));
        }
        let held = self.target.held_blob(&order.repository, &order.blob.digest).await;
        match &held {
            Ok(Held::Nothing) if from.is_some() => self.target.distrust_mounts(),
            Ok(_) => granted(true),
            // A login that may push need not be let to look.
            Err(_) if is_ours => {
                granted(false);
                uploads.observe(Observation::Unseen);
                return Ok(Some(landed));
            }
            Err(_) => {}
        }
        // The question has had its tries.
        let held = held.map_err(Trial::Over)?;
        if held.may_be(order.blob.size) {
            return Ok(Some(if self.suspect { Landed::Streamed } else { landed }));
        }
        if !self.suspect {
            // Sent again it may heal; the look after that decides.
            self.suspect = true;
            if order.may_send {
                return Ok(None);
            }
            self.keep(Leftover::Suspect).await;
            return Ok(Some(Landed::Refused));
        }
        let flaw = match held {
            Held::Bytes(there) => Flaw::Size { there },
            Held::Nothing | Held::Something => Flaw::Missing,
        };
        let why = damaged_copy(&order.blob, flaw, DELETE_DAMAGED);
        Err(self.target.error(Kind::Invalid, format!("check a blob of {}", order.repository), why).into())
    }
}
