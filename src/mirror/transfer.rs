//! One blob into one repository: the ladder from cheapest to dearest. Is it there? Can it be mounted? Else it is
//! streamed. A blob is the unit of another try, since a stream cannot be rewound.

use std::sync::Arc;

use reqwest::Url;
use tokio::sync::mpsc::UnboundedSender;

use crate::events::{Event, Listener, TransferId};
use crate::manifest::Descriptor;
use crate::plan::Origin;
use crate::reference::Repository;
use crate::registry::retry::Patience;
use crate::registry::{BlobReader, Error, Kind, Peer, Side, Start};

/// Bodies of more bytes than this, which is nginx's own limit, may break off because they are too large.
const SUSPICIOUS: u64 = 1 << 20;

/// So many bytes of a blob may be sent in vain to a target that is overloaded, beyond the usual tries.
const IN_VAIN_MAX: u64 = 64 << 20;

/// What the target's answers teach about it, told as soon as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// It answered the question whether it has a blob: there it was, or not.
    Asked { there: bool },
    /// It mounted a blob that was known to be in another repository, or would not.
    Mounted(bool),
    /// It answers an upload that mentions a mount with an error.
    Objects,
    /// It gives no answer to it, or none that can be used.
    Unanswered,
    /// It began an upload that does not mention one.
    Accepts,
}

/// How the request that starts an upload is to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Only a session: this target does not do mounts.
    Plain,
    /// With the question whether the repository has the blob by now.
    Ask,
    /// With the offer to take it from this repository, which has it.
    Mount(Repository),
}

/// The work order for one blob and one repository.
pub struct Transfer {
    pub id: TransferId,
    pub target: Arc<Peer>,
    /// Where the blob can be had, best first; never empty.
    pub sources: Vec<Origin>,
    pub blob: Descriptor,
    pub repository: Repository,
    pub opening: Opening,
    /// An upload session that is open already.
    pub session: Option<Url>,
    /// The last try got so far as to send bytes.
    pub sending: bool,
    /// Ask the source at the same time as the target: the target most likely lacks the blob.
    pub hurry: bool,
    /// Do not stream even if the mount is refused, but hand back the session.
    pub only_mount: bool,
    /// The repository to mount from got the blob in this very run: no need to look at what it has.
    pub trusted: bool,
    /// The target was seen to hold the blob in another size; whatever it says next is looked at.
    pub suspect: bool,
    /// Bytes of the largest body that the last try would have sent.
    pub tried: u64,
    /// What a person reads beside the progress bar.
    pub what: String,
    pub listener: Listener,
    pub lessons: UnboundedSender<Lesson>,
}

/// How the blob came to be there, or did not yet.
#[derive(Debug)]
pub enum Landing {
    Streamed,
    Mounted,
    /// It was there before anyone asked.
    Found,
    /// The mount was refused; the bytes are wanted in this session.
    Wanted(Url),
}

impl Transfer {
    /// Brings the blob there, with as many tries as patience allows.
    ///
    /// # Errors
    /// The last failure, by the side that it happened on.
    pub async fn run(mut self) -> Result<Landing, Error> {
        let mut patience = Patience::new(self.target.policy());
        let mut chances = SecondChances::default();
        let mut setbacks = Setbacks::default();
        loop {
            let error = match self.attempt(chances.past_caches).await {
                Ok(Some(landing)) => return Ok(landing),
                Ok(None) => continue,
                Err(error) => error,
            };
            (self.listener)(Event::Moved { transfer: self.id, position: 0 });
            if self.sending && error.kind != Kind::Unauthorized {
                self.leave_session(&error).await;
            }
            if chances.take(&error)
                || self.turn_to_next_source(&error)
                || self.send_otherwise(&error, &mut setbacks)
            {
                continue;
            }
            let alive = self.peer_of(&error).is_alive();
            match patience.next(self.meaning(&error, &mut setbacks), alive).filter(|_| !error.spent) {
                Some(pause) => self.peer_of(&error).pause(pause, &error).await,
                None if self.turn_to_another_host(&error) => patience = Patience::new(self.target.policy()),
                None => {
                    self.leave_session(&error).await;
                    return Err(error);
                }
            }
        }
    }

