//! Blobs in one pool, linked by repositories, as distribution keeps them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::uploads::Session;
use crate::support::content::{Blob, Content, Manifest};
use crate::support::content::{Repository, media};
use crate::support::digest::Digest;
use crate::support::net::Shared;
use crate::support::net::call::Call;
use crate::support::net::reply::{Payload, Reply};

/// What to keep of a pushed blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Bytes,
    /// Digest and size, for runs larger than memory. Blobs that were generated in this net can
    /// still be read back.
    Digests,
}

#[derive(Clone, Copy, Debug)]
pub enum Damage {
    Truncated(u64),
    Flipped(u64),
}

#[derive(Clone)]
pub struct Stored {
    pub blob: Option<Blob>,
    pub size: u64,
    damage: Option<Damage>,
}

impl Stored {
    pub fn served(&self) -> u64 {
        match self.damage {
            Some(Damage::Truncated(size)) => size.min(self.size),
            _ => self.size,
        }
    }
}

pub struct State {
    pub blobs: HashMap<Digest, Stored>,
    pub manifests: HashMap<Digest, Manifest>,
    pub repositories: BTreeMap<String, Repository>,
    /// `None` while a request works on it, and after it was lost.
    pub sessions: HashMap<String, Option<Session>>,
    pub next_session: u64,
    /// Whether an index may name manifests that are not there.
    pub takes_sparse_indexes: bool,
    /// Whether a manifest is taken without a look at what it names.
    pub takes_unverified_manifests: bool,
    /// Whether a blob that is pushed takes the place of a damaged one.
    pub replaces_damaged: bool,
    /// Bytes of the largest manifest that is taken.
    pub manifest_limit: usize,
    /// Entries on a page of the list of what refers to a manifest; `None` where there is no such list.
    pub referrers_page: Option<usize>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            blobs: HashMap::new(),
            manifests: HashMap::new(),
            repositories: BTreeMap::new(),
            sessions: HashMap::new(),
            next_session: 0,
            takes_sparse_indexes: false,
            takes_unverified_manifests: false,
            replaces_damaged: false,
            manifest_limit: 4 << 20,
            referrers_page: None,
        }
    }
}

impl State {
    pub fn repository(&mut self, name: &str) -> &mut Repository {
        self.repositories.entry(name.to_owned()).or_default()
    }

    /// A blob that this repository links to and whose file is there.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<&Stored> {
        let linked = self.repositories.get(repository)?.blobs.contains(digest);
        linked.then(|| self.blobs.get(digest)).flatten()
    }
}

pub struct Store {
    state: Mutex<State>,
    pub net: Arc<Shared>,
    pub keep: Keep,
}

impl Store {
    pub fn new(net: Arc<Shared>, keep: Keep) -> Self {
        let state = Mutex::default();
        Self { state, net, keep }
    }

