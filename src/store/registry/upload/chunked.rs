//! Uploads in pieces, for targets that refuse large bodies (distribution-spec, "Pushing a blob in chunks").
//!
//! A registry takes a blob of any size in one body; a proxy before it may not. One PUT costs one request where
//! pieces cost hundreds, so pieces are sent only to a target that has refused a whole, and then to the end of the run.
//!
//! A piece is held in memory until it is there. One that fails is sent again, once the session has said how far it is;
//! only where it does not say so is the whole blob sent again.

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::super::Registry;
use super::super::answer::Purpose;
use super::super::client::{Call, location_text};
use super::{IN_VAIN_MAX, Session, TIMES_IN_VAIN_MAX, with_digest};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::Repository;
use crate::store::BlobReader;
use crate::store::Trial;
use crate::store::patience::Patience;

/// Of a piece so many parts are taken for taken, and no more: a session that takes less and less never ends.
const PARTS_MAX: u32 = 16;

/// A blob on its way into a session, piece by piece.
struct Pieces<'a> {
    target: &'a Registry,
    repository: &'a Repository,
    blob: &'a Descriptor,
    /// The session's newest address.
    location: Url,
    /// Bytes that the session has.
    sent: u64,
    /// Whether it is believed to have taken a part of a piece where it says so.
    tells_parts: bool,
    /// It has said so of one.
    has_told_parts: bool,
    /// Restored by every piece that is taken.
    patience: Patience,
    /// Bytes sent to a target that was overloaded then.
    in_vain: u64,
}

impl Registry {
    /// Sends all of `blob` into an upload session, in pieces of `length` bytes.
    pub(super) async fn upload_in_pieces(
        &self,
        repository: &Repository,
        session: &Session,
        blob: &Descriptor,
        length: u64,
        mut reader: BlobReader,
        moved: impl Fn(u64) + Send + 'static,
    ) -> Result<(), Trial> {
        let mut pieces = Pieces {
            target: self,
            repository,
            blob,
            location: session.url.clone(),
            sent: 0,
            tells_parts: session.tells_parts,
            has_told_parts: false,
            patience: Patience::new(&self.policy),
            in_vain: 0,
        };
        while pieces.sent < blob.size {
            let piece = reader.next_exactly(length.min(blob.size - pieces.sent) as usize).await?;
            pieces.send(piece).await?;
            moved(pieces.sent);
        }
        pieces.close().await
    }
}

