//! One blob into one repository of a target, with as many tries as patience allows. A blob is the unit of another try,
//! since a stream cannot be rewound.

mod put;
mod reading;

use std::sync::Arc;

pub(super) use self::put::Put;
use self::reading::Reading;
use super::inspect::{Depth, Flaw, damaged_copy, read_through};
use super::{Origin, Target};
use crate::error::{Error, Kind, Side};
use crate::events::{Event, Listener, TransferId};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::patience::Patience;
use crate::store::{Trial, Tries};

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
    /// Hears of each try.
    pub tries: Tries,
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
        Error { cause: damaged_copy(&self.blob, flaw, &target.advice_on_damage(&self.blob.digest)), ..error }
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
        order.tries.next();
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

#[cfg(test)]
mod tests;
