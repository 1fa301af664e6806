//! Blobs as they come from a registry, piece by piece.
//!
//! A download that breaks is continued where it broke (RFC 9110, section 14), inside the same upload. Whether the
//! bytes are the right ones is for [`crate::store::BlobReader`] to say.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response, StatusCode, Url};
use tokio::time::{Instant, timeout};

use super::Registry;
use super::answer::Purpose;
use super::client::At;
use super::content_coding::{self, Decoder};
use super::failure::is_web_page;
use super::retry::{Attempt, Rule};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::store::Trial;
use crate::store::patience::{Patience, SLOWEST};
use crate::util::text;

/// A blob being read from a registry; its bytes are not verified here.
pub(crate) struct Download {
    source: Arc<Registry>,
    repository: Repository,
    /// Where the blob is, if not in the repository.
    url: Option<Url>,
    digest: Digest,
    /// Bytes.
    size: u64,
    /// Bytes handed on so far.
    position: u64,
    /// Bytes of the current answer to pass over, because they were handed on before it began.
    skip: u64,
    response: Option<Response>,
    patience: Patience,
    /// Position at which patience was last restored.
    rewarded: u64,
    past_caches: bool,
    /// When the bytes of the slow window began to be counted, and the position then.
    window: (Instant, u64),
    /// Takes off what someone on the way has put round the bytes.
    decoder: Option<Decoder>,
    /// The host that serves the bytes, where the registry redirects to another.
    storage: Option<String>,
}

/// So many bytes in a row, and earlier trouble with a download no longer counts.
const REWARD: u64 = 64 << 10;

impl Download {
    /// Starts reading `blob` from `position` on, a number of bytes, from `url` if that is given, else from `repository`.
    /// `past_caches` asks proxies on the way for a fresh copy.
    ///
    /// # Errors
    /// The registry does not serve the blob, or serves something of another size.
    pub(crate) async fn open(
        source: Arc<Registry>,
        repository: Repository,
        url: Option<Url>,
        blob: &Descriptor,
        past_caches: bool,
        position: u64,
    ) -> Result<Self, Error> {
        let mut reader = Self {
            digest: blob.digest.clone(),
            size: blob.size,
            patience: Patience::new(&source.policy),
            source,
            repository,
            url,
            position,
            skip: 0,
            response: None,
            rewarded: position,
            past_caches,
            window: (Instant::now(), position),
            decoder: None,
            storage: None,
        };
        if position < blob.size {
            reader.begin().await?;
        }
        Ok(reader)
    }

    async fn begin(&mut self) -> Result<(), Error> {
        if self.position > 0
            && let Some((response, skip)) = self.rest().await?
        {
            self.storage = self.source.storage_host(response.url());
            (self.decoder, self.skip) = (self.decoder_for(&response), skip);
            self.response = Some(response);
            return Ok(());
        }
        let response = self.get(false).await?;
        self.check_head(&response)?;
        (self.response, self.skip) = (Some(response), self.position);
        Ok(())
    }

