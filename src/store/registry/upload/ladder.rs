//! One blob into one repository: the ladder from cheapest to dearest. Is it there? Can it be mounted? Else it is
//! streamed.

mod beginning;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::Url;

use super::super::{Registry, Start};
use super::bodies::{Lesson, Way};
use super::capabilities::Opening;
use super::gate::Probe;
use super::kept::Leftover;
use super::{IN_VAIN_MAX, Session, TIMES_IN_VAIN_MAX};
use crate::error::{Error, Kind, Side};
use crate::events::Event;
use crate::store::Trial;
use crate::store::{BlobOrder, Landed, Origin};
use crate::util::text;

/// Bodies of more bytes than this, which is nginx's own limit, may break off because they are too large.
const SUSPICIOUS: u64 = 1 << 20;

/// Most redirects of a blob that is on its way: for each of them it is read again from its source.
const MOVES_MAX: u32 = 3;

/// The putting of one blob, over all the tries that it takes.
pub(crate) struct Ladder<'a> {
    target: &'a Registry,
    order: &'a BlobOrder,
    /// An upload session that has got no byte yet, or only had its token refused.
    session: Option<Url>,
    /// Where its closing request was redirected to.
    moved: Option<Url>,
    /// The last try got so far as to send bytes.
    sending: bool,
    /// The mount was refused: it is not offered again.
    refused: bool,
    /// The target was seen to hold the blob in another size; whatever it says next is looked at.
    suspect: bool,
    /// How the last try asked for the upload.
    opening: Opening,
    /// How it sent the blob, if it came to that.
    way: Option<Way>,
    /// The others wait for the answer to this one.
    probe: Option<(Wait, Probe<'a>)>,
    chances: SecondChances,
    setbacks: Setbacks,
    /// How far the last try came, in bytes.
    position: Arc<AtomicU64>,
    /// Bytes sent by tries that failed.
    lost: u64,
}

/// What waits for the answer to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Uploads,
    Mounts,
}

/// What is worth exactly one more try, at once, besides all patience.
#[derive(Default)]
struct SecondChances {
    /// A token that ran out on the way; by now it is renewed.
    renewed: bool,
    /// Bytes that were damaged on the way.
    resent: bool,
    /// A body that was refused for its size, where as large a one was taken before.
    doubted: bool,
}

/// How often a blob could not be sent for a reason that another way of sending it may avoid.
#[derive(Default)]
struct Setbacks {
    /// The connection was reset.
    broken: u32,
    lost_sessions: u32,
    /// The request that was to close the upload was redirected.
    moves: u32,
    /// Bytes sent to a target that was overloaded then.
    in_vain: u64,
}

impl<'a> Ladder<'a> {
    pub(crate) fn new(target: &'a Registry, order: &'a BlobOrder) -> Self {
        let mut ladder = Self {
            target,
            order,
            session: None,
            moved: None,
            sending: false,
            refused: false,
            suspect: false,
            opening: Opening::Plain,
            way: None,
            probe: None,
            chances: SecondChances::default(),
            setbacks: Setbacks::default(),
            position: Arc::default(),
            lost: 0,
        };
        if order.may_send {
            let leftover = target.uploads.kept().take(&order.repository, &order.blob.digest);
            match leftover {
                Some(Leftover::Session(session)) => {
                    ladder.session = Some(session);
                    ladder.refused = true;
                }
                Some(Leftover::Suspect) => ladder.suspect = true,
                None => {}
            }
        }
        ladder
    }

