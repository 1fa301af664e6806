//! The verbs of a registry (OCI distribution-spec 1.1): manifests, blobs, uploads, mounts.

pub mod auth;
mod blob;
mod contact;
pub mod credentials;
mod encoding;
mod error;
mod exchange;
mod login;
pub mod proxies;
mod reach;
mod referrers;
pub mod retry;
pub mod tls;
mod transport;
mod trial;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

pub(crate) use self::blob::Download;
pub use self::error::{Error, Kind, Side};
pub use self::exchange::{Peer, REQUESTS_PER_HOST, Scheme};
pub use self::referrers::REFERRERS_MAX;
pub(crate) use self::trial::Trial;
pub(crate) use self::upload::Ladder;

use self::auth::Scopes;
use self::encoding::Decoder;
use self::error::Purpose;
use self::exchange::{Ask, At};
use self::retry::Patience;
use crate::manifest::{self, Content, Descriptor, Manifest};
use crate::reference::{Algorithm, Digest, Name, Repository, Spot};

/// What a HEAD of a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// It is there, with this digest by the registry's word.
    Found(Digest),
    Absent,
    /// This registry does not answer the question; only a GET can.
    Mute,
}

/// What a registry says of a manifest that it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whoever asks for what refers to the manifest's subject will be told of it (`OCI-Subject`).
    pub lists_referrers: bool,
}

/// What became of the wish to upload a blob.
#[derive(Debug)]
pub enum Start {
    /// The repository has it now, without a byte sent.
    There,
    /// The bytes are wanted at this address.
    Session(Url),
}

impl Peer {
    /// Which digest `spot` has, by HEAD (distribution-spec, "Checking if content exists in the registry").
    ///
    /// # Errors
    /// The registry cannot be reached or does not let us in. That something does not exist is no error.
    pub async fn head_manifest(&self, spot: &Spot) -> Result<Head, Error> {
        let mut patience = Patience::new(&self.policy);
        match self.manifest_request(Method::HEAD, spot, false, &mut patience).await {
            Ok(response) => Ok(declared_digest(&response).map_or(Head::Mute, Head::Found)),
            Err(error) => match error.kind {
                Kind::NotFound => Ok(Head::Absent),
                // Some do not do HEAD; some redirect it to storage that signs for GET alone.
                Kind::Unsupported | Kind::Storage => Ok(Head::Mute),
                // Why the request is bad would be in a body, and this answer has none.
                Kind::Invalid if error.status == Some(400) => Ok(Head::Mute),
                _ => Err(error),
            },
        }
    }