    /// What lies behind the position, and how many bytes of it are known already; `None` from a host that gives the whole
    /// alone.
    async fn rest(&self) -> Result<Option<(Response, u64)>, Error> {
        match self.get(true).await {
            Ok(response) => Ok(self.take_up(&response).map(|skip| (response, skip))),
            Err(error) if error.status == Some(416) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next piece. After the last byte that the blob is to have comes `None`, or what there is too much.
    ///
    /// # Errors
    /// The source failed beyond its patience.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Trial> {
        loop {
            let piece = match self.read().await {
                Ok(Some(piece)) => piece,
                // A connection that is lost after the last byte is not missed.
                Ok(None) | Err(_) if self.position >= self.size => {
                    self.response = None;
                    return Ok(None);
                }
                Ok(None) => {
                    let why = format!("it ended after {} of {} bytes", self.position, self.size);
                    self.resume(self.error(Kind::Transient, why)).await?;
                    continue;
                }
                Err(error) => {
                    self.resume(error).await?;
                    continue;
                }
            };
            let fresh = self.pass_over(piece);
            if fresh.is_empty() {
                continue;
            }
            self.position += fresh.len() as u64;
            if self.position >= self.rewarded + REWARD {
                self.rewarded = self.position;
                self.patience.restore();
            }
            return Ok(Some(fresh));
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        self.check_pace()?;
        let Some(piece) = self.read_raw().await? else { return Ok(None) };
        let limit = self.skip + self.size.saturating_sub(self.position) + REWARD;
        match &mut self.decoder {
            None => Ok(Some(piece)),
            Some(decoder) => match decoder.decode(&piece, limit) {
                Ok(decoded) => Ok(Some(decoded)),
                Err(why) => Err(self.error(Kind::Corrupt, why.to_owned())),
            },
        }
    }

    async fn read_raw(&mut self) -> Result<Option<Bytes>, Error> {
        let stall = self.source.policy.timing.stall;
        let Some(response) = &mut self.response else { return Ok(None) };
        match timeout(stall, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(self.source.transport_error(&self.action(), &error)),
            Err(_) => Err(self.error(Kind::Transient, format!("no byte came for {}", text::duration(stall)))),
        }
    }

    /// A trickle is no progress: a download that stays too slow for too long is begun anew.
    fn check_pace(&mut self) -> Result<(), Error> {
        let (since, then) = self.window;
        let length = self.source.policy.timing.slow_window;
        if since.elapsed() < length {
            return Ok(());
        }
        let moved = self.position - then;
        self.window = (Instant::now(), self.position);
        if moved >= SLOWEST * length.as_secs() {
            return Ok(());
        }
        let why = format!("only {} came in {}", text::bytes(moved), text::duration(length));
        Err(self.error(Kind::Transient, why))
    }

    /// Takes off what was handed on before.
    fn pass_over(&mut self, mut piece: Bytes) -> Bytes {
        let known = self.skip.min(piece.len() as u64);
        self.skip -= known;
        piece.split_off(known as usize)
    }

    /// Asks for the rest after `trouble`, until there is an answer or no patience left.
    async fn resume(&mut self, trouble: Error) -> Result<(), Trial> {
        self.response = None;
        self.window = (Instant::now(), self.position);
        let source = self.source.clone();
        let mut patience = std::mem::replace(&mut self.patience, Patience::new(source.policy()));
        let resuming = Resuming { reader: self, whole: false };
        let resumed = source.retry_after(trouble, &mut patience, resuming).await;
        self.patience = patience;
        // Another try above would multiply with those made here.
        let (response, skip) = resumed.map_err(Trial::Over)?;
        self.decoder = self.decoder_for(&response);
        self.skip = skip;
        self.response = Some(response);
        Ok(())
    }

    /// How many bytes of this answer are known already; `None` if it does not fit at all.
    fn take_up(&self, response: &Response) -> Option<u64> {
        if response.status() != StatusCode::PARTIAL_CONTENT {
            let fits = self.decoder_for(response).is_some()
                || response.content_length().is_none_or(|length| length == self.size);
            return fits.then_some(self.position);
        }
        let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
        let (start, total) = parse_content_range(range)?;
        (start == self.position && total.is_none_or(|total| total == self.size)).then_some(0)
    }

    /// Asks for the blob, or only for what is not known of it yet.
    async fn get(&self, ranged: bool) -> Result<Response, Error> {
        let (at, purpose) = match &self.url {
            Some(url) => (At::Url(self.source.not_downgraded(url, &self.action())?), Purpose::Foreign),
            None => (At::Path(format!("/v2/{}/blobs/{}", self.repository, self.digest)), Purpose::Blob),
        };
        let call = self.source.call(Method::GET, purpose, &self.repository, at, self.action());
        let call = call.past_caches(self.past_caches);
        let call = if ranged { call.range(self.position, self.size - 1) } else { call };
        let mut first = Patience::new(&self.source.policy);
        self.source.try_once(&call, &mut first).await
    }

    fn check_head(&mut self, response: &Response) -> Result<(), Error> {
        self.storage = self.source.storage_host(response.url());
        self.decoder = self.decoder_for(response);
        if self.decoder.is_some() {
            return Ok(());
        }
        let html = is_web_page(response.headers());
        match response.content_length() {
            Some(length) if length != self.size && html => {
                let why = "it is a web page, perhaps from a proxy or a login portal on the way".to_owned();
                Err(self.error(Kind::Corrupt, why))
            }
            Some(length) if length != self.size => {
                let why = format!("it has {length} bytes where its manifest says {}", self.size);
                Err(self.error(Kind::Corrupt, why))
            }
            _ => Ok(()),
        }
    }

    /// An encoded answer of the very size that the blob has is only called encoded.
    fn decoder_for(&self, response: &Response) -> Option<Decoder> {
        let encoded = content_coding::is_gzip(response) && response.content_length() != Some(self.size);
        encoded.then(Decoder::new)
    }

    fn action(&self) -> String {
        format!("GET blob {} of {}", self.digest, self.repository)
    }

    /// An error of the host that the bytes come from.
    pub(crate) fn error(&self, kind: Kind, why: String) -> Error {
        let served = self.storage.as_ref().map(|storage| format!(", as served by {storage}"));
        self.source.error(kind, self.action(), why + &served.unwrap_or_default())
    }
}

/// The rest of a blob on its way.
struct Resuming<'a> {
    reader: &'a Download,
    /// The host has answered a range with something else.
    whole: bool,
}

impl Attempt for Resuming<'_> {
    /// The answer, and how many of its bytes are known already.
    type Done = (Response, u64);
    const RULE: Rule = Rule::Download;

