//! An independent judge: reads an image back and checks every byte it can.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use super::content::media;
use super::digest::{Digest, Hasher, same_algorithm, sha256};

const ACCEPT: [&str; 4] = [media::OCI_INDEX, media::OCI_MANIFEST, media::DOCKER_LIST, media::DOCKER_MANIFEST];

/// How much of the blobs to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Sizes,
    Bytes,
}

/// A complete image.
#[derive(Debug, PartialEq, Eq)]
pub struct Tree {
    pub root: Digest,
    /// Digest and media type, as the registry gave it.
    pub manifests: BTreeMap<Digest, String>,
    pub blobs: BTreeMap<Digest, u64>,
}

/// What is missing or broken.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}

pub struct Reader {
    client: Client,
    /// Of the API, such as `http://127.0.0.1:5000/v2`.
    root: String,
    /// Behind every path.
    query: String,
    authorization: Option<String>,
}

impl Reader {
    /// `base` is `http://127.0.0.1:5000`.
    pub fn new(client: Client, base: &str) -> Self {
        Self { client, root: format!("{base}/v2"), query: String::new(), authorization: None }
    }

    /// At a mirror of `host`, with the API at `root`, as containerd asks one.
    pub fn of_mirror(client: Client, root: &str, host: &str) -> Self {
        Self { client, root: root.to_owned(), query: format!("?ns={host}"), authorization: None }
    }

    /// The value of the `Authorization` header to send.
    pub fn authorization(mut self, value: &str) -> Self {
        self.authorization = Some(value.to_owned());
        self
    }

    /// Walks the tree below a tag or digest.
    pub async fn read(&self, repository: &str, reference: &str, depth: Depth) -> Result<Tree, Faults> {
        let mut walk = Walk {
            reader: self,
            repository,
            depth,
            manifests: BTreeMap::new(),
            blobs: BTreeMap::new(),
            faults: Vec::new(),
        };
        let root = walk.run(reference).await;
        match root {
            Some(root) if walk.faults.is_empty() => {
                Ok(Tree { root, manifests: walk.manifests, blobs: walk.blobs })
            }
            _ => Err(Faults(walk.faults)),
        }
    }

    /// The digest a tag stands for, by the bytes and not by a header.
    pub async fn digest_of(&self, repository: &str, tag: &str) -> Option<Digest> {
        let answer = self.manifest(repository, tag).await.ok()?;
        let ok = answer.status().is_success();
        Some(sha256(&answer.bytes().await.ok().filter(|_| ok)?))
    }

    async fn manifest(&self, repository: &str, reference: &str) -> reqwest::Result<Response> {
        let url = format!("{}/{repository}/manifests/{reference}{}", self.root, self.query);
        let request = self.request(Method::GET, &url);
        request.header("Accept", ACCEPT.join(", ")).send().await
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }
}

struct Walk<'a> {
    reader: &'a Reader,
    repository: &'a str,
    depth: Depth,
    manifests: BTreeMap<Digest, String>,
    blobs: BTreeMap<Digest, u64>,
    faults: Vec<String>,
}

impl Walk<'_> {
    async fn run(&mut self, reference: &str) -> Option<Digest> {
        let (root, value) = self.manifest(reference, None).await?;
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            for blob in blobs_of(&value) {
                self.blob(&blob).await;
            }
            for child in value["manifests"].as_array().into_iter().flatten() {
                let digest = child["digest"].as_str().unwrap_or_default();
                if !self.manifests.contains_key(digest) {
                    let found = self.manifest(digest, child["size"].as_u64()).await;
                    open.extend(found.map(|(_, value)| value));
                }
            }
        }
        Some(root)
    }

    async fn manifest(&mut self, reference: &str, size: Option<u64>) -> Option<(Digest, Value)> {
        let answer = match self.reader.manifest(self.repository, reference).await {
            Ok(answer) if answer.status().is_success() => answer,
            Ok(answer) => return self.fault(reference, &format!("status {}", answer.status())),
            Err(error) => return self.fault(reference, &error.to_string()),
        };
        let kind = answer.headers().get("content-type").and_then(|v| v.to_str().ok());
        let kind = kind.unwrap_or_default().to_owned();
        let Ok(bytes) = answer.bytes().await else {
            return self.fault(reference, "cut short");
        };
        let by_digest = reference.contains(':');
        if by_digest && same_algorithm(reference, &bytes).as_deref() != Some(reference) {
            return self.fault(reference, "has other bytes than its digest says");
        }
        if size.is_some_and(|size| size != bytes.len() as u64) {
            return self.fault(reference, "has another size than its descriptor says");
        }
        let digest = if by_digest { reference.to_owned() } else { sha256(&bytes) };
        self.manifests.insert(digest.clone(), kind);
        match serde_json::from_slice(&bytes) {
            Ok(value) => Some((digest, value)),
            Err(error) => self.fault(reference, &error.to_string()),
        }
    }

    async fn blob(&mut self, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let size = descriptor["size"].as_u64().unwrap_or_default();
        if self.blobs.insert(digest.to_owned(), size).is_some() {
            return;
        }
        let url = format!("{}/{}/blobs/{digest}{}", self.reader.root, self.repository, self.reader.query);
        let checked = match self.depth {
            Depth::Sizes => self.check_size(&url, size).await,
            Depth::Bytes => self.check_bytes(&url, digest).await,
        };
        if let Err(why) = checked {
            self.fault::<()>(digest, &why);
        }
    }

    async fn check_size(&self, url: &str, size: u64) -> Result<(), String> {
        let answer = self.send(Method::HEAD, url).await?;
        let length = answer.headers().get("content-length").and_then(|v| v.to_str().ok());
        match length {
            Some(length) if length == size.to_string() => Ok(()),
            other => Err(format!("has length {other:?}, not {size}")),
        }
    }

    async fn check_bytes(&self, url: &str, digest: &str) -> Result<(), String> {
        let mut answer = self.send(Method::GET, url).await?;
        let mut hasher = Hasher::default();
        while let Some(chunk) = answer.chunk().await.map_err(|e| e.to_string())? {
            hasher.update(&chunk);
        }
        if hasher.finish() == digest {
            Ok(())
        } else {
            Err("has other bytes than its digest says".to_owned())
        }
    }

    async fn send(&self, method: Method, url: &str) -> Result<Response, String> {
        let answer = self.reader.request(method, url).send().await;
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(answer),
            Ok(answer) => Err(format!("status {}", answer.status())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn fault<T>(&mut self, what: &str, why: &str) -> Option<T> {
        self.faults.push(format!("{}: {what}: {why}", self.repository));
        None
    }
}

/// Configuration and layers, but for those that are kept elsewhere.
fn blobs_of(value: &Value) -> Vec<Value> {
    let config = value.get("config").cloned();
    let layers = value["layers"].as_array().cloned().unwrap_or_default();
    let foreign = |layer: &Value| {
        let kind = layer["mediaType"].as_str().unwrap_or("");
        kind == media::DOCKER_FOREIGN || kind.contains(".nondistributable.")
    };
    config.into_iter().chain(layers.into_iter().filter(|layer| !foreign(layer))).collect()
}
