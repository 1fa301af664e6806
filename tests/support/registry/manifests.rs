//! Manifests: served only to clients that know their type, taken only when complete.

use serde_json::{Value, json};

use super::store::{State, Store, accepts};
use crate::support::content::{Manifest, media};
use crate::support::digest::{is_digest, same_algorithm, sha256};
use crate::support::net::call::{Call, RequestBody};
use crate::support::net::reply::Reply;

impl Store {
    pub fn manifest_reply(&self, repository: &str, call: &Call) -> Reply {
        let manifest = self.read(|state| {
            let held = state.repositories.get(repository).ok_or_else(name_unknown)?;
            let digest = if call.reference.contains(':') {
                Some(&call.reference)
            } else {
                held.tags.get(&call.reference)
            };
            let digest = digest.filter(|digest| held.manifests.contains(*digest));
            let manifest = digest.and_then(|digest| state.manifests.get(digest));
            manifest.cloned().ok_or_else(|| unknown(&call.reference, "manifest unknown"))
        });
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(reply) => return reply,
        };
        if !accepts(call, &manifest.media_type) {
            let message = format!("{} found, but accept header does not support it", manifest.media_type);
            return unknown(&call.reference, &message);
        }
        Reply::new(200)
            .with("Content-Type", &manifest.media_type)
            .with("Docker-Content-Digest", &manifest.digest)
            .with("Etag", format!("\"{}\"", manifest.digest))
            .bytes(manifest.bytes)
    }

    pub async fn put_manifest(&self, call: &Call, body: &mut RequestBody) -> Reply {
        let limit = self.read(|state| state.manifest_limit);
        let Ok(bytes) = body.collect(limit).await else {
            return Reply::error(400, "MANIFEST_INVALID", "client disconnected");
        };
        if bytes.len() > limit {
            let _ = body.discard().await;
            return Reply::error(400, "MANIFEST_INVALID", "http: request body too large");
        }
        let sent_type = call.header("content-type").unwrap_or("").to_owned();
        let media_type = sent_type.split(';').next().unwrap_or("").trim().to_owned();
        let value = match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) if value.is_object() => value,
            _ => return Reply::error(400, "MANIFEST_INVALID", "manifest invalid"),
        };
        let references = references(&value);
        body.record.update(|entry| {
            entry.refers_to = references.iter().map(|(_, digest)| digest.clone()).collect();
            entry.digest = Some(sha256(&bytes));
        });
        if let Some(reason) = contradiction(&value, &media_type) {
            return Reply::error(400, "MANIFEST_INVALID", &reason);
        }
        let manifest = Manifest { digest: sha256(&bytes), media_type, bytes };
        self.take_manifest(call, manifest, &references)
    }

    fn take_manifest(&self, call: &Call, manifest: Manifest, refers: &[(Refers, String)]) -> Reply {
        let mut digest = manifest.digest.clone();
        if call.reference.contains(':') {
            if same_algorithm(&call.reference, &manifest.bytes).as_ref() != Some(&call.reference) {
                let message = "provided digest did not match uploaded content";
                return Reply::error(400, "DIGEST_INVALID", message);
            }
            digest = call.reference.clone();
        }
        let missing = self.write(|state| {
            let missing = missing(state, &call.repository, refers);
            if missing.is_empty() {
                keep(state, call, &digest, manifest);
            }
            missing
        });
        if !missing.is_empty() {
            return blob_unknown(&missing);
        }
        let location = format!("{}/v2/{}/manifests/{digest}", call.origin(), call.repository);
        let reply = Reply::new(201).with("Location", location).with("Docker-Content-Digest", &digest);
        let subject =
            self.read(|state| state.referrers_page.and_then(|_| subject_of(state.manifests.get(&digest)?)));
        match subject {
            Some(subject) => reply.with("OCI-Subject", subject),
            None => reply,
        }
    }

    /// What refers to a manifest, page by page, where this registry lists that at all.
    pub fn referrers_reply(&self, call: &Call) -> Reply {
        let from: usize = call.param("from").and_then(|from| from.parse().ok()).unwrap_or(0);
        let listed = self.read(|state| {
            let page = state.referrers_page?;
            let held = state.repositories.get(&call.repository);
            let manifests = held.into_iter().flat_map(|held| &held.manifests);
            let of = |digest: &String| state.manifests.get(digest);
            let referrers = manifests
                .filter_map(of)
                .filter(|manifest| subject_of(manifest).as_ref() == Some(&call.reference));
            let entries: Vec<Value> = referrers.map(describe).collect();
            Some((page, entries))
        });
        let Some((page, entries)) = listed else { return Reply::text(404, "404 page not found\n") };
        let more = entries.len() > from + page;
        let shown: Vec<Value> = entries.into_iter().skip(from).take(page).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": shown });
        let reply = Reply::new(200)
            .with("Content-Type", media::OCI_INDEX)
            .bytes(serde_json::to_vec(&index).expect("it is JSON"));
        if more {
            reply.with("Link", format!("<{}?from={}>; rel=\"next\"", call.path, from + page))
        } else {
            reply
        }
    }
}