    async fn make(&mut self, _: &mut Patience) -> Result<Self::Done, Error> {
        let reader = self.reader;
        // A range would be one of the encoded bytes.
        let ranged = !self.whole && reader.position > 0 && reader.decoder.is_none();
        match reader.get(ranged).await {
            Ok(response) => match reader.take_up(&response) {
                Some(skip) => Ok((response, skip)),
                None => {
                    self.whole = true;
                    let why = "it answered with another range than asked for".to_owned();
                    Err(reader.error(Kind::Transient, why))
                }
            },
            Err(error) if error.status == Some(416) => {
                self.whole = true;
                Err(Error { kind: Kind::Transient, ..error })
            }
            // A signed address of a storage service that has run out answers 403; the registry gives a new one.
            Err(error) => Err(error),
        }
    }
}

/// The length in bytes of the whole that an answer, partial or not, is of.
pub(super) fn whole_length(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return response.content_length();
    }
    let (_, total) = parse_content_range(response.headers().get(CONTENT_RANGE)?.to_str().ok()?)?;
    total
}

/// `bytes 100-999/1000` → (100, Some(1000)); the total may be `*` (RFC 9110, section 14.4).
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let rest = value.trim().strip_prefix("bytes")?.trim_start_matches([' ', '=']);
    let (range, total) = rest.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end): (u64, u64) = (start.trim().parse().ok()?, end.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (start <= end).then_some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly_enough() {
        assert_eq!(parse_content_range("bytes 100-999/1000"), Some((100, Some(1000))));
        assert_eq!(parse_content_range("bytes 0-0/*"), Some((0, None)));
        for wrong in
            ["", "bytes", "bytes */1000", "bytes 9-1/10", "octets 0-1/2", "bytes 0-1", "bytes -1-2/3"]
        {
            assert_eq!(parse_content_range(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_content_range_makes_the_parser_fail(text in ".{0,60}") {
            let _ = parse_content_range(&text);
        }
    }
}
