//! Manifests: asked for, fetched and verified, put, byte for byte.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode};

use super::answer::Purpose;
use super::client::Call;
use super::content_coding::{self, Decoder};
use super::failure::is_web_page;
use super::retry::{Attempt, Rule};
use super::{Head, Registry, Stored};
use crate::error::{Code, Error, Kind, Remedy};
use crate::image::manifest::{self, Content, Descriptor, Manifest, ManifestError};
use crate::image::reference::{Algorithm, Digest, Location, TagOrDigest};
use crate::store::patience::Patience;

impl Registry {
    /// Which digest `location` has, by HEAD (distribution-spec, "Checking if content exists in the registry").
    ///
    /// # Errors
    /// The registry cannot be reached or does not let us in. That something does not exist is no error.
    pub async fn head_manifest(&self, location: &Location) -> Result<Head, Error> {
        match self.ask(&self.manifest_call(Method::HEAD, location)).await {
            Ok(response) => {
                // Only a 200 says that it is there (distribution-spec); after any other success its bytes tell.
                let declared = declared_digest(&response).filter(|_| response.status() == StatusCode::OK);
                Ok(declared.map_or(Head::Mute, Head::Found))
            }
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

    /// Fetches a manifest, verified: against the digest it is asked for by, or that the answer names, and against the
    /// descriptor that has `pinned` it, whose media type it gets.
    ///
    /// # Errors
    /// It does not exist, is damaged, or is no manifest that can be mirrored.
    pub async fn get_manifest(
        &self,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        let fetching = Fetching { registry: self, location, pinned, damaged: false };
        self.retry(&mut Patience::new(&self.policy), fetching).await
    }

    async fn read_manifest(
        &self,
        response: Response,
        location: &Location,
        pinned: Option<&Descriptor>,
    ) -> Result<Manifest, Error> {
        let action = format!("GET manifest {location}");
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let declared = declared_digest(&response);
        let encoded = content_coding::is_gzip(&response);
        let mut bytes = self.read_manifest_bytes(response, &action).await?;
        if encoded && bytes.starts_with(&[0x1f, 0x8b]) {
            let decoded = Decoder::new().decode(&bytes, self.policy.manifest_max as u64);
            bytes = decoded.map_err(|why| self.error(Kind::Invalid, action.clone(), why.to_owned()))?;
        }
        let algorithm = match &location.name {
            TagOrDigest::Digest(digest) => digest.algorithm(),
            TagOrDigest::Tag(_) => Algorithm::Sha256,
        };
        if let TagOrDigest::Digest(expected) = &location.name {
            let actual = Digest::of(algorithm, &bytes);
            if actual != *expected {
                let why = format!("its bytes are not what was asked for: they have the digest {actual}");
                return Err(self.error(Kind::Corrupt, action, why));
            }
        }
        let size = pinned.map(|pinned| pinned.size);
        if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
            let why = format!("it has {} bytes where its index says {size}", bytes.len());
            return Err(self.error(Kind::Corrupt, action, why));
        }
        let proven = match (&location.name, declared) {
            (TagOrDigest::Digest(_), _) => Some(true),
            (TagOrDigest::Tag(_), declared) => {
                declared.map(|declared| Digest::of(declared.algorithm(), &bytes) == declared)
            }
        };
        // What an index says of its parts is pinned with it; a header is not.
        let pinned = pinned
            .and_then(|pinned| Manifest::parse(bytes.clone(), Some(&pinned.media_type), algorithm).ok());
        let parsed = pinned.map_or_else(|| Manifest::parse(bytes, media_type.as_deref(), algorithm), Ok);
        let (kind, why) = match (parsed, proven) {
            (Ok(manifest), Some(true) | None) => return Ok(manifest),
            (Err(error @ ManifestError::SchemaOne), _) => (Kind::Invalid, error.to_string()),
            (Err(error), Some(true)) => (Kind::Invalid, error.to_string()),
            (Err(error @ (ManifestError::NotJson(_) | ManifestError::WebPage)), _) => {
                (Kind::Corrupt, error.to_string())
            }
            (Err(error), None) => (Kind::Invalid, error.to_string()),
            (Ok(_) | Err(_), Some(false)) => {
                (Kind::Corrupt, "its bytes do not have the digest that the answer names".to_owned())
            }
        };
        Err(self.error(kind, action, why))
    }

    pub(super) async fn read_manifest_bytes(&self, response: Response, action: &str) -> Result<Bytes, Error> {
        let limit = self.policy.manifest_max;
        self.read_body(response, limit, action).await.map_err(|error| match error.kind {
            Kind::Invalid => error.with_remedy(Remedy::LargerManifests),
            _ => error,
        })
    }

    fn manifest_call<'a>(&self, method: Method, location: &'a Location) -> Call<'a> {
        let action = format!("{method} manifest {location}");
        let call =
            self.call(method, Purpose::Manifest, &location.repository, manifest_path(location), action);
        call.accept(manifest::ACCEPT)
    }

    /// Puts a manifest under a tag or its digest, byte for byte (distribution-spec, "Pushing Manifests").
    ///
    /// # Errors
    /// The registry refuses it ([`Kind::BlobUnknown`] if it misses content), or says that it stored something else.
    pub async fn put_manifest(&self, location: &Location, manifest: &Manifest) -> Result<Stored, Error> {
        let media_type = HeaderValue::from_str(&manifest.media_type);
        let media_type = media_type.expect("a known media type is a valid header value");
        let path = manifest_path(location);
        let action = format!("PUT manifest {location}");
        let call = self.call(Method::PUT, Purpose::ManifestPut, &location.repository, path, action.clone());
        let call = call.header(CONTENT_TYPE, media_type).body(manifest.bytes.clone());
        let answer = match self.ask(&call).await {
            // The bytes have the digest here: they were damaged on the way.
            Err(error) if error.has(Code::DigestInvalid) => self.ask(&call).await,
            answer => answer,
        };
        let response = answer.map_err(|error| explain_refusal(error, manifest))?;
        self.check_stored(&response, location, manifest, action).await?;
        Ok(Stored { lists_referrers: response.headers().contains_key("oci-subject") })
    }

    /// Believes that a manifest is stored where the answer to its PUT names its digest, and asks otherwise: any server
    /// may answer anything with a success.
    async fn check_stored(
        &self,
        response: &Response,
        location: &Location,
        manifest: &Manifest,
        action: String,
    ) -> Result<(), Error> {
        let status = response.status();
        let refuse = |why| {
            let error = self.error(Kind::Invalid, action.clone(), why);
            Err(Error { status: Some(status.as_u16()), ..error })
        };
        if is_web_page(response.headers()) {
            return refuse(format!("it answers {} with a web page", status.as_u16()));
        }
        let declared = declared_digest(response).filter(|_| matches!(status.as_u16(), 200 | 201 | 204));
        let stored = match declared {
            Some(stored) => Some(stored),
            None => self.digest_there(location).await?,
        };
        match stored {
            Some(stored) if stored != Digest::of(stored.algorithm(), &manifest.bytes) => {
                refuse(format!("it stored other bytes than it was sent: {stored} for {}", manifest.digest))
            }
            Some(_) => Ok(()),
            None => refuse(format!("it answers {} and has not stored it", status.as_u16())),
        }
    }

    /// The digest of what `location` has by now, if anything: by the registry's word, or by the bytes.
    async fn digest_there(&self, location: &Location) -> Result<Option<Digest>, Error> {
        match self.head_manifest(location).await? {
            Head::Found(digest) => Ok(Some(digest)),
            Head::Absent => Ok(None),
            Head::Mute => match self.get_manifest(location, None).await {
                Ok(manifest) => Ok(Some(manifest.digest)),
                Err(error) if error.kind == Kind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

/// A manifest on its way, and all that is known of it.
struct Fetching<'a> {
    registry: &'a Registry,
    location: &'a Location,
    /// How an index describes it.
    pinned: Option<&'a Descriptor>,
    /// It came damaged: a cache on the way may be the culprit.
    damaged: bool,
}

impl Attempt for Fetching<'_> {
    type Done = Manifest;
    const RULE: Rule = Rule::Manifest;

    async fn make(&mut self, patience: &mut Patience) -> Result<Manifest, Error> {
        let call = self.registry.manifest_call(Method::GET, self.location).past_caches(self.damaged);
        let response = self.registry.ask_in_turn(&call, patience).await?;
        let read = self.registry.read_manifest(response, self.location, self.pinned).await;
        self.damaged |= read.as_ref().is_err_and(|error| error.kind == Kind::Corrupt);
        read
    }
}

fn manifest_path(location: &Location) -> String {
    format!("/v2/{}/manifests/{}", location.repository, location.name.as_str())
}

/// Why a registry may not take a manifest as it is, where that can be told.
fn explain_refusal(error: Error, manifest: &Manifest) -> Error {
    let remedy = match (&error.kind, &manifest.content) {
        _ if error.has(Code::DigestInvalid) => return error,
        (Kind::Invalid | Kind::BlobUnknown(_), Content::Image(layers))
            if layers.iter().any(Descriptor::is_foreign) =>
        {
            Remedy::ForeignLayers
        }
        (Kind::Unsupported | Kind::Invalid | Kind::NotFound, _) => {
            Remedy::MediaType(manifest.media_type.clone())
        }
        _ => return error,
    };
    error.with_remedy(remedy)
}

fn declared_digest(response: &Response) -> Option<Digest> {
    response.headers().get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Side;
    use crate::store::registry::Scheme;
    use crate::store::registry::canned::Canned;

    #[tokio::test]
    async fn a_damaged_manifest_is_asked_for_once_more_past_caches() {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            "application/vnd.oci.image.index.v1+json"
        );
        let digest = Digest::of(Algorithm::Sha256, bytes.as_bytes());
        let location = Location { repository: "a/b".parse().unwrap(), name: TagOrDigest::Digest(digest) };
        for (heals, asked) in [(true, 2), (false, 2)] {
            let good = bytes.clone();
            let cache = Canned::start(move |head| {
                let fresh = head.to_ascii_lowercase().contains("cache-control: no-cache");
                let body = if fresh && heals { good.clone() } else { "damaged".to_owned() };
                (200, String::new(), body)
            })
            .await;
            let registry = Registry::for_test(Side::Source, &cache.host, Scheme::Http, 5);
            let fetched = registry.get_manifest(&location, None).await;
            assert_eq!((fetched.is_ok(), cache.count("GET")), (heals, asked));
        }
    }

    #[tokio::test]
    async fn what_is_absent_costs_no_search_for_secrets() {
        let absent = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none for hunter2"}]}"#;
        let empty = Canned::start(move |_| (404, String::new(), absent.to_owned())).await;
        let registry = Registry::for_test(Side::Source, &empty.host, Scheme::Http, 0);
        registry.redactor().learn("hunter2");
        let location =
            Location { repository: "a/b".parse().unwrap(), name: TagOrDigest::Tag("1".parse().unwrap()) };
        for _ in 0..3 {
            let error = registry.get_manifest(&location, None).await.unwrap_err();
            assert_eq!(error.kind, Kind::NotFound);
        }
        assert_eq!(registry.redactor().searches(), 0);
        let told = registry.get_manifest(&location, None).await.unwrap_err().to_string();
        assert!(told.ends_with("404 MANIFEST_UNKNOWN none for ***"), "{told}");
        assert_eq!(registry.redactor().searches(), 1);
    }
}
