//! An in-process registry: correct first, and then as wrong as its rules say.

pub mod auth;
pub(super) mod jwt;
mod manifests;
pub(super) mod store;
pub mod token;
mod uploads;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use auth::Auth;
pub use store::{Damage, Keep};
pub use token::TokenService;

use super::content::{Content, Manifest};
use super::digest::Digest;
use super::fault::{Rule, Rules};
use super::journal::Op;
use super::net::call::{Call, RequestBody};
use super::net::reply::Reply;
use super::net::{Endpoint, Guard, Host, Service, Shared};
use super::tls::Identity;
use store::Store;

pub struct RegistryBuilder {
    net: Arc<Shared>,
    name: String,
    endpoint: Endpoint,
    auth: Auth,
    keep: Keep,
    content: Content,
    rules: Vec<Rule>,
    store: Option<Arc<Store>>,
}

impl RegistryBuilder {
    pub(super) fn new(net: Arc<Shared>, name: &str) -> Self {
        Self {
            net,
            name: name.to_owned(),
            endpoint: Endpoint::default(),
            auth: Auth::None,
            keep: Keep::Bytes,
            content: Content::new(),
            rules: Vec::new(),
            store: None,
        }
    }

    pub fn content(mut self, content: &Content) -> Self {
        self.content.merge(content);
        self
    }

    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// What to do with bodies that are pushed.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    pub fn rules(mut self, rules: Vec<Rule>) -> Self {
        self.rules.extend(rules);
        self
    }

    pub fn tls(mut self) -> Self {
        self.endpoint.tls = true;
        self
    }

    /// TLS with these names in the certificate, besides loopback.
    pub fn tls_names(mut self, names: &[&str]) -> Self {
        self.endpoint.names = names.iter().map(|name| (*name).to_owned()).collect();
        self.tls()
    }

    /// TLS with a certificate made for the occasion: expired, or for another name.
    pub fn tls_identity(mut self, identity: Identity) -> Self {
        self.endpoint.identity = Some(Arc::new(identity));
        self.tls()
    }

    pub fn ipv6(mut self) -> Self {
        self.endpoint.ipv6 = true;
        self
    }

    pub fn idle_close(mut self, after: Duration) -> Self {
        self.endpoint.idle_close = Some(after);
        self
    }

    /// A small receive buffer, so that a server that stops reading is felt early.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.endpoint.receive_buffer = Some(bytes);
        self
    }

    /// A second door to another registry's store: a replica, or the same one by TLS.
    pub fn share(mut self, other: &Registry) -> Self {
        self.store = Some(other.store().clone());
        self
    }

    pub fn start(self) -> Registry {
        let store = self.store.unwrap_or_else(|| Arc::new(Store::new(self.net.clone(), self.keep)));
        store.add(&self.content);
        let service = RegistryService { store: store.clone(), auth: self.auth };
        let make = |_| Service::Registry(service);
        let (inner, _guard) = Host::start(&self.net, &self.name, &self.endpoint, make, self.rules);
        Registry { inner, store, _guard }
    }
}

/// A running registry; closes when dropped.
pub struct Registry {
    inner: Arc<Host>,
    store: Arc<Store>,
    _guard: Guard,
}

impl Registry {
    pub fn addr(&self) -> SocketAddr {
        self.inner.addr
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        self.inner.addr.to_string()
    }

    pub fn url(&self) -> String {
        self.inner.url()
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn add(&self, content: &Content) {
        self.store.add(content);
    }

    /// Adds a rule to the running registry.
    pub fn fault(&self, rule: Rule) -> &Self {
        self.rules().add(rule);
        self
    }

    pub fn clear_faults(&self) {
        self.rules().clear();
    }

    fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// Refuses connections until `come_up`, and drops those it has.
    pub fn go_down(&self) {
        self.inner.up.send_replace(false);
    }

    pub fn come_up(&self) {
        self.inner.up.send_replace(true);
    }

    pub fn down_for(&self, time: Duration) {
        self.inner.down_for(time);
    }

    /// What a restart without a fixed secret does.
    pub fn drop_sessions(&self) {
        self.store.drop_sessions();
    }

    pub fn open_sessions(&self) -> usize {
        self.store.open_sessions()
    }
}

/// What it holds, and how to spoil it.
impl Registry {
    pub fn digest_of(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.store.read(|state| state.repositories.get(repository)?.tags.get(tag).cloned())
    }

    pub fn manifest(&self, digest: &str) -> Option<Manifest> {
        self.store.read(|state| state.manifests.get(digest).cloned())
    }

    /// The size on offer, whatever it should be.
    pub fn blob_size(&self, repository: &str, digest: &str) -> Option<u64> {
        self.store.read(|state| Some(state.blob(repository, digest)?.served()))
    }

