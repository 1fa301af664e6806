//! Reads a registry back with oci-client, which shares no code with the program, and compares it with another.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::Value;

use crate::support::content::media;
use crate::support::digest::{Hasher, sha256};

/// Images, and then blobs, that are read at a time.
const AT_ONCE: usize = 8;

/// A tag that is to be the same in both registries.
#[derive(Clone, Debug)]
pub struct Name {
    /// Its repository in the one,
    pub source: String,
    /// and in the other.
    pub target: String,
    pub tag: String,
}

/// What was compared; an image in two repositories counts twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub tags: usize,
    /// Manifests that an index names.
    pub children: usize,
    pub blobs: usize,
    pub bytes: u64,
}

pub struct Judge {
    client: Client,
    source: String,
    target: String,
}

/// A blob as a manifest describes it, in a repository of the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Blob {
    repository: String,
    digest: String,
    size: u64,
}

/// The manifests below one tag.
struct Tree {
    children: usize,
    blobs: Vec<Blob>,
}

impl Judge {
    /// `source` and `target` are hosts with their ports that speak plain HTTP. `ca_pem` is any certificate.
    pub fn new(source: &str, target: &str, ca_pem: &str) -> Result<Self> {
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            // The system's certificates are not needed, and may be missing.
            tls_certs_only: vec![Certificate { encoding: CertificateEncoding::Pem, data: ca_pem.into() }],
            // Naming a proxy is the only way to have it ignore HTTP_PROXY, which loopback must not go through.
            http_proxy: Some("http://127.0.0.1:9".to_owned()),
            no_proxy: Some("127.0.0.1".to_owned()),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).context("oci-client cannot be set up")?;
        Ok(Self { client, source: source.to_owned(), target: target.to_owned() })
    }

    /// Compares all tags, reads all that is below them, and hashes it.
    ///
    /// # Errors
    /// The first difference.
    pub async fn compare(&self, names: &[Name]) -> Result<Found> {
        let trees: Vec<Tree> = stream::iter(names)
            .map(|name| self.compare_tag(name))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let children = trees.iter().map(|tree| tree.children).sum();
        let blobs: BTreeSet<Blob> = trees.into_iter().flat_map(|tree| tree.blobs).collect();
        let bytes = blobs.iter().map(|blob| blob.size).sum();
        let found = Found { tags: names.len(), children, blobs: blobs.len(), bytes };
        stream::iter(blobs)
            .map(|blob| self.check_blob(blob))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
            .map(|()| found)
    }

    async fn compare_tag(&self, name: &Name) -> Result<Tree> {
        let named = |registry: &str, repository: &str| {
            Reference::with_tag(registry.to_owned(), repository.to_owned(), name.tag.clone())
        };
        let (wanted, wanted_digest) = self.manifest(&named(&self.source, &name.source)).await?;
        let at_target = named(&self.target, &name.target);
        let (root, digest) = self.manifest(&at_target).await?;
        ensure!(root == wanted, "{at_target} has other bytes than its source");
        ensure!(digest == wanted_digest, "{at_target} has the digest {digest}, its source {wanted_digest}");
        ensure!(sha256(&root) == digest, "{at_target} has other bytes than its digest {digest} says");
        self.read_tree(&name.target, &root).await
    }

    /// Everything below a manifest, as the target has it.
    async fn read_tree(&self, repository: &str, root: &[u8]) -> Result<Tree> {
        let mut tree = Tree { children: 0, blobs: Vec::new() };
        let mut open: Vec<Value> = vec![serde_json::from_slice(root)?];
        while let Some(manifest) = open.pop() {
            for child in entries(&manifest["manifests"]) {
                let (digest, size) = described(child)?;
                let at = Reference::with_digest(self.target.clone(), repository.to_owned(), digest.clone());
                let (bytes, _) = self.manifest(&at).await?;
                ensure!(sha256(&bytes) == digest, "{at} has other bytes than its digest says");
                ensure!(bytes.len() as u64 == size, "{at} has {} bytes, not {size}", bytes.len());
                open.push(serde_json::from_slice(&bytes)?);
                tree.children += 1;
            }
            let config = manifest.get("config").into_iter();
            for blob in config.chain(entries(&manifest["layers"])) {
                let (digest, size) = described(blob)?;
                tree.blobs.push(Blob { repository: repository.to_owned(), digest, size });
            }
        }
        Ok(tree)
    }

    async fn manifest(&self, at: &Reference) -> Result<(Vec<u8>, String)> {
        const KINDS: [&str; 4] =
            [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST];
        let pulled = self.client.pull_manifest_raw(at, &RegistryAuth::Anonymous, &KINDS).await;
        let (bytes, digest) = pulled.with_context(|| format!("cannot read {at}"))?;
        Ok((bytes.to_vec(), digest))
    }

    async fn check_blob(&self, blob: Blob) -> Result<()> {
        let Blob { repository, digest, size } = blob;
        let at = Reference::with_digest(self.target.clone(), repository, digest.clone());
        let cannot = || format!("cannot read the blob {at}");
        let mut pulled = self.client.pull_blob_stream(&at, digest.as_str()).await.with_context(cannot)?;
        let (mut hasher, mut read) = (Hasher::default(), 0);
        while let Some(piece) = pulled.try_next().await.with_context(cannot)? {
            hasher.update(&piece);
            read += piece.len() as u64;
        }
        ensure!(read == size, "the blob {at} has {read} bytes, not {size}");
        ensure!(hasher.finish() == digest, "the blob {at} has other bytes than its digest says");
        Ok(())
    }
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Digest and size of a descriptor.
fn described(descriptor: &Value) -> Result<(String, u64)> {
    match (descriptor["digest"].as_str(), descriptor["size"].as_u64()) {
        (Some(digest), Some(size)) => Ok((digest.to_owned(), size)),
        _ => bail!("{descriptor} is no descriptor"),
    }
}