fn subject_of(manifest: &Manifest) -> Option<String> {
    let value: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    value["subject"]["digest"].as_str().map(str::to_owned)
}

fn describe(manifest: &Manifest) -> Value {
    json!({ "mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.bytes.len() })
}

fn keep(state: &mut State, call: &Call, digest: &str, manifest: Manifest) {
    state.manifests.insert(digest.to_owned(), manifest);
    let repository = state.repository(&call.repository);
    repository.manifests.insert(digest.to_owned());
    if !call.reference.contains(':') {
        repository.tags.insert(call.reference.clone(), digest.to_owned());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refers {
    Blob,
    Manifest,
}

/// What must be in the repository before the manifest. Layers that live elsewhere need not.
fn references(value: &Value) -> Vec<(Refers, String)> {
    let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    let digest = |descriptor: &Value| descriptor["digest"].as_str().map(str::to_owned);
    let foreign = |descriptor: &Value| {
        let kind = descriptor["mediaType"].as_str().unwrap_or("");
        kind == media::DOCKER_FOREIGN || kind.contains(".nondistributable.")
    };
    let mut out = Vec::new();
    out.extend(digest(&value["config"]).map(|digest| (Refers::Blob, digest)));
    for layer in list("layers").iter().filter(|layer| !foreign(layer)) {
        out.extend(digest(layer).map(|digest| (Refers::Blob, digest)));
    }
    for child in list("manifests") {
        out.extend(digest(&child).map(|digest| (Refers::Manifest, digest)));
    }
    out
}

fn missing(state: &State, repository: &str, refers: &[(Refers, String)]) -> Vec<String> {
    if state.takes_unverified_manifests {
        return Vec::new();
    }
    let held = state.repositories.get(repository);
    let there = |(what, digest): &&(Refers, String)| match what {
        Refers::Blob => state.blob(repository, digest).is_some(),
        Refers::Manifest => {
            state.takes_sparse_indexes || held.is_some_and(|held| held.manifests.contains(digest))
        }
    };
    let absent = refers.iter().filter(|reference| !there(reference));
    absent.map(|(_, digest)| digest.clone()).collect()
}

/// Whether a manifest is there with everything below it, whole.
pub fn is_complete(state: &State, repository: &str, digest: &str) -> bool {
    let held = state.repositories.get(repository).is_some_and(|r| r.manifests.contains(digest));
    let Some(manifest) = state.manifests.get(digest).filter(|_| held) else {
        return false;
    };
    let value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    references(&value).iter().all(|(what, digest)| match what {
        Refers::Blob => state.blob(repository, digest).is_some_and(|blob| blob.served() == blob.size),
        Refers::Manifest => is_complete(state, repository, digest),
    })
}

fn contradiction(value: &Value, media_type: &str) -> Option<String> {
    if value["mediaType"].as_str().is_some_and(|inner| inner != media_type) {
        return Some("media type in body and Content-Type differ".to_owned());
    }
    let both = value.get("manifests").is_some() && value.get("layers").is_some();
    if both {
        return Some("both manifests and layers".to_owned());
    }
    let entries = ["layers", "manifests"].map(|key| value[key].as_array().cloned());
    let mut digests = entries.into_iter().flatten().flatten().map(|e| e["digest"].clone());
    let bad = digests.find(|digest| !digest.as_str().is_some_and(is_digest));
    bad.map(|digest| format!("invalid digest {digest}"))
}

fn blob_unknown(missing: &[String]) -> Reply {
    let error = |digest: &String| {
        let message = "blob unknown to registry";
        serde_json::json!({
            "code": "MANIFEST_BLOB_UNKNOWN", "message": message, "detail": digest,
        })
    };
    let errors: Vec<_> = missing.iter().map(error).collect();
    Reply::json(400, &serde_json::json!({ "errors": errors }))
}

fn unknown(reference: &str, message: &str) -> Reply {
    Reply::error_detail(404, "MANIFEST_UNKNOWN", message, reference)
}

fn name_unknown() -> Reply {
    Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry")
}
