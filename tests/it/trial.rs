//! The trial is an example of its own; here its judge has to show that it can say no.

#[path = "../trial/judge.rs"]
mod judge;

use judge::{Found, Judge, Name};

use crate::support::content::{SetOptions, mirror_set};
use crate::support::{Content, Net, Registry};

/// Two registries that hold the same five images: one each of OCI and Docker, index and single manifest.
struct Pair {
    content: Content,
    net: Net,
    source: Registry,
    target: Registry,
}

impl Pair {
    fn new() -> Self {
        let names: Vec<_> =
            (0..5).map(|n| ("quay.io".to_owned(), format!("a/b{n}"), "v1".to_owned())).collect();
        let content = mirror_set(&names, &SetOptions::default());
        let net = Net::new();
        let source = net.registry("source").content(&content).start();
        let target = net.registry("target").content(&content).start();
        Self { content, net, source, target }
    }

    async fn judge(&self) -> anyhow::Result<Found> {
        let name = |(repository, tag, _): (&str, &str, _)| Name {
            source: repository.to_owned(),
            target: repository.to_owned(),
            tag: tag.to_owned(),
        };
        let names: Vec<_> = self.content.tags().map(name).collect();
        Judge::new(&self.source.host(), &self.target.host(), &self.net.ca().pem)?.compare(&names).await
    }

    async fn complaint(&self) -> String {
        format!("{:#}", self.judge().await.unwrap_err())
    }

    /// The largest is a layer.
    fn layer(&self) -> &str {
        &self.content.blobs.values().max_by_key(|blob| blob.size).unwrap().digest
    }
}

#[tokio::test]
async fn the_judge_of_the_trial_counts_what_it_has_read() {
    let pair = Pair::new();
    let found = pair.judge().await.unwrap();
    let of_repositories = || pair.content.repositories.values();
    assert_eq!(found.tags, 5);
    assert_eq!(found.children, of_repositories().map(|r| r.manifests.len()).sum::<usize>() - 5);
    assert_eq!(found.blobs, of_repositories().map(|r| r.blobs.len()).sum::<usize>());
    let sizes = of_repositories().flat_map(|r| &r.blobs).map(|digest| pair.content.blobs[digest].size);
    assert_eq!(found.bytes, sizes.sum::<u64>());
}

#[tokio::test]
async fn the_judge_of_the_trial_sees_a_flipped_byte() {
    let pair = Pair::new();
    pair.target.flip_blob(pair.layer(), 1000);
    let told = pair.complaint().await;
    assert!(told.contains("cannot read the blob") && told.contains(pair.layer()), "{told}");
}

#[tokio::test]
async fn the_judge_of_the_trial_sees_a_short_blob() {
    let pair = Pair::new();
    pair.target.truncate_blob(pair.layer(), 1000);
    let told = pair.complaint().await;
    assert!(told.contains(pair.layer()), "{told}");
}

#[tokio::test]
async fn the_judge_of_the_trial_sees_a_blob_that_its_repository_lacks() {
    let pair = Pair::new();
    let repository =
        pair.content.repositories.iter().find(|(_, r)| r.blobs.contains(pair.layer())).unwrap().0;
    pair.target.unlink_blob(repository, pair.layer());
    let told = pair.complaint().await;
    assert!(told.contains(repository) && told.contains(pair.layer()), "{told}");
}

#[tokio::test]
async fn the_judge_of_the_trial_sees_a_platform_that_is_missing() {
    let pair = Pair::new();
    let (repository, entry) = pair.content.repositories.iter().find(|(_, r)| r.manifests.len() > 1).unwrap();
    let tagged: Vec<_> = entry.tags.values().collect();
    let child = entry.manifests.iter().find(|digest| !tagged.contains(digest)).unwrap();
    pair.target.delete_manifest(repository, child);
    let told = pair.complaint().await;
    assert!(told.contains("cannot read") && told.contains(child.as_str()), "{told}");
}

#[tokio::test]
async fn the_judge_of_the_trial_sees_another_image_under_a_tag() {
    let pair = Pair::new();
    let (repository, entry) = pair.content.repositories.iter().find(|(_, r)| r.manifests.len() > 1).unwrap();
    let tagged = &entry.tags["v1"];
    let other = entry.manifests.iter().find(|digest| *digest != tagged).unwrap();
    pair.target.set_tag(repository, "v1", other);
    let told = pair.complaint().await;
    assert!(told.contains("has other bytes than its source"), "{told}");
}