    /// One climb of the ladder; `None` asks for another one, because something was learned.
    pub(crate) async fn attempt(
        &mut self,
        origin: &Origin,
        past_caches: bool,
    ) -> Result<Option<Landed>, Trial> {
        let order = self.order;
        self.way = None;
        let open = || origin.open(&order.blob, past_caches);
        let (start, reader) = if let Some(session) = self.session.take() {
            (Start::Session(session), None)
        } else {
            let Some(opening) = self.await_turn().await else { return Ok(Some(Landed::Unoffered)) };
            self.opening = opening;
            let likely_absent = order.likely_absent && opening == Opening::Ask;
            let hurries = likely_absent || self.target.uploads.capabilities().hurries(opening);
            if self.opening == Opening::Plain && !order.may_send {
                return Ok(Some(Landed::Refused));
            }
            let (start, reader) = if hurries && order.may_send {
                let (start, reader) = tokio::join!(self.start(), open());
                (start, Some(reader))
            } else {
                (self.start().await, None)
            };
            // What others wait for is a mount that was seen to have gone well.
            if start.is_ok() && !matches!((self.opening, &start), (Opening::Mount, Ok(Start::There { .. }))) {
                self.probe = None;
            }
            (start?, reader)
        };
        let session = match start {
            Start::There { named } => {
                let settled = self.settle(named).await;
                self.probe = None;
                return settled;
            }
            Start::Session(session) => session,
        };
        self.refused |= self.opening == Opening::Mount;
        if !order.may_send {
            self.keep(Leftover::Session(session)).await;
            return Ok(Some(Landed::Refused));
        }
        // Until the first byte is sent, another try may use it.
        self.session = Some(session.clone());
        self.sending = false;
        let reader = match reader {
            Some(reader) => reader?,
            None => open().await?,
        };
        self.sending = true;
        let (id, size) = (order.id, order.blob.size);
        (order.listener)(Event::Started { transfer: id, what: order.what.clone(), size });
        let listener = order.listener.clone();
        let reached = self.position.clone();
        let moved = move |position| {
            reached.store(position, Ordering::Relaxed);
            listener(Event::Moved { transfer: id, position });
        };
        let way = self.target.uploads.bodies().way(&order.repository, size);
        self.way = Some(way);
        // What was damaged on the way may have been so by a wrong word about a part.
        let tells_parts = !self.chances.resent;
        let into = Session { url: session.clone(), moved: self.moved.take(), tells_parts };
        let elsewhere = self.target.upload(&order.repository, &into, &order.blob, way, reader, moved).await?;
        if elsewhere.is_some() {
            return self.turn(session, elsewhere);
        }
        self.suspect |= order.suspect;
        if self.suspect {
            return self.settle(false).await;
        }
        Ok(Some(Landed::Streamed))
    }

    /// Sends the blob again to where the target wants it, a few times at most.
    fn turn(&mut self, session: Url, elsewhere: Option<Url>) -> Result<Option<Landed>, Trial> {
        self.setbacks.moves += 1;
        if self.setbacks.moves > MOVES_MAX {
            let (digest, repository) = (&self.order.blob.digest, &self.order.repository);
            let doing = format!("PUT blob {digest} to {repository}");
            let why = format!("more than {MOVES_MAX} redirects");
            return Err(self.target.error(Kind::Invalid, doing, why).into());
        }
        self.session = Some(session);
        self.moved = elsewhere;
        Ok(None)
    }

    /// Whether a copy that is there was seen to be damaged, so that the blob is sent whatever the target says.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// The copy that was found is damaged.
    pub(crate) async fn suspect(&mut self) {
        self.suspect = true;
        if !self.order.may_send {
            self.keep(Leftover::Suspect).await;
        }
    }

    /// Keeps what the bytes need once they may be sent.
    async fn keep(&self, leftover: Leftover) {
        let (repository, digest) = (&self.order.repository, &self.order.blob.digest);
        let unwanted = self.target.uploads.kept().keep(repository, digest, leftover);
        if let Some(Leftover::Session(session)) = unwanted {
            self.target.cancel_upload(repository, &session).await;
        }
    }

    /// The last try failed; another one may follow.
    pub(crate) async fn failed(&mut self, error: &Error) {
        self.lost += self.position.swap(0, Ordering::Relaxed);
        if self.sending && error.kind != Kind::Unauthorized {
            self.leave_session(error).await;
        }
    }

    /// Whether so many bytes were sent in vain, whatever for, that no more are.
    pub(crate) fn is_spent(&self) -> bool {
        self.lost > IN_VAIN_MAX.max(self.order.blob.size.saturating_mul(TIMES_IN_VAIN_MAX))
    }