    /// What an error means for the blob as a whole.
    fn meaning<'e>(&self, error: &'e Error, setbacks: &mut Setbacks) -> &'e Kind {
        match (&error.kind, error.status) {
            (Kind::SessionGone, _) => &Kind::Transient,
            (Kind::Transient, Some(502..=504)) => {
                setbacks.in_vain += self.blob.size;
                if setbacks.in_vain <= IN_VAIN_MAX { &Kind::Busy } else { &error.kind }
            }
            (kind, _) => kind,
        }
    }

    /// What the session holds by now is unknown, or wanted no more. A target that is in no trouble itself is told so,
    /// to free what it keeps for it.
    async fn leave_session(&mut self, error: &Error) {
        if let Some(session) = self.session.take().filter(|_| error.side == Side::Source) {
            self.target.cancel_upload(&self.repository, &session).await;
        }
    }

    /// One climb of the ladder; `None` asks for another one, because something was learned.
    async fn attempt(&mut self, past_caches: bool) -> Result<Option<Landing>, Error> {
        let (start, reader) = match self.session.take() {
            Some(session) => (Start::Session(session), None),
            None if self.hurry && !self.only_mount => {
                let (start, reader) = tokio::join!(self.start(), self.open(past_caches));
                (start?, Some(reader))
            }
            None => (self.start().await?, None),
        };
        let session = match start {
            Start::There => return self.settle().await,
            Start::Session(session) if self.only_mount => return Ok(Some(Landing::Wanted(session))),
            Start::Session(session) => session,
        };
        // Until the first byte is sent, another try may use it.
        self.session = Some(session.clone());
        self.sending = false;
        let reader = match reader {
            Some(reader) => reader?,
            None => self.open(past_caches).await?,
        };
        self.sending = true;
        (self.listener)(Event::Started { transfer: self.id, what: self.what.clone(), size: self.blob.size });
        let (listener, transfer) = (self.listener.clone(), self.id);
        let moved = move |position| listener(Event::Moved { transfer, position });
        self.tried = self.target.body_size(self.blob.size);
        self.target.upload(&self.repository, &session, &self.blob, reader, moved).await?;
        if self.suspect {
            return self.settle().await;
        }
        Ok(Some(Landing::Streamed))
    }

    async fn open(&self, past_caches: bool) -> Result<BlobReader, Error> {
        let Origin { peer, repository, url } = self.sources[0].clone();
        BlobReader::open(peer, repository, url, &self.blob, past_caches).await
    }

    /// Starts the upload, with the question or the mount if that is still worth it.
    async fn start(&self) -> Result<Start, Error> {
        let from = match &self.opening {
            Opening::Plain => None,
            Opening::Ask => Some(&self.repository),
            Opening::Mount(from) => Some(from),
        };
        let result = match from {
            None => self.start_plainly().await,
            Some(_) => self.target.start_upload(&self.repository, &self.blob, from).await,
        };
        let lesson = match (&self.opening, &result) {
            (Opening::Plain, Ok(_)) => Lesson::Accepts,
            (Opening::Plain, Err(_)) => return result,
            // It would say so of anything just now.
            (_, Err(error)) if error.kind == Kind::Busy => return self.start_and_teach().await,
            (_, Err(error)) if error.kind == Kind::Transient && error.status.is_some() => Lesson::Unanswered,
            // The answer is an error, but it is an answer: an upload without a mount may still work.
            (_, Err(error)) if error.status.is_some() && !matches!(error.kind, Kind::RateLimited(_)) => {
                Lesson::Objects
            }
            // No connection would come about for anything else either; no answer may be this question's fault.
            (_, Err(error))
                if matches!(error.kind, Kind::Unreachable | Kind::RateLimited(_) | Kind::Untrusted) =>
            {
                return result;
            }
            (_, Err(_)) => Lesson::Unanswered,
            (Opening::Ask, Ok(start)) => Lesson::Asked { there: matches!(start, Start::There) },
            (Opening::Mount(_), Ok(start)) => Lesson::Mounted(matches!(start, Start::There)),
        };
        self.teach(lesson);
        if !matches!(lesson, Lesson::Objects | Lesson::Unanswered) {
            return result;
        }
        self.start_and_teach().await
    }

    async fn start_and_teach(&self) -> Result<Start, Error> {
        let plain = self.start_plainly().await;
        if plain.is_ok() {
            self.teach(Lesson::Accepts);
        }
        plain
    }

    /// A question to an overloaded host is asked again by itself: with the sending that follows, which is a gamble of
    /// its own there, it would be won too seldom.
    async fn start_plainly(&self) -> Result<Start, Error> {
        let mut patience = Patience::new(self.target.policy());
        loop {
            let error = match self.target.start_upload(&self.repository, &self.blob, None).await {
                Err(error) if error.kind == Kind::Busy => error,
                result => return result,
            };
            match patience.next(&error.kind, self.target.is_alive()) {
                Some(pause) => self.target.pause(pause, &error).await,
                None => return Err(Error { spent: true, ..error }),
            }
        }
    }

    fn teach(&self, lesson: Lesson) {
        // Nobody listens any more once the run is over.
        let _ = self.lessons.send(lesson);
    }

    /// The target says that it has the blob. What was there before this run is believed only in the right size
    /// (a registry whose storage was damaged goes on saying that it has it).
    async fn settle(&mut self) -> Result<Option<Landing>, Error> {
        let landing =
            if matches!(self.opening, Opening::Mount(_)) { Landing::Mounted } else { Landing::Found };
        if self.trusted {
            return Ok(Some(landing));
        }
        let size = self.target.blob_size(&self.repository, &self.blob.digest).await;
        // The question has had its tries.
        let size = size.map_err(|error| Error { spent: true, ..error })?;
        if size == Some(self.blob.size) {
            return Ok(Some(if self.suspect { Landing::Streamed } else { landing }));
        }
        if !self.suspect {
            // Sent again it may heal; the look after that decides.
            self.suspect = true;
            self.opening = Opening::Plain;
            self.hurry = false;
            self.only_mount = false;
            return Ok(None);
        }
        let (digest, expected) = (&self.blob.digest, self.blob.size);
        let actual = size.map_or("nothing".to_owned(), |size| format!("{size} bytes"));
        let why = format!(
            "it holds a damaged copy of {digest}, {actual} instead of {expected} bytes; delete it there"
        );
        Err(self.target.error(Kind::Invalid, format!("check a blob of {}", self.repository), why))
    }

    /// Where several repositories have the blob, one that fails for good is passed over. What might have passed, and did
    /// not, is its host's trouble.
    fn turn_to_next_source(&mut self, error: &Error) -> bool {
        let hopeless = error.side == Side::Source && !error.kind.may_pass();
        let another = hopeless && self.sources.len() > 1;
        if another {
            self.sources.remove(0);
        }
        another
    }

    /// A host that was given up is given up for all of its repositories.
    fn turn_to_another_host(&mut self, error: &Error) -> bool {
        let failed = self.sources[0].host();
        let others: Vec<Origin> = self.sources.iter().filter(|o| o.host() != failed).cloned().collect();
        let another = error.side == Side::Source && !others.is_empty();
        if another {
            self.sources = others;
        }
        another
    }

    /// A target that refuses large bodies may take them in pieces, and one that does not take pieces may take a
    /// whole. A refusal is at times lost, when the connection is reset while the body is still on its way: two of
    /// those stand for one, and so do two lost sessions.
    fn send_otherwise(&self, error: &Error, setbacks: &mut Setbacks) -> bool {
        if error.side != Side::Target {
            return false;
        }
        match error.kind {
            Kind::TooLarge => self.target.learn_body_limit(self.tried),
            Kind::Unsupported | Kind::Corrupt => self.target.learn_no_chunks(),
            Kind::Transient if error.status.is_none() && self.blob.size > SUSPICIOUS => {
                setbacks.broken += 1;
                setbacks.broken == 2 && self.target.learn_body_limit(self.tried)
            }
            Kind::SessionGone => {
                setbacks.lost_sessions += 1;
                setbacks.lost_sessions == 2 && self.target.learn_pieces_only()
            }
            _ => false,
        }
    }

    fn peer_of(&self, error: &Error) -> &Peer {
        match error.side {
            Side::Source => &self.sources[0].peer,
            Side::Target => &self.target,
        }
    }
}

/// How often a blob could not be sent for a reason that another way of sending it may avoid.
#[derive(Default)]
struct Setbacks {
    /// The connection was reset.
    broken: u32,
    lost_sessions: u32,
    /// Bytes sent to a target that was overloaded then.
    in_vain: u64,
}

/// What is worth exactly one more try, at once, besides all patience.
#[derive(Default)]
struct SecondChances {
    past_caches: bool,
    renewed: bool,
    resent: bool,
}

impl SecondChances {
    fn take(&mut self, error: &Error) -> bool {
        let chance = match (&error.kind, error.side) {
            // A damaged copy in a cache on the way.
            (Kind::Corrupt, Side::Source) => &mut self.past_caches,
            (Kind::Corrupt, Side::Target) => &mut self.resent,
            // A token that ran out on the way; by now it is renewed.
            (Kind::Unauthorized, Side::Target) => &mut self.renewed,
            _ => return false,
        };
        !std::mem::replace(chance, true)
    }
}
