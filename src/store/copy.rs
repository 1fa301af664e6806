//! One blob into one repository of a target, with as many tries as patience allows. A blob is the unit of another try,
//! since a stream cannot be rewound.

use std::sync::Arc;

use super::inspect::{Depth, Flaw, damaged_copy, read_through};
#[cfg(test)]
use super::memory;
use super::{Origin, Target};
use crate::events::{Event, Listener, TransferId};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::registry::retry::Patience;
use crate::store::registry::{Error, Kind, Ladder, Side, Trial};

/// Most repositories of one host that a blob is tried to be read from with all patience.
const REPOSITORIES_MAX: usize = 2;

/// A blob that a repository is to have.
pub(crate) struct BlobOrder {
    pub id: TransferId,
    pub blob: Descriptor,
    pub repository: Repository,
    /// Where it can be had, best first; never empty.
    pub sources: Arc<[Origin]>,
    /// A repository of the target that holds it.
    pub known_in: Option<Repository>,
    /// That repository got it in this very run, or was seen to have it in its right size.
    pub trusted: bool,
    /// Repositories of the target that further blobs are likely to be mounted from, into the same one.
    pub beside: Vec<Repository>,
    /// The target lacks it, whatever it says.
    pub must_send: bool,
    /// The target has none of the images of this run: the source is asked along with it.
    pub likely_absent: bool,
    /// Otherwise it is only mounted or found, and [`Landed::Refused`] where bytes are wanted.
    pub may_send: bool,
    /// The target was seen to lack it, or to hold it damaged: what lands is looked at.
    pub suspect: bool,
    /// How closely a copy is looked at that was there before, once the blob has landed.
    pub look: Option<Depth>,
    /// Another repository of a host that its sources are at was tried before with all patience.
    pub tried_before: bool,
    /// What a person reads beside the progress bar.
    pub what: String,
    pub listener: Listener,
}

impl BlobOrder {
    /// Whether all bytes are read once the blob has landed: of whatever was there before, or has been sent because that
    /// was damaged.
    fn is_read(&self, landed: Landed, is_suspect: bool) -> bool {
        let may_be_old = match landed {
            Landed::Streamed => is_suspect,
            Landed::Mounted => !self.trusted,
            Landed::Found => true,
            Landed::Refused | Landed::Unoffered => false,
        };
        may_be_old && self.look == Some(Depth::Bytes)
    }

    /// The target has taken the blob, and has a damaged copy of it all the same.
    fn still(&self, flaw: Flaw, target: &Target) -> Error {
        let error =
            target.error(Kind::Invalid, format!("check a blob of {}", self.repository), String::new());
        Error { cause: damaged_copy(&self.blob, flaw), ..error }
    }
}

/// How the blob came to be there, or did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landed {
    Streamed,
    Mounted,
    /// It was there before anyone asked.
    Found,
    /// Bytes are wanted, and the order does not allow to send any.
    Refused,
    /// Nothing is mounted from the repository that is known to hold it, and nothing was asked for.
    Unoffered,
}

/// Brings a blob there.
///
/// # Errors
/// The last failure, by the side that it happened on.
pub(crate) async fn copy_blob(target: &Target, order: BlobOrder) -> Result<Landed, Error> {
    let mut put = target.put_blob(&order);
    let mut reading = Reading::new(&order);
    let mut patience = Patience::new(target.policy());
    loop {
        let trial = match put.attempt(&reading.sources[0], reading.past_caches).await {
            Ok(Some(landed)) if !order.is_read(landed, put.is_suspect()) => return Ok(landed),
            Ok(Some(landed)) => match read_through(target, &order.repository, &order.blob, |_| {}).await? {
                None => return Ok(landed),
                Some(flaw) if landed == Landed::Streamed => return Err(order.still(flaw, target)),
                Some(_) => {
                    put.suspect().await;
                    continue;
                }
            },
            Ok(None) => continue,
            Err(trial) => trial,
        };
        (order.listener)(Event::Moved { transfer: order.id, position: 0 });
        let error = trial.error();
        put.failed(error).await;
        if reading.otherwise(error) || put.otherwise(&trial) {
            continue;
        }
        let (alive, origin) = (is_alive(target, &reading.sources[0], error), &reading.sources[0]);
        let meaning = put.meaning(error);
        let pause = match &trial {
            Trial::Again(_) if !put.is_spent() => patience.next(&meaning, alive),
            Trial::Again(_) | Trial::Over(_) => None,
        };
        match (pause, error.side) {
            (Some(pause), Side::Source) => origin.source.rest(pause, error).await,
            (Some(pause), Side::Target) => target.rest(pause, error).await,
            (None, _) if !put.is_spent() && reading.turn_to_another(error) => {
                patience = Patience::new(target.policy())
            }
            (None, _) => {
                put.give_up(error).await;
                return Err(trial.into_error());
            }
        }
    }
}