    pub fn read<T>(&self, ask: impl FnOnce(&State) -> T) -> T {
        ask(&self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    pub fn add(&self, content: &Content) {
        let mut known = self.net.known.lock().expect("nothing panics here");
        known.extend(content.blobs.clone());
        drop(known);
        self.write(|state| {
            for (digest, blob) in &content.blobs {
                state.blobs.insert(digest.clone(), stored(blob));
            }
            state.manifests.extend(content.manifests.clone());
            for (name, repository) in &content.repositories {
                let entry = state.repository(name);
                entry.tags.extend(repository.tags.clone());
                entry.manifests.extend(repository.manifests.iter().cloned());
                entry.blobs.extend(repository.blobs.iter().cloned());
            }
        });
    }

    pub fn set_tag(&self, repository: &str, tag: &str, digest: &str) {
        self.write(|state| {
            let tags = &mut state.repository(repository).tags;
            tags.insert(tag.to_owned(), digest.to_owned());
        });
    }

    pub fn unlink_blob(&self, repository: &str, digest: &str) {
        self.write(|state| {
            state.repository(repository).blobs.remove(digest);
        });
    }

    pub fn damage(&self, digest: &str, damage: Damage) {
        self.write(|state| {
            let stored = state.blobs.get_mut(digest).expect("a blob of this registry");
            stored.damage = Some(damage);
        });
    }

    /// Puts a verified upload in its place. A file that is there stays, damaged or not, unless it is to be replaced.
    pub fn commit(&self, repository: &str, digest: &str, size: u64, bytes: Option<Bytes>) {
        let known = self.net.known.lock().expect("nothing panics here").get(digest).cloned();
        self.write(|state| {
            state.repository(repository).blobs.insert(digest.to_owned());
            let blob = known.or_else(|| bytes.map(|bytes| Blob::stored(digest, bytes)));
            let damage = None;
            let fresh = Stored { blob, size, damage };
            if state.replaces_damaged {
                state.blobs.insert(digest.to_owned(), fresh);
            } else {
                state.blobs.entry(digest.to_owned()).or_insert(fresh);
            }
        });
    }

    /// Answers GET and HEAD of a blob.
    pub fn blob_reply(&self, repository: &str, call: &Call) -> Reply {
        let digest = &call.reference;
        let Some(stored) = self.read(|state| state.blob(repository, digest).cloned()) else {
            let (code, message) = ("BLOB_UNKNOWN", "blob unknown to registry");
            return Reply::error_detail(404, code, message, digest.as_str());
        };
        let size = stored.served();
        let reply = Reply::new(200)
            .with("Content-Type", "application/octet-stream")
            .with("Docker-Content-Digest", digest)
            .with("Etag", format!("\"{digest}\""))
            .with("Accept-Ranges", "bytes")
            .with("Cache-Control", "max-age=31536000");
        let Some(blob) = &stored.blob else {
            return match call.method.as_str() {
                "HEAD" => reply.with("Content-Length", size),
                _ => Reply::text(500, "the bytes of this blob were not kept\n"),
            };
        };
        let range = match call.header("range").and_then(|range| parse_range(range, size)) {
            None => return with_range(reply, &stored, blob, 0..size),
            Some(Ok(range)) => range,
            Some(Err(())) => {
                let range = format!("bytes */{size}");
                return Reply::text(416, "invalid range\n").with("Content-Range", range);
            }
        };
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        let mut reply = with_range(reply, &stored, blob, range).with("Content-Range", text);
        reply.status = 206;
        reply
    }

    pub fn tags_reply(&self, call: &Call) -> Reply {
        let tags = self.read(|state| {
            let repository = state.repositories.get(&call.repository)?;
            Some(repository.tags.keys().cloned().collect::<Vec<_>>())
        });
        let Some(tags) = tags else {
            let message = "repository name not known to registry";
            return Reply::error(404, "NAME_UNKNOWN", message);
        };
        let last = call.param("last").unwrap_or_default();
        let limit = call.param("n").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let mut rest = tags.into_iter().filter(|tag| *tag > last);
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let more = rest.next().is_some();
        let reply = Reply::json(200, &json!({ "name": call.repository, "tags": page }));
        match page.last().filter(|_| more) {
            Some(last) => reply.with("Link", format!("<{}?last={last}&n={limit}>; rel=\"next\"", call.path)),
            None => reply,
        }
    }
}

fn stored(blob: &Blob) -> Stored {
    Stored { blob: Some(blob.clone()), size: blob.size, damage: None }
}

fn with_range(mut reply: Reply, stored: &Stored, blob: &Blob, range: std::ops::Range<u64>) -> Reply {
    let length = range.end - range.start;
    let mut at = range.start;
    let flipped = match stored.damage {
        Some(Damage::Flipped(at)) => Some(at),
        _ => None,
    };
    let chunks = blob.chunks(range).map(move |chunk| {
        let start = at;
        at += chunk.len() as u64;
        match flipped.filter(|f| (start..at).contains(f)) {
            Some(f) => flip(&chunk, (f - start) as usize),
            None => chunk,
        }
    });
    reply.body = Payload::Chunks { chunks: Box::new(chunks), length };
    reply
}

fn flip(bytes: &[u8], at: usize) -> Bytes {
    let mut changed = BytesMut::from(bytes);
    changed[at] ^= 0x01;
    changed.freeze()
}

/// One range; anything else is served whole, as servers do. `Err` asks beyond the end.
fn parse_range(text: &str, size: u64) -> Option<Result<std::ops::Range<u64>, ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        return Some(Ok(size.saturating_sub(suffix)..size));
    }
    let first: u64 = first.parse().ok()?;
    let last = match last {
        "" => u64::MAX,
        last => last.parse().ok()?,
    };
    if first >= size || last < first {
        return Some(Err(()));
    }
    Some(Ok(first..last.saturating_add(1).min(size)))
}

/// Whether `Accept` lists the type; indexes and OCI manifests are hidden from clients that do not.
pub fn accepts(call: &Call, media_type: &str) -> bool {
    let picky = media::is_index(media_type) || media_type == media::OCI_MANIFEST;
    let values = call.headers.get_all("accept").into_iter();
    let mut listed = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|entry| entry.split(';').next().unwrap_or("").trim().to_owned());
    !picky || listed.any(|entry| entry == media_type)
}