impl Pieces<'_> {
    async fn send(&mut self, piece: Bytes) -> Result<(), Trial> {
        let begin = self.sent;
        let end = begin + piece.len() as u64;
        let mut parts = 0;
        while self.sent < end {
            self.await_trust(begin).await;
            match self.patch(piece.slice((self.sent - begin) as usize..)).await {
                Ok((location, part)) => {
                    self.location = location;
                    if let Some(part) = part {
                        parts += 1;
                        self.has_told_parts = true;
                        self.lost(end - part)?;
                    }
                    self.sent = part.filter(|_| self.tells_parts && parts <= PARTS_MAX).unwrap_or(end);
                }
                Err(error) => self.recover(error, begin, end).await?,
            }
        }
        self.patience.restore();
        Ok(())
    }

    /// Counts bytes that were sent and not taken.
    ///
    /// # Errors
    /// They are too many by now.
    fn lost(&mut self, bytes: u64) -> Result<(), Trial> {
        self.in_vain += bytes;
        if self.in_vain <= IN_VAIN_MAX.max(self.blob.size.saturating_mul(TIMES_IN_VAIN_MAX)) {
            return Ok(());
        }
        let doing = format!("PATCH blob {} to {}", self.blob.digest, self.repository);
        let why = "it takes but a part of each piece, and too much of the blob was sent in vain".to_owned();
        Err(Trial::Over(self.target.error(Kind::Invalid, doing, why)))
    }

    /// After a pause something small is asked first, since a piece might be sent in vain. What is heard changes nothing:
    /// how far the session is was known.
    async fn await_trust(&self, begin: u64) {
        if self.target.gate.is_doubtful() {
            _ = self.ask_position(begin).await;
        }
    }

    async fn close(&mut self) -> Result<(), Trial> {
        loop {
            let doing = format!("PUT blob {} to {}", self.blob.digest, self.repository);
            let url = with_digest(&self.location, &self.blob.digest);
            let answer = self.ask(Method::PUT, url, octets(), Some(Bytes::new()), doing.clone()).await;
            // What has spoken of parts may have less than all of it, and not look.
            let whole = !self.has_told_parts;
            match self.target.judge_closing(self.repository, self.blob, doing, answer, whole).await {
                Ok(()) => return Ok(()),
                Err(error) => self.recover(error, self.sent, self.sent).await?,
            }
        }
    }

    /// Sends `piece`. Returns the session's address now, and how many bytes it has if it says that it took only a part.
    async fn patch(&self, piece: Bytes) -> Result<(Url, Option<u64>), Error> {
        let end = self.sent + piece.len() as u64;
        let range = format!("{}-{}", self.sent, end - 1);
        let doing = format!("PATCH bytes {range} of blob {} to {}", self.blob.digest, self.repository);
        let mut headers = octets();
        headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("digits and a hyphen"));
        let asked = self.ask(Method::PATCH, self.location.clone(), headers, Some(piece), doing.clone()).await;
        let response = asked.map_err(|error| match error.status {
            // Not of the session: the method itself is unknown here.
            Some(405 | 501) => Error { kind: Kind::Unsupported, ..error },
            _ => error,
        })?;
        let part = part_in(response.headers(), self.sent, end);
        // Not every registry gives another address each time.
        if response.status() == StatusCode::ACCEPTED && location_text(response.headers()).is_none() {
            return Ok((self.location.clone(), part));
        }
        Ok((self.target.location(response.url(), response.headers(), &doing)?, part))
    }

    /// Waits after a request that failed with `begin` to `end` on its way, and goes on from where the session says that
    /// it is by then.
    async fn recover(&mut self, error: Error, begin: u64, end: u64) -> Result<(), Trial> {
        self.in_vain += end - begin;
        let mut trouble = error.clone();
        loop {
            let meaning = match (&trouble.kind, trouble.status) {
                (Kind::Transient, Some(502..=504)) if self.in_vain <= IN_VAIN_MAX => &Kind::Busy,
                (kind, _) => kind,
            };
            let Some(pause) = self.patience.next(meaning, self.target.is_alive()) else {
                return Err(if trouble.kind.may_pass() { Trial::Over(trouble) } else { Trial::Again(error) });
            };
            self.target.pause(pause, &trouble).await;
            match self.ask_position(begin).await {
                Ok(Some((position, location))) if (begin..=end).contains(&position) => {
                    self.sent = position;
                    self.location = location;
                    return Ok(());
                }
                Err(another) if another.kind.may_pass() => trouble = another,
                // It is gone, has lost what it had, or does not say.
                Ok(_) | Err(_) => return Err(Trial::Again(error)),
            }
        }
    }

    /// How many bytes the session has, and its address now (distribution-spec, "Pushing a blob in chunks": `GET` of the
    /// session). `None` if it does not say so.
    async fn ask_position(&self, at_least: u64) -> Result<Option<(u64, Url)>, Error> {
        let doing = format!("GET an upload to {}", self.repository);
        let response =
            self.ask(Method::GET, self.location.clone(), HeaderMap::new(), None, doing.clone()).await?;
        let Some(position) = position_of(response.headers(), at_least) else { return Ok(None) };
        let location = if location_text(response.headers()).is_some() {
            self.target.location(response.url(), response.headers(), &doing)?
        } else {
            self.location.clone()
        };
        Ok(Some((position, location)))
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        doing: String,
    ) -> Result<Response, Error> {
        let call = self.target.call(method, Purpose::Session, self.repository, url, doing);
        let call = Call { headers, body, ..call };
        let mut patience = Patience::new(&self.target.policy);
        self.target.try_once(&call, &mut patience).await
    }
}

/// How many bytes the session has where its answer to a piece from `begin` to `end` says that it took a part of it
/// (distribution-spec, "Pushing a blob in chunks": `Range` of the 202). What is at the beginning or before it is the
/// answer to an earlier piece, which some registries give; what is beyond the end cannot be.
fn part_in(headers: &HeaderMap, begin: u64, end: u64) -> Option<u64> {
    position_of(headers, begin).filter(|position| (begin + 1..end).contains(position))
}

fn position_of(headers: &HeaderMap, at_least: u64) -> Option<u64> {
    position_in(headers.get(RANGE)?.to_str().ok()?, at_least)
}

/// `0-4194303` or `bytes=0-4194303` → 4194304 bytes. An empty session says `0-0`, as one of a single byte would: no
/// piece is so short that this could be meant where nothing was there before.
fn position_in(range: &str, at_least: u64) -> Option<u64> {
    let range = range.trim();
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    match (first, last) {
        (0, 0) if at_least == 0 => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

fn octets() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_session_is_read_in_the_forms_that_registries_write_it() {
        assert_eq!(position_in("0-4194303", 0), Some(4_194_304));
        assert_eq!(position_in("bytes=0-9", 5), Some(10));
        assert_eq!((position_in("0-0", 0), position_in("0-0", 1)), (Some(0), Some(1)));
        for wrong in ["", "nonsense", "5-9", "0-", "-9", "0-18446744073709551615", "bytes 0-9"] {
            assert_eq!(position_in(wrong, 0), None, "{wrong}");
        }
    }

    #[test]
    fn only_a_part_of_this_very_piece_is_one() {
        let part = |range: &'static str| {
            let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static(range))]);
            part_in(&headers, 1_000, 2_000)
        };
        assert_eq!((part("0-1000"), part("bytes=0-1998")), (Some(1_001), Some(1_999)));
        for none in ["0-0", "0-499", "0-999", "0-1999", "0-5000", "1000-1500", "nonsense"] {
            assert_eq!(part(none), None, "{none}");
        }
        assert_eq!(part_in(&HeaderMap::new(), 0, 9), None);
    }

    proptest::proptest! {
        #[test]
        fn no_range_makes_the_parser_fail(text in ".{0,40}|[0-9]{0,24}-[0-9]{0,24}", least in 0..9_u64) {
            let _ = position_in(&text, least);
        }
    }
}