fn is_alive(target: &Target, origin: &Origin, error: &Error) -> bool {
    match error.side {
        Side::Source => origin.source.is_alive(),
        Side::Target => target.is_alive(),
    }
}

/// Where the blob is read from, and how.
struct Reading {
    /// The first is the one that is read from.
    sources: Vec<Origin>,
    past_caches: bool,
    /// Hosts of the places that were tried with all patience and given up.
    given_up: Vec<String>,
    /// Most of one host that are tried so.
    repositories_max: usize,
}

impl Reading {
    fn new(order: &BlobOrder) -> Self {
        let repositories_max = if order.tried_before { 1 } else { REPOSITORIES_MAX };
        Self { sources: order.sources.to_vec(), past_caches: false, given_up: Vec::new(), repositories_max }
    }

    /// Whether there is another way to read it, at once and besides all patience: once past all caches, since a copy in
    /// one of them may be damaged; and where several repositories have the blob, one that fails for good is passed
    /// over. What might have passed, and did not, is its host's trouble.
    fn otherwise(&mut self, error: &Error) -> bool {
        if error.side != Side::Source {
            return false;
        }
        if error.kind == Kind::Corrupt && !std::mem::replace(&mut self.past_caches, true) {
            return true;
        }
        let another = !error.kind.may_pass() && self.sources.len() > 1;
        if another {
            self.sources.remove(0);
        }
        another
    }

    /// Gives up the place that was read from with all patience. Other hosts come next. A host that is out of reach is so
    /// for all of its repositories; of one that answers another repository may be in no trouble: one more is tried.
    fn turn_to_another(&mut self, error: &Error) -> bool {
        if error.side != Side::Source {
            return false;
        }
        let failed = self.sources.remove(0).host().to_owned();
        self.given_up.push(failed.clone());
        let tried = self.given_up.iter().filter(|host| **host == failed).count();
        let (same, mut others): (Vec<Origin>, Vec<Origin>) =
            self.sources.drain(..).partition(|origin| origin.host() == failed);
        if !error.is_out_of_reach() && tried < self.repositories_max {
            others.extend(same);
        }
        self.sources = others;
        !self.sources.is_empty()
    }
}

/// The putting of one blob into one repository, over all the tries that it takes: what the kind of target knows of it.
pub(super) enum Put<'a> {
    Registry(Box<Ladder<'a>>),
    #[cfg(test)]
    Memory(memory::Put<'a>),
}

impl Put<'_> {
    /// One try; `None` asks for another one, because something was learned.
    async fn attempt(&mut self, origin: &Origin, past_caches: bool) -> Result<Option<Landed>, Trial> {
        match self {
            Put::Registry(ladder) => ladder.attempt(origin, past_caches).await,
            #[cfg(test)]
            Put::Memory(put) => put.attempt(origin, past_caches).await,
        }
    }

    /// Whether a copy that the target holds was seen to be damaged, so that the blob is sent whatever it says.
    fn is_suspect(&self) -> bool {
        match self {
            Put::Registry(ladder) => ladder.is_suspect(),
            #[cfg(test)]
            Put::Memory(put) => put.must_send,
        }
    }

    /// The copy that it found is damaged.
    async fn suspect(&mut self) {
        match self {
            Put::Registry(ladder) => ladder.suspect().await,
            #[cfg(test)]
            Put::Memory(put) => put.must_send = true,
        }
    }

    /// The last try failed; another one may follow.
    async fn failed(&mut self, error: &Error) {
        match self {
            Put::Registry(ladder) => ladder.failed(error).await,
            #[cfg(test)]
            Put::Memory(_) => {}
        }
    }

    /// Whether there is another way to send it, at once and besides all patience.
    fn otherwise(&mut self, trial: &Trial) -> bool {
        match self {
            Put::Registry(ladder) => ladder.otherwise(trial),
            #[cfg(test)]
            Put::Memory(_) => false,
        }
    }

    /// What an error means for the blob as a whole.
    fn meaning(&mut self, error: &Error) -> Kind {
        match self {
            Put::Registry(ladder) => ladder.meaning(error),
            #[cfg(test)]
            Put::Memory(_) => error.kind.clone(),
        }
    }

    /// Whether so many bytes were sent in vain that no more are.
    fn is_spent(&self) -> bool {
        match self {
            Put::Registry(ladder) => ladder.is_spent(),
            #[cfg(test)]
            Put::Memory(_) => false,
        }
    }

    /// No other try will follow.
    async fn give_up(&mut self, error: &Error) {
        match self {
            Put::Registry(ladder) => ladder.give_up(error).await,
            #[cfg(test)]
            Put::Memory(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