    /// No other try will follow.
    pub(crate) async fn give_up(&mut self, error: &Error) {
        self.leave_session(error).await;
    }

    /// What the session holds by now is unknown, or wanted no more. A target that is in no trouble itself is told so,
    /// to free what it keeps for it.
    async fn leave_session(&mut self, error: &Error) {
        if let Some(session) = self.session.take().filter(|_| error.side == Side::Source) {
            self.target.cancel_upload(&self.order.repository, &session).await;
        }
    }

    /// What an error means for the blob as a whole.
    pub(crate) fn meaning(&mut self, error: &Error) -> Kind {
        match (&error.kind, error.status) {
            (Kind::SessionGone, _) => Kind::Transient,
            (Kind::Transient, Some(502..=504)) => {
                self.setbacks.in_vain += self.order.blob.size;
                if self.setbacks.in_vain <= IN_VAIN_MAX { Kind::Busy } else { Kind::Transient }
            }
            (kind, _) => kind.clone(),
        }
    }

    /// Whether it is worth another try at once: a target that refuses large bodies may take them in pieces, and one that
    /// does not take pieces may take a whole. A refusal is at times lost, when the connection is reset while the body is
    /// still on its way: two of those stand for one, and so do two lost sessions.
    pub(crate) fn otherwise(&mut self, trial: &Trial) -> bool {
        let error = trial.error();
        if error.side != Side::Target {
            return false;
        }
        let size = self.order.blob.size;
        let tried = self.way.map_or(0, |way| way.body(size));
        match error.kind {
            Kind::Unauthorized => !std::mem::replace(&mut self.chances.renewed, true),
            Kind::Corrupt if !std::mem::replace(&mut self.chances.resent, true) => true,
            Kind::Unsupported | Kind::Corrupt => {
                self.target.uploads.bodies().refuse_pieces(&self.order.repository)
            }
            Kind::TooLarge if self.is_doubtful(tried) => true,
            Kind::TooLarge => self.learn_body_limit(tried),
            Kind::Transient if error.status.is_none() && size > SUSPICIOUS => {
                let before = self.setbacks.broken;
                self.setbacks.broken += match (self.way, trial) {
                    (Some(Way::Whole), _) => 1,
                    // It has been sent again by itself.
                    (Some(Way::Pieces(_)), Trial::Over(_)) => 2,
                    (Some(Way::Pieces(_)), Trial::Again(_)) | (None, _) => 0,
                };
                before < 2 && self.setbacks.broken >= 2 && self.learn_body_limit(tried)
            }
            Kind::SessionGone if self.way == Some(Way::Whole) => {
                self.setbacks.lost_sessions += 1;
                self.setbacks.lost_sessions == 2 && self.learn_pieces_only()
            }
            _ => false,
        }
    }

    /// Once for each blob a refusal is not believed to be for the size, where as large a body was taken before.
    fn is_doubtful(&mut self, tried: u64) -> bool {
        self.target.uploads.bodies().has_taken(tried) && !std::mem::replace(&mut self.chances.doubted, true)
    }

    fn learn_body_limit(&self, tried: u64) -> bool {
        let host = &self.target.host;
        let lesson = self.target.uploads.bodies().refuse_size(&self.order.repository, tried);
        match lesson {
            Lesson::Pieces => tracing::warn!(
                "{host} or a proxy before it has a body size limit (nginx: client_max_body_size); sending blobs in pieces"
            ),
            Lesson::Smaller(length) => {
                tracing::info!("sending blobs to {host} in pieces of {}", text::bytes(length));
            }
            Lesson::Known | Lesson::NoWay => {}
        }
        lesson != Lesson::NoWay
    }

    fn learn_pieces_only(&self) -> bool {
        let news = self.target.uploads.bodies().refuse_wholes(&self.order.repository) != Lesson::NoWay;
        if news {
            let host = &self.target.host;
            tracing::warn!("{host} seems to take no blob in one request; sending blobs in pieces");
        }
        news
    }
}
