//! A request as the hosts see it: which operation, on what.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;

use super::{Host, Service};
use crate::support::journal::{Entry, Op, Record};

#[derive(Clone)]
pub struct Call {
    pub op: Op,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub repository: String,
    pub reference: String,
    pub scheme: &'static str,
}

impl Call {
    pub(super) fn new(host: &Host, parts: &Parts) -> Self {
        let mut call = Self {
            op: Op::Other,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: copied(&parts.headers),
            repository: String::new(),
            reference: String::new(),
            scheme: host.scheme(),
        };
        match host.service {
            Service::Token(_) if call.path == "/token" => call.op = Op::Token,
            Service::Registry(_) => call.classify(),
            Service::Cdn(_) => call.classify_storage(),
            _ => {}
        }
        call
    }

    fn classify_storage(&mut self) {
        let head = self.method == "HEAD";
        self.op = if head { Op::BlobHead } else { Op::BlobGet };
        let reference = self.path.strip_prefix("/storage/");
        self.reference = reference.unwrap_or_default().to_owned();
    }

    fn classify(&mut self) {
        let Some(rest) = self.path.strip_prefix("/v2/") else {
            return;
        };
        if rest.is_empty() {
            self.op = Op::Ping;
            return;
        }
        // The last marker counts: a repository may have such a word in its name.
        let markers = ["/blobs/uploads/", "/blobs/", "/manifests/", "/tags/", "/referrers/"];
        let found = markers.iter().find_map(|marker| {
            let (repository, reference) = rest.rsplit_once(marker)?;
            Some((*marker, repository.to_owned(), reference.to_owned()))
        });
        let Some((marker, repository, reference)) = found else {
            return;
        };
        self.op = operation(&self.method, marker, self.param("mount").is_some());
        (self.repository, self.reference) = (repository, reference);
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Query parameters, decoded.
    pub fn params(&self) -> Vec<(String, String)> {
        let query = self.query.as_deref().unwrap_or("");
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    pub fn param(&self, name: &str) -> Option<String> {
        self.params().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// A query parameter as it was sent, without decoding.
    pub fn raw_param(&self, name: &str) -> Option<&str> {
        let pairs = self.query.as_deref()?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    /// The digest the request names, if any.
    pub fn digest(&self) -> Option<String> {
        let named = match self.op {
            Op::UploadPut => self.param("digest"),
            Op::Mount => self.param("mount"),
            _ => None,
        };
        named.or_else(|| self.reference.contains(':').then(|| self.reference.clone()))
    }

    /// `http://host:port` as the client wrote it.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.header("host").unwrap_or("localhost"))
    }

    /// What `Content-Length` says; `None` for a chunked body.
    pub fn body_length(&self) -> Option<u64> {
        match self.header("content-length") {
            Some(length) => length.parse().ok(),
            None if self.headers.contains_key("transfer-encoding") => None,
            None => Some(0),
        }
    }

    pub fn has_range(&self) -> bool {
        self.headers.contains_key("range")
    }

    pub(super) fn entry(&self, host: &str, connection: u64) -> Entry {
        Entry {
            seq: 0,
            at: Duration::ZERO,
            done: None,
            host: host.to_owned(),
            connection,
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            op: self.op,
            repository: self.repository.clone(),
            reference: self.reference.clone(),
            digest: self.digest(),
            refers_to: Vec::new(),
            status: None,
            read: 0,
            written: 0,
        }
    }
}

/// hyper's headers are slices of its read buffer, which the journal would keep alive whole.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let copy = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).expect("valid before");
        (name, HeaderValue::from_bytes(value.as_bytes()).expect("valid before"))
    };
    headers.iter().map(copy).collect()
}

fn operation(method: &str, marker: &str, mount: bool) -> Op {
    match (marker, method) {
        ("/blobs/uploads/", "POST") if mount => Op::Mount,
        ("/blobs/uploads/", "POST") => Op::UploadStart,
        ("/blobs/uploads/", "PATCH") => Op::UploadPatch,
        ("/blobs/uploads/", "PUT") => Op::UploadPut,
        ("/blobs/uploads/", "GET") => Op::UploadStatus,
        ("/blobs/uploads/", "DELETE") => Op::UploadDelete,
        ("/blobs/", "HEAD") => Op::BlobHead,
        ("/blobs/", "GET") => Op::BlobGet,
        ("/manifests/", "HEAD") => Op::ManifestHead,
        ("/manifests/", "GET") => Op::ManifestGet,
        ("/manifests/", "PUT") => Op::ManifestPut,
        ("/tags/", "GET") => Op::TagsList,
        ("/referrers/", "GET") => Op::Referrers,
        _ => Op::Other,
    }
}

/// The client went away, or its framing broke.
#[derive(Debug)]
pub struct Broken;

/// A request body that is counted as it is read.
pub struct RequestBody {
    incoming: Incoming,
    pub record: Arc<Record>,
    /// Reads no further than this, and leaves the rest unread.
    pub limit: Option<u64>,
    /// Before each piece.
    pub pause: Duration,
    read: u64,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, record: Arc<Record>) -> Self {
        Self { incoming, record, limit: None, pause: Duration::ZERO, read: 0 }
    }

    /// The next piece; `None` at the end, or at the limit.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        while self.limit.is_none_or(|limit| self.read < limit) {
            if !self.pause.is_zero() {
                tokio::time::sleep(self.pause).await;
            }
            let frame = match self.incoming.frame().await {
                None => return Ok(None),
                Some(frame) => frame.map_err(|_| Broken)?,
            };
            let Ok(mut bytes) = frame.into_data() else {
                continue;
            };
            let left = self.limit.map_or(u64::MAX, |limit| limit - self.read);
            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            self.read += bytes.len() as u64;
            self.record.update(|entry| entry.read += bytes.len() as u64);
            return Ok(Some(bytes));
        }
        Ok(None)
    }

    /// Everything, up to a bound; one byte more than the bound tells that there was more.
    pub async fn collect(&mut self, bound: usize) -> Result<Bytes, Broken> {
        let mut out = BytesMut::new();
        while out.len() <= bound {
            match self.next().await? {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(out.freeze())
    }

    pub async fn discard(&mut self) -> Result<(), Broken> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}
