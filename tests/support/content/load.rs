//! Puts content into any registry over HTTP, so that a real one can be the source of a test.

use std::collections::BTreeSet;

use base64::Engine as _;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use super::{Blob, Content, Manifest, Repository};
use crate::support::Failure;

/// Basic credentials for the registry that is loaded.
pub type Login<'a> = Option<(&'a str, &'a str)>;

/// Uploads everything to the registry at `base` (`http://127.0.0.1:5000`).
pub async fn load(content: &Content, client: &Client, base: &str, login: Login<'_>) -> Result<(), Failure> {
    for name in content.repositories.keys() {
        load_repository(content, name, client, base, login).await?;
    }
    Ok(())
}

/// Uploads one repository: blobs, then manifests (children first), then tags.
pub async fn load_repository(
    content: &Content,
    name: &str,
    client: &Client,
    base: &str,
    login: Login<'_>,
) -> Result<(), Failure> {
    let repository = &content.repositories[name];
    let loader = Loader { client, url: format!("{base}/v2/{name}"), login };
    for digest in &repository.blobs {
        loader.blob(&content.blobs[digest]).await?;
    }
    for manifest in children_first(content, repository) {
        loader.manifest(manifest, &manifest.digest).await?;
    }
    for (tag, digest) in &repository.tags {
        loader.manifest(&content.manifests[digest], tag).await?;
    }
    Ok(())
}

fn children_first<'a>(content: &'a Content, repository: &Repository) -> Vec<&'a Manifest> {
    let mut done = BTreeSet::new();
    let mut out = Vec::new();
    for digest in &repository.manifests {
        visit(content, digest, &mut done, &mut out);
    }
    out
}

fn visit<'a>(content: &'a Content, digest: &str, done: &mut BTreeSet<String>, out: &mut Vec<&'a Manifest>) {
    let Some(manifest) = content.manifests.get(digest) else {
        return;
    };
    if !done.insert(digest.to_owned()) {
        return;
    }
    let value: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    for child in value["manifests"].as_array().into_iter().flatten() {
        visit(content, child["digest"].as_str().unwrap_or(""), done, out);
    }
    out.push(manifest);
}

struct Loader<'a> {
    client: &'a Client,
    url: String,
    login: Login<'a>,
}

impl Loader<'_> {
    async fn send(&self, mut request: RequestBuilder) -> Result<Response, Failure> {
        if let Some((user, password)) = self.login {
            let pair = format!("{user}:{password}");
            let value = base64::engine::general_purpose::STANDARD.encode(pair);
            request = request.header("Authorization", format!("Basic {value}"));
        }
        Ok(request.send().await?)
    }

    async fn blob(&self, blob: &Blob) -> Result<(), Failure> {
        let head = self.client.head(format!("{}/blobs/{}", self.url, blob.digest));
        if self.send(head).await?.status() == StatusCode::OK {
            return Ok(());
        }
        let start = self.client.post(format!("{}/blobs/uploads/", self.url));
        let answer = expect(self.send(start).await?, StatusCode::ACCEPTED).await?;
        let location = location(&answer)?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let chunks = blob.chunks(0..blob.size).map(Ok::<_, std::io::Error>);
        let put = self
            .client
            .put(format!("{location}{separator}digest={}", blob.digest))
            .header("Content-Length", blob.size)
            .header("Content-Type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(futures_util::stream::iter(chunks)));
        expect(self.send(put).await?, StatusCode::CREATED).await?;
        Ok(())
    }

    async fn manifest(&self, manifest: &Manifest, reference: &str) -> Result<(), Failure> {
        let put = self
            .client
            .put(format!("{}/manifests/{reference}", self.url))
            .header("Content-Type", &manifest.media_type)
            .body(manifest.bytes.clone());
        expect(self.send(put).await?, StatusCode::CREATED).await?;
        Ok(())
    }
}

fn location(answer: &Response) -> Result<String, Failure> {
    let value = answer.headers().get("Location").ok_or("no Location")?;
    Ok(answer.url().join(value.to_str()?)?.to_string())
}

async fn expect(answer: Response, status: StatusCode) -> Result<Response, Failure> {
    if answer.status() == status {
        return Ok(answer);
    }
    let (url, got) = (answer.url().clone(), answer.status());
    let text = answer.text().await?;
    Err(format!("{url}: {got} instead of {status}: {text}").into())
}
