//! Blobs as a registry knows them: whether and in which size they are there, mounts, and the start of uploads.

use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, StatusCode};

use super::answer::Purpose;
use super::client::location_text;
use super::download::whole_length;
use super::failure::is_web_page;
use super::{Held, Registry, Start};
use crate::error::{Error, Kind};
use crate::image::manifest::Descriptor;
use crate::image::reference::{Digest, Repository};
use crate::store::patience::Patience;

impl Registry {
    /// What `repository` holds of a blob.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn held_blob(&self, repository: &Repository, digest: &Digest) -> Result<Held, Error> {
        let action = format!("HEAD blob {digest} of {repository}");
        let path = path(repository, digest);
        let call = self.call(Method::HEAD, Purpose::Blob, repository, path, action);
        match self.ask(&call).await {
            Ok(response) => {
                match response.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok()) {
                    Some(length) => Ok(Held::Bytes(length)),
                    None => self.held_blob_by_get(repository, digest).await,
                }
            }
            Err(error) if error.kind == Kind::NotFound => Ok(Held::Nothing),
            // Redirected to storage that signs for GET alone.
            Err(error) if matches!(error.kind, Kind::Storage | Kind::Unsupported) => {
                self.held_blob_by_get(repository, digest).await
            }
            Err(error) => Err(error),
        }
    }

    /// The same by fetching the first byte.
    async fn held_blob_by_get(&self, repository: &Repository, digest: &Digest) -> Result<Held, Error> {
        let action = format!("GET the size of blob {digest} of {repository}");
        let path = path(repository, digest);
        let call = self.call(Method::GET, Purpose::Blob, repository, path, action);
        match self.ask(&call.range(0, 0)).await {
            Ok(response) => Ok(whole_length(&response).map_or(Held::Something, Held::Bytes)),
            Err(error) if error.kind == Kind::NotFound => Ok(Held::Nothing),
            // Nothing else has no first byte.
            Err(error) if error.status == Some(416) => Ok(Held::Bytes(0)),
            Err(error) => Err(error),
        }
    }

    /// Starts an upload, once, without another try: the blob as a whole has that.
    ///
    /// With `mount`, the same request offers to take the blob from another repository of this registry, which
    /// may be `repository` itself and then only asks whether the blob is there (distribution-spec, "Mounting a
    /// blob from another repository").
    ///
    /// # Errors
    /// The registry takes no uploads here.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        mount: Option<Mount<'_>>,
    ) -> Result<Start, Error> {
        let path = format!("/v2/{repository}/blobs/uploads/");
        let call = |path, action| self.call(Method::POST, Purpose::Upload, repository, path, action);
        let start = format!("start an upload to {repository}");
        let call = match mount {
            None => call(path, start),
            Some(mount) => {
                let from = mount.from;
                let path = format!("{path}?mount={}&from={from}", blob.digest);
                if from == repository {
                    call(path, start)
                } else {
                    let action = format!("mount blob {} from {from} to {repository}", blob.digest);
                    let scopes = self.auth.scopes_of_mount(repository, from, mount.beside);
                    call(path, action).scopes(scopes).with_one_token(mount.one_token)
                }
            }
        };
        let response = self.try_once(&call, &mut Patience::new(&self.policy)).await?;
        let action = call.action;
        match response.status() {
            StatusCode::CREATED if !is_web_page(response.headers()) => {
                Ok(Start::There { named: names(response.headers(), &blob.digest) })
            }
            _ => {
                self.uploads.note_started(response.headers());
                Ok(Start::Session(self.location(response.url(), response.headers(), &action)?))
            }
        }
    }
}

/// The offer of a mount.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    pub from: &'a Repository,
    /// Repositories that further blobs are likely to be mounted from.
    pub beside: &'a [Repository],
    /// Not worth a second token where the first is refused.
    pub one_token: bool,
}

/// Whether the answer to a mount is about this blob (distribution-spec, "Mounting a blob from another repository": its
/// `Location`; most registries tell the digest as well).
fn names(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    let told = headers.get("docker-content-digest").and_then(|told| told.to_str().ok());
    match told {
        Some(told) => told.trim() == digest,
        None => location_text(headers).is_some_and(|location| {
            let path = location.split(['?', '#']).next().unwrap_or_default();
            path.ends_with(&digest) || path.ends_with(&digest.replace(':', "%3A"))
        }),
    }
}

/// The path of a blob in `repository`.
pub(super) fn path(repository: &Repository, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}
