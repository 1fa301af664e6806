//! The verbs of a store, as the one in memory keeps them.

use std::sync::Arc;

use serde_json::json;

use super::memory::{Act, Fault, Store};
use super::*;
use crate::error::Kind;
use crate::image::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::image::reference::{Algorithm, Digest, Location, TagOrDigest};
use crate::store::{Head, Held};

fn repository(name: &str) -> Repository {
    name.parse().unwrap()
}

fn location(repository_name: &str, tag: &str) -> Location {
    Location { repository: repository(repository_name), name: TagOrDigest::Tag(tag.parse().unwrap()) }
}

fn image(blobs: &[&Descriptor], subject: Option<&Manifest>) -> Manifest {
    let named: Vec<_> = blobs.iter().map(|blob| descriptor(&blob.digest, blob.size)).collect();
    let mut text =
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": named[0], "layers": named[1..] });
    if let Some(subject) = subject {
        text["subject"] = descriptor(&subject.digest, subject.bytes.len() as u64);
    }
    parse(&text)
}

fn descriptor(digest: &Digest, size: u64) -> serde_json::Value {
    json!({ "mediaType": OCI_MANIFEST, "digest": digest.as_str(), "size": size })
}

fn parse(text: &serde_json::Value) -> Manifest {
    Manifest::parse(text.to_string().into(), None, Algorithm::Sha256).unwrap()
}

#[tokio::test]
async fn a_tag_is_resolved_to_the_manifest_that_was_put_under_it() {
    let store = Arc::new(Store::new("place"));
    let config = store.add_blob(&repository("a"), "{}");
    let manifest = image(&[&config], None);
    let (source, target) = (Source::memory(&store), Target::memory(&store));
    let at = location("a", "1");
    assert_eq!(target.resolve(&at).await.unwrap(), Head::Absent);
    target.put_manifest(&at, &manifest, Role::Image).await.unwrap();
    assert_eq!(source.resolve(&at).await.unwrap(), Head::Found(manifest.digest.clone()));
    assert_eq!(source.manifest(&at, None).await.unwrap(), manifest);
    assert_eq!(target.manifest(&at, None).await.unwrap(), manifest);
    assert_eq!(store.digest_of(&at), Some(manifest.digest.clone()));
    assert_eq!(
        source.manifest(&at, Some(&Descriptor::of_blob(manifest.digest.clone(), 1))).await.unwrap_err().kind,
        Kind::Corrupt
    );
    assert_eq!(source.manifest(&location("b", "1"), None).await.unwrap_err().kind, Kind::NotFound);
    assert_eq!(target.has(&repository("a"), &config).await.unwrap(), Held::Bytes(2));
    assert_eq!(
        (target.has(&repository("b"), &config).await.unwrap(), target.holds()),
        (Held::Nothing, Holds::PerRepository)
    );
}

#[tokio::test]
async fn a_manifest_that_names_what_is_not_there_is_refused() {
    let elsewhere = Store::new("elsewhere");
    let config = elsewhere.add_blob(&repository("a"), "{}");
    let manifest = image(&[&config], None);
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(&manifest.digest, manifest.bytes.len() as u64)],
    });
    for (manifest, lacking) in [(&manifest, &config.digest), (&parse(&index), &manifest.digest)] {
        let strict = Target::memory(&Arc::new(Store::new("target")));
        let error = strict.put_manifest(&location("a", "1"), manifest, Role::Image).await.unwrap_err();
        assert_eq!(error.kind, Kind::BlobUnknown(vec![lacking.clone()]));
        let lax = Target::memory(&Arc::new(Store::new("target").taking_unverified()));
        lax.put_manifest(&location("a", "1"), manifest, Role::Image).await.unwrap();
    }
    let shared = Arc::new(Store::new("target").shared());
    shared.add_blob(&repository("b"), "{}");
    Target::memory(&shared).put_manifest(&location("a", "1"), &manifest, Role::Image).await.unwrap();
}

#[tokio::test]
async fn what_refers_to_a_manifest_is_listed() {
    let store = Arc::new(Store::new("place"));
    let config = store.add_blob(&repository("a"), "{}");
    let subject = image(&[&config], None);
    let about = image(&[&config], Some(&subject));
    store.add_manifest(&location("a", "1"), &subject);
    let target = Target::memory(&store);
    let digest = Location { name: TagOrDigest::Digest(about.digest.clone()), ..location("a", "1") };
    target.put_manifest(&digest, &about, Role::Referrer).await.unwrap();
    let source = Source::memory(&store);
    for listed in [
        source.referrers(&repository("a"), &subject.digest).await.unwrap(),
        target.referrers(&repository("a"), &subject.digest).await.unwrap(),
    ] {
        assert_eq!(
            listed.into_iter().map(|entry| entry.digest).collect::<Vec<_>>(),
            std::slice::from_ref(&about.digest)
        );
    }
}

#[tokio::test]
async fn acts_are_noted_in_order_and_fail_as_scripted() {
    let store = Arc::new(Store::new("place"));
    let config = store.add_blob(&repository("a"), "{}");
    let mut first = true;
    store.script(move |act| match act {
        Act::PutManifest(..) if std::mem::take(&mut first) => {
            vec![Fault::Fail(Kind::BlobUnknown(Vec::new()))]
        }
        _ => Vec::new(),
    });
    let (at, manifest) = (location("a", "1"), image(&[&config], None));
    let target = Target::memory(&store);
    let error = target.put_manifest(&at, &manifest, Role::Image).await.unwrap_err();
    assert_eq!(error.kind, Kind::BlobUnknown(Vec::new()));
    target.put_manifest(&at, &manifest, Role::Image).await.unwrap();
    let put = Act::PutManifest(at, manifest.digest);
    let noted: Vec<_> = store.journal().into_iter().map(|entry| (entry.act, entry.done)).collect();
    assert_eq!(noted, [(put.clone(), false), (put, true)]);
}