    /// Fetches a manifest, verified: against the digest it is asked for by, and `size` where that is known.
    ///
    /// # Errors
    /// It does not exist, is damaged, or is no manifest that can be mirrored.
    pub async fn get_manifest(&self, spot: &Spot, size: Option<u64>) -> Result<Manifest, Error> {
        let mut patience = Patience::new(&self.policy);
        let mut past_caches = false;
        loop {
            let response = self.manifest_request(Method::GET, spot, past_caches, &mut patience).await?;
            let error = match self.read_manifest(response, spot, size).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => error,
            };
            match patience.next(&error.kind, self.is_alive()) {
                Some(pause) => self.rest(pause, &error).await,
                // A cache on the way may be the culprit.
                None if error.kind == Kind::Corrupt && !past_caches => past_caches = true,
                None => return Err(error),
            }
        }
    }

    async fn read_manifest(
        &self,
        response: Response,
        spot: &Spot,
        size: Option<u64>,
    ) -> Result<Manifest, Error> {
        let doing = format!("GET manifest {spot}");
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let encoded = encoding::is_gzip(&response);
        let mut bytes = self.read_manifest_bytes(response, &doing).await?;
        if encoded && bytes.starts_with(&[0x1f, 0x8b]) {
            let decoded = Decoder::new().decode(&bytes, self.policy.manifest_max as u64);
            bytes = decoded.map_err(|why| self.error(Kind::Invalid, doing.clone(), why.to_owned()))?;
        }
        let algorithm = match &spot.name {
            Name::Digest(digest) => digest.algorithm(),
            Name::Tag(_) => Algorithm::Sha256,
        };
        if let Name::Digest(expected) = &spot.name {
            let actual = Digest::of(algorithm, &bytes);
            if actual != *expected {
                let why = format!("its bytes are not what was asked for: they have the digest {actual}");
                return Err(self.error(Kind::Corrupt, doing, why));
            }
        }
        if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
            let why = format!("it has {} bytes where its index says {size}", bytes.len());
            return Err(self.error(Kind::Corrupt, doing, why));
        }
        Manifest::parse(bytes, media_type.as_deref(), algorithm)
            .map_err(|e| self.error(Kind::Invalid, doing, e.to_string()))
    }

    async fn read_manifest_bytes(&self, response: Response, doing: &str) -> Result<Bytes, Error> {
        let limit = self.policy.manifest_max;
        self.read_body(response, limit, doing).await.map_err(|error| match error.kind {
            Kind::Invalid => {
                Error { hint: Some("--max-manifest-size allows up to 16 MiB".to_owned()), ..error }
            }
            _ => error,
        })
    }

    async fn manifest_request(
        &self,
        method: Method,
        spot: &Spot,
        past_caches: bool,
        patience: &mut Patience,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(manifest::ACCEPT));
        if past_caches {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        let doing = format!("{method} manifest {spot}");
        let ask = Ask {
            purpose: Purpose::Manifest,
            method,
            at: At::Path(format!("/v2/{}/manifests/{}", spot.repository, spot.name.as_str())),
            repository: &spot.repository,
            scopes: &self.scopes(&spot.repository),
            headers,
            body: None,
            doing,
        };
        self.ask_with(&ask, patience).await
    }

    /// Puts a manifest under a tag or its digest, byte for byte (distribution-spec, "Pushing Manifests").
    ///
    /// # Errors
    /// The registry refuses it ([`Kind::BlobUnknown`] if it misses content), or says that it stored something else.
    pub async fn put_manifest(&self, spot: &Spot, manifest: &Manifest) -> Result<Stored, Error> {
        let doing = format!("PUT manifest {spot}");
        let mut headers = HeaderMap::new();
        let media_type = HeaderValue::from_str(&manifest.media_type);
        headers.insert(CONTENT_TYPE, media_type.expect("a known media type is a valid header value"));
        let ask = Ask {
            purpose: Purpose::ManifestPut,
            method: Method::PUT,
            at: At::Path(format!("/v2/{}/manifests/{}", spot.repository, spot.name.as_str())),
            repository: &spot.repository,
            scopes: &self.scopes(&spot.repository),
            headers,
            body: Some(manifest.bytes.clone()),
            doing: doing.clone(),
        };
        let response = self.ask(&ask).await.map_err(|error| explain_refusal(error, manifest))?;
        match declared_digest(&response) {
            Some(stored)
                if stored.algorithm() == manifest.digest.algorithm() && stored != manifest.digest =>
            {
                let why = format!("it stored other bytes than it was sent: {stored} for {}", manifest.digest);
                Err(self.error(Kind::Invalid, doing, why))
            }
            _ => Ok(Stored { lists_referrers: response.headers().contains_key("oci-subject") }),
        }
    }

    /// The size in bytes of a blob in `repository`, or `None` if it is not there.
    ///
    /// # Errors
    /// The registry cannot be asked.
    pub async fn blob_size(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let ask = Ask {
            purpose: Purpose::Blob,
            method: Method::HEAD,
            at: At::Path(format!("/v2/{repository}/blobs/{digest}")),
            repository,
            scopes: &self.scopes(repository),
            headers: HeaderMap::new(),
            body: None,
            doing: format!("HEAD blob {digest} of {repository}"),
        };
        match self.ask(&ask).await {
            Ok(response) => {
                let length =
                    response.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok()?.parse().ok());
                Ok(length)
            }
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            // Redirected to storage that signs for GET alone.
            Err(error) if matches!(error.kind, Kind::Storage | Kind::Unsupported) => {
                self.blob_size_by_get(repository, digest).await
            }
            Err(error) => Err(error),
        }
    }

    /// The size of a blob by fetching its first byte.
    async fn blob_size_by_get(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        let ask = Ask {
            purpose: Purpose::Blob,
            method: Method::GET,
            at: At::Path(format!("/v2/{repository}/blobs/{digest}")),
            repository,
            scopes: &self.scopes(repository),
            headers,
            body: None,
            doing: format!("GET the size of blob {digest} of {repository}"),
        };
        match self.ask(&ask).await {
            Ok(response) => Ok(blob::whole_length(&response)),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts an upload, once, without another try: the blob as a whole has that.
    ///
    /// With `mount_from`, the same request offers to take the blob from that repository of this registry, which
    /// may be `repository` itself and then only asks whether the blob is there (distribution-spec, "Mounting a
    /// blob from another repository").
    ///
    /// # Errors
    /// The registry takes no uploads here.
    pub async fn start_upload(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        mount_from: Option<&Repository>,
    ) -> Result<Start, Error> {
        let doing = match mount_from {
            Some(from) if from != repository => {
                format!("mount blob {} from {from} to {repository}", blob.digest)
            }
            _ => format!("start an upload to {repository}"),
        };
        let (path, scopes) = match mount_from {
            Some(from) => {
                let query = format!("?mount={}&from={from}", blob.digest);
                let scopes = Scopes::push(repository.as_str());
                let scopes =
                    if from == repository { scopes } else { scopes.and(Scopes::pull(from.as_str())) };
                (format!("/v2/{repository}/blobs/uploads/{query}"), scopes)
            }
            None => (format!("/v2/{repository}/blobs/uploads/"), Scopes::push(repository.as_str())),
        };
        let ask = Ask {
            purpose: Purpose::Upload,
            method: Method::POST,
            at: At::Path(path),
            repository,
            scopes: &scopes,
            headers: HeaderMap::new(),
            body: None,
            doing: doing.clone(),
        };
        let mut patience = retry::Patience::new(&self.policy);
        let response = self.ask_once(&ask, &mut patience).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Start::There),
            _ => {
                self.uploads.note_started(response.headers());
                Ok(Start::Session(self.location(response.url(), response.headers(), &doing)?))
            }
        }
    }

    /// Waits `pause` after `error`; together with all who talk to this host if that is the host's wish.
    pub async fn pause(&self, pause: Duration, error: &Error) {
        self.rest(pause, error).await;
    }

    fn scopes(&self, repository: &Repository) -> Scopes {
        match self.side {
            Side::Source => Scopes::pull(repository.as_str()),
            Side::Target => Scopes::push(repository.as_str()),
        }
    }
}

/// Why a registry may not take a manifest as it is, where that can be told.
fn explain_refusal(error: Error, manifest: &Manifest) -> Error {
    let hint = match (&error.kind, &manifest.content) {
        (Kind::Invalid | Kind::BlobUnknown(_), Content::Image(layers)) if layers.iter().any(Descriptor::is_foreign) => {
            "it names layers that are not to be copied; docker-registry takes them where validation.manifests.urls allows their addresses".to_owned()
        }
        (Kind::Unsupported | Kind::Invalid | Kind::NotFound, _) => {
            format!("the target may not accept {}; nothing is converted silently", manifest.media_type)
        }
        _ => return error,
    };
    Error { hint: Some(hint), ..error }
}

fn declared_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}