    pub fn blob_bytes(&self, repository: &str, digest: &str) -> Option<Bytes> {
        let blob = self.store.read(|state| state.blob(repository, digest)?.blob.clone())?;
        Some(blob.bytes())
    }

    /// A copy of everything, as content again. Blobs whose bytes were not kept are left out.
    pub fn content(&self) -> Content {
        self.store.read(|state| Content {
            blobs: state.blobs.iter().filter_map(|(d, s)| Some((d.clone(), s.blob.clone()?))).collect(),
            manifests: state.manifests.clone().into_iter().collect(),
            repositories: state.repositories.clone(),
        })
    }

    /// Tags of images that could not be pulled whole, as `repository:tag`.
    pub fn incomplete_tags(&self) -> Vec<String> {
        self.store.read(|state| {
            let tags = state.repositories.iter().flat_map(|(name, repository)| {
                repository.tags.iter().map(move |(tag, digest)| (name, tag, digest))
            });
            let broken = tags.filter(|(name, _, digest)| !manifests::is_complete(state, name, digest));
            broken.map(|(name, tag, _)| format!("{name}:{tag}")).collect()
        })
    }

    pub fn set_tag(&self, repository: &str, tag: &str, digest: &str) {
        self.store.set_tag(repository, tag, digest);
    }

    /// From now on an index may name manifests that are not there.
    pub fn take_sparse_indexes(&self) {
        self.store.write(|state| state.takes_sparse_indexes = true);
    }

    /// From now on a manifest may name blobs and manifests that are not there.
    pub fn take_unverified_manifests(&self) {
        self.store.write(|state| state.takes_unverified_manifests = true);
    }

    /// From now on a blob that is pushed takes the place of a damaged one.
    pub fn replace_damaged_blobs(&self) {
        self.store.write(|state| state.replaces_damaged = true);
    }

    /// From now on a manifest may have so many bytes.
    pub fn take_manifests_up_to(&self, bytes: usize) {
        self.store.write(|state| state.manifest_limit = bytes);
    }

    /// From now on it lists what refers to a manifest, so many entries on a page.
    pub fn list_referrers(&self, page: usize) {
        self.store.write(|state| state.referrers_page = Some(page));
    }

    pub fn delete_tag(&self, repository: &str, tag: &str) {
        self.store.write(|state| {
            state.repository(repository).tags.remove(tag);
        });
    }

    pub fn delete_manifest(&self, repository: &str, digest: &str) {
        self.store.write(|state| {
            let repository = state.repository(repository);
            repository.manifests.remove(digest);
            repository.tags.retain(|_, tagged| tagged != digest);
        });
    }

    /// The file is gone: 404 everywhere until it is pushed again.
    pub fn delete_blob(&self, digest: &str) {
        self.store.write(|state| state.blobs.remove(digest));
    }

    /// The blob is no longer part of this repository.
    pub fn unlink_blob(&self, repository: &str, digest: &str) {
        self.store.unlink_blob(repository, digest);
    }

    /// The file is short. As in distribution, pushing it again answers 201 and heals nothing.
    pub fn truncate_blob(&self, digest: &str, size: u64) {
        self.store.damage(digest, Damage::Truncated(size));
    }

    pub fn flip_blob(&self, digest: &str, at: u64) {
        self.store.damage(digest, Damage::Flipped(at));
    }
}

/// The distribution API over a store.
pub(super) struct RegistryService {
    pub store: Arc<Store>,
    pub auth: Auth,
}

impl RegistryService {
    pub async fn answer(&self, host: &Host, call: &Call, body: &mut RequestBody) -> Reply {
        if let Err(refusal) = self.auth.check(host, call) {
            let _ = body.discard().await;
            return refusal;
        }
        let reply = match call.op {
            Op::Ping => Reply::json(200, &serde_json::json!({})),
            Op::ManifestGet | Op::ManifestHead => self.store.manifest_reply(&call.repository, call),
            Op::ManifestPut => self.store.put_manifest(call, body).await,
            Op::BlobGet | Op::BlobHead => self.store.blob_reply(&call.repository, call),
            Op::UploadStart | Op::Mount => self.store.start_upload(call, body).await,
            Op::UploadPatch => self.store.patch_upload(call, body).await,
            Op::UploadPut => self.store.finish_upload(call, body).await,
            Op::UploadStatus => self.store.upload_status(call),
            Op::UploadDelete => self.store.cancel_upload(call),
            Op::TagsList => self.store.tags_reply(call),
            Op::Referrers => self.store.referrers_reply(call),
            _ => Reply::text(404, "404 page not found\n"),
        };
        reply.with("Docker-Distribution-Api-Version", "registry/2.0")
    }
}
