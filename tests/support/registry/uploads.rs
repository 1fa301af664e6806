//! Upload sessions, whose address changes at every step.

use bytes::BytesMut;

use super::store::{Keep, Store};
use crate::support::digest::{Hasher, is_digest, same_algorithm};
use crate::support::journal::Op;
use crate::support::net::call::{Broken, Call, RequestBody};
use crate::support::net::reply::Reply;

#[derive(Default)]
pub struct Session {
    step: u64,
    hasher: Hasher,
    size: u64,
    /// What the client was told; more than `size` if a fault lost some of it.
    claimed: u64,
    bytes: BytesMut,
}

impl Session {
    /// Escaped, so that a client that decodes and encodes the query must get it right.
    fn state(&self, id: &str) -> String {
        format!("{id}.{}%3D%3D", self.step)
    }

    async fn append(&mut self, body: &mut RequestBody, keep: Keep) -> Result<(), Broken> {
        while let Some(piece) = body.next().await? {
            self.size += piece.len() as u64;
            self.claimed += piece.len() as u64;
            self.hasher.update(&piece);
            if keep == Keep::Bytes {
                self.bytes.extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    fn range(&self) -> String {
        format!("0-{}", self.claimed.saturating_sub(1))
    }
}

impl Store {
    pub async fn start_upload(&self, call: &Call, body: &mut RequestBody) -> Reply {
        let _ = body.discard().await;
        if call.op == Op::Mount && self.mount(call) {
            let digest = call.param("mount").unwrap_or_default();
            return created(call, &digest);
        }
        let session = Session::default();
        let id = self.write(|state| {
            state.next_session += 1;
            format!("{:08x}-session", state.next_session)
        });
        let reply = progress(202, call, &id, &session).with("Range", "0-0");
        self.put_back(&id, session);
        reply
    }

    fn mount(&self, call: &Call) -> bool {
        let (Some(digest), Some(from)) = (call.param("mount"), call.param("from")) else {
            return false;
        };
        self.write(|state| {
            let there = state.blob(&from, &digest).is_some();
            if there {
                state.repository(&call.repository).blobs.insert(digest);
            }
            there
        })
    }

    pub async fn patch_upload(&self, call: &Call, body: &mut RequestBody) -> Reply {
        let mut session = match self.take_session(call) {
            Ok(session) => session,
            Err(reply) => return refuse(body, reply).await,
        };
        if let Some(reply) = bad_content_range(call, &session) {
            self.put_back(&call.reference, session);
            return refuse(body, reply).await;
        }
        // An interrupted step loses the session, since its next address was never told.
        if session.append(body, self.keep).await.is_err() {
            return Reply::error(400, "BLOB_UPLOAD_INVALID", "client disconnected");
        }
        session.step += 1;
        let range = session.range();
        let reply = progress(202, call, &call.reference, &session).with("Range", range);
        self.put_back(&call.reference, session);
        reply
    }

    pub async fn finish_upload(&self, call: &Call, body: &mut RequestBody) -> Reply {
        let mut session = match self.take_session(call) {
            Ok(session) => session,
            Err(reply) => return refuse(body, reply).await,
        };
        if session.append(body, self.keep).await.is_err() {
            return Reply::error(400, "BLOB_UPLOAD_INVALID", "client disconnected");
        }
        let digest = call.param("digest").unwrap_or_default();
        if !is_digest(&digest) || !verified(&session, &digest) {
            let message = "provided digest did not match uploaded content";
            return Reply::error_detail(400, "DIGEST_INVALID", message, digest);
        }
        let bytes = (self.keep == Keep::Bytes).then(|| session.bytes.freeze());
        self.commit(&call.repository, &digest, session.size, bytes);
        self.write(|state| state.sessions.remove(&call.reference));
        created(call, &digest)
    }

    pub fn upload_status(&self, call: &Call) -> Reply {
        match self.take_session(call) {
            Ok(session) => {
                let range = session.range();
                let reply = progress(204, call, &call.reference, &session).with("Range", range);
                self.put_back(&call.reference, session);
                reply
            }
            Err(reply) => reply,
        }
    }

    pub fn cancel_upload(&self, call: &Call) -> Reply {
        match self.take_session(call) {
            Ok(_) => {
                self.write(|state| state.sessions.remove(&call.reference));
                Reply::new(204).with("Docker-Upload-Uuid", &call.reference)
            }
            Err(reply) => reply,
        }
    }

    /// Takes the session out, if the request came by its newest address.
    fn take_session(&self, call: &Call) -> Result<Session, Reply> {
        self.write(|state| {
            let Some(slot) = state.sessions.get_mut(&call.reference) else {
                let message = "blob upload unknown to registry";
                return Err(Reply::error(404, "BLOB_UPLOAD_UNKNOWN", message));
            };
            let current = slot.as_ref().map(|session| session.state(&call.reference));
            if current.is_none() || call.raw_param("_state") != current.as_deref() {
                return Err(Reply::error(404, "BLOB_UPLOAD_INVALID", "blob upload invalid"));
            }
            Ok(slot.take().expect("just seen"))
        })
    }

    fn put_back(&self, id: &str, session: Session) {
        self.write(|state| state.sessions.insert(id.to_owned(), Some(session)));
    }

    pub fn drop_session(&self, id: &str) {
        self.write(|state| {
            state.sessions.get_mut(id).map(Option::take);
        });
    }

    /// The address before the last step is the one that counts.
    pub fn keep_address(&self, id: &str) {
        self.write(|state| {
            if let Some(Some(session)) = state.sessions.get_mut(id) {
                session.step -= 1;
            }
        });
    }

    pub fn drop_sessions(&self) {
        self.write(|state| state.sessions.values_mut().for_each(|slot| *slot = None));
    }

    /// Forgets what was uploaded, but not the session.
    pub fn empty_session(&self, id: &str) {
        self.write(|state| {
            if let Some(Some(session)) = state.sessions.get_mut(id) {
                let (step, claimed) = (session.step, session.claimed);
                *session = Session { step, claimed, ..Session::default() };
            }
        });
    }

    pub fn open_sessions(&self) -> usize {
        self.read(|state| state.sessions.values().flatten().count())
    }
}

async fn refuse(body: &mut RequestBody, reply: Reply) -> Reply {
    let _ = body.discard().await;
    reply
}

fn verified(session: &Session, digest: &str) -> bool {
    if digest.starts_with("sha256:") {
        session.hasher.clone().finish() == digest
    } else {
        same_algorithm(digest, &session.bytes).as_deref() == Some(digest)
    }
}

/// `Content-Range` is `first-last`, and begins where the session ends.
fn bad_content_range(call: &Call, session: &Session) -> Option<Reply> {
    let text = call.header("content-range")?;
    let bounds = text.split_once('-').map(|(a, b)| (a.parse::<u64>(), b.parse::<u64>()));
    match bounds {
        Some((Ok(first), Ok(_))) if first == session.claimed => None,
        Some((Ok(_), Ok(_))) => {
            let range = session.range();
            Some(progress(416, call, &call.reference, session).with("Range", range))
        }
        _ => Some(Reply::error(400, "BLOB_UPLOAD_INVALID", "invalid Content-Range")),
    }
}

fn progress(status: u16, call: &Call, id: &str, session: &Session) -> Reply {
    let location =
        format!("{}/v2/{}/blobs/uploads/{id}?_state={}", call.origin(), call.repository, session.state(id));
    Reply::new(status).with("Location", location).with("Docker-Upload-Uuid", id)
}

fn created(call: &Call, digest: &str) -> Reply {
    let location = format!("{}/v2/{}/blobs/{digest}", call.origin(), call.repository);
    Reply::new(201).with("Location", location).with("Docker-Content-Digest", digest)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({} bytes)", self.size)
    }
}
