//! Manifests: asked for, fetched and verified, put, byte for byte.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};

use super::answer::Purpose;
use super::client::Call;
use super::content_coding::{self, Decoder};
use super::retry::{Attempt, Patience, Rule};
use super::{Head, Peer, Stored};
use crate::error::{Error, Kind, Remedy};
use crate::manifest::{self, Content, Descriptor, Manifest};
use crate::reference::{Algorithm, Digest, Name, Spot};

impl Peer {
    /// Which digest `spot` has, by HEAD (distribution-spec, "Checking if content exists in the registry").
    ///
    /// # Errors
    /// The registry cannot be reached or does not let us in. That something does not exist is no error.
    pub async fn head_manifest(&self, spot: &Spot) -> Result<Head, Error> {
        match self.ask(&self.manifest_call(Method::HEAD, spot)).await {
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
        let fetching = Fetching { peer: self, spot, size, damaged: false };
        self.retry(&mut Patience::new(&self.policy), fetching).await
    }

    async fn read_manifest(
        &self,
        response: Response,
        spot: &Spot,
        size: Option<u64>,
    ) -> Result<Manifest, Error> {
        let action = format!("GET manifest {spot}");
        let media_type =
            response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).map(str::to_owned);
        let encoded = content_coding::is_gzip(&response);
        let mut bytes = self.read_manifest_bytes(response, &action).await?;
        if encoded && bytes.starts_with(&[0x1f, 0x8b]) {
            let decoded = Decoder::new().decode(&bytes, self.policy.manifest_max as u64);
            bytes = decoded.map_err(|why| self.error(Kind::Invalid, action.clone(), why.to_owned()))?;
        }
        let algorithm = match &spot.name {
            Name::Digest(digest) => digest.algorithm(),
            Name::Tag(_) => Algorithm::Sha256,
        };
        if let Name::Digest(expected) = &spot.name {
            let actual = Digest::of(algorithm, &bytes);
            if actual != *expected {
                let why = format!("its bytes are not what was asked for: they have the digest {actual}");
                return Err(self.error(Kind::Corrupt, action, why));
            }
        }
        if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
            let why = format!("it has {} bytes where its index says {size}", bytes.len());
            return Err(self.error(Kind::Corrupt, action, why));
        }
        Manifest::parse(bytes, media_type.as_deref(), algorithm)
            .map_err(|e| self.error(Kind::Invalid, action, e.to_string()))
    }

    pub(super) async fn read_manifest_bytes(&self, response: Response, action: &str) -> Result<Bytes, Error> {
        let limit = self.policy.manifest_max;
        self.read_body(response, limit, action).await.map_err(|error| match error.kind {
            Kind::Invalid => error.with_remedy(Remedy::LargerManifests),
            _ => error,
        })
    }

    fn manifest_call<'a>(&self, method: Method, spot: &'a Spot) -> Call<'a> {
        let action = format!("{method} manifest {spot}");
        let call = self.call(method, Purpose::Manifest, &spot.repository, manifest_path(spot), action);
        call.accept(manifest::ACCEPT)
    }

    /// Puts a manifest under a tag or its digest, byte for byte (distribution-spec, "Pushing Manifests").
    ///
    /// # Errors
    /// The registry refuses it ([`Kind::BlobUnknown`] if it misses content), or says that it stored something else.
    pub async fn put_manifest(&self, spot: &Spot, manifest: &Manifest) -> Result<Stored, Error> {
        let media_type = HeaderValue::from_str(&manifest.media_type);
        let media_type = media_type.expect("a known media type is a valid header value");
        let path = manifest_path(spot);
        let action = format!("PUT manifest {spot}");
        let call = self.call(Method::PUT, Purpose::ManifestPut, &spot.repository, path, action.clone());
        let call = call.header(CONTENT_TYPE, media_type).body(manifest.bytes.clone());
        let response = self.ask(&call).await.map_err(|error| explain_refusal(error, manifest))?;
        match declared_digest(&response) {
            Some(stored)
                if stored.algorithm() == manifest.digest.algorithm() && stored != manifest.digest =>
            {
                let why = format!("it stored other bytes than it was sent: {stored} for {}", manifest.digest);
                Err(self.error(Kind::Invalid, action, why))
            }
            _ => Ok(Stored { lists_referrers: response.headers().contains_key("oci-subject") }),
        }
    }
}

/// A manifest on its way, and all that is known of it.
struct Fetching<'a> {
    peer: &'a Peer,
    spot: &'a Spot,
    /// Bytes.
    size: Option<u64>,
    /// It came damaged: a cache on the way may be the culprit.
    damaged: bool,
}

impl Attempt for Fetching<'_> {
    type Done = Manifest;
    const RULE: Rule = Rule::Manifest;

    async fn make(&mut self, patience: &mut Patience) -> Result<Manifest, Error> {
        let call = self.peer.manifest_call(Method::GET, self.spot).past_caches(self.damaged);
        let response = self.peer.ask_in_turn(&call, patience).await?;
        let read = self.peer.read_manifest(response, self.spot, self.size).await;
        self.damaged |= read.as_ref().is_err_and(|error| error.kind == Kind::Corrupt);
        read
    }
}

fn manifest_path(spot: &Spot) -> String {
    format!("/v2/{}/manifests/{}", spot.repository, spot.name.as_str())
}

/// Why a registry may not take a manifest as it is, where that can be told.
fn explain_refusal(error: Error, manifest: &Manifest) -> Error {
    let remedy = match (&error.kind, &manifest.content) {
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
    use crate::registry::Scheme;
    use crate::registry::canned::Canned;

    #[tokio::test]
    async fn a_damaged_manifest_is_asked_for_once_more_past_caches() {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
            "application/vnd.oci.image.index.v1+json"
        );
        let digest = Digest::of(Algorithm::Sha256, bytes.as_bytes());
        let spot = Spot { repository: "a/b".parse().unwrap(), name: Name::Digest(digest) };
        for (heals, asked) in [(true, 2), (false, 2)] {
            let good = bytes.clone();
            let cache = Canned::start(move |head| {
                let fresh = head.to_ascii_lowercase().contains("cache-control: no-cache");
                let body = if fresh && heals { good.clone() } else { "damaged".to_owned() };
                (200, String::new(), body)
            })
            .await;
            let peer = Peer::for_test(Side::Source, &cache.host, Scheme::Http, 5);
            let fetched = peer.get_manifest(&spot, None).await;
            assert_eq!((fetched.is_ok(), cache.count("GET")), (heals, asked));
        }
    }

    #[tokio::test]
    async fn what_is_absent_costs_no_search_for_secrets() {
        let absent = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"none for hunter2"}]}"#;
        let empty = Canned::start(move |_| (404, String::new(), absent.to_owned())).await;
        let peer = Peer::for_test(Side::Source, &empty.host, Scheme::Http, 0);
        peer.redactor().learn("hunter2");
        let spot = Spot { repository: "a/b".parse().unwrap(), name: Name::Tag("1".parse().unwrap()) };
        for _ in 0..3 {
            let error = peer.get_manifest(&spot, None).await.unwrap_err();
            assert_eq!(error.kind, Kind::NotFound);
        }
        assert_eq!(peer.redactor().searches(), 0);
        let told = peer.get_manifest(&spot, None).await.unwrap_err().to_string();
        assert!(told.ends_with("404 MANIFEST_UNKNOWN none for ***"), "{told}");
        assert_eq!(peer.redactor().searches(), 1);
    }
}
